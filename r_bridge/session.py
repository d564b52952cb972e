"""One R, started by the first call, that leaves nothing behind.

>>> from r_bridge import session
>>> session.call("function(x, p) x^p", x=[1.0, 2.0, 3.0], p=2)
array([1., 4., 9.])

This is the only file that touches what rpy2 shares with the rest of the process. It uses rpy2's low-level
interface, which has no global converter to set; one re-entrant lock (held together with rpy2's own) keeps
threads apart; console callbacks and Python's interrupt handler are put back; R's global environment (where
its random state lives) and search path are, after each call, what they were before it.

What becomes what:

| Python | R |
|---|---|
| None | NULL |
| bool, int, float, str, and lists of them (None among texts: NA) | vector |
| array of numbers, truth values or texts, of any dimension | vector, matrix, array |
| DataFrame; Series; Categorical | data.frame; vector; factor |
| dict; other list or tuple | named list; list |

| R | Python |
|---|---|
| NULL | None |
| vector (also of length one) | array; a Series if it has names |
| matrix, array | array; a DataFrame if it is a matrix with dimnames |
| factor; text | array of str, None for NA |
| integer or logical with NA | array of float, NaN for NA |
| data.frame; named list; list | DataFrame; dict; list |
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.errors import PcgError, PcgWarning, listing

__all__ = ["RError", "RMissingError", "RWarning", "Reply", "call", "require", "run"]

_LOCK = threading.RLock()
_INT_MAX = 2**31 - 1
_APT = {
    "BiocParallel": "r-bioc-biocparallel", "bladderbatch": "r-bioc-bladderbatch", "sva": "r-bioc-sva",
    "limma": "r-bioc-limma", "gamlss": "r-cran-gamlss", "lme4": "r-cran-lme4", "mgcv": "r-cran-mgcv",
}  # fmt: skip

# The whole exchange as one R closure: a function's text and arguments in; value, warnings and error out.
_RUNNER = """
function(source, arguments) {
  held <- as.list(globalenv(), all.names = TRUE)
  attached <- search()
  on.exit({
    rm(list = setdiff(ls(globalenv(), all.names = TRUE), names(held)), envir = globalenv())
    list2env(held, globalenv())
    for (entry in setdiff(search(), attached))
      suppressWarnings(try(detach(entry, character.only = TRUE, force = TRUE), silent = TRUE))
  })
  caught <- character()
  failure <- NULL
  value <- tryCatch(
    withCallingHandlers({
      frame <- list2env(arguments, parent = globalenv())
      fun <- eval(parse(text = source, keep.source = FALSE), new.env(parent = globalenv()))
      if (!is.function(fun)) stop("the source is not the text of one function")
      assign("r_function", fun, frame)
      eval(as.call(c(list(quote(r_function)), sapply(names(arguments), as.name, simplify = FALSE))), frame)
    }, warning = function(w) {
      caught <<- c(caught, conditionMessage(w))
      invokeRestart("muffleWarning")
    }),
    error = function(e) {
      where <- conditionCall(e)
      failure <<- c(conditionMessage(e), if (!is.null(where)) deparse(where, nlines = 1L)[1])
      NULL
    })
  list(value, caught, failure)
}
"""


class RError(PcgError):
    """R stopped with an error; the message is R's."""


class RMissingError(PcgError):
    """R, rpy2 or an R package is not installed; the message says how to get it."""


class RWarning(PcgWarning):
    """R warned; the message is R's."""


@dataclass(frozen=True)
class Reply:
    """What R gave back: the value, its warnings, and all it wrote to the console."""

    value: Any
    warnings: tuple[str, ...]
    output: str


def call(source: str, /, **arguments: Any) -> Any:
    """Evaluate the text of an R function, call it, and return its value as Python data.

    Parameters
    ----------
    source : str
        The text of one R function. Names in it resolve in R's usual way (``stats::``, ``sva::``, …).
    **arguments
        Its arguments, by name; the module's docstring says what becomes what.

    Returns
    -------
    array, Series, DataFrame, dict, list or None

    Raises
    ------
    RError
        When R stops, or returns what has no plain form in Python (a function, an environment).

    R's warnings are given again as `RWarning`; what it prints is dropped. `run` returns both instead.

    >>> call("function(x) list(mean = mean(x), n = length(x))", x=[1.0, 5.0])
    {'mean': array([3.]), 'n': array([2])}
    """
    reply = run(source, **arguments)
    for message in reply.warnings:
        warnings.warn(f"R: {message}", RWarning, stacklevel=2)
    return reply.value


