"""Studies whose sites differ in location, scale, and composition: what tests after harmonization have to bear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class UnequalSites:
    """A table with covariates `age`, `sex`, `dx` (three levels) and V features at several sites."""

    table: pd.DataFrame
    features: list[str]

    @property
    def raw(self) -> np.ndarray:
        return self.table[self.features].to_numpy()


def unequal_sites(
    sizes: Sequence[int] = (12, 20, 9, 31), V: int = 30, seed: int = 0, *, missing: bool = False
) -> UnequalSites:
    """Draw a study: dx and age differ between sites, variances too; `missing` spoils cells of some features."""
    rng = np.random.default_rng(seed)
    B, site = len(sizes), np.repeat(np.arange(len(sizes)), sizes)
    n = site.size
    chance = np.array([[0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.3, 0.3, 0.4]])[np.arange(B) % 3]
    dx = np.array(["HC", "MCI", "AD"], dtype=object)[[rng.choice(3, p=chance[b]) for b in site]]
    age = rng.normal(50 + 6 * rng.normal(size=B)[site], 10)
    table = pd.DataFrame({"site": [f"s{b}" for b in site], "age": age, "sex": rng.choice(["F", "M"], n), "dx": dx})
    scale = np.exp(rng.normal(size=(B, V)) * 0.2 + rng.normal(size=(B, 1)) * 0.4)
    Y = rng.normal(size=(B, V))[site] + 0.02 * age[:, None] + scale[site] * rng.normal(size=(n, V)) + 5
    if missing:
        for k in range(0, V, 3):
            Y[rng.choice(n, 4, replace=False), k] = np.nan
    features = [f"f{k}" for k in range(V)]
    return UnequalSites(pd.concat([table, pd.DataFrame(Y, columns=features)], axis=1), features)
