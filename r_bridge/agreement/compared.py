"""What was compared, as the report and the folder need it: labels, the table, settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from pycombat_gam.types import FloatArray


@dataclass(frozen=True, eq=False)
class Column:
    """A column of `data.csv`: its role and name, what R calls it, and its cells."""

    role: str
    name: str
    in_r: str
    cells: pd.Series


@dataclass(frozen=True, eq=False)
class Compared:
    """A study as the report and the folder need it: n rows, B sites, V columns of every quantity.

    Attributes
    ----------
    size : in words; task : what R does again, in words.
    features : (V,) labels of the columns of every quantity.
    batch : (n,) site of each row; terms : labels of rows that are tests or measures.
    columns : of the table; settings : names and values, in R's names, several of a name in order.
    numbers : further files of numbers, by name, each with V columns.
    """

    size: str
    task: str
    features: tuple[str, ...]
    batch: pd.Categorical
    terms: tuple[str, ...]
    columns: tuple[Column, ...]
    settings: tuple[tuple[str, str], ...]
    numbers: Mapping[str, FloatArray] = field(default_factory=dict)

    def labels(self, rows: str) -> pd.Categorical | list[str] | None:
        """Return what a quantity's rows are called, as `agreement.R` calls them; None for rows without a name."""
        if rows == "subjects":
            return self.batch
        if rows == "sites":
            return [str(label) for label in self.batch.categories]
        return list(self.terms) if rows in ("tests", "measures") else None


def spelled(value: float) -> str:
    """Write a number so that R reads it back to the last bit.

    >>> spelled(0.1), spelled(float("-inf"))
    ('0.10000000000000001', '-Inf')
    """
    text = format(value, ".17g")
    return {"nan": "NaN", "inf": "Inf", "-inf": "-Inf"}.get(text, text)
