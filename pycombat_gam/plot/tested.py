"""What tests of a term found: a volcano of many features, a forest of few."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.errors import OptionError
from pycombat_gam.infer.effects import FALSE_DISCOVERIES, Effects
from pycombat_gam.plot.room import few_ticks, lay_out, names_of, say
from pycombat_gam.plot.style import INK, LOOKS, PALE, evenly, panels, plain, shown, shown_apart, tick_letters, titled
from pycombat_gam.tables.remedies import kind_of
from pycombat_gam.types import FloatArray
from pycombat_gam.words import count, did_you_mean, listing, percent

MOST_POINTS = 20_000
NAMED = 6
"""Features that a volcano names: those with the smallest p."""
ALIKE = 100.0
"""Standard errors that differ by a larger factor are of features in different units."""
MOST_ROWS = 60
"""Most features in a forest: more names cannot be read."""
FOUND, OPEN = LOOKS[1].color, "white"


def volcano(effects: Effects, term: str | None = None, *, ax: Any = None) -> Any:
    """Draw p against the effect of a term, a point for each feature.

    Features with an adjusted p below 5 % are coloured, and the six smallest p are named. The effect is the estimate
    where the features share a unit. Where their standard errors differ more than a hundredfold, or the term has several
    degrees of freedom, it is the partial correlation. Of more than 20,000 features, all with an adjusted p below 5 %
    and 20,000 of the others are drawn.

    Parameters
    ----------
    effects : Effects
        What `ComBat.test`, `ComBat.contrast` or `later_test` returns.
    term : str or None
        Which term; not needed where there is one.
    ax : matplotlib axes or None
        New axes by default.

    Returns
    -------
    Axes
        The axes.

    Raises
    ------
    OptionError
        For anything but effects, an unknown term, and a term that was tested in no feature.
    """
    label, rows = _rows_of(effects, term, "volcano")
    sizes = _Sizes.of(rows)
    (ax,) = panels(ax, 1, (5.2, 3.9))
    p = rows["p"].to_numpy(dtype=np.float64)
    height = -np.log10(np.maximum(p, np.finfo(np.float64).tiny))
    discovered = rows["p_adjusted"].to_numpy() < FALSE_DISCOVERIES
    others = np.flatnonzero(~discovered)
    drawn = others[evenly(others.size, MOST_POINTS)]
    for some, color, order in ((drawn, PALE, 2), (np.flatnonzero(discovered), FOUND, 3)):
        ax.scatter(
            sizes.effect[some], height[some], s=14 if len(rows) < 1000 else 5, c=color, linewidths=0, alpha=0.75,
            zorder=order, rasterized=len(rows) > 5000,
        )  # fmt: skip
    ax.set_ylim(0.0, 1.12 * float(height.max()) + 0.05)
    ax.axvline(0.0, color=PALE, linewidth=0.8, zorder=1)
    if discovered.any():
        ax.axhline(float(height[discovered].min()), color=PALE, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    plain(ax)
    ax.set_xlabel(" ")
    ax.set_ylabel(" ")
    lay_out(ax)
    rate = f"at a false discovery rate of {percent(FALSE_DISCOVERIES)}"
    under = f"{int(discovered.sum()):,} of {count(len(rows), 'feature')} {rate}"
    if drawn.size < others.size:
        under += f"; {drawn.size:,} of the others drawn"
    titled(ax, shown(label), under)
    lay_out(ax)
    few_ticks(ax)
    _name_points(ax, rows["feature"].tolist(), sizes.effect, height, np.argsort(p, kind="stable")[:NAMED])
    say(ax, "x", *sizes.label)
    say(ax, "y", "−log₁₀ p", "−log p")
    return ax


def forest(effects: Effects, term: str | None = None, *, ax: Any = None) -> Any:
    """Draw the effect of a term in each feature with its interval, the largest at the top.

    Features with an adjusted p below 5 % are filled. The effect is as in `volcano`.

    Parameters
    ----------
    effects : Effects
        As in `volcano`; at most 60 features.
    term : str or None
        Which term, of one degree of freedom; not needed where there is one.
    ax : matplotlib axes or None
        New axes by default.

    Returns
    -------
    Axes
        The axes.

    Raises
    ------
    OptionError
        As in `volcano`, for a term of several degrees of freedom, and for more features.
    """
    label, rows = _rows_of(effects, term, "forest")
    if rows["se"].isna().any():
        raise OptionError(f"forest: '{label}' has several degrees of freedom, so no single effect: use volcano")
    if len(rows) > MOST_ROWS:
        raise OptionError(f"forest: {len(rows):,} features are too many to be named, {MOST_ROWS} can: use volcano")
    sizes = _Sizes.of(rows)
    order = np.argsort(sizes.effect, kind="stable")
    (ax,) = panels(ax, 1, (5.2, 1.3 + 0.2 * len(rows)))
    for at, k in enumerate(order.tolist()):
        discovered = bool(rows["p_adjusted"].iloc[k] < FALSE_DISCOVERIES)
        color = FOUND if discovered else INK
        ax.plot([sizes.lower[k], sizes.upper[k]], [at, at], color=color, linewidth=1.3, solid_capstyle="butt")
        ax.plot(
            [sizes.effect[k]], [at], "o", markersize=4.5, markeredgecolor=color,
            markerfacecolor=color if discovered else OPEN,
        )  # fmt: skip
    ax.axvline(0.0, color=PALE, linewidth=0.8, zorder=1)
    ax.set_ylim(-0.7, len(rows) - 0.3)
    names = shown_apart(rows["feature"].tolist(), tick_letters(ax) + 4)
    ax.set_yticks(np.arange(len(rows)), [names[k] for k in order.tolist()], fontsize="small")
    ax.tick_params(axis="y", length=0)
    plain(ax)
    ax.set_xlabel(" ")
    lay_out(ax)
    titled(ax, shown(label), f"filled: false discovery rate {percent(FALSE_DISCOVERIES)}")
    lay_out(ax)
    few_ticks(ax, "x")
    interval = percent(effects.level)
    say(ax, "x", *(f"{text}, {interval} interval" for text in sizes.label), *sizes.label)
    return ax


@dataclass(frozen=True, eq=False)
class _Sizes:
    """Effects and their intervals, (k,) each, on a scale that the features share; `label`: ever shorter."""

    effect: FloatArray
    lower: FloatArray
    upper: FloatArray
    label: tuple[str, ...]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> _Sizes:
        """Take the estimates where features have one unit, else partial correlations."""
        estimate, lower, upper, se, statistic, df, df_residual = (
            rows[name].to_numpy(dtype=np.float64)
            for name in ("estimate", "lower", "upper", "se", "statistic", "df", "df_residual")
        )
        if np.isnan(se).any():
            F = np.where(np.isnan(se), statistic * df, statistic**2)
            return cls(np.sqrt(F / (F + df_residual)), lower, upper, ("partial correlation", "partial r"))
        if se.max() <= ALIKE * se.min():
            return cls(estimate, lower, upper, ("estimate (unit of the features)", "estimate"))

        def partial(of: FloatArray) -> FloatArray:
            t = of / se
            return np.asarray(t / np.sqrt(t**2 + df_residual))

        return cls(partial(estimate), partial(lower), partial(upper), ("partial correlation", "partial r"))


def _rows_of(effects: object, term: str | None, picture: str) -> tuple[str, pd.DataFrame]:
    """Return the rows of a term that were tested."""
    if not isinstance(effects, Effects):
        raise OptionError(f"{picture} needs the effects that model.test() returns; given: {kind_of(effects)}")
    terms = effects.table["term"].unique().tolist()
    if term is None and len(terms) > 1:
        raise OptionError(f"{picture} draws one term: give term=…, one of {listing(terms)}")
    label = terms[0] if term is None else term
    if label not in terms:
        raise OptionError(f"term={term!r} was not tested{did_you_mean(str(term), terms)}; these were: {listing(terms)}")
    rows = effects.table[(effects.table["term"] == label) & effects.table["p"].notna()]
    if not len(rows):
        raise OptionError(f"{picture}: '{label}' was tested in no feature; the notes say why")
    return str(label), rows


def _name_points(ax: Any, features: list[Any], x: FloatArray, y: FloatArray, some: np.ndarray) -> None:
    """Name points on the side that has room, where the names do not cover each other."""
    taken: list[Any] = []
    left, right = ax.get_xlim()
    inside = ax.get_window_extent()
    for k in some.tolist():
        to_right = x[k] < 0.5 * (left + right)
        for name in names_of(features[k]):
            text = ax.annotate(
                name, (x[k], y[k]), (4 if to_right else -4, 0), textcoords="offset points", fontsize="x-small",
                ha="left" if to_right else "right", va="center", color=INK, zorder=4,
            )  # fmt: skip
            text.set_in_layout(False)
            box = text.get_window_extent()
            if box.x0 >= inside.x0 and box.x1 <= inside.x1 and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()
