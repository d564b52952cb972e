"""The rows of a table as prediction takes them: features, covariates, sites, and the units that get one answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pycombat_gam.batch.levels import BatchLevels
from pycombat_gam.errors import DataError, OptionError
from pycombat_gam.predict.outcome import Question
from pycombat_gam.tables.arguments import names
from pycombat_gam.tables.cells import check_cells
from pycombat_gam.tables.ids import check_ids
from pycombat_gam.tables.intake import FeatureChoice, find_column, identifier_like, intake
from pycombat_gam.types import BoolArray, FloatArray, IntArray
from pycombat_gam.words import count, listing, rows_named


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a table: n of them, of U units.

    Attributes
    ----------
    table : (n rows) covariates and sites; Y : (n, V) features.
    codes : (n,) sites, the known ones first; labels : of all codes.
    unit : (n,) the unit of each row; index : (U,) labels of the units; unit_site : (U,) their sites.
    """

    table: pd.DataFrame
    Y: FloatArray
    codes: IntArray
    labels: tuple[str, ...]
    unit: IntArray
    index: pd.Index
    unit_site: IntArray

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: BoolArray | IntArray) -> Rows:
        """Return some of the rows; their units keep their numbers."""
        at = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return replace(self, table=self.table.iloc[at], Y=self.Y[at], codes=self.codes[at], unit=self.unit[at])

    @property
    def weights(self) -> FloatArray | None:
        """Weights (n,) that sum to one over the rows of a unit; None where each has one row."""
        of_unit = np.bincount(self.unit)[self.unit]
        return None if (of_unit == 1).all() else np.asarray(1.0 / of_unit)

    def of_units(self, units: BoolArray) -> BoolArray:
        """Return which rows belong to some units (U,)."""
        return np.asarray(units[self.unit])

    def by_unit(self, values: FloatArray, rows: Rows | None = None) -> FloatArray:
        """Average values (n, C) of rows over units (U, C); of `rows`, if only those have values."""
        unit = self.unit if rows is None else rows.unit
        if len(self.index) == len(self) and rows is None and np.array_equal(unit, np.arange(len(unit))):
            return values
        sums = np.zeros((len(self.index), values.shape[1]))
        np.add.at(sums, unit, values)
        n = np.bincount(unit, minlength=len(self.index))[:, None]
        return np.divide(sums, n, out=np.full_like(sums, np.nan), where=n > 0)


