"""The graph at work, draws, outliers, new sites, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from pycombat_gam.datasets import MultisiteStudy, simulate_multisite

pytestmark = pytest.mark.filterwarnings(
    "ignore:(under this action )?\\w+ is outside the range:pycombat_gam.errors.PcgWarning"
)
"""Four sites of unlike ages: what is said of that is tested in test_extrapolation.py."""


@cache
def study() -> MultisiteStudy:
    return simulate_multisite(sites=4, subjects=[70, 60, 50, 40], features=6, seed=51)


def features() -> list[str]:
    return list(study().features)


def new(formula: str = "~ age + sex + icv", **options: Any) -> pcg.FlowSCM:
    given = {"flow_options": {"variant": "residual"}, **options}
    return pcg.FlowSCM(formula, batch="site", id="subject", features=features(), **given)


@cache
def plain() -> pcg.FlowSCM:
    """Its numbers, age and icv, are nine tenths of the time of its fit: where they don't matter, ``new("~ sex")``."""
    return new().fit(study().table)


@cache
def without_bergen() -> pcg.FlowSCM:
    return new().fit(study().table.query("site != 'Bergen'"))


@cache
def with_edges() -> pcg.FlowSCM:
    return new(graph={"icv": ["age", "sex"], "sex": ["age"]}).fit(study().table)


def sd_gap(one: pd.DataFrame, other: pd.DataFrame) -> np.ndarray:
    return np.abs((one[features()] - other[features()]) / study().spread).to_numpy()


def test_without_edges_an_action_moves_nothing_else() -> None:
    table = study().table
    acted = plain().counterfactual(table, do={"age": 30, "site": "Cork"})
    assert (acted["age"] == 30).all() and (acted["site"] == "Cork").all()
    pd.testing.assert_frame_equal(acted[["sex", "icv", "subject", "dx"]], table[["sex", "icv", "subject", "dx"]])
    assert list(acted.columns) == list(table.columns) and acted.index.equals(table.index)


def test_an_edge_carries_an_action_on() -> None:
    """Head size follows sex here by 150 mm³ on average; do(sex) moves it for those whose sex is another."""
    table = study().table
    acted = with_edges().counterfactual(table, do={"sex": "M"})
    moved = acted["icv"] - table["icv"]
    women = table["sex"] == "F"
    assert moved[women].mean() == pytest.approx(150, abs=60)  # se of the fitted difference is about 20
    np.testing.assert_allclose(moved[~women], 0.0, atol=1e-8)
    # The features follow both: their own effect of sex, and that of icv.
    direct = with_edges().counterfactual(table, do={"sex": "M", "icv": table["icv"]})
    assert sd_gap(acted, direct)[women].mean() > 0.01 > sd_gap(acted, direct)[~women].max()
    back = with_edges().counterfactual(acted, do={"sex": table["sex"].to_numpy()})
    # In sds: rounding of a map and its inverse.
    assert sd_gap(back, table).max() < 1e-9


def test_an_array_beside_covariates() -> None:
    table = study().table
    Y, covariates = table[features()].to_numpy(), table[["site", "age", "sex", "icv"]]
    scm = pcg.FlowSCM("~ age + sex + icv", batch="site", features=features(), flow_options={"variant": "residual"})
    out = scm.fit_transform(Y, covariates, to="Cork")
    assert isinstance(out, np.ndarray)
    # The same rows by another way in: rounding.
    np.testing.assert_allclose(out, plain().transform(table, to="Cork")[features()], rtol=1e-12)
    acted = scm.counterfactual(Y, covariates, do={"site": "Cork"})
    np.testing.assert_allclose(acted[features()], out, rtol=1e-10)
    assert list(acted.columns[:4]) == ["site", "age", "sex", "icv"]


def test_a_memory_map(tmp_path: Path) -> None:
    table = study().table
    np.save(tmp_path / "Y.npy", table[features()].to_numpy())
    Y = np.load(tmp_path / "Y.npy", mmap_mode="r")
    scm = pcg.FlowSCM("~ age + sex + icv", batch="site", features=features(), flow_options={"variant": "residual"})
    out = scm.fit(Y, table[["site", "age", "sex", "icv"]]).transform(Y, table[["site", "age", "sex", "icv"]])
    # The same rows by another way in: rounding.
    np.testing.assert_allclose(out, plain().transform(table)[features()], rtol=1e-12)


