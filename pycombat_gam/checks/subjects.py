"""Which rows belong to one person: which grouping factor identifies people, and which groups rows otherwise.

Rows of one person are dependent and count once. A formula may have random effects of people (``(1 | subject)``), of
families, and of other groups of sites or rows: vendors, countries, scanners, sexes. Two rows from one vendor are as
independent as any two.

The sizes of the groups decide: a person has few rows, and a site has many people. Take n_b rows at a site, g rows of
one group there and n_b/g such groups. Groups are people if a group is no larger than the number of groups, g ≤ √n_b, on
average over all rows. The caller's word counts more: a random effect of what `id` names is one of people, unless the id
has another column with more groups (of subject and visit, the visit is nobody).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pycombat_gam.formula import Formula
from pycombat_gam.formula.roles import factor_columns, random_groups
from pycombat_gam.tables.intake import find_column
from pycombat_gam.types import IntArray

PEOPLE = 1.1
"""Rows of a group over √n_b up to which groups are people: 1, and a tenth for sites of a few rows, where one counts."""


@dataclass(frozen=True, eq=False)
class Grouping:
    """Rows put into groups by one column, or by several together.

    Attributes
    ----------
    columns : what makes the groups; codes : (n,) group of each row, −1 where a column is missing.
    random : the formula has a random effect of it.
    """

    columns: tuple[str, ...]
    codes: IntArray
    random: bool

    @property
    def name(self) -> str:
        """As R names an interaction, ``family:subject``."""
        return ":".join(self.columns)

    @property
    def size(self) -> int:
        """Number of groups."""
        return int(self.codes.max(initial=-1)) + 1

    @property
    def repeated(self) -> bool:
        """Whether some group has several rows."""
        return bool(np.bincount(self.codes[self.codes >= 0], minlength=1).max() > 1)

    def people_like(self, sites: IntArray) -> bool:
        """Tell by the sizes of the groups whether they may be people; `sites` (n,) are codes, −1 where unknown."""
        known = (self.codes >= 0) & (sites >= 0)
        if not known.any():
            return False
        pairs = self.codes[known] * (int(sites.max()) + 1) + sites[known]
        _, place, sizes = np.unique(pairs, return_inverse=True, return_counts=True)
        together = sizes[place]
        at_site = np.bincount(sites[known])[sites[known]]
        return bool((together / np.sqrt(at_site)).mean() <= PEOPLE)


def subject_of(formula: Formula, table: pd.DataFrame, sites: IntArray, ids: Sequence[str]) -> Grouping | None:
    """Find the factor that tells people apart, or None.

    It is the first of these that exists: a random effect of what `ids` names; an id that repeats, if its groups are
    like people or it has the most values; a random effect whose groups are like people; the id with the most values.
    Of several candidates, it is one that repeats, with the most groups.

    Parameters
    ----------
    table : (n rows); sites : (n,) site of each row, −1 where unknown; ids : columns that identify rows.

    Examples
    --------
    >>> from pycombat_gam.formula import parse_formula
    >>> table = pd.DataFrame({"who": list("aabbccddee" * 2), "vendor": ["x"] * 10 + ["y"] * 10})
    >>> sites = np.repeat([0, 1], 10)
    >>> subject_of(parse_formula("~ (1 | vendor) + (1 | who)"), table, sites, []).name
    'who'
    >>> subject_of(parse_formula("~ (1 | vendor)"), table, sites, [])
    """
    random = _random_groupings(formula, table)
    named = [_grouping(table, (name,), random=False) for name in ids]
    most = max((group.size for group in named), default=0)
    for candidates in (
        [group for group in random if _by_word(group, named)],
        [group for group in named if group.repeated and (group.size == most or group.people_like(sites))],
        [group for group in random if group.people_like(sites)],
    ):
        if candidates:
            return max(candidates, key=lambda group: (group.repeated, group.size))
    return max(named, key=lambda group: group.size, default=None)


def unit_groupings(formula: Formula, table: pd.DataFrame, sites: IntArray, ids: Sequence[str]) -> list[Grouping]:
    """Return the random effects whose groups are people, or small like them (families): rows of one are dependent.

    Groups of sites or of many rows (vendors, scanners) are not among them; see `subject_of` for the arguments.

    >>> from pycombat_gam.formula import parse_formula
    >>> table = pd.DataFrame({"who": list("aabbccddee" * 2), "vendor": ["x"] * 10 + ["y"] * 10})
    >>> formula = parse_formula("~ (1 | vendor) + (1 | who)")
    >>> [group.name for group in unit_groupings(formula, table, np.repeat([0, 1], 10), ids=[])]
    ['who']
    """
    named = [_grouping(table, (name,), random=False) for name in ids]
    random = _random_groupings(formula, table)
    return [group for group in random if _by_word(group, named) or group.people_like(sites)]


def _by_word(group: Grouping, named: Sequence[Grouping]) -> bool:
    """Tell whether the ids name a random effect's groups, and none of them that repeats has more."""
    names = {column.name for column in named}
    return set(group.columns) <= names and all(group.size >= column.size for column in named if column.repeated)


def _random_groupings(formula: Formula, table: pd.DataFrame) -> list[Grouping]:
    """Return the groups of all random effects; the numeric variable of a slope or curve by group makes none."""
    factors = set(factor_columns(formula))
    chosen = [
        tuple(name for name in columns if name in factors or not is_number(find_column(table, name, "formula")))
        for columns in random_groups(formula)
    ]
    return [_grouping(table, columns, random=True) for columns in dict.fromkeys(chosen) if columns]


def _grouping(table: pd.DataFrame, columns: tuple[str, ...], *, random: bool) -> Grouping:
    parts = [pd.factorize(find_column(table, name, "id"))[0] for name in columns]
    codes = parts[0]
    if len(parts) > 1:
        missing = np.any([part < 0 for part in parts], axis=0)
        codes = np.full(len(table), -1)
        codes[~missing] = pd.MultiIndex.from_arrays([part[~missing] for part in parts]).factorize()[0]
    return Grouping(columns, np.asarray(codes, dtype=np.intp), random)


def is_number(column: pd.Series) -> bool:
    """Tell whether a column holds numbers, and not yes and no."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
