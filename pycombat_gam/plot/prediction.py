"""How a predictor does at sites left out: measures by site, coverage, calibration, decision curves.

No score is pooled over sites: every point and line belongs to a site, or is a mean over sites.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.errors import OptionError
from pycombat_gam.plot.left_out import (
    ALL,
    BESIDE,
    MODEL,
    calibration_lines,
    chosen,
    diamond,
    finish,
    forest_handles,
    interval,
    mean_coverage,
    observed_risks,
    over_sites,
    reach,
    set_handle,
    slope_over_sites,
    validation_of,
)  # fmt: skip
from pycombat_gam.plot.room import few_ticks, lay_out, legend_below, log_ticks, name_rows, say
from pycombat_gam.plot.style import (
    INK,
    LOOKS,
    PALE,
    Look,
    handle,
    legend_letters,
    look_of,
    panels,
    plain,
    shown_apart,
    tick_letters,
    titled,
)  # fmt: skip
from pycombat_gam.predict.predictor import Predictor
from pycombat_gam.predict.site_measures import MEAN
from pycombat_gam.words import count, percent

NEUTRAL = {"AUC": 0.5, "O/E": 1.0, "calibration slope": 1.0, "calibration intercept": 0.0, "mean error": 0.0, "R²": 0.0}
"""What a measure is by chance, or at its best: a line marks it."""
LOWEST = 0.35
"""Depth of a decision curve's axes below zero, as a share of their height above it."""


