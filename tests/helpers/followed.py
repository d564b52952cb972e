"""Made-up sites followed for a time: exponential times to an event, and censoring."""

from __future__ import annotations

import numpy as np
import pandas as pd


def followed(seed: int = 3, sites: int = 5, rows: int = 40, censored: bool = True) -> pd.DataFrame:
    """Return columns site, time (whole days), dead, x0, x1, x2, age."""
    rng = np.random.default_rng(seed)
    n = sites * rows
    site = np.repeat(np.arange(sites), rows)
    X = rng.normal(size=(n, 3)) + rng.normal(size=(sites, 3))[site]
    age = rng.uniform(40, 80, n)
    rate = np.exp(0.6 * X[:, 0] + 0.02 * (age - 60) + rng.normal(scale=0.2, size=sites)[site]) / 600
    death = np.ceil(rng.exponential(1 / rate))
    end = np.ceil(rng.uniform(200, 1500, n)) if censored else np.full(n, np.inf)
    return pd.DataFrame(
        {
            "site": np.array([f"site {k}" for k in site]),
            "time": np.minimum(death, end),
            "dead": (death <= end).astype(int),
            **{f"x{j}": X[:, j] for j in range(3)},
            "age": age,
        }
    )
