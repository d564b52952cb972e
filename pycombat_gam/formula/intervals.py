"""Intervals of numbers: R's `cut`, its breaks and the labels that it makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pycombat_gam.errors import DesignError, FormulaError
from pycombat_gam.formula.functions import Literal
from pycombat_gam.formula.options import flag, whole
from pycombat_gam.saving.reader import Reader
from pycombat_gam.types import FloatArray, IntArray, JsonDict
from pycombat_gam.words import count

MAX_INTERVALS = 1000


@dataclass(frozen=True, eq=False)
class Intervals:
    """K intervals between increasing breaks.

    Attributes
    ----------
    breaks : (K + 1,), the first and last possibly infinite.
    labels : (K,) names of the intervals; empty where their numbers are wanted.
    right, lowest : whether intervals hold their right end, and the outermost one its other end too.
    """

    breaks: FloatArray
    labels: tuple[str, ...]
    right: bool
    lowest: bool

    @classmethod
    def learn(cls, x: FloatArray, options: Mapping[str, Literal], expression: str) -> Intervals:
        """Read breaks and labels; a single number of breaks asks for so many intervals of equal width.

        Notes
        -----
        Follows R's `cut.default`.
        """
        right = flag(options.get("right", True), "right", expression)
        lowest = flag(options.get("include.lowest", False), "include.lowest", expression)
        flag(options.get("ordered_result", False), "ordered_result", expression)
        digits = whole(options.get("dig.lab", 3), "dig.lab", expression)
        if not 1 <= digits <= 22:
            raise FormulaError(f"{expression}: dig.lab must be a whole number from 1 to 22")
        breaks = _breaks(x, options.get("breaks"), expression)
        K = len(breaks) - 1
        labels = options.get("labels")
        if labels is False:
            return cls(breaks, (), right, lowest)
        if labels is None:
            return cls(breaks, _labels(breaks, digits, right=right, lowest=lowest), right, lowest)
        names = labels if isinstance(labels, list) else [labels]
        if not all(isinstance(name, str) for name in names):
            raise FormulaError(f'{expression}: labels must be texts, as in labels = c("young", "old"), or FALSE')
        shown = tuple(map(str, names))
        if len(shown) != K or len(set(shown)) < K:
            raise FormulaError(f"{expression}: labels must be {count(K, 'different text')}, one for each interval")
        return cls(breaks, shown, right, lowest)

    def codes(self, x: FloatArray) -> IntArray:
        """Number the interval of each value from 0; −1 outside."""
        K = len(self.breaks) - 1
        codes = np.searchsorted(self.breaks, x, side="left" if self.right else "right") - 1
        if self.lowest:
            outermost, end = (0, self.breaks[0]) if self.right else (K - 1, self.breaks[-1])
            codes = np.where(x == end, outermost, codes)
        return np.where((codes >= 0) & (codes < K), codes, -1).astype(np.intp)

    def to_dict(self) -> JsonDict:
        """Plain data, finite numbers only."""
        open_ends = np.isinf(self.breaks[[0, -1]]).tolist()
        return {
            "breaks": self.breaks[np.isfinite(self.breaks)].tolist(),
            "open": open_ends,
            "labels": list(self.labels),
            "right": self.right,
            "lowest": self.lowest,
        }

    @classmethod
    def read(cls, saved: Reader) -> Intervals:
        """Rebuild from plain data, checked.

        Raises
        ------
        ModelFileError
            If anything is missing, superfluous or of the wrong kind.
        """
        below, above = saved.exactly("breaks", "open", "labels", "right", "lowest").flags("open", 2)
        inner = saved.array("breaks", (None,), ascending=True)
        breaks = np.concatenate([[-np.inf] * below, inner, [np.inf] * above])
        saved.require(2 <= breaks.size <= MAX_INTERVALS + 1, f"have from 2 to {MAX_INTERVALS + 1:,} breaks")
        labels = saved.texts("labels", distinct=True)
        saved.require(len(labels) in (0, breaks.size - 1), "have a label for each interval, or none")
        return cls(breaks, labels, saved.flag("right"), saved.flag("lowest"))


def _breaks(x: FloatArray, breaks_option: Literal, expression: str) -> FloatArray:
    items = breaks_option if isinstance(breaks_option, list) else [breaks_option]
    numbers = [float(item) for item in items if isinstance(item, (int, float)) and not isinstance(item, bool)]
    if not numbers or len(numbers) < len(items):
        raise FormulaError(f"{expression}: cut() needs breaks, as in breaks = c(20, 40, 60), or breaks = 3")
    if len(numbers) > 1:
        if len(set(numbers)) < len(numbers):
            raise FormulaError(f"{expression}: two breaks are equal; give different ones")
        if len(numbers) > MAX_INTERVALS + 1:
            raise FormulaError(f"{expression}: at most {MAX_INTERVALS:,} intervals are allowed")
        return np.array(sorted(numbers))
    if not 2 <= numbers[0] <= MAX_INTERVALS or not len(x):
        raise FormulaError(f"{expression}: the number of intervals must be a whole number from 2 to {MAX_INTERVALS:,}")
    low, high = float(x.min()), float(x.max())
    width = high - low
    if width == 0:
        width = abs(low) if low else 1.0
        return np.linspace(low - width / 1000, high + width / 1000, int(numbers[0]) + 1)
    breaks = np.linspace(low, high, int(numbers[0]) + 1)
    breaks[[0, -1]] = low - width / 1000, high + width / 1000
    if not (np.diff(breaks) > 0).all():
        raise DesignError(f"{expression}: the column's range is too narrow for so many intervals; give fewer")
    return breaks


def _labels(breaks: FloatArray, digits: int, *, right: bool, lowest: bool) -> tuple[str, ...]:
    """Print intervals with the fewest digits, from `digits` on, that distinguish neighbouring breaks."""
    # R pads what is infinite to a common width.
    infinite = {-np.inf: "-Inf", np.inf: " Inf" if breaks[0] == -np.inf else "Inf"}
    shown: list[str] = []
    for places in range(digits, max(12, digits) + 1):
        shown = [infinite.get(b) or f"{b + 0.0:.{places}g}" for b in breaks.tolist()]
        if all(a != b for a, b in pairwise(shown)):
            break
    else:
        return tuple(str(i + 1) for i in range(len(breaks) - 1))
    left, close = ("(", "]") if right else ("[", ")")
    labels = [f"{left}{a},{b}{close}" for a, b in pairwise(shown)]
    if lowest and right:
        labels[0] = "[" + labels[0][1:]
    elif lowest:
        labels[-1] = labels[-1][:-1] + "]"
    return tuple(labels)
