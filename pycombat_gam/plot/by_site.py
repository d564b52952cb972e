"""One feature by site: its values before and after, and the values of traveling subjects at each site."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.errors import DataError
from pycombat_gam.plot.given import check_frame, combat_of, feature_index, numbers, places_of, sites_of, states
from pycombat_gam.plot.room import few_ticks, lay_out, name_rows, names_of, say, say_shared
from pycombat_gam.plot.style import (
    INK,
    LOOKS,
    PALE,
    Look,
    dots,
    look_of,
    panels,
    plain,
    shown,
    shown_apart,
    spread_out,
    tick_letters,
    titled,
)  # fmt: skip
from pycombat_gam.study.harmonizer import Harmonizer
from pycombat_gam.tables.intake import find_column
from pycombat_gam.types import FloatArray, IntArray
from pycombat_gam.words import count, listing

FEW_ROWS = 5
"""Fewest values whose quartiles are drawn."""
LEAST_ROWS = 3
"""Fewest values whose median is drawn; its stroke would hide fewer points, which are large instead."""


def features(
    before: pd.DataFrame,
    after: pd.DataFrame | None = None,
    *,
    feature: str,
    batch: str,
    model: Harmonizer | None = None,
    axes: Any = None,
) -> Any:
    """Draw the values of one feature by site, before and after side by side on one scale.

    Each point is a row. The bar spans the quartiles, the upright stroke is the median, and the line through all sites
    is the median of all rows. Sites are ordered by their median before.

    Parameters
    ----------
    before : DataFrame
        The table before harmonization.
    after : DataFrame or None
        The same rows after it; only the feature is needed.
    feature : str
        Column to draw; the title counts missing cells.
    batch : str
        Column of site labels, in `before`.
    model : ComBat or None
        A fitted model: values are adjusted to the mean covariates of its fit, y − (x − x̄)β, so that sites with
        different subjects can be compared.
    axes : matplotlib axes or None
        One axes, or two with `after`; new ones by default.

    Returns
    -------
    ndarray
        The axes.
    """
    tables = states(before, after)
    labels, codes = sites_of(tables["before"], batch)
    values = {state: numbers(table, feature) for state, table in tables.items()}
    adjustment = ""
    if model is not None:
        part, adjustment = _covariate_part(model, tables["before"], feature)
        values = {state: y - part for state, y in values.items()}
    sizes = np.bincount(codes, minlength=len(labels))
    order = _by_median(values["before"], codes, len(labels))
    height = float(np.clip(1.1 + 0.2 * len(labels), 2.6, 9.5))
    drawn = panels(axes, len(tables), (7.0 if after is not None else 4.6, height))
    everything = np.concatenate([y[~np.isnan(y)] for y in values.values()])
    margin = 0.04 * (float(np.ptp(everything)) or 1.0)
    names = [f"{name} ({n:,})" for name, n in zip(shown_apart(labels, tick_letters(drawn[0])), sizes, strict=True)]
    few = len(labels) <= len(LOOKS)
    looks = [look_of(place) for place in places_of(labels, model)]
    for at, (ax, (state, y)) in enumerate(zip(drawn, values.items(), strict=True)):
        for place, b in enumerate(order):
            look = looks[b] if few else Look(PALE, "o", "-")
            _strip(ax, y[(codes == b) & ~np.isnan(y)], place, look, crowd=len(y))
        ax.axvline(float(np.nanmedian(y)), color="0.5", linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
        ax.set_xlim(everything.min() - margin, everything.max() + margin)
        ax.set_ylim(len(labels) - 0.4, -0.6)
        ax.set_xlabel(" ")
        plain(ax)
        ax.tick_params(axis="y", length=0)
        missing = int(np.isnan(y).sum())
        under = [adjustment] if adjustment else []
        under += [f"{count(missing, 'missing value')} not shown"] if missing else []
        titled(ax, state, "; ".join(under))
        if at == 0 or abs(ax.get_position().y0 - drawn[0].get_position().y0) > 0.01:
            name_rows(ax, [names[b] for b in order])
            ax.set_ylabel(f"{shown(batch, 30)} (rows)")
        else:
            ax.set_yticks([])
    lay_out(drawn[0])
    for ax in drawn:
        few_ticks(ax, "x")
    say_shared(drawn, *names_of(feature, ", adjusted" if model is not None else ""))
    return np.array(drawn, dtype=object)


def travelers(table: pd.DataFrame, *, subject: str, batch: str, feature: str, ax: Any = None) -> Any:
    """Draw one line for each traveling subject across the sites where it was measured.

    A subject's rows at one site are averaged. Subjects with values from one site only are not drawn; the title counts
    them. Up to eight subjects have their own look and a name; with more, their mean is drawn too if each was measured
    at every site.

    Parameters
    ----------
    table : DataFrame
        One row for each subject, site and visit.
    subject, batch, feature : str
        Its columns.
    ax : matplotlib axes or None
        New axes by default.

    Returns
    -------
    Axes
        The axes.

    Raises
    ------
    DataError
        If no subject has values from two sites.
    """
    check_frame(table, "table")
    labels, codes = sites_of(table, batch)
    y = numbers(table, feature)
    who = find_column(table, subject, "subject")
    if who.isna().any():
        raise DataError(f"subject column '{subject}' has {count(int(who.isna().sum()), 'missing label')}: fill them in")
    grid = pd.DataFrame({"who": who.astype(str).to_numpy(), "site": codes, "y": y}).dropna(subset="y")
    means = grid.groupby(["who", "site"], sort=True)["y"].mean().unstack("site")
    means = means.reindex(columns=range(len(labels)))
    traveled = means[means.notna().sum(axis=1) >= 2]
    if traveled.empty:
        raise DataError(
            f"no subject of column '{subject}' has values of '{feature}' from two sites: travelers needs the same "
            f"subject's label at each site; the sites are {listing(labels)}"
        )
    (ax,) = panels(ax, 1, (7.0, 3.8))
    few = len(traveled) <= len(LOOKS)
    for i, (_, row) in enumerate(traveled.iterrows()):
        at = np.flatnonzero(row.notna())
        look = LOOKS[i] if few else Look(PALE, "o", "-")
        size = {"linewidth": 1.5, "markersize": 5} if few else {"linewidth": 0.8, "markersize": 2.5}
        ax.plot(
            at, row.to_numpy()[at], color=look.color, marker=look.marker, linestyle=look.line,
            alpha=1.0 if few else float(np.clip(30 / len(traveled), 0.25, 0.9)), **size,
        )  # fmt: skip
    if not few and bool(traveled.notna().all(axis=None)):
        whole = traveled.mean()
        ax.plot(whole.index, whole, color="white", linewidth=4.0, zorder=4)
        ax.plot(whole.index, whole, color=INK, linewidth=2.2, marker="o", markersize=5, zorder=5)
        ax.annotate(
            "mean", (len(labels) - 1, whole.iloc[-1]), (8, 0), textcoords="offset points", va="center", zorder=6
        )
    if few:
        ends = [(int(np.flatnonzero(row.notna())[-1]), float(row.dropna().iloc[-1])) for _, row in traveled.iterrows()]
        _name_ends(ax, ends, shown_apart(list(traveled.index), 16))
    ax.set_xticks(np.arange(len(labels)), shown_apart(labels))
    ax.set_xlim(-0.3, len(labels) - 0.7)
    _turn_where_crowded(ax, labels)
    ax.set_xlabel(" ")
    ax.set_ylabel(" ")
    plain(ax)
    alone = len(means) - len(traveled)
    missing = int(np.isnan(y).sum())
    under = [f"{count(alone, 'subject')} with values from one site not shown"] if alone else []
    under += [f"{count(missing, 'missing value')} not shown"] if missing else []
    titled(ax, f"{count(len(traveled), 'traveling subject')}, a line each", "; ".join(under))
    lay_out(ax)
    say(ax, "x", *names_of(batch))
    say(ax, "y", *names_of(feature))
    return ax


def _covariate_part(model: Harmonizer, table: pd.DataFrame, feature: str) -> tuple[FloatArray, str]:
    """Return (x − x̄)β of the rows, and a text that names the covariates."""
    fitted = combat_of(model, "features", "features(model=…)")
    k = feature_index(fitted, feature)
    design = fitted.mean.design
    X = design.on(table)
    offset = design.offset(table)
    part = (X - fitted.mean.center) @ fitted.mean.coefficients[:, k] + offset - offset.mean()
    for_what = listing([shown(name, 24) for name in design.formula.variables], 5)
    return np.asarray(part), f"adjusted for {for_what}" if for_what else "no covariates to adjust for"


def _by_median(y: FloatArray, codes: IntArray, sites: int) -> list[int]:
    """Return the sites in order of their median; sites without values come last."""
    middles = [
        float(np.median(of_site)) if (of_site := y[(codes == b) & ~np.isnan(y)]).size else np.inf for b in range(sites)
    ]
    return [int(b) for b in np.argsort(middles, kind="stable")]


def _strip(ax: Any, y: FloatArray, place: int, look: Look, *, crowd: int) -> None:
    """Draw one site's values, quartiles and median in row `place`."""
    if not y.size:
        return
    if y.size < LEAST_ROWS:
        ax.scatter(y, np.full(y.size, place), s=26, c=look.color, marker=look.marker, linewidths=0, zorder=4)
        return
    dots(ax, y, place + spread_out(y), look, crowd=crowd)
    middle = float(np.median(y))
    if y.size >= FEW_ROWS:
        low, high = np.quantile(y, [0.25, 0.75])
        ax.plot([low, high], [place, place], color="white", linewidth=4.6, solid_capstyle="butt", zorder=3)
        ax.plot([low, high], [place, place], color=INK, linewidth=2.6, solid_capstyle="butt", zorder=4)
    ax.plot([middle, middle], [place - 0.36, place + 0.36], color="white", linewidth=3.4, zorder=5)
    ax.plot([middle, middle], [place - 0.34, place + 0.34], color=INK, linewidth=1.6, zorder=6)


