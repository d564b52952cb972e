"""Measures of predictions beside pROC, metafor, survival and glm, run now."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

import r_bridge
from pycombat_gam.predict.measures.auc import delong, paired
from pycombat_gam.predict.measures.calibration import numeric, recalibrated
from pycombat_gam.predict.measures.kaplan_meier import censoring_weights, kaplan_meier, observed_expected
from pycombat_gam.predict.measures.pooling import pool_sites
from pycombat_gam.types import BoolArray, FloatArray
from r_bridge import session

pytestmark = pytest.mark.live_r
SITES = 150


def scored_sites() -> Iterator[tuple[BoolArray, FloatArray, FloatArray]]:
    """Sites of 3 to 120 rows with both classes, and two correlated scores, most with ties."""
    rng = np.random.default_rng(17)
    for k in range(SITES):
        n = int(rng.choice([3, 4, 6, 15, 120]))
        events = rng.random(n) < rng.choice([0.2, 0.5])
        events[:2] = [True, False]
        first = rng.normal(size=n) + events
        second = first + rng.normal(size=n)
        digits = (0, 1, 12)[k % 3]
        yield events, first.round(digits), second.round(digits)


def test_auc_is_procs() -> None:
    single = 0
    for events, a, b in scored_sites():
        for score in (a, b):
            ours, theirs = delong(events, score), r_bridge.roc(events, score)
            # The law's bound; both are sums of at most 120 placements.
            assert ours.value == pytest.approx(theirs.value, abs=1e-12)
            assert ours.variance == pytest.approx(theirs.variance, abs=1e-12, nan_ok=True)
            if np.isnan(theirs.variance):
                single += 1
                assert min(ours.n_events, ours.n_others) == 1
                continue
            half = 1.959963984540054 * np.sqrt(ours.variance)
            # A normal quantile to 16 digits; the bound of the variance, squared, where that is 0.
            assert theirs.lower == pytest.approx(max(ours.value - half, 0), abs=1e-12)
            assert theirs.upper == pytest.approx(min(ours.value + half, 1), abs=1e-12)
    assert 20 < single < SITES


COVARIANCE = """
function(events, a, b) {
  curve <- function(score) pROC::roc(events, score, levels = c(FALSE, TRUE), direction = "<", quiet = TRUE)
  # It warns of perfect curves.
  suppressWarnings(pROC::cov(curve(a), curve(b), method = "delong"))
}
"""


def test_covariance_is_procs() -> None:
    compared = 0
    for events, a, b in scored_sites():
        if 1 < events.sum() < len(events) - 1:
            theirs = session.call(COVARIANCE, events=events, a=a, b=b)
            assert paired(events, a, b)[2] == pytest.approx(float(theirs[0]), abs=1e-12)  # as for the variance
            compared += 1
    assert compared > 60


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_pooling_is_metafors(level: float) -> None:
    rng = np.random.default_rng(5)
    without = 0
    for _ in range(120):
        K = int(rng.choice([2, 3, 5, 12, 40]))
        v = rng.gamma(2, 0.5, K) * 10.0 ** rng.integers(-4, 1)
        y = rng.normal(0.3, 1, K) * 10.0 ** rng.uniform(-2, 0)
        ours, theirs = pool_sites(y, v, level), r_bridge.rma(y, v, level=level)
        without += ours.tau2 == 0
        assert ours.sites == theirs.sites == K
        assert (ours.tau2 == 0) == (theirs.tau2 == 0)
        # 1e-5 is the law's bound. At its tol of 1e-14 metafor's root is better than that; 1e-9 leaves room for its
        # inverse of the weights' matrix.
        unit = np.sqrt(ours.tau2 + v.mean())
        assert ours.tau2 == pytest.approx(theirs.tau2, abs=1e-9 * unit**2)
        for name in ("estimate", "se", "lower", "upper", "new_lower", "new_upper"):
            # As above; t₁ at 95 % is 12.7.
            assert getattr(ours, name) == pytest.approx(getattr(theirs, name), abs=2e-8 * unit), name
    assert 10 < without < 100


def test_the_prediction_interval_is_metafors_default() -> None:
    """With K − 1 degrees of freedom, not K − 2 as ``"riley"``."""
    y, v = np.array([0.1, 0.5, 0.3, 0.9]), np.array([0.01, 0.02, 0.03, 0.02])
    ours, riley = pool_sites(y, v), r_bridge.rma(y, v, prediction="riley")
    same = r_bridge.rma(y, v, prediction="t")
    assert ours.new_upper == pytest.approx(same.new_upper, abs=1e-9)  # as in the test of pooling
    assert riley.new_upper - riley.estimate > 1.3 * (ours.new_upper - ours.estimate)


def test_sites_without_the_measure() -> None:
    y, v = np.array([0.1, np.nan, 0.5, 0.3, 0.2]), np.array([0.01, 0.1, 0.02, 0.03, np.nan])
    with pytest.warns(r_bridge.session.RWarning, match="omitted"):
        theirs = r_bridge.rma(y, v)
    ours = pool_sites(y, v)
    assert ours.sites == theirs.sites == 3
    assert ours.estimate == pytest.approx(theirs.estimate, abs=1e-9)  # as in the test of pooling


def censored_sites() -> Iterator[tuple[FloatArray, BoolArray]]:
    """Sites of 1 to 200 rows; whole days with ties, or times without; some without events or without censoring."""
    rng = np.random.default_rng(23)
    for k in range(SITES):
        n = int(rng.choice([1, 2, 5, 20, 200]))
        time = rng.exponential(300, n)
        yield (np.ceil(time / 30) if k % 2 else time), rng.random(n) < rng.choice([0.0, 0.5, 0.8, 1.0])


def same_curve(time: FloatArray, event: BoolArray, at: FloatArray) -> int:
    """Compare with survfit everywhere; return how many horizons lie beyond the follow-up."""
    (risk, se), theirs = kaplan_meier(time, event, at), r_bridge.survfit(time, event, at)
    beyond = (theirs.at_risk == 0) & (theirs.survival > 0)
    assert np.isnan(risk[beyond]).all() and np.isnan(se[beyond]).all()
    # The law's bound; products of at most 200 factors.
    np.testing.assert_allclose(risk[~beyond], 1 - theirs.survival[~beyond], rtol=0, atol=1e-12)
    np.testing.assert_allclose(se[~beyond], theirs.se[~beyond], rtol=0, atol=1e-12)  # as above
    return int(beyond.sum())


def test_kaplan_meier_is_survfits() -> None:
    beyond = sum(same_curve(t, e, np.concatenate([t, [0.0, 5.0, 30.5, 700.0, 1.0]])) for t, e in censored_sites())
    assert beyond > 50


@pytest.fixture(scope="module")
def lung() -> pd.DataFrame:
    """survival::lung: 228 patients, 227 of them with their institution."""
    table = session.call("function() survival::lung[c('inst', 'time', 'status', 'age')]")
    assert table.shape == (228, 4)
    return table.dropna(subset="inst").assign(dead=lambda part: part["status"] == 2)


def test_lung_by_institution(lung: pd.DataFrame) -> None:
    at = np.array([182.0, 365.0])
    assert lung["inst"].nunique() == 18
    for _, part in [("all", lung), *lung.groupby("inst")]:
        time, dead = part["time"].to_numpy(float), part["dead"].to_numpy(bool)
        same_curve(time, dead, np.concatenate([at, time]))
        for h in at:
            predicted = np.full(len(part), 0.4)
            (risk,), (se,) = kaplan_meier(time, dead, np.array([h]))
            oe, se_log = observed_expected(time, dead, predicted, h)
            expected = (risk / 0.4, se / risk) if risk != 0 else (0.0, np.nan)
            assert (oe, se_log) == pytest.approx(expected, rel=1e-12, nan_ok=True)  # two divisions


RTTRIGHT = "function(time, event, at) as.numeric(survival::rttright(survival::Surv(time, event) ~ 1, times = at))"


def test_censoring_weights_are_those_of_survival(lung: pd.DataFrame) -> None:
    """Redistribution to the right (Efron 1967) gives the same weights, and survfit of the censoring without ties."""
    compared = 0
    studies = [*censored_sites(), (lung["time"].to_numpy(float), lung["dead"].to_numpy(bool))]
    for time, event in studies:
        for h in (2.5, 5.0, 150.3, 365.0):
            # Beyond the follow-up R spreads the weight of the last rows, and has none to give it to.
            if len(time) < 2 or h > time.max():
                continue
            theirs = np.asarray(session.call(RTTRIGHT, time=time, event=event, at=h))
            # Products of at most 228 factors.
            np.testing.assert_allclose(censoring_weights(time, event, h), theirs, rtol=0, atol=1e-12)
            compared += 1
        if len(np.unique(time)) == len(time) and h <= time.max():
            before = r_bridge.survfit(time, ~event, time * (1 - 1e-7)).survival
            g = r_bridge.survfit(time, ~event, [h]).survival[0]
            expected = np.where(event & (time <= h), 1 / before, np.where(time > h, 1 / g, 0.0))
            np.testing.assert_allclose(censoring_weights(time, event, h), expected, rtol=1e-12)  # as above
    assert compared > 150


GLM = """
function(y, lp) {
  control <- stats::glm.control(epsilon = 1e-15, maxit = 200)
  of <- function(formula, row) {
    fit <- suppressWarnings(stats::glm(formula, stats::binomial(), control = control))
    unname(summary(fit)$coefficients[row, 1:2])
  }
  c(of(y ~ offset(lp), 1), of(y ~ lp, 2))
}
"""


def test_calibration_is_glms() -> None:
    rng = np.random.default_rng(29)
    slopes = 0
    for k in range(SITES):
        n = int(rng.choice([6, 15, 60, 300]))
        p = expit(rng.normal(-0.5, 1.5, n).round(1 + 10 * (k % 2)))
        y = rng.random(n) < expit(0.3 + 0.8 * logit(p))
        ours = recalibrated(y, p)
        if np.isnan(ours.slope):
            continue
        slopes += 1
        theirs = np.asarray(session.call(GLM, y=y.astype(float), lp=logit(p)))
        # glm stops when the deviance is steady to 1e-15: half its digits in the coefficients, 1e-7.
        close = {"rel": 1e-7, "abs": 1e-7}
        assert (ours.intercept, ours.se_intercept) == pytest.approx(tuple(theirs[:2]), **close)
        assert (ours.slope, ours.se_slope) == pytest.approx(tuple(theirs[2:]), **close)
    assert slopes > 100


LM = "function(y, m) { s <- summary(stats::lm(y ~ m)); c(unname(t(s$coefficients[, 1:2])), s$sigma) }"


def test_the_line_is_lms() -> None:
    rng = np.random.default_rng(31)
    for _ in range(40):
        n = int(rng.integers(3, 100))
        m = rng.normal(50, 10, n)
        y = 3 + 0.9 * m + rng.normal(0, 4, n)
        ours = numeric(y, m)
        theirs = np.asarray(session.call(LM, y=y, m=m)).ravel()[:4]
        # Least squares on a condition of 300, squared where we center and R does not.
        expected = pytest.approx(tuple(theirs), rel=1e-8)
        assert (ours.intercept, ours.se_intercept, ours.slope, ours.se_slope) == expected
