"""Calibration at one site: do predicted probabilities, or numbers, agree with what happened?

Intercept and slope as in Van Calster et al. (2019, BMC Med. 17:230); observed/expected and its standard error as in
Debray et al. (2017, BMJ 356:i6460).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit

from pycombat_gam.types import BoolArray, FloatArray

CLIP = 1e-12
"""Probabilities of 0 and 1 count as this far from them: their logit is infinite."""
SAME = 1e-9
"""Predictions whose range is below this share of their size are one number with rounding error."""
STEPS = 100


@dataclass(frozen=True)
class Calibration:
    """Calibration of predicted probabilities; what does not exist is NaN.

    Attributes
    ----------
    intercept, se_intercept : float
        Calibration in the large, on the logit scale: 0 is ideal, above 0 where events are more frequent than predicted.
    slope, se_slope : float
        1 is ideal, below 1 where predictions are too extreme.
    observed_expected, se_log_oe : float
        Observed events over expected events, and the standard error of its logarithm.
    """

    intercept: float
    slope: float
    se_intercept: float
    se_slope: float
    observed_expected: float
    se_log_oe: float


@dataclass(frozen=True)
class NumericCalibration:
    """Calibration and errors of predicted numbers; what does not exist is NaN.

    Attributes
    ----------
    intercept, slope, se_intercept, se_slope : float
        Of the least-squares line of the outcome on the prediction; 0 and 1 are ideal.
    mean_error : float
        Mean of prediction minus outcome: positive where predictions are too high.
    mae, rmse : float
        Mean absolute and root mean squared error, in units of the outcome.
    r_squared : float
        1 − Σ(y − m)²/Σ(y − ȳ)², of the predictions as they are; negative where the site's own mean does better.
    """

    intercept: float
    slope: float
    se_intercept: float
    se_slope: float
    mean_error: float
    mae: float
    rmse: float
    r_squared: float


def recalibrated(events: BoolArray, p: FloatArray) -> Calibration:
    """Recalibrate predicted probabilities at one site.

    Parameters
    ----------
    events : bool array of shape (n,)
        Whether a row has the event.
    p : array of shape (n,)
        Predicted probabilities. For the logit, those beyond [1e-12, 1 − 1e-12] count as its ends.

    Notes
    -----
    The intercept is that of a logistic regression with logit p as offset, R's ``glm(y ~ offset(lp), binomial)``; it
    exists where both classes are present. The slope is the coefficient in ``glm(y ~ lp, binomial)``; it exists unless a
    value of logit p separates the classes, completely or up to ties (Albert & Anderson 1984, Biometrika 71:1). The
    standard error of log O/E, {(1 − O/n)/O}^½, exists where both classes are present.
    """
    y, p = np.asarray(events, dtype=np.float64), np.asarray(p, dtype=np.float64)
    n, observed, expected = y.size, y.sum(), p.sum()
    mixed = 0 < observed < n
    oe = observed / expected if expected > 0 else np.nan
    se_log_oe = np.sqrt((1 - observed / n) / observed) if mixed else np.nan
    if not mixed or np.isnan(expected):
        return Calibration(np.nan, np.nan, np.nan, np.nan, float(oe), float(se_log_oe))
    lp = logit(np.clip(p, CLIP, 1 - CLIP))
    intercept, se_intercept = _offset_fit(lp, y)
    slope, se_slope = _logistic_slope(lp, y) if _overlap(lp[y == 1], lp[y == 0]) else (np.nan, np.nan)
    return Calibration(intercept, slope, se_intercept, se_slope, float(oe), float(se_log_oe))


def numeric(y: FloatArray, m: FloatArray) -> NumericCalibration:
    """Compare predicted numbers with the outcome at one site.

    Parameters
    ----------
    y, m : arrays of shape (n,)
        The outcome and its prediction.

    Notes
    -----
    The line is R's ``lm(y ~ m)``; it needs two rows and predictions that vary, its standard errors three rows. R²
    needs an outcome that varies.
    """
    y, m = np.asarray(y, dtype=np.float64), np.asarray(m, dtype=np.float64)
    n = y.size
    if n == 0:
        return NumericCalibration(*[np.nan] * 8)
    error = m - y
    sse, sst = error @ error, np.sum((y - y.mean()) ** 2)
    line = _line(y, m) if _vary(m) else (np.nan,) * 4
    r_squared = 1 - sse / sst if _vary(y) else np.nan
    sizes = (error.mean(), np.abs(error).mean(), np.sqrt(sse / n), r_squared)
    return NumericCalibration(*line, *map(float, sizes))


def _line(y: FloatArray, m: FloatArray) -> tuple[float, float, float, float]:
    """Intercept and slope of least squares, and their standard errors."""
    n, center = y.size, m.mean()
    z = m - center
    ss = z @ z
    slope = z @ (y - y.mean()) / ss
    residual = y - y.mean() - slope * z
    variance = residual @ residual / (n - 2) if n > 2 else np.nan
    intercept = y.mean() - slope * center
    se = np.sqrt(variance * np.array([1 / n + center**2 / ss, 1 / ss]))
    return float(intercept), float(slope), float(se[0]), float(se[1])


def _vary(x: FloatArray) -> bool:
    return bool(x.size and np.ptp(x) > SAME * np.abs(x).max())


def _overlap(of_events: FloatArray, of_others: FloatArray) -> bool:
    """Whether a logistic regression on one variable has finite coefficients: neither class lies wholly on one side."""
    if not _vary(np.concatenate([of_events, of_others])):
        return False
    return bool(of_events.max() > of_others.min() and of_others.max() > of_events.min())


def _offset_fit(lp: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Intercept a with Σ expit(a + lp) = Σ y, and its standard error; both classes are present."""
    level = logit(y.mean())
    a = brentq(lambda a: expit(a + lp).sum() - y.sum(), level - lp.max() - 1, level - lp.min() + 1, xtol=1e-12)
    mu = expit(a + lp)
    return float(a), float(1 / np.sqrt(mu @ expit(-(a + lp))))


def _logistic_slope(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Slope of a logistic regression with intercept, and its standard error; the classes overlap.

    Newton's method with halved steps: the deviance is strictly convex and has a minimum. NaN where rounding ends it.
    """
    spread = x.std()
    X, b, sign = np.column_stack([np.ones(x.size), (x - x.mean()) / spread]), np.zeros(2), 2 * y - 1

    def loss(b: FloatArray) -> float:
        return float(np.logaddexp(0, -sign * (X @ b)).sum())

    at = loss(b)
    for _ in range(STEPS):
        mu = expit(X @ b)
        information, score = X.T @ ((mu * (1 - mu))[:, None] * X), X.T @ (y - mu)
        try:
            step = np.linalg.solve(information, score)
        except np.linalg.LinAlgError:
            break
        # Armijo's condition, up to the rounding of the loss.
        while (after := loss(b + step)) > at - 1e-4 * (score @ step) + 1e-13 * at:
            step = step / 2
        b, at = b + step, after
        if np.abs(step).max() <= 1e-9 * (1 + np.abs(b).max()):
            return float(b[1] / spread), float(np.sqrt(np.linalg.inv(information)[1, 1]) / spread)
    return np.nan, np.nan
