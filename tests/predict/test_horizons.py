"""Risks at horizons: what they are without censoring, what leaves them alone, and what stops a fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.followed import followed
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import pycombat_gam as pcg
from pycombat_gam.errors import DataError, DesignError, ModelFileError, OptionError
from pycombat_gam.predict.horizons import FittedHazards, Hazards, check_horizons, in_interval
from pycombat_gam.predict.learners import Ridge
from pycombat_gam.predict.measures.kaplan_meier import kaplan_meier
from pycombat_gam.predict.missing import takes_missing
from pycombat_gam.saving.reader import Reader

HORIZONS = (90, 182, 365)
FORMULA = "Surv(time, dead) ~ age"


def model(**options: Any) -> pcg.Predictor:
    return pcg.Predictor(FORMULA, batch="site", **{"features": "^x", "horizons": HORIZONS, **options})


def arrays(fitted: Any) -> list[np.ndarray]:
    return [fold.learner.arrays() for fold in fitted.without]


@pytest.mark.parametrize("estimator", [None, HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=5)])
def test_risks_do_not_decrease(estimator: object) -> None:
    table = followed()
    fitted = model(estimator=estimator).fit(table)
    new = followed(8, sites=2).assign(site="new")
    risks = fitted.predict(new)
    assert list(risks.columns) == ["risk_90", "risk_182", "risk_365"]
    assert risks.index.equals(new.index)
    for R in (risks.to_numpy(), fitted.fitted.evidence.left_out):
        assert (np.diff(R, axis=1) >= 0).all() and (R >= 0).all() and (R <= 1).all()
    # At a site of the fit the model without it answers, so that these are the predictions left out.
    np.testing.assert_array_equal(fitted.predict(table).to_numpy(), fitted.fitted.evidence.left_out)


@pytest.mark.parametrize("harmonizer", [None, pcg.ComBat("~ age", batch="site")])
def test_without_censoring_one_horizon_is_two_classes(harmonizer: Any) -> None:
    table = followed(censored=False)
    new = followed(8, sites=1).assign(site="new")
    risks = model(horizons=365, harmonizer=harmonizer).fit(table)
    early = np.where(table["time"] <= 365, "yes", "no")
    classes = pcg.Predictor("early ~ age", batch="site", features="^x", harmonizer=harmonizer, level=0.5)
    classes.fit(table.drop(columns=["time", "dead"]).assign(early=early))
    # 1 − (1 − p) rounds twice, and products of rows in another layout of memory sum in another order.
    close = {"rtol": 0, "atol": 1e-14}
    np.testing.assert_allclose(risks.fitted.evidence.left_out[:, 0], classes.fitted.evidence.left_out[:, 1], **close)
    np.testing.assert_allclose(risks.predict(new)["risk_365"], classes.predict(new)["p_yes"], **close)


def test_row_order_and_names_of_sites() -> None:
    table, new = followed(), followed(8, sites=1).assign(site="new")
    names = {f"site {k}": name for k, name in enumerate(["q", "b", "z", "a", "m"])}
    other = table.assign(site=table["site"].map(names)).sample(frac=1, random_state=1)
    first, second = model().fit(table), model().fit(other)
    # Sums in another order, and Newton's method stopped at a gradient of 1e-10 a row.
    close = {"rtol": 0, "atol": 1e-10}
    np.testing.assert_allclose(first.predict(new), second.predict(new), **close)
    back = pd.DataFrame(second.fitted.evidence.left_out, index=other.index).loc[table.index]
    np.testing.assert_allclose(first.fitted.evidence.left_out, back, **close)


@pytest.mark.parametrize("harmonizer", [None, pcg.ComBat("~ s(age, k=4)", batch="site")])
def test_times_of_a_site_left_out_change_nothing(harmonizer: Any) -> None:
    table = followed()
    there = (table["site"] == "site 2").to_numpy()
    changed = table.assign(
        time=np.where(there, table["time"].to_numpy()[::-1] + 20, table["time"]),
        dead=np.where(there, 1 - table["dead"], table["dead"]),
    )
    first, second = (model(harmonizer=harmonizer).fit(t).fitted for t in (table, changed))
    assert not np.array_equal(first.evidence.y, second.evidence.y)
    np.testing.assert_array_equal(first.evidence.left_out[there], second.evidence.left_out[there])
    before, after = arrays(first), arrays(second)
    assert all(np.array_equal(before[2][name], after[2][name]) for name in before[2])
    name = "interval1.coefficients"
    assert not any(np.array_equal(before[k][name], after[k][name]) for k in (0, 1, 3, 4))
    if harmonizer is not None:
        np.testing.assert_array_equal(first.raw.left_out[there], second.raw.left_out[there])


def test_who_is_known_to_the_end_of_an_interval() -> None:
    y = np.array([[t, d] for t in (100.0, 182.0, 200.0, 365.0, 366.0) for d in (1.0, 0.0)])
    events, free = in_interval(y, 182.0, 365.0)
    # Of pairs event, censored at 100, 182, 200, 365, 366: one censored at 365 was followed to it.
    assert events.tolist() == [False, False, False, False, True, False, True, False, False, False]
    assert free.tolist() == [False] * 7 + [True, True, True]


def test_without_columns_risks_are_kaplan_and_meiers() -> None:
    """Leaving out rows censored within an interval raises no risk: the odds are corrected."""
    table = followed(rows=200)
    y, sites = table[["time", "dead"]].to_numpy(float), pd.factorize(table["site"])[0]
    X = np.ones((len(y), 1))
    observed, _ = kaplan_meier(y[:, 0], y[:, 1] == 1, np.array([90.0, 365.0, 900.0]))
    fit = Hazards(Ridge(2), (90.0, 365.0, 900.0)).fit(X, ("one",), y, sites)
    # Nobody is censored before day 200.
    assert fit.factor[0] == 1 and (fit.factor[1:] < 0.95).all()
    # Newton's method stops at a gradient of 1e-10 a row.
    np.testing.assert_allclose(fit.predict(X[:1], ("one",))[0], observed, rtol=0, atol=1e-9)
    known = in_interval(y, 0.0, 365.0)
    assert known[0].sum() / (known[0] | known[1]).sum() > observed[1] + 0.01


def test_saved_hazards_come_back() -> None:
    table = followed()
    X = table[["x0", "x1"]].to_numpy()
    y, sites = table[["time", "dead"]].to_numpy(float), pd.factorize(table["site"])[0]
    fit = Hazards(Ridge(2), (90.0, 365.0)).fit(X, ("x0", "x1"), y, sites)
    saved = fit.arrays()
    parts = {f"interval{j}.{name}" for j in (1, 2) for name in ("intercept", "coefficients", "penalty")}
    assert set(saved) == {"factor", *parts}
    again = FittedHazards.read(Reader(saved, "the saved learner"), 2, 2)
    np.testing.assert_array_equal(again.predict(X, ("x0", "x1")), fit.predict(X, ("x0", "x1")))
    with pytest.raises(ModelFileError, match=r"must hold 'interval3\.intercept'"):
        FittedHazards.read(Reader(saved, "the saved learner"), 2, 3)
    with pytest.raises(ModelFileError, match=r"interval 1 of the saved learner must hold finite numbers of shape \(3"):
        FittedHazards.read(Reader(saved, "the saved learner"), 3, 2)


def test_an_interval_of_one_kind_makes_no_hazard_up() -> None:
    table = followed()
    y, sites = table[["time", "dead"]].to_numpy(float), np.zeros(len(table), dtype=np.intp)
    X = table[["x0"]].to_numpy()
    y[:, 1] = 0
    with pytest.raises(DesignError, match=r"there are 0 events, and .* rows followed to 90 without one"):
        Hazards(Ridge(2), (90.0,)).fit(X, ("x0",), y, sites)
    y[:] = 10.0, 1.0
    with pytest.raises(DesignError, match="there are 200 events, and 0 rows followed"):
        Hazards(Ridge(2), (90.0,)).fit(X, ("x0",), y, sites)


def test_missing_cells_go_to_an_imputer_inside_the_fold() -> None:
    table = followed()
    table.loc[::7, "x1"] = np.nan
    with pytest.raises(DataError, match="missing values in 'x1'"):
        model().fit(table)
    pipe = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())
    fitted = model(estimator=pipe).fit(table)
    assert np.isfinite(fitted.fitted.evidence.left_out).all()
    there = (table["site"] == "site 1").to_numpy()
    other = table.assign(x1=table["x1"].where(~there, table["x1"] * 50))
    # An imputer fitted to all rows would carry the site's values into the models of the others.
    np.testing.assert_array_equal(
        model(estimator=pipe).fit(other).fitted.without[1].predict(*same_rows(fitted, table)),
        fitted.fitted.without[1].predict(*same_rows(fitted, table)),
    )


def same_rows(fitted: pcg.Predictor, table: pd.DataFrame) -> tuple[Any, Any]:
    rows, _ = fitted.fitted.layout.read(table[table["site"] == "site 1"], fitted.fitted.levels)
    return rows, rows.codes


def test_which_estimators_take_missing_cells() -> None:
    from sklearn.compose import make_column_transformer
    from sklearn.model_selection import GridSearchCV

    impute, scale, logit = SimpleImputer(), StandardScaler(), LogisticRegression()
    by_column = make_column_transformer((SimpleImputer(), ["x1"]), remainder="passthrough")
    inside = make_pipeline(scale, impute, logit)
    taking = [HistGradientBoostingClassifier(), inside, make_pipeline(impute, logit), GridSearchCV(inside, {})]
    taking.append(make_pipeline(make_column_transformer((SimpleImputer(), ["x1"])), logit))
    # What an imputer of one column passes through may still lack cells.
    refusing = [logit, make_pipeline(scale, logit), make_pipeline(by_column, logit), GridSearchCV(logit, {})]
    assert [takes_missing(e) for e in taking + refusing] == [True] * 5 + [False] * 4


@pytest.mark.parametrize(
    ("horizons", "message"),
    [
        ((365, 182), r"are not sorted: give \(182, 365\)"),
        ((182, 182.0), "holds 182 more than once"),
        ((0, 365), "give increasing positive times"),
        ((365, np.nan), "give increasing positive times"),
        ((365, np.inf), "give increasing positive times"),
        ((), "give increasing positive times"),
        ("365", "give increasing positive times"),
        ((True, 365), "give increasing positive times"),
        (None, "needs horizons, such as"),
        ((365, 90_000), "horizon 90000 is beyond follow-up: the last time of Surv"),
    ],
)
def test_bad_horizons(horizons: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        model(horizons=horizons).fit(followed())


def test_horizons_as_numbers() -> None:
    assert check_horizons(np.array([90, 182])) == (90.0, 182.0)
    table = followed().assign(time=lambda t: t["time"] / 365.25)
    fitted = model(horizons=[0.5, 1]).fit(table)
    assert list(fitted.predict(table).columns) == ["risk_0.5", "risk_1"]


def test_beyond_the_follow_up_of_all_sites_but_one() -> None:
    table = followed().assign(time=lambda t: t["time"].where(t["site"] == "site 0", t["time"].clip(upper=300)))
    with pytest.raises(OptionError, match=r"beyond the follow-up of all sites but 'site 0' .*give horizons below 300"):
        model(horizons=(100, 365)).fit(table)
    everyone = followed(censored=False)
    last = everyone["time"].max()
    with pytest.raises(OptionError, match="is beyond the follow-up of all: "):
        model(horizons=last).fit(everyone)


def test_events_at_one_site_only() -> None:
    table = followed()
    early = (table["time"] <= 90) & (table["dead"] == 1)
    site = table.loc[early, "site"].mode()[0]
    table.loc[(table["site"] != site) & early, "dead"] = 0
    n = int((early & (table["site"] == site)).sum())
    with pytest.raises(DesignError, match=rf"has {n} events, all at site '{site}', after 0 and up to 90"):
        model().fit(table)
    table.loc[table["time"] <= 90, "dead"] = 0
    with pytest.raises(DesignError, match="has no event, after 0 and up to 90"):
        model().fit(table)


def test_what_risks_have_not() -> None:
    table = followed()
    with pytest.raises(OptionError, match=r"sites=0\.9 is for sets"):
        model(sites=0.9).fit(table)
    with pytest.raises(OptionError, match="is a regressor, and probabilities are needed"):
        model(estimator=Probable()).fit(table)
    with pytest.raises(OptionError, match="has no predict_proba, which the outcome needs"):
        model(estimator=LinearRegression()).fit(table)
    with pytest.raises(OptionError, match="labelled rows calibrate sets"):
        model().fit(table).predict(table, labelled=table)
    with pytest.raises(OptionError, match="case and taxonomy are for classes"):
        model(case="site").fit(table)


class Probable(LinearRegression):
    """A regressor that claims probabilities."""

    def predict_proba(self, X: Any) -> Any:
        raise NotImplementedError


def test_few_rows_of_a_new_site_are_named() -> None:
    fitted = model(harmonizer=pcg.ComBat("~ age", batch="site")).fit(followed())
    new = followed(8, sites=1).assign(site="new")
    assert len(fitted.predict(new)) == 40
    with pytest.warns(pcg.PcgWarning, match=r"site 'new' has 12 rows, fewer than any site of the fit \(40\)"):
        fitted.predict(new.head(12))
