"""Missing and infinite cells: found cheaply, counted exactly, named in the message."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pycombat_gam.errors import DataError, listing
from pycombat_gam.types import IntArray

_WIDTH = 256
"""Features looked at together: a few at a time, so that a large table is not copied whole."""


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
        remedy = ", or set them to missing and use missing='omit'" if may_omit else ""
        raise DataError(f"infinite values in {named(infinite)}: correct them{remedy}")
    if not omit_missing and missing.any():
        remedy = (
            "use missing='omit' (each feature is fitted on its observed cells, the others stay missing), or complete "
            "the table"
            if may_omit
            else "complete the table, or leave out those rows or features"
        )
        raise DataError(f"missing values in {named(missing)}: {remedy}")
    return missing
