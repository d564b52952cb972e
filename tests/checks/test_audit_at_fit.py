"""What the audit calls a problem is warned once at the fit and stands in the notes; clean tables stay quiet there."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from helpers.planted import FORMULA, KINDS, at, clean, draw, few_at, first, many_sites, where
from helpers.planted_cases import DESIGN, FEATURES, ROWS, Case
from helpers.planted_suspect import SUSPECT
from helpers.reference import needs_reference, read_csv

import pycombat_gam as pcg
from pycombat_gam.errors import DataError


@dataclass(frozen=True)
class Said:
    """What a fit warned, and what its summary notes."""

    warned: list[str]
    notes: list[str]


def fit(table: pd.DataFrame, formula: str, **options: object) -> Said:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = pcg.ComBat(formula, "site", **options).fit(table)  # type: ignore[arg-type]
    text = str(model.summary())
    notes = [line.removeprefix("  - ") for line in text.split("Notes")[1].splitlines() if line.startswith("  - ")]
    return Said([str(item.message) for item in caught], notes)


def problems(table: pd.DataFrame, formula: str, **options: object) -> list[str]:
    found = pcg.audit(table, formula, "site", **options).findings  # type: ignore[arg-type]
    return found.loc[found["severity"] == "problem", "verdict"].tolist()


PLANTED = [*DESIGN, *ROWS, *FEATURES, *SUSPECT]
STOPPED = {
    "confounded diagnosis", "confounded level", "field strength", "constant covariate", "collinear covariates",
    "collinear with sites", "scanners nested in sites", "too large", "one level", "too many knots", "text among ages",
    "saturated", "one site", "missing age", "infinite age", "missing sites", "duplicate ids", "random effect of rows",
    "no value at a site", "no value at all", "infinite cell",
}  # fmt: skip
"""Cases that no fit survives."""


def stops(verdict: str) -> bool:
    return "ComBat stops" in verdict or "nothing to harmonize" in verdict


def test_every_case_that_stops_is_planted() -> None:
    assert {case.name for case in PLANTED} >= STOPPED


@pytest.mark.parametrize("case", [c for c in PLANTED if c.name in STOPPED], ids=lambda case: case.name)
def test_a_fit_stops_where_the_audit_says_so(case: Case) -> None:
    table, options = case.plant(clean()), {"id": case.id, "features": case.features}
    assert any(map(stops, problems(table, case.formula, **options)))
    with pytest.raises(DataError):
        fit(table, case.formula, **options)


@pytest.mark.parametrize("case", [c for c in PLANTED if c.name not in STOPPED], ids=lambda case: case.name)
def test_a_fit_says_what_the_audit_calls_a_problem(case: Case) -> None:
    """All of it, word by word, in one warning; a site of one row is noted in the fit's own words."""
    table, options = case.plant(clean()), {"id": case.id, "features": case.features}
    expected = problems(table, case.formula, **options)
    assert not any(map(stops, expected))
    if any(
        "missing='omit'" in verdict for verdict in pcg.audit(table, case.formula, "site", **options).findings["verdict"]
    ):
        options["missing"] = "omit"
    said = fit(table, case.formula, **options)
    assert len(said.warned) <= 1
    for verdict in expected:
        if case.name == "one subject":
            assert any("batch 'Oslo' has one subject" in note for note in said.notes)
            continue
        assert said.notes.count(verdict) == 1
        assert said.warned[0].count(verdict) == 1


@pytest.mark.parametrize("formula", [FORMULA, "~ s(age) + sex", "~ 1"])
@pytest.mark.parametrize("seed", range(4))
def test_clean_tables_are_quiet(seed: int, formula: str) -> None:
    table = clean(seed) if formula != "~ 1" else clean(seed).drop(columns="age")
    assert fit(table, formula, id="subject") == Said([], [])


@pytest.mark.parametrize("kind", KINDS)
def test_features_of_any_shape_are_quiet(kind: str) -> None:
    assert fit(many_sites(kind, 0), "~ 1") == Said([], [])


def test_small_sites_are_quiet() -> None:
    table = few_at("Lyon", 4)(few_at("Oslo", 9)(clean(5)))
    assert fit(table, FORMULA, id="subject") == Said([], [])


@pytest.mark.parametrize("formula", [FORMULA, "~ s(age) + sex + dx"])
def test_the_packaged_table_is_quiet(formula: str) -> None:
    table = pcg.datasets.load_multisite()
    assert fit(table, formula, id="subject", features="_(thickness|volume)$") == Said([], [])


