r"""Rubin's rules: one result from the analyses of several draws of a table.

With estimates Q_i and squared standard errors U_i of m tables,

    Q̄ = ΣQ_i/m,   W = ΣU_i/m,   B = Σ(Q_i − Q̄)²/(m − 1),   T = W + (1 + 1/m)B,

and degrees of freedom of Barnard & Rubin (1999, Biometrika 86:948): with λ = (1 + 1/m)B/T and ν those of one table
without missing information, 1/ν̃ = λ²/(m − 1) + 1/[(ν + 1)/(ν + 3) ν(1 − λ)]. The fraction of missing information is
(r + 2/(ν̃ + 3))/(1 + r), r = (1 + 1/m)B/W (Rubin 1987, §3.3; R: `mice::pool.scalar`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from pycombat_gam.errors import DataError, OptionError
from pycombat_gam.types import FloatArray
from pycombat_gam.words import listing

LEAST_SHARE = 1e-4
"""A share of missing information below this counts as this: degrees of freedom stay finite (as in mice)."""


def pool(estimates: object, variances: object, df: object = np.inf) -> pd.DataFrame:
    """Put the analyses of m harmonized tables together by Rubin's rules.

    Parameters
    ----------
    estimates : array of shape (m,) or (m, k), Series, DataFrame, or list of any of one table
        An estimate from each table, of k features (or terms) if there are several.
    variances : same
        Squared standard errors.
    df : float, or array of shape (k,) or (m,) or (m, k)
        Residual degrees of freedom of each analysis; by default infinite, for large tables. If they differ between
        tables their mean is taken.

    Returns
    -------
    DataFrame
        A row for each feature: ``feature``, ``estimate``, ``se``, ``df``, ``p`` of a two-sided t test against zero, and
        ``fraction_missing``, the share of information that uncertain site effects cost.

    Raises
    ------
    OptionError
        For fewer than two tables, shapes that differ, and degrees of freedom that are not positive.
    DataError
        For estimates that are not finite, and variances that are negative or not finite.

    Examples
    --------
    >>> import pycombat_gam as pcg
    >>> pcg.pool([1.0, 1.2, 0.9], [0.04, 0.05, 0.045], df=40).round(3)
      feature  estimate     se     df      p  fraction_missing
    0      x0     1.033  0.276  7.819  0.006             0.518
    """
    Q, labels = _table(estimates, "estimates")
    U, other = _table(variances, "variances")
    if isinstance(estimates, pd.DataFrame) and isinstance(variances, pd.DataFrame) and labels != other:
        raise OptionError(f"estimates are of {listing(labels)}, variances of {listing(other)}: give the same columns")
    if Q.shape != U.shape:
        raise OptionError(f"estimates are {_shape(Q)}, variances {_shape(U)}: they must agree")
    m, k = Q.shape
    if m < 2:
        raise OptionError("pool needs the estimates of at least two tables: model.draws(table, m=20) gives 20")
    for name, values, wrong in (
        ("estimates", Q, ~np.isfinite(Q)),
        ("variances", U, ~np.isfinite(U) | (U < 0)),
    ):
        if wrong.any():
            what = "not finite" if name == "estimates" else "negative or not finite"
            where = listing(np.array(labels, dtype=object)[wrong.any(axis=0)])
            raise DataError(f"{name} of {where} are {what}, such as {values[wrong][0]}")
    nu = _degrees(df, m, k)
    estimate, within, between = Q.mean(axis=0), U.mean(axis=0), Q.var(axis=0, ddof=1)
    total = within + (1.0 + 1.0 / m) * between
    share = np.divide((1.0 + 1.0 / m) * between, total, out=np.zeros(k), where=total > 0)
    r = np.divide((1.0 + 1.0 / m) * between, within, out=np.full(k, np.inf), where=within > 0)
    old = (m - 1) / np.maximum(share, LEAST_SHARE) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = np.where(np.isinf(nu), np.inf, (nu + 1.0) / (nu + 3.0) * nu * (1.0 - share))
        freedom = np.where(observed > 0, 1.0 / (1.0 / old + 1.0 / observed), 0.0)
        missing = np.where(np.isinf(r), 1.0, (r + 2.0 / (freedom + 3.0)) / (1.0 + r))
        missing = np.where(between > 0, missing, 0.0)
        se = np.sqrt(total)
        p = 2.0 * stats.t.sf(np.abs(estimate) / se, freedom)
    return pd.DataFrame(
        {"feature": labels, "estimate": estimate, "se": se, "df": freedom, "p": p, "fraction_missing": missing}
    )


def _table(values: object, name: str) -> tuple[FloatArray, list[str]]:
    """Return numbers (m, k) and the names of the k columns."""
    if isinstance(values, Sequence) and values and all(isinstance(item, pd.Series) for item in values):
        values = pd.DataFrame(list(values))
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{name} must be numbers, a row for each table: {error}") from error
    if numbers.ndim == 1:
        numbers = numbers[:, None]
    if numbers.ndim != 2 or not numbers.size:
        raise OptionError(f"{name} have {numbers.ndim} dimensions: give (m,), or (m, k) with a row for each table")
    if isinstance(values, pd.DataFrame):
        return numbers, [str(column) for column in values.columns]
    if isinstance(values, pd.Series) and values.name is not None:
        return numbers, [str(values.name)]
    return numbers, [f"x{j}" for j in range(numbers.shape[1])]


def _degrees(df: object, m: int, k: int) -> FloatArray:
    try:
        nu = np.asarray(df, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise OptionError(f"df must be numbers: {error}") from error
    if not (nu > 0).all():
        raise OptionError("df must be positive: the residual degrees of freedom of an analysis of one table")
    if nu.ndim == 2 and nu.shape == (m, k):
        return np.asarray(nu.mean(axis=0))
    if nu.shape == (m,) and m != k:
        return np.full(k, nu.mean())
    if nu.shape not in ((), (1,), (k,)):
        raise OptionError(f"df is of shape {nu.shape}: give a number, or one for each of the {k} features")
    return np.broadcast_to(nu, (k,))


def _shape(values: FloatArray) -> str:
    return " × ".join(map(str, values.shape))
