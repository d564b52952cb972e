"""The result of `diagnose`: its layout, laws, words, and what it finds in ABIDE."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pandas as pd
import pytest
from helpers.reference import needs_reference, read_csv

import pycombat_gam as pcg
from pycombat_gam.diagnose.rows import NUMBERS, TEXT

FORMULA = "~ s(age) + sex + dx"


@cache
def packaged() -> tuple[pd.DataFrame, pd.DataFrame, pcg.ComBat]:
    table = pcg.datasets.load_multisite()
    model = pcg.ComBat(FORMULA, batch="site", id="subject", features="_thickness$")
    return table, model.fit_transform(table), model


@cache
def diagnosis() -> pcg.Diagnosis:
    table, harmonized, model = packaged()
    return pcg.diagnose(table, harmonized, model=model, permutations=99)


def test_one_tidy_layout() -> None:
    table = diagnosis().table
    assert tuple(table.columns) == (*TEXT, *NUMBERS)
    assert table[list(TEXT)].notna().all().all()
    assert not table.duplicated(list(TEXT)).any()
    assert diagnosis().states == ("before", "after", "held out")
    per_feature = table[table["feature"] != ""].groupby(["aspect", "measure", "covariate", "state"]).size()
    assert (per_feature == 32).all()
    assert len(per_feature) == 2 * (4 + 3)
    tested = table["p"].notna()
    assert table.loc[tested, "p"].between(0, 1).all()
    alike = tested & ((table["feature"] != "") | (table["site"] != ""))
    assert (table.loc[alike, "p_adjusted"] >= table.loc[alike, "p"] - 1e-15).all()
    assert table.loc[~alike, "p_adjusted"].isna().all()


def test_overall_is_simes_and_holm() -> None:
    found = diagnosis()
    whole = found.overall
    assert set(whole["state"]) == {"before", "after", "held out"}
    anova = found.of("location").query("measure == 'ANOVA' and state == 'before'")["p"]
    simes = (anova.sort_values().to_numpy() * len(anova) / np.arange(1, len(anova) + 1)).min()
    before = whole[whole["state"] == "before"].reset_index(drop=True)
    assert before["measure"].tolist() == [
        *("ANOVA", "Kruskal-Wallis", "Levene", "Fligner-Killeen"),
        *("energy distance", "MMD", "covariance", "logistic", "SVM"),
    ]  # fmt: skip
    # A minimum of products, twice: rounding.
    assert before["p"][0] == pytest.approx(simes, rel=1e-12)
    order = np.argsort(before["p"].to_numpy(), kind="stable")
    stepped = np.maximum.accumulate(before["p"].to_numpy()[order] * np.arange(len(before), 0, -1)).clip(max=1.0)
    # The same products: rounding.
    np.testing.assert_allclose(before["p_adjusted"].to_numpy()[order], stepped, rtol=1e-12)


def test_an_aspect_that_is_not_there_is_named() -> None:
    with pytest.raises(pcg.PcgError, match=r"aspect='locations': allowed are 'location'.*did you mean 'location'"):
        diagnosis().of("locations")


def test_other_ids_are_refused() -> None:
    table, harmonized, model = packaged()
    shuffled = harmonized.sample(frac=1, random_state=0).reset_index(drop=True)
    with pytest.raises(pcg.PcgError, match="before and after have different rows"):
        pcg.diagnose(table, shuffled, model=model)


def test_ties_in_many_features_leave_the_order_of_rows_without_a_say() -> None:
    rng = np.random.default_rng(8)
    table = pd.DataFrame(rng.integers(1, 4, (120, 10)), columns=[f"q{k}" for k in range(10)]).astype(float)
    table = table.assign(site=np.repeat(list("abc"), 40), y=rng.standard_normal(120), age=rng.uniform(20, 60, 120))
    features = [*(f"q{k}" for k in range(10)), "y"]
    one, two, three = (
        pcg.diagnose(t, formula="~ age", batch="site", features=names, permutations=99).table
        for t, names in ((table, features), (table.sample(frac=1, random_state=1), features), (table, features[::-1]))
    )
    joint = ["covariance", "distribution", "site prediction"]
    columns = ["value", "p", "statistic"]
    for other in (two, three):
        a, b = (t[t["aspect"].isin(joint)][columns].to_numpy() for t in (one, other))
        # Sums in another order; a classifier stops at its own tolerance from there.
        np.testing.assert_allclose(a, b, rtol=1e-7, equal_nan=True)


def test_summary_reduces_the_table() -> None:
    found, summary = diagnosis(), diagnosis().summary.set_index(["measure", "covariate", "quantity"])
    anova = found.table[(found.table["measure"] == "ANOVA") & (found.table["state"] == "before")]
    share = summary.loc[("ANOVA", "", "share of features significant (FDR 5 %)")]
    assert share["before"] == (anova["p_adjusted"] < 0.05).mean() == 1.0
    assert share["after"] == 0.0
    assert np.isnan(share["held out"])
    assert summary.loc[("ANOVA", "", "median partial R2 of the site"), "before"] == anova["value"].median()
    curve = found.of("association").query("covariate == 's(age)' and state == 'after'")
    assert summary.loc[("partial R2", "s(age)", "median partial R2"), "after"] == curve["value"].median()


def test_an_aspect_comes_without_empty_columns() -> None:
    scale = diagnosis().of("scale")
    assert list(scale.columns) == [
        "aspect", "measure", "state", "feature", "value", "statistic", "df", "df_residual", "p", "p_adjusted", "n",
    ]  # fmt: skip
    assert len(scale) == 2 * 2 * 32


def test_shrinkage_is_read_off_the_estimates() -> None:
    _, _, model = packaged()
    found = diagnosis().of("shrinkage").set_index(["measure", "site"])["value"]
    hat, star, delta = model.estimates.gamma_hat, model.estimates.gamma_star, model.estimates.delta_star
    for site in hat.index:
        slope = np.polyfit(hat.loc[site], star.loc[site], 1)[0]
        # A slope from sums in another order: rounding.
        assert found["location kept", site] == pytest.approx(slope, rel=1e-9)
        slope = np.polyfit(np.log(model.estimates.delta_hat.loc[site]), np.log(delta.loc[site]), 1)[0]
        assert found["scale kept", site] == pytest.approx(slope, rel=1e-9)
        size = np.sqrt((star.loc[site] ** 2).mean())
        # The same sums: rounding.
        assert found["location, root mean square", site] == pytest.approx(size, rel=1e-12)
        assert found["scale, geometric mean", site] == pytest.approx(np.exp(np.log(delta.loc[site]).mean() / 2))
    unshrunk = pcg.ComBat("~ age", batch="site", features="_thickness$", eb=False)
    table = packaged()[0]
    kept = pcg.diagnose(table, unshrunk.fit_transform(table), model=unshrunk, held_out=False, permutations=19)
    shrinkage = kept.of("shrinkage").set_index("measure")["value"]
    # A slope of exactly one: rounding.
    np.testing.assert_allclose(shrinkage[["location kept", "scale kept"]], 1.0, rtol=1e-12)


def test_order_of_rows_and_names_of_sites_change_nothing() -> None:
    table, _, _ = packaged()
    order = np.random.default_rng(5).permutation(len(table))
    names = dict(zip(sorted(table["site"].unique()), "hgfedcba", strict=True))
    shuffled = table.iloc[order].assign(site=table["site"].map(names))
    found = []
    for some in (table, shuffled):
        model = pcg.ComBat("~ age + sex", batch="site", id="subject", features="_thickness$")
        found.append(pcg.diagnose(some, model.fit_transform(some), model=model, permutations=99).table)
    first, second = found
    first = first.assign(site=first["site"].map({**names, "": ""}))
    keys = list(TEXT)
    first, second = (frame.sort_values(keys).reset_index(drop=True) for frame in (first, second))
    pd.testing.assert_frame_equal(first[keys], second[keys])
    # Iterative fits (logistic regression, ridge by leave-one-out) agree to less than sums do.
    np.testing.assert_allclose(
        first[list(NUMBERS)].to_numpy(), second[list(NUMBERS)].to_numpy(), rtol=1e-7, atol=1e-9, equal_nan=True
    )


def test_arrays_beside_covariates_are_the_same_study() -> None:
    table, harmonized, model = packaged()
    features = model.get_feature_names_out().tolist()
    covariates = table.drop(columns=features)
    arguments = {"formula": FORMULA, "batch": "site", "id": "subject", "features": features, "permutations": 99}
    arrays = [frame[features].to_numpy() for frame in (table, harmonized)]
    found = pcg.diagnose(*arrays, covariates=covariates, **arguments)
    pd.testing.assert_frame_equal(found.table, pcg.diagnose(table, harmonized, **arguments).table)
    # Without the model, the tests of the table after are its own; all else is as with it.
    expected = diagnosis().table.query("state in ('before', 'after')")
    alike = [
        frame[~((frame["aspect"] == "association") & (frame["state"] == "after"))].reset_index(drop=True)
        for frame in (found.table, expected)
    ]
    pd.testing.assert_frame_equal(*alike)


def test_only_before() -> None:
    table = packaged()[0]
    found = pcg.diagnose(table, formula=FORMULA, batch="site", features="_thickness$", permutations=19)
    assert found.states == ("before",)
    assert list(found.summary.columns) == ["aspect", "measure", "covariate", "quantity", "before"]


def test_plain_data_and_print() -> None:
    found = diagnosis()
    back = json.loads(json.dumps(found.to_dict()))
    assert len(back["table"]) == len(found.table)
    assert back["table"][0]["p"] == found.table["p"].iloc[0]
    assert "share of features significant (FDR 5 %)" in str(found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"formula": "~ site"}, "batch column 'site' is in the formula"),
        ({"formula": "~ aeg"}, "formula column 'aeg' is not in the table"),
        ({"permutations": 3}, "permutations=3: give a whole number from 19 on"),
        (
            {"permutations": 19, "level": 0.01},
            "permutations=19: the smallest possible p-value is 0.05, above level=0.01",
        ),
        ({"level": 5}, "level=5: give a number between 0 and 1"),
        ({"seed": -1}, "seed=-1: give a whole number from 0 on"),
        ({"held_out": True}, "held_out=True refits the model: give it with model=…"),
        ({"model": "combat"}, "model is a str: give a fitted ComBat or FlowSCM"),
        ({"model": pcg.ComBat("~ age", "site")}, "the model is not fitted"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_calls(arguments: dict[str, object], message: str) -> None:
    table = packaged()[0]
    given = {} if "model" in arguments else {"batch": "site", "features": "_thickness$"}
    with pytest.raises(pcg.PcgError, match="^" + message[:20].replace("(", r"\(")) as raised:
        pcg.diagnose(table, **{**given, **arguments})
    assert message in str(raised.value)


def test_model_and_formula_exclude_each_other() -> None:
    table, harmonized, model = packaged()
    with pytest.raises(pcg.PcgError, match="model already gives formula, batch"):
        pcg.diagnose(table, harmonized, model=model, formula="~ age", batch="site")


def test_other_rows_are_refused() -> None:
    table, harmonized, model = packaged()
    with pytest.raises(pcg.PcgError, match="before has 403 rows, after 400"):
        pcg.diagnose(table, harmonized.iloc[:400], model=model)
    with pytest.raises(pcg.PcgError, match="before and after have different rows, in 402 rows"):
        pcg.diagnose(table, harmonized.iloc[::-1], model=model)


@needs_reference
def test_abide_thickness() -> None:
    """Every thickness shows a site effect before, almost none after (asked: at least 95 %, at most 5 %)."""
    table = read_csv("inputs/abide_dk.csv.gz")
    model = pcg.ComBat("~ s(age) + sex + dx", batch="site", id="subject", features="_thickness$")
    found = pcg.diagnose(table, model.fit_transform(table), model=model, held_out=False, permutations=19)
    shares = found.summary[found.summary["quantity"].str.startswith("share")].set_index("measure")
    assert len(found.of("location").query("measure == 'ANOVA' and state == 'before'")) == 70
    for measure in ("ANOVA", "Kruskal-Wallis"):
        assert shares.loc[measure, "before"] >= 0.95
        assert shares.loc[measure, "after"] <= 0.05
