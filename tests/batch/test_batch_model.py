"""Another batch model goes in as an object: fit, new sites, files, summary and report, and no file of the package."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.study import FEATURES, study
from helpers.toy_batch_model import MedianCentring

import pycombat_gam as pcg

FORMULA = "~ age + sex"


def fitted(**options) -> tuple[pcg.ComBat, pd.DataFrame]:
    table = study()
    model = pcg.ComBat(FORMULA, "site", features=FEATURES, id="subject", batch_model=MedianCentring(), **options)
    return model.fit(table), table


def explained(model: pcg.ComBat, table: pd.DataFrame) -> np.ndarray:
    mean = model.fitted.mean
    return mean.design.on(table) @ mean.coefficients


def test_every_site_has_the_same_median_afterwards() -> None:
    model, table = fitted()
    harmonized = model.transform(table)
    rest = harmonized[FEATURES] - explained(model, table)
    medians = rest.groupby(table["site"]).median()
    # Rounding of numbers of size 1e3.
    np.testing.assert_allclose(medians, np.broadcast_to(medians.iloc[0], medians.shape), rtol=1e-12, atol=1e-12)
    shift = (harmonized[FEATURES] - table[FEATURES]).groupby(table["site"]).agg(["min", "max"])
    low, high = shift.xs("min", axis=1, level=1), shift.xs("max", axis=1, level=1)
    np.testing.assert_allclose(low, high, rtol=1e-9, atol=1e-12)  # one shift a site: rounding of the sums


def test_missing_cells_stay_missing() -> None:
    table = study()
    table.loc[table.index[3], FEATURES[0]] = np.nan
    model = pcg.ComBat(FORMULA, "site", features=FEATURES, missing="omit", batch_model=MedianCentring())
    harmonized = model.fit_transform(table)
    assert harmonized[FEATURES].isna().equals(table[FEATURES].isna())


def test_a_site_that_was_not_in_the_fit() -> None:
    model, table = fitted(on_unseen="estimate")
    new = table[table["site"] == table["site"].iloc[0]].assign(site="elsewhere")
    with pytest.warns(pcg.PcgWarning, match="'elsewhere' was not in the fit: estimated from its"):
        harmonized = model.transform(new)
    left = np.median(harmonized[FEATURES] - explained(model, new), axis=0)
    # Rounding of numbers of size 1e3.
    np.testing.assert_allclose(left, model.fitted.batch.level, rtol=1e-12)


def test_a_file_needs_the_object(tmp_path: Path) -> None:
    model, table = fitted()
    model.save(tmp_path / "model.pcg")
    with pytest.raises(pcg.PcgError, match=r"load\(path, batch_model=MedianCentring\(…\)\)"):
        pcg.load(tmp_path / "model.pcg")
    again = pcg.load(tmp_path / "model.pcg", batch_model=MedianCentring())
    pd.testing.assert_frame_equal(again.transform(table), model.transform(table), check_exact=True)
    pcg.ComBat(FORMULA, "site", features=FEATURES).fit(table).save(tmp_path / "own.pcg")
    with pytest.raises(pcg.PcgError, match="batch_model is a MedianCentring, but the model was fitted with"):
        pcg.load(tmp_path / "own.pcg", batch_model=MedianCentring())


def test_summary_and_estimates_show_its_tables() -> None:
    model, _ = fitted()
    medians = model.estimates.median
    assert medians.shape == (len(model.fitted.levels), len(FEATURES))
    assert "median" in repr(model.estimates) and "coefficients" in repr(model.estimates)
    summary = model.summary()
    np.testing.assert_array_equal(summary.batches["median mean"], medians.mean(axis=1))
    assert "median min" in str(summary)


def test_report_and_diagnosis() -> None:
    model, table = fitted()
    harmonized = model.transform(table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        found = pcg.diagnose(table, harmonized, model=model, held_out=False, permutations=19)
        page = pcg.report(model, table, harmonized, diagnosis=found)
    assert "Site effects were estimated and removed by the batch model MedianCentring." in page.to_html()


@pytest.mark.parametrize("options", [{"eb": False}, {"prior": "nonparametric"}, {"mean_only": True}])
def test_it_takes_the_place_of_combats_own_options(options) -> None:
    with pytest.raises(pcg.PcgError, match="batch_model takes the place of eb, prior and mean_only"):
        fitted(**options)


def test_an_object_that_is_none() -> None:
    with pytest.raises(pcg.PcgError, match="batch_model must be an object with needs, fit and from_arrays"):
        pcg.ComBat(FORMULA, "site", features=FEATURES, batch_model="median").fit(study())
