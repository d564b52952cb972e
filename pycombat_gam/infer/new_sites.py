r"""Sites that were not in the fit: their effects given each draw of the fit, hyperparameters over their own features.

With L, β and the pooled variance σ̄² of one draw of the fit, a site's rows leave r = Y − x'β − L of every feature, and

    r_i ~ N(γ, σ²),   γ/σ̄ ~ N(γ̄, τ²),   σ²/σ̄² ~ InvGamma(a, b),

with the priors of `hyperparameters`. Some sweeps of γ, σ² and the hyperparameters follow each draw of the fit, and the
last of them is the draw of the site. Rows of new sites do not change what is known of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from pycombat_gam.infer.gibbs import FEATURES, SOME
from pycombat_gam.infer.harmonized_draws import SiteDraws, residuals
from pycombat_gam.infer.hyperparameters import Hyperparameters, Sums, location_update, scale_update
from pycombat_gam.infer.streams import Streams, generator
from pycombat_gam.types import BoolArray, FloatArray, IntArray

NEW = 3
"""Purpose of the random numbers of new sites."""
SWEEPS = 3
"""Sweeps for each draw of the fit."""
BURN = 50
"""Sweeps before the first draw, at the first draw of the fit."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What m draws of the fit leave of one site's rows and v features.

    Attributes
    ----------
    n : (v,) observed cells; mean, around : (m, v) mean and sum of squares around it of Y − x'β − L.
    pooled : (m, v) the variance that sites are brought to; blind : (v,) without variance in these rows.
    """

    n: FloatArray
    mean: FloatArray
    around: FloatArray
    pooled: FloatArray
    blind: BoolArray

    @classmethod
    def of(cls, sites: SiteDraws, Y: FloatArray, X: FloatArray, blind: BoolArray) -> Seen:
        """Add up some rows (n, v), a missing cell NaN; X is the design less its centre."""
        here = ~np.isnan(Y)
        n = here.sum(axis=0).astype(np.float64)
        total, squares = np.zeros_like(sites.level), np.zeros_like(sites.level)
        for rows, _, left in residuals(sites, Y, X):
            total += np.where(here[rows], left, 0.0).sum(axis=1)
        mean = total / np.maximum(n, 1.0)
        for rows, _, left in residuals(sites, Y, X):
            squares += (np.where(here[rows], left - mean[:, None], 0.0) ** 2).sum(axis=1)
        return cls(n, mean, squares, sites.pooled, blind)

    @classmethod
    def joined(cls, parts: Sequence[Seen]) -> Seen:
        """Put features after one another."""
        return cls(**{name: np.concatenate([vars(part)[name] for part in parts], axis=-1) for name in vars(parts[0])})

    def features(self, span: slice | IntArray) -> Seen:
        """Return the same of some features."""
        return Seen(self.n[span], self.mean[:, span], self.around[:, span], self.pooled[:, span], self.blind[span])


@dataclass(frozen=True, eq=False)
class NewSite:
    """A site to be drawn.

    Attributes
    ----------
    label : its name, which decides its random numbers; seed : of everything; scaled : whether sites have a scale.
    eb : whether its features share hyperparameters; without, each is drawn for itself.
    """

    label: str
    seed: int
    scaled: bool
    eb: bool

    def streams(self, whole: bool, start: int, stop: int) -> Streams:
        """Return the random numbers of some features, of all or of those that inform."""
        return Streams(self.seed, (NEW, crc32(self.label.encode()), FEATURES if whole else SOME), start, stop)

    def path(self, seen: Seen, *, whole: bool) -> tuple[Hyperparameters, ...]:
        """Draw the hyperparameters with some features, all or those that inform; none without empirical Bayes."""
        observed = seen.n > 0
        if not self.eb or not observed.any():
            return ()
        m, v = seen.mean.shape
        chain = _Chain(self, seen, self.streams(whole, 0, v))
        source = generator(self.seed, NEW, crc32(self.label.encode()))
        first = (seen.mean[0] / np.sqrt(seen.pooled[0]))[observed]
        now = Hyperparameters(*(np.array([x]) for x in (first.mean(), max(first.var(), 0.05), 8.0, 8.0)))
        path = []
        for at in _sweeps(m):
            path.append(now)
            gamma, ratio = chain.sweep(at, now)
            now = _updated(now, Sums.of(gamma[None, observed], ratio[None, observed]), source, scaled=self.scaled)
        return tuple(path)

    def draw(self, seen: Seen, path: Sequence[Hyperparameters], start: int) -> tuple[FloatArray, FloatArray]:
        """Draw the site's shift and 1/d, each (m, v), of features from the `start`-th on."""
        m, v = seen.mean.shape
        streams = self.streams(True, start, start + v)
        if not path:
            return self._flat(seen, streams)
        chain = _Chain(self, seen, streams)
        shift, inverse_scale = np.empty((m, v)), np.ones((m, v))
        for sweep, at in enumerate(_sweeps(m)):
            gamma, _ = chain.sweep(at, path[sweep])
            pooled = seen.pooled[at]
            shift[at] = gamma * np.sqrt(pooled)
            if self.scaled:
                inverse_scale[at] = np.where(seen.blind, 1.0, np.sqrt(pooled / chain.variance))
        return shift, inverse_scale

    def _flat(self, seen: Seen, streams: Streams) -> tuple[FloatArray, FloatArray]:
        m, v = seen.mean.shape
        known = (seen.n > 1) & ~seen.blind & self.scaled
        shift, inverse_scale = np.empty((m, v)), np.ones((m, v))
        half = 0.5 * np.where(known, seen.n - 1.0, 1.0)
        for at in range(m):
            chi, noise = streams.gamma(half[None])[0], streams.normal(1)[0]
            variance = np.where(known, 0.5 * seen.around[at] / chi, seen.pooled[at])
            shift[at] = seen.mean[at] + np.sqrt(variance / np.maximum(seen.n, 1.0)) * noise
            inverse_scale[at] = np.sqrt(seen.pooled[at] / variance)
        return shift, inverse_scale


