"""Random effects over sites: estimating equations, statsmodels, edges."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.stats import t as student
from statsmodels.stats.meta_analysis import combine_effects

from pycombat_gam.predict.measures.pooling import pool_sites


@pytest.mark.parametrize("seed", range(100))
def test_equations_and_statsmodels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    K = int(rng.integers(2, 40))
    v = rng.gamma(1, 1, K) * 10.0 ** rng.integers(-6, 1)
    y = rng.normal(size=K) * 10.0 ** rng.uniform(-3, 0)
    ours = pool_sites(y, v, 0.9)
    w = 1 / (v + ours.tau2)
    q = w @ (y - w @ y / w.sum()) ** 2
    # Q falls with τ², whose last bit moves it by 1e-14 of its size or less.
    assert q == pytest.approx(K - 1, rel=1e-10) if ours.tau2 > 0 else q <= K - 1
    assert ours.sites == K
    # One weighted mean, and one quantile.
    close = {"rel": 1e-10}
    assert ours.estimate == pytest.approx(w @ y / w.sum(), **close)
    assert ours.se == pytest.approx(np.sqrt(q / (K - 1) / w.sum()), **close)
    crit = student.ppf(0.95, K - 1)
    assert ours.upper - ours.estimate == pytest.approx(crit * ours.se, **close)
    assert ours.estimate - ours.lower == pytest.approx(crit * ours.se, **close)
    assert ours.new_upper - ours.estimate == pytest.approx(crit * np.hypot(ours.se, np.sqrt(ours.tau2)), **close)
    assert ours.estimate - ours.new_lower == pytest.approx(crit * np.hypot(ours.se, np.sqrt(ours.tau2)), **close)
    with np.errstate(all="ignore"):
        theirs = combine_effects(y, v, method_re="pm", use_t=True, alpha=0.1, atol=1e-6, maxiter=200)
    # Its search stops where Q is within 1e-6 of K − 1; closer, rounding can end it at 0.
    scale = ours.tau2 + v.mean()
    assert theirs.tau2 == pytest.approx(ours.tau2, abs=3e-6 * scale)
    assert theirs.mean_effect_re == pytest.approx(ours.estimate, abs=3e-6 * np.sqrt(scale))
    assert theirs.conf_int(alpha=0.1)[3] == pytest.approx(
        (ours.lower, ours.upper), abs=3e-5 * np.sqrt(scale)
    )  # t₁ is up to 6


def test_few_sites() -> None:
    none, single = pool_sites(np.zeros(0), np.zeros(0)), pool_sites(np.array([0.3]), np.array([0.1]))
    assert none.sites == 0 and np.isnan([x for name, x in vars(none).items() if name != "sites"]).all()
    assert (single.sites, single.estimate) == (1, 0.3)
    assert np.isnan([x for name, x in vars(single).items() if name not in ("sites", "estimate")]).all()
    two = pool_sites(np.array([0.1, 0.5]), np.array([0.01, 0.01]))
    # With equal variances, τ² = s² − v and se² = s²/2.
    assert (two.tau2, two.se, two.estimate) == pytest.approx((0.07, 0.2, 0.3), rel=1e-12)


def test_sites_without_the_measure() -> None:
    rng = np.random.default_rng(5)
    y, v = rng.normal(size=9), rng.gamma(1, 1, 9)
    some = y.copy(), v.copy()
    some[0][1], some[1][3], some[1][5], some[0][7] = np.nan, np.nan, 0.0, np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = pool_sites(*some)
    assert ours == pool_sites(np.delete(y, [1, 3, 5, 7]), np.delete(v, [1, 3, 5, 7])) and ours.sites == 5


def test_no_heterogeneity() -> None:
    """Hartung & Knapp's error may then be small, down to 0: it is not truncated."""
    equal = pool_sites(np.full(5, 0.25), np.arange(1, 6.0))
    assert equal.tau2 == 0 and equal.se == 0 and equal.lower == equal.upper == equal.new_upper == equal.estimate
    near = pool_sites(0.25 + 1e-6 * np.arange(5), np.ones(5))
    assert near.tau2 == 0 and near.se < 1e-6
    assert (near.new_lower, near.new_upper) == (near.lower, near.upper)


def test_units() -> None:
    """Estimates times c: bounds times c, τ² times c²; sites in any order."""
    rng = np.random.default_rng(6)
    y, v = rng.normal(size=12), rng.gamma(1, 0.3, 12)
    plain, order = pool_sites(y, v), rng.permutation(12)
    for c in (1e-6, 1e6):
        scaled = pool_sites(c * y[order], c * c * v[order])
        # τ² is a root at 1e-14.
        assert scaled.tau2 == pytest.approx(c * c * plain.tau2, rel=1e-10)
        assert (scaled.lower, scaled.new_upper) == pytest.approx((c * plain.lower, c * plain.new_upper), rel=1e-10)


def test_prediction_intervals_cover_new_sites() -> None:
    rng = np.random.default_rng(7)
    share = {}
    for K in (15, 60):
        inside = 0
        for _ in range(4000):
            v = rng.gamma(4, 0.02, K)
            sites = rng.normal(0.5, 0.4, K + 1)
            ours = pool_sites(sites[:K] + rng.normal(size=K) * np.sqrt(v), v, 0.9)
            inside += ours.new_lower <= sites[K] <= ours.new_upper
        share[K] = inside / 4000
    # Three simulation errors {.9 × .1/4000}^½ are .014. The interval takes τ² as known: few sites make it too short.
    assert share[60] == pytest.approx(0.9, abs=0.02)
    assert share[15] == pytest.approx(0.87, abs=0.014)
