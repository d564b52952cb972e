"""The arguments of `gam`, sorted out: responses, weights, offset, and the rows that can be used."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd

from pycombat_gam.errors import DataError, FormulaError, OptionError
from pycombat_gam.formula import Formula
from pycombat_gam.formula.columns import Columns
from pycombat_gam.formula.evaluate import Evaluator
from pycombat_gam.formula.functions import variables
from pycombat_gam.formula.nodes import Call, Name, Node, deparse
from pycombat_gam.penalized.sufficient import is_constant, last_digit
from pycombat_gam.tables.remedies import into_pandas, kind_of
from pycombat_gam.types import BoolArray, FloatArray
from pycombat_gam.words import count, did_you_mean, listing

RowNumbers: TypeAlias = Sequence[float] | np.ndarray | pd.Series | str | None
"""One number per row: an array, the column that holds it, or None."""


@dataclass(frozen=True, eq=False)
class Observations:
    """The numbers of a fit: n rows, V responses.

    Attributes
    ----------
    names : (V,) the responses; written : (V,) the same as R code; Y : (n, V), NaN where missing.
    weights, offset : (n,), finite where `usable`.
    usable : (n,) rows whose covariates, weight and offset are all there.
    several : whether several responses were asked for, if only one came.
    """

    names: tuple[str, ...]
    written: tuple[str, ...]
    Y: FloatArray
    weights: FloatArray
    offset: FloatArray
    usable: BoolArray
    several: bool


def sort_out(
    formula: Formula,
    table: pd.DataFrame,
    responses: Sequence[str] | str | None,
    weights: RowNumbers,
    offset: RowNumbers,
) -> Observations:
    """Read responses, weights and offset from what the user gave.

    Raises
    ------
    FormulaError, OptionError, DataError
        Saying what was given and what is allowed.
    """
    if not isinstance(table, pd.DataFrame):
        raise DataError(f"the data are {kind_of(table)}; give {into_pandas(table, 'data') or 'a pandas DataFrame'}")
    if not len(table):
        raise DataError("the table has no rows")
    nodes = _responses(formula, table, responses)
    w = _row_numbers(weights, table, "weights", 1.0)
    shift = _row_numbers(offset, table, "offset", 0.0)
    if (w < 0).any():
        raise DataError(f"weights are negative in {count(int((w < 0).sum()), 'row')}: give 0 or more")
    usable = np.isfinite(w) & np.isfinite(shift)
    columns = Columns(table)
    for name in dict.fromkeys(name for node in _covariates(formula) for name in variables(node)):
        usable &= ~np.asarray(columns.series(name).isna(), dtype=bool)
    names = tuple(deparse(node) if not isinstance(node, Name) else node.name for node in nodes)
    Y = np.column_stack([_values(node, table) for node in nodes])
    several = responses is not None or (isinstance(formula.response, Call) and formula.response.name == "cbind")
    return Observations(names, tuple(map(deparse, nodes)), Y, w, shift, usable, several)


def _responses(formula: Formula, table: pd.DataFrame, responses: Sequence[str] | str | None) -> list[Node]:
    if formula.response is not None:
        if responses is not None:
            raise FormulaError(
                f"the formula '{formula}' names its response and responses= is given too: leave one of them out"
            )
        node = formula.response
        return list(node.args) if isinstance(node, Call) and node.name == "cbind" else [node]
    if responses is None:
        raise FormulaError(f"the formula '{formula}' has no response: write 'y {formula}', or give responses=")
    if isinstance(responses, str):
        try:
            pattern = re.compile(responses)
        except re.error as error:
            raise OptionError(f"responses={responses!r} is not a regular expression: {error}") from None
        used = set(formula.variables)
        names = [str(n) for n in table.columns if isinstance(n, str) and pattern.search(n) and n not in used]
        if not names:
            raise OptionError(f"responses={responses!r} matches no column of the table")
        return [Name(name) for name in names]
    names = list(responses)
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise OptionError("responses: give different column names, or a regular expression")
    for name in names:
        if name not in table.columns:
            hint = did_you_mean(name, [str(column) for column in table.columns])
            raise OptionError(f"responses: '{name}' is not a column of the table{hint}")
    return [Name(name) for name in names]


def _covariates(formula: Formula) -> Iterator[Node]:
    """Every expression on the formula's right."""
    terms = list(formula.parametric)
    for random in formula.random:
        terms += [random.group, *random.slopes]
    for term in terms:
        yield from term.factors
    for smooth in formula.smooths:
        yield from smooth.args
        if smooth.by is not None:
            yield smooth.by
    yield from formula.offsets


def _values(node: Node, table: pd.DataFrame) -> FloatArray:
    """Evaluate a response where its columns are there; NaN elsewhere."""
    columns = Columns(table)
    present = np.ones(len(table), dtype=bool)
    for name in variables(node):
        present &= ~np.asarray(columns.series(name).isna(), dtype=bool)
    if not present.any():
        raise DataError(f"the response {deparse(node)} has no value at all")
    evaluator = Evaluator(Columns(table.loc[present] if not present.all() else table), {}, learning=True)
    value = np.asarray(evaluator.vector(node, node), dtype=np.float64)
    if value.ndim > 1:
        raise FormulaError(f"the response {deparse(node)} has several columns; use cbind() or responses=")
    evaluator.require_finite(value, node)
    filled = np.full(len(table), np.nan)
    filled[present] = value
    return filled


def _row_numbers(source: RowNumbers, table: pd.DataFrame, name: str, default: float) -> FloatArray:
    """Return one number per row; NaN where missing."""
    if source is None:
        return np.full(len(table), default)
    if isinstance(source, str):
        series = Columns(table).series(source)
        if not pd.api.types.is_numeric_dtype(series.dtype):
            raise DataError(f"{name}='{source}': the column is not numeric")
        source = series
    elif isinstance(source, pd.Series) and not source.index.equals(table.index):
        raise OptionError(f"{name} is a Series with another index than the table: align it, or give an array")
    try:
        values = np.asarray(source, dtype=np.float64)
    except (TypeError, ValueError):
        raise OptionError(f"{name}: give one number per row, or the name of a column") from None
    if values.shape != (len(table),):
        raise OptionError(f"{name} has shape {values.shape}: give {len(table):,} numbers, one per row")
    if np.isinf(values).any():
        raise DataError(f"{name} is infinite in {count(int(np.isinf(values).sum()), 'row')}")
    return values


def patterns_of(observations: Observations) -> list[tuple[BoolArray, list[int]]]:
    """Group the responses by the rows they can use: [(rows (n,), members)]."""
    usable = observations.usable & (observations.weights > 0)
    groups: dict[bytes, tuple[BoolArray, list[int]]] = {}
    for k in range(observations.Y.shape[1]):
        rows = usable & ~np.isnan(observations.Y[:, k])
        groups.setdefault(rows.tobytes(), (rows, []))[1].append(k)
    for rows, members in groups.values():
        if not rows.any():
            raise DataError(f"no row is complete for {listing(observations.names[k] for k in members)}")
        Y = observations.Y[rows][:, members]
        flat = is_constant(Y.min(axis=0), Y.max(axis=0), 16 * last_digit(Y))
        if flat.any():
            constant = listing(np.array([observations.names[k] for k in members], dtype=object)[flat])
            raise DataError(f"nothing to fit in constant responses: {constant}; leave them out")
    return list(groups.values())
