"""Ridge and ridge logistic regression in the principal axes of the columns, with the penalty chosen by sites.

Columns are standardized: Z (n, p) = S V', with scores S (n, r) whose columns are orthogonal, d = diag(S'S), and axes V.
In these axes every penalty costs r divisions. The penalty λ minimises what sites lose when they are left out of least
squares. With H = 1/n + S (D + λ)⁻¹ S', the residuals of a site's rows under the fit without them are

    (I − H_ll)⁻¹ e_l,        e = y − Hy,

exactly (Z standardized over all rows), so that no site costs a fit. Every site has the same weight. Rows may have
weights w: n is then Σw, means, d and losses are weighted, and rows of S, e and the 1 of 1/n are times √w.

Classes are fitted by (multinomial) logistic regression. Its penalty is κ = vλ with v the mean of π_c(1 − π_c): one
Newton step from equal probabilities is then the least-squares fit with λ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg.lapack import dposv

from pycombat_gam.types import FloatArray, IntArray

LEAST, MOST = -4, 4
"""log10 of λ/n: the smallest and the largest penalty."""
STEPS = 50
"""Newton steps at most; about six are usual."""
CONVERGED = 1e-10
"""Largest gradient, as a share of the rows, at which the search stops."""


@dataclass(frozen=True, eq=False)
class Axes:
    """Standardized columns in their principal axes.

    Attributes
    ----------
    center, scale : (p,) of each column; a constant column has scale 1, so that it is zero.
    axes : (p, r); scores : (n, r); d : (r,) weighted sums of squares of the scores, all positive.
    weights : (n,) of the rows.
    """

    center: FloatArray
    scale: FloatArray
    axes: FloatArray
    scores: FloatArray
    d: FloatArray
    weights: FloatArray

    @classmethod
    def of(cls, X: FloatArray, weights: FloatArray | None = None) -> Axes:
        """Standardize and rotate columns X (n, p) of rows with weights (n,), by default 1."""
        n, p = X.shape
        center = X.mean(axis=0) if weights is None else weights @ X / weights.sum()
        w = np.ones(n) if weights is None else weights
        Z = X - center
        sd = np.sqrt(np.einsum("i,ij,ij->j", w, Z, Z) / w.sum())
        # The sd of equal numbers is rounding, a few units of their last digit.
        constant = sd <= 1e-13 * np.abs(center)
        scale = np.where(constant, 1.0, sd)
        Z /= scale
        Z[:, constant] = 0.0
        root = np.sqrt(w)[:, None]
        rooted = Z if weights is None else root * Z
        d, vectors = np.linalg.eigh(rooted.T @ rooted if p <= n else rooted @ rooted.T)
        kept = d > max(n, p) * np.finfo(np.float64).eps * max(d.max(initial=0.0), 1.0)
        d, vectors = d[kept], vectors[:, kept]
        if p <= n:
            return cls(center, scale, vectors, Z @ vectors, d, w)
        return cls(center, scale, rooted.T @ (vectors / np.sqrt(d)), vectors * np.sqrt(d) / root, d, w)

    def coefficients(self, W: FloatArray) -> FloatArray:
        """Return coefficients of the columns as they were, (p, q), for those of the scores (r, q)."""
        return (self.axes @ W) / self.scale[:, None]


def chosen_penalty(axes: Axes, Y: FloatArray, sites: IntArray) -> float:
    """Return the λ under which sites left out lose least.

    Parameters
    ----------
    Y : (n, q) numbers, or indicators of classes; sites : (n,) codes.

    Notes
    -----
    The search goes downhill from λ = n in powers of ten, then to the lowest point of the parabola through the best and
    its neighbours.
    """
    n = float(axes.weights.sum())
    order = np.argsort(sites, kind="stable")
    ends = np.flatnonzero(np.diff(sites[order], append=-1)) + 1
    by_site = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    root = np.sqrt(axes.weights[order])[:, None]
    centred = root * (Y - axes.weights @ Y / n)[order]
    S = root * axes.scores[order]
    projected = S.T @ centred
    losses: dict[int, float] = {}

    def loss(power: int) -> float:
        if power not in losses:
            w = 1.0 / (axes.d + n * 10.0**power)
            E = centred - S @ (w[:, None] * projected)
            losses[power] = _loss_left_out(S * np.sqrt(w), E, root, by_site)
        return losses[power]

    best = 0
    for way in (1, -1):
        while LEAST <= best + way <= MOST and loss(best + way) < loss(best):
            best += way
    if not LEAST < best < MOST:
        return float(n * 10.0**best)
    below, above = loss(best - 1) - loss(best), loss(best + 1) - loss(best)
    curvature = below + above
    return float(n * 10.0 ** (best + (0.5 * (below - above) / curvature if curvature > 0.0 else 0.0)))


def _loss_left_out(A: FloatArray, E: FloatArray, root: FloatArray, by_site: list[slice]) -> float:
    """Mean over sites of the mean squared residual of a site's rows under the fit without them.

    Parameters
    ----------
    A : (n, r) scores over the square root of D + λ, so that H = 1/n + AA'; E : (n, q) residuals of the fit to all.
    root : (n, 1) √w, by which both are multiplied.
    """
    n, total = float((root**2).sum()), 0.0
    for rows in by_site:
        A_l, E_l, one_l = A[rows], E[rows], root[rows] / np.sqrt(n)
        if len(A_l) <= A.shape[1]:
            _, left_out, failed = dposv(np.eye(len(A_l)) - one_l @ one_l.T - A_l @ A_l.T, E_l)
        else:
            A_l = np.hstack([one_l, A_l])
            _, inner, failed = dposv(np.eye(A_l.shape[1]) - A_l.T @ A_l, A_l.T @ E_l)
            left_out = E_l + A_l @ inner
        if failed:  # so little penalty that, to rounding, the site alone decides its fit
            return np.inf
        total += float((left_out**2).sum(axis=0).mean() / (root[rows] ** 2).sum())
    return total / len(by_site)


def ridge(axes: Axes, y: FloatArray, penalty: float) -> tuple[FloatArray, FloatArray]:
    """Fit ridge regression: intercept (1,) and coefficients (p, 1) of the columns."""
    w = axes.weights
    mean = w @ y / w.sum()
    W = (axes.scores.T @ (w * (y - mean)) / (axes.d + penalty))[:, None]
    B = axes.coefficients(W)
    return mean - axes.center @ B, B


def ridge_logistic(axes: Axes, Y: FloatArray, penalty: float) -> tuple[FloatArray, FloatArray]:
    """Fit ridge logistic regression by Newton's method.

    Parameters
    ----------
    Y : (n, C) indicators of classes, none of them empty; penalty : λ of least squares, see the module.

    Returns
    -------
    intercept : (C,), coefficients : (p, C)
        Of the linear predictors whose softmax are the probabilities. Two classes are fitted as one logit, that of the
        second; the first has zeros.

    Notes
    -----
    scikit-learn's `LogisticRegression` with C = 1/κ minimises the same. Each Newton step is solved by conjugate
    gradients, with the Hessian of equal probabilities as preconditioner: it is diagonal in these axes.
    """
    w, C = axes.weights[:, None], Y.shape[1]
    n = float(w.sum())
    share = axes.weights @ Y / n
    v = float((share * (1.0 - share)).mean())
    T = Y[:, 1:] if C == 2 else Y
    q = T.shape[1]
    kappa = np.concatenate([[0.0], np.full(axes.d.size, v * penalty)])[:, None]
    X = np.hstack([np.ones((len(Y), 1)), axes.scores])
    inverse = 1.0 / (v * np.concatenate([[n], axes.d])[:, None] + kappa)
    W = np.zeros((X.shape[1], q))
    W[0] = np.log(share[1] / share[0]) if C == 2 else np.log(share) - np.log(share).mean()
    value, P = _objective(X, T, W, kappa, w)
    for _ in range(STEPS):
        gradient = X.T @ (w * (P - T)) + kappa * W
        if np.abs(gradient).max() <= CONVERGED * n:
            break
        step = _newton_step(X, P, kappa, inverse, gradient, w)
        size = 1.0
        while True:
            new_value, new_P = _objective(X, T, W - size * step, kappa, w)
            if new_value <= value + 1e-12 * abs(value) or size < 1e-8:
                break
            size /= 2.0
        W = W - size * step
        value, P = new_value, new_P
    if C > 2:
        W[0] -= W[0].mean()  # probabilities leave it open
    B = axes.coefficients(W[1:])
    intercept = W[0] - axes.center @ B
    if C == 2:
        return np.array([0.0, intercept[0]]), np.hstack([np.zeros_like(B), B])
    return intercept, B


def _objective(
    X: FloatArray, T: FloatArray, W: FloatArray, kappa: FloatArray, w: FloatArray
) -> tuple[float, FloatArray]:
    """Penalized negative log likelihood, and the fitted probabilities (n, q)."""
    eta = X @ W
    if eta.shape[1] == 1:
        value = (w * (np.logaddexp(0.0, eta) - T * eta)).sum()
        P = 0.5 * (1.0 + np.tanh(0.5 * eta))
    else:
        top = eta.max(axis=1, keepdims=True)
        raised = np.exp(eta - top)
        total = raised.sum(axis=1, keepdims=True)
        value = (w * (top + np.log(total))).sum() - (w * T * eta).sum()
        P = raised / total
    return float(value + 0.5 * (kappa * W**2).sum()), P


def _newton_step(
    X: FloatArray, P: FloatArray, kappa: FloatArray, inverse: FloatArray, gradient: FloatArray, w: FloatArray
) -> FloatArray:
    """Solve the Newton equations by preconditioned conjugate gradients."""

    def hessian(D: FloatArray) -> FloatArray:
        eta = P * (X @ D)
        eta = eta - P * eta.sum(axis=1, keepdims=True)
        product: FloatArray = X.T @ (w * eta) + kappa * D
        return product

    step = np.zeros_like(gradient)
    residual = gradient
    z = inverse * residual
    direction, rho = z, float((residual * z).sum())
    # The closer to the solution, the more exact the step: this makes convergence quadratic.
    size = float(np.abs(gradient).max())
    goal = size * min(0.1, size / len(X))
    for _ in range(200):
        Hd = hessian(direction)
        curvature = float((direction * Hd).sum())
        if curvature <= 0.0:
            break
        alpha = rho / curvature
        step = step + alpha * direction
        residual = residual - alpha * Hd
        if np.abs(residual).max() <= goal:
            break
        z = inverse * residual
        rho, before = float((residual * z).sum()), rho
        direction = z + (rho / before) * direction
    return step


def softmax(eta: FloatArray) -> FloatArray:
    """Return probabilities (n, C) of linear predictors (n, C)."""
    raised = np.exp(eta - eta.max(axis=1, keepdims=True))
    P: FloatArray = raised / raised.sum(axis=1, keepdims=True)
    return P
