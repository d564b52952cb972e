"""One thing that an audit found, and the rows of the table that it rests on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pycombat_gam.words import listing

SEVERITIES = ("problem", "caution", "note")
"""What stops a harmonization or makes it meaningless; what can mislead; what is worth knowing."""

KEYS: dict[str, tuple[str, ...]] = {
    "sites": ("site",),
    "covariates": ("covariate", "level", "site"),
    "overlap": ("covariate", "level", "site"),
    "confounding": ("term",),
    "canonical": ("term", "order"),
    "carriers": ("term", "site"),
    "imbalance": ("term",),
    "missing": ("column", "site"),
    "features": ("feature",),
}
"""The tables of an audit, and the columns that name a row in each."""

SHOWN = 8
"""Names that a sentence lists; it counts the rest."""


@dataclass(frozen=True)
class Finding:
    """A verdict; `where` names the rows of `table` that it rests on, each by all or the first of its key columns.

    `stops` tells whether `ComBat` stops for it.
    """

    severity: str
    check: str
    subject: str
    verdict: str
    table: str
    where: tuple[tuple[object, ...], ...] = ()
    stops: bool = False

    def rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of its table that it rests on; all of them where it names none."""
        if not self.where:
            return table
        chosen = np.zeros(len(table), dtype=bool)
        for length in {len(key) for key in self.where}:
            columns = list(KEYS[self.table][:length])
            wanted = pd.MultiIndex.from_tuples([key for key in self.where if len(key) == length])
            chosen |= pd.MultiIndex.from_frame(table[columns]).isin(wanted)
        return table[chosen]


def row_text(where: tuple[tuple[object, ...], ...]) -> str:
    """Name rows by their keys."""
    return listing((" / ".join(str(part) for part in key if part != "") for key in where), SHOWN)


def named(names: Iterable[object]) -> str:
    """List names for a sentence in quotes, the first of them and the count of the rest."""
    return listing((f"'{name}'" for name in names), SHOWN)


def keys(labels: Iterable[object]) -> tuple[tuple[object, ...], ...]:
    """Make keys of labels, for tables that have one key column or are asked for the first."""
    return tuple((label,) for label in labels)


def joined(parts: Sequence[str]) -> str:
    """List phrases, the first of them and the count of the rest."""
    return listing(parts, SHOWN)


def frame(rows: Sequence[Sequence[object]], columns: Sequence[str]) -> pd.DataFrame:
    """Make a table, with its columns even where it has no rows."""
    return pd.DataFrame(list(rows), columns=list(columns))
