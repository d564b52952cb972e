"""The algorithm of ComBat: mean model → batch model; then adjust.

This is the composition; each step lives in the file named after it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from pycombat_gam.batch.model import Batches, BatchModel, Residuals
from pycombat_gam.combat.fitted import FittedComBat
from pycombat_gam.combat.new_groups import find_new_levels, new_group_effects
from pycombat_gam.combat.profile import profile_of
from pycombat_gam.combat.unseen import Extended, extend_to
from pycombat_gam.design.identified import idle_note
from pycombat_gam.errors import DataError, DesignError
from pycombat_gam.formula import Formula
from pycombat_gam.infer.correlation import residual_correlation
from pycombat_gam.infer.posterior_means import PosteriorMeansFit, posterior_means
from pycombat_gam.mean.fit import MeanFit, MeanModel
from pycombat_gam.types import IntArray
from pycombat_gam.words import count, listing


def fit_combat(
    Y: np.ndarray,
    table: pd.DataFrame,
    codes: IntArray,
    *,
    batches: Batches,
    formula: Formula,
    mean_model: MeanModel,
    batch_model: BatchModel,
    omit_missing: bool,
    n_given: int,
    part: bool = False,
) -> FittedComBat:
    """Fit ComBat.

    Parameters
    ----------
    Y : (n, V) features; table : (n rows) covariates; codes : (n,) batch of each row.
    batches : what batches and features are called.
    formula : of the mean; mean_model : fits it; batch_model : fits what is left; omit_missing : by observed cells.
    n_given : rows of the table that these were chosen from.
    part : leave out what only tests need.
    """
    reference = batches.reference
    if reference is not None and int((codes == reference).sum()) == 1:
        raise DataError(
            f"reference batch '{batches.labels[reference]}' has one subject: the pooled variance is taken from it; "
            "choose a larger one"
        )
    try:
        mean = mean_model.fit(
            table,
            Y,
            codes,
            formula=formula,
            features=batches.features,
            labels=batches.labels,
            omit_missing=omit_missing,
        )
    except DesignError as error:
        if len(table) == n_given:
            raise
        raise DesignError(f"on the {count(len(table), 'row')} that fit_mask chose: {error}") from error
    residuals = None
    if batch_model.needs == "residuals":
        residuals = Residuals(Y, mean.rows(table), codes)
    correlation = float("nan") if part else residual_correlation(mean, Y, table, codes)
    batch = batch_model.fit(mean.moments, batches, residuals)
    if isinstance(batch, PosteriorMeansFit):
        mean, batch = posterior_means(mean, batch)
    notes = [*_mean_notes(mean), *batch.sentences(), *_spelling_notes(batches)]
    profile = profile_of(mean, batches.features, batches.levels, table, n_given)
    return FittedComBat(mean, batch, tuple(notes), profile, correlation)


def apply_combat(
    fit: FittedComBat, Y: np.ndarray, table: pd.DataFrame, codes: IntArray, unseen: tuple[str, ...]
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
    placed = place_rows(fit, Y, table, codes, unseen)
    out = np.empty(Y.shape, dtype=Y.dtype)
    placed.batch.adjust(Y, placed.mean, codes, out)
    return out, placed.notes


def place_rows(
    fit: FittedComBat, Y: np.ndarray, table: pd.DataFrame, codes: IntArray, unseen: tuple[str, ...]
) -> Extended:
    """Find the mean model on rows to harmonize, with what is new in them; parameters as in `apply_combat`."""
    mean, batch = fit.mean.rows(table, fit.batch.level), fit.batch
    notes = fit.mean.design.smooth.outside(table)
    if unseen:
        # A new site's random effects are estimated with it.
        extended = extend_to(fit, mean, Y, table, codes, unseen)
        batch, mean = extended.batch, extended.mean
        notes += extended.notes
    new = find_new_levels(fit.mean, table, np.flatnonzero(codes < len(fit.levels)))
    if new:
        rows, effects = new_group_effects(fit.mean, Y, mean, codes, new)
        mean = replace(mean, rows=rows, effects=effects)
        notes += [levels.note for levels in new]
    return Extended(batch, mean, notes)


def _mean_notes(mean: MeanFit) -> list[str]:
    """Say which parts of the formula add nothing."""
    powers = mean.design.formula.idle_powers
    notes = [f"'{power}' outside I() is not a power, as in R: write I({power})" for power in powers]
    # Length of the columns before batches are taken out, at least.
    size = np.sqrt(np.einsum("ij,ij->j", mean.R, mean.R) + mean.n_rows.sum() * mean.center**2)
    return notes + idle_note(mean.design, mean.R, size, batches=True)


def _spelling_notes(batches: Batches) -> list[str]:
    alike = [" and ".join(map(repr, labels)) for labels in batches.levels.look_alikes()]
    return [f"batches are spelled alike: {listing(alike, 4)}; is each pair one site?"] if alike else []
