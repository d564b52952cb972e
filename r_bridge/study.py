"""A wide table taken apart for R: features, batches, covariates as R should see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pycombat_gam.batch.levels import BatchLevels
from pycombat_gam.errors import OptionError
from pycombat_gam.formula import Formula, parse_formula
from pycombat_gam.formula.columns import number_of
from pycombat_gam.formula.functions import variables
from pycombat_gam.tables import FeatureChoice, Intake, find_column, intake
from pycombat_gam.types import FloatArray, IntArray
from r_bridge.functions import check_translatable, read_as_numbers


@dataclass(frozen=True, eq=False)
class Study:
    """What R's engines are given.

    Attributes
    ----------
    given : the table as it came; formula : of the mean; levels : the B batches; codes : (n,) batch of each row.
    Y : (n, V) features by name, missing cells NaN.
    data : covariates; what random effects are grouped by is a factor.
    """

    given: Intake
    formula: Formula
    levels: BatchLevels
    codes: IntArray
    Y: pd.DataFrame
    data: pd.DataFrame

    @classmethod
    def read(
        cls,
        table: pd.DataFrame,
        formula: str | Formula,
        batch: str,
        *,
        features: FeatureChoice = None,
        id: str | Sequence[str] | None = None,
        more: Sequence[str] = (),
    ) -> Study:
        """Take a table apart; `id` is no feature, `more` is kept beside the covariates of the formula."""
        parsed = with_intercept(parse_formula(formula) if isinstance(formula, str) else formula)
        check_translatable(parsed)
        ids = [id] if isinstance(id, str) else list(id or ())
        given = intake(table, None, reserved=[batch, *ids, *more, *parsed.variables], choice=features, fitted=None)
        sites = find_column(given.covariates, batch, "batch")
        levels = BatchLevels.learn(sites, batch)
        codes, _ = levels.codes(sites)
        kept = {name: find_column(table, name, "argument").reset_index(drop=True) for name in more}
        data = covariates_for_r(parsed, given.covariates)
        return cls(
            given,
            parsed,
            levels,
            codes,
            pd.DataFrame(np.asarray(given.Y, dtype=np.float64), columns=list(given.features)),
            groups_as_factors(parsed, data.assign(**{name: kept[name] for name in kept if name not in data})),
        )

    @property
    def batch(self) -> pd.Categorical:
        """The batches as a factor."""
        return as_factor(self.codes, self.levels.labels)

    def reference(self, ref_batch: object) -> str | None:
        """Return the label of the reference batch."""
        return None if ref_batch is None else self.levels.labels[self.levels.index(ref_batch)]


def with_intercept(formula: Formula) -> Formula:
    """Return the formula with an intercept: in ComBat the batches hold it, and ``- 1`` changes nothing."""
    return replace(formula, intercept=True)


def as_factor(codes: IntArray | FloatArray, levels: Sequence[str]) -> pd.Categorical:
    """Return a factor of codes (−1: missing)."""
    return pd.Categorical.from_codes(np.asarray(codes, dtype=np.int64), pd.Index(list(levels), dtype="str"))


def covariates_for_r(formula: Formula, table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that a formula uses: texts as factors in our order of levels, whole numbers as doubles.

    R sorts texts by the locale and multiplies its integers until they overflow; neither is ours. mgcv takes no logicals
    in ``by=``, where ours are factors. Text that ``as.numeric()`` reads goes as numbers: of a factor R gives codes.
    """
    numbers, elsewhere = read_as_numbers(formula)
    columns = {name: _for_r(find_column(table, name, "formula")) for name in formula.variables}
    for name in numbers & set(columns):
        if isinstance(columns[name].dtype, pd.CategoricalDtype):
            columns[name] = _text_as_numbers(columns[name], name, alone=name not in elsewhere)
    for name in {name for term in formula.smooths if term.by is not None for name in variables(term.by)}:
        if columns[name].dtype == bool:
            columns[name] = pd.Series(as_factor(columns[name].to_numpy(dtype=np.int64), ("FALSE", "TRUE")))
    return pd.DataFrame(columns, index=range(len(table)))


def _text_as_numbers(column: pd.Series, name: str, *, alone: bool) -> pd.Series:
    numbers = [number_of(str(level)) for level in column.cat.categories]
    if not alone or any(number is None for number in numbers):
        raise OptionError(
            f"column '{name}' is text and stands both in as.numeric() and elsewhere in the formula: in R it is one "
            "of them only; add a numeric copy of the column"
        )
    values = np.array([np.nan, *(float(number or 0) for number in numbers)])
    return pd.Series(values[column.cat.codes.to_numpy() + 1])


def columns_of(formula: Formula, table: pd.DataFrame, *, response: bool) -> pd.DataFrame:
    """Return the columns of a model as R should see them, with or without those of its response."""
    own = set() if formula.response is None or response else set(variables(formula.response))
    names = tuple(name for name in formula.variables if name not in own)
    wanted = replace(formula, variables=names)
    return groups_as_factors(wanted, covariates_for_r(wanted, table))


def groups_as_factors(formula: Formula, data: pd.DataFrame) -> pd.DataFrame:
    """Make factors of what random effects are grouped by, as lme4 and ours do."""
    grouping = {name for term in formula.random for node in term.group.factors for name in variables(node)}
    return data.assign(**{name: _factor(data[name]) for name in sorted(grouping)})


def _for_r(column: pd.Series) -> pd.Series:
    column = column.reset_index(drop=True)
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.rename_categories(str).cat.remove_unused_categories()
    if pd.api.types.is_bool_dtype(column.dtype):
        return column.astype(bool)
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.astype("float64")
    return _factor(column)


def _factor(column: pd.Series) -> pd.Series:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column
    return pd.Series(pd.Categorical(column, categories=sorted(column.dropna().unique()))).cat.rename_categories(str)
