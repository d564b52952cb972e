"""The style of all pictures: colours and shapes of sites, names as text, axes."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pycombat_gam.errors import OptionError
from pycombat_gam.types import FloatArray, IntArray
from pycombat_gam.words import count

FEWEST = 10
"""Fewest letters in a line of a title."""
INK, PALE = "0.15", "0.62"
"""Dark for summaries, pale for points."""


class Look(NamedTuple):
    """The colour, marker and line of one site."""

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
"""Okabe and Ito's colours, with grey for their yellow, which is faint on white: as many as can be told apart."""


def look_of(b: int) -> Look:
    """Return the look of site number `b`, set by its place among all sites of the model or table.

    A site looks the same in all pictures. Sites that share a colour, when there are many, differ in shape.
    """
    look, turn = LOOKS[b % len(LOOKS)], b // len(LOOKS)
    return look._replace(marker=LOOKS[(b + turn) % len(LOOKS)].marker, line=LOOKS[(b + turn) % len(LOOKS)].line)


def shown(name: object, limit: int = 60) -> str:
    r"""Return a name escaped so that matplotlib shows it verbatim; a long name loses its middle.

    >>> print(shown("$a$"), shown("two" + chr(10) + "lines"), shown("abcdefghij", 7))
    \$a\$ two\nlines abc…hij
    """
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(name))
    if len(text) > limit:
        tail = (limit - 1) // 2
        text = f"{text[: limit - 1 - tail]}…{text[-tail:]}"
    return text.replace("$", r"\$") or "''"


def shown_apart(names: Sequence[object], limit: int = 18) -> list[str]:
    """Return names as `shown`, numbered where shortening makes two of them equal."""
    texts = [shown(name, limit) for name in names]
    times, seen = Counter(texts), Counter[str]()
    for at, text in enumerate(texts):
        seen[text] += 1
        if times[text] > 1:
            texts[at] = f"{text} ({seen[text]})"
    return texts


def minus(number: str) -> str:
    """Return a number's text with a typographic minus sign; zero has no sign.

    >>> minus(f"{-0.5:+.2f}"), minus("1e-05"), minus(f"{-0.001:+.2f}")
    ('−0.50', '1e-05', '0.00')
    """
    if not number.strip("+-0."):
        return number.lstrip("+-")
    return "−" + number[1:] if number.startswith("-") else number


def tick_letters(ax: Any) -> int:
    """Return the most letters of a name beside axes: about a quarter of their width."""
    return int(np.clip(ax.get_window_extent().width / ax.figure.dpi * 72.0 / 16.0, 12, 24))


def legend_letters(ax: Any) -> int:
    """Return the most letters of a name in a legend of two columns."""
    return int(np.clip((ax.get_window_extent().width / ax.figure.dpi / 2.0 - 0.5) / 0.06, 12, 24))


def inches(ax: Any, text: str, size: float | str = "medium") -> tuple[float, float]:
    """Return the width and height of a text in letters of `size`, in inches."""
    probe = ax.text(0.0, 0.0, text, fontsize=size)
    box = probe.get_window_extent()
    probe.remove()
    return float(box.width) / float(ax.figure.dpi), float(box.height) / float(ax.figure.dpi)


def wrapped(ax: Any, text: str, size: float = 10.0, *, beyond: bool = False) -> str:
    """Break a text into lines as wide as axes; `beyond`: and as what is at their right in the grid."""
    width = ax.get_window_extent().width / ax.figure.dpi * 72.0
    place = ax.get_subplotspec() if beyond else None
    if place is not None:
        end = ax.figure.bbox.x0 + ax.figure.bbox.width * place.colspan.stop / place.get_gridspec().ncols
        width = (end - ax.get_window_extent().x0) / ax.figure.dpi * 72.0
    letters = int(width / (0.4 * size))
    lines = textwrap.wrap(text, max(letters, FEWEST))
    while letters > FEWEST and 72.0 * max(inches(ax, line, size)[0] for line in lines) > width:
        letters -= 1
        lines = textwrap.wrap(text, letters)
    return "\n".join(lines)


def titled(ax: Any, title: str, under: str = "", *, beyond: bool = False) -> None:
    """Write a title, and a subtitle in small letters.

    Parameters
    ----------
    beyond : extend it above what is at the right of the axes, such as a colour bar.
    """
    ax.set_title(wrapped(ax, title, beyond=beyond), loc="left", fontsize="medium", pad=6)
    if under:
        lines = wrapped(ax, under, 8.4, beyond=beyond)
        small = ax.annotate(
            lines, (0.0, 1.0), (0.0, 4.0), xycoords="axes fraction", textcoords="offset points",
            fontsize="small", color="0.35", va="bottom", linespacing=1.15,
        )  # fmt: skip
        ax.set_title(ax.get_title(loc="left"), loc="left", fontsize="medium", pad=8 + 10.5 * (lines.count("\n") + 1))
        # The title reserves its height; its width must not shrink the axes.
        small.set_in_layout(False)


def panels(axes: Any, wanted: int, size: tuple[float, float], **options: Any) -> list[Any]:
    """Return the axes to draw into: the argument, or those of a new figure of `size` inches."""
    if axes is None:
        import matplotlib.pyplot as plt

        _, grid = plt.subplots(1, wanted, figsize=size, squeeze=False, layout="constrained", **options)
        return list(grid.flat)
    drawn = list(np.ravel(np.asarray(axes, dtype=object)))
    if len(drawn) != wanted or not all(hasattr(ax, "plot") for ax in drawn):
        raise OptionError(f"this picture needs {wanted} matplotlib axes; given: {count(len(drawn), 'object')}")
    return drawn


def plain(ax: Any) -> None:
    """Remove the top and right frame."""
    ax.spines[["top", "right"]].set_visible(False)


def handle(look: Look, *, line: bool = False, size: float = 5.0) -> Any:
    """Return a site's legend handle."""
    from matplotlib.lines import Line2D

    style: Any = look.line if line else "none"
    return Line2D([], [], color=look.color, marker=look.marker, linestyle=style, markersize=size, linewidth=1.4)


def dots(ax: Any, x: FloatArray, y: FloatArray, look: Look, *, crowd: int) -> None:
    """Draw points, smaller and paler the more the picture has (`crowd`); more than 5,000 are rasterized."""
    size, alpha = (11, 0.6) if crowd < 1000 else (6, 0.45) if crowd < 5000 else (3, 0.3)
    ax.scatter(
        x, y, s=size, c=look.color, marker=look.marker, linewidths=0, alpha=alpha, zorder=2, rasterized=crowd > 5000
    )


def spread_out(values: FloatArray, height: float = 0.3) -> FloatArray:
    """Return offsets that separate neighbouring values, whatever the order of rows (golden section)."""
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return np.asarray(((ranks * 0.6180339887498949) % 1.0 - 0.5) * 2.0 * height)


def evenly(n: int, most: int) -> IntArray:
    """Return at most `most` of n positions, evenly spread."""
    return np.arange(n) if n <= most else np.round(np.linspace(0, n - 1, most)).astype(np.intp)
