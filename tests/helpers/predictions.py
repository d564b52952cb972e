"""Small studies with an outcome, and predictors fitted to them, for pictures, reports and commands."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

import pycombat_gam as pcg

SITES = ("Aarhus", "Bergen", "Cork", "Delft", "Evora", "Fargo")
FEATURES = ("f1", "f2", "f3")


def outcomes(seed: int = 5, rows: int = 18, sites: tuple[str, ...] = SITES) -> pd.DataFrame:
    """Return a table in which features tell patients from controls, at sites of other levels and prevalence."""
    rng = np.random.default_rng(seed)
    code = np.repeat(np.arange(len(sites)), rows)
    patient = rng.uniform(size=code.size) < np.linspace(0.35, 0.65, len(sites))[code]
    age = rng.uniform(20, 70, code.size)
    level = rng.normal(size=(len(sites), len(FEATURES)))[code] * 0.5
    Y = level + 0.9 * patient[:, None] + 0.02 * age[:, None] + rng.normal(size=(code.size, len(FEATURES)))
    stage = np.where(patient, np.where(Y[:, 0] + rng.normal(size=code.size) > 1.5, "late", "early"), "none")
    about = {
        "subject": [f"sub-{i:03d}" for i in range(code.size)],
        "site": np.array(sites, dtype=object)[code],
        "age": age.round(2),
        "dx": np.where(patient, "patient", "control"),
        "stage": stage,
    }
    return pd.DataFrame({**about, **dict(zip(FEATURES, Y.T, strict=True))})


def predictor(formula: str = "dx ~ age", **options: Any) -> pcg.Predictor:
    """Return an unfitted predictor of such a table."""
    return pcg.Predictor(formula, "site", **{"id": "subject", "features": list(FEATURES), "level": 0.8, **options})


@cache
def fitted(formula: str = "dx ~ age", *, harmonized: bool = False, level: float = 0.8) -> pcg.Predictor:
    """Fit it once."""
    harmonizer = pcg.ComBat("~ age", "site") if harmonized else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        return predictor(formula, level=level, harmonizer=harmonizer).fit(outcomes())


@cache
def hostile(names: tuple[str, ...]) -> pcg.Predictor:
    """Fit to a table whose sites have these names."""
    return predictor().fit(outcomes(sites=names))


def times(seed: int = 2, rows: int = 30) -> pd.DataFrame:
    """Return the same table with times to an event, sooner for patients."""
    table = outcomes(seed, rows)
    rng = np.random.default_rng(seed)
    event = rng.exponential(np.where(table["dx"] == "patient", 4.0, 12.0))
    end = rng.uniform(3.0, 12.0, len(table))
    return table.assign(time=np.minimum(event, end).round(3) + 0.001, dead=(event <= end).astype(int))


@cache
def risks() -> pcg.Predictor:
    """Fit risks at two horizons."""
    return predictor("Surv(time, dead) ~ age", horizons=(1.5, 3.0)).fit(times())
