"""Simulated clinics: outcomes at sites that shift features and the relation to the outcome."""

from __future__ import annotations

import numpy as np
import pandas as pd

FEATURES = [f"x{k}" for k in range(6)]
BETA = np.array([1.0, 0.6, 0.4, 0.0, 0.0, 0.0])


def clinic(rng: np.random.Generator, n: int, kind: str, site: str, *, tau: float = 0.7) -> pd.DataFrame:
    """Return n patients of one clinic; the law of `../shared/prototypes/prediction/sim.py`."""
    X = rng.normal(size=(n, 6)) + tau * rng.normal(size=6)
    shift, slope, sd = tau * rng.normal(), BETA + 0.15 * rng.normal(size=6), np.exp(0.25 * rng.normal())
    eta = X @ slope + shift
    table = pd.DataFrame(X, columns=FEATURES).assign(
        site=site, age=rng.uniform(20, 80, n), sex=rng.choice(["F", "M"], n)
    )
    if kind == "number":
        return table.assign(y=eta + sd * rng.normal(size=n))
    if kind == "three":
        cut = np.digitize(eta + rng.logistic(size=n), [-0.7, 0.7])
        return table.assign(y=np.array(["high", "low", "mid"])[[1, 2, 0]][cut])
    event = rng.uniform(size=n) < 1 / (1 + np.exp(-1.2 * eta))
    return table.assign(y=np.where(event, "ill", "well"))


def clinics(kind: str = "binary", K: int = 6, n: int = 30, seed: int = 0) -> pd.DataFrame:
    """Return K clinics of n patients."""
    rng = np.random.default_rng(seed)
    return pd.concat([clinic(rng, n, kind, f"c{k}") for k in range(K)], ignore_index=True)
