"""A small multi-site study and the ways to spoil it, for tests of input and output."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

SITES = {"Lyon": 8, "Oslo": 7, "Turin": 6}
FEATURES = ["thick", "area", "vol", "depth"]


def study(seed: int = 0) -> pd.DataFrame:
    """21 subjects at 3 sites: subject, site, age, sex, dx and four features."""
    rng = np.random.default_rng(seed)
    site = np.repeat(list(SITES), list(SITES.values()))
    n = site.size
    table = pd.DataFrame(
        {
            "subject": [f"s{i:02d}" for i in range(n)],
            "site": site,
            "age": np.round(rng.uniform(20, 80, n), 1),
            "sex": np.resize(["F", "M"], n),
            "dx": np.resize(["HC", "HC", "MCI", "AD"], n),
        }
    )
    shift = table["site"].map({"Lyon": 0.0, "Oslo": 1.0, "Turin": -1.0}).to_numpy()
    for k, name in enumerate(FEATURES):
        table[name] = 5 + k + 0.02 * table["age"] + shift * (1 + k) + rng.normal(size=n) * (1 + 0.3 * k)
    return table


def put(column: str, value: object, row: int = 3) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Change one cell."""

    def change(table: pd.DataFrame) -> pd.DataFrame:
        if not isinstance(value, float):
            table[column] = table[column].astype(object)
        table.loc[row, column] = value
        return table

    return change


def assign(**columns: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Replace or add whole columns."""
    return lambda table: table.assign(**columns)


def same(table: pd.DataFrame) -> pd.DataFrame:
    return table


def in_site(table: pd.DataFrame, column: str, site: str, value: object) -> pd.DataFrame:
    table.loc[table["site"] == site, column] = value
    return table


def only(table: pd.DataFrame, *sites: str) -> pd.DataFrame:
    return table[table["site"].isin(sites)]
