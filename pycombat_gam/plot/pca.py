"""Tables in two dimensions: the first two principal components, by site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.errors import DataError, OptionError
from pycombat_gam.plot.given import sites_of, states
from pycombat_gam.plot.room import few_ticks, fits, lay_out, legend_below, say, side, side_by_side
from pycombat_gam.plot.style import (
    INK,
    LOOKS,
    PALE,
    Look,
    dots,
    handle,
    legend_letters,
    look_of,
    panels,
    plain,
    shown_apart,
    titled,
)
from pycombat_gam.tables.cells import check_cells, suspicious_features
from pycombat_gam.tables.intake import FeatureChoice, intake
from pycombat_gam.types import FloatArray, IntArray
from pycombat_gam.words import count

DENSE = 500
"""Most rows or features for which all components are computed; beyond, only the first two."""


@dataclass(frozen=True, eq=False)
class Components:
    """Scores (n, 2) and shares of variance (2,) of each state; `left_out`: features without variance within sites."""

    scores: dict[str, FloatArray]
    shares: dict[str, FloatArray]
    left_out: tuple[str, ...]


def components(
    before: pd.DataFrame,
    after: pd.DataFrame | None = None,
    *,
    batch: str,
    features: FeatureChoice,
    axes: Any = None,
) -> Any:
    """Draw the first two principal components, a point for each row.

    Features are centred and divided by their pooled sd within sites, both from `before`. The components are from
    `before` too; `after` is drawn on the same two axes with the same limits. Large marks are the sites' means. With
    more than eight sites the rows are pale and the means are named where names fit, the outermost first.

    Parameters
    ----------
    before, after : DataFrame
        Tables with the same rows, without missing cells; `after` may be None.
    batch : str
        Column of site labels, in `before`.
    features : list of str or str
        Names, or a regular expression searched in column names.
    axes : matplotlib axes or None
        One axes, or two with `after`; new ones by default.

    Returns
    -------
    ndarray
        The axes.
    """
    tables = states(before, after)
    labels, codes = sites_of(tables["before"], batch)
    computed = components_of(tables, batch, features, codes, len(labels))
    drawn = panels(axes, len(tables), (7.0, 3.9) if after is not None else (4.6, 4.2))
    everything = np.concatenate(list(computed.scores.values()))
    low, high = everything.min(axis=0), everything.max(axis=0)
    room = 0.06 * np.maximum(high - low, 1e-12)
    few = len(labels) <= len(LOOKS)
    names = shown_apart(labels, legend_letters(drawn[0]))
    titles = []
    for ax, (state, scores) in zip(drawn, computed.scores.items(), strict=True):
        ax.set_xlim(low[0] - room[0], high[0] + room[0])
        ax.set_ylim(low[1] - room[1], high[1] + room[1])
        plain(ax)
        ax.set_xlabel(" ")
        ax.set_ylabel(" ")
        means = np.array([scores[codes == b].mean(axis=0) for b in range(len(labels))])
        if few:
            _by_look(ax, scores, codes, means)
        unnamed = 0 if few else _by_name(ax, scores, means, names)
        under = [] if few else [f"{len(labels):,} site means{f', {unnamed:,} unnamed' if unnamed else ''}"]
        under.append("its own components" if state == "before" else "components of before")
        if computed.left_out:
            under.append(f"{count(len(computed.left_out), 'feature')} without variance within sites left out")
        titles.append((state, "; ".join(under)))
    lay_out(drawn[0])
    for ax, title in zip(drawn, titles, strict=True):
        titled(ax, *title)
    if few:
        marks = [handle(look_of(b), size=6) for b in range(len(labels))]
        legend_below(drawn[0], marks, names, row=side_by_side(drawn))
    lay_out(drawn[0])
    shares = [[f"({100 * share:.1f} %)" for share in shares] for shares in computed.shares.values()]
    roomy = all(
        fits(ax, axis, f"component 1 {texts[0]}") for ax, texts in zip(drawn, shares, strict=True) for axis in "xy"
    )
    name = "component" if roomy else "PC"
    for ax, (first, second) in zip(drawn, shares, strict=True):
        few_ticks(ax)
        whole = f"{name} 1 {first[:-1]} of variance)"
        say(ax, "x", whole if fits(ax, "x", whole) else f"{name} 1 {first}")
        say(ax, "y", f"{name} 2 {second}")
    return np.array(drawn, dtype=object)


def components_of(
    tables: dict[str, pd.DataFrame], batch: str, features: FeatureChoice, codes: IntArray, sites: int
) -> Components:
    """Compute what `components` draws."""
    if features is None:
        raise OptionError("features=None: name the features, or give a regular expression")
    before = tables["before"]
    taken = intake(before, None, reserved=(batch,), choice=features, fitted=None)
    matrices = {"before": _complete(taken.Y, taken.features)}
    if "after" in tables:
        other = intake(tables["after"], None, reserved=(), choice=None, fitted=taken.features)
        matrices["after"] = _complete(other.Y, taken.features)
    Y = matrices["before"]
    if Y.shape[1] < 2:
        raise DataError(f"{count(Y.shape[1], 'feature')} without missing cells: too few for two components")
    if len(Y) <= sites + 1:
        raise DataError(f"{count(len(Y), 'row')} at {count(sites, 'site')}: too few for two components")
    center = Y.mean(axis=0)
    within = Y - center
    for b in range(sites):
        within[codes == b] -= within[codes == b].mean(axis=0)
    sd = np.sqrt((within**2).sum(axis=0) / (len(Y) - sites))
    used = sd > 1e-10 * np.maximum(np.abs(center), sd.max())
    if used.sum() < 2:
        raise DataError(f"{count(int(used.sum()), 'feature')} with variance within sites: too few for two components")
    scaled = {state: ((values - center) / np.where(used, sd, 1.0))[:, used] for state, values in matrices.items()}
    loadings = _loadings(scaled["before"])
    scores = {state: Z @ loadings for state, Z in scaled.items()}
    shares = {
        state: scores[state].var(axis=0) / Z.var(axis=0).sum() if Z.var() else np.zeros(2)
        for state, Z in scaled.items()
    }
    return Components(scores, shares, tuple(np.array(taken.features, dtype=object)[~used]))


def _loadings(Z: FloatArray) -> FloatArray:
    """Return the first two loadings (V, 2) of a centred matrix (n, V), each with its largest entry positive."""
    if min(Z.shape) <= DENSE:
        small = Z.T @ Z if Z.shape[1] <= Z.shape[0] else Z @ Z.T
        vectors = np.linalg.eigh(small)[1][:, [-1, -2]]
    else:
        from scipy.sparse.linalg import svds

        start = np.asarray(np.random.default_rng(0).standard_normal(min(Z.shape)))
        vectors = np.asarray(svds(Z, k=2, v0=start)[2])[[1, 0]].T
    if vectors.shape[0] != Z.shape[1]:
        vectors = Z.T @ vectors
        vectors /= np.linalg.norm(vectors, axis=0)
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), [0, 1]])
    return np.asarray(vectors * signs)


def _complete(Y: np.ndarray, features: tuple[str, ...]) -> FloatArray:
    check_cells(Y, suspicious_features(Y), features, omit_missing=False, may_omit=False)
    return np.asarray(Y, dtype=np.float64)


def _by_look(ax: Any, scores: FloatArray, codes: IntArray, means: FloatArray) -> None:
    large = float(np.clip(40.0 * side(ax, "x"), 35.0, 95.0))
    for b, mean in enumerate(means):
        look, points = look_of(b), scores[codes == b]
        dots(ax, points[:, 0], points[:, 1], look, crowd=len(scores))
        ax.scatter(*mean, s=large, c=look.color, marker=look.marker, edgecolors="white", linewidths=1.3, zorder=4)


def _by_name(ax: Any, scores: FloatArray, means: FloatArray, names: list[str]) -> int:
    """Draw pale rows and named means; return how many names did not fit."""
    dots(ax, scores[:, 0], scores[:, 1], Look(PALE, "o", "-"), crowd=len(scores))
    ax.scatter(means[:, 0], means[:, 1], s=20, c=INK, edgecolors="white", linewidths=0.7, zorder=4)
    lay_out(ax)
    box = ax.get_window_extent()
    points = ax.transData.transform(means)
    unit = ax.figure.dpi / 72.0
    # The layout shrinks the axes a little afterwards, so names are given more room.
    high, wide = 10.5 * unit, 5.2 * unit
    taken = [(x - 3 * unit, y - 3 * unit, x + 3 * unit, y + 3 * unit) for x, y in points]
    middle = points.mean(axis=0)
    unnamed = 0
    for b in np.argsort(-np.hypot(*(points - middle).T), kind="stable"):
        x, y = points[b]
        width = wide * len(names[b]) + 2 * unit
        for align, across, up in (
            ("left", 4, 0), ("right", -4, 0), ("center", 0, 8), ("center", 0, -8),
            ("left", 3, 7), ("right", -3, 7), ("left", 3, -7), ("right", -3, -7),
        ):  # fmt: skip
            left = x + across * unit - {"left": 0.0, "right": width, "center": width / 2}[align]
            low = y + up * unit - high / 2
            spot = (left, low, left + width, low + high)
            inside = spot[0] >= box.x0 and spot[2] <= box.x1 and spot[1] >= box.y0 and spot[3] <= box.y1
            others = taken[:b] + taken[b + 1 :]
            if inside and not any(_overlap(spot, other) for other in others):
                ax.annotate(
                    names[b], means[b], (across, up), textcoords="offset points", ha=align, va="center",
                    fontsize="x-small", color=INK, zorder=5,
                )  # fmt: skip
                taken.append(spot)
                break
        else:
            unnamed += 1
    return unnamed


def _overlap(spot: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return spot[0] < other[2] and other[0] < spot[2] and spot[1] < other[3] and other[1] < spot[3]
