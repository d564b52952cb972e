"""Measures of predictions at each site left out, and over sites: tidy tables.

No score is pooled over sites: models without different sites give scores on different scales. A measure is computed at
each site, and random effects pool it over sites, with an interval for a new site.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtri

from pycombat_gam.predict.left_out import Evidence
from pycombat_gam.predict.measures.auc import Auc, delong, logit_interval
from pycombat_gam.predict.measures.calibration import CLIP, numeric, recalibrated
from pycombat_gam.predict.measures.net_benefit import net_benefit, treat_all
from pycombat_gam.predict.measures.pooling import pool_sites
from pycombat_gam.predict.measures.proportions import wilson
from pycombat_gam.predict.outcome import Outcome
from pycombat_gam.predict.scores import Scores
from pycombat_gam.types import BoolArray, FloatArray, IntArray

CONFIDENCE = 0.95
"""Of every interval of a measure."""
THRESHOLDS = np.arange(1, 100) / 100
"""Probabilities above which one would act."""
MEAN = "mean of sites"
ALL = "all"
IDEAL = ("calibration intercept", "calibration slope", "O/E")
"""The measures of calibration."""


@dataclass(frozen=True)
class Scale:
    """A scale on which sites are pooled, and the way back."""

    name: str
    back: Callable[[float], float]


IDENTITY = Scale("identity", lambda x: x)
LOGIT = Scale("logit", lambda x: float(expit(x)))
LOG = Scale("log", lambda x: float(np.exp(x)))


@dataclass(frozen=True)
class Measured:
    """A measure at one site.

    Attributes
    ----------
    estimate, se, lower, upper : as they are reported; what does not exist is NaN.
    scale : of pooling; there it is `value` with a variance of `variance`.
    """

    measure: str
    estimate: float
    se: float
    lower: float
    upper: float
    scale: Scale
    value: float
    variance: float

    def pooled_as(self, value: float, variance: float) -> Measured:
        """Return it with another value and variance for pooling."""
        return replace(self, value=value, variance=variance)


def measured_by_site(outcome: Outcome, scores: Scores, evidence: Evidence, sites: tuple[str, ...]) -> pd.DataFrame:
    """Return a row for each site, class and measure; columns `scale`, `value` and `variance` serve pooling."""
    P, y = evidence.left_out, evidence.y
    events, hits = scores.events(P, y), scores.hits(P, y)
    rows = []
    for j, site in enumerate(sites):
        at = evidence.site == j
        n = int(at.sum())
        measured: list[tuple[str, int, Measured]] = []
        for event in events:
            true = event.came_true[at]
            measured += [(event.name, int(true.sum()), each) for each in _class_measures(true, event.p[at])]
        measured += [(ALL, n, _share(name, hit[at].astype(np.float64))) for name, hit in hits.items()]
        if outcome.kind == "number":
            measured += [(ALL, n, each) for each in _numbers(P[at, 0], y[at])]
        elif P.shape[1] == outcome.n_classes:
            measured.append((ALL, n, _brier(P[at], y[at].astype(np.intp))))
        for label, came_true, measure in measured:
            about = {"site": site, "class": label, "n": n, "events": came_true}
            rows.append({**about, **vars(measure), "scale": measure.scale.name})
    return pd.DataFrame(rows)


def _brier(P: FloatArray, truth: IntArray) -> Measured:
    """Of two classes it is that of the event, as usual; the sum over both would be twice as large."""
    square = (P - np.eye(P.shape[1])[truth]) ** 2
    return _positive_mean("Brier score", square[:, 1] if P.shape[1] == 2 else square.sum(axis=1))


def _class_measures(events: BoolArray, p: FloatArray) -> Iterator[Measured]:
    auc = delong(events, p)
    lower, upper = logit_interval(auc, CONFIDENCE)
    yield Measured("AUC", auc.value, float(np.sqrt(auc.variance)), lower, upper, LOGIT, *logit_auc(auc))
    again = recalibrated(events, p)
    spread = float((p * (1 - p)).sum())
    intercept = _normal(IDEAL[0], again.intercept, again.se_intercept)
    yield intercept.pooled_as(shrunken_intercept(events, p), 1 / spread) if spread > 0 else intercept
    yield _normal(IDEAL[1], again.slope, again.se_slope)
    ratio = on_log_scale(IDEAL[2], again.observed_expected, again.se_log_oe)
    yield ratio.pooled_as(*pooled_ratio(float(events.sum()), float(p.sum()), spread))


def pooled_ratio(observed: float, expected: float, spread: float) -> tuple[float, float]:
    """Return log O/E and its variance, as they are pooled, with half an event more.

    A site without events counts, as leaving it out would raise the mean. The variance is that of the expected number
    of events, `spread`, for a variance by observed events would give sites with many of them more weight. At two events
    a site the mean is 3 % too high, at one 17 %.
    """
    if not (expected > 0 and spread > 0):
        return np.nan, np.nan
    return float(np.log((observed + 0.5) / expected)), spread / expected**2


def shrunken_intercept(events: BoolArray, p: FloatArray) -> float:
    """Return the calibration intercept of Firth's likelihood (1993, Biometrika 80:27), which exists without events.

    It solves Σ (y − μ) + Σ w(½ − μ)/Σ w = 0 with w = μ(1 − μ), logit μ = a + logit p.
    """
    lp = logit(np.clip(p, CLIP, 1 - CLIP))

    def score(a: float) -> float:
        mu = expit(a + lp)
        w = mu * expit(-(a + lp))
        return float(events.sum() - mu.sum() + (w * (0.5 - mu)).sum() / w.sum())

    ends = (-lp.max() - 30.0, -lp.min() + 30.0)
    return float(brentq(score, *ends, xtol=1e-12)) if score(ends[0]) > 0 > score(ends[1]) else np.nan


def on_log_scale(measure: str, ratio: float, se_log: float) -> Measured:
    """Return a ratio, whose interval and pooling are those of its logarithm."""
    z = -float(ndtri((1 - CONFIDENCE) / 2))
    log = float(np.log(ratio)) if ratio > 0 else np.nan
    ends = np.exp(log - z * se_log), np.exp(log + z * se_log)
    return Measured(measure, ratio, ratio * se_log, float(ends[0]), float(ends[1]), LOG, log, se_log**2)


def logit_auc(auc: Auc) -> tuple[float, float]:
    """Return the logit of an AUC and its variance.

    Where DeLong's variance is zero or does not exist, as at an AUC of 1, half a pair counts as tied, and the variance
    is Hanley & McNeil's (1982, Radiology 143:29): a site that orders all its rows right is not left out.
    """
    a, n1, n0 = auc.value, auc.n_events, auc.n_others
    if np.isnan(a):
        return np.nan, np.nan
    variance = auc.variance
    if not variance > 0 or not 0 < a < 1:
        a = (a * n1 * n0 + 0.5) / (n1 * n0 + 1)
        variance = (a * (1 - a) + (n1 - 1) * (a / (2 - a) - a**2) + (n0 - 1) * (2 * a**2 / (1 + a) - a**2)) / (n1 * n0)
    return float(logit(a)), float(variance / (a * (1 - a)) ** 2)


def _numbers(m: FloatArray, y: FloatArray) -> Iterator[Measured]:
    fit = numeric(y, m)
    yield _positive_mean("mean absolute error", np.abs(m - y))
    yield _normal("mean error", fit.mean_error, _standard_error(m - y))
    yield _bare("RMSE", fit.rmse)
    yield _bare("R²", fit.r_squared)
    yield _normal(IDEAL[0], fit.intercept, fit.se_intercept)
    yield _normal(IDEAL[1], fit.slope, fit.se_slope)


def _normal(measure: str, estimate: float, se: float) -> Measured:
    z = -float(ndtri((1 - CONFIDENCE) / 2))
    return Measured(measure, estimate, se, estimate - z * se, estimate + z * se, IDENTITY, estimate, se**2)


def _bare(measure: str, estimate: float) -> Measured:
    """A measure without a standard error."""
    return Measured(measure, estimate, np.nan, np.nan, np.nan, IDENTITY, np.nan, np.nan)


def _standard_error(values: FloatArray) -> float:
    return float(values.std(ddof=1) / np.sqrt(values.size)) if values.size > 1 else np.nan


def _positive_mean(measure: str, values: FloatArray) -> Measured:
    """A mean of positive numbers; intervals and pooling are those of its logarithm, so that none falls below zero."""
    mean = float(values.mean())
    return on_log_scale(measure, mean, _standard_error(values) / mean if mean > 0 else np.nan)


def _share(measure: str, right: FloatArray) -> Measured:
    """A share, with Wilson's interval; it is pooled as a logit, with half a row more on either side."""
    n, k = right.size, float(right.sum())
    value, variance = np.log((k + 0.5) / (n - k + 0.5)), 1 / (k + 0.5) + 1 / (n - k + 0.5)
    se = float(np.sqrt(k / n * (1 - k / n) / n))
    return Measured(measure, k / n, se, *wilson(k, n, CONFIDENCE), LOGIT, float(value), float(variance))


