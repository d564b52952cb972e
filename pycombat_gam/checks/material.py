"""What the checks look at: the table in parts, and the model that it is meant for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pycombat_gam.batch.levels import BatchLevels
from pycombat_gam.checks.subjects import Grouping, is_number, subject_of
from pycombat_gam.errors import DataError
from pycombat_gam.formula import Formula, SmoothTerm
from pycombat_gam.formula.columns import Columns, as_groups, label_of
from pycombat_gam.formula.nodes import Call, Name, Node, walk
from pycombat_gam.tables.intake import Intake, find_column
from pycombat_gam.types import BoolArray, FloatArray, IntArray

_FACTORS = ("factor", "as.factor", "ordered", "relevel", "C")
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


@dataclass(frozen=True)
class Asked:
    """What the model is asked for, as far as a verdict depends on it.

    Attributes
    ----------
    shrunk : site effects are shrunk over features; scaled : scales are adjusted, not locations only.
    omit : missing cells are omitted; reference : label of the reference site, or None.
    drawn : parameters are posterior means, nothing is plugged in.
    """

    shrunk: bool = True
    scaled: bool = True
    omit: bool = False
    reference: str | None = None
    drawn: bool = False


@dataclass(frozen=True, eq=False)
class Material:
    """Everything that the checks look at.

    Attributes
    ----------
    intake : features and covariates; formula : parsed; batch : the column of sites; ids : columns that identify rows.
    levels : the sites; codes : (n,) site of each row, −1 where missing.
    fixed : the formula without effects of groups (random effects), which sites cannot be confounded with: penalised.
    covariates : by name, those in `fixed`; subjects : the grouping of rows by subject, or None.
    alike : features that look like identifiers; asked : what the model is asked for.
    """

    intake: Intake
    formula: Formula
    batch: str
    ids: tuple[str, ...]
    levels: BatchLevels
    codes: IntArray
    fixed: Formula
    covariates: dict[str, Covariate]
    subjects: Grouping | None
    alike: tuple[str, ...]
    asked: Asked

    @property
    def n(self) -> IntArray:
        """Rows per site."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.levels)).astype(np.intp)


def gather_material(
    intake: Intake,
    formula: Formula,
    levels: BatchLevels,
    codes: IntArray,
    ids: Sequence[str],
    *,
    asked: Asked,
    alike: Sequence[str] = (),
    numbers_only: bool = False,
) -> Material:
    """Read the formula's columns and find the subjects of the rows; `codes` are −1 where the site is missing.

    `numbers_only` leaves out columns of text and the like, which no check of a fitted table asks for.
    """
    fixed = without_groups(formula)
    read = [
        name for name in fixed.variables if not numbers_only or is_number(find_column(intake.covariates, name, "id"))
    ]
    return Material(
        intake=intake,
        formula=formula,
        batch=levels.column,
        ids=tuple(ids),
        levels=levels,
        codes=codes,
        fixed=fixed,
        covariates={name: _read(intake.covariates, name, _as_factor(fixed, name)) for name in read},
        subjects=subject_of(formula, intake.covariates, codes, ids),
        alike=tuple(alike),
        asked=asked,
    )


def without_groups(formula: Formula) -> Formula:
    """Return a formula without random effects."""
    smooths = tuple(smooth for smooth in formula.smooths if not smooth.random)
    used = {name for term in formula.parametric for node in term.factors for name in columns_of(node)}
    used |= {name for smooth in smooths for name in smooth_columns(smooth)}
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
    nodes += [
        node for smooth in formula.smooths for node in (*smooth.args, *([] if smooth.by is None else [smooth.by]))
    ]
    used = [node for node in nodes if name in columns_of(node)]
    return all(isinstance(node, Call) and node.name in _FACTORS for node in used)


def blank_cells(values: pd.Series) -> BoolArray:
    """Cells that are missing, or text without a letter."""
    blank = [label for label in values.unique() if isinstance(label, str) and not label.strip()]
    return (values.isna() | values.isin(blank)).to_numpy(dtype=bool)


def _read(table: pd.DataFrame, name: str, as_factor: bool) -> Covariate:
    column = find_column(table, name, "formula")
    missing = blank_cells(column)
    infinite = np.zeros(len(column), dtype=bool)
    if pd.api.types.is_float_dtype(column.dtype):
        infinite = np.isinf(column.to_numpy(dtype=np.float64, na_value=np.nan))
    present = ~(missing | infinite)
    values = np.full(len(column), np.nan)
    if not present.any():
        return Covariate(name, values, (), missing, infinite)
    columns = Columns(pd.DataFrame({name: column[present]}))
    try:
        cells = columns.column(name)
    except DataError as error:
        return Covariate(name, values, (), missing, infinite, str(error))
    if isinstance(cells, np.ndarray) and cells.dtype != np.bool_ and not as_factor:
        values[present] = cells
        return Covariate(name, values, (), missing, infinite)
    groups = columns.groups(name) if as_factor else cells if not isinstance(cells, np.ndarray) else as_groups(cells)
    labels = [label_of(value) for value in groups.values]
    levels = tuple(dict.fromkeys(labels))
    values[:] = -1
    values[present] = np.array([levels.index(label) for label in labels])[groups.codes]
    return Covariate(name, values, levels, missing, infinite)