class _Chain:
    """The features of a new site on their way: σ² (v,) is all that a sweep takes from the last."""

    def __init__(self, site: NewSite, seen: Seen, streams: Streams) -> None:
        self.site, self.seen, self.streams = site, seen, streams
        self.variance = seen.pooled[0].copy()
        self.half = 0.5 * np.where(seen.blind, 0.0, seen.n)

    def sweep(self, at: int, hyper: Hyperparameters) -> tuple[FloatArray, FloatArray]:
        """Draw γ/σ̄ and σ²/σ̄² (v,), given draw `at` of the fit and the hyperparameters."""
        n, pooled = self.seen.n, self.seen.pooled[at]
        if not self.site.scaled:
            self.variance = pooled
        rows = n * pooled / self.variance
        precision = rows + 1.0 / hyper.spread
        center = (rows * self.seen.mean[at] / np.sqrt(pooled) + hyper.mean / hyper.spread) / precision
        gamma = center + self.streams.normal(1)[0] / np.sqrt(precision)
        if self.site.scaled:
            around = self.seen.around[at] / pooled + n * (self.seen.mean[at] / np.sqrt(pooled) - gamma) ** 2
            around[self.seen.blind] = 0.0
            self.variance = (
                pooled * (hyper.rate + 0.5 * around) / self.streams.gamma((hyper.shape + self.half)[None])[0]
            )
        return gamma, self.variance / pooled


def _sweeps(m: int) -> list[int]:
    """Return which draw of the fit each sweep is given."""
    return [0] * BURN + [at for at in range(m) for _ in range(SWEEPS)]


def _updated(now: Hyperparameters, sums: Sums, source: np.random.Generator, *, scaled: bool) -> Hyperparameters:
    mean, spread = location_update(now.spread, sums, source)
    shape, rate = scale_update(now.shape, sums, source) if scaled else (now.shape, now.rate)
    return Hyperparameters(mean, spread, shape, rate)
