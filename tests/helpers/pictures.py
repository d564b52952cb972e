"""Reading pictures in tests: the words that a figure shows, its points, its lines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text


@contextmanager
def agg() -> Iterator[None]:
    """Draw without a screen, close what was drawn, and see that no setting of matplotlib changed."""
    before_backend = mpl.get_backend()
    plt.switch_backend("agg")
    settings = dict(mpl.rcParams)
    try:
        yield
    finally:
        changed = {name for name, value in mpl.rcParams.items() if settings[name] != value}
        plt.close("all")
        plt.switch_backend(before_backend)
    assert not changed


def new_axes(count: int = 1, width: float = 7.0, height: float = 4.0) -> Any:
    """Axes of a figure that pyplot doesn't know."""
    grid = Figure(figsize=(width, height), layout="constrained").subplots(1, count, squeeze=False)
    return grid[0] if count > 1 else grid[0, 0]


def words(figure: Any) -> list[str]:
    """Every text of a figure that is seen, as it is seen: math is marked."""
    figure.draw_without_rendering()
    found = []
    for text in figure.findobj(Text):
        if text.get_visible() and text.get_text():
            seen, math = text._preprocess_math(text.get_text())
            found.append(f"MATH {seen}" if math else seen)
    return found


def points(ax: Any) -> np.ndarray:
    """The offsets of all scatters of axes, (n, 2)."""
    return np.vstack([one.get_offsets() for one in ax.collections if isinstance(one, PathCollection)])


def by_row(values: np.ndarray) -> np.ndarray:
    """Rows in order of their first column, then the second."""
    return values[np.lexsort(values.T[::-1])]


def legend(ax: Any) -> list[str]:
    """Words of the legend."""
    return [text.get_text() for text in ax.get_legend().get_texts()]


def titles(ax: Any) -> str:
    """Title and what is written beneath it."""
    under = [text.get_text().replace("\n", " ") for text in ax.texts if text.xycoords == "axes fraction"]
    return " | ".join([ax.get_title(loc="left").replace("\n", " "), *under])
