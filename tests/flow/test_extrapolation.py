"""Queries beyond what the fit has seen say so: of all rows, of a site, of two covariates there. Inside they don't."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.forgery import forge_arrays, refused

import pycombat_gam as pcg
from pycombat_gam.flow.nodes.support import NO_SITES
from pycombat_gam.saving.container import read_container

QUICK = {"max_epochs": 2}
FEATURES = ["a", "b", "c"]
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
ASSUMED = "the model assumes the same site effect there"
EXTRAPOLATED = "the site's effect is extrapolated there"


@cache
def table() -> pd.DataFrame:
    """Adults at 'main', children at 'kids', where girls are under 12; 'men' has no woman. The tilt is 0 or 1."""
    rng = np.random.default_rng(8)
    n = 60
    site = np.repeat(["main", "kids", "men"], n)
    age = np.concatenate([np.linspace(10, 60, n), np.linspace(8.7, 17.2, n), np.linspace(15, 70, n)])
    sex = np.concatenate([np.resize(["F", "M"], 2 * n), np.full(n, "M")])
    age[(site == "kids") & (sex == "F")] = np.linspace(8.7, 12.0, n // 2)
    made = pd.DataFrame({"site": site, "age": age, "sex": sex, "tilt": rng.integers(0, 2, 3 * n)})
    for k, name in enumerate(FEATURES):
        made[name] = 0.02 * age + k + rng.normal(size=3 * n) + 0.5 * (site == "kids")
    return made


@cache
def fitted(variant: str = "residual", **options: Any) -> pcg.FlowSCM:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        given = {"flow_options": {"variant": variant}} if variant in ("residual", "whole") else {"flow": variant}
        scm = pcg.FlowSCM("~ age + sex + tilt", batch="site", features=FEATURES, training=QUICK, **given, **options)
        return scm.fit(table(), progress=False)


def said(query: Callable[[], object]) -> str:
    """The one warning of a query; empty where there is none."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        query()
    assert len(caught) < 2 and all(item.category is pcg.PcgWarning for item in caught)
    # The line that is blamed is the one that asked.
    assert all(item.filename == __file__ for item in caught)
    return str(caught[0].message) if caught else ""


def at(site: str) -> pd.DataFrame:
    return table()[table()["site"] == site]


ACTIONS: list[tuple[dict[str, object], str, tuple[str, ...]]] = [
    ({"age": -5}, "main", ("age is outside the range of the fit (8.7 to 70) in 60 rows: extrapolated",)),
    ({"age": 90}, "main", ("age is outside the range of the fit (8.7 to 70) in 60 rows: extrapolated",)),
    ({"age": 65}, "main", ("age is outside the range of site 'main', 10 to 60 (60 rows)", ASSUMED)),
    ({"site": "kids", "age": 50}, "main", ("age is outside the range of site 'kids', 8.7 to 17.2 (60 rows)", ASSUMED)),
    ({"site": "men", "age": 40, "sex": "F"}, "main", ("sex 'F' does not occur at site 'men' (60 rows)", ASSUMED)),
    (
        {"site": "kids", "age": 15, "sex": "F"},
        "main",
        ("age is outside the range of sex 'F' at site 'kids', 8.7 to 12 (60 rows)", ASSUMED),
    ),
    ({"sex": "F"}, "men", ("sex 'F' does not occur at site 'men' (60 rows)",)),
]


@pytest.mark.parametrize(("do", "site", "says"), ACTIONS, ids=[str(do) for do, *_ in ACTIONS])
def test_an_action_beyond_the_fit_says_so(do: dict[str, object], site: str, says: tuple[str, ...]) -> None:
    message = said(lambda: fitted().counterfactual(at(site), do=do))
    assert message.startswith("under this action ")
    assert all(words in message for words in says), message
    assert message.count(" rows)") + message.count(" rows: ") == 1  # and nothing else


INSIDE: list[tuple[dict[str, object], str]] = [
    ({}, "main"),
    ({"age": 40}, "main"),
    ({"site": "kids", "age": 11}, "main"),
    ({"site": "kids", "age": 17.2, "sex": "M"}, "main"),
    ({"site": "men", "age": 70, "sex": "M"}, "main"),
    ({"tilt": 1}, "men"),
]


