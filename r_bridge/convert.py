"""Python data as R's and back, exactly, through R's memory where there is any.

| Python | R |
|---|---|
| None | NULL |
| bool, int, float, str, and lists of them (None among texts: NA) | vector |
| array of numbers, truth values or texts, of any dimension | vector, matrix, array |
| DataFrame; Series; Categorical | data.frame; vector; factor (ordered if it is) |
| dict; other list or tuple | named list; list |
| bytes | raw |

| R | Python |
|---|---|
| NULL | None |
| vector (also of length one) | array; a Series if it has names |
| matrix, array | array; a DataFrame if it is a matrix with dimnames |
| text | array of str, None for NA |
| integer or logical with NA | array of float, NaN for NA |
| factor | Categorical |
| raw | bytes |
| data.frame; named list; list | DataFrame; dict; list |

A DataFrame that comes back from R has the dtypes, index and names that it had when it went: they travel as an attribute
of the data.frame (`pandas`), and count as far as they still fit the values. How columns travel is in `columns`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.words import listing
from r_bridge import columns
from r_bridge.errors import RError

INT_MAX = 2**31 - 1
ATTRIBUTE = "pandas"
BLOCK_ROWS = 64
"""Rows copied together: a cache line holds eight numbers of a column, and these blocks still fit the cache."""


def to_r(ri: Any, value: Any, name: str) -> Any:
    """Return one Python value as an R object; `ri` is `rpy2.rinterface`, `name` is for errors."""
    if value is None:
        return ri.NULL
    if isinstance(value, bytes):
        return ri.ByteSexpVector(value)
    if isinstance(value, pd.DataFrame):
        return _data_frame(ri, value, name)
    if isinstance(value, pd.Categorical):
        value = pd.Series(value)
    if isinstance(value, pd.api.extensions.ExtensionArray):
        value = pd.Series(value)
    if isinstance(value, pd.Series):
        return _column(ri, columns.pack(value, name))
    if isinstance(value, Mapping):
        items = ri.ListSexpVector([to_r(ri, item, str(label)) for label, item in value.items()])
        return _with(ri, items, {"names": _text(ri, [str(label) for label in value], name)})
    if isinstance(value, (list, tuple)):
        if not value or not all(item is None or _is_atom(item) for item in value):
            return ri.ListSexpVector([to_r(ri, item, name) for item in value])
        value = np.array(value, dtype=object if any(isinstance(item, str) for item in value) else None)
    array = np.asarray(value)
    if array.dtype.kind == "f" and array.ndim == 2:
        return _matrix(ri, array)
    vector = _vector(ri, array.ravel(order="F"), name)
    return vector if array.ndim < 2 else _with(ri, vector, {"dim": _whole(ri, np.array(array.shape))})


def from_r(ri: Any, sexp: Any, name: str) -> Any:
    """Return an R object as Python data; `name` is for errors."""
    if sexp is ri.NULL:
        return None
    kinds = _strings(ri, sexp, "class") or []
    names = _strings(ri, sexp, "names")
    if isinstance(sexp, ri.ByteSexpVector):
        return np.asarray(sexp).tobytes("A")  # bytes(sexp) asks R byte by byte, a second for a megabyte
    if isinstance(sexp, ri.ListSexpVector):
        labels = names if names is not None else [""] * len(sexp)
        if "data.frame" not in kinds:
            labels = [label or str(i + 1) for i, label in enumerate(labels)]
        if twice := sorted({label for label in labels if labels.count(label) > 1}):
            raise RError(f"R returned {name} with a name given twice: {listing(twice)}")
        if "data.frame" in kinds:
            return _frame(ri, sexp, labels, name)
        values = [from_r(ri, item, f"{name}${label}") for item, label in zip(sexp, labels, strict=True)]
        return values if names is None else dict(zip(labels, values, strict=True))
    vector = _vector_of(ri, sexp)
    if vector is None:
        what = " or ".join(kinds) or ri.baseenv["typeof"](sexp)[0]
        raise RError(f"R returned {name} as {what}, which has no plain form in Python")
    if "factor" in kinds:
        return columns.categorical(vector, _strings(ri, sexp, "levels") or [], ordered="ordered" in kinds)
    array = vector.plain()
    dim = _attribute(ri, sexp, "dim")
    if dim is ri.NULL:
        return array if names is None else pd.Series(array, index=names)
    array = array.reshape([int(length) for length in dim], order="F")
    sides = _attribute(ri, sexp, "dimnames")
    if sides is ri.NULL or array.ndim > 2:
        return array
    axes = [None if side is ri.NULL else pd.Index(list(side)) for side in sides]
    return pd.Series(array, index=axes[0]) if array.ndim == 1 else pd.DataFrame(array, index=axes[0], columns=axes[1])


def _is_atom(item: object) -> bool:
    return isinstance(item, (bool, int, float, str, np.bool_, np.integer, np.floating, np.str_))


def _vector(ri: Any, flat: np.ndarray[Any, Any], name: str) -> Any:
    """A flat array as an R vector: whole numbers beyond R's integers become doubles."""
    kind = flat.dtype.kind
    if kind == "b":
        return ri.BoolSexpVector.from_memoryview(flat.astype(np.intc).data)
    if kind in "iu":
        if flat.size and (flat.max() > 2**53 or flat.min() < -(2**53)):
            raise RError(f"{name} has whole numbers beyond 2^53, which R cannot hold: give them as text")
        return _whole(ri, flat)
    if kind == "f":
        return ri.FloatSexpVector.from_memoryview(np.ascontiguousarray(flat, dtype=np.float64).data)
    items = [None if item is None or item is pd.NA or item != item else item for item in flat.tolist()]
    present = [item for item in items if item is not None]
    if kind in "UO" and all(isinstance(item, str) for item in present):
        return _text(ri, items, name)
    if kind == "O" and all(isinstance(item, bool) for item in present):
        return ri.BoolSexpVector([ri.NA_Logical if item is None else item for item in items])
    if kind == "O" and all(_is_atom(item) and not isinstance(item, str) for item in present):
        return ri.FloatSexpVector([np.nan if item is None else float(item) for item in items])
    raise RError(f"{name} cannot be passed to R: give numbers, truth values or text, not {flat.dtype}")


