r"""Least squares with batch intercepts, for all features at once, from sufficient statistics.

The common coefficients β minimise Σ_b ‖Z_b − R_bβ‖², so one small QR of the stacked R_b (Bq×q), never the normal
equations, gives them for every feature: a design with condition number 10⁸ keeps eight digits, not none. Then

    α_b = ȳ_b − x̄_b'β   (batch intercepts),      rss_b = s_b + ‖Z_b − R_bβ‖².
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from pycombat_gam.penalized.problem import Method, Penalties, Problem, SmoothingFit
from pycombat_gam.penalized.smoothing import fit_smoothing
from pycombat_gam.penalized.sufficient import Statistics
from pycombat_gam.types import Advance, FloatArray

RANK_TOLERANCE = 1e-11
"""A column counts as dependent when the part of it that the columns before it leave is below this share of it.

Exact dependence shows as about 1e-16 × √n; a usable design of condition number 1e8 shows as 1e-8. `lm` in R draws the
line at 1e-7 and drops the column; we solve what can be solved.
"""


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """Solution for a group of V features.

    Attributes
    ----------
    coefficients : (q, V); intercepts : (B, V), zero where a batch has no rows; residual_ss : (B, V).
    R : (q, q) upper triangular, R'R = the within-batch cross product of the design.
    smoothing : what was penalised, and how much; None for plain least squares.
    """

    coefficients: FloatArray
    intercepts: FloatArray
    residual_ss: FloatArray
    R: FloatArray
    smoothing: SmoothingFit | None = None


def pooled_factor(R: FloatArray) -> tuple[FloatArray, FloatArray]:
    """QR of the stacked per-batch factors (B, r, q): Q (Br, q) and R (q, q), where r is at least q."""
    n_batches, rows, q = R.shape
    return np.linalg.qr(R.reshape(n_batches * rows, q))


def dependent_columns(R: FloatArray, size: FloatArray) -> dict[int, list[int]]:
    """Find the columns that are constant within batches or a combination of batches and earlier columns.

    Parameters
    ----------
    R : (q, q) pooled factor of the within-batch design.
    size : (q,) the largest absolute raw value of each column: rounding of a centred column scales with it.

    Returns
    -------
    dict of int to list of int
        For each dependent column, the earlier columns it is a combination of; none if it is constant within batches.
    """
    scale = np.sqrt(np.einsum("ij,ij->j", R, R))
    rounding = 64 * np.finfo(float).eps * size
    dependent: dict[int, list[int]] = {}
    keep: list[int] = []
    basis = np.zeros((R.shape[0], 0))
    for j in range(R.shape[1]):
        if scale[j] <= rounding[j]:
            dependent[j] = []
            continue
        column = R[:, j] / scale[j]
        # Twice is enough (Kahan, Parlett): the second projection removes what rounding left of the first.
        left = column - basis @ (basis.T @ column)
        left -= basis @ (basis.T @ left)
        norm = float(np.linalg.norm(left))
        if norm <= max(RANK_TOLERANCE, rounding[j] / scale[j]):
            share = np.linalg.lstsq(R[:, keep] / scale[keep], column, rcond=None)[0]
            dependent[j] = [k for k, part in zip(keep, share, strict=True) if abs(part) > 1e-6]
            continue
        keep.append(j)
        basis = np.column_stack([basis, left / norm])
    return dependent


def solve(statistics: Statistics) -> LeastSquares:
    """Fit every feature; the pooled design must have full column rank (see `dependent_columns`)."""
    n_batches, q, V = statistics.Z.shape
    stacked_Q, R = pooled_factor(statistics.R)
    if q == 0:
        return LeastSquares(np.zeros((0, V)), statistics.y_mean.copy(), statistics.residual_ss.copy(), R)
    # Equilibrating the columns costs nothing and keeps the triangular solve from mixing units (mm³ beside years).
    scale = np.sqrt(np.einsum("ij,ij->j", R, R))
    projected = stacked_Q.T @ statistics.Z.reshape(n_batches * q, V)
    # Row-major, as a saved model reads them back: products then round the same.
    coefficients = np.ascontiguousarray(solve_triangular(R / scale, projected)) / scale[:, None]
    intercepts, residual_ss = by_batch(statistics, coefficients)
    return LeastSquares(coefficients, intercepts, residual_ss, R)


def by_batch(statistics: Statistics, coefficients: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Intercepts and residual sums of squares of each batch (B, V) at given coefficients."""
    residual_ss = statistics.residual_ss.copy()
    for b in range(statistics.n.size):
        left = statistics.Z[b] - statistics.R[b] @ coefficients
        residual_ss[b] += np.einsum("ij,ij->j", left, left)
    intercepts = statistics.y_mean - statistics.x_mean @ coefficients
    intercepts[statistics.n == 0] = 0.0
    return intercepts, residual_ss


def solve_penalised(
    statistics: Statistics, penalties: Penalties, method: Method, advance: Advance | None = None
) -> LeastSquares:
    """Choose smoothing parameters and fit every feature; the batch intercepts are not penalised."""
    problem = reduced(statistics)
    return with_intercepts(statistics, problem, fit_smoothing(problem, penalties, method=method, advance=advance))


def reduced(statistics: Statistics) -> Problem:
    """Project the batch intercepts out: what is left for the search of smoothing parameters."""
    n_batches, q, V = statistics.Z.shape
    Q, R = pooled_factor(statistics.R)
    stacked = statistics.Z.reshape(n_batches * q, V)
    f = Q.T @ stacked
    outside = stacked - Q @ f
    used = statistics.n > 0
    return Problem(
        R=R,
        f=f,
        residual_ss=statistics.residual_ss.sum(axis=0) + np.einsum("ij,ij->j", outside, outside),
        n=int(statistics.n.sum()),
        projected=int(used.sum()),
        log_det_projected=float(np.log(statistics.n[used]).sum()),
        R_full=np.vstack([R, np.sqrt(statistics.n)[:, None] * statistics.x_mean]),
    )


def with_intercepts(statistics: Statistics, problem: Problem, fit: SmoothingFit) -> LeastSquares:
    """Add batch intercepts and residuals to a fit of the reduced problem."""
    coefficients = np.ascontiguousarray(fit.coefficients)
    intercepts, residual_ss = by_batch(statistics, coefficients)
    return LeastSquares(coefficients, intercepts, residual_ss, problem.R, fit)
