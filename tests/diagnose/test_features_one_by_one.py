"""Tests of single features, beside scipy, statsmodels and this package's own `gam`."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.formula.api as smf
from statsmodels.stats.anova import anova_lm

import pycombat_gam as pcg

LINEAR = "~ age + sex + dx"
DIGITS = {"rtol": 1e-8, "atol": 1e-10}
"""Two ways to the same number in double precision; p-values near 0 are compared absolutely."""


@cache
def study() -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The packaged table before and after harmonization, and its features; six digits both."""
    table = pcg.datasets.load_multisite()
    model = pcg.ComBat(LINEAR, batch="site", id="subject", features="_thickness$")
    return table, model.fit_transform(table).round(6), model.get_feature_names_out().tolist()


@cache
def diagnosis(formula: str) -> pcg.Diagnosis:
    table, harmonized, features = study()
    return pcg.diagnose(
        table, harmonized, formula=formula, batch="site", id="subject", features=features, permutations=19
    )


def rows(formula: str, measure: str, state: str, covariate: str = "") -> pd.DataFrame:
    table = diagnosis(formula).table
    some = table[(table["measure"] == measure) & (table["state"] == state) & (table["covariate"] == covariate)]
    assert some["feature"].tolist() == study()[2]
    return some


def table_of(state: str) -> pd.DataFrame:
    return study()[0 if state == "before" else 1]


states = pytest.mark.parametrize("state", ["before", "after"])


@states
@pytest.mark.parametrize(
    ("measure", "test"),
    [
        ("ANOVA", scipy.stats.f_oneway),
        ("Kruskal-Wallis", scipy.stats.kruskal),
        ("Levene", scipy.stats.levene),
        ("Fligner-Killeen", scipy.stats.fligner),
    ],
)
def test_without_covariates_as_scipy(state: str, measure: str, test: object) -> None:
    found, table = rows("~ 1", measure, state), table_of(state)
    for feature, statistic, p in zip(found["feature"], found["statistic"], found["p"], strict=True):
        # As whole and even numbers all medians are exact, and scipy too sees every tie of distances to them.
        whole = 2.0 * (1e6 * table[feature]).round()
        expected = test(*(values.to_numpy() for _, values in whole.groupby(table["site"])))
        np.testing.assert_allclose([statistic, p], [expected.statistic, expected.pvalue], **DIGITS)


@states
def test_anova_with_covariates_is_that_of_nested_linear_models(state: str) -> None:
    found, table = rows(LINEAR, "ANOVA", state), table_of(state)
    for _, row in found.iterrows():
        smaller = smf.ols(f"{row['feature']} {LINEAR}", table).fit()
        larger = smf.ols(f"{row['feature']} {LINEAR} + site", table).fit()
        expected = anova_lm(smaller, larger).iloc[1]
        np.testing.assert_allclose(
            row[["statistic", "p", "df", "df_residual"]].astype(float),
            [expected["F"], expected["Pr(>F)"], expected["df_diff"], expected["df_resid"]],
            **DIGITS,
        )
        np.testing.assert_allclose(row["value"], expected["ss_diff"] / smaller.ssr, **DIGITS)


@states
@pytest.mark.parametrize("term", ["age", "sex", "dx"])
def test_sizes_of_associations_are_those_of_nested_linear_models(state: str, term: str) -> None:
    found, table = rows(LINEAR, "partial R2", state, term), table_of(state)
    others = LINEAR.replace(f"{term} +", "").replace(f"+ {term}", "")
    for _, row in found.iterrows():
        smaller = smf.ols(f"{row['feature']} {others} + site", table).fit()
        larger = smf.ols(f"{row['feature']} {LINEAR} + site", table).fit()
        expected = anova_lm(smaller, larger).iloc[1]
        np.testing.assert_allclose(row["value"], expected["ss_diff"] / smaller.ssr, **DIGITS)


@states
def test_ranks_and_scale_are_tested_without_the_covariates_part(state: str) -> None:
    table = table_of(state)
    kruskal, levene = rows(LINEAR, "Kruskal-Wallis", state), rows(LINEAR, "Levene", state)
    fligner = rows(LINEAR, "Fligner-Killeen", state)
    for k, feature in enumerate(study()[2]):
        fit = smf.ols(f"{feature} {LINEAR} + site", table).fit()
        residual = fit.resid
        site = pd.Series({name: fit.params.get(f"site[T.{name}]", 0.0) for name in table["site"].unique()})
        level = residual + table["site"].map(site)
        by_site = [residual[rows].to_numpy() for rows in table.groupby("site").groups.values()]
        levels = [level[rows].to_numpy() for rows in table.groupby("site").groups.values()]
        np.testing.assert_allclose(kruskal["statistic"].iloc[k], scipy.stats.kruskal(*levels).statistic, **DIGITS)
        np.testing.assert_allclose(levene["statistic"].iloc[k], scipy.stats.levene(*by_site).statistic, **DIGITS)
        # In a site of even size the two middle rows are equally far from the median, but for rounding in scipy.
        np.testing.assert_allclose(fligner["statistic"].iloc[k], scipy.stats.fligner(*by_site).statistic, rtol=1e-3)
        sds = [values.std(ddof=1) for values in by_site]
        np.testing.assert_allclose(levene["value"].iloc[k], max(sds) / min(sds), **DIGITS)


