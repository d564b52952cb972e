"""Pictures of the smooths of a fitted additive model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pycombat_gam.errors import OptionError, PcgError
from pycombat_gam.formula.columns import Factor
from pycombat_gam.smooth.assemble import Smooth
from pycombat_gam.types import FloatArray
from pycombat_gam.words import did_you_mean, listing

if TYPE_CHECKING:
    from pycombat_gam.additive.model import GamFit

BLUE, ORANGE = "#0072B2", "#D55E00"
"""Two colours of Okabe and Ito's palette: distinct to colour-blind readers, and in print."""


def plot_smooths(
    fit: GamFit, terms: list[str] | str | None, *, residuals: bool, level: float, points: int, axes: Any
) -> Any:
    """Draw smooths; see `GamFit.plot`."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:  # pragma: no cover - matplotlib is there where tests run
        raise PcgError("plot() needs matplotlib: pip install matplotlib") from None
    if not 0 < level < 1:
        raise OptionError(f"level={level!r}: give the coverage of the band, as 0.95")
    chosen = _choose(fit, terms)
    if axes is None:
        columns = min(len(chosen), 3)
        rows = -(-len(chosen) // columns)
        _, grid = plt.subplots(rows, columns, figsize=(4.2 * columns, 3.4 * rows), squeeze=False, layout="constrained")
        panels = list(grid.flat)
        for unused in panels[len(chosen) :]:
            unused.remove()
        panels = panels[: len(chosen)]
    else:
        panels = list(np.ravel(axes))
        if len(panels) < len(chosen):
            raise OptionError(f"{len(chosen)} smooths need as many axes; {len(panels)} given")
    for smooth, panel in zip(chosen, panels, strict=False):
        _draw(fit, smooth, panel, residuals=residuals, level=level, points=points)
    _share_scales(chosen, panels)
    return np.array(panels, dtype=object)


def _share_scales(chosen: list[Smooth], panels: list[Any]) -> None:
    """Give the panels of one smooth by the levels of a factor the same scales: they are there to be compared."""
    families: dict[str, list[Any]] = {}
    for smooth, panel in zip(chosen, panels, strict=False):
        if smooth.by_level is not None:
            families.setdefault(smooth.term.label, []).append(panel)
    for family in families.values():
        for axis in ("x", "y"):
            ends = [getattr(panel, f"get_{axis}lim")() for panel in family]
            for panel in family:
                getattr(panel, f"set_{axis}lim")(min(low for low, _ in ends), max(high for _, high in ends))


def _choose(fit: GamFit, terms: list[str] | str | None) -> list[Smooth]:
    smooths = {smooth.label: smooth for smooth in fit.design.smooth.smooths}
    if not smooths:
        raise OptionError(f"the model {fit.formula} has no smooth to plot")
    wanted = list(smooths) if terms is None else [terms] if isinstance(terms, str) else list(terms)
    for label in wanted:
        if label not in smooths:
            raise OptionError(
                f"there is no smooth {label!r}; the smooths are {listing(smooths)}{did_you_mean(label, list(smooths))}"
            )
    return [smooths[label] for label in wanted]


def _draw(fit: GamFit, smooth: Smooth, panel: Any, *, residuals: bool, level: float, points: int) -> None:
    values = fit.design.smooth.values(fit._shared.table)
    inside = list(smooth.basis.variables)
    numeric = [label for label in inside if not isinstance(values[label], Factor)]
    factors = [label for label in inside if isinstance(values[label], Factor)]
    edf = fit.edf[fit.design.term_slices[smooth.label]].sum()
    title = f"{smooth.label}, edf {edf:.2f}"
    if smooth.random and not numeric:
        _quantiles(fit, smooth, panel)
    elif len(numeric) == 1:
        _curves(fit, smooth, panel, values, numeric[0], factors, residuals=residuals, level=level, points=points)
    elif len(numeric) == 2 and not factors:
        _surface(fit, smooth, panel, values, numeric, points=min(points, 60))
    else:
        panel.text(0.5, 0.5, f"no picture of {len(inside)} variables", ha="center", transform=panel.transAxes)
    panel.set_title(title)


def _at(smooth: Smooth, values: Any, fixed: dict[str, Any], rows: int) -> Any:
    """Values of a smooth's variables on a grid: by-variables at one, or at the smooth's own level."""
    at = dict(fixed)
    if smooth.by is not None:
        by = values[smooth.by]
        if isinstance(by, Factor):
            code = by.levels.index(smooth.by_level or by.levels[0])
            at[smooth.by] = Factor(np.full(rows, code, dtype=np.intp), by.levels)
        else:
            at.setdefault(smooth.by, np.ones(rows))
    return at


def _effect(fit: GamFit, smooth: Smooth, at: Any) -> tuple[FloatArray, FloatArray]:
    """The smooth and its standard error at values of its variables."""
    columns = fit.design.term_slices[smooth.label]
    X = smooth.on(at)
    vcov = fit.vcov.to_numpy()[columns, columns]
    effect = X @ fit.coef.to_numpy()[columns]
    return effect, np.sqrt(np.maximum(np.einsum("ij,ij->i", X @ vcov, X), 0.0))


def _curves(
    fit: GamFit,
    smooth: Smooth,
    panel: Any,
    values: Any,
    label: str,
    factors: list[str],
    *,
    residuals: bool,
    level: float,
    points: int,
) -> None:
    from scipy.stats import norm

    x, rows = values[label], _rows_of(smooth, values)
    grid = np.linspace(x[rows].min(), x[rows].max(), points)
    width = float(norm.ppf(0.5 + level / 2))
    if residuals and not factors:
        columns = fit.design.term_slices[smooth.label]
        partial = fit._shared.X[:, columns] @ fit.coef.to_numpy()[columns] + fit.residuals.to_numpy()
        panel.plot(x[rows], partial[rows], ".", color="0.6", markersize=3, zorder=1)
    combinations = [()] if not factors else [(code,) for code in range(len(values[factors[0]].levels))]
    for combination in combinations:
        at: dict[str, Any] = {label: grid}
        for name, code in zip(factors, combination, strict=False):
            at[name] = Factor(np.full(points, code, dtype=np.intp), values[name].levels)
        effect, error = _effect(fit, smooth, _at(smooth, values, at, points))
        panel.plot(grid, effect, color=BLUE, linewidth=1.8 if not factors else 0.9, zorder=3)
        if not factors:
            panel.fill_between(grid, effect - width * error, effect + width * error, color=BLUE, alpha=0.2, zorder=2)
    # In the panel's own units at its bottom, wherever the scale ends.
    panel.plot(
        x[rows], np.zeros(x[rows].size), "|", color="0.4", markersize=6, zorder=1, transform=panel.get_xaxis_transform()
    )
    panel.set_xlabel(label)
    panel.set_ylabel(f"effect on {fit.response}")


def _rows_of(smooth: Smooth, values: Any) -> Any:
    """The rows on which a smooth by a factor acts."""
    by = None if smooth.by is None else values[smooth.by]
    if isinstance(by, Factor):
        return by.codes == by.levels.index(smooth.by_level or by.levels[0])
    return slice(None)


def _surface(fit: GamFit, smooth: Smooth, panel: Any, values: Any, labels: list[str], *, points: int) -> None:
    x, z = (values[label] for label in labels)
    xs, zs = np.linspace(x.min(), x.max(), points), np.linspace(z.min(), z.max(), points)
    left, right = (side.ravel() for side in np.meshgrid(xs, zs))
    effect, _ = _effect(fit, smooth, _at(smooth, values, {labels[0]: left, labels[1]: right}, left.size))
    # Far from any row a surface is extrapolation: mgcv's too.far rule, a tenth of the unit square.
    distance = np.full(left.size, np.inf)
    scaled = [(v - v.min()) / max(float(np.ptp(v)), np.finfo(float).tiny) for v in (x, z)]
    for i in range(left.size):
        a = (left[i] - x.min()) / max(float(np.ptp(x)), np.finfo(float).tiny)
        b = (right[i] - z.min()) / max(float(np.ptp(z)), np.finfo(float).tiny)
        distance[i] = np.min((scaled[0] - a) ** 2 + (scaled[1] - b) ** 2)
    effect = np.where(distance > 0.01, np.nan, effect).reshape(points, points)
    filled = panel.contourf(xs, zs, effect, levels=14, cmap="cividis")
    panel.contour(xs, zs, effect, levels=filled.levels, colors="white", linewidths=0.4)
    panel.figure.colorbar(filled, ax=panel, label=f"effect on {fit.response}")
    panel.plot(x, z, ".", color=ORANGE, markersize=1.5, alpha=0.5)
    panel.set_xlabel(labels[0])
    panel.set_ylabel(labels[1])


def _quantiles(fit: GamFit, smooth: Smooth, panel: Any) -> None:
    """Random effects against Gaussian quantiles."""
    from scipy.stats import norm

    effects = np.sort(fit.coef.to_numpy()[fit.design.term_slices[smooth.label]])
    ranks = (np.arange(effects.size) + 0.5) / effects.size
    at = pd.Series(norm.ppf(ranks))
    panel.plot(at, effects, "o", color=BLUE, markersize=3)
    panel.axline((0.0, float(effects.mean())), slope=float(effects.std()) or 1e-300, color="0.5", linewidth=0.8)
    panel.set_xlabel("Gaussian quantiles")
    panel.set_ylabel("effects")
