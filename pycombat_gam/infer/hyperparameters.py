r"""What all features share: the distributions of site effects, and their draws given the effects of all features.

    γ_bk ~ N(γ̄_b, τ²_b),   σ²_bk ~ InvGamma(a_b, b_b u²_k),   log u²_k flat,

with γ in units of a feature's residual sd, and u² the feature's own scale. Priors are weak: γ̄ flat, τ² InvGamma(1,
.05), log a normal around log 8 with sd 1, and b Gamma(κ, κ/(a + 1)) with κ = ½. The last is proper because one row
tells the variance of a site from the spread of its location only by this prior.

Draws: τ² and γ̄ from their conditional distributions; log a by random walk with b integrated out, then b given a; and
the scale that b and u² have in common from its own conditional (Liu & Sabatti 2000, Biometrika 87:353), without which
both would wander slowly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from pycombat_gam.types import FloatArray

SPREAD = (1.0, 0.05)
"""Shape and rate of τ²'s prior, in squared residual sds: a site's locations spread by at least a fifth of an sd."""
SHAPE = (np.log(8.0), 1.0)
"""Mean and sd of log a: site variances vary over features by a third, give or take a factor."""
RATE = 0.5
"""κ of b's prior: as much as half an observation."""
STEPS = 3
"""Steps of the walk of log a in each sweep: each costs nothing beside the sweep."""


@dataclass(frozen=True, eq=False)
class Hyperparameters:
    """Of B sites, each (B,): `mean` γ̄, `spread` τ², `shape` a, `rate` b."""

    mean: FloatArray
    spread: FloatArray
    shape: FloatArray
    rate: FloatArray


@dataclass(frozen=True, eq=False)
class Sums:
    """What the hyperparameters need of K features' site effects: sums over features, each (B,).

    Attributes
    ----------
    count : K; first, second : of γ and γ²; inverse, logs : of u²/σ² and log(σ²/u²).
    """

    count: int
    first: FloatArray
    second: FloatArray
    inverse: FloatArray
    logs: FloatArray

    @classmethod
    def of(cls, gamma: FloatArray, ratio: FloatArray) -> Sums:
        """Sum over features γ (B, v) and σ²/u² (B, v)."""
        squares = np.einsum("bv,bv->b", gamma, gamma)
        return cls(gamma.shape[1], gamma.sum(axis=1), squares, (1.0 / ratio).sum(axis=1), np.log(ratio).sum(axis=1))

    def __add__(self, other: Sums) -> Sums:
        """Put two sets of features together."""
        return Sums(**{name: value + getattr(other, name) for name, value in vars(self).items()})


def start(gamma: FloatArray, delta: FloatArray, df: FloatArray, weights: FloatArray) -> Hyperparameters:
    """Begin with plain moments of the estimates.

    Parameters
    ----------
    gamma, delta : (B, K) estimated locations and variances in units of the residual sd; df : (B,) of the variances.
    weights : (B,) of the sites in their mean, which is zero.
    """
    mean = gamma.mean(axis=1)
    level = np.where(df >= 1.0, np.clip(delta.mean(axis=1), 0.1, 10.0), 1.0)
    shape = np.full(len(mean), 8.0)
    return Hyperparameters(mean - weights @ mean, np.maximum(gamma.var(axis=1), 0.05), shape, shape * level)


def update(
    now: Hyperparameters, sums: Sums, weights: FloatArray, source: np.random.Generator, *, scaled: bool
) -> Hyperparameters:
    """Draw the hyperparameters given the site effects of all features.

    Parameters
    ----------
    now : the last draw; sums : over features; source : of random numbers; scaled : whether sites have a scale.
    weights : (B,) of the sites in the mean of γ̄, which is kept at zero: a common part belongs to the features' level.
    """
    mean, spread = location_update(now.spread, sums, source)
    mean = mean - weights @ mean
    if not scaled:
        return Hyperparameters(mean, spread, now.shape, now.rate)
    shape, rate = scale_update(now.shape, sums, source)
    # u² is divided by the same factor, but a sweep draws it anew from σ² and b.
    common = float(source.standard_gamma(RATE * mean.size) / (RATE * (rate / (shape + 1.0)).sum()))
    return Hyperparameters(mean, spread, shape, rate * common)


def location_update(spread: FloatArray, sums: Sums, source: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Draw γ̄ and τ² (B,), the last τ² given."""
    K = sums.count
    mean = sums.first / K + np.sqrt(spread / K) * source.standard_normal(spread.size)
    around = np.maximum(sums.second - 2.0 * mean * sums.first + K * mean**2, 0.0)
    return mean, (SPREAD[1] + 0.5 * around) / source.standard_gamma(SPREAD[0] + 0.5 * K, size=spread.size)


def scale_update(shape: FloatArray, sums: Sums, source: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Draw a and b (B,) of σ²/u² ~ InvGamma(a, b), the last a given."""
    K = sums.count

    def log_density(log_a: FloatArray) -> FloatArray:
        a = np.exp(log_a)
        prior_rate = RATE / (a + 1.0)
        total = K * a + RATE
        density = gammaln(total) - total * np.log(sums.inverse + prior_rate) + RATE * np.log(prior_rate)
        density -= K * gammaln(a) + (a + 1.0) * sums.logs + 0.5 * ((log_a - SHAPE[0]) / SHAPE[1]) ** 2
        return np.asarray(density)

    width = min(1.5, 2.4 * np.sqrt(2.0 / K) + 0.02)
    at = np.log(shape)
    density = log_density(at)
    for _ in range(STEPS):
        further = at + width * source.standard_normal(at.size)
        there = log_density(further)
        accepted = np.log1p(-source.random(at.size)) < there - density
        at, density = np.where(accepted, further, at), np.where(accepted, there, density)
    a = np.exp(at)
    return a, source.standard_gamma(K * a + RATE) / (sums.inverse + RATE / (a + 1.0))
