"""Fitting text: labels, ticks and legends are measured on the laid-out axes, down to a journal's column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pycombat_gam.plot.style import inches, shown

SMALLEST = 6.0
"""Size of the smallest letters, in points."""
NARROW = 4.5
"""Width in inches; narrower figures have legends in smaller letters."""
SMALLER = 0.75
"""Factor by which letters shrink before a name is cut short."""
SPACE = 1.2
"""Space between columns of a legend, in units of its font size."""
CLOSE = 0.96
"""Share of the axes' width that a legend may take: the axes shrink a little afterwards."""
OVERHANG = 1.1
"""Largest length of a label over that of its axis: it may extend beyond the corners."""


def lay_out(ax: Any) -> None:
    """Lay out the figure as it will be drawn."""
    ax.figure.canvas.figure.draw_without_rendering()


def side(ax: Any, axis: str) -> float:
    """Return the length of an axis, in inches."""
    box = ax.get_window_extent()
    return float(box.width if axis == "x" else box.height) / float(ax.figure.dpi)


def side_by_side(drawn: Sequence[Any]) -> list[Any]:
    """Return the axes in one row with the first."""
    first = drawn[0].get_position()
    return [ax for ax in drawn if abs(ax.get_position().y0 - first.y0) < 0.01]


def say(ax: Any, axis: str, *texts: str) -> None:
    """Label an axis with the first text that fits, in smaller letters if needed."""
    label = (ax.xaxis if axis == "x" else ax.yaxis).label
    label.set_text(_fitting(ax, OVERHANG * side(ax, axis), label, texts))


def fits(ax: Any, axis: str, text: str) -> bool:
    """Return whether a text is short enough to label an axis."""
    label = (ax.xaxis if axis == "x" else ax.yaxis).label
    return inches(ax, text, label.get_fontsize())[0] <= OVERHANG * side(ax, axis)


def say_shared(drawn: Sequence[Any], *texts: str) -> None:
    """Label the x axes of panels of one quantity: each panel if the first text fits, else once in the middle."""
    row = side_by_side(drawn)
    size = row[0].xaxis.label.get_fontsize()
    if len(row) < len(drawn) or inches(row[0], texts[0], size)[0] <= min(side(ax, "x") for ax in row):
        for ax in drawn:
            say(ax, "x", *texts)
        return
    for ax in row:
        ax.set_xlabel(" ")

    def between(renderer: Any) -> Any:
        from matplotlib.transforms import Bbox

        boxes = [ax.get_window_extent() for ax in row]
        held = row[0].xaxis.label.get_window_extent(renderer)
        return Bbox.from_extents(boxes[0].x0, held.y0, boxes[-1].x1, held.y1)

    width = sum(side(ax, "x") for ax in row) * OVERHANG
    middle = row[0].annotate(" ", (0.5, 0.5), xycoords=between, ha="center", va="center", annotation_clip=False)
    middle.set_fontsize(size)
    middle.set_text(_fitting(row[0], width, middle, texts))
    # The blank labels reserve its place.
    middle.set_in_layout(False)


def names_of(name: object, *suffixes: str) -> tuple[str, ...]:
    """Return ever shorter forms of a column's name, each with a suffix, for `say`."""
    suffixes = suffixes or ("",)
    limits = sorted({60, 40, 30, 24, 20, 16}, reverse=True)
    return tuple(dict.fromkeys(shown(name, limit) + suffix for limit in limits for suffix in suffixes))


def few_ticks(ax: Any, axes: str = "xy") -> None:
    """Thin the ticks of linear axes so that their numbers do not overlap."""
    from matplotlib.ticker import MaxNLocator

    for axis in axes:
        along = ax.xaxis if axis == "x" else ax.yaxis
        boxes = [text.get_window_extent() for text in along.get_ticklabels() if text.get_text()]
        if not boxes:
            continue
        dpi = ax.figure.dpi
        wide = max(box.width / dpi + 0.15 if axis == "x" else 1.5 * box.height / dpi for box in boxes)
        most = max(2, int(side(ax, axis) / wide))
        if len(along.get_majorticklocs()) > most:
            along.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))


def log_ticks(ax: Any, low: float, high: float, axes: str = "xy") -> None:
    """Mark logarithmic axes from `low` to `high` with round numbers that do not overlap."""
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, StrMethodFormatter

    for axis in axes:
        along = ax.xaxis if axis == "x" else ax.yaxis
        size = along.get_ticklabels()[0].get_fontsize() if along.get_ticklabels() else 10.0
        chosen = _round_between(low, high, [1.0])
        for steps in ([1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 7], [1, 1.5, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]):
            marks = _round_between(low, high, steps)
            extent = [inches(ax, f"{mark:g}", size)[0 if axis == "x" else 1] for mark in marks]
            if len(marks) < 2:
                continue
            gaps = np.diff(np.log(marks)) / np.log(high / low) * side(ax, axis)
            if (gaps >= 1.2 * np.array(extent[1:]) + 0.06).all():
                chosen = marks
                break
        along.set_major_locator(FixedLocator(chosen))
        along.set_major_formatter(StrMethodFormatter("{x:g}"))
        along.set_minor_locator(NullLocator())
        along.set_minor_formatter(NullFormatter())


