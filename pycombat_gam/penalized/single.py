r"""One smoothing parameter: simultaneous diagonalisation, then a safeguarded Newton search for all responses at once.

In Demmler & Reinsch's coordinates (1975; K = U diag(d) V', penalty the identity) H = diag(d² + λ), and with
t = λ/(d² + λ), z = U'z the criterion is a sum over r scalars:

    D = rss₀ + Σz²t,   rss = rss₀ + Σz²t²,   edf = M + Σ(1 − t),   dt/dρ = t(1 − t),   d²t/dρ² = t(1 − t)(1 − 2t).

The whole axis is searched on a grid first (a matrix product for all responses), because a criterion may have two
minima; Newton starts from the two best of the grid's local minima, kept inside their brackets by bisection. λ = ∞ is a
legitimate answer: the last grid point.
"""

from __future__ import annotations

import numpy as np

from pycombat_gam.penalized.criterion import TINY, Criterion
from pycombat_gam.types import BoolArray, FloatArray, IntArray

STEP = 1.0
"""Spacing of the grid in log λ: a third of the width over which one t goes from 0.2 to 0.8."""
FLAT = 23.0
"""How far beyond the last (first) singular value the grid goes: there 1 − t (t) is below 1e-10."""
ITERATIONS = 60
TOLERANCE = 1e-10
"""Change of log λ at which the search ends, relative to 1 + |log λ|."""
ROUNDING = 1e-14
"""Share of 1 + |score| that is rounding: scores no further apart are equal, whatever the order of the rows."""
CHUNK = 8192
"""Responses worked on at once: what they need fits the cache."""


class _Scalars:
    """The criterion of one parameter as sums over r scalars; everything is (…, v)."""

    def __init__(self, criterion: Criterion) -> None:
        problem = criterion.problem
        U, d, _ = np.linalg.svd(problem.K)
        self.criterion = criterion
        self.s: FloatArray = np.asarray(d**2, dtype=np.float64)
        self.det: FloatArray = self.s
        if criterion.method == "ML":
            self.det = np.asarray(np.linalg.svd(problem.full, compute_uv=False) ** 2, dtype=np.float64)
        # A whitened single penalty is the identity times one number.
        self.z2 = (U.T @ problem.z) ** 2
        self.r = d.size

    def shrinkage(self, rho: FloatArray, of: FloatArray) -> FloatArray:
        """λ/(s + λ) without overflow, (r, v)."""
        with np.errstate(divide="ignore"):
            return np.asarray(1.0 / (1.0 + np.exp(np.log(of)[:, None] - rho)))

    def grid(self, rho: FloatArray, members: slice) -> FloatArray:
        """Scores (g, v) at grid points rho (g,): two matrix products."""
        c = self.criterion
        t = self.shrinkage(rho, self.s)
        z2, rss0 = self.z2[:, members], c.problem.rss0[members]
        if c.method == "GCV":
            edf = c.problem.M + (1.0 - t).sum(axis=0)
            return c.gcv((t**2).T @ z2 + rss0, edf[:, None])
        # log|H| − r log λ = −Σ log t
        ratio = -np.log(t if c.method == "REML" else self.shrinkage(rho, self.det)).sum(axis=0)
        return c.likelihood(t.T @ z2 + rss0, ratio[:, None])

    def derivatives(self, rho: FloatArray, z2: FloatArray, rss0: FloatArray) -> tuple[FloatArray, FloatArray]:
        """First and second derivative (v,) of the criterion at rho (v,)."""
        c = self.criterion
        t = self.shrinkage(rho, self.s)
        u = t * (1.0 - t)
        if c.method == "GCV":
            n, gamma = c.problem.n, c.gamma
            rss = np.maximum(rss0 + (z2 * t**2).sum(axis=0), TINY)
            rss1 = 2.0 * (z2 * t * u).sum(axis=0) / rss
            rss2 = 2.0 * (z2 * u * t * (2.0 - 3.0 * t)).sum(axis=0) / rss
            left = n - gamma * (c.problem.M + (1.0 - t).sum(axis=0))
            edf1, edf2 = gamma * u.sum(axis=0) / left, gamma * (u * (1.0 - 2.0 * t)).sum(axis=0) / left
            return rss1 - 2.0 * edf1, rss2 - rss1**2 - 2.0 * (edf2 - edf1**2)
        D = np.maximum(rss0 + (z2 * t).sum(axis=0), TINY)
        D1 = (z2 * u).sum(axis=0) / D
        D2 = (z2 * u * (1.0 - 2.0 * t)).sum(axis=0) / D
        if c.method == "ML":
            t = self.shrinkage(rho, self.det)
            u = t * (1.0 - t)
        first = 0.5 * (c.nu * D1 - (1.0 - t).sum(axis=0))
        return first, 0.5 * (c.nu * (D2 - D1**2) + u.sum(axis=0))


