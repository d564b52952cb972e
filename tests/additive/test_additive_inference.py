"""Laws of inference for one additive model: covariances, the curvature of the score, reference distributions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import f as f_distribution

from pycombat_gam.additive.chisquare_mixture import ratio_tail, ratio_tails
from pycombat_gam.additive.covariance import Covariance, covariance
from pycombat_gam.additive.factor import penalized_factor, penalty_root
from pycombat_gam.additive.score_hessian import score_curvature
from pycombat_gam.errors import OptionError
from pycombat_gam.types import FloatArray

N, P = 80, 9


class Model:
    """Rows, a response, and two penalties that overlap in part; three coefficients are free."""

    def __init__(self) -> None:
        generator = np.random.default_rng(1)
        self.X = generator.normal(size=(N, P))
        self.X[:, 0] = 1.0
        self.y = self.X[:, 3] - self.X[:, 7] + generator.normal(size=N)
        self.S = []
        for first, last in ((3, 7), (5, 9)):
            root = generator.normal(size=(last - first, last - first))
            S = np.zeros((P, P))
            S[first:last, first:last] = root @ root.T
            self.S.append(S)

    def penalties(self, rho: FloatArray) -> list[FloatArray]:
        return [float(np.exp(r)) * S for r, S in zip(rho, self.S, strict=True)]

    def fit(self, rho: FloatArray) -> tuple[FloatArray, float]:
        beta = np.linalg.solve(self.X.T @ self.X + sum(self.penalties(rho)), self.X.T @ self.y)
        return beta, float(((self.y - self.X @ beta) ** 2).sum())

    def score(self, rho: FloatArray, log_phi: float, method: str) -> float:
        """The textbook formula, by determinants."""
        S = sum(self.penalties(rho))
        beta, rss = self.fit(rho)
        inside = np.eye(P)[:, 3:]
        H = self.X.T @ self.X + S
        M = 3 if method == "REML" else 0
        H = H if method == "REML" else inside.T @ H @ inside
        logdets = np.linalg.slogdet(H)[1] - np.linalg.slogdet(inside.T @ S @ inside)[1]
        return float((rss + beta @ S @ beta) / (2 * np.exp(log_phi)) + logdets / 2 + (N - M) / 2 * log_phi)

    def covariance(self, rho: FloatArray, method: str = "REML", L: FloatArray | None = None) -> Covariance:
        beta, rss = self.fit(rho)
        R = np.linalg.qr(self.X)[1]
        return covariance(R, self.penalties(rho), 1.3, method=method, coefficients=beta, rss=rss, n=N, L=L)


RHO = np.array([0.7, 2.0])


@pytest.mark.parametrize("method", ["REML", "ML"])
def test_the_hessian_is_the_second_difference_of_the_score(method: str) -> None:
    model = Model()
    beta, rss = model.fit(RHO)
    R = np.linalg.qr(model.X)[1]
    factor = penalized_factor(R, [penalty_root(S) for S in model.penalties(RHO)])
    found = score_curvature(factor, R, beta, rss, N, method=method)
    at, h = np.append(RHO, np.log(found.scale)), 1e-4
    numeric = np.empty((3, 3))
    for j in range(3):
        for k in range(3):
            signs = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
            step = {s: at + h * (s[0] * np.eye(3)[j] + s[1] * np.eye(3)[k]) for s in signs}
            value = {s: model.score(point[:2], float(point[2]), method) for s, point in step.items()}
            numeric[j, k] = (value[1, 1] - value[1, -1] - value[-1, 1] + value[-1, -1]) / (4 * h * h)
    # 1e-5: rounding of a second difference of step 1e-4.
    np.testing.assert_allclose(found.hessian, numeric, atol=1e-5)
    moved = [(model.fit(RHO + h * e)[0] - model.fit(RHO - h * e)[0]) / (2 * h) for e in np.eye(2)]
    np.testing.assert_allclose(found.coefficients, np.transpose(moved), atol=1e-7)


def test_covariances_are_the_textbook_inverses() -> None:
    model, found = Model(), Model().covariance(RHO)
    XX = model.X.T @ model.X
    H_inverse = np.linalg.inv(XX + sum(model.penalties(RHO)))
    # Rounding of products of matrices of nine columns of size one.
    np.testing.assert_allclose(found.Vp, 1.3 * H_inverse, atol=1e-13)
    np.testing.assert_allclose(found.Ve, 1.3 * H_inverse @ XX @ H_inverse, atol=1e-13)
    np.testing.assert_allclose(found.edf, np.diag(H_inverse @ XX), atol=1e-12)


@pytest.mark.parametrize("shift", [-8.0, 0.0, 8.0, 25.0])
def test_order_and_bounds(shift: float) -> None:
    found = Model().covariance(RHO + shift)
    assert found.Vc is not None and found.edf2 is not None
    slack = 1e-12 * np.trace(found.Vp)
    assert np.linalg.eigvalsh(found.Vp - found.Ve).min() >= -slack
    assert np.linalg.eigvalsh(found.Vc - found.Vp).min() >= -slack
    total, total1, total2 = (float(edf.sum()) for edf in (found.edf, found.edf1, found.edf2))
    # Rounding of traces that may be equal.
    assert 3 - 1e-9 <= total <= total2 + 1e-9 <= total1 + 2e-9 <= P + 3e-9


def test_infinite_smoothing_leaves_the_null_space() -> None:
    found = Model().covariance(np.array([60.0, 60.0]))
    # Rounding: what a λ at infinity leaves of an edf is below it.
    np.testing.assert_allclose(found.edf, np.r_[np.ones(3), np.zeros(6)], atol=1e-9)
    assert np.isfinite(found.Vc).all()  # type: ignore[arg-type]


def test_fixed_smoothing_parameters_add_no_uncertainty() -> None:
    found = Model().covariance(RHO, L=np.zeros((2, 0)))
    np.testing.assert_array_equal(found.Vc, found.Vp)
    # Equal in exact arithmetic; rounding of a trace.
    np.testing.assert_allclose(found.edf2, found.edf, atol=1e-12)


def test_the_generalized_criterion_gives_no_correction() -> None:
    found = Model().covariance(RHO, method="GCV")
    assert found.Vc is None and found.edf2 is None
    with pytest.raises(OptionError, match="no likelihood"):
        score_curvature(penalized_factor(np.eye(2), []), np.eye(2), np.ones(2), 1.0, 5, method="GCV")


def test_a_repeated_column_changes_no_prediction() -> None:
    X = np.column_stack([Model().X, Model().X[:, 1]])
    whole = covariance(np.linalg.qr(Model().X)[1], [], 1.0)
    twice = covariance(np.linalg.qr(X)[1], [], 1.0)
    assert twice.rank == P
    # Rounding of one covariance by two parametrisations.
    np.testing.assert_allclose(X @ twice.Vp @ X.T, Model().X @ whole.Vp @ Model().X.T, atol=1e-12)


@pytest.mark.parametrize("k", [1, 4, 12])
@pytest.mark.parametrize("statistic", [0.1, 1.0, 2.5])
def test_equal_weights_are_an_f_distribution(k: int, statistic: float) -> None:
    expected = f_distribution.sf(statistic, k, 200)
    # Where the F distribution is the truth: the quadrature's own bound on its error.
    assert ratio_tail(k * statistic, np.ones(k), 200) == pytest.approx(expected, rel=1e-9)
    once = ratio_tails(np.array([k * statistic]), np.ones((1, 1)), np.array([[float(k)]]), np.array([200.0]))
    assert once[0] == pytest.approx(expected, rel=1e-9)


def test_unequal_weights_agree_with_simulation() -> None:
    generator = np.random.default_rng(3)
    weights = np.array([2.0, 1.0, 0.2])
    draws = generator.chisquare(1, (400_000, 3)) @ weights / (generator.chisquare(30, 400_000) / 30)
    # Four standard errors of a proportion of 400,000.
    assert ratio_tail(6.0, weights, 30) == pytest.approx(float((draws > 6.0).mean()), abs=0.0025)


def test_many_tails_at_once_are_those_one_by_one() -> None:
    generator = np.random.default_rng(4)
    statistic = generator.chisquare(3, 500) * 10.0 ** generator.uniform(-2, 2.5, 500)
    weights = generator.uniform(0.1, 2.0, (500, 3))
    df_residual = generator.integers(5, 2000, 500).astype(float)
    together = ratio_tails(statistic, weights, np.ones((500, 3)), df_residual)
    one_by_one = [ratio_tail(*row) for row in zip(statistic, weights, df_residual, strict=True)]
    # The same quadrature, many at once: rounding; tails to the smallest numbers.
    np.testing.assert_allclose(together, one_by_one, rtol=1e-9, atol=1e-300)
    assert together.min() < 1e-30 and together.max() > 0.9
