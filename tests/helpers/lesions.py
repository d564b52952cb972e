"""Planted lesions at sites: twelve diagnoses in six subgroups and three groups, with features of their own."""

from __future__ import annotations

import numpy as np
import pandas as pd

PARENTS = {
    **{f"l{i:02d}": f"m{i // 2}" for i in range(12)},
    **{f"m{i}": f"t{i // 2}" for i in range(6)},
    **{f"t{i}": "all" for i in range(3)},
}
FEATURES = 8


def centers() -> np.ndarray:
    """Means of the features by diagnosis, (12, 8): groups are far apart, diagnoses of a subgroup are near."""
    rng = np.random.default_rng(5)
    group, subgroup, leaf = (rng.normal(size=(n, FEATURES)) for n in (3, 6, 12))
    return np.asarray(1.6 * group.repeat(4, axis=0) + subgroup.repeat(2, axis=0) + 0.8 * leaf)


def site(rng: np.random.Generator, n: int, spread: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """n rows of one site, with prevalences and a shift of its own: features (n, 8) and codes of diagnoses (n,)."""
    y = rng.choice(12, n, p=rng.dirichlet(np.full(12, 3.0)))
    return centers()[y] + rng.normal(size=(n, FEATURES)) + spread * rng.normal(size=FEATURES), y


def lesions(sizes: list[int], seed: int = 0) -> pd.DataFrame:
    """A table of rows at sites of these sizes, columns dx, site, f0 … f7; every diagnosis is at several sites."""
    rng = np.random.default_rng(seed)
    parts = []
    for k, n in enumerate(sizes):
        X, y = site(rng, n)
        labels = [f"l{code:02d}" for code in y]
        parts.append(pd.DataFrame(X, columns=[f"f{j}" for j in range(FEATURES)]).assign(dx=labels, site=f"s{k:02d}"))
    return pd.concat(parts, ignore_index=True)
