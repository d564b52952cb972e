r"""How many degrees of freedom a mean model leaves every batch: n_b − 1 − tr(M_b Φ_k), Φ_k = (M + S_k)⁻¹.

M_b = R_b'R_b is the batch's cross product of the design, M their sum and S_k the penalties of feature k. With the QR of
the stacked R_b = Q_bR, an orthonormal basis F of what no penalty touches in R's coordinates, and K = (I − FF')RU, what
is left there of the penalised directions U,

    tr(M_bΦ_k) = ‖Q_bF‖² + tr(Q_bK (K'K + U'S_kU)⁻¹ K'Q_b'),

which squares no part of the design that is not penalised: nearly collinear covariates cost no digits. With one penalty
U'SU = I and the singular values σ_j and vectors a_j of K give every feature at once: Σ_j ‖Q_ba_j‖² σ_j²/(σ_j² + λ_k).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.linalg import block_diag

from pycombat_gam.design.design import Design
from pycombat_gam.design.penalties import Penalty
from pycombat_gam.mean.fit import Smoothing
from pycombat_gam.mean.posterior import AS_GOOD_AS_INFINITE
from pycombat_gam.penalized.solve import pooled_factor
from pycombat_gam.penalized.sufficient import Statistics
from pycombat_gam.penalized.whiten import INSIDE
from pycombat_gam.types import FloatArray, IntArray

BLOCK_BYTES = 2**24
NULL = 1e-10
"""An eigenvalue of a penalty below this share of its largest is zero: rounding leaves 1e-15."""
LOOSEST = 1e-12
"""Beside others a penalty counts as no less than this multiple of the data, for an inverse loses digits below it."""


def left_to_batches(design: Design, statistics: Statistics, smoothing: Smoothing, members: IntArray) -> FloatArray:
    """Return the degrees of freedom of each batch (B, k), or (B, 1) where all features have the same.

    Parameters
    ----------
    design : p columns; statistics : of k features that are observed on the same rows.
    smoothing : of all features; members : (k,) which of them these are.
    """
    taken = _taken(design, statistics, smoothing, members)
    return np.asarray(statistics.n[:, None] - 1.0 - taken, dtype=np.float64)


def _taken(design: Design, statistics: Statistics, smoothing: Smoothing, members: IntArray) -> FloatArray:
    B, p, _ = statistics.R.shape
    stacked, R = pooled_factor(statistics.R)
    Q = stacked.reshape(B, p, p)
    if not design.smooth.smooths:
        return np.asarray(_squares(Q).sum(axis=1, keepdims=True))
    penalties = design.smoothing_parameters().weighted(smoothing.parameters[:, members])
    free, penalised = split_penalised(penalties, p)
    size = np.sqrt(np.einsum("ij,ij->j", R @ free, R @ free))
    F = np.linalg.qr(R @ free / np.where(size > 0, size, 1.0))[0]
    K = R @ penalised
    K -= F @ (F.T @ K)
    K -= F @ (F.T @ K)
    unpenalised = _squares(Q @ F).sum(axis=1, keepdims=True)
    if len(penalties) == 1:
        vectors, values, _ = np.linalg.svd(K, full_matrices=False)
        # What is left of columns that batches or other terms hold is rounding.
        raw = np.vstack([R, np.sqrt(statistics.n)[:, None] * statistics.x_mean]) @ penalised
        squares = np.where(values > INSIDE * np.linalg.norm(raw), values, 0.0)[:, None] ** 2
        total = squares + penalties[0].weight
        kept = np.divide(squares, total, out=np.zeros_like(total), where=total > 0)
        return np.asarray(unpenalised + _squares(Q @ vectors) @ kept)
    return np.asarray(unpenalised + _by_several(Q @ K, penalties, penalised, members.size))


def split_penalised(penalties: Sequence[Penalty], p: int) -> tuple[FloatArray, FloatArray]:
    """Return bases of what no penalty touches (p, p₀) and of the rest (p, r), there with penalties of size one."""
    blocks: dict[tuple[int, int], FloatArray] = {}
    for penalty in penalties:
        place = (penalty.columns.start, penalty.columns.stop)
        blocks[place] = blocks.get(place, 0.0) + penalty.matrix / max(float(np.trace(penalty.matrix)), 1e-300)
    if len(penalties) == 1:
        blocks = dict.fromkeys(blocks, penalties[0].matrix)
    free, rest, at = [], [], 0
    for (start, stop), S in sorted(blocks.items(), key=lambda item: item[0]):
        values, vectors = np.linalg.eigh(S)
        touched = values > NULL * values[-1]
        free += [np.eye(start - at), vectors[:, ~touched]]
        rest += [np.zeros((start - at, 0)), vectors[:, touched] / np.sqrt(values[touched])]
        at = stop
    free.append(np.eye(p - at))
    rest.append(np.zeros((p - at, 0)))
    return np.asarray(block_diag(*free)), np.asarray(block_diag(*rest))


def _by_several(K: FloatArray, penalties: Sequence[Penalty], penalised: FloatArray, k: int) -> FloatArray:
    """Return the penalised part of tr(M_bΦ) (B, k), from each batch's rows of K (B, p, r)."""
    products = K.transpose(0, 2, 1) @ K
    information = products.sum(axis=0)
    r = len(information)
    scale = float(np.trace(information))
    taken = np.zeros((len(K), k))
    if not scale:
        return taken
    within = [U.T @ penalty.matrix @ U for penalty in penalties for U in [penalised[penalty.columns]]]
    for some in _chunks(k, r):
        total = np.repeat(information[None], some.stop - some.start, axis=0)
        for penalty, S in zip(penalties, within, strict=True):
            unit = scale / max(float(np.trace(S)), 1e-300)
            total += np.clip(penalty.weight[some], LOOSEST * unit, AS_GOOD_AS_INFINITE * unit)[:, None, None] * S
        size = 1.0 / np.sqrt(np.diagonal(total, axis1=1, axis2=2))
        inverse = np.linalg.inv(total * size[:, :, None] * size[:, None, :])
        inverse *= size[:, :, None] * size[:, None, :]
        taken[:, some] = products.reshape(len(K), -1) @ inverse.reshape(len(inverse), -1).T
    return taken


def _squares(columns: FloatArray) -> FloatArray:
    """Return sums of squares of the columns of each batch, (B, any), from (B, p, any)."""
    return np.asarray(np.einsum("bij,bij->bj", columns, columns))


def _chunks(k: int, p: int) -> Iterator[slice]:
    width = max(1, BLOCK_BYTES // (8 * max(p * p, 1)))
    for start in range(0, k, width):
        yield slice(start, min(start + width, k))