def _matrix(ri: Any, array: np.ndarray[Any, Any]) -> Any:
    """A matrix of floats, copied once into memory of R's, some rows at a time: its columns are far apart in ours."""
    vector = ri.baseenv["vector"]("double", float(array.size))
    if array.size:
        inside = np.asarray(vector.memoryview()).reshape(array.shape, order="F")
        for start in range(0, len(array), BLOCK_ROWS):
            inside[start : start + BLOCK_ROWS] = array[start : start + BLOCK_ROWS]
    return _with(ri, vector, {"dim": _whole(ri, np.array(array.shape))})


def _whole(ri: Any, flat: np.ndarray[Any, Any]) -> Any:
    if flat.size == 0 or (flat.max() <= INT_MAX and flat.min() >= -INT_MAX):
        return ri.IntSexpVector.from_memoryview(np.ascontiguousarray(flat, dtype=np.intc).data)
    return ri.FloatSexpVector.from_memoryview(np.ascontiguousarray(flat, dtype=np.float64).data)


def _text(ri: Any, items: Sequence[str | None], name: str) -> Any:
    """Texts as R's; R's end at a NUL, and have to be valid Unicode."""
    for item in items:
        if item is not None and ("\x00" in item or any("\ud800" <= letter <= "\udfff" for letter in item)):
            raise RError(f"{name} has a text that R cannot hold (NUL, or half a character): {item!r}")
    return ri.StrSexpVector([ri.NA_Character if item is None else item for item in items])


def _with(ri: Any, vector: Any, attributes: Mapping[str, Any]) -> Any:
    """Set attributes in place; the class by a way of its own, since R marks what has one."""
    for name, value in attributes.items():
        if name == "class":
            vector.rclass = value
        else:
            vector.do_slot_assign(name, value)
    return vector