def _turn_where_crowded(ax: Any, labels: tuple[str, ...]) -> None:
    """Turn tick labels that would overlap."""
    room = ax.get_window_extent().width / ax.figure.dpi * 72.0 / len(labels)
    if max(len(shown(label, 18)) for label in labels) * 6.2 > room:
        size = float(np.clip(room, 4.5, 9.0))
        ax.tick_params(axis="x", labelrotation=90 if room < 14 else 45, labelsize=size)
        for text in ax.get_xticklabels():
            text.set_horizontalalignment("center" if room < 14 else "right")
            text.set_rotation_mode("default" if room < 14 else "anchor")


def _name_ends(ax: Any, ends: list[tuple[int, float]], names: list[str]) -> None:
    """Write names beside the ends of lines, pushed apart where they would overlap."""
    low, high = ax.get_ylim()
    least = (high - low) * 11.0 / (ax.get_window_extent().height / ax.figure.dpi * 72.0)
    placed: dict[int, list[tuple[float, int]]] = {}
    for i, (x, y) in enumerate(ends):
        placed.setdefault(x, []).append((y, i))
    for x, group in placed.items():
        group.sort()
        heights = np.array([y for y, _ in group])
        for _ in range(50):
            gaps = np.diff(heights)
            short = np.maximum(least - gaps, 0.0) / 2.0
            if not short.any():
                break
            heights[:-1] -= short
            heights[1:] += short
        for height, (_, i) in zip(heights, group, strict=True):
            ax.annotate(
                names[i], (x, height), (7, 0), textcoords="offset points", va="center", fontsize="small",
                color=LOOKS[i].color, annotation_clip=False,
            )  # fmt: skip
