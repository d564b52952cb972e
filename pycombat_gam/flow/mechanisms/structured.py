r"""The structured flow: the site's map outermost, biology and covariance shared inside.

.. math:: x_k = S_{sk}(f_k + e_k) \quad\text{("whole")}\qquad\text{or}\qquad
          x_k = f_k + S_{sk}(e_k) \quad\text{("residual", ComBat's)}, \qquad e = Lz,

S from `site_map`, f = design · β with the penalties of the mean model's smooths, z standard normal or Student t.
Parameters are maximum a posteriori estimates by margins (inference functions for margins; Joe 2005, J. Multivariate
Analysis 94:401). Each feature's likelihood with a unit normal e_k gives S and β, as in ComBat, and the residuals give
the covariance. (The joint likelihood with independent priors would shrink directions of large variance most, such as
all cortex together, and leave their site effects.)

Priors: θ_sk ~ N(c_s, τ²_s) over features for each parameter of S, and c_s ~ N(m, ω²) over sites, so that a small site
is shrunk toward the others. Empirical Bayes sets τ² and ω², by an EM step before each epoch. They start large, since a
variance near zero takes many steps to grow. The scales' objective integrates the locations out (`penalty`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from pycombat_gam.flow.mechanisms import density, site_map
from pycombat_gam.flow.mechanisms.covariance import whitener
from pycombat_gam.flow.mechanisms.mechanism import FeatureMechanism, Parents
from pycombat_gam.saving.reader import Reader
from pycombat_gam.types import BoolArray, FloatArray, IntArray, JsonDict

Variant = Literal["residual", "whole", "residual-shape", "whole-shape"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
"""Simplest first."""
SHAPE = "the shape of the saved flow"
"""Name, in messages, of the plain data from which a flow is made."""
MOST_CORRELATED = 4000
"""With more features no V × V covariance is kept: they count as independent given site and covariates."""
LEAST_VARIANCE = 1e-6
"""Least prior variance: a parameter with the same value everywhere then stays where it is."""
FIRST_VARIANCE = 0.1
ROWS_FOR_A_WIDTH = 30.0
"""Rows of a site whose prior width is halfway between its own and that of all sites."""


class StructuredFlow(FeatureMechanism):
    """The structured flow of V features at B sites.

    Parameters
    ----------
    variant : see the module's docstring; ``-shape`` adds skewness and tail to location and scale.
    coefficients : (p, V) initial β; effects : (2, B, V) initial location and log scale.
    preconditioner : (1 or V, p, p) factor F, with FFᵀ close to the inverse of β's information.
    roots : (m, r, p) square roots of the penalties' matrices; smoothing : (m, V) their smoothing parameters.
    sizes : (B,) rows of each site; base : ``"normal"`` or ``"student_t"``.
    known : (B, V) whether a site's rows estimate more than a location; if not, scale and shape keep initial values.
    """

    full_batch = True

    start: Tensor
    first: Tensor
    preconditioner: Tensor
    roots: Tensor
    smoothing: Tensor
    sizes: Tensor
    known: Tensor
    width: Tensor
    spread: Tensor
    whitener: Tensor
    df: Tensor

    def __init__(
        self,
        variant: Variant,
        coefficients: FloatArray,
        effects: FloatArray,
        *,
        preconditioner: FloatArray,
        roots: FloatArray,
        smoothing: FloatArray,
        sizes: FloatArray,
        base: str,
        known: BoolArray,
    ) -> None:
        super().__init__()
        self.variant, self.base, self._all_known = variant, base, bool(known.all())
        m = 4 if variant.endswith("shape") else 2
        B, V = effects.shape[1:]
        first = np.zeros((m, B, V))
        first[:2] = effects
        buffers = {
            "start": coefficients,
            "first": first,
            "preconditioner": preconditioner,
            "roots": roots,
            "smoothing": smoothing,
            "sizes": sizes,
            "known": known,
            "width": np.full((m, B), FIRST_VARIANCE),
            "spread": np.full((m,), FIRST_VARIANCE),
            "whitener": np.eye(V) if V <= MOST_CORRELATED else np.zeros((0, 0)),
            "df": np.array(density.LARGEST_DF),
        }
        for name, array in buffers.items():
            self.register_buffer(name, torch.tensor(np.asarray(array), dtype=torch.float64))
        # In units of their standard errors, so that the objective is well conditioned.
        self.step = nn.Parameter(torch.zeros((V, len(coefficients)), dtype=torch.float64))
        self.shift = nn.Parameter(torch.zeros((m, B, V), dtype=torch.float64))

    @property
    def site_meets_covariates(self) -> bool:
        """True for a "whole" map; a map of residuals is the same for all covariates, as ComBat's."""
        return self._whole

    @property
    def coefficients(self) -> Tensor:
        """β, (p, V)."""
        return self.start + (self.preconditioner @ self.step[..., None])[..., 0].T

    @property
    def effects(self) -> Tensor:
        """The parameters of S, (2 or 4, B, V)."""
        shift = self.shift * self._unit()
        if self._all_known:
            return self.first + shift
        return self.first + torch.cat([shift[:1], shift[1:] * self.known])

    def _unit(self) -> Tensor:
        return torch.rsqrt(self._information() + 1.0 / FIRST_VARIANCE)[..., None]

    def _information(self) -> Tensor:
        """Return the Fisher information of a site's rows about each parameter, (m, B)."""
        each = torch.diagonal(site_map.information())[: len(self.first)].to(self.sizes)
        return each[:, None] * self.sizes

    @property
    def _whole(self) -> bool:
        return self.variant.startswith("whole")

    def residual(self, x: Tensor, parents: Parents) -> tuple[Tensor, Tensor]:
        """Return e and log de/dx, both (n, V)."""
        f = parents.design @ self.coefficients
        if self._whole:
            w, log_slope = site_map.undo(x, self.effects, parents.site)
            return w - f, log_slope
        return site_map.undo(x - f, self.effects, parents.site)

    def observed(self, e: Tensor, parents: Parents) -> Tensor:
        """Return the x of residuals e, (n, V)."""
        f = parents.design @ self.coefficients
        if self._whole:
            return site_map.do(f + e, self.effects, parents.site)
        return f + site_map.do(e, self.effects, parents.site)

    def abduct(self, x: Tensor, parents: Parents) -> tuple[Tensor, Tensor]:
        """Return z = L⁻¹e, (n, V), and log |det ∂z/∂x|, (n,)."""
        e, log_slope = self.residual(x, parents)
        log_det = log_slope.sum(-1)
        if not self.whitener.numel():
            return e, log_det
        return e @ self.whitener.T, log_det + torch.log(torch.diagonal(self.whitener)).sum()

    def predict(self, noise: Tensor, parents: Parents) -> Tensor:
        """Return the values of a noise, (n, V)."""
        e = noise
        if self.whitener.numel():
            e = torch.linalg.solve_triangular(self.whitener, noise.T, upper=False).T
        return self.observed(e, parents)

    def base_log_prob(self, noise: Tensor) -> Tensor:
        """Return the log-density of a noise, (n,)."""
        return density.log_density(noise, self.df if self.base == "student_t" else None)

    def counterfactual(self, x: Tensor, parents: Parents, action: Parents) -> Tensor:
        """Return what the rows would have been under other parents; L cancels."""
        return self.observed(self.residual(x, parents)[0], action)

    def average(self, x: Tensor, parents: Parents, action: Parents, weights: Tensor) -> Tensor:
        """Return the average over sites, Σ_s w_s x*(do(site = s)), (n, V)."""
        e, _ = self.residual(x, parents)
        f = action.design @ self.coefficients
        w = e + f if self._whole else e
        effects = self.effects
        weights = weights.to(effects)
        scale = weights[:, None] * torch.exp(effects[1])
        if len(effects) == 2:
            mean = w * scale.sum(0)
        else:
            mean, bent = torch.zeros_like(w), site_map.asinh(w)
            for site in range(len(weights)):
                mean += scale[site] * site_map.bend(bent, w, effects, site)
        mean = mean + weights @ effects[0]
        return mean if self._whole else mean + f

    def loss(self, x: Tensor, parents: Parents, weight: Tensor) -> Tensor:
        """Return minus the sum of the features' log-likelihoods, without constants."""
        e, log_slope = self.residual(x, parents)
        return (weight @ (0.5 * e * e - log_slope)).sum()

    def penalty(self) -> Tensor:
        """Return minus the log-prior, plus the term from integrating the locations out."""
        return self.prior() + location_integral(self.effects[1], self.sizes, self.width[0])

    def prior(self) -> Tensor:
        """Return minus the log-prior of the smooths and of the sites' parameters."""
        rough = torch.einsum("mrp,pv->mrv", self.roots, self.coefficients)
        total = 0.5 * (self.smoothing[:, None] * rough**2).sum()
        effects = self.effects
        centre = effects.mean(-1)
        total = total + 0.5 * ((effects - centre[..., None]) ** 2 / self.width[..., None]).sum()
        overall = centre.mean(-1, keepdim=True)
        return total + 0.5 * ((centre - overall) ** 2 / self.spread[:, None]).sum()

    @torch.no_grad()
    def draw_pull(self, rng: np.random.Generator, sites: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Draw a score of the prior, for the effects (m, B, V) and β (p, V): normal, with the prior's information."""
        m, B, V = self.first.shape
        buffers = (self.roots, self.smoothing, self.width, self.spread)
        roots, smoothing, width, spread = (buffer.cpu().numpy() for buffer in buffers)
        each, centre = np.empty((m, B, V)), np.empty((m, B))
        each[:, sites] = rng.standard_normal((m, B, V))
        centre[:, sites] = rng.standard_normal((m, B))
        each /= np.sqrt(width)[..., None]
        centre /= np.sqrt(spread)[:, None]
        # Both priors are centred at the mean of the parameters themselves, and so do not inform that mean.
        each += (centre - centre.mean(axis=1, keepdims=True))[..., None] / V - each.mean(axis=2, keepdims=True)
        rough = rng.standard_normal((*roots.shape[:2], V)) * np.sqrt(smoothing)[:, None]
        pull = each, np.einsum("mrp,mrv->pv", roots, rough)
        return torch.from_numpy(pull[0]), torch.from_numpy(pull[1])

    def pulled(self, *pull: Tensor) -> Tensor:
        """Return what a pull adds to the penalty."""
        effects, coefficients = pull
        return -(effects * self.effects).sum() - (coefficients * self.coefficients).sum()

    @torch.no_grad()
    def refresh(self, x: Tensor, parents: Parents, weight: Tensor) -> None:
        """Set τ², ω² by one EM step, and covariance and ν from the residuals."""
        effects = self.effects
        V = effects.shape[2]
        information = self._information()
        centre = effects.mean(-1)
        left = 1.0 / (information + 1.0 / self.width)
        width = ((effects - centre[..., None]) ** 2).sum(-1) / max(V - 1, 1) + left
        common = (width * self.sizes).sum(1, keepdim=True) / self.sizes.sum()
        width = (width * self.sizes + common * ROWS_FOR_A_WIDTH) / (self.sizes + ROWS_FOR_A_WIDTH)
        # A single site estimates skewness and tail too poorly for a prior width of its own.
        width[2:] = common[2:]
        # As in ComBat, a location's prior is as wide as the scatter of its estimates, sampling error included. The
        # narrower true width has less error in each feature, but lets a classifier predict the sites.
        width[0] += 1.0 / information[0]
        self.width.copy_(width.clamp_min(LEAST_VARIANCE))
        left = 1.0 / (V / (1.0 / information + self.width) + 1.0 / self.spread[:, None])
        spread = ((centre - centre.mean(-1, keepdim=True)) ** 2).sum(-1) / max(len(self.sizes) - 1, 1) + left.mean(-1)
        self.spread.copy_(spread.clamp_min(LEAST_VARIANCE))
        if self.whitener.numel():
            e, _ = self.residual(x, parents)
            self.whitener.copy_(torch.tensor(whitener((e * torch.sqrt(weight)[:, None]).cpu().numpy())))
            if self.base == "student_t":
                self.df.fill_(density.degrees_of_freedom(self.abduct(x, parents)[0]))

    def draw(self, rows: int, rng: np.random.Generator) -> Tensor:
        """Draw noise, (rows, V)."""
        return density.draw(rows, self.first.shape[2], float(self.df) if self.base == "student_t" else None, rng)

    @torch.no_grad()
    def reorder_sites(self, place: IntArray) -> None:
        """See `FeatureMechanism`."""
        index = torch.as_tensor(place, device=self.first.device)
        for array, axis in ((self.first, 1), (self.shift, 1), (self.width, 1), (self.sizes, 0), (self.known, 0)):
            array.copy_(array.index_select(axis, index))

    @torch.no_grad()
    def frozen(self) -> StructuredFlow:
        """Return a copy for prediction only: parameters without penalties and preconditioner."""
        p, V = self.start.shape
        flow = _blank(self.variant, self.base, len(self.sizes), p, V, bool(self._all_known))
        state = flow.state_dict()
        state |= {name: value for name, value in self.state_dict().items() if state[name].shape == value.shape}
        state |= {"start": self.coefficients, "first": self.effects}
        state |= {name: torch.zeros_like(state[name]) for name in ("step", "shift", "preconditioner")}
        flow.load_state_dict(state)
        return flow.to(self.start.device)

    def config(self) -> JsonDict:
        """Return plain data from which `from_config` makes a frozen flow of this shape."""
        p, V = self.start.shape
        return {
            "variant": self.variant,
            "base": self.base,
            "sites": len(self.sizes),
            "columns": p,
            "features": V,
            "all_known": self._all_known,
        }

    @classmethod
    def from_config(cls, config: JsonDict) -> StructuredFlow:
        """Make a flow of the shape that `config` returned; load its state next.

        Raises
        ------
        ModelFileError
            If it is not such a shape.
        """
        saved = Reader(config, SHAPE).exactly("variant", "base", "sites", "columns", "features", "all_known")
        sites, columns, features = (saved.whole(name) for name in ("sites", "columns", "features"))
        variant, base = saved.choice("variant", VARIANTS), saved.choice("base", density.BASES)
        return _blank(variant, base, sites, columns, features, saved.flag("all_known"))


def location_integral(log_scale: Tensor, sizes: Tensor, width: Tensor) -> Tensor:
    """Return the term of minus the log-posterior from integrating the locations out, by Laplace's method.

    It is half the log information of each location. With it a scale rests on n − 1 rows, as in ComBat and REML.

    Parameters
    ----------
    log_scale : (B, V); sizes : (B,) rows; width : (B,) prior variance of the locations.
    """
    return 0.5 * torch.log(sizes[:, None] * torch.exp(-2.0 * log_scale) + 1.0 / width[:, None]).sum()


def _blank(variant: Variant, base: str, sites: int, columns: int, features: int, all_known: bool) -> StructuredFlow:
    """Return a flow of a shape, with placeholder numbers."""
    known = np.ones((sites, features), dtype=bool)
    known[:1, :1] = all_known
    return StructuredFlow(
        variant,
        np.zeros((columns, features)),
        np.zeros((2, sites, features)),
        preconditioner=np.zeros((1, columns, columns)),
        roots=np.zeros((0, columns, columns)),
        smoothing=np.zeros((0, features)),
        sizes=np.ones(sites),
        base=base,
        known=known,
    )
