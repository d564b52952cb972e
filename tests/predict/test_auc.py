"""AUC and DeLong's variance beside every pair of rows, and where they do not exist."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from pycombat_gam.predict.measures.auc import Auc, delong, logit_interval, paired
from pycombat_gam.types import BoolArray, FloatArray

ROWS = st.lists(st.tuples(st.booleans(), st.integers(-3, 3), st.integers(-3, 3), st.integers(0, 4)), max_size=30)
"""Event, two scores with many ties, weight."""


def split(rows: list[tuple[bool, int, int, int]]) -> tuple[BoolArray, FloatArray, FloatArray, FloatArray]:
    table = np.array(rows, dtype=float).reshape(-1, 4)
    return table[:, 0].astype(bool), table[:, 1], table[:, 2], table[:, 3]


def by_pairs(events: BoolArray, score: FloatArray, w: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """AUC, and the placements of events and of others, from every pair."""
    order = np.sign(score[events][:, None] - score[~events]) / 2 + 0.5
    a, b = w[events], w[~events]
    return a @ order @ b / (a.sum() * b.sum()), order @ b / b.sum(), a @ order / a.sum()


@given(ROWS)
def test_every_pair(rows: list[tuple[bool, int, int, int]]) -> None:
    events, score, other, _ = split(rows)
    n_1, n_0 = int(events.sum()), int((~events).sum())
    a, b, covariance = paired(events, score, other)
    assert a == delong(events, score) and (a.n_events, a.n_others) == (n_1, n_0)
    if min(n_1, n_0) == 0:
        assert np.isnan([a.value, a.variance, b.value, b.variance, covariance]).all()
        return
    ones = np.ones(len(events))
    value, of_events, of_others = by_pairs(events, score, ones)
    second, of_events_b, of_others_b = by_pairs(events, other, ones)
    # Sums of at most 30 numbers of size 1: their rounding is below 1e-14.
    assert (a.value, b.value) == pytest.approx((value, second), abs=1e-14)
    if min(n_1, n_0) == 1:
        assert np.isnan([a.variance, b.variance, covariance]).all()
        return
    assert a.variance == pytest.approx(of_events.var(ddof=1) / n_1 + of_others.var(ddof=1) / n_0, abs=1e-14)
    expected = np.cov(of_events, of_events_b)[0, 1] / n_1 + np.cov(of_others, of_others_b)[0, 1] / n_0
    assert covariance == pytest.approx(expected, abs=1e-14)  # as above
    assert paired(events, score, score)[2] == a.variance


@given(ROWS)
def test_weights(rows: list[tuple[bool, int, int, int]]) -> None:
    events, score, _, w = split(rows)
    weighted, plain = delong(events, score, w), delong(events, score)
    np.testing.assert_array_equal(
        [weighted.value, weighted.variance],
        [delong(events[w > 0], score[w > 0], w[w > 0]).value, delong(events[w > 0], score[w > 0], w[w > 0]).variance],
    )
    same = delong(events, score, np.full(len(events), 0.7))
    # Rounding of sums of at most 30 numbers of size 1.
    assert (same.value, same.variance) == pytest.approx((plain.value, plain.variance), abs=1e-14, nan_ok=True)
    # Twice the rows is the same AUC as twice the weight.
    twice = delong(np.repeat(events, w.astype(int)), np.repeat(score, w.astype(int)))
    assert weighted.value == pytest.approx(twice.value, abs=1e-14, nan_ok=True)  # as above
    if min(weighted.n_events, weighted.n_others) < 2:
        assert np.isnan(weighted.variance)
        return
    value, of_events, of_others = by_pairs(events, score, w)
    expected = 0.0
    for v, part in ((of_events, w[events]), (of_others, w[~events])):
        n = (part > 0).sum()
        expected += n / (n - 1) * (part**2 * (v - value) ** 2).sum() / part.sum() ** 2
    assert weighted.variance == pytest.approx(expected, abs=1e-14)  # as above


def test_weighted_variance_is_that_of_repeated_studies() -> None:
    """Rows kept with known chances, and weighted by their inverse."""
    rng = np.random.default_rng(3)
    values, variances = [], []
    for _ in range(1500):
        events = rng.random(200) < 0.3
        score = rng.normal(size=200) + events
        chance = np.where(score > 0.5, 0.4, 0.9)
        w = (rng.random(200) < chance) / chance
        auc = delong(events, score, w)
        values.append(auc.value)
        variances.append(auc.variance)
    # Relative sd of a variance from 1500 draws: (2/1500)^½ = 3.7 %; three of them.
    assert np.mean(variances) / np.var(values) == pytest.approx(1, abs=0.11)


def test_many_rows_beside_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    events = rng.random(200_000) < 0.1
    score = np.round(rng.normal(size=events.size) + events, 2)
    w = rng.exponential(size=events.size)
    # Both add 200,000 products of cumulated sums.
    assert delong(events, score).value == pytest.approx(roc_auc_score(events, score), abs=1e-12)
    assert delong(events, score, w).value == pytest.approx(
        roc_auc_score(events, score, sample_weight=w), abs=1e-12
    )  # as above


def test_order_and_sign() -> None:
    rng = np.random.default_rng(1)
    events, score = rng.random(40) < 0.4, rng.integers(0, 9, 40).astype(float)
    auc, shuffled, mirrored = delong(events, score), rng.permutation(40), delong(events, -score)
    assert mirrored.value == pytest.approx(1 - auc.value, abs=1e-15)  # one rounding
    assert mirrored.variance == pytest.approx(auc.variance, rel=1e-13)  # sums of 40 squares
    again = delong(events[shuffled], score[shuffled])
    assert (again.value, again.variance) == pytest.approx((auc.value, auc.variance), rel=1e-13)  # as above
    assert delong(events, np.exp(score)) == auc


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers(value: float) -> None:
    events, score = np.array([True, True, False, False]), np.array([3.0, value, 1.0, 2.0])
    auc = delong(events, score)
    assert np.isnan(auc.value) == np.isnan(value) and np.isnan(auc.variance) == np.isnan(value)
    # Of weight 0, it does not count.
    assert delong(events, score, np.array([1.0, 0.0, 1.0, 1.0])).value == 1.0


def test_interval() -> None:
    auc = delong(np.arange(40) % 3 == 0, np.sin(np.arange(40.0)))
    lower, upper = logit_interval(auc, 0.9)
    wider = logit_interval(auc, 0.99)
    assert 0 < wider[0] < lower < auc.value < upper < wider[1] < 1
    half = 1.6448536269514722 * np.sqrt(auc.variance) / (auc.value * (1 - auc.value))
    center = np.log(auc.value / (1 - auc.value))
    # A few operations in double precision.
    assert (lower, upper) == pytest.approx([1 / (1 + np.exp(-center - s * half)) for s in (-1, 1)], rel=1e-14)


def test_interval_of_a_perfect_score() -> None:
    """As Clopper & Pearson's of as many successes as there are disjoint pairs."""
    from scipy.stats import binomtest

    for n_1, n_0 in ((1, 1), (1, 9), (5, 3), (40, 60)):
        perfect = delong(np.arange(n_1 + n_0) >= n_0, np.arange(n_1 + n_0, dtype=float))
        assert perfect.value == 1.0 and (perfect.variance == 0 or min(n_1, n_0) == 1)
        exact = binomtest(min(n_1, n_0), min(n_1, n_0)).proportion_ci(0.95)
        # scipy searches the bound.
        assert logit_interval(perfect) == pytest.approx((exact.low, 1.0), rel=1e-9)
        mirrored = logit_interval(Auc(0.0, 0.0, n_1, n_0))
        assert mirrored == pytest.approx((0.0, 1 - exact.low), rel=1e-9)  # as above


def test_interval_covers_a_perfect_score() -> None:
    """Of 8 events and 8 others, AUC .95: the interval of the perfect ones fails in at most 2.5 %."""
    rng = np.random.default_rng(2)
    misses = 0
    for _ in range(3000):
        events = np.arange(16) < 8
        auc = delong(events, rng.normal(size=16) + 2.326 * events)
        lower, upper = logit_interval(auc)
        misses += not lower <= 0.95 <= upper
    # 5 % of 3000, and three standard deviations of a count.
    assert misses <= 150 + 3 * 12


def test_interval_that_does_not_exist() -> None:
    assert np.isnan(logit_interval(Auc(np.nan, np.nan, 0, 5))).all()
    assert np.isnan(logit_interval(Auc(0.7, np.nan, 1, 5))).all()
    assert logit_interval(delong(np.array([True, True, False, False]), np.ones(4))) == (0.5, 0.5)
