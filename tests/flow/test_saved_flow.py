"""Saved flows: every kind comes back exactly; broken and hostile files are refused, and nothing in them is executed."""

from __future__ import annotations

import resource
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.forgery import forge_arrays, forge_model, nan, read, refused
from helpers.study import FEATURES, study

import pycombat_gam as pcg
from pycombat_gam.saving.container import write_container

FAST: dict[str, Any] = {"training": {"max_epochs": 2}}
pytestmark = pytest.mark.filterwarnings("ignore::pycombat_gam.errors.PcgWarning")  # quick training, new ages
RESIDUAL: dict[str, Any] = {"flow_options": {"variant": "residual"}, **FAST}


def fitted(formula: str = "~ age + sex", **options: Any) -> pcg.FlowSCM:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)  # few rows a site, which is so
        model = pcg.FlowSCM(formula, batch="site", id="subject", features=FEATURES, **options)
        return model.fit(study(), progress=False)


@pytest.fixture(scope="module")
def structured() -> pcg.FlowSCM:
    return fitted("~ ns(age, 2) + sex", n_members=2, ref_batch="Oslo", graph={"age": ["sex"]}, **RESIDUAL)


@pytest.fixture(scope="module")
def coupling() -> pcg.FlowSCM:
    return fitted(flow="coupling", flow_options={"spline": "quadratic"}, **FAST)


@pytest.fixture
def path(structured: pcg.FlowSCM, tmp_path: Path) -> Path:
    structured.save(tmp_path / "model.pcg")
    return tmp_path / "model.pcg"


@pytest.fixture
def network(coupling: pcg.FlowSCM, tmp_path: Path) -> Path:
    coupling.save(tmp_path / "model.pcg")
    return tmp_path / "model.pcg"


# What comes back

