"""`r_bridge.gam` and `r_bridge.lmer`: R's fits in our interface."""

from __future__ import annotations

import io
import warnings
from itertools import product

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import pycombat_gam as pcg
import r_bridge
from r_bridge.errors import RError
from r_bridge.session import run

pytestmark = pytest.mark.live_r
FORMULAS = (
    "icv ~ age + sex + dx",
    "lh_precuneus_thickness ~ s(age) + sex",
    "lh_precuneus_thickness ~ s(age, by=sex) + sex + log(icv)",
    "lh_lingual_thickness ~ te(age, icv, k=4) + dx",
    "lh_lingual_thickness ~ s(age, bs='cr', k=6) + (1|site)",
    "log(lh_posteriorcingulate_thickness) ~ s(age) + s(site, bs='re') + poly(icv, 2)",
)

LOCAL_OPTIMA = {(FORMULAS[-1], "ML")}
"""Where R's search ends in the higher of two minima, by 0.018 of score."""


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pcg.datasets.load_multisite().assign(site=lambda t: t["site"].astype("category"))


def both(formula: str, table: pd.DataFrame, **options: object) -> tuple[r_bridge.RGamFit, pcg.GamFit]:
    with warnings.catch_warnings():
        # "step failure": at this tolerance the last step is rounding.
        warnings.simplefilter("ignore", r_bridge.session.RWarning)
        theirs = r_bridge.gam(formula, table, tight=True, **options)
    return theirs, pcg.gam(formula, table, **options)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(("formula", "method"), sorted(LOCAL_OPTIMA))
def test_where_r_ends_in_the_higher_minimum(formula: str, method: str, table: pd.DataFrame) -> None:
    theirs, ours = both(formula, table, method=method)
    assert theirs.score > ours.score + 1e-3


@pytest.mark.parametrize(
    ("formula", "method"), [call for call in product(FORMULAS, ["REML", "ML", "GCV"]) if call not in LOCAL_OPTIMA]
)
def test_gam_has_what_ours_has(formula: str, method: str, table: pd.DataFrame) -> None:
    theirs, ours = both(formula, table, method=method)
    sd = np.sqrt(ours.scale)
    # Both at the optimum to a gradient of 1e-10; 1e-8 measured.
    assert (theirs.fitted - ours.fitted).abs().max() < 1e-6 * sd
    assert (theirs.residuals - ours.residuals).abs().max() < 1e-6 * sd
    assert theirs.fitted.index.equals(ours.fitted.index) and theirs.n == ours.n
    for name in ("score", "scale", "deviance", "null_deviance", "loglik", "deviance_explained", "r_squared", "bic"):
        # bic counts degrees of freedom, of which 1e-5 are open where a λ is infinite.
        assert abs(getattr(theirs, name) - getattr(ours, name)) < 1e-4 * (1 + abs(getattr(ours, name))), name
    assert abs(theirs.edf.sum() - ours.edf.sum()) < 1e-4
    assert (theirs.method, theirs.response) == (ours.method, ours.response)
    assert theirs.coef.shape == ours.coef.shape and theirs.vcov.shape == ours.vcov.shape
    bars = "(1|" in formula
    if not bars:  # which R labels s(site)
        assert list(theirs.coef.index) == list(ours.coef.index) and list(theirs.sp.index) == list(ours.sp.index)
    a, b = theirs.summary(), ours.summary()
    for name in ("parametric", "terms", "smooth"):
        left, right = getattr(a, name), getattr(b, name)
        assert list(left.columns) == list(right.columns) and left.shape == right.shape
        assert bars or list(left.index) == list(right.index)
        # p-values of smooths are computed to 1e-3 by R itself.
        np.testing.assert_allclose(left.to_numpy(float), right.to_numpy(float), rtol=2e-3, atol=1e-4)
    assert str(a).splitlines()[:4] == str(b).splitlines()[:4]


@pytest.mark.parametrize("formula", FORMULAS)
def test_gam_predicts_as_ours(formula: str, table: pd.DataFrame) -> None:
    theirs, ours = both(formula, table)
    new = table.sample(40, random_state=1).drop(columns=[ours.response], errors="ignore")
    new["age"] = new["age"] + np.linspace(-5, 5, 40)
    sd = np.sqrt(ours.scale)
    a, b = theirs.predict(new, se=True), ours.predict(new, se=True)
    assert type(a) is type(b) and a.fit.index.equals(new.index)
    # These: both at the optimum to a gradient of 1e-10, as above; errors and terms move with λ at first order.
    assert (a.fit - b.fit).abs().max() < 1e-6 * sd and (a.se - b.se).abs().max() < 1e-5 * sd
    left, right = theirs.predict(new, type="terms"), ours.predict(new, type="terms")
    assert left.shape == right.shape and abs(left.attrs["constant"] - right.attrs["constant"]) < 1e-5 * sd
    # As above; R predicts its own rows to rounding.
    assert (left.to_numpy() - right.to_numpy()).__abs__().max() < 1e-5 * sd
    assert theirs.predict(new, type="lpmatrix").shape == ours.predict(new, type="lpmatrix").shape
    np.testing.assert_allclose(theirs.predict(), theirs.fitted, rtol=1e-12)


