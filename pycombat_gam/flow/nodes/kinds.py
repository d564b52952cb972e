"""Kinds of nodes, numeric or discrete, learned from a table's column or read from a file."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd

from pycombat_gam.batch.levels import canonical
from pycombat_gam.errors import DataError, DesignError
from pycombat_gam.formula.columns import Columns, check_text, label_of, learn_levels
from pycombat_gam.saving.reader import Reader
from pycombat_gam.words import listing

Kind: TypeAlias = Literal["numeric", "binary", "categorical"]
Level: TypeAlias = "str | int | float | bool"
KINDS: tuple[Kind, ...] = get_args(Kind)
_DTYPES = (
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    "float32",
    "float64",
    "float16",
)


def discrete_levels(columns: Columns, name: str, *, forced: bool) -> tuple[Level, ...] | None:
    """Return the levels of a column, in order; None if it is numeric."""
    column = columns.column(name)
    if isinstance(column, np.ndarray) and column.dtype != np.bool_ and not forced:
        distinct = np.unique(column)
        if len(distinct) == 1:
            raise DesignError(
                f"column '{name}' has the same value, {distinct[0]:g}, in every row; remove it from the formula"
            )
        if len(distinct) > 2:
            return None
    groups = columns.groups(name)
    if not forced and not isinstance(columns.series(name).dtype, pd.CategoricalDtype):
        check_text(groups, name)
    texts = learn_levels(groups, f"column '{name}'")
    values: list[Any] = [value.item() if isinstance(value, np.generic) else value for value in groups.values]
    if len(texts) < len(values):
        same = [v for v in values if [label_of(other) for other in values].count(label_of(v)) > 1]
        raise DataError(f"column '{name}' spells one level in two ways: {listing(map(repr, same), 4)}; use one of them")
    kinds = {type(value) for value in values}
    return tuple(values) if len(kinds) == 1 and kinds <= {bool, int, float} else texts


def plain_dtype(dtype: object) -> str:
    """Return the name of numpy's type for a column of numbers, of pandas' nullable types too."""
    plain = getattr(dtype, "numpy_dtype", dtype)
    if isinstance(plain, np.dtype) and plain.kind in "biuf":
        return plain.name
    return "object"


def read_levels(saved: Reader, kind: Kind, *, is_batch: bool) -> tuple[tuple[Level, ...], str | None]:
    """Read the levels of a discrete node and, unless they are texts, the type of its column."""
    levels = saved.value("levels")
    saved.require(_sound_levels(levels, kind, is_batch=is_batch), "have the levels of its kind")
    if isinstance(levels[0], str):
        return tuple(levels), None
    dtype = saved.text("dtype")
    saved.require(_holds(dtype, levels), "have a type that holds its levels")
    return tuple(levels), dtype


def _sound_levels(levels: object, kind: str, *, is_batch: bool) -> bool:
    """Check saved levels: of one type, distinct, and as many as kind and node require."""
    if not isinstance(levels, list) or len({type(level) for level in levels}) != 1:
        return False
    if type(levels[0]) not in (str, bool, int, float) or not all(
        np.isfinite(v) for v in levels if isinstance(v, float)
    ):
        return False
    labels = {label_of(level) for level in levels}
    if len(labels) < max(2, len(levels)) or not all(label.strip() for label in labels):
        return False
    if is_batch:
        return kind == "categorical" and all(isinstance(level, str) and canonical(level) == level for level in levels)
    return (len(levels) == 2) == (kind == "binary")


def _holds(dtype: str, levels: list[Level]) -> bool:
    """Check that a saved type can hold the levels."""
    if dtype == "object":
        return True
    if dtype not in _DTYPES:
        return False
    try:
        return bool(np.array(levels, dtype=dtype).tolist() == levels)
    except (OverflowError, ValueError):
        return False
