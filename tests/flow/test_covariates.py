"""Mechanisms of covariates: inverse, density, log-determinant, exact shares, counterfactuals, hostile saved ones."""

from __future__ import annotations

import copy
import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, stats

from pycombat_gam.errors import DataError, DesignError, ModelFileError
from pycombat_gam.flow.nodes import covariates
from pycombat_gam.flow.nodes.causes import Causes
from pycombat_gam.flow.nodes.covariates import (
    CovariateMechanism,
    DiscreteMechanism,
    NumericMechanism,
    covariate_from_dict,
    fit_covariate,
)
from pycombat_gam.flow.nodes.graph import Graph

N = 300


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def none(n: int) -> torch.Tensor:
    return torch.zeros((n, 0), dtype=torch.float64)


def people(n: int = N, seed: int = 0) -> pd.DataFrame:
    """Age causes head size, both cause the site."""
    rng = np.random.default_rng(seed)
    age = np.round(rng.gamma(6.0, 6.0, n) + 5.0)
    sex = np.where(rng.random(n) < 0.6, "F", "M")
    icv = 1400.0 - 2.0 * age + 150.0 * (sex == "M") + 90.0 * rng.standard_normal(n)
    pull = np.column_stack([np.zeros(n), 0.08 * (age - 40.0), 0.04 * (40.0 - age)]) + rng.gumbel(size=(n, 3))
    return pd.DataFrame({"age": age, "sex": sex, "icv": icv, "site": np.array(["A", "B", "C"])[pull.argmax(axis=1)]})


GRAPH_EDGES = {"icv": ["age", "sex"], "site": ["age"]}


