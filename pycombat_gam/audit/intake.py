"""A call of `audit`, taken in as by `ComBat`, but without stopping for what the audit reports."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pycombat_gam.batch.levels import BatchLevels, canonical
from pycombat_gam.checks.material import Asked, Material, blank_cells, gather_material
from pycombat_gam.combat.arguments import check_options
from pycombat_gam.combat.estimator import ComBat, check_mask
from pycombat_gam.tables.arguments import names
from pycombat_gam.tables.estimator import take
from pycombat_gam.tables.intake import Intake, find_column, identifier_like
from pycombat_gam.types import BoolArray, IntArray


@dataclass(frozen=True, eq=False)
class Call:
    """What was asked for.

    Attributes
    ----------
    model : with the options that are judged, not fitted.
    intake : all rows; mask : (n,) those that estimate, None for all; material : of those.
    """

    model: ComBat
    intake: Intake
    mask: BoolArray | None
    material: Material


def sort_out(model: ComBat, table: pd.DataFrame | np.ndarray, covariates: object, fit_mask: object) -> Call:
    """Check a call as `ComBat.fit` does, and read its columns."""
    _, formula = check_options(model.get_params())
    features = model.features
    intake = take(table, covariates, formula.variables, None, batch=model.batch, id=model.id, features=features)
    for name in formula.variables:
        find_column(intake.covariates, name, "formula")
    ids = tuple(names(model.id, "id"))
    for name in ids:
        find_column(intake.covariates, name, "id")
    by_rule = features if features is None or isinstance(features, str) else names(features, "features")
    alike = identifier_like(intake, by_rule)
    mask = check_mask(fit_mask, intake.covariates)
    fitted = intake if mask is None else replace(intake, Y=intake.Y[mask], covariates=intake.covariates.loc[mask])
    levels, codes = _sites(find_column(fitted.covariates, model.batch, "batch"), model.batch)
    reference = None if model.ref_batch is None else levels.labels[levels.index(model.ref_batch)]
    asked = Asked(model.eb, not model.mean_only, model.missing == "omit", reference, model.prior == "bayes")
    material = gather_material(fitted, formula, levels, codes, ids, asked=asked, alike=alike)
    return Call(model, intake, mask, material)


def _sites(values: pd.Series, column: str) -> tuple[BatchLevels, IntArray]:
    """Learn the sites of the rows that have one; a single site is no error here."""
    present = ~blank_cells(values)
    kept = values[present]
    texts = {canonical(label) for label in kept.unique()}
    levels = BatchLevels(column, tuple(texts)) if len(texts) == 1 else BatchLevels.learn(kept, column)
    codes = np.full(len(values), -1, dtype=np.intp)
    codes[present] = levels.codes(kept)[0]
    return levels, codes
