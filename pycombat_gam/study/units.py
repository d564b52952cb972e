"""The independent units: rows, or groups of rows that random effects link."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from pycombat_gam.checks.subjects import unit_groupings
from pycombat_gam.formula import Formula
from pycombat_gam.formula.functions import variables
from pycombat_gam.formula.roles import factor_columns, random_groups
from pycombat_gam.types import FloatArray, IntArray


class Units:
    """The independent units: rows, or groups of rows that random effects link.

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


def linking_groups(
    formula: Formula, table: pd.DataFrame, codes: IntArray, ids: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """Return the columns of each random effect whose groups, not rows, may be exchanged if sites are alike.

    Rows of one person, or of a small group such as a family, are one unit. So are those of a larger group, such as a
    scanner, if each site has several of its own: sites then have to differ by more than scanners do. Other groups, such
    as vendors, hold many rows of several sites, or all rows of a site. Their effects are estimated beside those of
    sites and removed with the covariates' part; the remainders of rows are independent.
    """
    people = {group.columns for group in unit_groupings(formula, table, codes, ids)}
    makers = dict.fromkeys(grouping_columns(formula, table, used) for used in random_groups(formula))
    return tuple(columns for columns in makers if columns and (columns in people or _nested(table, columns, codes)))


def _nested(table: pd.DataFrame, columns: Sequence[str], codes: IntArray) -> bool:
    """Tell whether every group is at one site, and some site has several."""
    groups = pd.MultiIndex.from_frame(table[list(columns)]).factorize()[0]
    sites_of_group = pd.DataFrame({"group": groups, "site": codes}).groupby("group")["site"].nunique()
    return bool((sites_of_group == 1).all() and sites_of_group.size > np.unique(codes).size)


def within_sites(formula: Formula, table: pd.DataFrame, codes: IntArray) -> Formula:
    """Return a formula less the random intercepts that are constant within sites."""

    def varies(columns: Sequence[str]) -> bool:
        return not columns or bool((table[list(columns)].groupby(codes).nunique(dropna=False) > 1).any(axis=None))

    bars, terms = random_groups(formula)[: len(formula.random)], formula.random
    intercepts = [smooth for smooth in formula.smooths if smooth.random and len(smooth.args) == 1]
    held = [smooth for smooth in intercepts if not varies(list(variables(smooth.args[0])))]
    return replace(
        formula,
        random=tuple(term for term, columns in zip(terms, bars, strict=True) if term.slopes or varies(columns)),
        smooths=tuple(smooth for smooth in formula.smooths if smooth not in held),
    )


def grouping_columns(formula: Formula, table: pd.DataFrame, columns: Sequence[str]) -> tuple[str, ...]:
    """Return those columns of a random effect that make groups: not the number of a slope or of a curve by group."""
    factors = set(factor_columns(formula))
    return tuple(name for name in columns if name in factors or not is_number(table[name]))


def is_number(column: pd.Series) -> bool:
    """Tell whether a column holds numbers, and not yes and no."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
