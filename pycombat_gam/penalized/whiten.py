r"""Coordinates in which a penalised problem is small and well scaled.

1. Each smooth's coefficients are rotated into the null space of its penalties and the rest. The null spaces join the
   unpenalised columns, M in all with those projected earlier.
2. Each rest is whitened: Σ_j S_j/‖S_j‖ becomes the identity. Two penalties then commute, for A_1/c_1 + A_2/c_2 = I, as
   do any number of penalties with separate ranges (random-effect curves, t2, `select`), and one rotation makes them all
   diagonal. Only three or more that overlap (a tensor product of three variables) stay matrices.
3. The unpenalised columns are projected out, once, by QR.

Then all that the rows say about response y is z = Q'y (r numbers) and the sum of squares outside, and with K what is
left of the penalised columns

    minimise ‖z − Kv‖² + Σ_j λ_j v'A_jv + rss₀,      H = K'K + Σ_j λ_jA_j.

With diagonal A_j a huge λ adds to the diagonal of H alone, and a Cholesky factor of the matrix scaled to a unit
diagonal keeps its digits (van der Sluis 1969); a singular K (a random effect beside an intercept) does no harm.
log|X'WX + S| − log|S|₊ does not change with step 2 (both gain the same constant), so scores keep mgcv's constants.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, qr, solve_triangular

from pycombat_gam.penalized.problem import Penalties, PenaltyBlock, Problem
from pycombat_gam.types import FloatArray, IntArray

EPS = float(np.finfo(float).eps)
NULL = EPS**0.66
"""Eigenvalues of a normalised penalty below this share of the largest are its null space."""
INSIDE = 1e-11
"""A penalised column lies inside the span of the unpenalised ones that leave less than this share of it.

