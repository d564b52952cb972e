"""A clean multi-site table, and the same with one trouble or several planted in it, for the tests of the audit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

SITES = ("Ghent", "Lyon", "Oslo", "Turin")
PER_SITE = 40
FORMULA = "~ age + sex + dx"
Plant = Callable[[pd.DataFrame], pd.DataFrame]


def clean(seed: int = 0) -> pd.DataFrame:
    """160 subjects at 4 sites, covariates balanced but for chance, 8 normal features with site effects."""
    rng = np.random.default_rng(seed)
    site = np.repeat(SITES, PER_SITE)
    n = site.size
    table = pd.DataFrame(
        {
            "subject": [f"s{i:03d}" for i in range(n)],
            "site": site,
            "age": rng.uniform(20, 80, n).round(1),
            "sex": rng.choice(["F", "M"], n),
            "dx": rng.choice(["HC", "MCI", "AD"], n, p=[0.5, 0.3, 0.2]),
        }
    )
    shift = rng.normal(size=(len(SITES), 8))
    for k in range(8):
        table[f"f{k}"] = 5 + k + 0.02 * table["age"] + rng.normal(size=n) + np.repeat(shift[:, k], PER_SITE)
    return table


KINDS = (*("normal", "lognormal 0.2", "lognormal 0.4", "lognormal 0.6", "gamma 1", "gamma 2", "gamma 9", "t"),)


def many_sites(kind: str, seed: int) -> pd.DataFrame:
    """200 features of a kind at 20 sites of unequal size, which differ in location and scale."""
    rng = np.random.default_rng(seed)
    site = np.repeat(np.arange(20), np.maximum(9, rng.lognormal(3.6, 0.7, 20)).astype(int))
    size = (site.size, 200)
    name, _, shape = kind.partition(" ")
    draws: dict[str, Callable[[], np.ndarray]] = {
        "normal": lambda: rng.normal(size=size),
        "t": lambda: rng.standard_t(10, size=size),
        "lognormal": lambda: rng.lognormal(0, float(shape), size),
        "gamma": lambda: rng.gamma(float(shape), size=size),
    }
    Y, scale, shift = draws[name](), np.exp(0.1 * rng.normal(size=(20, 200))), rng.normal(size=(20, 200))
    Y = Y * scale[site] if Y.min() > 0 else 10 + Y * scale[site] + 0.5 * shift[site]
    table = pd.DataFrame(Y, columns=[f"f{k}" for k in range(200)])
    return table.assign(site=[f"s{k}" for k in site])


def draw(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def where(column: str, value: object, rows: Callable[[pd.DataFrame], object]) -> Plant:
    """Set the cells of a column in some rows."""

    def plant(table: pd.DataFrame) -> pd.DataFrame:
        if not isinstance(value, float):
            table[column] = table[column].astype(object)
        table.loc[rows(table), column] = value
        return table

    return plant


def at(site: str) -> Callable[[pd.DataFrame], object]:
    return lambda table: table["site"] == site


def first(k: int) -> Callable[[pd.DataFrame], object]:
    return lambda table: table.index[:k]


def columns(**made: object) -> Plant:
    return lambda table: table.assign(**made)


def few_at(site: str, k: int) -> Plant:
    return lambda table: table.drop(table.index[table["site"] == site][k:])


def both(*plants: Plant) -> Plant:
    def plant(table: pd.DataFrame) -> pd.DataFrame:
        for one in plants:
            table = one(table)
        return table

    return plant


def patients_elsewhere(keep: int) -> Plant:
    """Leave AD at Lyon, and with the first `keep` of the others who have it."""

    def plant(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[(table["site"] == "Lyon") & (table.index % 2 == 0), "dx"] = "AD"
        others = table.index[(table["dx"] == "AD") & (table["site"] != "Lyon")]
        table.loc[others[keep:], "dx"] = "HC"
        return table

    return plant
