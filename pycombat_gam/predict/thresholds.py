r"""Thresholds of scores, and the levels that they can guarantee.

Sites k = 1 … K, rows i = 1 … n_k. s_ki says how strange row i of site k is to the model without its site; α is
1 − level.

- Across sites (hierarchical conformal prediction; Lee, Barber & Willett 2023, arXiv 2306.06342):
  q = inf{q : Σ_k n_k⁻¹ Σ_i 1{s_ki ≤ q} ≥ (1 − α)(K + 1)}, infinite iff α < 1/(K + 1). Without the "+ 1" it is an
  estimate (Dunn, Wasserman & Ramdas 2023).
- At a share 1 − δ of sites (Duchi, Gupta, Jiang & Sur 2024, arXiv 2403.16336): with T_k the ⌈(1 − α) n_k⌉-th smallest
  s_ki, the ⌈(1 − δ)(K + 1)⌉-th smallest T_k.
- Within one site (split conformal; Vovk, Gammerman & Shafer 2005): the ⌈(1 − α)(m + 1)⌉-th smallest of its m scores.
"""

from __future__ import annotations

import numpy as np

from pycombat_gam.types import FloatArray, IntArray

ROUNDING = 1e-9
"""Sums of 1/n and products such as 0.9 · 20 are off by rounding, far less than by one row."""


def across_sites(scores: FloatArray, sites: IntArray, level: float, *, guarantee: bool = True) -> float:
    """Return the threshold that holds a row of a new site.

    Parameters
    ----------
    scores : (n,) ; sites : (n,) codes, of any kind.
    guarantee : with the new site counted among the K + 1, or estimated.
    """
    if not scores.size:
        return np.inf
    _, at, sizes = np.unique(sites, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    weight = np.cumsum((1.0 / sizes)[at][order])
    needed = level * (sizes.size + guarantee)
    position = int(np.searchsorted(weight, needed - ROUNDING))
    return float(scores[order][position]) if position < scores.size else np.inf


def at_share_of_sites(
    scores: FloatArray, sites: IntArray, level: float, share: float, *, guarantee: bool = True
) -> float:
    """Return the threshold that holds a part `level` of the rows at a part `share` of new sites."""
    own = np.sort([order_statistic(scores[sites == code], level, more=0) for code in np.unique(sites)])
    return order_statistic(own, share, more=int(guarantee))


def within_site(scores: FloatArray, level: float) -> float:
    """Return the threshold that holds a further row of the site whose scores these are."""
    return order_statistic(scores, level, more=1)


def order_statistic(scores: FloatArray, level: float, *, more: int) -> float:
    """Return the ⌈level (n + more)⌉-th smallest score; infinite if there are fewer."""
    k = int(np.ceil(level * (scores.size + more) - ROUNDING))
    return float(np.sort(scores)[max(k, 1) - 1]) if k <= scores.size and scores.size else np.inf


def ceiling(sites: int) -> float:
    """Return the highest level that K sites can guarantee at a new one."""
    return sites / (sites + 1)


def reachable(level: float, top: float) -> bool:
    """Tell whether a level does not exceed the highest one."""
    return level <= top + ROUNDING


def rows_needed(level: float) -> int:
    """Return how many labelled rows of a site its own threshold needs: m ≥ 1/α − 1."""
    return int(np.ceil(1.0 / (1.0 - level) - 1.0 - ROUNDING))