@pytest.mark.parametrize("variant", ["residual", "whole"])
@pytest.mark.parametrize(("do", "site"), INSIDE, ids=[str(do) for do, _ in INSIDE])
def test_an_action_inside_the_fit_is_silent(do: dict[str, object], site: str, variant: str) -> None:
    assert said(lambda: fitted(variant).counterfactual(at(site), do=do)) == ""


def test_a_level_is_held_to_its_range_beyond_chance_only() -> None:
    """60 rows at 'men', tilt drawn at random: its levels' ranges end a little before the site's."""
    ends = at("men").groupby("tilt")["age"].agg(["min", "max"])
    assert (ends["min"].max() > 15) or (ends["max"].min() < 70)
    for tilt in (0, 1):
        assert said(lambda tilt=tilt: fitted().counterfactual(at("men"), do={"tilt": tilt})) == ""
        # As for the 30 girls at 'kids', whose range ends at 12 of 17.2: 3/30 of the site's width is 0.85.
    assert said(lambda: fitted().counterfactual(at("kids"), do={"sex": "F", "age": 12.8})) == ""
    assert "sex 'F' at site 'kids'" in said(lambda: fitted().counterfactual(at("kids"), do={"sex": "F", "age": 12.9}))


def test_what_an_action_leaves_as_it_was_is_not_counted() -> None:
    do = {"site": "men", "age": table()["age"].to_numpy(), "sex": table()["sex"].to_numpy()}
    women = (table()["sex"] == "F").sum()
    assert f"sex 'F' does not occur at site 'men' ({women} rows)" in said(
        lambda: fitted().counterfactual(table(), do=do)
    )
    same = {"site": table()["site"].to_numpy(), "age": table()["age"].to_numpy()}
    assert said(lambda: fitted().counterfactual(table(), do=same)) == ""


def test_a_map_of_residuals_extrapolates_nothing_when_rows_are_harmonized() -> None:
    """It does not see the covariates, as ComBat's map does not; that of whole values does, and so do networks."""
    for to in (None, "kids", "men"):
        assert said(lambda to=to: fitted().transform(table(), to=to)) == ""
    for variant in ("whole", "affine"):
        message = said(lambda variant=variant: fitted(variant).transform(table(), to="kids"))
        older = int(((table()["site"] != "kids") & ~table()["age"].between(8.7, 17.2)).sum())
        assert f"age is outside the range of site 'kids', 8.7 to 17.2 ({older} rows)" in message
        assert message.endswith(EXTRAPOLATED) and "does not occur" not in message
        average = said(lambda variant=variant: fitted(variant).transform(table()))
        assert f"site 'kids', 8.7 to 17.2 ({older} rows)" in average
        assert "sex 'F' does not occur at site 'men'" in average


def test_new_rows_beyond_the_fit() -> None:
    new = at("main").assign(age=90.0)
    for query in (fitted().transform, fitted().abduct, fitted().log_prob, fitted().outliers):
        message = said(lambda query=query: query(new))
        assert message == "age is outside the range of the fit (8.7 to 70) in 60 rows: extrapolated"
    grown = at("kids").assign(age=50.0)
    assert said(lambda: fitted().transform(grown)) == ""
    for query in (fitted("whole").transform, fitted("whole").abduct):
        assert "site 'kids', 8.7 to 17.2 (60 rows)" in said(lambda query=query: query(grown))
    half = at("main").assign(tilt=0.5)
    assert said(lambda: fitted().transform(half)) == "tilt is none of the fit's values (0, 1) in 60 rows: extrapolated"


def test_draws_and_predictions() -> None:
    assert said(lambda: fitted().sample(50, seed=1)) == ""
    assert "age is outside the range of the fit" in said(lambda: fitted().sample(50, do={"age": 90}))
    noise = fitted().abduct(at("main"))
    assert said(lambda: fitted().predict(noise)) == ""
    assert "sex 'F' does not occur at site 'men'" in said(lambda: fitted().predict(noise, do={"site": "men"}))


@pytest.mark.filterwarnings("ignore:the members agree:pycombat_gam.errors.PcgWarning")  # a quick training
def test_intervals() -> None:
    scm = fitted("whole", n_members=2)
    assert said(lambda: scm.interval(at("men").assign(age=16.0), to="kids")) == ""
    assert EXTRAPOLATED in said(lambda: scm.interval(at("men"), to="kids"))


