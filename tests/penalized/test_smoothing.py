"""The engine beside a dense oracle and finite differences: criteria, derivatives, optima, limits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from pycombat_gam.penalized import several
from pycombat_gam.penalized.criterion import Criterion
from pycombat_gam.penalized.problem import Method, Penalties, PenaltyBlock, Problem
from pycombat_gam.penalized.smoothing import fit_at, fit_smoothing
from pycombat_gam.penalized.whiten import whiten

N, V = 90, 6
METHODS: tuple[Method, ...] = ("REML", "ML", "GCV")


def second_differences(k: int, order: int = 2) -> np.ndarray:
    D = np.diff(np.eye(k), n=order, axis=0)
    return D.T @ D


def setting(kind: str) -> tuple[np.ndarray, np.ndarray, Penalties]:
    """Rows, responses and penalties: one, two, nested in one block (diagonal and dense), linked, partly fixed."""
    generator = np.random.default_rng(7)
    X = generator.normal(size=(N, 15))
    X[:, 0] = 1.0
    Y = X[:, 2:5] @ generator.normal(size=(3, V)) + 2 * generator.normal(size=(N, V)) + 10
    a, b = slice(2, 8), slice(8, 15)
    one, two = second_differences(6), second_differences(7)
    # A product of margins of 2 and 3 coefficients: three penalties that overlap and do not commute.
    left = np.kron(np.array([[1.0, -1], [-1, 1]]), np.eye(3))
    right = np.kron(np.eye(2), second_differences(3))
    ridge = generator.normal(size=(3, 6))
    blocks = {
        "one": (PenaltyBlock(a, (one,)),),
        "two": (PenaltyBlock(a, (one,)), PenaltyBlock(b, (two,))),
        "select": (PenaltyBlock(a, (left, right)), PenaltyBlock(b, (two,))),
        "dense": (PenaltyBlock(a, (left, right, ridge.T @ ridge)), PenaltyBlock(b, (two,))),
        "linked": (PenaltyBlock(a, (one,)), PenaltyBlock(b, (two,))),
        "fixed": (PenaltyBlock(a, (one,)), PenaltyBlock(b, (two,))),
    }[kind]
    m = sum(len(block.matrices) for block in blocks)
    L, offset = np.eye(m), np.zeros(m)
    if kind == "linked":
        L = np.ones((2, 1))
    if kind == "fixed":
        L, offset = np.array([[1.0], [0.0]]), np.array([0.0, np.log(3.0)])
    return X, Y, Penalties(blocks, L, offset)


def reduce(X: np.ndarray, Y: np.ndarray, **more: object) -> Problem:
    Q, R = np.linalg.qr(X)
    f = Q.T @ Y
    left = Y - Q @ f
    return Problem(R, f, (left**2).sum(axis=0), len(X), **more)  # type: ignore[arg-type]


def oracle(X: np.ndarray, y: np.ndarray, penalties: Penalties, rho: np.ndarray, method: Method, gamma: float) -> float:
    """The criterion from its definition: dense matrices, eigenvalues for the generalised determinant."""
    n, p = X.shape
    lam = np.exp(penalties.L @ rho + penalties.offset)
    S, spans, at = np.zeros((p, p)), np.zeros((p, p)), 0
    for block in penalties.blocks:
        for matrix in block.matrices:
            S[block.columns, block.columns] += lam[at] * matrix
            spans[block.columns, block.columns] += matrix / np.linalg.norm(matrix)
            at += 1
    beta = np.linalg.solve(X.T @ X + S, X.T @ y)
    rss = float(((y - X @ beta) ** 2).sum())
    values, vectors = np.linalg.eigh(spans)
    range_space = vectors[:, values > 1e-9 * values[-1]]
    M = p - range_space.shape[1]
    if method == "GCV":
        edf = float(np.trace(np.linalg.solve(X.T @ X + S, X.T @ X)))
        return n * rss / (n - gamma * edf) ** 2
    D = rss + float(beta @ S @ beta)
    log_S = float(np.linalg.slogdet(range_space.T @ S @ range_space)[1])
    if method == "REML":
        log_H, M_used = float(np.linalg.slogdet(X.T @ X + S)[1]), M
    else:
        Z = X @ range_space
        log_H, M_used = float(np.linalg.slogdet(Z.T @ Z + range_space.T @ S @ range_space)[1]), 0
    phi = D / (n - gamma * M_used)
    score = (D / (2 * phi) + n / 2 * np.log(2 * np.pi * phi)) / gamma + (log_H - log_S) / 2
    return score - M_used / 2 * np.log(2 * np.pi * phi) + M_used / 2 * np.log(gamma)


@pytest.mark.parametrize("kind", ["one", "two", "select", "dense", "linked", "fixed"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("gamma", [1.0, 1.4])
def test_scores_are_their_definition(kind: str, method: Method, gamma: float) -> None:
    X, Y, penalties = setting(kind)
    rho = np.random.default_rng(1).uniform(-3, 5, (penalties.L.shape[1], V))
    ours = fit_at(reduce(X, Y), penalties, rho, method=method, gamma=gamma).score
    theirs = [oracle(X, Y[:, v], penalties, rho[:, v], method, gamma) for v in range(V)]
    # Determinants of matrices of condition 1e6 on the oracle's side.
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


@pytest.mark.parametrize("kind", ["two", "select", "dense"])
@pytest.mark.parametrize("method", METHODS)
def test_derivatives_are_those_of_the_score(kind: str, method: Method) -> None:
    X, Y, penalties = setting(kind)
    criterion = Criterion(whiten(reduce(X, Y), penalties), method, 1.2)
    m = penalties.L.shape[0]
    rho = np.random.default_rng(2).uniform(-2, 4, (V, m))
    at, h = criterion.evaluate(rho, slice(None)), 1e-4
    # One score by two routes: rounding.
    np.testing.assert_allclose(at.score, criterion.score(rho, slice(None)), rtol=1e-12)
    for j in range(m):
        step = h * np.eye(m)[j]
        up, down = criterion.evaluate(rho + step, slice(None)), criterion.evaluate(rho - step, slice(None))
        # Central differences: an error of h² ~ 1e-8 of a third derivative of order one.
        np.testing.assert_allclose(at.gradient[:, j], (up.score - down.score) / (2 * h), atol=1e-6)
        np.testing.assert_allclose(at.hessian[:, :, j], (up.gradient - down.gradient) / (2 * h), atol=1e-6)


@pytest.mark.parametrize("kind", ["one", "two", "select", "dense", "linked", "fixed"])
@pytest.mark.parametrize("method", METHODS)
def test_nothing_nearby_or_far_is_lower(kind: str, method: Method) -> None:
    """The optimum is below 2,000 random points of the whole space, and below its neighbours."""
    X, Y, penalties = setting(kind)
    problem = reduce(X, Y)
    fit = fit_smoothing(problem, penalties, method=method)
    assert fit.converged.all()
    r = penalties.L.shape[1]
    generator = np.random.default_rng(3)
    for scale, count in ((12.0, 2000), (0.1, 50)):
        for _ in range(count // 50):
            centre = fit.rho if scale < 1 else np.zeros((r, V))
            points = np.clip(centre[None] + generator.uniform(-scale, scale, (50, r, V)), -40, 40)
            for point in points:
                score = fit_at(problem, penalties, point, method=method).score
                assert (score >= fit.score - 1e-9 * abs(fit.score)).all()


@pytest.mark.parametrize("kind", ["one", "two", "dense"])
def test_fits_are_penalised_least_squares(kind: str) -> None:
    X, Y, penalties = setting(kind)
    fit = fit_smoothing(reduce(X, Y), penalties)
    # Of an infinite λ the normal equations of the oracle lose what the engine keeps.
    finite = np.flatnonzero(fit.sp.max(axis=0) <= 1e8)
    assert len(finite) >= 2
    for v in finite:
        S, at = np.zeros((15, 15)), 0
        for block in penalties.blocks:
            for matrix in block.matrices:
                S[block.columns, block.columns] += fit.sp[at, v] * matrix
                at += 1
        H = X.T @ X + S
        # These: normal equations, whose rounding is multiplied by the condition squared.
        np.testing.assert_allclose(fit.coefficients[:, v], np.linalg.solve(H, X.T @ Y[:, v]), rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(fit.edf[:, v], np.diag(np.linalg.solve(H, X.T @ X)), atol=1e-7)
        left = Y[:, v] - X @ fit.coefficients[:, v]
        # Sums of residuals from those coefficients, which are minimal: rounding.
        np.testing.assert_allclose(fit.rss[v], left @ left, rtol=1e-10)
        np.testing.assert_allclose(fit.scale[v], left @ left / (N - fit.edf[:, v].sum()), rtol=1e-9)


def test_projected_columns_change_nothing() -> None:
    """Batch intercepts projected earlier, as ComBat does, or columns of the design: the same score and fit."""
    X, Y, penalties = setting("two")
    batch = np.repeat(np.eye(3), N // 3, axis=0)
    whole = np.hstack([batch, X[:, 1:]])
    shifted = Penalties(
        tuple(PenaltyBlock(slice(b.columns.start + 2, b.columns.stop + 2), b.matrices) for b in penalties.blocks),
        penalties.L,
        penalties.offset,
    )
    inner = Penalties(
        tuple(PenaltyBlock(slice(b.columns.start - 1, b.columns.stop - 1), b.matrices) for b in penalties.blocks),
        penalties.L,
        penalties.offset,
    )
    centred, Y_c = X[:, 1:].copy(), Y.copy()
    for rows in np.split(np.arange(N), 3):
        centred[rows] -= centred[rows].mean(axis=0)
        Y_c[rows] -= Y_c[rows].mean(axis=0)
    full = np.linalg.qr(X[:, 1:])[1]
    for method in METHODS:
        problem = reduce(centred, Y_c, projected=3, log_det_projected=3 * np.log(N / 3), R_full=full)
        ours = fit_smoothing(problem, inner, method=method)
        theirs = fit_smoothing(reduce(whole, Y), shifted, method=method)
        # One score by two routes: rounding; coefficients move as the square root of it.
        np.testing.assert_allclose(ours.score, theirs.score, rtol=1e-10)
        np.testing.assert_allclose(ours.coefficients, theirs.coefficients[3:], atol=1e-7)


def test_random_effects_beside_an_intercept() -> None:
    """A design that is singular where it is penalised is as good as any."""
    generator = np.random.default_rng(4)
    groups = np.repeat(np.eye(6), 15, axis=0)
    X = np.hstack([np.ones((90, 1)), groups])
    Y = groups @ generator.normal(size=(6, V)) + generator.normal(size=(90, V))
    penalties = Penalties((PenaltyBlock(slice(1, 7), (np.eye(6),)),), np.eye(1), np.zeros(1))
    fit = fit_smoothing(reduce(X, Y), penalties)
    for v in range(V):
        # Balanced one-way layout: REML's variances are those of the analysis of variance.
        means = Y[:, v].reshape(6, 15).mean(axis=1)
        within = float(((Y[:, v].reshape(6, 15) - means[:, None]) ** 2).sum() / 84)
        between = float(means.var(ddof=1) - within / 15)
        assert between > 0
        # The search's last step: a score flat to 1e-12 leaves 1e-6 of a variance.
        np.testing.assert_allclose(fit.scale[v], within, rtol=1e-6)
        np.testing.assert_allclose(fit.scale[v] / fit.sp[0, v], between, rtol=1e-5)


def test_degenerate_responses_stay_finite() -> None:
    X, Y, penalties = setting("two")
    Y = np.column_stack([Y[:, 0], np.zeros(N), X[:, 0] * 3.0, X[:, 3]])
    with np.errstate(all="raise", under="ignore"):
        for method in METHODS:
            fit = fit_smoothing(reduce(X, Y), penalties, method=method)
            assert np.isfinite(fit.coefficients).all()
            assert np.isfinite(fit.edf).all()
            alone = fit_smoothing(reduce(X, Y[:, :1]), penalties, method=method)
            # Blocked products round differently.
            np.testing.assert_allclose(fit.coefficients[:, 0], alone.coefficients[:, 0], atol=1e-10)


def test_without_penalties_it_is_least_squares() -> None:
    X, Y, _ = setting("one")
    none = Penalties((), np.zeros((0, 0)), np.zeros(0))
    fit = fit_smoothing(reduce(X, Y), none)
    # Least squares by another route: rounding.
    np.testing.assert_allclose(fit.coefficients, np.linalg.lstsq(X, Y, rcond=None)[0], atol=1e-10)
    np.testing.assert_array_equal(fit.edf, 1.0)


def test_a_shallow_minimum_beside_infinity_is_found() -> None:
    """Of 3,000 weak responses none may be beaten by a single fit that starts from a four times finer grid.

    The search once jumped over shallow minima to an infinite λ, for 3 % of such responses, at up to 0.3 of score.
    """
    rng = np.random.default_rng(5)
    n, V = 300, 3000
    table = pd.DataFrame({"x": rng.uniform(size=n), "z": rng.uniform(size=n), "site": rng.choice(list("pqr"), n)})
    amplitude = rng.normal(size=(2, V)) * 0.35
    Y = amplitude[0] * np.sin(2 * np.pi * np.outer(table["x"], rng.uniform(0.5, 3, V)))
    Y += amplitude[1] * np.cos(2 * np.pi * np.outer(table["z"], rng.uniform(0.5, 3, V))) + rng.normal(size=(n, V))

    def scores() -> np.ndarray:
        return pcg.ComBat("~ s(x) + s(z)", batch="site").fit(Y, table).estimates.score.to_numpy()[0]

    ours = scores()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(several.GRID, 2, 40)
        finer = scores()
    # The rule of the design: never worse by more than 1e-6; one response in a thousand may have a narrower minimum.
    assert (ours > finer + 1e-6).mean() <= 1e-3
    assert (ours - finer).max() < 0.01
