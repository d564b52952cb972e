"""Pictures of a flow: training, and fans of counterfactuals against `counterfactual` and `interval`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.pictures import agg, legend, new_axes, titles, words

import pycombat_gam as pcg
from pycombat_gam import plot
from pycombat_gam.datasets import MultisiteStudy, simulate_multisite
from pycombat_gam.errors import OptionError

pytestmark = pytest.mark.filterwarnings("ignore::pycombat_gam.errors.PcgWarning")


@pytest.fixture(autouse=True)
def without_a_screen() -> Iterator[None]:
    with agg():
        yield


@cache
def study() -> MultisiteStudy:
    return simulate_multisite(sites=3, subjects=[40, 35, 30], features=4, seed=51)


def new(formula: str = "~ age + sex + icv", **options: Any) -> pcg.FlowSCM:
    given = {"flow_options": {"variant": "residual"}, **options}
    return pcg.FlowSCM(formula, batch="site", id="subject", features=list(study().features), **given)


@cache
def plain() -> pcg.FlowSCM:
    return new(graph={"icv": ["age"]}).fit(study().table, progress=False)


@cache
def ensemble() -> pcg.FlowSCM:
    return new(n_members=3).fit(study().table, progress=False)


def curves(ax: Any) -> list[Any]:
    return [line for line in ax.lines if len(line.get_xdata()) == 25]


def test_a_fan_is_made_of_counterfactuals() -> None:
    table, feature = study().table.iloc[::20], study().features[1]
    ax = plot.fan(plain(), table, feature)
    lines = curves(ax)
    assert len(lines) == len(table) == 6
    grid = lines[0].get_xdata()
    assert (grid[0], grid[-1]) == (study().table["age"].min(), study().table["age"].max())
    for g in (0, 7, 24):
        expected = plain().counterfactual(table, do={"age": float(grid[g])})[feature]
        # What is drawn is what the model answers: rounding of a grid's points.
        np.testing.assert_allclose([line.get_ydata()[g] for line in lines], expected, rtol=1e-10)
    marks = [line for line in ax.lines if len(line.get_xdata()) == 1]
    np.testing.assert_array_equal([mark.get_xdata()[0] for mark in marks], table["age"])
    np.testing.assert_array_equal([mark.get_ydata()[0] for mark in marks], table[feature])
    assert legend(ax) == sorted(set(table["site"])) and ax.get_xlabel() == "age, set to"
    assert "at each row's own site; marks: rows as measured" in titles(ax)


def test_a_fan_at_a_site() -> None:
    table, feature = study().table.iloc[::20], study().features[1]
    ax = plot.fan(plain(), table, feature, to="Bergen")
    grid = curves(ax)[0].get_xdata()
    expected = plain().counterfactual(table, do={"age": float(grid[5]), "site": "Bergen"})[feature]
    # As above.
    np.testing.assert_allclose([line.get_ydata()[5] for line in curves(ax)], expected, rtol=1e-10)
    marks = [line.get_ydata()[0] for line in ax.lines if len(line.get_xdata()) == 1]
    np.testing.assert_allclose(marks, plain().transform(table, to="Bergen")[feature], rtol=1e-10)


def test_bands_are_the_intervals_of_the_ensemble() -> None:
    """At a row's own age a counterfactual at a site is a harmonized value, whose interval `interval` gives."""
    youngest = study().table.nsmallest(1, "age")
    feature, to = study().features[2], next(s for s in ("Aarhus", "Bergen") if s != youngest["site"].iloc[0])
    ax = plot.fan(ensemble(), youngest, feature, to=to, level=0.8)
    (band,) = ax.collections
    corners = pd.DataFrame(band.get_paths()[0].vertices, columns=["x", "y"])
    ends = corners.loc[corners["x"] == corners["x"].min(), "y"]
    found = ensemble().interval(youngest, to=to, level=0.8)
    expected = [float(one[feature].iloc[0]) for one in (found.lower, found.upper)]
    # As above; the ends of an axis are computed anew.
    np.testing.assert_allclose([ends.min(), ends.max()], expected, rtol=1e-9)
    assert legend(ax)[-1] == "80 % interval"


def test_many_rows_have_a_mean_with_a_band() -> None:
    table, feature = study().table, study().features[0]
    ax = plot.fan(ensemble(), table, feature)
    assert len(curves(ax)) == 60 + 2  # the mean, and its white edge
    rows = np.array([line.get_ydata() for line in curves(ax)[:60]])
    np.testing.assert_allclose(curves(ax)[-1].get_ydata(), rows.mean(axis=0), rtol=1e-12)
    assert len(ax.collections) == 1 and legend(ax)[-2:] == ["mean of rows", "95 % interval"]
    assert "60 of 105 rows, evenly spread" in titles(ax)
    ax.figure.draw_without_rendering()


def test_training_is_the_gain_of_each_stage() -> None:
    ax = plot.training(plain())
    history = plain().history_
    stages = list(history["stage"].unique())
    assert len(legend(ax)) == len(stages)
    for stage, line in zip(reversed(stages), ax.lines[::2], strict=True):
        rows = history[history["stage"] == stage]
        y = rows["held_out"] if rows["held_out"].notna().any() else -rows["loss"]
        np.testing.assert_allclose(line.get_ydata(), y - y.dropna().iloc[0])
        np.testing.assert_array_equal(line.get_xdata(), rows["epoch"])
    assert legend(ax)[0].startswith(stages[-1]) and "gain" in ax.get_ylabel()


def test_of_many_stages_the_latest_are_told_apart() -> None:
    scm = new(flow_options={"variant": "auto"}, training={"max_epochs": 3}).fit(study().table, progress=False)
    stages = list(scm.history_["stage"].unique())
    ax = plot.training(scm, ax=(given := new_axes()))
    assert ax is given and len(stages) > 8
    assert legend(ax)[-1] == f"{len(stages) - 7} earlier stages" and legend(ax)[0].startswith(stages[-1])
    assert words(ax.figure)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"feature": "thick"}, "there is no feature 'thick' in the fit"),
        ({"over": "sex"}, "over='sex' is not a column of numbers in the formula; allowed are: age, icv"),
        ({"over": "site"}, "over='site' is not a column of numbers"),
        ({"to": "Bregen"}, "did you mean 'Bergen'"),
        ({"level": 1}, "level=1: give a number between 0 and 1"),
        ({"scm": "flow"}, "fan needs a fitted FlowSCM; given: a str"),
        ({"scm": new()}, "not fitted yet"),
    ],
    ids=str,
)
def test_what_cannot_be_drawn_is_refused_in_words(given: dict[str, Any], message: str) -> None:
    options = {"scm": plain(), "feature": study().features[0], **given}
    with pytest.raises((OptionError, pcg.PcgError), match=message):
        plot.fan(options.pop("scm"), study().table, options.pop("feature"), **options)


def test_a_flow_has_no_pictures_of_combat() -> None:
    for draw in (plot.site_effects, plot.shrinkage, lambda m: plot.prior(m, "Cork")):
        with pytest.raises(OptionError, match="needs a fitted ComBat; given: a FlowSCM"):
            draw(plain())
