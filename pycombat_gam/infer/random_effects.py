r"""Tests of parametric terms beside random effects: Satterthwaite degrees of freedom from the REML information.

With H = Σ w_bM_b + Σ λ_jS_j, a contrast has the variance v = φc'H⁻¹c, and the parameters (log φ, log λ_1, …) of the m
random effects have the expected REML information (Harville 1977, J Am Stat Assoc 72:320)

    I_00 = ½(n − M),    I_0j = −½(q_j − λ_j tr S_jH⁻¹),
    I_jl = ½([j = l](q_j − 2λ_j tr S_jH⁻¹) + λ_jλ_l tr S_jH⁻¹S_lH⁻¹),

M unpenalised columns, sites among them, and q_j the rank of S_j. With the gradient g of v, df = 2v²/(g'I⁻¹g): for one
contrast Kenward and Roger's (1997). Gradient and information are multiplied by λ_j plus the size of the data, which
changes no df: both stay away from zero where a variance is zero. Smooths beside the random effects keep their λ. A
single random effect needs no matrix of its size: in the basis where its penalty is the identity and the rest is
diag(e), everything is a sum over e.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from pycombat_gam.design.penalties import Penalty
from pycombat_gam.infer.additive import AdditiveStep
from pycombat_gam.infer.contrast import Tested, f_test, fai_cornelius, t_test
from pycombat_gam.mean.degrees import split_penalised
from pycombat_gam.mean.posterior import penalised_inverse
from pycombat_gam.penalized.whiten import INSIDE
from pycombat_gam.types import FloatArray, IntArray

FAR = 1e5
"""Beyond this multiple of the data a penalty's curvature is that of an infinite one, and sums would lose its digits."""


@dataclass(frozen=True, eq=False)
class Curvature:
    """What contrasts and variance parameters of j features have to do with each other: m random effects.

    Attributes
    ----------
    covariance : (j, q, q) CH⁻¹C'; slopes : (j, m, q, q) λ_lCH⁻¹S_lH⁻¹C', what it loses as log λ_l grows, times
        λ_l plus the size of the data.
    information : (j, 1 + m, 1 + m), times the same.
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
    random = [place for _, place in fit.design.random_effects]
    information = fit.R.T @ fit.R
    whole = fit.statistics.n @ fit.statistics.x_mean**2
    for some, inverse in fit.inverses():
        capped, sizes = [], []
        for penalty in (penalty.of(some) for penalty in penalties):
            size = float(np.trace(information[penalty.columns, penalty.columns]) / np.trace(penalty.matrix))
            if penalty.columns in random:
                penalty = penalty._replace(weight=np.minimum(penalty.weight, FAR * size))
                sizes.append(penalty.weight + size)
            capped.append(penalty)
        effects = [penalty for penalty in capped if penalty.columns in random]
        curved = penalised_inverse(information, whole, capped, some.size)
        yield some, _several(fit, C, C @ inverse @ C.T, curved, effects, np.array(sizes).T)


def _several(
    fit: AdditiveStep,
    C: FloatArray,
    covariance: FloatArray,
    inverse: FloatArray,
    effects: Sequence[Penalty],
    sizes: FloatArray,
) -> Curvature:
    """Return the curvature of several random effects, from H⁻¹ (j, p, p) with penalties that keep digits."""
    m = len(effects)
    ranks = np.array([np.linalg.matrix_rank(penalty.matrix, hermitian=True) for penalty in effects], dtype=np.float64)
    products = [penalty.weight[:, None, None] * (penalty.matrix @ inverse[:, penalty.columns]) for penalty in effects]
    traces = np.array(
        [
            np.einsum("jss->j", product[:, :, penalty.columns])
            for product, penalty in zip(products, effects, strict=True)
        ]
    ).T
    left = inverse @ C.T
    slopes = np.array(
        [
            left[:, penalty.columns].transpose(0, 2, 1) @ (product @ C.T)
            for product, penalty in zip(products, effects, strict=True)
        ]
    ).transpose(1, 0, 2, 3)
    information = np.empty((len(inverse), m, m))
    for a, b in np.ndindex(m, m):
        forth, back = products[a][:, :, effects[b].columns], products[b][:, :, effects[a].columns]
        information[:, a, b] = np.einsum("jst,jts->j", forth, back)
    information[:, np.arange(m), np.arange(m)] += ranks - 2.0 * traces
    information *= sizes[:, :, None] * sizes[:, None, :]
    return Curvature(covariance, slopes * sizes[:, :, None, None], _whole(fit, information, (ranks - traces) * sizes))


def _single(fit: AdditiveStep, C: FloatArray) -> Curvature:
    """Return the curvature where one penalty is all, of all features at once."""
    (penalty,) = fit.penalties
    free, penalised = split_penalised([penalty], len(fit.design.columns))
    length = np.sqrt(np.einsum("ij,ij->j", fit.R @ free, fit.R @ free))
    length[length == 0.0] = 1.0
    F, T = np.linalg.qr(fit.R @ free / length)
    held = F.T @ (fit.R @ penalised)
    K = fit.R @ penalised - F @ held
    K -= F @ (F.T @ K)
    _, values, rows = np.linalg.svd(K, full_matrices=False)
    raw = np.vstack([fit.R, np.sqrt(fit.statistics.n)[:, None] * fit.statistics.x_mean]) @ penalised
    e = np.where(values > INSIDE * np.linalg.norm(raw), values, 0.0) ** 2
    # C in the basis of the free columns; a parametric contrast has no part in the others.
    C0 = C @ free / length
    t = solve_triangular(T, C0.T, trans="T")
    along = (t.T @ held) @ rows.T
    size = float(e.mean()) if e.any() else 1.0
    pairs = np.einsum("sr,tr->rst", along, along)
    inverse = 1.0 / np.maximum(e + penalty.weight[:, None], np.finfo(np.float64).tiny)
    covariance = t.T @ t + np.einsum("kr,rst->kst", inverse, pairs, optimize=True)
    lam = np.minimum(penalty.weight, FAR * size)[:, None]
    scale, inverse = lam[:, 0] + size, 1.0 / np.maximum(e + lam, np.finfo(np.float64).tiny)
    slopes = np.einsum("kr,rst->kst", lam * inverse**2, pairs, optimize=True) * scale[:, None, None]
    kept = e * inverse * scale[:, None]
    information = _whole(fit, (kept**2).sum(axis=1)[:, None, None], kept.sum(axis=1)[:, None])
    return Curvature(covariance, slopes[:, None], information)


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
    information[:, places, places] += information[:, places, places] == 0.0
    return information
