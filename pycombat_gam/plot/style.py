"""What all pictures share: colours and shapes of sites, names as text, axes, legends that hide no data."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pycombat_gam.errors import OptionError, count
from pycombat_gam.types import FloatArray, IntArray

BLUE, ORANGE = "#0072B2", "#D55E00"
INK, PALE = "0.15", "0.62"
"""Dark for what a picture says, pale for the points it says it of."""


class Look(NamedTuple):
    """How one site looks."""

    color: str
    marker: str
    line: Any


LOOKS = (
    Look("#0072B2", "o", "-"),
    Look("#D55E00", "s", (0, (5, 1.5))),
    Look("#009E73", "^", (0, (1, 1))),
    Look("#E69F00", "D", (0, (4, 1, 1, 1))),
    Look("#CC79A7", "v", (0, (8, 1.5))),
    Look("#56B4E9", "P", (0, (2, 1))),
    Look("#000000", "X", (0, (6, 1, 1, 1, 1, 1))),
    Look("#8C8C8C", "p", (0, (3, 3))),
)
"""Okabe and Ito's colours, grey for their yellow, which white paper swallows; as many as can be told apart."""


def shown(name: object, limit: int = 60) -> str:
    r"""Return a name as matplotlib has to be given it to show it as it is; one too long loses its middle.

    >>> print(shown("$a$"), shown("two" + chr(10) + "lines"), shown("abcdefghij", 7))
    \$a\$ two\nlines abc…hij
    """
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(name))
    if len(text) > limit:
        tail = (limit - 1) // 2
        text = f"{text[: limit - 1 - tail]}…{text[-tail:]}"
    return text.replace("$", r"\$") or "''"


def shown_apart(names: Sequence[object], limit: int = 18) -> list[str]:
    """Return names as `shown`, numbered where shortening makes two of them the same."""
    texts = [shown(name, limit) for name in names]
    times, seen = Counter(texts), Counter[str]()
    for at, text in enumerate(texts):
        seen[text] += 1
        if times[text] > 1:
            texts[at] = f"{text} ({seen[text]})"
    return texts


def minus(number: str) -> str:
    """Return a number's text with a minus sign as long as its plus.

    >>> minus(f"{-0.5:+.2f}"), minus("1e-05")
    ('−0.50', '1e-05')
    """
    return "−" + number[1:] if number.startswith("-") else number


def labelled(ax: Any, x: object = None, y: object = None, *, suffix: str = "") -> None:
    """Write a column's name under or beside axes, shortened where it is longer than they are; `suffix` follows x."""
    box = ax.get_window_extent()
    for name, length, write, more in ((x, box.width, ax.set_xlabel, suffix), (y, box.height, ax.set_ylabel, "")):
        if name is not None:
            letters = int(1.1 * length / ax.figure.dpi * 72.0 / 5.6) - len(more)
            write(shown(name, min(60, max(16, letters))) + more)


def tick_letters(ax: Any) -> int:
    """Return how long a name beside axes may be: about a quarter of their width."""
    return int(np.clip(ax.get_window_extent().width / ax.figure.dpi * 72.0 / 16.0, 12, 24))


def legend_letters(ax: Any) -> int:
    """Return how long a name in a legend may be for two columns of them to fit."""
    return int(np.clip((ax.get_window_extent().width / ax.figure.dpi / 2.0 - 0.5) / 0.06, 12, 24))


def wrapped(ax: Any, text: str, size: float = 10.0) -> str:
    """Break a text into lines that fit the width of axes."""
    width = ax.get_window_extent().width / ax.figure.dpi * 72.0
    return textwrap.fill(text, max(20, int(width / (0.52 * size))))


def titled(ax: Any, title: str, under: str = "") -> None:
    """Write a title, and in small letters what has to be said beneath it."""
    ax.set_title(wrapped(ax, title), loc="left", fontsize="medium", pad=6)
    if under:
        lines = wrapped(ax, under, 8.0)
        ax.annotate(
            lines, (0.0, 1.0), (0.0, 4.0), xycoords="axes fraction", textcoords="offset points",
            fontsize="small", color="0.35", va="bottom", linespacing=1.15,
        )  # fmt: skip
        ax.set_title(ax.get_title(loc="left"), loc="left", fontsize="medium", pad=8 + 10.5 * (lines.count("\n") + 1))


