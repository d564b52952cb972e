"""Intervals of an ensemble: of harmonized values and of counterfactuals, their members' own three steps, coverage."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import pycombat_gam as pcg
from pycombat_gam.datasets import MultisiteStudy, simulate_multisite
from pycombat_gam.errors import OptionError, PcgWarning
from pycombat_gam.flow.fitted import Interval
from pycombat_gam.flow.training.ensemble import Ensemble, bootstrap_weights

pytestmark = pytest.mark.filterwarnings(
    "ignore:(under this action )?\\w+ is outside the range:pycombat_gam.errors.PcgWarning"
)
"""Four sites of unlike ages: what is said of that is tested in test_extrapolation.py."""
PARTS = ("value", "mean", "sd", "lower", "upper")


@cache
def study() -> MultisiteStudy:
    return simulate_multisite(sites=4, subjects=[70, 60, 50, 40], features=6, seed=51)


def features() -> list[str]:
    return list(study().features)


def new(formula: str = "~ sex", **options: Any) -> pcg.FlowSCM:
    options = {"flow_options": {"variant": "residual"}, **options}
    return pcg.FlowSCM(formula, batch="site", id="subject", features=features(), **options)


@cache
def bent() -> pcg.FlowSCM:
    """Maps of the whole feature, with shape: a row's value depends on every part of a member."""
    return new("~ age + sex", n_members=4, flow_options={"variant": "whole-shape"}).fit(study().table)


def assert_same(one: Interval, other: Interval) -> None:
    for part in PARTS:
        pd.testing.assert_frame_equal(getattr(one, part), getattr(other, part), check_exact=True)


def assert_close(one: Interval, other: Interval) -> None:
    """Up to rounding of a map and its inverse, in units of the feature."""
    spread = study().spread.to_numpy()
    for part in PARTS:
        np.testing.assert_allclose(getattr(one, part) / spread, getattr(other, part) / spread, rtol=0, atol=1e-9)


# Harmonized values