def site_forest(
    model: Predictor,
    measure: str | None = None,
    *,
    class_: object = None,
    horizon: float | None = None,
    ax: Any = None,
) -> Any:
    """Draw a measure at each site left out with its interval, and over sites.

    The diamond is the mean over sites with its interval (random effects), the thin line through it the interval for a
    new site. Beside a site stand its rows and events. With a harmonizer, raw features are drawn below in grey. An arrow
    marks an interval that goes on beyond the axes.

    Parameters
    ----------
    model : Predictor
        Fitted.
    measure : str, optional
        Of `model.validation.by_site` or `calibration`. By default AUC, or the mean absolute error of numbers.
    class_ : object, optional
        The class that counts as the event; needed where there are several.
    horizon : float, optional
        Of a time; needed where there are several.
    ax : matplotlib axes or None
        New axes by default.

    Returns
    -------
    Axes
        The axes.

    Raises
    ------
    OptionError
        For anything but a fitted predictor, and an unknown measure, class or horizon.
    """
    validation = validation_of(model, "site_forest")
    table = pd.concat([validation.by_site, validation.calibration], ignore_index=True)
    measure = str(table["measure"].iloc[0]) if measure is None else measure
    asked = {"measure": measure, "class": class_, "horizon": horizon}
    rows, about = chosen(table, asked, "site_forest")
    over, _ = chosen(validation.overall, asked, "site_forest")
    states = list(dict.fromkeys(rows["features"]))
    first = rows[rows["features"] == states[0]]
    K = len(first)
    (ax,) = panels(ax, 1, (5.6, float(np.clip(1.7 + 0.2 * (K + len(states)), 2.8, 9.5))))
    ratio = measure == "O/E"
    low, high = reach(rows, over, NEUTRAL.get(measure), ratio=ratio)
    ax.set_xscale("log" if ratio else "linear")
    ax.set_xlim(low, high)
    ax.set_ylim(K + 0.75 * len(states) + 0.1, -0.7)
    if measure in NEUTRAL:
        ax.axvline(NEUTRAL[measure], color=PALE, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    for s, (state, color) in enumerate(zip(states, (MODEL, BESIDE), strict=False)):
        at = np.arange(K) + (s - (len(states) - 1) / 2) * 0.36
        of_state = rows[rows["features"] == state]
        for y, (_, row) in zip(at, of_state.iterrows(), strict=True):
            interval(ax, row["lower"], row["upper"], y, color, (low, high), 1.3)
            ax.plot([row["estimate"]], [y], "o" if s == 0 else "s", color=color, markersize=4.2, zorder=4)
        diamond(ax, over[over["features"] == state].iloc[0], K + 0.2 + 0.75 * s, color, (low, high))
    unit = "rows" if validation.fitted.layout.case is None else "cases"
    events = bool((first["events"] != first["n"]).any())
    sizes = [f"{n}, {e}" if events else f"{n}" for n, e in zip(first["n"], first["events"], strict=True)]
    names = shown_apart(first["site"].tolist(), tick_letters(ax))
    names = [f"{name} ({size})" for name, size in zip(names, sizes, strict=True)] + [MEAN]
    what = f"{unit}, events" if events else unit
    handles, texts = forest_handles(states if len(states) > 1 else [], new=bool(over["new_lower"].notna().any()))
    finish(ax, names, f"({what})", model, handles, texts)
    missing = int(first["estimate"].isna().sum())
    absent = [f"{count(missing, 'site')} without it"] if missing else []
    titled(ax, f"{measure}{about}", "; ".join([over_sites(over.iloc[0]), *absent]))
    lay_out(ax)
    name_rows(ax, names)
    log_ticks(ax, low, high, "x") if ratio else few_ticks(ax, "x")
    say(ax, "x", f"{measure}, 95 % interval", measure)
    return ax


def coverage(model: Predictor, *, class_: object = None, ax: Any = None) -> Any:
    """Draw how often sets held the truth at each site left out, by class, beside the level.

    Guaranteed sets are filled, estimated ones open. A larger point stands for more rows.

    Parameters
    ----------
    model : Predictor
        Fitted, of classes or numbers.
    class_ : object, optional
        One class, or ``"all"`` for all rows of a site. By default each class; all rows if there are more than eight.
    ax : matplotlib axes or None
        New axes by default.

    Returns
    -------
    Axes
        The axes.

    Raises
    ------
    OptionError
        For anything but a fitted predictor, an unknown class, and times, which have no sets.
    """
    validation = validation_of(model, "coverage")
    table = validation.coverage
    if not len(table):
        raise OptionError(f"coverage: {validation.fitted.outcome.name} has risks, and risks have no sets")
    table = table[(table["features"] == table["features"].iloc[0]) & (table["n"] > 0)]
    classes = list(dict.fromkeys(table["class"]))
    if class_ is not None:
        table, _ = chosen(table, {"class": class_}, "coverage")
    elif 1 < len(classes) <= len(LOOKS) + 1:
        table = table[table["class"] != ALL]
    else:
        table = table[table["class"] == ALL]
    drawn, kinds = list(dict.fromkeys(table["class"])), list(dict.fromkeys(table["sets"]))
    sites = list(dict.fromkeys(table["site"]))
    slots = len(drawn) * len(kinds)
    height = float(np.clip(1.7 + max(0.2, 0.09 * slots) * len(sites), 2.8, 9.5))
    (ax,) = panels(ax, 1, (5.6, height))
    looks = {label: look_of(max(classes.index(label) - 1, 0)) for label in drawn}
    largest, place = float(table["n"].max()), {site: at for at, site in enumerate(sites)}
    for slot, (label, kind) in enumerate((label, kind) for label in drawn for kind in kinds):
        part = table[(table["class"] == label) & (table["sets"] == kind)]
        y = np.array([place[site] for site in part["site"]]) + (slot + 0.5) / slots * 0.76 - 0.38
        look = looks[label]
        ax.scatter(
            part["coverage"], y, s=7.0 + 38.0 * part["n"] / largest, marker=look.marker, linewidths=0.9, zorder=3,
            edgecolors=look.color, facecolors=look.color if kind == kinds[0] else "white",
        )  # fmt: skip
    level = validation.demand.level
    ax.axvline(level, color=INK, linewidth=1.0, linestyle=(0, (4, 2)), zorder=1)
    least = min(float(table["coverage"].min()), level)
    ax.set_xlim(least - 0.08 * (1.0 - least) - 0.01, 1.0 + 0.08 * (1.0 - least) + 0.01)
    ax.set_ylim(len(sites) - 0.4, -0.6)
    ax.xaxis.set_major_formatter(lambda share, _: percent(share) if share <= 1.0 + 1e-9 else "")
    of_class = table.groupby("site", sort=False)["n"].sum() / len(kinds)
    names = [
        f"{name} ({of_class[site]:.0f})" for name, site in zip(shown_apart(sites, tick_letters(ax)), sites, strict=True)
    ]
    handles = [handle(looks[label]) for label in drawn] if drawn != [ALL] else []
    texts = shown_apart(drawn, legend_letters(ax)) if drawn != [ALL] else []
    handles += [set_handle(filled=kind == kinds[0]) for kind in kinds]
    unit = "rows" if validation.fitted.layout.case is None else "cases"
    finish(ax, names, f"({unit})", model, handles, [*texts, *kinds])
    titled(ax, f"Coverage at sites left out, level {percent(level)}", mean_coverage(table, drawn, kinds))
    lay_out(ax)
    name_rows(ax, names)
    few_ticks(ax, "x")
    say(ax, "x", "sets that held the truth", "sets with the truth")
    return ax


def calibration(model: Predictor, *, class_: object = None, horizon: float | None = None, ax: Any = None) -> Any:
    """Draw what happened at each site left out against what was predicted.

    A line is a site: the logistic recalibration of probabilities, or the least-squares line of numbers, over the range
    of its predictions. Of times a point is a site: Kaplan–Meier's risk with its interval against the mean prediction.
    On the dashed diagonal predictions are right. `site_forest` draws O/E, slope and intercept.

    Parameters
    ----------
    model : Predictor
        Fitted.
    class_ : object, optional
        The class that counts as the event; needed where there are several.
    horizon : float, optional
        Of a time; needed where there are several.
    ax : matplotlib axes or None
        New axes by default.

    Returns
    -------
    Axes
        The axes.

    Raises
    ------
    OptionError
        For anything but a fitted predictor, and an unknown class or horizon.
    """
    validation = validation_of(model, "calibration")
    outcome, sites = validation.fitted.outcome, validation.fitted.levels.labels
    (ax,) = panels(ax, 1, (4.6, 4.2))
    few = len(sites) <= len(LOOKS)
    looks = [look_of(j) if few else Look(PALE, "o", "-") for j in range(len(sites))]
    if outcome.kind == "survival":
        marks, about = observed_risks(validation, horizon)
        for j, row in marks.iterrows():
            look = looks[sites.index(str(j))]
            ax.plot([row["predicted"]] * 2, [row["lower"], row["upper"]], color=look.color, linewidth=1.2)
            ax.plot([row["predicted"]], [row["observed"]], look.marker, color=look.color, markersize=5)
        drawn = [sites.index(str(j)) for j in marks.index]
    else:
        lines, about = calibration_lines(validation, class_)
        drawn = [j for j, curve in enumerate(lines) if curve is not None]
        for look, curve in zip(looks, lines, strict=True):
            if curve is not None:
                ax.plot(curve.at, curve.expected, color=look.color, linestyle=look.line, linewidth=1.5, zorder=3)
    low, high = (0.0, 1.0) if outcome.kind == "classes" else _both_ranges(ax)
    ax.plot([low, high], [low, high], color=INK, linewidth=0.9, linestyle=(0, (4, 2)), zorder=2)
    ax.set_xlim(low, high)
    ax.set_ylim(low, high)
    plain(ax)
    ax.set_xlabel(" ")
    ax.set_ylabel(" ")
    lay_out(ax)
    line = outcome.kind != "survival"
    marks_of = [look._replace(marker="") if line else look for look in (looks[j] for j in drawn)]
    handles = [handle(look, line=line) for look in (marks_of if few else marks_of[:1])]
    names = shown_apart([sites[j] for j in drawn], legend_letters(ax)) if few else [count(len(drawn), "site")]
    legend_below(ax, handles, names)
    absent = len(sites) - len(drawn)
    under = [f"{count(absent, 'site')} without a line"] if absent else []
    under = [slope_over_sites(validation, class_), *under] if line else under
    titled(ax, f"Calibration at sites left out{about}", "; ".join(under))
    lay_out(ax)
    few_ticks(ax)
    say(ax, "x", "predicted")
    say(ax, "y", "observed")
    return ax


def _both_ranges(ax: Any) -> tuple[float, float]:
    """Return what both axes together reach."""
    return min(ax.get_xlim()[0], ax.get_ylim()[0]), max(ax.get_xlim()[1], ax.get_ylim()[1])


def decision_curve(model: Predictor, *, class_: object = None, horizon: float | None = None, ax: Any = None) -> Any:
    """Draw the net benefit of acting above a threshold of probability, the mean over sites left out and their range.

    Net benefit counts true positives, less false positives times t/(1 − t), as a share of all rows. The curve is worth
    using where it lies above those of treating all and none.

    Parameters
    ----------
    model : Predictor
        Fitted, of classes or times.
    class_ : object, optional
        The class that is acted on; needed where there are several.
    horizon : float, optional
        Of a time; needed where there are several.
    ax : matplotlib axes or None
        New axes by default.

    Returns
    -------
    Axes
        The axes.

    Raises
    ------
    OptionError
        For anything but a fitted predictor, an unknown class or horizon, and numbers.
    """
    validation = validation_of(model, "decision_curve")
    if not len(validation.net_benefit):
        raise OptionError(
            f"decision_curve needs probabilities; {validation.fitted.outcome.name} is a number: use calibration"
        )
    rows, about = chosen(validation.net_benefit, {"class": class_, "horizon": horizon}, "decision_curve")
    (ax,) = panels(ax, 1, (5.4, 3.6))
    states = list(dict.fromkeys(rows["features"]))
    own = rows[rows["features"] == states[0]]
    mean = own[own["site"] == MEAN]
    by_site = own[own["site"] != MEAN].groupby("threshold", sort=True)["net_benefit"]
    at = mean["threshold"].to_numpy(dtype=np.float64)
    span = ax.fill_between(at, by_site.min(), by_site.max(), color=MODEL, alpha=0.18, linewidth=0)
    (curve,) = ax.plot(at, mean["net_benefit"], color=MODEL, linewidth=2.0, zorder=4)
    (everyone,) = ax.plot(at, mean["treat_all"], color=INK, linewidth=1.2, linestyle=(0, (5, 1.5)), zorder=3)
    none = ax.axhline(0.0, color=INK, linewidth=0.9, linestyle=(0, (1, 1)), zorder=2)
    handles, names = [curve, span, everyone, none], [f"model, {MEAN}", "range of sites", "treat all", "treat none"]
    if len(states) > 1:
        names[0] = f"{states[0]}, {MEAN}"
        beside = rows[(rows["features"] == states[1]) & (rows["site"] == MEAN)]
        (other,) = ax.plot(at, beside["net_benefit"], color="0.5", linewidth=1.4, linestyle=(0, (3, 1, 1, 1)), zorder=3)
        handles.insert(1, other)
        names.insert(1, f"{states[1]}, {MEAN}")
    top = float(np.nanmax([by_site.max().max(), mean["treat_all"].max()]))
    ax.set_ylim(-LOWEST * top, 1.06 * top)
    ax.set_xlim(0.0, 1.0)
    plain(ax)
    ax.set_xlabel(" ")
    ax.set_ylabel(" ")
    lay_out(ax)
    legend_below(ax, handles, names)
    titled(ax, f"Net benefit at sites left out{about}")
    lay_out(ax)
    few_ticks(ax)
    say(ax, "x", "threshold of the probability", "threshold")
    say(ax, "y", "net benefit")
    return ax
