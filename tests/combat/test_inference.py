"""`ComBat.test`, `ComBat.contrast` and `later_test` as their users meet them: names, options, messages, warnings."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from helpers.unequal_sites import UnequalSites, unequal_sites

import pycombat_gam as pcg
from pycombat_gam.errors import DataError, DesignError, OptionError
from pycombat_gam.infer.effects import COLUMNS


@pytest.fixture(scope="module")
def study() -> UnequalSites:
    return unequal_sites(V=12)


@pytest.fixture(scope="module")
def model(study: UnequalSites) -> pcg.ComBat:
    return pcg.ComBat("~ age*dx + sex", batch="site", features=study.features).fit(study.table)


def test_the_table_has_a_row_for_each_term_and_feature(study: UnequalSites, model: pcg.ComBat) -> None:
    effects = model.test()
    assert list(effects.table.columns) == list(COLUMNS)
    each = effects.table.groupby("term", sort=False).feature.apply(list).to_dict()
    assert each == dict.fromkeys(("age", "dx", "sex", "age:dx"), study.features)
    single = effects.table[effects.table.df == 1]
    assert set(single.term) == {"age", "sex"}
    # The same quotient, then the same sums.
    np.testing.assert_allclose(single.statistic, single.estimate / single.se, rtol=1e-14)
    np.testing.assert_allclose(single.lower + single.upper, 2 * single.estimate, rtol=1e-12)
    several = effects.table[effects.table.df == 2]
    assert several[["estimate", "se", "lower", "upper"]].isna().all(axis=None)
    assert several[["statistic", "df_residual", "p", "p_adjusted", "within_share"]].notna().all(axis=None)
    for _, rows in effects.table.groupby("term"):
        order = np.argsort(rows.p.to_numpy())
        scaled = rows.p.to_numpy()[order] * len(rows) / np.arange(1, len(rows) + 1)
        expected = np.minimum.accumulate(scaled[::-1])[::-1].clip(max=1)
        np.testing.assert_allclose(rows.p_adjusted.to_numpy()[order], expected, rtol=1e-12)  # the definition of BH
    text = str(effects)
    assert "sites are weighted" in text and "false discovery rate" in text


def test_terms_are_named_as_in_the_formula(model: pcg.ComBat) -> None:
    assert model.test("age : dx", "dx").table.term.unique().tolist() == ["age:dx", "dx"]
    with pytest.raises(OptionError, match="'dxx' is no term that can be tested; did you mean 'dx'"):
        model.test("dxx")


def test_a_contrast_takes_names_of_r_and_levels_in_brackets(model: pcg.ComBat) -> None:
    plain = model.contrast({"dxMCI": 1, "age:dxMCI": 60})
    bracketed = model.contrast({"dx[MCI]": 1, "dx[MCI]:age": 60})
    pd.testing.assert_frame_equal(plain.table.drop(columns="term"), bracketed.table.drop(columns="term"))
    assert bracketed.table.term.iloc[0] == "dx[MCI] + 60*dx[MCI]:age"
    together = model.contrast([{"dxHC": 1}, {"dxMCI": 1}])
    # Another basis of the same two directions.
    np.testing.assert_allclose(together.table.p, model.test("dx").table.p, rtol=1e-10)
    for wrong, message in (
        ({"dx[XX]": 1}, "is no coefficient of this model.*these are age, dxHC"),
        ({}, "give a weight to each coefficient, such as {'age': 1}"),
        ({"age": float("nan")}, "give a finite number"),
        ({"age": 0}, "weights of zero only"),
        ([{"age": 1}, {"age": 2}], "give independent ones"),
    ):
        with pytest.raises(OptionError, match=message):
            model.contrast(wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "sites"}, "weights='sites': allowed are 'site' and None"),
        ({"variance": "hc2"}, "variance='hc2': allowed are"),
        ({"variance": "hc3"}, "needs the rows: use pycombat_gam.later_test"),
        ({"level": 95}, "give a number between 0 and 1"),
    ],
)
def test_options_that_are_not_allowed(model: pcg.ComBat, options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        model.test(**options)  # type: ignore[arg-type]


def test_a_formula_without_terms_has_nothing_to_test(study: UnequalSites) -> None:
    bare = pcg.ComBat("~ 1", batch="site", features=study.features).fit(study.table)
    with pytest.raises(OptionError, match="has no term to test"):
        bare.test()


def test_a_feature_without_variance_is_named_and_not_tested(study: UnequalSites) -> None:
    table = study.table.assign(f3=1.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        effects = pcg.ComBat("~ age + dx", batch="site", features=study.features).fit(table).test()
    rows = effects.table[effects.table.feature == "f3"]
    assert rows[["statistic", "p", "p_adjusted"]].isna().all(axis=None)
    assert effects.table[effects.table.feature != "f3"].p.notna().all()
    assert any("not tested: f3" in note for note in effects.notes)


def test_few_features_do_not_weigh_small_sites() -> None:
    """One feature does not tell the variances of sites of three: equal weights, by a rule of the design."""
    small = unequal_sites(sizes=(3, 4, 3, 5, 4), V=1, seed=2)
    effects = pcg.ComBat("~ age", batch="site", features=small.features, eb=False).fit(small.table).test()
    assert any("equal weights in tests of age" in note for note in effects.notes)
    many = unequal_sites(sizes=(30, 40, 30, 50), V=200, seed=2)
    effects = pcg.ComBat("~ age", batch="site", features=many.features).fit(many.table).test()
    assert any("sites are weighted" in note for note in effects.notes)
    assert not any("equal weights" in note for note in effects.notes)


def test_a_term_that_hardly_varies_within_sites_is_warned_of(study: UnequalSites) -> None:
    table = study.table.copy()
    rng = np.random.default_rng(0)
    table["dose"] = table["site"].map({"s0": 0.0, "s1": 40.0, "s2": 10.0, "s3": 25.0}) + rng.normal(size=len(table))
    model = pcg.ComBat("~ dose", batch="site", features=study.features)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        model.fit(table)
    with pytest.warns(pcg.PcgWarning, match="only .* of the information on 'dose' lies within sites"):
        effects = model.test()
    assert (effects.table.within_share < 0.01).all()


# Later tests


def harmonized(study: UnequalSites, formula: str = "~ age + sex") -> tuple[pcg.ComBat, pd.DataFrame]:
    model = pcg.ComBat(formula, batch="site", features=study.features)
    return model, model.fit_transform(study.table)


def test_a_term_unknown_to_the_harmonization_and_one_that_is_left_out_are_named(study: UnequalSites) -> None:
    model, table = harmonized(study)
    with pytest.warns(pcg.PcgWarning, match="the harmonization did not know dx: plain tests") as caught:
        effects = pcg.later_test(model, "~ age + dx", table)
    assert "the harmonization kept sex, which this formula lacks" in str(caught[0].message)
    assert len(caught) == 1
    assert any("did not know dx" in note for note in effects.notes)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ({"formula": "~ age + scanner"}, DesignError, "scanner"),
        ({"formula": "~ age + site"}, OptionError, "sites are accounted for already"),
        ({"state": "after"}, OptionError, "allowed are 'harmonized' and 'raw'"),
        ({"variance": "hc3", "formula": "~ s(age)"}, OptionError, "is for formulas without smooths"),
    ],
    ids=["site level", "site", "state", "hc3"],
)
def test_later_calls_that_cannot_be_answered(
    study: UnequalSites, call: dict[str, str], error: type[Exception], message: str
) -> None:
    model, table = harmonized(study)
    table["scanner"] = np.where(table["site"].isin(["s0", "s1"]), "A", "B")
    with pytest.raises(error, match=message):
        pcg.later_test(model, table=table, **{"formula": "~ age", **call})  # type: ignore[arg-type]


def test_a_table_of_another_model_or_a_changed_one_is_refused(study: UnequalSites) -> None:
    model, table = harmonized(study)
    _, other = harmonized(study, "~ age")
    for wrong in (other, study.table, table.assign(f1=table["f1"] * 1.01)):
        with pytest.raises(DataError, match="harmonized by another model, or changed since"):
            pcg.later_test(model, "~ age", wrong)
    with pytest.warns(pcg.PcgWarning, match="if they are harmonized, say state='harmonized'"):
        pcg.later_test(model, "~ age + sex", table, state="raw")


def test_part_of_the_rows_cannot_be_checked_and_new_sites_cannot_be_taken_back(study: UnequalSites) -> None:
    model, table = harmonized(study)
    part = table[np.arange(len(table)) % 4 > 0]
    with pytest.warns(pcg.PcgWarning, match="cannot be checked"):
        later = pcg.later_test(model, "~ age + sex", part)
    raw = pcg.later_test(model, "~ age + sex", study.table.loc[part.index], state="raw")
    # Taking values back costs some roundings of a value of size 5 for effects of size 0.1.
    np.testing.assert_allclose(later.table.p, raw.table.p, rtol=1e-7)
    moved = table.assign(site=table["site"].replace("s0", "elsewhere"))
    with pytest.raises(DataError, match=r"elsewhere was not in the fit.*state='raw'"):
        pcg.later_test(model, "~ age", moved)
    assert pcg.later_test(model, "~ age", moved.assign(f0=1.0 * moved["f1"]), state="raw").table.p.notna().all()


def test_float32_is_said_to_cost_digits(study: UnequalSites) -> None:
    model = pcg.ComBat("~ age + sex", batch="site", features=study.features)
    table = study.table.astype(dict.fromkeys(study.features, np.float32))
    single = model.fit_transform(table)
    with pytest.warns(pcg.PcgWarning, match="float32.*seven digits"):
        later = pcg.later_test(model, "~ age + sex", single)
    # Seven digits of values of size 5 with a residual sd of 1.
    np.testing.assert_allclose(later.table.statistic, model.test().table.statistic, rtol=1e-3, atol=1e-4)


def test_subjects_of_the_fit_are_taken_back_and_new_ones_are_refused() -> None:
    study = unequal_sites(V=5, seed=8)
    table = study.table.loc[study.table.index.repeat(2)].reset_index(drop=True)
    table["subject"] = np.repeat(np.arange(len(study.table)), 2).astype(str)
    rng = np.random.default_rng(1)
    table[study.features] += 0.5 * rng.normal(size=(len(table), 5))
    model = pcg.ComBat("~ age + (1|subject)", batch="site", features=study.features)
    made = model.fit_transform(table)
    later, whole = pcg.later_test(model, "~ age + (1|subject)", made), model.test()
    # Smoothing parameters are found again, to some 1e-6 of themselves.
    np.testing.assert_allclose(later.table.p, whole.table.p, rtol=1e-4)
    with pytest.raises(DataError, match="cannot be taken back"):
        pcg.later_test(model, "~ age", made.assign(subject=made["subject"].replace("3", "new")))
