"""The audit names what is planted, with the numbers of the row it rests on, and is quiet where nothing is."""

from __future__ import annotations

import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from helpers.planted import FORMULA, KINDS, at, both, clean, few_at, first, many_sites, where
from helpers.planted_cases import DESIGN, FEATURES, ROWS, Case
from helpers.planted_fits import FITS
from helpers.planted_suspect import SUSPECT
from helpers.reference import needs_reference, read_csv

import pycombat_gam as pcg
from pycombat_gam.audit import Audit
from pycombat_gam.audit.legend import COLUMNS_EXPLAINED
from pycombat_gam.checks.finding import KEYS
from pycombat_gam.errors import DataError, FormulaError, OptionError, PcgWarning

CASES = [*DESIGN, *ROWS, *FEATURES, *SUSPECT, *FITS]


def found(audit: Audit, check: str, subject: str) -> int:
    """Position of the one finding of a check about a subject."""
    chosen = audit.findings[(audit.findings["check"] == check) & (audit.findings["subject"] == subject)]
    assert len(chosen) == 1, str(audit)
    return int(chosen.index[0])


def filled(text: str, row: pd.Series) -> str:
    """Put the row's numbers into a pattern: {column}, {column:.3g}, {percent:column}."""
    text = re.sub(r"{percent:(\w+)}", lambda m: f"{100 * row[m[1]]:.3g} %", text)
    return text.format(**row.to_dict())


def serious(audit: Audit) -> list[str]:
    return audit.findings.loc[audit.findings["severity"] != "note", "verdict"].tolist()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_planted_is_named(case: Case) -> None:
    audit = pcg.audit(case.plant(clean()), case.formula, batch="site", id=case.id, features=case.features)
    at_row = found(audit, case.check, case.subject)
    finding, basis = audit.findings.iloc[at_row], audit.basis(at_row)
    assert finding["severity"] == case.severity
    assert len(basis)
    for part in case.says:
        assert filled(part, basis.iloc[0]) in finding["verdict"]
    for column, value in case.numbers.items():
        # Numbers that the case plants: rounding only.
        assert basis.iloc[0][column] == (pytest.approx(value, abs=1e-12) if isinstance(value, float) else value)
    if case.alone:
        others = serious(audit)
        assert others == ([finding["verdict"]] if case.severity != "note" else []), str(audit)
    json.dumps(audit.to_dict(), allow_nan=False)
    assert "\n" not in finding["verdict"]
    assert finding["verdict"][:60] in str(audit).replace("\n    ", " ")


def test_every_check_has_a_planted_case() -> None:
    assert {case.check for case in CASES} == {
        *("site size", "site labels", "ids", "subjects", "missing", "missing codes", "design", "confounding", "levels"),
        *("overlap", "imbalance", "constant", "negative values", "bounded", "tails", "duplicates", "fit"),
        *("impossible values", "units", "copies", "derived", "prior"),
    }


@pytest.mark.parametrize("seed", range(12))
def test_a_clean_table_gives_no_alarm(seed: int) -> None:
    audit = pcg.audit(clean(seed), FORMULA, batch="site", id="subject")
    assert serious(audit) == []
    assert audit.worst in ("none", "note")


@pytest.mark.parametrize("seed", range(6))
def test_a_simulated_study_with_covariates_dealt_at_random_gives_no_alarm(seed: int) -> None:
    table = pcg.datasets.simulate_multisite(sites=6, subjects=[50] * 6, features=60, seed=seed).table
    rows = np.random.default_rng(seed).permutation(len(table))
    table[["age", "sex", "dx"]] = table[["age", "sex", "dx"]].to_numpy()[rows]
    table["age"] = table["age"].astype(float)
    audit = pcg.audit(table, "~ s(age) + sex + dx", batch="site", id="subject")
    assert serious(audit) == []


@pytest.mark.parametrize("missing", ["cells", "at the site but one"])
def test_missing_cells_are_a_caution_for_they_can_be_omitted(missing: str) -> None:
    rows = first(7) if missing == "cells" else lambda t: t.index[t["site"] == "Oslo"][1:]
    table = where("f3", np.nan, rows)(clean())
    with pytest.raises(DataError, match="missing='omit'"):
        pcg.ComBat(FORMULA, "site", id="subject").fit(table)
    audit = pcg.audit(table, FORMULA, batch="site", id="subject")
    assert audit.worst == "caution"
    assert "needs missing='omit'" in audit.findings["verdict"].iloc[0]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", KINDS)
