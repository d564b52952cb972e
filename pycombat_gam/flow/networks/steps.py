r"""The steps of a conditional flow, each an invertible map of V features given a row's covariates and site.

`forward` maps data to noise, in one pass for every step, and returns log |det|; `inverse` maps back. Neither writes in
place, so that gradients and `torch.func.vmap` over stacked parameters pass through both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pycombat_gam.flow.mechanisms.mechanism import Parents
from pycombat_gam.flow.networks.network import Network, SiteWeights, zeros
from pycombat_gam.flow.networks.univariate import Univariate, limited


@dataclass(frozen=True, eq=False)
class Layout:
    """The shared layout of a flow's steps: V features, p columns, B sites, hidden sizes, generator of weights."""

    features: int
    columns: int
    sites: int
    hidden: Sequence[int]
    adapted: bool
    generator: torch.Generator = field(repr=False)

    def network(self, outputs: int, *, inputs: int = 0, degrees: tuple[Tensor, Tensor] | None = None) -> Network:
        """Return a network of this layout."""
        return Network(
            self.columns,
            self.sites,
            outputs,
            self.hidden,
            self.generator,
            inputs=inputs,
            degrees=degrees,
            adapted=self.adapted,
        )


class Step(nn.Module, ABC):
    """An invertible map of the features."""

    @abstractmethod
    def forward(self, x: Tensor, parents: Parents) -> tuple[Tensor, Tensor]:
        """Return z (n, V) and log |det ∂z/∂x| (n,)."""

    @abstractmethod
    def inverse(self, z: Tensor, parents: Parents) -> Tensor:
        """Return x (n, V) of z (n, V)."""


