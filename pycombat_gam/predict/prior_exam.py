"""What changed since a prior exam, as columns that predict."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pycombat_gam.errors import DataError, OptionError
from pycombat_gam.tables.arguments import names
from pycombat_gam.tables.intake import find_column, intake
from pycombat_gam.types import FloatArray
from pycombat_gam.words import listing, rows_named

HAS_PRIOR, SINCE_PRIOR = "has_prior", "since_prior"


def prior_exam(
    table: pd.DataFrame,
    *,
    id: str | list[str] | tuple[str, ...],
    time: str,
    features: list[str] | tuple[str, ...] | str,
) -> pd.DataFrame:
    """Add differences from the latest earlier exam of the same id, and whether there was one.

    A row without a prior exam has differences of 0 and an indicator of 0, so that a model can use both kinds of rows
    (Ardila et al. 2019, Nat. Med. 25:954, with and without a prior CT).

    Parameters
    ----------
    table : DataFrame
        Wide, one row for each exam.
    id : str or list of str
        Column or columns that tell patients apart. ``["subject", "site"]`` compares exams of one site only: a
        difference between sites has their difference in it, and brings rows of a site into those of another, so that
        neither can be left out alone.
    time : str
        Column of the exams' times, numbers or dates.
    features : list of str or str
        Columns to compare: names, or a regular expression searched in column names.

    Returns
    -------
    DataFrame
        The table, rows and index as they were, with further columns: ``d_<feature>``, now less then, NaN where either
        is missing; ``has_prior``, 0 or 1; ``since_prior``, the time between, in days for dates, 0 where there is none.

    Raises
    ------
    DataError
        For missing ids or times, two exams of an id at one time, columns that are there already.
    OptionError
        For no id or feature.

    Examples
    --------
    >>> import pandas as pd
    >>> import pycombat_gam as pcg
    >>> exams = pd.DataFrame({"patient": ["a", "b", "a"], "day": [90, 0, 0], "volume": [2.5, 4.0, 2.0]})
    >>> pcg.prior_exam(exams, id="patient", time="day", features=["volume"])
      patient  day  volume  d_volume  has_prior  since_prior
    0       a   90     2.5       0.5          1         90.0
    1       b    0     4.0       0.0          0          0.0
    2       a    0     2.0       0.0          0          0.0
    """
    ids = list(dict.fromkeys(names(id, "id")))
    if not ids:
        raise OptionError(f"id={id!r}: give the column or columns that tell patients apart")
    if not isinstance(time, str):
        raise OptionError(f"time={time!r}: give the column of the exams' times")
    if features is None or not len(features):
        raise OptionError(f"features={features!r}: give the columns to compare with those of a prior exam")
    taken = intake(table, None, reserved=[*ids, time], choice=features, fitted=None)
    new = [*(f"d_{name}" for name in taken.features), HAS_PRIOR, SINCE_PRIOR]
    if there := [name for name in new if name in set(map(str, table.columns))]:
        raise DataError(f"the table has columns {listing(there)} already: rename them, or leave them out")
    patients = pd.concat([find_column(table, name, "id") for name in ids], axis=1)
    absent = patients.isna().any(axis=1).to_numpy()
    if absent.any():
        raise DataError(f"id column(s) {listing(ids)} have missing values in {rows_named(table.index[absent])}")
    when = _times(find_column(table, time, "time"), time)
    # Codes, as a date's nanoseconds are more than a double holds.
    moment = np.unique(when.to_numpy(), return_inverse=True)[1]
    patient = patients.groupby(list(patients.columns), sort=False, observed=True).ngroup().to_numpy()
    order = np.lexsort((moment, patient))
    then, now = order[:-1], order[1:]
    same = patient[then] == patient[now]
    tied = same & (moment[then] == moment[now])
    if tied.any():
        at = np.unique(np.concatenate([then[tied], now[tied]]))
        raise DataError(
            f"{rows_named(table.index[at])} share id ({listing(ids)}) and time ('{time}') with another: which exam is "
            "prior is unknown; give times that differ, or keep one row of each"
        )
    then, now = then[same], now[same]
    Y: FloatArray = np.asarray(taken.Y, dtype=np.float64)
    change = np.zeros(Y.shape)
    change[now] = Y[now] - Y[then]
    has_prior = np.zeros(len(table), dtype=np.int64)
    has_prior[now] = 1
    since = np.zeros(len(table))
    since[now] = _apart(when.iloc[now], when.iloc[then])
    columns = pd.DataFrame(change, index=table.index, columns=new[:-2])
    return pd.concat([table, columns.assign(**{HAS_PRIOR: has_prior, SINCE_PRIOR: since})], axis=1)


def _times(column: pd.Series, name: str) -> pd.Series:
    """Return times, all of them known: doubles, or dates."""
    absent = column.isna().to_numpy()
    if absent.any():
        raise DataError(f"time column '{name}' has missing values in {rows_named(column.index[absent])}")
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return column
    if not pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype):
        raise DataError(
            f"time column '{name}' is of type {column.dtype}: give numbers, or dates by pd.to_datetime(table['{name}'])"
        )
    numbers = column.astype(np.float64)
    wrong = ~np.isfinite(numbers.to_numpy())
    if wrong.any():
        raise DataError(f"time column '{name}' is not finite in {rows_named(column.index[wrong])}")
    return numbers


def _apart(now: pd.Series, then: pd.Series) -> FloatArray:
    """Return times between, in days for dates."""
    if pd.api.types.is_datetime64_any_dtype(now.dtype):
        between = pd.to_timedelta(now.reset_index(drop=True) - then.reset_index(drop=True))
        return np.asarray(between.dt.total_seconds(), dtype=np.float64) / 86_400.0
    return np.asarray(now.to_numpy() - then.to_numpy(), dtype=np.float64)
