r"""Distribution of the noise: standard normal, or multivariate Student t with unit variance.

.. math:: \log p(z) = \log\frac{Γ((ν+V)/2)}{Γ(ν/2)} - \tfrac V2\log((ν-2)π)
          - \tfrac{ν+V}2\log\Bigl(1+\frac{z'z}{ν-2}\Bigr), \qquad ν > 2.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

BASES = ("normal", "student_t")
LARGEST_DF = 1000.0
"""With so many degrees of freedom, Student's t is normal to three digits."""


def log_density(z: Tensor, df: Tensor | None) -> Tensor:
    """Return log p(z), (n,), of noise z (n, V); normal without `df`."""
    V, square = z.shape[-1], (z * z).sum(-1)
    if df is None:
        return -0.5 * square - 0.5 * V * math.log(2.0 * math.pi)
    constant = torch.lgamma((df + V) / 2) - torch.lgamma(df / 2) - 0.5 * V * torch.log((df - 2.0) * math.pi)
    return constant - (df + V) / 2 * torch.log1p(square / (df - 2.0))


def degrees_of_freedom(z: Tensor) -> float:
    """Return the maximum likelihood estimate of ν for noise z (n, V), between 2.1 and `LARGEST_DF`."""

    def minus(log_extra: float) -> float:
        return -float(log_density(z, torch.tensor(2.0 + math.exp(log_extra)).to(z)).sum())

    minimum = minimize_scalar(minus, bounds=(math.log(0.1), math.log(LARGEST_DF - 2.0)), method="bounded")
    return 2.0 + math.exp(float(minimum.x))


def draw(rows: int, features: int, df: float | None, rng: np.random.Generator) -> Tensor:
    """Draw noise, (rows, features)."""
    z = rng.standard_normal((rows, features))
    if df is not None:
        z *= np.sqrt((df - 2.0) / rng.chisquare(df, size=(rows, 1)))
    return torch.from_numpy(z)
