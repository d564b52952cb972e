"""Tables whose harmonized values are known, with small sites among large ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

SIZES = (3, 5, 10, 20, 50, 250)
FORMULA = "~ age + sex + dx"


@dataclass(frozen=True, eq=False)
class SmallSites:
    """A table, its features' names, the site of each row, and the values that sites did not touch (n, V)."""

    table: pd.DataFrame
    features: list[str]
    site: np.ndarray
    truth: np.ndarray


def small_sites(V: int, seed: int, sizes: tuple[int, ...] = SIZES, known: int | None = None) -> SmallSites:
    """Draw a table: locations N(γ̄_b, .3²), variances inverse gamma with cv .3, unequal ages and cases.

    Parameters
    ----------
    sizes : rows of each site; known : how many of the sites define the common level and scale, all by default.
    """
    rng = np.random.default_rng(seed)
    B, site = len(sizes), np.repeat(np.arange(len(sizes)), sizes)
    n = site.size
    age = rng.normal(45 + 4 * rng.normal(size=B)[site], 10)
    dx = np.concatenate([_cases(size, share, rng) for size, share in zip(sizes, rng.uniform(0.2, 0.8, B), strict=True)])
    X = np.column_stack([(age - age.mean()) / age.std(), rng.random(n) < 0.5, dx]).astype(float)
    level = 0.5 * rng.normal(size=(B, 1)) + 0.3 * rng.normal(size=(B, V))
    shape = 2 + 1 / 0.3**2
    variance = (shape - 1) / rng.gamma(shape, size=(B, V))
    explained, noise = X @ (0.3 * rng.normal(size=(3, V))), rng.normal(size=(n, V))
    w = np.array(sizes, dtype=float)
    w[slice(known, None) if known is not None else slice(B, None)] = 0.0
    w /= w.sum()
    truth = explained + w @ level + np.sqrt(w @ variance) * noise
    features = [f"f{k}" for k in range(V)]
    table = pd.DataFrame(explained + level[site] + np.sqrt(variance)[site] * noise, columns=features)
    about = pd.DataFrame({"site": [f"s{b}" for b in site], "age": X[:, 0], "sex": X[:, 1], "dx": X[:, 2]})
    return SmallSites(pd.concat([about, table], axis=1), features, site, truth)


def _cases(size: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """At least one case and one control where there is room."""
    cases = int(np.clip(round(share * size), min(1, size - 1), max(size - 1, 1)))
    return rng.permutation(np.arange(size) < cases)
