"""Differences between the implementations that are known: where one is at work, our numbers under R's rule.

A difference counts as explained only if, with R's rule put into our computation, the numbers agree. What such a rule
cannot give (a feature that R leaves out) is NaN, and not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from pycombat_gam.batch.location_scale import estimate_effects
from pycombat_gam.batch.prior import shrink
from pycombat_gam.batch.standardize import Standardization, standardize
from pycombat_gam.harmonizer import BatchOptions
from pycombat_gam.mean.fit import MeanFit
from pycombat_gam.result import FittedComBat
from pycombat_gam.types import BoolArray, FloatArray
from r_bridge.agreement.ours import Quantity, quantities
from r_bridge.study import Study

BETTER = 1e-6
"""A score counts as lower from here."""


@dataclass(frozen=True, eq=False)
class Known:
    """A known difference: why, and our quantities under R's rule."""

    explanation: str
    quantities: dict[str, Quantity]


def known(
    engine: str,
    fit: FittedComBat,
    study: Study,
    options: BatchOptions,
    theirs: Mapping[str, FloatArray],
    mean_of_r: MeanFit | None,
) -> Iterator[Known]:
    """Yield the known differences that may be at work between our fit and an engine's numbers.

    Parameters
    ----------
    engine : R's package; theirs : what it gave, by quantity.
    fit, study, options : ours.
    mean_of_r : R's fitted mean in our design, from `MgcvMean`, where there is one.
    """
    if engine == "mgcv" and mean_of_r is not None and fit.mean.smoothing.score.size:
        worse = theirs["score"][0] - fit.mean.smoothing.score[0] > BETTER
        if worse.any():
            names = ", ".join(np.array(study.given.features, dtype=object)[worse][:5])
            gap = float((theirs["score"][0] - fit.mean.smoothing.score[0])[worse].max())
            yield Known(
                f"R's search stopped in a local optimum for {int(worse.sum())} of {worse.size} features ({names}): its "
                f"score is higher than ours by up to {gap:.2g}. With R's curves for these features the rest agrees.",
                quantities(_again(fit, options, spliced(fit.mean, mean_of_r, worse)), study),
            )
    if engine == "sva":
        if np.isnan(study.Y.to_numpy()).any():
            yield Known(
                "sva divides the pooled variance by n - 1 instead of n when any cell is missing.",
                quantities(_again(fit, options, fit.mean, by_n_minus_1=True), study),
            )
        if (fit.mean.n_rows == 1).any() and not options.mean_only:
            yield Known(
                "sva adjusts location only, at all sites, when a site has one subject.",
                quantities(_again(fit, replace(options, mean_only=True), fit.mean), study),
            )
    odd = fit.scale.degenerate | (fit.effects.location_only & (fit.mean.n_rows > 1)[:, None]).any(axis=0)
    if odd.any():
        names = ", ".join(np.array(study.given.features, dtype=object)[odd][:5])
        yield Known(
            f"{int(odd.sum())} of {odd.size} features are constant, or constant within a site ({names}): we adjust "
            "their location there, or pass them through; R leaves them out, divides by rounding, or lets them into the "
            "priors. The other features agree once these are left out of the priors.",
            {
                name: replace(q, values=np.where(odd, np.nan, q.values))
                for name, q in quantities(_again(fit, options, fit.mean, without=odd), study).items()
            },
        )


def spliced(ours: MeanFit, theirs: MeanFit, features: BoolArray) -> MeanFit:
    """Return our mean with R's for some features."""

    def mix(a: FloatArray, b: FloatArray) -> FloatArray:
        return np.where(features, b, a)

    smoothing = replace(
        ours.smoothing,
        parameters=mix(ours.smoothing.parameters, theirs.smoothing.parameters),
        edf=mix(ours.smoothing.edf, theirs.smoothing.edf),
        score=mix(ours.smoothing.score, theirs.smoothing.score),
    )
    return replace(
        ours,
        coefficients=mix(ours.coefficients, theirs.coefficients),
        intercepts=mix(ours.intercepts, theirs.intercepts),
        residual_ss=mix(ours.residual_ss, theirs.residual_ss),
        smoothing=smoothing,
    )


def _again(
    fit: FittedComBat,
    options: BatchOptions,
    mean: MeanFit,
    *,
    by_n_minus_1: bool = False,
    without: BoolArray | None = None,
) -> FittedComBat:
    """ComBat's steps after the mean once more, under another rule."""
    reference = fit.reference
    scale = standardize(
        mean.intercepts, mean.residual_ss, mean.n_observed, mean.n_rows, mean.constant, mean.rounding, reference
    )
    if by_n_minus_1:
        n = mean.n_observed.sum(axis=0) if reference is None else mean.n_observed[reference]
        scale = Standardization(scale.grand_mean, scale.var_pooled * n / (n - 1), scale.degenerate)
    if without is not None:
        scale = Standardization(scale.grand_mean, scale.var_pooled, scale.degenerate | without)
    effects = estimate_effects(
        mean.intercepts, mean.residual_ss, mean.n_observed, mean.constant, mean.rounding, scale,
        mean_only=options.mean_only, reference=reference,
    )  # fmt: skip
    shrunken = shrink(
        effects, mean.n_observed, mean.n_rows, ~scale.degenerate, fit.levels.labels,
        prior=options.prior, mean_only=options.mean_only, reference=reference,
    )  # fmt: skip
    return replace(fit, mean=mean, scale=scale, effects=effects, shrunken=shrunken)