class Fitted:
    """Each node of `people` with its mechanism and its causes' columns."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.graph = Graph.learn(["age", "sex", "icv"], "site", table, GRAPH_EDGES)
        self.coded = {name: self.graph.encode(name, table[name]) for name in self.graph.nodes}
        self.causes = {name: Causes.learn(self.graph, name, self.coded) for name in self.graph.nodes}
        self.columns = {name: self.causes[name].on(self.coded, len(table)) for name in self.graph.nodes}
        self.mechanisms = {
            name: fit_covariate(
                self.graph.kinds[name],
                self.coded[name],
                self.columns[name],
                name=name,
                levels=self.graph.levels.get(name, ()),
            )
            for name in self.graph.nodes
        }

    def x(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.coded[name])


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return Fitted(people())


@pytest.mark.parametrize("name", ["age", "sex", "icv", "site"])
def test_prediction_undoes_abduction(fitted: Fitted, name: str) -> None:
    mechanism, causes = fitted.mechanisms[name], fitted.columns[name]
    noise, log_det = mechanism.abduct(fitted.x(name), causes)
    assert noise.dtype == torch.float64 and noise.shape == log_det.shape == (N,)
    back = mechanism.predict(noise, causes)
    # Rounding of a spline and its inverse; noise is in units of its sd.
    np.testing.assert_allclose(back, fitted.x(name), rtol=1e-10, atol=0.0)
    if isinstance(mechanism, DiscreteMechanism):
        assert torch.equal(back, fitted.x(name))
    again, _ = mechanism.abduct(back, causes)
    # Rounding of a spline and its inverse, in units of the noise.
    np.testing.assert_allclose(again, noise, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("name", ["age", "icv"])
def test_extreme_noise_comes_back(fitted: Fitted, name: str) -> None:
    mechanism, causes = fitted.mechanisms[name], fitted.columns[name][:9]
    noise = torch.linspace(-8.0, 8.0, 9, dtype=torch.float64)
    x = mechanism.predict(noise, causes)
    # Rounding of a spline and its inverse.
    np.testing.assert_allclose(mechanism.abduct(x, causes)[0], noise, rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("name", ["age", "icv"])
def test_log_det_is_autograd_s(fitted: Fitted, name: str) -> None:
    x = fitted.x(name).clone().requires_grad_()
    noise, log_det = fitted.mechanisms[name].abduct(x, fitted.columns[name])
    (slope,) = torch.autograd.grad(noise.sum(), x)
    assert (slope > 0).all()
    # Autograd and the formula: rounding of a logarithm.
    np.testing.assert_allclose(log_det.detach(), slope.log(), rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("name", ["age", "icv"])
def test_densities_integrate_to_one(fitted: Fitted, name: str) -> None:
    mechanism, row = fitted.mechanisms[name], fitted.columns[name][:1]
    # The density has kinks at the spline's knots. Beyond ±8 the noise has 1e-15.
    ends = torch.tensor([-8.0, *covariates._spline(mechanism.spline).vertical.tolist(), 8.0], dtype=torch.float64)
    knots = mechanism.predict(ends, row.expand(len(ends), -1)).numpy()

    def density(x: float) -> float:
        return float(mechanism.log_prob(torch.tensor([x], dtype=torch.float64), row).exp())

    total = sum(integrate.quad(density, a, b, epsabs=1e-13)[0] for a, b in pairwise(knots))
    # A sum of exact shares: rounding.
    assert total == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("name", ["sex", "site"])
def test_probabilities_sum_to_one_and_log_prob_is_theirs(fitted: Fitted, name: str) -> None:
    mechanism, causes = fitted.mechanisms[name], fitted.columns[name]
    log_pmf = mechanism.log_pmf(causes)
    # A softmax sums to one: rounding.
    np.testing.assert_allclose(log_pmf.exp().sum(dim=1), 1.0, rtol=1e-14)
    own = log_pmf[torch.arange(N), fitted.x(name)]
    torch.testing.assert_close(mechanism.log_prob(fitted.x(name), causes), own, rtol=0.0, atol=0.0)


def test_shares_are_exact(fitted: Fitted) -> None:
    root, child = fitted.mechanisms["sex"], fitted.mechanisms["site"]
    shares = people()["sex"].value_counts(normalize=True).sort_index()
    np.testing.assert_allclose(root.log_pmf(none(1)).exp()[0], shares, rtol=1e-14)
    # With causes the intercept, not penalised, makes the mean probabilities the shares, to L-BFGS's tolerance.
    shares = people()["site"].value_counts(normalize=True).sort_index()
    np.testing.assert_allclose(child.log_pmf(fitted.columns["site"]).exp().mean(dim=0), shares, atol=1e-6)


def test_the_scale_is_chosen_by_the_likelihood() -> None:
    rng = np.random.default_rng(1)
    skewed, symmetric = rng.lognormal(3.0, 0.8, 400), 50.0 + 10.0 * rng.standard_normal(400)
    assert fit_covariate("numeric", skewed, none(400), name="x").positive
    assert not fit_covariate("numeric", symmetric - 50.0, none(400), name="x").positive


def test_units_do_not_matter() -> None:
    unit, x = 1e-3, np.random.default_rng(2).gamma(3.0, 2.0, 120)
    one, other = (fit_covariate("numeric", u * x, none(120), name="x") for u in (1.0, unit))
    noise = [m.abduct(torch.from_numpy(u * x), none(120))[0] for m, u in ((one, 1.0), (other, unit))]
    # L-BFGS stops at another place when numbers are a thousandth: 1e-5 of a noise of sd 1.
    np.testing.assert_allclose(*noise, atol=1e-5)


def test_fifty_rows_are_safe_and_shapes_are_learned() -> None:
    """Held-out log-density, as a loss to the truth; a normal fit of the second is 0.55 off."""
    rng = np.random.default_rng(3)

    def loss(draw, log_density, n: int) -> float:
        mechanism = fit_covariate("numeric", draw(n), none(n), name="x")
        new = draw(4000)
        found = mechanism.log_prob(torch.from_numpy(new), none(4000)).numpy()
        return float(np.mean(log_density(new) - found))

    def two_humps(n: int) -> np.ndarray:
        return np.where(rng.random(n) < 0.5, -1.0, 1.0) * 20.0 + 4.0 * rng.standard_normal(n)

    def humps(x: np.ndarray) -> np.ndarray:
        return np.log(0.5 * stats.norm.pdf(x, -20, 4) + 0.5 * stats.norm.pdf(x, 20, 4))

    assert loss(lambda n: rng.standard_normal(n), stats.norm.logpdf, 50) < 0.15
    assert loss(two_humps, humps, 1000) < 0.15


def test_ties_and_few_values_are_fine() -> None:
    ages = np.repeat(np.arange(8.0, 14.0), 10)
    mechanism = fit_covariate("numeric", ages, none(60), name="age")
    noise, log_det = mechanism.abduct(torch.from_numpy(ages), none(60))
    assert torch.isfinite(noise).all() and torch.isfinite(log_det).all() and (noise.diff() >= 0).all()


def test_a_cause_moves_its_effect_along_the_regression_and_keeps_the_noise(fitted: Fitted) -> None:
    mechanism, coded = fitted.mechanisms["icv"], fitted.coded
    noise, _ = mechanism.abduct(fitted.x("icv"), fitted.columns["icv"])
    done = fitted.graph.check_do({"age": 60.0}, N)
    columns = fitted.causes["icv"].on({**coded, **done}, N)
    moved = mechanism.predict(noise, columns)
    again, _ = mechanism.abduct(moved, columns)
    # These: rounding of a map and its inverse.
    np.testing.assert_allclose(again, noise, atol=1e-9)
    line = (columns - fitted.columns["icv"]) @ mechanism.weights
    before, after = fitted.x("icv"), moved
    if mechanism.positive:
        before, after = before.log(), after.log()
    np.testing.assert_allclose(after - before, line, rtol=0.0, atol=1e-9)
    slope = np.polyfit(60.0 - coded["age"], (moved - fitted.x("icv")).numpy(), 1)[0]
    # Three standard errors of a slope: 90/(15·√300) = 0.35 each.
    assert slope == pytest.approx(-2.0, abs=1.0)
    own = mechanism.predict(noise, fitted.causes["icv"].on({**coded, "age": coded["age"].copy()}, N))
    np.testing.assert_allclose(own, fitted.x("icv"), rtol=1e-12)


def test_levels_move_monotonically_with_their_cause(fitted: Fitted) -> None:
    mechanism = fitted.mechanisms["sex"].__class__(
        torch.zeros(2, dtype=torch.float64), torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    )
    causes = torch.linspace(-40.0, 40.0, 81, dtype=torch.float64)[:, None]
    for level in (0, 1):
        x = torch.full((81,), level)
        noise, _ = mechanism.abduct(x, causes)
        assert torch.equal(mechanism.predict(noise, causes), x)  # however unlikely the level was
    levels = mechanism.predict(torch.full((81,), 0.3, dtype=torch.float64), causes)
    assert (levels.diff() >= 0).all() and levels[0] == 0 and levels[-1] == 1


def test_a_cause_that_separates_levels_is_safe() -> None:
    cause = torch.linspace(-1.7, 1.7, 60, dtype=torch.float64)[:, None]
    codes = (cause[:, 0] > 0).long().numpy()
    mechanism = fit_covariate("binary", codes, cause, name="dx", levels=("a", "b"))
    assert mechanism.weights.abs().max() < 50.0
    assert (mechanism.log_pmf(cause).argmax(dim=1).numpy() == codes).all()


def test_samples_follow_the_mechanism_and_the_generator(fitted: Fitted) -> None:
    mechanism, causes = fitted.mechanisms["site"], fitted.columns["site"].repeat(100, 1)
    state = torch.get_rng_state()
    one, two = (mechanism.sample(torch.Generator().manual_seed(5), causes) for _ in range(2))
    assert torch.equal(one, two) and torch.equal(torch.get_rng_state(), state)
    shares = torch.bincount(one, minlength=3) / len(one)
    # 30,000 draws: four standard errors of a share, 4·0.5/√30,000.
    np.testing.assert_allclose(shares, mechanism.log_pmf(causes).exp().mean(dim=0), atol=0.012)
    ages = fitted.mechanisms["age"].sample(torch.Generator().manual_seed(5), none(20_000)).numpy()
    quantiles = np.quantile(ages, [0.1, 0.5, 0.9])
    # Standard errors of quantiles of 300 rows of an sd of 15: 1 in the middle, 2 at the ends.
    np.testing.assert_allclose(quantiles, np.quantile(fitted.coded["age"], [0.1, 0.5, 0.9]), atol=2.5)


def test_the_order_of_rows_changes_nothing(fitted: Fitted) -> None:
    table = people()
    order = np.random.default_rng(9).permutation(N)
    shuffled = Fitted(table.iloc[order])
    for name in fitted.graph.nodes:
        here = fitted.mechanisms[name].log_prob(fitted.x(name), fitted.columns[name]).numpy()[order]
        there = shuffled.mechanisms[name].log_prob(shuffled.x(name), shuffled.columns[name]).numpy()
        # Sums of rows in another order; both searches go the same way.
        np.testing.assert_allclose(there, here, rtol=0.0, atol=1e-10)


def test_many_rows_are_thinned_by_content_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(covariates, "_MAX_ROWS", 500)
    x = np.random.default_rng(4).standard_normal(1801)
    one, other = (fit_covariate("numeric", values, none(1801), name="x") for values in (x, x[::-1].copy()))
    assert one.to_dict() == other.to_dict()
    # 500 rows: the standard error of an sd is 1/√1,000 = 3 %.
    assert one.scale == pytest.approx(1.0, abs=0.1)


def test_bad_columns_are_named() -> None:
    with pytest.raises(DesignError, match="'age' has the same value, 7, in every row"):
        fit_covariate("numeric", np.full(20, 7.0), none(20), name="age")
    cause = torch.linspace(-1.0, 1.0, 20, dtype=torch.float64)[:, None]
    with pytest.raises(DesignError, match="'icv' is an exact linear function of its causes"):
        fit_covariate("numeric", 3.0 * cause[:, 0].numpy() + 1.0, cause, name="icv")
    with pytest.raises(DesignError, match="no row that estimates has 'sex' = 'M'"):
        fit_covariate("binary", np.zeros(9, dtype=np.intp), none(9), name="sex", levels=("F", "M"))
    mechanism = fit_covariate("numeric", np.random.default_rng(0).lognormal(0, 1, 50), none(50), name="x")
    with pytest.raises(DataError, match="values must be above 0, as all were in the fit; the smallest is -1"):
        mechanism.abduct(torch.tensor([-1.0], dtype=torch.float64), none(1))


def test_a_curve_of_a_cause_is_linear_beyond_its_knots(fitted: Fitted) -> None:
    curve = fitted.causes["icv"].codings["age"]
    assert len(curve.knots) == 4 and fitted.causes["icv"].columns == 5 and fitted.causes["age"].columns == 0
    # Third-degree terms cancel there, up to rounding.
    for ends in (np.array([-30.0, -20.0, -10.0]), np.array([100.0, 120.0, 140.0])):
        assert np.abs(np.diff(curve.on(ends), n=2, axis=0)).max() < 1e-10
    np.testing.assert_allclose(curve.on(fitted.coded["age"]).mean(axis=0), 0.0, atol=1e-12)
    # Standardized by the same values: rounding.
    np.testing.assert_allclose(curve.on(fitted.coded["age"]).std(axis=0), 1.0, rtol=1e-12)
    few = Causes.learn(fitted.graph, "icv", {name: values[:30] for name, values in fitted.coded.items()})
    assert few.columns == 3


def rebuilt(fitted: Fitted, name: str) -> CovariateMechanism:
    graph = fitted.graph
    data = json.loads(json.dumps([fitted.causes[name].to_dict(), fitted.mechanisms[name].to_dict()]))
    causes = Causes.from_dict(data[0], graph, name)
    assert causes == fitted.causes[name]
    return covariate_from_dict(data[1], graph.kinds[name], causes.columns, len(graph.levels.get(name, ())))


@pytest.mark.parametrize("name", ["age", "sex", "icv", "site"])
def test_saved_mechanisms_come_back(fitted: Fitted, name: str) -> None:
    again = rebuilt(fitted, name)
    assert isinstance(again, NumericMechanism if name in ("age", "icv") else DiscreteMechanism)
    for new, old in zip(
        again.abduct(fitted.x(name), fitted.columns[name]),
        fitted.mechanisms[name].abduct(fitted.x(name), fitted.columns[name]),
        strict=True,
    ):
        assert torch.equal(new, old)


HOSTILE = [
    ("icv", lambda d: d.update(scale=0.0)),
    ("icv", lambda d: d.update(scale=float("nan"))),
    ("icv", lambda d: d.update(location="a")),
    ("icv", lambda d: d.update(positive=1)),
    ("icv", lambda d: d["weights"].pop()),
    ("icv", lambda d: d["spline"].append(0.0)),
    ("icv", lambda d: d.update(spline=[float("inf")] * 23)),
    ("icv", lambda d: d.update(more=1)),
    ("icv", lambda d: d.pop("spline")),
    ("site", lambda d: d["intercept"].pop()),
    ("site", lambda d: d["weights"].pop()),
    ("site", lambda d: d["weights"][0].pop()),
    ("site", lambda d: d.update(weights=7)),
    ("site", lambda d: d.update(weights=[[None] * 3] * 3)),
]


@pytest.mark.parametrize(("name", "change"), HOSTILE)
def test_hostile_mechanisms_are_refused(fitted: Fitted, name: str, change) -> None:
    data, graph = copy.deepcopy(fitted.mechanisms[name].to_dict()), fitted.graph
    change(data)
    with pytest.raises(ModelFileError, match="the saved mechanism of a covariate must"):
        covariate_from_dict(data, graph.kinds[name], fitted.causes[name].columns, len(graph.levels.get(name, ())))


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"age": None},
        {"age": {"knots": [], "mean": [0.0], "sd": [0.0]}},
        {"age": {"knots": [], "mean": [0.0, 1.0], "sd": [1.0]}},
        {"age": {"knots": [1.0, 1.0, 2.0, 3.0], "mean": [0.0] * 3, "sd": [1.0] * 3}},
        {"age": {"knots": [1.0], "mean": [0.0], "sd": [1.0]}},
        {"age": {"knots": [], "mean": [], "sd": []}},
        {"icv": {"knots": [], "mean": [0.0], "sd": [1.0]}},
    ],
)
def test_hostile_causes_are_refused(fitted: Fitted, data: object) -> None:
    with pytest.raises(ModelFileError, match="the saved causes of 'site'"):
        Causes.from_dict(data, fitted.graph, "site")
    with pytest.raises(ModelFileError):
        covariate_from_dict(data, "numeric", 0, 0)
