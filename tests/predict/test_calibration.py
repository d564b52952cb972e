"""Calibration beside statsmodels, and where a fit does not exist."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from pycombat_gam.predict.measures.calibration import numeric, recalibrated


@pytest.mark.parametrize("seed", range(20))
def test_beside_statsmodels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 200))
    lp = rng.normal(-1, 2, n).round(1)
    y = rng.random(n) < expit(0.4 + 0.7 * lp)
    ours = recalibrated(y, expit(lp))
    lp, family = logit(expit(lp)), sm.families.Binomial()
    offset = sm.GLM(y, np.ones(n), family=family, offset=lp).fit(tol=1e-14)
    line = sm.GLM(y, sm.add_constant(lp), family=family).fit(tol=1e-14)
    # Newton's steps end at 1e-9, which is squared by the last of them; statsmodels' at 1e-14 of the deviance.
    assert ours.intercept == pytest.approx(offset.params[0], abs=1e-7)
    assert ours.slope == pytest.approx(line.params[1], abs=1e-7)  # as above
    assert ours.se_intercept == pytest.approx(offset.bse[0], rel=1e-7)  # as above
    assert ours.se_slope == pytest.approx(line.bse[1], rel=1e-7)  # as above
    # Sums of up to 200 numbers.
    assert ours.observed_expected == pytest.approx(y.sum() / expit(lp).sum(), rel=1e-13)
    assert ours.se_log_oe == pytest.approx(np.sqrt((1 - y.mean()) / y.sum()), rel=1e-13)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 5)), max_size=8))
def test_the_slope_exists_exactly_where_it_does(rows: list[tuple[bool, int]]) -> None:
    """By brute force: no direction (a, b) has (a + b x) ≥ 0 for events and ≤ 0 for others, but for none at all."""
    y = np.array([event for event, _ in rows], dtype=bool)
    x = np.array([value for _, value in rows], dtype=float)
    ours = recalibrated(y, expit(x - 3))
    cuts = np.arange(0.5, 6, 0.5)
    directions = [(s * -c, s) for c in cuts for s in (-1, 1)]
    z = np.where(y, 1, -1)
    separated = len(np.unique(x)) < 2 or any((z * (a + b * x) >= 0).all() for a, b in directions)
    one_class = len(set(y.tolist())) < 2
    assert np.isnan(ours.slope) == np.isnan(ours.se_slope) == (separated or one_class)
    assert np.isnan(ours.intercept) == np.isnan(ours.se_intercept) == one_class
    assert np.isnan(ours.se_log_oe) == one_class
    if not one_class:
        # The score equation of the intercept, solved to a step of 1e-9 squared.
        assert expit(x - 3 + ours.intercept).sum() == pytest.approx(y.sum(), abs=1e-9)


def test_hardly_any_overlap() -> None:
    """One pair out of order among 400 rows: the slope is large and finite."""
    x = np.linspace(-3, 3, 400)
    y = x > 0
    y[[199, 200]] = y[[200, 199]]
    ours = recalibrated(y, expit(x))
    line = sm.GLM(y, sm.add_constant(logit(expit(x))), family=sm.families.Binomial()).fit(tol=1e-14, maxiter=500)
    assert ours.slope > 30
    # As in the test beside statsmodels, times the condition of a nearly separated fit.
    assert (ours.slope, ours.se_slope) == pytest.approx((line.params[1], line.bse[1]), rel=1e-6)


def test_probabilities_of_zero_and_one() -> None:
    y = np.array([True, False, True, False, True, True])
    p = np.array([1.0, 1.0, 0.0, 0.0, 0.7, 0.2])
    clipped = recalibrated(y, np.clip(p, 1e-12, 1 - 1e-12))
    ours = recalibrated(y, p)
    assert (ours.slope, ours.intercept) == (clipped.slope, clipped.intercept)
    assert np.isfinite([ours.slope, ours.se_slope, ours.intercept, ours.se_intercept]).all()
    flat = recalibrated(np.arange(10) < 3, np.ones(10))
    # logit(.3) less the logit of the clipped 1, whose last bit is 1e-16/1e-12 of it.
    assert flat.intercept == pytest.approx(logit(0.3) - logit(1 - 1e-12), rel=1e-6)
    assert np.isnan(flat.slope) and flat.observed_expected == 0.3


def test_equal_up_to_rounding_has_no_slope() -> None:
    y = np.arange(12) % 3 == 0
    p = 0.3 + 1e-14 * np.random.default_rng(0).normal(size=12)
    assert np.isnan(recalibrated(y, p).slope) and np.isfinite(recalibrated(y, p).intercept)
    assert np.isnan(numeric(np.arange(12.0), 100 + p).slope)


def test_observed_over_expected() -> None:
    none = recalibrated(np.zeros(4, dtype=bool), np.full(4, 0.5))
    assert none.observed_expected == 0.0 and np.isnan([none.se_log_oe, none.intercept, none.slope]).all()
    every = recalibrated(np.ones(4, dtype=bool), np.full(4, 0.5))
    assert every.observed_expected == 2.0 and np.isnan([every.se_log_oe, every.intercept, every.slope]).all()
    assert np.isnan(recalibrated(np.array([True, False]), np.zeros(2)).observed_expected)
    empty = recalibrated(np.zeros(0, dtype=bool), np.zeros(0))
    assert np.isnan([empty.intercept, empty.slope, empty.observed_expected, empty.se_log_oe]).all()
    missing = recalibrated(np.array([True, False, True]), np.array([0.2, np.nan, 0.4]))
    assert np.isnan([missing.intercept, missing.slope, missing.observed_expected]).all()


@pytest.mark.parametrize("seed", range(10))
def test_numbers_beside_statsmodels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 60))
    m = rng.normal(50, 10, n)
    y = 5 + 0.8 * m + rng.normal(0, 4, n)
    ours, line = numeric(y, m), sm.OLS(y, sm.add_constant(m)).fit()
    # The columns 1 and m have a condition near 300; at three rows, up to 1e4 times the rounding.
    close = {"rel": 1e-9}
    assert (ours.intercept, ours.slope) == pytest.approx(tuple(line.params), **close)
    assert (ours.se_intercept, ours.se_slope) == pytest.approx(tuple(line.bse), **close)
    e = m - y
    assert (ours.mean_error, ours.mae) == pytest.approx((e.mean(), np.abs(e).mean()), **close)
    assert ours.rmse == pytest.approx(np.sqrt((e**2).mean()), **close)
    assert ours.r_squared == pytest.approx(1 - (e**2).sum() / ((y - y.mean()) ** 2).sum(), **close)


def test_few_numbers() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        empty, single, two = (numeric(np.arange(n, dtype=float), np.arange(n) + 1.0) for n in (0, 1, 2))
    assert np.isnan(list(vars(empty).values())).all()
    assert np.isnan([single.slope, single.se_slope, single.r_squared]).all()
    assert (single.mean_error, single.mae, single.rmse) == (1.0, 1.0, 1.0)
    assert (two.slope, two.intercept) == (1.0, -1.0) and np.isnan([two.se_slope, two.se_intercept]).all()
    constant = numeric(np.ones(5), np.arange(5.0))
    assert np.isnan(constant.r_squared) and constant.slope == 0.0
