"""The curve that a ComBat preserves: expected values of a feature over a covariate, with the rows around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.batch.effects import estimate_effects
from pycombat_gam.batch.standardize import standardize
from pycombat_gam.combat.fitted import FittedComBat
from pycombat_gam.errors import OptionError
from pycombat_gam.formula import Formula
from pycombat_gam.formula.functions import variables
from pycombat_gam.mean.fit import MeanFit
from pycombat_gam.mean.posterior import inverse_information, residual_df, residual_variance
from pycombat_gam.plot.given import check_frame, combat_of, factors_of, feature_index, numbers
from pycombat_gam.plot.room import few_ticks, lay_out, legend_below, names_of, say
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
    shown,
    shown_apart,
    spread_out,
    titled,
)  # fmt: skip
from pycombat_gam.tables.arguments import check_level
from pycombat_gam.tables.intake import find_column
from pycombat_gam.types import BoolArray, FloatArray
from pycombat_gam.words import count, did_you_mean, listing

POINTS = 200


@dataclass(frozen=True, eq=False)
class Curve:
    """Expected values of one feature over one covariate.

    Attributes
    ----------
    at : (G,) values or levels of the covariate; expected : (G,); half : (G,) half the interval's width, or NaN.
    held : the values at which the other covariates are held.
    rows : (n,) partial residuals: the feature at the held values of the other covariates, site effects included.
    on_curve : (n,) rows with the held levels of the factors that the covariate's effect depends on.
    depends : these factors.
    """

    at: Any
    expected: FloatArray
    half: FloatArray
    held: dict[str, object]
    rows: FloatArray
    on_curve: BoolArray
    depends: tuple[str, ...]


def curve(
    model: object,
    table: pd.DataFrame,
    feature: str,
    covariate: str | None = None,
    *,
    level: float = 0.95,
    ax: Any = None,
) -> Any:
    r"""Draw a feature's fitted curve over a covariate, its interval, and the rows by site.

    The curve is the expected value at the average site, Σ (n_b/n) α_b + x'β. Other covariates are held: numbers at
    their mean over the rows of `table`, factors at their commonest level, random effects at zero. The interval is
    pointwise, uses Student's t with n − edf degrees of freedom, and includes the uncertainty of both the level and β.
    Its variance is φ (1/n + (x − x̄)' H⁻¹ (x − x̄)), with H⁻¹ conditional on the smoothing parameters, as mgcv's `Vp`. A
    feature with missing cells has no interval. Points are partial residuals: each row's value, moved to the held values
    of the other covariates. They include the sites' location and scale.

    Where the effect depends on a factor, as in ``s(age, by=sex)`` and ``age:sex``, each level has its own curve. The
    curve of the held level is drawn, over the rows of that level; for another level, give its rows as `table`.

    Parameters
    ----------
    model : ComBat
        A fitted model.
    table : DataFrame
        Rows with the formula's columns, the site and the feature, as measured.
    feature : str
        Feature of the fit.
    covariate : str or None
        Column of the formula. None: that of the first smooth, else the first column of numbers.
    level : float
        Coverage of the interval.
    ax : matplotlib axes or None
        New axes by default.

    Returns
    -------
    Axes
        The axes.
    """
    fitted = combat_of(model, "curve")
    level = check_level(level)
    check_frame(table, "table")
    k = feature_index(fitted, feature)
    y = numbers(table, feature)
    name = _covariate(fitted, table, covariate)
    drawn = curve_of(fitted, table, y, k, name, level)
    column = find_column(table, fitted.levels.column, "batch")
    codes, unseen = fitted.levels.codes(column)
    labels = fitted.levels.labels + unseen
    (ax,) = panels(ax, 1, (7.0, 4.4))
    numeric = isinstance(drawn.at, np.ndarray)
    x = find_column(table, name, "formula")
    place = x.to_numpy(dtype=np.float64) if numeric else _places(x, drawn.at)
    present = [int(b) for b in np.unique(codes[drawn.on_curve])]
    few = len(present) <= len(LOOKS)
    looks = {b: look_of(b) for b in present} if few else _by_location(ax, fitted, k, present)
    seen = ~np.isnan(y) & drawn.on_curve
    for b in present:
        of_site = (codes == b) & seen
        across = place[of_site] + (0.0 if numeric else spread_out(drawn.rows[of_site], 0.22))
        dots(ax, across, drawn.rows[of_site], looks[b], crowd=len(y))
    sure = not np.isnan(drawn.half).any()
    if numeric:
        _line(ax, drawn, sure)
    else:
        _bars(ax, drawn, sure)
    ax.set_xlabel(" ")
    ax.set_ylabel(" ")
    _legend(ax, labels, looks, sure, level, numeric)
    plain(ax)
    held = [f"{shown(other, 24)} = {_value(at)}" for other, at in drawn.held.items()]
    missing, others = int((np.isnan(y) & drawn.on_curve).sum()), int((~drawn.on_curve).sum())
    under = [f"at {listing(held, 4)}"] if held else []
    if others:
        whose = listing([shown(other, 24) for other in drawn.depends])
        under.append(f"{count(others, 'row')} of other {whose} not shown")
    under += [f"{count(missing, 'missing value')} not shown"] if missing else []
    under += [] if sure else ["no interval, as the fit has missing cells"]
    titled(ax, "Expected value at the average site", "; ".join(under))
    lay_out(ax)
    few_ticks(ax, "xy" if numeric else "y")
    say(ax, "x", *names_of(name))
    say(ax, "y", *names_of(feature))
    return ax


def curve_of(fitted: FittedComBat, table: pd.DataFrame, y: FloatArray, k: int, name: str, level: float) -> Curve:
    """Compute what `curve` draws for feature k with values y (n,)."""
    from scipy.stats import t

    mean = fitted.mean
    factors = factors_of(mean.design.formula, table)
    held = {other: _typical(table, other, other in factors) for other in mean.design.formula.variables if other != name}
    x = find_column(table, name, "formula")
    depends = dependent_factors(mean.design.formula, table, name)
    on_curve = np.ones(len(table), dtype=np.bool_)
    for other in depends:
        on_curve &= (find_column(table, other, "formula") == held[other]).to_numpy(dtype=np.bool_)
    if not on_curve.any():
        # No row may combine the commonest levels of several factors; the levels of the first row do occur together.
        held |= {other: table[other].iloc[0] for other in depends}
        on_curve = np.logical_and.reduce([(table[other] == held[other]).to_numpy(dtype=np.bool_) for other in depends])
    at: Any
    if name in factors:
        kept = list(x.cat.categories) if isinstance(x.dtype, pd.CategoricalDtype) else sorted(x.unique(), key=str)
        at = [level for level in kept if (x[on_curve] == level).any()]
    else:
        at = np.linspace(float(x[on_curve].min()), float(x[on_curve].max()), POINTS)
    grid = table.iloc[np.zeros(len(at), dtype=np.intp)].reset_index(drop=True)
    places = grid.assign(**{name: pd.Series(at, dtype=x.dtype if name in factors else np.float64)})
    X, offset = _held(mean, places, held)
    beta = mean.coefficients[:, k]
    average = float(mean.n_rows / mean.n_rows.sum() @ mean.intercepts[:, k])
    if int(mean.n_observed[:, k].sum()) == int(mean.n_rows.sum()):
        H = inverse_information(mean, np.array([k]))[0]
        away = X - mean.center
        variance = residual_variance(mean)[k] * (1.0 / mean.n_rows.sum() + np.einsum("ij,jk,ik->i", away, H, away))
        half = float(t.ppf(0.5 + level / 2, residual_df(mean)[k])) * np.sqrt(np.maximum(variance, 0.0))
    else:
        half = np.full(len(at), np.nan)
    X_held, offset_held = _held(mean, table, held)
    rows = y - (mean.design.on(table) - X_held) @ beta - (mean.design.offset(table) - offset_held)
    return Curve(at, average + X @ beta + offset, half, held, rows, on_curve, depends)


def dependent_factors(formula: Formula, table: pd.DataFrame, name: str) -> tuple[str, ...]:
    """Return the factors that share a fixed term with a column, so that its effect depends on them."""
    terms = [term.factors for term in formula.parametric]
    terms += [
        (*smooth.args, *([] if smooth.by is None else [smooth.by])) for smooth in formula.smooths if not smooth.random
    ]
    columns = [{column for node in nodes for column in variables(node)} for nodes in terms]
    shared = {column for used in columns if name in used for column in used} - {name}
    return tuple(other for other in formula.variables if other in shared & factors_of(formula, table))


def _held(mean: MeanFit, table: pd.DataFrame, held: dict[str, object]) -> tuple[FloatArray, FloatArray]:
    """Return design columns and offset with other covariates held and random effects at zero."""
    columns = {other: pd.Series([value] * len(table), index=table.index) for other, value in held.items()}
    for other, column in columns.items():
        if isinstance(table[other].dtype, pd.CategoricalDtype):
            columns[other] = column.astype(table[other].dtype)
    table = table.assign(**columns)
    X = mean.design.on(table)
    for _, where in mean.design.random_effects:
        X[:, where] = 0.0
    return X, mean.design.offset(table)


def _covariate(fitted: FittedComBat, table: pd.DataFrame, covariate: str | None) -> str:
    """Return the covariate to draw over: the argument, that of the first smooth, or the first column of numbers."""
    formula = fitted.mean.design.formula
    if covariate is not None:
        if covariate not in formula.variables:
            raise OptionError(
                f"covariate '{covariate}' is not in the formula {formula}; its columns are: "
                f"{listing(formula.variables) or 'none'}{did_you_mean(str(covariate), formula.variables)}"
            )
        return covariate
    smoothed = [name for smooth in formula.smooths for node in smooth.args for name in variables(node)]
    factors = factors_of(formula, table)
    for name in (*smoothed, *formula.variables):
        if name not in factors:
            return name
    if formula.variables:
        return formula.variables[0]
    raise OptionError(f"the formula {formula} has no covariate, so there is no curve to draw")


def _typical(table: pd.DataFrame, name: str, factor: bool) -> object:
    """Return the mean of a column of numbers, or the commonest level of a factor; ties go to the first by name."""
    column = find_column(table, name, "formula")
    if not factor:
        return float(column.mean())
    tally = column.value_counts()
    return min(tally.index[tally == tally.max()], key=str)


def _places(x: pd.Series, levels: list[object]) -> FloatArray:
    where = {level: float(i) for i, level in enumerate(levels)}
    return np.array([where.get(level, np.nan) for level in x])


def _value(at: object) -> str:
    return f"{at:.4g}" if isinstance(at, float) else shown(at, 24)


def _line(ax: Any, drawn: Curve, sure: bool) -> None:
    if sure:
        low, high = drawn.expected - drawn.half, drawn.expected + drawn.half
        ax.fill_between(drawn.at, low, high, color=INK, alpha=0.22, linewidth=0, zorder=3)
    ax.plot(drawn.at, drawn.expected, color="white", linewidth=3.4, zorder=4)
    ax.plot(drawn.at, drawn.expected, color=INK, linewidth=1.8, zorder=5)


def _bars(ax: Any, drawn: Curve, sure: bool) -> None:
    places = np.arange(len(drawn.at))
    ax.errorbar(
        places, drawn.expected, yerr=drawn.half if sure else None, fmt="_", color=INK, markersize=26, elinewidth=1.8,
        markeredgewidth=2.2, capsize=5, zorder=5,
    )  # fmt: skip
    ax.set_xticks(places, shown_apart(drawn.at))
    ax.set_xlim(-0.6, len(drawn.at) - 0.4)


def _by_location(ax: Any, fitted: FittedComBat, k: int, present: list[int]) -> dict[int, Look]:
    """Colour sites by their location, dark for low, with a colour bar: too many sites to tell apart otherwise."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize, to_hex

    moments, reference = fitted.mean.moments, fitted.reference
    scale_of = standardize(moments, reference)
    gamma = estimate_effects(moments, scale_of, mean_only=True, reference=reference).gamma[:, k]
    scale = ScalarMappable(Normalize(float(gamma.min()), float(gamma.max()) + 1e-12), "viridis")
    bar = ax.figure.colorbar(scale, ax=ax, fraction=0.04, pad=0.02, aspect=30)
    bar.set_label("site's location γ̂ (pooled sd)")
    bar.ax.yaxis.label.set_fontsize("small")
    bar.outline.set_visible(False)
    unknown = Look(PALE, "x", "-")
    return {b: Look(to_hex(tuple(scale.to_rgba(gamma[b]))), "o", "-") if b < gamma.size else unknown for b in present}


def _legend(ax: Any, labels: tuple[str, ...], looks: dict[int, Look], sure: bool, level: float, numeric: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Line2D([], [], color=INK, linewidth=1.8)]
    names = ["fitted"]
    if sure:
        handles.append(Patch(color=INK, alpha=0.22, linewidth=0) if numeric else Line2D([], [], color=INK, marker="|"))
        names.append(f"{100 * level:.4g} % interval")
    if len(looks) <= len(LOOKS):
        texts = shown_apart(labels, legend_letters(ax))
        handles += [handle(look) for look in looks.values()]
        names += [texts[b] for b in looks]
    else:
        handles.append(handle(Look(PALE, "o", "-")))
        names.append(f"rows of {len(looks)} sites")
    legend_below(ax, handles, names)
