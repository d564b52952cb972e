"""Whether two tables, before and after harmonization, hold the same rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pycombat_gam.errors import DataError
from pycombat_gam.words import rows_named


def check_same_rows(
    before: pd.DataFrame, after: pd.DataFrame, ids: Sequence[str] = (), *, labelled: bool = True
) -> None:
    """Stop for tables whose rows are not the same, or in another order.

    Parameters
    ----------
    before, after : the tables, or their covariates.
    ids : columns that identify rows, compared where both have them.
    labelled : whether the indexes name the rows; those of arrays don't.

    Raises
    ------
    DataError
        Naming the rows that differ.
    """
    if len(before) != len(after):
        raise DataError(f"before has {len(before):,} rows, after {len(after):,}: give the same rows in the same order")
    if not labelled:
        return
    other = np.zeros(len(before), dtype=np.bool_)
    if not before.index.equals(after.index):
        other |= np.asarray(before.index != after.index)
    for name in ids:
        if name in before.columns and name in after.columns:
            other |= before[name].astype(str).to_numpy() != after[name].astype(str).to_numpy()
    if other.any():
        raise DataError(
            f"before and after have different rows, in {rows_named(before.index[other])} of before: give the same rows "
            "in the same order"
        )