def test_float32_comes_back_as_float32() -> None:
    table = study().table.astype(dict.fromkeys(features(), np.float32))
    out = plain().transform(table, to="Cork")
    assert (out[features()].dtypes == np.float32).all()


def test_draws_look_like_the_data() -> None:
    table = study().table
    drawn = plain().sample(20_000, seed=4)
    assert set(drawn["site"]) == set(table["site"]) and set(drawn["sex"]) == {"F", "M"}
    shares = table["site"].value_counts(normalize=True)
    # Standard errors of a share and of a mean of 20,000 draws, three of them.
    assert np.abs(drawn["site"].value_counts(normalize=True) - shares).max() < 3 * 0.5 / np.sqrt(20_000)
    assert drawn["age"].mean() == pytest.approx(table["age"].mean(), abs=1.5)
    at_cork = plain().sample(5_000, do={"site": "Cork"}, seed=5)
    assert (at_cork["site"] == "Cork").all()
    noise = plain().abduct(drawn.assign(subject=drawn.index))[features()].to_numpy()
    assert np.abs(noise.mean(axis=0)).max() < 0.05 and np.abs(noise.std(axis=0) - 1).max() < 0.05


def test_outliers_are_found_and_named() -> None:
    table = study().table.copy()
    name = features()[2]
    table.loc[11, name] += 12 * study().spread[name]
    found = plain().outliers(table)
    assert found.index[0] == 11 and found.loc[11, "feature"] == name and found.loc[11, "below"] == 0
    usual = plain().outliers(study().table, share=0.05)
    assert len(usual) == pytest.approx(0.05 * len(table), abs=2)
    assert (usual["log_prob"].diff().dropna() >= 0).all()


def test_log_prob_is_in_the_units_of_the_data() -> None:
    table = study().table
    metres = table.assign(**{name: table[name] * 1000 for name in features()})
    scaled = new().fit(metres).log_prob(metres, by="node")["features"]
    ours = plain().log_prob(table, by="node")["features"]
    np.testing.assert_allclose(ours - scaled, len(features()) * np.log(1000), rtol=1e-6)


# New sites


@pytest.mark.filterwarnings("ignore:site 'Twin':pycombat_gam.errors.PcgWarning")
def test_adapt_adds_a_site_and_leaves_the_others() -> None:
    table = study().table
    known, more = table[table["site"] != "Bergen"], table[table["site"] == "Bergen"]
    scm = without_bergen()
    with pytest.raises(pcg.PcgError, match=r"'?Bergen'? was not in the fit.*adapt"):
        scm.transform(more)
    with pytest.warns(pcg.PcgWarning, match="added from its 60 rows"):
        wider = scm.adapt(more)
    pd.testing.assert_frame_equal(wider.transform(known), scm.transform(known), check_exact=True)
    assert scm._fitted.model.levels.labels == ("Aarhus", "Cork", "Delft")
    # The same rows under another name have, beside a fit that knows them, the map that this fit gave them; the prior's
    # width is another, so they differ by part of a location's error, 1/√60.
    twin = plain().adapt(more.assign(site="Twin"))
    for name, table_of in twin.site_effects.items():
        gap = table_of.loc["Twin"] - plain().site_effects[name].loc["Bergen"]
        assert np.sqrt((gap**2).mean()) < 0.5 / np.sqrt(60), name
    assert np.isfinite(wider.log_prob(more)).all() and "Bergen" in str(wider.summary())


def test_few_rows_of_a_new_site_are_shrunk_and_that_is_said() -> None:
    table, scm = study().table, without_bergen()
    sizes = {}
    for rows in (1, 2, 60):
        with pytest.warns(pcg.PcgWarning, match=f"from its {rows} row"):
            wider = scm.adapt(table[table["site"] == "Bergen"].head(rows))
        others = wider.site_effects["log_scale"].drop(index="Bergen").to_numpy().mean()
        sizes[rows] = np.abs(wider.site_effects["log_scale"].loc["Bergen"] - others).mean()
    assert sizes[1] < sizes[60] and sizes[2] < sizes[60]


