"""`draws` and `interval` as users call them: what comes back, what passes through, what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from pycombat_gam.errors import DataError, NotFittedError, OptionError
from tests.helpers.small_sites import FORMULA, small_sites
from tests.helpers.toy_batch_model import MedianCentring

MADE = small_sites(7, 1, sizes=(6, 12, 30))
GOLDEN = Path(__file__).parents[1] / "golden"


def model_of(table: pd.DataFrame = MADE.table, formula: str = FORMULA, **options: object) -> pcg.ComBat:
    return pcg.ComBat(formula, "site", **{"features": "^f", **options}).fit(table)  # type: ignore[arg-type]  # of the right types


def cells(intervals: pd.DataFrame, name: str, rows: int) -> np.ndarray:
    return intervals[name].to_numpy(dtype=float).reshape(rows, -1)


def test_a_row_for_every_cell() -> None:
    table = MADE.table.iloc[::-1]
    model = model_of(table)
    intervals = model.interval(table, draws=50)
    assert list(intervals.columns) == ["row", "feature", "value", "lower", "upper"]
    assert intervals["row"].to_list() == np.repeat(table.index, 7).to_list()
    assert intervals["feature"].to_list() == MADE.features * 48
    harmonized = model.transform(table)[MADE.features].to_numpy()
    np.testing.assert_array_equal(cells(intervals, "value", 48), harmonized)
    assert (intervals["lower"] < intervals["upper"]).all()


def test_ids_stand_where_there_are_ids() -> None:
    table = MADE.table.assign(who=[f"p{i % 24}" for i in range(48)], visit=np.repeat([1, 2], 24))
    with pytest.warns(pcg.PcgWarning, match="dependent"):
        model = model_of(table, id=["who", "visit"])
    intervals = model.interval(table.iloc[5:9], draws=50)
    assert list(intervals.columns[:3]) == ["who", "visit", "feature"]
    assert intervals["visit"].dtype == table["visit"].dtype
    assert intervals["who"].to_list() == np.repeat(table["who"].iloc[5:9], 7).to_list()
    two_levels = MADE.table.set_index([MADE.table["site"].rename("a"), pd.RangeIndex(48, name="b")])
    rows = model_of(two_levels).interval(two_levels.iloc[:2], draws=50)["row"]
    assert rows.to_list() == [("s0", 0)] * 7 + [("s0", 1)] * 7


def test_rows_may_be_new_or_few() -> None:
    model = model_of()
    whole = model.interval(MADE.table, draws=50)
    some = model.interval(MADE.table.iloc[[3, 40]], draws=50)
    expected = np.concatenate([cells(whole, "upper", 48)[[3, 40]]])
    # Products of other shapes round differently.
    np.testing.assert_allclose(cells(some, "upper", 2), expected, rtol=1e-12)
    further = MADE.table.iloc[[3]].assign(age=1.0, f0=2.5)
    assert np.isfinite(cells(model.interval(further, draws=50), "lower", 1)).all()


def test_what_passes_through_has_no_width() -> None:
    table = MADE.table.assign(f8=3.25)
    with pytest.warns(pcg.PcgWarning, match="f8"):
        model = model_of(table, ref_batch="s2")
    intervals = model.interval(table, draws=50)
    width = cells(intervals, "upper", 48) - cells(intervals, "lower", 48)
    reference = MADE.site == 2
    assert (width[reference] == 0).all()
    assert (width[:, -1] == 0).all()
    assert (width[~reference][:, :-1] > 0).all()
    np.testing.assert_array_equal(cells(intervals, "lower", 48)[reference], table.loc[reference, model.fitted.features])
    for harmonized in model.draws(table, m=2):
        pd.testing.assert_frame_equal(harmonized[reference], table[reference])
        assert (harmonized["f8"] == 3.25).all()


def test_missing_cells_stay_missing() -> None:
    table = MADE.table.copy()
    table.loc[[2, 30], "f1"] = np.nan
    model = model_of(table, missing="omit")
    intervals = model.interval(table, draws=50)
    gone = table[MADE.features].isna().to_numpy()
    for name in ("value", "lower", "upper"):
        np.testing.assert_array_equal(np.isnan(cells(intervals, name, 48)), gone)
    for harmonized in model.draws(table, m=2):
        np.testing.assert_array_equal(harmonized[MADE.features].isna(), gone)


def test_a_site_that_is_constant_has_no_scale_of_its_own() -> None:
    table = MADE.table.copy()
    table.loc[MADE.site == 1, "f3"] = 0.5
    with pytest.warns(pcg.PcgWarning, match="no variance there"):
        model = model_of(table)
    rows = np.flatnonzero(MADE.site == 1)
    for harmonized in model.draws(table, m=3):
        # d = 1 and one level: what the covariates add is not there to be moved.
        assert np.ptp(harmonized["f3"].to_numpy()[rows]) < 1e-12
        assert np.isfinite(harmonized[MADE.features].to_numpy()).all()


@pytest.mark.parametrize("options", [{}, {"eb": False}, {"mean_only": True}, {"mean_only": True, "eb": False}], ids=str)
def test_sites_of_one_row(options: dict[str, object]) -> None:
    made = small_sites(9, 3, sizes=(1, 2, 15, 30))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        model = model_of(made.table, **options)
    with pytest.warns(pcg.PcgWarning, match="batch s0, s1 has one"):
        intervals = model.interval(made.table, draws=200)
    width = (cells(intervals, "upper", 48) - cells(intervals, "lower", 48)).mean(axis=1)
    assert np.isfinite(width).all()
    assert width[0] > width[MADE.site[:48] == 2].mean() > 0


def test_few_features_are_told() -> None:
    model = model_of(features=["f0", "f1", "f2"])
    with pytest.warns(pcg.PcgWarning, match="priors rest on 3 features"):
        model.draws(MADE.table, m=1)


def test_draws_come_as_transform_gives() -> None:
    single = MADE.table.astype(dict.fromkeys(MADE.features, np.float32))
    model = model_of(single)
    (harmonized,) = model.draws(single, m=1)
    assert (harmonized[MADE.features].dtypes == np.float32).all()
    assert model.interval(single, draws=50)["value"].dtype == np.float32
    (features,) = model_of(single, output="features").draws(single, m=1)
    pd.testing.assert_frame_equal(features, harmonized[MADE.features])
    about, Y = MADE.table.drop(columns=MADE.features), MADE.table[MADE.features].to_numpy()
    model = pcg.ComBat(FORMULA, "site").fit(Y, about)
    (array,) = model.draws(Y, m=1, covariates=about)
    assert isinstance(array, np.ndarray)
    np.testing.assert_array_equal(array, next(iter(model_of().draws(MADE.table, m=1)))[MADE.features])
    assert model.interval(Y, draws=50, covariates=about)["feature"].unique().tolist() == [f"x{k}" for k in range(7)]


def test_new_sites_and_new_groups() -> None:
    table = MADE.table.assign(subject=np.arange(48) // 2)
    formula = "~ age + (1|subject)"
    new = table.assign(subject=table["subject"] + 100, site=np.where(MADE.site == 0, "other", table["site"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        model = model_of(table, formula, on_unseen="estimate")
        with pytest.raises(DataError, match="batch other was not in the fit"):
            model_of(table, formula).interval(new)
        harmonized = model.transform(new)
    with pytest.warns(pcg.PcgWarning, match="held at their predictions"):
        intervals = model.interval(new, draws=100)
    lower, upper, value = (cells(intervals, name, 48) for name in ("lower", "upper", "value"))
    np.testing.assert_array_equal(value, harmonized[MADE.features])
    assert (lower < upper).all()
    assert ((lower < value) & (value < upper)).mean() > 0.9


@pytest.mark.filterwarnings("ignore::pycombat_gam.PcgWarning")
def test_many_features_lean_on_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the features that inform, hyperparameters of known and new sites come from a spread of them."""
    made = small_sites(140, 6, sizes=(20, 30, 6), known=2)
    old = made.table[made.site < 2]
    widths, values = [], []
    for informing in (2000, 128):
        monkeypatch.setattr("pycombat_gam.infer.gibbs.INFORMING", informing)
        monkeypatch.setattr("pycombat_gam.infer.posterior_means.INFORMING", informing)
        intervals = model_of(old, on_unseen="estimate").interval(made.table, draws=200)
        widths.append(cells(intervals, "upper", 56) - cells(intervals, "lower", 56))
        bayes = model_of(old, on_unseen="estimate", prior="bayes").transform(made.table)
        values.append(bayes[made.features].to_numpy())
    ratio = widths[1] / widths[0]
    # Limits are the fifth and sixth of 200 draws at either end: each width has a relative error of some 8 %.
    assert abs(ratio.mean() - 1) < 0.05
    assert np.abs(np.log(ratio)).max() < 0.7
    # Posterior means of 400 draws in a row are within .13 posterior sds, a quarter of a width.
    assert np.sqrt((((values[1] - values[0]) / (widths[0] / 4)) ** 2).mean()) < 0.3


