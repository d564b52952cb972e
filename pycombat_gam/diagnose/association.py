"""Is the biology still there? Each term of the formula is tested in each feature, adjusted for site.

Parametric terms: the Wald test β'V⁻¹β/d against F(d, n − edf) (R: ``anova`` of a gam). Smooths: Wood's (2013a) test.
Smooths that can shrink to nothing (``cs``, ``ts``): Wood's (2013b). The effect size is the partial R², from F·d.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import f as f_distribution

from pycombat_gam.additive.wald import SmoothStatistic, random_effect_test, smooth_p_values, smooth_statistic
from pycombat_gam.diagnose.adjusted import Adjusted
from pycombat_gam.diagnose.location import blocks, partial_r2
from pycombat_gam.diagnose.rows import rows
from pycombat_gam.mean.posterior import inverse_information, residual_df, residual_variance
from pycombat_gam.progress import progress_bar
from pycombat_gam.types import FloatArray


def associations(part: Adjusted, names: np.ndarray, state: str) -> list[dict[str, np.ndarray]]:
    """Test every term except random effects; a row per term and feature."""
    design = part.fit.design
    smooths = {smooth.label: smooth for smooth in design.smooth.smooths}
    parts = []
    for label, columns in design.term_slices.items():
        if label not in smooths:
            statistic, df, p = _parametric(part, columns)
        elif not smooths[label].random:
            statistic, df, p = _smooth(part, label, columns)
        else:
            continue
        df_residual = residual_df(part.fit)
        with np.errstate(divide="ignore", invalid="ignore"):
            F = np.where(part.modelled & (df > 0), statistic / df, np.nan)
        parts.append(
            rows(
                aspect="association", measure="partial R2", state=state, feature=names, covariate=label,
                value=partial_r2(F, df, df_residual), statistic=F, df=df, df_residual=df_residual,
                p=np.where(part.modelled, p, np.nan), n=part.rows.size,
            )
        )  # fmt: skip
    return parts


def _parametric(part: Adjusted, columns: slice) -> tuple[FloatArray, FloatArray, FloatArray]:
    V, p = part.features.size, part.X.shape[1]
    beta = part.fit.coefficients[columns]
    statistic = np.empty(V)
    for some in blocks(V, p**2):
        inverse = inverse_information(part.fit, some)[:, columns, columns]
        solved = np.linalg.solve(inverse, beta[:, some].T[..., None])[..., 0]
        statistic[some] = (beta[:, some].T * solved).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic /= residual_variance(part.fit)
    df = len(beta)
    return statistic, np.full(V, float(df)), np.asarray(f_distribution.sf(statistic / df, df, residual_df(part.fit)))


def _smooth(part: Adjusted, label: str, columns: slice) -> tuple[FloatArray, FloatArray, FloatArray]:
    fit, (V, p) = part.fit, (part.features.size, part.X.shape[1])
    smooth = next(s for s in fit.design.smooth.smooths if s.label == label)
    random = [place for _, place in fit.design.random_effects]
    penalties = fit.penalties
    information = fit.R.T @ fit.R
    root = np.linalg.qr(part.X[:, columns])[1]
    phi, df_residual = residual_variance(fit), residual_df(fit)
    statistic, df, p_value = np.full(V, np.nan), np.full(V, np.nan), np.full(V, np.nan)
    curves: dict[int, SmoothStatistic] = {}
    with progress_bar(f"testing {label}", V) as advance:
        for some in blocks(V, p**2):
            for k, H in zip(some, inverse_information(fit, some), strict=True):
                if not part.modelled[k]:
                    continue
                F = H @ information
                if smooth.null_dim > 0:
                    edf1 = np.diagonal(2 * F - F @ F)[columns].sum()
                    rank = min(float(columns.stop - columns.start), float(edf1))
                    curve = smooth_statistic(fit.coefficients[columns, k], phi[k] * H[columns, columns], root, rank)
                    curves[int(k)], statistic[k], df[k] = curve, curve.values[0], curve.df
                else:
                    test = random_effect_test(
                        fit.R,
                        [(place, weight[k] * S) for _, place, S, weight in penalties],
                        columns,
                        random,
                        beta=fit.coefficients[:, k],
                        Vp=phi[k] * H,
                        Ve=phi[k] * F @ H,
                        scale=phi[k],
                        df_residual=df_residual[k],
                    )
                    statistic[k], df[k], p_value[k] = test.statistic, test.df, test.p_value
            advance(some.size)
    if curves:
        which = list(curves)
        p_value[which] = smooth_p_values(list(curves.values()), df_residual[which])
    return statistic, df, p_value
