"""Scores of strangeness, and the sets that thresholds of them make.

A score says how strange an outcome is to a prediction. Several models answer together by their smallest score
(min–max). What a model leaves is reduced to *extremes* (n, E), whose minimum over models is all that sets need: the
score of every class, or m and −m of a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pycombat_gam.predict.outcome import Label
from pycombat_gam.predict.ranking import top_k
from pycombat_gam.types import BoolArray, FloatArray, IntArray

UNDECIDED = "undecided"
"""The answer where a set is not one class."""
TOP = 3
"""How many classes of a ranked answer count."""


@dataclass(frozen=True, eq=False)
class Event:
    """A class or node: its name, whether it came true (n,), and its probability (n,)."""

    name: str
    came_true: BoolArray
    p: FloatArray


class Scores(Protocol):
    """Scores of one kind of outcome, and the answers they make."""

    @property
    def n_strata(self) -> int:
        """How many thresholds there are: one, or one for each class."""

    def strata(self, y: FloatArray) -> IntArray:
        """Return which threshold each outcome (n,) has."""

    def truth(self, P: FloatArray, y: FloatArray) -> FloatArray:
        """Return scores (n,) of the outcomes that came true."""

    def extremes(self, P: FloatArray) -> FloatArray:
        """Return what the sets of several models take the minimum of, (n, E)."""

    def covered(self, extremes: FloatArray, thresholds: FloatArray, y: FloatArray) -> BoolArray:
        """Tell whether sets hold the outcomes (n,)."""

    def sizes(self, extremes: FloatArray, thresholds: FloatArray) -> FloatArray:
        """Return the sizes of sets (n,): classes held, or the width of an interval."""

    def columns(self, P: FloatArray, extremes: FloatArray, thresholds: FloatArray) -> dict[str, Any]:
        """Return the columns of a table of answers: predictions P (n, C), and the sets."""

    def predictions(self, P: FloatArray) -> dict[str, Any]:
        """Return the columns of predictions alone."""

    def names_of_strata(self) -> tuple[str, ...]:
        """Return the class of each threshold; an empty text where there is one for all."""

    def events(self, P: FloatArray, y: FloatArray) -> list[Event]:
        """Return what is scored as an event: a class or a node, with its probabilities."""

    def hits(self, P: FloatArray, y: FloatArray) -> dict[str, BoolArray]:
        """Return measures that a row meets or misses, such as accuracy."""


@dataclass(frozen=True)
class ClassScores:
    """s = 1 − p_y, with one threshold or one for each of C classes.

    Attributes
    ----------
    classes : labels; per_class : whether each has its own threshold; ranked : whether answers rank all classes.
    """

    classes: tuple[Label, ...]
    per_class: bool
    ranked: bool = False

    @property
    def n_strata(self) -> int:
        """How many thresholds there are."""
        return len(self.classes) if self.per_class else 1

    def strata(self, y: FloatArray) -> IntArray:
        """Return which threshold each outcome has."""
        return y.astype(np.intp) if self.per_class else np.zeros(len(y), dtype=np.intp)

    def truth(self, P: FloatArray, y: FloatArray) -> FloatArray:
        """Return 1 − p of the class that came true."""
        return 1.0 - P[np.arange(len(y)), y.astype(np.intp)]

    def extremes(self, P: FloatArray) -> FloatArray:
        """Return the score of every class."""
        return 1.0 - P

    def members(self, extremes: FloatArray, thresholds: FloatArray) -> BoolArray:
        """Tell which classes each set holds, (n, C)."""
        held: BoolArray = extremes <= thresholds
        return held

    def covered(self, extremes: FloatArray, thresholds: FloatArray, y: FloatArray) -> BoolArray:
        """Tell whether sets hold the classes."""
        return np.asarray(self.members(extremes, thresholds)[np.arange(len(y)), y.astype(np.intp)])

    def sizes(self, extremes: FloatArray, thresholds: FloatArray) -> FloatArray:
        """Return how many classes each set holds."""
        return np.asarray(self.members(extremes, thresholds).sum(axis=1), dtype=np.float64)

    def columns(self, P: FloatArray, extremes: FloatArray, thresholds: FloatArray) -> dict[str, Any]:
        """Return p_<class>, set, size and answer."""
        held = self.members(extremes, thresholds)
        sets = [tuple(label for label, inside in zip(self.classes, row, strict=True) if inside) for row in held]
        answer = [members[0] if len(members) == 1 else UNDECIDED for members in sets]
        return {**self.predictions(P), "set": sets, "size": held.sum(axis=1), "answer": answer}

    def predictions(self, P: FloatArray) -> dict[str, Any]:
        """Return p_<class>, and the classes in order of probability if answers rank them."""
        columns: dict[str, Any] = {f"p_{label}": P[:, c] for c, label in enumerate(self.classes)}
        if self.ranked:
            order = np.argsort(-P, axis=1, kind="stable")
            columns["ranked"] = [tuple(self.classes[c] for c in row) for row in order]
        return columns

    def names_of_strata(self) -> tuple[str, ...]:
        """Return the classes, or one empty text."""
        return tuple(map(str, self.classes)) if self.per_class else ("",)

    def events(self, P: FloatArray, y: FloatArray) -> list[Event]:
        """Return the last of two classes, or each of more."""
        C = len(self.classes)
        return [Event(str(self.classes[c]), y == c, P[:, c]) for c in ((1,) if C == 2 else range(C))]

    def hits(self, P: FloatArray, y: FloatArray) -> dict[str, BoolArray]:
        """Return whether the likeliest class came true; of ranked classes, whether one of the first three did."""
        hits = {"accuracy": top_k(P, y, 1)}
        if self.ranked and len(self.classes) > TOP:
            hits[f"top-{TOP} accuracy"] = top_k(P, y, TOP)
        return hits


@dataclass(frozen=True)
class NumberScores:
    """s = |y − m|."""

    n_strata: int = 1

    def strata(self, y: FloatArray) -> IntArray:
        """Return zeros: there is one threshold."""
        return np.zeros(len(y), dtype=np.intp)

    def truth(self, P: FloatArray, y: FloatArray) -> FloatArray:
        """Return absolute errors."""
        return np.abs(y - P[:, 0])

    def extremes(self, P: FloatArray) -> FloatArray:
        """Return m and −m."""
        return np.hstack([P, -P])

    def interval(self, extremes: FloatArray, thresholds: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the ends of the intervals."""
        return extremes[:, 0] - thresholds[0], thresholds[0] - extremes[:, 1]

    def covered(self, extremes: FloatArray, thresholds: FloatArray, y: FloatArray) -> BoolArray:
        """Tell whether intervals hold the numbers."""
        # As scores, not as ends: a number at an end would be lost to rounding.
        inside = (y >= extremes[:, 0]) & (y <= -extremes[:, 1])
        nearest = np.fmin(np.abs(y - extremes[:, 0]), np.abs(y + extremes[:, 1]))
        held: BoolArray = inside | (nearest <= thresholds[0])
        return held

    def sizes(self, extremes: FloatArray, thresholds: FloatArray) -> FloatArray:
        """Return widths."""
        lower, upper = self.interval(extremes, thresholds)
        width: FloatArray = upper - lower
        return width

    def columns(self, P: FloatArray, extremes: FloatArray, thresholds: FloatArray) -> dict[str, Any]:
        """Return fit, lower and upper."""
        lower, upper = self.interval(extremes, thresholds)
        return {**self.predictions(P), "lower": lower, "upper": upper}

    def predictions(self, P: FloatArray) -> dict[str, Any]:
        """Return fit."""
        return {"fit": P[:, 0]}

    def names_of_strata(self) -> tuple[str, ...]:
        """Return one empty text."""
        return ("",)

    def events(self, P: FloatArray, y: FloatArray) -> list[Event]:
        """Return nothing: a number is no event."""
        return []

    def hits(self, P: FloatArray, y: FloatArray) -> dict[str, BoolArray]:
        """Return nothing."""
        return {}
