r"""REML, ML and GCV in the log smoothing parameters, with gradient and Hessian, for many responses at once.

With H = K'K + Σλ_jA_j, v = H⁻¹K'z, D = ‖z − Kv‖² + Σλ_jv'A_jv + rss₀ (sums of squares all, never a difference)
and ν = n/γ − M (Wood 2011, eqs 4–6; M = 0 and no |X_u'X_u| for ML):

    REML = ½ν(1 + log 2πφ̂) + ½(log|X_u'X_u| + log|H| − log|Σλ_jA_j|) + ½M log γ − ½Σlog w/γ,      φ̂ = D/(γν),
    GCV  = n·rss/(n − γ·edf)², minimised as its logarithm,      edf = M + tr(H⁻¹K'K).

Derivatives (∂ for ∂/∂ρ_j, ρ_j = log λ_j):

    ∂_jv = −λ_jH⁻¹A_jv,      ∂_jD = λ_jv'A_jv,      ∂_jkD = δ_jk∂_jD − 2λ_jλ_kv'A_jH⁻¹A_kv,
    ∂_j log|H| = λ_jtr(H⁻¹A_j),      ∂_jk log|H| = δ_jk∂_j log|H| − λ_jλ_ktr(H⁻¹A_jH⁻¹A_k).

Where the A_j are diagonal the traces are a_j'(H⁻¹∘H⁻¹)a_k: one inverse per response, and nothing else of order r³.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pycombat_gam.penalized.logdet import log_determinant
from pycombat_gam.penalized.problem import Method
from pycombat_gam.penalized.whiten import Whitened
from pycombat_gam.types import BoolArray, FloatArray

TINY = 1e-300
"""Stands for a deviance of zero, of which no logarithm can be taken."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The criterion of v responses at their parameters: score (v,), gradient (v, m), Hessian (v, m, m) in log λ."""

    score: FloatArray
    gradient: FloatArray
    hessian: FloatArray


@dataclass(frozen=True, eq=False)
class Solution:
    """Penalised fits: v (r, v) coordinates; H⁻¹ (v, r, r); log|H| (v,); rss (v,) and penalty (v, m) λ_jv'A_jv."""

    v: FloatArray
    inverse: FloatArray
    log_det: FloatArray
    rss: FloatArray
    penalty: FloatArray


