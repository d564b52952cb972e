"""The posterior of a fitted ComBat: its sampler, and what the draws are of, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pycombat_gam.batch.location_scale import LocationScaleFit
from pycombat_gam.batch.model import Batches
from pycombat_gam.infer.flat import FlatSampler
from pycombat_gam.infer.gibbs import Model, Plan, Sampler
from pycombat_gam.infer.harmonized_draws import SiteDraws
from pycombat_gam.infer.problem import Problem
from pycombat_gam.mean.fit import MeanFit
from pycombat_gam.types import IntArray
from pycombat_gam.words import count, listing

ENOUGH = 5
"""With fewer features, hyperparameters rest on little beside their priors."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """What draws a fit's parameters.

    Attributes
    ----------
    sampler : with or without priors over features; reference : index of the reference site, or None.
    """

    sampler: Sampler | FlatSampler
    reference: int | None

    @property
    def informing(self) -> Posterior:
        """The posterior of the features that inform hyperparameters; itself where those are all."""
        first = self.sampler.informing if isinstance(self.sampler, Sampler) else None
        return self if first is None else Posterior(first, self.reference)

    def blocks(self, width: int | None = None) -> Iterator[tuple[IntArray, SiteDraws]]:
        """Draw block by block: yields (which features of the fit, their draws)."""
        model = self.sampler.model
        for span, draws in self.sampler.blocks(width):
            sites = SiteDraws.of(draws, model.problem, span, reference=self.reference, scaled=model.scaled)
            yield model.problem.features[span], sites


def posterior_of(mean: MeanFit, batch: LocationScaleFit, plan: Plan, seed: int) -> Posterior:
    """Return the posterior of a fit, hyperparameters drawn.

    Parameters
    ----------
    mean : with `groups`; batch : says which features are harmonized, and which sites are of location only.
    plan : how long to sample; without empirical Bayes only its number of draws counts.
    """
    # With priors one row says something of a scale.
    blind = batch.effects.location_only & ((mean.n_observed > 1) | (not batch.model.eb))
    problem = Problem.of(mean, np.flatnonzero(~batch.scale.degenerate), blind)
    model = Model(problem, not batch.model.mean_only, seed)
    sampler: Sampler | FlatSampler
    if batch.model.eb:
        sampler = Sampler.prepare(model, plan)
    else:
        sampler = FlatSampler(model, plan.draws, mean.df[:, problem.features])
    return Posterior(sampler, batch.batches.reference)


def few_notes(n_rows: IntArray, batches: Batches, features: int, *, eb: bool = True) -> list[str]:
    """Say where draws rest on little: sites of one or two rows, hyperparameters of few features."""
    notes = []
    small = [label for label, n in zip(batches.labels, n_rows, strict=True) if n <= 2]
    if small:
        notes.append(
            f"batch {listing(small)} has {'one row or two' if eb else 'one or two rows'}: draws there rest "
            f"{'mostly on the prior' if eb else 'on hardly anything'}"
        )
    if eb and features < ENOUGH:
        notes.append(f"the priors rest on {count(features, 'feature')}: with fewer than {ENOUGH} they decide a lot")
    return notes
