"""A wide table taken apart for R: features, batches, covariates as R should see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pycombat_gam.batch.levels import BatchLevels
from pycombat_gam.errors import OptionError
from pycombat_gam.formula import Formula, parse_formula
from pycombat_gam.formula.columns import Columns, label_of, number_of
from pycombat_gam.formula.functions import variables
from pycombat_gam.tables.intake import FeatureChoice, Intake, find_column, intake
from pycombat_gam.types import FloatArray, IntArray
from r_bridge.functions import check_translatable, read_as_numbers
from r_bridge.names import Names


@dataclass(frozen=True, eq=False)
class Study:
    """What R's engines are given.

    Attributes
    ----------
    given : the table as it came; formula : of the mean; levels : the B batches; codes : (n,) batch of each row.
    Y : (n, V) features by name, missing cells NaN.
    names : what R calls the covariates; data : covariates under R's names; what random effects are grouped by is a
        factor besides.
    """

    given: Intake
    formula: Formula
    levels: BatchLevels
    codes: IntArray
    Y: pd.DataFrame
    names: Names
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
        beside: Sequence[Formula] = (),
    ) -> Study:
        """Take a table apart.

        Parameters
        ----------
        id : never a feature; more : columns kept as they are beside the covariates.
        beside : further formulas whose columns R needs.
        """
        parsed = with_intercept(parse_formula(formula) if isinstance(formula, str) else formula)
        for part in (parsed, *beside):
            check_translatable(part)
        every = tuple(dict.fromkeys(name for part in (parsed, *beside) for name in part.variables))
        ids = [id] if isinstance(id, str) else list(id or ())
        taken = intake(table, None, reserved=[batch, *ids, *more, *every], choice=features, fitted=None)
        sites = find_column(taken.covariates, batch, "batch")
        levels = BatchLevels.learn(sites, batch)
        codes, _ = levels.codes(sites)
        kept = {name: find_column(table, name, "argument").reset_index(drop=True) for name in more}
        wanted = replace(parsed, variables=every)
        names = Names.of(wanted, table, more)
        data = names.table(covariates_for_r(wanted, taken.covariates))
        data = data.assign(**groups_for_r(parsed, taken.covariates, names))
        return cls(
            taken,
            parsed,
            levels,
            codes,
            pd.DataFrame(np.asarray(taken.Y, dtype=np.float64), columns=list(taken.features)),
            names,
            data.assign(**{names.sent[name]: kept[name] for name in kept if name not in every}),
        )

    @property
    def sent(self) -> Formula:
        """The formula in R's names."""
        return self.names.formula(self.formula)

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
            f"column '{name}' is text, used both in as.numeric() and elsewhere in the formula: in R it can be one "
            "of them only; add a numeric copy of the column"
        )
    values = np.array([np.nan, *(float(number or 0) for number in numbers)])
    return pd.Series(values[column.cat.codes.to_numpy() + 1])


def columns_of(formula: Formula, table: pd.DataFrame, names: Names, *, response: bool) -> pd.DataFrame:
    """Return the columns of a model as R should see them, under its names, with or without those of the response."""
    left = set() if formula.response is None or response else set(variables(formula.response))
    wanted = replace(formula, variables=tuple(name for name in formula.variables if name not in left))
    return names.table(covariates_for_r(wanted, table)).assign(**groups_for_r(wanted, table, names))


def groups_for_r(formula: Formula, table: pd.DataFrame, names: Names) -> dict[str, pd.Series]:
    """Return what random effects are grouped by as factors, as lme4 and ours have them, under R's names."""
    return {
        called: factor_for_r(find_column(table, name, "formula").reset_index(drop=True))
        for name, called in names.groups.items()
        if name in formula.variables
    }


def factor_for_r(column: pd.Series) -> pd.Series:
    """Return a column as a factor with the levels of ours: numbers and truth values as R prints them.

    >>> factor_for_r(pd.Series([10.0, 9.0, 0.5])).cat.categories.tolist()
    ['0.5', '9', '10']
    """
    ordered = isinstance(column.dtype, pd.CategoricalDtype) and bool(column.cat.ordered)
    if column.dtype.kind in "mM":
        column = column.astype("str").where(column.notna())
    present = column.notna().to_numpy()
    groups = Columns(pd.DataFrame({str(column.name): column[present]})).groups(str(column.name))
    spelled = [label_of(value) for value in groups.values]
    labels = list(dict.fromkeys(spelled))
    place = {label: code for code, label in enumerate(labels)}
    codes = np.full(len(column), -1)
    codes[present] = np.array([place[text] for text in spelled], dtype=np.int64)[groups.codes]
    return pd.Series(pd.Categorical.from_codes(codes, pd.Index(labels, dtype="str"), ordered=ordered))


def _for_r(column: pd.Series) -> pd.Series:
    column = column.reset_index(drop=True)
    if isinstance(column.dtype, pd.CategoricalDtype):
        return factor_for_r(column)
    if pd.api.types.is_bool_dtype(column.dtype):
        return column.astype(bool)
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.astype("float64")
    return factor_for_r(column)
