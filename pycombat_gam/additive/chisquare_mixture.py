r"""Tail probabilities of Σ_j w_jχ²_{d_j}, by inversion of the characteristic function.

Imhof (1961), Biometrika 48:419–426, by adaptive quadrature; mgcv's `psum.chisq` runs Davies (1980), AS 155:

    P(Q > q) = ½ + 1/π ∫₀^∞ sin θ(u)/(u ρ(u)) du,   θ = ½Σd_j atan(w_ju) − ½qu,   ρ = Π(1 + w_j²u²)^{d_j/4}.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.integrate import quad

from pycombat_gam.types import FloatArray

ABSOLUTE = 1e-10
"""Error asked of the quadrature; a probability below it is not told from zero."""


def upper_tail(q: float, weights: FloatArray, df: FloatArray | None = None) -> float:
    """P(Σ_j w_jχ²_{d_j} > q).

    Parameters
    ----------
    q : the point; weights : (k,) of any sign; df : (k,) degrees of freedom, 1 by default.
    """
    weights = np.asarray(weights, dtype=np.float64)
    df = np.ones(weights.size) if df is None else np.asarray(df, dtype=np.float64)
    kept = (weights != 0) & (df > 0)
    weights, df = weights[kept], df[kept]
    if weights.size == 0:
        return float(q < 0)
    size = float(np.sqrt((df * weights**2).sum()))
    w, q = weights / size, q / size

    def integrand(u: float) -> float:
        theta = 0.5 * float((df * np.arctan(w * u)).sum()) - 0.5 * q * u
        log_rho = 0.25 * float((df * np.log1p((w * u) ** 2)).sum())
        return float(np.sin(theta) * np.exp(-log_rho)) / u if u > 0 else 0.5 * (float(df @ w) - q)

    end = 1.0
    while 0.25 * float((df * np.log1p((w * end) ** 2)).sum()) + np.log(end) < 30.0 and end < 1e12:
        end *= 1.5
    # The integrand turns over about every 2π/|q| at first: pieces of that length keep the quadrature honest.
    pieces = np.unique(np.concatenate([[0.0], np.geomspace(min(1e-3, end / 10), end, 60)]))
    total = sum(
        quad(integrand, a, b, epsabs=ABSOLUTE / 100, epsrel=1e-10, limit=200)[0] for a, b in pairwise(pieces.tolist())
    )
    return float(min(max(0.5 + total / np.pi, 0.0), 1.0))


def ratio_tail(statistic: float, weights: FloatArray, df_residual: float) -> float:
    """P(Σ_j w_jχ²_1 > statistic · χ²_k/k) with k residual degrees of freedom: the scale is estimated."""
    k = max(1.0, round(df_residual))
    return upper_tail(0.0, np.append(weights, -statistic / k), np.append(np.ones(len(weights)), k))
