"""scikit-learn's conventions: clone, parameters, pipelines, cross-validation; only training rows inform a fit."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.study import FEATURES, study
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

import pycombat_gam as pcg
from pycombat_gam.errors import OptionError, PcgError

ALL_OPTIONS: dict[str, Any] = {
    "formula": "~ age",
    "batch": "site",
    "features": FEATURES,
    "id": ["subject"],
    "ref_batch": "Oslo",
    "eb": False,
    "prior": "nonparametric",
    "mean_only": True,
    "smoothing": "ML",
    "mean_model": None,
    "batch_model": None,
    "on_unseen": "estimate",
    "missing": "omit",
    "output": "features",
    "seed": 5,
}


def combat(**options: Any) -> pcg.ComBat:
    return pcg.ComBat("~ age", batch="site", features=FEATURES, **options)


def big() -> pd.DataFrame:
    """84 subjects, so that five folds keep several of each site."""
    return pd.concat([study(seed) for seed in range(4)], ignore_index=True)


# Parameters


def test_parameters_come_back_as_given_and_survive_clone() -> None:
    model = pcg.ComBat(**ALL_OPTIONS)
    assert model.get_params() == ALL_OPTIONS
    assert model.get_params()["features"] is FEATURES
    copy = clone(model)
    assert copy is not model
    assert copy.get_params() == ALL_OPTIONS
    assert repr(copy) == repr(model)


def test_clone_forgets_the_fit_and_leaves_the_original() -> None:
    model = combat().fit(study())
    copy = clone(model)
    with pytest.raises(NotFittedError):
        check_is_fitted(copy)
    check_is_fitted(model)


def test_set_params_is_chained_and_checked() -> None:
    model = combat()
    assert model.set_params(eb=False, formula="~ 1") is model
    assert (model.eb, model.formula) == (False, "~ 1")
    with pytest.raises(OptionError, match="no parameter 'formla'; did you mean 'formula'"):
        model.set_params(formla="~ 1")


def test_the_constructor_checks_nothing_and_keeps_everything() -> None:
    """As scikit-learn asks; the error comes at fit."""
    model = pcg.ComBat("~ age +", batch="site", prior="flat")
    assert model.prior == "flat"
    with pytest.raises(OptionError, match="flat"):
        model.fit(study())


def test_fit_returns_self_and_refitting_forgets() -> None:
    model = combat()
    assert model.fit(study(1)) is model
    model.fit(study(0))
    pd.testing.assert_frame_equal(model.transform(study()), combat().fit_transform(study()))


def test_options_of_the_fit_ask_for_another_fit() -> None:
    """A changed fitting option would contradict the numbers: nothing is answered until it is fitted or set back."""
    model = combat().fit(study())
    before = model.transform(study())
    model.set_params(eb=False, mean_only=True)
    for use in (lambda: model.transform(study()), model.summary, lambda: model.estimates):
        with pytest.raises(PcgError, match="eb, mean_only changed after the fit: call fit again"):
            use()
    model.set_params(eb=True, mean_only=False, on_unseen="estimate", output="table")
    pd.testing.assert_frame_equal(model.transform(study()), before)


def test_pickling_for_parallel_workers_works() -> None:
    """joblib ships estimators to workers by pickle; models on disk are never one."""
    model = combat().fit(study())
    again = pickle.loads(pickle.dumps(model))
    pd.testing.assert_frame_equal(again.transform(study()), model.transform(study()))


# Pipelines


def pipeline(**options: Any) -> Pipeline:
    return make_pipeline(combat(output="features", **options), StandardScaler(), LogisticRegression())


def test_in_a_pipeline() -> None:
    table = big()
    y = (table["dx"] == "AD").to_numpy()
    fitted = pipeline().fit(table, y)
    by_hand = StandardScaler().fit_transform(combat(output="features").fit_transform(table).to_numpy())
    expected = LogisticRegression().fit(by_hand, y)
    # The same numbers enter: rounding.
    np.testing.assert_allclose(fitted.predict_proba(table), expected.predict_proba(by_hand), atol=1e-12)
    assert fitted[0].get_feature_names_out().tolist() == FEATURES
    assert fitted[:-1].get_feature_names_out().tolist() == FEATURES


@pytest.mark.parametrize("kind", [list, np.array, pd.Series, tuple], ids=["list", "array", "series", "tuple"])
def test_y_of_any_kind_is_ignored(kind: Any) -> None:
    y = kind([0, 1, 2] * 7)
    pd.testing.assert_frame_equal(combat().fit_transform(study(), y), combat().fit_transform(study()))
    pd.testing.assert_frame_equal(combat().fit(study(), y).transform(study()), combat().fit_transform(study()))


def test_pipeline_output_as_pandas() -> None:
    pipe = make_pipeline(combat(output="features"), StandardScaler()).set_output(transform="pandas")
    out = pipe.fit_transform(study())
    assert out.columns.tolist() == FEATURES
    assert str(pipe)


def test_pipeline_parameters_reach_combat() -> None:
    pipe = pipeline().set_params(combat__eb=False, combat__formula="~ age + sex")
    assert pipe[0].get_params()["formula"] == "~ age + sex"
    assert clone(pipe).get_params()["combat__eb"] is False


# Cross-validation on a wide table


def test_cross_val_score_with_folds_stratified_by_site() -> None:
    table = big()
    y = (table["dx"] == "AD").to_numpy()
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(table, table["site"]))
    scores = cross_val_score(pipeline(), table, y, cv=folds, error_score="raise")
    by_hand = []
    for train, test in folds:
        pipe = pipeline().fit(table.iloc[train], y[train])
        by_hand.append(pipe.score(table.iloc[test], y[test]))
    assert scores.tolist() == by_hand


def test_only_training_rows_inform_the_fit() -> None:
    """Test rows made absurd change no estimate, bit for bit, and no prediction of the others."""
    table = big()
    for train, test in StratifiedKFold(4, shuffle=True, random_state=1).split(table, table["site"]):
        spoiled = table.copy()
        spoiled.loc[test, FEATURES] = 1e6
        spoiled.loc[test, "age"] = -5.0
        honest = combat().fit(table.iloc[train])
        again = combat().fit(spoiled.iloc[train])
        for name in ("coefficients", "gamma_star", "delta_star", "var_pooled", "grand_mean", "t2"):
            assert np.array_equal(getattr(honest.estimates, name), getattr(again.estimates, name)), name
        honest.transform(spoiled.iloc[test])
        pd.testing.assert_frame_equal(honest.transform(table.iloc[train]), again.transform(table.iloc[train]))


def test_cross_val_predict_does_not_leak_between_folds() -> None:
    table, y = big(), np.tile([0.0, 1.0, 2.0], 28)
    folds = list(KFold(4, shuffle=True, random_state=2).split(table))
    pipe = make_pipeline(combat(output="features"), Ridge())
    plain = cross_val_predict(pipe, table, y, cv=folds)
    spoiled = table.copy()
    spoiled.loc[folds[0][1], FEATURES] += 100.0
    moved = cross_val_predict(pipe, spoiled, y, cv=[folds[0], *folds[1:]])
    held_out = folds[0][1]
    assert not np.allclose(plain[held_out], moved[held_out])
    # With fold 0 alone: its training rows are as before, so its model is, and so is every other test row's.
    pipe.fit(table.iloc[folds[0][0]], y[folds[0][0]])
    np.testing.assert_array_equal(plain[held_out], pipe.predict(table.iloc[held_out]))
    np.testing.assert_array_equal(moved[held_out], pipe.predict(spoiled.iloc[held_out]))


def test_a_fold_without_a_site_says_so() -> None:
    table = big()
    train = table[table["site"] != "Turin"]
    model = combat(output="features").fit(train)
    with pytest.raises(ValueError, match="batch Turin was not in the fit"):
        model.transform(table)
    with pytest.warns(pcg.PcgWarning, match="estimated from its 24 rows"):
        combat(on_unseen="estimate").fit(train).transform(table)


def test_grid_search_over_combats_parameters() -> None:
    table = big()
    y = table["age"].to_numpy()
    pipe = make_pipeline(combat(output="features"), Ridge())
    grid = {"combat__eb": [True, False], "combat__formula": ["~ 1", "~ sex"], "ridge__alpha": [0.1, 10.0]}
    folds = list(StratifiedKFold(3, shuffle=True, random_state=0).split(table, table["site"]))
    search = GridSearchCV(pipe, grid, cv=folds, error_score="raise").fit(table, y)
    assert len(search.cv_results_["params"]) == 8
    best = clone(pipe).set_params(**search.best_params_)
    scores = cross_val_score(best, table, y, cv=folds)
    # A mean of five scores: rounding.
    assert search.best_score_ == pytest.approx(scores.mean(), rel=1e-12)
    assert np.isfinite(search.predict(table.iloc[[0, 20]])).all()
