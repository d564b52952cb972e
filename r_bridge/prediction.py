"""R's measures of predictions: ``pROC::roc``, ``metafor::rma`` and ``survival::survfit``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from pycombat_gam.types import FloatArray
from r_bridge import session, sources


@dataclass(frozen=True)
class Roc:
    """An AUC by pROC.

    Attributes
    ----------
    value, variance : float
        The AUC, and its variance by DeLong; the latter NaN where a class has one row.
    lower, upper : float
        pROC's confidence interval by DeLong: normal, on the scale of the AUC, cut off at 0 and 1.
    """

    value: float
    variance: float
    lower: float
    upper: float


@dataclass(frozen=True)
class RmaFit:
    """A random-effects mean by metafor.

    Attributes
    ----------
    estimate, se : float
        Mean over sites, and its standard error.
    tau2 : float
        Variance between sites.
    sites : int
        Sites used.
    lower, upper : float
        Confidence interval.
    new_lower, new_upper : float
        Prediction interval of a new site.
    """

    estimate: float
    se: float
    tau2: float
    sites: int
    lower: float
    upper: float
    new_lower: float
    new_upper: float


@dataclass(frozen=True, eq=False)
class SurvFit:
    """A Kaplan–Meier curve by survival, at chosen times.

    Attributes
    ----------
    at : array of shape (H,)
        The times.
    survival, se : array of shape (H,)
        S, and Greenwood's standard error; beyond the last follow-up what they were there.
    at_risk : array of shape (H,)
        Rows at risk; 0 beyond the last follow-up.
    """

    at: FloatArray
    survival: FloatArray
    se: FloatArray
    at_risk: FloatArray


def roc(events: ArrayLike, score: ArrayLike, *, level: float = 0.95) -> Roc:
    """Return AUC and DeLong's variance by R's ``pROC::roc(direction = "<")``.

    Parameters
    ----------
    events : bool array-like of shape (n,)
        Whether a row has the event; both classes are needed.
    score : array-like of shape (n,)
        Higher for events.
    level : float
        Of the confidence interval.

    Raises
    ------
    RMissingError, RError
        Without R or pROC; if R stops, as at one class.

    Examples
    --------
    >>> import r_bridge
    >>> r_bridge.roc([True, True, False, False], [0.9, 0.4, 0.4, 0.1])
    Roc(value=0.875, variance=0.03125, lower=0.528..., upper=1.0)
    """
    session.require("pROC")
    reply = session.call(
        sources.function("roc_delong", "prediction"),
        events=np.asarray(events, dtype=bool),
        score=np.asarray(score, dtype=np.float64),
        level=level,
    )
    return Roc(**{name: float(value[0]) for name, value in reply.items()})


def rma(
    estimate: ArrayLike,
    variance: ArrayLike,
    *,
    method: str = "PM",
    test: Literal["knha", "adhoc", "z", "t"] = "knha",
    level: float = 0.95,
    prediction: Literal["default", "simple", "riley", "t"] = "default",
    tol: float = 1e-14,
) -> RmaFit:
    """Pool a measure over sites by R's ``metafor::rma`` and ``predict``.

    Parameters
    ----------
    estimate, variance : array-likes of shape (K,)
        The measure at each site, and its squared standard error. metafor leaves out what is NaN, with a warning.
    method : str
        metafor's, for the variance between sites: ``"PM"``, ``"REML"``, ``"DL"``, …
    test : {"knha", "adhoc", "z", "t"}
        metafor's, for the standard error.
    level : float
        Of both intervals.
    prediction : {"default", "simple", "riley", "t"}
        metafor's ``pi.type``. The default has the degrees of freedom of the confidence interval, ``"riley"`` one less.
    tol : float
        metafor's ``tol`` and ``threshold``. Its own are 1.2e-4 and 1e-5, and leave τ² off by as much.

    Raises
    ------
    RMissingError, RError
        Without R or metafor; if R stops.

    Examples
    --------
    >>> import r_bridge
    >>> fit = r_bridge.rma([0.1, 0.5, 0.3], [0.01, 0.02, 0.03])
    >>> round(fit.estimate, 4), round(fit.tau2, 4), round(fit.new_upper, 2)
    (0.2817, 0.0252, 1.14)
    """
    session.require("metafor")
    reply = session.call(
        sources.function("rma_pool", "prediction"),
        estimate=np.asarray(estimate, dtype=np.float64),
        variance=np.asarray(variance, dtype=np.float64),
        method=method,
        test=test,
        level=level,
        prediction=prediction,
        tol=tol,
    )
    values = {name: float(value[0]) for name, value in reply.items()}
    return RmaFit(sites=int(values.pop("sites")), **values)


def survfit(time: ArrayLike, event: ArrayLike, at: ArrayLike) -> SurvFit:
    """Return the Kaplan–Meier curve of R's ``survival::survfit(Surv(time, event) ~ 1)`` at some times.

    Parameters
    ----------
    time, event : array-likes of shape (n,)
        End of follow-up, and whether it ended with the event.
    at : array-like of shape (H,)
        Times, in any order.

    Raises
    ------
    RMissingError, RError
        Without R or survival; if R stops.

    Examples
    --------
    >>> import r_bridge
    >>> r_bridge.survfit([1.0, 2.0, 3.0], [True, True, False], [2.5]).survival.round(4)
    array([0.3333])
    """
    session.require("survival")
    times = np.asarray(at, dtype=np.float64)
    reply = session.call(
        sources.function("survfit_at", "prediction"),
        time=np.asarray(time, dtype=np.float64),
        event=np.asarray(event, dtype=bool),
        at=times,
    )
    return SurvFit(at=times, **{name: np.asarray(value, dtype=np.float64) for name, value in reply.items()})
