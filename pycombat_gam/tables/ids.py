"""Columns that identify rows, or a named index: no row may come twice."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from pycombat_gam.errors import DataError
from pycombat_gam.tables.intake import find_column
from pycombat_gam.words import Setting, Worded, count, listing, rows_named


def check_ids(frame: pd.DataFrame, ids: Sequence[str]) -> None:
    """Stop for duplicate ids, or for a duplicated named index."""
    if ids:
        columns = pd.concat([find_column(frame, name, "id") for name in ids], axis=1)
        missing = columns.isna().any(axis=1).to_numpy()
        if missing.any():
            raise DataError(f"id column(s) {listing(ids)} have missing values in {rows_named(frame.index[missing])}")
        repeated = columns.duplicated(keep=False).to_numpy()
        what = f"id column(s) {listing(ids)}"
        shown = columns[repeated].drop_duplicates().itertuples(index=False, name=None)
        values = ["/".join(map(str, row)) for row in shown]
    else:
        if all(name is None for name in frame.index.names) or not frame.index.has_duplicates:
            return
        repeated = frame.index.duplicated(keep=False)
        what = f"index '{frame.index.name or '/'.join(map(str, frame.index.names))}'"
        values = [str(label) for label in frame.index[repeated].unique()]
    if repeated.any():
        raise DataError(
            Worded(
                f"duplicate ids in {what}: {listing(values, 5)} ({count(int(repeated.sum()), 'row')}); each row must "
                "be one observation: remove duplicates, or name all columns that tell rows apart (",
                Setting("id", ["subject", "visit"]),
                ")",
            )
        )