def _column(ri: Any, packed: columns.Packed) -> Any:
    values = packed.values
    if isinstance(values, list):
        vector = _text(ri, values, packed.name)
    elif packed.type == "logical":
        vector = ri.BoolSexpVector.from_memoryview(np.ascontiguousarray(values, dtype=np.intc).data)
    elif packed.type == "integer":
        vector = ri.IntSexpVector.from_memoryview(np.ascontiguousarray(values, dtype=np.intc).data)
    else:
        vector = ri.FloatSexpVector.from_memoryview(np.ascontiguousarray(values, dtype=np.float64).data)
    return _with(ri, vector, {key: _text(ri, list(texts), packed.name) for key, texts in packed.attributes.items()})


def _data_frame(ri: Any, table: pd.DataFrame, name: str) -> Any:
    labels = columns.column_names(table, name)
    packed = [columns.pack(table.iloc[:, j], f"{name}${label}") for j, label in enumerate(labels)]
    rows, about_rows = columns.row_names(table, name)
    hints = {
        "columns": _with(
            ri, _text(ri, [column.dtype for column in packed], name), {"names": _text(ri, labels, f"{name}'s columns")}
        ),
        "index": _text(ri, about_rows, name),
    }
    attributes = {
        "names": _text(ri, labels, f"{name}'s columns"),
        "row.names": _text(ri, rows, f"{name}'s index") if isinstance(rows, list) else _whole(ri, rows),
        ATTRIBUTE: _with(ri, ri.ListSexpVector(list(hints.values())), {"names": ri.StrSexpVector(list(hints))}),
        "class": ri.StrSexpVector(["data.frame"]),
    }
    return _with(ri, ri.ListSexpVector([_column(ri, column) for column in packed]), attributes)


def _frame(ri: Any, sexp: Any, labels: Sequence[str], name: str) -> pd.DataFrame:
    dtypes: dict[str, str] = {}
    about_rows: list[str | None] = []
    if ATTRIBUTE in sexp.list_attrs():
        kept, about = sexp.do_slot(ATTRIBUTE)
        dtypes = dict(zip(_strings(ri, kept, "names") or [], map(str, kept), strict=True))
        about_rows = [None if item is ri.NA_Character else str(item) for item in about]
    rows = sexp.do_slot("row.names")
    texts = isinstance(rows, ri.StrSexpVector)
    index = columns.index([str(row) for row in rows] if texts else np.array(rows, dtype=np.int64), about_rows)
    made: dict[str, pd.Series] = {}
    for item, label in zip(sexp, labels, strict=True):
        vector = _vector_of(ri, item)
        if vector is None or vector.values.size != len(index):
            raise RError(f"R returned {name}${label} as a column that has no plain form in Python: take it apart in R")
        about = {key: _strings(ri, item, key) or [] for key in ("class", "levels", "tzone", "units")}
        made[label] = columns.unpack(vector, about, dtypes.get(label)).set_axis(index)
    frame = pd.DataFrame(made, index=index)
    frame.columns = pd.Index(list(labels), dtype="str", name=about_rows[2] if about_rows else None)
    return frame


def _vector_of(ri: Any, sexp: Any) -> columns.Vector | None:
    """The values of an atomic vector, copied out of R's memory, flat; None for what is not one."""
    if isinstance(sexp, ri.StrSexpVector):
        texts = [None if item is ri.NA_Character else str(item) for item in sexp]
        return columns.Vector("character", np.array(texts or [], dtype=object))
    for type_, vector, dtype in (
        ("double", ri.FloatSexpVector, np.float64),
        ("logical", ri.BoolSexpVector, np.int32),
        ("integer", ri.IntSexpVector, np.int32),
    ):
        if isinstance(sexp, vector):
            # R's memory is by columns, and "K" keeps it so: one copy.
            return columns.Vector(type_, np.array(sexp.memoryview() if len(sexp) else [], dtype=dtype).ravel(order="K"))
    return None


def _attribute(ri: Any, sexp: Any, name: str) -> Any:
    return sexp.do_slot(name) if name in sexp.list_attrs() else ri.NULL


def _strings(ri: Any, sexp: Any, name: str) -> list[str] | None:
    """An attribute of texts, or None where there is none."""
    attribute = _attribute(ri, sexp, name)
    return None if attribute is ri.NULL else [str(item) for item in attribute]
