r"""Several smoothing parameters: Newton on their logs, for many responses at once, from the best points of a grid.

At a grid point H is the same for all responses, so a point costs one Cholesky factor and one matrix product: the
criterion is surveyed for everyone before anyone moves, which is what finds the lower of two minima. Then Newton's
method with the eigenvalues of the Hessian made positive, steps bounded and halved until the score falls (Wood 2011,
§6.2), on the responses still moving. A λ that runs to infinity is moved to its bound at once when the slope says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from pycombat_gam.penalized.criterion import Criterion, Evaluation
from pycombat_gam.penalized.logdet import log_determinant
from pycombat_gam.types import Advance, BoolArray, FloatArray, IntArray

GRID = {1: 31, 2: 20, 3: 10, 4: 5}
"""Points per parameter; more parameters than these get three points each on a Latin square of `SCATTERED` points."""
SCATTERED = 243
BEYOND = 21.0
"""How far beyond the scale of the data log λ may go: what is left there is below 1e-9 of a degree of freedom."""
BEYOND_DENSE = 14.0
"""The same where a block of penalties is not diagonal: H then loses digits to a large λ; 1e-6 of a degree is left."""
BELOW = 14.0
"""How far below: columns of random effects repeat one another, and H = K'K + λA has no more digits than λ leaves it."""
MAX_STEP = 2.0
"""A longer step leaves the valley that the grid found."""
ITERATIONS = 100
HALVINGS = 25
DECREASE = 1e-13
"""The search ends where Newton predicts to gain less than this share of 1 + |score|; the last step is still taken."""
VALLEYS = 4
"""Local minima of the grid from which Newton starts, for each response."""
LIMIT = 1e-10
"""Share of 1 + |score| that a step to a bound may cost: rounding, where the score falls ever slower towards it."""
TIE = 1e-8
"""Share of 1 + |score| within which two ends are one."""
LOST = 5e-13
"""Share by which the score of a small λ rounds, times how far below the data it is: measured on nearly perfect fits."""
FLAT = 1e-7
"""Share of 1 + |score| that counts as no difference between grid points."""
BLOCK_BYTES = 2**22


@dataclass(frozen=True, eq=False)
class Box:
    """Where the logs of the r free parameters are looked for: on a grid from `low` to `high`, and `beyond` that."""

    low: FloatArray
    high: FloatArray
    beyond: float

    @property
    def bottom(self) -> FloatArray:
        """Lower bounds (r,)."""
        return self.low - BELOW

    @property
    def top(self) -> FloatArray:
        """Upper bounds (r,)."""
        return self.high + self.beyond


