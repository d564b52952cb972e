"""Actions: the values of `do(node = value)`, checked and coded for each row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.batch.levels import BatchLevels, canonical
from pycombat_gam.errors import DataError, OptionError
from pycombat_gam.formula.columns import Columns, Groups, as_groups, code_levels, label_of
from pycombat_gam.types import FloatArray, IntArray
from pycombat_gam.words import count, listing


def per_row(name: str, value: object, n: int, index: pd.Index[Any] | None) -> pd.Series[Any]:
    """Return an action's value for each of n rows, from one value for all or one for each.

    Raises
    ------
    OptionError
        If the number of values is not one or n, a value is missing, or a Series has another index than the table.
    """
    if isinstance(value, pd.Series) and index is not None and len(value) == n and not value.index.equals(index):
        raise OptionError(f"do: '{name}' is a Series with another index than the table: align it, or give an array")
    values: Any = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
    many = isinstance(values, (list, tuple, np.ndarray, pd.Series, pd.Index, pd.api.extensions.ExtensionArray))
    if many:
        if np.ndim(values) != 1 or len(values) != n:
            shape = count(len(values), "value") if np.ndim(values) == 1 else f"an array of shape {np.shape(values)}"
            raise OptionError(f"do: '{name}' has {shape} for {count(n, 'row')}; give one value, or one for each row")
        column = pd.Series(values).reset_index(drop=True)
    elif values is not None and np.isscalar(values):
        column = pd.Series([values] * n)
    else:
        raise OptionError(f"do: '{name}' is {value!r}; give one value, or one for each of {count(n, 'row')}")
    missing = column.isna().to_numpy()
    if missing.any():
        where = "" if not many else f" in {count(int(missing.sum()), 'row')}, the first at position {missing.argmax()}"
        raise OptionError(f"do: '{name}' is missing{where}; give a value for each row, or leave '{name}' out")
    return column


def code_numbers(name: str, column: pd.Series[Any]) -> FloatArray:
    """Code an action on a numeric node: (n,) finite numbers."""
    try:
        values = Columns(pd.DataFrame({name: column})).column(name)
    except DataError as error:
        raise OptionError(f"do: {error}") from None
    if isinstance(values, Groups) or values.dtype == np.bool_:
        shown = sorted(map(repr, column.unique().tolist()))
        raise OptionError(f"do: '{name}' is numeric, but the values are {listing(shown, 4)}; give finite numbers")
    return np.asarray(values, dtype=np.float64)


def code_labels(name: str, column: pd.Series[Any], labels: tuple[str, ...], *, batch: bool) -> IntArray:
    """Code an action on a discrete node: (n,) positions of its levels; `batch`: labels are spelled as for sites."""
    texts = [canonical(value) if batch else label_of(value) for value in column]
    if batch:
        position = {label: code for code, label in enumerate(labels)}
        codes = np.array([position.get(text, -1) for text in texts], dtype=np.intp)
    else:
        columns = Columns(pd.DataFrame({name: column}))
        codes = code_levels(as_groups(np.array(texts, dtype=object)), labels, name, columns, lenient=True).codes
    unknown = sorted({text for text, code in zip(texts, codes, strict=True) if code < 0})
    if unknown:
        what = "site" if batch else f"level of '{name}'"
        raise OptionError(
            f"do: {listing(map(repr, unknown), 4)} is no {what}; the fit has {listing(labels, 30)}"
            f"{BatchLevels(name, labels).meant(unknown[0])}"
        )
    return codes
