r"""Tests of parametric terms beside random effects: Satterthwaite degrees of freedom from the REML information.

With H = Σ w_bM_b + Σ λ_jS_j, a contrast has the variance v = φc'H⁻¹c, and the parameters (log φ, log λ_1, …) of the m
random effects have the expected REML information (Harville 1977, J Am Stat Assoc 72:320)

    I_00 = ½(n − M),    I_0j = −½(q_j − λ_j tr S_jH⁻¹),
    I_jl = ½([j = l](q_j − 2λ_j tr S_jH⁻¹) + λ_jλ_l tr S_jH⁻¹S_lH⁻¹),

M unpenalised columns, sites among them, and q_j the rank of S_j. With the gradient g of v, df = 2v²/(g'I⁻¹g): for one
contrast Kenward and Roger's (1997). Smooths beside the random effects keep their λ. A single random effect needs no
matrix of its size: in the basis where its penalty is the identity and the rest is diag(e), everything is a sum over e.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from pycombat_gam.infer.additive import AdditiveStep
from pycombat_gam.infer.contrast import Tested, f_test, fai_cornelius, t_test
from pycombat_gam.mean.degrees import split_penalised
from pycombat_gam.penalized.whiten import INSIDE
from pycombat_gam.types import FloatArray, IntArray

LEAST_INFORMATION = 1e-6
"""On log λ of a variance at zero, whose gradient is zero as well."""


@dataclass(frozen=True, eq=False)
class Curvature:
    """What contrasts and variance parameters of j features have to do with each other: m random effects.

    Attributes
    ----------
    covariance : (j, q, q) CH⁻¹C'; slopes : (j, m, q, q) λ_lCH⁻¹S_lH⁻¹C', what it loses as log λ_l grows.
    information : (j, 1 + m, 1 + m).
    """

    covariance: FloatArray
    slopes: FloatArray
    information: FloatArray


def mixed_test(fit: AdditiveStep, C: FloatArray, *, raised: float) -> Tested:
    """Test contrasts C (q, p) of parametric columns; sites have one variance, up to the weights."""
    q, k = len(C), fit.solution.coefficients.shape[1]
    covariance, df = np.empty((k, q, q)), np.empty(k)
    for some, curvature in _curvatures(fit, C):
        covariance[some] = curvature.covariance
        vectors = np.linalg.eigh(curvature.covariance)[1]
        v = np.einsum("jsi,jst,jti->ij", vectors, curvature.covariance, vectors, optimize=True)
        lost = np.einsum("jsi,jmst,jti->ijm", vectors, curvature.slopes, vectors, optimize=True)
        gradient = np.concatenate([v[..., None], -lost], axis=-1)
        solved = np.linalg.solve(curvature.information, gradient[..., None])[..., 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            each = 2.0 * v**2 / (gradient * solved).sum(axis=-1)
        df[some] = fai_cornelius(each) if q > 1 else each[0]
    df = np.minimum(df, float(fit.statistics.n.sum()))
    scale = np.maximum(fit.phi, 0.0) * raised
    estimate = C @ fit.solution.coefficients
    if q == 1:
        return t_test(estimate[0], covariance[:, 0, 0] * scale, df)
    return f_test(estimate, covariance * scale[:, None, None], df)


def _curvatures(fit: AdditiveStep, C: FloatArray) -> Iterator[tuple[IntArray, Curvature]]:
    penalties = fit.penalties
    if len(penalties) == 1:
        yield np.arange(fit.solution.coefficients.shape[1]), _single(fit, C)
        return
    random = [place for smooth, place in fit.design.random_effects]
    effects = [penalty for penalty in penalties if penalty.columns in random]
    ranks = np.array([np.linalg.matrix_rank(penalty.matrix, hermitian=True) for penalty in effects], dtype=np.float64)
    for some, inverse in fit.inverses():
        products = [
            penalty.weight[some, None, None] * (penalty.matrix @ inverse[:, penalty.columns]) for penalty in effects
        ]
        blocks = [product[:, :, penalty.columns] for product, penalty in zip(products, effects, strict=True)]
        traces = np.array([np.einsum("jss->j", block) for block in blocks]).T
        left = inverse @ C.T
        slopes = np.array(
            [
                left[:, penalty.columns].transpose(0, 2, 1) @ (product @ C.T)
                for product, penalty in zip(products, effects, strict=True)
            ]
        )
        m = len(effects)
        information = np.empty((some.size, m, m))
        for a, b in np.ndindex(m, m):
            information[:, a, b] = np.einsum(
                "jst,jts->j", products[a][:, :, effects[b].columns], products[b][:, :, effects[a].columns]
            )
        information[:, np.arange(m), np.arange(m)] += ranks - 2.0 * traces
        yield some, Curvature(C @ left, slopes.transpose(1, 0, 2, 3), _whole(fit, information, ranks - traces))


def _single(fit: AdditiveStep, C: FloatArray) -> Curvature:
    """Return the curvature where one penalty is all, of all features at once."""
    (penalty,) = fit.penalties
    free, penalised = split_penalised([penalty], len(fit.design.columns))
    size = np.sqrt(np.einsum("ij,ij->j", fit.R @ free, fit.R @ free))
    F, T = np.linalg.qr(fit.R @ free / np.where(size > 0, size, 1.0))
    held = F.T @ (fit.R @ penalised)
    K = fit.R @ penalised - F @ held
    K -= F @ (F.T @ K)
    _, values, rows = np.linalg.svd(K, full_matrices=False)
    raw = np.vstack([fit.R, np.sqrt(fit.statistics.n)[:, None] * fit.statistics.x_mean]) @ penalised
    e = np.where(values > INSIDE * np.linalg.norm(raw), values, 0.0) ** 2
    # C in the basis of the free columns; a parametric contrast has no part in the others.
    C0 = C @ free / np.where(size > 0, size, 1.0)
    t = solve_triangular(T, C0.T, trans="T")
    along = (t.T @ held) @ rows.T
    lam = penalty.weight[:, None]
    inverse = 1.0 / np.maximum(e + lam, np.finfo(np.float64).tiny)
    pairs = np.einsum("sr,tr->rst", along, along)
    covariance = t.T @ t + np.einsum("kr,rst->kst", inverse, pairs, optimize=True)
    slopes = np.einsum("kr,rst->kst", lam * inverse**2, pairs, optimize=True)
    kept = e * inverse
    return Curvature(
        covariance, slopes[:, None], _whole(fit, (kept**2).sum(axis=1)[:, None, None], kept.sum(axis=1)[:, None])
    )


def _whole(fit: AdditiveStep, of_lambda: FloatArray, with_scale: FloatArray) -> FloatArray:
    """Put the information together: twice that of log λ (j, m, m), and twice that with log φ, less its sign (j, m)."""
    j, m = with_scale.shape
    n = fit.statistics.n
    free = n.sum() - (n > 0).sum() - len(fit.design.unpenalised().columns)
    information = np.empty((j, 1 + m, 1 + m))
    information[:, 0, 0] = 0.5 * free
    information[:, 0, 1:] = information[:, 1:, 0] = -0.5 * with_scale
    information[:, 1:, 1:] = 0.5 * of_lambda
    places = np.arange(1, 1 + m)
    information[:, places, places] = np.maximum(information[:, places, places], LEAST_INFORMATION)
    return information
