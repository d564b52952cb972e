r"""Risks at horizons h₁ < … < h_H by discrete hazards: one binary learner for each interval.

An interval (h_{j−1}, h_j] is learned from the rows that are free of the event at its start and known to its end: with
the event in it, or followed to h_j. Then

    risk_h = 1 − Π_{j: h_j ≤ h} (1 − hazard_j),

which never decreases (Tutz & Schmid 2016, *Modeling Discrete Time-to-Event Data*). A row censored at h_j was followed
to h_j, as events come before censorings at ties.

Rows censored within an interval are not learned from. An event is then likelier to be seen than its absence, as it ends
the follow-up earlier, and hazards would be too high. So the odds of a hazard are multiplied by the mean
inverse-probability-of-censoring weight of the events over that of the rows followed to the end, as for cases sampled
more often than controls (prior correction: King & Zeng 2001, Polit. Anal. 9:137). This is right where censoring within
an interval does not depend on the columns; without any the factor is 1. With no column risks are Kaplan and Meier's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from pycombat_gam.errors import DesignError, OptionError
from pycombat_gam.predict.learners import FittedLearner, Learner, Linear
from pycombat_gam.predict.measures.kaplan_meier import censoring_weights
from pycombat_gam.saving.reader import Reader
from pycombat_gam.types import BoolArray, FloatArray, IntArray
from pycombat_gam.words import count, listing

EXAMPLE = "give increasing positive times, such as horizons=(365, 730)"
LINEAR = ("intercept", "coefficients", "penalty")
"""The arrays of a `Linear`."""


def check_horizons(value: object) -> tuple[float, ...]:
    """Return horizons, increasing and positive; one number is one horizon.

    >>> check_horizons(365), check_horizons([182, 365.5])
    ((365.0,), (182.0, 365.5))
    """
    items: list[Any] = list(value) if isinstance(value, list | tuple | np.ndarray) else [value]
    numbers = [isinstance(h, int | float | np.number) and not isinstance(h, bool) for h in items]
    if not items or not all(numbers) or not all(np.isfinite(h) and h > 0 for h in items):
        raise OptionError(f"horizons={value!r}: {EXAMPLE}")
    horizons = tuple(float(h) for h in items)
    if repeated := sorted({h for h in horizons if horizons.count(h) > 1}):
        raise OptionError(f"horizons={value!r} holds {listing(map(shown, repeated))} more than once: {EXAMPLE}")
    if any(a > b for a, b in pairwise(horizons)):
        raise OptionError(f"horizons={value!r} are not sorted: give ({', '.join(map(shown, sorted(horizons)))})")
    return horizons


def shown(horizon: float) -> str:
    """Write a horizon, whole numbers without decimals.

    >>> shown(365.0), shown(0.5)
    ('365', '0.5')
    """
    return str(int(horizon)) if horizon.is_integer() else repr(horizon)


def risk_columns(horizons: Sequence[float], risks: FloatArray) -> dict[str, FloatArray]:
    """Return columns risk_<horizon> of risks (n, H)."""
    return {f"risk_{shown(h)}": risks[:, j] for j, h in enumerate(horizons)}


def intervals(horizons: Sequence[float]) -> list[tuple[float, float]]:
    """Return the intervals that end at the horizons; the first starts at 0."""
    return list(pairwise((0.0, *horizons)))


def in_interval(y: FloatArray, start: float, end: float) -> tuple[BoolArray, BoolArray]:
    """Tell which rows have the event in (start, end], and which are followed to its end without event.

    Parameters
    ----------
    y : (n, 2) times, and 1 for an event.
    """
    time, event = y[:, 0], y[:, 1] == 1
    return event & (time > start) & (time <= end), np.where(event, time > end, time >= end)


def check_follow_up(
    horizons: Sequence[float], y: FloatArray, sites: IntArray, labels: Sequence[str], outcome: str
) -> None:
    """Stop for horizons at which the model without some site would know nothing.

    Parameters
    ----------
    y : (n, 2) times, and 1 for an event; sites : (n,) codes; labels : of the sites; outcome : its name.

    Raises
    ------
    OptionError
        For a horizon beyond the follow-up of all sites but one.
    DesignError
        For an interval in which all events are at one site, or none.
    """
    time = y[:, 0]
    beyond = [shown(h) for h in horizons if h > time.max()]
    if beyond:
        raise OptionError(
            f"{_are('horizon', beyond)} beyond follow-up: the last time of {outcome} is {time.max():g}; give horizons "
            "below it"
        )
    for start, end in intervals(horizons):
        events, free = in_interval(y, start, end)
        here = np.unique(sites[free])
        if here.size < 2:
            longest = np.sort([time[sites == k].max() for k in np.unique(sites)])
            whose = f"all sites but '{labels[here[0]]}' ({count(int(free.sum()), 'row')} there)" if here.size else "all"
            raise OptionError(
                f"horizon {shown(end)} is beyond the follow-up of {whose}: a model needs rows free of the event at the "
                f"horizon, from two sites or more; give horizons below {longest[-2]:g}"
            )
        here = np.unique(sites[events])
        if here.size < 2:
            n = count(int(events.sum()), "event")
            only = f"{n}, all at site '{labels[here[0]]}'" if here.size else "no event"
            followed = count(int(free.sum()), "row")
            raise DesignError(
                f"{outcome} has {only}, after {shown(start)} and up to {shown(end)} ({followed} followed to "
                f"{shown(end)} without one): each site is left out in turn, and the others must have events; leave "
                f"out horizon {shown(end)}, or give a later one"
            )


def _are(noun: str, items: Sequence[str]) -> str:
    return f"{noun} {items[0]} is" if len(items) == 1 else f"{noun}s {listing(items)} are"


@dataclass(frozen=True, eq=False)
class FittedHazards:
    """A fitted learner of the hazard of each interval, and the factor (H,) of its odds that makes up for censoring."""

    parts: tuple[FittedLearner, ...]
    factor: FloatArray

    def predict(self, X: FloatArray, names: Sequence[str]) -> FloatArray:
        """Predict risks (n, H), which do not decrease over horizons."""
        P = np.stack([part.predict(X, names) for part in self.parts], axis=1)
        events = self.factor * P[..., 1]
        stays = P[..., 0] / (P[..., 0] + events)
        return np.asarray(1.0 - np.cumprod(stays, axis=1), dtype=np.float64)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return it as named arrays, such as ``interval1.intercept``."""
        arrays = {"factor": self.factor}
        for number, part in enumerate(self.parts, start=1):
            arrays |= {f"interval{number}.{name}": array for name, array in part.arrays().items()}
        return arrays

    @classmethod
    def read(cls, saved: Reader, columns: int, n_horizons: int) -> FittedHazards:
        """Rebuild from named arrays, of ridge logistic regressions."""
        parts = []
        for number in range(1, n_horizons + 1):
            arrays = {name: saved.value(f"interval{number}.{name}") for name in LINEAR}
            reader = Reader(arrays, f"interval {number} of {saved.what}", saved.remedy)
            parts.append(Linear.read(reader, columns, 2, classes=True))
        return cls(tuple(parts), saved.array("factor", (n_horizons,), positive=True))


