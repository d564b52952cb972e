"""What randomizes the prior of an ensemble's members has the covariance of the prior's own score."""

import numpy as np
import torch

from pycombat_gam.flow.mechanisms.structured import StructuredFlow


def test_pulls_have_the_information_of_the_prior() -> None:
    rng = np.random.default_rng(1)
    B, V, p, draws = 3, 4, 2, 5_000
    flow = StructuredFlow(
        "residual",
        rng.standard_normal((p, V)),
        rng.standard_normal((2, B, V)),
        preconditioner=np.eye(p)[None],
        roots=rng.standard_normal((1, 2, p)),
        smoothing=rng.uniform(0.5, 2.0, (1, V)),
        sizes=np.array([5.0, 8.0, 13.0]),
        base="normal",
        known=np.ones((B, V), dtype=bool),
    )
    flow.width.copy_(torch.tensor(rng.uniform(0.5, 2.0, (2, B))))
    flow.spread.copy_(torch.tensor([0.3, 0.7]))
    pulls = [flow.draw_pull(rng, [2, 0, 1]) for _ in range(draws)]
    unit = flow._unit()
    names = ("shift", "step")
    # In the parameters that are trained: β = start + F step with F = 1, effects = first + unit · shift.
    seen = np.stack([np.append((unit * effects).ravel(), beta.T.ravel()) for effects, beta in pulls])

    def penalty(flat: torch.Tensor) -> torch.Tensor:
        parts = (flat[: 2 * B * V].reshape(2, B, V), flat[2 * B * V :].reshape(V, p))
        return torch.func.functional_call(
            _Penalty(flow), {f"flow.{n}": v for n, v in zip(names, parts, strict=True)}, ()
        )

    information = torch.autograd.functional.hessian(penalty, torch.zeros(2 * B * V + V * p, dtype=torch.float64))
    sd = np.sqrt(np.diag(information))
    gap = (np.cov(seen.T) - information.numpy()) / np.outer(sd, sd)
    assert np.abs(gap).max() < 0.1
    assert np.abs(seen.mean(axis=0) / sd).max() < 0.1


class _Penalty(torch.nn.Module):
    def __init__(self, flow: StructuredFlow) -> None:
        super().__init__()
        self.flow = flow

    def forward(self) -> torch.Tensor:
        return self.flow.prior()
