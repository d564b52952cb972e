"""Tables of another kind or shape than the one asked for: how to turn them into it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

_INTO_PANDAS = ("collect", "to_pandas"), ("to_pandas",), ("compute",), ("to_dataframe",)
"""Methods that make a pandas DataFrame: of lazy polars, polars and Arrow, dask, xarray."""


def kind_of(value: object) -> str:
    """Name a value's kind: ``a 2-D array``, ``a polars DataFrame``."""
    if isinstance(value, np.ndarray):
        structured = value.dtype.names is not None
        return "a structured array (pd.DataFrame(X) makes it a table)" if structured else f"a {value.ndim}-D array"
    if value is None:
        return "None"
    library = type(value).__module__.partition(".")[0]
    known = library in ("builtins", "numpy", "pandas", "pycombat_gam")
    return f"a {type(value).__name__}" if known else f"a {library} {type(value).__name__}"


def into_pandas(value: object, name: str) -> str:
    """Return what makes a DataFrame of a value, ``X.to_pandas()``; empty where nothing does."""
    if isinstance(value, dict) or (isinstance(value, list) and value and all(isinstance(row, dict) for row in value)):
        return f"pandas.DataFrame({name})"
    if isinstance(value, pd.DataFrame | pd.Series | np.ndarray | list | tuple | str):
        return ""
    for calls in _INTO_PANDAS:
        if hasattr(value, calls[0]):
            return f"{name}.{'.'.join(f'{call}()' for call in calls)}"
    return ""


def in_rows(X: pd.DataFrame | np.ndarray, covariates: pd.DataFrame) -> str:
    """Say how to bring features into the rows of the covariates; X has other rows, or another index."""
    n = len(covariates)
    if X.ndim == 2 and X.shape[1] == n and (X.shape[0] != n or _has(X, "columns", covariates.index)):
        turned = "X.T"
        if isinstance(X, pd.DataFrame) and not X.columns.equals(covariates.index):
            turned += (
                ".loc[covariates.index]" if _has(X, "columns", covariates.index) else ".set_axis(covariates.index)"
            )
        return f"X looks like features in rows and samples in columns, so give {turned}"
    if not isinstance(X, pd.DataFrame):
        return "give the same rows in both, in the same order"
    if _has(X, "index", covariates.index):
        return "give X.loc[covariates.index]"
    if len(X) == n:
        return "if they are the same rows in the same order, give X.set_axis(covariates.index)"
    common = X.index.intersection(covariates.index)
    if X.index.is_unique and covariates.index.is_unique and len(common):
        return (
            f"{len(common)} of them are in both: rows = X.index.intersection(covariates.index), then .loc[rows] of each"
        )
    return "give the same rows in both, with the same index"


def _has(X: Any, axis: str, labels: pd.Index) -> bool:
    """Tell whether a DataFrame has exactly these labels, in any order."""
    there = getattr(X, axis, None)
    return there is not None and there.is_unique and len(there) == len(labels) and bool(there.isin(labels).all())


def from_index(frame: pd.DataFrame, name: str) -> str:
    """Say how to get a column that is (a level of) the index, or a row; empty where it is neither."""
    if name in map(str, frame.index.names):
        return f"; '{name}' is in the index: give table.reset_index()"
    return f"; '{name}' is a row: give table.T.infer_objects()" if name in frame.index else ""


def flat_columns(frame: pd.DataFrame) -> str:
    """Say how to flatten columns of several levels; empty where they have one."""
    if not isinstance(frame.columns, pd.MultiIndex):
        return ""
    return "table.columns = ['_'.join(map(str, names)).strip('_') for names in table.columns]"
