"""What an audit looks at: the table sorted out as `ComBat` does, yet without stopping for what the audit is to tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pycombat_gam.batch.levels import BatchLevels, canonical
from pycombat_gam.combat import ComBat
from pycombat_gam.errors import DataError
from pycombat_gam.estimator import take
from pycombat_gam.formula import Formula, SmoothTerm
from pycombat_gam.formula.columns import Columns, as_groups, label_of
from pycombat_gam.formula.nodes import Call, Name, Node, walk
from pycombat_gam.options import check_options, names
from pycombat_gam.tables import FeatureChoice, Intake, find_column, identifier_like
from pycombat_gam.types import BoolArray, FloatArray, IntArray

_FACTORS = ("factor", "as.factor", "ordered", "relevel", "C")
_GROUPED = ("re", "fs")
"""Bases whose columns are effects of groups: random intercepts, curves of subjects."""


@dataclass(frozen=True, eq=False)
class Covariate:
    """A column of the formula.

    Attributes
    ----------
    values : (n,) numbers, NaN where missing or infinite; of a categorical one codes into `levels`, −1 where missing.
    levels : labels; empty for numbers.
    missing, infinite : (n,) cells.
    trouble : why it cannot be read, or nothing.
    """

    name: str
    values: FloatArray
    levels: tuple[str, ...]
    missing: BoolArray
    infinite: BoolArray
    trouble: str = ""

    @property
    def present(self) -> BoolArray:
        """Cells that can be used."""
        return ~(self.missing | self.infinite) & (not self.trouble)

    def indicator(self, level: str) -> FloatArray:
        """Return 1 where the level is, 0 elsewhere, for the rows present."""
        return np.asarray(self.values[self.present] == self.levels.index(level), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Subjects:
    """Who the rows are of: `codes` (n,), −1 where missing; `random`: the formula has an effect of them."""

    name: str
    codes: IntArray
    random: bool

    @property
    def repeated(self) -> bool:
        """Whether some subject has several rows."""
        known = self.codes[self.codes >= 0]
        return bool(known.size > np.unique(known).size)


@dataclass(frozen=True, eq=False)
class Material:
    """Everything that an audit looks at.

    Attributes
    ----------
    given : features and covariates; formula : parsed; batch : the column of sites; ids : columns that identify rows.
    levels : the sites; codes : (n,) site of each row, −1 where missing.
    fixed : the formula without effects of groups (random effects), which sites cannot be confounded with: penalised.
    covariates : by name, those in `fixed`; subjects : if rows can be told to be of one subject.
    alike : features that look like identifiers.
    """

    given: Intake
    formula: Formula
    batch: str
    ids: tuple[str, ...]
    levels: BatchLevels
    codes: IntArray
    fixed: Formula
    covariates: dict[str, Covariate]
    subjects: Subjects | None
    alike: tuple[str, ...]

    @property
    def n(self) -> IntArray:
        """Rows per site."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.levels)).astype(np.intp)


def sort_out(
    table: pd.DataFrame | np.ndarray,
    formula: str,
    batch: str,
    covariates: object,
    features: FeatureChoice,
    id: str | list[str] | tuple[str, ...] | None,
) -> Material:
    """Check a call as `ComBat` does, and read its columns."""
    _, parsed = check_options(ComBat(formula, batch, features=features, id=id).get_params())
    given = take(table, covariates, parsed, None, batch=batch, id=id, features=features)
    for name in parsed.variables:
        find_column(given.covariates, name, "formula")
    ids = tuple(names(id, "id"))
    for name in ids:
        find_column(given.covariates, name, "id")
    levels, codes = _sites(find_column(given.covariates, batch, "batch"), batch)
    fixed = without_groups(parsed)
    by_rule = features if features is None or isinstance(features, str) else names(features, "features")
    return Material(
        given=given,
        formula=parsed,
        batch=batch,
        ids=ids,
        levels=levels,
        codes=codes,
        fixed=fixed,
        covariates={name: _read(given.covariates, name, _as_factor(fixed, name)) for name in fixed.variables},
        subjects=_subjects(parsed, given.covariates, ids),
        alike=tuple(identifier_like(given, by_rule)),
    )


