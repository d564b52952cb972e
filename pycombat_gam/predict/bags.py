"""Few rows at a new site: calibration rows are harmonized in bags as small as it.

The guarantee presumes that a new site and those that calibrate are harmonized from as many rows. So each calibration
row is harmonized within a random bag of m rows of its own site, or within the whole site where that has no more, and
each new row within a bag of m rows of the new one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pycombat_gam.predict.fold import Fold
from pycombat_gam.predict.rows import Rows
from pycombat_gam.predict.scores import Scores
from pycombat_gam.types import FloatArray, IntArray

SIZES = tuple(digit * 10**power for power in range(6) for digit in (1, 2, 3, 5))
"""Sizes of bags that are calibrated, below the largest site; a new site takes the largest that it can fill."""
SORTED_BY = 16
"""Columns that order the rows before they are shuffled; more would hardly ever break a tie."""


def calibrated_in_bags(
    without: tuple[Fold, ...], rows: Rows, y: FloatArray, scores: Scores, seed: int
) -> dict[int, FloatArray]:
    """Score every unit as if its site had given bags of m rows at most: (U,) for each m below the largest site.

    Parameters
    ----------
    without : the fits without each site; y : (U,) outcomes of units.
    """
    most = int(np.bincount(rows.codes).max())
    scored = {}
    for m in (size for size in SIZES if size < most):
        P: FloatArray | None = None
        for k, fold in enumerate(without):
            at = np.flatnonzero(rows.codes == k)
            part = _predicted(fold.predict, rows.take(at), m, seed)
            P = np.empty((len(rows), part.shape[1])) if P is None else P
            P[at] = part
        assert P is not None
        scored[m] = scores.truth(rows.by_unit(P), y)
    return scored


def predict_in_bags(fold: Fold, rows: Rows, m: int, seed: int) -> FloatArray:
    """Predict rows (n, C), each harmonized within a random bag of m rows of its site."""
    return _predicted(fold.predict, rows, m, seed)


def _predicted(predict: Callable[[Rows, IntArray], FloatArray], rows: Rows, m: int, seed: int) -> FloatArray:
    bags = _bags(rows.Y, rows.codes, m, seed)
    members = np.concatenate([bag for bag, _ in bags])
    together = np.repeat(np.arange(len(bags)), [bag.size for bag, _ in bags])
    counted = np.concatenate([np.arange(bag.size) < counts for bag, counts in bags])
    predicted = predict(rows.take(members), together)
    P = np.empty((len(rows), predicted.shape[1]))
    P[members[counted]] = predicted[counted]
    return P


def _bags(Y: FloatArray, sites: IntArray, m: int, seed: int) -> list[tuple[IntArray, int]]:
    """Put the rows of each site into random bags of m.

    Parameters
    ----------
    Y : (n, V) features, whose content orders the rows, so that neither row order nor names of sites matter.

    Returns
    -------
    list of (rows, counts)
        The first `counts` rows of a bag are its own, each row in one bag; others fill up the last bag of a site.
    """
    bags = []
    for code in np.unique(sites):
        rows = np.flatnonzero(sites == code)
        rng = np.random.default_rng([seed, m, rows.size])
        rows = rng.permutation(rows[np.lexsort(Y[rows, :SORTED_BY].T)])
        for start in range(0, rows.size, m):
            chosen, others = rows[start : start + m], np.concatenate([rows[:start], rows[start + m :]])
            more = rng.choice(others, min(m - chosen.size, others.size), replace=False)
            bags.append((np.concatenate([chosen, more]), chosen.size))
    return bags
