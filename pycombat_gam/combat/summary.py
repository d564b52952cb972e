"""What a fitted model says about itself, printed as R prints, and as data."""

from __future__ import annotations

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
    call : the model as it was asked for.
    batches : DataFrame, a row per batch: rows, range and spread of location γ*, range of scale √δ*, priors, iterations.
    features : DataFrame, a row per feature: grand mean, pooled sd, largest |γ*|, range of √δ*, how it was handled.
    smooths : DataFrame, a row per smooth: range and median over features of its effective degrees of freedom.
    notes : what was out of the ordinary.
    profile : hash and summary of the fitted table.
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
        unused = self.batches.isna().all() | (
            self.batches["iterations"].eq(0).all() & (self.batches.columns == "iterations")
        )
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
    gamma, scale = fit.shrunken.gamma, np.sqrt(fit.shrunken.delta)
    touched = ~fit.scale.degenerate
    priors = fit.shrunken.priors
    batches = pd.DataFrame(
        {
            "n": fit.mean.n_rows,
            "location mean": gamma[:, touched].mean(axis=1),
            "location min": gamma[:, touched].min(axis=1),
            "location max": gamma[:, touched].max(axis=1),
            "scale min": scale[:, touched].min(axis=1),
            "scale max": scale[:, touched].max(axis=1),
            "gamma_bar": priors.gamma_bar,
            "t2": priors.t2,
            "a": priors.a_prior,
            "b": priors.b_prior,
            "iterations": fit.shrunken.iterations,
        },
        index=pd.Index(
            [f"{label} (ref)" if b == fit.reference else label for b, label in enumerate(fit.levels.labels)],
            name=fit.levels.column,
        ),
    )
    few = fit.effects.location_only.sum(axis=0)
    handling = [f"location only in {count(k, 'batch', 'batches')}" if k else "adjusted" for k in few.tolist()]
    features = pd.DataFrame(
        {
            "grand mean": fit.scale.grand_mean,
            "pooled sd": np.sqrt(fit.scale.var_pooled),
            "largest location": np.abs(gamma).max(axis=0),
            "scale min": scale.min(axis=0),
            "scale max": scale.max(axis=0),
            "handling": np.where(touched, handling, "untouched"),
        },
        index=pd.Index(fit.features, name="feature"),
    )
    edf = fit.mean.smoothing.edf[:, touched]
    smooths = pd.DataFrame(
        {"min": edf.min(axis=1), "median": np.median(edf, axis=1), "max": edf.max(axis=1)},
        index=pd.Index(fit.mean.smoothing.smooths, name="smooth", dtype=object),
    )
    return Summary(call, mean_model, batches, features, smooths, fit.notes, fit.profile)


def _quantiles(features: pd.DataFrame) -> str:
    """Print a handful of features in full, many of them by quantiles."""
    numbers = features.drop(columns="handling")
    if len(features) <= 12:
        return features.to_string(float_format=lambda value: f"{value:.4g}")
    table = numbers.quantile([0, 0.25, 0.5, 0.75, 1]).set_axis(["min", "1Q", "median", "3Q", "max"])
    return str(table.to_string(float_format=lambda value: f"{value:.4g}"))