def panels(axes: Any, wanted: int, size: tuple[float, float], **options: Any) -> list[Any]:
    """Return axes to draw into: those given, or new ones of a figure of `size` inches."""
    if axes is None:
        import matplotlib.pyplot as plt

        _, grid = plt.subplots(1, wanted, figsize=size, squeeze=False, layout="constrained", **options)
        return list(grid.flat)
    given = list(np.ravel(np.asarray(axes, dtype=object)))
    if len(given) != wanted or not all(hasattr(one, "plot") for one in given):
        raise OptionError(f"this picture needs {wanted} matplotlib axes; given: {count(len(given), 'object')}")
    return given


def plain(ax: Any) -> None:
    """Take away the frame where it borders nothing."""
    ax.spines[["top", "right"]].set_visible(False)


def handle(look: Look, *, line: bool = False, size: float = 5.0) -> Any:
    """Return a legend's sample of a site."""
    from matplotlib.lines import Line2D

    style: Any = look.line if line else "none"
    return Line2D([], [], color=look.color, marker=look.marker, linestyle=style, markersize=size, linewidth=1.4)


def dots(ax: Any, x: FloatArray, y: FloatArray, look: Look, *, crowd: int) -> None:
    """Draw points, smaller and paler the more the whole picture has (`crowd`); many of them as pixels in a PDF."""
    size, alpha = (11, 0.6) if crowd < 1000 else (6, 0.45) if crowd < 5000 else (3, 0.3)
    ax.scatter(
        x, y, s=size, c=look.color, marker=look.marker, linewidths=0, alpha=alpha, zorder=2, rasterized=crowd > 5000
    )


def legend_below(ax: Any, handles: Sequence[Any], names: Sequence[str]) -> Any:
    """Put a legend under the axes' own labels, which have to be there already, in as many columns as fit.

    Names are set afterwards: matplotlib leaves out labels that start with an underscore.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.transforms import ScaledTranslation

    dpi = ax.figure.dpi
    box = ax.get_window_extent()
    ticks = ax.xaxis.get_tightbbox()
    depth = (box.y0 - ticks.y0) / dpi if ticks is not None else 0.4
    bare = all(getattr(one, "get_linestyle", lambda: "-")() == "None" for one in handles)
    length = 1.0 if bare else 2.0
    em = FontProperties(size="small").get_size_in_points() / 72.0
    widest = max(_inches(ax, name) for name in names) + (length + 2.0) * em
    columns = max(1, min(len(names), int(1.14 * box.width / dpi / widest)))
    found = ax.legend(
        handles, [f"{i}" for i in range(len(names))], loc="upper left", bbox_to_anchor=(0.0, 0.0), borderaxespad=0.0,
        bbox_transform=ax.transAxes + ScaledTranslation(0.0, -depth - 0.07, ax.figure.dpi_scale_trans),
        ncols=columns, frameon=False, fontsize="small", handlelength=length, columnspacing=1.2, borderpad=0.0,
    )  # fmt: skip
    for text, name in zip(found.get_texts(), names, strict=True):
        text.set_text(name)
    return found


def _inches(ax: Any, name: str) -> float:
    """Return how wide a name is in small letters."""
    probe = ax.text(0.0, 0.0, name, fontsize="small")
    width = float(probe.get_window_extent().width) / float(ax.figure.dpi)
    probe.remove()
    return width


def spread_out(values: FloatArray, height: float = 0.3) -> FloatArray:
    """Return offsets that keep neighbouring values apart, the same whatever the order of rows (golden section)."""
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return np.asarray(((ranks * 0.6180339887498949) % 1.0 - 0.5) * 2.0 * height)


def evenly(n: int, most: int) -> IntArray:
    """Return at most `most` of n positions, evenly spread."""
    return np.arange(n) if n <= most else np.round(np.linspace(0, n - 1, most)).astype(np.intp)


def check_level(level: object) -> float:
    """Check the coverage of an interval."""
    if isinstance(level, bool) or not isinstance(level, int | float | np.number) or not 0 < level < 1:
        raise OptionError(f"level={level!r}: give a number between 0 and 1, such as 0.95")
    return float(level)
