"""The tables that users read: what the mean model and the batch model estimated, under the names of the field."""

from __future__ import annotations

from dataclasses import dataclass, fields, make_dataclass
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.batch.model import BatchFit
from pycombat_gam.mean.fit import MeanFit

SUMMARIES = ("batches", "features")
"""Tables of a batch model that belong to the summary."""


class _Printed:
    """Prints the tables by their shapes."""

    def __repr__(self) -> str:
        lines = ["ComBat estimates"]
        for name, value in vars(self).items():
            lines.append(f"  {name:<21}{' × '.join(map(str, value.shape))}")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False, repr=False)
class Estimates(_Printed):
    """What was estimated, as DataFrames.

    Attributes
    ----------
    coefficients : DataFrame
        Design columns × features.
    grand_mean, var_pooled : DataFrame
        One row × features.
    gamma_hat, delta_hat, gamma_star, delta_star : DataFrame
        Batches × features, on the standardized scale; delta is a variance.
    gamma_bar, t2, a_prior, b_prior : DataFrame
        Batches × one column; NaN where a batch has no such prior (the reference batch, `eb=False`, a batch adjusted
        in location only).
    smoothing_parameters, edf, score : DataFrame
        Smooths (or one row) × features; without rows for a linear model.
    """

    coefficients: pd.DataFrame
    grand_mean: pd.DataFrame
    var_pooled: pd.DataFrame
    gamma_hat: pd.DataFrame
    delta_hat: pd.DataFrame
    gamma_star: pd.DataFrame
    delta_star: pd.DataFrame
    gamma_bar: pd.DataFrame
    t2: pd.DataFrame
    a_prior: pd.DataFrame
    b_prior: pd.DataFrame
    smoothing_parameters: pd.DataFrame
    edf: pd.DataFrame
    score: pd.DataFrame


def estimates_of(mean: MeanFit, batch: BatchFit) -> Any:
    """Join the tables of mean model and batch model: `Estimates`, or the same with another batch model's tables."""
    features, smoothing = pd.Index(batch.batches.features), mean.smoothing

    def by_term(values: np.ndarray, names: tuple[str, ...]) -> pd.DataFrame:
        return pd.DataFrame(values, index=pd.Index(names, name="smooth", dtype=object), columns=features)

    terms = pd.Index(mean.design.columns, name="term")
    tables = {
        "coefficients": pd.DataFrame(mean.coefficients, index=terms, columns=features),
        **{name: table for name, table in batch.tables().items() if name not in SUMMARIES},
        "smoothing_parameters": by_term(smoothing.parameters, smoothing.names),
        "edf": by_term(smoothing.edf, smoothing.smooths),
        "score": by_term(smoothing.score, (smoothing.criterion,) * len(smoothing.score)),
    }
    if set(tables) == {item.name for item in fields(Estimates)}:
        return Estimates(**tables)
    other = make_dataclass("Estimates", list(tables), bases=(_Printed,), frozen=True, eq=False, repr=False)
    return other(**tables)
