r"""log|Σλ_jA_j| of the whitened penalties, with derivatives in log λ, whatever the ratios of the λ_j.

Smooths do not overlap, so it is a sum over blocks. A diagonal block with diagonals a_j gives Σ_i log Σ_j λ_ja_ji, a
log-sum-exp. For a block that stays dense the roots E_j = √λ_j A_j^½ are stacked and factored by a QR with rows sorted
by size and columns pivoted, which is accurate when some rows are 10⁸ times others (Cox & Higham 1998); the blocks Q_j
of its orthonormal factor give tr(S⁻¹λ_jA_j) = ‖Q_j‖² and tr(S⁻¹λ_jA_jS⁻¹λ_kA_k) = ‖Q_jQ_k'‖².
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import qr
from scipy.special import logsumexp

from pycombat_gam.penalized.whiten import EPS, Block, Whitened
from pycombat_gam.types import FloatArray


@dataclass(frozen=True, eq=False)
class LogDeterminant:
    """Value (v,), gradient (v, m) and Hessian (v, m, m) in log λ."""

    value: FloatArray
    gradient: FloatArray
    hessian: FloatArray


def log_determinant(problem: Whitened, rho: FloatArray) -> LogDeterminant:
    """log|Σλ_jA_j| at rho (v, m) = log λ."""
    v, m = rho.shape
    value, gradient, hessian = np.zeros(v), np.zeros((v, m)), np.zeros((v, m, m))
    for block in problem.blocks:
        rho_block = rho[:, block.members]
        if len(block.members) == 1:
            r = block.rows.stop - block.rows.start
            value += r * rho_block[:, 0]
            gradient[:, block.members[0]] = r
            continue
        part = _diagonal(block, rho_block) if block.dense is None else _dense(block, rho_block)
        value += part.value
        gradient[:, block.members] = part.gradient
        hessian[np.ix_(np.arange(v), block.members, block.members)] = part.hessian
    return LogDeterminant(value, gradient, hessian)


def _diagonal(block: Block, rho: FloatArray) -> LogDeterminant:
    with np.errstate(divide="ignore"):
        terms = rho[:, :, None] + np.log(block.diagonal)
    total = logsumexp(terms, axis=1)
    share = np.exp(terms - total[:, None])
    gradient = share.sum(axis=2)
    hessian = -np.matmul(share, share.transpose(0, 2, 1))
    hessian[:, np.arange(rho.shape[1]), np.arange(rho.shape[1])] += gradient
    return LogDeterminant(total.sum(axis=1), gradient, hessian)


def _dense(block: Block, rho: FloatArray) -> LogDeterminant:
    assert block.dense is not None
    roots = [_root(A) for A in block.dense]
    ends = np.cumsum([len(root) for root in roots])[:-1]
    v, m = rho.shape
    value, gradient, hessian = np.empty(v), np.empty((v, m)), np.empty((v, m, m))
    for i, row in enumerate(rho):
        shift = row.max()
        stacked = np.concatenate([np.exp((x - shift) / 2) * root for x, root in zip(row, roots, strict=True)])
        size = np.sqrt(np.einsum("ij,ij->j", stacked, stacked))
        scaled = stacked / size
        order = np.argsort(-np.abs(scaled).max(axis=1), kind="stable")
        sorted_Q, triangle, _ = qr(scaled[order], mode="economic", pivoting=True)
        Q = np.empty_like(sorted_Q)
        Q[order] = sorted_Q
        value[i] = 2.0 * (np.log(np.abs(np.diag(triangle))).sum() + np.log(size).sum()) + shift * size.size
        grams = np.array([part.T @ part for part in np.split(Q, ends)])
        gradient[i] = np.einsum("jaa->j", grams)
        hessian[i] = np.diag(gradient[i]) - np.einsum("jab,kab->jk", grams, grams)
    return LogDeterminant(value, gradient, hessian)


def _root(A: FloatArray) -> FloatArray:
    """E (rank, r) with E'E = A."""
    values, vectors = np.linalg.eigh(A)
    keep = values > values[-1] * EPS**0.66
    return np.asarray(np.sqrt(values[keep])[:, None] * vectors[:, keep].T)
