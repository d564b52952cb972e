r"""The paper's family of mechanisms: x = ConditionalTransform_θ([covariates, one-hot site])(ε), ε ~ base.

    ε = T_m ∘ … ∘ T₁ ∘ A (x; c, site)

A is an elementwise location–scale map, linear in covariates and site plus a network (`steps.ConditionalAffine`). The
family sets T₁, …, T_m (Wang, Chaudhari & Davatzikos, MICCAI 2021, arXiv:2106.06845, section 2):

    affine          none
    spline          elementwise monotone rational splines
    autoregressive  masked autoregressive steps, ascending and descending in turn
    coupling        coupling steps, odd and even features in turn

The base is Normal(0, I), or the multivariate Student t of unit variance with a learned ν > 2:

    log p(ε) = log Γ((ν+V)/2) − log Γ(ν/2) − V/2 log(π(ν−2)) − (ν+V)/2 log(1 + |ε|²/(ν−2))
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from pycombat_gam.errors import OptionError
from pycombat_gam.flow.mechanisms.density import BASES, draw, log_density
from pycombat_gam.flow.mechanisms.mechanism import FeatureMechanism, Parents
from pycombat_gam.flow.networks.network import SiteWeights
from pycombat_gam.flow.networks.steps import Autoregressive, ConditionalAffine, Coupling, Elementwise, Layout, Step
from pycombat_gam.flow.networks.univariate import Univariate
from pycombat_gam.types import IntArray, JsonDict
from pycombat_gam.words import did_you_mean

FAMILIES = ("affine", "spline", "autoregressive", "coupling")
TRANSFORMS = {"affine": 0, "spline": 1, "autoregressive": 2, "coupling": 4}
"""Default number of steps after the affine map."""
SPLINES = ("quadratic", "linear")
START_DF = 10.0


@dataclass(frozen=True)
class Shape:
    """The shape of a conditional flow, without its parameters: plain data."""

    family: str
    features: int
    columns: int
    sites: int
    hidden: tuple[int, ...]
    transforms: int
    spline: str | None
    bins: int
    base: str
    adapted: bool = False

    def __post_init__(self) -> None:
        _one_of("family", self.family, FAMILIES)
        _one_of("base", self.base, BASES)
        if self.spline is not None:
            _one_of("spline", self.spline, SPLINES)
        for name in ("features", "sites", "bins"):
            _at_least(name, getattr(self, name), 2 if name == "bins" else 1)
        _at_least("columns", self.columns, 0)
        if not isinstance(self.adapted, bool) or (self.adapted and self.sites < 2):
            raise OptionError(
                f"adapted is {self.adapted!r} with {self.sites} sites; a new site needs at least one known site"
            )
        if not self.hidden:
            raise OptionError("hidden is empty; give the size of at least one hidden layer, such as (64, 64)")
        for size in self.hidden:
            _at_least("hidden", size, 1)
        if self.family == "affine" and self.transforms:
            raise OptionError(
                f"transforms is {self.transforms}; the affine family has no further steps: leave transforms out"
            )
        if self.family != "affine":
            _at_least("transforms", self.transforms, 1)


class ConditionalFlow(FeatureMechanism):
    """A flow of the paper's family; make one with `conditional`.

    Attributes
    ----------
    vmap : whether `torch.func.vmap` over stacked parameters works; it does for every family.
    shape : family and sizes.
    """

    vmap = True

    def __init__(self, shape: Shape, seed: int) -> None:
        super().__init__()
        self.shape = shape
        generator = torch.Generator().manual_seed(seed)
        layout = Layout(shape.features, shape.columns, shape.sites, shape.hidden, shape.adapted, generator)
        self.affine = ConditionalAffine(layout)
        self.steps = nn.ModuleList(_step(layout, shape, place) for place in range(shape.transforms))
        start = torch.tensor(math.log(START_DF - 2), dtype=torch.float64)
        self.log_df = nn.Parameter(start) if shape.base == "student_t" else None

    @property
    def df(self) -> Tensor | None:
        """ν of a Student t base."""
        return None if self.log_df is None else 2 + self.log_df.exp()

    @torch.no_grad()
    def start(self, location_design: Tensor, location_site: Tensor, log_scale_site: Tensor) -> None:
        """Set parameters to a linear location–scale model, such as ComBat's, on the features' standardized scale.

        Parameters
        ----------
        location_design : (p, V) effects of the covariates.
        location_site, log_scale_site : (B, V) intercepts and log residual sd of each site.
        """
        self.affine.location_design.copy_(location_design)
        self.affine.location_site.known.copy_(location_site)
        self.affine.log_scale_site.known.copy_(log_scale_site)

    @torch.no_grad()
    def shift(self, location_design: Tensor, location_site: Tensor, log_scale_site: Tensor) -> None:
        """Add to the parameters that `start` sets."""
        self.affine.location_design.add_(location_design.to(self.affine.location_design))
        self.affine.location_site.known.add_(location_site.to(self.affine.location_design))
        self.affine.log_scale_site.known.add_(log_scale_site.to(self.affine.location_design))

    def abduct(self, x: Tensor, parents: Parents) -> tuple[Tensor, Tensor]:
        """Return the noise (n, V) of values x (n, V), and log |det ∂noise/∂x| (n,)."""
        noise, log_det = self.affine(x, parents)
        for step in self.steps:
            noise, more = step(noise, parents)
            log_det = log_det + more
        return noise, log_det

    def predict(self, noise: Tensor, parents: Parents) -> Tensor:
        """Return the values (n, V) of a noise (n, V)."""
        x = noise
        for step in [*reversed(self.steps), self.affine]:
            assert isinstance(step, Step)
            x = step.inverse(x, parents)
        return x

    def base_log_prob(self, noise: Tensor) -> Tensor:
        """Return the log-density (n,) of a noise."""
        return log_density(noise, self.df)

    def draw(self, rows: int, rng: np.random.Generator) -> Tensor:
        """Draw noise, (rows, V)."""
        noise = draw(rows, self.shape.features, None if self.df is None else float(self.df.detach()), rng)
        return noise.to(self.affine.location_design.device)

    @torch.no_grad()
    def reorder_sites(self, place: IntArray) -> None:
        """See `FeatureMechanism`."""
        for part in self.modules():
            if isinstance(part, SiteWeights):
                part.known.copy_(part.known[torch.as_tensor(place, device=part.known.device)])

    def penalty(self) -> Tensor:
        """Return minus the log-prior of a new site's parameters; 0 without a new site."""
        total = torch.zeros((), dtype=torch.float64, device=self.affine.location_design.device)
        for part in self.modules():
            if isinstance(part, SiteWeights) and part.new is not None:
                total = total + part.penalty()
        return total

    def with_site(self) -> ConditionalFlow:
        """Return a copy with one more site, in which only the new site's parameters can be trained.

        They start at the mean of the known sites and have a normal prior around it, with the variance of the known
        sites. With fewer rows they stay nearer to that mean.
        """
        other = copy.deepcopy(self)
        other.requires_grad_(False)
        for part in other.modules():
            if isinstance(part, SiteWeights):
                part.add()
        other.shape = replace(self.shape, sites=self.shape.sites + 1, adapted=True)
        return other

    def config(self) -> JsonDict:
        """Return plain data from which `from_config` makes a flow of this shape; parameters are in `state_dict`."""
        return {**asdict(self.shape), "hidden": list(self.shape.hidden)}