def test_a_cause_that_moves_another_covariate_beyond_its_range() -> None:
    rng = np.random.default_rng(3)
    rows = table().assign(icv=lambda t: 1000 + 10 * t["age"] + rng.normal(size=len(t)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        scm = pcg.FlowSCM(
            "~ age + icv", batch="site", features=FEATURES, graph={"icv": ["age"]}, training=QUICK,
            flow_options={"variant": "residual"},
        ).fit(rows, progress=False)  # fmt: skip
    assert "icv is outside the range of site 'kids'" in said(
        lambda: scm.counterfactual(rows[rows["site"] == "kids"], do={"age": 50})
    )
    # Values computed anew differ by rounding: the largest one is no extrapolation.
    assert said(lambda: scm.counterfactual(rows, do={"age": rows["age"].to_numpy()})) == ""


def test_an_adapted_model_knows_its_new_site() -> None:
    new = at("main").assign(site="new", age=lambda t: np.linspace(30, 40, len(t)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        wider = fitted().adapt(new)
    assert said(lambda: wider.counterfactual(at("main"), do={"site": "new", "age": 35})) == ""
    assert "age is outside the range of site 'new', 30 to 40 (60 rows)" in said(
        lambda: wider.counterfactual(at("main"), do={"site": "new", "age": 50})
    )
    with pytest.warns(pcg.PcgWarning) as warned:
        fitted().adapt(new.assign(age=95.0))
    assert "age is outside the range of the fit (8.7 to 70) in 60 rows" in str(warned[0].message)


@pytest.mark.parametrize("adapted", [False, True])
def test_saved_models_know_the_ranges(tmp_path: Path, adapted: bool) -> None:
    model = fitted()
    if adapted:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pcg.PcgWarning)
            model = model.adapt(at("main").assign(site="new"))
    model.save(tmp_path / "model.pcg")
    again = pcg.load(tmp_path / "model.pcg")
    for do, site, _ in ACTIONS:
        asked = said(lambda do=do, site=site: again.counterfactual(at(site), do=do))
        assert asked == said(lambda do=do, site=site: model.counterfactual(at(site), do=do)) != ""
    assert read_container(tmp_path / "model.pcg").version == 2


def test_a_file_of_the_first_version_loads_and_says_what_it_cannot_tell(tmp_path: Path) -> None:
    model = pcg.load(GOLDEN / "flow-1.pcg")
    rows = pd.read_csv(GOLDEN / "flow-1-input.csv")
    assert said(lambda: model.transform(rows)) == ""
    assert NO_SITES in str(model.summary())
    assert said(lambda: model.counterfactual(rows, do={"age": 40})) == NO_SITES
    beyond = said(lambda: model.counterfactual(rows, do={"age": 99}))
    assert beyond.startswith("under this action age is outside the range of the fit (20.2 to 76.1)")
    model.save(tmp_path / "again.pcg")
    assert (tmp_path / "again.pcg").read_bytes() == (GOLDEN / "flow-1.pcg").read_bytes()


FORGED: dict[str, dict[str, Callable[[np.ndarray], np.ndarray] | None]] = {
    "no ranges": {"ranges": None},
    "ranges of another shape": {"ranges": lambda a: a[:, :1]},
    "a range that ends before it begins": {"ranges": lambda a: a[..., ::-1]},
    "half a range": {"ranges": lambda a: np.where(np.arange(2) == 0, np.nan, a)},
    "an infinite range": {"ranges": lambda a: np.where(np.arange(2) == 1, np.inf, a)},
    "a site without a range": {"ranges": lambda a: a * np.nan},
    "rows in parts": {"together": lambda a: a.astype(np.float64)},
    "fewer rows than none": {"together": lambda a: a - 100},
    "levels of another shape": {"together": lambda a: a[:1]},
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_ranges_are_refused(name: str, tmp_path: Path) -> None:
    fitted().save(tmp_path / "model.pcg")
    forge_arrays(tmp_path / "model.pcg", **FORGED[name])
    refused(tmp_path / "model.pcg")
