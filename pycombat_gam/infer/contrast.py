r"""Tests of linear contrasts in one weighted fit: t of one, F of several, with Satterthwaite degrees of freedom.

Several contrasts C: F = β'C'V⁻¹Cβ/q with V = C Cov(β) C'. Its denominator degrees of freedom are those of Fai &
Cornelius (1996), J Statist Comput Simul 54:363: along the eigenvectors of V, each contrast has its own ν_i; then
E = Σ ν_i/(ν_i − 2) and df = 2E/(E − q), 2 where a ν_i is no larger than that (as R's lmerTest). The eigenvectors are
taken after the contrasts are made orthonormal, t't = I: then the coding of a factor does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import stdtr
from scipy.stats import f as f_distribution

from pycombat_gam.infer.one_step import OneStep
from pycombat_gam.types import FloatArray


@dataclass(frozen=True, eq=False)
class Tested:
    """One test in each of k features.

    Attributes
    ----------
    estimate, se : (k,) of a test of one contrast, NaN of others.
    statistic : (k,) t of one contrast, F of others; df : (k,) numerator, df_residual : (k,) denominator.
    p : (k,) two-sided.
    """

    estimate: FloatArray
    se: FloatArray
    statistic: FloatArray
    df: FloatArray
    df_residual: FloatArray
    p: FloatArray


def t_test(estimate: FloatArray, variance: FloatArray, df_residual: FloatArray) -> Tested:
    """Test one contrast, from its estimate and variance in every feature (k,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        se = np.sqrt(np.where(variance > 0, variance, np.nan))
        t = estimate / se
    p = 2.0 * stdtr(df_residual, -np.abs(t))
    return Tested(estimate, se, t, np.ones_like(t), np.where(np.isnan(se), np.nan, df_residual), np.asarray(p))


def f_test(estimate: FloatArray, covariance: FloatArray, df_residual: FloatArray) -> Tested:
    """Test q contrasts at once, from their estimates (q, k), covariances (k, q, q) and denominators (k,)."""
    q, k = estimate.shape
    F = np.full(k, np.nan)
    size = np.sqrt(np.einsum("kii->ki", covariance))
    sound = (size > 0).all(axis=1)
    if sound.any():
        scaled = covariance[sound] / (size[sound, :, None] * size[sound, None, :])
        z = estimate.T[sound] / size[sound]
        F[sound] = (z * np.linalg.solve(scaled, z[..., None])[..., 0]).sum(axis=1) / q
    none, df = np.full(k, np.nan), np.where(sound, df_residual, np.nan)
    return Tested(none, none, F, np.full(k, float(q)), df, np.asarray(f_distribution.sf(F, q, df)))


def satterthwaite(fit: OneStep, k_b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return variance and degrees of freedom (k,) of contrasts that weigh the site variances by k_b, (B,) or (B, k)."""
    told = fit.informative
    part = k_b[:, None] * fit.site_variance if k_b.ndim == 1 else k_b * fit.site_variance
    q = np.where(told[:, None], part / np.where(told, fit.design.df, 1.0)[:, None], 0.0)
    variance = part.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = variance**2 / (q * (fit.design.A @ q)).sum(axis=0)
    return variance, df


def site_variances(fit: OneStep, C: FloatArray, raised: float) -> Tested:
    """Test contrasts C (q, p), each site with its own variance.

    Parameters
    ----------
    raised : what the variances are multiplied by for the weights' own error; see `infer.kenward_roger`.
    """
    t, w = fit.design.directions(C), fit.design.weights
    estimate = C @ fit.coefficients
    if len(C) == 1:
        variance, df = satterthwaite(fit, w * (t.T @ fit.design.G @ t)[:, 0, 0])
        return t_test(estimate[0], variance * raised, df)
    t, root = np.linalg.qr(t)
    estimate = solve_triangular(root, estimate, trans="T")
    inner = w[:, None, None] * (t.T @ fit.design.G @ t)
    s2 = fit.site_variance
    covariance = np.einsum("bk,bij->kij", s2, inner, optimize=True)
    _, vectors = np.linalg.eigh(covariance)
    along = np.einsum("kji,bjl,kli->ikb", vectors, inner, vectors, optimize=True)
    each = np.array([satterthwaite(fit, k_b.T)[1] for k_b in along])
    return f_test(estimate, covariance * raised, fai_cornelius(each))


def pooled_variance(fit: OneStep, C: FloatArray, raised: float) -> Tested:
    """Test contrasts C (q, p) with one variance of all sites, up to the weights: with equal ones, `lm` with site."""
    t = fit.design.directions(C)
    phi, df = fit.pooled_variance * raised, np.full(fit.coefficients.shape[1], fit.total_df)
    estimate = C @ fit.coefficients
    if len(C) == 1:
        return t_test(estimate[0], phi * float(t[:, 0] @ t[:, 0]), df)
    return f_test(estimate, phi[:, None, None] * (t.T @ t), df)


def fai_cornelius(each: FloatArray) -> FloatArray:
    """Return the denominator degrees of freedom of an F test from those of its q directions, (q, k) → (k,).

    >>> fai_cornelius(np.array([[10.0], [10.0]])).round(12)
    array([10.])
    """
    q = len(each)
    with np.errstate(divide="ignore", invalid="ignore"):
        E = (each / (each - 2.0)).sum(axis=0)
        df = 2.0 * E / (E - q)
    return np.asarray(np.where((each > 2.0).all(axis=0), df, 2.0))
