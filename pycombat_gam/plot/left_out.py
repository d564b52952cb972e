"""What pictures of sites left out draw: rows of one class and horizon, lines of calibration, marks and their words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit, logit

from pycombat_gam.errors import OptionError
from pycombat_gam.plot.room import lay_out, legend_below, name_rows, names_of, say
from pycombat_gam.plot.style import INK, LOOKS, minus, plain, shown
from pycombat_gam.predict.predictor import Predictor
from pycombat_gam.predict.validation import Validation
from pycombat_gam.tables.remedies import kind_of
from pycombat_gam.types import BoolArray, FloatArray
from pycombat_gam.words import did_you_mean, listing, percent

MODEL, BESIDE = LOOKS[0].color, "0.5"
"""Of the model's own features, and of raw features beside them."""
ALL = "all"
WIDER = 0.75
"""How far axes reach beyond estimates and pooled intervals, in units of their range."""
ENDS = 0.005
"""Probabilities closer to 0 and 1 are not drawn."""
POINTS = 100


def validation_of(model: object, picture: str) -> Validation:
    """Return how a predictor did at sites left out; refuse any other model."""
    if not isinstance(model, Predictor):
        raise OptionError(f"{picture} needs a fitted Predictor; given: {kind_of(model)}")
    return model.validation


def chosen(table: pd.DataFrame, asked: dict[str, object], picture: str) -> tuple[pd.DataFrame, str]:
    """Return the rows of one measure, class and horizon, and words for them.

    Parameters
    ----------
    asked : what to choose, by column; None where there is one only. A column that the table lacks may not be asked for.
    """
    about = ""
    for name, value in asked.items():
        present = list(dict.fromkeys(table[name].dropna())) if name in table else []
        argument = "class_" if name == "class" else name
        if not present:
            if value is not None:
                raise OptionError(f"{picture}: {argument}={value!r} does not apply to this model: leave it out")
            continue
        if value is None and len(present) > 1:
            raise OptionError(f"{picture} draws one {name}: give {argument}=…, one of {listing(present)}")
        label = (
            present[0]
            if value is None
            else next((one for one in present if one == value or str(one) == str(value)), None)
        )
        if label is None:
            hint = did_you_mean(str(value), [str(one) for one in present])
            raise OptionError(f"{argument}={value!r} is not there{hint}; there are: {listing(present)}")
        table = table[table[name] == label]
        if name == "class" and label != ALL:
            about += f": {shown(label, 24)}"
        elif name == "horizon":
            about += f", by {label:g}"
    return table.reset_index(drop=True), about


def reach(rows: pd.DataFrame, over: pd.DataFrame, neutral: float | None, *, ratio: bool) -> tuple[float, float]:
    """Return the range of a forest: all estimates and the mean's interval, and of other intervals what is near."""

    def scaled(values: object) -> FloatArray:
        numbers = np.asarray(values, dtype=np.float64).ravel()
        numbers = numbers[np.isfinite(numbers) & ((numbers > 0) if ratio else True)]
        return np.log(numbers) if ratio else numbers

    core = np.concatenate([scaled(rows["estimate"]), scaled(over[["estimate", "lower", "upper"]])])
    core = np.append(core, scaled([neutral] if neutral is not None else []))
    if not core.size:
        raise OptionError("site_forest: no site has this measure; the table says so")
    everything = np.concatenate([core, scaled(rows[["lower", "upper"]]), scaled(over[["new_lower", "new_upper"]])])
    span = float(np.ptp(core)) or 1.0
    low = max(float(everything.min()), float(core.min()) - WIDER * span)
    high = min(float(everything.max()), float(core.max()) + WIDER * span)
    margin = 0.04 * ((high - low) or 1.0)
    ends = np.array([low - margin, high + margin])
    low, high = np.exp(ends) if ratio else ends
    return float(low), float(high)


def interval(ax: Any, low: float, high: float, y: float, color: str, ends: tuple[float, float], width: float) -> None:
    """Draw an interval; an arrow marks an end beyond the axes."""
    if np.isnan(low) or np.isnan(high):
        return
    ax.plot([max(low, ends[0]), min(high, ends[1])], [y, y], color=color, linewidth=width, solid_capstyle="butt")
    for beyond, end, marker in ((low < ends[0], ends[0], "<"), (high > ends[1], ends[1], ">")):
        if beyond:
            ax.plot([end], [y], marker, color=color, markersize=4.0, markeredgewidth=0.0, clip_on=False, zorder=5)


def diamond(ax: Any, over: pd.Series, y: float, color: str, ends: tuple[float, float]) -> None:
    """Draw the mean over sites with its interval as a diamond, and the interval for a new site as a thin line."""
    interval(ax, over["new_lower"], over["new_upper"], y, color, ends, 0.8)
    low, middle, high = (float(over[name]) for name in ("lower", "estimate", "upper"))
    if np.isnan(low) or np.isnan(high):
        ax.plot([middle], [y], "D", color=color, markersize=5.5, zorder=4)
        return
    low, high = max(low, ends[0]), min(high, ends[1])
    ax.fill([low, middle, high, middle], [y, y - 0.3, y, y + 0.3], color=color, linewidth=0, zorder=4)


