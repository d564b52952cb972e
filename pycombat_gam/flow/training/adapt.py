r"""A site that was not in the fit: its map is estimated from its rows, and the rest of the model stays as it was.

For the structured flow, θ_k ~ N(c, τ²) over features and c ~ N(m, ω²), with τ², m and ω² from the sites of the fit.
With fewer rows the map stays nearer to that of an average site.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pycombat_gam.flow.mechanisms import density, site_map
from pycombat_gam.flow.mechanisms.conditional import ConditionalFlow
from pycombat_gam.flow.mechanisms.mechanism import FeatureMechanism, Parents
from pycombat_gam.flow.mechanisms.structured import StructuredFlow, location_integral
from pycombat_gam.flow.training.train import Rows, Training, train
from pycombat_gam.types import FloatArray, IntArray


def adapted(
    mechanism: FeatureMechanism, rows: Rows, order: IntArray, settings: Training, seed: int, label: str
) -> tuple[FeatureMechanism, FloatArray]:
    """Return a mechanism with one more site, the last, and the weight of its rows in its map.

    Parameters
    ----------
    mechanism : mechanism of B sites, each with its own map.
    rows : rows of the new site alone, with code B; order : (n,) their canonical order.

    Returns
    -------
    mechanism : mechanism of B + 1 sites.
    share : (m,) weight of the rows, against the prior, in each parameter of the map; empty for conditional flows.
    """
    if isinstance(mechanism, StructuredFlow):
        new = _NewSite(mechanism, len(rows))
        train(new, rows, order, order[:0], settings=settings, seed=seed, stage=label)
        return new.joined(), new.share()
    assert isinstance(mechanism, ConditionalFlow)
    flow = mechanism.with_site()
    train(flow, rows, order, order[:0], settings=settings, seed=seed, stage=label)
    return flow, np.zeros(0)


class _NewSite(FeatureMechanism):
    """The map of one new site around a frozen structured flow."""

    full_batch = True

    def __init__(self, flow: StructuredFlow, rows: int) -> None:
        super().__init__()
        # In a tuple, outside the module's tree: frozen.
        self._flow, self._rows = (flow,), rows
        with torch.no_grad():
            centre = flow.effects.mean(-1)
            share = flow.sizes / flow.sizes.sum()
            self.register_buffer("centre", centre.mean(-1))
            self.register_buffer("width", flow.width @ share)
            self.register_buffer("spread", flow.spread.clone())
            each = torch.diagonal(site_map.information())[: len(centre)].to(flow.sizes)
            self.register_buffer("information", each * rows)
            self.register_buffer("unit", torch.rsqrt(self.information + 1.0 / self.width))
        V = flow.first.shape[2]
        self.shift = nn.Parameter(torch.zeros((len(centre), 1, V), dtype=torch.float64, device=flow.first.device))

    centre: Tensor
    width: Tensor
    spread: Tensor
    information: Tensor
    unit: Tensor

    def effects(self) -> Tensor:
        """Return the parameters of the new site, (m, 1, V)."""
        return self.centre[:, None, None] + self.shift * self.unit[:, None, None]

    def residual(self, x: Tensor, parents: Parents) -> tuple[Tensor, Tensor]:
        """Return e and log de/dx, (n, V)."""
        flow, only = self._flow[0], torch.zeros_like(parents.site)
        f = parents.design @ flow.coefficients
        if flow.variant.startswith("whole"):
            w, log_slope = site_map.undo(x, self.effects(), only)
            return w - f, log_slope
        return site_map.undo(x - f, self.effects(), only)

    def abduct(self, x: Tensor, parents: Parents) -> tuple[Tensor, Tensor]:
        """Return e and its log-determinant."""
        e, log_slope = self.residual(x, parents)
        return e, log_slope.sum(-1)

    def predict(self, noise: Tensor, parents: Parents) -> Tensor:
        """Return the values of a noise, by the whole flow."""
        return self.joined().observed(noise, parents)

    def base_log_prob(self, noise: Tensor) -> Tensor:
        """Return the log-density of a noise as training sees it, feature by feature."""
        return density.log_density(noise, None)

    def draw(self, rows: int, rng: np.random.Generator) -> Tensor:
        """Draw noise as training sees it, (rows, V)."""
        return density.draw(rows, self.shift.shape[-1], None, rng)

    def reorder_sites(self, place: IntArray) -> None:
        """There is one site only."""

    def penalty(self) -> Tensor:
        """Return minus the log-prior of the new site's parameters."""
        effects = self.effects()[:, 0]
        centre = effects.mean(-1, keepdim=True)
        within = ((effects - centre) ** 2).sum(-1) / self.width
        between = (centre[:, 0] - self.centre) ** 2 / self.spread
        rows = self.width.new_tensor([float(self._rows)])
        return 0.5 * (within + between).sum() + location_integral(effects[1:2], rows, self.width[:1])

    def share(self) -> FloatArray:
        """Return the weight of the rows in each parameter."""
        weight: FloatArray = (self.information / (self.information + 1.0 / self.width)).cpu().numpy()
        return weight

    @torch.no_grad()
    def joined(self) -> StructuredFlow:
        """Return the flow with the new site as its last."""
        flow = self._flow[0]
        state = flow.state_dict()
        state["first"] = torch.cat([flow.effects, self.effects()], dim=1)
        state["shift"] = torch.zeros_like(state["first"])
        state["sizes"] = torch.cat([flow.sizes, flow.sizes.new_tensor([float(self._rows)])])
        state["width"] = torch.cat([flow.width, self.width[:, None]], dim=1)
        state["known"] = torch.cat([flow.known, torch.ones_like(flow.known[:1])])
        bigger = StructuredFlow.from_config({**flow.config(), "sites": len(flow.sizes) + 1})
        bigger.load_state_dict(state)
        return bigger.to(flow.first.device)
