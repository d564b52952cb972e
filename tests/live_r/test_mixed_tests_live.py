"""`ComBat.test` with random effects beside lme4, pbkrtest and lmerTest, and of smooths beside mgcv."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from pycombat_gam.infer.contrast import fai_cornelius
from pycombat_gam.infer.engine import Engine
from pycombat_gam.types import FloatArray
from r_bridge import session, sources

pytestmark = pytest.mark.live_r
V = 4
FEATURES = [f"f{k}" for k in range(V)]


@pytest.fixture(scope="module")
def visits() -> pd.DataFrame:
    """Sixty people with one to four visits, seen by nine raters, at four sites; a covariate of people, two of visits.

    f0 has no variance between people.
    """
    rng = np.random.default_rng(61)
    subject = np.repeat(np.arange(60), rng.integers(1, 5, 60))
    n = subject.size
    table = pd.DataFrame(
        {
            "subject": np.char.add("s", subject.astype(str)),
            "rater": np.char.add("r", rng.integers(0, 9, n).astype(str)),
            "site": rng.choice(list("ABCD"), n, p=[0.4, 0.3, 0.2, 0.1]),
            "age": rng.uniform(20, 70, n),
            "dose": rng.choice(["none", "low", "high"], n, p=[0.5, 0.3, 0.2]),
            "dx": rng.choice(["control", "patient"], 60)[subject],
        }
    )
    shift = table["site"].map({"A": 0.0, "B": 0.5, "C": -0.4, "D": 1.0})
    for k, name in enumerate(FEATURES):
        person, rater = 0.6 * k * rng.normal(size=60), 0.5 * rng.normal(size=9)
        own = person[subject] + rater[table["rater"].str[1:].astype(int)]
        curve = np.sin(table["age"] / 8) * k / 2
        table[name] = 2 + 0.02 * table["age"] + curve + 0.4 * (table["dx"] == "patient") + own + shift
        table[name] += rng.normal(size=n)
    return table


def rows_and_weights(
    formula: str, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, *, weighted: bool
) -> tuple[pd.DataFrame, FloatArray]:
    """The table of `test`, by feature and term, and the weight of each row.

    With weights, without what the tests add for the weights' own error: R takes them as known.
    """
    monkeypatch.setattr(Engine, "_trust", lambda engine, *_: (engine.weighted, 1.0))
    model = pcg.ComBat(formula, batch="site", features=FEATURES).fit(table)
    rows = model.test(weights="site" if weighted else None, variance="pooled").table
    assert not rows["p"].isna().any()
    fit = model.fitted
    weights = Engine(fit.mean, fit.correlation, by_site=False, weighted=weighted).weights
    assert (np.ptp(weights) > 0.1) == weighted
    return rows.set_index(["feature", "term"]), weights[[fit.levels.labels.index(label) for label in table["site"]]]


LMER = """
function(data, features, formula, w) {
  held <- options(contrasts = c("contr.treatment", "contr.treatment"))
  on.exit(options(held))
  data$w <- w
  control <- lme4::lmerControl(
    optimizer = "nloptwrap", optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-14, maxeval = 10000), calc.derivs = FALSE,
    check.conv.singular = "ignore"
  )
  # Expected REML information of the variances, and what the covariance of the fixed effects gains with each, from n x n
  # matrices; in place of lmerTest's, which are the observed information's of (theta, sigma).
  informed <- function(fit) {
    X <- lme4::getME(fit, "X")
    K <- lapply(lme4::getME(fit, "Ztlist"), function(Zt) as.matrix(Matrix::crossprod(Zt)))
    K <- c(K, list(diag(1 / weights(fit))))
    S <- solve(Reduce(`+`, Map(`*`, sigma(fit)^2 * c(lme4::getME(fit, "theta")^2, 1), K)))
    Phi <- solve(t(X) %*% S %*% X)
    P <- S - S %*% X %*% Phi %*% t(X) %*% S
    products <- lapply(K, function(k) P %*% k)
    of_two <- Vectorize(function(a, b) sum(products[[a]] * t(products[[b]])) / 2)
    information <- outer(seq_along(K), seq_along(K), of_two)
    fit@Jac_list <- lapply(K, function(k) Phi %*% t(X) %*% S %*% k %*% S %*% X %*% Phi)
    fit@vcov_varpar <- solve(information)
    fit
  }
  lapply(features, function(feature) {
    data$y <- data[[feature]]
    fit <- lmerTest::lmer(as.formula(paste("y", formula, "+ site")), data, weights = w, control = control)
    X <- lme4::getME(fit, "X")
    labels <- attr(terms(fit), "term.labels")
    place <- attr(model.matrix(fit), "assign")
    L <- diag(ncol(X))
    expected <- informed(fit)
    lapply(setdiff(labels, "site"), function(label) {
      rows <- L[place == match(label, labels), , drop = FALSE]
      observed <- lmerTest::contestMD(fit, rows)
      by_expected <- lmerTest::contestMD(expected, rows)
      list(
        label = label, estimate = drop(rows %*% lme4::fixef(fit))[1],
        se = sqrt(diag(rows %*% as.matrix(vcov(fit)) %*% t(rows)))[1], F = observed[["F value"]],
        observed = observed$DenDF, expected = by_expected$DenDF, p = by_expected[["Pr(>F)"]],
        # pbkrtest leaves weights out of its degrees of freedom.
        kr = if (nrow(rows) == 1 && all(w == 1)) pbkrtest::get_Lb_ddf(fit, drop(rows)),
        theta = unname(lme4::getME(fit, "theta"))
      )
    })
  })
}
"""


def value(cell: Any) -> float:
    return float(np.asarray(cell, dtype=float).ravel()[0])


@pytest.mark.filterwarnings("ignore:.*rows of one subject are dependent:pycombat_gam.errors.PcgWarning")
@pytest.mark.parametrize(
    "formula",
    ["~ age + dx + dose + (1 | subject)", "~ age + dx + dose + (1 | subject) + (1 | rater)"],
    ids=["subject", "subject and rater"],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_random_intercepts(
    formula: str, visits: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, *, weighted: bool
) -> None:
    ours, w = rows_and_weights(formula, visits, monkeypatch, weighted=weighted)
    r = session.call(LMER, data=visits, features=FEATURES, formula=formula, w=w)
    compared = 0
    for feature, terms in zip(FEATURES, r, strict=True):
        for term in terms:
            row = ours.loc[(feature, str(np.asarray(term["label"]).ravel()[0]))]
            single = row["df"] == 1
            # Both searches end at a gradient of 1e-6 of the score or less; 1e-4 is promised.
            close = {"rel": 1e-5}
            F = row["statistic"] ** 2 if single else row["statistic"]
            assert value(term["F"]) == pytest.approx(F, **close)
            assert row["df_residual"] == pytest.approx(value(term["expected"]), rel=1e-4)
            # p of an F near 50 magnifies its error by 25.
            assert row["p"] == pytest.approx(value(term["p"]), rel=1e-3, abs=1e-9)
            if single:
                assert row["estimate"] == pytest.approx(value(term["estimate"]), rel=1e-4)
                assert row["se"] == pytest.approx(value(term["se"]), **close)
                if not weighted:
                    assert row["df_residual"] == pytest.approx(value(term["kr"]), rel=1e-4)
            if np.asarray(term["theta"]).min() > 0.1:
                # lmerTest takes the observed information, Kenward and Roger the expected. With 60 people and a variance
                # away from zero they are 3.7 % apart at most; half a degree more in 55 moves p by less than 1 %.
                assert row["df_residual"] == pytest.approx(value(term["observed"]), rel=0.05)
            compared += 1
    assert compared == 3 * V


def test_fai_and_cornelius_are_lmertests() -> None:
    nu = np.random.default_rng(5).uniform(1.0, 60.0, (3, 200))
    theirs = session.call("function(nu) apply(nu, 2, function(x) lmerTest:::get_Fstat_ddf(x))", nu=nu)
    np.testing.assert_allclose(fai_cornelius(nu), np.asarray(theirs), rtol=1e-12)
    assert (fai_cornelius(nu) == 2.0).sum() > 5


GAM = """
function(data, features, formula, w) {
  held <- options(contrasts = c("contr.treatment", "contr.treatment"))
  on.exit(options(held))
  setup <- mgcv_setup(mgcv_model(data, formula, factor(data$site)), "REML")
  setup$w <- w
  lapply(features, function(feature) {
    fit <- fit_rows(setup, data[[feature]], "REML")
    summed <- summary(fit)
    tested <- mgcv::anova.gam(fit)
    list(parametric = rownames(tested$pTerms.table), F = unname(tested$pTerms.table),
         smooths = rownames(summed$s.table), s = unname(summed$s.table), residual = summed$residual.df)
  })
}
"""


@pytest.mark.parametrize(
    "formula",
    ["~ s(age) + dx + dose", "~ s(age, by=dx) + dx + dose", "~ s(age, bs='ts') + te(weight, height, k=4) + dose"],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_smooths_are_those_of_mgcv(
    formula: str, visits: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, *, weighted: bool
) -> None:
    # Not 8: with it R's search ends in a local optimum, 0.1 above our score by its own account.
    rng = np.random.default_rng(9)
    table = visits.assign(
        weight=rng.uniform(50, 90, len(visits)),
        height=rng.uniform(150, 190, len(visits)),
        **{name: pd.Categorical(visits[name]) for name in ("dx", "dose")},
    )
    ours, w = rows_and_weights(formula, table, monkeypatch, weighted=weighted)
    r = session.call(sources.text("mgcv") + GAM, data=table, features=FEATURES, formula=formula, w=w)
    compared = 0
    for feature, theirs in zip(FEATURES, r, strict=True):
        residual = value(theirs["residual"])
        for term, (df, F, p) in zip(theirs["parametric"], np.asarray(theirs["F"], dtype=float), strict=True):
            if term == ".batch":
                continue
            row = ours.loc[(feature, term)]
            statistic = row["statistic"] ** (2 if df == 1 else 1)
            assert (row["df"], row["df_residual"]) == pytest.approx((df, residual), rel=1e-4)
            assert (statistic, row["p"]) == pytest.approx((F, p), rel=1e-4, abs=1e-6)
            compared += 1
        for term, (edf, df, F, p) in zip(theirs["smooths"], np.asarray(theirs["s"], dtype=float), strict=True):
            row = ours.loc[(feature, term)]
            # Searches end at gradients of 1e-6 of the score; Davies' method has an error of its own of up to 2e-5.
            assert (row["df"], row["df_residual"]) == pytest.approx((df, residual), rel=1e-4, abs=1e-4)
            assert row["statistic"] == pytest.approx(F, rel=1e-3, abs=1e-6)
            if edf > 1e-6:
                assert row["p"] == pytest.approx(p, rel=1e-3, abs=1e-5)
            else:
                # Shrunk to nothing: F = 0 has a p of 1, and R's is that of the rounding that its search left.
                assert row["statistic"] < 1e-6 and row["p"] > 0.3
            compared += 1
    assert compared == len(ours)
