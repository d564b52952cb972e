"""`fit_smoothing`: the best smoothing parameters of every response, and the fit at them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pycombat_gam.penalized.criterion import Criterion
from pycombat_gam.penalized.problem import Method, Penalties, Problem, SmoothingFit
from pycombat_gam.penalized.several import BLOCK_BYTES, Search
from pycombat_gam.penalized.single import FLAT, best_single
from pycombat_gam.penalized.whiten import whiten
from pycombat_gam.types import Advance, BoolArray, FloatArray


def fit_smoothing(
    problem: Problem,
    penalties: Penalties,
    *,
    method: Method = "REML",
    gamma: float = 1.0,
    advance: Advance | None = None,
) -> SmoothingFit:
    """Choose the smoothing parameters of every response and fit it.

    Parameters
    ----------
    problem : p columns, V responses; its unpenalised directions must be of full rank.
    penalties : m penalties driven by r parameters.
    method : the criterion, with mgcv's constants.
    gamma : above 1 for smoother fits.
    advance : called with the number of responses done, where the search takes long: with several parameters.

    Returns
    -------
    SmoothingFit

    Notes
    -----
    Wood (2011), JRSS-B 73:3–36; the algebra is in `whiten`, `criterion`, `single` and `several`.
    """
    criterion = Criterion(whiten(problem, penalties), method, gamma)
    V = problem.f.shape[1]
    m, r = penalties.L.shape
    converged, infinite = np.ones(V, dtype=bool), np.zeros((V, r), dtype=bool)
    rho = np.zeros((V, r))
    idle = _idle(criterion, penalties)
    most = _no_variance(criterion, penalties, idle)
    rho[:, idle], infinite[:, idle] = most, True
    alive = np.flatnonzero(~idle)
    if alive.size and m == 1:
        log_lambda, converged, at_end = best_single(criterion)
        rho, infinite = (log_lambda - penalties.offset[0])[:, None] / penalties.L[0, 0], at_end[:, None]
    elif alive.size:
        held = penalties.L[:, idle] @ most + penalties.offset
        rho[:, alive], converged, infinite[:, alive] = Search(criterion, penalties.L[:, alive], held).best(advance)
    full = rho @ penalties.L.T + penalties.offset
    return _finish(criterion, problem, rho, full, converged, infinite @ (penalties.L.T != 0))


def _idle(criterion: Criterion, penalties: Penalties) -> BoolArray:
    """Find the free parameters (r,) that nothing depends on: what they penalise lies inside the unpenalised span."""
    seen = np.diag(criterion.gram) > 0
    at_work = (criterion.touched & seen).any(axis=1)
    return np.asarray(~(at_work @ (penalties.L != 0)), dtype=np.bool_)


def _no_variance(criterion: Criterion, penalties: Penalties, idle: BoolArray) -> FloatArray:
    """Logs of the idle parameters: so large that the coefficients have no variance, as the data show none."""
    size = np.diag(criterion.full_gram)
    values = []
    for k in np.flatnonzero(idle):
        driven = penalties.L[:, k] != 0
        reach = [(size[a > 0] / a[a > 0]).max(initial=0.0) for a in criterion.diagonal[driven]]
        values.append(FLAT + np.log(max(reach) if any(reach) else 1.0))
    return np.array(values)


def fit_at(
    problem: Problem, penalties: Penalties, rho: FloatArray, *, method: Method = "REML", gamma: float = 1.0
) -> SmoothingFit:
    """Fit every response at given free parameters rho (r, V), another search's, say; nothing is searched."""
    criterion = Criterion(whiten(problem, penalties), method, gamma)
    V, r = rho.T.shape
    full = rho.T @ penalties.L.T + penalties.offset
    unsearched = np.zeros((V, r)) @ penalties.L.T != 0
    return _finish(criterion, problem, rho.T, full, np.ones(V, dtype=bool), unsearched)


