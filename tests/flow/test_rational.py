"""Linear rational splines: identity at zero, smooth, monotone, inverted exactly, with the Jacobian of autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pycombat_gam.flow.networks.rational import LinearRationalSpline
from pycombat_gam.flow.networks.univariate import Univariate

BINS = 6


def raw(*shape: int, seed: int = 0, spread: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(*shape, 4 * BINS - 1, dtype=torch.float64, generator=generator)


def test_zero_parameters_are_the_identity() -> None:
    x = torch.linspace(-7, 7, 501, dtype=torch.float64)
    z, log_slope = LinearRationalSpline(torch.zeros(4 * BINS - 1, dtype=torch.float64)).forward(x)
    torch.testing.assert_close(z, x, rtol=0, atol=1e-14)  # a few roundings of numbers up to 5
    torch.testing.assert_close(log_slope, torch.zeros_like(x), rtol=0, atol=1e-13)


@pytest.mark.parametrize("seed", range(4))
def test_inverse(seed: int) -> None:
    x = torch.linspace(-7, 7, 2001, dtype=torch.float64)
    spline = LinearRationalSpline(raw(2001, seed=seed))
    z, log_slope = spline.forward(x)
    # Rounding of z (1e-15) divided by the slope, which is at least about 1e-3 squared where knots crowd.
    error = (spline.inverse(z) - x).abs() * log_slope.exp().clamp(max=1)
    assert error.max() < 1e-13


def test_knots_are_inverted_too() -> None:
    spline = LinearRationalSpline(raw())
    z, _ = spline.forward(spline.x)
    torch.testing.assert_close(z, spline.y, rtol=0, atol=1e-14)
    torch.testing.assert_close(spline.inverse(spline.y), spline.x, rtol=0, atol=1e-11)  # slopes down to 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_log_slope_is_the_derivative(seed: int) -> None:
    x = torch.linspace(-6, 6, 1001, dtype=torch.float64, requires_grad=True)
    z, log_slope = LinearRationalSpline(raw(seed=seed)).forward(x)
    (slope,) = torch.autograd.grad(z.sum(), x)
    assert (slope > 0).all()
    torch.testing.assert_close(log_slope, slope.log(), rtol=0, atol=1e-9)  # slopes of 1e3 lose some digits


def test_slope_is_continuous_at_knots() -> None:
    """Across each knot, and into the tails, g′ has no step: what makes it a density without kinks."""
    spline = LinearRationalSpline(raw(spread=1.0))
    step = 1e-9
    _, below = spline.forward(spline.x - step)
    _, above = spline.forward(spline.x + step)
    torch.testing.assert_close(below, above, rtol=0, atol=1e-6)  # the second derivative (up to 100s) times the step
    torch.testing.assert_close(above, spline.d.log(), rtol=0, atol=1e-6)


def test_gradients_are_finite_everywhere() -> None:
    """The branch that torch.where drops must not send NaN back."""
    parameters = raw(9).requires_grad_()
    x = torch.tensor([-1e6, -5, -4.9, -1, 0, 1, 4.9, 5, 1e6], dtype=torch.float64, requires_grad=True)
    z, log_slope = LinearRationalSpline(parameters).forward(x)
    (z.sum() + log_slope.sum()).backward()
    assert parameters.grad is not None and torch.isfinite(parameters.grad).all()
    assert x.grad is not None and torch.isfinite(x.grad).all()


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("spline", [None, "quadratic", "linear"])
def test_univariate_maps_share_one_contract(affine: bool, spline: str | None) -> None:
    family = Univariate(affine, spline, BINS)
    generator = torch.Generator().manual_seed(3)
    x = 2 * torch.randn(50, 3, dtype=torch.float64, generator=generator)
    parameters = torch.randn(50, 3, family.size, dtype=torch.float64, generator=generator)
    x.requires_grad_()
    z, log_slope = family.forward(x, parameters)
    (slope,) = torch.autograd.grad(z.sum(), x)
    torch.testing.assert_close(log_slope, slope.log(), rtol=0, atol=1e-10)  # rounding
    torch.testing.assert_close(family.inverse(z, parameters), x, rtol=0, atol=1e-10)  # rounding over slopes ≥ 1e-3
    same, flat = family.forward(x, torch.zeros_like(parameters))
    torch.testing.assert_close(same, x, rtol=0, atol=1e-14)  # rounding
    torch.testing.assert_close(flat, torch.zeros_like(x), rtol=0, atol=1e-13)
