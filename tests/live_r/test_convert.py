"""Tables cross to R and back as they were; what cannot is an error that names the column."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r_bridge import session
from r_bridge.errors import RError

pytestmark = pytest.mark.live_r
IDENTITY = "function(x) x"

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
TEXTS = NAMES
MOMENTS = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1))
WHOLE = st.integers(-(2**53), 2**53)
ZONES = ("Europe/Zurich", "America/New_York", "UTC")


def column(items: st.SearchStrategy[Any], missing: object, dtype: str) -> st.SearchStrategy[tuple[Any, object, str]]:
    """What a column is drawn from: cells, what stands for a missing one (or "never"), and the dtype."""
    return st.tuples(st.just(items), st.just(missing), st.just(dtype))


def integers(dtype: str) -> st.SearchStrategy[int]:
    limits = np.iinfo(dtype.lower())
    return st.integers(max(limits.min, -(2**53)), min(limits.max, 2**53))


SIZES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
COLUMNS = st.one_of(
    *(column(integers(size), "never", size) for size in SIZES),
    *(column(integers(size), pd.NA, size.replace("i", "I", 1).replace("uI", "UI")) for size in SIZES),
    column(st.floats(), np.nan, "float64"),
    column(st.floats(width=32), np.nan, "float32"),
    column(st.floats(allow_nan=False), pd.NA, "Float64"),
    column(st.booleans(), "never", "bool"),
    column(st.booleans(), pd.NA, "boolean"),
    column(st.booleans(), None, "object"),
    column(TEXTS, np.nan, "str"),
    column(TEXTS, pd.NA, "string"),
    column(TEXTS, None, "object"),
    column(TEXTS, np.nan, "object"),
    column(st.dates(dt.date(1, 1, 1), dt.date(9999, 12, 31)), None, "object"),
    *(column(MOMENTS, pd.NaT, f"datetime64[{unit}]") for unit in ("us", "ns")),
    *(column(MOMENTS.map(lambda m: m.replace(microsecond=0)), pd.NaT, f"datetime64[{u}]") for u in ("s", "ms")),
    column(st.dates(dt.date(1900, 1, 1), dt.date(2200, 1, 1)), pd.NaT, "datetime64[ns]"),
    *(column(MOMENTS, pd.NaT, f"datetime64[us, {zone}]") for zone in ZONES),
    column(st.timedeltas(dt.timedelta(-90000), dt.timedelta(90000)), pd.NaT, "timedelta64[us]"),
)
LEVELS = st.one_of(
    st.lists(TEXTS, unique=True, max_size=6).map(lambda items: pd.Index(items, dtype="str")),
    st.lists(TEXTS, unique=True, min_size=1, max_size=6).map(lambda items: pd.Index(items, dtype=object)),
    st.lists(TEXTS, unique=True, min_size=1, max_size=6).map(lambda items: pd.Index(items, dtype="string")),
    st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, min_size=1).map(lambda i: pd.Index(i, dtype="int64")),
    st.lists(st.floats(allow_nan=False), unique=True, min_size=1).map(lambda i: pd.Index(i, dtype="float64")),
    st.lists(st.booleans(), unique=True, min_size=1).map(lambda items: pd.Index(items, dtype="bool")),
)
INDEXES = st.sampled_from(("range", "from five", "integers", "texts"))


@st.composite
def factors(draw: st.DrawFn, rows: int) -> pd.Series:
    levels = draw(LEVELS)
    codes = draw(st.lists(st.integers(-1, len(levels) - 1), min_size=rows, max_size=rows))
    return pd.Series(pd.Categorical.from_codes(codes, levels, ordered=draw(st.booleans())))


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    rows = draw(st.integers(0, 8))
    names = draw(st.lists(NAMES, unique=True, max_size=6))
    columns = {}
    for name in names:
        if draw(st.integers(0, 4)) == 0:
            columns[name] = draw(factors(rows))
            continue
        items, missing, dtype = draw(COLUMNS)
        cells = items if isinstance(missing, str) else st.one_of(items, st.just(missing))
        columns[name] = pd.Series(draw(st.lists(cells, min_size=rows, max_size=rows)), dtype=dtype)
    table = pd.DataFrame(columns, index=range(rows), columns=pd.Index(names, dtype="str"))
    kind = draw(INDEXES)
    if kind == "from five":
        table.index = pd.RangeIndex(5, 5 + rows)
    elif kind == "integers":
        table.index = pd.Index(draw(st.lists(WHOLE, min_size=rows, max_size=rows, unique=True)), dtype="int64")
    elif kind == "texts":
        table.index = pd.Index(draw(st.lists(TEXTS, min_size=rows, max_size=rows, unique=True)), dtype="str")
    table.index.name = draw(st.one_of(st.none(), NAMES))
    table.columns.name = draw(st.one_of(st.none(), NAMES))
    return table


@settings(max_examples=400)
@given(frames())
def test_every_table_comes_back_as_it_went(table: pd.DataFrame) -> None:
    back = session.call(IDENTITY, x=table)
    pd.testing.assert_frame_equal(back, table, check_exact=True, check_freq=False)
    for name in table:
        assert back[name].dtype == table[name].dtype


def test_r_sees_what_python_means() -> None:
    table = pd.DataFrame(
        {
            "site": pd.Categorical(["b", None, "a"], ["b", "a", "c"], ordered=True),
            "n": pd.array([1, None, 3], dtype="Int64"),
            "old": pd.array([True, None, False], dtype="boolean"),
            "Größe": [1.5, np.nan, -0.0],
            "who": ["Zoë", None, "NA"],
            "day": pd.to_datetime(["2024-02-29", None, "1969-12-31"]),
            "at": pd.to_datetime(["2024-02-29 12:00:01.5", None, "1969-12-31 00:00:00.0"]),
            "took": pd.to_timedelta([1.5, None, -2], unit="s"),
        }
    )
    code = """function(x) list(names = names(x), class = sapply(x, function(v) paste(class(v), collapse = " ")),
      type = sapply(x, typeof), levels = levels(x$site),
      na = sapply(x, function(v) paste(which(is.na(v)), collapse = " ")),
      nan = any(is.nan(x[["Gr\\u00f6\\u00dfe"]])), day = format(x$day), at = format(x$at, "%Y-%m-%d %H:%M:%OS1"),
      took = format(x$took))"""
    seen = session.call(code, x=table)
    assert list(seen["names"]) == list(table.columns)
    assert list(seen["class"]) == [
        "ordered factor", "integer", "logical", "numeric", "character", "Date", "POSIXct POSIXt", "difftime",
    ]  # fmt: skip
    assert list(seen["type"]) == ["integer", "integer", "logical", "double", "character", "double", "double", "double"]
    assert list(seen["levels"]) == ["b", "a", "c"]
    assert set(seen["na"]) == {"2"} and not seen["nan"][0]
    assert list(seen["day"]) == ["2024-02-29", None, "1969-12-31"]
    assert list(seen["at"]) == ["2024-02-29 12:00:01.5", None, "1969-12-31 00:00:00.0"]


@pytest.mark.parametrize("size", [0, 1, 6, 256])
def test_bytes_come_back_as_they_went(size: int) -> None:
    value = bytes(np.resize(np.arange(255, -1, -1, dtype=np.uint8), size))
    assert session.call(IDENTITY, x=value) == value


def test_bytes_of_a_raw_matrix_are_in_r_s_order() -> None:
    assert session.call("function() matrix(as.raw(1:6), 2)") == bytes(range(1, 7))


def test_tables_that_r_made() -> None:
    code = """function() data.frame(f = factor(c("lo", NA), levels = c("lo", "hi")), n = c(1L, NA), ok = c(NA, TRUE),
      x = c(0.5, NA), s = c("\\u00fc", NA), d = as.Date(c("2024-02-29", NA)),
      t = as.POSIXct(c("2024-02-29 01:02:03", NA), tz = "UTC"), w = as.difftime(c(1, NA), units = "hours"),
      row.names = c("r1", "r2"))"""
    back = session.call(code)
    expected = pd.DataFrame(
        {
            "f": pd.Categorical(["lo", None], ["lo", "hi"]),
            "n": pd.array([1, None], dtype="Int64"),
            "ok": pd.array([None, True], dtype="boolean"),
            "x": [0.5, np.nan],
            "s": ["ü", None],
            "d": pd.Series(["2024-02-29", None]).astype("datetime64[s]"),
            "t": pd.Series(["2024-02-29 01:02:03", None]).astype("datetime64[us, UTC]"),
            "w": pd.Series([dt.timedelta(hours=1), None]).astype("timedelta64[us]"),
        }
    ).set_axis(["r1", "r2"])
    pd.testing.assert_frame_equal(back, expected)


def test_what_r_changed_comes_back_changed() -> None:
    """The dtypes that a table had count only as far as they fit what R made of its columns."""
    table = pd.DataFrame({"n": [1, 2, 3], "ok": [True, False, True], "f": pd.Categorical([1, 2, 1])}, index=[7, 8, 9])
    code = """function(x) { x$n <- x$n / 2; x$ok[2] <- NA; levels(x$f) <- c("one", "two"); x$new <- "z"
      x[c(3, 1), c("new", "f", "ok", "n")] }"""
    back = session.call(code, x=table)
    assert list(back.columns) == ["new", "f", "ok", "n"] and [int(row) for row in back.index] == [9, 7]
    assert back["n"].tolist() == [1.5, 0.5]
    assert list(back["f"]) == ["one", "one"] and list(back["f"].cat.categories) == ["one", "two"]
    assert back["ok"].tolist() == [True, True]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pd.DataFrame({"a": [1 + 2j]}), r"x\$a .*complex128.*numbers, truth values"),
        (pd.DataFrame({"a": [1, "b"]}, dtype=object), r"x\$a .*int, str"),
        (pd.DataFrame({"a": [2**60]}), r"x\$a .*2\^53.*text"),
        (pd.DataFrame({"a": ["b\x00c"]}), r"x\$a .*NUL"),
        (pd.DataFrame({"a": pd.Categorical(pd.to_datetime(["2024-01-01"]))}), r"x\$a .*rename_categories"),
        (pd.DataFrame({"a": pd.to_datetime(["2024-01-01 00:00:00.000000001"])}), r"x\$a .*round\('us'\)"),
        (pd.DataFrame({3: [1.0]}), "not text.*3.*rename"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "same name: a"),
        (pd.DataFrame({"a": [1, 2]}, index=["r", "r"]), "reset_index"),
        (pd.DataFrame({"a": [1, 2]}, index=[0.5, 1.5]), "reset_index"),
        (pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([(1, 2)])), "reset_index"),
        (pd.DataFrame({"a": pd.arrays.SparseArray([1.0, 0.0]), "p": pd.period_range("2024", periods=2)}), r"x\$p"),
    ],
)
def test_what_cannot_cross_is_named(table: pd.DataFrame, said: str) -> None:
    with pytest.raises(RError, match=said):
        session.call(IDENTITY, x=table)


def test_matrices_cross_through_memory() -> None:
    rng = np.random.default_rng(0)
    for matrix in (
        rng.normal(size=(30, 50)),
        np.asfortranarray(rng.normal(size=(30, 50))),
        rng.normal(size=(9, 50))[::2],
    ):
        back = session.call(IDENTITY, x=matrix)
        assert back.dtype == np.float64 and (back == matrix).all()
        back[:] = 0.0
        assert session.call("function(x) x[2, 3]", x=matrix)[0] == matrix[1, 2]
