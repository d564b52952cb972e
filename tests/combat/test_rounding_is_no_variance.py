"""Variances that are only rounding: in the reference site, in one site, at a new site. Each is named, none divides."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.textbook import textbook_combat

import pycombat_gam as pcg

FEATURES = [f"f{k}" for k in range(8)]


def table(seed: int = 0) -> pd.DataFrame:
    """60 rows, 20 at each of three sites, eight features that differ by site and follow age."""
    rng = np.random.default_rng(seed)
    site = np.repeat(["s0", "s1", "s2"], 20)
    age = rng.uniform(20, 80, 60)
    Y = rng.normal(size=(60, 8)) + 0.02 * age[:, None] + rng.normal(size=(3, 8))[np.repeat([0, 1, 2], 20)]
    return pd.DataFrame({"site": site, "age": age, **dict(zip(FEATURES, Y.T, strict=True))})


def fit(t: pd.DataFrame, formula: str = "~ age", **options: object) -> tuple[pcg.ComBat, pd.DataFrame]:
    model = pcg.ComBat(formula, batch="site", features=FEATURES, **options)  # type: ignore[arg-type]
    return model, model.fit_transform(t)


@pytest.mark.parametrize("formula", ["~ 1", "~ age"])
def test_constant_in_the_reference_site_passes_through_and_moves_no_other_feature(formula: str) -> None:
    t = table()
    t.loc[t["site"] == "s0", "f3"] = 1.25
    with pytest.warns(pcg.PcgWarning, match="reference batch 's0', passed through untouched: f3"):
        _, out = fit(t, formula, ref_batch="s0")
    pd.testing.assert_series_equal(out["f3"], t["f3"])
    others = [name for name in FEATURES if name != "f3"]
    alone = pcg.ComBat(formula, batch="site", features=others, ref_batch="s0").fit_transform(t)
    # Features do not see one another but for the blocks of a product: rounding.
    np.testing.assert_allclose(out[others], alone[others], rtol=1e-12)


@pytest.mark.parametrize("prior", ["parametric", "nonparametric"])
@pytest.mark.parametrize("eb", [True, False])
def test_a_site_whose_values_differ_by_nothing_that_can_be_squared(prior: str, eb: bool) -> None:
    t = table()
    t.loc[t["site"] == "s1", "f3"] = 0.0
    t.loc[25, "f3"] = 1e-170
    with pytest.warns(pcg.PcgWarning, match="location only in batch 's1' .*: f3"):
        model, out = fit(t, "~ 1", prior=prior, eb=eb)
    assert np.isfinite(out[FEATURES].to_numpy()).all()
    assert model.estimates.delta_star.loc["s1", "f3"] == 1.0
    flat = t.assign(f3=t["f3"].where(t["f3"] != 1e-170, 0.0))
    expected, _, _ = textbook_combat(
        flat[FEATURES].to_numpy(), np.zeros((60, 0)), t["site"].to_numpy(), eb=eb, prior=prior
    )
    # Rounding beside the textbook, which sums in another order.
    np.testing.assert_allclose(out[FEATURES], expected, rtol=1e-10, atol=1e-12)


def test_a_wobble_in_the_last_digit_is_not_blown_up() -> None:
    t = table()
    rows = t.index[t["site"] == "s1"]
    t.loc[rows, "f3"] = np.where(np.arange(20) % 2, 0.1 + 0.2, 0.3)
    with pytest.warns(pcg.PcgWarning, match="location only in batch 's1' .*: f3"):
        _, out = fit(t, "~ 1", eb=False)
    # A unit of the last place of 0.3 is 6e-17.
    assert np.ptp(out.loc[rows, "f3"]) < 1e-15


def test_a_covariate_that_explains_a_small_site_exactly() -> None:
    t = table().iloc[:42].reset_index(drop=True)
    t["arm"] = 0.0
    t.loc[41, "arm"] = 1.0
    with pytest.warns(pcg.PcgWarning, match="location only in batch 's2'"):
        _, out = fit(t, "~ age + arm", eb=False)
    noisy = t.copy()
    noisy[FEATURES] += 1e-13 * np.random.default_rng(1).normal(size=(42, 8))
    with pytest.warns(pcg.PcgWarning, match="location only in batch 's2'"):
        _, again = fit(noisy, "~ age + arm", eb=False)
    # The noise of 1e-13, and rounding of a design of few rows.
    np.testing.assert_allclose(again[FEATURES], out[FEATURES], atol=1e-10)


def test_a_new_site_that_only_wobbles() -> None:
    model, _ = fit(table(), "~ 1", eb=False, on_unseen="estimate")
    new = table(3).iloc[:10].assign(site="new")
    new["f2"] = np.where(np.arange(10) % 2, 0.1 + 0.2, 0.3)
    with pytest.warns(
        pcg.PcgWarning, match=r"'new' was not in the fit: .*; location only in batch 'new' \(no variance there\): f2"
    ):
        out = model.transform(new)
    assert np.isfinite(out[FEATURES].to_numpy()).all()
    # A unit of the last place of numbers of size one is 2e-16; the map multiplies it.
    assert np.ptp(out["f2"]) < 1e-14


def test_numbers_too_small_to_square_are_named() -> None:
    t = table()
    t["f5"] *= 1e-170
    with pytest.warns(pcg.PcgWarning, match="passed through untouched: f5"):
        _, out = fit(t)
    pd.testing.assert_series_equal(out["f5"], t["f5"])


def test_rows_outside_the_mask_need_their_covariates_and_a_failed_fit_changes_nothing() -> None:
    t = table()
    model, before = fit(t)
    mask = np.ones(60, dtype=bool)
    mask[7] = False
    with pytest.raises(pcg.PcgError, match="'age' has missing values in 1 row"):
        model.fit(t.assign(age=t["age"].where(mask)), fit_mask=mask)
    pd.testing.assert_frame_equal(model.transform(t), before)


def test_site_numbers_written_as_floats_are_the_same_sites() -> None:
    """A column of whole numbers that once held a missing value is written as 0.0, 1.0, …"""
    t = table().assign(site=np.repeat([0, 1, 2], 20))
    model, out = fit(t)
    pd.testing.assert_frame_equal(model.transform(t.assign(site=t["site"].map("{}.0".format)))[FEATURES], out[FEATURES])
    with pytest.raises(pcg.PcgError, match="spells one batch two ways"):
        fit(t.assign(site=["0", "0.0"] * 20 + ["1"] * 20))


@pytest.mark.parametrize("dtype", ["Float64", "Float32"])
def test_nullable_floats_come_back_as_they_were(dtype: str) -> None:
    t = table()
    given = t.astype(dict.fromkeys(FEATURES, dtype))
    given.loc[3, "f1"] = pd.NA
    _, out = fit(given, missing="omit")
    assert (out[FEATURES].dtypes == dtype).all()
    assert out["f1"].isna().tolist() == [i == 3 for i in range(60)]


@pytest.mark.parametrize("ref_batch", [None, "s1", "s0"])
def test_neighbours_in_the_last_digit_are_one_value_with_covariates_too(ref_batch: str | None) -> None:
    """Covariates lend equal values residuals: the raw values decide, to the last digit."""
    t = table()
    rows = t.index[t["site"] == "s1"]
    exact, wobbling = t.copy(), t.copy()
    exact.loc[rows, "f2"] = 0.3
    wobbling.loc[rows, "f2"] = np.where(np.arange(20) % 2, 0.1 + 0.2, 0.3)
    with pytest.warns(pcg.PcgWarning, match="f2"):
        _, expected = fit(exact, ref_batch=ref_batch)
    with pytest.warns(pcg.PcgWarning, match="f2"):
        _, out = fit(wobbling, ref_batch=ref_batch)
    # The wobble of 6e-17, moved by the map of the other features' prior.
    np.testing.assert_allclose(out[FEATURES], expected[FEATURES], atol=1e-12)


def test_a_site_in_other_units_keeps_its_variance_in_single_precision() -> None:
    """mm³ beside litres: what is rounding is judged by the site's own numbers."""
    t = table()
    t[FEATURES] = 1.5 + 0.15 * t[FEATURES]
    t.loc[t["site"] != "s1", FEATURES] *= 1e6
    with pytest.warns(pcg.PcgWarning, match="Site 's1' seems to be in other units"):
        _, double = fit(t, "~ 1", eb=False)
    with pytest.warns(pcg.PcgWarning, match="Site 's1' seems to be in other units"):
        model, single = fit(t.astype(dict.fromkeys(FEATURES, np.float32)), "~ 1", eb=False)
    # float32 has seven digits; the spread is a hundredth of some values.
    np.testing.assert_allclose(single[FEATURES], double[FEATURES], rtol=1e-4)
    assert (model.estimates.delta_star.loc["s1"] != 1.0).all()


def test_numbers_too_large_to_square_are_refused_also_beside_missing_cells() -> None:
    t = table()
    t.loc[5, "f2"] = 1e200
    with pytest.raises(pcg.PcgError, match="too large to square in f2: rescale"):
        fit(t)
    t.loc[3, "f2"] = np.nan
    with pytest.raises(pcg.PcgError, match="too large to square in f2: rescale"):
        fit(t, missing="omit")


@pytest.mark.parametrize("factor", [1e160, 1e-200])
def test_a_covariate_out_of_range_is_not_called_confounded(factor: float) -> None:
    t = table()
    with pytest.raises(pcg.PcgError, match="too large or too small to square in 'age': rescale"):
        fit(t.assign(age=t["age"] * factor))
