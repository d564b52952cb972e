"""Calibration: from scores of sites left out to thresholds, and how often the sets held the truth at sites left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pycombat_gam.predict.left_out import Evidence
from pycombat_gam.predict.scores import Scores
from pycombat_gam.predict.thresholds import across_sites, at_share_of_sites, ceiling, within_site
from pycombat_gam.types import FloatArray, IntArray


@dataclass(frozen=True)
class Demand:
    """What sets are asked to do.

    Attributes
    ----------
    level : how often they shall hold the truth; share : at which share of sites, or None for on average.
    guarantee : guaranteed, or estimated.
    """

    level: float
    share: float | None
    guarantee: bool

    def threshold(self, scores: FloatArray, sites: IntArray) -> float:
        """Return the threshold of scores (n,) at sites (n,) for rows of a new site."""
        if self.share is None:
            return across_sites(scores, sites, self.level, guarantee=self.guarantee)
        return at_share_of_sites(scores, sites, self.level, self.share, guarantee=self.guarantee)

    @property
    def asked(self) -> float:
        """The level that the number of sites limits."""
        return self.level if self.share is None else self.share


def thresholds(demand: Demand, scores: Scores, truth: FloatArray, y: FloatArray, sites: IntArray) -> FloatArray:
    """Return the threshold of each stratum for a new site, infinite where none is possible."""
    strata = scores.strata(y)
    return np.array(
        [demand.threshold(truth[strata == s], sites[strata == s]) for s in range(scores.n_strata)], dtype=np.float64
    )


def thresholds_within(level: float, scores: Scores, truth: FloatArray, y: FloatArray) -> FloatArray:
    """Return the threshold of each stratum for further rows of the site whose scores these are."""
    strata = scores.strata(y)
    return np.array([within_site(truth[strata == s], level) for s in range(scores.n_strata)], dtype=np.float64)


def ceilings(scores: Scores, y: FloatArray, sites: IntArray) -> FloatArray:
    """Return the highest level that can be guaranteed for each stratum, K_c/(K_c + 1)."""
    strata = scores.strata(y)
    return np.array([ceiling(np.unique(sites[strata == s]).size) for s in range(scores.n_strata)])


@dataclass(frozen=True, eq=False)
class Held:
    """Whether sets held the truth, unit by unit, with each site left out in turn.

    Attributes
    ----------
    covered, size : (U,); site : (U,) codes.
    """

    covered: FloatArray
    size: FloatArray
    site: IntArray


def held_out(demand: Demand, scores: Scores, evidence: Evidence) -> Held:
    """Judge sets at each site by all that was computed without it.

    Guaranteed sets rest on the pairs; estimated sets take the model without the site, calibrated by the pairs as well.
    """
    covered, size = np.zeros(len(evidence.y)), np.zeros(len(evidence.y))
    extremes = evidence.pair_extremes if demand.guarantee else scores.extremes(evidence.left_out)
    for j in range(evidence.n_sites):
        here, there = evidence.site == j, evidence.site != j
        q = thresholds(demand, scores, evidence.pair_truth[there, j], evidence.y[there], evidence.site[there])
        covered[here] = scores.covered(extremes[here], q, evidence.y[here])
        size[here] = scores.sizes(extremes[here], q)
    return Held(covered, size, evidence.site)


def coverage_table(held: Held, group: IntArray, labels: tuple[str, ...], groups: tuple[str, ...]) -> pd.DataFrame:
    """Return coverage and mean size by site and class; group (U,) is the class, with a name each."""
    rows = []
    for j, label in enumerate(labels):
        for g in [-1, *range(len(groups) if len(groups) > 1 else 0)]:
            at = (held.site == j) & ((group == g) | (g < 0))
            n = int(at.sum())
            rows.append(
                {
                    "site": label,
                    "class": "all" if g < 0 else groups[g],
                    "n": n,
                    "coverage": held.covered[at].mean() if n else np.nan,
                    "size": held.size[at].mean() if n else np.nan,
                }
            )
    return pd.DataFrame(rows)
