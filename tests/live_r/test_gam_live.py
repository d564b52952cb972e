"""`pcg.gam` beside a live `mgcv::gam` on the packaged table, value by value."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from pycombat_gam.smooth.rsample import r_sample
from r_bridge.session import call

pytestmark = pytest.mark.live_r
Y = "lh_precuneus_thickness"
FORMULAS = {
    "one": (f"{Y} ~ s(age) + sex", {}),
    "cr": (f"{Y} ~ s(age, bs='cr', k=8) + sex + dx", {}),
    "two": (f"{Y} ~ s(age) + s(icv) + sex", {}),
    "te": (f"{Y} ~ te(age, icv, k=4) + sex", {}),
    "ti": (f"{Y} ~ ti(age, k=4) + ti(icv, k=4) + ti(age, icv, k=3) + sex", {}),
    "by": (f"{Y} ~ s(age, by=sex) + sex", {}),
    "re": (f"{Y} ~ s(age) + sex + s(site, bs='re')", {}),
    "fs": (f"{Y} ~ s(age, site, bs='fs', k=4) + sex", {}),
    "surface": (f"{Y} ~ s(age, icv, k=15) + sex", {}),
    "nested": (f"{Y} ~ s(age, k=5) + te(age, icv, k=4)", {}),
    "select": (f"{Y} ~ s(age) + s(icv, bs='ps') + sex + site", {"select": True}),
    "ml": (f"{Y} ~ s(age, bs='bs') + sex + site", {"method": "ML"}),
    "gcv": (f"{Y} ~ s(age, bs='ts') + log(icv) + poly(age, 2):sex", {"method": "GCV.Cp"}),
    "weights": (f"{Y} ~ s(age) + sex", {"weights": "w"}),
    "gamma": (f"{Y} ~ s(age) + sex", {"gamma": 1.5}),
}
by_name = pytest.mark.parametrize("name", FORMULAS)
R_CODE = """function(text, formula, method, select, weighted, gamma, sp) {
    library(mgcv, warn.conflicts = FALSE, quietly = TRUE)
    table <- read.csv(text = text, stringsAsFactors = TRUE)
    new <- table[seq(1, nrow(table), 9), ]
    new$age <- new$age + 10
    table$w <- if (weighted) table$w else 1
    control <- gam.control(epsilon = 1e-13, mgcv.tol = 1e-14, maxit = 400,
                           newton = list(conv.tol = 1e-13, maxNstep = 5, maxSstep = 2, maxHalf = 50, use.svd = FALSE))
    b <- suppressWarnings(gam(as.formula(formula), data = table, method = method, select = select, weights = w,
                              gamma = gamma, control = control, sp = if (length(sp)) sp else NULL))
    s <- summary(b)
    p <- predict(b, new, se.fit = TRUE)
    list(fitted = as.numeric(fitted(b)), predict = as.numeric(p$fit), se = as.numeric(p$se.fit), edf = sum(b$edf),
         scale = b$sig2, score = as.numeric(b$gcv.ubre), smooth = as.numeric(s$s.table),
         labels = rownames(s$s.table), parametric = as.numeric(s$p.table), names = rownames(s$p.table),
         aic = AIC(b), loglik = as.numeric(logLik(b)), r = s$r.sq, explained = s$dev.expl,
         Vc = if (is.null(b$Vc)) numeric() else as.numeric(sqrt(rowSums((predict(b, new, type = "lpmatrix") %*% b$Vc) *
                                                                  predict(b, new, type = "lpmatrix")))))
}"""


@cache
def table() -> pd.DataFrame:
    data = pcg.datasets.load_multisite()[["age", "sex", "dx", "icv", "site", Y]].copy()
    data["w"] = 1.0 + np.arange(len(data)) % 3
    return data


def theirs(name: str, sp: list[float] | None = None) -> dict[str, Any]:
    formula, options = FORMULAS[name]
    return dict(
        call(
            R_CODE,
            text=table().to_csv(index=False),
            formula=formula,
            method=options.get("method", "REML"),
            select=options.get("select", False),
            weighted="weights" in options,
            gamma=float(options.get("gamma", 1.0)),
            sp=np.array(sp or [], dtype=float),
        )
    )


fit_theirs = cache(theirs)


@cache
def ours(name: str) -> Any:
    formula, options = FORMULAS[name]
    return pcg.gam(formula, table(), **options)


def number(value: Any) -> float:
    return float(np.asarray(value, dtype=float).ravel()[0])


@by_name
def test_fits_and_predictions(name: str) -> None:
    fit, r = ours(name), fit_theirs(name)
    sd = np.sqrt(number(r["scale"]))
    # These: two searches at their ends, as in test_gam.py; Vc has derivatives of the search.
    assert np.abs(fit.fitted.to_numpy() - np.asarray(r["fitted"])).max() < 1e-5 * sd
    new = table().iloc[::9].copy()
    new["age"] += 10
    value, error = fit.predict(new, se=True)
    # As for the fitted values; errors and Vc move with λ at first order, Vc by the search's second derivatives.
    assert np.abs(value.to_numpy() - np.asarray(r["predict"])).max() < 1e-5 * sd
    np.testing.assert_allclose(error, np.asarray(r["se"]), rtol=1e-4)
    if len(np.atleast_1d(r["Vc"])):
        _, wide = fit.predict(new, se=True, unconditional=True)
        # As above.
        np.testing.assert_allclose(wide, np.asarray(r["Vc"]), rtol=1e-3)


@by_name
def test_smoothness(name: str) -> None:
    fit, r = ours(name), fit_theirs(name)
    # As in test_gam.py: 1e-5 of edf and 1e-8 of the scale were measured there; a score is flat at its end.
    assert abs(float(fit.edf.sum()) - number(r["edf"])) < 1e-3
    assert abs(fit.scale / number(r["scale"]) - 1) < 1e-6
    assert fit.score <= number(r["score"]) + 1e-6


@by_name
def test_tables(name: str) -> None:
    fit, r = ours(name), fit_theirs(name)
    summary = fit.summary()
    assert list(summary.smooth.index) == list(np.atleast_1d(r["labels"]))
    assert list(summary.parametric.index) == list(np.atleast_1d(r["names"]))
    smooth = np.asarray(r["smooth"], dtype=float).reshape(4, -1).T
    alive = smooth[:, 0] > 1e-3  # of a smooth shrunk to nothing only the remains of two searches could be compared
    mine = summary.smooth.to_numpy()
    flat = np.array([any(fit.sp.filter(like=label) > 1e8) for label in summary.smooth.index])
    np.testing.assert_allclose(mine[alive & ~flat, :3], smooth[alive & ~flat, :3], rtol=1e-3)
    # With λ at infinity the rank of a covariance is a count of what rounding left; the statistic is not.
    np.testing.assert_allclose((mine[:, 1] * mine[:, 2])[alive], (smooth[:, 1] * smooth[:, 2])[alive], rtol=1e-3)
    p, p_r = summary.smooth["p-value"].to_numpy()[alive], smooth[alive, 3]
    assert ((np.abs(p - p_r) < 1e-6) | (np.abs(p - p_r) < 1e-3 * p_r)).all()
    parametric = np.asarray(r["parametric"], dtype=float).reshape(4, -1).T
    # Parametric numbers and criteria move with the search at first order, R² and deviance at second.
    np.testing.assert_allclose(summary.parametric.to_numpy()[:, :2], parametric[:, :2], rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(summary.parametric.to_numpy()[:, 3], parametric[:, 3], atol=1e-5)
    assert abs(fit.loglik - number(r["loglik"])) < 1e-4
    # An AIC counts degrees of freedom; R² and deviance move with the search at second order.
    assert abs(fit.aic - number(r["aic"])) < 1e-2
    assert abs(fit.r_squared - number(r["r"])) < 1e-6
    assert abs(fit.deviance_explained - number(r["explained"])) < 1e-6


@pytest.mark.parametrize("name", ["one", "two", "te", "fs", "ml", "gcv", "weights", "gamma"])
@pytest.mark.parametrize("seed", [0, 1])
def test_score_of_any_parameters_is_theirs(name: str, seed: int) -> None:
    """For the same smoothing parameters R returns the same score, constants and all."""
    formula, options = FORMULAS[name]
    free = len(ours(name).sp)
    sp = np.exp(np.random.default_rng(seed).uniform(-3, 6, free)).tolist()
    fit = pcg.gam(formula, table(), sp=sp, **options)
    r = theirs(name, sp)
    # No search: rounding of log-determinants.
    assert abs(fit.score - number(r["score"])) < 1e-8 * max(1.0, abs(fit.score))
    np.testing.assert_allclose(fit.fitted, np.asarray(r["fitted"]), atol=1e-8)


def test_knots_of_many_points_are_those_that_r_draws() -> None:
    drawn = call("function() { set.seed(1); sample(1:3000, 2000) }")
    np.testing.assert_array_equal(r_sample(3000, 2000, 1), np.asarray(drawn, dtype=int) - 1)


def test_more_points_than_knots() -> None:
    """Beyond 2,000 distinct values mgcv samples knots; the same sample gives the same fit."""
    x = np.random.default_rng(3).normal(size=2500)
    y = np.sin(2 * x) + np.random.default_rng(4).normal(size=2500)
    fitted = call("function(x, y) as.numeric(fitted(mgcv::gam(y ~ s(x), method = 'REML')))", x=x, y=y)
    fit = pcg.gam("y ~ s(x)", pd.DataFrame({"x": x, "y": y}))
    # R's default stopping rule leaves about 1e-5.
    assert np.abs(fit.fitted.to_numpy() - np.asarray(fitted)).max() < 1e-4
