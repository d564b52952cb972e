"""Net benefit of treating rows above a threshold (Vickers & Elkin 2006, Med. Decis. Making 26:565).

At threshold t, NB = TP/n − FP/n · t/(1 − t): a false positive costs the odds of the threshold.
"""

from __future__ import annotations

import numpy as np

from pycombat_gam.types import BoolArray, FloatArray


def net_benefit(
    events: BoolArray, p: FloatArray, thresholds: FloatArray, weights: FloatArray | None = None
) -> FloatArray:
    """Return the net benefit, (T,), of treating the rows with p ≥ t.

    Parameters
    ----------
    events : bool array of shape (n,)
        Whether a row has the event.
    p : array of shape (n,)
        Predicted probabilities; one NaN makes the result NaN.
    thresholds : array of shape (T,)
        In [0, 1); beyond, the net benefit is NaN.
    weights : array of shape (n,), optional
        Each row's count, for example `censoring_weights`.
    """
    events, p = np.asarray(events, dtype=bool), np.asarray(p, dtype=np.float64)
    w = np.ones(p.size) if weights is None else np.asarray(weights, dtype=np.float64)
    order = np.argsort(p)
    first = np.searchsorted(p[order], thresholds, side="left")

    def treated(mass: FloatArray) -> FloatArray:
        """Weight of the rows at or above each threshold."""
        above: FloatArray = np.append(np.cumsum(mass[order][::-1])[::-1], 0.0)
        return above[first]

    total = w.sum()
    if total == 0 or np.isnan(p).any():
        return np.full(len(thresholds), np.nan)
    return np.asarray((treated(w * events) - treated(w * ~events) * _odds(thresholds)) / total, dtype=np.float64)


def treat_all(events: BoolArray, thresholds: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    """Return the net benefit, (T,), of treating every row; treating nobody has net benefit 0.

    Parameters
    ----------
    events, thresholds, weights
        As for `net_benefit`.
    """
    w = np.ones(len(events)) if weights is None else np.asarray(weights, dtype=np.float64)
    total = w.sum()
    if total == 0:
        return np.full(len(thresholds), np.nan)
    prevalence = (w @ np.asarray(events, dtype=bool)) / total
    return np.asarray(prevalence - (1 - prevalence) * _odds(thresholds), dtype=np.float64)


def _odds(thresholds: FloatArray) -> FloatArray:
    t = np.asarray(thresholds, dtype=np.float64)
    odds: FloatArray = np.divide(t, 1 - t, out=np.full(t.shape, np.nan), where=(t >= 0) & (t < 1))
    return odds
