r"""Tests of the terms of an additive model in one weighted, penalised fit with site intercepts.

Smoothing parameters are chosen in the weighted problem. With H = Σ w_bM_b + S and φ = Σ w_br_b/(n − edf), coefficients
have mgcv's Bayesian covariance φH⁻¹ where sites have one variance. Where each has its own, its data part is replaced:

    Cov β = φ H⁻¹SH⁻¹ + Σ_b s²_b w_b² H⁻¹M_bH⁻¹,      s²_b = r_b/d_b,  d_b = n_b − 1 − 2h_b + tr((w_bM_bH⁻¹)(MH⁻¹)).

φ is the mean of w_bs²_b over degrees of freedom, so every variance is a sum Σ k_bs²_b again and has Satterthwaite
degrees of freedom as in `infer.one_step`. Smooths are tested by Wood's (2013a) statistic with this covariance
(`additive.wald`), against the lesser of n − edf and the degrees of freedom of the trace of the term's covariance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pycombat_gam.additive.wald import SmoothStatistic, random_effect_test, smooth_p_values, smooth_statistic
from pycombat_gam.design.design import Design
from pycombat_gam.design.penalties import Penalty
from pycombat_gam.infer.contrast import Tested, f_test, fai_cornelius, t_test
from pycombat_gam.infer.one_step import LEAST_DF
from pycombat_gam.mean.degrees import left_to_batches
from pycombat_gam.mean.fit import Group, MeanFit, Smoothing
from pycombat_gam.mean.posterior import penalised_inverse
from pycombat_gam.penalized.problem import Method
from pycombat_gam.penalized.solve import LeastSquares, by_batch, pooled_factor, solve_penalised
from pycombat_gam.penalized.sufficient import Statistics
from pycombat_gam.smooth.assemble import Smooth
from pycombat_gam.types import Advance, FloatArray, IntArray

CELLS = 2**22
"""Numbers held at once in a block of features."""
LEAST_SITE_DF = 0.5
"""Below it a site's variance is worth no more."""