@dataclass(frozen=True, eq=False)
class Hazards:
    """A learner of two classes, event and none, for each interval up to a horizon."""

    base: Learner
    horizons: tuple[float, ...]

    @property
    def missing(self) -> bool:
        """Whether the learner takes missing cells."""
        return self.base.missing

    def fit(
        self, X: FloatArray, names: Sequence[str], y: FloatArray, sites: IntArray, weights: FloatArray | None = None
    ) -> FittedHazards:
        """Fit rows with outcomes y (n, 2).

        Raises
        ------
        DesignError
            For an interval without events, or without rows followed to its end: a hazard of 0 or 1 would be made up.
        """
        parts, factor = [], []
        for start, end in intervals(self.horizons):
            events, free = in_interval(y, start, end)
            if not (events.any() and free.any()):
                raise DesignError(
                    f"after {shown(start)} and up to {shown(end)} there are {count(int(events.sum()), 'event')}, and "
                    f"{count(int(free.sum()), 'row')} followed to {shown(end)} without one: a hazard needs both"
                )
            known = events | free
            of_known = None if weights is None else weights[known]
            parts.append(self.base.fit(X[known], names, events[known].astype(np.float64), sites[known], of_known))
            at_risk = y[:, 0] > start
            followed = np.zeros(len(y))
            followed[at_risk] = censoring_weights(y[at_risk, 0], y[at_risk, 1] == 1, end)
            w = np.ones(len(y)) if weights is None else weights
            factor.append(np.average(followed[events], weights=w[events]) / np.average(followed[free], weights=w[free]))
        return FittedHazards(tuple(parts), np.array(factor))
