"""The audit's numbers against other ways to them: scipy, statsmodels, determinants, and simulation of later tests."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.planted import clean
from scipy import stats
from statsmodels.multivariate.cancorr import CanCorr
from statsmodels.stats.outliers_influence import variance_inflation_factor

import pycombat_gam as pcg
from pycombat_gam.audit import Audit
from pycombat_gam.audit.imbalance import later_level
from pycombat_gam.checks.overlap import multilevel_difference
from pycombat_gam.checks.sites import sd_factors
from pycombat_gam.types import FloatArray

ROUNDING = {"rtol": 1e-9, "atol": 1e-11}
"""Well-conditioned designs of 160 rows: other algorithms round at 1e-13 or so, squared in determinants."""


def unbalanced(seed: int = 0) -> pd.DataFrame:
    """Ages and diagnoses that go with sites, sizes that differ."""
    rng = np.random.default_rng(seed)
    table = clean(seed)
    code = table["site"].map({"Ghent": 0, "Lyon": 1, "Oslo": 2, "Turin": 3}).to_numpy()
    table["age"] = 40 + 9 * code + rng.normal(0, 8, len(table))
    sick = rng.random(len(table)) < np.array([0.1, 0.3, 0.6, 0.4])[code]
    table["dx"] = np.where(sick, rng.choice(["AD", "MCI"], len(table)), "HC")
    return table[(code != 1) | (rng.random(len(table)) < 0.5)].reset_index(drop=True)


def columns(table: pd.DataFrame) -> dict[str, FloatArray]:
    dx = [(table["dx"] == level).to_numpy(float) for level in ("HC", "MCI")]
    return {
        "age": table[["age"]].to_numpy(float),
        "sex": (table[["sex"]] == "M").to_numpy(float),
        "dx": np.column_stack(dx),
    }


def dummies(table: pd.DataFrame) -> FloatArray:
    return pd.get_dummies(table["site"], drop_first=True).to_numpy(float)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return unbalanced()


@pytest.fixture(scope="module")
def audit(table: pd.DataFrame) -> Audit:
    return pcg.audit(table, "~ age + sex + dx", batch="site", id="subject")


def rows(frame: pd.DataFrame, **keys: object) -> pd.DataFrame:
    for column, value in keys.items():
        frame = frame[frame[column] == value]
    assert len(frame)
    return frame


def test_difference_is_cohens_d(table: pd.DataFrame, audit: Audit) -> None:
    for site in table["site"].unique():
        own, others = table.loc[table["site"] == site, "age"], table.loc[table["site"] != site, "age"]
        t = stats.ttest_ind(own, others).statistic
        expected = t * np.sqrt(1 / len(own) + 1 / len(others))
        found = rows(audit.overlap, covariate="age", site=site)["difference"].item()
        np.testing.assert_allclose(found, expected, **ROUNDING)


def test_difference_of_categories(table: pd.DataFrame, audit: Audit) -> None:
    """Yang & Dalton's formula, the last level left out instead of the first."""
    for site in table["site"].unique():
        here = table["site"] == site
        shares = [table.loc[chosen, "dx"].value_counts(normalize=True) for chosen in (here, ~here)]
        p, q = (share.reindex(["AD", "HC", "MCI"], fill_value=0.0) for share in shares)
        a, b = p.to_numpy()[:-1], q.to_numpy()[:-1]
        S = (np.diag(a) - np.outer(a, a) + np.diag(b) - np.outer(b, b)) / 2
        expected = np.sqrt((a - b) @ np.linalg.solve(S, a - b))
        found = rows(audit.overlap, covariate="dx", site=site)
        np.testing.assert_allclose(rows(found, level="")["difference"].item(), expected, **ROUNDING)
        single = (p["AD"] - q["AD"]) / np.sqrt((p["AD"] * (1 - p["AD"]) + q["AD"] * (1 - q["AD"])) / 2)
        np.testing.assert_allclose(rows(found, level="AD")["difference"].item(), single, **ROUNDING)


@pytest.mark.parametrize(
    ("p", "q", "expected"),
    [
        ([0.5, 0.5], [0.5, 0.5], 0.0),
        ([1.0, 0.0], [0.0, 1.0], np.inf),
        ([1.0, 0.0], [0.5, 0.5], 0.5 / np.sqrt(0.125)),
        ([0.5, 0.5, 0.0], [0.5, 0.5, 0.0], 0.0),
        ([0.0, 0.5, 0.5], [1.0, 0.0, 0.0], np.inf),
    ],
    ids=["equal", "apart", "one spread", "empty level", "apart, three"],
)
def test_difference_of_categories_at_its_ends(p: list[float], q: list[float], expected: float) -> None:
    np.testing.assert_allclose(multilevel_difference(np.array(p), np.array(q)), expected, **ROUNDING)


