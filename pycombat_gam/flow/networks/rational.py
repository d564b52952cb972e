r"""Monotone splines of linear rational functions (Dolatabadi, Erfani & Leckie 2020, arXiv:2001.05168, algorithm 1).

The spline has K bins on [−b, b], with knots (x_k, y_k), derivatives d_k > 0 at the knots, and one more knot inside each
bin, at the share λ of its width. Outside it is the identity, with d₀ = d_K = 1. With φ = (x − x_k)/(x_{k+1} − x_k), s
the slope of the bin's chord and

    w₀ = 1,  w₁ = √(d_k / d_{k+1}),  y_m = ((1−λ) w₀ y_k + λ w₁ y_{k+1}) / ((1−λ) w₀ + λ w₁),
    w_m = (λ w₀ d_k + (1−λ) w₁ d_{k+1}) / s,

    g(φ) = (w₀ y_k (λ−φ) + w_m y_m φ) / (w₀ (λ−φ) + w_m φ)                        φ ≤ λ
    g(φ) = (w_m y_m (1−φ) + w₁ y_{k+1} (φ−λ)) / (w_m (1−φ) + w₁ (φ−λ))            φ > λ

Both pieces invert in closed form, without the square root that the quadratic spline needs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

SLOPE = 1e-3
"""Widths, heights and derivatives stay within a factor of this, as in zuko's quadratic spline."""
EDGE = 0.025
"""λ stays this far from 0 and 1, as in the paper."""


@dataclass(frozen=True, eq=False)
class _Piece:
    """The half-bin of each value: its ends (left, right) with their weights, in φ and in y."""

    inside: Tensor
    x0: Tensor
    width: Tensor
    phi0: Tensor
    phi1: Tensor
    y0: Tensor
    y1: Tensor
    w0: Tensor
    w1: Tensor


class LinearRationalSpline:
    """The spline of raw parameters (…, 4K−1); zero raw parameters give the identity.

    Parameters
    ----------
    raw : (…, 4K−1): widths (K), heights (K), derivatives at inner knots (K−1), places of the middle knots (K).
    bound : the spline's end b.
    """

    def __init__(self, raw: Tensor, bound: float = 5.0) -> None:
        bins = (raw.shape[-1] + 1) // 4
        widths, heights, derivatives, middles = torch.split(raw, [bins, bins, bins - 1, bins], -1)
        self.x = _knots(widths, bound)
        self.y = _knots(heights, bound)
        limited = derivatives / (1 + abs(derivatives / math.log(SLOPE)))
        self.d = torch.exp(functional.pad(limited, (1, 1)))
        self.middle = EDGE + (1 - 2 * EDGE) * torch.sigmoid(middles)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return g(x) and log g′(x), of the shape of x (…)."""
        piece = self._piece(self.x, x, in_y=False)
        phi = torch.where(piece.inside, (x - piece.x0) / piece.width, piece.phi0)
        left, right = piece.w0 * (piece.phi1 - phi), piece.w1 * (phi - piece.phi0)
        total = left + right
        y = (left * piece.y0 + right * piece.y1) / total
        log_slope = (
            (piece.w0 * piece.w1 * (piece.phi1 - piece.phi0) * (piece.y1 - piece.y0) / piece.width).log()
            - 2 * total.log()
        )  # fmt: skip
        return torch.where(piece.inside, y, x), torch.where(piece.inside, log_slope, torch.zeros_like(log_slope))

    def inverse(self, y: Tensor) -> Tensor:
        """Return x with g(x) = y, of the shape of y (…)."""
        piece = self._piece(self.y, y, in_y=True)
        safe = torch.where(piece.inside, y, piece.y0)
        left, right = piece.w0 * (safe - piece.y0), piece.w1 * (piece.y1 - safe)
        phi = (left * piece.phi1 + right * piece.phi0) / (left + right)
        return torch.where(piece.inside, piece.x0 + piece.width * phi, y)

    def _piece(self, knots: Tensor, value: Tensor, *, in_y: bool) -> _Piece:
        bins = self.middle.shape[-1]
        place = (knots < value.unsqueeze(-1)).sum(-1) - 1
        inside = (place >= 0) & (place < bins)
        index = place.clamp(0, bins - 1).unsqueeze(-1)
        x0, x1 = _at(self.x, index), _at(self.x, index + 1)
        y0, y1 = _at(self.y, index), _at(self.y, index + 1)
        d0, d1 = _at(self.d, index), _at(self.d, index + 1)
        share = _at(self.middle, index)
        width = x1 - x0
        w1 = (d0 / d1).sqrt()
        # y_m as an offset from y0, so that both halves have positive height for any λ and w₁.
        y_m = y0 + (y1 - y0) * share * w1 / ((1 - share) + share * w1)
        w_m = (share * d0 + (1 - share) * w1 * d1) * width / (y1 - y0)
        # A left half is (0, λ) with weights (1, w_m), a right half (λ, 1) with (w_m, w₁): one formula for both.
        right = value > y_m if in_y else value > x0 + share * width
        zero, unit = torch.zeros_like(share), torch.ones_like(share)
        return _Piece(
            inside,
            x0,
            width,
            torch.where(right, share, zero),
            torch.where(right, unit, share),
            torch.where(right, y_m, y0),
            torch.where(right, y1, y_m),
            torch.where(right, w_m, unit),
            torch.where(right, w1, w_m),
        )


def _knots(raw: Tensor, bound: float) -> Tensor:
    """Return K+1 ascending knots from −bound to bound (…, K+1) of K raw widths."""
    limited = raw / (1 + abs(2 * raw / math.log(SLOPE)))
    inner = torch.cumsum(functional.softmax(limited, -1), -1)[..., :-1]
    return bound * (2 * functional.pad(functional.pad(inner, (1, 0)), (0, 1), value=1.0) - 1)


def _at(values: Tensor, index: Tensor) -> Tensor:
    return values.expand(*index.shape[:-1], values.shape[-1]).gather(-1, index).squeeze(-1)
