r"""One QR of a penalised least-squares problem, from which every trace and inverse is read without differences.

With R'R = X'WX, λ_jS_j = E_j'E_j and T upper triangular (after pivoting),

    [R; E_1; …; E_m] = [Q_0; Q_1; …; Q_m] T⁻¹,      Σ_j Q_j'Q_j = I,      (X'WX + S)⁻¹ = TT',

so tr(H⁻¹λ_jS_j) = ‖Q_j‖² and tr(H⁻¹λ_jS_jH⁻¹λ_kS_k) = tr(Q_j'Q_jQ_k'Q_k): products of numbers in [−1, 1], whatever
the smoothing parameters. Rows are sorted by size and columns pivoted, which keeps a QR accurate when some rows are
10⁸ times others (Cox & Higham 1998), as those of a nearly infinite λ are. The same holds for log|S|₊ of overlapping
penalties, with R left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import qr, solve_triangular

from pycombat_gam.types import FloatArray

_EPS = float(np.finfo(float).eps)


@dataclass(frozen=True, eq=False)
class Factor:
    """The decomposition above for p coefficients of which `rank` are identified.

    Attributes
    ----------
    inverse_root : (p, rank) T, with (X'WX + S)⁻¹ = TT'; rows of coefficients that cannot be identified are zero.
    data : (rows of R, rank) Q_0; empty where no R was given.
    penalties : per penalty (rank S_j, rank) Q_j.
    roots : per penalty (rank S_j, p) E_j.
    rank : number of identified coefficients.
    """

    inverse_root: FloatArray
    data: FloatArray
    penalties: tuple[FloatArray, ...]
    roots: tuple[FloatArray, ...]
    rank: int

    @property
    def curvature(self) -> FloatArray:
        """(m, m) second derivatives of log|X'WX + S| (or log|S|) in the logs of the λ_j."""
        grams = [Q.T @ Q for Q in self.penalties]
        m = len(grams)
        second = np.empty((m, m))
        for j in range(m):
            for k in range(j + 1):
                second[j, k] = second[k, j] = -float(np.vdot(grams[j], grams[k]))
            second[j, j] += float(np.trace(grams[j]))
        return second


def penalty_root(S: FloatArray) -> FloatArray:
    """E (rank, p) with E'E = S for a positive semi-definite S (p, p).

    Only the rows and columns that S touches enter the eigenvalue problem, so that a small block of a large matrix
    keeps its own scale.
    """
    used = np.flatnonzero(np.abs(S).max(axis=0) > 0) if S.size else np.zeros(0, dtype=np.intp)
    if used.size == 0:
        return np.zeros((0, S.shape[0]))
    block = S[np.ix_(used, used)]
    values, vectors = np.linalg.eigh((block + block.T) / 2)
    keep = values > values[-1] * _EPS**0.8
    root = np.zeros((int(keep.sum()), S.shape[0]))
    root[:, used] = np.sqrt(values[keep])[:, None] * vectors[:, keep].T
    return root


def penalized_factor(R: FloatArray | None, roots: Sequence[FloatArray]) -> Factor:
    """Decompose [R; E_1; …; E_m].

    Parameters
    ----------
    R : (any, p) with R'R = X'WX, or None for the penalties alone.
    roots : E_j (rank S_j, p), the λ_j within; see `penalty_root`.
    """
    blocks = ([] if R is None else [R]) + list(roots)
    stacked = np.concatenate(blocks)
    p = stacked.shape[1]
    size = np.sqrt(np.einsum("ij,ij->j", stacked, stacked))
    size[size == 0] = 1.0
    scaled = stacked / size
    order = np.argsort(-np.abs(scaled).max(axis=1, initial=0.0), kind="stable")
    Q_sorted, triangle, pivot = qr(scaled[order], mode="economic", pivoting=True)
    diagonal = np.abs(np.diag(triangle))
    rank = int(np.sum(diagonal > 100 * _EPS * diagonal.max(initial=0.0)))
    Q = np.empty((stacked.shape[0], rank))
    Q[order] = Q_sorted[:, :rank]
    inverse_root = np.zeros((p, rank))
    inverse_root[pivot[:rank]] = solve_triangular(triangle[:rank, :rank], np.eye(rank))
    inverse_root /= size[:, None]
    ends = np.cumsum([block.shape[0] for block in blocks])[:-1]
    parts = np.split(Q, ends)
    data = np.zeros((0, rank)) if R is None else parts.pop(0)
    return Factor(inverse_root, data, tuple(parts), tuple(roots), rank)


def penalty_range(roots: Sequence[FloatArray]) -> FloatArray:
    """Orthonormal basis (p, r) of the space that the penalties E_j see together, none drowned by another's λ_j."""
    p = roots[0].shape[1]
    total = np.zeros((p, p))
    for root in roots:
        S = root.T @ root
        norm = float(np.linalg.norm(S))
        if norm > 0:
            total += S / norm
    values, vectors = np.linalg.eigh(total)
    basis: FloatArray = vectors[:, values > values[-1] * _EPS**0.66] if values[-1] > 0 else np.zeros((p, 0))
    return basis
