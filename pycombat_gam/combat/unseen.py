r"""Sites that were not in the fit: location and scale estimated against the frozen mean model and pooled variance.

With z = (Y − f)/σ̂ on the new site's rows, f and σ̂ from the fit: γ̂ = mean(z), δ̂ = var(z) (n − 1), priors over the
new site's own features, shrunk as at fit. The outputs for known sites don't change.
(ComBatFamily 0.2.1, `predict.comfam` on a new batch; it always shrinks, we follow the fit's `eb`.)

Where f has a random intercept b_g of groups, σ̂ is what varies within groups. The site's location and its groups'
intercepts are then estimated together, with the fit's ratio λ_k of the two variances, and b̂ joins f:

    minimise Σ_ij (r_gj − γ − b_g)² + Σ_g λ_g b_g²      b̂_g = m_g/(m_g + λ_g) (r̄_g − γ̂),  γ̂ = Σ w_g r̄_g / Σ w_g

with r = Y − f, m_g rows of group g, w_g = m_g λ_g/(m_g + λ_g): the mixed model equations (Henderson 1975), solved. A
group that the fit did not know has λ_g = λ_k; one with n_g rows in the fit starts at its b̂ there, λ_g = λ_k + n_g.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pycombat_gam.batch.model import BatchFit, MeanRows, Residuals
from pycombat_gam.batch.moments import Moments
from pycombat_gam.combat.fitted import FittedComBat
from pycombat_gam.combat.new_groups import variance_ratio
from pycombat_gam.errors import DataError
from pycombat_gam.formula.columns import Factor
from pycombat_gam.formula.variables import levels_in
from pycombat_gam.mean.groups import SMALLEST_SD, rounding_unit
from pycombat_gam.penalized.sufficient import blocks, is_constant, last_digit
from pycombat_gam.smooth.assemble import Smooth
from pycombat_gam.types import BoolArray, FloatArray, IntArray
from pycombat_gam.words import count, listing

LEAST = 1e-12
"""A ratio of variances that is zero for practical purposes: effects of groups are not shrunk."""


@dataclass(frozen=True, eq=False)
class SiteGroups:
    """Groups with a random intercept, in the rows of one site.

    Attributes
    ----------
    Z : (n, G) indicators of the site's rows, over all rows.
    ratio : (G, V) λ_g of every feature.
    name : label of the random intercept.
    """

    Z: FloatArray
    ratio: FloatArray
    name: str


@dataclass(frozen=True, eq=False)
class Extended:
    """A fit that also knows further sites, on the rows given.

    Attributes
    ----------
    batch : the batch model, their effects included; mean : the mean model, their groups' random intercepts included.
    notes : what was estimated, and from how many rows.
    """

    batch: BatchFit
    mean: MeanRows
    notes: list[str]


def extend_to(
    fit: FittedComBat,
    mean: MeanRows,
    Y: np.ndarray,
    table: pd.DataFrame,
    codes: IntArray,
    unseen: tuple[str, ...],
) -> Extended:
    """Extend a fit by the sites `unseen`, whose codes follow those of the known ones.

    Parameters
    ----------
    fit : the frozen model; mean : its mean model on the rows given.
    Y : (n, V) features; table : (n rows) covariates; codes : (n,) batch of each row.

    Raises
    ------
    DataError
        For random effects that cannot be separated from a new site's effects.
    """
    notes: list[str] = []
    columns, coefficients, parts = [mean.X], [mean.coefficients], []
    grouped = _grouping(fit, table, codes, unseen)
    for i, label in enumerate(unseen):
        rows = np.flatnonzero(codes == len(fit.levels) + i)
        groups = None if grouped is None else _groups_of(fit, grouped, table, codes, rows, label)
        intercepts, moments = _site_moments(fit.batch.level, mean, Y, rows, groups)
        parts.append(moments)
        known = fit.levels.spelled_like(label)
        alike = f" (spelled like '{known}': is it one site?)" if known else ""
        note = f"batch '{label}' was not in the fit{alike}: estimated from its {count(rows.size, 'row')}"
        if groups is not None:
            columns.append(groups.Z)
            coefficients.append(intercepts)
            note += f", with {groups.name} for its {count(len(intercepts), 'group')}"
        notes.append(note)
    together = Moments(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])})
    new = codes >= len(fit.levels)
    residuals = None
    if fit.batch.model.needs == "residuals":
        residuals = Residuals(Y[new], fit.mean.rows(table[new]), codes[new] - len(fit.levels))
    batch = fit.batch.extend(together, unseen, residuals)
    beta = np.concatenate(coefficients)
    center = np.concatenate([mean.center, np.zeros(len(beta) - mean.center.size)])
    wider = replace(mean, X=np.hstack(columns), center=center, coefficients=beta)
    return Extended(batch, wider, notes + batch.sentences())


def _site_moments(
    level: FloatArray, mean: MeanRows, Y: np.ndarray, rows: IntArray, groups: SiteGroups | None
) -> tuple[FloatArray, Moments]:
    """Random intercepts (G, V) of one site's rows, and the moments that it has beside them."""
    V = Y.shape[1]
    location, residual_ss, rounding = np.zeros((1, V)), np.zeros((1, V)), np.zeros((1, V))
    n_observed, constant = np.zeros((1, V), dtype=np.intp), np.zeros((1, V), dtype=bool)
    taken = np.ones((1, V))
    intercepts = np.zeros((0 if groups is None else groups.Z.shape[1], V))
    for columns, raw in blocks(Y, rows):
        seen = ~np.isnan(raw)
        n = seen.sum(axis=0)
        residual = np.where(seen, mean.taken_off(raw, rows, columns), 0.0)
        if groups is not None:
            Z = groups.Z[rows]
            intercepts[:, columns], taken[0, columns] = _intercepts(Z, residual, seen, groups.ratio[:, columns])
            residual = np.where(seen, residual - Z @ intercepts[:, columns], 0.0)
        average = residual.sum(axis=0) / np.maximum(n, 1)
        deviation = np.where(seen, residual - average, 0.0)
        left = deviation.sum(axis=0) / np.maximum(n, 1)
        location[0, columns] = average + left
        residual_ss[0, columns] = np.maximum((deviation**2).sum(axis=0) - n * left**2, 0.0)
        n_observed[0, columns] = n
        low, high = np.where(seen, raw, np.inf).min(axis=0), np.where(seen, raw, -np.inf).max(axis=0)
        constant[0, columns] = is_constant(low, high, last_digit(Y))
        reach = np.where(n > 0, np.maximum(np.abs(low), np.abs(high)), 0.0)
        rounding[0, columns] = np.maximum(rounding_unit(Y) * reach, SMALLEST_SD)
    df, n_rows = np.maximum(n_observed - taken, 0.0), np.array([rows.size])
    return intercepts, Moments(level + location, residual_ss, df, n_observed, n_rows, constant, rounding)