def _finish(
    criterion: Criterion,
    problem: Problem,
    rho: FloatArray,
    full: FloatArray,
    converged: BoolArray,
    at_infinity: BoolArray,
) -> SmoothingFit:
    """Coefficients, degrees of freedom and scores at log λ = full (V, m)."""
    w = criterion.problem
    V, (p, q) = full.shape[0], w.B.shape
    coefficients, edf = w.beta0.copy(), np.ones((p, V))
    score, rss, total = np.empty(V), np.empty(V), np.full(V, float(w.M))
    chunk = max(16, BLOCK_BYTES // (8 * max(q * q, 1)))
    solve = _Single(criterion) if full.shape[1] == 1 else _Several(criterion)
    for start in range(0, V, chunk):
        members = slice(start, min(start + chunk, V))
        b, taken, penalised_edf, rss[members], score[members] = solve.at(full[members], members)
        edf[:, members] -= taken
        total[members] += penalised_edf
        coefficients[:, members] += w.B @ b
    return SmoothingFit(
        rho=rho.T,
        sp=np.exp(full.T),
        coefficients=coefficients,
        edf=edf,
        score=criterion.printed(score),
        unexplained=w.unexplained,
        rss=rss,
        scale=rss / (w.n - total),
        converged=converged,
        at_infinity=at_infinity.T,
    )


class _Solved(NamedTuple):
    """The fit of v responses at their λ: r whitened coefficients, p columns.

    Attributes
    ----------
    coefficients : (r, v); taken : (p, v) what the penalties take of each column's degree of freedom.
    penalised_edf : (v,) degrees of freedom of the penalised directions; rss, score : (v,).
    """

    coefficients: FloatArray
    taken: FloatArray
    penalised_edf: FloatArray
    rss: FloatArray
    score: FloatArray


class _Single:
    """Fits at one smoothing parameter, in Demmler and Reinsch's coordinates: all is a sum over r scalars."""

    def __init__(self, criterion: Criterion) -> None:
        w = criterion.problem
        self.criterion = criterion
        self.U, self.d, self.Vt = np.linalg.svd(w.K)
        self.edf_map: FloatArray = (w.B @ self.Vt.T) * (self.Vt @ w.C).T

    def at(self, rows: FloatArray, members: slice) -> _Solved:
        """Fit `members` at log λ = rows (v, 1)."""
        w, d = self.criterion.problem, self.d
        with np.errstate(divide="ignore"):
            t = 1.0 / (1.0 + np.exp(2.0 * np.log(d)[:, None] - rows[:, 0]))
        z = self.U.T @ w.z[:, members]
        b = self.Vt.T @ (np.divide(1.0 - t, d[:, None], out=np.zeros_like(t), where=d[:, None] > 0) * z)
        rss = w.rss0[members] + np.einsum("iv,iv->v", z * t, z * t)
        gone, q = t.sum(axis=0), w.K.shape[1]
        if self.criterion.method == "GCV":
            score = self.criterion.gcv(rss, w.M + q - gone)
        else:
            D = rss + np.einsum("iv,iv,iv->v", z, z, t * (1.0 - t))
            ratio = t
            if self.criterion.method == "ML":
                s = np.linalg.svd(w.full, compute_uv=False) ** 2
                with np.errstate(divide="ignore"):
                    ratio = 1.0 / (1.0 + np.exp(np.log(s)[:, None] - rows[:, 0]))
            score = self.criterion.likelihood(D, -np.log(ratio).sum(axis=0))
        return _Solved(b, self.edf_map @ t, q - gone, rss, score)


class _Several:
    """Fits at several smoothing parameters."""

    def __init__(self, criterion: Criterion) -> None:
        w = criterion.problem
        p, q = w.B.shape
        self.criterion = criterion
        # diag of F = I − B H⁻¹ΣλA C, the (p, q²) coefficients of the entries of H⁻¹Σλ
        self.edf_map: FloatArray = np.einsum("ia,bi->iab", w.B, w.C).reshape(p, q * q)

    def at(self, rows: FloatArray, members: slice) -> _Solved:
        """Fit `members` at log λ = rows (v, m)."""
        lam = np.exp(rows)
        fit = self.criterion.solve(lam, members)
        shrink = np.matmul(fit.inverse, self.criterion.penalty_sum(lam))
        v, q = shrink.shape[:2]
        taken = self.edf_map @ shrink.reshape(v, q * q).T
        score = self.criterion.score(rows, members)
        return _Solved(fit.v, taken, q - np.einsum("vii->v", shrink), fit.rss, score)
