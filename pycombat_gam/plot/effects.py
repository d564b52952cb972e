"""Site effects of a ComBat: a heat map of all effects, and the shrinkage of each."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycombat_gam.batch.location_scale import LocationScaleFit
from pycombat_gam.errors import OptionError
from pycombat_gam.plot.given import LocationScale, check_effect, location_scale
from pycombat_gam.plot.room import few_ticks, lay_out, legend_below, legend_beside, log_ticks, say, side
from pycombat_gam.plot.style import (
    INK,
    LOOKS,
    PALE,
    Look,
    evenly,
    handle,
    inches,
    legend_letters,
    look_of,
    minus,
    panels,
    plain,
    shown_apart,
    tick_letters,
    titled,
)  # fmt: skip
from pycombat_gam.types import FloatArray

MOST_COLUMNS = 400
"""Most features in a heat map: a page's width shows no more."""
MOST_NAMED = 40
LEAST_POINTS = 5.0
"""Smallest size of the letters that name features."""
SHORTEST = 10
"""Fewest letters of a name that still identifies a feature."""
LINE = 1.2
"""Height of a line of text, in units of its font size."""
MOST_POINTS = 20_000


def site_effects(model: object, *, effect: str = "location", ax: Any = None) -> Any:
    """Draw the site effects that harmonization removes as a heat map, sites × features.

    Location is γ* in units of the pooled sd. Scale is √δ*, the site's sd as a multiple of the pooled sd, on a
    logarithmic scale. Colours are symmetric about no effect. Sites are ordered by their mean over the features, which
    is written at the right (the geometric mean for scale), so that the sign can be read without colour. Features are in
    the order of the fit. Of more than 400 features, 400 are drawn, evenly spread, and the label says so.

    Parameters
    ----------
    model : ComBat
        A fitted model.
    effect : str
        ``"location"`` or ``"scale"``.
    ax : matplotlib axes or None
        New axes by default.

    Returns
    -------
    Axes
        The axes.
    """
    check_effect(effect)
    site_model = location_scale(model, "site_effects")
    fitted = site_model.fitted
    if effect == "scale":
        _check_scaled(site_model, "site_effects")
    location = effect == "location"
    shrunken = fitted.location_scale("site_effects").shrunken
    values = shrunken.gamma if location else 0.5 * np.log2(shrunken.delta)
    means = values.mean(axis=1)
    order = np.argsort(-means, kind="stable")
    V = values.shape[1]
    chosen = evenly(V, MOST_COLUMNS)
    (ax,) = panels(ax, 1, (7.0, float(np.clip(1.7 + 0.19 * len(order), 2.8, 9.5)) + 0.9 * (V <= MOST_NAMED)))
    largest = float(np.abs(values).max()) or 1.0
    image = ax.imshow(
        values[np.ix_(order, chosen)], aspect="auto", cmap="PuOr_r", vmin=-largest, vmax=largest,
        interpolation="nearest",
    )  # fmt: skip
    names = shown_apart(fitted.levels.labels, tick_letters(ax))
    ax.set_yticks(np.arange(len(order)), [names[b] for b in order])
    numbers = _beside(ax, [f"{means[b]:+.2f}" if location else f"×{2 ** means[b]:.2f}" for b in order])
    ax.tick_params(length=0)
    ax.set_xticks([])
    ax.set_xlabel(" ")
    bar = ax.figure.colorbar(image, ax=ax, location="right", fraction=0.05, pad=0.02, aspect=30)
    if location:
        units = ["location γ* (pooled sd)", "γ* (pooled sd)", "γ*"]
    else:
        units = ["sd (× pooled sd)", "× pooled sd"]
        steps = _nice_ratios(largest)
        bar.set_ticks(list(np.log2(steps)), labels=[f"{step:.3g}" for step in steps])
    what = "Location" if location else "Scale"
    titled(ax, f"{what} of each site, as removed", "numbers at the right: mean over features", beyond=True)
    _size_rows(ax, numbers)
    lay_out(ax)
    named = V <= MOST_COLUMNS and _name_columns(ax, fitted.features)
    if named:
        say(ax, "x", "feature")
    else:
        some = f"{len(chosen):,} of {V:,} features, evenly spread" if len(chosen) < V else f"{V:,} features"
        say(ax, "x", f"{some}, in the order of the fit", some)
    lay_out(ax)
    _size_rows(ax, numbers)
    say(bar.ax, "y", *units)
    if location:
        few_ticks(bar.ax, "y")
    return ax


