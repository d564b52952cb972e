"""ComBat's steps after the mean, recomputed under a rule of R's."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pycombat_gam.batch.effects import BatchEffects
from pycombat_gam.batch.location_scale import Rules
from pycombat_gam.batch.model import Batches
from pycombat_gam.batch.moments import Moments
from pycombat_gam.batch.prior import Shrunken
from pycombat_gam.batch.standardize import Standardization
from pycombat_gam.combat.fitted import FittedComBat
from pycombat_gam.mean.fit import MeanFit
from pycombat_gam.types import BoolArray, FloatArray
from r_bridge.agreement.ours import Quantity, quantities
from r_bridge.study import Study

LONG_ROUNDS = 30
"""longCombat's default `niter`, which `r_bridge.longcombat` and `crosscheck` leave as it is."""


@dataclass(frozen=True, eq=False)
class RRules(Rules):
    """What R's packages do differently after a step; the defaults change nothing.

    Attributes
    ----------
    by_n_minus_1 : the pooled variance is divided by n − 1 (sva, with missing cells).
    left_out : (V,) features that are neither used for the priors nor compared (sva).
    as_it_is : δ̂ where a feature has no variance is what rounding or the covariates leave (neuroCombat, ComBatFamily).
    mean_only : whether the fit is of location alone.
    noise : γ̂ and δ̂ (B, V) that R has of features without any variance, rounding over rounding (ComBatFamily).
    reference_shrunk : δ* of the reference batch is its δ̂ (ComBatFamily).
    variance : (V,) the residual variance, where it is another (longCombat).
    rounds : the shrinkage is iterated this often, δ* from the γ* before (longCombat); None for our stop.
    """

    by_n_minus_1: bool = False
    left_out: BoolArray | None = None
    as_it_is: bool = False
    mean_only: bool = False
    noise: tuple[FloatArray, FloatArray] | None = None
    reference_shrunk: bool = False
    variance: FloatArray | None = None
    rounds: int | None = None

    def scale(self, scale: Standardization, moments: Moments, batches: Batches) -> Standardization:
        """Change the pooled variance, and the features that have none."""
        if self.by_n_minus_1:
            n_observed, reference = moments.n_observed, batches.reference
            n = n_observed.sum(axis=0) if reference is None else n_observed[reference]
            scale = replace(scale, var_pooled=scale.var_pooled * n / (n - 1))
        if self.variance is not None:
            scale = replace(scale, var_pooled=self.variance)
        if self.left_out is not None:
            scale = replace(scale, degenerate=scale.degenerate | self.left_out)
        return scale

    def informing(
        self, effects: BatchEffects, scale: Standardization, moments: Moments
    ) -> tuple[BatchEffects, BoolArray]:
        """Return the effects that R shrinks, and the features among them."""
        touched = ~scale.degenerate
        if self.as_it_is:
            shrunk = effects.location_only & ((moments.n_observed > 1) | self.mean_only) & touched
            variance = moments.residual_ss / np.maximum(moments.n_observed - 1, 1) / scale.sd**2
            delta = effects.delta if self.mean_only else np.where(shrunk, variance, effects.delta)
            effects = BatchEffects(effects.gamma, delta, effects.location_only & ~shrunk)
        if self.noise is not None:
            gamma, delta = (
                np.where(scale.degenerate, r, ours)
                for r, ours in zip(self.noise, (effects.gamma, effects.delta), strict=True)
            )
            effects = BatchEffects(gamma, delta, effects.location_only & touched)
            touched = np.ones_like(touched)
        return effects, touched

    def shrunken(self, shrunken: Shrunken, effects: BatchEffects, moments: Moments, batches: Batches) -> Shrunken:
        """Shrink in R's rounds, and R's reference."""
        if self.rounds is not None:
            shrunken = by_rounds(effects, moments.n_observed.astype(float), shrunken, self.rounds)
        if self.reference_shrunk and batches.reference is not None:
            delta = shrunken.delta.copy()
            delta[batches.reference] = effects.delta[batches.reference]
            shrunken = replace(shrunken, delta=delta)
        return shrunken


def under(
    fit: FittedComBat, study: Study, rules: RRules, *, mean: MeanFit | None = None, mean_only: bool | None = None
) -> dict[str, Quantity]:
    """Compute all steps after the mean under R's rules; return everything to compare, NaN where a rule leaves it open.

    Parameters
    ----------
    fit, study : ours; mean : another mean model than the fit's; mean_only : fit location alone, whatever the fit did.
    """
    ours = fit.location_scale("crosscheck")
    only = ours.model.mean_only if mean_only is None else mean_only
    model = replace(ours.model, mean_only=only, rules=replace(rules, mean_only=only))
    used = fit.mean if mean is None else mean
    with np.errstate(divide="ignore", invalid="ignore"):
        sites = model.fit(used.moments, ours.batches)
        computed = quantities(replace(fit, mean=used, batch=sites), study)
    open_features = sites.scale.degenerate if rules.left_out is None else sites.scale.degenerate | rules.left_out
    # Divided by the rounding of a variance that is none.
    open_cells = open_features | (sites.effects.location_only & ~(sites.shrunken.delta > _ROUNDING))
    hidden = {"subjects": open_cells[study.codes]} | dict.fromkeys(("sites", "terms", "tests"), open_features)
    return {
        name: replace(quantity, values=np.where(hidden[quantity.rows], np.nan, quantity.values))
        for name, quantity in computed.items()
    }


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
