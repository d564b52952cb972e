"""Names from data are text in pictures: no formula, no markup, nothing hidden, nothing that breaks the page."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.pictures import agg, legend, new_axes, words
from helpers.study import FEATURES, study

import pycombat_gam as pcg
from pycombat_gam import plot
from pycombat_gam.plot.style import LOOKS, evenly, shown, shown_apart, spread_out

HOSTILE = ["$\\alpha$", "a_b^c", "_hidden", "two\nlines", "<script>", "%d {x}", "back\\$slash$", "y" * 300]
SHOWN = ["$\\alpha$", "a_b^c", "_hidden", "two\\nlines", "<script>", "%d {x}", "back\\$slash$"]
FEATURE_NAMES = ["$f_1$ & $f_2$", "_f", "f\ttab", "<b>f</b>"]


@pytest.fixture(autouse=True)
def without_a_screen() -> Iterator[None]:
    with agg():
        yield


@cache
def hostile() -> pd.DataFrame:
    """Eight sites and four features with names that ask for trouble, and a covariate that does."""
    table = pd.concat([study(seed) for seed in range(4)], ignore_index=True)
    site = np.array(HOSTILE, dtype=object)[np.arange(len(table)) % 8]
    subjects = [f"${i}$" for i in range(len(table))]
    renamed = table.rename(columns=dict(zip(FEATURES, FEATURE_NAMES, strict=True)))
    return renamed.assign(site=site, subject=subjects, sex=table["sex"].map({"F": "$F$", "M": "_M"}))


@cache
def fitted() -> pcg.ComBat:
    return pcg.ComBat("~ age + sex", batch="site", id="subject", features=FEATURE_NAMES).fit(hostile())


def traveling() -> pd.DataFrame:
    return pd.DataFrame({"who": np.repeat(HOSTILE, 2), "site": HOSTILE[:2] * 8, "$y$": np.arange(16.0)})


DRAW: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "features": (
        lambda: plot.features(hostile(), hostile(), feature="$f_1$ & $f_2$", batch="site"),
        [*(f"{name} ({len(hostile()) // 8 + (i < 4)})" for i, name in enumerate(SHOWN)), "$f_1$ & $f_2$"],
    ),
    "curve": (lambda: plot.curve(fitted(), hostile(), "f\ttab"), [*SHOWN, "f\\ttab", "at sex = $F$"]),
    "curve of a factor": (lambda: plot.curve(fitted(), hostile(), "_f", "sex"), [*SHOWN, "_f", "$F$", "_M"]),
    "prior": (lambda: plot.prior(fitted(), "$\\alpha$"), ["Location of $\\alpha$ (11 rows)"]),
    "components": (lambda: plot.components(hostile(), batch="site", features=FEATURE_NAMES), SHOWN),
    "site effects": (lambda: plot.site_effects(fitted()), [*SHOWN, "$f_1$ & $f_2$", "_f", "f\\ttab", "<b>f</b>"]),
    "volcano": (lambda: plot.volcano(fitted().test("sex")), ["sex"]),
    "forest": (lambda: plot.forest(fitted().test("age")), ["age", "$f_1$ & $f_2$", "_f", "f\\ttab", "<b>f</b>"]),
    "shrinkage": (lambda: plot.shrinkage(fitted()), [f"{name} (" for name in SHOWN]),
    "travelers": (lambda: plot.travelers(traveling(), subject="who", batch="site", feature="$y$"), [*SHOWN, "$y$"]),
}


@pytest.mark.parametrize("picture", DRAW)
def test_names_are_seen_as_they_are(picture: str) -> None:
    draw, expected = DRAW[picture]
    figure = np.ravel(draw())[0].figure
    seen = words(figure)
    for name in expected:
        assert name in seen or any(one.startswith(name) for one in seen if name.endswith("(")), name
    assert not [text for text in seen if text.startswith("MATH") and "10^" not in text]
    assert max(len(line) for text in seen for line in text.split("\n")) < 110


@pytest.mark.parametrize("picture", DRAW)
def test_nothing_is_cut_off(picture: str) -> None:
    """All text lies inside the figure, to within two pixels; axes keep at least a quarter of it."""
    figure = np.ravel(DRAW[picture][0]())[0].figure
    figure.draw_without_rendering()
    for ax in figure.axes:
        box = ax.get_tightbbox()
        assert box.x0 > -2 and box.y0 > -2 and box.x1 < figure.bbox.x1 + 2 and box.y1 < figure.bbox.y1 + 2
    assert max(ax.get_position().width for ax in figure.axes) > 0.25
    assert max(ax.get_position().height for ax in figure.axes) > 0.25


def test_a_long_name_keeps_its_ends() -> None:
    assert shown("abcdefghijkl", 7) == "abc…jkl" and shown("abcdefg", 7) == "abcdefg"
    assert shown("") == "''" and shown(3.5) == "3.5" and shown("‮x") == "\\u202ex"
    assert shown_apart(["a" * 30 + "1", "a" * 30 + "1b", "c"], 5) == ["aa…a1", "aa…1b", "c"]
    alike = shown_apart(["a" * 9 + "x" + "b" * 9, "a" * 9 + "y" + "b" * 9], 9)
    assert alike == ["aaaa…bbbb (1)", "aaaa…bbbb (2)"]


def test_sites_differ_in_more_than_colour() -> None:
    assert len({look.marker for look in LOOKS}) == len({str(look.line) for look in LOOKS}) == len(LOOKS) == 8
    assert len({look.color for look in LOOKS}) == 8


def test_points_are_spread_the_same_whatever_their_order() -> None:
    values = np.random.default_rng(1).normal(size=50)
    order = np.random.default_rng(2).permutation(50)
    np.testing.assert_array_equal(spread_out(values)[order], spread_out(values[order]))
    assert np.abs(spread_out(values)).max() <= 0.3
    assert list(evenly(5, 9)) == [0, 1, 2, 3, 4] and list(evenly(9, 3)) == [0, 4, 8]


@pytest.mark.parametrize("width", [3.4, 7.0])
def test_legends_fit_and_keep_every_site(width: float) -> None:
    table = study()
    fit = pcg.ComBat("~ age + sex", batch="site", id="subject", features=FEATURES).fit(table)
    ax = plot.curve(fit, table, "vol", ax=new_axes(width=width, height=3.2))
    ax.figure.draw_without_rendering()
    box, page = ax.get_legend().get_window_extent(), ax.figure.bbox
    assert legend(ax)[2:] == ["Lyon", "Oslo", "Turin"]
    assert box.x0 > -2 and box.y0 > -2 and box.x1 < page.x1 + 2
    assert not box.overlaps(ax.xaxis.label.get_window_extent())


def test_importing_is_light_and_pyplot_waits_for_new_axes() -> None:
    code = """
import sys
import pycombat_gam as pcg
assert 'matplotlib' not in sys.modules
table = pcg.datasets.load_multisite()
from matplotlib.figure import Figure
names = [name for name in table if name.endswith('_thickness')]
model = pcg.ComBat('~ age', batch='site', id='subject', features=names).fit(table)
new = lambda n=1: Figure(layout='constrained').subplots(1, n)
pcg.plot.features(table, table, feature=names[0], batch='site', axes=new(2))
pcg.plot.components(table, table, batch='site', features=names, axes=new(2))
pcg.plot.curve(model, table, names[0], ax=new())
pcg.plot.prior(model, 'Cork', ax=new())
pcg.plot.site_effects(model, ax=new())
pcg.plot.shrinkage(model, ax=new())
pcg.plot.volcano(model.test(), ax=new())
pcg.plot.forest(model.test(), ax=new())
assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