def run(source: str, /, **arguments: Any) -> Reply:
    """Do what `call` does, and return R's warnings and console output with the value.

    >>> reply = run("function() { cat('fitting'); warning('slow'); 1 }")
    >>> reply.output, reply.warnings
    ('fitting', ('slow',))
    """
    with _console() as written:
        ri = _start()
        packed = _named_list(ri, arguments)
        value, caught, failure = ri.evalr(_RUNNER)(ri.StrSexpVector([source]), packed)
        if failure is not ri.NULL:
            where = f" (in {failure[1]})" if len(failure) > 1 else ""
            raise RError(" ".join(f"R: {failure[0]}{where}".split()))
        plain = _from_r(ri, value, "its value")
        return Reply(plain, tuple(caught), "".join(written))


def require(*packages: str) -> None:
    """Raise `RMissingError` unless R has these packages.

    >>> require("stats", "utils")
    """
    source = "function(names) vapply(names, requireNamespace, TRUE, quietly = TRUE, USE.NAMES = FALSE)"
    found = run(source, names=list(packages)).value if packages else []
    missing = [name for name, present in zip(packages, found, strict=True) if not present]
    if missing:
        noun, verb = ("package", "is") if len(missing) == 1 else ("packages", "are")
        command = " ".join(_APT.get(name, f"r-cran-{name.lower()}") for name in missing)
        raise RMissingError(f"R {noun} {listing(missing)} {verb} missing: apt-get install {command}")


@contextmanager
def _console() -> Iterator[list[str]]:
    """Hold the lock, and catch what R writes meanwhile; rpy2's callbacks are put back."""
    with _LOCK:
        callbacks, lock = _rpy2()
        written: list[str] = []
        names = ("consolewrite_print", "consolewrite_warnerror")
        with lock:
            held = [getattr(callbacks, name) for name in names]
            try:
                for name in names:
                    setattr(callbacks, name, written.append)
                yield written
            finally:
                for name, callback in zip(names, held, strict=True):
                    setattr(callbacks, name, callback)


@functools.cache
def _rpy2() -> tuple[Any, Any]:
    """Import rpy2 (which needs R to be installed, and looks for it): its callbacks and its lock."""
    if shutil.which("R") is None and not os.environ.get("R_HOME"):
        raise RMissingError("R is not installed: apt-get install r-base-core")
    try:
        from rpy2.rinterface_lib import callbacks, openrlib
    except ImportError as error:
        raise RMissingError(f"rpy2 is missing or broken ({error}): pip install 'pycombat-gam[r]'") from error
    return callbacks, openrlib.rlock


@functools.cache
def _start() -> Any:
    """Start R, not interactive, and leave Python's interrupt handler and warnings alone."""
    from rpy2 import rinterface

    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="R is not initialized by the main thread")
        rinterface.initr(interactive=False)
    if handler is not None:
        signal.signal(signal.SIGINT, handler)
    return rinterface


def _to_r(ri: Any, value: Any, name: str) -> Any:
    """One Python value as an R object; `name` is for the error."""
    if value is None:
        return ri.NULL
    if isinstance(value, pd.DataFrame):
        return _data_frame(ri, value, name)
    if isinstance(value, pd.Series):
        value = value.to_numpy() if isinstance(value.dtype, np.dtype) else value.array
    if isinstance(value, pd.Categorical):
        codes = ri.IntSexpVector([ri.NA_Integer if code < 0 else int(code) + 1 for code in value.codes])
        return _with(ri, codes, levels=[str(level) for level in value.categories], **{"class": ["factor"]})
    if isinstance(value, pd.api.extensions.ExtensionArray):
        value = value.to_numpy(float, na_value=np.nan) if value.dtype.kind in "iuf" else np.asarray(value, object)
    if isinstance(value, Mapping):
        return _named_list(ri, value)
    if isinstance(value, (list, tuple)):
        if not value or not all(item is None or _is_atom(item) for item in value):
            return ri.ListSexpVector([_to_r(ri, item, name) for item in value])
        value = np.array(value, dtype=object if any(isinstance(item, str) for item in value) else None)
    array = np.asarray(value)
    vector = _vector(ri, array.ravel(order="F"), name)
    return vector if array.ndim < 2 else _with(ri, vector, dim=[int(length) for length in array.shape])


def _is_atom(item: object) -> bool:
    return isinstance(item, (bool, int, float, str, np.bool_, np.integer, np.floating, np.str_))


def _vector(ri: Any, flat: np.ndarray[Any, Any], name: str) -> Any:
    """A flat array as an R vector: whole numbers beyond R's integers become doubles."""
    kind = flat.dtype.kind
    if kind == "b":
        return ri.BoolSexpVector.from_memoryview(flat.astype(np.intc).data)
    if kind in "iu" and (flat.size == 0 or (flat.max() <= _INT_MAX and flat.min() >= -_INT_MAX)):
        return ri.IntSexpVector.from_memoryview(np.ascontiguousarray(flat, dtype=np.intc).data)
    if kind in "iuf":
        return ri.FloatSexpVector.from_memoryview(np.ascontiguousarray(flat, dtype=np.float64).data)
    items = [None if item is None or item is pd.NA or item != item else item for item in flat.tolist()]
    present = [item for item in items if item is not None]
    if kind in "UO" and all(isinstance(item, str) for item in present):
        return ri.StrSexpVector([ri.NA_Character if item is None else item for item in items])
    if kind == "O" and all(isinstance(item, bool) for item in present):
        return ri.BoolSexpVector([ri.NA_Logical if item is None else item for item in items])
    if kind == "O" and all(_is_atom(item) and not isinstance(item, str) for item in present):
        return ri.FloatSexpVector([np.nan if item is None else float(item) for item in items])
    raise RError(f"{name} cannot be passed to R: give numbers, truth values or text, not {flat.dtype}")


