"""Small flows, parents and data for the tests of this folder; nothing here touches the global random state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from pycombat_gam.flow.mechanisms.conditional import ConditionalFlow, conditional
from pycombat_gam.flow.mechanisms.mechanism import Parents
from pycombat_gam.flow.training.rows import Rows

FLOWS = [
    ("affine", None),
    ("spline", "quadratic"),
    ("spline", "linear"),
    ("autoregressive", None),
    ("autoregressive", "quadratic"),
    ("autoregressive", "linear"),
    ("coupling", None),
    ("coupling", "quadratic"),
]
COLUMNS, SITES = 3, 4


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def flow_of(family: str, spline: str | None, features: int, *, base: str = "normal", seed: int = 0) -> ConditionalFlow:
    return conditional(
        family, features=features, columns=COLUMNS, sites=SITES, seed=seed, spline=spline, hidden=(12, 12), base=base
    )


def shake(module: nn.Module, *, seed: int = 5, by: float = 0.3) -> None:
    """Move every parameter off its start, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(by * torch.randn(parameter.shape, dtype=parameter.dtype, generator=generator))


def parents_of(n: int, *, seed: int = 1) -> Parents:
    site = torch.randint(0, SITES, (n,), generator=torch.Generator().manual_seed(seed))
    return Parents(normal(n, COLUMNS, seed=seed), site)


def study(n: int = 240, features: int = 5, *, seed: int = 2) -> Rows:
    """Simulate correlated features with effects of covariates and site on location and scale."""
    rng = np.random.default_rng(seed)
    site, design = rng.integers(0, SITES, n), rng.standard_normal((n, COLUMNS))
    mixing = np.linalg.cholesky(0.5 * np.eye(features) + 0.5)
    noise = rng.standard_normal((n, features)) @ mixing.T
    scale = np.exp(0.3 * rng.standard_normal((SITES, features)))[site]
    x = 10 + design @ rng.standard_normal((COLUMNS, features)) + rng.standard_normal((SITES, features))[site]
    x = x + scale * noise
    return Rows(x, x.mean(0), x.std(0), design, site, np.ones(n), torch.device("cpu"))


@contextmanager
def guest() -> Iterator[None]:
    """Check that nothing global changes; one thread meanwhile, for these tensors are too small to share."""
    before, legacy, threads = torch.get_rng_state(), _numpy_state(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(before, torch.get_rng_state())
    assert legacy == _numpy_state()
    assert torch.get_default_dtype() == torch.float32


def _numpy_state() -> str:
    with np.printoptions(threshold=10**6):
        return repr(np.random.get_state())  # noqa: NPY002 - it is read to show that it stays