def test_canonical_correlations(table: pd.DataFrame, audit: Audit) -> None:
    Z = dummies(table)
    for term, X in columns(table).items():
        # CanCorr fails on a single column, where it is the root of R².
        if X.shape[1] == 1:
            full = np.column_stack([np.ones(len(X)), Z])
            left = X[:, 0] - full @ np.linalg.lstsq(full, X[:, 0], rcond=None)[0]
            expected = np.sqrt([1 - left @ left / ((X - X.mean()) ** 2).sum()])
        else:
            expected = np.sort(CanCorr(X, Z).cancorr)[::-1]
        found = rows(audit.canonical, term=term)["correlation"]
        np.testing.assert_allclose(found, expected, **ROUNDING)
        r2 = rows(audit.confounding, term=term)["r2"].item()
        np.testing.assert_allclose(r2, (expected**2).mean(), **ROUNDING)


def test_variance_inflation(table: pd.DataFrame, audit: Audit) -> None:
    """Fox & Monette's determinants of correlations, with sites over without; statsmodels for one column."""
    Z, X = dummies(table), columns(table)
    for term, own in X.items():
        others = np.hstack([part for name, part in X.items() if name != term])

        def gvif(rest: FloatArray, own: FloatArray = own) -> float:
            whole = np.corrcoef(np.hstack([own, rest]).T)
            k = own.shape[1]
            first, second = whole[:k, :k], whole[k:, k:]
            return float(np.linalg.det(first) * np.linalg.det(second) / np.linalg.det(whole))

        expected = gvif(np.hstack([others, Z])) / gvif(others)
        row = rows(audit.confounding, term=term).iloc[0]
        np.testing.assert_allclose(row["gvif"], expected, **ROUNDING)
        np.testing.assert_allclose(row["gvif_df"], expected ** (1 / (2 * own.shape[1])), **ROUNDING)
        if own.shape[1] == 1:
            full, none = (np.hstack([np.ones_like(own), own, *rest]) for rest in ([others, Z], [others]))
            ratio = variance_inflation_factor(full, 1) / variance_inflation_factor(none, 1)
            np.testing.assert_allclose(row["worst"], ratio, **ROUNDING)
            found = rows(audit.imbalance, term=term)["within_share"].item()
            np.testing.assert_allclose(found, 1 / ratio, **ROUNDING)


def test_carriers_share_out_sums_of_squares(table: pd.DataFrame, audit: Audit) -> None:
    """For age alone: between sites n_b(mean_b − mean)², and within, of what sites and the other terms leave of it."""
    X, age = columns(table), table["age"].to_numpy()
    found = rows(audit.carriers, term="age").set_index("site")
    by_site = table.groupby("site")["age"]
    between = by_site.size() * (by_site.mean() - age.mean()) ** 2
    np.testing.assert_allclose(found["between"], between / between.sum(), **ROUNDING)
    rest = np.hstack([np.ones((len(table), 1)), X["sex"], X["dx"], dummies(table)])
    left = age - rest @ np.linalg.lstsq(rest, age, rcond=None)[0]
    within = pd.Series(left**2).groupby(table["site"]).sum()
    np.testing.assert_allclose(found["information"], within / within.sum(), **ROUNDING)


def test_distributions(table: pd.DataFrame, audit: Audit) -> None:
    found = rows(audit.covariates, covariate="age").set_index("site")
    expected = table.groupby("site")["age"].describe()
    names = {"mean": "mean", "sd": "std", "min": "min", "q1": "25%", "median": "50%", "q3": "75%", "max": "max"}
    for ours, theirs in names.items():
        np.testing.assert_allclose(found[ours], expected[theirs], **ROUNDING)
    counts = pd.crosstab(table["dx"], table["site"])
    found = rows(audit.covariates, covariate="dx")
    for _, row in found.iterrows():
        assert row["n"] == counts.loc[row["level"], row["site"]]
        np.testing.assert_allclose(row["share"], row["n"] / counts[row["site"]].sum(), **ROUNDING)


