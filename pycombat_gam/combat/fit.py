"""The algorithm of ComBat, step by step: mean model → standardize → batch effects → priors; then adjust.

This is the composition; each step lives in the file named after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pycombat_gam.batch.adjust import Adjustment, adjust
from pycombat_gam.batch.levels import BatchLevels
from pycombat_gam.batch.location_scale import BatchEffects, estimate_effects
from pycombat_gam.batch.prior import shrink
from pycombat_gam.batch.standardize import Standardization, standardize
from pycombat_gam.combat.fitted import FittedComBat
from pycombat_gam.combat.new_groups import find_new_levels, keep_new_groups
from pycombat_gam.combat.profile import profile_of
from pycombat_gam.combat.unseen import estimate_unseen
from pycombat_gam.design.identified import idle_note
from pycombat_gam.errors import DataError, DesignError
from pycombat_gam.formula import Formula
from pycombat_gam.mean.fit import MeanFit, MeanModel
from pycombat_gam.types import FloatArray, IntArray
from pycombat_gam.words import count, listing


@dataclass(frozen=True)
class BatchOptions:
    """The choices of the batch model: `prior` is "parametric", "nonparametric" or "none"."""

    prior: str
    mean_only: bool
    omit_missing: bool


def fit_harmonizer(
    Y: np.ndarray,
    table: pd.DataFrame,
    codes: IntArray,
    *,
    features: tuple[str, ...],
    levels: BatchLevels,
    reference: int | None,
    formula: Formula,
    mean_model: MeanModel,
    options: BatchOptions,
    n_given: int,
) -> FittedComBat:
    """Fit ComBat.

    Parameters
    ----------
    Y : (n, V) features; table : (n rows) covariates; codes : (n,) batch of each row.
    features : (V,) names; levels : the batches; reference : index of the reference batch or None.
    formula : of the mean; mean_model : fits it; options : the batch model.
    n_given : rows of the table that these were chosen from.
    """
    if reference is not None and int((codes == reference).sum()) == 1:
        raise DataError(
            f"reference batch '{levels.labels[reference]}' has one subject: the pooled variance is taken from it; "
            "choose a larger one"
        )
    try:
        mean = mean_model.fit(
            table,
            Y,
            codes,
            formula=formula,
            features=features,
            labels=levels.labels,
            omit_missing=options.omit_missing,
        )
    except DesignError as error:
        if len(table) == n_given:
            raise
        raise DesignError(f"on the {count(len(table), 'row')} that fit_mask chose: {error}") from error
    scale = standardize(
        mean.intercepts, mean.residual_ss, mean.n_observed, mean.n_rows, mean.constant, mean.rounding, reference
    )
    effects = estimate_effects(
        mean.intercepts,
        mean.residual_ss,
        mean.n_observed,
        mean.constant,
        mean.rounding,
        scale,
        mean_only=options.mean_only,
        reference=reference,
    )
    if scale.degenerate.all():
        raise DataError("no feature has any variance beyond rounding: there is nothing to harmonize")
    shrunken = shrink(
        effects,
        mean.n_observed,
        mean.n_rows,
        ~scale.degenerate,
        levels.labels,
        prior=options.prior,
        mean_only=options.mean_only,
        reference=reference,
    )
    return FittedComBat(
        features=features,
        levels=levels,
        reference=reference,
        mean=mean,
        scale=scale,
        effects=effects,
        shrunken=shrunken,
        notes=tuple(_notes(features, levels, reference, mean, scale, effects)),
        profile=profile_of(mean, features, levels, table, n_given),
    )


def apply_harmonizer(
    fit: FittedComBat,
    Y: np.ndarray,
    table: pd.DataFrame,
    codes: IntArray,
    unseen: tuple[str, ...],
    options: BatchOptions,
) -> tuple[np.ndarray, list[str]]:
    """Harmonize rows with a fitted model.

    Parameters
    ----------
    Y : (n, V) features in the order of the fit; table : covariates.
    codes : (n,) batches; codes from B on are the batches `unseen`, estimated from these rows.

    Returns
    -------
    out : (n, V), float32 if Y is, else float64; notes : what was out of the ordinary.
    """
    X = fit.mean.design.on(table)
    by, whole = fit.adjustment(), X
    notes = fit.mean.design.smooth.outside(table)
    less = fit.mean.design.less_offset(Y, table)
    if unseen:
        # A new site's random effects are estimated with it.
        by, whole, more = estimate_unseen(fit, by, less, X, table, codes, unseen, options.prior, options.mean_only)
        notes += more
    out = np.empty(Y.shape, dtype=Y.dtype)
    adjust(less, whole, codes, by, out)
    new = find_new_levels(fit.mean, table, np.flatnonzero(codes < len(fit.levels)))
    if new:
        notes += keep_new_groups(fit, less, X, codes, new, out)
    if less is not Y:
        _add_offset(out, Y, fit.mean.design.offset(table), codes, by)
    return out, notes


def _add_offset(out: np.ndarray, Y: np.ndarray, offset: FloatArray, codes: IntArray, by: Adjustment) -> None:
    """Add the offset, which is kept as covariates are; what passes through is as it was given, to the last digit."""
    out += offset[:, None]
    out[:, by.untouched] = Y[:, by.untouched]
    if by.reference is not None:
        out[codes == by.reference] = Y[codes == by.reference]


def _notes(
    features: Sequence[str],
    levels: BatchLevels,
    reference: int | None,
    mean: MeanFit,
    scale: Standardization,
    effects: BatchEffects,
) -> list[str]:
    """Say, feature by feature and site by site, what was not handled in the ordinary way."""
    powers = mean.design.formula.idle_powers
    notes = [f"'{power}' outside I() means no power, as in R: write I({power})" for power in powers]
    # Length of the columns before batches are taken out, at least.
    size = np.sqrt(np.einsum("ij,ij->j", mean.R, mean.R) + mean.n_rows.sum() * mean.center**2)
    notes += idle_note(mean.design, mean.R, size, batches=True)
    names = np.array(features, dtype=object)
    # Means of equal numbers differ by rounding only.
    level = np.ptp(mean.intercepts, axis=0) <= 4 * mean.rounding.max(axis=0)
    flat = scale.degenerate & mean.constant.all(axis=0) & level
    if flat.any():
        notes.append(f"constant, passed through untouched: {listing(names[flat])}")
    rest = scale.degenerate & ~flat
    if rest.any():
        where = "" if reference is None else f" in the reference batch '{levels.labels[reference]}'"
        notes.append(f"no residual variance{where}, passed through untouched: {listing(names[rest])}")
    alone = [label for b, label in enumerate(levels.labels) if mean.n_rows[b] == 1]
    if alone:
        which = f"batch '{alone[0]}' has" if len(alone) == 1 else f"{len(alone)} batches have"
        rest = "" if len(alone) == 1 else f" ({listing(alone)})"
        notes.append(f"{which} one subject{rest}: location only for all features")
    for b, label in enumerate(levels.labels):
        concerned = effects.location_only[b] & ~scale.degenerate
        if b != reference and mean.n_rows[b] > 1 and concerned.any():
            notes.append(f"location only in batch '{label}' (no variance there): {listing(names[concerned])}")
    alike = [" and ".join(map(repr, labels)) for labels in levels.look_alikes()]
    if alike:
        notes.append(f"batches are spelled alike: {listing(alike, 4)}; is each pair one site?")
    return notes
