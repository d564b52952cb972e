"""The simulator: its table is what its stated model makes of its stated truth; each option does its part."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from pycombat_gam.datasets import load_multisite, packaged_study, simulate_multisite
from pycombat_gam.datasets import multisite as datasets
from pycombat_gam.errors import OptionError

OPTIONS = {
    "plain": {},
    "no site effects": {"location": 0.0, "scale": 0.0},
    "one site": {"sites": 1},
    "one feature": {"features": 1},
    "skew": {"skew": 0.7},
    "covariance": {"covariance": 0.6},
    "covariance of few features": {"covariance": 0.3, "features": 3},
    "distortion": {"distortion": 0.8},
    "visits": {"visits": 3},
    "everything linear": {"skew": 0.4, "covariance": 0.5, "visits": 2, "features": 120, "sites": ["b", "a", "ü"]},
    "everything": {"skew": 0.4, "distortion": 0.5, "covariance": 0.5, "visits": 2, "sites": ["b", "a", "ü"]},
}


def rebuild(study: datasets.MultisiteStudy, site: str | None = None) -> np.ndarray:
    """The features from the truth and the site effects, by the equations of the module docstring.

    `site`: as that site measures them, instead of each row's own.
    """
    at = study.table["site"] if site is None else [site] * len(study.table)

    def per_row(by_site: pd.DataFrame) -> np.ndarray:
        return by_site.loc[at].to_numpy()

    expected = study.signal.to_numpy() @ study.effects.to_numpy()
    if len(study.intercepts):
        expected = expected + study.intercepts.loc[study.table["subject"]].to_numpy()
    sigma, loadings = study.spread.to_numpy(), study.loadings.to_numpy()
    z = (study.truth.to_numpy() - expected) / sigma
    d = per_row(study.factor_scale)
    z = z + (study.factors.to_numpy() * (d - 1.0)) @ loadings
    z = z / np.sqrt(1.0 + (d**2 - 1.0) @ loadings**2)
    a = per_row(study.shape)
    c = 2.0 * integrate.quad(lambda x: np.sqrt(1.0 + x * x) * stats.norm.pdf(x), 0.0, 12.0)[0]
    h = z * np.cosh(a) + (np.sqrt(1.0 + z**2) - c) * np.sinh(a)
    h = h / np.sqrt(np.cosh(a) ** 2 + (2.0 - c**2) * np.sinh(a) ** 2)
    if (study.distortion == 0).all(axis=None):
        return expected + per_row(study.location) + per_row(study.scale) * sigma * h
    truth = study.truth.to_numpy()
    m, s = truth.mean(axis=0), truth.std(axis=0)
    v = (expected + sigma * h - m) / s
    return m + per_row(study.location) + per_row(study.scale) * s * (v + per_row(study.distortion) * np.tanh(v))


@pytest.mark.parametrize("name", OPTIONS)
def test_truth_and_site_effects_make_the_table(name: str) -> None:
    study = simulate_multisite(**{"sites": 3, "subjects": 120, "seed": 3, **OPTIONS[name]})
    measured = study.table[list(study.features)].to_numpy()
    # Both sides round a dozen operations on numbers of the feature's size.
    np.testing.assert_allclose(measured, rebuild(study), rtol=1e-12, atol=0.0)
    if name == "no site effects":
        np.testing.assert_allclose(measured, study.truth.to_numpy(), rtol=1e-14)


@pytest.mark.parametrize("name", OPTIONS)
def test_traveling_subjects(name: str) -> None:
    study = simulate_multisite(**{"sites": 3, "subjects": 60, "seed": 5, **OPTIONS[name]})
    measured = study.table[list(study.features)]
    for site in study.location.index:
        there = study.measured_at(site)
        # A dozen operations rounded on both sides, as above.
        np.testing.assert_allclose(there.to_numpy(), rebuild(study, site), rtol=1e-12, atol=0.0)
        own = study.table["site"] == site
        pd.testing.assert_frame_equal(there[own], measured[own], check_exact=True)
        assert there.index.equals(measured.index) and list(there.columns) == list(study.features)


def test_an_unknown_site_measures_nothing() -> None:
    with pytest.raises(
        OptionError, match=r"no site 'cork' in this study; its sites are: Aarhus, Bergen, Cork; did you mean 'Cork'"
    ):
        simulate_multisite(3, 30, 2).measured_at("cork")


def test_distortion_is_a_strictly_increasing_curve_of_the_truth() -> None:
    study = simulate_multisite(4, 400, 30, distortion=1.5, seed=2)
    assert (study.distortion >= 0).all(axis=None) and not (study.distortion == 0).any(axis=None)
    for site in study.location.index:
        there = study.measured_at(site)
        for name in study.features[:5]:
            order = study.truth[name].argsort()
            line = np.polynomial.Polynomial.fit(study.truth[name], there[name], 1)
            assert (np.diff(there[name].to_numpy()[order]) > 0).all()
            bend = np.std(there[name] - line(study.truth[name].to_numpy())) / np.std(there[name])
            assert bend > 0.01 or study.distortion.loc[site, name] < 0.2
    wide = simulate_multisite(400, 800, 50, distortion=0.6).distortion.to_numpy()
    assert np.sqrt((wide**2).mean()) == pytest.approx(0.6, rel=0.1)
    assert np.corrcoef(wide[:, 0], wide[:, 1])[0, 1] > 0.1  # a site's features share half of the variance


def test_one_row_can_be_distorted() -> None:
    assert np.isfinite(simulate_multisite(1, [1], 3, distortion=1.0).table.iloc[:, -3:].to_numpy()).all()


def test_the_same_seed_makes_the_same_study_and_another_does_not() -> None:
    one, again, other = (simulate_multisite(subjects=60, seed=seed, skew=0.2, visits=2) for seed in (4, 4, 5))
    for part in dataclasses.fields(one):
        left, right = getattr(one, part.name), getattr(again, part.name)
        if isinstance(left, pd.DataFrame):
            pd.testing.assert_frame_equal(left, right, check_exact=True)
        elif isinstance(left, pd.Series):
            pd.testing.assert_series_equal(left, right, check_exact=True)
        else:
            assert left == right
    assert not np.array_equal(one.truth, other.truth)
    assert not np.array_equal(one.location, other.location)


def test_the_global_random_state_is_neither_read_nor_moved() -> None:
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one = simulate_multisite(subjects=30)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    pd.testing.assert_frame_equal(simulate_multisite(subjects=30).table, one.table)


@pytest.mark.parametrize("option", ["location", "scale", "skew", "distortion"])
def test_a_site_effect_moves_neither_the_truth_nor_the_other_effects(option: str) -> None:
    off, on = (simulate_multisite(subjects=80, seed=6, **{option: value}) for value in (0.0, 0.9))
    pd.testing.assert_frame_equal(off.truth, on.truth)
    pd.testing.assert_frame_equal(off.covariates, on.covariates)
    changed = "shape" if option == "skew" else option
    for part in {"location", "scale", "shape", "distortion"} - {changed}:
        pd.testing.assert_frame_equal(getattr(off, part), getattr(on, part))
    assert (getattr(on, changed) != getattr(off, changed)).all(axis=None)
    np.testing.assert_array_equal(getattr(off, changed), 1.0 if option == "scale" else 0.0)


def test_columns_rows_and_sites() -> None:
    study = simulate_multisite(sites=["x", "y"], subjects=(30, 7), features=45)
    assert list(study.table.columns) == ["subject", "site", "age", "sex", "dx", "icv", *study.features]
    assert study.table["site"].value_counts().to_dict() == {"x": 30, "y": 7}
    assert study.table["subject"].is_unique
    assert set(study.table["sex"]) == {"F", "M"}
    assert set(study.table["dx"]) == {"control", "patient"}
    assert study.table["age"].between(8, 80).all()
    assert list(study.truth.columns) == list(study.features) and study.truth.index.equals(study.table.index)
    for part in (study.location, study.scale, study.shape, study.distortion):
        assert part.shape == (2, 45) and list(part.index) == ["x", "y"]
    assert list(study.covariates.columns) == ["subject", "site", "age", "sex", "dx", "icv"]
    assert len(study.intercepts) == 0 and study.factors.shape == (37, 0)


@pytest.mark.parametrize(("sites", "subjects"), [(8, 400), (3, 6), (12, 1001), (1, 5)])
def test_a_total_is_shared_out_completely_and_unequally(sites: int, subjects: int) -> None:
    sizes = simulate_multisite(sites, subjects, 2).table["site"].value_counts()
    assert sizes.sum() == subjects and len(sizes) == sites and sizes.min() >= 2
    if sites > 1 and subjects > 10 * sites:
        assert sizes.max() > 3 * sizes.min()


def test_rows_of_a_site_are_scattered() -> None:
    site = simulate_multisite(4, 200, 1).table["site"]
    assert (site != site.shift()).sum() > 50


def test_feature_names() -> None:
    names = simulate_multisite(2, 8, 100).features
    assert len(set(names)) == 100
    assert names[:2] == ("lh_precuneus_thickness", "rh_precuneus_thickness")
    assert sum(name.endswith("_volume") for name in names[:40]) == 8
    assert names[80:] == tuple(f"vertex_{j:03d}" for j in range(1, 21))


def test_values_look_like_brains() -> None:
    table = simulate_multisite(8, 2000, 80).table
    thickness, volume = table.filter(regex="_thickness$"), table.filter(regex="_volume$")
    assert thickness.shape[1] == 68 and volume.shape[1] == 12
    assert thickness.mean().between(1.4, 4.0).all() and (thickness > 0.2).all(axis=None)
    assert volume.mean().between(1000, 9000).all() and (volume > 0).all(axis=None)
    assert table["icv"].between(900, 2200).all()


def test_age_bends_and_biology_is_confounded_with_site() -> None:
    study = simulate_multisite(8, 3000, 30)
    age = study.table["age"].to_numpy()
    line = np.column_stack([np.ones_like(age), age])
    curve = study.signal[["age_linear", "age_arch", "age_late"]] @ study.effects.iloc[1:4]
    left = curve - line @ np.linalg.lstsq(line, curve.to_numpy(), rcond=None)[0]
    assert (left.std() / study.spread).median() > 0.2
    by_site = study.table.groupby("site")
    assert np.ptp(by_site["age"].mean()) > 10
    assert np.ptp(by_site["dx"].apply(lambda dx: (dx == "patient").mean())) > 0.2


def test_location_and_scale_are_what_a_large_site_shows() -> None:
    study = simulate_multisite(2, [20000, 20000], 6, skew=0.4, covariance=0.5, seed=8)
    features = list(study.features)
    noise = study.table[features] - study.signal.to_numpy() @ study.effects.to_numpy()
    by_site = noise.groupby(study.table["site"])
    # Some five standard errors of a mean and, for these kurtoses, of a standard deviation at n = 20,000.
    assert ((by_site.mean() - study.location) / study.spread).abs().max(axis=None) < 0.05
    assert (by_site.std() / (study.scale * study.spread) - 1.0).abs().max(axis=None) < 0.06


def test_location_and_scale_have_the_sizes_asked_for() -> None:
    study = simulate_multisite(400, 800, 50, location=0.8, scale=0.3)
    # Both: 400 independent sites at least: an sd is known to 1/√800 = 3.5 %; three of them.
    assert (study.location / study.spread).to_numpy().std() == pytest.approx(0.8, rel=0.1)
    assert np.log(study.scale).to_numpy().std() == pytest.approx(0.3, rel=0.1)


def test_skew_is_the_site_s_own() -> None:
    study = simulate_multisite(2, [5000, 5000], 20, skew=0.8, seed=1)
    noise = study.table[list(study.features)] - study.signal.to_numpy() @ study.effects.to_numpy()
    seen = noise.groupby(study.table["site"]).skew()
    assert np.corrcoef(seen.to_numpy().ravel(), study.shape.to_numpy().ravel())[0, 1] > 0.9
    assert stats.skew((study.truth - study.signal.to_numpy() @ study.effects.to_numpy()).to_numpy()).std() < 0.1


def test_covariance_correlates_features_and_its_spread_tells_sites_apart() -> None:
    def correlations(study: datasets.MultisiteStudy, values: pd.DataFrame) -> np.ndarray:
        noise = values - study.signal.to_numpy() @ study.effects.to_numpy()
        sites = study.table["site"]
        return np.stack([noise[sites == site].corr().to_numpy() for site in study.location.index])

    options = {"sites": 2, "subjects": [3000, 3000], "features": 20, "seed": 2}
    none = simulate_multisite(**options)
    equal = simulate_multisite(**options, covariance=0.7, covariance_spread=0.0)
    apart = simulate_multisite(**options, covariance=0.7, covariance_spread=0.8)
    off = ~np.eye(20, dtype=bool)
    measured = {study: correlations(study, study.table[list(study.features)]) for study in (none, equal, apart)}
    assert np.abs(measured[none][:, off]).mean() < 0.03
    assert np.abs(measured[equal][:, off]).mean() > 0.15
    assert np.abs(np.diff(measured[equal], axis=0)).mean() < 0.03
    assert np.abs(np.diff(measured[apart], axis=0)).mean() > 0.08
    pd.testing.assert_frame_equal(equal.truth, apart.truth)
    np.testing.assert_allclose((equal.loadings**2).sum(), 0.7)


def test_visits_repeat_subjects_within_their_site() -> None:
    study = simulate_multisite(3, 90, 10, visits=3, subject_sd=2.0, seed=2)
    table = study.table
    assert list(table.columns[:3]) == ["subject", "visit", "site"] and len(table) == 270
    by_subject = table.groupby("subject")
    assert (by_subject["site"].nunique() == 1).all() and (by_subject["sex"].nunique() == 1).all()
    assert by_subject["visit"].apply(list).map(lambda visits: visits == [1, 2, 3]).all()
    assert (by_subject["age"].diff().dropna() > 0.9).all()
    assert study.intercepts.shape == (90, 10) and list(study.intercepts.index) == list(by_subject.groups)
    # 90 subjects of 10 features: an sd is known to 1/√1,800 = 2.4 %; four of them.
    assert (study.intercepts / study.spread).to_numpy().std() == pytest.approx(2.0, rel=0.1)
    assert repr(study).startswith("MultisiteStudy(270 rows, 90 subjects with 3 visits each, 3 sites")


WHOLE = "is not allowed: give a whole number of at least"
FINITE = "is not allowed: give a finite number of at least 0"
LABELS = "is not allowed: give a number of sites, or a list of labels"
BAD = [
    ({"sites": 0}, f"sites=0 {WHOLE} 1"),
    ({"sites": 2.5}, f"sites=2.5 {WHOLE} 1"),
    ({"sites": "abc"}, f"sites='abc' {WHOLE} 1"),
    ({"sites": []}, f"sites=[] {LABELS}"),
    ({"sites": ["a", 1]}, f"sites=['a', 1] {LABELS}"),
    ({"sites": ["a", "a"]}, "site labels must differ; given twice: a"),
    (
        {"sites": 3, "subjects": 5},
        "subjects=5 is too few for 3 sites: give at least 6, or one count per site",
    ),
    ({"sites": 3, "subjects": [9, 9]}, "subjects has 2 counts for 3 sites: one per site, or the total"),
    ({"sites": 2, "subjects": [9, 0]}, f"a count in subjects=0 {WHOLE} 1"),
    ({"subjects": True}, f"subjects=True {WHOLE} 1"),
    ({"features": 0}, f"features=0 {WHOLE} 1"),
    ({"visits": 0}, f"visits=0 {WHOLE} 1"),
    ({"seed": -1}, f"seed=-1 {WHOLE} 0"),
    ({"location": -1.0}, f"location=-1.0 {FINITE}"),
    ({"scale": float("nan")}, f"scale=nan {FINITE}"),
    ({"skew": "big"}, f"skew='big' {FINITE}"),
    ({"distortion": -0.5}, f"distortion=-0.5 {FINITE}"),
    ({"covariance": 1.0}, f"covariance=1.0 {FINITE} and below 1"),
    ({"covariance_spread": None}, f"covariance_spread=None {FINITE}"),
    ({"subject_sd": float("inf")}, f"subject_sd=inf {FINITE}"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        simulate_multisite(**options)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_the_packaged_table_is_what_the_code_makes() -> None:
    table, study = load_multisite(), packaged_study()
    covariates = list(study.covariates.columns)
    pd.testing.assert_frame_equal(table[covariates], study.table[covariates], check_exact=True)
    assert list(table.columns) == list(study.table.columns)
    features = list(study.features)
    made = study.table[features].to_numpy()
    # The file has six significant digits: off by at most half a unit of the sixth, plus rounding in the sum.
    half_unit = 0.5 * 10.0 ** (np.floor(np.log10(np.abs(made))) - 5)
    assert (np.abs(table[features].to_numpy() - made) <= half_unit * (1 + 1e-6)).all()
    sizes = table["site"].value_counts()
    assert table.shape == (403, 46) and (sizes.min(), sizes.max(), len(sizes)) == (18, 95, 8)
    assert table.notna().all(axis=None)


def test_writing_the_packaged_table_gives_the_packaged_file(tmp_path) -> None:
    datasets.write_packaged(tmp_path / "multisite.csv")
    made, packaged = (tmp_path / "multisite.csv").read_bytes(), (datasets.DATA / "multisite.csv").read_bytes()
    assert len(packaged) < 250_000
    # Another BLAS may move the last bits of a number, and so one digit of the sixth place, in a few cells.
    old, new = (part.decode().replace("\n", ",").split(",") for part in (packaged, made))
    assert len(old) == len(new) and sum(a != b for a, b in zip(old, new, strict=True)) <= 3


def test_importing_the_module_reads_no_file_and_needs_no_r() -> None:
    code = "import sys, pycombat_gam.datasets; assert not {'rpy2', 'torch', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