def pooled_over_sites(by_site: pd.DataFrame) -> pd.DataFrame:
    """Pool each measure over sites; `tau2` is on the scale of pooling."""
    scales = {scale.name: scale for scale in (IDENTITY, LOGIT, LOG)}
    rows = []
    keys = [name for name in ("features", "class", "horizon", "measure") if name in by_site]
    for key, part in by_site.groupby(keys, sort=False):
        scale = scales[part["scale"].iloc[0]]
        value, variance = part["value"].to_numpy(float), part["variance"].to_numpy(float)
        row = dict(zip(keys, key, strict=True))
        if np.isnan(variance).all():
            # Without standard errors all sites weigh the same, and there is no interval.
            known = part["estimate"].to_numpy(float)
            known = known[np.isfinite(known)]
            row |= {"estimate": known.mean() if known.size else np.nan, "sites": known.size}
        else:
            pooled = pool_sites(value, variance, CONFIDENCE)
            ends = ("estimate", "lower", "upper", "new_lower", "new_upper")
            row |= {name: scale.back(getattr(pooled, name)) for name in ends}
            row |= {"tau2": pooled.tau2, "sites": pooled.sites}
        rows.append({**row, "scale": scale.name})
    columns = [*keys, "estimate", "lower", "upper", "new_lower", "new_upper", "tau2", "sites", "scale"]
    return pd.DataFrame(rows).reindex(columns=columns)


def net_benefits(scores: Scores, evidence: Evidence, sites: tuple[str, ...]) -> pd.DataFrame:
    """Return net benefit at thresholds by site and class, of the model and of treating all, and their means over sites.

    A class that a site does not have is no event there: acting then only costs.
    """
    parts = []
    for event in scores.events(evidence.left_out, evidence.y):
        by_site = []
        for j in range(len(sites)):
            at = evidence.site == j
            true = event.came_true[at]
            by_site.append((net_benefit(true, event.p[at], THRESHOLDS), treat_all(true, THRESHOLDS)))
        values = np.array(by_site)
        values = np.concatenate([values, values.mean(axis=0, keepdims=True)])
        for label, (model, everyone) in zip([*sites, MEAN], values, strict=True):
            columns = {"threshold": THRESHOLDS, "net_benefit": model, "treat_all": everyone}
            parts.append(pd.DataFrame(columns).assign(site=label, **{"class": event.name}))
    order = ["site", "class", "threshold", "net_benefit", "treat_all"]
    return pd.concat(parts, ignore_index=True)[order] if parts else pd.DataFrame(columns=order)
