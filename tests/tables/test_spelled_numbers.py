"""Numbers in an unusual spelling: refused by name wherever they stand, never left out or made a factor of 61 levels."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers.study import FEATURES, study

import pycombat_gam as pcg
from pycombat_gam.errors import DataError, OptionError
from pycombat_gam.tables.files import read_table
from pycombat_gam.tables.numerals import spelling

WIDE = str.maketrans("0123456789.", "０１２３４５６７８９．")
SPELLED: dict[str, tuple[Callable[[float], str], str]] = {
    "decimal comma": (lambda x: f"{x:.4f}".replace(".", ","), "decimal commas"),
    "comma that may be either": (lambda x: f"{x + 5:.3f}".replace(".", ","), "decimal commas or thousands separators"),
    "thousands, space, comma": (lambda x: f"{1000 * x:,.1f}".replace(",", " ").replace(".", ","), "thousands sep"),
    "thousands, comma": (lambda x: f"{1e5 * x:,.1f}", "thousands separators"),
    "thousands, point, comma": (lambda x: f"{1e5 * x:_.1f}".replace(".", ",").replace("_", "."), "decimal commas"),
    "thousands, no-break space": (lambda x: f"{1e5 * x:,.0f}".replace(",", "\xa0"), "thousands separators"),
    "thousands, narrow space": (lambda x: f"{1e5 * x:,.0f}".replace(",", "\u202f"), "thousands separators"),
    "thousands, apostrophe": (lambda x: f"{1e5 * x:,.2f}".replace(",", "'"), "thousands separators"),
    "underscores": (lambda x: f"{1e5 * x:_.0f}", "underscores"),
    "full width": (lambda x: f"{x:.3f}".translate(WIDE), "other digits or signs"),
    "unicode minus": (lambda x: f"\u2212{x:.3f}", "other digits or signs"),
    "units": (lambda x: f"{x:.2f} mm", "units"),
    "units, no space": (lambda x: f"{x:.2f}kg", "units"),
    "percent": (lambda x: f"{x:.2f} %", "percent signs"),
    "currency": (lambda x: f"€{x:.2f}", "currency signs"),
    "comparison": (lambda x: f"<{x:.2f}", "comparison signs"),
    "hexadecimal": (lambda x: hex(int(1e4 * x)), "hexadecimal"),
    "Fortran exponent": (lambda x: f"{x:.4E}".replace("E", "D"), "exponents other than e"),
    "times ten": (lambda x: f"{x:.2f}×10^3", "exponents other than e"),
    "no-break space": (lambda x: f"{x:.3f}\xa0", "invisible characters"),
    "zero-width space": (lambda x: f"\u200b{x:.3f}", "invisible characters"),
    "parentheses": (lambda x: f"({x:.3f})", "parentheses for a minus"),
    "formula of a spreadsheet": (lambda x: f'="{x:.3f}"', "quotation marks"),
}


def spelled(name: str) -> tuple[pd.DataFrame, str]:
    """The study with a column `width` whose numbers are spelled so, and what a message calls it."""
    write, kind = SPELLED[name]
    return study().assign(width=[write(x) for x in study()["area"].abs() + 0.01]), kind


@pytest.mark.parametrize("name", SPELLED)
def test_a_feature_is_refused_by_name(name: str) -> None:
    table, kind = spelled(name)
    with pytest.raises(DataError, match=f"'width' holds numbers with .*{kind}.*name the features with features="):
        pcg.ComBat("~ age + sex + dx", batch="site", id="subject").fit(table)
    with pytest.raises(DataError, match=f"'width' holds numbers with .*{kind}"):
        pcg.ComBat("~ age", batch="site", features=[*FEATURES, "width"]).fit(table)
    pcg.ComBat("~ age", batch="site", features=FEATURES).fit(table)  # not asked for: not in the way


@pytest.mark.parametrize("name", SPELLED)
def test_a_covariate_is_refused_by_name(name: str) -> None:
    table, kind = spelled(name)
    with pytest.raises(DataError, match=f"'width' holds numbers with .*{kind}"):
        pcg.ComBat("~ width", batch="site", features=FEATURES).fit(table)
    with pytest.raises(DataError, match="width"):
        pcg.gam("thick ~ width + sex", table)


@pytest.mark.parametrize("name", SPELLED)
def test_the_same_in_files(name: str, tmp_path: Path) -> None:
    table, kind = spelled(name)
    table.to_csv(tmp_path / "data.csv", index=False)
    read = read_table(tmp_path / "data.csv", ["site"]).table
    with pytest.raises(DataError, match=f"'width' holds numbers with .*{kind}"):
        pcg.ComBat("~ age + sex + dx", batch="site", id="subject").fit(read)


@pytest.mark.parametrize(
    "write", [lambda x: f"+{x}", lambda x: f"{x:e} ", lambda x: f" {x}"], ids=["plus", "e", "space"]
)
def test_what_every_reader_reads_is_read_exactly(write: Callable[[float], str], tmp_path: Path) -> None:
    study().assign(area=[write(x) for x in study()["area"]]).to_csv(tmp_path / "data.csv", index=False)
    read = read_table(tmp_path / "data.csv", ["site"]).table["area"]
    assert read.tolist() == [float(write(x)) for x in study()["area"]]


LABELS = ["2020-01-05", "05/01/2020", "12.05.2020", "12:30", "s01", "001A", "18-65", "1st", "V1", "10a", "192.168.1.1"]
LABELS += ["1 2", "1;2", "1,2,3", "", "?", "5 ft 3 in", "1.2.3", "M", "--5", "½"]


@pytest.mark.parametrize("label", LABELS)
def test_labels_are_no_numbers(label: str) -> None:
    assert spelling(label) is None


def test_a_few_values_with_units_are_labels() -> None:
    table = study().assign(scanner=np.resize(["1.5 T", "3 T", "7T"], 21), group=np.resize(["<18", "18-65", ">65"], 21))
    fit = pcg.ComBat("~ age + sex + dx + scanner", batch="site", id="subject").fit(table)
    assert fit.get_feature_names_out().tolist() == FEATURES


def test_missing_words_are_no_text() -> None:
    """60 % are SAS's point, so that less than half of the cells are numbers; they are a feature all the same."""
    area = study()["area"].astype(object)
    area[np.arange(21) % 5 < 3] = "."
    with pytest.raises(DataError, match=r"'area' holds text among numbers \('\.'\) in 13 rows"):
        pcg.ComBat("~ age + sex + dx", batch="site", id="subject").fit(study().assign(area=area))


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (lambda x: [Decimal(str(v)) for v in x], "numbers as text or objects"),
        (lambda x: [Fraction(v) for v in x], "numbers as text or objects"),
        (lambda x: [str(v).encode() for v in x], "numbers as text or objects"),
        (lambda x: x.astype(object), "numbers as text or objects"),
        (lambda x: x.astype(str).astype("string[pyarrow]"), "numbers as text or objects"),
        (lambda x: x.astype(str).astype(pd.ArrowDtype(pa.string())), "numbers as text or objects"),
        (lambda x: x + 1j, "complex"),
    ],
    ids=["Decimal", "Fraction", "bytes", "object", "string", "Arrow string", "complex"],
)
def test_numbers_as_objects_are_not_left_out(cells: Callable[[pd.Series], object], says: str) -> None:
    table = study().assign(width=cells(study()["area"]))
    for features in (None, [*FEATURES, "width"]):
        with pytest.raises(DataError, match=f"'width'.*{says}"):
            pcg.ComBat("~ age + sex + dx", batch="site", id="subject", features=features).fit(table)


