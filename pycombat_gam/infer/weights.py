r"""Site weights that all features share, from the logarithms of their site variances.

    log δ̄_b = mean over features k of  log(s²_bk/pooled_k) − ψ(d_b/2) + log(d_b/2),      w_b = 1/δ̄_b,

normalised so that Σ d_b log δ̄_b = 0; ψ takes off the bias of the logarithm of a χ². Each round fits with the weights of
the last. limma's ``arrayWeights(var.group = site)`` estimates the same variances (Ritchie et al. 2006, BMC
Bioinformatics 7:261).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import digamma

from pycombat_gam.infer.kenward_roger import TOLD
from pycombat_gam.types import BoolArray, FloatArray

ROUNDS, ROUNDS_PENALISED = 3, 2
"""Each round starts from the weights of the last; penalised fits are dear."""
SMALLEST_VARIANCE = 0.05
"""Relative to the others: no site is trusted more than twenty times as much as another."""


@dataclass(frozen=True, eq=False)
class SiteSquares:
    """What a weighted fit of k features left in B sites.

    Attributes
    ----------
    residual_ss : (B, k); df : (B, k) or (B, 1), what it is worth.
    used : (B, k) whether a residual is more than rounding there.
    """

    residual_ss: FloatArray
    df: FloatArray
    used: BoolArray


def shared_weights(fit: Callable[[FloatArray], Sequence[SiteSquares]], n_sites: int, rounds: int) -> FloatArray:
    """Return the weights (B,); `fit` fits groups of features with given weights, equal ones first."""
    weights = np.ones(n_sites)
    for _ in range(rounds):
        weights = 1.0 / np.maximum(relative_variances(fit(weights), weights), SMALLEST_VARIANCE)
    return weights


def relative_variances(parts: Sequence[SiteSquares], weights: FloatArray) -> FloatArray:
    """Return δ̄ (B,), 1 where a site tells nothing."""
    total, cells, df = np.zeros(weights.size), np.zeros(weights.size), np.zeros(weights.size)
    for part in parts:
        told = (part.df > TOLD) & part.used & (part.residual_ss > 0)
        d, r = np.where(told, part.df, 0.0), part.residual_ss
        free = d.sum(axis=0)
        with np.errstate(divide="ignore"):
            pooled = np.log((weights @ np.where(told, r, 0.0)) / np.where(free > 0, free, 1.0))
            logs = np.log(r, out=np.zeros_like(r), where=told)
        half = np.where(part.df > TOLD, part.df, 2.0) / 2.0
        bias = digamma(half) + np.log(2.0)
        cells += told.sum(axis=1)
        # log(r/d) − ψ(d/2) + log(d/2) = log r − ψ(d/2) − log 2
        total += logs.sum(axis=1) - told @ np.where(free > 0, pooled, 0.0) - (told * bias).sum(axis=1)
        df += d.sum(axis=1)
    log = np.divide(total, cells, out=np.zeros_like(total), where=cells > 0)
    log -= (df @ log) / max(float(df.sum()), TOLD)
    return np.asarray(np.where(cells > 0, np.exp(log), 1.0))