def test_skewed_and_heavy_tailed_features_are_no_alarm(kind: str, seed: int) -> None:
    audit = pcg.audit(many_sites(kind, seed), batch="site")
    assert not (audit.findings["check"] == "tails").any(), str(audit)


@pytest.mark.parametrize(
    ("name", "spread", "value", "check"),
    [
        ("f3", 0.2, lambda x: 10 * x, "tails"),
        ("f3", 0.06, lambda x: x / 10, "tails"),
        ("f3", 0.2, lambda x: 100 * x, "tails"),
        ("f3_volume", 0.4, lambda x: -x, "negative values"),
        ("f3", 0.4, lambda x: 0.0, "negative values"),
        ("f3_volume", 0.4, lambda x: 0.0, "negative values"),
    ],
    ids=["ten times", "a tenth", "hundred times", "negative volume", "zero", "zero volume"],
)
@pytest.mark.parametrize("seed", range(2))
def test_wrong_values_among_skewed_ones(name: str, spread: float, value: object, check: str, seed: int) -> None:
    table = many_sites("lognormal 0.4", seed)
    table = table.rename(columns={"f3": name})
    table[name] **= spread / 0.4
    middle = (table[name] - table[name].median()).abs().idxmin()
    table.loc[middle, name] = value(table.loc[middle, name])
    audit = pcg.audit(table, batch="site")
    assert audit.basis(found(audit, check, name))["feature"].tolist() == [name]


def test_every_column_is_explained() -> None:
    table = where("f3", np.nan, at("Oslo"))(clean())
    audit = pcg.audit(table, FORMULA, batch="site", id="subject")
    assert set(audit.legend) == set(audit.tables)
    for name, one in audit.tables.items():
        assert list(audit.legend[name]) == list(one.columns)
        assert set(COLUMNS_EXPLAINED[name]) == set(one.columns)
        assert all(text and not text.endswith(".") for text in audit.legend[name].values())


def test_a_level_is_said_with_its_condition() -> None:
    audit = pcg.audit(pcg.datasets.load_multisite(), FORMULA, batch="site", id="subject")
    verdict = audit.findings.loc[found(audit, "imbalance", "age"), "verdict"]
    level = f"{100 * audit.imbalance['naive_level'].iloc[0]:.3g} %"
    assert f"its level is {level} instead of 5 % where site effects are removed in full" in verdict


def test_the_packaged_table() -> None:
    """Its sites differ in age by design, and one has 18 subjects; nothing else is the matter."""
    audit = pcg.audit(
        pcg.datasets.load_multisite(), FORMULA, batch="site", id="subject", features="_(thickness|volume)$"
    )
    assert audit.findings[["severity", "check", "subject"]].to_numpy().tolist() == [
        ["caution", "imbalance", "age"],
        ["note", "site size", "Cork"],
    ]


@pytest.mark.parametrize(
    ("options", "advised"),
    [
        ({}, True),
        ({"prior": "nonparametric"}, True),
        ({"prior": "bayes"}, False),
        ({"eb": False}, False),
        ({"mean_only": True}, False),
        ({"ref_batch": "Oslo"}, False),
        ({"features": ["f0", "f1", "f2"]}, False),
    ],
    ids=str,
)
def test_posterior_means_are_advised_where_they_pay(options: dict[str, object], advised: bool) -> None:
    for rows, pays in ((7, advised), (10, False)):
        audit = pcg.audit(few_at("Oslo", rows)(clean()), FORMULA, batch="site", id="subject", **options)
        advice = audit.findings[audit.findings["check"] == "prior"]
        assert len(advice) == pays
        if pays:
            row = advice.iloc[0]
            assert row[["severity", "subject", "table"]].to_list() == ["note", "Oslo", "sites"]
            assert "'Oslo' (7)" in row["verdict"]
            assert "prior='bayes' gives posterior means" in row["verdict"]


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (
            both(where("sex", "M", at("Oslo")), few_at("Lyon", 3), where("f3", 1.0, at("Turin"))),
            {("levels", "sex"), ("site size", "Lyon"), ("constant", "f3")},
        ),
        (
            both(
                lambda t: t.assign(dx=np.where(t["site"] == "Lyon", "patient", "control"), f0=1.0),
                lambda t: t.assign(age=t["age"] + 100.0 * (t["site"] == "Oslo")),
            ),
            {("confounding", "dx"), ("overlap", "age"), ("constant", "f0")},
        ),
        (
            both(where("age", np.nan, lambda t: t.index[:4]), few_at("Oslo", 1), lambda t: t.assign(g=t["f1"])),
            {("missing", "age"), ("site size", "Oslo"), ("duplicates", "g")},
        ),
    ],
    ids=["women, small, constant", "confounded, apart, constant", "missing, alone, duplicate"],
)
def test_several_troubles_are_all_named(plant: object, expected: set[tuple[str, str]]) -> None:
    audit = pcg.audit(plant(clean()), FORMULA, batch="site", id="subject")
    assert expected <= set(audit.findings[["check", "subject"]].itertuples(index=False, name=None))


