r"""Covariances and effective degrees of freedom of one penalised fit.

With H = X'WX + S and F = H⁻¹X'WX (Wood 2017, §§4.2.4, 6.10, 6.12):

    Vp = H⁻¹φ,      Ve = FH⁻¹φ,      edf = diag F,      edf1 = diag(2F − FF).

Wood, Pya & Säfken (2016, §4) add the uncertainty of the smoothing parameters,

    Vc = Vp + JV_ρJ' + φ Σ_jk [V*_ρ]_jk (∂C/∂ρ_j)(∂C/∂ρ_k)',      edf2 = diag(VcX'WX)/φ,

where J = ∂β/∂ρ, CC' = H⁻¹ with C = (Cholesky factor of H)⁻¹, V_ρ is the pseudo-inverse of the score's Hessian on its
positive eigenvalues and V*_ρ the inverse of that Hessian plus 0.1·I (a vague prior on ρ that bounds what a flat
direction, a λ at infinity, may contribute). log φ is in the Hessian and its inverse; only then its row is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from pycombat_gam.additive.factor import Factor, penalized_factor, penalty_root
from pycombat_gam.additive.score_hessian import ScoreCurvature, score_curvature
from pycombat_gam.types import FloatArray

PRIOR_PRECISION = 0.1
"""Precision of the prior on each log smoothing parameter in V*_ρ (mgcv's value)."""


@dataclass(frozen=True, eq=False)
class Covariance:
    """Covariances and degrees of freedom of p coefficients, under mgcv's names.

    Attributes
    ----------
    Vp, Ve : (p, p) Bayesian and frequentist covariance.
    Vc : (p, p) Vp corrected for the uncertainty of the smoothing parameters; None where the method gives none (GCV).
    F : (p, p) effective-degrees-of-freedom matrix H⁻¹X'WX.
    edf, edf1 : (p,) per coefficient; a term's is the sum over its coefficients.
    edf2 : (p,), from Vc, or edf1 where its total would exceed edf1's; None with Vc.
    rank : identified coefficients; the others have zero rows here.
    """

    Vp: FloatArray
    Ve: FloatArray
    Vc: FloatArray | None
    F: FloatArray
    edf: FloatArray
    edf1: FloatArray
    edf2: FloatArray | None
    rank: int


def covariance(
    R: FloatArray,
    penalties: Sequence[FloatArray],
    scale: float,
    *,
    method: str = "GCV",
    coefficients: FloatArray | None = None,
    rss: float | None = None,
    n: int | None = None,
    L: FloatArray | None = None,
    null_dim: int | None = None,
    gamma: float = 1.0,
    score_scale: float | None = None,
) -> Covariance:
    """Covariances and degrees of freedom (R: `Vp`, `Ve`, `Vc`, `edf`, `edf1`, `edf2` of a gam).

    Parameters
    ----------
    R : (any, p) with R'R = X'WX, the coefficients in the order of the model: Vc depends on it (a Cholesky factor's
        derivative does).
    penalties : λ_jS_j, each (p, p).
    scale : φ, rss / (n − total edf) in a gam.
    method : "REML" or "ML", which give Vc and edf2 and need `coefficients`, `rss` and `n`; anything else gives neither.
    coefficients : (p,); rss : weighted residual sum of squares; n : rows.
    L : (m, r), log λ = L ρ + constant, for linked (`id=`) or fixed smoothing parameters; None if all are free.
    null_dim, gamma, score_scale : see `score_hessian.score_curvature`.
    """
    factor = penalized_factor(R, [penalty_root(np.asarray(S, dtype=float)) for S in penalties])
    root = factor.inverse_root
    unpenalized = root @ factor.data.T
    Vp = scale * (root @ root.T)
    Ve = scale * (unpenalized @ unpenalized.T)
    F = unpenalized @ R
    edf = np.diag(F).copy()
    edf1 = 2.0 * edf - np.einsum("ij,ji->i", F, F)
    if method not in ("REML", "ML"):
        return Covariance(Vp, Ve, None, F, edf, edf1, None, factor.rank)
    if coefficients is None or rss is None or n is None:
        raise TypeError("Vc needs coefficients, rss and n")
    score = score_curvature(
        factor, R, coefficients, rss, n, method=method, L=L, null_dim=null_dim, gamma=gamma, score_scale=score_scale
    )
    Vc = Vp + _shift(score) + scale * _stretch(factor, score, L)
    edf2 = np.einsum("ij,ij->i", Vc, R.T @ R) / scale
    if edf2.sum() > edf1.sum():
        edf2 = edf1
    return Covariance(Vp, Ve, Vc, F, edf, edf1, edf2, factor.rank)


def _shift(score: ScoreCurvature) -> FloatArray:
    """JV_ρJ' (p, p): the coefficients move with ρ."""
    values, vectors = np.linalg.eigh(score.hessian)
    known = values > 0
    J = score.coefficients
    moved = J @ vectors[: J.shape[1], known] / np.sqrt(values[known])
    shift: FloatArray = moved @ moved.T
    return shift


def _stretch(factor: Factor, score: ScoreCurvature, L: FloatArray | None) -> FloatArray:
    r"""Σ_jk [V*_ρ]_jk ∂C_j∂C_k' (p, p): the spread of the coefficients changes with ρ.

    For H = K'K and C = K⁻¹, ∂C = −CΦ(C'∂H C), where Φ keeps the upper triangle and half the diagonal.
    Zero for a singular H, which has no Cholesky factor.
    """
    p, r = score.coefficients.shape
    if factor.rank < p or r == 0:
        return np.zeros((p, p))
    # K is triangular in the model's order of coefficients, T only after pivoting: one more QR turns one into the other.
    turn, upper = np.linalg.qr(np.linalg.inv(factor.inverse_root))
    C = solve_triangular(upper, np.eye(p))
    halves = []
    for Q in factor.penalties:
        turned = Q @ turn
        gram = turned.T @ turned
        halves.append(np.triu(gram, 1) + np.diag(np.diag(gram) / 2.0))
    mixing = np.eye(len(halves)) if L is None else np.asarray(L, dtype=float).reshape(len(halves), -1)
    steps = np.einsum("jk,jab->kab", mixing, np.array(halves))
    values, vectors = np.linalg.eigh(score.hessian)
    half = vectors[:r] / np.sqrt(np.maximum(values, 0.0) + PRIOR_PRECISION)
    stretch = np.zeros((p, p))
    for column in half.T:
        moved = C @ np.einsum("k,kab->ab", column, steps)
        stretch += moved @ moved.T
    return stretch
