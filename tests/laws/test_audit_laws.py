"""What an audit may not depend on: the order of rows and columns, how sites and levels are spelled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from helpers.planted import FORMULA, at, both, clean, few_at, where

import pycombat_gam as pcg
from pycombat_gam.audit import Audit

CASES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "clean": lambda t: t,
    "troubled": both(
        where("sex", "M", at("Oslo")),
        where("f3", np.nan, lambda t: t.index % 7 == 0),
        lambda t: t.assign(age=t["age"] + 15.0 * (t["site"] == "Turin"), g=t["f1"], a=t["f1"], c=1.0),
        few_at("Lyon", 5),
        where("f2", -999.0, lambda t: t.index[:2]),
    ),
    "confounded": lambda t: t.assign(dx=np.where(t["site"] == "Lyon", "patient", "control")),
}
FORMULAS = [FORMULA, "~ s(age) + sex:dx"]


def look(table: pd.DataFrame, formula: str) -> Audit:
    return pcg.audit(table, formula, batch="site", id="subject")


def same(one: Audit, other: Audit, *, order: bool = True) -> None:
    """Compare all tables to 1e-10, and the findings word by word."""
    pd.testing.assert_frame_equal(one.findings, other.findings)
    for name, table in one.tables.items():
        theirs = other.tables[name]
        if not order:
            keys = [column for column in table.columns if table[column].dtype.kind not in "fc"]
            table = table.sort_values(keys, ignore_index=True)
            theirs = theirs.sort_values(keys, ignore_index=True)
        # Relative to numbers of size one: sums in another order round differently.
        pd.testing.assert_frame_equal(table, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("case", CASES)
def test_rows_in_any_order(case: str, formula: str) -> None:
    table = CASES[case](clean())
    shuffled = table.sample(frac=1, random_state=3)
    same(look(table, formula), look(shuffled, formula))


@pytest.mark.parametrize("case", CASES)
def test_columns_in_any_order(case: str) -> None:
    table = CASES[case](clean())
    shuffled = table.sample(frac=1, axis=1, random_state=3)
    same(look(table, FORMULA), look(shuffled, FORMULA), order=False)


@pytest.mark.parametrize("case", CASES)
def test_sites_of_another_name(case: str) -> None:
    """Names in the same order: the same words, but for the names."""
    table = CASES[case](clean())
    names = {"Ghent": "alpha", "Lyon": "beta", "Oslo": "gamma", "Turin": "omega"}
    plain = look(table, FORMULA)
    other = look(table.assign(site=table["site"].map(names)), FORMULA)
    for column in ("verdict", "row", "subject"):
        assert plain.findings[column].replace(names, regex=True).tolist() == other.findings[column].tolist()


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("case", CASES)
def test_sites_and_levels_in_another_order(case: str, formula: str) -> None:
    """Other reference levels, other order of sites: the same numbers and the same findings."""
    table = CASES[case](clean())
    sites = {"Ghent": "z", "Lyon": "y", "Oslo": "x", "Turin": "w"}
    levels = {"F": "2", "M": "1", "HC": "c", "MCI": "b", "AD": "a", "control": "b", "patient": "a"}
    renamed = table.assign(site=table["site"].map(sites), sex=table["sex"].map(levels), dx=table["dx"].map(levels))
    plain, other = look(table, formula), look(renamed, formula)
    kinds = ["severity", "check", "table"]
    assert plain.findings[kinds].to_numpy().tolist() == other.findings[kinds].to_numpy().tolist()
    numbers = ["r2", "correlation", "gvif", "gvif_df", "worst"]
    pd.testing.assert_frame_equal(plain.confounding[numbers], other.confounding[numbers], rtol=1e-8)
    numbers = ["r2", "within_share", "naive_level"]
    # Levels come out of an inversion integral.
    pd.testing.assert_frame_equal(plain.imbalance[numbers], other.imbalance[numbers], rtol=1e-8)
    mine = plain.overlap.assign(site=plain.overlap["site"].map(sites), level=plain.overlap["level"].replace(levels))
    keys = ["covariate", "level", "site"]
    pd.testing.assert_series_equal(
        mine.set_index(keys)["difference"].sort_index(),
        other.overlap.set_index(keys)["difference"].sort_index(),
        # Units change every product: rounding.
        rtol=1e-10,
    )


@pytest.mark.parametrize("kind", [float, "Int64", object, "category"], ids=str)
def test_numbered_sites_however_stored(kind: type | str) -> None:
    table = clean()
    codes = table["site"].map({"Ghent": 1, "Lyon": 2, "Oslo": 3, "Turin": 10})
    same(look(table.assign(site=codes), FORMULA), look(table.assign(site=codes.astype(kind)), FORMULA))


def test_units_change_nothing_but_their_own_columns() -> None:
    table = CASES["troubled"](clean())
    plain, other = look(table, FORMULA), look(table.assign(age=table["age"] * 365.25), FORMULA)
    numbers = ["r2", "correlation", "gvif", "gvif_df", "worst"]
    # Both: sums in another order: rounding.
    pd.testing.assert_frame_equal(plain.confounding[numbers], other.confounding[numbers], rtol=1e-10)
    pd.testing.assert_series_equal(plain.overlap["difference"], other.overlap["difference"], rtol=1e-10)
