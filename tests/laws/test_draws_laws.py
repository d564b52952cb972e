"""Laws of draws and intervals: limits, identities, and what must not change them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import pycombat_gam as pcg
from tests.helpers.small_sites import FORMULA, SmallSites, small_sites


def fitted(made: SmallSites, formula: str = FORMULA, **options: object) -> pcg.ComBat:
    return quietly(pcg.ComBat(formula, "site", features=made.features, **options).fit, made.table)


def quietly(call: object, *args: object, **options: object):  # type: ignore[no-untyped-def]  # returns what call does
    """Call, warnings of small sites put aside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        return call(*args, **options)  # type: ignore[operator]


def values(table: pd.DataFrame, made: SmallSites) -> np.ndarray:
    return table[made.features].to_numpy()


def drawn(model: pcg.ComBat, made: SmallSites, **options: object) -> np.ndarray:
    return np.array([values(table, made) for table in quietly(model.draws, made.table, **options)])


@pytest.mark.parametrize("options", [{}, {"mean_only": True}, {"ref_batch": "s4"}], ids=str)
def test_the_mean_of_draws_is_what_bayes_gives(options: dict[str, object]) -> None:
    made = small_sites(12, 4, sizes=(4, 8, 20, 30, 40))
    draws = drawn(fitted(made, **options), made, m=150, seed=7)
    bayes = values(quietly(fitted(made, prior="bayes", **options).transform, made.table), made)
    spread = np.maximum(draws.std(axis=0), 1e-12)
    off = (draws.mean(axis=0) - bayes) / spread
    # 150 draws, every fifth sweep, against 400 in a row worth some 60: errors of .08 and .13 posterior sds. Values of a
    # feature share them, so the mean square over 500 values is not much steadier than that.
    assert np.sqrt((off**2).mean()) < 0.28
    assert np.abs(off).max() < 1.0


def test_draws_narrow_to_combat_as_sites_grow() -> None:
    """With many rows hyperparameters don't matter: both bring a site to the common level and scale."""
    off, width = [], []
    for n in (25, 400):
        made = small_sites(8, 2, sizes=(n, n, n))
        model = fitted(made)
        draws, plain = drawn(model, made, m=60), values(model.transform(made.table), made)
        off.append(np.sqrt(((draws.mean(axis=0) - plain) ** 2).mean()))
        width.append(draws.std(axis=0).mean())
    # Standard errors of location fall by four, and what a prior adds to it by sixteen.
    assert width[1] < width[0] / 3
    assert off[1] < off[0] / 3
    assert off[1] < 0.02


def test_flat_draws_obey_rubin_s_identity() -> None:
    """Location only, flat priors: W + B of a later lm is the variance of lm with site dummies."""
    made = small_sites(40, 3, sizes=(30, 40, 60))
    model = fitted(made, eb=False, mean_only=True)
    X = made.table[["age", "sex", "dx"]].to_numpy(dtype=float)
    Q, dummies = np.column_stack([np.ones(len(X)), X]), np.column_stack([np.eye(3)[made.site], X])
    estimates, variances = [], []
    for Y in drawn(model, made, m=600):
        beta, left = _least_squares(Q, Y)
        estimates.append(beta[1:])
        variances.append((left**2).sum(axis=0) / (len(X) - 4) * np.diag(np.linalg.inv(Q.T @ Q))[1:, None])
    total = np.mean(variances, axis=0) + np.var(estimates, axis=0, ddof=1)
    beta, left = _least_squares(dummies, values(made.table, made))
    lm = (left**2).sum(axis=0) / (len(X) - 6) * np.diag(np.linalg.inv(dummies.T @ dummies))[3:, None]
    # A variance of 600 draws has a relative standard error of 6 %, their mean over 40 features one of .9 %. The
    # posterior mean of σ² is rss/(df − 2), which adds up to 2/122 = 1.6 %.
    assert np.abs((total / lm).mean(axis=1) - 1.008).max() < 0.03
    assert np.abs(np.mean(estimates, axis=0) - beta[3:]).max() < 4.5 * np.sqrt(lm.max() / 600)


