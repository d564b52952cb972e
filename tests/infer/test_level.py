"""The level of one-step tests on a few simulated tables; `benchmarks/inference.py` has ten designs and many tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pycombat_gam.infer.correlation import effective_features, mean_squared_correlation, residual_correlation
from pycombat_gam.infer.engine import Engine
from pycombat_gam.infer.weights import SiteSquares, relative_variances
from pycombat_gam.mean.additive import AdditiveMean

V = 2000
FOUR_ERRORS = 4 * np.sqrt(0.05 * 0.95 / V)
"""Standard errors of a share of 5 % among independent tests, four of them."""


def rejected(n: tuple[int, ...], patients: tuple[int, ...], sd: tuple[float, ...], **options: bool) -> float:
    """Share of true nulls rejected at 5 % among V independent features."""
    rng = np.random.default_rng(20)
    site = np.repeat(np.arange(len(n)), n)
    dx = np.concatenate([np.arange(rows) < ill for rows, ill in zip(n, patients, strict=True)]).astype(float)
    Y = rng.normal(size=(len(n), V))[site] + np.array(sd)[site][:, None] * rng.normal(size=(site.size, V))
    mean = AdditiveMean().fit(pd.DataFrame({"dx": dx}), Y, site, formula="~ dx")
    engine = Engine(mean, 0.0, **{"by_site": True, "weighted": True, **options})
    return float((engine.term("dx").tested.p < 0.05).mean())


@pytest.mark.parametrize(
    ("n", "patients", "sd"),
    [
        ((20, 20), (2, 18), (1.0, 1.0)),
        ((40, 12), (3, 6), (0.7, 1.4)),
        ((40, 12), (3, 6), (1.4, 0.7)),
        ((3, 4, 5, 6, 8, 10, 14), (1, 3, 1, 5, 2, 7, 4), (1.4, 1.3, 1.2, 1.0, 0.9, 0.8, 0.7)),
    ],
    ids=["unbalanced", "small site noisy", "small site quiet", "tiny sites"],
)
def test_true_nulls_are_rejected_as_often_as_said(
    n: tuple[int, ...], patients: tuple[int, ...], sd: tuple[float, ...]
) -> None:
    assert abs(rejected(n, patients, sd) - 0.05) < FOUR_ERRORS


def test_one_variance_of_all_sites_would_not_do() -> None:
    """So the tests above could fail."""
    assert rejected((40, 12), (3, 6), (0.7, 1.4), by_site=False, weighted=False) > 0.05 + 2 * FOUR_ERRORS
    assert rejected((40, 12), (3, 6), (1.4, 0.7), by_site=False, weighted=False) < 0.05 - FOUR_ERRORS


def test_a_smooth_keeps_its_level() -> None:
    rng = np.random.default_rng(21)
    sizes = (15, 20, 30, 45)
    site = np.repeat(np.arange(4), sizes)
    age = rng.normal(5.0 * site, 5.0)
    Y = rng.normal(size=(4, 600))[site] + np.array([1.5, 1.2, 0.9, 0.7])[site][:, None] * rng.normal(size=(110, 600))
    mean = AdditiveMean().fit(pd.DataFrame({"age": age}), Y, site, formula="~ s(age, k=6)")
    p = Engine(mean, 0.0, by_site=True, weighted=True).term("s(age)").tested.p
    # Wood's test is approximate, 4.2 to 5.8 % in the benchmark; and four standard errors of 600 tests.
    assert abs((p < 0.05).mean() - 0.05) < 0.008 + 4 * np.sqrt(0.05 * 0.95 / 600)


def test_site_variances_are_recovered_from_few_rows() -> None:
    """The bias of a logarithm of χ² is taken off: sites of 3 rows have the same δ̄ as sites of 300."""
    rng = np.random.default_rng(22)
    df, delta = np.array([2.0, 5.0, 30.0, 299.0]), np.array([2.0, 0.5, 1.0, 1.0])
    rss = delta[:, None] * rng.chisquare(df[:, None], size=(4, 20_000)) * rng.gamma(3.0, size=20_000)
    every = np.ones((4, 20_000), dtype=bool)
    estimate = relative_variances([SiteSquares(rss, df[:, None], every)], 1 / delta)
    expected = delta / np.exp((df @ np.log(delta)) / df.sum())
    # The logarithm of χ²_2 has a standard deviation of 1.28: of 20,000 of them the mean has 0.009.
    np.testing.assert_allclose(np.log(estimate), np.log(expected), atol=0.04)
    halves = [SiteSquares(rss[:, part], df[:, None], every[:, part]) for part in (slice(5000), slice(5000, None))]
    np.testing.assert_allclose(relative_variances(halves, 1 / delta), estimate, rtol=1e-12)  # sums in another order


def test_correlated_features_are_worth_fewer() -> None:
    rng = np.random.default_rng(23)
    n, k = 400, 60
    codes = np.repeat([0, 1], n // 2)
    shared = np.sqrt(0.5) * rng.normal(size=(n, 1)) + np.sqrt(0.5) * rng.normal(size=(n, k))
    shared[codes == 1] *= 3.0
    # Squared correlations of 0.25 less chance; their mean over 1,770 pairs that share one factor.
    assert abs(mean_squared_correlation(shared, codes, 2, 2.0) - 0.25) < 0.04
    alone = mean_squared_correlation(rng.normal(size=(n, k)), codes, 2, 2.0)
    assert alone < 0.002
    holes = np.where(rng.random((n, k)) < 0.1, np.nan, shared)
    assert abs(mean_squared_correlation(holes, codes, 2, 2.0) - 0.25) < 0.04
    assert effective_features(60, 0.25) == 60 / (1 + 59 * 0.25)


def test_the_fit_keeps_the_correlation_of_its_residuals() -> None:
    rng = np.random.default_rng(24)
    site, age = np.repeat([0, 1, 2], 40), rng.normal(size=120)
    factor = rng.normal(size=(120, 1))
    Y = 2.0 * age[:, None] + 5.0 * site[:, None] + factor + 0.5 * rng.normal(size=(120, 40))
    table = pd.DataFrame({"age": age})
    mean = AdditiveMean().fit(table, Y, site, formula="~ age")
    # Correlation 1/1.25 of all pairs, once age and site are taken off.
    assert abs(residual_correlation(mean, Y, table, site) - 0.64) < 0.1
