r"""Elementwise monotone maps, whose raw parameters come from a network; zeros give the identity.

    affine:            z = x exp(a) + b, a limited to ±log 1000
    spline quadratic:  rational-quadratic (Durkan et al. 2019, arXiv:1906.04032), zuko's `MonotonicRQSTransform`
    spline linear:     linear rational (Dolatabadi et al. 2020), see `rational`

They can be combined: the affine map, then a spline.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from zuko.transforms import MonotonicRQSTransform

from pycombat_gam.flow.networks.rational import LinearRationalSpline

BOUND = 5.0
"""Splines bend within ±5 sd and are the identity outside."""
LIMIT = math.log(1e3)


def limited(log_scale: Tensor) -> Tensor:
    """Return a log-scale kept within ±log 1000, smoothly, with slope 1 at zero."""
    return log_scale / (1 + log_scale.abs() / LIMIT)


@dataclass(frozen=True)
class Univariate:
    """A family of monotone maps.

    Attributes
    ----------
    affine : whether it has an affine map (first, in the direction from data to noise).
    spline : "quadratic", "linear" or None.
    bins : bins K of the spline.
    """

    affine: bool
    spline: str | None
    bins: int

    @property
    def size(self) -> int:
        """Raw parameters per feature."""
        return 2 * self.affine + {None: 0, "quadratic": 3 * self.bins - 1, "linear": 4 * self.bins - 1}[self.spline]

    def forward(self, x: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and log dz/dx, both of the shape of x (…), given raw parameters (…, size)."""
        log_slope = torch.zeros_like(x)
        if self.affine:
            log_slope = limited(raw[..., 1])
            x = x * log_slope.exp() + raw[..., 0]
            raw = raw[..., 2:]
        if self.spline == "quadratic":
            z, more = self._quadratic(raw).call_and_ladj(x)
        elif self.spline == "linear":
            z, more = LinearRationalSpline(raw, BOUND).forward(x)
        else:
            return x, log_slope
        return z, log_slope + more

    def inverse(self, z: Tensor, raw: Tensor) -> Tensor:
        """Return x of z."""
        shape = raw[..., 2 * self.affine :]
        if self.spline == "quadratic":
            z = self._quadratic(shape).inv(z)
        elif self.spline == "linear":
            z = LinearRationalSpline(shape, BOUND).inverse(z)
        return (z - raw[..., 0]) * (-limited(raw[..., 1])).exp() if self.affine else z

    def _quadratic(self, raw: Tensor) -> MonotonicRQSTransform:
        return MonotonicRQSTransform(*torch.split(raw, [self.bins, self.bins, self.bins - 1], -1), bound=BOUND)