@pytest.mark.parametrize("flow", ["affine", "autoregressive"])
@pytest.mark.filterwarnings("ignore::pycombat_gam.errors.PcgWarning")
def test_adapt_of_a_network_freezes_biology(flow: str) -> None:
    table = study().table
    known, more = table[table["site"] != "Bergen"], table[table["site"] == "Bergen"]
    scm = new("~ age + sex", flow=flow, flow_options=None, training={"max_epochs": 30}).fit(known)
    wider = scm.adapt(more)
    # In sds: the others' parameters are frozen: rounding of what holds one site more.
    assert sd_gap(wider.transform(known, to="Cork"), scm.transform(known, to="Cork")).max() < 1e-10
    raw, out = more[features()].mean(), wider.transform(more, to="Cork")[features()].mean()
    expected = scm.transform(known, to="Cork")[features()].mean()
    assert np.abs((out - expected) / study().spread).mean() < np.abs((raw - expected) / study().spread).mean()


def test_adapt_refuses_what_it_cannot_do() -> None:
    table = study().table
    scm = new("~ sex").fit(table[table["site"].isin(["Cork", "Delft"])])
    for rows in (table[table["site"] == "Cork"], table[table["site"].isin(["Aarhus", "Bergen"])]):
        with pytest.raises(pcg.PcgError, match="rows of one site that was not in the fit"):
            scm.adapt(rows)
    caused = new("~ icv", graph={"icv": ["site"]}).fit(table[table["site"] != "Aarhus"])
    with pytest.raises(pcg.PcgError, match="'site' is a cause of covariates"):
        caused.adapt(table[table["site"] == "Aarhus"])


# Refusals

CALLS = {
    "unknown flow": ({"flow": "glow"}, "flow='glow': allowed are 'structured'"),
    "misspelled flow": ({"flow": "structurd"}, "did you mean 'structured'"),
    "variant": ({"flow_options": {"variant": "big"}}, "variant is 'big'; allowed are 'auto'"),
    "option of another flow": ({"flow_options": {"hidden": [8]}}, "'structured' has no 'hidden'"),
    "option": ({"flow": "affine", "flow_options": {"variant": "auto"}}, "'affine' has no 'variant'"),
    "training": ({"training": {"epochs": 3}}, "training has no 'epochs'.*did you mean"),
    "training text": ({"training": {"max_epochs": "a"}}, "max_epochs is 'a'; give a number"),
    "hidden": ({"flow": "affine", "flow_options": {"hidden": 8}}, "hidden is 8; give a list of layer sizes"),
    "training value": ({"training": {"max_epochs": 0}}, "max_epochs is 0"),
    "members": ({"n_members": 0}, "n_members=0: give a whole number"),
    "seeds of a structured flow": ({"n_members": 3, "ensemble": "seed"}, "has no random start"),
    "base": ({"base": "cauchy"}, "base='cauchy': allowed are 'normal', 'student_t'"),
    "device": ({"device": "tpu"}, "device='tpu': allowed are"),
    "no double precision": ({"device": "mps"}, "has no double precision"),
    "reference": ({"ref_batch": "Corc"}, "did you mean 'Cork'"),
    "cycle": ({"graph": {"icv": ["age"], "age": ["icv"]}}, "cycle"),
    "unknown node": ({"graph": {"icv": ["agee"]}}, "did you mean 'age'"),
    "not a graph": ({"graph": "icv"}, "graph='icv': give a dictionary"),
    "batch in the formula": ({"formula": "~ age + site"}, "'site' is in the formula"),
    "random effects": ({"formula": "~ age + (1 | dx)"}, "random effects, which FlowSCM does not fit yet"),
    "formula": ({"formula": "~ age +"}, "formula"),
    "column": ({"formula": "~ height"}, "'height' is not in the table"),
}


@pytest.mark.parametrize("name", CALLS)
def test_wrong_calls_are_refused(name: str) -> None:
    options, message = CALLS[name]
    with pytest.raises(pcg.PcgError, match=message) as caught:
        new(**{"training": {"max_epochs": 1}, **options}).fit(study().table)
    assert "\n" not in str(caught.value)


