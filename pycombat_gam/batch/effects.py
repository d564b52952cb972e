r"""Naive batch effects on the standardized scale.

    γ̂_bk = (α_bk − ĝ_k)/σ̂_k            δ̂_bk = rss_bk / ((n_bk − 1) σ̂²_k)

which are the batch's mean and variance of the standardized data (residuals sum to zero in every batch, because the
batch columns are in the design). If a feature has one observed value in a batch, only equal values, or residuals that
are rounding, it says nothing about scale there: it gets a location only, δ̂ = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pycombat_gam.batch.moments import Moments
from pycombat_gam.batch.standardize import Standardization
from pycombat_gam.types import BoolArray, FloatArray


@dataclass(frozen=True, eq=False)
class BatchEffects:
    """γ̂ (`gamma`) and δ̂ (`delta`, a variance), both (B, V), and which of them are of location only (B, V)."""

    gamma: FloatArray
    delta: FloatArray
    location_only: BoolArray


def estimate_effects(
    moments: Moments, scale: Standardization, *, mean_only: bool, reference: int | None
) -> BatchEffects:
    """Estimate γ̂ and δ̂; a degenerate feature gets 0 and 1.

    Parameters
    ----------
    moments : from the mean model, B batches and V features; scale : standardization of the features.
    mean_only : set δ̂ to 1, as R does.
    reference : index of the reference batch: its location is zero by definition, not by rounding.
    """
    gamma = np.where(scale.degenerate, 0.0, (moments.location - scale.grand_mean) / scale.sd)
    if reference is not None:
        gamma[reference] = 0.0
    spread = np.sqrt(moments.residual_ss / np.maximum(moments.n_observed - 1, 1))
    location_only = moments.constant | (moments.n_observed < 2) | ~(spread > moments.rounding)
    if mean_only:
        return BatchEffects(gamma, np.ones_like(gamma), location_only)
    delta = (spread / scale.sd) ** 2
    delta[location_only | scale.degenerate] = 1.0
    return BatchEffects(gamma, delta, location_only)
