"""ComBat's steps after the mean once more, under a rule of R's."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pycombat_gam.batch.location_scale import BatchEffects, estimate_effects
from pycombat_gam.batch.prior import Shrunken, shrink
from pycombat_gam.batch.standardize import Standardization, standardize
from pycombat_gam.combat.fit import BatchOptions
from pycombat_gam.combat.fitted import FittedComBat
from pycombat_gam.mean.fit import MeanFit
from pycombat_gam.types import BoolArray, FloatArray
from r_bridge.agreement.ours import Quantity, quantities
from r_bridge.study import Study

LONG_ROUNDS = 30
"""longCombat's default `niter`, which `r_bridge.longcombat` and `crosscheck` leave as it is."""


@dataclass(frozen=True, eq=False)
class Steps:
    """What is computed after the mean; the defaults are our own rules.

    Attributes
    ----------
    mean, options : where the steps start, and the choices of the batch model.
    by_n_minus_1 : the pooled variance is divided by n − 1 (sva, with missing cells).
    left_out : (V,) features that are no part of the priors, nor compared (sva).
    as_it_is : δ̂ where a feature has no variance is what rounding or the covariates leave (neuroCombat, ComBatFamily).
    noise : γ̂ and δ̂ (B, V) that R has of features without any variance, rounding over rounding (ComBatFamily).
    reference_shrunk : δ* of the reference batch is its δ̂ (ComBatFamily).
    variance : (V,) the residual variance, where it is another (longCombat).
    rounds : the shrinkage is iterated this often, δ* from the γ* before (longCombat); None for our stop.
    """

    mean: MeanFit
    options: BatchOptions
    by_n_minus_1: bool = False
    left_out: BoolArray | None = None
    as_it_is: bool = False
    noise: tuple[FloatArray, FloatArray] | None = None
    reference_shrunk: bool = False
    variance: FloatArray | None = None
    rounds: int | None = None

    def quantities(self, fit: FittedComBat, study: Study) -> dict[str, Quantity]:
        """Return everything to compare, NaN where the rule leaves it open."""
        with np.errstate(divide="ignore", invalid="ignore"):
            again = self.run(fit)
            found = quantities(again, study)
        open_features = again.scale.degenerate if self.left_out is None else again.scale.degenerate | self.left_out
        # Divided by the rounding of a variance that is none.
        open_cells = open_features | (again.effects.location_only & ~(again.shrunken.delta > _ROUNDING))
        hidden = {"subjects": open_cells[study.codes], "sites": open_features, "terms": open_features}
        return {
            name: replace(one, values=np.where(hidden[one.rows], np.nan, one.values)) for name, one in found.items()
        }

    def run(self, fit: FittedComBat) -> FittedComBat:
        """Compute all steps after the mean."""
        mean, options, reference = self.mean, self.options, fit.reference
        scale = standardize(
            mean.intercepts, mean.residual_ss, mean.n_observed, mean.n_rows, mean.constant, mean.rounding, reference
        )
        if self.by_n_minus_1:
            n = mean.n_observed.sum(axis=0) if reference is None else mean.n_observed[reference]
            scale = replace(scale, var_pooled=scale.var_pooled * n / (n - 1))
        if self.variance is not None:
            scale = replace(scale, var_pooled=self.variance)
        if self.left_out is not None:
            scale = replace(scale, degenerate=scale.degenerate | self.left_out)
        effects = estimate_effects(
            mean.intercepts, mean.residual_ss, mean.n_observed, mean.constant, mean.rounding, scale,
            mean_only=options.mean_only, reference=reference,
        )  # fmt: skip
        informing, touched = self._as_in_r(effects, scale)
        shrunken = shrink(
            informing, mean.n_observed, mean.n_rows, touched, fit.levels.labels,
            prior=options.prior, mean_only=options.mean_only, reference=reference,
        )  # fmt: skip
        if self.rounds is not None:
            shrunken = by_rounds(informing, mean.n_observed.astype(float), shrunken, self.rounds)
        if self.reference_shrunk and reference is not None:
            delta = shrunken.delta.copy()
            delta[reference] = informing.delta[reference]
            shrunken = replace(shrunken, delta=delta)
        effects = replace(informing, location_only=effects.location_only)
        return replace(fit, mean=mean, scale=scale, effects=effects, shrunken=shrunken)

    def _as_in_r(self, effects: BatchEffects, scale: Standardization) -> tuple[BatchEffects, BoolArray]:
        """The effects that R shrinks, and the features among them."""
        touched = ~scale.degenerate
        if self.as_it_is:
            own = effects.location_only & ((self.mean.n_observed > 1) | self.options.mean_only) & touched
            variance = self.mean.residual_ss / np.maximum(self.mean.n_observed - 1, 1) / scale.sd**2
            delta = effects.delta if self.options.mean_only else np.where(own, variance, effects.delta)
            effects = BatchEffects(effects.gamma, delta, effects.location_only & ~own)
        if self.noise is not None:
            gamma, delta = (
                np.where(scale.degenerate, r, ours)
                for r, ours in zip(self.noise, (effects.gamma, effects.delta), strict=True)
            )
            effects = BatchEffects(gamma, delta, effects.location_only & touched)
            touched = np.ones_like(touched)
        return effects, touched


_ROUNDING = 1e-20
"""A ratio of variances below it is rounding, whose own square is 1e-32: no measured feature is as quiet in a batch."""


def by_rounds(effects: BatchEffects, n: FloatArray, shrunken: Shrunken, rounds: int) -> Shrunken:
    """Iterate as longCombat does: from γ̂ and δ̂, a first step and then `rounds`, δ* each from the γ* before.

    Parameters
    ----------
    effects : γ̂, δ̂ (B, V); n : (B, V) cells; shrunken : for its priors.
    """
    priors = shrunken.priors
    bar, t2, a, b = (x[:, None] for x in (priors.gamma_bar, priors.t2, priors.a_prior, priors.b_prior))

    def location(delta: FloatArray) -> FloatArray:
        return np.asarray((n * t2 * effects.gamma + delta * bar) / (n * t2 + delta))

    def scale(gamma: FloatArray) -> FloatArray:
        within = (n - 1) * effects.delta + n * (effects.gamma - gamma) ** 2
        return np.asarray((b + 0.5 * within) / (n / 2 + a - 1))

    gamma = location(effects.delta)
    delta = scale(gamma)
    for _ in range(rounds):
        gamma, delta = location(delta), scale(gamma)
    return replace(shrunken, gamma=gamma, delta=delta)
