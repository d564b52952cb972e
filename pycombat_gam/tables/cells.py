"""Cells without a usable number: missing, infinite, or text. Found cheaply, counted exactly, named in the message."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from numbers import Number

import numpy as np
import pandas as pd

from pycombat_gam.errors import DataError
from pycombat_gam.tables.numerals import DECIMAL_COMMAS, LABEL_LIKE, kinds_named, spelling
from pycombat_gam.types import IntArray
from pycombat_gam.words import Remedy, Setting, Worded, listing, rows_named

MAX_CODES = 12
"""Up to this many different numbers stored as text may be codes of groups; more are taken for numbers."""
MISSING = {"", "na", "n/a", "nan", "none", "null", "missing", "?", "-", "--", "."}
MISSING |= {"#n/a", "#null!", "#value!", "#div/0!", "#num!", "#ref!"}
"""Words that stand for a missing number; a column of numbers and these is not a factor."""
DECIMAL_POINTS = Remedy("decimal points", "read_csv: decimal=','")
_WIDTH = 256
"""Features looked at together: a few at a time, so that a large table is not copied whole."""
_NUMBERS = (Number, Decimal, np.number, np.bool_)


def suspicious_features(Y: np.ndarray) -> IntArray:
    """Return the features whose sum is not finite: all that have a missing or infinite cell, rarely one more."""
    if Y.dtype.kind != "f":
        return np.zeros(0, dtype=np.intp)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.flatnonzero(~np.isfinite(np.ones(Y.shape[0], Y.dtype) @ Y))


def check_cells(
    Y: np.ndarray, columns: IntArray, features: Sequence[str], *, omit_missing: bool, may_omit: bool = True
) -> IntArray:
    """Stop for infinite cells, and for missing ones unless `omit_missing`.

    Parameters
    ----------
    Y : (n, V) features; columns : the ones to look at; features : (V,) names.
    may_omit : whether the caller could omit missing cells, if asked to; messages then say so.

    Returns
    -------
    missing : number of missing cells of each of `columns`.
    """
    infinite = np.zeros(columns.size, dtype=np.intp)
    missing = np.zeros(columns.size, dtype=np.intp)
    for left in range(0, columns.size, _WIDTH):
        some = slice(left, left + _WIDTH)
        block = np.asarray(Y[:, columns[some]], dtype=float)
        infinite[some] = np.isinf(block).sum(axis=0)
        missing[some] = np.isnan(block).sum(axis=0)

    def named(counts: IntArray) -> str:
        return listing(f"'{features[k]}' ({c})" for k, c in zip(columns, counts, strict=True) if c)

    if infinite.any():
        remedy = Worded(", or set them to missing and use ", Setting("missing", "omit")) if may_omit else ""
        raise DataError(Worded(f"infinite values in {named(infinite)}: correct them", remedy))
    if not omit_missing and missing.any():
        remedy = (
            Worded(
                "use ",
                Setting("missing", "omit"),
                " (each feature is fitted on its observed cells, the others stay missing), or complete the table",
            )
            if may_omit
            else "complete the table, or leave out those rows or features"
        )
        raise DataError(Worded(f"missing values in {named(missing)}: ", remedy))
    return missing


def check_text(column: pd.Series, name: str, advice: str = "") -> None:
    """Stop for a text column most of whose cells are numbers: a feature with bad cells, or in its own spelling."""
    present = column[column.notna()]
    spellings = _spellings(present)
    is_number = np.array([kinds is not None for kinds in spellings], dtype=bool)
    absent = np.array([str(cell).strip().casefold() in MISSING for cell in present], dtype=bool)
    if not is_number.any() or (~is_number & ~absent).sum() >= is_number.sum():
        return
    unusual = np.array([bool(kinds) for kinds in spellings], dtype=bool)
    if unusual.sum() > is_number.sum() / 2:
        kinds = kinds_named(spellings)
        how = Worded(" (", DECIMAL_POINTS, ")") if kinds == DECIMAL_COMMAS else ", in a form such as -1234.5"
        shown = present[unusual].iloc[0]
        raise DataError(Worded(f"column '{name}' holds numbers with {kinds} ({shown!r}): make it numeric", how, advice))
    bad = unusual | ~is_number
    if not bad.any():
        raise DataError(Worded(f"column '{name}' holds numbers as text or objects: convert it", advice))
    raise DataError(
        Worded(
            f"column '{name}' holds text among numbers ({listing(map(repr, present[bad].unique()), 4)}) in "
            f"{rows_named(present.index[bad])}: correct the cells or set them to missing",
            advice,
        )
    )


def _spellings(cells: pd.Series) -> list[tuple[str, ...] | None]:
    """Say how each cell spells its number, None where it holds none; see `tables.numerals`."""
    texts = [cell.decode("latin-1") if isinstance(cell, bytes) else cell for cell in cells]
    of_text = {text: spelling(text) for text in {text for text in texts if isinstance(text, str)}}
    # A few values with units are labels, such as a scanner's "3 T".
    like_labels = [text for text, kinds in of_text.items() if not LABEL_LIKE.isdisjoint(kinds or ())]
    if len(like_labels) <= MAX_CODES:
        of_text.update(dict.fromkeys(like_labels))
    return [of_text[text] if isinstance(text, str) else () if isinstance(text, _NUMBERS) else None for text in texts]
