"""The sampler against what its conditional distributions are, written down densely from the rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import pycombat_gam as pcg
from pycombat_gam.infer.gibbs import Chain, Model, Plan, Sampler
from pycombat_gam.infer.hyperparameters import RATE, Hyperparameters, Sums, location_update, scale_update
from pycombat_gam.infer.problem import Problem
from pycombat_gam.infer.small_systems import backward, cholesky, forward
from pycombat_gam.infer.streams import TILE, Streams
from pycombat_gam.mean.posterior import residual_variance
from tests.helpers.small_sites import FORMULA, small_sites


def problem_of(model: pcg.ComBat) -> Problem:
    mean = model.fitted.mean
    V = len(model.fitted.features)
    return Problem.of(mean, np.arange(V), np.zeros((len(mean.n_rows), V), dtype=bool))


@pytest.mark.parametrize("q", [1, 4, 11, 40])
def test_small_systems_are_lapack_s(q: int) -> None:
    rng = np.random.default_rng(q)
    A = rng.normal(size=(7, 2 * q, q))
    P = np.einsum("vij,vik->jkv", A, A)
    L = cholesky(P)
    right = rng.normal(size=(q, 7))
    for k in range(7):
        expected = np.linalg.cholesky(P[:, :, k])
        # Condition numbers up to 1e4: eleven digits are left.
        np.testing.assert_allclose(L[:, :, k], expected, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(forward(L, right)[:, k], np.linalg.solve(expected, right[:, k]), rtol=1e-9)
        np.testing.assert_allclose(backward(L, right)[:, k], np.linalg.solve(expected.T, right[:, k]), rtol=1e-9)


@pytest.mark.parametrize("q", [3, 40])
def test_a_pivot_of_rounding_is_bounded(q: int) -> None:
    """Columns that are equal up to rounding leave a triangle that still multiplies to the matrix."""
    rng = np.random.default_rng(q)
    A = rng.normal(size=(2 * q, q))
    A[:, -1] = A[:, 0]
    P = np.repeat((A.T @ A)[:, :, None], 2, axis=2)
    P[-1, -1, 1] *= 1 - 1e-15
    L = cholesky(P)
    assert np.isfinite(L).all()
    # Sums of 2q products.
    np.testing.assert_allclose(np.einsum("ikv,jkv->ijv", L, L), P, rtol=1e-11, atol=1e-10)


def test_streams_do_not_depend_on_the_block() -> None:
    whole = Streams(3, (1,), 0, 200)
    parts = [Streams(3, (1,), start, min(start + TILE, 200)) for start in range(0, 200, TILE)]
    shape = np.array([[0.7], [3.0]])
    for _ in range(2):
        np.testing.assert_array_equal(whole.normal(3), np.hstack([part.normal(3) for part in parts]))
        np.testing.assert_array_equal(whole.gamma(shape), np.hstack([part.gamma(shape) for part in parts]))


def table_with_gaps(gaps: bool) -> pd.DataFrame:
    table = small_sites(3, 5, sizes=(4, 9, 30)).table
    if gaps:
        table.loc[[1, 20], "f1"] = np.nan
        table.loc[[6], "f2"] = np.nan
    return table


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("formula", [FORMULA, "~ s(age, k=5) + dx"])
def test_levels_and_coefficients_are_drawn_from_their_conditional(formula: str, gaps: bool) -> None:
    """Given σ² and the hyperparameters, (α, β) is normal: generalised least squares with priors, densely."""
    table = table_with_gaps(gaps)
    model = pcg.ComBat(formula, "site", features="^f", missing="omit").fit(table)
    problem, fitted = problem_of(model), model.fitted
    hyper = Hyperparameters(
        np.array([0.5, -0.3, 0.1]), np.array([0.2, 0.5, 0.1]), np.full(3, 9.0), np.array([7.0, 9.0, 8.0])
    )
    chain = Chain(Model(problem, True, 1), slice(0, 3), 1)
    variance = np.array([[0.5, 1.0, 2.0], [1.5, 0.7, 1.0], [1.0, 0.9, 1.1]])
    draws = []
    for _ in range(6000):
        chain.variance = variance
        chain.sweep(hyper)
        level = chain.alpha * chain.block.sd + chain.block.offset
        draws.append(np.vstack([level, problem.back @ chain.theta * chain.block.sd]))
    sample = np.array(draws)
    codes = fitted.levels.codes(table["site"])[0]
    X = fitted.mean.design.on(table) - fitted.mean.center
    p = X.shape[1]
    for k in range(3):
        sd = chain.block.sd[k]
        y = table[f"f{k}"].to_numpy()
        seen = ~np.isnan(y)
        A = np.hstack([np.eye(3)[codes], X])[seen]
        weight = 1.0 / (sd**2 * variance[codes[seen], k])
        P = (A.T * weight) @ A
        right = A.T @ (weight * (y[seen]))
        # α_b ~ N(m + γ̄_b sd, τ²_b sd²) with m flat, integrated out.
        prior = np.diag(1.0 / (sd**2 * hyper.spread))
        ones = np.ones((3, 1))
        prior = prior - prior @ ones @ ones.T @ prior / float((ones.T @ prior @ ones)[0, 0])
        P[:3, :3] += prior
        right[:3] += prior @ (hyper.mean * sd)
        for penalty in fitted.mean.penalties:
            at = slice(3 + penalty.columns.start, 3 + penalty.columns.stop)
            P[at, at] += penalty.weight[k] * penalty.matrix / sd**2
        covariance = np.linalg.inv(P)
        se = np.sqrt(np.diag(covariance))
        # The mean of 6000 independent draws is within 4.5 standard errors in all 3 + p places of 3 features.
        assert np.abs((sample[:, :, k].mean(axis=0) - covariance @ right) / se).max() < 4.5 / np.sqrt(6000)
        np.testing.assert_allclose(sample[:, :, k].std(axis=0), se, rtol=0.05)
        # Correlations of 6000 draws have standard errors of .013 at most.
        np.testing.assert_allclose(np.corrcoef(sample[:, :, k].T), covariance / np.outer(se, se), atol=0.06)
    assert p == sample.shape[1] - 3


def test_residual_sds_are_those_of_the_fit() -> None:
    model = pcg.ComBat("~ s(age, k=5) + dx", "site", features="^f").fit(table_with_gaps(False))
    mean = model.fitted.mean
    block = problem_of(model).block(slice(0, 3))
    # The search for smoothing parameters ends at relative 1e-7, and the fit is at its end.
    np.testing.assert_allclose(block.sd**2, residual_variance(mean), rtol=1e-6)


def test_scales_of_many_features_are_recovered() -> None:
    rng = np.random.default_rng(2)
    a, b = np.array([4.0, 12.0]), np.array([5.0, 9.0])
    ratio = b[:, None] / rng.gamma(a[:, None], size=(2, 20000))
    gamma = np.array([[0.4], [-1.0]]) + np.array([[0.3], [0.7]]) * rng.normal(size=(2, 20000))
    sums = Sums.of(gamma[:, :7000], ratio[:, :7000]) + Sums.of(gamma[:, 7000:], ratio[:, 7000:])
    shape, spread, kept = np.full(2, 8.0), np.ones(2), []
    for sweep in range(400):
        shape, rate = scale_update(shape, sums, rng)
        mean, spread = location_update(spread, sums, rng)
        if sweep >= 100:
            kept.append([shape, rate, mean, spread])
    # 20,000 features tell a shape within 1 % and a variance within 1 %; four standard errors.
    for values, truth in zip(np.mean(kept, axis=0), (a, b, np.array([0.4, -1.0]), np.array([0.09, 0.49])), strict=True):
        np.testing.assert_allclose(values, truth, rtol=0.045, atol=0.012)


def test_shape_and_rate_of_one_feature_follow_their_density() -> None:
    """With one feature the posterior of (log a, b) is known up to a constant: moments by quadrature."""
    ratio = 0.6
    sums = Sums.of(np.zeros((1, 1)), np.array([[ratio]]))
    rng = np.random.default_rng(8)
    shape, kept = np.array([8.0]), []
    for _ in range(20000):
        shape, rate = scale_update(shape, sums, rng)
        kept.append([np.log(shape[0]), np.log(rate[0])])
    log_a, log_b = np.meshgrid(np.linspace(-3, 6, 400), np.linspace(-9, 8, 500), indexing="ij")
    a, b = np.exp(log_a), np.exp(log_b)
    density = stats.invgamma.logpdf(ratio, a, scale=b) + stats.norm.logpdf(log_a, np.log(8), 1.0)
    density += stats.gamma.logpdf(b, RATE, scale=(a + 1) / RATE) + log_b
    weight = np.exp(density - density.max())
    weight /= weight.sum()
    sample = np.array(kept)
    for j, values in enumerate((log_a, log_b)):
        expected = float((weight * values).sum())
        sd = float(np.sqrt((weight * (values - expected) ** 2).sum()))
        # 20,000 steps of a walk are worth some 1,500 draws; four standard errors.
        assert abs(sample[:, j].mean() - expected) < 0.105 * sd
        assert abs(sample[:, j].std() / sd - 1) < 0.085


def test_blocks_of_any_width_give_the_same_draws() -> None:
    made = small_sites(200, 3, sizes=(4, 12, 30))
    made.table.loc[[5], "f150"] = np.nan
    model = pcg.ComBat(FORMULA, "site", features="^f", missing="omit").fit(made.table)
    sampled = Model(problem_of(model), True, 4)
    draws = []
    for width in (None, TILE, 2 * TILE):
        sampler = Sampler.prepare(sampled, Plan(4, burn=30), width)
        parts = [drawn for _, drawn in sampler.blocks(width)]
        draws.append({name: np.concatenate([vars(part)[name] for part in parts], axis=2) for name in vars(parts[0])})
    assert len(parts) == 2
    for other in draws[1:]:
        for name, values in draws[0].items():
            # Products of other shapes round differently, and 34 sweeps carry that on.
            np.testing.assert_allclose(other[name], values, rtol=1e-10, atol=1e-10)


def test_a_path_of_some_features_serves_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the features that inform, draws agree with the exact sampler's up to the error of both."""
    made = small_sites(192, 6, sizes=(4, 12, 30))
    model = pcg.ComBat(FORMULA, "site", features="^f").fit(made.table)
    sampled = Model(problem_of(model), True, 4)
    exact = Sampler.prepare(sampled, Plan(300))
    assert exact.informing is None
    monkeypatch.setattr("pycombat_gam.infer.gibbs.INFORMING", 128)
    fewer = Sampler.prepare(sampled, Plan(300))
    assert fewer.informing is not None
    assert fewer.informing.model.problem.size == 128
    means = [
        np.concatenate([drawn.alpha.mean(axis=0) for _, drawn in sampler.blocks()], axis=1)
        for sampler in (exact, fewer)
    ]
    spread = np.concatenate([drawn.alpha.std(axis=0) for _, drawn in exact.blocks()], axis=1)
    # 300 draws worth 60 and more: differences of two means of .18 sd, and those of the hyperparameters' own error.
    assert np.sqrt((((means[0] - means[1]) / spread) ** 2).mean()) < 0.25