def _round_between(low: float, high: float, steps: Sequence[float]) -> list[float]:
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    marks = [step * 10.0**k for k in decades for step in steps]
    return [mark for mark in marks if low <= mark <= high] or [float(np.sqrt(low * high))]


def name_rows(ax: Any, names: list[str]) -> None:
    """Write the sites' names beside their rows, small enough not to overlap; only every k-th where even that fails."""
    room = ax.get_window_extent().height / ax.figure.dpi * 72.0 / len(names)
    size = float(np.clip(0.8 * room, 5.0, 9.0))
    step = max(1, int(np.ceil(5.0 / max(0.9 * room, 0.1)))) if room < 5.5 else 1
    ax.set_yticks(np.arange(0, len(names), step), names[::step], fontsize=size)


def legend_below(ax: Any, handles: Sequence[Any], names: Sequence[str], *, row: Sequence[Any] = ()) -> Any:
    """Put a legend under the labels of axes, set before, in as many columns as fit.

    Parameters
    ----------
    row : the panels side by side that share the legend: it may be as wide as all of them together.
    """
    from matplotlib.transforms import ScaledTranslation

    across = list(row) or [ax]
    dpi = ax.figure.dpi
    box = ax.get_window_extent()
    ticks = ax.xaxis.get_tightbbox()
    depth = (box.y0 - ticks.y0) / dpi if ticks is not None else 0.4
    width = CLOSE * (across[-1].get_window_extent().x1 - box.x0) / dpi
    legend = _legend(
        ax, handles, names, width, loc="upper left", bbox_to_anchor=(0.0, 0.0),
        bbox_transform=ax.transAxes + ScaledTranslation(0.0, -depth - 0.07, ax.figure.dpi_scale_trans),
    )  # fmt: skip
    if len(across) > 1:
        # A legend wider than its axes would push the next axes away: it leaves the layout, which keeps its height.
        height = legend.get_window_extent().height / dpi
        legend.set_in_layout(False)
        kept = ax.annotate(
            " ", (0.0, 0.0), (0.0, -72.0 * (depth + 0.07 + height)), xycoords="axes fraction",
            textcoords="offset points", fontsize=1.0, va="bottom", annotation_clip=False,
        )  # fmt: skip
        kept.set_gid("room for the legend")
    return legend


def legend_beside(ax: Any, handles: Sequence[Any], names: Sequence[str]) -> Any:
    """Put a legend at the right of axes, in one column."""
    return _legend(ax, handles, names, 0.0, loc="upper left", bbox_to_anchor=(1.03, 1.0))


def _legend(ax: Any, handles: Sequence[Any], names: Sequence[str], width: float, **where: Any) -> Any:
    """Make a legend as wide as `width` allows, with at least one column.

    Names are set afterwards: matplotlib drops labels that start with an underscore.
    """
    from matplotlib.font_manager import FontProperties

    figure = ax.figure.canvas.figure
    size = "x-small" if figure.get_figwidth() < NARROW else "small"
    bare = all(getattr(handle, "get_linestyle", lambda: "-")() == "None" for handle in handles)
    length = 1.0 if bare else 2.0
    em = FontProperties(size=size).get_size_in_points() / 72.0
    widths = [inches(ax, name, size)[0] + (length + 0.8) * em for name in names]
    legend = ax.legend(
        handles, [f"{i}" for i in range(len(names))], borderaxespad=0.0, ncols=_columns(widths, SPACE * em, width),
        frameon=False, fontsize=size, handlelength=length, columnspacing=SPACE, borderpad=0.0, **where,
    )  # fmt: skip
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)
    return legend


def _columns(widths: Sequence[float], space: float, most: float) -> int:
    """Return the most columns, filled one after the other, in which texts of `widths` fit into `most`."""
    for columns in range(len(widths), 1, -1):
        parts = np.array_split(np.asarray(widths), columns)
        if sum(part.max() for part in parts) + space * (columns - 1) <= most:
            return columns
    return 1


def _fitting(ax: Any, length: float, text: Any, texts: Sequence[str]) -> str:
    """Return the first text no longer than `length`, and set its font size."""
    size = text.get_fontsize()
    for candidate in texts:
        for smaller in (1.0, SMALLER):
            if smaller * inches(ax, candidate, size)[0] <= length:
                text.set_fontsize(smaller * size)
                return candidate
    text.set_fontsize(max(SMALLEST, size * length / inches(ax, texts[-1], size)[0]))
    return texts[-1]