QUESTIONS = {
    "site": (lambda scm, table: scm.transform(table, to="Corc"), "did you mean 'Cork'"),
    "node": (lambda scm, table: scm.counterfactual(table, do={"agee": 3}), "did you mean 'age'"),
    "level": (lambda scm, table: scm.counterfactual(table, do={"sex": "X"}), "no level of 'sex'"),
    "number": (lambda scm, table: scm.counterfactual(table, do={"age": np.inf}), "age"),
    "length": (lambda scm, table: scm.counterfactual(table, do={"age": [1, 2]}), "2 values for"),
    "by": (lambda scm, table: scm.log_prob(table, by="feature"), "allowed are None and 'node'"),
    "rows": (lambda scm, table: scm.sample(0), "whole number of rows"),
    "share": (lambda scm, table: scm.outliers(table, share=2), "between 0 and 1"),
    "noise": (lambda scm, table: scm.predict(table), "no numbers in sex, site"),
    "missing cell": (lambda scm, table: scm.transform(table.assign(**{features()[0]: np.nan})), "missing values"),
    "missing covariate": (lambda scm, table: scm.transform(table.assign(age=np.nan)), "age"),
    "missing feature": (lambda scm, table: scm.transform(table.drop(columns=features()[0])), "missing from the table"),
    "no site map": (lambda scm, table: pcg.FlowSCM().site_effects, "not fitted yet"),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_wrong_questions_are_refused(name: str) -> None:
    ask, message = QUESTIONS[name]
    with pytest.raises(pcg.PcgError, match=message):
        ask(plain(), study().table.copy())


def test_missing_cells_are_refused_at_fit() -> None:
    table = study().table.copy()
    table.loc[3, features()[1]] = np.nan
    with pytest.raises(pcg.PcgError, match=f"missing values in '{features()[1]}'"):
        new().fit(table)


def test_a_changed_argument_asks_for_a_new_fit() -> None:
    scm = new("~ sex").fit(study().table)
    scm.set_params(base="normal")
    with pytest.raises(pcg.PcgError, match="base changed after the fit"):
        scm.transform(study().table)


def test_too_few_rows_for_a_network_are_said() -> None:
    with pytest.warns(pcg.PcgWarning, match=r"about 200 rows per site; there are fewer at Aarhus \(70\)"):
        new("~ sex", flow="spline", flow_options=None, training={"max_epochs": 1}).fit(study().table)


def test_scikit_learn_s_manners() -> None:
    from sklearn.base import clone

    scm = clone(plain())
    assert scm.get_params() == plain().get_params() and not scm.__sklearn_is_fitted__()
    table = study().table
    narrow = new("~ sex", output="features").fit(table).set_output(transform="pandas").transform(table)
    assert list(narrow.columns) == features()
    assert repr(plain()).startswith("FlowSCM('~ age + sex + icv', batch='site'")


@pytest.mark.filterwarnings("ignore::pycombat_gam.errors.PcgWarning")
def test_history() -> None:
    history = plain().history_
    assert list(history.columns[:4]) == ["stage", "epoch", "loss", "held_out"] and len(history) > 1


def test_without_torch_the_rest_works_and_the_message_says_what_to_install() -> None:
    code = """
import sys
import importlib.util
real = importlib.util.find_spec
import pycombat_gam.errors as errors
errors.find_spec = lambda name: None if name == 'torch' else real(name)
import pycombat_gam as pcg
pcg.ComBat
try:
    pcg.FlowSCM
except pcg.PcgError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "the flow needs torch: pip install 'torch>=2.2' 'zuko>=1.2'"


@pytest.mark.filterwarnings("ignore::pycombat_gam.errors.PcgWarning")
def test_the_least_known_site_is_the_least_sure() -> None:
    table = study().table
    cork = table.index[table["site"] == "Cork"]
    sure = {}
    for rows in (1, 3, 50):
        some = table.drop(index=cork[rows:])
        interval = new("~ sex", n_members=15).fit(some).interval(some.loc[cork[:rows]], to="Bergen")
        sure[rows] = float((interval.sd / study().spread).to_numpy().mean())
    assert sure[50] < sure[3] < 1.5 and sure[50] < sure[1] < 1.5


@pytest.mark.filterwarnings("ignore::pycombat_gam.errors.PcgWarning")
def test_too_few_rows_to_choose_a_variant_are_said() -> None:
    few = study().table.groupby("site").head(4)
    with pytest.warns(pcg.PcgWarning, match="too few rows to hold any out, so the variant was not chosen: 'residual'"):
        scm = new("~ age", flow_options=None).fit(few)
    assert scm.summary().variant == "residual" and scm.summary().choice is None


def test_a_network_that_never_left_its_start_says_so() -> None:
    with pytest.warns(pcg.PcgWarning, match="never improved on its start in held-out rows: the result is ComBat's"):
        new("~ sex", flow="affine", flow_options=None, training={"max_epochs": 1, "learning_rate": 10.0}).fit(
            study().table
        )
