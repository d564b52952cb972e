"""Cells of a report's tables: how a value reads, and all its digits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

DIGITS = 4
"""Significant digits of a number that is read; the cell carries all of them."""
MISSING = "–"
LONG = 36
"""Letters of a word beyond which it is broken."""


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes
    ----------
    text : as it reads.
    value : the number to its last digit, as `float` reads it; empty where it is missing; None for a cell of text.
    """

    text: str
    value: str | None

    @property
    def long(self) -> bool:
        """Whether a word of it is too long for one line of a table."""
        return len(self.text) > LONG and any(len(word) > LONG for word in self.text.split())


def visible(text: object) -> str:
    r"""Return a text whose invisible characters show as their code points: names that look alike are told apart.

    Zero-width and direction marks, control characters, line breaks and odd spaces are invisible.

    >>> visible("a\u200bb"), visible("two words")
    ('a⟨U+200B⟩b', 'two words')
    """
    return "".join(c if c.isprintable() else f"⟨U+{ord(c):04X}⟩" for c in str(text))


def visible_lines(text: object) -> str:
    """Return a text of several lines, each with its invisible characters shown."""
    return "\n".join(visible(line) for line in str(text).split("\n"))


def number_text(value: float, digits: int = DIGITS) -> str:
    """Write a number for reading.

    >>> number_text(0.123456), number_text(1035), number_text(-12.0), number_text(1.5e-7), number_text(123456.7)
    ('0.1235', '1,035', '−12.00', '1.500e-07', '123,457')
    """
    if isinstance(value, int | np.integer):
        return f"{value:,}".replace("-", "−")
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if value == 0:
        return "0"
    if size < 1e-4 or size >= 1e7:
        text = f"{value:.{digits - 1}e}"
    else:
        # The exponent after rounding: 9.9996 has one digit more before its point.
        exponent = int(f"{size:.{digits - 1}e}".split("e")[1])
        text = f"{value:,.{max(digits - 1 - exponent, 0)}f}"
    return f"−{text[1:]}" if text.startswith("-") else text


def p_text(value: float) -> str:
    """Write a p-value for reading.

    >>> p_text(1e-9), p_text(0.0421), p_text(1.0)
    ('<0.001', '0.042', '1.000')
    """
    if math.isnan(value):
        return MISSING
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def is_number(value: object) -> bool:
    """Tell whether a value is a number, True and False being none."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool | np.bool_)


def is_missing(value: object) -> bool:
    """Tell whether a cell holds nothing."""
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def column_cells(values: pd.Series, *, p: bool) -> list[Cell]:
    """Return the cells of a column.

    Parameters
    ----------
    values : numbers, texts or both; p : they are p-values.
    """
    present = [value for value in values.tolist() if not is_missing(value)]
    numbers = bool(present) and all(is_number(value) for value in present)
    # Counts come as floats where one is missing.
    whole = numbers and not p and all(float(value).is_integer() and abs(value) < 2**53 for value in present)
    return [_cell(value, p=p, numbers=numbers, whole=whole) for value in values.tolist()]


def _cell(value: object, *, p: bool, numbers: bool, whole: bool) -> Cell:
    if is_missing(value):
        return Cell(MISSING, "" if numbers else None)
    if isinstance(value, bool | np.bool_):
        return Cell("yes" if value else "no", None)
    if not is_number(value):
        return Cell(visible(value), None)
    number = float(value) if not isinstance(value, int | np.integer) else int(value)  # type: ignore[arg-type]  # a number
    if whole:
        return Cell(number_text(int(number)), repr(number))
    return Cell(p_text(float(number)) if p else number_text(number), repr(number))