def _size_rows(ax: Any, numbers: list[Any]) -> None:
    """Write sites' names and numbers as large as their rows allow; only every k-th where rows are too low."""
    room = 72.0 * side(ax, "y") / len(numbers)
    size = float(np.clip(room / LINE, LEAST_POINTS, 9.0))
    step = int(np.ceil(LEAST_POINTS * LINE / room - 1e-9)) if room < LEAST_POINTS * LINE else 1
    for row, (name, number) in enumerate(zip(ax.get_yticklabels(), numbers, strict=True)):
        for text in (name, number):
            text.set_fontsize(size)
            text.set_visible(row % step == 0)


def _name_columns(ax: Any, features: tuple[str, ...]) -> bool:
    """Name the features under their columns if there is room: upright, up to a third of the figure's height."""
    width = 72.0 * side(ax, "x") / len(features)
    size = min(width / LINE, 8.0)
    if size < LEAST_POINTS:
        return False
    high = float(ax.figure.bbox.height) / float(ax.figure.dpi) / 3.0
    longest = max(inches(ax, name, size)[0] for name in shown_apart(features, 26))
    letters = int(26 * min(1.0, high / longest))
    if letters < SHORTEST:
        return False
    ax.set_xticks(np.arange(len(features)), shown_apart(features, letters), rotation=90, fontsize=size)
    return True


