"""Pictures of a flow: how it was trained, and fans of counterfactuals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.errors import OptionError, count, did_you_mean, listing
from pycombat_gam.plot.given import check_frame, flow_of
from pycombat_gam.plot.style import (
    INK,
    LOOKS,
    PALE,
    Look,
    check_level,
    evenly,
    handle,
    legend_below,
    panels,
    plain,
    shown,
    shown_apart,
    titled,
)  # fmt: skip
from pycombat_gam.tables import find_column
from pycombat_gam.types import FloatArray

POINTS = 25
MOST_ROWS = 200
FEW_ROWS = 12
"""Up to this many rows have a band each; of more, their mean has one."""


def training(scm: object, *, ax: Any = None) -> Any:
    """Draw the log-probability of held-out rows by epoch, a line for each stage of the training.

    A stage without held-out rows shows minus its training loss. The mark is each line's best epoch. Of more than eight
    stages, such as the members of an ensemble, the first seven are told apart.

    Parameters
    ----------
    scm : a fitted `FlowSCM`.
    ax : matplotlib axes; new ones by default.

    Returns
    -------
    The axes.
    """
    history = flow_of(scm, "training").history_
    stages = [(str(stage), rows) for stage, rows in history.groupby("stage", sort=False)]
    few = len(stages) <= len(LOOKS)
    marked = len(stages) if few else len(LOOKS) - 1
    (ax,) = panels(ax, 1, (7.0, 3.8))
    handles, names = [], []
    for i, (stage, rows) in enumerate(stages):
        look = LOOKS[i] if i < marked else Look(PALE, "", "-")
        held = bool(rows["held_out"].notna().any())
        y = (rows["held_out"] if held else -rows["loss"]).to_numpy(dtype=np.float64)
        epochs = rows["epoch"].to_numpy()
        ax.plot(
            epochs,
            y,
            color=look.color,
            linestyle=look.line,
            linewidth=1.5 if i < marked else 0.8,
            zorder=3 - (i >= marked),
        )
        if i < marked:
            best = int(np.nanargmax(y))
            ax.plot(epochs[best], y[best], marker=look.marker, color=look.color, markersize=6, zorder=4)
            handles.append(handle(look, line=True))
            names.append(f"{shown(stage, 30)}, {'held out' if held else 'training rows'}")
    if not few:
        handles.append(handle(Look(PALE, "", "-"), line=True))
        names.append(f"{len(stages) - marked} more stages")
    ax.set_xlabel("epoch")
    ax.set_ylabel("log-probability a row")
    plain(ax)
    legend_below(ax, handles, names)
    titled(ax, "Training", "marks: the best epoch of each stage")
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
    """Draw counterfactual fans: what each row's feature would be, were its `over` another.

    A line is a row under do(over = …) across the range of the fit, with its own noise and at its own site, or at site
    `to`; whatever the graph makes an effect of `over` follows. Dots are rows at their own `over`. With an ensemble,
    bands are intervals over its members, mean ± t √(1 + 1/M) sd as `FlowSCM.interval`: of each row where there are at
    most 12, else of their mean (dark line).

    Parameters
    ----------
    scm : a fitted `FlowSCM`; table : rows of known sites; of more than 200, that many are drawn, evenly spread.
    feature : of the fit; over : a column of numbers in the formula.
    to : site to set all rows to; None: their own.
    level : coverage of the bands.
    ax : matplotlib axes; new ones by default.

    Returns
    -------
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
    found = fan_of(model, some, feature, over, to=to, points=POINTS)
    labels = model._check_fitted().model.levels.labels
    present = [int(b) for b in np.unique(found.codes)]
    few_sites, few_rows = len(present) <= len(LOOKS), len(some) <= FEW_ROWS
    looks = {b: LOOKS[i] if few_sites else Look(PALE, "o", "-") for i, b in enumerate(present)}
    (ax,) = panels(ax, 1, (7.0, 4.2))
    ensemble = len(found.members) >= 2
    own = find_column(some, over, "over").to_numpy(dtype=np.float64)
    for i, b in enumerate(found.codes):
        look, line = looks[int(b)], found.values[:, i]
        ax.plot(
            found.grid, line, color=look.color, linestyle=look.line if few_rows else "-",
            linewidth=1.5 if few_rows else 0.7, alpha=1.0 if few_rows else 0.45, zorder=3,
        )  # fmt: skip
        ax.plot(
            own[i], np.interp(own[i], found.grid, line), marker=look.marker, color=look.color, linestyle="none",
            markersize=6 if few_rows else 3, zorder=4,
        )  # fmt: skip
        if ensemble and few_rows:
            low, high = _band(found.members[:, :, i], level)
            ax.fill_between(found.grid, low, high, color=look.color, alpha=0.15, linewidth=0, zorder=2)
    if not few_rows:
        ax.plot(found.grid, found.values.mean(axis=1), color="white", linewidth=3.6, zorder=6)
        ax.plot(found.grid, found.values.mean(axis=1), color=INK, linewidth=2.0, zorder=7)
        if ensemble:
            low, high = _band(found.members.mean(axis=2), level)
            ax.fill_between(found.grid, low, high, color=INK, alpha=0.25, linewidth=0, zorder=5)
    _legend(ax, looks, shown_apart(labels), few_sites, few_rows, ensemble, level)
    ax.set_xlabel(f"{shown(over, 40)}, set to")
    ax.set_ylabel(shown(feature, 40))
    plain(ax)
    under = [
        "at each row's own site" if to is None else f"all at {shown(to, 30)}",
        "dots: as observed" if to is None else "dots: at their own value",
    ]
    under += [f"{len(some):,} of {len(table):,} rows, evenly spread"] if len(some) < len(table) else []
    titled(ax, f"Counterfactuals of {count(len(some), 'row')} over {shown(over, 30)}", "; ".join(under))
    return ax


def _band(members: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    """Return the interval over M members' values (M, G)."""
    from pycombat_gam.flow.fitted import Interval

    found = Interval.of(members[:, :, None], pd.RangeIndex(members.shape[1]), ["value"], level)
    return found.lower["value"].to_numpy(), found.upper["value"].to_numpy()


def _legend(
    ax: Any, looks: dict[int, Look], names: list[str], few_sites: bool, few_rows: bool, ensemble: bool, level: float
) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    texts: list[str] = []
    if few_sites:
        handles += [handle(look, line=True) for look in looks.values()]
        texts += [names[b] for b in looks]
    else:
        handles.append(handle(Look(PALE, "o", "-"), line=True))
        texts.append(f"rows of {len(looks)} sites")
    if not few_rows:
        handles.append(Line2D([], [], color=INK, linewidth=2.0))
        texts.append("mean of the rows")
    if ensemble:
        handles.append(Patch(color=PALE if few_rows else INK, alpha=0.3, linewidth=0))
        texts.append(f"{100 * level:.4g} % over members")
    legend_below(ax, handles, texts)