@pytest.mark.filterwarnings("ignore::pycombat_gam.errors.PcgWarning")
@pytest.mark.parametrize(
    "options",
    [{}, {"flow": "affine", "flow_options": None, "training": {"max_epochs": 5}}],
    ids=["structured", "affine"],
)
def test_an_ensemble_gives_intervals(options: dict[str, Any]) -> None:
    table = study().table
    scm = new(n_members=6, **options).fit(table)
    interval = scm.interval(table, to="Cork", level=0.9)
    assert interval.mean.shape == (len(table), 6) and interval.covariates is None
    own = table["site"] == "Cork"
    assert (interval.sd[own] == 0).all(axis=None) and (interval.sd[~own] > 0).all(axis=None)
    value = scm.transform(table, to="Cork")[features()]
    pd.testing.assert_frame_equal(interval.value, value, check_exact=True)
    half = stats.t.ppf(0.95, 5) * interval.sd
    # Sums of the same numbers.
    np.testing.assert_allclose(interval.upper - value, half, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(value - interval.lower, half, rtol=1e-9, atol=1e-12)
    assert_same(new(n_members=6, **options).fit(table).interval(table, to="Cork", level=0.9), interval)
    # The members are about the model itself.
    assert (np.abs(interval.mean - value) / study().spread).to_numpy().mean() < 0.1


def test_an_interval_of_the_average_over_sites() -> None:
    table = study().table
    interval = bent().interval(table)
    # Covariances between sites cancel nothing here: an average over sites is uncertain in every row.
    assert (interval.sd > 0).all(axis=None)
    pd.testing.assert_frame_equal(interval.value, bent().transform(table)[features()], check_exact=True)


@pytest.mark.filterwarnings("ignore::pycombat_gam.errors.PcgWarning")
def test_members_by_seed_differ_by_training_only() -> None:
    table = study().table
    options = {"flow": "affine", "flow_options": None, "training": {"max_epochs": 3, "held_out": 0.0}}
    scm = new(n_members=3, ensemble="seed", **options).fit(table)
    seeds = scm.interval(table, to="Cork").sd.to_numpy().mean()
    rows = new(n_members=3, **options).fit(table).interval(table, to="Cork").sd.to_numpy().mean()
    assert 0 < seeds < rows


def test_members_that_agree_exactly_are_told() -> None:
    value, each = np.zeros((2, 1)), np.ones((3, 2, 1))
    interval = Interval.of(value, each, pd.RangeIndex(2), ["x"], 0.95)
    assert (interval.sd == 0).all(axis=None) and (interval.lower == interval.upper).all(axis=None)


# Counterfactuals


def three_steps(scm: pcg.FlowSCM, member: Any, table: pd.DataFrame, acted: pd.DataFrame) -> np.ndarray:
    """Abduct the noise of the rows by a member, act, and predict, each step by itself."""
    model = scm.fitted.model
    sites = {label: code for code, label in enumerate(model.levels.labels)}
    before = model.parents(table, np.array(table["site"].map(sites)))
    after = model.parents(acted, np.array(acted["site"].map(sites)))
    Y = table[features()].to_numpy()
    with torch.no_grad():
        noise, _ = member.abduct(model.frame.standardized(Y, model.device), before)
        return model.frame.restored(member.predict(noise, after), Y)


@pytest.mark.parametrize("do", [{"age": 41.0}, {"site": "Bergen", "sex": "F"}, {"age": 41.0, "site": "Cork"}])
def test_every_member_abducts_acts_and_predicts(do: dict[str, Any]) -> None:
    table = study().table
    interval = bent().interval(table, do=do, level=0.8)
    acted = bent().counterfactual(table, do=do)
    pd.testing.assert_frame_equal(interval.value, acted[features()], check_exact=True)
    assert interval.covariates is not None and set(interval.covariates.columns) == set(do)
    for name, value in do.items():
        assert (interval.covariates[name] == value).all()
    each = np.stack([three_steps(bent(), member, table, acted) for member in bent().fitted.model.members])
    # Rounding of a map and its inverse, in units of the feature.
    spread = study().spread.to_numpy()
    np.testing.assert_allclose(interval.mean / spread, each.mean(axis=0) / spread, atol=1e-9)
    np.testing.assert_allclose(interval.sd / spread, each.std(axis=0, ddof=1) / spread, atol=1e-9)
    half = stats.t.ppf(0.9, 3) * each.std(axis=0, ddof=1) / spread
    np.testing.assert_allclose((interval.upper - acted[features()]) / spread, half, atol=1e-8)
    np.testing.assert_allclose((acted[features()] - interval.lower) / spread, half, atol=1e-8)


def test_a_site_is_reached_by_to_or_by_do() -> None:
    """do(site) is what harmonization does; `to` beside an action is the action's site."""
    table = study().table
    assert_close(bent().interval(table, do={"site": "Cork"}), bent().interval(table, to="Cork"))
    both = bent().interval(table, do={"age": 30.0, "site": "Cork"})
    assert_same(bent().interval(table, to="Cork", do={"age": 30.0}), both)
    assert_same(bent().interval(table, to="Cork", do={"age": 30.0, "site": ["Cork"] * len(table)}), both)
    own = bent().interval(table, do={"age": 30.0, "site": table["site"]})
    assert_same(bent().interval(table, do={"age": 30.0}), own)


def test_rows_that_an_action_does_not_change_are_certain() -> None:
    table, spread = study().table, study().spread.to_numpy()
    ages = table["age"].where(table["sex"] == "F", 30.0)
    interval = bent().interval(table, do={"age": ages})
    same = (ages == table["age"]).to_numpy()
    assert same.sum() > 50 and (~same).sum() > 50
    # Rounding of a map and its inverse; the others' sds are far above.
    assert (interval.sd[same] / spread < 1e-9).all(axis=None) and (interval.sd[~same] / spread > 1e-6).all(axis=None)
    np.testing.assert_allclose(interval.value[same] / spread, table.loc[same, features()] / spread, atol=1e-9)


def test_effects_in_the_graph_are_given_and_taken_as_known() -> None:
    table = study().table
    scm = new("~ sex + icv", graph={"icv": ["sex"]}, n_members=2).fit(table)
    with pytest.warns(PcgWarning, match="effects on icv are taken as known"):
        interval = scm.interval(table, do={"sex": "M"})
    acted = scm.counterfactual(table, do={"sex": "M"})
    assert interval.covariates is not None
    pd.testing.assert_frame_equal(interval.covariates, acted[["sex", "icv"]], check_exact=True)
    pd.testing.assert_frame_equal(interval.value, acted[features()], check_exact=True)


def test_counterfactuals_warn_of_extrapolation_as_they_do_without_interval() -> None:
    table, do = study().table, {"age": 95.0, "site": "Cork"}
    texts = []
    for ask in (bent().counterfactual, bent().interval):
        with pytest.warns(PcgWarning, match="under this action age is outside the range of the fit") as caught:
            ask(table, do=do)
        texts.append([str(warning.message) for warning in caught])
        assert caught[0].filename == __file__
    assert texts[0] == texts[1]


def test_an_array_beside_covariates() -> None:
    table = study().table
    Y, covariates = table[features()].to_numpy(), table[["site", "age", "sex"]]
    scm = pcg.FlowSCM("~ sex", batch="site", features=features(), n_members=2, flow_options={"variant": "residual"})
    interval = scm.fit(Y, covariates).interval(Y, covariates, do={"sex": "F"}, to="Cork")
    expected = scm.counterfactual(Y, covariates, do={"sex": "F", "site": "Cork"})
    np.testing.assert_array_equal(interval.value, expected[features()])


REFUSED = {
    "no ensemble": ({}, "n_members=20"),
    "level": ({"level": 95}, "level=95: give a number between 0 and 1"),
    "contradiction": (
        {"to": "Cork", "do": {"site": "Bergen"}},
        "to='Cork' and do contradict each other: do sends 220 rows to Bergen; name the site in one of them",
    ),
    "unknown target": ({"to": "Corc", "do": {"age": 30}}, "did you mean 'Cork'"),
    "no node": ({"do": {"aeg": 30}}, "'aeg' is no node.*did you mean 'age'"),
    "not a dictionary": ({"do": 30}, "do=30 is not allowed: give values by node"),
    "too few values": ({"do": {"age": [30, 40]}}, "'age' has 2 values for 220 rows"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals(what: str) -> None:
    options, message = REFUSED[what]
    scm = new().fit(study().table) if what == "no ensemble" else bent()
    with pytest.raises(OptionError, match=message):
        scm.interval(study().table, **options)


def test_a_contradiction_in_some_rows_names_their_sites() -> None:
    table = study().table
    sites = table["site"].replace({"Delft": "Aarhus"})
    rows = int((sites != "Cork").sum())
    with pytest.raises(OptionError, match=f"do sends {rows} rows to Aarhus, Bergen; name the site"):
        bent().interval(table, to="Cork", do={"site": sites})


# Members


def test_members_are_weighed_within_sites_and_come_apart() -> None:
    """Weights of a site add up to its rows, and members taken apart are what went in."""
    table, scm = study().table, bent()
    codes, _ = scm.fitted.model.levels.codes(table["site"])
    sizes = np.bincount(codes)
    weights = bootstrap_weights(codes, np.arange(len(table)), sizes - 3.0, 3, 7)
    for member in weights.T:
        # Rounding of a sum of at most 70 weights.
        np.testing.assert_allclose(np.bincount(codes, weights=member), sizes, rtol=1e-12)
    members = Ensemble([scm.fitted.model.features] * 2).members()
    for name, value in scm.fitted.model.features.state_dict().items():
        assert all((member.state_dict()[name] == value).all() for member in members)


def test_weights_give_a_site_mean_its_unbiased_variance() -> None:
    """Over weights, a mean of n residuals has variance rss / (n df), whose expectation is σ²/n."""
    sizes, df, draws = np.array([6, 40]), np.array([3.6, 35.2]), 40_000
    codes = np.repeat([0, 1], sizes)
    residuals = np.random.default_rng(1).standard_normal(46)
    weights = bootstrap_weights(codes, np.arange(46), df, draws, 2)
    for code, (n, left) in enumerate(zip(sizes, df, strict=True)):
        rows = codes == code
        e = residuals[rows] - residuals[rows].mean()
        variance = np.var(e @ weights[rows] / n, ddof=1)
        # A variance of 40,000 draws has a relative error of 0.7 %, more for long tails: five times that.
        assert variance == pytest.approx((e**2).sum() / (n * left), rel=0.04)


def test_weights_of_tiny_sites_stay_positive() -> None:
    codes = np.array([0, 1, 1, 2, 2, 2])
    weights = bootstrap_weights(codes, np.arange(6), np.array([0.0, 0.8, 1.7]), 500, 3)
    assert np.isfinite(weights).all() and (weights >= 0).all()
    np.testing.assert_allclose(weights[0], 1.0, rtol=1e-12)  # rounding of a share of one


def test_intervals_hold_what_a_site_would_have_measured() -> None:
    """The small sibling of `benchmarks/flow.py coverage`: the rows' values at another site, and with the other sex."""
    held: dict[str, list[float]] = {"to": [], "do": []}
    for seed in (61, 62):
        truth = simulate_multisite(sites=4, subjects=[100] * 4, features=20, seed=seed)
        names, table = list(truth.features), truth.table
        scm = pcg.FlowSCM(
            "~ s(age) + sex + dx + icv", "site", id="subject", features=names, n_members=25,
            flow_options={"variant": "residual"},
        ).fit(table)  # fmt: skip
        sex = table["sex"].map({"M": "F", "F": "M"})
        # The weight of sex in the simulation is known.
        step = np.where(sex == "M", 1.0, -1.0)[:, None] * truth.effects.loc["sex_M", names].to_numpy()
        for site in truth.location.index:
            away, there = (table["site"] != site).to_numpy(), truth.measured_at(site)[names].to_numpy()
            for what, interval, expected in (
                ("to", scm.interval(table, to=site), there),
                ("do", scm.interval(table, to=site, do={"sex": sex}), there + step),
            ):
                inside = (interval.lower.to_numpy() <= expected) & (expected <= interval.upper.to_numpy())
                held[what].append(inside[away].mean())
    # 95 % are asked for. Coverage differs between studies by a standard deviation of 0.02: three errors of a mean of 2.
    for what in held:
        assert np.mean(held[what]) == pytest.approx(0.95, abs=0.045)
