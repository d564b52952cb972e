"""Risks at sites left out, compared with what happened, when follow-up is censored: tidy tables by site and horizon.

Everything is computed within a site, censoring as well: Kaplan–Meier observed risks, and inverse-probability-of-
censoring weights for the AUC. What a site's follow-up does not reach is NaN there.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.special import expit, logit, ndtri

from pycombat_gam.predict.left_out import Evidence
from pycombat_gam.predict.measures.auc import delong, logit_interval
from pycombat_gam.predict.measures.kaplan_meier import censoring_weights, kaplan_meier, observed_expected
from pycombat_gam.predict.outcome import Outcome
from pycombat_gam.predict.site_measures import (
    CONFIDENCE,
    IDENTITY,
    LOGIT,
    MEAN,
    THRESHOLDS,
    Measured,
    logit_auc,
    on_log_scale,
    pooled_ratio,
)
from pycombat_gam.types import BoolArray, FloatArray


def measured_at_horizons(outcome: Outcome, evidence: Evidence, sites: tuple[str, ...]) -> pd.DataFrame:
    """Return a row for each site, horizon and measure, in the form of `measured_by_site`.

    Parameters
    ----------
    outcome : with H horizons; evidence : y (U, 2) and risks (U, H) of units left out; sites : labels of the K sites.

    Returns
    -------
    DataFrame
        ``site``, ``horizon``, ``n`` (rows), ``events`` (by the horizon), ``at_risk`` (rows followed to the horizon, an
        event at it included), ``measure``, ``estimate``, ``se``, ``lower``, ``upper``; ``scale``, ``value`` and
        ``variance`` serve pooling. Measures: AUC, O/E, observed and predicted risk.

    Notes
    -----
    AUC: rows with the event by h against rows free of it at h (cumulative/dynamic; Uno et al. 2007, J. Am. Stat. Assoc.
    102:527; Hung & Chiang 2010, Can. J. Stat. 38:8), with DeLong's interval on the logit scale. O/E: Kaplan–Meier risk
    over mean predicted risk, with Greenwood's variance on the log scale (Debray et al. 2017, BMJ 356:i6460). Where
    all rows or none have the event by h, an interval does not exist, and pooling takes half an event more.
    """
    rows = []
    for j, site in enumerate(sites):
        at = evidence.site == j
        time, event = evidence.y[at, 0], evidence.y[at, 1] == 1
        for h, horizon in enumerate(outcome.horizons):
            about = {
                "site": site,
                "horizon": horizon,
                "n": len(time),
                "events": int((event & (time <= horizon)).sum()),
                "at_risk": int((time >= horizon).sum()),
            }
            for measure in _at_horizon(time, event, evidence.left_out[at, h], horizon):
                rows.append({**about, **vars(measure), "scale": measure.scale.name})
    return pd.DataFrame(rows)


def _at_horizon(time: FloatArray, event: BoolArray, risk: FloatArray, horizon: float) -> Iterator[Measured]:
    auc = delong(event & (time <= horizon), risk, censoring_weights(time, event, horizon))
    lower, upper = logit_interval(auc, CONFIDENCE)
    yield Measured("AUC", auc.value, float(np.sqrt(auc.variance)), lower, upper, LOGIT, *logit_auc(auc))
    (observed,), (se,) = kaplan_meier(time, event, np.array([horizon]))
    mean = float(risk.mean())
    known = int(((event & (time <= horizon)) | (time >= horizon)).sum())
    pooled, variance = _within_bounds(float(observed), float(se), known)
    oe, se_log = observed_expected(time, event, risk, horizon)
    ratio = pooled_ratio(known * float(observed), known * mean, known * mean * (1 - mean))
    yield on_log_scale("O/E", oe, se_log).pooled_as(*ratio)
    z = -float(ndtri((1 - CONFIDENCE) / 2))
    center, se_logit = logit(observed), se / (observed * (1 - observed)) if 0 < observed < 1 else np.nan
    ends = expit(center - z * se_logit), expit(center + z * se_logit)
    place = float(logit(pooled)), variance / (pooled * (1 - pooled)) ** 2
    yield Measured("observed risk", float(observed), float(se), float(ends[0]), float(ends[1]), LOGIT, *place)
    yield Measured("predicted risk", mean, np.nan, np.nan, np.nan, IDENTITY, mean, np.nan)


def _within_bounds(observed: float, se: float, n: int) -> tuple[float, float]:
    """Return an observed risk and its variance, as they are pooled.

    At 0 and 1 there is no variance. Then half an event and half a row without are added to the n rows whose outcome at
    the horizon is known: a site without events is no reason to leave it out, and leaving it out raises the mean.
    """
    if observed not in (0.0, 1.0):
        return observed, se**2
    shrunk = (n * observed + 0.5) / (n + 1)
    return shrunk, shrunk * (1 - shrunk) / n


def net_benefits_at_horizons(outcome: Outcome, evidence: Evidence, sites: tuple[str, ...]) -> pd.DataFrame:
    """Return net benefit at thresholds by site and horizon, of the model and of treating all, and means over sites.

    A mean takes the sites in which both exist at the threshold; column `sites` says how many.
    """
    parts = []
    for h, horizon in enumerate(outcome.horizons):
        tables = []
        for j, site in enumerate(sites):
            at = evidence.site == j
            time, event = evidence.y[at, 0], evidence.y[at, 1] == 1
            model = censored_net_benefit(time, event, evidence.left_out[at, h], horizon, THRESHOLDS)
            everyone = censored_net_benefit(time, event, np.ones(len(time)), horizon, THRESHOLDS)
            tables.append(_benefits(site, horizon, model, everyone, np.isfinite(model).astype(np.int64)))
        both = np.array([table[["net_benefit", "treat_all"]].to_numpy() for table in tables])
        known = np.isfinite(both).all(axis=2, keepdims=True)
        number = known.sum(axis=0)
        sums = np.where(known, both, 0.0).sum(axis=0)
        mean = np.divide(sums, number, out=np.full_like(sums, np.nan), where=number > 0)
        parts += [*tables, _benefits(MEAN, horizon, mean[:, 0], mean[:, 1], number[:, 0])]
    return pd.concat(parts, ignore_index=True)


def _benefits(site: str, horizon: float, model: FloatArray, everyone: FloatArray, number: np.ndarray) -> pd.DataFrame:
    columns = {"threshold": THRESHOLDS, "net_benefit": model, "treat_all": everyone, "sites": number}
    return pd.DataFrame({"site": site, "horizon": horizon, **columns})


def censored_net_benefit(
    time: FloatArray, event: BoolArray, risk: FloatArray, horizon: float, thresholds: FloatArray
) -> FloatArray:
    """Return the net benefit (T,) by a horizon of treating the rows with risk ≥ t.

    Parameters
    ----------
    time, event, risk : (n,); thresholds : (T,) below 1.

    Notes
    -----
    NB = share treated · {(1 − S) − S t/(1 − t)}, with S Kaplan–Meier's of the treated rows at the horizon (Vickers,
    Cronin, Elkin & Gonen 2008, BMC Med. Inform. Decis. Mak. 8:53; R: ``dcurves::dca``). It is 0 where none is treated,
    and NaN where the follow-up of the treated does not reach the horizon.
    """
    at = np.array([horizon])
    odds = thresholds / (1.0 - thresholds)
    out = np.zeros(len(thresholds))
    numbers = np.array([(risk >= t).sum() for t in thresholds])
    for n in np.unique(numbers[numbers > 0]):
        same = numbers == n
        treated = risk >= thresholds[same][0]
        (died,), _ = kaplan_meier(time[treated], event[treated], at)
        out[same] = n / len(time) * (died - (1.0 - died) * odds[same])
    return out
