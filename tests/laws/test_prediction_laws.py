"""Laws of prediction at sites never seen: what has to hold whatever the table."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.clinics import FEATURES, clinics
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.linear_model import Ridge as ScikitRidge
from sklearn.model_selection import LeaveOneOut

import pycombat_gam as pcg
from pycombat_gam.errors import PcgWarning
from pycombat_gam.predict.calibration import Demand, held_out, thresholds
from pycombat_gam.predict.thresholds import across_sites, ceiling, within_site

KINDS = ("binary", "three", "number")
ROUNDING = 1e-10
"""Sums over rows in another order; the house's bound for results that must not depend on it."""


def predictor(**options: Any) -> pcg.Predictor:
    return pcg.Predictor("y ~ age + sex", batch="site", **{"features": FEATURES, "level": 0.8, **options})


def fit(model: pcg.Predictor, table: pd.DataFrame) -> pcg.Predictor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PcgWarning)  # levels above the ceiling of few sites are asked on purpose
        return model.fit(table)


def predict(model: pcg.Predictor, table: pd.DataFrame, **options: Any) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PcgWarning)  # the same, and sites of few rows
        return model.predict(table, **options)


def new_clinic(kind: str, n: int = 12, seed: int = 99) -> pd.DataFrame:
    return clinics(kind, K=1, n=n, seed=seed).assign(site="new").drop(columns="y")


# One row at each site is ordinary conformal prediction


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_one_row_a_site_is_mapies_jackknife_minmax(level: float) -> None:
    from mapie.regression import CrossConformalRegressor

    rng = np.random.default_rng(0)
    n = 25
    X = rng.normal(size=(n, 3))
    table = pd.DataFrame(X, columns=["a", "b", "c"]).assign(
        y=X[:, 0] + rng.normal(size=n), site=[f"s{i}" for i in range(n)]
    )
    new = pd.DataFrame(rng.normal(size=(40, 3)), columns=["a", "b", "c"]).assign(site="new")
    model = pcg.Predictor("y ~ 1", batch="site", features=["a", "b", "c"], estimator=ScikitRidge(), level=level)
    ours = model.fit(table).predict(new)
    mapie = CrossConformalRegressor(ScikitRidge(), confidence_level=level, method="minmax", cv=LeaveOneOut())
    mapie.fit_conformalize(X, table["y"].to_numpy())
    _, ends = mapie.predict_interval(new[["a", "b", "c"]].to_numpy())
    # The same sums in the same order.
    np.testing.assert_allclose(ours[["lower", "upper"]], ends[:, :, 0], rtol=0, atol=1e-12)


def test_within_a_site_sets_are_those_of_crepes() -> None:
    from crepes import ConformalClassifier

    rng = np.random.default_rng(1)
    for n in (9, 19, 60):
        scores = rng.uniform(size=n).round(2)  # with ties
        new = rng.uniform(size=(50, 2)).round(2)
        p = ConformalClassifier().fit(scores).predict_p(new, smoothing=False)
        for level in (0.5, 0.8, 0.9, 0.95, 0.99):
            # p is a number of rows over n + 1: a level between two of them is met or missed by far more than rounding.
            np.testing.assert_array_equal(new <= within_site(scores, level), p > 1 - level + 1e-12)


# What changes nothing


@pytest.mark.parametrize("kind", KINDS)
def test_duplicating_every_row_of_a_site_leaves_thresholds_with_a_fixed_estimator(kind: str) -> None:
    table = clinics(kind)
    estimator: Any = LinearRegression() if kind == "number" else LogisticRegression()
    y = table["y"] if kind == "number" else pd.factorize(table["y"], sort=True)[0]
    frozen = FrozenEstimator(estimator.fit(table[FEATURES], y))
    model = pcg.Predictor("y ~ 1", batch="site", features=FEATURES, estimator=frozen, level=0.8)
    once = fit(model, table)
    twice = fit(pcg.Predictor(**once.get_params()), pd.concat([table, table[table["site"] == "c2"]]))
    new = new_clinic(kind)
    pd.testing.assert_frame_equal(predict(once, new), predict(twice, new), check_exact=True)


