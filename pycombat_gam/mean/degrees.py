r"""How many degrees of freedom a mean model leaves every batch: n_b − 1 − tr(M_b Φ_k), Φ_k = (M + S_k)⁻¹.

M_b = R_b'R_b is the batch's cross product of the design, M their sum and S_k the penalties of feature k. Without
penalties MΦ is a projection, and tr(M_bΦ) the squares of the batch's rows of Q in the QR of the stacked R_b. With one
penalty T'(M + cS)T = I and T'ST = diag(μ) give every feature at once: tr(M_bΦ_k) = Σ_j ‖R_bT_j‖²/(1 + (λ_k − c)μ_j).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.linalg import eigh

from pycombat_gam.design.design import Design
from pycombat_gam.mean.fit import Smoothing
from pycombat_gam.mean.posterior import penalised_inverse
from pycombat_gam.penalized.solve import pooled_factor
from pycombat_gam.penalized.sufficient import Statistics
from pycombat_gam.types import FloatArray, IntArray

BLOCK_BYTES = 2**24
INFINITE = 1e300
"""A practically infinite smoothing parameter whose products are still finite."""


def left_to_batches(design: Design, statistics: Statistics, smoothing: Smoothing, members: IntArray) -> FloatArray:
    """Return the degrees of freedom of each batch (B, k), or (B, 1) where all features have the same.

    Parameters
    ----------
    design : p columns; statistics : of k features that are observed on the same rows.
    smoothing : of all features; members : (k,) which of them these are.
    """
    return statistics.n[:, None] - 1.0 - _taken(design, statistics, smoothing, members)


def _taken(design: Design, statistics: Statistics, smoothing: Smoothing, members: IntArray) -> FloatArray:
    R = statistics.R
    B, p, _ = R.shape
    if not design.smooth.smooths:
        Q = pooled_factor(R)[0].reshape(B, p, p)
        return np.asarray(np.einsum("bij,bij->b", Q, Q)[:, None])
    penalties = design.smoothing_parameters().weighted(smoothing.parameters[:, members])
    if len(penalties) == 1:
        _, columns, S, weight = penalties[0]
        return _by_one(R, columns, S, np.minimum(weight, INFINITE))
    products = R.transpose(0, 2, 1) @ R
    information = products.sum(axis=0)
    whole = statistics.n @ statistics.x_mean**2
    taken = np.empty((B, members.size))
    for some in _chunks(members.size, p):
        of_some = [penalty.of(some) for penalty in penalties]
        inverse = penalised_inverse(information, whole, of_some, some.stop - some.start)
        taken[:, some] = products.reshape(B, -1) @ inverse.reshape(len(inverse), -1).T
    return taken


def _by_one(R: FloatArray, columns: slice, S: FloatArray, weight: FloatArray) -> FloatArray:
    """tr(M_bΦ) (B, k) for one penalty of some columns, by its weight (k,)."""
    B, p, _ = R.shape
    information = np.einsum("bij,bik->jk", R, R, optimize=True)
    size = np.sqrt(np.diag(information))
    size[size == 0] = 1.0
    penalty = np.zeros((p, p))
    penalty[columns, columns] = S
    penalty /= np.outer(size, size)
    scale = max(float(np.trace(penalty)), np.finfo(np.float64).tiny)
    # In units in which columns and penalty are of one size.
    mu, T = eigh(penalty / scale, information / np.outer(size, size) + penalty / scale)
    T /= size[:, None]
    mu = mu.clip(0.0, 1.0)
    held = np.array([np.einsum("ij,ij->j", half, half) for half in (R[b][np.any(R[b], axis=1)] @ T for b in range(B))])
    with np.errstate(over="ignore"):
        left = np.maximum(1.0 - mu[:, None] + np.outer(mu, weight * scale), np.finfo(np.float64).tiny)
    return np.asarray(held @ (1.0 / left))


def _chunks(k: int, p: int) -> Iterator[slice]:
    width = max(1, BLOCK_BYTES // (8 * max(p * p, 1)))
    for start in range(0, k, width):
        yield slice(start, min(start + width, k))
