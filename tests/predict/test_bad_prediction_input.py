"""Bad input to `Predictor`: what was given, what is allowed, how to fix it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.clinics import FEATURES, clinic, clinics
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.svm import LinearSVC

import pycombat_gam as pcg
from pycombat_gam.errors import DataError, DesignError, FormulaError, NotFittedError, OptionError, PcgError, PcgWarning


def combat(formula: str = "~ age", **options: Any) -> pcg.ComBat:
    return pcg.ComBat(formula, **{"batch": "site", **options})


def fitted_combat() -> pcg.ComBat:
    return combat(features=FEATURES).fit(clinics(K=4))


def change(**columns: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda table: table.assign(**columns)


Same: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table  # noqa: E731  # one word where most cases have nothing to do

CASES: dict[str, tuple[str, dict[str, Any], Callable[[pd.DataFrame], pd.DataFrame], type[PcgError], str]] = {
    "the outcome in the harmonizer": (
        "y ~ 1", {"harmonizer": combat("~ age + y")}, Same, OptionError,
        "y is what is predicted: ComBat would see it at sites where it is unknown; leave it out",
    ),
    "the batch in the formula": ("y ~ age + site", {}, Same, OptionError, "'site' is the batch: at a new site its"),
    "the batch is the outcome": ("site ~ age", {}, Same, OptionError, "'site' is the batch"),
    "a fitted harmonizer": ("y ~ 1", {"harmonizer": fitted_combat}, Same, OptionError, "is fitted already"),
    "a harmonizer of another batch": (
        "y ~ 1", {"harmonizer": combat(batch="scanner")}, Same, OptionError, "the harmonizer's batch is 'scanner'",
    ),
    "a reference site": ("y ~ 1", {"harmonizer": combat(ref_batch="c1")}, Same, OptionError, "ref_batch='c1'"),
    "a harmonizer of other features": (
        "y ~ 1", {"harmonizer": combat(features=["x0"])}, Same, OptionError, "has 1 feature, the predictor 6 features",
    ),
    "a harmonizer that is none": ("y ~ 1", {"harmonizer": "ComBat"}, Same, OptionError, "give an unfitted pcg.ComBat"),
    "a harmonizer without features": (
        "y ~ age", {"harmonizer": combat(), "features": []}, Same, OptionError, "no feature to harmonize",
    ),
    "two sites": ("y ~ 1", {}, lambda t: t[t["site"] < "c2"], DesignError, r"2 sites \(c0 30, c1 30\).*at least 3"),
    "one site": ("y ~ 1", {}, lambda t: t[t["site"] == "c0"], DesignError, r"1 site \(c0 30\).*at least 3"),
    "three sites and a harmonizer": (
        "y ~ 1", {"harmonizer": combat()}, lambda t: t[t["site"] < "c3"], DesignError, "at least 4",
    ),
    "one class": ("y ~ 1", {}, change(y="ill"), DesignError, "has one class, 'ill' in 180 rows"),
    "a class at one site": (
        "y ~ 1", {}, lambda t: t.assign(y=np.where(t.index < 3, "rare", t["y"])), DesignError,
        r"class 'rare' of y is at one site only, c0 \(3 rows\)",
    ),
    "a missing outcome": (
        "y ~ 1", {}, lambda t: t.assign(y=t["y"].where(t.index != 7)), DataError, r"'y' is missing in 1 row \(.*7\)",
    ),
    "no outcome": ("~ age", {}, Same, FormulaError, "names no outcome"),
    "no such outcome": ("z ~ age", {}, Same, DataError, "z, which is not a column"),
    "the outcome on both sides": ("y ~ age + y", {}, Same, FormulaError, "is the outcome and among the predictors"),
    "two outcomes": ("cbind(y, age) ~ 1", {}, Same, FormulaError, "give one outcome"),
    "a random effect": ("y ~ (1 | sex)", {}, Same, FormulaError, "random effects cannot be predicted at a new site"),
    "an offset": ("y ~ offset(age)", {}, Same, FormulaError, r"offset\(\) has no place"),
    "nothing to predict from": ("y ~ 1", {"features": []}, Same, OptionError, "nothing to predict from"),
    "a level of one": ("y ~ 1", {"level": 1.0}, Same, OptionError, "level=1.0"),
    "a level as a percentage": ("y ~ 1", {"level": 90}, Same, OptionError, "level=90: give a number between 0 and 1"),
    "a count of sites": ("y ~ 1", {"sites": 9}, Same, OptionError, "sites=9: give the share of new sites"),
    "per_class as text": ("y ~ 1", {"per_class": "yes"}, Same, OptionError, "per_class='yes': give True or False"),
    "a seed below zero": ("y ~ 1", {"seed": -1}, Same, OptionError, "seed=-1"),
    "horizons of classes": ("y ~ 1", {"horizons": (1, 2)}, Same, OptionError, "horizons are for Surv"),
    "a case that is a list": ("y ~ 1", {"case": ["a"]}, Same, OptionError, "give the column"),
    "no such case": ("y ~ 1", {"case": "patient"}, Same, DataError, "case column 'patient' is not in the table"),
    "a case at two sites": ("y ~ 1", {"case": "sex"}, Same, DataError, "2 cases of column 'sex' at more than"),
    "a class of an estimator": ("y ~ 1", {"estimator": LogisticRegression}, Same, OptionError, "give an estimator of"),
    "an estimator without probabilities": ("y ~ 1", {"estimator": LinearSVC()}, Same, OptionError, "predict_proba"),
    "a regressor for classes": ("y ~ 1", {"estimator": LinearRegression()}, Same, OptionError, "predict_proba"),
    "missing features": (
        "y ~ 1", {}, lambda t: t.assign(x0=t["x0"].where(t.index > 4)), DataError, r"'x0' \(5\): complete the table",
    ),
    "missing covariates": ("y ~ age", {}, lambda t: t.assign(age=t["age"].where(t.index > 4)), DataError, "age"),
    "infinite features": (
        "y ~ 1", {}, lambda t: t.assign(x0=t["x0"].where(t.index > 4, np.inf)), DataError, "infinite values in 'x0'",
    ),
    "missing sites": ("y ~ 1", {}, lambda t: t.assign(site=t["site"].where(t.index > 4)), DataError, "missing values"),
    "duplicate ids": ("y ~ 1", {"id": "sex"}, Same, DataError, "duplicate ids"),
    "no such feature": ("y ~ 1", {"features": ["x9"]}, Same, OptionError, "no column 'x9'"),
    "a level of a factor at one site": (
        "y ~ sex", {}, lambda t: t.assign(sex=np.where(t.index < 3, "X", t["sex"])), DataError, "without 'c0'",
    ),
    "no table": ("y ~ 1", {}, lambda t: t.to_numpy(), PcgError, "DataFrame"),
    "no rows": ("y ~ 1", {}, lambda t: t.iloc[:0], PcgError, "no rows"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bad_input_at_fit(name: str) -> None:
    formula, options, edit, error, message = CASES[name]
    options = {key: value() if key == "harmonizer" and callable(value) else value for key, value in options.items()}
    model = pcg.Predictor(formula, batch="site", **{"features": FEATURES, "level": 0.8, **options})
    with pytest.raises(error, match=message) as caught:
        model.fit(edit(clinics()))
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def model() -> pcg.Predictor:
    return pcg.Predictor("y ~ age + sex", batch="site", features=FEATURES, level=0.8).fit(clinics())


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.drop(columns="x3"), "1 feature of the fit missing from the table: x3"),
        (lambda t: t.drop(columns="site"), "batch column 'site' is not in the table"),
        (lambda t: t.drop(columns="age"), "age"),
        (lambda t: t.assign(sex="X"), "X"),
        (lambda t: t.assign(x0=np.nan), "missing values in 'x0'"),
        (lambda t: t.assign(x0="a"), "x0"),
        (lambda t: t.iloc[:0], "no rows"),
    ],
)
def test_bad_input_at_predict(model: pcg.Predictor, edit: Callable[[pd.DataFrame], pd.DataFrame], message: str) -> None:
    new = clinic(np.random.default_rng(1), 10, "binary", "new").drop(columns="y")
    with pytest.raises(PcgError, match=message):
        model.predict(edit(new))


def test_labelled_rows_need_outcomes_of_the_fit(model: pcg.Predictor) -> None:
    new = clinic(np.random.default_rng(1), 20, "binary", "new")
    with pytest.raises(DataError, match="y"):
        model.predict(new.iloc[:5], labelled=new.iloc[5:].drop(columns="y"))
    with pytest.raises(DataError, match=r"'dead' in 15 rows .* the classes of the fit are ill, well"):
        model.predict(new.iloc[:5], labelled=new.iloc[5:].assign(y="dead"))
    with pytest.raises(DataError, match="labelled"):
        model.predict(new.iloc[:5], labelled=new.iloc[5:].assign(site="elsewhere"))


def test_an_unfitted_model_says_so() -> None:
    with pytest.raises(NotFittedError, match="not fitted yet"):
        pcg.Predictor("y ~ 1").predict(clinics())
    with pytest.raises(NotFittedError, match="not fitted yet"):
        _ = pcg.Predictor("y ~ 1").validation


def test_a_class_at_too_few_sites_is_warned_of_and_stays_in_every_set() -> None:
    table = clinics(K=10)
    rare = (table["site"] < "c3") & (table.groupby("site").cumcount() < 6)
    table["y"] = np.where(rare, "rare", table["y"])
    with pytest.warns(
        PcgWarning, match=r"'rare' \(at 3 sites, at most 75\.0 %\) is a class at too few of the 10 sites"
    ):
        model = pcg.Predictor("y ~ 1", batch="site", features=FEATURES, level=0.9).fit(table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PcgWarning)
        answers = model.predict(clinic(np.random.default_rng(1), 10, "binary", "new"))
    assert all("rare" in members for members in answers["set"])