@states
@pytest.mark.parametrize("smooth", ["s(age)", "s(age, bs='cs')"])
def test_with_smooths_as_gam(state: str, smooth: str) -> None:
    """`gam` is compared with mgcv elsewhere, digit by digit; here it has the site among its terms."""
    formula = f"~ {smooth} + sex"
    anova = rows(formula, "ANOVA", state)
    fits = pcg.gam(f"{formula} + site", table_of(state), responses=study()[2])
    # The search for the smoothing parameters stops within 1e-6 of the optimum of the score, by either route.
    close = {"rtol": 1e-4, "atol": 1e-7}
    for k, feature in enumerate(study()[2]):
        terms = fits[feature].summary().terms
        np.testing.assert_allclose(anova[["statistic", "p"]].iloc[k], terms.loc["site", ["F", "p-value"]], **close)
        np.testing.assert_allclose(anova["df_residual"].iloc[k], fits[feature].df_residual, **close)


def test_false_discovery_rate_is_that_of_one_test_over_features() -> None:
    for formula in ("~ 1", LINEAR):
        table = diagnosis(formula).table
        tested = table[(table["feature"] != "")]
        assert tested.groupby(["measure", "state", "covariate"]).ngroups == (8 if formula == "~ 1" else 14)
        for _, family in tested.groupby(["measure", "state", "covariate"]):
            p = family["p"].sort_values()
            stepped = (p * len(p) / np.arange(1, len(p) + 1))[::-1].cummin()[::-1].clip(upper=1.0)
            # Products and minima, twice: rounding.
            np.testing.assert_allclose(family["p_adjusted"], stepped[family.index], rtol=1e-12)


def test_missing_cells_leave_out_rows_of_their_feature_only() -> None:
    table, _, features = study()
    rng = np.random.default_rng(3)
    holed = table.copy()
    for name in features[:3]:
        holed.loc[rng.random(len(table)) < 0.2, name] = np.nan
    holed.loc[holed["site"] == "Cork", features[3]] = np.nan
    found = pcg.diagnose(holed, formula="~ age", batch="site", features=features[:5], permutations=19)
    for _, row in found.table[found.table["measure"] == "ANOVA"].iterrows():
        some = holed[holed[row["feature"]].notna()]
        larger = smf.ols(f"{row['feature']} ~ age + site", some).fit()
        expected = anova_lm(smf.ols(f"{row['feature']} ~ age", some).fit(), larger).iloc[1]
        np.testing.assert_allclose(row[["statistic", "p"]].astype(float), expected[["F", "Pr(>F)"]], **DIGITS)
        assert row["n"] == len(some)
    left_out = "permutations and predictions left out 4 features of 5, with missing cells"
    assert any(left_out in note for note in found.notes)
    assert found.table.loc[found.table["measure"] == "ANOVA", "feature"].tolist() == features[:5]
    few = table.copy()
    for k, name in enumerate(features[:4]):
        few.loc[few.index[k], name] = np.nan
    found = pcg.diagnose(few, formula="~ age", batch="site", features=features[:5], permutations=19)
    assert "permutations and predictions used the 399 of 403 rows without missing cells" in found.notes
    assert (found.of("distribution").query("site == ''")["n"] == 399).all()


def test_a_constant_feature_and_a_site_of_one_row_are_named_and_left_out() -> None:
    table, _, features = study()
    odd = table.assign(flat=1.25)
    odd.loc[odd.index[0], "site"] = "Lone"
    found = pcg.diagnose(odd, batch="site", features=[*features[:4], "flat"], permutations=19)
    flat = found.table[found.table["feature"] == "flat"]
    assert len(flat) == 4
    assert flat[["statistic", "p", "p_adjusted", "value"]].isna().all().all()
    assert "no variance beyond rounding, not tested: flat" in found.notes
    assert any("sites of one row have no scale" in note and "Lone" in note for note in found.notes)
    assert any("sites with fewer than 5 rows were not predicted: Lone" in note for note in found.notes)
    several = odd[odd["site"] != "Lone"]
    for _, row in found.of("scale").query("measure == 'Levene' and feature != 'flat'").iterrows():
        expected = scipy.stats.levene(*(v.to_numpy() for _, v in several.groupby("site")[row["feature"]]))
        np.testing.assert_allclose([row["statistic"], row["p"]], [expected.statistic, expected.pvalue], **DIGITS)
