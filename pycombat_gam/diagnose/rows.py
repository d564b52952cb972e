"""The layout of a diagnosis: a row per test or estimate, with what it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

TEXT = ("aspect", "measure", "state", "feature", "site", "covariate")
SITES = ("location", "scale", "covariance", "distribution", "site prediction")
"""Aspects that ask whether sites differ."""
NUMBERS = ("value", "lower", "upper", "chance", "statistic", "df", "df_residual", "p", "p_adjusted", "n")


def rows(**columns: Any) -> dict[str, np.ndarray]:
    """Broadcast columns and single values to one length; absent columns are empty."""
    size = max(np.size(value) for value in columns.values())
    filled = {}
    for name in TEXT:
        filled[name] = np.broadcast_to(np.asarray(columns.pop(name, ""), dtype=object), (size,))
    for name in NUMBERS:
        filled[name] = np.broadcast_to(np.asarray(columns.pop(name, np.nan), dtype=np.float64), (size,))
    if columns:
        raise TypeError(f"no such columns: {list(columns)}")
    return filled


def tidy(parts: Sequence[Mapping[str, np.ndarray]], features: Sequence[str]) -> pd.DataFrame:
    """Stack parts made by `rows`, with the features in their order whatever cells were missing."""
    names = (*TEXT, *NUMBERS)
    if not parts:
        return pd.DataFrame({name: np.zeros(0, dtype=object if name in TEXT else np.float64) for name in names})
    table = pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in names})
    test = table.groupby(["aspect", "measure", "state", "covariate"], sort=False).ngroup()
    place = table["feature"].map({name: at for at, name in enumerate(features)}).fillna(-1)
    return table.iloc[np.lexsort([place, test])].reset_index(drop=True)


def false_discovery(table: pd.DataFrame) -> pd.DataFrame:
    """Adjust p-values for the number of features, or sites, in each test (Benjamini & Hochberg 1995)."""
    from statsmodels.stats.multitest import multipletests

    adjusted = table["p_adjusted"].to_numpy(copy=True)
    family = ["aspect", "measure", "state", "covariate"]
    many = (table["feature"] != "") | (table["site"] != "")
    for _, at in table[many & table["p"].notna()].groupby(family, sort=False).indices.items():
        where = np.flatnonzero((many & table["p"].notna()).to_numpy())[at]
        adjusted[where] = multipletests(table["p"].to_numpy()[where], method="fdr_bh")[1]
    return table.assign(p_adjusted=adjusted)


def overall(table: pd.DataFrame) -> pd.DataFrame:
    """Reduce each test of sites to one p-value, and adjust for the number of tests in a state (Holm 1979).

    For tests of each feature it is Simes' (1986): the smallest p-value adjusted for the false discovery rate.
    """
    from statsmodels.stats.multitest import multipletests

    some = table[table["aspect"].isin(SITES) & (table["site"] == "")]
    p = some["p_adjusted"].where(some["feature"] != "", some["p"])
    keys = [some[name] for name in ("state", "aspect", "measure")]
    tests = p.groupby(keys, sort=False).min().dropna().rename("p").reset_index()
    adjusted = tests.groupby("state", sort=False)["p"].transform(lambda p: multipletests(p, method="holm")[1])
    return tests.assign(p_adjusted=adjusted)
