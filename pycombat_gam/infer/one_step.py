r"""Weighted least squares with site intercepts, and the covariance of its estimates under site variances of their own.

With weights w_b that all features share, M_b = R_b'R_b and the QR of the stacked √w_b R_b = Q_bR,

    Φ = (Σ w_bM_b)⁻¹ = R⁻¹R⁻ᵀ,   β = Φ Σ w_bR_b'Z_b,   r_b = s_b + ‖Z_b − R_bβ‖²,   h_b = w_b tr(ΦM_b) = ‖Q_b‖²,

    s²_b = r_b/d_b,  d_b = n_b − 1 − h_b,      Cov β = Σ_b s²_b w_b² ΦM_bΦ.

A contrast c'β has, with t = R⁻ᵀc and G_b = Q_b'Q_b, the variance v = Σ k_bs²_b, k_b = w_b t'G_bt. Its degrees of
freedom follow from v's own variance (Satterthwaite 1946): df = v²/(q'Aq), q_b = k_bs²_b/d_b, where

    A_bc = tr(G_bG_c) + [b = c](n_b − 1 − 2h_b)

is half the covariance of r_b/σ_b² and r_c/σ_c² where the weights hold. Nothing here squares the design.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from pycombat_gam.penalized.solve import by_batch
from pycombat_gam.penalized.sufficient import Statistics
from pycombat_gam.types import BoolArray, FloatArray, IntArray

LEAST_DF = 1e-8
"""Fewer degrees of freedom are rounding: the covariates take all of a site's rows."""


@dataclass(frozen=True, eq=False)
class SiteDesign:
    """A design of p columns at B sites, with weights.

    Attributes
    ----------
    n : (B,) rows; weights : (B,).
    Q : (B, any, p), R : (p, p) and G : (B, p, p), see the module.
    h, df : (B,) leverages h_b and degrees of freedom d_b; A : (B, B).
    """

    n: IntArray
    weights: FloatArray
    Q: FloatArray
    R: FloatArray
    G: FloatArray
    h: FloatArray
    df: FloatArray
    A: FloatArray

    @classmethod
    def of(cls, R: FloatArray, n: IntArray, weights: FloatArray) -> SiteDesign:
        """Factor site factors R (B, any, p), of full column rank together."""
        B, rows, p = R.shape
        scaled = np.sqrt(weights)[:, None, None] * R
        stacked, pooled = np.linalg.qr(scaled.reshape(B * rows, p))
        Q = stacked.reshape(B, rows, p)
        G = Q.transpose(0, 2, 1) @ Q
        h = np.einsum("bpp->b", G)
        flat = G.reshape(B, p * p)
        A = flat @ flat.T
        A[np.diag_indices(B)] += np.maximum(n - 1, 0) - 2.0 * h
        return cls(n, weights, Q, pooled, G, h, np.maximum(n - 1.0 - h, 0.0), A)

    def directions(self, C: FloatArray) -> FloatArray:
        """Return R⁻ᵀC', (p, q), of contrasts C (q, p)."""
        return np.asarray(solve_triangular(self.R, C.T, trans="T"))


@dataclass(frozen=True, eq=False)
class OneStep:
    """One weighted fit of k features that are observed on the same rows.

    Attributes
    ----------
    design : p columns at B sites.
    coefficients : (p, k); residual_ss : (B, k).
    """

    design: SiteDesign
    coefficients: FloatArray
    residual_ss: FloatArray

    @classmethod
    def of(cls, statistics: Statistics, weights: FloatArray) -> OneStep:
        """Fit; the design has columns, of full rank within sites."""
        design = SiteDesign.of(statistics.R, statistics.n, weights)
        size = np.sqrt(np.einsum("ij,ij->j", design.R, design.R))
        projected = np.zeros((size.size, statistics.Z.shape[2]))
        for b, root in enumerate(np.sqrt(weights)):
            projected += root * (design.Q[b].T @ statistics.Z[b])
        coefficients = np.ascontiguousarray(solve_triangular(design.R / size, projected)) / size[:, None]
        return cls(design, coefficients, by_batch(statistics, coefficients)[1])

    @property
    def informative(self) -> BoolArray:
        """Whether a site tells its own variance, (B,)."""
        return np.asarray(self.design.df > LEAST_DF)

    @property
    def total_df(self) -> float:
        """Residual degrees of freedom of all sites: n − p − B."""
        return float(np.maximum(self.design.n - 1, 0).sum() - self.coefficients.shape[0])

    @property
    def site_variance(self) -> FloatArray:
        """s²_b of every feature, (B, k); zero where a site tells none."""
        df = np.where(self.informative, self.design.df, np.inf)
        return np.asarray(self.residual_ss / df[:, None])

    @property
    def pooled_variance(self) -> FloatArray:
        """The variance of unit weight of every feature, (k,)."""
        return np.asarray(self.design.weights @ self.residual_ss / self.total_df)
