r"""ComBat's batch model at the posterior means of all its parameters: ``prior="bayes"``.

The posterior mean of a harmonized value Y* = (Y − x'β − α_b)/d_b + L + x'β (see `harmonized_draws`) is

    Y·E[1/d_b] + x'E[β](1 − E[1/d_b]) + E[L − α_b/d_b],

but for the covariance of β and 1/d, which is next to nothing: σ² depends on β through squares around its mean. So the
mean model takes E[β], the grand mean is E[L], δ* = 1/E[1/d]², and σ̂γ* = E[α/d]/E[1/d] − E[L].
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from pycombat_gam.batch.effects import BatchEffects, estimate_effects
from pycombat_gam.batch.location_scale import LocationScale, LocationScaleFit
from pycombat_gam.batch.model import Batches, Residuals
from pycombat_gam.batch.moments import Moments
from pycombat_gam.batch.posterior import Posterior
from pycombat_gam.batch.prior import Priors, Shrunken
from pycombat_gam.batch.standardize import Standardization
from pycombat_gam.errors import NotYetError, OptionError
from pycombat_gam.infer.gibbs import INFORMING, Plan, Sampler
from pycombat_gam.infer.new_sites import NewSite, Seen
from pycombat_gam.infer.posterior import few_notes, posterior_of
from pycombat_gam.infer.streams import TILE
from pycombat_gam.mean.fit import Group, MeanFit
from pycombat_gam.penalized.solve import by_batch
from pycombat_gam.saving.reader import Reader
from pycombat_gam.types import BoolArray, FloatArray

PLAN = Plan(draws=400)
"""A mean of 400 draws is within a tenth of a posterior sd, even where four in a row are worth only one."""


@dataclass(frozen=True)
class PosteriorMeans(LocationScale):
    """Location and scale of each site at their posterior means; `seed` of the draws."""

    prior: str = "bayes"
    seed: int = 0

    one_row: ClassVar[str] = "its scale there rests on the prior alone"

    def fit(self, moments: Moments, batches: Batches, residuals: Residuals | None = None) -> PosteriorMeansFit:
        """Estimate the sites' effects feature by feature: what `posterior_means` then replaces."""
        plain = LocationScale.fit(replace(self, eb=False), moments, batches)
        location_only = plain.effects.location_only & (moments.n_observed > 1)
        effects = replace(plain.effects, location_only=location_only)
        return PosteriorMeansFit(**{**vars(plain), "model": self, "effects": effects})

    def from_arrays(self, reader: Reader, batches: Batches) -> PosteriorMeansFit:
        """Rebuild a fit; see `BatchModel`."""
        return PosteriorMeansFit(**vars(super().from_arrays(reader, batches)))


@dataclass(frozen=True, eq=False)
class PosteriorMeansFit(LocationScaleFit):
    """Locations and scales at their posterior means."""

    model: PosteriorMeans

    def posterior(self) -> Posterior:
        """Not in closed form."""
        raise NotYetError("prior='bayes' has no posterior in closed form: use model.draws or model.interval")

    def shrink_alone(self, effects: BatchEffects, moments: Moments, informing: BoolArray, label: str) -> Shrunken:
        """Return the posterior means of one further batch, given the frozen grand mean and pooled variance."""
        some = np.flatnonzero(informing)
        gamma, delta = effects.gamma.copy(), effects.delta.copy()
        table = {name: np.full(1, np.nan) for name in ("gamma_bar", "t2", "a_prior", "b_prior")}
        if some.size:
            site = NewSite(label, self.model.seed, not self.model.mean_only, True)
            seen = self._seen(effects, moments, some)
            at = np.unique(np.linspace(0, some.size - 1, min(some.size, INFORMING)).round().astype(np.intp))
            whole = at.size == some.size
            path = site.path(seen.features(at), whole=whole)
            for start in range(0, some.size, 8 * TILE):
                span = slice(start, min(start + 8 * TILE, some.size))
                shift, inverse_scale = site.draw(seen.features(span), path, start)
                means = inverse_scale.mean(axis=0)
                gamma[0, some[span]] = (shift * inverse_scale).mean(axis=0) / means
                delta[0, some[span]] = 1.0 / means**2
            kept = path[-PLAN.draws :]
            table["gamma_bar"][0] = np.mean([hyper.mean for hyper in kept])
            table["t2"][0] = np.mean([hyper.spread for hyper in kept])
            if not self.model.mean_only:
                table["a_prior"][0] = np.exp(np.mean([np.log(hyper.shape) for hyper in kept]))
                table["b_prior"][0] = np.exp(np.mean([np.log(hyper.rate) for hyper in kept]))
        return Shrunken(gamma, delta, Priors(**table), np.zeros(1, dtype=np.intp))

    def _seen(self, effects: BatchEffects, moments: Moments, some: np.ndarray) -> Seen:
        """Return what the fit leaves of the batch, in pooled sds, as often as there are draws."""
        n = moments.n_observed[0, some].astype(np.float64)
        around = moments.residual_ss[0, some] / self.scale.var_pooled[some]
        shape = (PLAN.draws, some.size)
        mean = np.broadcast_to(effects.gamma[0, some], shape)
        blind = effects.location_only[0, some] & (n > 1)
        return Seen(n, mean, np.broadcast_to(around, shape), np.ones(shape), blind)