def _with(ri: Any, vector: Any, **attributes: Sequence[Any]) -> Any:
    """Set attributes in place; the class by a way of its own, since R marks what has one."""
    for name, value in attributes.items():
        if name == "class":
            vector.rclass = ri.StrSexpVector(value)
        else:
            vector.do_slot_assign(name, _to_r(ri, list(value), name) if value else ri.StrSexpVector([]))
    return vector


def _named_list(ri: Any, items: Mapping[str, Any]) -> Any:
    values = ri.ListSexpVector([_to_r(ri, value, str(name)) for name, value in items.items()])
    return _with(ri, values, names=[str(name) for name in items])


def _data_frame(ri: Any, table: pd.DataFrame, name: str) -> Any:
    labels = [str(column) for column in table.columns]
    columns = ri.ListSexpVector([_to_r(ri, table.iloc[:, j], f"{name}${c}") for j, c in enumerate(labels)])
    plain = isinstance(table.index, pd.RangeIndex)
    rows = list(range(1, len(table) + 1)) if plain else [str(row) for row in table.index]
    attributes = {"names": labels, "row.names": rows, "class": ["data.frame"]}
    return _with(ri, columns, **attributes)


def _from_r(ri: Any, sexp: Any, name: str) -> Any:
    """One R object as Python data; `name` is for the error."""
    if sexp is ri.NULL:
        return None
    names, kinds = _slot(sexp, "names"), _slot(sexp, "class") or []
    if isinstance(sexp, ri.ListSexpVector):
        labels = [label or str(j + 1) for j, label in enumerate(names or [""] * len(sexp))]
        if twice := sorted({label for label in labels if labels.count(label) > 1}):
            raise RError(f"R returned {name} with a name given twice: {listing(twice)}")
        values = [_from_r(ri, item, f"{name}${label}") for item, label in zip(sexp, labels, strict=True)]
        if "data.frame" in kinds:
            rows = _slot(sexp, "row.names") or []
            named = bool(rows) and isinstance(rows[0], str)
            return pd.DataFrame(dict(zip(labels, values, strict=True)), index=rows if named else None)
        return values if names is None else dict(zip(labels, values, strict=True))
    array = _array(ri, sexp, kinds)
    if array is None:
        what = " or ".join(kinds) or ri.baseenv["typeof"](sexp)[0]
        raise RError(f"R returned {name} as {what}, which has no plain form in Python")
    dim = _slot(sexp, "dim")
    if dim is None:
        return array if names is None else pd.Series(array, index=names)
    array = array.reshape([int(length) for length in dim], order="F")
    sides = _slot(sexp, "dimnames")
    if sides is None or array.ndim > 2:
        return array
    axes = [None if side is ri.NULL else pd.Index(list(side)) for side in sides]
    if array.ndim == 1:
        return pd.Series(array, index=axes[0])
    return pd.DataFrame(array, index=axes[0], columns=axes[1])


def _array(ri: Any, sexp: Any, kinds: Sequence[str]) -> np.ndarray[Any, Any] | None:
    """The values of an atomic vector, copied out of R's memory; None for what is not one."""
    if isinstance(sexp, ri.StrSexpVector):
        return np.array([None if item is ri.NA_Character else str(item) for item in sexp] or [], dtype=object)
    if isinstance(sexp, ri.FloatSexpVector):
        return np.array(sexp.memoryview() if len(sexp) else [], dtype=np.float64).ravel(order="F")
    if not isinstance(sexp, (ri.IntSexpVector, ri.BoolSexpVector)):
        return None
    whole = np.array(sexp.memoryview() if len(sexp) else [], dtype=np.int64).ravel(order="F")
    absent = whole == -_INT_MAX - 1
    if "factor" in kinds:
        levels = _slot(sexp, "levels") or []
        names = [None if none else levels[code - 1] for code, none in zip(whole, absent, strict=True)]
        return np.array(names, dtype=object)
    if absent.any():
        return np.where(absent, np.nan, whole)
    return whole.astype(bool) if isinstance(sexp, ri.BoolSexpVector) else whole


def _slot(sexp: Any, name: str) -> list[Any] | None:
    """An attribute as a list, or None where there is none."""
    if name not in sexp.list_attrs():
        return None
    return list(sexp.do_slot(name))
