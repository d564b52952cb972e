"""The rows of a diagnosis: the features in each state, sites and covariates, in canonical order."""

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
from pycombat_gam.design.design import check_supported
from pycombat_gam.errors import DataError, OptionError
from pycombat_gam.formula import Formula, parse_formula
from pycombat_gam.formula.roles import fixed_columns
from pycombat_gam.mean.groups import missing_patterns
from pycombat_gam.study.rows import check_same_rows
from pycombat_gam.study.states import AFTER, BEFORE
from pycombat_gam.study.units import linking_groups, within_sites
from pycombat_gam.tables.arguments import names
from pycombat_gam.tables.cells import check_cells, suspicious_features
from pycombat_gam.tables.ids import check_ids
from pycombat_gam.tables.intake import FeatureChoice, Intake, find_column, intake
from pycombat_gam.types import BoolArray, FloatArray, IntArray
from pycombat_gam.words import listing


@dataclass(frozen=True, eq=False)
class Study:
    """n rows of V features at B sites, before harmonization and, if given, after.

    The rows are sorted by their values before harmonization, and the sites by their first rows. Random draws
    (permutations, folds) then depend neither on the order of the table nor on the sites' names.

    Attributes
    ----------
    table : (n rows) the covariates.
    codes : (n,) site of each row; sites : (B,) their labels; shown : (B,) their order in tables.
    formula : the covariates at which sites are compared.
    features : (V,) names.
    states : the features, (n, V) each, by state.
    ids : columns that identify rows; order : (n,) each row's place in the original table.
    linking : columns of each random effect whose rows are not independent; see `study.units.linking_groups`.
    fitted : the formula without random effects of groups that hold all rows of a site: sites absorb these effects.
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
        """The group of each row, (n,): all rows that linking random effects join; None without such effects."""
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
        """The columns of fixed terms and smooths."""
        return list(fixed_columns(self.formula))

    def part(self, rows: BoolArray | slice, features: IntArray) -> Study:
        """Return some of the rows and features; `features` are ascending positions."""
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
        """Yield (rows, features) for each set of features observed on the same rows."""
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
        """Read and check the tables.

        Raises
        ------
        DataError
            If the tables don't hold the same rows, a cell is infinite, or a feature has no values.
        OptionError
            If the batch is in the formula, or no model here fits the formula.
        """
        parsed = parse_formula(formula)
        check_supported(parsed, absorb_intercept=True)
        if batch in parsed.variables:
            raise OptionError(f"batch column '{batch}' is in the formula: diagnose adds it by itself, remove it there")
        ids = names(id, "id")
        reserved = (batch, *ids, *parsed.variables)
        taken = intake(before, covariates, reserved=reserved, choice=features, fitted=None)
        for name in parsed.variables:
            find_column(taken.covariates, name, "formula")
        check_ids(taken.covariates, ids)
        sites = find_column(taken.covariates, batch, "batch")
        levels = BatchLevels.learn(sites, batch)
        states = {BEFORE: _values(taken)}
        if after is not None:
            then = intake(after, covariates, reserved=reserved, choice=None, fitted=taken.features)
            check_same_rows(
                taken.covariates, then.covariates, ids, labelled=taken.frame is not None and then.frame is not None
            )
            states[AFTER] = _values(then)
        order = _order(states[BEFORE], taken.features, taken.covariates, (*parsed.variables, batch, *ids))
        codes, known = pd.factorize(levels.codes(sites)[0][order])
        table, codes = taken.covariates.iloc[order], codes.astype(np.intp)
        return cls(
            table=table,
            codes=codes,
            sites=tuple(levels.labels[b] for b in known),
            shown=np.argsort(known).astype(np.intp),
            formula=parsed,
            features=taken.features,
            states={name: np.ascontiguousarray(Y[order]) for name, Y in states.items()},
            ids=tuple(ids),
            order=order,
            linking=linking_groups(parsed, table, codes, ids),
            fitted=within_sites(parsed, table, codes),
        )


def _values(taken: Intake) -> FloatArray:
    """Return the features in double precision; missing cells are allowed, infinite ones are not."""
    columns = suspicious_features(taken.Y)
    missing = check_cells(taken.Y, columns, taken.features, omit_missing=True, may_omit=False)
    empty = [taken.features[k] for k in columns[missing == taken.Y.shape[0]]]
    if empty:
        raise DataError(f"no observed value at all in {listing(empty)}: leave such features out")
    return np.asarray(taken.Y, dtype=np.float64)


def _order(Y: FloatArray, features: Sequence[str], table: pd.DataFrame, columns: Sequence[str]) -> IntArray:
    """Sort rows by the first features by name; ties by all features and `columns`."""
    by_name = np.argsort(np.array(features, dtype=object), kind="stable")
    values = np.where(np.isnan(Y), np.inf, Y)
    order = np.lexsort(values[:, by_name[:8]].T[::-1])
    some = values[order][:, by_name[:8]]
    if (some[1:] == some[:-1]).all(axis=1).any():
        texts = [np.unique(find_column(table, name, "formula").astype(str), return_inverse=True)[1] for name in columns]
        order = np.lexsort([*texts[::-1], *values[:, by_name].T[::-1]])
    return order.astype(np.intp)
