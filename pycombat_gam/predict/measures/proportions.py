"""Shares at one site with Wilson's interval, and means over sites with Student's."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri, stdtrit

from pycombat_gam.types import FloatArray


def wilson(right: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's (1927, J. Am. Stat. Assoc. 22:209) interval of a share of n rows; NaN for no row.

    R: ``prop.test(right, n, correct = FALSE)``.

    >>> [round(end, 4) for end in wilson(9, 10)]
    [0.5958, 0.9821]
    """
    if not n:
        return np.nan, np.nan
    z = -float(ndtri((1 - level) / 2))
    middle = (right + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * np.sqrt(right * (n - right) / n + z**2 / 4)
    return max(float(middle - half), 0.0), min(float(middle + half), 1.0)


def mean_share(shares: FloatArray, level: float = 0.95) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the mean of shares over sites, and Student's interval within 0 and 1.

    Parameters
    ----------
    shares : array of shape (K, …)
        Of K sites, all of which weigh the same.

    Returns
    -------
    mean, lower, upper : arrays of shape (…)
        One site has no interval: NaN.
    """
    K = len(shares)
    mean = np.asarray(shares.mean(axis=0))
    if K < 2:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    half = stdtrit(K - 1, (1 + level) / 2) * shares.std(axis=0, ddof=1) / np.sqrt(K)
    return mean, np.clip(mean - half, 0.0, 1.0), np.clip(mean + half, 0.0, 1.0)
