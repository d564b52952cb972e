"""What a fitted model says about itself, printed as R prints, and as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pycombat_gam.combat.fitted import FittedComBat
from pycombat_gam.types import JsonDict
from pycombat_gam.words import count, covariate_line, plain_table, printable


@dataclass(frozen=True, eq=False)
class Summary:
    """Summary of a fitted ComBat; `str()` prints it, `to_dict()` gives plain data.

    Attributes
    ----------
    call : str
        The model as it was asked for.
    batches : DataFrame
        A row per batch: rows, range and spread of location γ*, range of scale √δ*, priors, iterations.
    features : DataFrame
        A row per feature: grand mean, pooled sd, largest |γ*|, range of √δ*, how it was handled.
    smooths : DataFrame
        A row per smooth: range and median over features of its effective degrees of freedom.
    notes : tuple of str
        Whatever was out of the ordinary.
    profile : dict
        Hash and summary of the fitted table.
    """

    call: str
    mean_model: str
    batches: pd.DataFrame
    features: pd.DataFrame
    smooths: pd.DataFrame
    notes: tuple[str, ...]
    profile: JsonDict

    def to_dict(self) -> JsonDict:
        """Return everything as plain data (JSON-able; a missing number is None)."""
        return {
            "call": self.call,
            "mean_model": self.mean_model,
            "batches": plain_table(self.batches),
            "features": plain_table(self.features),
            "smooths": plain_table(self.smooths),
            "notes": list(self.notes),
            "table": self.profile,
        }

    def __str__(self) -> str:
        profile = self.profile
        chosen = "" if profile["rows"] == profile["rows_given"] else f" of {profile['rows_given']:,} (fit_mask)"
        unused = self.batches.isna().all() | ((self.batches.columns == "iterations") & self.batches.eq(0).all())
        lines = [
            f"Call:  {self.call}",
            f"Mean:  {self.mean_model}",
            "",
            f"{count(profile['rows'], 'row')}{chosen}, {count(profile['features'], 'feature')}, "
            f"{count(len(self.batches), 'batch', 'batches')}, {profile['df_residual']:,.6g} residual degrees of freedom"
            + (f", {count(profile['missing_cells'], 'missing cell')}" if profile["missing_cells"] else ""),
            "",
            "Batches (location in units of the pooled sd, scale as a ratio of sds):",
            self.batches.loc[:, ~unused].to_string(float_format=lambda value: f"{value:.4g}", na_rep="—"),
            "",
            "Features:",
            _quantiles(self.features),
        ]
        if len(self.smooths):
            lines += [
                "",
                "Smooths (effective degrees of freedom):",
                self.smooths.to_string(float_format="{:.3g}".format),
            ]
        if profile["covariates"]:
            lines += [
                "",
                "Covariates:",
                *(covariate_line(name, about) for name, about in profile["covariates"].items()),
            ]
        lines += ["", "Notes:", *(f"  - {note}" for note in self.notes)] if self.notes else ["", "Notes: none"]
        return printable("\n".join(lines))

    __repr__ = __str__


def summarize(fit: FittedComBat, call: str, mean_model: str) -> Summary:
    """Collect the tables of a summary."""
    tables = fit.batch.tables()
    batches = (tables["batches"] if "batches" in tables else described(tables, fit, axis=1)).copy()
    batches.insert(0, "n", fit.mean.n_rows)
    batches.index = pd.Index(
        [f"{label} (ref)" if b == fit.reference else label for b, label in enumerate(fit.levels.labels)],
        name=fit.levels.column,
    )
    features = (tables["features"] if "features" in tables else described(tables, fit, axis=0)).copy()
    features.index = pd.Index(fit.features, name="feature")
    touched = features["handling"].ne("untouched").to_numpy() if "handling" in features else slice(None)
    edf = fit.mean.smoothing.edf[:, touched]
    smooths = pd.DataFrame(
        {"min": edf.min(axis=1), "median": np.median(edf, axis=1), "max": edf.max(axis=1)},
        index=pd.Index(fit.mean.smoothing.smooths, name="smooth", dtype=object),
    )
    return Summary(call, mean_model, batches, features, smooths, (*fit.notes, *fit.limits), fit.profile)


def described(tables: Mapping[str, pd.DataFrame], fit: FittedComBat, axis: int) -> pd.DataFrame:
    """Describe tables of batches × features by their mean and range, for each batch (axis 1) or feature (axis 0)."""
    shape = (len(fit.levels), len(fit.features))
    return pd.DataFrame(
        {
            f"{name} {what}": measure(table.to_numpy(), axis=axis)
            for name, table in tables.items()
            if name not in ("batches", "features") and table.shape == shape
            for what, measure in (("mean", np.mean), ("min", np.min), ("max", np.max))
        }
    )


def _quantiles(features: pd.DataFrame) -> str:
    """Print a handful of features in full, many of them by quantiles."""
    numbers = features.drop(columns="handling", errors="ignore")
    if len(features) <= 12:
        return features.to_string(float_format=lambda value: f"{value:.4g}")
    table = numbers.quantile([0, 0.25, 0.5, 0.75, 1]).set_axis(["min", "1Q", "median", "3Q", "max"])
    return str(table.to_string(float_format=lambda value: f"{value:.4g}"))