def _intercepts(
    Z: FloatArray, residual: FloatArray, seen: BoolArray, ratio: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Predict random intercepts (G, k) from residuals (m, k), zero where not seen; location is taken off with them.

    Also the degrees of freedom (k,) that location and intercepts take: the trace of what maps residuals to their fit.
    """
    m = Z.T @ seen
    average = Z.T @ residual / np.maximum(m, 1.0)
    weight = m / (1.0 + m / ratio)
    total = np.maximum(weight.sum(axis=0), np.finfo(np.float64).tiny)
    location = (weight * average).sum(axis=0) / total
    held = (m / ratio) / (1.0 + m / ratio)
    taken = held.sum(axis=0) + (weight * (1.0 - held)).sum(axis=0) / total
    return np.asarray(held * (average - location)), np.asarray(taken)


def _grouping(fit: FittedComBat, table: pd.DataFrame, codes: IntArray, unseen: tuple[str, ...]) -> Smooth | None:
    """Return the one random intercept of the formula, None without random effects; others are refused."""
    rows = np.flatnonzero(codes >= len(fit.levels))
    part = fit.mean.design.smooth
    grouping: list[Smooth] = []
    for smooth in part.smooths:
        if not smooth.groups:
            continue
        if smooth.random and not smooth.one_variance:
            # Curves of levels that the fit knows, such as the sexes, are covariates like others.
            value = part.values(table.iloc[rows])[smooth.groups[0]]
            if not (isinstance(value, Factor) and (value.codes < 0).any()):
                continue
        grouping.append(smooth)
    if not grouping:
        return None
    first, *more = grouping
    if more or not first.random_intercept or len(first.groups) > 1:
        what = "a random intercept of one column" if not more else "one random intercept"
        raise DataError(
            f"batch {listing(unseen)} was not in the fit, and the formula has {listing([s.label for s in grouping])}: "
            f"a new site's scale cannot be separated from them here, only from {what} such as (1|subject); fit again "
            "with the site's rows"
        )
    return first


def _groups_of(
    fit: FittedComBat, smooth: Smooth, table: pd.DataFrame, codes: IntArray, rows: IntArray, label: str
) -> SiteGroups:
    """Find the groups in a new site's rows, and how much each is shrunk."""
    (name,) = smooth.variables
    design = fit.mean.design
    known = design.smooth.values(table)[name]
    whole = levels_in(smooth.term.args[0], table)
    assert isinstance(known, Factor)
    members, at = np.unique(whole.codes[rows], return_inverse=True)
    in_fit = np.full(members.size, -1)
    in_fit[at] = known.codes[rows]
    # A known site's rows take the intercepts of the fit, and stay as they are.
    elsewhere = (codes >= len(fit.levels)) | (known.codes < 0)
    elsewhere[rows] = False
    shared = np.intersect1d(members, whole.codes[elsewhere])
    if shared.size:
        raise DataError(
            f"{name} {listing([whole.levels[g] for g in shared], 5)} has rows at batch '{label}', which was not in "
            "the fit, and elsewhere: one random intercept for both needs a fit; fit again with the site's rows"
        )
    n_rows = int(fit.mean.n_rows.sum())
    incomplete = fit.mean.n_observed.sum(axis=0) < n_rows
    if incomplete.any() and (in_fit >= 0).any():
        old = listing([whole.levels[g] for g in members[in_fit >= 0]], 5)
        raise DataError(
            f"batch '{label}' was not in the fit, but {name} {old} was, and cells of the fit are missing: the "
            "precision of that random intercept is unknown; fit again with the site's rows"
        )
    columns = design.term_slices[smooth.label]
    in_rows = np.where(in_fit >= 0, np.round(fit.mean.center[columns][in_fit] * n_rows), 0.0)
    Z = np.zeros((codes.size, members.size))
    Z[rows, at] = 1.0
    return SiteGroups(Z, in_rows[:, None] + np.maximum(variance_ratio(fit.mean, smooth, 1), LEAST), smooth.label)