@pytest.mark.filterwarnings("ignore:integer, boolean")
def test_sparse_and_arrow_decimals_are_numbers() -> None:
    plain = pcg.ComBat("~ age", batch="site", features=FEATURES).fit_transform(study().round(3))
    decimal = [Decimal(f"{v:.3f}") for v in study()["area"]]
    for width in (
        pd.Series(study()["area"].round(3).astype(pd.SparseDtype(float))),
        pd.Series(decimal, dtype=pd.ArrowDtype(pa.decimal128(12, 3))),
    ):
        model = pcg.ComBat("~ age", batch="site", features=FEATURES)
        out = model.fit_transform(study().round(3).assign(area=width))
        # The same doubles in another store: rounding of sums in another order at most.
        np.testing.assert_allclose(np.asarray(out["area"], dtype=float), plain["area"], rtol=0, atol=1e-12)


# Masked arrays


def masked(dtype: type = float) -> np.ma.MaskedArray:
    """The features as a masked array with two hidden cells, nonsense under them."""
    Y = np.ma.masked_array(np.round(study()[FEATURES].to_numpy()).astype(dtype), mask=False)
    Y.data[[3, 9], [2, 0]] = -9999
    Y[[3, 9], [2, 0]] = np.ma.masked
    return Y


@pytest.mark.filterwarnings("ignore:integer, boolean")
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.int16])
def test_masked_cells_are_missing_ones(dtype: type) -> None:
    Y, covariates = masked(dtype), study()[["site", "age"]]
    with pytest.raises(DataError, match=r"missing values in 'x0' \(1\), 'x2' \(1\)"):
        pcg.ComBat("~ age", batch="site").fit(Y, covariates)
    model = pcg.ComBat("~ age", batch="site", missing="omit")
    out = model.fit_transform(Y, covariates)
    holes = Y.astype(np.float32 if dtype is np.float32 else np.float64).filled(np.nan)
    expected = pcg.ComBat("~ age", batch="site", missing="omit").fit_transform(holes, covariates)
    assert isinstance(out, np.ma.MaskedArray)
    assert np.array_equal(out.mask, Y.mask)
    assert np.array_equal(out.filled(np.nan), expected, equal_nan=True)
    assert np.isnan(out.data[Y.mask]).all()
    assert np.array_equal(model.transform(Y, covariates).filled(np.nan), expected, equal_nan=True)
    assert Y.data[3, 2] == -9999  # the caller's array is as it was