KINDS: dict[str, dict[str, Any]] = {
    "residual": {**RESIDUAL, "ref_batch": "Oslo"},
    "whole": {"flow_options": {"variant": "whole"}, **FAST},
    "whole-shape": {"flow_options": {"variant": "whole-shape"}, "base": "normal", **FAST},
    "residual-shape": {"flow_options": {"variant": "residual-shape"}, **FAST},
    "chosen": {"training": {"max_epochs": 1}},
    "bootstrap": {**RESIDUAL, "n_members": 3},
    "graph": {**RESIDUAL, "graph": {"age": ["sex"]}},
    "affine": {"flow": "affine", **FAST},
    "spline": {"flow": "spline", "base": "normal", **FAST},
    "linear spline": {"flow": "spline", "flow_options": {"spline": "linear", "hidden": [5, 4], "bins": 3}, **FAST},
    "autoregressive": {"flow": "autoregressive", **FAST},
    "coupling": {"flow": "coupling", "flow_options": {"transforms": 3}, **FAST},
    "seeds": {"flow": "coupling", "n_members": 2, "ensemble": "seed", **FAST},
    "bootstrapped networks": {"flow": "autoregressive", "n_members": 2, **FAST},
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_comes_back(name: str, tmp_path: Path) -> None:
    model = fitted(**KINDS[name])
    check_round_trip(model, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        if KINDS[name].get("graph") is None:
            check_round_trip(model.adapt(new_site()), tmp_path, new_site())


def check_round_trip(model: pcg.FlowSCM, folder: Path, rows: pd.DataFrame | None = None) -> None:
    table = study(1) if rows is None else rows
    model.save(folder / "one.pcg")
    again = pcg.load(folder / "one.pcg")
    assert isinstance(again, pcg.FlowSCM)
    again.save(folder / "two.pcg")
    assert (folder / "one.pcg").read_bytes() == (folder / "two.pcg").read_bytes()
    assert str(again.summary()) == str(model.summary())
    frames = [(m.transform(table), m.transform(table, to="Lyon"), m.abduct(table), m.sample(5)) for m in (model, again)]
    for before, after in zip(*frames, strict=True):
        pd.testing.assert_frame_equal(after, before, check_exact=True)
    pd.testing.assert_series_equal(again.log_prob(table), model.log_prob(table), check_exact=True)
    if model.n_members > 1:
        pd.testing.assert_frame_equal(again.interval(table).upper, model.interval(table).upper, check_exact=True)


def new_site() -> pd.DataFrame:
    return study(2).assign(site="Bonn").iloc[:8]


def test_a_forgery_without_changes_loads(path: Path, network: Path) -> None:
    """So the refusals below are for what was changed, not for the forging."""
    for place in (path, network):
        before = pcg.load(place).transform(study())
        forge_model(place, lambda model: None)
        forge_arrays(place)
        pd.testing.assert_frame_equal(pcg.load(place).transform(study()), before)


# Arrays

Change = Callable[[np.ndarray], np.ndarray] | None

ARRAYS: dict[str, dict[str, Change]] = {
    "location NaN": {"location": nan},
    "scale negative": {"scale": lambda a: -a},
    "scale zero": {"scale": lambda a: a * 0},
    "spread negative": {"spread": lambda a: -a},
    "center infinite": {"center": lambda a: a + np.inf},
    "shares negative": {"shares": lambda a: np.array([1.5, -0.25, -0.25])},
    "shares too large": {"shares": lambda a: a * 2},
    "reference descends": {"reference": lambda a: a[::-1]},
    "reference NaN": {"reference": nan},
    "choice of text": {"choice": lambda a: a.astype(str)},
    "history wider": {"history": lambda a: np.hstack([a, a[:, :1]])},
    "history shorter": {"history": lambda a: a[1:]},
    "epoch NaN": {"history": nan},
    "one feature fewer": {"features": lambda a: a[1:]},
    "features twice": {"features": lambda a: np.full_like(a, a[0])},
    "features as numbers": {"features": lambda a: np.arange(a.size)},
    "modelled of numbers": {"modelled": lambda a: a.astype(float)},
    "none modelled": {"modelled": lambda a: ~a},
    "one modelled fewer": {"modelled": lambda a: np.arange(a.size) > 0},
    "effects NaN": {"0/first": nan},
    "effects infinite": {"0/first": lambda a: a + np.inf},
    "effects of one site fewer": {"0/first": lambda a: a[:, 1:]},
    "effects with a shape": {"0/first": lambda a: np.concatenate([a, a])},
    "effects transposed": {"0/first": lambda a: a.swapaxes(1, 2)},
    "effects float32": {"0/first": lambda a: a.astype(np.float32)},
    "effects integers": {"0/first": lambda a: a.astype(int)},
    "effects complex": {"0/first": lambda a: a.astype(complex)},
    "coefficients NaN": {"0/start": nan},
    "coefficients of one column more": {"0/start": lambda a: np.vstack([a, a[:1]])},
    "steps left": {"0/step": lambda a: a + 1},
    "shifts left": {"0/shift": lambda a: a + 1},
    "preconditioner left": {"0/preconditioner": lambda a: a + 1},
    "whitener not triangular": {"0/whitener": lambda a: a + 0.1},
    "whitener of another sign": {"0/whitener": lambda a: -a},
    "whitener singular": {"0/whitener": lambda a: a * 0},
    "whitener absent": {"0/whitener": lambda a: a[:0, :0]},
    "widths negative": {"0/width": lambda a: -a},
    "widths zero": {"0/width": lambda a: a * 0},
    "centres' width negative": {"0/spread": lambda a: -a},
    "df too small": {"0/df": lambda a: a * 0 + 2},
    "df absent": {"0/df": None},
    "known of halves": {"0/known": lambda a: a * 0.5},
    "known of none": {"0/known": lambda a: a * 0},
    "sizes negative": {"0/sizes": lambda a: -a},
    "penalties more": {"0/roots": lambda a: np.zeros((1, *a.shape[1:]))},
    "a member broken": {"1/first": nan},
    "a member gone": {"2/first": None},
    "a member more": {"3/first": lambda a: a},
    "array more": {"something": lambda a: a},
    "array of the flow more": {"0/something": lambda a: a},
    "array gone": {"idle": None},
}


@pytest.mark.parametrize("name", ARRAYS)
def test_another_array(name: str, path: Path) -> None:
    forge_arrays(path, **ARRAYS[name])
    refused(path)


def test_arrays_of_networks(network: Path, coupling: pcg.FlowSCM) -> None:
    names = [name for name in coupling.to_container().arrays if name.startswith("0/")]
    assert len(names) > 30
    changes: list[Change] = [None, nan, lambda a: a.astype(np.float32), lambda a: np.concatenate([a, a])]
    for place, name in enumerate(names):
        coupling.save(network)
        forge_arrays(network, **{name: changes[place % 4]})
        refused(network)


# Plain data


def set_mechanism(**values: object) -> Callable[[dict[str, Any]], object]:
    return lambda m: m["mechanism"].update(values)


def node(name: str, **values: object) -> Callable[[dict[str, Any]], object]:
    return lambda m: next(one for one in m["graph"]["nodes"] if one["name"] == name).update(values)


def covariate(name: str, **values: object) -> Callable[[dict[str, Any]], object]:
    return lambda m: m["covariates"][name].update(values)


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "option gone": lambda m: m["params"].pop("base"),
    "option more": lambda m: m["params"].update(mean_model="os.system"),
    "params a list": lambda m: m.update(params=[]),
    "flow unknown": lambda m: m["params"].update(flow="magic"),
    "flow another": lambda m: m["params"].update(flow="affine", flow_options=None),
    "base another": lambda m: m["params"].update(base="normal"),
    "variant unknown": lambda m: m["params"].update(flow_options={"variant": "magic"}),
    "variant another": lambda m: m["params"].update(flow_options={"variant": "whole"}),
    "flow_options of a flow more": lambda m: m["params"].update(flow_options={"os": "system"}),
    "training of text": lambda m: m["params"].update(training={"max_epochs": "many"}),
    "training unknown": lambda m: m["params"].update(training={"hook": "os.system"}),
    "training a list": lambda m: m["params"].update(training=[1]),
    "batch another": lambda m: m["params"].update(batch="dx"),
    "formula another": lambda m: m["params"].update(formula="~ sex"),
    "formula another in the design": lambda m: m["design"].update(formula="~ sex"),
    "formula a number": lambda m: m["params"].update(formula=3),
    "ref_batch unknown": lambda m: m["params"].update(ref_batch="Bonn"),
    "ref_batch a list": lambda m: m["params"].update(ref_batch=["Oslo"]),
    "seed negative": lambda m: m["params"].update(seed=-1),
    "seed a truth value": lambda m: m["params"].update(seed=True),
    "device a number": lambda m: m["params"].update(device=3),
    "id a number": lambda m: m["params"].update(id=3),
    "features a number": lambda m: m["params"].update(features=3),
    "graph another": lambda m: m["params"].update(graph={"sex": ["age"]}),
    "graph none": lambda m: m["params"].update(graph=None),
    "graph of numbers": lambda m: m["params"].update(graph={"age": 3}),
    "graph of nobody": lambda m: m["params"].update(graph={"age": ["sex"], "icv": []}),
    "members more": lambda m: m.update(members=3),
    "members fewer": lambda m: m.update(members=1),
    "members a truth value": lambda m: m.update(members=True),
    "members of no ensemble": lambda m: m["params"].update(n_members=1),
    "members countless": lambda m: (m["params"].update(n_members=10**12), m.update(members=10**12)),
    "labels twice": lambda m: m["batch"].update(labels=["Lyon", "Lyon", "Turin"]),
    "labels too few": lambda m: m["batch"].update(labels=["Lyon", "Oslo"]),
    "labels others": lambda m: m["batch"].update(labels=["Lyon", "Oslo", "Bonn"]),
    "labels a text": lambda m: m["batch"].update(labels="LOT"),
    "column another": lambda m: m["batch"].update(column="dx"),
    "node a cause of itself": node("age", parents=["age"]),
    "cycle": node("sex", parents=["age"]),
    "levels twice": node("sex", levels=["F", "F"]),
    "levels too many": node("sex", levels=["F", "M", "X"]),
    "kind unknown": node("sex", kind="magic"),
    "kind another": node("sex", kind="numeric"),
    "node twice": lambda m: m["graph"]["nodes"].append(m["graph"]["nodes"][0]),
    "node gone": lambda m: m["graph"]["nodes"].pop(0),
    "node without a name": lambda m: m["graph"]["nodes"].append({}),
    "batch another in the graph": lambda m: m["graph"].update(batch="sex"),
    "causes gone": lambda m: m["causes"].pop("age"),
    "causes more": lambda m: m["causes"].update(icv={}),
    "causes of another": lambda m: m["causes"].update(sex={"age": {"knots": [], "mean": [0], "sd": [1]}}),
    "mechanism gone": lambda m: m["covariates"].pop("age"),
    "mechanism more": lambda m: m["covariates"].update(icv=m["covariates"]["age"]),
    "mechanism of another": lambda m: m["covariates"].update(age=m["covariates"]["sex"]),
    "scale of a covariate negative": covariate("age", scale=-1.0),
    "location of a covariate text": covariate("age", location="0"),
    "spline of a covariate short": covariate("age", spline=[0.0]),
    "weights of a covariate too many": covariate("age", weights=[0.0] * 9),
    "shares of levels too many": covariate("sex", intercept=[0.0] * 3),
    "number too large": covariate("age", location=10**400),
    "shape gone": lambda m: m.update(mechanism={}),
    "shape a list": lambda m: m.update(mechanism=[]),
    "shape of another variant": set_mechanism(variant="whole"),
    "shape of more parameters": set_mechanism(variant="residual-shape"),
    "shape of an unknown variant": set_mechanism(variant="magic"),
    "shape of a variant in a list": set_mechanism(variant=["residual"]),
    "shape of features countless": set_mechanism(features=10**12),
    "shape of sites countless": set_mechanism(sites=10**12),
    "shape of features negative": set_mechanism(features=-4),
    "shape of all known": set_mechanism(all_known=False),
    "shape more": set_mechanism(code="x"),
    "stages fewer": lambda m: m["stages"].pop(),
    "variants more": lambda m: m["variants"].append("whole"),
    "design gone": lambda m: m.pop("design"),
    "design more": lambda m: m["design"].update(code="x"),
    "state gone": lambda m: m["design"]["states"].clear(),
    "columns another": lambda m: m["design"].update(columns=["a", "b", "c"]),
    "intercept in the design": lambda m: m["design"].update(absorb_intercept=False),
    "notes a text": lambda m: m.update(notes="abc"),
    "profile gone": lambda m: m.pop("profile"),
    "profile of text": lambda m: m["profile"].update(rows="many"),
    "profile of other batches": lambda m: m["profile"]["batches"].update(Bonn=3),
    "unknown key": lambda m: m.update(code="x"),
}


@pytest.mark.parametrize("name", EDITS)
def test_another_model(name: str, path: Path) -> None:
    forge_model(path, EDITS[name])
    refused(path)


NETWORKS: dict[str, dict[str, object]] = {
    "family another": {"family": "autoregressive"},
    "family unknown": {"family": "magic"},
    "base another": {"base": "normal"},
    "spline another": {"spline": "linear"},
    "spline none": {"spline": None},
    "bins countless": {"bins": 10**12},
    "bins beyond any number": {"bins": 10**30},
    "bins more": {"bins": 9},
    "hidden countless": {"hidden": [10**12]},
    "hidden none": {"hidden": []},
    "hidden deeper": {"hidden": [64, 64, 64]},
    "hidden a text": {"hidden": "66"},
    "transforms countless": {"transforms": 10**12},
    "transforms fewer": {"transforms": 3},
    "features countless": {"features": 10**12},
    "columns countless": {"columns": 10**12},
    "sites countless": {"sites": 10**12},
    "adapted": {"adapted": True},
    "adapted a number": {"adapted": 1},
    "key more": {"code": "x"},
    "structured": {"variant": "residual"},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_another_network(name: str, network: Path) -> None:
    forge_model(network, set_mechanism(**NETWORKS[name]))
    refused(network)


def test_nothing_is_allocated_for_what_is_not_in_the_file(network: Path, path: Path, coupling: pcg.FlowSCM) -> None:
    """Sizes of which each alone would fit into memory, and a file whose names and labels multiply."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for change in ({"hidden": [3_000_000]}, {"bins": 3_000_000}, {"hidden": [40_000, 40_000]}):
        coupling.save(network)
        forge_model(network, set_mechanism(**change))
        refused(network)
    many = 9_000
    container = pcg.load(write(path, coupling)).to_container()
    labels = [f"s{i:06d}" for i in range(many)]
    container.model["batch"]["labels"] = labels
    container.model["graph"]["nodes"][-1]["levels"] = labels
    container.model["covariates"]["site"] = {"intercept": [0.0] * many, "weights": []}
    container.model["mechanism"] |= {"sites": many, "features": many, "hidden": [many, 64]}
    container.arrays["features"] = np.array([f"f{i}" for i in range(many)])
    container.arrays["modelled"] = np.ones(many, dtype=bool)
    for name in ("location", "scale"):
        container.arrays[name] = np.ones(many)
    write_container(path, container)
    refused(path, "arrays of the saved flow must hold")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300_000, f"{grown} kB"


def write(path: Path, model: pcg.FlowSCM) -> Path:
    model.save(path)
    return path


# Code

PYTHON = [
    "~ __import__('os').system('touch {}')",
    "~ open('{}', 'w')",
    "~ I((lambda: open('{}', 'w'))())",
    "~ s(age, k=open('{}', 'w'))",
]


@pytest.mark.parametrize("formula", PYTHON)
def test_python_in_the_formula_is_not_executed(formula: str, path: Path, tmp_path: Path) -> None:
    target = tmp_path / "executed"

    def edit(model: dict[str, Any]) -> None:
        model["params"]["formula"] = model["design"]["formula"] = formula.format(target)

    forge_model(path, edit)
    refused(path)
    assert not target.exists()


def test_python_in_names_is_not_executed(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "executed"
    code = f"__import__('os').system('touch {target}')"
    edits: list[Callable[[dict[str, Any]], object]] = [
        lambda m: m["graph"]["nodes"][0].update(name=code),
        lambda m: m["mechanism"].update(variant=code),
        lambda m: m["params"].update(flow=code),
        lambda m: m["params"].update(graph={"age": [code]}),
        lambda m: m["design"]["states"].update({code: {}}),
    ]
    original = path.read_bytes()
    for edit in edits:
        path.write_bytes(original)
        forge_model(path, edit)
        refused(path)
    assert not target.exists()


def test_no_pickle_is_in_the_file(path: Path, network: Path) -> None:
    for place in (path, network):
        assert set(read(place)) == {"manifest.json", "model.json", "arrays.npz"}
        assert b"pickle" not in place.read_bytes() and b"torch" not in place.read_bytes()