@needs_reference
@pytest.mark.parametrize("formula", ["~ age + sex + dx", "~ s(age) + sex"])
def test_abide_is_quiet(formula: str) -> None:
    table = read_csv("inputs/abide_dk.csv.gz")
    assert problems(table, formula, id="subject", features="_(thickness|area|volume)$") == []
    assert fit(table, formula, id="subject", features="_(thickness|area|volume)$") == Said([], [])


@pytest.mark.parametrize("mean", [1.5, 4.0, 10.0, 30.0, 300.0])
@pytest.mark.parametrize("n", [24, 160, 1000])
def test_ties_of_counts_are_no_floor(n: int, mean: float) -> None:
    """Poisson counts tie at their smallest value as they do elsewhere."""
    rng = np.random.default_rng(int(mean * n))
    counts = rng.poisson(mean, (n, 40)).astype(float)
    table = pd.DataFrame(counts, columns=[f"g{k}" for k in range(40)]).assign(site=np.resize(list("ABCD"), n))
    flags = pcg.audit(table, batch="site").features["flags"]
    assert not flags.str.contains("floor|ceiling").any()


@pytest.mark.parametrize("value", [0.0, 25.0])
def test_counts_with_a_floor_have_one(value: float) -> None:
    counts = (
        np.maximum(draw().poisson(25, (400, 5)), value)
        if value
        else draw().poisson(25, (400, 5)) * (draw(2).random((400, 5)) < 0.8)
    )
    table = pd.DataFrame(counts.astype(float), columns=list("abcde")).assign(site=np.resize(["x", "y"], 400))
    assert pcg.audit(table, batch="site").features["flags"].str.contains("floor").all()


# Options


def test_the_audit_judges_the_model_that_is_asked_for() -> None:
    """One usable feature stops empirical Bayes, and nothing else."""
    table = clean().drop(columns=[f"f{k}" for k in range(1, 8)])
    assert "1 usable feature" in problems(table, FORMULA, id="subject")[0]
    assert problems(table, FORMULA, id="subject", eb=False) == []
    assert "1 usable feature" in problems(table, FORMULA, id="subject", prior="nonparametric")[0]


def test_a_scale_that_is_not_adjusted_is_no_problem() -> None:
    table = few_at("Oslo", 1)(clean())
    assert "no scale can be estimated" in problems(table, FORMULA, id="subject")[0]
    audit = pcg.audit(table, FORMULA, "site", id="subject", mean_only=True)
    assert audit.worst == "caution"
    assert "scale" not in " ".join(audit.findings["verdict"])


def test_a_reference_of_one_row_stops() -> None:
    table = few_at("Oslo", 1)(clean())
    assert "reference batch 'Oslo' has one subject" in problems(table, FORMULA, id="subject", ref_batch="Oslo")[-1]
    assert not any("reference" in verdict for verdict in problems(table, FORMULA, id="subject", ref_batch="Lyon"))
    with pytest.raises(pcg.errors.OptionError, match="ref_batch 'Osl'"):
        pcg.audit(table, FORMULA, "site", id="subject", ref_batch="Osl")


def test_missing_cells_that_are_omitted() -> None:
    table = where("f3", np.nan, first(7))(clean())
    verdict = pcg.audit(table, FORMULA, "site", id="subject", missing="omit").findings["verdict"][0]
    assert "needs missing" not in verdict
    assert "each feature was fitted on its observed cells" in verdict


def test_the_rows_that_estimate_are_those_looked_at() -> None:
    """Of controls alone, no diagnosis can be estimated; a code among the others is theirs."""
    table = where("age", -999.0, lambda t: t.index[t["dx"] == "AD"][:2])(clean())
    controls = (table["dx"] == "HC").to_numpy()
    assert "'dx' has one level" in problems(table, FORMULA, id="subject", fit_mask=controls)[0]
    assert problems(table, "~ age", id="subject", fit_mask=controls) == []
    assert "-999" in problems(table, "~ age", id="subject")[0]
    model = pcg.ComBat("~ age", "site", id="subject").fit(table, fit_mask=controls)
    assert not model.summary().notes
    lost = at("Oslo")(table).to_numpy()  # type: ignore[attr-defined]
    assert "leaves no row of batch Oslo" in problems(table, "~ age", id="subject", fit_mask=~lost)[-1]


@pytest.mark.parametrize("option", [{"smoothing": "ML"}, {"on_unseen": "estimate"}])
def test_options_of_which_no_verdict_depends(option: dict[str, str]) -> None:
    audit = pcg.audit(clean(), "~ s(age) + sex", "site", id="subject", **option)  # type: ignore[arg-type]
    assert audit.worst in ("none", "note")
    with pytest.raises(pcg.errors.OptionError):
        pcg.audit(clean(), FORMULA, "site", **dict.fromkeys(option, "other"))  # type: ignore[arg-type]
