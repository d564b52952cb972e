"""The profile of the table that was fitted: its summary and hash, kept with the model, checked when it is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pycombat_gam.batch.levels import BatchLevels
from pycombat_gam.errors import ModelFileError
from pycombat_gam.mean.fit import MeanFit
from pycombat_gam.penalized.sufficient import blocks, last_digit
from pycombat_gam.tables.intake import find_column
from pycombat_gam.types import FloatArray, IntArray, JsonDict

if TYPE_CHECKING:
    from pycombat_gam.combat.fitted import FittedComBat

AGREEMENT = 1e-5
"""Means and sds of the same rows agree up to this, in pooled sds: the mean model is found to its own precision."""
ROUNDING = 1e-9
"""And up to this share of the mean: sums round, and a feature without variance has its rounding there."""


def profile_of(
    mean: MeanFit, features: Sequence[str], levels: BatchLevels, table: pd.DataFrame, n_given: int
) -> JsonDict:
    """Summarize the table that was fitted, and hash what the fit saw of it: its sufficient statistics."""
    digest = hashlib.sha256("\x00".join([*features, *levels.labels, *mean.design.columns]).encode())
    for array in (mean.n_rows, mean.center, mean.R, mean.intercepts, mean.coefficients, mean.residual_ss):
        digest.update(np.ascontiguousarray(array).data)
    covariates: JsonDict = {}
    for name in mean.design.formula.variables:
        column = find_column(table, name, "formula")
        if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
            values: FloatArray = column.to_numpy(dtype=np.float64)
            covariates[name] = {
                "min": float(values.min()),
                "mean": float(values.mean()),
                "max": float(values.max()),
            }
        else:
            tally = column.astype(str).value_counts().sort_index()
            covariates[name] = {"levels": {str(level): int(rows) for level, rows in tally.items()}}
    return {
        "sha256": digest.hexdigest(),
        "rows": int(mean.n_rows.sum()),
        "rows_given": n_given,
        "features": len(features),
        "df_residual": mean.df_residual,
        "batches": {label: int(rows) for label, rows in zip(levels.labels, mean.n_rows, strict=True)},
        "covariates": covariates,
        "missing_cells": int(mean.n_rows.sum() * len(features) - mean.n_observed.sum()),
    }


def check_profile(profile: JsonDict, labels: tuple[str, ...]) -> JsonDict:
    """Check the summary of the fitted table, piece by piece."""
    numbers = [
        profile["rows"],
        profile["rows_given"],
        profile["features"],
        profile["df_residual"],
        profile["missing_cells"],
    ]
    numbers += [profile["batches"][label] for label in labels]
    for about in profile["covariates"].values():
        numbers += about["levels"].values() if "levels" in about else [about["min"], about["mean"], about["max"]]
    if not all(isinstance(number, int | float) for number in numbers) or not isinstance(profile["sha256"], str):
        raise ModelFileError("the model is refused: its summary of the fitted table is broken")
    return profile


def rows_differ(fit: FittedComBat, Y: np.ndarray, table: pd.DataFrame, codes: IntArray) -> str:
    """Say how rows differ from those of the fit; empty if they do not.

    The rows of the fit have, for each feature and site, the residual mean and sum of squares that the fit kept: site
    intercepts are not penalised. Nothing is fitted again, and the order of the rows does not matter.

    Parameters
    ----------
    Y : (n, V) features in the order of the fit; table : (n rows) covariates.
    codes : (n,) batches, those of the fit.
    """
    mean = fit.mean
    B = len(fit.levels)
    if not np.array_equal(np.bincount(codes, minlength=B), mean.n_rows):
        return "their sites have different numbers of rows"
    X = mean.design.on(table) - mean.center
    less = mean.design.less_offset(Y, table)
    order = np.argsort(codes, kind="stable")
    starts = np.cumsum(mean.n_rows) - mean.n_rows
    X = X[order]
    expected = mean.intercepts + mean.center @ mean.coefficients
    for columns, raw in blocks(less, order):
        seen = ~np.isnan(raw)
        residual = np.where(seen, raw - X @ mean.coefficients[:, columns], 0.0)
        n = np.add.reduceat(seen, starts, axis=0, dtype=np.intp)
        location = np.add.reduceat(residual, starts, axis=0) / np.maximum(n, 1)
        deviation = np.where(seen, residual - np.repeat(location, mean.n_rows, axis=0), 0.0)
        spread = np.sqrt(np.add.reduceat(deviation**2, starts, axis=0) / np.maximum(n, 1))
        kept = np.sqrt(mean.residual_ss[:, columns] / mean.n_observed[:, columns])
        pooled = mean.residual_ss[:, columns].sum(axis=0) / mean.n_observed[:, columns].sum(axis=0)
        reach = AGREEMENT * np.sqrt(pooled) + np.maximum(ROUNDING, 8 * last_digit(Y)) * np.abs(expected[:, columns])
        for what, far in (
            ("number of observed cells", n != mean.n_observed[:, columns]),
            ("mean", np.abs(location - expected[:, columns]) > reach),
            ("variance", np.abs(spread - kept) > reach),
        ):
            if far.any():
                b, k = (int(at[0]) for at in np.nonzero(far))
                name, site = fit.features[columns.start + k], fit.levels.labels[b]
                return f"{name} has a different {what} at site {site} than in the fit"
    return ""
