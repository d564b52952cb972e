r"""Empirical-Bayes posteriors of a site's location and scale, each given the other's estimate.

    γ_bk | δ*_bk ~ N(γ*, τ²δ*/(nτ² + δ*)),      δ_bk | γ*_bk ~ InvGamma(n/2 + a, b + ½[(n − 1)δ̂ + n(γ̂ − γ*)²])

(Johnson, Li & Rabinovic 2007, conditional posteriors), whose means are γ* and δ*. With ``eb=False`` priors are flat:
τ² = ∞, and InvGamma((n − 1)/2, (n − 1)δ̂/2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pycombat_gam.batch.effects import BatchEffects
from pycombat_gam.batch.prior import Shrunken
from pycombat_gam.errors import NotYetError
from pycombat_gam.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Posterior:
    """Normal for γ, inverse gamma for δ; of B batches and V features, on the standardized scale.

    Attributes
    ----------
    gamma, gamma_variance : (B, V) mean and variance of γ; a variance of zero where γ is fixed.
    delta_shape, delta_rate : (B, V) of δ; NaN where δ is fixed.
    """

    gamma: FloatArray
    gamma_variance: FloatArray
    delta_shape: FloatArray
    delta_rate: FloatArray


def posterior(
    effects: BatchEffects,
    shrunken: Shrunken,
    n: IntArray,
    *,
    prior: str,
    eb: bool,
    mean_only: bool,
    reference: int | None,
) -> Posterior:
    """Return the conditional posteriors.

    Parameters
    ----------
    effects : γ̂, δ̂; shrunken : γ*, δ* and their priors; n : (B, V) cells.
    prior, eb, mean_only : of the fit; reference : index of the batch whose effects are fixed, or None.

    Raises
    ------
    NotYetError
        For a non-parametric prior, whose posterior has no such form.
    """
    if eb and prior == "nonparametric":
        raise NotYetError("a non-parametric prior has no posterior in closed form: use prior='parametric'")
    cells = n.astype(np.float64)
    if not eb:
        variance = shrunken.delta / cells
        shape, rate = (cells - 1.0) / 2.0, (cells - 1.0) * effects.delta / 2.0
    else:
        t2, a, b = (
            values[:, None] for values in (shrunken.priors.t2, shrunken.priors.a_prior, shrunken.priors.b_prior)
        )
        # R's `postmean(…, 1, 1, …)`: a mean-only model takes every site for one row.
        shots = np.ones_like(cells) if mean_only else cells
        variance = t2 * shrunken.delta / (shots * t2 + shrunken.delta)
        within = (cells - 1.0) * effects.delta + cells * (effects.gamma - shrunken.gamma) ** 2
        shape, rate = cells / 2.0 + a, b + within / 2.0
    fixed = effects.location_only | mean_only
    shape, rate = np.where(fixed, np.nan, shape), np.where(fixed, np.nan, rate)
    if reference is not None:
        variance[reference], shape[reference], rate[reference] = 0.0, np.nan, np.nan
    return Posterior(shrunken.gamma, variance, shape, rate)
