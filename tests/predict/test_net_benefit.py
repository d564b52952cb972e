"""Net benefit by its definition."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pycombat_gam.predict.measures.net_benefit import net_benefit, treat_all
from pycombat_gam.types import FloatArray

GRID = np.array([0.9, 0.0, 0.2, 0.25, 0.5, 0.75])
ROWS = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.integers(0, 3)), min_size=1)


def by_definition(y: FloatArray, p: FloatArray, w: FloatArray, t: float) -> float:
    treated = p >= t
    return float((w * treated * y).sum() / w.sum() - (w * treated * (1 - y)).sum() / w.sum() * t / (1 - t))


@given(ROWS)
def test_definition(rows: list[tuple[bool, float, int]]) -> None:
    y, p, w = np.array(rows, dtype=float).T
    events, ones = y == 1, np.ones(len(y))
    # Up to a few hundred additions of numbers of size at most 9.
    close = {"rtol": 0, "atol": 1e-13}
    np.testing.assert_allclose(net_benefit(events, p, GRID), [by_definition(y, p, ones, t) for t in GRID], **close)
    np.testing.assert_allclose(treat_all(events, GRID), net_benefit(events, ones, GRID), **close)
    if w.sum() == 0:
        assert np.isnan(net_benefit(events, p, GRID, w)).all() and np.isnan(treat_all(events, GRID, w)).all()
        return
    np.testing.assert_allclose(net_benefit(events, p, GRID, w), [by_definition(y, p, w, t) for t in GRID], **close)
    np.testing.assert_allclose(treat_all(events, GRID, w), net_benefit(events, ones, GRID, w), **close)


def test_where_it_does_not_exist() -> None:
    none = np.zeros(0, dtype=bool)
    assert np.isnan(net_benefit(none, np.zeros(0), GRID)).all() and np.isnan(treat_all(none, GRID)).all()
    assert np.isnan(net_benefit(np.array([True, False]), np.array([0.5, np.nan]), GRID)).all()
    beyond = np.array([1.0, -0.1, np.nan, 1.5])
    assert np.isnan(net_benefit(np.array([True, False]), np.array([0.5, 0.1]), beyond)).all()
    assert np.isnan(treat_all(np.array([True, False]), beyond)).all()


def test_perfect_and_useless() -> None:
    y = np.arange(10) < 3
    np.testing.assert_allclose(net_benefit(y, y.astype(float), GRID[GRID > 0]), 0.3, rtol=1e-15)  # 3/10, once rounded
    np.testing.assert_array_equal(net_benefit(y, np.zeros(10), GRID[GRID > 0]), 0.0)
