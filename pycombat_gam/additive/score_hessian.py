r"""Curvature of the REML or ML score of a Gaussian additive model in the log smoothing parameters and log φ.

With D = rss + β'Sβ, n rows, M the dimension of the penalties' joint null space and γ = 1 unless smoother is wanted
(Wood 2011, §2; Wood, Pya & Säfken 2016, §4),

    V(ρ, log φ) = D/(2φγ) + ½ log|H| − ½ log|S|₊ + ½ (n/γ − M) log φ + const,      ρ_j = log λ_j,

H = X'WX + S for REML. For ML the null space is not integrated out: M = 0, and H is U'(X'WX + S)U on an orthonormal
basis U of the penalties' range. With e_j = E_jβ and v_j = Q_j'e_j (see `factor`),

    ∂D/∂ρ_j = ‖e_j‖²,     ∂²D/∂ρ_j∂ρ_k = δ_jk‖e_j‖² − 2v_j'v_k,     ∂β/∂ρ_j = −Tv_j.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pycombat_gam.additive.factor import Factor, penalized_factor, penalty_range
from pycombat_gam.errors import OptionError
from pycombat_gam.types import FloatArray


@dataclass(frozen=True, eq=False)
class ScoreCurvature:
    """Second-order facts of a score at one point.

    Attributes
    ----------
    hessian : (r + 1, r + 1) in the r free log smoothing parameters, then log φ.
    coefficients : (p, r) ∂β/∂ρ in the free parameters.
    scale : φ where the Hessian was taken.
    """

    hessian: FloatArray
    coefficients: FloatArray
    scale: float


def score_curvature(
    factor: Factor,
    R: FloatArray,
    coefficients: FloatArray,
    rss: float,
    n: int,
    *,
    method: str,
    L: FloatArray | None = None,
    null_dim: int | None = None,
    gamma: float = 1.0,
    score_scale: float | None = None,
) -> ScoreCurvature:
    """Hessian of the score and derivative of the coefficients (R: `outer.info$hess` and `db.drho` of a gam).

    Parameters
    ----------
    factor : `penalized_factor(R, roots)`.
    R : (any, p) with R'R = X'WX.
    coefficients : (p,); rss : weighted residual sum of squares; n : rows.
    method : "REML" or "ML".
    L : (m, r) with log λ = L ρ + constant; None for the identity.
    null_dim : M; None counts it from the penalties.
    gamma : γ above.
    score_scale : φ at which to take the Hessian; None for the one that minimises the score given the λ.
    """
    if method not in ("REML", "ML"):
        raise OptionError(f"method '{method}' has no likelihood: give 'REML' or 'ML'")
    m = len(factor.roots)
    free = np.eye(m) if L is None else np.asarray(L, dtype=float).reshape(m, -1)
    shares = [root @ coefficients for root in factor.roots]
    pulls = np.array([Q.T @ e for Q, e in zip(factor.penalties, shares, strict=True)]).reshape(m, factor.rank)
    first = np.array([float(e @ e) for e in shares])
    deviance = rss + float(first.sum())

    curvature = np.zeros((m, m))
    p, r = coefficients.size, 0
    if m:
        basis = penalty_range(factor.roots)
        r = basis.shape[1]
        inside = [root @ basis for root in factor.roots]
        curvature = factor.curvature if method == "REML" else penalized_factor(R @ basis, inside).curvature
        curvature = curvature - penalized_factor(None, inside).curvature
    lost = (p - r if null_dim is None else null_dim) if method == "REML" else 0
    phi = deviance / gamma / (n / gamma - lost) if score_scale is None else score_scale

    half = 2.0 * phi * gamma
    hessian = np.empty((m + 1, m + 1))
    hessian[:m, :m] = (np.diag(first) - 2.0 * pulls @ pulls.T) / half + curvature / 2.0
    hessian[m, :m] = hessian[:m, m] = -first / half
    hessian[m, m] = deviance / half
    widened = np.zeros((m + 1, free.shape[1] + 1))
    widened[:m, :-1], widened[m, -1] = free, 1.0
    return ScoreCurvature(widened.T @ hessian @ widened, -(factor.inverse_root @ pulls.T) @ free, phi)
