"""Columns of a table as numbers, logicals or groups, with nothing missing and nothing infinite.

Only the columns asked for are touched, so a table may hold a hundred thousand others.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pycombat_gam.errors import DataError, DesignError
from pycombat_gam.formula.nodes import level_text, name_text
from pycombat_gam.tables.cells import MAX_CODES, MISSING
from pycombat_gam.tables.numerals import PLAIN, kinds_named, spelling
from pycombat_gam.tables.remedies import from_index, into_pandas, kind_of
from pycombat_gam.types import BoolArray, FloatArray, IntArray
from pycombat_gam.words import did_you_mean, listing, rows_named


@dataclass(frozen=True, eq=False)
class Groups:
    """A column of labels: codes (n,) into `values`, which stand in the order their levels take."""

    codes: IntArray
    values: tuple[object, ...]


@dataclass(frozen=True, eq=False)
class Factor:
    """A coded factor: codes (n,) into `levels`, with the contrast it asks for.

    `numbered`: its contrast columns are named by number, as R does for ``C(x, contr.treatment, base=2)``.
    """

    codes: IntArray
    levels: tuple[str, ...]
    contrast: str = "contr.treatment"
    base: int = 0
    numbered: bool = False


Column: TypeAlias = FloatArray | BoolArray | Groups

_LOGICAL = {"TRUE": True, "True": True, "true": True, "FALSE": False, "False": False, "false": False}


class Columns:
    """The columns of one table, each checked once.

    Parameters
    ----------
    table : DataFrame, shape (n, any)
        The covariates, among any other columns.
    """

    def __init__(self, table: pd.DataFrame) -> None:
        if not isinstance(table, pd.DataFrame):
            how = into_pandas(table, "the table")
            raise DataError(
                f"the covariates are {kind_of(table)}; give {how or 'a pandas DataFrame with one named column each'}"
            )
        self.table = table
        self.rows = len(table)
        self._read: dict[str, Column] = {}

    def series(self, name: str) -> pd.Series[Any]:
        """Look a column up by its exact name."""
        if name not in self.table.columns:
            raise DataError(
                f"the formula uses {name_text(name)}, which is not a column of the table"
                f"{from_index(self.table, name) or _nearest(name, self.table.columns)}"
            )
        column = self.table[name]
        if isinstance(column, pd.DataFrame):
            raise DataError(f"the table has {column.shape[1]} columns named '{name}'; rename or drop all but one")
        return column

    def column(self, name: str) -> Column:
        """Return a column as numbers (float64), logicals or groups.

        Raises
        ------
        DataError
            If it is absent, holds missing or infinite cells, or is of a kind that a formula cannot use.
        """
        if name not in self._read:
            self._read[name] = self._checked(name)
        return self._read[name]

    def groups(self, name: str) -> Groups:
        """Return a column as groups, whatever its kind; whole numbers stay whole."""
        column = self.column(name)
        if isinstance(column, Groups):
            return column
        series = self.series(name)
        if column.dtype == np.bool_ or not pd.api.types.is_integer_dtype(series.dtype):
            return as_groups(column)
        return as_groups(series.to_numpy())

    def where(self, mask: BoolArray) -> str:
        """Say how many rows a mask marks, and which come first (by index label)."""
        return rows_named(self.table.index[mask])

    def _checked(self, name: str) -> Column:
        series = self.series(name)
        missing = np.asarray(series.isna(), dtype=bool)
        if missing.any():
            raise DataError(
                f"column '{name}' has missing values in {self.where(missing)}; fill the cells or leave the rows out"
            )
        if isinstance(series.dtype, pd.CategoricalDtype):
            return _categorical(series)
        if pd.api.types.is_bool_dtype(series.dtype):
            return series.to_numpy(dtype=np.bool_)
        if pd.api.types.is_complex_dtype(series.dtype):
            raise DataError(f"column '{name}' holds complex numbers; give real numbers or text")
        if pd.api.types.is_numeric_dtype(series.dtype):
            return self._finite(name, series.to_numpy(dtype=np.float64))
        if pd.api.types.is_object_dtype(series.dtype) or pd.api.types.is_string_dtype(series.dtype):
            return self._objects(name, np.asarray(series, dtype=object))
        raise DataError(
            f"column '{name}' is of type {series.dtype}; a formula takes numbers, text, "
            "categories and logicals, so "
            "convert it first (a date to years, for example)"
        )

    def _objects(self, name: str, cells: NDArray[np.object_]) -> Column:
        kinds = {type(cell) for cell in cells}
        text = [kind for kind in kinds if issubclass(kind, str)]
        logical = [kind for kind in kinds if issubclass(kind, (bool, np.bool_))]
        numbers = [kind for kind in kinds - {*logical} if issubclass(kind, Real)]
        other = kinds - {*text, *logical, *numbers}
        if other:
            names = listing(sorted(kind.__name__ for kind in other))
            raise DataError(f"column '{name}' holds {names} objects; a formula takes numbers, text and logicals")
        if len(numbers) == len(kinds) and kinds:
            return self._finite(name, cells.astype(np.float64))
        if len(logical) == len(kinds) and kinds:
            return cells.astype(np.bool_)
        if len(text) == len(kinds):
            return as_groups(cells)
        odd = np.array([isinstance(cell, str) for cell in cells])
        cell = next(cell for cell in cells if isinstance(cell, str)) if odd.any() else None
        raise DataError(
            f"column '{name}' mixes text with numbers or logicals"
            + (f" ({cell!r} in {self.where(odd)})" if cell is not None else "")
            + "; give it one type"
        )

    def _finite(self, name: str, values: FloatArray) -> FloatArray:
        infinite = ~np.isfinite(values)
        if infinite.any():
            raise DataError(
                f"column '{name}' is infinite in {self.where(infinite)}; replace the cells by finite numbers"
            )
        return values


def _nearest(name: str, columns: pd.Index[Any]) -> str:
    """Suggest a column; among very many only those of about the same length are compared."""
    near = [c for c in map(str, columns) if abs(len(c) - len(name)) <= 3][:5000]
    hint = did_you_mean(name, near)
    return hint or f"; the table has {listing(columns, 6)}"


def _categorical(series: pd.Series[Any]) -> Groups:
    codes = series.cat.codes.to_numpy()
    used = np.unique(codes)
    categories = series.cat.categories
    return Groups(np.searchsorted(used, codes).astype(np.intp), tuple(categories[code] for code in used))


def as_groups(values: NDArray[Any]) -> Groups:
    """Group equal cells; numbers come in numerical order, text by code point.

    >>> as_groups(np.array(["b", "a", "b"], dtype=object)).values
    ('a', 'b')
    """
    codes, distinct = pd.factorize(values)
    items = list(distinct.tolist() if isinstance(distinct, np.ndarray) else distinct)
    order = sorted(range(len(items)), key=items.__getitem__)
    rank = np.empty(len(items), dtype=np.intp)
    rank[order] = np.arange(len(items))
    return Groups(rank[codes], tuple(items[i] for i in order))


def label_of(value: object) -> str:
    """Print a cell as R prints it as a factor level: ``TRUE``, ``1``, ``2.5``, text unchanged."""
    if isinstance(value, (bool, np.bool_)):
        return "TRUE" if value else "FALSE"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    return level_text(float(value)) if isinstance(value, Real) else str(value)


def number_of(text: str) -> float | int | None:
    """Read a label as a number, exactly; ``None`` where it is not one.

    >>> number_of("1.0") == number_of("1"), number_of("a")
    (True, None)
    """
    if PLAIN.match(text) is None:
        return None
    value = float(text)
    if not np.isfinite(value):
        return None
    stripped = text.strip()
    return int(stripped) if stripped.lstrip("+-").isdigit() else value


def learn_levels(groups: Groups, expression: str) -> tuple[str, ...]:
    """List the levels of groups in order, as labels.

    Raises
    ------
    DataError
        If one of them is blank.
    DesignError
        If there are fewer than two.
    """
    levels = tuple(dict.fromkeys(label_of(value) for value in groups.values))
    if any(not level.strip() for level in levels):
        raise DataError(f"{expression} has blank cells; fill them or leave the rows out")
    if len(levels) < 2:
        only = f"only one level ('{levels[0]}')" if levels else "no level, since the table has no rows"
        raise DesignError(f"{expression} has {only}; remove it from the formula")
    return levels


def check_text(groups: Groups, name: str) -> None:
    """Stop at a text column meant to hold numbers, which would quietly become a factor of many levels.

    A few numbers as text may be codes of groups (scan 01 and 02, 1.5 and 3 tesla, 4 and "5+"); many of them are not.
    """
    texts = [value for value in groups.values if isinstance(value, str)]
    if not texts or len(texts) < len(groups.values):
        return
    spellings = [spelling(text) for text in texts]
    words = [text for text, kind in zip(texts, spellings, strict=True) if kind is None]
    unusual = kinds_named(spellings)
    numbers = len(texts) - len(words)
    absent = any(word.strip().casefold() in MISSING for word in words)
    if numbers <= (2 if absent else MAX_CODES):
        return
    if numbers > len(words) > 0:
        raise DataError(
            f"column '{name}' is text, yet {numbers} of its {len(texts)} distinct values are numbers and "
            f"{listing(map(repr, words), 3)} not; fix the cells, or write factor({name_text(name)}) for a factor"
        )
    if not words:
        kind = f"numbers with {unusual}" if unusual else "numbers as text"
        shown = [text for text, spelled in zip(texts, spellings, strict=True) if spelled or not unusual]
        raise DataError(
            f"column '{name}' holds {kind} ({listing(map(repr, shown), 3)}); make it numeric, or write "
            f"factor({name_text(name)}) if it is a factor"
        )


def code_levels(
    groups: Groups,
    levels: tuple[str, ...],
    expression: str,
    columns: Columns,
    origin: str = "known from the fit",
    *,
    lenient: bool = False,
) -> Factor:
    """Code groups by known levels: the same label, or the same number or logical in another spelling.

    Raises
    ------
    DataError
        If a value is not among the levels; where `lenient`, its code is −1 instead.
    """
    exact = {label: code for code, label in enumerate(levels)}
    numeric: dict[float | int, int] = {}
    logical: dict[bool, int] = {}
    for code, label in enumerate(levels):
        if (number := number_of(label)) is not None:
            numeric.setdefault(number, code)
        if label in _LOGICAL:
            logical.setdefault(_LOGICAL[label], code)
    of_value = np.array([_find(value, exact, numeric, logical) for value in groups.values], dtype=np.intp)
    codes = of_value[groups.codes] if len(of_value) else np.zeros(0, dtype=np.intp)
    codes = np.where(groups.codes < 0, -1, codes)
    if not lenient and (codes < 0).any():
        new = [label_of(v) for v, code in zip(groups.values, of_value, strict=True) if code < 0]
        noun = "a level" if len(new) == 1 else "levels"
        raise DataError(
            f"{expression} has {noun} not {origin}: {listing(map(repr, new), 4)} in "
            f"{columns.where(codes < 0)}; known are {listing(map(repr, levels))}; recode or "
            "leave those rows out"
        )
    return Factor(codes, levels)


def _find(value: object, exact: dict[str, int], numeric: dict[float | int, int], logical: dict[bool, int]) -> int:
    label = label_of(value)
    if label in exact:
        return exact[label]
    if label in _LOGICAL:
        return logical.get(_LOGICAL[label], -1)
    number = number_of(label)
    if number is None:
        return -1
    if logical and not numeric and number in (0, 1):
        return logical.get(bool(number), -1)
    return numeric.get(number, -1)
