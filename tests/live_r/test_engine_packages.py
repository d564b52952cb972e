"""The adapters of neuroCombat, ComBatFamily and longCombat: what they hand to R, and where its numbers end up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import standins

import pycombat_gam as pcg
import r_bridge
from pycombat_gam.combat.estimates import Estimates
from pycombat_gam.formula import parse_formula
from r_bridge.combat import Harmonized
from r_bridge.names import Names

pytestmark = pytest.mark.live_r
OPTIONS: dict[str, Any] = {"batch": "site", "id": "subject", "features": "_thickness$"}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return standins.build(tmp_path_factory.mktemp("r"))


@pytest.fixture
def packages(library: Path) -> Iterator[None]:
    with standins.installed(library):
        yield


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    table = pcg.datasets.load_multisite()
    return table.set_axis([f"row {i}" for i in range(len(table))])


def names(table: pd.DataFrame) -> list[str]:
    return [name for name in table if name.endswith("_thickness")]


def check_table(found: Harmonized, table: pd.DataFrame) -> None:
    """The table as it was, its features (here) one larger."""
    features = names(table)
    others = [name for name in table if name not in features]
    pd.testing.assert_frame_equal(found.table[others], table[others])
    assert list(found.table.columns) == list(table.columns)
    # The stand-in adds one: a unit of the last place.
    np.testing.assert_allclose(found.table[features], table[features] + 1, rtol=1e-15)


def check_estimates(found: Estimates, table: pd.DataFrame, eb: bool = True) -> None:
    """Site effects where the stand-ins put them: sites in order, features in order."""
    sites, features = sorted(table["site"].unique()), names(table)
    steps = np.arange(1, len(sites) * len(features) + 1).reshape(len(features), len(sites)).T / 1000
    starts = {"gamma_hat": 1, "delta_hat": 2, "gamma_star": 3 if eb else 1, "delta_star": 4 if eb else 2}
    for name, start in starts.items():
        expected = pd.DataFrame(start + steps, pd.Index(sites, name="site"), features)
        # A stand-in's constants.
        pd.testing.assert_frame_equal(getattr(found, name), expected, rtol=1e-15)


def called(formula: str, table: pd.DataFrame) -> Names:
    """What R calls the covariates."""
    return Names.of(parse_formula(formula), table)


def check_given(given: dict[str, Any], batch: str, table: pd.DataFrame) -> None:
    assert list(given[batch]) == list(table["site"])
    assert list(given[batch].categories) == sorted(table["site"].unique())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"eb": True, "parametric": True, "mean.only": False, "ref.batch": None}),
        ({"ref_batch": "Cork"}, {"ref.batch": "Cork"}),
        ({"eb": False}, {"eb": False, "parametric": True}),
        ({"prior": "nonparametric"}, {"eb": True, "parametric": False}),
        ({"mean_only": True}, {"mean.only": True}),
    ],
)
def test_neurocombat(
    options: dict[str, Any], expected: dict[str, Any], table: pd.DataFrame, packages: None, tmp_path: Path
) -> None:
    with standins.recording(tmp_path / "record") as given:
        found = r_bridge.neurocombat(table, "~ age + sex*dx", **OPTIONS, **options)
    for name, value in expected.items():
        assert given[name] is None if value is None else given[name][0] == value, name
    check_given(given, "batch", table)
    assert list(given["dat"].index) == names(table) and not given["verbose"][0]
    np.testing.assert_array_equal(given["dat"].to_numpy().T, table[names(table)])
    design = pcg.ComBat("~ age + sex*dx", **OPTIONS).fit(table).estimates.coefficients.index
    in_r = called("~ age + sex*dx", table)
    assert list(map(in_r.ours, given["mod"].columns)) == list(design)
    np.testing.assert_array_equal(given["mod"][in_r.sent["age"]], table["age"])
    check_table(found, table)
    check_estimates(found.estimates, table, eb=options.get("eb", True))
    sites, V = sorted(table["site"].unique()), len(names(table))
    assert list(found.estimates.coefficients.index) == list(design)
    np.testing.assert_allclose(found.estimates.grand_mean.iloc[0], 5 + np.arange(1, V + 1))
    np.testing.assert_allclose(found.estimates.var_pooled.iloc[0], 6 + np.arange(1, V + 1))
    for start, name in zip((0, 10, 20, 30), ("gamma_bar", "t2", "a_prior", "b_prior"), strict=True):
        pd.testing.assert_series_equal(
            getattr(found.estimates, name)[name],
            pd.Series(start + np.arange(1.0, len(sites) + 1), pd.Index(sites, name="site"), name=name),
        )
    assert found.package == "neuroCombat 0.0.1"


@pytest.mark.parametrize(
    ("formula", "options", "expected"),
    [
        ("~ age + sex", {}, {"which": "combat", "formula": "y ~ v1_ + v2_", "eb": True, "robust.LS": False}),
        ("~ age + sex", {"eb": False, "ref_batch": "Cork"}, {"eb": False, "ref.batch": "Cork"}),
        ("~ age", {"robust": True}, {"which": "combat", "robust.LS": True}),
        ("~ s(age, k=5) + sex", {}, {"which": "combat_gam", "formula": "y ~ v2_ + s(v1_, k = 5)"}),
        ("~ s(age)", {"smoothing": "GCV"}, {"which": "combat_gam"}),
        ("~ s(age)", {"which": "covfam", "percent_var": 0.8}, {"which": "covfam", "percent.var": 0.8, "model": True}),
        ("~ age", {"which": "covfam", "n_pc": 3}, {"which": "covfam", "n.pc": 3, "model": False}),
        ("~ age", {"which": "combatls", "sigma_formula": "~ age"}, {"which": "combatls", "sigma.formula": "~v1_"}),
        (
            "~ pb(age) + sex",
            {"which": "combatls", "sigma_formula": "~ s(age)"},
            {"formula": "y ~ v2_ + pb(v1_)", "sigma.formula": "~1 + pb(v1_)"},
        ),
    ],
)
def test_comfam(
    formula: str, options: dict[str, Any], expected: dict[str, Any], table: pd.DataFrame, packages: None, tmp_path: Path
) -> None:
    with standins.recording(tmp_path / "record") as given:
        found = r_bridge.comfam(table, formula, **OPTIONS, **options)
    for name, value in expected.items():
        assert given[name][0] == value, name
    check_given(given, "bat", table)
    np.testing.assert_array_equal(np.asarray(given["data"]), table[names(table)])
    in_r = called(formula.replace("pb(", "s("), table)
    assert list(given["covar"].columns) == [in_r.sent[name] for name in ("age", "sex") if name in formula]
    np.testing.assert_array_equal(given["covar"][in_r.sent["age"]], table["age"])
    method = given["dots"]["method"][0] if isinstance(given["dots"], dict) and given["dots"] else None
    smooth = "s(" in formula and options.get("which") != "combatls"
    assert method == ({"GCV": "GCV.Cp"}.get(options.get("smoothing", ""), "REML") if smooth else None)
    check_table(found, table)
    check_estimates(found.estimates, table, eb=options.get("eb", True))
    np.testing.assert_allclose(found.estimates.var_pooled.iloc[0], 6 + np.arange(1, len(names(table)) + 1))
    assert found.estimates.grand_mean.isna().all(axis=None) and found.estimates.t2.isna().all(axis=None)
    assert found.n_pc == (7 if options.get("which") == "covfam" else None)
    # What fits features beside it repeats itself for each.
    said = ("Algorithm RS has not yet converged",) if options.get("which") == "combatls" else ()
    assert found.warnings == said and "note of gamlss" not in found.output
    if "(" not in formula:
        ours = pcg.ComBat(formula, **OPTIONS).fit(table).estimates.coefficients
        # Two ways to one least-squares problem.
        pd.testing.assert_frame_equal(found.estimates.coefficients, ours, rtol=1e-9)


def test_combatls_knows_the_variables_of_its_scale(table: pd.DataFrame, packages: None, tmp_path: Path) -> None:
    with standins.recording(tmp_path / "record") as given:
        r_bridge.comfam(table, "~ age", which="combatls", sigma_formula="~ sex + dx", **OPTIONS)
    assert given["sigma.formula"][0] == "~v2_ + v3_" and list(given["covar"].columns) == ["v1_", "v2_", "v3_"]
    with standins.recording(tmp_path / "record") as given:
        r_bridge.comfam(table, which="combatls", sigma_formula="~ sex", **OPTIONS)
    assert given["sigma.formula"][0] == "~v1_"
    attached = r_bridge.session.call("function() search()")
    assert "package:gamlss" not in attached
    with pytest.raises(pcg.PcgError, match=r"write s\(age\) or pb\(age\)"):
        r_bridge.comfam(table, "~ s(age, k=5)", which="combatls", **OPTIONS)


def test_long_combat(table: pd.DataFrame, packages: None, tmp_path: Path) -> None:
    table = table.assign(subject=[f"s{i % 90}" for i in range(len(table))])
    with standins.recording(tmp_path / "record") as given:
        r_bridge.comfam(table, "~ age + (1|subject)", **OPTIONS)
    assert given["which"][0] == "long_combat" and given["formula"][0] == "y ~ v1_ + (1 | v3_)"
    assert list(given["covar"]["v3_"]) == list(table["subject"])
    with pytest.raises(pcg.PcgError, match="needs a random effect"):
        r_bridge.comfam(table, "~ age", which="long_combat", **OPTIONS)


def test_names_that_a_package_uses_itself(table: pd.DataFrame, packages: None, tmp_path: Path) -> None:
    """ComBatFamily writes y and batch into the data that it fits, and a name in backticks is one all the same."""
    renamed = table.rename(columns={"age": "y", "sex": "batch", "dx": "v1_ at scan"})
    with standins.recording(tmp_path / "record"):
        found = r_bridge.comfam(renamed, "~ y + batch + `v1_ at scan`", **OPTIONS).estimates.coefficients
    ours = pcg.ComBat("~ y + batch + `v1_ at scan`", **OPTIONS).fit(renamed).estimates.coefficients
    # Two ways to one least-squares problem.
    pd.testing.assert_frame_equal(found, ours, rtol=1e-9)


def test_comfam_without_covariates(table: pd.DataFrame, packages: None, tmp_path: Path) -> None:
    with standins.recording(tmp_path / "record") as given:
        r_bridge.comfam(table, **OPTIONS)
    assert given["covar"] is None and given["formula"][0] == "NULL"


def test_longcombat(table: pd.DataFrame, packages: None, tmp_path: Path) -> None:
    table = table.assign(subject=[f"s{i % 90}" for i in range(len(table))], visit=np.arange(len(table)) // 90)
    with standins.recording(tmp_path / "record") as given:
        found = r_bridge.longcombat(
            table, "~ age + dx + (1 + visit|subject)", "site", id="subject", time="visit", features="_thickness$",
            iterations=50, method="MSR",
        )  # fmt: skip
    in_r = called("~ age + dx + (1 + visit|subject)", table)
    subject, visit = in_r.groups["subject"], in_r.sent["visit"]
    assert (given["idvar"][0], given["timevar"][0], given["niter"][0], given["method"][0]) == (
        subject,
        visit,
        50,
        "MSR",
    )
    assert (given["formula"][0].strip(), given["ranef"][0]) == ("v1_ + v2_", f"({visit} | {subject})")
    assert list(given["features"]) == names(table)
    check_given(
        given["data"].to_dict("series") | {"batch": pd.Categorical(given["data"][given["batchvar"][0]])}, "batch", table
    )
    assert list(given["data"][subject]) == list(table["subject"])
    np.testing.assert_array_equal(given["data"][names(table)], table[names(table)])
    check_table(found, table)
    check_estimates(found.estimates, table)
    assert found.estimates.var_pooled.isna().all(axis=None)


def test_what_a_package_does_not_have_is_refused(table: pd.DataFrame) -> None:
    for engine, formula in ((r_bridge.sva_combat, "~ s(age)"), (r_bridge.neurocombat, "~ age + (1|dx)")):
        with pytest.raises(pcg.PcgError, match="linear models only"):
            engine(table, formula, **OPTIONS)
    with pytest.raises(pcg.PcgError, match="leave smooths"):
        r_bridge.comfam(table, "~ s(age)", which="combat", **OPTIONS)
    with pytest.raises(pcg.PcgError, match="random effects but no smooths"):
        r_bridge.longcombat(table, "~ age", "site", id="subject", time="age", features="_thickness$")
    with pytest.raises(pcg.PcgError, match="allowed are 'parametric'"):
        r_bridge.sva_combat(table, "~ age", prior="flat", **OPTIONS)  # type: ignore[arg-type]


def test_a_missing_package_is_named_with_its_command(table: pd.DataFrame) -> None:
    with pytest.raises(r_bridge.session.RMissingError, match=r"neuroCombat is missing: .*Jfortin1/neuroCombat"):
        r_bridge.neurocombat(table, "~ age", **OPTIONS)


@pytest.mark.parametrize(
    "options", [{}, {"ref_batch": "Cork"}, {"prior": "nonparametric"}, {"mean_only": True}], ids=str
)
@pytest.mark.parametrize("formula", ["~ 1", "~ age + sex*dx"])
def test_sva_gives_what_it_estimated(formula: str, options: dict[str, Any], table: pd.DataFrame) -> None:
    theirs = r_bridge.sva_combat(table, formula, **OPTIONS, **options)
    ours = pcg.ComBat(formula, **OPTIONS, **options)
    # Two orders of the same sums.
    pd.testing.assert_frame_equal(theirs.table, ours.fit_transform(table), rtol=0, atol=1e-10)
    for name in vars(ours.estimates):
        a, b = getattr(theirs.estimates, name), getattr(ours.estimates, name)
        assert a.index.equals(b.index) and list(a.columns) == list(b.columns), name
        if name in ("a_prior", "b_prior") and options.get("mean_only"):
            continue  # of a delta that is 1: R divides by zero, we have none
        if name in ("gamma_bar", "t2", "a_prior", "b_prior") and options.get("ref_batch"):
            a, b = a.drop("Cork"), b.drop("Cork")  # R has priors of rounding there, we have none
        # Two orders of the same sums.
        np.testing.assert_allclose(a.to_numpy(), b.to_numpy(), rtol=1e-9, atol=1e-10, err_msg=name)