def posterior_means(mean: MeanFit, batch: PosteriorMeansFit) -> tuple[MeanFit, PosteriorMeansFit]:
    """Replace estimates by posterior means: coefficients of the mean model, and effects of the sites.

    Intercepts and residual sums of squares of the mean model become those of the new coefficients; its sufficient
    statistics stay.

    Raises
    ------
    OptionError
        If the mean model kept no statistics.
    """
    if mean.groups is None:
        raise OptionError(
            "prior='bayes' needs the statistics of every site, which this mean model does not keep: leave "
            "mean_model out"
        )
    reference, model = batch.batches.reference, batch.model
    drawn = posterior_of(mean, batch, PLAN, model.seed)
    coefficients, level = mean.coefficients.copy(), batch.level.copy()
    pooled = batch.scale.var_pooled.copy()
    gamma, inverse = np.zeros_like(batch.shrunken.gamma), np.ones_like(batch.shrunken.delta)
    for features, sites in drawn.blocks():
        coefficients[:, features] = sites.beta.mean(axis=0)
        center = sites.level.mean(axis=0)
        level[features] = center - mean.center @ coefficients[:, features]
        pooled[features] = sites.pooled.mean(axis=0)
        s = sites.inverse_scale.mean(axis=0)
        inverse[:, features] = s
        # α = L + shift
        moved = ((sites.shift + sites.level[:, None]) * sites.inverse_scale).mean(axis=0)
        gamma[:, features] = (moved / s - center) / np.sqrt(pooled[features])
    if reference is not None:
        gamma[reference], inverse[reference] = 0.0, 1.0
    mean = _at(mean, coefficients, ~batch.scale.degenerate)
    scale = Standardization(level, pooled, batch.scale.degenerate)
    effects = estimate_effects(mean.moments, scale, mean_only=model.mean_only, reference=reference)
    assert isinstance(drawn.sampler, Sampler)
    shrunken = Shrunken(gamma, 1.0 / inverse**2, _priors(drawn.sampler, reference), np.zeros(len(gamma), dtype=np.intp))
    notes = (*batch.notes, *few_notes(mean.n_rows, batch.batches, int((~scale.degenerate).sum())))
    effects = replace(effects, location_only=batch.effects.location_only)
    return mean, replace(batch, scale=scale, effects=effects, shrunken=shrunken, notes=notes)


def _at(mean: MeanFit, coefficients: FloatArray, touched: BoolArray) -> MeanFit:
    """Return the mean model with other coefficients, and with what follows from them."""
    intercepts, residual_ss = mean.intercepts.copy(), mean.residual_ss.copy()
    groups: tuple[Group, ...] = mean.groups or ()
    for group in groups:
        some = touched[group.members]
        features = group.members[some]
        intercepts[:, features], residual_ss[:, features] = by_batch(
            group.statistics.select(np.flatnonzero(some)), coefficients[:, features]
        )
    return replace(mean, coefficients=coefficients, intercepts=intercepts, residual_ss=residual_ss)


def _priors(sampler: Sampler, reference: int | None) -> Priors:
    """Average the hyperparameters: γ̄ and τ² plainly, a and b by their logs, b relative to the sites' mean variance."""
    kept = [hyper for sweep, hyper in enumerate(sampler.path) if sampler.plan.kept(sweep) is not None]
    mean, spread = (np.mean([getattr(hyper, name) for hyper in kept], axis=0) for name in ("mean", "spread"))
    a, b = (np.exp(np.mean([np.log(getattr(h, name)) for h in kept], axis=0)) for name in ("shape", "rate"))
    b = b / (sampler.model.weights @ (b / a))
    # Of one row nothing is known but what was assumed.
    unknown = (sampler.model.problem.n_rows < 2) | (not sampler.model.scaled)
    a, b = np.where(unknown, np.nan, a), np.where(unknown, np.nan, b)
    if reference is not None:
        for values in (mean, spread, a, b):
            values[reference] = np.nan
    return Priors(mean, spread, a, b)
