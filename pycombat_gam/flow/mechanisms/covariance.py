"""Covariance of the features' noise: one shrunken covariance for all sites.

Σ is Ledoit and Wolf's (2004, J. Multivariate Analysis 88:365), and z = L⁻¹e with Σ = LLᵀ.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

from pycombat_gam.types import FloatArray


def whitener(e: FloatArray) -> FloatArray:
    """Return L⁻¹ (V, V), lower triangular, for the shrunken covariance of residuals e (n, V) with mean zero."""
    from sklearn.covariance import ledoit_wolf

    covariance, _ = ledoit_wolf(e, assume_centered=True)
    L = np.linalg.cholesky(covariance)
    inverse: FloatArray = solve_triangular(L, np.eye(len(L)), lower=True)
    return inverse