def forest_handles(states: Sequence[str], *, new: bool) -> tuple[list[Any], list[str]]:
    """Return the legend of a forest: kinds of features if there are two, diamond, thin line."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=color, marker=marker, markersize=4.2, linewidth=1.3)
        for color, marker in ((MODEL, "o"), (BESIDE, "s"))
    ][: len(states)]
    names = list(states)
    handles.append(Line2D([], [], color=MODEL, marker="D", markersize=5.0, linestyle="none"))
    names.append("mean of sites")
    if new:
        handles.append(Line2D([], [], color=MODEL, linewidth=0.8))
        names.append("at a new site")
    return handles, names


def set_handle(*, filled: bool) -> Any:
    """Return the legend handle of guaranteed (filled) or estimated sets."""
    from matplotlib.lines import Line2D

    return Line2D(
        [],
        [],
        color="0.15",
        marker="o",
        markersize=5.0,
        linestyle="none",
        markerfacecolor=INK if filled else "white",
    )


def finish(
    ax: Any, names: list[str], counted: str, model: Predictor, handles: Sequence[Any], texts: Sequence[str]
) -> None:
    """Name the rows, and put labels and the legend of a forest."""
    plain(ax)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(" ")
    ax.set_ylabel(" ")
    name_rows(ax, names)
    lay_out(ax)
    if handles:
        legend_below(ax, handles, texts)
    say(ax, "y", *names_of(model.batch, f" {counted}", ""))


def over_sites(over: pd.Series) -> str:
    """Say what a measure is over sites."""
    if np.isnan(over["estimate"]):
        return "no mean of sites"
    if np.isnan(over["lower"]):
        return f"mean of sites {_number(over['estimate'])}"
    new = f"; at a new site {_span(over['new_lower'], over['new_upper'])}" if np.isfinite(over["new_lower"]) else ""
    return f"mean of sites {_number(over['estimate'])} ({_span(over['lower'], over['upper'])}){new}"


def mean_coverage(table: pd.DataFrame, drawn: list[str], kinds: list[str]) -> str:
    """Say how often sets held the truth, the mean of sites, by kind and class."""
    if len(drawn) > 3:
        return ""
    means = table.groupby(["class", "sets"], sort=False)["coverage"].mean()
    each = []
    for kind in kinds:
        shares = [percent(float(means[label, kind]), ".0f") for label in drawn]
        of = [f"{shown(label, 16)} {share}" for label, share in zip(drawn, shares, strict=True)]
        each.append(f"{kind}: {', '.join(shares if drawn == [ALL] else of)}")
    return "; ".join(each)


@dataclass(frozen=True, eq=False)
class Line:
    """What is expected at a site (G,) where (G,) is predicted."""

    at: FloatArray
    expected: FloatArray


def calibration_lines(validation: Validation, class_: object) -> tuple[list[Line | None], str]:
    """Return the line of each site, None where it has none, and words for the class."""
    fitted = validation.fitted
    evidence = fitted.evidence
    rows, about = chosen(_slopes(validation), {"class": class_}, "calibration")
    slopes = dict(zip(rows["site"], rows["estimate"].astype(float), strict=True))
    assert validation.scores is not None
    events = {event.name: event for event in validation.scores.events(evidence.left_out, evidence.y)}
    event = events.get(str(rows["class"].iloc[0]))
    lines: list[Line | None] = []
    for j, site in enumerate(fitted.levels.labels):
        slope = slopes.get(site, np.nan)
        at = evidence.site == j
        if not np.isfinite(slope):
            lines.append(None)
        elif event is None:
            p, y = evidence.left_out[at, 0], evidence.y[at]
            ends = np.array([p.min(), p.max()])
            lines.append(Line(ends, y.mean() + slope * (ends - p.mean())))
        else:
            lines.append(_logistic(event.came_true[at], event.p[at], slope))
    return lines, about


def _logistic(events: BoolArray, p: FloatArray, slope: float) -> Line:
    """Return the curve expit(a + slope · logit p); a solves the likelihood's equation Σ fitted = Σ events."""
    lp = logit(np.clip(p, 1e-12, 1 - 1e-12))
    far = 40.0 + abs(slope) * float(np.abs(lp).max())
    a = brentq(lambda a: float(expit(a + slope * lp).sum() - events.sum()), -far, far)
    at = np.linspace(max(float(p.min()), ENDS), min(float(p.max()), 1 - ENDS), POINTS)
    return Line(at, expit(a + slope * logit(at)))


def observed_risks(validation: Validation, horizon: float | None) -> tuple[pd.DataFrame, str]:
    """Return predicted and observed risk with its interval, by site, and words for the horizon."""
    table = pd.concat([validation.by_site, validation.calibration], ignore_index=True)
    table = table[table["features"] == table["features"].iloc[0]]
    observed, about = chosen(table, {"measure": "observed risk", "horizon": horizon}, "calibration")
    predicted, _ = chosen(table, {"measure": "predicted risk", "horizon": horizon}, "calibration")
    marks = observed.set_index("site")[["estimate", "lower", "upper"]].rename(columns={"estimate": "observed"})
    marks["predicted"] = predicted.set_index("site")["estimate"]
    known: pd.DataFrame = marks.dropna(subset=["observed", "predicted"])
    return known, about


def slope_over_sites(validation: Validation, class_: object) -> str:
    """Say the slope's mean over sites; nothing where there is none."""
    table = validation.overall
    table = table[(table["features"] == table["features"].iloc[0]) & (table["measure"] == "calibration slope")]
    if not len(table):
        return ""
    over, _ = chosen(table, {"class": class_}, "calibration")
    return f"slope: {over_sites(over.iloc[0])}"


def _slopes(validation: Validation) -> pd.DataFrame:
    table = validation.calibration
    own = (table["features"] == table["features"].iloc[0]) & (table["measure"] == "calibration slope")
    slopes: pd.DataFrame = table[own]
    return slopes


def _number(x: float) -> str:
    return minus(f"{x:.2f}" if abs(x) < 100 else f"{x:.4g}")


def _span(low: float, high: float) -> str:
    return f"{_number(low)} to {_number(high)}"
