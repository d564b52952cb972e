"""Pictures of predictions at sites left out: every number where the tables have it, all words on the page and apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.pictures import agg, legend, titles, words
from helpers.predictions import SITES, fitted, hostile, outcomes, predictor, risks
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from scipy.special import expit, logit

import pycombat_gam as pcg
from pycombat_gam import plot
from pycombat_gam.errors import NotFittedError, OptionError
from pycombat_gam.plot.left_out import BESIDE, MODEL, calibration_lines
from pycombat_gam.plot.style import look_of

NAMES = ("$\\alpha$", "a_b^c", "_hidden", "two\nlines", "<script>", "%d {x}")
SHOWN = ("$\\alpha$", "a_b^c", "_hidden", "two\\nlines", "<script>", "%d {x}")
SIZES = {"column": (3.4, 2.6), "page": (7.0, 3.9)}
PICTURES: dict[str, Callable[[Any], Any]] = {
    "forest": lambda ax: plot.site_forest(fitted(harmonized=True), ax=ax),
    "forest of O/E": lambda ax: plot.site_forest(fitted(), "O/E", ax=ax),
    "forest of numbers": lambda ax: plot.site_forest(fitted("age ~ dx"), ax=ax),
    "forest without intervals": lambda ax: plot.site_forest(fitted("age ~ dx"), "RMSE", ax=ax),
    "coverage": lambda ax: plot.coverage(fitted(), ax=ax),
    "coverage of numbers": lambda ax: plot.coverage(fitted("age ~ dx"), ax=ax),
    "calibration": lambda ax: plot.calibration(fitted(), ax=ax),
    "calibration of numbers": lambda ax: plot.calibration(fitted("age ~ dx"), ax=ax),
    "forest of times": lambda ax: plot.site_forest(risks(), horizon=3, ax=ax),
    "calibration of times": lambda ax: plot.calibration(risks(), horizon=3, ax=ax),
    "decisions": lambda ax: plot.decision_curve(fitted(harmonized=True), ax=ax),
    "decisions of one of three": lambda ax: plot.decision_curve(fitted("stage ~ age"), class_="late", ax=ax),
    "forest of odd names": lambda ax: plot.site_forest(hostile(NAMES), ax=ax),
    "coverage of odd names": lambda ax: plot.coverage(hostile(NAMES), ax=ax),
    "calibration of odd names": lambda ax: plot.calibration(hostile(NAMES), ax=ax),
}


@pytest.fixture(autouse=True)
def no_screen() -> Iterator[None]:
    with agg():
        yield


def bars(ax: Any, color: str) -> np.ndarray:
    """Ends of all level lines of a colour, from the top."""
    lines = [line for line in ax.lines if line.get_color() == color and len(line.get_xdata()) == 2]
    level = [line for line in lines if len(set(line.get_ydata())) == 1]
    return np.array([line.get_xdata() for line in sorted(level, key=lambda line: line.get_ydata()[0])])


def apart(boxes: list[Any]) -> bool:
    return not any(
        min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
        for a, b in combinations(boxes, 2)
    )


WIDE = ("forest", "forest of O/E", "coverage", "calibration", "decisions")
"""Those with most words; what fits a column in fewer words fits a page."""


@pytest.mark.parametrize(
    ("picture", "size"), [*((picture, "column") for picture in PICTURES), *((picture, "page") for picture in WIDE)]
)
def test_all_words_are_on_the_page_and_apart(picture: str, size: str) -> None:
    figure = Figure(figsize=SIZES[size], layout="constrained", dpi=150)
    ax = PICTURES[picture](figure.subplots())
    figure.draw_without_rendering()
    ticks = [
        text
        for axis in (ax.xaxis, ax.yaxis)
        for text, at in zip(axis.get_ticklabels(), axis.get_majorticklocs(), strict=True)
        if min(axis.get_view_interval()) <= at <= max(axis.get_view_interval())
    ]
    names = [] if ax.get_legend() is None else ax.get_legend().get_texts()
    labels = [ax.xaxis.label, ax.yaxis.label, *names]
    texts = [text for text in [*ticks, *labels, *ax.texts, ax._left_title] if text.get_text().strip()]
    page = figure.bbox
    for text in texts:
        box = text.get_window_extent()
        # Three pixels of 150 an inch: matplotlib measures letters by their hints.
        assert box.x0 >= -3 and box.y0 >= -3 and box.x1 <= page.x1 + 3 and box.y1 <= page.y1 + 3, text.get_text()
    assert apart([text.get_window_extent() for text in [*ticks, *names] if text.get_text()])
    assert apart([text.get_window_extent() for text in labels if text.get_text().strip()])
    # A third of the smaller figure's height is left for what is drawn.
    assert ax.get_window_extent().height / figure.dpi > 0.8


@pytest.mark.parametrize("picture", [name for name in PICTURES if "odd names" in name])
def test_names_are_seen_as_they_are(picture: str) -> None:
    seen = words(PICTURES[picture](None).figure)
    for name in SHOWN:
        assert name in seen or any(text.startswith(f"{name} (") for text in seen), name
    assert not [text for text in seen if text.startswith("MATH")]


def test_a_forest_has_every_site_and_both_kinds_of_features() -> None:
    model = fitted(harmonized=True)
    ax = plot.site_forest(model)
    table, over = model.validation.by_site, model.validation.overall
    for state, color in (("harmonized", MODEL), ("raw", BESIDE)):
        rows = table[(table["measure"] == "AUC") & (table["features"] == state)]
        pooled = over[(over["measure"] == "AUC") & (over["features"] == state)]
        ends = np.vstack([rows[["lower", "upper"]], pooled[["new_lower", "new_upper"]]])
        low, high = ax.get_xlim()
        # Coordinates pass through the picture as they are.
        np.testing.assert_array_equal(bars(ax, color), np.clip(ends, low, high))
        points = [line.get_xdata()[0] for line in ax.lines if line.get_color() == color and line.get_marker() in "os"]
        np.testing.assert_array_equal(points, rows["estimate"])
        (shape,) = [patch for patch in ax.patches if to_hex(patch.get_facecolor()) == to_hex(color)]
        corners = pooled[["lower", "estimate", "upper", "estimate"]].to_numpy()[0]
        np.testing.assert_array_equal(shape.get_xy()[:4, 0], corners)
    first = table[(table["measure"] == "AUC") & (table["features"] == "raw")]
    expected = [f"{row.site} ({row.n}, {row.events})" for row in first.itertuples()]
    assert [text.get_text() for text in ax.get_yticklabels()] == [*expected, "mean of sites"]
    assert legend(ax) == ["harmonized", "raw", "mean of sites", "at a new site"]
    assert titles(ax).startswith("AUC: patient | mean of sites 0.")


def test_an_interval_that_goes_on_has_an_arrow() -> None:
    model = predictor().fit(outcomes(seed=3, rows=9))
    ax = plot.site_forest(model, "calibration slope")
    low, high = ax.get_xlim()
    rows = model.validation.calibration.query("measure == 'calibration slope'")
    beyond = int((rows["lower"] < low).sum()), int((rows["upper"] > high).sum())
    assert sum(beyond) > 0
    markers = [line.get_marker() for line in ax.lines if len(line.get_xdata()) == 1]
    assert (markers.count("<"), markers.count(">")) == beyond
    missing = int(rows["estimate"].isna().sum())
    assert (f"{missing} site" in titles(ax)) == bool(missing)


def test_coverage_has_every_site_and_class() -> None:
    model = fitted()
    ax = plot.coverage(model)
    table = model.validation.coverage
    table = table[(table["class"] != "all") & (table["n"] > 0)]
    parts = [one for one in ax.collections if isinstance(one, PathCollection)]
    assert len(parts) == 4
    drawn = np.concatenate([np.asarray(one.get_offsets())[:, 0] for one in parts])
    order = [
        table[(table["class"] == label) & (table["sets"] == kind)]
        for label in ("control", "patient")
        for kind in ("guaranteed", "estimated")
    ]
    np.testing.assert_array_equal(drawn, pd.concat(order)["coverage"])
    sizes, n = np.concatenate([one.get_sizes() for one in parts]), pd.concat(order)["n"].to_numpy()
    assert ((sizes[:, None] < sizes) == (n[:, None] < n)).all()
    (level,) = [line for line in ax.lines if len(set(line.get_xdata())) == 1]
    assert level.get_xdata()[0] == 0.8
    assert legend(ax) == ["control", "patient", "guaranteed", "estimated"]
    alone = plot.coverage(model, class_="patient")
    assert len([one for one in alone.collections if isinstance(one, PathCollection)]) == 2


def test_a_line_of_calibration_is_a_logistic_fit_at_its_site() -> None:
    from statsmodels.api import GLM, add_constant
    from statsmodels.genmod.families import Binomial

    model = fitted()
    evidence = model.fitted.evidence
    lines, _ = calibration_lines(model.validation, None)
    for j, line in enumerate(lines):
        assert line is not None
        at = evidence.site == j
        X = add_constant(logit(evidence.left_out[at, 1]))
        a, b = GLM(evidence.y[at], X, family=Binomial()).fit(tol=1e-12).params
        # Two iterations to the same likelihood's maximum: their stopping rules.
        np.testing.assert_allclose(line.expected, expit(a + b * logit(line.at)), rtol=1e-6)
    ax = plot.calibration(model)
    colours = [line.get_color() for line in ax.lines if len(line.get_xdata()) > 2]
    assert colours == [look_of(j).color for j in range(len(SITES))]
    assert legend(ax) == list(SITES)


def test_a_line_of_numbers_is_least_squares() -> None:
    model = fitted("age ~ dx")
    evidence = model.fitted.evidence
    for j, line in enumerate(calibration_lines(model.validation, None)[0]):
        assert line is not None
        at = evidence.site == j
        slope, intercept = np.polyfit(evidence.left_out[at, 0], evidence.y[at], 1)
        # Least squares by another way: rounding.
        np.testing.assert_allclose(line.expected, intercept + slope * line.at, rtol=1e-9)


def test_a_point_of_calibration_is_the_risk_at_its_site() -> None:
    ax = plot.calibration(risks(), horizon=3)
    table = risks().validation.by_site.query("horizon == 3").set_index("measure")
    points = np.array([line.get_xydata()[0] for line in ax.lines if len(line.get_xdata()) == 1])
    np.testing.assert_array_equal(points[:, 0], table.loc["predicted risk", "estimate"])
    np.testing.assert_array_equal(points[:, 1], table.loc["observed risk", "estimate"])
    assert titles(ax) == "Calibration at sites left out, by 3"


def test_decision_curves_are_means_over_sites() -> None:
    model = fitted(harmonized=True)
    ax = plot.decision_curve(model)
    table = model.validation.net_benefit
    curves = dict(iter(table[table["site"] == "mean of sites"].groupby("features")))
    drawn = {line.get_color(): line.get_ydata() for line in ax.lines}
    np.testing.assert_array_equal(drawn[MODEL], curves["harmonized"]["net_benefit"])
    np.testing.assert_array_equal(drawn["0.5"], curves["raw"]["net_benefit"])
    assert legend(ax) == [
        "harmonized, mean of sites", "raw, mean of sites", "range of sites", "treat all", "treat none",
    ]  # fmt: skip


def test_many_sites_are_named_and_not_told_apart_by_colour() -> None:
    sites = tuple(f"site {k:02d}" for k in range(9))
    model = predictor(level=0.9).fit(outcomes(rows=10, sites=sites))
    ax = plot.calibration(model)
    assert legend(ax)[0].endswith("sites") and len({line.get_color() for line in ax.lines}) == 2
    assert len(plot.site_forest(model).get_yticklabels()) == 10


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plot.site_forest("dx"), "site_forest needs a fitted Predictor; given: a str"),
        (lambda: plot.coverage(pcg.ComBat("~ 1")), "coverage needs a fitted Predictor; given"),
        (lambda: plot.site_forest(fitted(), "AUCC"), "measure='AUCC' is not there; did you mean 'AUC'?"),
        (lambda: plot.site_forest(fitted("stage ~ age")), "draws one class: give class_=…, one of early, late, none"),
        (lambda: plot.coverage(fitted(), class_="patients"), "class_='patients' is not there; did you mean 'patient'?"),
        (lambda: plot.decision_curve(fitted("age ~ dx")), "decision_curve needs probabilities; age is a number"),
        (lambda: plot.calibration(fitted(), class_="control"), "class_='control' is not there; there are: patient"),
        (lambda: plot.coverage(risks()), "coverage: Surv(time, dead) has risks, and risks have no sets"),
        (lambda: plot.decision_curve(risks()), "draws one horizon: give horizon=…, one of 1.5, 3.0"),
        (lambda: plot.site_forest(fitted(), horizon=365), "horizon=365 does not apply to this model: leave it out"),
    ],
)
def test_wrong_calls(draw: Any, message: str) -> None:
    with pytest.raises(OptionError) as raised:
        draw()
    assert message in str(raised.value)


def test_an_unfitted_predictor_has_no_picture() -> None:
    with pytest.raises(NotFittedError, match="call fit first"):
        plot.site_forest(predictor())
