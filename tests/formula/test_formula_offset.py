"""An offset is a part of the mean with coefficient one: ComBat keeps it, predictions of gam hold it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from pycombat_gam.errors import DataError, NotYetError, OptionError
from pycombat_gam.formula import parse_formula

FEATURES = ["u", "v", "w"]


def study(seed: int = 0, n: int = 90) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "site": np.repeat(["a", "b", "c"], n // 3),
            "age": rng.uniform(20, 60, n),
            "icv": rng.uniform(1, 2, n),
            "sex": rng.choice(["F", "M"], n),
        }
    )
    for k, name in enumerate(FEATURES):
        table[name] = rng.normal(k, 1 + (table["site"] == "b"), n) + np.log(table["icv"]) * 5 + table["age"] / 30
    return table


def fitted(formula: str, table: pd.DataFrame, **options: object) -> pcg.ComBat:
    return pcg.ComBat(formula, "site", features=FEATURES, **options).fit(table)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"ref_batch": "b"}, {"prior": "nonparametric"}, {"mean_only": True}])
@pytest.mark.parametrize("formula", ["~ age + sex", "~ s(age, k = 5) + sex"])
def test_combat_harmonizes_what_is_left_and_gives_the_offset_back(formula: str, options: dict[str, object]) -> None:
    table, new = study(), study(1, 12)
    offset, new_offset = 5 * np.log(table["icv"]), 5 * np.log(new["icv"])
    model = fitted(f"{formula} + offset(5*log(icv))", table, **options)
    less = fitted(formula, table.assign(**{f: table[f] - offset for f in FEATURES}), **options)
    for name in ("coefficients", "grand_mean", "var_pooled", "gamma_hat", "delta_star", "gamma_star"):
        # This and below: x − o + o, and sums of such: rounding of numbers of some tens.
        pd.testing.assert_frame_equal(getattr(model.estimates, name), getattr(less.estimates, name), rtol=1e-12)
    expected = less.transform(new.assign(**{f: new[f] - new_offset for f in FEATURES}))[FEATURES].add(
        new_offset, axis=0
    )
    # x − o + o: rounding.
    np.testing.assert_allclose(model.transform(new)[FEATURES], expected, rtol=0, atol=1e-12)
    if "ref_batch" in options:
        own = new["site"] == "b"
        pd.testing.assert_frame_equal(model.transform(new).loc[own, FEATURES], new.loc[own, FEATURES])


def test_a_saved_model_keeps_its_offset(tmp_path: Path) -> None:
    table = study()
    model = fitted("~ s(age, k = 5) + offset(scale(icv)) + offset(age - mean(age))", table)
    model.save(tmp_path / "model.pcg")
    loaded = pcg.load(tmp_path / "model.pcg")
    one_row = table.iloc[[4]]
    np.testing.assert_array_equal(loaded.transform(one_row)[FEATURES], model.transform(table)[FEATURES].iloc[[4]])
    assert "offset(scale(icv)) + offset(age - mean(age))" in str(loaded.summary())


def test_an_unseen_site_is_estimated_less_the_offset() -> None:
    table = study()
    new = study(3, 30).assign(site="z")
    options = {"on_unseen": "estimate"}
    model = fitted("~ age + offset(5*log(icv))", table, **options)
    less = fitted("~ age", table.assign(**{f: table[f] - 5 * np.log(table["icv"]) for f in FEATURES}), **options)
    with pytest.warns(pcg.PcgWarning, match="z"):
        ours = model.transform(new)
    with pytest.warns(pcg.PcgWarning, match="z"):
        theirs = less.transform(new.assign(**{f: new[f] - 5 * np.log(new["icv"]) for f in FEATURES}))
    expected = theirs[FEATURES].add(5 * np.log(new["icv"]), axis=0)
    # x − o + o: rounding.
    np.testing.assert_allclose(ours[FEATURES], expected, rtol=0, atol=1e-12)


def test_what_equals_its_offset_has_no_variance() -> None:
    """Rounding is of the raw numbers, which are large here, and not of the little that the offset leaves."""
    table = study()
    table["u"] = 1e6 + 1e3 * table["icv"]
    with pytest.warns(pcg.PcgWarning, match="passed through untouched: u"):
        model = fitted("~ age + offset(1e3*icv)", table)
    pd.testing.assert_series_equal(model.transform(table)["u"], table["u"])


def test_diagnose_takes_the_offset_off() -> None:
    table = study()
    moved = table.assign(**{f: table[f] - 5 * np.log(table["icv"]) for f in FEATURES})
    options = {"batch": "site", "features": FEATURES, "permutations": 19}
    found = pcg.diagnose(table, formula="~ age + offset(5*log(icv))", **options)  # type: ignore[arg-type]
    other = pcg.diagnose(moved, formula="~ age", **options)  # type: ignore[arg-type]
    one, two = (t[t["aspect"].isin(["location", "scale"])].reset_index(drop=True) for t in (found.table, other.table))
    assert set(one["aspect"]) == {"location", "scale"}
    # Ranks and tests of x − o, where o is taken off twice: rounding in the tails of p.
    pd.testing.assert_frame_equal(one, two, rtol=1e-8)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("~ age + offset(sex)", "offset(sex) is not one number per row; give a numeric expression"),
        ("~ age + offset(poly(icv, 2))", "is not one number per row"),
        ("~ age + offset(nothing)", "formula column 'nothing' is not in the table"),
        ("~ age + offset(log(icv - 1.5))", "log(icv - 1.5) is not finite in"),
    ],
)
def test_bad_offsets(formula: str, message: str) -> None:
    with pytest.raises(pcg.PcgError, match=re.escape(message)):
        fitted(formula, study())


def test_a_missing_offset_leaves_a_row_of_gam_out() -> None:
    table = study()
    table.loc[3, "icv"] = np.nan
    with pytest.warns(pcg.PcgWarning, match="1 row of 90 left out for missing values"):
        fit = pcg.gam("u ~ age + offset(icv)", table)
    assert fit.n == 89
    with pytest.raises(DataError, match="column 'icv' has missing values in 1 row"):
        fitted("~ age + offset(icv)", table)


def test_a_flow_has_no_offset() -> None:
    with pytest.raises(pcg.PcgError, match="has an offset, which FlowSCM does not fit"):
        pcg.FlowSCM("~ age + offset(icv)", "site", features=FEATURES).fit(study())


def test_formula_with_an_offset() -> None:
    formula = parse_formula("y ~ offset(log(a b)) + x".replace("a b", "`a b`"))
    assert formula.variables == ("y", "a b", "x")
    assert [term.label for term in formula.parametric] == ["x"]
    assert (
        parse_formula("~ offset(a) + offset(a) + (offset(b) + c)").offsets
        == parse_formula("~ offset(a) + offset(b)").offsets
    )


# What R's users pass to gam, and the formula of a fit


@pytest.mark.parametrize("family", ["gaussian", "gaussian()", "gaussian(link = 'identity')"])
def test_the_gaussian_family(family: str) -> None:
    table = study()
    assert pcg.gam("u ~ s(age)", table, family=family).score == pcg.gam("u ~ s(age)", table).score


@pytest.mark.parametrize("family", ["binomial", "poisson(link='log')", "Gamma", "gaussian(link='log')", "nb()"])
def test_another_family_is_not_here_yet(family: str) -> None:
    with pytest.raises(NotYetError, match=re.escape(f"family={family!r} is not in this version")):
        pcg.gam("u ~ s(age)", study(), family=family)


@pytest.mark.parametrize("family", ["gausian", 3, None, np.mean])
def test_what_is_no_family(family: object) -> None:
    with pytest.raises(OptionError, match="allowed is 'gaussian', with the identity link"):
        pcg.gam("u ~ s(age)", study(), family=family)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("response", "left"),
    [
        ("u u", "`u u`"),
        ("a~b", "`a~b`"),
        ("log(u)", "`log(u)`"),
        ("if", "`if`"),
        ("back`tick", r"`back\`tick`"),
        ("u", "u"),
    ],
)
def test_the_formula_of_a_fit_can_be_read_again(response: str, left: str) -> None:
    table = study().rename(columns={"u": response, "age": "age at scan"})
    right = "~ s(`age at scan`, k = 5) + offset(icv) + sex"
    many = pcg.gam(right, table, responses=[response])[response]
    single = pcg.gam(f"{left} {right}", table)
    assert many.response == single.response == response
    assert parse_formula(many.formula) == parse_formula(single.formula) == parse_formula(f"{left} {right}")
    assert str(parse_formula(single.formula)) == single.formula
    again = pcg.gam(single.formula, table)
    np.testing.assert_array_equal(again.coef, single.coef)
    assert left in str(single.summary())


def test_the_formula_of_a_transformed_response() -> None:
    fits = pcg.gam("cbind(log(u^2), v) ~ age", study())
    assert [fit.formula for fit in fits.values()] == ["log(u^2) ~ age", "v ~ age"]
