"""Sufficient statistics: chunks of rows and merged sites equal the whole."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pycombat_gam.penalized.solve import solve
from pycombat_gam.penalized.sufficient import Statistics, accumulate, factor_design, merge


def draw(seed: int, n: int, q: int, V: int, B: int, offset: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, B, n)
    X = rng.normal(size=(n, q)) + offset
    Y = offset + X @ rng.normal(size=(q, V)) + rng.normal(size=(n, V)) + codes[:, None]
    Y[:, 0] = codes  # constant within every batch
    return X, Y, codes


def statistics(X: np.ndarray, Y: np.ndarray, codes: np.ndarray, B: int) -> Statistics:
    return accumulate(Y, factor_design(X, codes, B))


def assert_same(a: Statistics, b: Statistics, X: np.ndarray, Y: np.ndarray) -> None:
    """1e-10 of the spread of the data, n times that for sums of products (a QR's signs are free: R'R and R'Z it is)."""
    spread, reach = Y.std(axis=0).max(), np.abs(Y).max()
    assert (a.n == b.n).all()
    assert (a.constant == b.constant).all()
    # Means in another order: the bound of the project, and units of the last place of the offset.
    np.testing.assert_allclose(a.y_mean, b.y_mean, rtol=0, atol=1e-10 * spread + 4e-16 * reach)
    np.testing.assert_allclose(a.x_mean, b.x_mean, rtol=0, atol=1e-10 + 4e-16 * np.abs(X).max(initial=0.0))
    for left, right in ((a.R, a.R), (a.R, a.Z)):
        other = (b.R, b.R if right is a.R else b.Z)
        np.testing.assert_allclose(
            np.swapaxes(left, 1, 2) @ right,
            np.swapaxes(other[0], 1, 2) @ other[1],
            rtol=0,
            # As above, for sums; residual sums of squares below are differences of them.
            atol=1e-10 * len(Y) * spread,
        )
    one, two = solve(a), solve(b)
    # Differences of the sums above, and what they solve to.
    np.testing.assert_allclose(one.residual_ss, two.residual_ss, rtol=1e-9, atol=1e-10 * spread**2)
    np.testing.assert_allclose(one.coefficients, two.coefficients, rtol=0, atol=1e-10 * spread)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(30, 200),
    q=st.integers(0, 4),
    V=st.integers(2, 5),
    B=st.integers(2, 4),
    offset=st.sampled_from([0.0, 1.0, 1e6]),
    cuts=st.lists(st.integers(0, 200), max_size=5),
)
def test_chunks_of_rows_equal_the_whole(
    seed: int, n: int, q: int, V: int, B: int, offset: float, cuts: list[int]
) -> None:
    X, Y, codes = draw(seed, n, q, V, B, offset)
    whole = statistics(X, Y, codes, B)
    edges = [0, *sorted(min(cut, n) for cut in cuts), n]
    merged = None
    for start, stop in pairwise(edges):
        if start == stop:
            continue
        part = statistics(X[start:stop], Y[start:stop], codes[start:stop], B)
        merged = part if merged is None else merge(merged, part)
    assert merged is not None
    assert_same(merged, whole, X, Y)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), B=st.integers(2, 5))
def test_sites_merged_in_any_order_equal_the_whole(seed: int, B: int) -> None:
    X, Y, codes = draw(seed, 150, 3, 4, B, 10.0)
    whole = statistics(X, Y, codes, B)
    parts = [statistics(X[codes == b], Y[codes == b], codes[codes == b], B) for b in range(B)]
    forward, backward = parts[0], parts[-1]
    for part in parts[1:]:
        forward = merge(forward, part)
    for part in parts[-2::-1]:
        backward = merge(backward, part)
    assert_same(forward, whole, X, Y)
    assert_same(backward, whole, X, Y)
