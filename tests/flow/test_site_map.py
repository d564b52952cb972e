"""What a site does to a value: inverse, slope, and what its parameters mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from pycombat_gam.flow.mechanisms import site_map


def effects(m: int, size: float = 0.5, seed: int = 0) -> torch.Tensor:
    return size * torch.from_numpy(np.random.default_rng(seed).normal(size=(m, 3, 5)))


def rows(n: int = 500, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(3.0 * rng.normal(size=(n, 5))), torch.from_numpy(rng.integers(0, 3, n))


@pytest.mark.parametrize("m", [2, 4])
def test_do_undoes_undo(m: int) -> None:
    x, site = rows()
    w, _ = site_map.undo(x, effects(m), site)
    # Both directions are closed forms of a few elementary functions; w reaches 1e3, where its last digit is 1e-13.
    np.testing.assert_allclose(site_map.do(w, effects(m), site), x, rtol=0, atol=1e-11)


@pytest.mark.parametrize("m", [2, 4])
def test_slope_is_the_derivative(m: int) -> None:
    x, site = rows(40)
    x.requires_grad_()
    w, log_slope = site_map.undo(x, effects(m), site)
    (slope,) = torch.autograd.grad(w.sum(), x)
    assert (slope > 0).all()
    # Here and below: autograd beside the formula, or one map two ways: rounding.
    np.testing.assert_allclose(torch.log(slope), log_slope.detach(), rtol=0, atol=1e-12)


def test_no_shape_is_location_and_scale() -> None:
    x, site = rows()
    flat = torch.cat([effects(2), torch.zeros((2, 3, 5), dtype=torch.float64)])
    # One map, effects of zero added: rounding.
    np.testing.assert_allclose(site_map.undo(x, flat, site)[0], site_map.undo(x, effects(2), site)[0], atol=1e-12)


def test_constants_are_what_they_are_said_to_be() -> None:
    mean = quad(lambda z: (np.sqrt(1 + z * z) - 1) * norm.pdf(z), -30, 30, epsabs=1e-13)[0]
    assert mean == pytest.approx(site_map.MU, abs=1e-12)
    # Orthogonal at the identity: no information is shared between the four. Quadrature of 100 nodes is good to 1e-6.
    information = site_map.information()
    np.testing.assert_allclose(information, torch.diag(torch.diagonal(information)), rtol=0, atol=2e-6)
    np.testing.assert_allclose(torch.diagonal(information)[:2], [1.0, 2.0], rtol=1e-9)


def test_location_and_scale_stay_mean_and_sd_whatever_the_shape() -> None:
    """Exactly for the mean at t = 1; to first order elsewhere."""
    z, share = np.polynomial.hermite_e.hermegauss(80)
    share = share / share.sum()
    for skewness in (-1.0, 0.3, 1.5):
        shape = torch.tensor([0.0, 0.0, skewness, 0.0], dtype=torch.float64)[:, None, None]
        h = site_map.do(torch.from_numpy(z)[:, None], shape, torch.zeros(80, dtype=torch.long)).numpy()[:, 0]
        assert share @ h == pytest.approx(0.0, abs=1e-3)  # quadrature of a root: 80 nodes give three digits
