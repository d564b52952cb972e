"""Whose rows they are: people are told from vendors, countries, scanners, sexes, visits and scan numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.planted import clean

import pycombat_gam as pcg
from pycombat_gam.checks.subjects import subject_of, unit_groupings
from pycombat_gam.formula import parse_formula

VENDOR = {"Ghent": "x", "Lyon": "x", "Oslo": "y", "Turin": "z"}


def visits(people_a_site: int, each: int, *, travel: bool = False, seed: int = 0) -> pd.DataFrame:
    """4 sites; people at one site, or all of them at every site; and what groups the rows otherwise."""
    rng = np.random.default_rng(seed)
    rows = [
        (site, f"p{k}" if travel else f"{site}{k}", visit)
        for site in VENDOR
        for k in range(people_a_site)
        for visit in range(each)
    ]
    table = pd.DataFrame(rows, columns=["site", "who", "visit"])
    n = len(table)
    return table.assign(
        scan=np.arange(n),
        vendor=table["site"].map(VENDOR),
        country=table["site"].map({"Ghent": "B", "Lyon": "F", "Oslo": "N", "Turin": "I"}),
        scanner=table["site"] + rng.choice(["a", "b"], n),
        sex=rng.choice(["F", "M"], n),
        dx=rng.choice(["HC", "MCI", "AD"], n),
        age=rng.uniform(20, 80, n),
    )


def subject(table: pd.DataFrame, formula: str, ids: list[str]) -> tuple[str, bool] | None:
    who = subject_of(parse_formula(formula), table, pd.factorize(table["site"])[0], ids)
    return None if who is None else (who.name, who.random)


@pytest.mark.parametrize("effect", ["vendor", "country", "scanner", "sex", "dx", "visit"])
@pytest.mark.parametrize("shape", [(20, 2), (8, 3), (30, 5)], ids=str)
def test_groups_of_many_rows_are_nobody(effect: str, shape: tuple[int, int]) -> None:
    table = visits(*shape)
    formula = parse_formula(f"~ age + (1 | {effect})")
    assert subject(table, str(formula), []) is None
    assert subject(table, str(formula), ["scan"]) == ("scan", False)
    assert subject(table, str(formula), ["who", "visit"]) == ("who", False)
    assert unit_groupings(formula, table, pd.factorize(table["site"])[0], ["scan"]) == []


@pytest.mark.parametrize("shape", [(40, 1), (20, 2), (8, 3), (30, 5), (60, 6), (3, 2)], ids=str)
@pytest.mark.parametrize("travel", [False, True], ids=["at one site", "traveling"])
def test_people_by_their_numbers_alone(shape: tuple[int, int], travel: bool) -> None:
    table = visits(*shape, travel=travel)
    for formula in (
        "~ age + (1 | who)",
        "~ (age || who)",
        "~ s(who, bs = 're')",
        "~ s(age, who, bs = 'fs')",
        "~ (1 | vendor) + (1 | who)",
        "~ (1 | who) + (1 | sex)",
    ):
        assert subject(table, formula, []) == ("who", True)
        assert subject(table, formula, ["scan"]) == ("who", True)
        units = unit_groupings(parse_formula(formula), table, pd.factorize(table["site"])[0], [])
        assert [group.name for group in units] == ["who"]


def test_the_callers_word_counts_more_than_numbers() -> None:
    """5 people with 20 sessions each at a site: more rows than people."""
    table = visits(5, 20)
    assert subject(table, "~ age + (1 | who)", []) is None
    assert subject(table, "~ age + (1 | who)", ["who", "visit"]) == ("who", True)


def test_ids_without_a_random_effect() -> None:
    table = visits(20, 2)
    assert subject(table, "~ age", ["who", "visit"]) == ("who", False)
    assert subject(table, "~ age", ["visit", "who"]) == ("who", False)
    assert subject(table, "~ age", ["who", "scan"]) == ("who", False)
    assert subject(table, "~ age", ["scan"]) == ("scan", False)
    assert subject(table, "~ age", []) is None


def test_a_visit_that_all_have_is_nobody() -> None:
    """One visit each so far: the visits repeat, the people don't."""
    assert subject(visits(40, 1), "~ age", ["who", "visit"]) == ("who", False)


def test_people_numbered_anew_in_each_family() -> None:
    table = visits(20, 2)
    number = table["who"].str.extract(r"(\d+)$")[0].astype(int)
    table = table.assign(family=table["site"] + (number // 2).astype(str), member=number % 2)
    assert subject(table, "~ age + (1 | family/member)", []) == ("family:member", True)
    units = unit_groupings(parse_formula("~ (1 | family/member)"), table, pd.factorize(table["site"])[0], [])
    assert [group.name for group in units] == ["family", "family:member"]


@pytest.mark.parametrize("missing", [["who"], ["site"], ["who", "site"]], ids="+".join)
def test_missing_cells_are_nobody(missing: list[str]) -> None:
    table = visits(20, 2)
    table.loc[:5, missing] = None
    who = subject_of(parse_formula("~ (1 | who)"), table, pd.factorize(table["site"])[0], [])
    assert who is not None and who.name == "who"
    assert (who.codes < 0).sum() == (6 if "who" in missing else 0)


@pytest.mark.parametrize("effect", ["vendor", "country", "scanner", "sex", "dx"])
@pytest.mark.parametrize("ids", ["subject", None])
def test_the_audit_counts_people_not_vendors(effect: str, ids: str | None) -> None:
    table = clean()
    more = visits(40, 1)
    table = table.assign(**{name: more[name] for name in ("vendor", "country", "scanner")})
    sites = pcg.audit(table, f"~ age + (1 | {effect})", batch="site", id=ids, features="^f").sites
    assert (sites["subjects"] == 40).all()