def conditional(
    family: str,
    *,
    features: int,
    columns: int,
    sites: int,
    seed: int,
    hidden: Sequence[int] = (64, 64),
    transforms: int | None = None,
    spline: str | None = None,
    bins: int = 8,
    base: str = "student_t",
) -> ConditionalFlow:
    """Make a flow of the paper's family, initially the identity.

    Parameters
    ----------
    family : "affine", "spline", "autoregressive" or "coupling".
    features, columns, sites : V, p (columns of the design) and B.
    seed : of the networks' weights.
    hidden : sizes of the hidden layers of every network.
    transforms : steps after the affine map; None: 1 for "spline", 2 for "autoregressive", 4 for "coupling".
    spline : "quadratic" or "linear" rational; None: quadratic in "spline", and affine steps in the other families.
    bins : of a spline.
    base : "normal" or "student_t".

    Raises
    ------
    OptionError
        If an argument has a value that is not allowed.
    """
    _one_of("family", family, FAMILIES)
    if family == "affine" and spline is not None:
        raise OptionError(
            f"spline is '{spline}'; the affine family has no spline: leave it out, or use the family 'spline'"
        )
    steps = TRANSFORMS[family] if transforms is None else transforms
    kind = spline or ("quadratic" if family == "spline" else None)
    return ConditionalFlow(Shape(family, features, columns, sites, tuple(hidden), steps, kind, bins, base), seed)


def from_config(config: Mapping[str, object]) -> ConditionalFlow:
    """Make a flow of the shape that `ConditionalFlow.config` returned; load its `state_dict` next.

    Raises
    ------
    OptionError
        If it is not the shape of a conditional flow.
    """
    fields = dict(config)
    hidden = fields.get("hidden")
    if set(fields) != set(Shape.__dataclass_fields__) or not isinstance(hidden, list):
        raise OptionError(f"not the shape of a conditional flow: it has {', '.join(map(str, fields)) or 'nothing'}")
    fields["hidden"] = tuple(hidden)
    flow = ConditionalFlow(Shape(**fields), seed=0)  # type: ignore[arg-type]  # `Shape` checks them
    if flow.shape.adapted:
        flow.requires_grad_(False)
        for part in flow.modules():
            if isinstance(part, SiteWeights) and part.new is not None:
                part.new.requires_grad_(True)
    return flow


def _step(layout: Layout, shape: Shape, place: int) -> Step:
    """Return the step at a place; with one feature all families are elementwise."""
    if shape.family == "spline":
        return Elementwise(layout, Univariate(False, shape.spline, shape.bins))
    univariate = Univariate(True, shape.spline, shape.bins)
    if shape.features == 1:
        return Elementwise(layout, univariate)
    if shape.family == "autoregressive":
        return Autoregressive(layout, univariate, backwards=place % 2 == 1)
    return Coupling(layout, univariate, parity=place % 2)


def _one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise OptionError(f"{name} is {value!r}; allowed: {', '.join(allowed)}{did_you_mean(str(value), allowed)}")


def _at_least(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise OptionError(f"{name} is {value!r}; it must be a whole number, at least {least}")
