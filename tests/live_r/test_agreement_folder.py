"""What goes to R through files comes back as it was: texts, numbers, names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.r_alone import rerun

import pycombat_gam as pcg
from r_bridge import crosscheck, session, sources
from r_bridge.agreement import folder
from r_bridge.study import factor_for_r

pytestmark = pytest.mark.live_r
TEXTS = ["01", "1", "1.0", "1e3", "0x1A", "T", "F", "TRUE", "NA", "NaN", "", " ", " a ", 'a "b"', "a,b", "'", "#", "`",
         "a\nb", "a\r\nb", "\r", "\\n", "\\N", "\\\\N", "\\", "Größe ☃", "𝔘", "2020-01-01", "-0", "1L"]  # fmt: skip
"""What a reader of CSV may take for something else."""


@pytest.fixture
def table() -> pd.DataFrame:
    """A small study: R's part of it takes no time."""
    table = pcg.datasets.load_multisite()
    return table[["subject", "site", "age", "sex", "dx", *[c for c in table if c.endswith("_thickness")][:4]]]


def read_by_r(place: Path, function: str) -> object:
    """What a function of `main.R` reads from a file."""
    head = sources.text("main").partition("read_study <-")[0].replace("at <- function(...) file.path(folder, ...)", "")
    body = f"function(place) {{ at <- function(...) place\n{head}\n{function}(place) }}"
    return session.call(body, place=str(place))


@pytest.mark.parametrize("column", ["level", "\\N", 'odd\r\n"name"', ""])
def test_texts_are_read_back_to_the_letter(column: str, tmp_path: Path) -> None:
    wanted = pd.DataFrame({column: [*TEXTS, None], "beside": [*TEXTS[::-1], None]})
    (tmp_path / "texts.csv").write_text(folder._csv(wanted), encoding="utf-8", newline="")
    got = read_by_r(tmp_path / "texts.csv", "read")
    assert isinstance(got, pd.DataFrame)
    assert got[got.columns[-1]].isna().tolist() == [False] * len(TEXTS) + [True]
    for j in range(2):
        assert got.iloc[:-1, j].tolist() == wanted.iloc[:-1, j].tolist()


def test_numbers_are_read_back_to_the_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    bits = rng.integers(0, 2**63, 4000, dtype=np.int64) | (rng.integers(0, 2, 4000) << 63)
    values = np.concatenate(
        [rng.normal(size=4000), 10.0 ** rng.uniform(-200, 200, 2000), bits.view(np.float64),
         [0.0, -0.0, np.inf, -np.inf, np.nan, 1 / 3, 0.1 + 0.2, 2.0**53 + 2, np.finfo(float).max]]
    )  # fmt: skip
    values = values[np.isnan(values) | (np.abs(values) >= np.finfo(float).tiny) | (values == 0)]
    # One column: a line with nothing on it would be skipped.
    (tmp_path / "numbers.csv").write_text(folder._numbers(values[:, None], ["one"]), encoding="utf-8")
    got = np.asarray(read_by_r(tmp_path / "numbers.csv", "numbers"))[:, 0]
    assert got.shape == values.shape
    np.testing.assert_array_equal(got.view(np.int64)[~np.isnan(values)], values.view(np.int64)[~np.isnan(values)])
    assert np.isnan(got[np.isnan(values)]).all()


LABELS = {
    "leading zeros": [f"{i:02d}" for i in range(1, 9)],
    "numbers as text": ["1.5", "1e3", "0x1A", "T", "F", "NA", "TRUE", "2"],
    "odd texts": ['a "b"', "a,b", "a\nb", "\\N", "Größe ☃", " a ", "'", "#"],
    "integers": [10, 9, 8, 7, 6, 5, 4, 3],
    "floats": [1.5, 2.0, 0.1 + 0.2, 1e5, 3.25, -1.0, 7.0, 8.0],
    "dates": list(pd.date_range("2020-01-01", periods=8)),
}


@pytest.mark.parametrize("kind", LABELS)
def test_sites_of_every_kind_reach_the_same_verdict_in_r_alone(kind: str, table: pd.DataFrame, tmp_path: Path) -> None:
    place = pd.factorize(table["site"])[0]
    table = table.assign(site=pd.Series([LABELS[kind][code] for code in place], index=table.index))
    agreement = crosscheck("~ age + sex", table, batch="site", id="subject", engines=["mgcv"])
    assert agreement.verdict == "agrees", str(agreement)
    agreement.write(tmp_path / "page.html")
    assert rerun(tmp_path / "page") == (0, "agrees")


def test_covariates_of_every_kind_reach_the_same_verdict_in_r_alone(table: pd.DataFrame, tmp_path: Path) -> None:
    place = np.random.default_rng(8).integers(0, 8, (len(table), 7))
    for j, kind in enumerate(("leading zeros", "numbers as text", "integers", "floats", "odd texts")):
        table[kind] = pd.Series([LABELS[kind][code] for code in place[:, j]], index=table.index)
    table["truth"] = place[:, 5] < 4
    ordered = ["low", "02", "1.0", "NA", "\\N", "T", "é", "high"]
    table["ordered"] = pd.Categorical.from_codes(place[:, 6], ordered, ordered=True)
    formula = "~ age + truth + ordered + `odd texts` + `numbers as text` + factor(`leading zeros`) + factor(integers)"
    agreement = crosscheck(
        f"{formula} + factor(floats)", table, batch="site", id="subject", engines=["mgcv"], features="_thickness$"
    )
    assert agreement.verdict == "agrees", str(agreement)
    agreement.write(tmp_path / "page.html")
    assert rerun(tmp_path / "page") == (0, "agrees")


@pytest.mark.parametrize(
    ("cells", "levels"),
    [
        ([10, 9, 9], ["9", "10"]),
        ([10.0, 9.5, 9.5], ["9.5", "10"]),
        ([0.1 + 0.2, 0.3, 1e5], ["0.3", "1e+05"]),
        ([True, False, True], ["FALSE", "TRUE"]),
        (["02", "1", "1.0"], ["02", "1", "1.0"]),
        (pd.array([3, None, 1], dtype="Int64"), ["1", "3"]),
    ],
)
def test_labels_of_factors_are_those_of_r(cells: list[object], levels: list[str]) -> None:
    found = factor_for_r(pd.Series(cells))
    assert found.cat.categories.tolist() == levels
    assert found.isna().tolist() == pd.Series(cells).isna().tolist()
    by_r = session.call("function(d) levels(factor(d$x))", d=pd.DataFrame({"x": cells}))
    assert list(by_r) == levels


def test_features_whose_names_need_care(table: pd.DataFrame, tmp_path: Path) -> None:
    names = [name for name in table if name.endswith("_thickness")]
    odd = ["a\nb\r", "\\N", "NA", "1.0"]
    table = table.rename(columns=dict(zip(names, odd, strict=True)))
    agreement = crosscheck("~ age", table, batch="site", id="subject", features=odd, engines=["mgcv"])
    agreement.write(tmp_path / "page.html")
    assert rerun(tmp_path / "page") == (0, "agrees")