class Criterion:
    """One criterion on one whitened problem.

    Parameters
    ----------
    problem : the problem, V responses; method, gamma : the criterion.
    """

    def __init__(self, problem: Whitened, method: Method, gamma: float) -> None:
        self.problem = problem
        self.method = method
        self.gamma = gamma
        self.diagonal, self.dense = problem.penalties
        self.touched: BoolArray = self.diagonal > 0  # (m, r) which coordinates each penalty acts on
        self.gram = problem.K.T @ problem.K
        self.Kz = problem.K.T @ problem.z
        self.full_gram = problem.full.T @ problem.full
        self.M = 0 if method == "ML" else problem.M
        self.nu = problem.n / gamma - self.M

    def penalty_sum(self, lam: FloatArray) -> FloatArray:
        """Σ_jλ_jA_j of parameters lam (v, m): (v, r, r)."""
        if self.dense is not None:
            return np.asarray(np.tensordot(lam, self.dense, axes=1))
        r = self.gram.shape[0]
        total = np.zeros((lam.shape[0], r, r))
        total[:, np.arange(r), np.arange(r)] = lam @ self.diagonal
        return total

    def solve(self, lam: FloatArray, members: np.ndarray | slice) -> Solution:
        """Fit the responses `members` with λ = lam (v, m)."""
        inverse, log_det = _inverse(self.gram + self.penalty_sum(lam))
        b = np.einsum("vij,jv->iv", inverse, self.Kz[:, members])
        left = self.problem.z[:, members] - self.problem.K @ b
        rss = self.problem.rss0[members] + np.einsum("iv,iv->v", left, left)
        return Solution(b, inverse, log_det, rss, lam * self.quadratic(b))

    def quadratic(self, b: FloatArray) -> FloatArray:
        """v'A_jv, (v, m)."""
        if self.dense is None:
            return (b**2).T @ self.diagonal.T
        return np.asarray(np.einsum("iv,jik,kv->vj", b, self.dense, b, optimize=True))

    def score(self, rho: FloatArray, members: np.ndarray | slice) -> FloatArray:
        """The criterion of the responses `members` at log λ = rho (v, m)."""
        lam = np.exp(rho)
        fit = self.solve(lam, members)
        if self.method == "GCV":
            edf = self.problem.M + np.einsum("vij,ij->v", fit.inverse, self.gram)
            return self.gcv(fit.rss, edf)
        log_det = fit.log_det
        if self.method == "ML":
            log_det = _inverse(self.full_gram + self.penalty_sum(lam))[1]
        return self.likelihood(fit.rss + fit.penalty.sum(axis=1), log_det - log_determinant(self.problem, rho).value)

    def gcv(self, rss: FloatArray, edf: FloatArray) -> FloatArray:
        """Log of n·rss/(n − γ·edf)²."""
        n = self.problem.n
        return np.asarray(np.log(n * np.maximum(rss, TINY)) - 2.0 * np.log(n - self.gamma * edf))

    def printed(self, score: FloatArray) -> FloatArray:
        """What mgcv reports: GCV itself, of which we minimise the logarithm."""
        return np.exp(score) if self.method == "GCV" else score

    def likelihood(self, D: FloatArray, log_ratio: FloatArray) -> FloatArray:
        """REML or ML of penalised deviances D, given log|H| − log|Σλ_jA_j|."""
        phi = np.maximum(D, TINY) / (self.gamma * self.nu)
        free = 0.0 if self.method == "ML" else self.problem.log_det_free + self.M * np.log(self.gamma)
        constant = 0.5 * free - 0.5 * self.problem.log_weights / self.gamma
        return np.asarray(0.5 * self.nu * (1.0 + np.log(2 * np.pi * phi)) + 0.5 * log_ratio + constant)

    def evaluate(self, rho: FloatArray, members: np.ndarray | slice) -> Evaluation:
        """Score, gradient and Hessian of the responses `members` at log λ = rho (v, m)."""
        lam = np.exp(rho)
        fit = self.solve(lam, members)
        m = lam.shape[1]
        identity = np.eye(m)
        moved = self._apply(lam, fit.v)  # λ_jA_jv, (m, r, v)
        steps = np.einsum("vik,jkv->jiv", fit.inverse, moved)  # −∂_jv
        slope = fit.penalty
        bend = identity * slope[:, :, None] - 2.0 * np.einsum("jiv,kiv->vjk", moved, steps)
        if self.method == "GCV":
            return self._gcv_derivatives(lam, fit, moved, steps)
        D = np.maximum(fit.rss + fit.penalty.sum(axis=1), TINY)
        if self.method == "ML":
            inverse, log_det = _inverse(self.full_gram + self.penalty_sum(lam))
        else:
            inverse, log_det = fit.inverse, fit.log_det
        first, second = self._traces(lam, inverse)
        penalty_det = log_determinant(self.problem, rho)
        gradient = 0.5 * self.nu * slope / D[:, None] + 0.5 * (first - penalty_det.gradient)
        relative = slope / D[:, None]
        hessian = 0.5 * self.nu * (bend / D[:, None, None] - relative[:, :, None] * relative[:, None, :])
        hessian += 0.5 * (identity * first[:, :, None] - second - penalty_det.hessian)
        return Evaluation(self.likelihood(D, log_det - penalty_det.value), gradient, hessian)

    def _apply(self, lam: FloatArray, b: FloatArray) -> FloatArray:
        """λ_jA_jb, (m, r, v)."""
        if self.dense is None:
            return self.diagonal[:, :, None] * b[None] * lam.T[:, None, :]
        return np.asarray(np.einsum("jik,kv->jiv", self.dense, b) * lam.T[:, None, :])

    def _traces(self, lam: FloatArray, inverse: FloatArray) -> tuple[FloatArray, FloatArray]:
        """λ_jtr(H⁻¹A_j) (v, m) and λ_jλ_ktr(H⁻¹A_jH⁻¹A_k) (v, m, m)."""
        if self.dense is None:
            first = np.einsum("vii,ji->vj", inverse, self.diagonal)
            half = np.matmul(self.diagonal, inverse**2)
            second = np.matmul(half, self.diagonal.T)
        else:
            products = np.einsum("vik,jkl->vjil", inverse, self.dense, optimize=True)
            first = np.einsum("vjii->vj", products)
            second = np.einsum("vjil,vkli->vjk", products, products, optimize=True)
        return lam * first, second * lam[:, :, None] * lam[:, None, :]

    def _gcv_derivatives(self, lam: FloatArray, fit: Solution, moved: FloatArray, steps: FloatArray) -> Evaluation:
        """Log GCV. With s = ΣλAv and u_j = −∂_jv = H⁻¹λ_jA_jv: ∂_jrss = 2s'u_j, ∂_jedf = −λ_jtr(A_jH⁻¹K'KH⁻¹),

        ∂_jkrss = δ_jk∂_jrss + 2u_j'K'Ku_k − 2(H⁻¹s)'(λ_kA_ku_j + λ_jA_ju_k).
        """
        m = lam.shape[1]
        identity = np.eye(m)
        F = np.matmul(fit.inverse, self.gram)
        Fi = np.matmul(F, fit.inverse)
        s = moved.sum(axis=0)
        rss1 = 2.0 * np.einsum("iv,jiv->vj", s, steps)
        seen = np.einsum("ab,jbv->jav", self.problem.K, steps)
        pulled = self._apply(lam, np.einsum("vik,kv->iv", fit.inverse, s))
        cross = np.einsum("kiv,jiv->vjk", pulled, steps)
        rss2 = 2.0 * (np.einsum("jav,kav->vjk", seen, seen) - cross - cross.transpose(0, 2, 1))
        rss2 += identity * rss1[:, :, None]
        if self.dense is None:
            edf1 = -lam * np.einsum("vii,ji->vj", Fi, self.diagonal)
            half = np.matmul(self.diagonal, fit.inverse * Fi.transpose(0, 2, 1))
            triple = np.matmul(half, self.diagonal.T)
        else:
            edf1 = -lam * np.einsum("vil,jli->vj", Fi, self.dense, optimize=True)
            triple = np.einsum("jab,vbc,kcd,vda->vjk", self.dense, fit.inverse, self.dense, Fi, optimize=True)
        triple = triple * lam[:, :, None] * lam[:, None, :]
        edf2 = identity * edf1[:, :, None] + triple + triple.transpose(0, 2, 1)
        edf = self.problem.M + np.einsum("vii->v", F)
        n, rss = self.problem.n, np.maximum(fit.rss, TINY)
        left = n - self.gamma * edf
        # log GCV = log rss − 2 log(n − γ·edf): its derivatives, then GCV's.
        rel = rss1 / rss[:, None]
        gone = self.gamma * edf1 / left[:, None]
        g = rel + 2.0 * gone
        h = rss2 / rss[:, None, None] - rel[:, :, None] * rel[:, None, :]
        h = h + 2.0 * (self.gamma * edf2 / left[:, None, None] + gone[:, :, None] * gone[:, None, :])
        return Evaluation(self.gcv(fit.rss, edf), g, h)


def _inverse(H: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Inverse and log-determinant of positive definite matrices (v, r, r), each scaled to a unit diagonal first."""
    size = np.sqrt(np.einsum("vii->vi", H))
    scaled = H / (size[:, :, None] * size[:, None, :])
    try:
        lower = np.linalg.cholesky(scaled)
        log_det = 2.0 * np.log(np.einsum("vii->vi", lower)).sum(axis=1)
        inverse = np.linalg.inv(scaled)
    except np.linalg.LinAlgError:
        # Only penalties that are not diagonal, with λ's 10¹⁵ apart: rounding made an eigenvalue negative.
        values, vectors = np.linalg.eigh(scaled)
        values = np.maximum(values, values[:, -1:] * np.finfo(float).eps)
        log_det = np.log(values).sum(axis=1)
        inverse = np.matmul(vectors / values[:, None, :], vectors.transpose(0, 2, 1))
    return inverse / (size[:, :, None] * size[:, None, :]), log_det + 2.0 * np.log(size).sum(axis=1)