def _least_squares(X: np.ndarray, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    beta = np.linalg.lstsq(X, Y, rcond=None)[0]
    return beta, Y - X @ beta


def test_seeds_reproduce_and_rows_may_be_permuted() -> None:
    made = small_sites(70, 9, sizes=(3, 9, 30))
    model = fitted(made)
    first = drawn(model, made, m=3, seed=5)
    np.testing.assert_array_equal(drawn(model, made, m=3, seed=5), first)
    assert np.abs(drawn(model, made, m=3, seed=6) - first).max() > 0.1
    order = np.random.default_rng(0).permutation(len(made.table))
    shuffled = SmallSites(made.table.iloc[order], made.features, made.site[order], made.truth[order])
    again = drawn(fitted(shuffled), shuffled, m=3, seed=5)
    # The statistics differ in their last digits, and 165 sweeps carry that on.
    np.testing.assert_allclose(again, first[:, order], rtol=1e-10, atol=1e-10)
    bayes = [quietly(fitted(each, prior="bayes").transform, each.table) for each in (made, shuffled)]
    np.testing.assert_allclose(values(bayes[1], made), values(bayes[0], made)[order], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("options", [{}, {"prior": "bayes", "seed": 3}, {"eb": False}], ids=str)
def test_a_saved_model_draws_the_same(options: dict[str, object], tmp_path: Path) -> None:
    made = small_sites(6, 9, sizes=(5, 9, 30))
    made.table.loc[12, "f1"] = np.nan
    model = fitted(made, "~ s(age, k=4) + dx", missing="omit", **options)
    model.save(tmp_path / "model.pcg")
    loaded = pcg.load(tmp_path / "model.pcg")
    assert loaded.get_params() == model.get_params()
    np.testing.assert_array_equal(values(loaded.transform(made.table), made), values(model.transform(made.table), made))
    np.testing.assert_array_equal(drawn(loaded, made, m=2), drawn(model, made, m=2))
    np.testing.assert_array_equal(
        quietly(loaded.interval, made.table, draws=50)["upper"], quietly(model.interval, made.table, draws=50)["upper"]
    )


def test_priors_change_no_draw() -> None:
    """Draws are of the hierarchical model, whichever prior `transform` plugs in."""
    made = small_sites(6, 9, sizes=(5, 9, 30))
    first = drawn(fitted(made), made, m=2)
    for prior in ("nonparametric", "bayes"):
        np.testing.assert_array_equal(drawn(fitted(made, prior=prior), made, m=2), first)


def test_units_and_offsets_pass_through() -> None:
    made = small_sites(6, 9, sizes=(5, 9, 30))
    other = SmallSites(made.table.copy(), made.features, made.site, made.truth)
    other.table[made.features] = 1e6 + 20 * other.table[made.features]
    first, second = drawn(fitted(made), made, m=2), drawn(fitted(other), other, m=2)
    # An offset of 50,000 sds leaves eleven digits of the values, ten after 160 sweeps.
    np.testing.assert_allclose((second - 1e6) / 20, first, atol=1e-7)


def test_an_offset_in_the_formula_is_taken_off_and_put_back() -> None:
    made = small_sites(6, 9, sizes=(5, 9, 30))
    other = SmallSites(made.table.assign(known=np.linspace(0, 8, 44)), made.features, made.site, made.truth)
    other.table[made.features] += other.table[["known"]].to_numpy()
    first = drawn(fitted(made), made, m=2)
    second = drawn(fitted(other, FORMULA + " + offset(known)"), other, m=2)
    np.testing.assert_allclose(second - other.table[["known"]].to_numpy(), first, atol=1e-9)
    ends = [
        quietly(fitted(each, formula).interval, each.table, draws=50)["lower"].to_numpy().reshape(44, 6)
        for each, formula in ((made, FORMULA), (other, FORMULA + " + offset(known)"))
    ]
    np.testing.assert_allclose(ends[1] - other.table[["known"]].to_numpy(), ends[0], atol=1e-9)


def test_intervals_are_the_quantiles_of_the_draws() -> None:
    made = small_sites(5, 9, sizes=(5, 9, 30))
    model = fitted(made)
    intervals = quietly(model.interval, made.table, draws=800, level=0.8)
    draws = drawn(model, made, m=200)
    lower, upper = np.quantile(draws, [0.1, 0.9], axis=0)
    spread = draws.std(axis=0)
    for name, expected in (("lower", lower), ("upper", upper)):
        off = (intervals[name].to_numpy().reshape(44, 5) - expected) / spread
        # A decile of 200 draws has a standard error of .12 sd; that of 800 in a row about the same.
        assert np.sqrt((off**2).mean()) < 0.3
    np.testing.assert_array_equal(
        intervals["value"].to_numpy().reshape(44, 5), values(model.transform(made.table), made)
    )


def test_coverage_of_small_and_large_sites() -> None:
    """A small sibling of benchmarks/coverage.py."""
    inside: list[np.ndarray] = []
    site: list[np.ndarray] = []
    for seed in range(4):
        made = small_sites(20, 100 + seed, sizes=(3, 5, 10, 40, 100))
        intervals = quietly(fitted(made).interval, made.table, seed=seed)
        truth = made.truth.ravel()
        inside.append(((intervals["lower"] <= truth) & (truth <= intervals["upper"])).to_numpy())
        site.append(np.repeat(made.site, 20))
    coverage = pd.Series(np.concatenate(inside)).groupby(np.concatenate(site)).mean()
    # Values of a site and feature move together: about 80 independent ones, a standard error of .025.
    assert coverage.between(0.87, 0.995).all(), coverage


def test_coverage_at_new_sites_and_known_ones_unchanged() -> None:
    inside: list[float] = []
    for seed in range(3):
        made = small_sites(20, 200 + seed, sizes=(20, 25, 30, 40, 8), known=4)
        old, new = made.table[made.site < 4], made.table[made.site == 4]
        model = quietly(pcg.ComBat(FORMULA, "site", features=made.features, on_unseen="estimate").fit, old)
        both = quietly(model.interval, made.table, seed=seed, draws=200)
        alone = quietly(model.interval, old, seed=seed, draws=200)
        numbers = ["lower", "upper"]
        np.testing.assert_allclose(both.loc[: len(alone) - 1, numbers], alone[numbers], rtol=1e-12, atol=1e-12)
        truth = made.truth[made.site == 4].ravel()
        at_new = both.iloc[len(alone) :]
        inside.append(float(((at_new["lower"] <= truth) & (truth <= at_new["upper"])).mean()))
        only = quietly(model.interval, new, seed=seed, draws=200)
        np.testing.assert_allclose(only[numbers], at_new[numbers], rtol=1e-12, atol=1e-12)
    # 60 pairs of site and feature: a standard error of .03.
    assert 0.86 < np.mean(inside) < 0.995


def test_pooled_later_tests_are_not_liberal() -> None:
    """Cases at one site, controls at the other: a later lm on one harmonized table rejects true nulls far too often."""
    rng = np.random.default_rng(12)
    site, dx = np.repeat([0, 1], 20), np.tile(np.arange(20), 2) < np.repeat([3, 17], 20)
    Y = 0.5 * rng.normal(size=(2, 400))[site] + rng.normal(size=(40, 400))
    features = [f"f{k}" for k in range(400)]
    table = pd.concat([pd.DataFrame({"site": site, "dx": dx.astype(float)}), pd.DataFrame(Y, columns=features)], axis=1)
    model = quietly(pcg.ComBat("~ dx", "site", features=features).fit, table)
    Q = np.column_stack([np.ones(40), dx])
    inverse = np.linalg.inv(Q.T @ Q)[1, 1]

    def analysed(harmonized: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        beta, left = _least_squares(Q, harmonized[features].to_numpy())
        return beta[1], (left**2).sum(axis=0) / 38 * inverse

    estimate, variance = analysed(model.transform(table))
    naive = 2 * stats.t.sf(np.abs(estimate) / np.sqrt(variance), 38)
    results = [analysed(harmonized) for harmonized in quietly(model.draws, table, m=10)]
    pooled = pcg.pool(np.array([q for q, _ in results]), np.array([u for _, u in results]), 38)
    # 400 features: a standard error of 1.1 % at 5 %.
    assert (naive < 0.05).mean() > 0.09
    assert (pooled["p"] < 0.05).mean() < 0.083
    assert pooled["fraction_missing"].between(0.1, 0.9).mean() > 0.9
