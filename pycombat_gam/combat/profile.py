"""The profile of the table that was fitted: its summary and hash, kept with the model, checked when it is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from pycombat_gam.batch.levels import BatchLevels
from pycombat_gam.errors import ModelFileError
from pycombat_gam.mean.fit import MeanFit
from pycombat_gam.tables.intake import find_column
from pycombat_gam.types import FloatArray, JsonDict


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
