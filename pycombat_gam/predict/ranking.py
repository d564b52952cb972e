"""How often the true class is among the likeliest few: top-k accuracy, site by site.

A ranked differential diagnosis is judged by whether the truth is among its first k entries (Liu et al. 2020, Nat. Med.
26:900). Equally likely classes are ranked in the order of the classes, as in the column `ranked` of answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pycombat_gam.errors import OptionError
from pycombat_gam.predict.measures.proportions import mean_share, wilson
from pycombat_gam.types import BoolArray, FloatArray, IntArray

MEAN = "mean of sites"


def top_k(P: FloatArray, y: FloatArray, k: int) -> BoolArray:
    """Tell whether the true class is among the k likeliest.

    Parameters
    ----------
    P : array of shape (n, C)
        Probabilities of classes.
    y : array of shape (n,)
        Codes of the true classes.
    k : int
        From 1 to C.

    Returns
    -------
    bool array of shape (n,)

    Raises
    ------
    OptionError
        For another k.

    >>> top_k(np.array([[0.5, 0.3, 0.2], [0.4, 0.4, 0.2]]), np.array([2.0, 1.0]), 2)
    array([False,  True])
    """
    C = P.shape[1]
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= C:
        raise OptionError(f"k={k!r}: give a whole number from 1 to {C}, the number of classes")
    code = y.astype(np.intp)[:, None]
    lead = P - np.take_along_axis(P, code, axis=1)
    before = (lead > 0) | ((lead == 0) & (np.arange(C) < code))
    within: BoolArray = before.sum(axis=1) < k
    return within


def top_k_by_site(
    P: FloatArray, y: FloatArray, site: IntArray, labels: Sequence[str], ks: Sequence[int] = (1, 3), level: float = 0.95
) -> pd.DataFrame:
    """Return top-k accuracy at each site and its mean over sites.

    Parameters
    ----------
    P, y : arrays of shape (n, C) and (n,)
        See `top_k`; each row, or case, predicted without its site.
    site : array of shape (n,)
        Codes of sites.
    labels : sequence of str
        Name of each site.
    ks : sequence of int
        How many classes count as named.
    level : float
        Of the intervals: Wilson's at a site; Student's over sites, all of which weigh the same.

    Returns
    -------
    DataFrame
        Columns ``site``, ``k``, ``n``, ``accuracy``, ``lower``, ``upper``; the last row of each k is the mean.
    """
    rows = []
    for k in ks:
        right = top_k(P, y, k)
        shares = []
        for j, label in enumerate(labels):
            here = right[site == j]
            if here.size:
                shares.append(here.mean())
            ends = wilson(float(here.sum()), here.size, level)
            rows.append((label, k, here.size, here.mean() if here.size else np.nan, *ends))
        mean, lower, upper = mean_share(np.array(shares), level)
        rows.append((MEAN, k, right.size, float(mean), float(lower), float(upper)))
    return pd.DataFrame(rows, columns=["site", "k", "n", "accuracy", "lower", "upper"])
