r"""Per-batch sufficient statistics of a design X (n×q) and many responses Y (n×V).

For each batch b, with centred X̃_b = X_b − 1x̄_b' = Q_bR_b and Ỹ_b = Y_b − 1ȳ_b', we keep

    n_b,  x̄_b (q),  R_b (q×q),  ȳ_b (V),  Z_b = Q_b'Ỹ_b (q×V),  s_b = ‖Ỹ_b − Q_bZ_b‖² per feature (V).

That is all that any fit with batch intercepts needs to know of the rows. Centring by batch *is* projecting the batch
columns out, so the intercepts follow from the means. s_b is the difference ‖Y_b‖² − n_bȳ_b² − ‖Z_b‖² only where that
costs less than three digits of sixteen; elsewhere (an offset of 10⁶, a fit with R² = 1 − 10⁻¹²) residuals are formed
and squared. Merging two sets of statistics adds squares, so digits are never lost to subtraction.

Merging (chunks of rows, remote sites, in any order): means by the usual weighted update; R and Z by one QR of the
stacked [R₁; R₂; √(n₁n₂/n)(x̄₁ − x̄₂)'] with [Z₁; Z₂; √(n₁n₂/n)(ȳ₁ − ȳ₂)'] carried along; what falls outside the
range of R adds to s. (Chan, Golub & LeVeque 1983 for the means; Golub & Van Loan §6.5 for updating a QR.)

Cost: O(nqV) multiplications, one pass over Y in blocks that fit the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from pycombat_gam.types import Advance, BoolArray, FloatArray, IntArray

_BLOCK_BYTES = 2**21
_CANCELLATION = 1e-3
"""Where less than this share of a sum of squares is left, subtracting would cost more than three digits."""


@dataclass(frozen=True, eq=False)
class DesignFactor:
    """The rows of a design, grouped by batch and factored.

    Attributes
    ----------
    order : (n,) rows, grouped by batch, stable within one.
    bounds : (B + 1,) batch b owns ``order[bounds[b]:bounds[b + 1]]``.
    Q : (n, q) in grouped order; within a batch orthonormal columns that sum to zero.
    R : (B, q, q) with Q_b R_b equal to the batch-centred design; zero rows where n_b − 1 < q.
    x_mean : (B, q).
    """

    order: IntArray
    bounds: IntArray
    Q: FloatArray
    R: FloatArray
    x_mean: FloatArray

    @property
    def n(self) -> IntArray:
        """Rows per batch, shape (B,)."""
        return np.diff(self.bounds)

    def slices(self) -> list[slice]:
        """Return the grouped rows of each batch."""
        return [slice(int(a), int(b)) for a, b in pairwise(self.bounds)]


@dataclass(frozen=True, eq=False)
class Statistics:
    """Sufficient statistics of one group of features that were observed on the same rows.

    Attributes
    ----------
    n : (B,) observed rows per batch.
    x_mean : (B, q); R : (B, q, q).
    y_mean : (B, V), zero where n is zero; Z : (B, q, V); residual_ss : (B, V).
    constant : (B, V) whether all observed raw values are equal, or neighbours in the last digit of their type.
    """

    n: IntArray
    x_mean: FloatArray
    R: FloatArray
    y_mean: FloatArray
    Z: FloatArray
    residual_ss: FloatArray
    constant: BoolArray

    def select(self, features: IntArray) -> Statistics:
        """Return the statistics of some of the features."""
        if features.size == self.y_mean.shape[1]:
            return self
        return replace(
            self,
            y_mean=self.y_mean[:, features],
            Z=self.Z[:, :, features],
            residual_ss=self.residual_ss[:, features],
            constant=self.constant[:, features],
        )


def group_rows(codes: IntArray, n_batches: int) -> tuple[IntArray, IntArray]:
    """Return the stable order that groups rows by batch, and the bounds of the groups."""
    order = np.argsort(codes, kind="stable")
    bounds = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=n_batches))])
    return order.astype(np.intp), bounds.astype(np.intp)


def factor_design(X: FloatArray, codes: IntArray, n_batches: int, rows: IntArray | None = None) -> DesignFactor:
    """Centre the design within batches and take a QR of each.

    Parameters
    ----------
    X : (n, q) design without the batch columns.
    codes : (n,) batch of each row, 0 … n_batches − 1.
    n_batches : number of batches B; a batch without rows is allowed.
    rows : the rows to use; None for all.
    """
    if rows is None:
        order, bounds = group_rows(codes, n_batches)
    else:
        inside, bounds = group_rows(codes[rows], n_batches)
        order = rows[inside]
    q = X.shape[1]
    Q = np.zeros((order.size, q))
    R = np.zeros((n_batches, q, q))
    x_mean = np.zeros((n_batches, q))
    for b in range(n_batches):
        group = slice(int(bounds[b]), int(bounds[b + 1]))
        Xb = X[order[group]]
        if Xb.shape[0] == 0 or q == 0:
            continue
        # The first row is taken off before averaging: an offset then costs no digits.
        mean = Xb[0] + (Xb - Xb[0]).mean(axis=0)
        centred = Xb - mean
        mean_left = centred.mean(axis=0)
        x_mean[b] = mean + mean_left
        Qb, Rb = np.linalg.qr(centred - mean_left)
        rank = Rb.shape[0]
        Q[group, :rank] = Qb
        R[b, :rank] = Rb
    return DesignFactor(order, bounds, Q, R, x_mean)


def last_digit(Y: np.ndarray) -> float:
    """Relative distance of neighbouring numbers in the type of Y."""
    return float(np.finfo(Y.dtype if Y.dtype.kind == "f" else np.float64).eps)


def is_constant(low: FloatArray, high: FloatArray, digit: float) -> BoolArray:
    """Tell whether smallest and largest value are equal, or neighbours in their last digit (0.3 and 0.1 + 0.2)."""
    with np.errstate(invalid="ignore"):
        return high - low <= digit * np.abs(low)


def blocks(Y: np.ndarray, rows: IntArray) -> Iterator[tuple[slice, FloatArray]]:
    """Cut rows of Y into blocks of features that fit the cache: yields (columns, a float64 copy to work in)."""
    if not rows.size:
        return
    width = max(16, _BLOCK_BYTES // (8 * rows.size))
    for left in range(0, Y.shape[1], width):
        columns = slice(left, min(left + width, Y.shape[1]))
        yield columns, np.ascontiguousarray(Y[rows, columns], dtype=np.float64)


def accumulate(Y: np.ndarray, factor: DesignFactor, advance: Advance | None = None) -> Statistics:
    """Reduce the rows of Y (n×V, complete on the rows of `factor`) to their statistics, in one pass.

    A feature with a missing or infinite value gets a non-finite `y_mean` or `residual_ss`; nothing is raised here.

    Parameters
    ----------
    Y : (n, V) real array of any dtype and memory order; computed in float64.
    factor : from `factor_design`, for the rows to use.
    advance : called with the number of cells read.
    """
    n_batches, q = factor.x_mean.shape
    V = Y.shape[1]
    digit = last_digit(Y)
    y_mean = np.zeros((n_batches, V))
    Z = np.zeros((n_batches, q, V))
    residual_ss = np.zeros((n_batches, V))
    constant = np.zeros((n_batches, V), dtype=bool)
    for b, group in enumerate(factor.slices()):
        rows, Q = factor.order[group], factor.Q[group]
        if not rows.size:
            continue
        projector = np.vstack([np.full(rows.size, 1.0 / rows.size), Q.T])
        for columns, block in blocks(Y, rows):
            with np.errstate(all="ignore"):
                projected = projector @ block
                mean, Zb = projected[0], projected[1:]
                total = np.einsum("ij,ij->j", block, block)
                left_ss = total - rows.size * mean**2 - np.einsum("ij,ij->j", Zb, Zb)
                lossy = np.flatnonzero(left_ss <= _CANCELLATION * total)
                if lossy.size:
                    some = _Careful.of(block[:, lossy], mean[lossy], Q, digit)
                    mean[lossy], Zb[:, lossy], left_ss[lossy] = some.mean, some.Z, some.residual_ss
                    constant[b, columns.start + lossy] = some.constant
            y_mean[b, columns], Z[b, :, columns], residual_ss[b, columns] = mean, Zb, left_ss
            if advance is not None:
                advance(block.size)
    return Statistics(factor.n, factor.x_mean, factor.R, y_mean, Z, residual_ss, constant)


@dataclass(frozen=True, eq=False)
class _Careful:
    """Statistics of a few features whose sums of squares cancel: a large offset, a close fit, a constant."""

    mean: FloatArray
    Z: FloatArray
    residual_ss: FloatArray
    constant: BoolArray

    @classmethod
    def of(cls, block: FloatArray, mean: FloatArray, Q: FloatArray, digit: float) -> _Careful:
        """Centre twice, project, and sum the squares of what is left."""
        constant = is_constant(block.min(axis=0), block.max(axis=0), digit)
        mean = np.where(constant, block[0], mean)
        centred = block - mean
        mean_left = centred.mean(axis=0)
        centred -= mean_left
        Z = Q.T @ centred
        residual = centred - Q @ Z
        return cls(mean + mean_left, Z, np.einsum("ij,ij->j", residual, residual), constant)


def merge(a: Statistics, b: Statistics) -> Statistics:
    """Return the statistics of the rows of `a` and `b` together (same batches, features and design columns)."""
    n = a.n + b.n
    same = is_constant(np.minimum(a.y_mean, b.y_mean), np.maximum(a.y_mean, b.y_mean), np.finfo(np.float64).eps)
    share = np.divide(b.n, n, out=np.zeros(n.shape), where=n > 0)[:, None]
    x_step, y_step = b.x_mean - a.x_mean, b.y_mean - a.y_mean
    weight = np.sqrt(a.n * share[:, 0])[:, None]
    R = np.zeros_like(a.R)
    Z = np.zeros_like(a.Z)
    residual_ss = a.residual_ss + b.residual_ss
    q = a.R.shape[1]
    for k in range(n.size):
        stacked_R = np.concatenate([a.R[k], b.R[k], weight[k] * x_step[k][None]])
        stacked_Z = np.concatenate([a.Z[k], b.Z[k], weight[k] * y_step[k][None]])
        Qk, Rk = np.linalg.qr(stacked_R, mode="complete")
        projected = Qk.T @ stacked_Z
        R[k], Z[k] = Rk[:q], projected[:q]
        residual_ss[k] += np.einsum("ij,ij->j", projected[q:], projected[q:])
    empty_a, empty_b = (a.n == 0)[:, None], (b.n == 0)[:, None]
    return Statistics(
        n=n,
        x_mean=np.where(empty_a, b.x_mean, a.x_mean + share * x_step),
        R=R,
        y_mean=np.where(empty_a, b.y_mean, a.y_mean + share * y_step),
        Z=Z,
        residual_ss=residual_ss,
        constant=np.where(empty_a, b.constant, np.where(empty_b, a.constant, a.constant & b.constant & same)),
    )
