r"""Do sites differ in scale? Each feature is tested by absolute deviations, and by their ranks.

Both tests start from residuals, less the parts of covariates and sites, and their distance d to the site's median:

- Levene's test in the form of Brown & Forsythe (1974): an analysis of variance of d (R: ``car::leveneTest``, scipy's
  `levene`). Its effect size is the ratio of the largest to the smallest residual standard deviation of a site.
- Fligner & Killeen (1976), median-centred (Conover et al. 1981; R: ``fligner.test``): normal scores
  Φ⁻¹(½ + rank/(2(n + 1))) of d, their between-site sum of squares over their variance. Its effect size is X²/(n − 1).

A site of one row has no scale and is left out. Where the formula has random effects, d is first averaged over the
rows of each group.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2, norm
from scipy.stats import f as f_distribution

from pycombat_gam.diagnose.adjusted import Adjusted
from pycombat_gam.diagnose.location import blocks, ranked
from pycombat_gam.diagnose.rows import rows
from pycombat_gam.progress import tracked
from pycombat_gam.study.units import Units
from pycombat_gam.types import FloatArray, IntArray


def scale_tests(part: Adjusted, names: np.ndarray, state: str) -> list[dict[str, np.ndarray]]:
    """Test that sites have one scale, by two tests; a row per test and feature."""
    if part.units is None:
        return []
    several = np.flatnonzero(part.units.sizes > 1)
    if several.size < 2:
        return []
    inside = np.isin(part.codes, several)
    codes = np.searchsorted(several, part.codes[inside])
    groups = None if part.groups is None else part.groups[inside]
    units = Units(codes, groups)
    rows_of, n, B, V = np.bincount(codes), units.site.size, several.size, part.features.size
    W, X2, ratio = np.empty(V), np.empty(V), np.empty(V)
    parts = blocks(V, 6 * codes.size)
    for some in tracked(parts, f"comparing scales {state}", len(parts)):
        residual = part.residual[np.ix_(inside, some)]
        distance = units.mean(_distance(residual, codes, B))
        W[some] = _variance_ratio(distance, units.site, units.sizes)
        scores = norm.ppf(0.5 + ranked(distance) / (2.0 * (n + 1)))
        with np.errstate(divide="ignore", invalid="ignore"):
            X2[some] = _between(scores, units.site, units.sizes) / scores.var(axis=0, ddof=1)
            sd = np.sqrt(_sums(residual**2, codes, B) / (rows_of[:, None] - 1))
            ratio[some] = sd.max(axis=0) / sd.min(axis=0)
    for statistic in (W, X2, ratio):
        statistic[~part.modelled] = np.nan
    return [
        rows(
            aspect="scale", measure="Levene", state=state, feature=names, value=ratio, statistic=W, df=B - 1,
            df_residual=n - B, p=f_distribution.sf(W, B - 1, n - B), n=n,
        ),
        rows(
            aspect="scale", measure="Fligner-Killeen", state=state, feature=names, value=X2 / (n - 1), statistic=X2,
            df=B - 1, p=chi2.sf(X2, B - 1), n=n,
        ),
    ]  # fmt: skip


def _distance(residual: FloatArray, codes: IntArray, B: int) -> FloatArray:
    distance = np.empty_like(residual)
    for b in range(B):
        here = codes == b
        distance[here] = np.abs(residual[here] - np.median(residual[here], axis=0))
    return distance


def _sums(values: FloatArray, codes: IntArray, B: int) -> FloatArray:
    sums = np.zeros((B, values.shape[1]))
    np.add.at(sums, codes, values)
    return sums


def _between(values: FloatArray, codes: IntArray, sizes: IntArray) -> FloatArray:
    """Return the sum of squares between sites."""
    centred = values - values.mean(axis=0)
    return np.asarray((_sums(centred, codes, sizes.size) ** 2 / sizes[:, None]).sum(axis=0))


def _variance_ratio(values: FloatArray, codes: IntArray, sizes: IntArray) -> FloatArray:
    n, B = codes.size, sizes.size
    between = _between(values, codes, sizes)
    means = _sums(values, codes, B) / sizes[:, None]
    within = ((values - means[codes]) ** 2).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(between / (B - 1) / (within / (n - B)))