def test_many_sites_with_one_trouble_share_a_finding() -> None:
    table = clean()
    table["site"] = table["site"] + (np.arange(160) // 20).astype(str)
    table.loc[table["site"].isin(["Ghent0", "Lyon2", "Oslo4"]), "sex"] = "M"
    audit = pcg.audit(table, FORMULA, batch="site", id="subject")
    basis = audit.basis(found(audit, "levels", "sex"))
    assert basis["site"].tolist() == ["Ghent0", "Lyon2", "Oslo4"]


def test_keys_name_one_row_each() -> None:
    audit = pcg.audit(where("f3", np.nan, at("Oslo"))(clean()), "~ s(age) + sex*dx", batch="site", id="subject")
    assert set(audit.tables) == set(KEYS)
    for name, table in audit.tables.items():
        assert len(table), name
        assert not table.duplicated(list(KEYS[name])).any(), name


def test_features_beside_covariates_give_the_same_audit() -> None:
    table = where("f3", np.nan, at("Oslo"))(clean())
    names = [f"f{k}" for k in range(8)]
    wide = pcg.audit(table, FORMULA, batch="site", id="subject", features=names)
    beside = pcg.audit(table[names], FORMULA, batch="site", id="subject", covariates=table.drop(columns=names))
    array = pcg.audit(table[names].to_numpy(), FORMULA, batch="site", id="subject", covariates=table, features=names)
    for other in (beside, array):
        pd.testing.assert_frame_equal(other.findings, wide.findings)
        for name, one in wide.tables.items():
            pd.testing.assert_frame_equal(other.tables[name], one)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ({"batch": "centre"}, DataError, "centre"),
        ({"formula": "~ agee"}, DataError, "did you mean 'age'"),
        ({"formula": "age + sex"}, FormulaError, "no '~'"),
        ({"formula": "~ age + site"}, OptionError, "in the formula"),
        ({"id": "person"}, DataError, "person"),
        ({"features": "^nothing$"}, OptionError, "matches no column"),
        ({"features": ["f1", "sex"]}, OptionError, "cannot be a feature"),
    ],
    ids=["batch", "variable", "formula", "batch in formula", "id", "pattern", "covariate as feature"],
)
def test_calls_that_cannot_be_read_are_errors(call: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        pcg.audit(clean(), **{"formula": FORMULA, "batch": "site", **call})


def test_what_combat_stops_for_is_a_problem() -> None:
    """The tables that a fit refuses are those that the audit calls a problem."""
    for case in [*DESIGN, *SUSPECT, *FITS]:
        table = case.plant(clean())
        refused = False
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PcgWarning)  # of problems that stop nothing
                pcg.ComBat(case.formula, "site", id=case.id, features=case.features).fit(table)
        except DataError:
            refused = True
        checks = pcg.audit(table, case.formula, batch="site", id=case.id, features=case.features).findings
        stops = checks.loc[checks["severity"] == "problem", "verdict"].str.contains("ComBat stops").any()
        assert stops == refused, case.name


@needs_reference
def test_abide() -> None:
    """1,035 people at 20 sites (ABIDE, FreeSurfer): what a statistician would find in it."""
    table = read_csv("inputs/abide_dk.csv.gz")
    audit = pcg.audit(table, "~ s(age) + sex + dx", batch="site", id="subject")
    assert audit.findings[["severity", "check"]].to_numpy().tolist() == [
        ["caution", "levels"],
        ["caution", "imbalance"],
        ["caution", "negative values"],
        ["caution", "tails"],
    ]
    men_only = table.groupby("site")["sex"].agg(lambda sex: (sex == "F").sum() == 0)
    assert audit.basis(0)["site"].tolist() == sorted(men_only.index[men_only])
    cells = table.drop(columns=["subject", "site", "age", "sex", "dx"])
    zero = (cells == 0).sum()
    basis = audit.basis(2)
    assert set(basis["feature"]) == set(zero.index[zero > 0])
    assert basis["zeros"].tolist() == zero[basis["feature"]].tolist()
