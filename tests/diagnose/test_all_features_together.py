"""Energy distance, MMD and covariance by permutation: values from the definition, levels by simulation."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from sklearn.metrics.pairwise import rbf_kernel

import pycombat_gam as pcg
from pycombat_gam.diagnose.study import Study
from pycombat_gam.diagnose.together import permutation_tests

MEASURES = ("energy distance", "MMD", "covariance")
RUNS = 200


def permuted(table: pd.DataFrame, formula: str = "~ age", **options: int) -> pd.DataFrame:
    """Only these tests, of all columns that begin with y; indexed by measure and site."""
    features = [name for name in table if name.startswith("y")]
    study = Study.of(table, None, formula=formula, batch="site", features=features, id=None, covariates=None)
    parts = permutation_tests(study, np.arange(len(features)), **{"permutations": 99, "seed": 0, **options})
    frames = [pd.DataFrame(part) for part in parts]
    return pd.concat(frames).set_index(["measure", "site"])[["value", "statistic", "p", "n"]]


def simulated(seed: int, *, shift: float = 0.0, scale: float = 1.0, turn: float = 0.0) -> pd.DataFrame:
    """90 rows of 6 correlated features at 4 unequal sites that differ in age; site 0 may differ in more."""
    rng = np.random.default_rng(seed)
    site = np.repeat(np.arange(4), [35, 25, 18, 12])
    age = rng.uniform(20, 60, 90) + 5.0 * site
    noise = rng.standard_normal((90, 6)) @ (np.eye(6) + 0.4)
    own = site == 0
    noise[own] = noise[own] * scale + shift
    noise[own, 0] += turn * noise[own, 1]
    Y = noise + 0.05 * age[:, None]
    return pd.DataFrame(Y, columns=[f"y{k}" for k in range(6)]).assign(site=site.astype(str), age=age)


@cache
def p_values(kind: str) -> pd.DataFrame:
    """p-values of many studies, a column per test."""
    made = {"null": {}, "shift": {"shift": 2.0}, "location of covariance": {"shift": 3.0}}[kind]
    found = [permuted(simulated(1000 + run, **made), permutations=59, seed=run)["p"] for run in range(RUNS)]
    return pd.concat(found, axis=1).T


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("site", ["", "0", "3"])
def test_level_under_the_null(measure: str, site: str) -> None:
    """At 5 % (3 of 60 orders) and 20 %: within the 99.9 % range of a binomial of 200 runs."""
    p = p_values("null")[measure, site]
    for level in (0.05, 0.2):
        low, high = scipy.stats.binom.ppf([0.0005, 0.9995], RUNS, level)
        # p is a multiple of 1/60: 1e-9 is for its rounding.
        assert low <= (p <= level + 1e-9).sum() <= high


DESIGNS = {
    "small sites, many features": ((8,) * 6, 100, "normal"),
    "unequal sites": ((60, 40, 30, 20, 12, 10, 9, 8), 60, "normal"),
    "tiny sites": ((3, 3, 3, 40, 40), 5, "normal"),
    "a site of two": ((40, 20, 10, 5, 2), 50, "normal"),
    "heavy tails": ((60, 40, 20, 12, 8), 20, "t"),
    "skewed": ((60, 40, 20, 12, 8), 20, "lognormal"),
}


@pytest.mark.parametrize("design", DESIGNS)
def test_level_in_hard_designs(design: str) -> None:
    """At 5 %, 150 runs: at most the 99.9 % point of the binomial, for each test."""
    sizes, V, kind = DESIGNS[design]
    rejected = np.zeros(len(MEASURES))
    for run in range(150):
        rng = np.random.default_rng(run)
        noise = rng.standard_t(4, (sum(sizes), V)) if kind == "t" else rng.standard_normal((sum(sizes), V))
        Y = (np.exp(0.5 * noise) if kind == "lognormal" else noise) @ (np.eye(V) + 0.2)
        table = pd.DataFrame(Y, columns=[f"y{k}" for k in range(V)])
        table = table.assign(site=np.repeat(np.arange(len(sizes)), sizes).astype(str), age=rng.uniform(20, 60, len(Y)))
        p = permuted(table, permutations=59, seed=run)["p"]
        # Rounding of a p that is a fraction of whole numbers; below too.
        rejected += [p[measure, ""] <= 0.05 + 1e-9 for measure in MEASURES]
    assert (rejected <= scipy.stats.binom.ppf(0.999, 150, 0.05)).all(), dict(zip(MEASURES, rejected, strict=True))


@pytest.mark.parametrize("unequal", [False, True], ids=["alike", "unequal visits"])
def test_level_with_repeated_measurements(unequal: bool) -> None:
    """4 sites of 10 subjects, correlation 0.7 within a subject: every test keeps its level (40 runs, 6 features)."""
    found: dict[str, list[float]] = {}
    for run in range(40):
        rng = np.random.default_rng(run)
        subject = np.repeat(np.arange(40), rng.integers(1, 6, 40) if unequal else 4)
        n = subject.size
        Y = np.sqrt(0.7) * rng.standard_normal((40, 6))[subject] + np.sqrt(0.3) * rng.standard_normal((n, 6))
        table = pd.DataFrame(Y, columns=[f"y{k}" for k in range(6)]).assign(
            site=np.repeat(list("abcd"), 10)[subject], subject=[f"s{k}" for k in subject], visit=np.arange(n),
            age=rng.uniform(20, 60, n),
        )  # fmt: skip
        some = pcg.diagnose(
            table, formula="~ age + (1|subject)", batch="site", id=["subject", "visit"], features="^y",
            permutations=59, seed=run,
        )  # fmt: skip
        whole = some.table[(some.table["site"] == "") & some.table["p"].notna()]
        for measure, rows in whole[whole["aspect"] != "association"].groupby("measure"):
            # As above.
            found.setdefault(str(measure), []).append(float((rows["p"] <= 0.05 + 1e-9).mean()))
    assert set(found) == {
        *("ANOVA", "Kruskal-Wallis", "Levene", "Fligner-Killeen", *MEASURES, "logistic", "SVM"),
    }  # fmt: skip
    for measure, rates in found.items():
        # Features are independent here: 240 tests of each, or 40.
        trials = 240 if measure in ("ANOVA", "Kruskal-Wallis", "Levene", "Fligner-Killeen") else 40
        assert np.mean(rates) * trials <= scipy.stats.binom.ppf(0.999, trials, 0.05), measure


def test_travelers_are_not_taken_for_independent_of_sites() -> None:
    study = pcg.datasets.simulate_multisite(sites=3, subjects=30, features=3, seed=4)
    features = list(study.features)
    rows = [study.table.assign(site=site, **study.measured_at(site)) for site in study.location.index]
    found = pcg.diagnose(
        pd.concat(rows, ignore_index=True), formula="~ age + (1|subject)", batch="site", id=["subject", "site"],
        features=features, permutations=19,
    )  # fmt: skip
    assert set(found.of("location")["measure"]) == {"ANOVA"}
    for aspect in ("scale", "distribution", "covariance", "site prediction"):
        assert found.of(aspect).empty
    assert any("subject has rows at several sites" in note for note in found.notes)


def test_repeated_subjects_without_a_random_effect_are_said() -> None:
    study = pcg.datasets.simulate_multisite(sites=3, subjects=30, features=3, visits=2, seed=4)
    found = pcg.diagnose(
        study.table, formula="~ age", batch="site", id=["subject", "visit"], features=list(study.features),
        permutations=19,
    )  # fmt: skip
    assert any("'subject' repeats in 60 rows" in note and "(1|subject)" in note for note in found.notes)


def test_a_shift_of_location_is_no_difference_of_covariance() -> None:
    low, high = scipy.stats.binom.ppf([0.0005, 0.9995], RUNS, 0.05)
    p = p_values("location of covariance")
    # As above.
    assert low <= (p["covariance", ""] <= 0.05 + 1e-9).sum() <= high
    assert (p["energy distance", ""] <= 0.05 + 1e-9).mean() > 0.95


@pytest.mark.parametrize(
    ("difference", "seen_by"),
    [
        ({"shift": 2.0}, ("energy distance", "MMD")),
        ({"scale": 3.0}, ("energy distance", "MMD", "covariance")),
        ({"turn": -2.0}, ("covariance",)),
    ],
    ids=["location", "scale", "correlation"],
)
def test_differences_are_seen_and_the_site_is_named(difference: dict[str, float], seen_by: tuple[str, ...]) -> None:
    found = permuted(simulated(5, **difference), permutations=199)
    for measure in seen_by:
        assert found.loc[(measure, ""), "p"] <= 0.05
        assert found.loc[(measure, "0"), "p"] == pytest.approx(1 / 200)
        assert found.loc[(measure, "0"), "value"] == found.loc[measure, "value"].drop("").max()
        assert found.loc[(measure, ""), "value"] > 1.0


def residuals(table: pd.DataFrame, sites: bool) -> np.ndarray:
    """Features less what age explains, by least squares, with or without sites beside it."""
    Y = table.filter(regex="^y").to_numpy()
    dummies = pd.get_dummies(table["site"]).to_numpy(dtype=float) if sites else np.ones((len(table), 1))
    X = np.column_stack([dummies, table["age"]])
    return Y - X @ np.linalg.lstsq(X, Y, rcond=None)[0]


def test_statistics_follow_their_definitions() -> None:
    table = simulated(7, shift=0.5, scale=1.3)
    found = permuted(table)["statistic"]
    values = residuals(table, sites=False)
    values = values / values.std(axis=0)
    codes = table["site"].to_numpy()
    distance = np.sqrt(((values[:, None] - values) ** 2).sum(axis=2))
    width = np.median(distance[np.triu_indices(90, 1)])
    kernel = rbf_kernel(values, gamma=0.5 / width**2)

    def discrepancy(M: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
        between = 2 * M[np.ix_(a, b)].mean() - M[np.ix_(a, a)].mean() - M[np.ix_(b, b)].mean()
        return float(a.sum() * b.sum() / (a.sum() + b.sum()) * between)

    members = {name: codes == name for name in np.unique(codes)}
    pairs = [(a, b) for a in members for b in members if a < b]
    for measure, M in (("energy distance", distance), ("MMD", -kernel)):
        total = sum(discrepancy(M, members[a], members[b]) for a, b in pairs)
        # These: one statistic by two orders of summation: rounding.
        np.testing.assert_allclose(found[measure, ""], total, rtol=1e-9)
        for name, own in members.items():
            np.testing.assert_allclose(found[measure, name], discrepancy(M, own, ~own), rtol=1e-9)

    rest = residuals(table, sites=True)
    rest = rest / np.sqrt((rest**2).sum(axis=0) / (90 - 4))
    n = {name: int(own.sum()) for name, own in members.items()}
    covariance = {name: np.cov(rest[own].T) for name, own in members.items()}
    pooled = sum((n[name] - 1) * S for name, S in covariance.items()) / (90 - 4)
    each = {name: (n[name] - 1) * ((S - pooled) ** 2).sum() / (pooled**2).sum() for name, S in covariance.items()}
    # As above.
    np.testing.assert_allclose(found["covariance", ""], sum(each.values()), rtol=1e-9)
    for name, far in each.items():
        np.testing.assert_allclose(found["covariance", name], far, rtol=1e-9)


def test_one_feature_at_two_sites_is_scipys_energy_distance() -> None:
    table = simulated(9, shift=1.0)[["y0", "site", "age"]]
    table = table[table["site"].isin(["0", "1"])]
    found = permuted(table, "~ 1")["statistic"]["energy distance", ""]
    y = table["y0"] / table["y0"].std(ddof=0)
    own = table["site"] == "0"
    a, b = own.sum(), (~own).sum()
    expected = a * b / (a + b) * scipy.stats.energy_distance(y[own], y[~own]) ** 2
    # As above.
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_more_features_than_rows() -> None:
    rng = np.random.default_rng(2)
    wide = pd.DataFrame(rng.standard_normal((40, 300)), columns=[f"y{k}" for k in range(300)])
    wide = wide.assign(site=np.repeat(["a", "b"], 20), age=rng.uniform(20, 60, 40))
    shifted = wide.copy()
    shifted.loc[shifted["site"] == "b", "y0":"y299"] += 1.0
    assert permuted(wide)["p"]["energy distance", ""] > 0.05
    assert permuted(shifted)["p"]["energy distance", ""] == pytest.approx(0.01)
    assert permuted(shifted)["p"]["covariance", ""] > 0.05


def test_random_effects_do_not_take_the_sites_part() -> None:
    study = pcg.datasets.simulate_multisite(sites=3, subjects=45, features=4, visits=2, location=1.5, seed=4)
    features = list(study.features)
    found = pcg.diagnose(
        study.table, formula="~ age + (1|subject)", batch="site", id=["subject", "visit"], features=features,
        permutations=99,
    )  # fmt: skip
    whole = found.of("distribution").query("site == ''").set_index("measure")
    assert (whole["p"] == 0.01).all()
    assert set(found.of("association")["covariate"]) == {"age"}
