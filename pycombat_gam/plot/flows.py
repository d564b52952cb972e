"""Pictures of a flow: its training, and fans of counterfactuals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.errors import OptionError
from pycombat_gam.plot.given import check_frame, flow_of
from pycombat_gam.plot.room import few_ticks, lay_out, legend_below, names_of, say
from pycombat_gam.plot.style import (
    INK,
    LOOKS,
    PALE,
    Look,
    evenly,
    handle,
    legend_letters,
    look_of,
    minus,
    panels,
    plain,
    shown,
    shown_apart,
    titled,
)  # fmt: skip
from pycombat_gam.tables.arguments import check_level
from pycombat_gam.tables.intake import find_column
from pycombat_gam.types import FloatArray
from pycombat_gam.words import count, did_you_mean, listing

POINTS = 25
MOST_ROWS = 60
FEW_ROWS = 12
"""Most rows that have a band each; with more, only their mean has one."""


def training(scm: object, *, ax: Any = None) -> Any:
    """Draw the gain in log-probability of held-out rows by epoch, a line for each stage of training.

    Stages have different rows and so different levels: lines are gains since the stage's first epoch, marks the best
    epochs, and the legend gives the log-probability there. A stage without held-out rows shows minus its training loss
    instead. Of more than eight stages the latest seven have their own look.

    Parameters
    ----------
    scm : FlowSCM
        A fitted model.
    ax : matplotlib axes or None
        New axes by default.

    Returns
    -------
    Axes
        The axes.
    """
    history = flow_of(scm, "training").history_
    stages = [(str(stage), rows) for stage, rows in history.groupby("stage", sort=False)]
    marked = min(len(stages), len(LOOKS) if len(stages) <= len(LOOKS) else len(LOOKS) - 1)
    (ax,) = panels(ax, 1, (7.0, 4.2))
    handles, names = [], []
    for i, (stage, rows) in enumerate(reversed(stages)):
        named = i < marked
        look = LOOKS[i] if named else Look(PALE, "", "-")
        held = bool(rows["held_out"].notna().any())
        y = (rows["held_out"] if held else -rows["loss"]).to_numpy(dtype=np.float64)
        epochs = rows["epoch"].to_numpy()
        gain = y - y[np.isfinite(y)][0]
        ax.plot(
            epochs,
            gain,
            color=look.color,
            linestyle=look.line,
            linewidth=1.5 if named else 0.8,
            zorder=3 if named else 2,
        )
        if named:
            best = int(np.nanargmax(y))
            ax.plot(epochs[best], gain[best], marker=look.marker, color=look.color, markersize=6, zorder=4)
            handles.append(handle(look, line=True))
            names.append(f"{shown(stage, 30)}{'' if held else ', training rows'}: {minus(f'{y[best]:.4g}')}")
    if marked < len(stages):
        handles.append(handle(Look(PALE, "", "-"), line=True))
        names.append(count(len(stages) - marked, "earlier stage"))
    ax.set_xlabel("epoch")
    ax.set_ylabel(" ")
    plain(ax)
    legend_below(ax, handles, names)
    titled(ax, "Held-out log-probability per row", "marks, numbers: best epochs; latest stage first")
    lay_out(ax)
    few_ticks(ax)
    say(ax, "y", "gain since first epoch", "gain")
    return ax


def fan(
    scm: object,
    table: pd.DataFrame,
    feature: str,
    over: str = "age",
    *,
    to: object = None,
    level: float = 0.95,
    ax: Any = None,
) -> Any:
    """Draw counterfactual fans: each row's feature as it would be at other values of `over`.

    A line is a row under do(over = …) across the range of the fit, with its own noise, at its own site or at site `to`.
    Effects of `over` in the graph follow. Marks are rows at their own `over`. With an ensemble, bands are intervals
    of `FlowSCM.interval`: one for each of up to 12 rows, otherwise one for their mean (dark line).

    Parameters
    ----------
    scm : FlowSCM
        A fitted model.
    table : DataFrame
        Rows of known sites. Of more than 60 rows, 60 are drawn, evenly spread.
    feature : str
        Feature of the fit.
    over : str
        A column of numbers in the formula.
    to : object
        Site to set all rows to; None: their own.
    level : float
        Coverage of the bands.
    ax : matplotlib axes or None
        New axes by default.

    Returns
    -------
    Axes
        The axes.
    """
    model = flow_of(scm, "fan")
    level = check_level(level)
    check_frame(table, "table")
    names_of_fit = [str(name) for name in model.get_feature_names_out()]
    if feature not in names_of_fit:
        raise OptionError(
            f"there is no feature '{feature}' in the fit, which has: {listing(names_of_fit)}"
            f"{did_you_mean(str(feature), names_of_fit)}"
        )
    from pycombat_gam.flow.fan import fan_of

    some = table.iloc[evenly(len(table), MOST_ROWS)]
    computed = fan_of(model, some, feature, over, to=to, points=POINTS)
    labels = model.sites
    present = [int(b) for b in np.unique(computed.codes)]
    few_sites, few_rows = len(present) <= len(LOOKS), len(some) <= FEW_ROWS
    looks = {b: look_of(b) if few_sites else Look(PALE, "o", "-") for b in present}
    (ax,) = panels(ax, 1, (7.0, 4.2))
    ensemble = len(computed.members) >= 2
    measured = find_column(some, over, "over").to_numpy(dtype=np.float64)
    for i, b in enumerate(computed.codes):
        look, line = looks[int(b)], computed.values[:, i]
        ax.plot(
            computed.grid, line, color=look.color if few_rows else PALE, linestyle=look.line if few_rows else "-",
            linewidth=1.5 if few_rows else 0.6, zorder=3,
        )  # fmt: skip
        ax.plot(
            measured[i], computed.here[i], marker=look.marker, color=look.color, linestyle="none",
            markersize=6 if few_rows else 4, zorder=4,
        )  # fmt: skip
        if ensemble and few_rows:
            low, high = _band(line, computed.members[:, :, i], level)
            ax.fill_between(computed.grid, low, high, color=look.color, alpha=0.15, linewidth=0, zorder=2)
    if not few_rows:
        ax.plot(computed.grid, computed.values.mean(axis=1), color="white", linewidth=3.6, zorder=6)
        ax.plot(computed.grid, computed.values.mean(axis=1), color=INK, linewidth=2.0, zorder=7)
        if ensemble:
            low, high = _band(computed.values.mean(axis=1), computed.members.mean(axis=2), level)
            ax.fill_between(computed.grid, low, high, color=INK, alpha=0.2, linewidth=0, zorder=5)
    ax.set_xlabel(" ")
    ax.set_ylabel(" ")
    _legend(ax, looks, shown_apart(labels, legend_letters(ax)), few_rows, ensemble, level)
    plain(ax)
    under = [
        "at each row's own site" if to is None else f"all at {shown(to, 30)}",
        "marks: rows as measured" if to is None else f"marks: at their own {shown(over, 30)}",
    ]
    under += [f"{len(some):,} of {len(table):,} rows, evenly spread"] if len(some) < len(table) else []
    titled(ax, f"Counterfactuals of {count(len(some), 'row')}", "; ".join(under))
    lay_out(ax)
    few_ticks(ax)
    say(ax, "x", *names_of(over, ", set to"))
    say(ax, "y", *names_of(feature))
    return ax


def _band(values: FloatArray, members: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    """Return the interval of values (G,), given M members' values (M, G)."""
    from pycombat_gam.flow.fitted import Interval

    index = pd.RangeIndex(len(values))
    interval = Interval.of(values[:, None], members[:, :, None], index, ["value"], level)
    return interval.lower["value"].to_numpy(), interval.upper["value"].to_numpy()


def _legend(ax: Any, looks: dict[int, Look], names: list[str], few_rows: bool, ensemble: bool, level: float) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    texts: list[str] = []
    if len(looks) <= len(LOOKS):
        handles += [handle(look, line=few_rows) for look in looks.values()]
        texts += [names[b] for b in looks]
    else:
        handles.append(handle(Look(PALE, "o", "-"), line=True))
        texts.append(f"rows of {len(looks)} sites")
    if not few_rows:
        handles.append(Line2D([], [], color=INK, linewidth=2.0))
        texts.append("mean of rows")
    if ensemble:
        handles.append(Patch(color=PALE if few_rows else INK, alpha=0.3 if few_rows else 0.2, linewidth=0))
        texts.append(f"{100 * level:.4g} % interval")
    legend_below(ax, handles, texts)