class ConditionalAffine(Step):
    r"""z = (x − m) exp(−s),  m = c W + 1_site M + m_θ(c, site),  s = 1_site A + limited(s_θ(c, site)).

    The networks m_θ and s_θ start at zero, so that the flow starts as a linear location–scale model: ComBat's.

    Attributes
    ----------
    location_design : (p, V) W.
    location_site, log_scale_site : M and A, a row of V for each site.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.location_design = zeros(layout.columns, layout.features)
        self.location_site = SiteWeights(layout.sites, layout.features, adapted=layout.adapted)
        self.log_scale_site = SiteWeights(layout.sites, layout.features, adapted=layout.adapted)
        self.network = layout.network(2 * layout.features)

    def _parameters_of(self, parents: Parents) -> tuple[Tensor, Tensor]:
        shift, log_scale = self.network(parents).chunk(2, -1)
        location = parents.design @ self.location_design + self.location_site(parents.site) + shift
        return location, self.log_scale_site(parents.site) + limited(log_scale)

    def forward(self, x: Tensor, parents: Parents) -> tuple[Tensor, Tensor]:
        """See `Step`."""
        location, log_scale = self._parameters_of(parents)
        return (x - location) * (-log_scale).exp(), -log_scale.sum(-1)

    def inverse(self, z: Tensor, parents: Parents) -> Tensor:
        """See `Step`."""
        location, log_scale = self._parameters_of(parents)
        return z * log_scale.exp() + location


class Elementwise(Step):
    """A monotone map of each feature, whose parameters are the sum of the site's own and a network's output.

    A distortion of a feature by its site, the same for all subjects, needs no network.
    """

    def __init__(self, layout: Layout, univariate: Univariate) -> None:
        super().__init__()
        self.univariate = univariate
        self.of_site = SiteWeights(layout.sites, layout.features * univariate.size, adapted=layout.adapted)
        self.network = layout.network(layout.features * univariate.size)

    def _raw(self, parents: Parents) -> Tensor:
        outputs: Tensor = self.of_site(parents.site) + self.network(parents)
        return outputs.reshape(len(parents), -1, self.univariate.size)

    def forward(self, x: Tensor, parents: Parents) -> tuple[Tensor, Tensor]:
        """See `Step`."""
        z, log_slope = self.univariate.forward(x, self._raw(parents))
        return z, log_slope.sum(-1)

    def inverse(self, z: Tensor, parents: Parents) -> Tensor:
        """See `Step`."""
        return self.univariate.inverse(z, self._raw(parents))


class Autoregressive(Step):
    r"""z_k = u(x_k; θ_k(x_{<k}, c, site)): masked autoregressive (Papamakarios et al. 2017, arXiv:1705.07057).

    The shift of u also has a linear part, Σ_{j<k} L_kj x_j, so that a Gaussian's covariance needs no network. From data
    to noise takes one pass. Back, features follow one another, each computing the hidden units that it is the first to
    need: the V steps together cost about one pass, and the result is exact.

    Parameters
    ----------
    backwards : whether features go from last to first.
    """

    order: Tensor

    def __init__(self, layout: Layout, univariate: Univariate, *, backwards: bool) -> None:
        super().__init__()
        count = layout.features
        self.univariate = univariate
        order = torch.arange(count)
        self.register_buffer("order", order.flip(0) if backwards else order, persistent=False)
        # Inside, features are in this order: position k depends on positions below k.
        self.linear = zeros(count, count)
        degrees = (order, order.repeat_interleave(univariate.size))
        self.network = layout.network(count * univariate.size, inputs=count, degrees=degrees)

    def forward(self, x: Tensor, parents: Parents) -> tuple[Tensor, Tensor]:
        """See `Step`."""
        ordered = x[..., self.order]
        raw = self.network(parents, ordered).unflatten(-1, (-1, self.univariate.size))
        shift = raw[..., :1] + (ordered @ self.linear.tril(-1).mT).unsqueeze(-1)
        z, log_slope = self.univariate.forward(ordered, torch.cat([shift, raw[..., 1:]], -1))
        return z[..., self.order], log_slope.sum(-1)  # either order is its own inverse

    def inverse(self, z: Tensor, parents: Parents) -> Tensor:
        """See `Step`."""
        network, size, count = self.network, self.univariate.size, z.shape[-1]
        z, linear = z[..., self.order], self.linear.tril(-1)
        weights = [network.layer(index) for index in range(len(network.weights))]
        outputs, output_bias = weights[-1], network.biases[-1]
        first = network.first(parents)
        x = z[..., :0]
        hidden = [z[..., :0] for _ in network.degrees]
        for k in range(count):
            before = x
            for layer, degree in enumerate(network.degrees):
                start = hidden[layer].shape[-1]
                stop = int((degree <= k).sum())
                if stop > start:
                    known = before @ weights[layer][start:stop, : before.shape[-1]].mT
                    bias = first[..., start:stop] if layer == 0 else network.biases[layer][start:stop]
                    hidden[layer] = torch.cat([hidden[layer], torch.tanh(known + bias)], -1)
                before = hidden[layer]
            of_feature = slice(k * size, (k + 1) * size)
            raw = before @ outputs[of_feature, : before.shape[-1]].mT + output_bias[of_feature]
            shift = raw[..., :1] + (x @ linear[k, :k]).unsqueeze(-1)
            value = self.univariate.inverse(z[..., k], torch.cat([shift, raw[..., 1:]], -1))
            x = torch.cat([x, value.unsqueeze(-1)], -1)
        return x[..., self.order]


class Coupling(Step):
    r"""z_a = x_a, z_b = u(x_b; θ(x_a, c, site)): coupling (Dinh et al. 2014, arXiv:1410.8516), one pass either way.

    As in `Autoregressive`, the shift of u also has a linear part L x_a.

    Parameters
    ----------
    parity : 0 transforms the features at odd places given the others, 1 those at even places.
    """

    kept: Tensor
    moved: Tensor
    back: Tensor

    def __init__(self, layout: Layout, univariate: Univariate, *, parity: int) -> None:
        super().__init__()
        self.univariate = univariate
        place = torch.arange(layout.features)
        kept, moved = place[parity::2], place[1 - parity :: 2]
        self.register_buffer("kept", kept, persistent=False)
        self.register_buffer("moved", moved, persistent=False)
        self.register_buffer("back", torch.cat([kept, moved]).argsort(), persistent=False)
        self.linear = zeros(len(moved), len(kept))
        self.network = layout.network(len(moved) * univariate.size, inputs=len(kept))

    def _raw(self, kept: Tensor, parents: Parents) -> Tensor:
        raw = self.network(parents, kept).unflatten(-1, (-1, self.univariate.size))
        shift = raw[..., :1] + (kept @ self.linear.mT).unsqueeze(-1)
        return torch.cat([shift, raw[..., 1:]], -1)

    def forward(self, x: Tensor, parents: Parents) -> tuple[Tensor, Tensor]:
        """See `Step`."""
        kept = x[..., self.kept]
        moved, log_slope = self.univariate.forward(x[..., self.moved], self._raw(kept, parents))
        return torch.cat([kept, moved], -1)[..., self.back], log_slope.sum(-1)

    def inverse(self, z: Tensor, parents: Parents) -> Tensor:
        """See `Step`."""
        kept = z[..., self.kept]
        moved = self.univariate.inverse(z[..., self.moved], self._raw(kept, parents))
        return torch.cat([kept, moved], -1)[..., self.back]
