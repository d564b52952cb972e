"""Sites and covariates predicted: known answers, scikit-learn's metrics, and what held-out rows may not know."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

import pycombat_gam as pcg
from pycombat_gam.diagnose.held_out import by_fold, by_site
from pycombat_gam.diagnose.site_prediction import Folds
from pycombat_gam.diagnose.study import Study

FORMULA = "~ age + sex"


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


def test_folds_hold_every_site_and_keep_subjects_together() -> None:
    study = pcg.datasets.simulate_multisite(sites=3, subjects=[30, 12, 3], features=3, visits=2, seed=1)
    some = Study.of(
        study.table, None, formula="~ age + (1|subject)", batch="site", features=list(study.features),
        id=["subject", "visit"], covariates=None,
    )  # fmt: skip
    folds = Folds.of(some, 5, seed=0)
    assert folds.left_out(some) == [some.sites[2]]
    by_subject = pd.Series(folds.fold).groupby(some.table["subject"].to_numpy()).nunique()
    assert (by_subject == 1).all()
    sizes = pd.crosstab(some.codes[folds.fold >= 0], folds.fold[folds.fold >= 0])
    assert sizes.shape == (2, 5)
    assert (sizes.max(axis=1) - sizes.min(axis=1) <= 2).all()  # one subject has two rows


def test_balanced_accuracy_is_that_of_scikit_learn() -> None:
    table, _, _ = packaged()
    study = study_of(table, "~ 1")
    folds = Folds.of(study, 5, seed=0)
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
    assert found.loc[("age", "held out"), "value"] < found.loc[("age", "before"), "value"]


def test_held_out_rows_tell_the_model_nothing() -> None:
    """Other values in the rows of a fold, or of a site, leave what the model does to the other rows as it was."""
    table, _, model = packaged()
    study = study_of(table)
    columns = np.arange(3)
    folds = Folds.of(study, 5, seed=0)
    by_folds, by_sites = list(by_fold(study, model, folds, columns)), list(by_site(study, model, columns))
    train, test = next(iter(folds))
    study.states["before"][test] += 100.0 * np.arange(test.sum())[:, None]
    np.testing.assert_array_equal(next(by_fold(study, model, folds, columns))[train], by_folds[0][train])
    study = study_of(table)
    own = study.codes == 2
    study.states["before"][own] += 100.0
    np.testing.assert_array_equal(list(by_site(study, model, columns))[2][~own], by_sites[2][~own])


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
    assert "with two sites a prediction leaving one out rests on one: left out" in found.notes


def test_many_rows_are_sampled_and_that_is_said() -> None:
    study = pcg.datasets.simulate_multisite(sites=4, subjects=2400, features=3, seed=2)
    found = pcg.diagnose(study.table, batch="site", id="subject", features=list(study.features), permutations=19)
    assert any("permutations and predictions used 1,999 of 2,400 rows" in note for note in found.notes)
    assert (found.of("location")["n"] == 2400).all()
    assert (found.of("distribution").query("site == ''")["n"] == 1999).all()  # 2,000, rounded site by site
