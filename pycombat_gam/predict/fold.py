"""One fit to some of the sites: harmonizer, columns and learner, and how it predicts rows of other sites."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.design.design import Design
from pycombat_gam.errors import DataError, PcgWarning
from pycombat_gam.formula import Formula
from pycombat_gam.formula.functions import variables
from pycombat_gam.predict.learners import FittedLearner, Learner
from pycombat_gam.predict.rows import Rows
from pycombat_gam.study.harmonizer import Harmonizer
from pycombat_gam.types import FloatArray, IntArray
from pycombat_gam.words import listing


@dataclass(frozen=True, eq=False)
class Recipe:
    """What every fold fits.

    Attributes
    ----------
    harmonizer : unfitted, or None for raw features; batch : column of sites.
    formula : the covariates among the predictors; features : names.
    learner : what predicts the outcome.
    """

    harmonizer: Harmonizer | None
    batch: str
    formula: Formula
    features: tuple[str, ...]
    learner: Learner

    def fit(self, rows: Rows, y: FloatArray, *, whole: bool = False) -> Fold:
        """Fit to rows with outcomes y (n,); the harmonizer sees no outcome.

        Parameters
        ----------
        whole : whether these are all rows, whose notes are kept.
        """
        harmonizer: Any = None
        Y = rows.Y
        if self.harmonizer is not None:
            with quiet():
                harmonizer = self.harmonizer.unfitted(features=list(self.features))
                fit = harmonizer.fit_transform if whole else harmonizer.fit_part
                Y = np.asarray(fit(rows.Y, rows.table.reset_index(drop=True)), dtype=np.float64)
        columns = CovariateColumns.learn(self.formula, rows.table, missing=self.learner.missing)
        X = _beside(columns.on(rows.table), Y)
        names = (*columns.names, *self.features)
        return Fold(harmonizer, columns, self.features, self.learner.fit(X, names, y, rows.codes, rows.weights))


@dataclass(frozen=True, eq=False)
class Fold:
    """A fit to some of the sites."""

    harmonizer: Any
    columns: CovariateColumns
    features: tuple[str, ...]
    learner: FittedLearner

    def predict(self, rows: Rows, together: IntArray) -> FloatArray:
        """Predict rows of sites that were not in this fit.

        Parameters
        ----------
        together : (n,) codes of the groups of rows that the harmonizer takes as one new site each.

        Returns
        -------
        (n, C) probabilities of classes, or (n, 1) numbers.
        """
        Y = rows.Y if self.harmonizer is None else harmonized(self.harmonizer, rows, together)
        X = _beside(self.columns.on(rows.table), Y)
        return self.learner.predict(X, (*self.columns.names, *self.features))


def _beside(covariates: FloatArray, Y: FloatArray) -> FloatArray:
    """Put columns side by side, without a copy where there are no covariates."""
    return np.hstack([covariates, Y]) if covariates.shape[1] else Y


def harmonized(model: Any, rows: Rows, together: IntArray) -> FloatArray:
    """Harmonize rows of new sites, each from its own rows, without outcomes."""
    numbers, group = np.unique(together, return_inverse=True)
    stem = "new site"
    while any(label.startswith(stem) for label in model.sites):
        stem = f"another {stem}"
    label = np.array([f"{stem} {number}" for number in range(len(numbers))], dtype=object)[group]
    # A row may be in several bags: labels of the index would be duplicates.
    table = rows.table.reset_index(drop=True).assign(**{model.batch: label})
    out = np.empty_like(rows.Y)
    parts = [np.flatnonzero(group == g) for g in range(len(numbers))] if model.one_new_site else [np.arange(len(rows))]
    with quiet():
        for at in parts:
            Y, covariates = rows.Y[at], table.iloc[at]
            out[at] = model.with_site(Y, covariates).transform(Y, covariates)
    return out


@contextmanager
def quiet() -> Iterator[None]:
    """Silence our own warnings: the fit to all sites gives them, and every new site would repeat them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PcgWarning)
        yield


@dataclass(frozen=True, eq=False)
class CovariateColumns:
    """The covariates' columns, with missing cells where the learner takes them.

    Attributes
    ----------
    design : learned from complete rows; fill : a value for each variable that stands in while columns are built, or
        None where cells may not be missing.
    """

    design: Design
    fill: dict[str, Any] | None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return self.design.columns

    @classmethod
    def learn(cls, formula: Formula, table: pd.DataFrame, *, missing: bool) -> CovariateColumns:
        """Learn columns from a table."""
        used = list(formula.variables)
        complete = ~table[used].isna().any(axis=1).to_numpy() if missing and used else np.ones(len(table), np.bool_)
        if not complete.any():
            raise DataError(f"no row has all of {listing(used)}: nothing can be learned of them")
        whole = table if complete.all() else table.loc[complete]
        fill = {name: whole[name].iloc[0] for name in used} if missing else None
        return cls(Design.learn(formula, whole, absorb_intercept=True), fill)

    def on(self, table: pd.DataFrame) -> FloatArray:
        """Build the columns, (n, p); NaN where a variable of theirs is missing."""
        used = list(self.design.formula.variables)
        if self.fill is None or not table[used].isna().any(axis=None):
            return self.design.on(table)
        if self.design.smooth.smooths:
            raise DataError(f"missing cells in {listing(used)}: smooths take none; impute them, or write linear terms")
        filled = table.assign(**{name: table[name].where(table[name].notna(), self.fill[name]) for name in used})
        X = self.design.on(filled)
        for term in self.design.formula.parametric:
            names = list(dict.fromkeys(name for factor in term.factors for name in variables(factor)))
            absent = table[names].isna().any(axis=1).to_numpy()
            X[absent, self.design.term_slices[term.label]] = np.nan
        return X
