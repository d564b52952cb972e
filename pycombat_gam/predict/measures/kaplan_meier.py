"""Risk by a horizon when follow-up is censored.

Where times tie, events come before censorings, here and in R. Only equal times tie; R's ``survfit`` also ties times
that differ by a relative 1.5e-8 or less.
"""

from __future__ import annotations

import numpy as np

from pycombat_gam.types import BoolArray, FloatArray, IntArray


def kaplan_meier(time: FloatArray, event: BoolArray, at: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the risk 1 − S(h), (H,), and Greenwood's standard error, (H,).

    Parameters
    ----------
    time : array of shape (n,)
        End of follow-up; one NaN makes the result NaN.
    event : bool array of shape (n,)
        Whether it ended with the event.
    at : array of shape (H,)
        Horizons; an event at the horizon counts.

    Notes
    -----
    Kaplan & Meier (1958, J. Am. Stat. Assoc. 53:457). Beyond the last follow-up both are NaN, unless that ended with
    events of all who were left: then the risk is 1, and its standard error NaN. R: ``survival::survfit``.
    """
    horizons = np.asarray(at, dtype=np.float64)
    n = len(time)
    if n == 0 or np.isnan(time).any():
        return np.full(horizons.shape, np.nan), np.full(horizons.shape, np.nan)
    times, _, d, _, at_risk = _counted(time, event)
    left = at_risk - d
    survival = np.append(1.0, np.cumprod(left / at_risk))
    terms = np.divide(d, at_risk * left, out=np.full(d.shape, np.nan), where=left > 0)
    se = survival * np.sqrt(np.append(0.0, np.cumsum(terms)))
    place = np.searchsorted(times, horizons, side="right")
    known = (horizons <= times[-1]) | (survival[-1] == 0)
    return np.where(known, 1 - survival[place], np.nan), np.where(known, se[place], np.nan)


def censoring_weights(time: FloatArray, event: BoolArray, horizon: float) -> FloatArray:
    """Return weights, (n,), that make up for rows censored before the horizon.

    Parameters
    ----------
    time : array of shape (n,)
        End of follow-up; one NaN makes all weights NaN.
    event : bool array of shape (n,)
        Whether it ended with the event.
    horizon : float
        The horizon h.

    Notes
    -----
    With G the Kaplan–Meier estimate of the censoring, an event at T ≤ h has weight 1/G(T−), a row followed to h without
    event 1/G(h−), and a row censored before h 0 (Uno et al. 2007, J. Am. Stat. Assoc. 102:527). A row censored at h has
    been followed to h; so all weights are 1 where nobody is censored before h. As events come before censorings, those
    with an event at t are not at risk of being censored at t. The weights then add up to n while anyone is followed to
    h, and the weighted share of events is the Kaplan–Meier risk. R: ``survival::rttright``.
    """
    time = np.asarray(time, dtype=np.float64)
    if np.isnan(time).any():
        return np.full(time.shape, np.nan)
    by_horizon = np.asarray(event, dtype=bool) & (time <= horizon)
    times, place, d, censored, at_risk = _counted(time, event)
    exposed = at_risk - d
    stays = np.divide(exposed - censored, exposed, out=np.ones(exposed.shape), where=exposed > 0)
    before = np.append(1.0, np.cumprod(stays))
    at = np.where(by_horizon, place, np.searchsorted(times, horizon, side="left"))
    known = by_horizon | (time >= horizon)
    weights: FloatArray = np.divide(1.0, before[at], out=np.zeros(time.shape), where=known)
    return weights


def observed_expected(time: FloatArray, event: BoolArray, risk: FloatArray, horizon: float) -> tuple[float, float]:
    """Return observed over expected risk by the horizon, and the standard error of its logarithm.

    Parameters
    ----------
    time, event : arrays of shape (n,)
        End of follow-up, and whether it ended with the event.
    risk : array of shape (n,)
        Predicted risks by the horizon.
    horizon : float
        The horizon.

    Notes
    -----
    Observed is the Kaplan–Meier risk, expected the mean of the predicted risks. The standard error is that of the
    observed risk over its size (Debray et al. 2017, BMJ 356:i6460); it does not exist at an observed risk of 0 or 1.
    """
    (observed,), (se,) = kaplan_meier(time, event, np.array([horizon]))
    expected = np.mean(risk) if len(risk) else np.nan
    oe = observed / expected if expected > 0 else np.nan
    return float(oe), float(se / observed) if observed > 0 else np.nan


def _counted(time: FloatArray, event: BoolArray) -> tuple[FloatArray, IntArray, FloatArray, FloatArray, FloatArray]:
    """Times in order, each row's place among them; events, censorings and rows at risk at each time."""
    times, inverse = np.unique(np.asarray(time, dtype=np.float64), return_inverse=True)
    place = inverse.astype(np.intp)
    d = np.bincount(place, np.asarray(event, dtype=np.float64), minlength=times.size).astype(np.float64)
    ends = np.bincount(place, minlength=times.size).astype(np.float64)
    at_risk: FloatArray = ends[::-1].cumsum()[::-1]
    censored: FloatArray = np.asarray(ends - d, dtype=np.float64)
    return times, place, d.astype(np.float64), censored, at_risk