class Search:
    """The search for one problem: log λ = L ρ + offset.

    Parameters
    ----------
    criterion : what is minimised; L : (m, r); offset : (m,).
    """

    def __init__(self, criterion: Criterion, L: FloatArray, offset: FloatArray) -> None:
        self.criterion = criterion
        self.L = L
        self.offset = offset
        self.box = self._box()

    def _box(self) -> Box:
        """Bound each parameter by the size of the data in the directions that it penalises."""
        data = np.diag(self.criterion.gram)
        m, r = self.L.shape
        low, high = np.empty(m), np.empty(m)
        for j in range(m):
            a = self.criterion.diagonal[j]
            seen = (a > a.max() * 1e-6) & (data > data.max(initial=0.0) * 1e-14)
            ratio = np.log(data[seen] / a[seen]) if seen.any() else np.zeros(1)
            low[j], high[j] = ratio.min(), ratio.max()
        ends = [(low - self.offset, high - self.offset)]
        bounds = np.array([[ends[0][side][self.L[:, k] != 0] for side in (0, 1)] for k in range(r)], dtype=object)
        return Box(
            np.array([min(bounds[k][0]) for k in range(r)], dtype=float) - 4.0,
            np.array([max(bounds[k][1]) for k in range(r)], dtype=float) + 4.0,
            BEYOND if self.criterion.dense is None else BEYOND_DENSE,
        )

    def full(self, rho: FloatArray) -> FloatArray:
        """Log λ of all penalties (v, m) from the free ones (v, r)."""
        return np.asarray(rho @ self.L.T + self.offset)

    def grid(self) -> tuple[FloatArray, tuple[int, ...] | None]:
        """Grid points (g, r), and the shape of the grid where it is a full one."""
        r = self.L.shape[1]
        if r in GRID:
            axes = [np.linspace(a, b, GRID[r]) for a, b in zip(self.box.low, self.box.high, strict=True)]
            return np.array(list(product(*axes))), (GRID[r],) * r
        # Rows of a linear code over three letters: every pair of parameters meets every pair of values.
        digits = np.array(list(product(range(3), repeat=5)))[:SCATTERED]
        weights = np.array([[(k + 1) ** e % 3 for e in range(5)] for k in range(r)]) + np.eye(r, 5, dtype=int)
        shares = (digits @ weights.T % 3) / 2.0 * 0.7 + 0.15
        return self.box.low + shares * (self.box.high - self.box.low), None

    def survey(self, points: FloatArray, members: slice) -> FloatArray:
        """Scores (g, v) at grid points."""
        c = self.criterion
        lam = np.exp(self.full(points))
        sums = c.penalty_sum(lam)
        dets = log_determinant(c.problem, self.full(points)).value
        Kz, z2 = c.Kz[:, members], np.einsum("iv,iv->v", c.problem.z[:, members], c.problem.z[:, members])
        rss0 = c.problem.rss0[members]
        scores = np.empty((len(points), Kz.shape[1]))
        for g, S in enumerate(sums):
            H = c.gram + S
            size = np.sqrt(np.diag(H))
            lower = cholesky(H / np.outer(size, size), lower=True)
            half = solve_triangular(lower, Kz / size[:, None], lower=True)
            if c.method == "GCV":
                b = solve_triangular(lower, half, lower=True, trans="T") / size[:, None]
                left = c.problem.z[:, members] - c.problem.K @ b
                seen = solve_triangular(lower, (c.problem.K / size).T, lower=True)
                edf = c.problem.M + float((seen**2).sum())
                scores[g] = c.gcv(rss0 + np.einsum("iv,iv->v", left, left), np.array(edf))
                continue
            # For a start the difference does; it may not fall below what is left anyway.
            D = np.maximum(z2 - np.einsum("iv,iv->v", half, half), 0.0) + rss0
            if c.method == "ML":
                H = c.full_gram + S
                size = np.sqrt(np.diag(H))
                lower = cholesky(H / np.outer(size, size), lower=True)
            log_det = 2.0 * float(np.log(np.diag(lower) * size).sum())
            scores[g] = c.likelihood(D, np.array(log_det - dets[g]))
        return scores

    def best(self, advance: Advance | None = None) -> tuple[FloatArray, BoolArray, BoolArray]:
        """Best ρ (V, r) of every response, whether its search converged (V,), and which ρ are infinite (V, r).

        `advance` is called with the number of responses that are done.
        """
        V, r = self.criterion.problem.z.shape[1], self.L.shape[1]
        q = self.criterion.gram.shape[0]
        chunk = max(16, BLOCK_BYTES // (8 * max(q * q, 1) * 4))
        rho, converged = np.empty((V, r)), np.empty(V, dtype=bool)
        points, shape = self.grid()
        for start in range(0, V, 4096):
            members = np.arange(start, min(start + 4096, V))
            scores = self.survey(points, slice(start, members[-1] + 1))
            starts = _valleys(scores, shape)
            for left in range(0, members.size, chunk):
                some = slice(left, left + chunk)
                responses = members[some]
                rho[responses], score, converged[responses] = self._newton(points[starts[0][some]], responses)
                for other in starts[1:]:
                    again = np.flatnonzero(other[some] >= 0)
                    if not again.size:
                        break
                    other_rho, lower, fine = self._newton(points[other[some][again]], responses[again])
                    better = self._preferred(other_rho, lower, rho[responses[again]], score[again])
                    rho[responses[again[better]]], converged[responses[again[better]]] = other_rho[better], fine[better]
                    score[again[better]] = lower[better]
                self._look_again(responses, rho, score, converged, upwards=shape is None)
                if advance is not None:
                    advance(responses.size)
        return rho, converged, rho >= self.box.top - 1.0

    def _look_again(
        self, members: IntArray, rho: FloatArray, score: FloatArray, converged: BoolArray, *, upwards: bool
    ) -> None:
        """Start once more from the middle of each parameter that ran to its lower bound.

        Parameters
        ----------
        members : (v,) responses; score : (v,) theirs, changed in place as are rho (V, r) and converged (V,).
        upwards : also of those that ran to their upper bound: for where few points were surveyed.
        """
        middle = (self.box.low + self.box.high) / 2.0
        for k in range(rho.shape[1]):
            at_end = rho[members, k] < self.box.low[k] - 1.0
            at_end |= upwards & (rho[members, k] > self.box.high[k] + 1.0)
            again = np.flatnonzero(at_end)
            if not again.size:
                continue
            start = np.clip(rho[members[again]], self.box.low, self.box.high)
            start[:, k] = middle[k]
            other, lower, fine = self._newton(start, members[again])
            better = self._preferred(other, lower, rho[members[again]], score[again])
            rho[members[again[better]]], converged[members[again[better]]] = other[better], fine[better]
            score[again[better]] = lower[better]

    def _preferred(self, other: FloatArray, lower: FloatArray, rho: FloatArray, score: FloatArray) -> BoolArray:
        """Tell where another end (v, r) has a lower score (v,), or is the smoother of two that no digit tells apart."""
        beneath = np.maximum(self.box.low - np.minimum(other, rho), 0.0).max(axis=1)
        level = (TIE + LOST * np.exp(beneath)) * (1.0 + np.abs(score))
        smoother = (lower < score + level) & (other.sum(axis=1) > rho.sum(axis=1) + 1e-3)
        return np.asarray((lower < score - level) | smoother)

    def _newton(self, start: FloatArray, members: IntArray) -> tuple[FloatArray, FloatArray, BoolArray]:
        """Minimise from `start` (v, r); return ρ, score and convergence."""
        rho = start.copy()
        score, gradient, hessian = self._reduced(rho, members)
        active = np.arange(members.size)
        converged = np.zeros(members.size, dtype=bool)
        for _ in range(ITERATIONS):
            step, gain = self._step(rho[active], gradient[active], hessian[active])
            done = gain <= DECREASE * (1.0 + np.abs(score[active]))
            last = np.flatnonzero(done)
            rho[active[last]] = np.clip(rho[active[last]] + step[last], self.box.bottom, self.box.top)
            converged[active[last]] = True
            active, step = active[~done], step[~done]
            if not active.size:
                break
            moved = self._move(rho, score, gradient, hessian, active, step, members)
            converged[active[~moved]] = True  # no step lowers the score: rounding is all that is left
            active = active[moved]
            if not active.size:
                break
        return rho, score, converged

    def _reduced(self, rho: FloatArray, members: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Score (v,), gradient (v, r) and Hessian (v, r, r) in the free parameters."""
        at: Evaluation = self.criterion.evaluate(self.full(rho), members)
        return at.score, at.gradient @ self.L, np.asarray(self.L.T @ at.hessian @ self.L)

    def _step(self, rho: FloatArray, gradient: FloatArray, hessian: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Newton steps (v, r) with positive curvature, and the gain they predict (v,)."""
        r = rho.shape[1]
        stuck = ((rho >= self.box.top) & (gradient < 0)) | ((rho <= self.box.bottom) & (gradient > 0))
        g = np.where(stuck, 0.0, gradient)
        h = np.where(stuck[:, :, None] | stuck[:, None, :], 0.0, hessian)
        h[:, np.arange(r), np.arange(r)] += stuck
        values, vectors = np.linalg.eigh(h)
        size = np.abs(values)
        size = np.maximum(size, size.max(axis=1, keepdims=True) * 1e-10 + 1e-14)
        along = np.einsum("vij,vi->vj", vectors, g)
        gain = 0.5 * (along**2 / size).sum(axis=1)
        step = -np.einsum("vij,vj->vi", vectors, along / size)
        longest = np.abs(step).max(axis=1, keepdims=True)
        return step * np.minimum(1.0, MAX_STEP / np.maximum(longest, 1e-300)), gain

    def _move(
        self,
        rho: FloatArray,
        score: FloatArray,
        gradient: FloatArray,
        hessian: FloatArray,
        active: IntArray,
        step: FloatArray,
        members: IntArray,
    ) -> BoolArray:
        """Take a step that lowers the score, halving as often as it takes; tell which of `active` moved."""
        moved = np.zeros(active.size, dtype=bool)
        # Where the score falls ever slower beyond the scale of the data, its end is the bound; before that a shallow
        # minimum may follow.
        slope, here = gradient[active], rho[active]
        up = (slope < 0) & (slope > -0.02) & (here > self.box.high + 1.0) & (step > 0) & (here < self.box.top)
        # Downwards the tail is an exponential, whose slope is what is left to gain.
        level = FLAT * (1.0 + np.abs(score[active]))[:, None]
        down = (slope > 0) & (slope < level) & (here < self.box.low - 1.0) & (step < 0) & (here > self.box.bottom)
        jump = np.flatnonzero((up | down).any(axis=1))
        if jump.size:
            # What Newton would do instead may be lower: then a shallow minimum lies on the way to the bound.
            near = np.clip(here + step, self.box.bottom, self.box.top)
            trial = np.where(up, self.box.top, np.where(down, self.box.bottom, near))[jump]
            rival = self._reduced(near[jump], members[active[jump]])[0]
            slack = LIMIT * (1.0 + np.abs(score[active[jump]]))
            limit = np.minimum(slack, rival + slack - score[active[jump]])
            moved[jump] = self._accept(trial, active[jump], rho, score, gradient, hessian, members, limit)
        share = 1.0
        for _ in range(HALVINGS):
            left = np.flatnonzero(~moved)
            if not left.size:
                break
            trial = np.clip(rho[active[left]] + share * step[left], self.box.bottom, self.box.top)
            moved[left] = self._accept(trial, active[left], rho, score, gradient, hessian, members)
            share /= 2.0
        return moved

    def _accept(
        self,
        trial: FloatArray,
        which: IntArray,
        rho: FloatArray,
        score: FloatArray,
        gradient: FloatArray,
        hessian: FloatArray,
        members: IntArray,
        slack: FloatArray | float = 0.0,
    ) -> BoolArray:
        """Replace the state of those whose score falls, or rises by no more than `slack`."""
        at = self._reduced(trial, members[which])
        falls = at[0] < score[which] + slack
        chosen = which[falls]
        rho[chosen], score[chosen] = trial[falls], at[0][falls]
        gradient[chosen], hessian[chosen] = at[1][falls], at[2][falls]
        return np.asarray(falls)


def _valleys(scores: FloatArray, shape: tuple[int, ...] | None) -> list[IntArray]:
    """Best grid point of every response, then the best of its other local minima (−1: there is none)."""
    if shape is None:
        # Three points a parameter: any two of them are valleys apart.
        return list(np.argsort(scores, axis=0, kind="stable")[:VALLEYS])
    first = np.argmin(scores, axis=0)
    # A plateau, where a λ is practically infinite, is one valley: smaller differences are flat, not a minimum.
    cube = np.round(scores / (1.0 + np.abs(scores)) / FLAT).reshape(*shape, -1)
    valley = np.ones(cube.shape, dtype=bool)
    for axis in range(len(shape)):
        after = np.take(cube, range(1, shape[axis]), axis=axis)
        before = np.take(cube, range(shape[axis] - 1), axis=axis)
        head = [slice(None)] * cube.ndim
        tail = list(head)
        head[axis], tail[axis] = slice(0, -1), slice(1, None)
        valley[tuple(head)] &= before <= after
        valley[tuple(tail)] &= after < before
    others = np.where(valley.reshape(scores.shape), scores, np.inf)
    columns = np.arange(first.size)
    others[first, columns] = np.inf
    minima = [first]
    while len(minima) < VALLEYS:
        best = np.argmin(others, axis=0)
        minima.append(np.where(np.isfinite(others[best, columns]), best, -1))
        others[best, columns] = np.inf
    return minima
