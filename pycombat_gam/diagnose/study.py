"""The rows that a diagnosis looks at: the features in every state, sites, covariates, in an order of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.batch.levels import BatchLevels
from pycombat_gam.cells import check_cells, suspicious_features
from pycombat_gam.design import check_supported
from pycombat_gam.errors import DataError, OptionError, listing, rows_named
from pycombat_gam.formula import Formula, parse_formula
from pycombat_gam.formula.formula import Term
from pycombat_gam.formula.functions import variables
from pycombat_gam.mean.groups import missing_patterns
from pycombat_gam.options import names
from pycombat_gam.tables import FeatureChoice, Intake, check_ids, find_column, intake
from pycombat_gam.types import BoolArray, FloatArray, IntArray

BEFORE, AFTER, HELD_OUT = "before", "after", "held out"


@dataclass(frozen=True, eq=False)
class Study:
    """n rows of V features at B sites, before and perhaps after harmonization.

    The rows are sorted by their values before harmonization, and the sites by their first rows, so that what is drawn
    at random (permutations, folds) does not depend on the order of the table or on what sites are called.

    Attributes
    ----------
    table : (n rows) the covariates.
    codes : (n,) site of each row; sites : (B,) their labels; shown : (B,) the order in which tables list them.
    formula : what is held fixed when sites are compared.
    features : (V,) names.
    states : the features, (n, V) each, by state.
    """

    table: pd.DataFrame
    codes: IntArray
    sites: tuple[str, ...]
    shown: IntArray
    formula: Formula
    features: tuple[str, ...]
    states: dict[str, FloatArray]

    @property
    def grouping(self) -> IntArray | None:
        """Which rows belong together, (n,): those of one subject, where the formula has random effects."""
        for term in self.formula.random:
            columns = [find_column(self.table, name, "formula") for name in _used([term.group])]
            return np.asarray(pd.MultiIndex.from_arrays(columns).factorize()[0], dtype=np.intp)
        return None

    @property
    def covariates(self) -> list[str]:
        """Columns that fixed terms and smooths are made of."""
        smooths = [s for s in self.formula.smooths if s.option("bs") != "re"]
        nodes = [node for s in smooths for node in (*s.args, *([] if s.by is None else [s.by]))]
        return list(dict.fromkeys([*_used(self.formula.parametric), *(n for node in nodes for n in variables(node))]))

    def part(self, rows: BoolArray | slice, features: IntArray) -> Study:
        """Return some of the rows and features; `features` are positions in order."""
        every = len(features) == len(self.features)
        return replace(
            self,
            table=self.table[rows],
            codes=self.codes[rows],
            features=tuple(self.features[k] for k in features),
            states={name: Y[rows] if every else Y[rows][:, features] for name, Y in self.states.items()},
        )

    def patterns(self, Y: FloatArray) -> Iterator[tuple[IntArray, IntArray]]:
        """Yield (rows, features) for all features that are observed on the same rows."""
        gaps = np.isnan(Y).any(axis=0)
        if not gaps.all():
            yield np.arange(Y.shape[0]), np.flatnonzero(~gaps)
        yield from missing_patterns(Y, np.flatnonzero(gaps))

    @classmethod
    def of(
        cls,
        before: pd.DataFrame | np.ndarray,
        after: pd.DataFrame | np.ndarray | None,
        *,
        formula: str,
        batch: str,
        features: FeatureChoice,
        id: Any,
        covariates: pd.DataFrame | None,
    ) -> Study:
        """Sort out the tables.

        Raises
        ------
        DataError
            Tables that don't hold the same rows, infinite cells, a feature without values.
        OptionError
            A batch that stands in the formula, a formula that no model here fits.
        """
        parsed = parse_formula(formula)
        check_supported(parsed, absorb_intercept=True)
        if batch in parsed.variables:
            raise OptionError(f"batch column '{batch}' is in the formula: sites are compared by themselves, remove it")
        ids = names(id, "id")
        reserved = (batch, *ids, *parsed.variables)
        given = intake(before, covariates, reserved=reserved, choice=features, fitted=None)
        for name in parsed.variables:
            find_column(given.covariates, name, "formula")
        check_ids(given.covariates, ids)
        sites = find_column(given.covariates, batch, "batch")
        levels = BatchLevels.learn(sites, batch)
        states = {BEFORE: _values(given)}
        if after is not None:
            then = intake(after, covariates, reserved=reserved, choice=None, fitted=given.features)
            _check_same_rows(given, then)
            states[AFTER] = _values(then)
        order = _order(states[BEFORE])
        codes, known = pd.factorize(levels.codes(sites)[0][order])
        return cls(
            table=given.covariates.iloc[order],
            codes=codes.astype(np.intp),
            sites=tuple(levels.labels[b] for b in known),
            shown=np.argsort(known).astype(np.intp),
            formula=parsed,
            features=given.features,
            states={name: np.ascontiguousarray(Y[order]) for name, Y in states.items()},
        )


def _used(terms: Iterable[Term]) -> list[str]:
    """Columns that terms are made of."""
    return list(dict.fromkeys(name for term in terms for factor in term.factors for name in variables(factor)))


def _values(given: Intake) -> FloatArray:
    """Return the features in double precision, checked: missing cells may be, infinite ones not."""
    columns = suspicious_features(given.Y)
    missing = check_cells(given.Y, columns, given.features, omit_missing=True, may_omit=False)
    empty = [given.features[k] for k in columns[missing == given.Y.shape[0]]]
    if empty:
        raise DataError(f"no observed value at all in {listing(empty)}: leave such features out")
    return np.asarray(given.Y, dtype=np.float64)


def _check_same_rows(given: Intake, then: Intake) -> None:
    if given.Y.shape[0] != then.Y.shape[0]:
        raise DataError(
            f"before has {given.Y.shape[0]:,} rows, after {then.Y.shape[0]:,}: give the same rows in the same order"
        )
    if given.frame is not None and then.frame is not None:
        other = given.covariates.index != then.covariates.index
        if other.any():
            labels = given.covariates.index[other].tolist()
            raise DataError(
                f"before and after have different rows, in {rows_named(labels)} of before: give the same rows in the "
                "same order"
            )


def _order(Y: FloatArray) -> IntArray:
    """Sort rows by their values: the first features decide."""
    return np.lexsort(np.where(np.isnan(Y), np.inf, Y)[:, :8].T[::-1]).astype(np.intp)