@pytest.mark.parametrize("harmonizer", [None, pcg.ComBat("~ age + sex", batch="site")])
@pytest.mark.parametrize("kind", KINDS)
def test_row_order_and_names_of_sites_change_nothing(kind: str, harmonizer: pcg.ComBat | None) -> None:
    table, new = clinics(kind, K=4), new_clinic(kind)
    model = fit(predictor(harmonizer=harmonizer), table)
    names = dict(zip(["c0", "c1", "c2", "c3"], ["Rome", "Oslo", "Bern", "Á"], strict=True))
    other = table.sample(frac=1, random_state=3).assign(site=lambda t: t["site"].map(names))
    again = fit(predictor(harmonizer=harmonizer), other)
    ours, theirs = predict(model, new), predict(again, new)
    numbers = ours.select_dtypes("number").columns
    pd.testing.assert_frame_equal(ours[numbers], theirs[numbers], rtol=ROUNDING, atol=ROUNDING)
    if kind != "number":
        assert ours["set"].tolist() == theirs["set"].tolist()
    left_out = model.validation.left_out.assign(row=lambda t: t["row"].astype(int)).set_index("row")
    theirs_out = (
        again.validation.left_out.assign(row=lambda t: t["row"].astype(int)).set_index("row").loc[left_out.index]
    )
    numbers = left_out.select_dtypes("number").columns
    pd.testing.assert_frame_equal(left_out[numbers], theirs_out[numbers], rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize(
    "harmonizer",
    [None, pcg.ComBat("~ age + sex", batch="site"), pcg.ComBat("~ s(age, k=4) + sex", batch="site")],
    ids=["raw", "ComBat", "ComBat-GAM"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_outcomes_of_a_site_change_nothing_that_was_computed_without_it(
    kind: str, harmonizer: pcg.ComBat | None
) -> None:
    table = clinics(kind, K=4)
    here = (table["site"] == "c1").to_numpy()
    turned = table.copy()
    turned.loc[here, "y"] = table.loc[here, "y"].to_numpy()[::-1]
    assert (turned["y"] != table["y"]).any()
    one, two = (fit(predictor(harmonizer=harmonizer), each) for each in (table, turned))
    j = one.fitted.levels.labels.index("c1")
    for before, after in zip(_states(one), _states(two), strict=True):
        np.testing.assert_array_equal(before.left_out[here], after.left_out[here])
        np.testing.assert_array_equal(before.pair_extremes[here], after.pair_extremes[here])
        np.testing.assert_array_equal(before.pair_truth[~here, j], after.pair_truth[~here, j])
    fold, other = one.fitted.without[j].learner, two.fitted.without[j].learner
    for name, array in fold.arrays().items():
        np.testing.assert_array_equal(array, other.arrays()[name])
    # The law would hold idly if nothing depended on outcomes: the other models do.
    assert not np.array_equal(
        one.fitted.full.learner.arrays()["coefficients"], two.fitted.full.learner.arrays()["coefficients"]
    )


def _states(model: pcg.Predictor) -> list[Any]:
    fitted = model.fitted
    return [fitted.evidence] if fitted.raw is None else [fitted.evidence, fitted.raw]


def test_outcomes_of_a_site_change_nothing_with_a_flow_inside() -> None:
    pytest.importorskip("torch", reason="the flow needs torch, an extra")
    from pycombat_gam.predict.fold import Recipe
    from pycombat_gam.predict.learners import Ridge
    from pycombat_gam.predict.outcome import learn_outcome, read_question
    from pycombat_gam.predict.rows import Layout

    table = clinics("binary", K=4, n=25)
    question = read_question("y ~ age")
    layout = Layout(question, "site", None, None, ("age", "sex"), tuple(FEATURES[:3]))
    rows, _ = layout.read(table, None)
    out = rows.codes == 1
    flow = pcg.FlowSCM(
        "~ age + sex", batch="site", flow="affine", base="normal", training={"held_out": 0.0, "max_epochs": 10}
    )
    recipe = Recipe(flow, "site", question.right, tuple(FEATURES[:3]), Ridge(2))
    predictions = []
    for each in (table, table.assign(y=np.where(out, table["y"].to_numpy()[::-1], table["y"]))):
        _, y = learn_outcome(question, each)
        fold = recipe.fit(rows.take(~out), y[~out])
        predictions.append(fold.predict(rows.take(out), rows.codes[out]))
    np.testing.assert_array_equal(*predictions)


# Levels


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [None, 0.6])
def test_sets_are_nested_in_level(kind: str, share: float | None) -> None:
    model, new = fit(predictor(sites=share), clinics(kind)), new_clinic(kind)
    for guarantee in (True, False):
        model.set_params(guarantee=guarantee)
        answers = [predict(model.set_params(level=level), new) for level in (0.3, 0.5, 0.7, 0.8)]
        for narrow, wide in pairwise(answers):
            if kind == "number":
                assert (narrow["lower"] >= wide["lower"]).all() and (narrow["upper"] <= wide["upper"]).all()
            else:
                assert all(set(a) <= set(b) for a, b in zip(narrow["set"], wide["set"], strict=True))


@pytest.mark.parametrize("K", [3, 5, 9, 19])
def test_a_threshold_is_infinite_exactly_when_the_level_exceeds_the_ceiling(K: int) -> None:
    rng = np.random.default_rng(K)
    sites = np.repeat(np.arange(K), rng.integers(1, 9, K))
    scores = rng.uniform(size=sites.size)
    for level in (*np.arange(0.05, 1.0, 0.05), ceiling(K), ceiling(K) + 1e-6, ceiling(K) - 1e-6):
        assert np.isinf(across_sites(scores, sites, level)) == (level > ceiling(K) + 1e-9)
        assert np.isfinite(across_sites(scores, sites, level, guarantee=False))


@pytest.mark.parametrize("kind", KINDS)
def test_sets_are_full_above_the_ceiling_and_the_warning_says_what_is_possible(kind: str) -> None:
    with pytest.warns(PcgWarning, match=r"no set can be guaranteed .* more often than 6/7 = 85\.7 %") as caught:
        model = predictor(level=0.9).fit(clinics(kind))
    assert "level=0.85 is guaranteed" in str(caught[0].message)
    answers = predict(model, new_clinic(kind))
    if kind == "number":
        assert np.isinf(answers[["lower", "upper"]]).all(axis=None)
    else:
        assert (answers["size"] == len(model.fitted.outcome.classes)).all()
        assert (answers["answer"] == "undecided").all()


def test_guaranteed_sets_hold_estimated_ones() -> None:
    """The guaranteed threshold is larger, and the full model is not among the K: widths, not members, are compared."""
    table = clinics("number")
    model = fit(predictor(), table)
    evidence, scores = model.fitted.evidence, model.fitted.scores(per_class=True)
    assert scores is not None
    truth = scores.truth(evidence.left_out, evidence.y)
    for level in (0.5, 0.7, 0.8):
        q = [thresholds(Demand(level, None, g), scores, truth, evidence.y, evidence.site) for g in (True, False)]
        assert (q[0] >= q[1]).all()
        wide, narrow = (held_out(Demand(level, None, g), scores, evidence) for g in (True, False))
        assert wide.size.mean() > narrow.size.mean()
