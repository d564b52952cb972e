"""Risk under censoring: statsmodels, identities of the weights, edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.duration.survfunc import SurvfuncRight

from pycombat_gam.predict.measures.auc import delong
from pycombat_gam.predict.measures.calibration import recalibrated
from pycombat_gam.predict.measures.kaplan_meier import censoring_weights, kaplan_meier, observed_expected
from pycombat_gam.types import BoolArray, FloatArray

ROWS = st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=25)
"""Time and event, with many ties."""
HORIZONS = np.array([4.0, -1.0, 0.0, 2.5, 8.0, 9.0, 1.0])


def split(rows: list[tuple[int, bool]]) -> tuple[FloatArray, BoolArray]:
    return np.array([t for t, _ in rows], dtype=float), np.array([e for _, e in rows], dtype=bool)


def by_definition(time: FloatArray, event: BoolArray, h: float) -> tuple[float, float]:
    s, total = 1.0, 0.0
    for u in np.unique(time[event & (time <= h)]):
        d, n = (event & (time == u)).sum(), (time >= u).sum()
        s *= 1 - d / n
        total += d / (n * (n - d)) if n > d else np.nan
    if h > time.max() and s > 0:
        return np.nan, np.nan
    return 1 - s, s * np.sqrt(total)


@given(ROWS)
def test_definition(rows: list[tuple[int, bool]]) -> None:
    time, event = split(rows)
    risk, se = kaplan_meier(time, event, HORIZONS)
    expected = np.array([by_definition(time, event, h) for h in HORIZONS])
    # Products and sums of at most 9 factors.
    np.testing.assert_allclose(risk, expected[:, 0], rtol=0, atol=1e-14)
    np.testing.assert_allclose(se, expected[:, 1], rtol=0, atol=1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_beside_statsmodels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    time, event = rng.integers(1, 60, 300).astype(float), rng.random(300) < 0.6
    theirs = SurvfuncRight(time, event.astype(int))
    at = theirs.surv_times[theirs.surv_prob > 0]
    risk, se = kaplan_meier(time, event, at)
    # Products of 60 factors.
    np.testing.assert_allclose(risk, (1 - theirs.surv_prob)[: len(at)], rtol=0, atol=1e-13)
    np.testing.assert_allclose(se, theirs.surv_prob_se[: len(at)], rtol=1e-12)


@given(ROWS, st.integers(0, 9))
def test_weights(rows: list[tuple[int, bool]], h: int) -> None:
    time, event = split(rows)
    w = censoring_weights(time, event, h)
    by_horizon, lost = event & (time <= h), ~event & (time < h)
    assert ((w == 0) == lost).all() and (w[~lost] >= 1).all()
    if not lost.any():
        assert (w == 1).all()
    (risk,), _ = kaplan_meier(time, event, np.array([h]))
    # Products of at most 9 factors, added 25 times.
    if (time >= h).any():
        assert w.sum() == pytest.approx(time.size, rel=1e-13)
    if not np.isnan(risk):
        assert w[by_horizon].sum() / time.size == pytest.approx(risk, abs=1e-13)


def test_weights_without_ties() -> None:
    """1/G of the textbook, G from the censoring's own curve."""
    rng = np.random.default_rng(1)
    time, event = rng.exponential(size=80), rng.random(80) < 0.5
    w = censoring_weights(time, event, 0.8)
    before, _ = kaplan_meier(time, ~event, time - 1e-9)
    (at,), _ = kaplan_meier(time, ~event, np.array([0.8]))
    expected = np.where(event & (time <= 0.8), 1 / (1 - before), np.where(time > 0.8, 1 / (1 - at), 0.0))
    np.testing.assert_allclose(w, expected, rtol=1e-12)  # products of 80 factors


def test_weighted_auc_is_that_without_censoring() -> None:
    """Censored at random, the weighted AUC is on average that of the complete rows; that of the known rows is not."""
    rng = np.random.default_rng(4)
    gaps, naive = [], []
    for _ in range(300):
        x = rng.normal(size=300)
        latent, censoring = rng.exponential(np.exp(-x)), rng.exponential(0.8, size=300)
        time, event = np.minimum(latent, censoring), latent <= censoring
        truth = delong(latent <= 1, x).value
        gaps.append(delong(event & (time <= 1), x, censoring_weights(time, event, 1.0)).value - truth)
        known = event | (time >= 1)
        naive.append(delong((event & (time <= 1))[known], x[known]).value - truth)
    # Three standard errors of a mean of 300 differences of sd .03.
    assert np.mean(gaps) == pytest.approx(0, abs=0.005)
    assert np.mean(naive) > 0.015


def test_observed_expected() -> None:
    rng = np.random.default_rng(2)
    time, event, risk = rng.exponential(2, 60), np.ones(60, dtype=bool), rng.uniform(0.1, 0.8, 60)
    plain = recalibrated(time <= 1, risk)
    # Without censoring it is the binary outcome's; sums of 60 terms.
    assert observed_expected(time, event, risk, 1.0) == pytest.approx(
        (plain.observed_expected, plain.se_log_oe), rel=1e-12
    )
    oe, se = observed_expected(time, event, risk, 1e-9)
    assert oe == 0 and np.isnan(se)
    oe, se = observed_expected(time, event, risk, 1e9)
    assert oe == pytest.approx(1 / risk.mean(), rel=1e-15) and np.isnan(se)  # one division
    event[time == time.max()] = False
    assert np.isnan(observed_expected(time, event, risk, 1e9)).all()
    assert np.isnan(observed_expected(time, event, np.zeros(60), 1.0)[0])


def test_no_rows_and_missing_times() -> None:
    none = np.zeros(0)
    for time, event in ((none, none.astype(bool)), (np.array([1.0, np.nan]), np.array([True, True]))):
        assert np.isnan(kaplan_meier(time, event, HORIZONS)).all()
        assert np.isnan(observed_expected(time, event, time, 1.0)).all()
        weights = censoring_weights(time, event, 1.0)
        assert weights.shape == time.shape and np.isnan(weights).all()