def best_single(criterion: Criterion) -> tuple[FloatArray, BoolArray, BoolArray]:
    """Best log λ of every response, with whether its search converged and whether λ is infinite, each (V,)."""
    scalars = _Scalars(criterion)
    V = criterion.problem.z.shape[1]
    positive = scalars.s[scalars.s > scalars.s.max(initial=0.0) * 1e-20]
    low, high = (np.log(positive[-1]), np.log(positive[0])) if positive.size else (0.0, 0.0)
    points = np.arange(low - FLAT, high + FLAT + STEP, STEP)
    rho, converged, infinite = np.empty(V), np.ones(V, dtype=bool), np.zeros(V, dtype=bool)
    for start in range(0, V, CHUNK):
        members = slice(start, min(start + CHUNK, V))
        rho[members], converged[members], infinite[members] = _search(scalars, points, members)
    return rho, converged, infinite


def _search(scalars: _Scalars, points: FloatArray, members: slice) -> tuple[FloatArray, BoolArray, BoolArray]:
    scores = scalars.grid(points, members)
    v = scores.shape[1]
    padded = np.vstack([np.full(v, np.inf), scores, np.full(v, np.inf)])
    valley = (scores <= padded[:-2]) & (scores <= padded[2:])
    ranked = np.where(valley, scores, np.inf)
    best = _last_lowest(ranked)
    rho, converged = _polish(scalars, points, best, members, np.arange(v))
    ranked[best, np.arange(v)] = np.inf
    second = np.argmin(ranked, axis=0)
    also = np.flatnonzero(np.isfinite(ranked[second, np.arange(v)]))
    if also.size:
        other, other_converged = _polish(scalars, points, second[also], members, also)
        ours = _score_at(scalars, rho[also], members, also)
        gain = ours - _score_at(scalars, other, members, also)
        # Two minima as low as each other: the smoother fit.
        equal = np.abs(gain) <= ROUNDING * (1.0 + np.abs(ours))
        better = np.where(equal, other > rho[also], gain > 0)
        rho[also[better]] = other[better]
        converged[also[better]] = other_converged[better]
    return rho, converged, rho >= points[-1] - STEP


def _last_lowest(scores: FloatArray) -> IntArray:
    """Row of the lowest score of each column; the last where several are equal to rounding: the smoothest fit."""
    low = scores.min(axis=0)
    equal = scores <= low + ROUNDING * (1.0 + np.abs(low))
    return np.asarray(len(scores) - 1 - np.argmax(equal[::-1], axis=0), dtype=np.intp)


def _score_at(scalars: _Scalars, rho: FloatArray, members: slice, which: IntArray) -> FloatArray:
    c = scalars.criterion
    t = scalars.shrinkage(rho, scalars.s)
    z2, rss0 = scalars.z2[:, members][:, which], c.problem.rss0[members][which]
    if c.method == "GCV":
        return c.gcv(rss0 + (z2 * t**2).sum(axis=0), c.problem.M + (1.0 - t).sum(axis=0))
    ratio = t if c.method == "REML" else scalars.shrinkage(rho, scalars.det)
    return c.likelihood(rss0 + (z2 * t).sum(axis=0), -np.log(ratio).sum(axis=0))


def _polish(
    scalars: _Scalars, points: FloatArray, at: IntArray, members: slice, which: IntArray
) -> tuple[FloatArray, BoolArray]:
    """Newton on the derivative between the neighbours of a grid minimum, bisecting where Newton leaves the bracket."""
    z2 = np.ascontiguousarray(scalars.z2[:, members][:, which])
    rss0 = scalars.criterion.problem.rss0[members][which]
    rho = points[at].copy()
    low, high = points[np.maximum(at - 1, 0)].copy(), points[np.minimum(at + 1, points.size - 1)].copy()
    converged = (at == 0) | (at == points.size - 1)
    active = np.flatnonzero(~converged)
    for _ in range(ITERATIONS):
        if not active.size:
            break
        here = rho[active]
        first, second = scalars.derivatives(here, z2[:, active], rss0[active])
        high[active] = np.where(first > 0, here, high[active])
        low[active] = np.where(first <= 0, here, low[active])
        with np.errstate(divide="ignore", invalid="ignore"):
            step = here - first / second
        inside = (second > 0) & (step >= low[active]) & (step <= high[active])
        new = np.where(inside, step, 0.5 * (low[active] + high[active]))
        rho[active] = new
        done = (np.abs(new - here) <= TOLERANCE * (1.0 + np.abs(new))) | (first == 0)
        rho[active[first == 0]] = here[first == 0]
        converged[active[done]] = True
        active = active[~done]
    return rho, converged
