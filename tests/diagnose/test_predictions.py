"""Sites and covariates predicted: known answers, scikit-learn's metrics, and what held-out rows may not know."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

import pycombat_gam as pcg
from pycombat_gam.diagnose.classify import balanced_accuracy
from pycombat_gam.diagnose.held_out import as_given, by_fold, by_site
from pycombat_gam.diagnose.rows import tidy
from pycombat_gam.diagnose.site_prediction import Folds, site_prediction
from pycombat_gam.diagnose.study import Study
from pycombat_gam.study.units import Units

FORMULA = "~ age + sex"
FEATURES = [f"lh_{region}_thickness" for region in ("precuneus", "insula", "entorhinal", "fusiform")]


@cache
def packaged() -> tuple[pd.DataFrame, pd.DataFrame, pcg.ComBat]:
    table = pcg.datasets.load_multisite()
    model = pcg.ComBat(FORMULA, batch="site", id="subject", features="_thickness$")
    return table, model.fit_transform(table), model


@cache
def diagnosis() -> pcg.Diagnosis:
    table, harmonized, model = packaged()
    return pcg.diagnose(table, harmonized, model=model, permutations=19)


def study_of(table: pd.DataFrame, formula: str = FORMULA) -> Study:
    features = packaged()[2].get_feature_names_out().tolist()
    return Study.of(table, None, formula=formula, batch="site", features=features, id="subject", covariates=None)


def test_sites_are_told_apart_before_and_not_after() -> None:
    found = diagnosis().of("site prediction").set_index(["measure", "state"])
    assert (found["chance"] == 1 / 8).all()
    for measure in ("logistic", "SVM"):
        assert found.loc[(measure, "before"), "lower"] > 0.5
        assert found.loc[(measure, "held out"), "lower"] < 0.2
        # In the rows that it was fitted on, harmonization makes sites' means equal: that is below chance.
        assert found.loc[(measure, "after"), "upper"] < 1 / 8
    assert ((found["lower"] <= found["value"]) & (found["value"] <= found["upper"])).all()


def test_pure_noise_is_predicted_by_chance() -> None:
    """In 20 tables without any site effect the interval holds 1/3 in about 19."""
    held = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        noise = pd.DataFrame(rng.standard_normal((90, 4)), columns=list("abcd")).assign(site=np.repeat([1, 2, 3], 30))
        found = pcg.diagnose(noise, batch="site", permutations=19, seed=seed).of("site prediction")
        one = found[found["measure"] == "logistic"].iloc[0]
        held += one["lower"] <= 1 / 3 <= one["upper"]
    assert held >= 16  # fewer would happen once in 400 times at 95 %


def test_folds_hold_every_site() -> None:
    codes = np.repeat([0, 1, 2], [30, 12, 3])
    folds = Folds.of(Units(codes, None), 5, seed=0)
    assert folds.left_out(["a", "b", "c"]) == ["c"]
    sizes = pd.crosstab(codes[folds.fold >= 0], folds.fold[folds.fold >= 0])
    assert sizes.shape == (2, 5)
    assert (sizes.max(axis=1) - sizes.min(axis=1) <= 1).all()
    assert sum(test.sum() for _, test in folds) == 42


@pytest.mark.parametrize(("sites", "rows"), [(3, 30), (8, 20), (20, 15), (30, 10), (100, 6)])
def test_the_interval_of_random_guesses_holds_chance(sites: int, rows: int) -> None:
    """In 95 % of 400 draws, give or take 3.3 binomial standard errors."""
    rng = np.random.default_rng(sites)
    truth = np.repeat(np.arange(sites), rows)
    found = np.array([balanced_accuracy(truth, rng.integers(sites, size=truth.size)) for _ in range(400)])
    value, error = found.T
    above, below = (value - 1.96 * error > 1 / sites).mean(), (value + 1.96 * error < 1 / sites).mean()
    assert above <= 0.025 + 3.3 * np.sqrt(0.025 * 0.975 / 400)
    # One draw in so many finds nobody: its interval is wide enough, if anything too wide.
    assert below <= 0.025 + 3.3 * np.sqrt(0.025 * 0.975 / 400)


def test_balanced_accuracy_is_that_of_scikit_learn() -> None:
    table, _, _ = packaged()
    study = study_of(table, "~ 1")
    folds = Folds.of(Units(study.codes, None), 5, seed=0)
    values = study.states["before"]
    scaled = (values - values.mean(axis=0)) / values.std(axis=0)
    guess = np.full(len(scaled), -1)
    for train, test in folds:
        model = LogisticRegression(class_weight="balanced", max_iter=200, tol=1e-3)
        guess[test] = model.fit(scaled[train], study.codes[train]).predict(scaled[test])
    found = pcg.diagnose(
        table, formula="~ 1", batch="site", id="subject", features=list(study.features), permutations=19
    ).of("site prediction")
    expected = balanced_accuracy_score(study.codes, guess)
    # A share of rows: rounding.
    assert found.set_index("measure").loc["logistic", "value"] == pytest.approx(expected, abs=1e-12)


def test_covariates_are_predicted_leaving_each_site_out() -> None:
    table, _, model = packaged()
    values = table[model.get_feature_names_out().tolist()].to_numpy()
    scaled = (values - values.mean(axis=0)) / values.std(axis=0)
    age, male = table["age"].to_numpy(), (table["sex"] == "M").to_numpy(dtype=int)
    error, plain, margin = np.empty(len(age)), np.empty(len(age)), np.empty(len(age))
    for site in table["site"].unique():
        own = (table["site"] == site).to_numpy()
        ridge = RidgeCV(alphas=np.geomspace(1e-1, 1e5, 13)).fit(scaled[~own], age[~own])
        error[own], plain[own] = np.abs(ridge.predict(scaled[own]) - age[own]), np.abs(age[~own].mean() - age[own])
        logistic = LogisticRegression(class_weight="balanced", max_iter=200, tol=1e-3, C=0.01)
        margin[own] = logistic.fit(scaled[~own], male[~own]).decision_function(scaled[own])
    found = diagnosis().of("covariate prediction").set_index(["covariate", "state"])
    # Sums in another order; the logistic regression stops at a tolerance, after which a pair of rows may swap.
    assert found.loc[("age", "before"), "value"] == pytest.approx(error.mean(), rel=1e-8)
    assert found.loc[("age", "before"), "chance"] == pytest.approx(plain.mean(), rel=1e-12)
    assert found.loc[("sex", "before"), "value"] == pytest.approx(roc_auc_score(male, margin), abs=1e-3)
    # Nothing of a site's ages is known to what harmonizes it: its mean age stays in its site effect.
    assert found.loc[("age", "held out"), "value"] > found.loc[("age", "after"), "value"]


def test_held_out_rows_tell_the_model_nothing() -> None:
    """Other values in the rows of a fold, or of a site, leave what the model does to the other rows as it was."""
    table, _, model = packaged()
    study = study_of(table)
    columns = np.arange(3)
    folds = Folds.of(Units(study.codes, None), 5, seed=0)
    by_folds = list(by_fold(study, model, folds, columns, None))
    by_sites = list(by_site(study, model, columns, "age", None))
    train, test = next(iter(folds))
    study.states["before"][test] += 100.0 * np.arange(test.sum())[:, None]
    again = next(by_fold(study, model, folds, columns, None))
    np.testing.assert_array_equal(again.values[train], by_folds[0].values[train])
    study = study_of(table)
    own = study.codes == 2
    study.states["before"][own] += 100.0
    np.testing.assert_array_equal(list(by_site(study, model, columns, "age", None))[2][~own], by_sites[2][~own])


def test_the_covariate_to_be_predicted_is_unknown_to_what_harmonizes() -> None:
    """Other ages of the site left out leave every harmonized value as it was."""
    table, _, model = packaged()
    columns = np.arange(3)
    given = list(by_site(study_of(table), model, columns, "age", None))[2]
    study = study_of(table)
    study.table.loc[study.codes == 2, "age"] += 30.0
    np.testing.assert_array_equal(list(by_site(study, model, columns, "age", None))[2], given)


@pytest.mark.parametrize(("formula", "column"), [("~ male", "male"), ("~ factor(wave)", "wave"), ("~ dx", "dx")])
def test_groups_are_groups_whatever_they_are_called(formula: str, column: str) -> None:
    table = packaged()[0]
    table = table.assign(male=(table["sex"] == "M").astype(int), wave=1 + np.arange(len(table)) % 4)
    found = pcg.diagnose(table, formula=formula, batch="site", id="subject", features=FEATURES, permutations=19).of(
        "covariate prediction"
    )
    assert found["covariate"].tolist() == [column]
    assert found["measure"].tolist() == ["balanced accuracy" if column == "wave" else "AUC"]


def test_what_is_held_out_keeps_to_the_rows_of_the_fit() -> None:
    table, _, model = packaged()
    controls = (table["dx"] == "control").to_numpy()
    part = pcg.ComBat("~ age + sex", batch="site", id="subject", features=FEATURES)
    harmonized = part.fit_transform(table, fit_mask=controls)
    silent = pcg.diagnose(table, harmonized, model=part, permutations=19)
    assert "held out" not in silent.states
    assert any("give fit_mask" in note for note in silent.notes)
    found = pcg.diagnose(table, harmonized, model=part, fit_mask=controls, permutations=19)
    assert "held out" in found.states
    study = study_of(table)
    mask = controls[study.order]
    first = list(by_site(study, model, np.arange(3), "age", mask))
    study.states["before"][~mask] *= 3.0
    for b, (one, two) in enumerate(zip(first, by_site(study, model, np.arange(3), "age", mask), strict=True)):
        estimating = mask & (study.codes != b)
        np.testing.assert_array_equal(one[estimating], two[estimating])
    with pytest.raises(pcg.PcgError, match="fit_mask must hold 403 booleans"):
        pcg.diagnose(table, harmonized, model=part, fit_mask=controls[:5], permutations=19)


def test_a_reference_site_may_be_the_one_left_out() -> None:
    table, _, _ = packaged()
    model = pcg.ComBat(FORMULA, batch="site", id="subject", features="_thickness$", ref_batch="Bergen")
    found = pcg.diagnose(table, model.fit_transform(table), model=model, permutations=19)
    assert set(found.of("covariate prediction")["state"]) == {"before", "after", "held out"}
    assert np.isnan(found.of("shrinkage").set_index(["measure", "site"]).loc[("location kept", "Bergen"), "value"])


def test_two_sites_leave_nothing_to_predict_from() -> None:
    table = packaged()[0]
    two = table[table["site"].isin(["Bergen", "Evora"])]
    found = pcg.diagnose(two, formula=FORMULA, batch="site", features="_thickness$", permutations=19)
    assert found.of("covariate prediction").empty
    assert "covariates were not predicted at left-out sites: two sites are too few" in found.notes


def test_many_rows_are_sampled_and_that_is_said() -> None:
    study = pcg.datasets.simulate_multisite(sites=4, subjects=2400, features=3, seed=2)
    found = pcg.diagnose(study.table, batch="site", id="subject", features=list(study.features), permutations=19)
    assert any("permutations and predictions used 1,999 of 2,400 rows" in note for note in found.notes)
    assert (found.of("location")["n"] == 2400).all()
    assert (found.of("distribution").query("site == ''")["n"] == 1999).all()  # 2,000, rounded site by site


def confounded(seed: int, shift: float = 0.0) -> pd.DataFrame:
    """Sites of 40 whose ages hardly overlap; features depend on age alone, and at the second site on `shift`."""
    rng = np.random.default_rng(seed)
    site = np.repeat([0, 1, 2], 40)
    age = rng.normal(np.array([30, 45, 60])[site], 8)
    values = 0.03 * age[:, None] + shift * (site == 1)[:, None] * [1, -1, 1, -1, 1] + rng.normal(size=(120, 5))
    table = pd.DataFrame(values, columns=list("abcde"))
    return table.assign(site=site, age=age, sex=np.where(rng.random(120) < 0.3 + 0.2 * site, "M", "F"))


def predicted(table: pd.DataFrame) -> pd.DataFrame:
    study = Study.of(table, None, formula="~ age + sex", batch="site", features=list("abcde"), id=None, covariates=None)
    folds = Folds.of(Units(study.codes, None), 5, seed=0)
    return tidy(site_prediction(folds, as_given(study, study.states["before"], folds), "before", level=0.05), [])


def test_covariates_that_differ_between_sites_do_not_tell_the_sites_apart() -> None:
    """40 tables without site effects: 2 rejections are expected, more than 7 come with probability 0.001 at 5 %.

    With the covariates' part estimated on all rows, or beside sites, two thirds are rejected here.
    """
    p = np.array([predicted(confounded(seed))["p"] for seed in range(40)])
    assert ((p < 0.05).sum(axis=0) <= 7).all()
    assert (predicted(confounded(1, shift=1.0))["p"] < 1e-3).all()


def test_rows_that_are_tested_have_no_part_in_what_is_taken_off() -> None:
    table, _, _ = packaged()
    study = study_of(table)
    folds = Folds.of(Units(study.codes, None), 5, seed=0)
    first = next(as_given(study, study.states["before"], folds)).values
    train, test = next(iter(folds))
    X = np.column_stack([np.ones(len(study.codes)), study.table["age"], study.table["sex"] == "M"]).astype(float)
    Y = study.states["before"]
    beta = np.linalg.lstsq(X[train], Y[train], rcond=None)[0]
    # Two ways to least squares.
    np.testing.assert_allclose(first[train | test], (Y - X @ beta)[train | test], atol=1e-9)
