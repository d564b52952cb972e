r"""How the features' noise hangs together: one shrunken correlation, and the tail of their joint density.

Σ is Ledoit and Wolf's (2004, J. Multivariate Analysis 88:365) shrunken covariance, z = L⁻¹e with Σ = LLᵀ, and z is
standard normal, or multivariate Student t with ν degrees of freedom scaled to unit variance:

.. math:: \log p(z) = \log\frac{Γ((ν+V)/2)}{Γ(ν/2)} - \tfrac V2\log((ν-2)π)
          - \tfrac{ν+V}2\log\Bigl(1+\frac{z'z}{ν-2}\Bigr).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.linalg import solve_triangular
from scipy.optimize import minimize_scalar
from torch import Tensor

from pycombat_gam.types import FloatArray

BASES = ("normal", "student_t")
LARGEST_DF = 1000.0
"""From here a Student t is a normal to three digits."""


def whitener(e: FloatArray) -> FloatArray:
    """Return L⁻¹ (V, V), lower triangular, of the shrunken covariance of residuals e (n, V) with mean zero."""
    from sklearn.covariance import ledoit_wolf

    covariance, _ = ledoit_wolf(e, assume_centered=True)
    L = np.linalg.cholesky(covariance)
    inverse: FloatArray = solve_triangular(L, np.eye(len(L)), lower=True)
    return inverse


def log_density(z: Tensor, df: Tensor) -> Tensor:
    """Return log p(z) (n,) for noise z (n, V); an infinite `df` is the normal."""
    V, square = z.shape[-1], (z * z).sum(-1)
    if not torch.isfinite(df):
        return -0.5 * square - 0.5 * V * math.log(2.0 * math.pi)
    constant = torch.lgamma((df + V) / 2) - torch.lgamma(df / 2) - 0.5 * V * torch.log((df - 2.0) * math.pi)
    return constant - (df + V) / 2 * torch.log1p(square / (df - 2.0))


def degrees_of_freedom(z: Tensor) -> float:
    """Return the ν of the largest likelihood; infinite where the normal is as good."""

    def minus(log_extra: float) -> float:
        return -float(log_density(z, torch.tensor(2.0 + math.exp(log_extra), dtype=z.dtype)).sum())

    found = minimize_scalar(minus, bounds=(math.log(0.1), math.log(LARGEST_DF)), method="bounded")
    df = 2.0 + math.exp(found.x)
    return df if df < 0.95 * LARGEST_DF else math.inf


def draw(rows: int, features: int, df: float, generator: torch.Generator) -> Tensor:
    """Draw noise, (rows, features)."""
    z = torch.randn((rows, features), dtype=torch.float64, generator=generator)
    if not math.isfinite(df):
        return z
    # A chi-square of whole degrees would be a sum of squares; of any, it is twice a standard gamma.
    seed = int(torch.randint(2**62, (1,), generator=generator))
    chi = 2.0 * np.random.default_rng(seed).standard_gamma(df / 2.0, size=(rows, 1))
    return z * torch.sqrt((df - 2.0) / torch.tensor(chi))
