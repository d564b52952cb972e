"""Designs and site effects of `inference.py`: a term that is unbalanced between sites, or sites that differ in scale.

The last covariate that a design names is tested. Seeds are part of the designs; they were fixed before any result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Design:
    """Covariates (n, p), the sites of the rows, and which covariate is tested."""

    X: np.ndarray
    site: np.ndarray
    tested: int

    @property
    def names(self) -> list[str]:
        return [f"x{j}" for j in range(self.X.shape[1])]

    @property
    def formula(self) -> str:
        return "~ " + " + ".join(self.names)

    @property
    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self.X, columns=self.names)

    @property
    def sizes(self) -> np.ndarray:
        return np.bincount(self.site)


def two_sites(n: tuple[int, int], patients: tuple[int, int]) -> Design:
    site = np.repeat([0, 1], n)
    dx = np.concatenate([np.arange(rows) < ill for rows, ill in zip(n, patients, strict=True)])
    return Design(dx[:, None].astype(float), site, 0)


def many_sites(sizes: Sequence[int], seed: int, age_spread: float = 10.0, *, tested: int = 2) -> Design:
    """Sites that differ in age and in their share of patients; 0 is age, 1 sex, 2 diagnosis."""
    rng = np.random.default_rng(seed)
    B, site = len(sizes), np.repeat(np.arange(len(sizes)), sizes)
    age = rng.normal(45 + rng.normal(size=B)[site] * age_spread, 10)
    share = np.linspace(0.2, 0.8, B)[rng.permutation(B)]
    dx = np.zeros(site.size)
    for b in range(B):
        rows = np.flatnonzero(site == b)
        ill = min(max(round(share[b] * rows.size), 1), rows.size - 1)
        dx[rng.permutation(rows)[:ill]] = 1
    sex = (rng.random(site.size) < 0.5).astype(float)
    return Design(np.column_stack([(age - age.mean()) / age.std(), sex, dx]), site, tested)


def abide(folder: Path) -> Design:
    table = pd.read_csv(folder / "abide_dk.csv.gz")
    age = table["age"].to_numpy()
    X = np.column_stack([(age - age.mean()) / age.std(), table["sex"] == "M", table["dx"] == table["dx"].iloc[0]])
    return Design(X.astype(float), pd.factorize(table["site"])[0], 2)


EIGHT = (15, 20, 25, 30, 40, 50, 60, 80)
DESIGNS: dict[str, Callable[[], Design]] = {
    "10/10": lambda: two_sites((20, 20), (10, 10)),
    "6/14": lambda: two_sites((20, 20), (6, 14)),
    "3/17": lambda: two_sites((20, 20), (3, 17)),
    "2/18": lambda: two_sites((20, 20), (2, 18)),
    "uneven": lambda: two_sites((40, 12), (3, 6)),
    "8 sites": lambda: many_sites(EIGHT, 3),
    "age by site": lambda: many_sites(EIGHT, 3, 20.0, tested=0),
    "sites of 4–10": lambda: many_sites((4, 5, 6, 7, 8, 10), 5, 8.0),
    "sites of 3–14": lambda: many_sites((3, 3, 4, 5, 5, 6, 8, 10, 12, 14), 6, 8.0),
}
HOMOGENEOUS, SMALL_NOISY, SMALL_QUIET = "equal", "small sites noisier", "small sites quieter"


def site_effects(rng: np.random.Generator, sizes: np.ndarray, V: int, scales: str) -> tuple[np.ndarray, np.ndarray]:
    """Draw locations and variances (B, V): variances equal, or from 2 to ½ by the size of the site, times noise."""
    B = sizes.size
    location = rng.normal(size=(B, 1)) * 0.5 + 0.3 * rng.normal(size=(B, V))
    if scales == HOMOGENEOUS:
        return location, np.ones((B, V))
    order = np.argsort(np.argsort(sizes + 1e-6 * np.arange(B)))
    sign = 1.0 if scales == SMALL_NOISY else -1.0
    base = 2.0 ** (sign * (1 - 2 * order / max(B - 1, 1)))
    shape = 2 + 1 / 0.3**2
    return location, base[:, None] * (shape - 1) / rng.gamma(shape, size=(B, V))
