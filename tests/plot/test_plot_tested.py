"""Pictures of tests: every feature at its effect and p, in one unit or none, named where there is room."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from helpers.pictures import agg, titles, words
from matplotlib.colors import to_hex

import pycombat_gam as pcg
from pycombat_gam import plot
from pycombat_gam.errors import OptionError
from pycombat_gam.infer.effects import Effects
from pycombat_gam.plot.tested import FOUND


@pytest.fixture(autouse=True)
def without_a_screen() -> Iterator[None]:
    with agg():
        yield


@cache
def effects() -> Effects:
    table = pcg.datasets.load_multisite()
    model = pcg.ComBat("~ s(age) + sex + dx", batch="site", id="subject", features="_thickness$")
    return model.fit(table).test()


def mixed() -> Effects:
    """The first features in thousandths of their unit."""
    table = effects().table.copy()
    first = table["feature"].isin(table["feature"].unique()[:5])
    for name in ("estimate", "se", "lower", "upper"):
        table.loc[first, name] *= 1000.0
    return replace(effects(), table=table)


def points(ax: Any) -> tuple[np.ndarray, np.ndarray]:
    """Every point of a volcano, and whether it is coloured; in the order of x."""
    parts = [(one.get_offsets(), to_hex(one.get_facecolors()[0])) for one in ax.collections if len(one.get_offsets())]
    xy = np.concatenate([np.asarray(where) for where, _ in parts])
    coloured = np.concatenate([np.full(len(where), color == FOUND.lower()) for where, color in parts])
    order = np.lexsort(xy.T[::-1])
    return xy[order], coloured[order]


def test_a_volcano_has_every_feature_where_it_belongs() -> None:
    rows = effects().table.query("term == 'dx'").sort_values("estimate")
    ax = plot.volcano(effects(), "dx")
    xy, coloured = points(ax)
    # Coordinates pass through the picture as they are.
    np.testing.assert_array_equal(xy[:, 0], rows["estimate"])
    np.testing.assert_array_equal(xy[:, 1], -np.log10(rows["p"]))
    np.testing.assert_array_equal(coloured, rows["p_adjusted"] < 0.05)
    assert titles(ax) == f"dx | {int(coloured.sum())} of 32 features at a false discovery rate of 5 %"
    smallest = rows.sort_values("p")["feature"].iloc[0]
    assert any(text.startswith(smallest[:5]) for text in words(ax.figure))


@pytest.mark.parametrize("term", ["sex", "s(age)"])
def test_where_there_is_no_common_unit_the_effect_is_a_partial_correlation(term: str) -> None:
    rows = mixed().table.query("term == @term")
    t2 = np.where(rows["se"].isna(), rows["statistic"] * rows["df"], rows["statistic"] ** 2)
    expected = np.sqrt(t2 / (t2 + rows["df_residual"])) * np.where(rows["se"].isna(), 1.0, np.sign(rows["statistic"]))
    ax = plot.volcano(mixed(), term)
    # The same formula by another way: rounding.
    np.testing.assert_allclose(points(ax)[0][:, 0], np.sort(expected), rtol=1e-12)
    assert ax.get_xlabel() == "partial correlation"


def test_a_forest_has_every_interval() -> None:
    rows = effects().table.query("term == 'dx'").sort_values("estimate")
    ax = plot.forest(effects(), "dx")
    lines = [line for line in ax.lines if len(set(line.get_ydata())) == 1 and len(line.get_xdata()) == 2]
    np.testing.assert_array_equal([line.get_xdata() for line in lines], rows[["lower", "upper"]])
    dots = [line for line in ax.lines if len(line.get_xdata()) == 1]
    np.testing.assert_array_equal([dot.get_xdata()[0] for dot in dots], rows["estimate"])
    filled = [to_hex(dot.get_markerfacecolor()) == FOUND.lower() for dot in dots]
    np.testing.assert_array_equal(filled, rows["p_adjusted"] < 0.05)
    assert len(ax.get_yticklabels()) == 32
    assert "95 % interval" in ax.get_xlabel()


def test_an_untested_feature_is_left_out() -> None:
    table = effects().table.copy()
    table.loc[table["feature"] == table["feature"].iloc[0], ["estimate", "se", "lower", "upper", "p", "p_adjusted"]] = (
        np.nan
    )
    some = replace(effects(), table=table)
    assert len(points(plot.volcano(some, "dx"))[0]) == 31
    assert len(plot.forest(some, "dx").get_yticklabels()) == 31


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plot.volcano("dx"), "volcano needs the effects that model.test() returns; given: a str"),
        (lambda: plot.volcano(effects()), "volcano draws one term: give term=…, one of"),
        (lambda: plot.forest(effects(), "sexx"), "term='sexx' was not tested; did you mean 'sex'?"),
        (lambda: plot.forest(effects(), "s(age)"), "'s(age)' has several degrees of freedom"),
        (
            lambda: plot.forest(replace(effects(), table=effects().table.assign(term="dx", se=1.0)), "dx"),
            "96 features are too many to be named, 60 can: use volcano",
        ),
        (
            lambda: plot.volcano(replace(effects(), table=effects().table.assign(p=np.nan)), "dx"),
            "volcano: 'dx' was tested in no feature",
        ),
    ],
)
def test_wrong_calls(draw: Any, message: str) -> None:
    with pytest.raises(OptionError) as raised:
        draw()
    assert message in str(raised.value)
