"""Are two harmonized tables the same, up to the digits that a file may lose?"""

from __future__ import annotations

import numpy as np

AGREEMENT = 1e-6
"""Two harmonized tables are the same up to this, in standard deviations of a feature: digits that a file may lose."""


def agree(a: np.ndarray, b: np.ndarray) -> bool:
    """Tell whether two tables of features (n, V) agree, missing cells included."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if not (np.isnan(a) == np.isnan(b)).all():
        return False
    spread = np.nanstd(a, axis=0)
    return bool((np.abs(np.nan_to_num(a - b)) <= AGREEMENT * np.where(spread > 0, spread, 1.0)).all())