@dataclass(frozen=True, eq=False)
class AdditiveStep:
    """One weighted fit of k features that are observed on the same rows, penalised.

    Attributes
    ----------
    design : p columns; weights : (B,); statistics : of the rows, each site times √w_b.
    solution : the fit; smoothing : its parameters, for the k features.
    R : (p, p) factor of Σ w_bM_b.
    """

    design: Design
    weights: FloatArray
    statistics: Statistics
    solution: LeastSquares
    smoothing: Smoothing
    R: FloatArray

    @classmethod
    def of(
        cls, design: Design, statistics: Statistics, weights: FloatArray, method: Method, advance: Advance | None = None
    ) -> AdditiveStep:
        """Choose smoothing parameters and fit."""
        scaled = weighted(statistics, weights)
        parameters = design.smoothing_parameters()
        solution = solve_penalised(scaled, parameters.penalties, method, advance)
        fit = solution.smoothing
        assert fit is not None
        smoothing = Smoothing(
            parameters.values(fit.sp),
            parameters.names,
            np.array([fit.edf[columns].sum(axis=0) for columns in design.smooth_slices]),
            tuple(smooth.label for smooth in design.smooth.smooths),
            fit.score[None],
            method,
        )
        return cls(design, weights, scaled, solution, smoothing, pooled_factor(scaled.R)[1])

    @classmethod
    def of_fit(cls, mean: MeanFit, group: Group) -> AdditiveStep:
        """Return the fit that a model has of a group, which is the one with equal weights."""
        members, statistics = group.members, group.statistics
        coefficients = np.ascontiguousarray(mean.coefficients[:, members])
        R = pooled_factor(statistics.R)[1]
        solution = LeastSquares(coefficients, *by_batch(statistics, coefficients), R)
        searched = mean.smoothing
        smoothing = replace(
            searched,
            parameters=searched.parameters[:, members],
            edf=searched.edf[:, members],
            score=searched.score[:, members],
        )
        return cls(mean.design, np.ones(statistics.n.size), statistics, solution, smoothing, R)

    @property
    def penalties(self) -> list[Penalty]:
        """Every penalty with its weights."""
        return self.design.smoothing_parameters().weighted(self.smoothing.parameters)

    @property
    def site_df(self) -> FloatArray:
        """n_b − 1 − h_b of every feature, (B, k) or (B, 1)."""
        every = np.arange(self.solution.coefficients.shape[1])
        return left_to_batches(self.design, self.statistics, self.smoothing, every)

    @property
    def df_residual(self) -> FloatArray:
        """Residual degrees of freedom n − edf of every feature, sites counted, (k,)."""
        free = len(self.design.columns) - sum(s.stop - s.start for s in self.design.smooth_slices)
        n = self.statistics.n
        return np.asarray(n.sum() - (n > 0).sum() - free - self.smoothing.edf.sum(axis=0), dtype=np.float64)

    @property
    def phi(self) -> FloatArray:
        """The variance of unit weight, (k,)."""
        return np.asarray(self.solution.residual_ss.sum(axis=0) / self.df_residual)

    def inverses(self) -> Iterator[tuple[IntArray, FloatArray]]:
        """Yield (features, their H⁻¹ (j, p, p)), a block at a time."""
        B, p = self.statistics.x_mean.shape
        k = self.solution.coefficients.shape[1]
        information = self.R.T @ self.R
        whole = self.statistics.n @ self.statistics.x_mean**2
        width = max(1, CELLS // ((2 + B) * p * p))
        for start in range(0, k, width):
            some = np.arange(start, min(start + width, k))
            penalties = [penalty.of(some) for penalty in self.penalties]
            yield some, penalised_inverse(information, whole, penalties, some.size)


def weighted(statistics: Statistics, weights: FloatArray) -> Statistics:
    """Return the statistics of rows times √w_b: what least squares with weights is of."""
    root = np.sqrt(weights)
    return Statistics(
        statistics.n,
        statistics.x_mean,
        statistics.R * root[:, None, None],
        statistics.y_mean,
        statistics.Z * root[:, None, None],
        statistics.residual_ss * weights[:, None],
        statistics.constant,
    )


@dataclass(frozen=True, eq=False)
class Covariances:
    """Covariances of q contrasts in j features, as sums over site variances.

    Attributes
    ----------
    of_site : (j, B, q, q) what multiplies each site's variance w_bs²_b.
    variance, df : (j, B) the site variances and their degrees of freedom.
    agreement : (j, B, B) half the covariance of r_b/σ²_b and r_c/σ²_c.
    """

    of_site: FloatArray
    variance: FloatArray
    df: FloatArray
    agreement: FloatArray

    @classmethod
    def of(cls, fit: AdditiveStep, C: FloatArray, some: IntArray, inverse: FloatArray) -> Covariances:
        """Find them for contrasts C (q, p), from H⁻¹ (j, p, p) of some features."""
        R, n = fit.statistics.R, fit.statistics.n
        M = R.transpose(0, 2, 1) @ R
        products = inverse[:, None] @ M
        h = np.einsum("jbpp->jb", products)
        agreement = np.einsum("jbpq,jcqp->jbc", products, products, optimize=True)
        squared = agreement.sum(axis=2)
        B = len(n)
        agreement[:, np.arange(B), np.arange(B)] += np.maximum(n - 1, 0) - 2.0 * h
        df = np.where(n > 1, np.maximum(n - 1 - 2.0 * h + squared, LEAST_SITE_DF), 0.0)
        told = df > LEAST_DF
        variance = np.where(told, fit.solution.residual_ss[:, some].T / np.where(told, df, 1.0), 0.0)
        half = R @ (inverse @ C.T)[:, None]
        inner = half.transpose(0, 1, 3, 2) @ half
        prior = C @ inverse @ C.T - inner.sum(axis=1)
        share = df / df.sum(axis=1, keepdims=True)
        return cls(inner + share[:, :, None, None] * prior[:, None], variance, df, agreement)

    @property
    def total(self) -> FloatArray:
        """The covariance, (j, q, q)."""
        return np.asarray(np.einsum("jb,jbst->jst", self.variance, self.of_site))

    def degrees(self, k_b: FloatArray) -> FloatArray:
        """Return Satterthwaite degrees of freedom (j,) of a variance that weighs site variances by k_b (j, B)."""
        part = k_b * self.variance
        told = self.df > LEAST_DF
        q = np.where(told, part / np.where(told, self.df, 1.0), 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(part.sum(axis=1) ** 2 / np.einsum("jb,jbc,jc->j", q, self.agreement, q))


def contrast_test(fit: AdditiveStep, C: FloatArray, *, by_site: bool, raised: float) -> Tested:
    """Test contrasts C (q, p) of parametric columns.

    Parameters
    ----------
    by_site : whether each site has its own variance; otherwise all have one, up to the weights.
    raised : what the variances are multiplied by for the weights' own error.
    """
    q, k = len(C), fit.solution.coefficients.shape[1]
    covariance, df = np.empty((k, q, q)), np.array(fit.df_residual)
    for some, inverse in fit.inverses():
        if not by_site:
            covariance[some] = fit.phi[some, None, None] * (C @ inverse @ C.T)
            continue
        parts = Covariances.of(fit, C, some, inverse)
        covariance[some] = parts.total
        if q == 1:
            df[some] = parts.degrees(parts.of_site[:, :, 0, 0])
            continue
        # Orthonormal where all sites have one variance: see `infer.contrast`.
        unit = np.linalg.inv(np.linalg.cholesky(C @ inverse @ C.T))
        vectors = np.linalg.eigh(unit @ covariance[some] @ unit.transpose(0, 2, 1))[1]
        across = unit.transpose(0, 2, 1) @ vectors
        along = np.einsum("jsi,jbst,jti->ijb", across, parts.of_site, across, optimize=True)
        df[some] = fai_cornelius(np.array([parts.degrees(k_b) for k_b in along]))
    estimate = C @ fit.solution.coefficients
    if q == 1:
        return t_test(estimate[0], covariance[:, 0, 0] * raised, df)
    return f_test(estimate, covariance * raised, df)


def smooth_term_test(fit: AdditiveStep, smooth: Smooth, columns: slice, *, by_site: bool, raised: float) -> Tested:
    """Test a smooth by Wood's (2013a) statistic, one that can shrink to nothing by his (2013b); see `contrast_test`."""
    k, p = fit.solution.coefficients.shape[1], len(fit.design.columns)
    C = np.eye(p)[columns]
    information = fit.R.T @ fit.R
    # R'R = X'WX of the term's columns, as mgcv has it with prior weights.
    means = np.sqrt(fit.weights * fit.statistics.n)[:, None] * fit.statistics.x_mean[:, columns]
    root = np.linalg.qr(np.vstack([fit.R[:, columns], means]))[1]
    beta, phi = fit.solution.coefficients, fit.phi
    statistic, df, p_value = np.full(k, np.nan), np.full(k, np.nan), np.full(k, np.nan)
    df_residual = np.array(fit.df_residual)
    curves: dict[int, SmoothStatistic] = {}
    for some, inverse in fit.inverses():
        parts = Covariances.of(fit, C, some, inverse) if by_site else None
        covariance = phi[some, None, None] * inverse[:, columns, columns] if parts is None else parts.total
        if parts is not None:
            traces = np.einsum("rs,jbst,rt->jb", root, parts.of_site, root, optimize=True)
            df_residual[some] = np.fmin(df_residual[some], parts.degrees(traces))
        for j, feature in enumerate(some.tolist()):
            F = inverse[j] @ information
            if not phi[feature] > 0:
                continue
            if smooth.null_dim > 0:
                rank = min(float(columns.stop - columns.start), float(np.diagonal(2 * F - F @ F)[columns].sum()))
                curve = smooth_statistic(beta[columns, feature], covariance[j] * raised, root, rank)
                curves[feature], statistic[feature], df[feature] = curve, curve.values[0], curve.df
                continue
            test = random_effect_test(
                fit.R,
                [(penalty.columns, penalty.weight[feature] * penalty.matrix) for penalty in fit.penalties],
                columns,
                [place for _, place in fit.design.random_effects],
                beta=beta[:, feature],
                Vp=phi[feature] * inverse[j],
                Ve=phi[feature] * F @ inverse[j],
                scale=phi[feature],
                df_residual=df_residual[feature],
            )
            statistic[feature], df[feature], p_value[feature] = test.statistic, test.df, test.p_value
    if curves:
        which = list(curves)
        p_value[which] = smooth_p_values(list(curves.values()), df_residual[which])
    none = np.full(k, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return Tested(none, none, np.where(df > 0, statistic / df, np.nan), df, df_residual, p_value)