def test_support(table: pd.DataFrame, audit: Audit) -> None:
    ranges = table.groupby("site")["age"].agg(["min", "max"])
    for site, row in rows(audit.overlap, covariate="age").set_index("site").iterrows():
        own, others = table.loc[table["site"] == site, "age"], ranges.drop(index=site)
        inside = np.array([[low <= age <= high for low, high in others.to_numpy()] for age in own])
        assert row["outside"] == int((~inside.any(axis=1)).sum())
        np.testing.assert_allclose(row["overlap"], inside.mean(axis=0).min(), **ROUNDING)
        assert row["overlap_with"] == others.index[inside.mean(axis=0).argmin()]


def test_scale_factors_cover_the_truth() -> None:
    """The interval of an sd from 3 to 20 normal values holds the true one in 95 of 100 samples."""
    runs = 20_000
    for n in (3, 8, 20):
        s = np.random.default_rng(n).normal(size=(runs, n)).std(axis=1, ddof=1)
        lower, upper = sd_factors(np.array([n - 1]))
        covered = float(((s * lower < 1) & (s * upper > 1)).mean())
        assert abs(covered - 0.95) < 4 * np.sqrt(0.05 * 0.95 / runs)  # Monte Carlo errors


def test_features(table: pd.DataFrame, audit: Audit) -> None:
    names = [f"f{k}" for k in range(8)]
    found, Y = audit.features.set_index("feature"), table[names]
    assert list(found.index) == names
    for ours, theirs in {"mean": Y.mean(), "sd": Y.std(), "median": Y.median(), "min": Y.min(), "max": Y.max()}.items():
        np.testing.assert_allclose(found[ours], theirs, **ROUNDING)
    assert found["distinct"].tolist() == Y.nunique().tolist()

    def distances(values: pd.DataFrame) -> pd.DataFrame:
        centred = (values - values.groupby(table["site"]).transform("median")).abs()
        own = centred.groupby(table["site"]).transform("median")
        # 1/1.4826 is Φ⁻¹(3/4) to five digits.
        return centred / (np.maximum(own, centred.median().to_numpy()) / stats.norm.ppf(0.75))

    assert (Y > 0).to_numpy().all()
    nearer = np.minimum(distances(Y), distances(np.log(Y)))
    # Both lines: 1.4826 has five digits.
    np.testing.assert_allclose(found["farthest"], nearer.max(), rtol=2e-5)
    raw = pcg.audit(table.assign(**(Y - 20)), "~ age", batch="site").features.set_index("feature")
    np.testing.assert_allclose(raw.loc[names, "farthest"], distances(Y).max(), rtol=2e-5)


def test_features_with_missing_cells() -> None:
    table = clean()
    holes = np.random.default_rng(5).random((160, 8)) < 0.2
    Y = table.iloc[:, 5:].mask(holes)
    table.iloc[:, 5:] = Y
    audit = pcg.audit(table, "~ age", batch="site")
    found = audit.features.set_index("feature").loc[Y.columns]
    for ours, theirs in {"mean": Y.mean(), "sd": Y.std(), "median": Y.median(), "min": Y.min(), "max": Y.max()}.items():
        np.testing.assert_allclose(found[ours], theirs, **ROUNDING)
    assert found["observed"].tolist() == Y.notna().sum().tolist()
    assert found["distinct"].tolist() == Y.nunique().tolist()
    expected = Y.isna().groupby(table["site"]).sum()
    for _, row in audit.missing.iterrows():
        assert row["missing"] == expected.loc[row["site"], row["column"]]
    assert audit.missing["missing"].sum() == holes.sum()


# Later tests: harmonize thousands of features without any effect, test them without site, and count.

FORMULAS = {
    "~ age + sex + dx": {"age": ["age"], "sex": ["sexM"], "dx": ["dxHC", "dxMCI"]},
    "~ age*sex": {"age": ["age"], "sex": ["sexM"], "age:sex": ["age:sexM"]},
}
RUNS = 4_000


def small(seed: int) -> pd.DataFrame:
    """A third of the rows, so that the sites' degrees of freedom count."""
    return unbalanced(seed).iloc[::3].reset_index(drop=True)