def shrinkage(model: object, *, effect: str = "location", ax: Any = None) -> Any:
    """Draw site effects after shrinkage against those before; points on the line of identity were not shrunk.

    Small sites are shrunk most. Up to eight sites, the smallest, have their own look and are named with their number of
    rows; the others are pale. Scale is δ, a variance, on logarithmic axes. The reference site, which has no effect, and
    features without an estimate at a site are left out. Of more than 20,000 points, about 20,000 are drawn, from evenly
    spread features, and the title says so.

    Parameters
    ----------
    model : ComBat
        A fitted model with ``eb=True``.
    effect : str
        ``"location"`` or ``"scale"``.
    ax : matplotlib axes or None
        New axes by default.

    Returns
    -------
    Axes
        The axes.
    """
    check_effect(effect)
    shrunk = location_scale(model, "shrinkage")
    fitted = shrunk.fitted
    _check_shrunk(shrunk, "shrinkage")
    if effect == "scale":
        _check_scaled(shrunk, "shrinkage")
    location = effect == "location"
    estimated = fitted.location_scale("shrinkage")
    effects, shrunken = estimated.effects, estimated.shrunken
    hat, star = (effects.gamma, shrunken.gamma) if location else (effects.delta, shrunken.delta)
    sites = [b for b in range(len(fitted.levels)) if b != fitted.reference]
    sizes = fitted.mean.n_rows
    sites.sort(key=lambda b: (sizes[b], b))
    V = len(fitted.features)
    chosen = evenly(V, max(1, MOST_POINTS // len(sites)))
    (ax,) = panels(ax, 1, (5.0, 5.4))
    ends = []
    few = len(sites) <= len(LOOKS)
    marked = sites if few else sites[: len(LOOKS) - 1]
    handles, names = [], []
    texts = shown_apart(fitted.levels.labels, legend_letters(ax) - 4)
    drawn = {b: _points(estimated, b, chosen, location) for b in sites}
    looks = {b: look_of(b) for b in marked}
    for b in reversed(sites):
        some = drawn[b]
        if not some.size:
            continue
        look = looks.get(b, Look(PALE, "o", "-"))
        ax.scatter(
            hat[b, some], star[b, some], s=14 if b in looks else 6, c=look.color, marker=look.marker, linewidths=0,
            alpha=0.7 if b in looks else 0.45, zorder=3 if b in looks else 2, rasterized=V * len(sites) > 5000,
        )  # fmt: skip
        ends += [hat[b, some].min(), hat[b, some].max(), star[b, some].min(), star[b, some].max()]
    for b in marked:
        handles.append(handle(looks[b]))
        names.append(f"{texts[b]} ({sizes[b]:,})")
    if not few:
        handles.append(handle(Look(PALE, "o", "-"), size=3))
        names.append(f"{len(sites) - len(marked)} larger sites")
    low, high = _identity(ax, min(ends), max(ends), location)
    sign = "γ" if location else "δ"
    unit = "pooled sd" if location else "× pooled variance"
    ax.set_xlabel(" ")
    ax.set_ylabel(" ")
    plain(ax)
    under = "in brackets: rows; dashed: no shrinkage"
    if chosen.size < V:
        under += f"; {chosen.size:,} of {V:,} features, evenly spread"
    lay_out(ax)
    titled(ax, f"Shrinkage of {effect}", under, beyond=True)
    _legend(ax, handles, names)
    lay_out(ax)
    if location:
        few_ticks(ax)
    else:
        log_ticks(ax, low, high)
    say(ax, "x", f"own estimate {sign}̂ ({unit})", f"own {sign}̂ ({unit})", f"own estimate {sign}̂", f"own {sign}̂")
    say(ax, "y", f"shrunken {sign}*, likewise", f"shrunken {sign}*")
    return ax


def _beside(ax: Any, texts: list[str]) -> list[Any]:
    """Write a number at the right of each row."""
    return [
        ax.annotate(
            minus(text),
            (1.0, row),
            (4, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            color=INK,
        )
        for row, text in enumerate(texts)
    ]


def _identity(ax: Any, low: float, high: float, location: bool) -> tuple[float, float]:
    """Make the axes a square around the points, logarithmic for scales, and draw its diagonal."""
    if location:
        low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    else:
        low, high = low / 1.15, high * 1.15
        ax.set_xscale("log")
        ax.set_yscale("log")
    ax.plot([low, high], [low, high], color=INK, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    ax.set_xlim(low, high)
    ax.set_ylim(low, high)
    ax.set_box_aspect(1.0)
    return low, high


def _legend(ax: Any, handles: list[Any], names: list[str]) -> None:
    """Put the legend where it leaves more room for the square: below it or at its right."""
    left = []
    for put in (legend_below, legend_beside):
        put(ax, handles, names)
        lay_out(ax)
        left.append(min(side(ax, "x"), side(ax, "y")))
    if left[0] >= left[1]:
        legend_below(ax, handles, names)


def _points(sites: LocationScaleFit, b: int, chosen: Any, location: bool) -> Any:
    """Return the features of a site whose estimate can be shrunk."""
    usable = ~sites.scale.degenerate[chosen]
    if not location:
        usable &= ~sites.effects.location_only[b, chosen]
    return chosen[usable]


def _check_shrunk(model: LocationScale, what: str) -> None:
    if not model.eb:
        raise OptionError(f"{what}: this ComBat was fitted with eb=False, so nothing was shrunk and there is no prior")


def _check_scaled(model: LocationScale, what: str) -> None:
    if model.mean_only:
        raise OptionError(
            f"{what}: this ComBat was fitted with mean_only=True, so it has no scale: use effect='location'"
        )


def _nice_ratios(largest: float) -> FloatArray:
    """Return ratios to mark on a logarithmic colour bar from 2^-largest to 2^largest."""
    for steps in ([1.02, 1.05], [1.1, 1.2], [1.25, 1.5], [1.5, 2.0], [2.0, 4.0], [4.0, 16.0]):
        inside = [step for step in steps if np.log2(step) <= largest]
        if len(inside) == len(steps) and np.log2(steps[-1]) > 0.5 * largest:
            return np.array([*(1 / step for step in reversed(inside)), 1.0, *inside])
    step = 2.0**largest
    return np.array([1 / step, 1.0, step])
