r"""Networks from a row's covariates, site and some of its features to the parameters of a transform.

    h₁ = tanh(W_x x + W_c c + W_s 1_site + b₁),  h₂ = tanh(W₂ h₁ + b₂), …,  output = W h + b

A site enters as one row of W_s (one-hot, never a number). W_s, W and b start at zero: the transform starts as the same
identity for every site, and training does not depend on the order of the sites' labels. With tanh an extreme row gets
no extreme parameters. Weights are drawn from a given `torch.Generator`, never from the global one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from pycombat_gam.flow.mechanisms.mechanism import Parents


def zeros(*shape: int) -> nn.Parameter:
    """Return a float64 parameter of zeros."""
    return nn.Parameter(torch.zeros(*shape, dtype=torch.float64))


def uniform(rows: int, columns: int, fan_in: Tensor | int, generator: torch.Generator) -> nn.Parameter:
    """Return weights (rows, columns) ~ U(−1/√fan_in, 1/√fan_in); `fan_in` is a number or one per row (rows, 1)."""
    unit = 2 * torch.rand(rows, columns, dtype=torch.float64, generator=generator) - 1
    return nn.Parameter(unit / torch.as_tensor(fan_in, dtype=torch.float64).clamp(min=1).sqrt())


class SiteWeights(nn.Module):
    r"""A row of K weights for each site: the known sites, and one new site under adaptation.

    The new row has the prior Normal(centre, 1/precision), with the mean of the known rows and their variance pooled
    over the K columns.
    """

    centre: Tensor
    precision: Tensor
    new: nn.Parameter | None

    def __init__(self, sites: int, columns: int, *, adapted: bool = False) -> None:
        super().__init__()
        self.known = zeros(sites - adapted, columns)
        self.register_parameter("new", zeros(1, columns) if adapted else None)
        if adapted:
            self._prior()

    def weight(self) -> Tensor:
        """Return all rows, (B, K)."""
        return self.known if self.new is None else torch.cat([self.known, self.new])

    def forward(self, site: Tensor) -> Tensor:
        """Return one-hot(site) @ weight, (n, K); NaN for an unknown code."""
        weight = self.weight()
        hot = site.unsqueeze(-1) == torch.arange(len(weight), device=site.device)
        value = hot.to(weight.dtype) @ weight
        return torch.where(hot.any(-1, keepdim=True), value, torch.nan)

    @torch.no_grad()
    def add(self) -> None:
        """Add a site, which starts at the mean of the others and is the only one that can be trained."""
        known = self.weight().detach().clone()
        self.known = nn.Parameter(known, requires_grad=False)
        self.new = nn.Parameter(known.mean(0, keepdim=True))
        self._prior()

    def penalty(self) -> Tensor:
        """Return minus the log-prior of the new site's row, up to a constant; 0 without a new site."""
        if self.new is None:
            return torch.zeros((), dtype=self.known.dtype, device=self.known.device)
        return 0.5 * self.precision * (self.new - self.centre).square().sum()

    def _prior(self) -> None:
        known = self.known.detach()
        # A single known site gives no variance between sites: it is then 1, that of a standardized feature.
        variance = known.var(0).mean() if len(known) > 1 else known.new_ones(())
        self.register_buffer("centre", known.mean(0, keepdim=True))
        self.register_buffer("precision", 1 / variance.clamp(min=1e-6))


class Network(nn.Module):
    r"""A conditioner from p covariates, B sites and m inputs to `outputs` numbers per row.

    With degrees it is masked (MADE; Germain et al. 2015): an output of degree k depends only on inputs of degree below
    k. Hidden degrees are spread evenly over those of the outputs. (zuko's `MaskedMLP` gives its H hidden units the
    degrees 0..H−1, so with more features than hidden units, most features would reach none of them.)

    Attributes
    ----------
    arithmetic : dtype of the matrix products, set by `reduced_precision`; outputs are always float64.
    """

    def __init__(
        self,
        columns: int,
        sites: int,
        outputs: int,
        hidden: Sequence[int],
        generator: torch.Generator,
        *,
        inputs: int = 0,
        degrees: tuple[Tensor, Tensor] | None = None,
        adapted: bool = False,
    ) -> None:
        super().__init__()
        self.arithmetic = torch.float64
        self.degrees = [_spread(size, inputs) for size in hidden]
        masks = _masks(self.degrees, degrees) if degrees is not None else None
        self.context = uniform(hidden[0], columns, columns + inputs, generator)
        self.site = SiteWeights(sites, hidden[0], adapted=adapted)
        fan_in = columns + (inputs if masks is None else masks[0].sum(1, keepdim=True))
        first = [uniform(hidden[0], inputs, fan_in, generator)] if inputs else []
        self.weights = nn.ParameterList(first)
        for layer, (before, after) in enumerate(pairwise(hidden)):
            self.weights.append(
                uniform(after, before, before if masks is None else masks[layer + 1].sum(1, keepdim=True), generator)
            )
        self.weights.append(zeros(outputs, hidden[-1]))
        self.biases = nn.ParameterList([zeros(size) for size in (*hidden, outputs)])
        self.inputs = inputs
        self.masked = masks is not None
        for layer, mask in enumerate(masks or []):
            self.register_buffer(f"mask{layer}", mask.to(torch.float64), persistent=False)

    def layer(self, index: int) -> Tensor:
        """Return the weights of a layer, masked."""
        weight: Tensor = self.weights[index]
        return weight * getattr(self, f"mask{index}") if self.masked else weight

    def first(self, parents: Parents) -> Tensor:
        """Return the input of the first hidden layer from covariates, site and bias, (n, H)."""
        site: Tensor = self.site(parents.site)
        return site + functional.linear(parents.design, self.context, self.biases[0])

    def forward(self, parents: Parents, inputs: Tensor | None = None) -> Tensor:
        """Return the outputs (n, outputs), given covariates, site and inputs (n, m)."""
        kind = self.arithmetic
        value = self.first(parents).to(kind)
        offset = 0
        if inputs is not None:
            value = value + functional.linear(inputs.to(kind), self.layer(0).to(kind))
            offset = 1
        for index in range(len(self.biases) - 1):
            weight, bias = self.layer(index + offset).to(kind), self.biases[index + 1].to(kind)
            value = functional.linear(torch.tanh(value), weight, bias)
        return value.double()


@contextmanager
def reduced_precision(module: nn.Module) -> Iterator[None]:
    """Within the block, let only the networks of a module compute in bfloat16."""
    networks = [part for part in module.modules() if isinstance(part, Network)]
    try:
        for network in networks:
            network.arithmetic = torch.bfloat16
        yield
    finally:
        for network in networks:
            network.arithmetic = torch.float64


def decayed(module: nn.Module) -> list[nn.Parameter]:
    """Return the weight matrices of a module's networks, to which weight decay applies."""
    networks = [part for part in module.modules() if isinstance(part, Network)]
    return [weight for network in networks for weight in network.parameters() if weight.ndim > 1 and weight.numel()]


def _spread(size: int, inputs: int) -> Tensor:
    """Return degrees (size,), ascending, spread evenly over 0..inputs−1."""
    return torch.arange(size) * max(inputs, 1) // size


def _masks(hidden: Sequence[Tensor], degrees: tuple[Tensor, Tensor]) -> list[Tensor]:
    """Return the masks of all layers, from inputs to outputs."""
    inputs, outputs = degrees
    masks = [hidden[0][:, None] > inputs]
    masks += [after[:, None] >= before for before, after in pairwise(hidden)]
    return [*masks, outputs[:, None] >= hidden[-1]]
