"""Pictures in a column of a journal (3.4 inches) and on a page (7): nothing cut, nothing over another, sites alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.pictures import agg, legend
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import pycombat_gam as pcg
from pycombat_gam import plot
from pycombat_gam.plot.style import LOOKS, look_of

SITES = ("Aarhus", "Bergen", "Cork", "Delft", "Evora", "Fargo", "Graz", "Hobart")
NAMES = [f"{side}_{part}_thickness" for side in ("lh", "rh") for part in "abcdefghijkl"]
SIZES = {"column": (3.4, 2.6), "page": (7.0, 3.9)}


@pytest.fixture(autouse=True)
def no_screen() -> Iterator[None]:
    with agg():
        yield


def table_of(sizes: tuple[int, ...] = (40, 60, 18, 50, 70, 34, 45, 25)) -> pd.DataFrame:
    rng = np.random.default_rng(8)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    age = rng.uniform(20, 80, codes.size)
    Y = rng.normal(size=(8, 24))[codes] + rng.normal(size=(codes.size, 24)) * rng.uniform(0.6, 1.8, (8, 24))[codes]
    about = pd.DataFrame({"site": np.array(SITES)[codes], "age": age, "sex": rng.choice(["F", "M"], codes.size)})
    return pd.concat([about, pd.DataFrame(Y + 0.02 * age[:, None], columns=NAMES)], axis=1)


def fitted(table: pd.DataFrame, **options: Any) -> pcg.ComBat:
    return pcg.ComBat("~ age + sex", "site", features=NAMES, **options).fit(table)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return table_of()


@pytest.fixture(scope="module")
def model(table: pd.DataFrame) -> pcg.ComBat:
    return fitted(table)


def traveled() -> pd.DataFrame:
    """Five subjects at each site."""
    rows = [(f"sub-{i}", site, float(i) + 0.1 * b) for i in range(5) for b, site in enumerate(SITES)]
    return pd.DataFrame(rows, columns=["who", "site", NAMES[0]])


Fill = Callable[[pcg.ComBat, pd.DataFrame, Any], object]

PICTURES: dict[str, tuple[int, Fill]] = {
    "features": (
        2,
        lambda m, t, axes: plot.features(t, m.transform(t), feature=NAMES[0], batch="site", model=m, axes=axes),
    ),
    "components": (2, lambda m, t, axes: plot.components(t, m.transform(t), features=NAMES, batch="site", axes=axes)),
    "shrinkage of location": (1, lambda m, t, ax: plot.shrinkage(m, ax=ax)),
    "shrinkage of scale": (1, lambda m, t, ax: plot.shrinkage(m, effect="scale", ax=ax)),
    "effects on location": (1, lambda m, t, ax: plot.site_effects(m, ax=ax)),
    "effects on scale": (1, lambda m, t, ax: plot.site_effects(m, effect="scale", ax=ax)),
    "curve": (1, lambda m, t, ax: plot.curve(m, t, NAMES[0], "age", ax=ax)),
    "levels": (1, lambda m, t, ax: plot.curve(m, t, NAMES[0], "sex", ax=ax)),
    "travelers": (1, lambda m, t, ax: plot.travelers(traveled(), subject="who", batch="site", feature=NAMES[0], ax=ax)),
    "prior": (1, lambda m, t, ax: plot.prior(m, "Cork", ax=ax)),
}


def drawn(picture: str, size: str, model: pcg.ComBat, table: pd.DataFrame) -> Figure:
    panels, fill = PICTURES[picture]
    figure = Figure(figsize=SIZES[size], layout="constrained", dpi=150)
    fill(model, table, figure.subplots(1, panels))
    figure.draw_without_rendering()
    return figure


def extents(texts: list[Any]) -> list[Any]:
    return [text.get_window_extent() for text in texts if text.get_visible() and text.get_text().strip()]


def inside(box: Any, page: Any) -> bool:
    # Three pixels of 150 an inch: matplotlib measures letters by their hints.
    return bool(box.x0 >= -3 and box.y0 >= -3 and box.x1 <= page.x1 + 3 and box.y1 <= page.y1 + 3)


def apart(boxes: list[Any]) -> bool:
    return not any(
        min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
        for a, b in combinations(boxes, 2)
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("picture", PICTURES)
def test_all_words_are_on_the_page_and_apart(picture: str, size: str, model: pcg.ComBat, table: pd.DataFrame) -> None:
    figure = drawn(picture, size, model, table)
    labels = []
    for ax in figure.axes:
        ticks = [
            text
            for axis in (ax.xaxis, ax.yaxis)
            for text, at in zip(axis.get_ticklabels(), axis.get_majorticklocs(), strict=True)
            if min(axis.get_view_interval()) <= at <= max(axis.get_view_interval())
        ]
        own = [ax.xaxis.label, ax.yaxis.label, *ax.texts, ax._left_title]  # type: ignore[attr-defined]
        names = [] if ax.get_legend() is None else ax.get_legend().get_texts()
        boxes = extents([*ticks, *own, *names])
        assert all(inside(box, figure.bbox) for box in boxes)
        # Upright or level, text has the box of its letters: neighbours may not share any of it.
        assert apart(extents([text for text in [*ticks, *names] if text.get_rotation() % 90 == 0]))
        labels += extents([ax.xaxis.label, ax.yaxis.label, *names])
    assert apart(labels)


@pytest.mark.parametrize("picture", ["components", "shrinkage of location", "shrinkage of scale", "curve"])
def test_panels_keep_room_in_a_column(picture: str, model: pcg.ComBat, table: pd.DataFrame) -> None:
    figure = drawn(picture, "column", model, table)
    for ax in figure.axes:
        height = ax.get_window_extent().height / figure.dpi
        assert height > 1.0, height
    assert len(legend(figure.axes[0])) >= 8


def test_panels_of_one_feature_share_a_label_where_it_is_long(model: pcg.ComBat, table: pd.DataFrame) -> None:
    narrow, wide = (drawn("features", size, model, table) for size in SIZES)
    left, right = narrow.axes
    assert (left.get_xlabel().strip(), right.get_xlabel().strip()) == ("", "")
    (shared,) = [text for text in left.texts if text.get_text().startswith(NAMES[0][:6])]
    box = shared.get_window_extent()
    middle = (left.get_window_extent().x0 + right.get_window_extent().x1) / 2
    assert abs((box.x0 + box.x1) / 2 - middle) < 2
    assert box.y1 < min(text.get_window_extent().y0 for text in left.get_xticklabels() if text.get_text()) + 1
    assert {ax.get_xlabel() for ax in wide.axes} == {f"{NAMES[0]}, adjusted"}


def test_log_ticks_are_round_and_apart(model: pcg.ComBat, table: pd.DataFrame) -> None:
    for size in SIZES:
        ax = drawn("shrinkage of scale", size, model, table).axes[0]
        texts = [text.get_text() for text in ax.get_xticklabels()]
        assert len(texts) >= 2 and all(float(text) > 0 and len(text) <= 4 for text in texts)


def test_features_are_named_only_where_names_stand_apart(model: pcg.ComBat, table: pd.DataFrame) -> None:
    narrow, wide = (drawn("effects on location", size, model, table).axes[0] for size in SIZES)
    assert not narrow.get_xticklabels() and narrow.get_xlabel().startswith("24 features")
    assert [text.get_text() for text in wide.get_xticklabels()] == NAMES and wide.get_xlabel() == "feature"


def marks(ax: Any) -> dict[str, tuple[str, str]]:
    """Colour and marker of each site in a legend, by the site's name alone."""
    found = {}
    for one, text in zip(ax.get_legend().legend_handles, legend(ax), strict=True):
        name = text.split(" (")[0]
        if name in SITES:
            found[name] = (to_hex(one.get_color()), str(one.get_marker()))
    return found


