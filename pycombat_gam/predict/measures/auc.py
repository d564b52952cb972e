"""Area under the ROC curve with DeLong's variance, also weighted for censoring.

A row's placement is the share of the other class that the score orders correctly against that row, ties counted half.
The AUC is the mean placement of the events; its variance is S₁/n₁ + S₀/n₀, with S the variance of the placements within
a class (DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44:837). Sorting gives all placements in O(n log n) (Sun & Xu
2014, IEEE Signal Process. Lett. 21:1389). R: ``pROC::roc(..., direction = "<")``, ``pROC::var``, ``pROC::cov``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, ndtri

from pycombat_gam.types import BoolArray, FloatArray


@dataclass(frozen=True)
class Auc:
    """Area under a ROC curve.

    Attributes
    ----------
    value : float
        The probability that an event scores higher than another row, ties counted half; NaN where a class is absent.
    variance : float
        DeLong's; NaN where a class has fewer than two rows, 0 where all placements are equal.
    n_events, n_others : int
        Rows of positive weight.
    """

    value: float
    variance: float
    n_events: int
    n_others: int


def delong(events: BoolArray, score: FloatArray, weights: FloatArray | None = None) -> Auc:
    """Return the AUC and DeLong's variance.

    Parameters
    ----------
    events : bool array of shape (n,)
        Whether a row has the event.
    score : array of shape (n,)
        Higher for events. One NaN among the rows of positive weight makes the result NaN.
    weights : array of shape (n,), optional
        Non-negative, for example `censoring_weights`; rows of weight 0 are left out. A pair counts with the product of
        its weights (Uno et al. 2007, J. Am. Stat. Assoc. 102:527; Hung & Chiang 2010, Can. J. Stat. 38:8).

    Notes
    -----
    Weighted, a class adds n/(n − 1) Σ w²(v − A)²/(Σ w)² to the variance: linearization of a weighted mean of the
    placements v, DeLong's where all weights are equal. The weights count as known; their estimation is ignored.

    >>> delong(np.array([True, True, False, False]), np.array([0.9, 0.4, 0.4, 0.1]))
    Auc(value=0.875, variance=0.03125, n_events=2, n_others=2)
    """
    first, _, _ = _aucs(events, score, score, weights)
    return first


def paired(events: BoolArray, a: FloatArray, b: FloatArray) -> tuple[Auc, Auc, float]:
    """Return the AUCs of two scores of the same rows, and their covariance.

    Parameters
    ----------
    events : bool array of shape (n,)
        Whether a row has the event.
    a, b : arrays of shape (n,)
        The scores, for example of raw and of harmonized features.

    Returns
    -------
    Auc, Auc, float
        The variance of the difference is ``a.variance + b.variance - 2 * covariance``.
    """
    return _aucs(events, a, b, None)


def logit_interval(auc: Auc, level: float = 0.95) -> tuple[float, float]:
    """Return a confidence interval on the logit scale, which stays within 0 and 1.

    Parameters
    ----------
    auc : Auc
        NaN, and a NaN variance between 0 and 1, give NaN bounds.
    level : float
        Between 0 and 1.

    Notes
    -----
    The interval is expit(logit A ± z se/{A(1 − A)}) (Pepe 2003, *The Statistical Evaluation of Medical Tests*, §5.2).
    At A = 1 it does not exist: DeLong's variance is 0 there. Then all of min(n₁, n₀) disjoint pairs of an event and
    another row are in order, and Clopper & Pearson's bound of so many successes is the lower bound:
    {(1 − level)/2}^(1/min(n₁, n₀)). It is conservative. At A = 0 it is mirrored.
    """
    tail = (1 - level) / 2
    if auc.value in (0.0, 1.0):
        bound = tail ** (1 / min(auc.n_events, auc.n_others))
        return (bound, 1.0) if auc.value == 1.0 else (0.0, 1 - bound)
    if np.isnan(auc.value):
        return np.nan, np.nan
    half = -ndtri(tail) * np.sqrt(auc.variance) / (auc.value * (1 - auc.value))
    center = logit(auc.value)
    return float(expit(center - half)), float(expit(center + half))


def _aucs(events: BoolArray, a: FloatArray, b: FloatArray, weights: FloatArray | None) -> tuple[Auc, Auc, float]:
    """AUCs of two scores, and their covariance."""
    w = np.ones(len(events)) if weights is None else np.asarray(weights, dtype=np.float64)
    used = w != 0
    is_event, w = np.asarray(events, dtype=bool)[used], w[used]
    n_events = int(is_event.sum())
    counts = (n_events, is_event.size - n_events)
    scores = [np.asarray(score, dtype=np.float64)[used] for score in (a, b)]
    if min(counts) == 0 or np.isnan(w).any():
        return Auc(np.nan, np.nan, *counts), Auc(np.nan, np.nan, *counts), np.nan
    placements = [_placements(is_event, score, w) for score in scores]
    values = [float(np.average(v[is_event], weights=w[is_event])) for v in placements]
    centered = [v - value for v, value in zip(placements, values, strict=True)]
    variance = [_covariance(is_event, v, v, w) for v in centered]
    first, second = (Auc(value, var, *counts) for value, var in zip(values, variance, strict=True))
    return first, second, _covariance(is_event, centered[0], centered[1], w)


def _placements(is_event: BoolArray, score: FloatArray, w: FloatArray) -> FloatArray:
    """Weighted share of the other class that each row is ordered correctly against, (n,)."""
    if np.isnan(score).any():
        return np.full(score.size, np.nan)
    rank = np.unique(score, return_inverse=True)[1]
    of_events, of_others = np.bincount(rank, w * is_event), np.bincount(rank, w * ~is_event)
    up, down = np.cumsum(of_others), np.cumsum(of_events[::-1])[::-1]
    below, above = (up - of_others / 2) / up[-1], (down - of_events / 2) / down[0]
    return np.asarray(np.where(is_event, below[rank], above[rank]), dtype=np.float64)


def _covariance(is_event: BoolArray, a: FloatArray, b: FloatArray, w: FloatArray) -> float:
    """DeLong's covariance of two AUCs from their centered placements; NaN where a class has one row."""
    total = 0.0
    for rows in (is_event, ~is_event):
        n = rows.sum()
        if n == 1:
            return np.nan
        total += n / (n - 1) * float(((w * w * a * b)[rows]).sum()) / w[rows].sum() ** 2
    return float(total)
