"""Tables in and out: what is not harmonized comes back untouched, and the layout of the input changes no number."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.study import FEATURES, in_site, study

import pycombat_gam as pcg
from pycombat_gam.errors import DataError, OptionError

SAME = 1e-12
"""Rounding of a product summed in another order, in units of features of size 10."""


def model(**options: Any) -> pcg.ComBat:
    return pcg.ComBat(**{"formula": "~ age + sex", "batch": "site", "features": FEATURES, **options})


def reference() -> pd.DataFrame:
    return model().fit_transform(study())


def close(ours: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(ours, dtype=float), np.asarray(expected, dtype=float), rtol=0, atol=SAME)


# The frame around the features


def test_other_columns_order_and_index_are_untouched() -> None:
    table = study().assign(
        scan=pd.date_range("2020-01-01", periods=21, tz="Europe/Oslo"),
        ok=pd.array([True, None, False] * 7, dtype="boolean"),
        visits=np.arange(21, dtype=np.int8),
        dose=pd.array([1.5, None, 2.5] * 7, dtype="Float32"),
        group=pd.Categorical(["b", "a", None] * 7, categories=["b", "a", "unused"], ordered=True),
        blob=[{"any": "thing"}] * 21,
        span=pd.timedelta_range("1h", periods=21),
    )
    table = table.sample(frac=1, random_state=1).sample(frac=1, axis=1, random_state=2)
    table.attrs["source"] = "inline"
    out = model().fit_transform(table)
    assert out.attrs == {"source": "inline"}
    pd.testing.assert_frame_equal(out.drop(columns=FEATURES), table.drop(columns=FEATURES), check_exact=True)
    assert out.columns.equals(table.columns)
    close(out[FEATURES].sort_index(), reference()[FEATURES])


@pytest.mark.parametrize(
    "index",
    [
        pd.Index([f"row {i}" for i in range(21)], name="scan"),
        pd.MultiIndex.from_product([range(7), ["a", "b", "c"]], names=["subject", "visit"]),
        pd.date_range("2020-01-01", periods=21),
        pd.Index([5] * 21),
        pd.RangeIndex(100, 58, -2),
    ],
    ids=["text", "multi", "dates", "unnamed duplicates", "backward range"],
)
def test_any_row_index_comes_back(index: pd.Index) -> None:
    out = model().fit_transform(study().set_index(index))
    pd.testing.assert_index_equal(out.index, index)
    close(out[FEATURES], reference()[FEATURES])


@pytest.mark.parametrize("features", [["vol", "thick", "area", "depth"], FEATURES[::-1], FEATURES])
def test_features_between_other_columns_in_any_order(features: list[str]) -> None:
    table = study()[["thick", "site", "vol", "sex", "area", "age", "dx", "depth", "subject"]]
    out = model(features=features).fit_transform(table)
    assert out.columns.equals(table.columns)
    close(out[FEATURES], reference()[FEATURES])
    only = model(features=features, output="features").fit_transform(table)
    assert only.columns.tolist() == features
    pd.testing.assert_frame_equal(only, out[features])


def test_hundreds_of_interleaved_columns() -> None:
    rng = np.random.default_rng(0)
    columns: dict[str, object] = {name: study()[name] for name in ("site", "age", "sex")}
    for k in range(150):
        columns[f"note {k}"] = [f"{k}"] * 21
        columns[f"roi {k}"] = rng.normal(size=21) + k
    table = pd.DataFrame(columns)
    names = [f"roi {k}" for k in range(150)]
    out = model(features="^roi").fit_transform(table)
    pd.testing.assert_frame_equal(out.drop(columns=names), table.drop(columns=names))
    assert out.columns.equals(table.columns)
    packed = model(features="^roi").fit_transform(pd.concat([table[["site", "age", "sex"]], table[names]], axis=1))
    close(out[names], packed[names])


def test_column_index_keeps_its_name_and_kind() -> None:
    table = study()
    table.columns = pd.CategoricalIndex(table.columns, name="measure")
    out = model().fit_transform(table)
    pd.testing.assert_index_equal(out.columns, table.columns)


def test_the_result_is_a_copy() -> None:
    table = study()
    before = table.copy(deep=True)
    out = model(ref_batch="Oslo").fit_transform(table)
    out.loc[:, FEATURES] = 0.0
    out["age"] = 0.0
    pd.testing.assert_frame_equal(table, before)


# Types of features


def test_float32_comes_back_float32_and_is_computed_in_double() -> None:
    single = study().astype(dict.fromkeys(FEATURES, np.float32))
    out = model().fit_transform(single)
    assert set(out[FEATURES].dtypes) == {np.dtype(np.float32)}
    exact = model().fit_transform(single.astype(dict.fromkeys(FEATURES, np.float64)))
    np.testing.assert_allclose(out[FEATURES], exact[FEATURES], rtol=2e-7)  # half a unit of float32's last place, twice
    assert out["age"].dtype == np.float64


def test_mixed_precision_keeps_each_columns_type() -> None:
    mixed = study().astype({"thick": np.float32, "vol": np.float32})
    out = model().fit_transform(mixed)
    assert out[FEATURES].dtypes.tolist() == [np.float32, np.float64, np.float32, np.float64]
    # float32 has seven digits, of which spread and offset take two.
    np.testing.assert_allclose(out[FEATURES], reference()[FEATURES], rtol=1e-5)
    only = model(output="features").fit_transform(mixed)
    assert only.dtypes.tolist() == [np.float32, np.float64, np.float32, np.float64]


@pytest.mark.parametrize("dtype", [np.int64, np.int16, np.uint8, bool, "Int64", "boolean"], ids=str)
def test_whole_numbers_come_back_float64_said_once(dtype: Any) -> None:
    table = study()
    numbers = (np.arange(21) * 7 % 11 > 4).astype(int) if dtype in (bool, "boolean") else np.arange(21) * 7 % 11
    table["area"] = pd.Series(numbers).astype(dtype)
    fit = model()
    with pytest.warns(pcg.PcgWarning, match="half-precision features come back as float64: area") as caught:
        out = fit.fit_transform(table)
    assert len(caught) == 1
    assert out["area"].dtype == np.float64
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)  # of a feature with two values
        expected = model().fit_transform(table.assign(area=numbers.astype(float)))
    close(out[FEATURES], expected[FEATURES])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pd.testing.assert_frame_equal(fit.transform(table), out)


def test_nullable_and_arrow_floats_are_numbers() -> None:
    for dtype in ("Float64", "double[pyarrow]"):
        table = study().astype({"area": dtype})
        close(model().fit_transform(table)[FEATURES], reference()[FEATURES])
        table.loc[3, "area"] = pd.NA
        with pytest.raises(DataError, match=r"'area' \(1\)"):
            model().fit(table)
        out = model(missing="omit").fit_transform(table)
        assert out["area"].isna().tolist() == [i == 3 for i in range(21)]


def test_extreme_layouts_of_arrays_give_the_same_numbers() -> None:
    table = study()
    Y = table[FEATURES].to_numpy()
    plain = pcg.ComBat("~ age + sex", batch="site")
    expected = plain.fit_transform(np.ascontiguousarray(Y), table)
    padded = np.zeros((42, 8))
    padded[::2, ::2] = Y
    read_only = Y.copy()
    read_only.flags.writeable = False
    layouts = {
        "F": np.asfortranarray(Y),
        "strided": padded[::2, ::2],
        "backward": np.ascontiguousarray(Y[::-1])[::-1],
        "big endian": Y.astype(">f8"),
        "read-only": read_only,
        "long double": Y.astype(np.longdouble),
    }
    close(expected, reference()[FEATURES])
    for name, layout in layouts.items():
        out = pcg.ComBat("~ age + sex", batch="site").fit_transform(layout, table)
        assert isinstance(out, np.ndarray), name
        close(out, expected)


def test_arrays_of_other_types() -> None:
    table = study()
    Y = np.round(table[FEATURES].to_numpy())
    expected = pcg.ComBat("~ age", batch="site").fit_transform(Y, table)
    with pytest.warns(pcg.PcgWarning, match="half-precision features come back as float64"):
        half = pcg.ComBat("~ age", batch="site").fit_transform(Y.astype(np.float16), table)
    single = pcg.ComBat("~ age", batch="site").fit_transform(Y.astype(np.float32), table)
    np.testing.assert_allclose(half, expected, rtol=1e-12)
    np.testing.assert_allclose(single, expected, rtol=1e-6)  # rounded to single precision at the end
    assert (half.dtype, single.dtype) == (np.float64, np.float32)


def test_whole_numbers_in_arrays_come_back_float64_said_once() -> None:
    table = study()
    Y = np.round(table[FEATURES].to_numpy())
    expected = pcg.ComBat("~ age", batch="site").fit_transform(Y, table)
    with pytest.warns(pcg.PcgWarning, match="come back as float64"):
        whole = pcg.ComBat("~ age", batch="site").fit_transform(Y.astype(int), table)
    assert whole.dtype == np.float64
    close(whole, expected)


# Pairs


def test_array_and_frame_beside_covariates_agree_with_the_wide_table() -> None:
    table = study()
    wide = model().fit_transform(table)
    covariates = table[["site", "age", "sex"]]
    pair = pcg.ComBat("~ age + sex", batch="site").fit_transform(table[FEATURES], covariates)
    pd.testing.assert_frame_equal(pair, wide[FEATURES])
    fit = pcg.ComBat("~ age + sex", batch="site", features=FEATURES).fit(table[FEATURES].to_numpy(), covariates)
    array = fit.transform(table[FEATURES].to_numpy(), covariates)
    assert isinstance(array, np.ndarray)
    assert np.array_equal(array, wide[FEATURES])
    assert fit.get_feature_names_out().tolist() == FEATURES
    pd.testing.assert_frame_equal(fit.transform(table[FEATURES], covariates), wide[FEATURES])
    pd.testing.assert_frame_equal(fit.transform(table), wide)


def test_batch_id_and_formula_columns_among_the_features_are_not_features() -> None:
    table = study()
    features = table[["thick", "age", "subject", "area", "vol", "depth"]]
    model = pcg.ComBat("~ age + sex", batch="site", id="subject")
    out = model.fit_transform(features, table)
    assert model.get_feature_names_out().tolist() == FEATURES
    pd.testing.assert_frame_equal(out[["age", "subject"]], features[["age", "subject"]])
    close(out[FEATURES], reference()[FEATURES])
    close(model.transform(features, table)[FEATURES], reference()[FEATURES])
    with pytest.raises(OptionError, match="'age' is a batch, id or formula column"):
        pcg.ComBat("~ age + sex", batch="site", features=["thick", "age"]).fit(features, table)


def test_nameless_arrays_get_names() -> None:
    fit = pcg.ComBat("~ age", batch="site").fit(study()[FEATURES].to_numpy(), study())
    assert fit.estimates.gamma_star.columns.tolist() == ["x0", "x1", "x2", "x3"]


# New rows


@pytest.mark.parametrize(
    "rows", [[0], [9], [20], [0, 20], [20, 9, 0], [8, 9], list(range(20, -1, -1)), [3, 3]], ids=str
)
def test_any_subset_of_rows_in_any_order(rows: list[int]) -> None:
    table = study()
    fit = model().fit(table)
    close(fit.transform(table.iloc[rows])[FEATURES], fit.transform(table).iloc[rows][FEATURES])


def test_new_rows_in_another_column_order_with_columns_more() -> None:
    table = study()
    fit = model().fit(table)
    shuffled = table.assign(more="x").sample(frac=1, axis=1, random_state=3)
    out = fit.transform(shuffled)
    assert out.columns.equals(shuffled.columns)
    pd.testing.assert_frame_equal(out[table.columns], fit.transform(table))
    pd.testing.assert_frame_equal(fit.transform(table.drop(columns=["subject", "dx"]))[FEATURES], out[FEATURES])


def test_one_row_keeps_its_factor_levels() -> None:
    """R drops unused levels and the columns with them; the columns of the fit stay."""
    table = study()
    fit = pcg.ComBat("~ sex + dx", batch="site", features=FEATURES).fit(table)
    for row in (0, 8, 15):
        alone = table.iloc[[row]].astype({"sex": "category", "dx": "category"})
        close(fit.transform(alone)[FEATURES], fit.transform(table).iloc[[row]][FEATURES])


# Which columns are features


def test_a_regular_expression_is_searched_and_skips_reserved_columns() -> None:
    table = study().rename(columns={"thick": "lh_thick", "vol": "lh_age_vol"})
    fit = pcg.ComBat("~ age", batch="site", features="^lh_|age|area|depth").fit(table)
    assert fit.get_feature_names_out().tolist() == ["lh_thick", "area", "lh_age_vol", "depth"]


def test_features_by_default_are_numeric_columns_that_nothing_else_names() -> None:
    table = study().assign(visit=[1, 2, 3] * 7)
    fit = pcg.ComBat("~ age + factor(visit)", batch="site", id="subject").fit(table)
    assert fit.get_feature_names_out().tolist() == FEATURES


def test_a_tuple_and_numbers_as_names() -> None:
    table = study().rename(columns={"thick": 1, "area": 2, "vol": 3, "depth": 4})
    out = pcg.ComBat("~ age + sex", batch="site", features=("1", "2", "3", "4")).fit_transform(table)
    close(out[[1, 2, 3, 4]], reference()[FEATURES])


def test_identifier_like_columns_are_shown_once() -> None:
    table = study().assign(mrn=np.arange(1000, 1021))
    fit = pcg.ComBat("~ age", batch="site")
    with pytest.warns(pcg.PcgWarning) as caught:
        fit.fit_transform(table)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert "mrn looks like an identifier" in message
    assert f"the features are: {', '.join([*FEATURES, 'mrn'])}" in message
    assert "id=" in message
    with warnings.catch_warnings():
        warnings.simplefilter("error", pcg.PcgWarning)
        fit.transform(table)
        pcg.ComBat("~ age", batch="site", id="mrn").fit(table)
        pcg.ComBat("~ age", batch="site").fit(study())  # nothing looks like one: nothing said


# Ids


def test_ids_are_carried_along_and_never_features() -> None:
    table = study().assign(number=np.arange(21), visit=1)
    fit = pcg.ComBat("~ age", batch="site", id=["number", "visit"])
    out = fit.fit_transform(table)
    assert fit.get_feature_names_out().tolist() == FEATURES
    pd.testing.assert_frame_equal(out[["number", "visit"]], table[["number", "visit"]])


def test_repeated_subjects_are_told_apart_by_visit() -> None:
    table = study().assign(subject=[f"s{i // 3}" for i in range(21)], visit=[1, 2, 3] * 7)
    with pytest.raises(DataError, match=r"duplicate ids in id column\(s\) subject: s0, s1.*visit"):
        model(id="subject").fit(table)
    with pytest.warns(pcg.PcgWarning, match=r"21 rows of 7 'subject'.*add \(1 \| subject\)"):
        out = model(id=["subject", "visit"]).fit_transform(table)
    close(out[FEATURES], reference()[FEATURES])


def test_ids_of_the_transform_are_checked_too() -> None:
    fit = model(id="subject").fit(study())
    with pytest.raises(DataError, match=r"s01"):
        fit.transform(study().assign(subject=["s01", *["s01"], *[f"t{i}" for i in range(19)]]))


# Kinds of output


def test_output_features_is_what_get_feature_names_out_says() -> None:
    fit = model(output="features", id="subject")
    out = fit.fit_transform(study())
    assert out.columns.tolist() == fit.get_feature_names_out().tolist() == FEATURES
    pd.testing.assert_frame_equal(out, reference()[FEATURES])


def test_set_output() -> None:
    table = study()
    Y = table[FEATURES].to_numpy()
    fit = pcg.ComBat("~ age", batch="site", features=FEATURES)
    assert isinstance(fit.fit_transform(Y, table), np.ndarray)
    assert fit.set_output(transform="pandas") is fit
    framed = fit.transform(Y, table)
    assert framed.columns.tolist() == FEATURES
    pd.testing.assert_index_equal(framed.index, table.index)
    fit.set_output(transform=None)
    assert isinstance(fit.transform(Y, table), pd.DataFrame)
    assert isinstance(fit.set_output(transform="default").transform(Y, table), np.ndarray)
    with pytest.raises(OptionError, match="'pandas'"):
        fit.set_output(transform="numpy")


def test_untouched_features_are_the_same_values_in_every_kind_of_output() -> None:
    table = in_site(study(), "area", "Oslo", 3.0).assign(depth=1.25)
    for options in ({}, {"output": "features"}):
        with pytest.warns(pcg.PcgWarning, match="depth"):
            out = model(**options).fit_transform(table)
        assert (out["depth"] == 1.25).all()