def without_groups(formula: Formula) -> Formula:
    """Return a formula without random effects."""
    smooths = tuple(one for one in formula.smooths if one.option("bs") not in _GROUPED)
    used = {name for term in formula.parametric for node in term.factors for name in columns_of(node)}
    used |= {name for one in smooths for name in smooth_columns(one)}
    used |= {name for node in formula.offsets for name in columns_of(node)}
    kept = tuple(name for name in formula.variables if name in used)
    return replace(formula, smooths=smooths, random=(), variables=kept)


def columns_of(node: Node) -> Iterator[str]:
    """Names in an expression."""
    return (part.name for part in walk(node) if isinstance(part, Name))


def smooth_columns(smooth: SmoothTerm) -> Iterator[str]:
    """Columns that a smooth is of, its by-variable among them."""
    for node in (*smooth.args, *([] if smooth.by is None else [smooth.by])):
        yield from columns_of(node)


def _as_factor(formula: Formula, name: str) -> bool:
    """Tell whether a column stands in `factor()` and the like, and nowhere else."""
    nodes = [*formula.offsets, *(node for term in formula.parametric for node in term.factors)]
    nodes += [node for one in formula.smooths for node in (*one.args, *([] if one.by is None else [one.by]))]
    used = [node for node in nodes if name in columns_of(node)]
    return all(isinstance(node, Call) and node.name in _FACTORS for node in used)


def _sites(values: pd.Series, column: str) -> tuple[BatchLevels, IntArray]:
    """Learn the sites of the rows that have one; a single site is no error here."""
    present = ~_blank(values)
    kept = values[present]
    texts = {canonical(label) for label in kept.unique()}
    levels = BatchLevels(column, tuple(texts)) if len(texts) == 1 else BatchLevels.learn(kept, column)
    codes = np.full(len(values), -1, dtype=np.intp)
    codes[present] = levels.codes(kept)[0]
    return levels, codes


def _blank(values: pd.Series) -> BoolArray:
    """Cells that are missing, or text without a letter."""
    blank = [label for label in values.unique() if isinstance(label, str) and not label.strip()]
    return (values.isna() | values.isin(blank)).to_numpy(dtype=bool)


def _read(table: pd.DataFrame, name: str, as_factor: bool) -> Covariate:
    column = find_column(table, name, "formula")
    missing = _blank(column)
    infinite = np.zeros(len(column), dtype=bool)
    if pd.api.types.is_float_dtype(column.dtype):
        infinite = np.isinf(column.to_numpy(dtype=np.float64, na_value=np.nan))
    present = ~(missing | infinite)
    values = np.full(len(column), np.nan)
    if not present.any():
        return Covariate(name, values, (), missing, infinite)
    columns = Columns(pd.DataFrame({name: column[present]}))
    try:
        found = columns.column(name)
    except DataError as error:
        return Covariate(name, values, (), missing, infinite, str(error))
    if isinstance(found, np.ndarray) and found.dtype != np.bool_ and not as_factor:
        values[present] = found
        return Covariate(name, values, (), missing, infinite)
    groups = columns.groups(name) if as_factor else found if not isinstance(found, np.ndarray) else as_groups(found)
    labels = [label_of(value) for value in groups.values]
    levels = tuple(dict.fromkeys(labels))
    values[:] = -1
    values[present] = np.array([levels.index(label) for label in labels])[groups.codes]
    return Covariate(name, values, levels, missing, infinite)


def _subjects(formula: Formula, table: pd.DataFrame, ids: tuple[str, ...]) -> Subjects | None:
    """Tell whose rows they are: from a random effect of one column, else from the id that repeats."""
    groups = [term.group.factors for term in formula.random if len(term.group.factors) == 1]
    groups += [one.args for one in formula.smooths if one.option("bs") == "re" and len(one.args) == 1]
    random = [list(columns_of(nodes[0])) for nodes in groups]
    if random and len(random[0]) == 1:
        return Subjects(random[0][0], _codes(table, random[0][0]), True)
    known = [Subjects(name, _codes(table, name), False) for name in ids]
    # Of subject and visit it is the subject that has more values; a number of the scan that never repeats is neither.
    return max(known, key=lambda one: (one.repeated, int(one.codes.max(initial=-1))), default=None)


def _codes(table: pd.DataFrame, name: str) -> IntArray:
    return np.asarray(pd.factorize(find_column(table, name, "id"))[0], dtype=np.intp)