def test_a_flat_new_site_is_moved_by_its_own_moments() -> None:
    made = small_sites(6, 8, sizes=(30, 30, 12), known=2)
    old, new = made.table[made.site < 2], made.table[made.site == 2]
    model = pcg.ComBat(FORMULA, "site", features=made.features, eb=False, on_unseen="estimate").fit(old)
    with pytest.warns(pcg.PcgWarning, match="was not in the fit"):
        tables = [table[made.features].to_numpy() for table in model.draws(new, m=100)]
    with pytest.warns(pcg.PcgWarning, match="was not in the fit"):
        plain = model.transform(new)[made.features].to_numpy()
    spread = np.std(tables, axis=0)
    # A mean of 100 draws; a variance with 11 degrees of freedom has a skew posterior, and its mean is not its estimate.
    assert np.sqrt((((np.mean(tables, axis=0) - plain) / spread) ** 2).mean()) < 0.3


def test_no_value_of_combat_s_own_is_called_sure_where_it_is_not() -> None:
    """As R does, ``mean_only`` takes every site for one row, so that large ones stay nearly where they were."""
    table = small_sites(12, 4, sizes=(10, 60, 200)).table
    with pytest.warns(pcg.PcgWarning, match="outside their intervals"):
        model_of(table, mean_only=True).interval(table, draws=100)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pcg.PcgWarning)
        model_of(table, mean_only=True, prior="bayes").interval(table, draws=100)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model: model.draws(MADE.table, m=0), "m=0"),
        (lambda model: model.draws(MADE.table, m=2.5), "m=2.5"),
        (lambda model: model.draws(MADE.table, seed=-1), "seed=-1"),
        (lambda model: model.draws(MADE.table, seed=None), "seed=None"),
        (lambda model: model.interval(MADE.table, level=1.0), "level=1.0"),
        (lambda model: model.interval(MADE.table, level="95"), "level='95'"),
        (lambda model: model.interval(MADE.table, draws=39), "draws=39: give a whole number, at least 40 draws"),
        (lambda model: model.interval(MADE.table, level=0.99, draws=100), "at least 200 draws"),
        (lambda model: model.interval(MADE.table, seed=True), "seed=True"),
    ],
)
def test_arguments_are_checked_at_the_call(call: object, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        call(model_of())  # type: ignore[operator]  # the lambdas above


def test_models_without_statistics_or_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        pcg.ComBat(FORMULA, "site").draws(MADE.table)
    median = model_of(batch_model=MedianCentring())
    with pytest.raises(OptionError, match="needs ComBat's own batch model"):
        median.draws(MADE.table)
    old = pcg.load(GOLDEN / "combat-1.pcg")
    table = pd.read_csv(GOLDEN / "combat-1-input.csv")
    for call in (old.draws, old.interval):
        with pytest.raises(OptionError, match="or by an earlier release"):
            call(table)
    model_of().save(tmp_path / "model.pcg", compact=True)
    with pytest.raises(OptionError, match="saved compactly"):
        pcg.load(tmp_path / "model.pcg").interval(MADE.table)
