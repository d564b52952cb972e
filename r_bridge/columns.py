"""Columns of a DataFrame as vectors of a data.frame and back: factors, texts, missing values, whole numbers, dates.

| pandas | R |
|---|---|
| float, Float64 | double; a missing cell is NA, and so is NaN, pandas' mark of one in float columns |
| integer, Int64 | integer, or double beyond 2^31 - 1 (an error beyond 2^53) |
| bool, boolean | logical |
| str, string, object of texts | character |
| category of texts, numbers or truth values | factor with the same levels in the same order, ordered or not |
| datetime64, all at midnight; object of dates | Date |
| datetime64 | POSIXct, in UTC or the column's time zone, to the microsecond |
| timedelta64 | difftime in seconds, to the microsecond |

Anything else is an error that names the column.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from pycombat_gam.words import listing
from r_bridge.errors import RError

INT_MAX = 2**31 - 1
NA_INTEGER = -INT_MAX - 1
NA_REAL = np.uint64(0x7FF00000000007A2)
"""The bits of R's NA among doubles: a NaN whose low word is 1954."""
NO_DAY = np.iinfo(np.int64).min
TEXT_LEVELS = ("str", "string", "object")


class Vector(NamedTuple):
    """An atomic vector of R: its type, and its values with R's NA among them (as None among texts)."""

    type: str
    values: np.ndarray[Any, Any]

    def plain(self) -> np.ndarray[Any, Any]:
        """Return an array that means the same in numpy: integers or logicals with NA become floats."""
        if self.type == "double":
            return quiet(self.values)
        if self.type == "character":
            return self.values
        absent = self.values == NA_INTEGER
        if absent.any():
            return np.where(absent, np.nan, self.values)
        return self.values.astype(bool if self.type == "logical" else np.int64)


