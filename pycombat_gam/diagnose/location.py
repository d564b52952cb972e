r"""Do sites differ in location? Each feature is tested by analysis of variance, and by ranks.

Analysis of variance with covariates: the Wald test that all sites have one level, given the formula's terms,

.. math::

    F = (C\hat\alpha)' [C V_\alpha C']^{-1} (C\hat\alpha) / (B - 1), \qquad
    V_\alpha = \phi(\mathrm{diag}(1/n_b) + \bar x H^{-1} \bar x'),

against F(B − 1, n − edf). Without smooths it is the F test of nested linear models (R: ``anova(lm(y ~ x), lm(y ~ x +
site))``); with smooths R's ``anova(gam(y ~ site + s(x), method = "REML"))``. Its effect size is the partial R².

Kruskal & Wallis (1952) rank a feature less its covariates' part, with a correction for ties; the effect size is
ε² = H/(n − 1). Where the formula has random effects, the means of their groups are ranked: rows of one subject are not
independent.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2, rankdata
from scipy.stats import f as f_distribution

from pycombat_gam.diagnose.adjusted import Adjusted
from pycombat_gam.diagnose.rows import rows
from pycombat_gam.mean.posterior import inverse_information, residual_df, residual_variance
from pycombat_gam.progress import tracked
from pycombat_gam.types import FloatArray, IntArray

_CELLS = 2**23
"""Numbers held at once in a block of features."""


_GRAIN = 1e-10
"""Differences below this many standard deviations are rounding."""


def blocks(size: int, each: int) -> list[IntArray]:
    """Split features 0 … size − 1 into blocks whose arrays, of `each` numbers per feature, stay small."""
    width = max(1, _CELLS // max(each, 1))
    return [np.arange(left, min(left + width, size)) for left in range(0, size, width)]


def anova(part: Adjusted, names: np.ndarray, state: str) -> dict[str, np.ndarray]:
    """Test that all sites have one level, at equal covariates; a row per feature."""
    fit, B, p = part.fit, part.sites.size, part.X.shape[1]
    means = np.zeros((B, p))
    np.add.at(means, part.codes, part.X - fit.center)
    means /= part.sizes[:, None]
    # Differences from the first site; the test is the same for any other.
    level = np.zeros((B, part.features.size))
    np.add.at(level, part.codes, part.level)
    level /= part.sizes[:, None]
    ahead = level[1:] - level[0]
    phi, df_residual = residual_variance(fit), residual_df(fit)
    statistic = np.empty(part.features.size)
    parts = blocks(part.features.size, (p + B) ** 2)
    for some in tracked(parts, f"comparing sites {state}", len(parts)):
        spread = means @ inverse_information(fit, some) @ means.T + np.diag(1.0 / part.sizes)
        between = spread[:, 1:, 1:] - spread[:, 1:, :1] - spread[:, :1, 1:] + spread[:, :1, :1]
        solved = np.linalg.solve(between, ahead[:, some].T[..., None])[..., 0]
        statistic[some] = (ahead[:, some].T * solved).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        F = np.where(part.modelled, statistic / phi / (B - 1), np.nan)
    return rows(
        aspect="location", measure="ANOVA", state=state, feature=names,
        value=partial_r2(F, B - 1, df_residual), statistic=F, df=B - 1, df_residual=df_residual,
        p=f_distribution.sf(F, B - 1, df_residual), n=part.rows.size,
    )  # fmt: skip


def partial_r2(F: FloatArray, df: FloatArray | float, df_residual: FloatArray) -> FloatArray:
    """Return the share of the variance that a term explains, of what all other terms leave."""
    return np.asarray(F * df / (F * df + df_residual))


def ranked(values: FloatArray) -> FloatArray:
    """Rank each column; ties that differ only by the rounding of a subtracted mean stay tied."""
    grain = _GRAIN * np.maximum(values.std(axis=0), np.finfo(np.float64).tiny)
    return np.asarray(rankdata(np.round((values - values.mean(axis=0)) / grain), axis=0))


def kruskal(part: Adjusted, names: np.ndarray, state: str) -> list[dict[str, np.ndarray]]:
    """Test by ranks that sites have one location, less the covariates' part (R: ``kruskal.test``)."""
    units = part.units
    if units is None:
        return []
    n, B = units.site.size, part.sites.size
    H = np.empty(part.features.size)
    parts = blocks(part.features.size, 4 * n)
    for some in tracked(parts, f"ranking features {state}", len(parts)):
        H[some] = _kruskal(units.mean(part.free[:, some]), units.site, units.sizes)
    H[~part.modelled] = np.nan
    return [
        rows(
            aspect="location", measure="Kruskal-Wallis", state=state, feature=names, value=H / (n - 1), statistic=H,
            df=B - 1, p=chi2.sf(H, B - 1), n=n,
        )
    ]  # fmt: skip


def _kruskal(values: FloatArray, codes: IntArray, sizes: IntArray) -> FloatArray:
    n = codes.size
    ranks = ranked(values)
    middle = (n + 1) / 2
    sums = np.zeros((sizes.size, values.shape[1]))
    np.add.at(sums, codes, ranks - middle)
    # The empirical variance of the ranks, instead of (n³ − n)/12, corrects for ties.
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((n - 1) * (sums**2 / sizes[:, None]).sum(axis=0) / ((ranks - middle) ** 2).sum(axis=0))