Exact dependence leaves about 1e-16 × √n.
"""
COMMUTE = 1e-9
"""Off-diagonal size, relative to 1, up to which whitened penalties count as diagonal: rounding of step 2."""


@dataclass(frozen=True, eq=False)
class Block:
    """The whitened penalties of one smooth.

    Attributes
    ----------
    rows : its place among the r penalised coordinates.
    members : its penalties among the m.
    diagonal : (members, r_j) the penalties' diagonals.
    dense : (members, r_j, r_j) where they are not diagonal, else None.
    """

    rows: slice
    members: IntArray
    diagonal: FloatArray
    dense: FloatArray | None


@dataclass(frozen=True, eq=False)
class Whitened:
    """The problem in its coordinates: r penalised of p, M unpenalised (projected ones included).

    Attributes
    ----------
    K : (any, r); z : (any, V); rss0 : (V,).
    blocks : the penalties, smooth by smooth; m : their number.
    M : unpenalised columns; n : rows; log_det_free : log|X_u'X_u| of them; log_weights : Σ log w.
    full : (any, r) the penalised columns before any projection, for ML.
    beta0 : (p, V), B : (p, r): the coefficients are β = beta0 + Bv, the unpenalised ones following v.
    C : (r, p) gives v from β.
    """

    K: FloatArray
    z: FloatArray
    rss0: FloatArray
    blocks: tuple[Block, ...]
    M: int
    n: int
    log_det_free: float
    log_weights: float
    full: FloatArray
    beta0: FloatArray
    B: FloatArray
    C: FloatArray

    @property
    def m(self) -> int:
        """Number of penalties."""
        return sum(block.members.size for block in self.blocks)

    @property
    def unexplained(self) -> FloatArray:
        """Sum of squares (V,) outside the span of all columns, which may be dependent."""
        everything = self.rss0 + np.einsum("iv,iv->v", self.z, self.z)
        total = self.rss0.copy()
        # Where rss₀ is more than rounding it is enough to know that.
        exact = np.flatnonzero(self.rss0 <= EPS * everything)
        if exact.size and self.K.size:
            size = np.linalg.norm(self.K, axis=0)
            Q, R, _ = qr(self.K[:, size > 0] / size[size > 0], mode="economic", pivoting=True)
            span = Q[:, : int((np.abs(np.diag(R)) > INSIDE).sum())]
            z = self.z[:, exact]
            outside = z - span @ (span.T @ z)
            outside -= span @ (span.T @ outside)
            total[exact] += np.einsum("iv,iv->v", outside, outside)
        return total

    @property
    def penalties(self) -> tuple[FloatArray, FloatArray | None]:
        """All A_j: (m, r) diagonals, and (m, r, r) where any block is not diagonal."""
        r = self.K.shape[1]
        diagonal = np.zeros((self.m, r))
        dense = np.zeros((self.m, r, r)) if any(block.dense is not None for block in self.blocks) else None
        for block in self.blocks:
            diagonal[block.members, block.rows] = block.diagonal
            if dense is not None:
                A = block.dense
                if A is None:
                    A = np.array([np.diag(row) for row in block.diagonal])
                dense[block.members, block.rows, block.rows] = A
        return diagonal, dense


def whiten(problem: Problem, penalties: Penalties) -> Whitened:
    """Change coordinates; the unpenalised columns must be of full rank."""
    p = problem.R.shape[0]
    covered = np.zeros(p, dtype=bool)
    free: list[FloatArray] = []
    held: list[FloatArray] = []
    blocks: list[Block] = []
    start, member = 0, 0
    for block in penalties.blocks:
        covered[block.columns] = True
        null, root, diagonal, dense = _split(block)
        for part, into in ((null, free), (root, held)):
            embedded = np.zeros((p, part.shape[1]))
            embedded[block.columns] = part
            into.append(embedded)
        members = np.arange(member, member + len(block.matrices), dtype=np.intp)
        blocks.append(Block(slice(start, start + root.shape[1]), members, diagonal, dense))
        start, member = start + root.shape[1], member + members.size
    T_free = np.hstack([np.eye(p)[:, ~covered], *free])
    T_held = np.hstack([np.zeros((p, 0)), *held])
    X_free, X_held = problem.R @ T_free, problem.R @ T_held
    size = np.sqrt(np.einsum("ij,ij->j", X_free, X_free))
    Q, R_free = np.linalg.qr(X_free / size)
    f_free, cross = Q.T @ problem.f, Q.T @ X_held
    left, X_left = problem.f - Q @ f_free, X_held - Q @ cross
    # Twice is enough (Kahan, Parlett): what the projection left by rounding goes too.
    left -= Q @ (Q.T @ left)
    X_left -= Q @ (Q.T @ X_left)
    # A smoothing parameter would be fitted to rounding (λ = 1e-20): such a column takes no part.
    whole = problem.R if problem.R_full is None else problem.R_full
    reach = np.linalg.norm(np.abs(whole) @ np.abs(T_held), axis=0)
    X_left[:, np.linalg.norm(X_left, axis=0) <= INSIDE * reach] = 0.0
    basis, K = np.linalg.qr(X_left)
    z = basis.T @ left
    to_free = np.asarray(solve_triangular(R_free, (T_free / size).T, trans="T").T)
    outside = left - basis @ z
    return Whitened(
        K=K,
        z=z,
        rss0=problem.residual_ss + np.einsum("ij,ij->j", outside, outside),
        blocks=tuple(blocks),
        M=T_free.shape[1] + problem.projected,
        n=problem.n,
        log_det_free=problem.log_det_projected + 2.0 * float(np.log(np.abs(np.diag(R_free)) * size).sum()),
        log_weights=problem.log_weights,
        full=whole @ T_held,
        beta0=to_free @ f_free,
        B=T_held - to_free @ cross,
        C=np.linalg.pinv(T_held),
    )


def _split(block: PenaltyBlock) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray | None]:
    """Null space (df, M_j), whitening root (df, r_j) of the rest, and the whitened penalties."""
    values, vectors = np.linalg.eigh(_normalised(block.matrices))
    keep = values > values[-1] * NULL
    null, span = vectors[:, ~keep], vectors[:, keep]
    inside = [span.T @ S @ span for S in block.matrices]
    whole = inside[0] if len(inside) == 1 else _normalised(inside)
    lower = cholesky((whole + whole.T) / 2, lower=True)
    root = np.asarray(solve_triangular(lower, span.T, lower=True).T)
    if len(inside) == 1:
        return null, root, np.ones((1, root.shape[1])), None
    stack = np.array([solve_triangular(lower, solve_triangular(lower, S, lower=True).T, lower=True) for S in inside])
    stack = (stack + stack.transpose(0, 2, 1)) / 2
    # Weights without a simple ratio: different joint eigenvalues then differ in the sum too.
    mix = np.tensordot(np.sqrt(np.arange(2.0, 2.0 + len(stack))) / np.linalg.norm(stack, axis=(1, 2)), stack, axes=1)
    turn = np.linalg.eigh(mix)[1]
    turned = turn.T @ stack @ turn
    diagonal = np.diagonal(turned, axis1=1, axis2=2).copy()
    scale = diagonal.max(axis=1)
    off = np.abs(turned - np.array([np.diag(row) for row in diagonal])).max(axis=(1, 2)) / scale
    if (off > COMMUTE).any():
        return null, root, np.diagonal(stack, axis1=1, axis2=2).copy(), stack
    diagonal[diagonal < COMMUTE * scale[:, None]] = 0.0
    return null, np.asarray(root @ turn), diagonal, None


def _normalised(matrices: tuple[FloatArray, ...] | list[FloatArray]) -> FloatArray:
    total = np.zeros_like(matrices[0])
    for S in matrices:
        total += S / np.linalg.norm(S)
    return np.asarray((total + total.T) / 2)