def quiet(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Make NaN of R's NA, in place: its bits are a signalling NaN, of which numpy's arithmetic warns."""
    # The sum of squares is NaN only if one of them is, and takes no memory.
    with np.errstate(invalid="ignore", over="ignore"):
        some = np.isnan(np.dot(values, values))
    if some:
        values[np.isnan(values)] = np.nan
    return values


@dataclass(frozen=True)
class Packed:
    """A column on its way to R: values with R's NA among them, the vector's attributes, and the dtype to give back."""

    name: str
    type: Literal["double", "integer", "logical", "character"]
    values: np.ndarray[Any, Any] | list[str | None]
    dtype: str
    attributes: Mapping[str, Sequence[str]] = field(default_factory=dict)


def pack(column: pd.Series, name: str) -> Packed:
    """Prepare a column for R; `name` is for errors."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _pack_factor(column, dtype, name)
    if isinstance(dtype, pd.DatetimeTZDtype) or dtype.kind == "M":
        return _pack_time(column, name)
    if dtype.kind == "m":
        return Packed(name, "double", _seconds(column, name), str(dtype), {"class": ["difftime"], "units": ["secs"]})
    absent = column.isna().to_numpy()
    if dtype.kind == "b":
        truth = column.to_numpy(dtype=bool, na_value=False).astype(np.int32)
        return Packed(name, "logical", np.where(absent, NA_INTEGER, truth), str(dtype))
    if dtype.kind in "iu":
        return _pack_integers(column, absent, name)
    if dtype.kind == "f":
        return _pack_floats(column, absent, name)
    if dtype.kind == "O" or isinstance(dtype, pd.StringDtype):
        return _pack_objects(column, absent, name)
    raise RError(f"{name} cannot be passed to R: it is {dtype}; give numbers, truth values, texts, factors or dates")


def _pack_floats(column: pd.Series, absent: np.ndarray[Any, Any], name: str) -> Packed:
    if column.dtype == np.longdouble and np.dtype(np.longdouble).itemsize > 8:
        raise RError(f"{name} cannot be passed to R: it is {column.dtype}, and R's numbers are doubles")
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    if absent.any():
        values = np.array(values, copy=True)
        values.view(np.uint64)[absent] = NA_REAL
    return Packed(name, "double", values, str(column.dtype))


def _pack_integers(column: pd.Series, absent: np.ndarray[Any, Any], name: str) -> Packed:
    values = column.to_numpy(dtype="u8" if column.dtype.kind == "u" else "i8", na_value=0)
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if high > 2**53 or low < -(2**53):
        raise RError(f"{name} has whole numbers beyond 2^53, which R cannot hold: give them as text")
    if high <= INT_MAX and low >= -INT_MAX:
        whole = np.where(absent, NA_INTEGER, values.astype(np.int64)).astype(np.int32)
        return Packed(name, "integer", whole, str(column.dtype))
    doubles = values.astype(np.float64)
    doubles.view(np.uint64)[absent] = NA_REAL
    return Packed(name, "double", doubles, str(column.dtype))


def _pack_objects(column: pd.Series, absent: np.ndarray[Any, Any], name: str) -> Packed:
    items = [None if gone else item for item, gone in zip(column.tolist(), absent, strict=True)]
    present = [item for item in items if item is not None]
    marks = {type(item).__name__ for item, gone in zip(column.tolist(), absent, strict=True) if gone}
    # Which object stood for "missing" is kept where it was one kind; a mixture comes back as None.
    mark = f"|{marks.pop()}" if column.dtype.kind == "O" and len(marks) == 1 else ""
    if all(isinstance(item, str) for item in present):
        return Packed(name, "character", items, _string_dtype(column.dtype) + mark)
    if all(isinstance(item, (bool, np.bool_)) for item in present):
        truth = np.array([NA_INTEGER if item is None else int(item) for item in items], dtype=np.int32)
        return Packed(name, "logical", truth, f"object{mark}")
    if all(isinstance(item, dt.date) and not isinstance(item, dt.datetime) for item in present):
        epoch = dt.date(1970, 1, 1)
        days = np.array([np.nan if item is None else float((item - epoch).days) for item in items])
        days.view(np.uint64)[absent] = NA_REAL
        return Packed(name, "double", days, f"object{mark}", {"class": ["Date"]})
    kinds = sorted({type(item).__name__ for item in present})
    raise RError(
        f"{name} cannot be passed to R: its cells are {listing(kinds)}; "
        "make the column one of numbers, truth values, texts, factors or dates"
    )


def _string_dtype(dtype: Any) -> str:
    """Tell pandas' kinds of text apart, whose names are alike."""
    if not isinstance(dtype, pd.StringDtype):
        return "object"
    return "str" if dtype.na_value is not pd.NA else "string"


def _pack_factor(column: pd.Series, dtype: pd.CategoricalDtype, name: str) -> Packed:
    categories = dtype.categories
    kind = _string_dtype(categories.dtype) if categories.dtype.kind == "O" else str(categories.dtype)
    texts = all(isinstance(level, str) for level in categories)
    if not (texts or categories.dtype.kind in "iufb"):
        raise RError(
            f"{name} cannot be passed to R as a factor: its categories are {categories.dtype}; "
            "make them texts with .cat.rename_categories(str)"
        )
    codes = np.asarray(column.cat.codes, dtype=np.int32)
    return Packed(
        name,
        "integer",
        np.where(codes < 0, NA_INTEGER, codes + 1).astype(np.int32),
        f"category[{kind if not texts or kind in TEXT_LEVELS else 'str'}]",
        {
            "levels": [level if texts else repr(level.item()) for level in categories.to_numpy()],
            "class": ["ordered", "factor"] if dtype.ordered else ["factor"],
        },
    )


def _pack_time(column: pd.Series, name: str) -> Packed:
    dtype = column.dtype
    if isinstance(dtype, pd.DatetimeTZDtype):
        seconds = _seconds(column.dt.tz_convert("UTC").dt.tz_localize(None), name)
        return Packed(name, "double", seconds, str(dtype), {"class": ["POSIXct", "POSIXt"], "tzone": [str(dtype.tz)]})
    seconds = _seconds(column, name)
    days = quiet(seconds.copy()) / 86400
    if ((days == np.floor(days)) | np.isnan(days)).all():
        days.view(np.uint64)[np.isnan(days)] = NA_REAL
        return Packed(name, "double", days, str(dtype), {"class": ["Date"]})
    return Packed(name, "double", seconds, str(dtype), {"class": ["POSIXct", "POSIXt"], "tzone": ["UTC"]})


def _seconds(column: pd.Series, name: str) -> np.ndarray[Any, Any]:
    """Times since 1970, or spans, as seconds; what a double cannot give back to the microsecond is an error."""
    raw = column.to_numpy()
    absent = np.isnat(raw)
    unit = np.datetime_data(raw.dtype)[0]
    per = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    whole = np.where(absent, 0, raw.astype(np.int64))
    seconds = np.asarray(whole // per + (whole % per) / per, dtype=np.float64)
    if (_ticks(seconds, per) != whole).any():
        raise RError(
            f"{name} has times that R's seconds cannot hold exactly (finer than a microsecond, or far from 1970): "
            "round the column with .dt.round('us')"
        )
    seconds.view(np.uint64)[absent] = NA_REAL
    return seconds


def _ticks(seconds: np.ndarray[Any, Any], per: int) -> np.ndarray[Any, Any]:
    """Seconds as whole ticks, rounded to the microsecond where ticks are finer."""
    whole = np.floor(seconds)
    digits = min(per, 10**6)
    # By parts: the product of all of it would round once more.
    ticks = whole.astype(np.int64) * digits + np.round((seconds - whole) * digits).astype(np.int64)
    return np.asarray(ticks * (per // digits))


def categorical(vector: Vector, levels: Sequence[str], *, ordered: bool, kind: str = "str") -> pd.Categorical:
    """Return a factor as a Categorical, its levels texts or of the dtype `kind`."""
    labels: Any = pd.Index(list(levels), dtype=object if kind == "object" else "str")
    if kind not in TEXT_LEVELS:
        labels = _parsed(levels, kind)
    elif kind == "string":
        labels = labels.astype("string")
    codes = np.where(vector.values == NA_INTEGER, 0, vector.values) - 1
    return pd.Categorical.from_codes(codes, categories=labels, ordered=ordered)


def _parsed(texts: Sequence[str], kind: str, name: str | None = None) -> pd.Index:
    """Read numbers or truth values of a dtype; texts where they are no longer such."""
    try:
        if kind in ("bool", "boolean"):
            return pd.Index([{"True": True, "False": False}[text] for text in texts], dtype=kind, name=name)
        read = float if kind.lower().startswith("float") else int
        return pd.Index([read(text) for text in texts], dtype=kind, name=name)
    except (KeyError, ValueError, TypeError, OverflowError):
        return pd.Index(list(texts), dtype="str", name=name)


def unpack(vector: Vector, about: Mapping[str, Sequence[str]], dtype: str | None) -> pd.Series:
    """Return a column of a data.frame; `about` has its class, levels and units, `dtype` what it was in pandas."""
    kinds = about["class"]
    if "factor" in kinds:
        kind = dtype.removeprefix("category[").removesuffix("]") if dtype and dtype.startswith("category[") else "str"
        return pd.Series(categorical(vector, about["levels"], ordered="ordered" in kinds, kind=kind))
    if "Date" in kinds:
        return _dates(vector.plain(), dtype)
    if "POSIXct" in kinds or "difftime" in kinds:
        return _times(vector.plain(), about, dtype)
    return _typed(vector, dtype)


def _typed(vector: Vector, dtype: str | None) -> pd.Series:
    """A vector without class as its dtype in pandas, or, where it no longer fits that, as the one nearest to R's."""
    name, _, mark = (dtype or "").partition("|")
    values = vector.values
    if vector.type == "character":
        texts = pd.Series(values, dtype=object)
        if name == "object":
            return _marked(texts, mark)
        return texts.astype("string" if name == "string" else "str")
    if vector.type == "double":
        if name == "Float64" or name == "Float32":
            absent = values.view(np.uint64) & np.uint64(0xFFFFFFFF) == np.uint64(1954)
            absent &= np.isnan(values)
            return pd.Series(pd.arrays.FloatingArray(quiet(values).astype(name.lower()), absent))
        values = quiet(values)
        if name.lower().startswith(("int", "uint")):
            whole = pd.Series(values)
            if ((whole == np.floor(whole)) | whole.isna()).all():
                return _as(whole.astype("Float64").astype("Int64"), name)
        return pd.Series(values.astype(name) if name.startswith("float") else values)
    absent = values == NA_INTEGER
    if vector.type == "logical":
        if name == "object":
            items = [None if gone else bool(value) for value, gone in zip(values, absent, strict=True)]
            return _marked(pd.Series(items, dtype=object), mark)
        truth = pd.Series(pd.arrays.BooleanArray(values == 1, absent))
        return truth.astype("bool") if name != "boolean" and not absent.any() else truth
    whole = pd.Series(pd.arrays.IntegerArray(values.astype(np.int64), absent))
    return _as(whole, name if name.lower().startswith(("int", "uint")) else "int64")


def _as(whole: Any, name: str) -> pd.Series:
    """An Int64 column as another integer dtype, if it can be."""
    if whole.isna().any() and name[0].islower():
        return pd.Series(whole)
    try:
        return pd.Series(whole.astype(name))
    except (OverflowError, ValueError, TypeError):
        return pd.Series(whole)


def _marked(items: pd.Series, mark: str) -> pd.Series:
    """Put back the object that stood for a missing cell."""
    marks: dict[str, Any] = {"float": np.nan, "NAType": pd.NA, "NaTType": pd.NaT}
    if mark not in marks:
        return items
    return pd.Series([marks[mark] if item is None else item for item in items], dtype=object)


def _dates(days: np.ndarray[Any, Any], dtype: str | None) -> pd.Series:
    absent = np.isnan(days)
    name, _, mark = (dtype or "").partition("|")
    if name == "object":
        epoch = dt.date(1970, 1, 1)
        items = [None if gone else epoch + dt.timedelta(int(day)) for day, gone in zip(days, absent, strict=True)]
        return _marked(pd.Series(items, dtype=object), mark)
    whole = np.where(absent, NO_DAY, np.where(absent, 0, np.floor(days)).astype(np.int64) * 86400)
    dates: Any = pd.Series(whole.view("datetime64[s]"))
    return pd.Series(dates.astype(name) if name.startswith("datetime64") else dates)


def _times(values: np.ndarray[Any, Any], about: Mapping[str, Sequence[str]], dtype: str | None) -> pd.Series:
    """POSIXct or difftime as datetime64 or timedelta64, to the microsecond."""
    absent = np.isnan(values)
    unit = {"mins": 60, "hours": 3600, "days": 86400, "weeks": 604800}.get((about["units"] or ["secs"])[0], 1)
    whole = np.where(absent, NO_DAY, _ticks(np.where(absent, 0, values * unit), 10**6))
    times: Any = pd.Series(whole.view("timedelta64[us]" if "difftime" in about["class"] else "datetime64[us]"))
    if "difftime" in about["class"]:
        return pd.Series(times.astype(dtype) if dtype and dtype.startswith("timedelta64") else times)
    if dtype and dtype.startswith("datetime64") and "," not in dtype:
        return pd.Series(times.astype(dtype))
    aware = times.dt.tz_localize("UTC").dt.tz_convert((about["tzone"] or [""])[0] or "UTC")
    return pd.Series(aware.astype(dtype) if dtype and dtype.startswith("datetime64") else aware)


def column_names(table: pd.DataFrame, name: str) -> list[str]:
    """Return the names of the columns: texts, each once."""
    labels = list(table.columns)
    if other := [label for label in labels if not isinstance(label, str)]:
        raise RError(
            f"{name} has column names that are not text ({listing(map(repr, other))}): rename them, as R's are"
        )
    if (
        twice := sorted({label for label in labels if labels.count(label) > 1})
        if len(set(labels)) < len(labels)
        else []
    ):
        raise RError(f"{name} has columns of the same name: {listing(twice)}")
    return labels


def row_names(table: pd.DataFrame, name: str) -> tuple[np.ndarray[Any, Any] | list[str], list[str | None]]:
    """Return the row names for R, and what the index was: its dtype, its name, and the name of the columns."""
    index = table.index
    named, across = index.name, table.columns.name
    if isinstance(index, pd.MultiIndex) or any(not isinstance(label, (str, type(None))) for label in (named, across)):
        raise RError(f"{name} has an index that R's row names cannot hold: use .reset_index()")
    about = [None if named is None else str(named), None if across is None else str(across)]
    if isinstance(index, pd.RangeIndex) and (index.start, index.step) == (0, 1):
        return np.arange(1, len(index) + 1), ["range", *about]
    if not index.is_unique:
        raise RError(f"{name} has rows of the same name, which R forbids: use .reset_index()")
    if index.dtype.kind in "iu":
        return [str(label) for label in index], [str(index.dtype), *about]
    if not all(isinstance(label, str) for label in index):
        raise RError(f"{name} has an index of {index.dtype}; R's row names are texts: use .reset_index()")
    return list(index), [_string_dtype(index.dtype), *about]


def index(rows: list[str] | np.ndarray[Any, Any], about: Sequence[str | None]) -> pd.Index:
    """Return the index for R's row names; `about` is what `row_names` said, or empty."""
    kind, name = (about[0], about[1]) if about else (None, None)
    if not isinstance(rows, list):
        size = -int(rows[1]) if rows.size == 2 and rows[0] in (NA_INTEGER, np.iinfo(np.int64).min) else rows.size
        if size != rows.size or (rows == np.arange(1, size + 1)).all():
            return pd.RangeIndex(abs(size), name=name)
        return pd.Index(list(map(int, rows)), name=name)
    if kind and kind not in (*TEXT_LEVELS, "range"):
        return _parsed(rows, kind, name)
    return pd.Index(rows, dtype={"object": "object", "string": "string"}.get(kind or "", "str"), name=name)
