r"""How many independent features correlated ones are worth.

Site variances common to all features are estimated from V features. Where these are correlated, the estimate is as good
as one from V_eff = V/(1 + (V − 1)r̄²) independent features, with r̄² the mean squared correlation of two features'
residuals less what chance gives, 1/df: with normal errors log s²_j and log s²_k have correlation r²_jk, nearly.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pycombat_gam.mean.fit import MeanFit
from pycombat_gam.types import FloatArray, IntArray

FEATURES = 200
"""Pairs of this many features, spread evenly over all, tell the mean of all pairs."""


def effective_features(V: int, mean_squared: float) -> float:
    """Return V_eff.

    >>> effective_features(100, 0.0), effective_features(100, 1.0)
    (100.0, 1.0)
    """
    return V / (1.0 + (V - 1) * mean_squared) if V else 0.0


def residual_correlation(mean: MeanFit, Y: np.ndarray, table: pd.DataFrame, codes: IntArray) -> float:
    """Return the mean squared correlation of two features' residuals beyond chance, 0 where no two vary.

    Parameters
    ----------
    mean : of V features; Y : (n, V) they; table : (n rows) covariates; codes : (n,) batches.
    """
    spread = np.sqrt(mean.residual_ss.sum(axis=0) / mean.n_observed.sum(axis=0))
    varying = np.flatnonzero(spread > mean.rounding.max(axis=0))
    some = varying[np.unique(np.linspace(0, varying.size - 1, min(varying.size, FEATURES)).astype(np.intp))]
    if some.size < 2:
        return 0.0
    residual = mean.design.less_offset(np.asarray(Y[:, some], dtype=np.float64), table)
    X = mean.design.on(table) - mean.center
    location = mean.intercepts[:, some] + mean.center @ mean.coefficients[:, some]
    residual = residual - X @ mean.coefficients[:, some] - location[codes]
    taken = float(mean.n_rows.sum()) - mean.df_residual
    return mean_squared_correlation(residual, codes, len(mean.n_rows), taken)


def mean_squared_correlation(residual: FloatArray, codes: IntArray, n_batches: int, taken: float) -> float:
    """Return the mean squared correlation of two columns of residuals (n, k) beyond chance.

    Parameters
    ----------
    residual : missing cells are NaN; codes : (n,) batches, whose variances are made equal first.
    taken : degrees of freedom that the fit took of each column.
    """
    seen = ~np.isnan(residual)
    left = np.where(seen, residual, 0.0)
    for b in range(n_batches):
        rows = codes == b
        n = seen[rows].sum(axis=0)
        sd = np.sqrt((left[rows] ** 2).sum(axis=0) / np.maximum(n, 1))
        left[rows] = np.divide(left[rows], sd, out=np.zeros_like(left[rows]), where=sd > 0)
    if seen.all():
        total = (left**2).sum(axis=0)
        shared = np.full((total.size, total.size), float(len(residual)))
        size = np.sqrt(np.outer(total, total))
    else:
        shared = seen.T.astype(np.float64) @ seen
        squares = (left**2).T @ seen
        size = np.sqrt(squares * squares.T)
    cross = np.divide(left.T @ left, size, out=np.zeros_like(size), where=size > 0)
    chance = 1.0 / np.maximum(shared - taken, 1.0)
    beyond = (cross**2 - chance) / np.maximum(1.0 - chance, 0.5)
    np.fill_diagonal(beyond, 0.0)
    k = residual.shape[1]
    return float(np.clip(beyond.sum() / (k * (k - 1)), 0.0, 1.0))