@pytest.mark.parametrize("formula", FORMULAS)
def test_later_tests_have_the_level_that_is_said(formula: str) -> None:
    table = small(3)
    Y = np.random.default_rng(11).normal(size=(len(table), RUNS))
    model = pcg.ComBat(formula, batch="site", eb=False, mean_only=True)
    harmonized = model.fit_transform(Y, table)
    audit = pcg.audit(Y[:, :2], formula, batch="site", covariates=table).imbalance.set_index("term")

    male = (table["sex"] == "M").to_numpy(float)
    made = {"age": table["age"].to_numpy(), "sexM": male, "age:sexM": table["age"].to_numpy() * male}
    made |= {
        "dxHC": (table["dx"] == "HC").to_numpy(float),
        "dxMCI": (table["dx"] == "MCI").to_numpy(float),
    }
    names = list(dict.fromkeys(name for own in FORMULAS[formula].values() for name in own))
    X = np.column_stack([np.ones(len(table)), *(made[name] for name in names)])
    beta = np.linalg.lstsq(X, harmonized, rcond=None)[0]
    df = len(table) - X.shape[1]
    rss = ((harmonized - X @ beta) ** 2).sum(axis=0)
    assert (audit["df_assumed"] == df).all()
    assert (audit["df_true"] == df - 3).all()

    for term, own in FORMULAS[formula].items():
        held = [names.index(name) + 1 for name in own]
        reduced = np.delete(X, held, axis=1)
        rss0 = ((harmonized - reduced @ np.linalg.lstsq(reduced, harmonized, rcond=None)[0]) ** 2).sum(axis=0)
        F = (rss0 - rss) / len(held) / (rss / df)
        share = float((stats.f.sf(F, len(held), df) < 0.05).mean())
        level = float(audit.loc[term, "naive_level"])
        assert level > 0.055
        assert abs(share - level) < 4 * np.sqrt(level * (1 - level) / RUNS)  # Monte Carlo errors
        if len(held) == 1:
            # What the later test takes the variance for has the mean (RSS's true degrees of freedom over its own).
            assumed = (rss / df).mean() * np.linalg.inv(X.T @ X)[held[0], held[0]]
            ratio = beta[held[0]].var() / assumed * audit.loc[term, "df_true"] / df
            # A variance from 4,000 normal values has the relative error √(2/4,000).
            assert abs(ratio * audit.loc[term, "within_share"] - 1) < 4 * np.sqrt(2 / RUNS)


def test_site_in_the_later_model_mends_it() -> None:
    """What the verdict advises: with site in the later model the level is the nominal one."""
    table = small(3)
    Y = np.random.default_rng(12).normal(size=(len(table), RUNS))
    harmonized = pcg.ComBat("~ age", batch="site", eb=False, mean_only=True).fit_transform(Y, table)
    X = np.column_stack([np.ones(len(table)), dummies(table), table["age"]])
    beta = np.linalg.lstsq(X, harmonized, rcond=None)[0]
    df = len(table) - X.shape[1]
    variance = ((harmonized - X @ beta) ** 2).sum(axis=0) / df * np.linalg.inv(X.T @ X)[-1, -1]
    share = float((2 * stats.t.sf(np.abs(beta[-1]) / np.sqrt(variance), df) < 0.05).mean())
    assert abs(share - 0.05) < 4 * np.sqrt(0.05 * 0.95 / RUNS)  # Monte Carlo errors


@pytest.mark.parametrize("formula", [*FORMULAS, "~ s(age) + dx", "~ poly(age, 3)*dx"])
def test_the_share_within_sites_is_that_of_the_test(formula: str) -> None:
    """What the audit foresees is what `ComBat.test` says afterwards."""
    table = unbalanced(3)
    model = pcg.ComBat(formula, batch="site", eb=False)
    Y = np.random.default_rng(13).normal(size=(len(table), 3))
    tested = model.fit(Y, table).test().table.groupby("term", sort=False)["within_share"].first()
    foreseen = pcg.audit(Y, formula, batch="site", covariates=table).imbalance.set_index("term")["within_share"]
    assert set(tested.index) == set(foreseen.index)
    np.testing.assert_allclose(foreseen[tested.index], tested, **ROUNDING)


def test_level_of_one_column_is_that_of_t() -> None:
    for ratio in (1.0, 1.3, 5.0):
        critical = stats.t.isf(0.025, 60)
        expected = 2 * stats.t.sf(critical * np.sqrt(50 / 60 / ratio), 50)
        np.testing.assert_allclose(later_level(np.array([ratio]), 60, 50), expected, rtol=1e-8)  # an inversion integral


def test_level_where_nothing_can_be_tested() -> None:
    assert np.isnan(later_level(np.array([np.inf]), 60, 50))
    assert np.isnan(later_level(np.array([]), 60, 50))
    assert np.isnan(later_level(np.array([1.0]), 5, 0))