def test_a_site_looks_the_same_in_all_pictures(model: pcg.ComBat, table: pd.DataFrame) -> None:
    expected = {site: (LOOKS[b].color.lower(), LOOKS[b].marker) for b, site in enumerate(SITES)}
    assert marks(plot.components(table, features=NAMES, batch="site")[0]) == expected
    assert marks(plot.shrinkage(model)) == marks(plot.shrinkage(model, effect="scale")) == expected
    assert marks(plot.curve(model, table, NAMES[0])) == expected
    some = table[table["site"].isin(["Cork", "Graz"])]
    assert marks(plot.curve(model, some, NAMES[0])) == {site: expected[site] for site in ("Cork", "Graz")}
    referred = fitted(table, ref_batch="Aarhus")
    assert marks(plot.shrinkage(referred)) == {site: look for site, look in expected.items() if site != "Aarhus"}
    (ax,) = plot.features(some, feature=NAMES[0], batch="site", model=model)
    assert {to_hex(one.get_facecolor()[0]) for one in ax.collections} == {expected["Cork"][0], expected["Graz"][0]}
    estimates = plot.prior(model, "Graz").lines[0]
    assert to_hex(estimates.get_color()) == expected["Graz"][0]


def test_marked_sites_of_many_look_as_their_place_says() -> None:
    looks = [look_of(b) for b in range(64)]
    assert looks[:8] == list(LOOKS)
    assert len({(look.color, look.marker) for look in looks}) == 64
    rng = np.random.default_rng(1)
    sizes = rng.permutation(np.arange(6, 6 + 12))
    codes = np.repeat(np.arange(12), sizes)
    names = np.array([f"s{b:02d}" for b in range(12)])
    table = pd.DataFrame(rng.normal(size=(codes.size, 5)), columns=list("abcde")).assign(site=names[codes])
    ax = plot.shrinkage(pcg.ComBat("~ 1", "site").fit(table))
    for one, text in list(zip(ax.get_legend().legend_handles, legend(ax), strict=True))[:7]:
        look = look_of(int(text[1:3]))
        assert (to_hex(one.get_color()), one.get_marker()) == (look.color.lower(), look.marker)


@pytest.mark.parametrize("rows", [1, 2])
def test_points_of_a_tiny_site_are_seen(rows: int) -> None:
    table = table_of((40, 60, 18, 50, 70, 34, 45, rows))
    (ax,) = plot.features(table, feature=NAMES[0], batch="site")
    place = [text.get_text() for text in ax.get_yticklabels()].index(f"Hobart ({rows})")
    strokes = [
        line for line in ax.lines if len(line.get_ydata()) == 2 and abs(np.mean(line.get_ydata()) - place) < 0.01
    ]
    assert not [line for line in strokes if np.ptp(line.get_ydata()) > 0 or np.ptp(line.get_xdata()) > 0]
    own = [one for one in ax.collections if len(one.get_offsets()) == rows]
    values = np.sort(table.loc[table["site"] == "Hobart", NAMES[0]])
    assert len(own) == 1
    np.testing.assert_allclose(np.sort(own[0].get_offsets()[:, 0]), values)


def test_no_minus_before_nothing() -> None:
    table = table_of()
    table[NAMES] = np.random.default_rng(2).normal(size=(len(table), 24))
    ax = plot.site_effects(fitted(table))
    numbers = [text.get_text() for text in ax.texts if text.get_text().lstrip("+−0").startswith(".")]
    assert len(numbers) == 8
    assert "0.00" in numbers
    assert not {"−0.00", "+0.00"} & set(numbers)