@dataclass(frozen=True)
class Layout:
    """Which columns a model uses, and how.

    Attributes
    ----------
    question : the formula; batch, id, case : columns; covariates : further columns, those of the harmonizer.
    features : names, once they are known.
    missing : whether cells of features and covariates may be missing.
    """

    question: Question
    batch: str
    id: str | list[str] | tuple[str, ...] | None
    case: str | None
    covariates: tuple[str, ...]
    features: tuple[str, ...] = ()
    missing: bool = False

    @property
    def ids(self) -> list[str]:
        """Columns that identify rows."""
        return names(self.id, "id")

    @property
    def reserved(self) -> list[str]:
        """Columns that are never features."""
        cases = [] if self.case is None else [self.case]
        used = (*self.question.columns, *self.question.right.variables, *self.covariates)
        return list(dict.fromkeys([self.batch, *self.ids, *cases, *used]))

    def choose(self, table: pd.DataFrame, choice: FeatureChoice) -> tuple[Layout, list[str]]:
        """Settle the features; with none to be had, a formula with terms stands alone.

        Returns
        -------
        layout, notes
            The latter of features, chosen by default, that look like identifiers.
        """
        right = self.question.right
        alone = bool(right.parametric or right.smooths)
        if isinstance(choice, list | tuple) and not choice:
            if not alone:
                raise OptionError("features is empty and the formula has no term: there is nothing to predict from")
            return self, []
        if choice is None and alone and not _numeric_others(table, self.reserved):
            return self, []
        taken = intake(table, None, reserved=self.reserved, choice=choice, fitted=None)
        like = listing(identifier_like(taken, choice))
        note = f"{like} looks like an identifier but is treated as a feature: name it with id, or choose features"
        return replace(self, features=taken.features), [note] if like else []

    def read(self, table: object, levels: BatchLevels | None) -> tuple[Rows, BatchLevels]:
        """Read rows; `levels` are the sites of the fit, or None at fit.

        Raises
        ------
        DataError
            For what is missing, misspelled or duplicated, and a case at two sites.
        """
        frame, Y = self._features_of(table)
        find_column(frame, self.batch, "batch")
        check_ids(frame, [] if self.case is not None and not self.ids else self.ids)
        absent = check_cells(Y, np.arange(Y.shape[1]), self.features, omit_missing=True, may_omit=False)
        if not self.missing and absent.any():
            named = listing(f"'{name}' ({n})" for name, n in zip(self.features, absent, strict=True) if n)
            raise DataError(
                f"missing values in {named}: complete the table, or give an estimator that imputes in every fold, such "
                "as make_pipeline(SimpleImputer(), LogisticRegression())"
            )
        sites = find_column(frame, self.batch, "batch")
        levels = BatchLevels.learn(sites, self.batch) if levels is None else levels
        codes, unseen = levels.codes(sites)
        labels = (*levels.labels, *unseen)
        used = list(dict.fromkeys([self.batch, *self.question.right.variables, *self.covariates]))
        covariates = pd.concat([find_column(frame, name, "formula") for name in used], axis=1)
        if self.case is None:
            unit, index, site = np.arange(len(frame)), frame.index, codes
        else:
            unit, index, site = _cases(frame, self.case, codes, labels)
        return Rows(covariates, Y, codes, labels, unit, index, site), levels

    def _features_of(self, table: object) -> tuple[pd.DataFrame, FloatArray]:
        if self.features:
            taken = intake(table, None, reserved=self.reserved, choice=None, fitted=self.features)  # type: ignore[arg-type]  # it says what is wrong
            return taken.covariates, np.asarray(taken.Y, dtype=np.float64)
        if not isinstance(table, pd.DataFrame):
            raise DataError(f"the table is a {type(table).__name__}; give a pandas DataFrame")
        if not len(table):
            raise DataError("the table has no rows")
        return table, np.zeros((len(table), 0))


def _numeric_others(table: pd.DataFrame, reserved: Sequence[str]) -> bool:
    return any(
        str(name) not in reserved and pd.api.types.is_numeric_dtype(dtype)
        for name, dtype in zip(table.columns, table.dtypes, strict=True)
    )


def _cases(
    frame: pd.DataFrame, case: str, codes: IntArray, labels: Sequence[str]
) -> tuple[IntArray, pd.Index, IntArray]:
    """Group rows into cases, in order of appearance."""
    column = find_column(frame, case, "case")
    absent = column.isna().to_numpy()
    if absent.any():
        raise DataError(f"case column '{case}' has missing values in {rows_named(frame.index[absent])}")
    unit, cases = pd.factorize(column)
    site = np.full(len(cases), -1, dtype=np.intp)
    site[unit] = codes
    strays = np.unique(unit[site[unit] != codes])
    if strays.size:
        where = [f"{cases[u]} ({listing(labels[b] for b in np.unique(codes[unit == u]))})" for u in strays[:5]]
        raise DataError(
            f"{count(strays.size, 'case')} of column '{case}' at more than one site: {listing(where)}; a case is one "
            "patient at one site"
        )
    return unit.astype(np.intp), pd.Index(cases, name=case), site


def outcome_of_units(rows: Rows, y: FloatArray, case: str | None) -> FloatArray:
    """Return the outcome of each unit; all rows of a case must agree.

    Parameters
    ----------
    y : (n,) or (n, 2) outcomes of rows.
    """
    if case is None:
        return y
    first = np.zeros(len(rows.index), dtype=np.intp)
    first[rows.unit[::-1]] = np.arange(len(rows))[::-1]
    of_unit: FloatArray = y[first]
    differs = y != of_unit[rows.unit]
    strays = np.unique(rows.unit[differs if y.ndim == 1 else differs.any(axis=1)])
    if strays.size:
        raise DataError(
            f"{count(strays.size, 'case')} of column '{case}' with more than one outcome: "
            f"{listing(rows.index[strays], 5)}; a case has one"
        )
    return of_unit
