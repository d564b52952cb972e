r"""Harmonized values of every draw, and their quantiles.

    Y* = (Y − x'β − α_b)/d_b + L + x'β,   L = Σ w_cα_c,   d²_b = σ²_b/Σ v_cσ²_c,

with w_c = n_c/n the share of a site's rows, v_c that of its observed cells; L and the variance are the reference site's
where there is one. A site without variance of its own has d = 1, as in `transform`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pycombat_gam.infer.gibbs import Draws
from pycombat_gam.infer.problem import Problem
from pycombat_gam.types import FloatArray, IntArray

CELLS = 2**22
"""Numbers of a piece of rows × features × draws."""


@dataclass(frozen=True, eq=False)
class SiteDraws:
    """m draws of what harmonizes v features of B sites.

    Attributes
    ----------
    beta : (m, p, v); level : (m, v) L, at the design's centre; pooled : (m, v) the variance that sites are brought to.
    shift : (m, B, v) α − L; inverse_scale : (m, B, v) 1/d.
    """

    beta: FloatArray
    level: FloatArray
    pooled: FloatArray
    shift: FloatArray
    inverse_scale: FloatArray

    @classmethod
    def of(cls, draws: Draws, problem: Problem, span: slice, *, reference: int | None, scaled: bool) -> SiteDraws:
        """Derive them from the draws of some features of a problem."""
        if reference is None:
            cells = problem.n_observed[:, span] / problem.n_observed[:, span].sum(axis=0)
            level = np.einsum("b,mbv->mv", problem.n_rows / problem.n_rows.sum(), draws.alpha)
            pooled = np.einsum("bv,mbv->mv", cells, draws.variance)
        else:
            level, pooled = draws.alpha[:, reference], draws.variance[:, reference]
        inverse_scale = np.ones_like(draws.variance)
        if scaled:
            inverse_scale = np.sqrt(pooled[:, None] / draws.variance)
            inverse_scale[:, problem.blind[:, span]] = 1.0
        return cls(draws.beta, level, pooled, draws.alpha - level[:, None], inverse_scale)


def residuals(sites: SiteDraws, Y: FloatArray, X: FloatArray) -> Iterator[tuple[slice, FloatArray, FloatArray]]:
    """Yield (rows, x'β, Y − x'β − L) of some rows at a time, the last two (m, rows, v).

    Parameters
    ----------
    Y : (n, v) features; X : (n, p) the design less its centre.
    """
    m, _, v = sites.beta.shape
    step = max(1, CELLS // (m * v))
    for left in range(0, len(Y), step):
        rows = slice(left, min(left + step, len(Y)))
        explained = X[rows] @ sites.beta
        yield rows, explained, Y[rows] - explained - sites.level[:, None]


def limits(
    sites: SiteDraws, Y: FloatArray, X: FloatArray, shift: FloatArray, inverse_scale: FloatArray, level: float
) -> FloatArray:
    """Return the lower and upper limit of every harmonized value of one site, (2, n, v).

    Parameters
    ----------
    Y, X : rows of the site, as `residuals` takes them; level : of the intervals.
    shift, inverse_scale : (m, v) draws of the site's effects.
    """
    ends = [(1.0 - level) / 2.0, (1.0 + level) / 2.0]
    result = np.empty((2, *Y.shape))
    for rows, explained, left in residuals(sites, Y, X):
        harmonized = (left - shift[:, None]) * inverse_scale[:, None] + explained + sites.level[:, None]
        result[:, rows] = quantiles(harmonized, ends)
    return result


def quantiles(draws: FloatArray, ends: list[float]) -> FloatArray:
    """Return quantiles over the first axis, linear between order statistics; a missing value stays missing."""
    return np.asarray(np.quantile(draws, ends, axis=0, overwrite_input=True))


def rows_by_site(codes: IntArray) -> list[tuple[int, IntArray]]:
    """Return each site that has rows, and these."""
    return [(int(b), np.flatnonzero(codes == b)) for b in np.unique(codes)]
