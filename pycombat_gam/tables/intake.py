"""Tables in, tables out: which columns are features, their values as one matrix, and the way back.

Nothing is dropped, reordered or cast in passing: a wide table comes back as the same table with its features replaced,
an array as an array. Values are only viewed where the table stores them as one block.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.errors import DataError, OptionError
from pycombat_gam.tables.cells import check_text
from pycombat_gam.tables.remedies import flat_columns, from_index, in_rows, into_pandas, kind_of
from pycombat_gam.types import BoolArray, FloatArray, IntArray
from pycombat_gam.words import Remedy, Setting, Worded, count, did_you_mean, listing

FeatureChoice = list[str] | tuple[str, ...] | str | None
_MAX_RUNS = 64
DEFAULT_BATCH = "batch"
"""The column of sites by default."""
DEFAULT_TAKEN = Remedy("name the batch", " (no batch= was given?)")


@dataclass(frozen=True, eq=False)
class Intake:
    """Features and covariates of one call, and where they came from.

    Attributes
    ----------
    Y : (n, V) features; float64 or float32 where all of them are, else float64.
    covariates : (n rows) the table that holds batch, id and formula columns.
    features : (V,) names as text.
    frame : the table that holds the features, or None if they came as an array.
    positions : (V,) their column positions in `frame`.
    converted : the features that come back as another type: integers, booleans, half precision.
    mask : (n, V) the cells that a masked array hides: missing here, and hidden in what comes back; else None.
    """

    Y: np.ndarray
    covariates: pd.DataFrame
    features: tuple[str, ...]
    frame: pd.DataFrame | None
    positions: IntArray
    converted: tuple[str, ...]
    mask: BoolArray | None = None


def intake(
    X: pd.DataFrame | np.ndarray,
    covariates: object,
    *,
    reserved: Sequence[str],
    choice: FeatureChoice,
    fitted: tuple[str, ...] | None,
) -> Intake:
    """Sort out the caller's tables.

    Parameters
    ----------
    X : wide table, or features only (array or DataFrame) beside a covariate DataFrame.
    covariates : covariate DataFrame; anything one-dimensional beside a wide table is scikit-learn's `y`, ignored.
    reserved : batch, id and formula columns: never features.
    choice : which columns are features; see `ComBat`.
    fitted : the features of the fit, at transform; None at fit.

    Raises
    ------
    DataError
        Wrong shapes, duplicated or missing columns, text among numbers, indexes that don't match.
    """
    if isinstance(covariates, pd.DataFrame):
        _check_columns(covariates, "the covariate table")
        if isinstance(X, pd.DataFrame):
            _check_columns(X, "the feature table")
            if len(X) != len(covariates) or not X.index.equals(covariates.index):
                raise DataError(
                    f"features ({count(len(X), 'row')}) and covariates ({count(len(covariates), 'row')}) have "
                    f"different indexes: rows must correspond one to one, in the same order; {in_rows(X, covariates)}"
                )
            return _from_frame(X, covariates, reserved, choice, fitted, wide=False)
        return _from_array(X, covariates, choice, fitted)
    if not isinstance(X, pd.DataFrame):
        how = into_pandas(X, "X") or into_pandas(covariates, "covariates")
        raise DataError(
            f"X is {kind_of(X)} and covariates is {kind_of(covariates)}: "
            f"give {how or 'one wide DataFrame, or features (n×V array or DataFrame) beside a covariate DataFrame'}"
        )
    if covariates is not None and np.ndim(covariates) != 1:  # type: ignore[arg-type]  # anything goes
        how = into_pandas(covariates, "covariates")
        raise DataError(
            f"covariates is {kind_of(covariates)}: it must be a DataFrame with the formula's columns"
            f"{f'; give {how}' if how else ''}"
        )
    _check_columns(X, "the table")
    return _from_frame(X, X, reserved, choice, fitted, wide=True)


def put_back(taken: Intake, out: np.ndarray) -> pd.DataFrame | np.ndarray:
    """Return what the caller gave with its features replaced by `out` (n, V)."""
    frame = taken.frame
    if frame is None:
        return out if taken.mask is None else np.ma.masked_array(out, mask=taken.mask)
    runs = _runs(taken.positions, frame.shape[1])
    values = feature_frame(taken, out)
    if len(runs) > _MAX_RUNS:
        others = np.setdiff1d(np.arange(frame.shape[1]), taken.positions)
        joined = pd.concat([frame.iloc[:, others], values], axis=1)
        place = np.argsort(np.concatenate([others, taken.positions]))
        result = joined.iloc[:, place]
    else:
        where = np.full(frame.shape[1], -1)
        where[taken.positions] = np.arange(taken.positions.size)
        parts = []
        for run in runs:
            source = where[run.start : run.stop]
            if source[0] < 0:
                parts.append(frame.iloc[:, run])
            elif np.array_equal(source, np.arange(source[0], source[0] + source.size)):
                parts.append(values.iloc[:, source[0] : source[0] + source.size])
            else:
                parts.append(values.iloc[:, source])
        result = pd.concat(parts, axis=1)
    result.columns = frame.columns
    result.attrs.update(frame.attrs)
    return result


def feature_frame(taken: Intake, out: np.ndarray) -> pd.DataFrame:
    """Return the features alone as a DataFrame; a float32 column of the source comes back float32."""
    labels = taken.features if taken.frame is None else taken.frame.columns[taken.positions]
    result = pd.DataFrame(out, index=taken.covariates.index, columns=labels, copy=False)
    if taken.frame is not None and out.dtype == np.float64:
        # Doubles stay as they are; other kinds of floating point (float32, nullable, Arrow) come back as they were.
        dtypes = taken.frame.dtypes.to_numpy()[taken.positions]
        other = {k: dtype for k, dtype in enumerate(dtypes) if dtype != np.float64 and _kept(dtype)}
        if other:
            result = result.astype({result.columns[k]: dtype for k, dtype in other.items()})
    return result


def find_column(frame: pd.DataFrame, name: str, role: str) -> pd.Series:
    """Return a column by its name as text, or say which columns there are."""
    if name in frame.columns:
        return frame[name]
    names = [str(column) for column in frame.columns]
    if name not in names:
        default: str | Remedy = DEFAULT_TAKEN if (role, name) == ("batch", DEFAULT_BATCH) else ""
        padded = next((column for column in names if column.strip() == name), None)
        hint = from_index(frame, name) or did_you_mean(name, names)
        if padded is not None:
            hint = f"; '{padded}' has spaces around its name: remove them"
        raise DataError(
            Worded(f"{role} column '{name}' is not in the table", default, f", which has: {_shown(names)}{hint}")
        )
    return frame.iloc[:, names.index(name)]


def _shown(names: Sequence[str]) -> str:
    """List columns, quoted where a name has spaces around it: a file with ", " between its cells makes such names."""
    return listing((name if name == name.strip() else repr(name) for name in names), 12)


def _from_array(X: object, covariates: pd.DataFrame, choice: FeatureChoice, fitted: tuple[str, ...] | None) -> Intake:
    if not isinstance(X, np.ndarray) or X.ndim != 2:
        how = into_pandas(X, "X")
        raise DataError(
            f"X is {kind_of(X)}: beside a covariate DataFrame it must be an n×V array or DataFrame"
            f"{f'; give {how}' if how else ''}"
        )
    if X.dtype.kind not in "fiub":
        remedy = "; convert it with X.astype(float)" if X.dtype.kind in "OUST" else ""
        raise DataError(f"X is an array of {X.dtype}: features must be real numbers{remedy}")
    if X.shape[0] != len(covariates):
        raise DataError(
            f"X has {count(X.shape[0], 'row')}, covariates {count(len(covariates), 'row')}: they must agree; "
            f"{in_rows(X, covariates)}"
        )
    if fitted is not None:
        names = fitted
        if X.shape[1] != len(names):
            raise DataError(f"X has {count(X.shape[1], 'column')}, the model was fitted to {len(names):,}")
    elif isinstance(choice, list | tuple):
        names = tuple(choice)
        if X.shape[1] != len(names) or len(set(names)) != len(names):
            raise OptionError(
                f"features has {len(names):,} names ({len(set(names)):,} distinct), X {X.shape[1]:,} columns"
            )
    elif choice is not None:
        raise OptionError("features is a regular expression, but X is an array without names: give a list of names")
    else:
        names = tuple(f"x{k}" for k in range(X.shape[1]))
    if not names:
        raise DataError("X has no columns: there is nothing to harmonize")
    mask = np.ma.getmaskarray(X).copy() if isinstance(X, np.ma.MaskedArray) else None
    plain = np.asarray(X)  # neither a matrix, whose product differs, nor a masked array
    Y = plain if plain.dtype in (np.float64, np.float32) else plain.astype(np.float64)
    if mask is not None:
        Y = np.where(mask, np.array(np.nan, dtype=Y.dtype), Y)
    converted = () if _kept(X.dtype) else names
    return Intake(Y, covariates, names, None, np.arange(len(names)), converted, mask)


def _from_frame(
    frame: pd.DataFrame,
    covariates: pd.DataFrame,
    reserved: Sequence[str],
    choice: FeatureChoice,
    fitted: tuple[str, ...] | None,
    *,
    wide: bool,
) -> Intake:
    names = [str(column) for column in frame.columns]
    position = {name: at for at, name in enumerate(names)}
    if fitted is not None:
        absent = [name for name in fitted if name not in position]
        if absent:
            raise DataError(
                f"{count(len(absent), 'feature')} of the fit missing from the table: {listing(absent)}"
                f"{did_you_mean(absent[0], [n for n in names if n not in fitted])}"
            )
        chosen = list(fitted)
        if not wide and choice is None and len(names) > len(chosen):
            extra = [name for name in names if name not in {*fitted, *reserved}]
            if extra:
                raise DataError(f"the feature table has columns that the model was not fitted to: {listing(extra)}")
    else:
        chosen = _choose(frame, names, position, reserved, choice, wide=wide)
    positions = np.array([position[name] for name in chosen], dtype=np.intp)
    dtypes = frame.dtypes.to_numpy()[positions]
    converted = tuple(name for name, dtype in zip(chosen, dtypes, strict=True) if not _kept(dtype))
    return Intake(_matrix(frame, positions), covariates, tuple(chosen), frame, positions, converted)


def matching(choice: str, names: Sequence[str], reserved: Collection[str]) -> list[str]:
    """Return the names in which a regular expression is found; reserved ones are never among them."""
    try:
        pattern = re.compile(choice)
    except re.error as error:
        raise OptionError(Worded(Setting("features", choice), f" is not a regular expression: {error}")) from error
    chosen = [name for name in names if name not in reserved and pattern.search(name)]
    if not chosen:
        raise OptionError(Worded(Setting("features", choice), f" matches no column; the columns are: {_shown(names)}"))
    return chosen


def _choose(
    frame: pd.DataFrame,
    names: list[str],
    position: dict[str, int],
    reserved: Sequence[str],
    choice: FeatureChoice,
    *,
    wide: bool,
) -> list[str]:
    """Pick the features at fit."""
    kept = set(reserved)
    if isinstance(choice, str):
        return matching(choice, names, kept)
    if choice is not None:
        chosen = [str(name) for name in choice]
        for name in chosen:
            if name not in position:
                raise OptionError(
                    f"features: there is no column '{name}'{from_index(frame, name) or did_you_mean(name, names)}"
                )
            if name in kept:
                raise OptionError(f"features: '{name}' is a batch, id or formula column and cannot be a feature")
        repeated = sorted({name for name in chosen if chosen.count(name) > 1}) if len(set(chosen)) < len(chosen) else []
        if repeated or not chosen:
            raise OptionError(f"features names {listing(repeated)} twice" if repeated else "features is an empty list")
        return chosen
    if not wide:
        return [name for name in names if name not in kept]
    chosen = []
    for name, dtype in zip(names, frame.dtypes, strict=True):
        if name in kept:
            continue
        if _is_real(dtype):
            chosen.append(name)
        elif _is_text(dtype):
            choose = Worded(", or name the features with ", Setting("features", ...))
            check_text(frame.iloc[:, position[name]], name, choose)
        elif pd.api.types.is_complex_dtype(dtype):
            raise DataError(
                Worded(
                    f"column '{name}' holds complex numbers: features are real; leave it out with ",
                    Setting("features", ...),
                )
            )
    if not chosen:
        raise DataError("the table has no numeric column beside batch, id and formula columns: nothing to harmonize")
    return chosen


def _matrix(frame: pd.DataFrame, positions: IntArray) -> np.ndarray:
    """Return the feature columns as one array, a view where the table stores them together."""
    dtypes = frame.dtypes.to_numpy()[positions]
    bad = [at for at, dtype in zip(positions, dtypes, strict=True) if not _is_real(dtype)]
    for at in bad:
        if _is_text(frame.dtypes.iloc[at]):
            check_text(frame.iloc[:, at], str(frame.columns[at]))
    if bad:
        named = listing(f"'{frame.columns[at]}' ({frame.dtypes.iloc[at]}, such as {frame.iloc[0, at]!r})" for at in bad)
        raise DataError(f"feature column(s) not numeric: {named}; convert them or leave them out")
    contiguous = np.array_equal(positions, np.arange(positions[0], positions[0] + positions.size))
    part = frame.iloc[:, positions[0] : positions[0] + positions.size] if contiguous else frame.iloc[:, positions]
    kinds = set(dtypes)
    if kinds == {np.dtype(np.float64)} or kinds == {np.dtype(np.float32)}:
        return part.to_numpy()
    return part.to_numpy(dtype=np.float64, na_value=np.nan)


def intake_notes(taken: Intake, choice: FeatureChoice) -> list[str]:
    """Say which features are converted, and which of those chosen by default look like identifiers."""
    notes = []
    if taken.converted:
        notes.append(f"integer, boolean or half-precision features come back as float64: {listing(taken.converted)}")
    like = identifier_like(taken, choice)
    if like:
        notes.append(
            Worded(
                f"{listing(like)} looks like an identifier but is treated as a feature; name it with ",
                Setting("id", ...),
                ", or choose ",
                Setting("features", ...),
                f"; the features are: {listing(taken.features, 40)}",
            )
        )
    return notes


def identifier_like(taken: Intake, choice: FeatureChoice) -> list[str]:
    """Return the features, chosen by default, that look like identifiers: integer-valued and unique per row."""
    if choice is not None or taken.frame is not taken.covariates:
        return []
    head = np.asarray(taken.Y[:16], dtype=np.float64)
    with np.errstate(invalid="ignore"):
        candidates = np.flatnonzero((head == np.floor(head)).all(axis=0))
    names = []
    for k in candidates:
        column: FloatArray = np.asarray(taken.Y[:, k], dtype=np.float64)
        if np.isfinite(column).all() and (column == np.floor(column)).all() and np.unique(column).size == column.size:
            names.append(taken.features[k])
    return names if taken.Y.shape[0] > 2 else []


def _kept(dtype: Any) -> bool:
    """Tell whether a feature of this type comes back as the same type."""
    return getattr(dtype, "kind", "") == "f" and dtype != np.float16


def _is_real(dtype: Any) -> bool:
    return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype)


def _is_text(dtype: Any) -> bool:
    return bool(pd.api.types.is_object_dtype(dtype) or pd.api.types.is_string_dtype(dtype))


def _runs(positions: IntArray, width: int) -> list[slice]:
    """Cut the columns 0 … width − 1 into runs that are all features or all others."""
    mark = np.zeros(width, dtype=bool)
    mark[positions] = True
    cuts = np.flatnonzero(np.diff(mark)) + 1
    edges = [0, *cuts.tolist(), width]
    return [slice(a, b) for a, b in pairwise(edges)]


def _check_columns(frame: pd.DataFrame, what: str) -> None:
    if how := flat_columns(frame):
        raise DataError(f"{what} has columns of {frame.columns.nlevels} levels; give them one: {how}")
    names = pd.Index([str(column) for column in frame.columns])
    if names.has_duplicates:
        raise DataError(f"{what} has duplicated columns: {listing(names[names.duplicated()].unique())}; rename them")
    if len(frame) == 0:
        raise DataError(f"{what} has no rows")