def test_gam_of_several_responses_weights_and_missing_rows(table: pd.DataFrame) -> None:
    two = r_bridge.gam("cbind(lh_lingual_thickness, lh_posteriorcingulate_thickness) ~ s(age)", table)
    assert list(two) == ["lh_lingual_thickness", "lh_posteriorcingulate_thickness"]
    assert len(r_bridge.gam("~ s(age)", table, responses="^lh_.*thickness$")) > 1
    weights = np.linspace(0.5, 2, len(table))
    theirs, ours = both("icv ~ s(age) + sex", table, weights=weights)
    # Both at the optimum, as above.
    assert (theirs.fitted - ours.fitted).abs().max() < 1e-6 * np.sqrt(ours.scale)
    holes = table.assign(age=table["age"].where(table.index % 10 != 0))
    with pytest.warns(pcg.PcgWarning, match="41 rows with missing values"):
        fit = r_bridge.gam("icv ~ s(age)", holes)
    assert fit.n == len(table) - 41 and not set(fit.fitted.index) & set(range(0, 403, 10))


def test_an_error_keeps_r_s_message_and_call(table: pd.DataFrame) -> None:
    with pytest.raises(RError, match=r"R: A term has fewer unique covariate combinations .*in smooth.construct.tp"):
        r_bridge.gam("icv ~ s(age, k=30)", table.head(20))
    with pytest.raises(pcg.PcgError, match="allowed are 'REML'"):
        r_bridge.gam("icv ~ age", table, method="P-REML")
    with pytest.raises(pcg.PcgError, match="needs a response and a random effect"):
        r_bridge.lmer("icv ~ age", table)
    with pytest.raises(pcg.PcgError, match="lme4 has no smooths"):
        r_bridge.lmer("icv ~ s(age) + (1|site)", table)


def test_lmer_is_our_random_intercept(table: pd.DataFrame) -> None:
    formula = "lh_precuneus_thickness ~ age + sex + (1|site)"
    theirs, ours = r_bridge.lmer(formula, table), pcg.gam(formula, table)
    sd = np.sqrt(ours.scale)
    # lme4 stops at 1e-6 of a relative deviance.
    assert (theirs.fitted - ours.fitted).abs().max() < 1e-4 * sd
    np.testing.assert_allclose(theirs.coef, ours.coef[theirs.coef.index], rtol=1e-4)
    np.testing.assert_allclose(theirs.scale, ours.scale, rtol=1e-4)
    variance = float(theirs.variances["covariance"].iloc[0])
    np.testing.assert_allclose(variance, ours.scale / ours.sp.iloc[0], rtol=1e-3)
    assert list(theirs.random["site"].index) == list(table["site"].cat.categories)
    new = table.tail(30)
    # R predicts its own rows: rounding.
    assert (theirs.predict(new) - theirs.fitted.tail(30)).abs().max() < 1e-10
    flat = theirs.predict(new.assign(site="nowhere"))
    pd.testing.assert_series_equal(flat, theirs.predict(new, population=True))


def test_lmer_fits_correlated_effects(table: pd.DataFrame) -> None:
    scaled = table.assign(age=(table["age"] - table["age"].mean()) / 10)
    fit = r_bridge.lmer("lh_precuneus_thickness ~ age + (1 + age|site)", scaled)
    direct = r_bridge.session.run(
        "function(d) { f <- lme4::lmer(y ~ age + (1 + age|site), d); list(c(lme4::fixef(f)), logLik(f)[1]) }",
        d=scaled[["age", "site"]].assign(y=scaled["lh_precuneus_thickness"]),
    ).value
    np.testing.assert_array_equal(fit.coef, direct[0])
    assert fit.loglik == direct[1][0]
    assert list(fit.random["site"].columns) == ["(Intercept)", "age"] and len(fit.variances) == 3


def test_progress_of_r_is_shown_and_is_no_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """R ticks once a feature; the bar follows, and nothing of it is left in what R printed."""
    ticks: list[int] = []
    reply = run("function() { for (k in 1:3) cat('\\f'); cat('done\\f') }", ticks.append)
    assert sum(ticks) == 4
    assert reply.output == "done"
    screen = io.StringIO()
    monkeypatch.setattr("pycombat_gam.progress.PATIENCE", 0.0)
    monkeypatch.setattr(
        "pycombat_gam.progress.Console", lambda stderr: Console(file=screen, force_terminal=True, width=120)
    )
    table = pcg.datasets.load_multisite()
    model = pcg.ComBat("~ s(age)", "site", features="^lh_.*_thickness$", mean_model=r_bridge.MgcvMean())
    model.fit(table)
    assert "fitting in R" in screen.getvalue() and "15/16" in screen.getvalue()
