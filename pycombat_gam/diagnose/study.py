"""The rows that a diagnosis looks at: the features in every state, sites, covariates, in an order of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pycombat_gam.batch.levels import BatchLevels
from pycombat_gam.checks.subjects import unit_groupings
from pycombat_gam.design.design import check_supported
from pycombat_gam.errors import DataError, OptionError
from pycombat_gam.formula import Formula, parse_formula
from pycombat_gam.formula.functions import variables
from pycombat_gam.formula.roles import factor_columns, fixed_columns, random_groups
from pycombat_gam.mean.groups import missing_patterns
from pycombat_gam.tables.arguments import names
from pycombat_gam.tables.cells import check_cells, suspicious_features
from pycombat_gam.tables.intake import FeatureChoice, Intake, check_ids, find_column, intake
from pycombat_gam.types import BoolArray, FloatArray, IntArray
from pycombat_gam.words import listing, rows_named

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
    ids : columns that identify rows; order : (n,) where each row stands in the table given.
    linking : columns of each random effect whose rows are no independent witnesses; see `linking_groups`.
    fitted : the formula less random effects of groups that hold all rows of their sites: sites hold these effects.
    """

    table: pd.DataFrame
    codes: IntArray
    sites: tuple[str, ...]
    shown: IntArray
    formula: Formula
    features: tuple[str, ...]
    states: dict[str, FloatArray]
    ids: tuple[str, ...]
    order: IntArray
    linking: tuple[tuple[str, ...], ...]
    fitted: Formula

    @cached_property
    def groups(self) -> IntArray | None:
        """Which rows belong together, (n,): all that linking random effects join; None where there are none."""
        links = [pd.MultiIndex.from_frame(self.table[list(columns)]).factorize()[0] for columns in self.linking]
        if not links:
            return None
        n = self.codes.size
        offsets = np.cumsum([n, *(codes.max() + 1 for codes in links)])
        rows = np.tile(np.arange(n), len(links))
        places = np.concatenate([codes + start for codes, start in zip(links, offsets, strict=False)])
        graph = coo_array((np.ones(rows.size), (rows, places)), shape=(int(offsets[-1]), int(offsets[-1])))
        return np.asarray(connected_components(graph, directed=False)[1][:n], dtype=np.intp)

    @property
    def covariates(self) -> list[str]:
        """Columns that fixed terms and smooths are made of."""
        return list(fixed_columns(self.formula))

    def part(self, rows: BoolArray | slice, features: IntArray) -> Study:
        """Return some of the rows and features; `features` are positions in order."""
        every = len(features) == len(self.features)
        return replace(
            self,
            table=self.table[rows],
            codes=self.codes[rows],
            order=self.order[rows],
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
            _check_same_rows(given, then, ids)
            states[AFTER] = _values(then)
        order = _order(states[BEFORE], given.features, given.covariates, (*parsed.variables, batch, *ids))
        codes, known = pd.factorize(levels.codes(sites)[0][order])
        table, codes = given.covariates.iloc[order], codes.astype(np.intp)
        return cls(
            table=table,
            codes=codes,
            sites=tuple(levels.labels[b] for b in known),
            shown=np.argsort(known).astype(np.intp),
            formula=parsed,
            features=given.features,
            states={name: np.ascontiguousarray(Y[order]) for name, Y in states.items()},
            ids=tuple(ids),
            order=order,
            linking=linking_groups(parsed, table, codes, ids),
            fitted=_within_sites(parsed, table, codes),
        )


def linking_groups(
    formula: Formula, table: pd.DataFrame, codes: IntArray, ids: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """Return the columns of each random effect whose groups, not rows, may be exchanged if sites are alike.

    Rows of one person, or of a small group such as a family, are one witness. So are those of a larger group, a
    scanner say, where each site has several of its own: sites then have to differ by more than scanners do. Other
    groups, such as vendors, hold many rows of several sites, or all of a site's. Their effects are estimated beside
    those of sites and taken off with the covariates' part; what is left of a row is its own.
    """
    people = {group.columns for group in unit_groupings(formula, table, codes, ids)}
    makers = dict.fromkeys(grouping_columns(formula, table, used) for used in random_groups(formula))
    return tuple(columns for columns in makers if columns and (columns in people or _nested(table, columns, codes)))


def _nested(table: pd.DataFrame, columns: Sequence[str], codes: IntArray) -> bool:
    """Tell whether every group is at one site, and some site has several."""
    groups = pd.MultiIndex.from_frame(table[list(columns)]).factorize()[0]
    sites_of_group = pd.DataFrame({"group": groups, "site": codes}).groupby("group")["site"].nunique()
    return bool((sites_of_group == 1).all() and sites_of_group.size > np.unique(codes).size)


def _within_sites(formula: Formula, table: pd.DataFrame, codes: IntArray) -> Formula:
    """Return a formula less the random intercepts that are constant within sites."""

    def varies(columns: Sequence[str]) -> bool:
        return not columns or bool((table[list(columns)].groupby(codes).nunique(dropna=False) > 1).any(axis=None))

    bars, terms = random_groups(formula)[: len(formula.random)], formula.random
    intercepts = [one for one in formula.smooths if one.random and len(one.args) == 1]
    held = [one for one in intercepts if not varies(list(variables(one.args[0])))]
    return replace(
        formula,
        random=tuple(term for term, columns in zip(terms, bars, strict=True) if term.slopes or varies(columns)),
        smooths=tuple(one for one in formula.smooths if one not in held),
    )


def grouping_columns(formula: Formula, table: pd.DataFrame, columns: Sequence[str]) -> tuple[str, ...]:
    """Return those columns of a random effect that make groups: not the number of a slope or of a curve by group."""
    factors = set(factor_columns(formula))
    return tuple(name for name in columns if name in factors or not is_number(table[name]))


def is_number(column: pd.Series) -> bool:
    """Tell whether a column holds numbers, and not yes and no."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _values(given: Intake) -> FloatArray:
    """Return the features in double precision, checked: missing cells may be, infinite ones not."""
    columns = suspicious_features(given.Y)
    missing = check_cells(given.Y, columns, given.features, omit_missing=True, may_omit=False)
    empty = [given.features[k] for k in columns[missing == given.Y.shape[0]]]
    if empty:
        raise DataError(f"no observed value at all in {listing(empty)}: leave such features out")
    return np.asarray(given.Y, dtype=np.float64)


def _check_same_rows(given: Intake, then: Intake, ids: Sequence[str]) -> None:
    if given.Y.shape[0] != then.Y.shape[0]:
        raise DataError(
            f"before has {given.Y.shape[0]:,} rows, after {then.Y.shape[0]:,}: give the same rows in the same order"
        )
    if given.frame is None or then.frame is None:
        return
    other = given.covariates.index != then.covariates.index
    for name in ids:
        if name in then.covariates.columns and name in given.covariates.columns:
            one, two = given.covariates[name].astype(str), then.covariates[name].astype(str)
            other = other | (one.to_numpy() != two.to_numpy())
    if other.any():
        labels = given.covariates.index[other]
        raise DataError(
            f"before and after have different rows, in {rows_named(labels)} of before: give the same rows in the "
            "same order"
        )


def _order(Y: FloatArray, features: Sequence[str], table: pd.DataFrame, columns: Sequence[str]) -> IntArray:
    """Sort rows by their values: the first features by name decide, where rows are tied all of them and `columns`."""
    by_name = np.argsort(np.array(features, dtype=object), kind="stable")
    values = np.where(np.isnan(Y), np.inf, Y)
    order = np.lexsort(values[:, by_name[:8]].T[::-1])
    some = values[order][:, by_name[:8]]
    if (some[1:] == some[:-1]).all(axis=1).any():
        texts = [np.unique(find_column(table, name, "formula").astype(str), return_inverse=True)[1] for name in columns]
        order = np.lexsort([*texts[::-1], *values[:, by_name].T[::-1]])
    return order.astype(np.intp)


class Units:
    """What is independent of each other: rows, or groups of rows that random effects link.

    Parameters
    ----------
    codes : (n,) site of each row; groups : (n,) which rows belong together, each at one site, or None.

    Attributes
    ----------
    site : (u,) site of each unit; sizes : (B,) units of each site.
    """

    def __init__(self, codes: IntArray, groups: IntArray | None) -> None:
        self._of: IntArray | None = None
        self.site = codes
        if groups is not None:
            of, first = pd.factorize(groups)
            self._of = of.astype(np.intp)
            self.site = np.zeros(len(first), dtype=np.intp)
            self.site[self._of] = codes
        self.sizes: IntArray = np.bincount(self.site, minlength=int(codes.max()) + 1)

    def mean(self, values: FloatArray) -> FloatArray:
        """Mean of the rows of each unit, (u, k)."""
        if self._of is None:
            return values
        sums = np.zeros((self.site.size, values.shape[1]))
        np.add.at(sums, self._of, values)
        return np.asarray(sums / np.bincount(self._of)[:, None])

    def rows(self, chosen: np.ndarray) -> np.ndarray:
        """Return for each row what was chosen for its unit."""
        return chosen if self._of is None else chosen[self._of]


def units_of(codes: IntArray, groups: IntArray | None) -> Units | None:
    """Return the units of rows, or None where a group has rows at several sites: then none is independent of sites."""
    if (
        groups is not None
        and (pd.DataFrame({"group": groups, "site": codes}).groupby("group")["site"].nunique() > 1).any()
    ):
        return None
    return Units(codes, groups)