def test_a_mask_of_nothing_changes_nothing() -> None:
    Y, covariates = study()[FEATURES].to_numpy(), study()[["site", "age"]]
    expected = pcg.ComBat("~ age", batch="site").fit_transform(Y, covariates)
    out = pcg.ComBat("~ age", batch="site").fit_transform(np.ma.masked_array(Y), covariates)
    assert np.array_equal(np.asarray(out), expected)


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_other_arrays(tmp_path: Path) -> None:
    Y, covariates = study()[FEATURES].to_numpy(), study()[["site", "age"]]
    expected = pcg.ComBat("~ age", batch="site").fit_transform(Y, covariates)
    stored = np.memmap(tmp_path / "Y", dtype=float, mode="w+", shape=Y.shape)
    stored[:] = Y
    for kind in (stored, np.asmatrix(Y)):
        out = pcg.ComBat("~ age", batch="site").fit_transform(kind, covariates)
        assert type(out) is np.ndarray
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(
    ("X", "says"),
    [
        (np.array(5.0), "a 0-D array"),
        (np.zeros(21), "a 1-D array"),
        (np.zeros((21, 2, 2)), "a 3-D array"),
        (np.zeros(21, dtype=[("a", float), ("b", float)]), "a structured array"),
        (np.full((21, 2), "1,5"), "must be real numbers"),
        (np.full((21, 2), Decimal(1)), r"array of object.*X.astype\(float\)"),
        (np.zeros((21, 2), dtype=complex), "must be real numbers"),
    ],
    ids=["0-D", "1-D", "3-D", "structured", "text", "Decimal", "complex"],
)
def test_arrays_that_are_no_table_of_numbers(X: np.ndarray, says: str) -> None:
    with pytest.raises(DataError, match=says):
        pcg.ComBat("~ age", batch="site").fit(X, study()[["site", "age"]])


def test_a_mask_of_rows_hides_nothing() -> None:
    chosen = np.ma.masked_array(np.arange(21) % 5 > 0, mask=np.arange(21) == 3)
    with pytest.raises(OptionError, match="fit_mask is a masked array that hides entries"):
        pcg.ComBat("~ age", batch="site", features=FEATURES).fit(study(), fit_mask=chosen)
