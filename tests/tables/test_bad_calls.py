"""Calls and new rows that are wrong in themselves: what was given, what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from helpers.study import FEATURES, put, study

import pycombat_gam as pcg
from pycombat_gam.errors import DataError, OptionError


class Call(NamedTuple):
    name: str
    call: Callable[[pcg.ComBat, pd.DataFrame], object]
    says: tuple[str, ...]


def _array(table: pd.DataFrame) -> np.ndarray:
    return table[FEATURES].to_numpy()


CALLS = [
    Call("transform before fit", lambda m, t: m.transform(t), ("not fitted", "fit")),
    Call("save before fit", lambda m, t: m.save("never.pcg"), ("not fitted",)),
    Call("summary before fit", lambda m, t: m.summary(), ("not fitted",)),
    Call("array without covariates", lambda m, t: m.fit(_array(t)), ("2-D array", "covariate DataFrame")),
    Call("list of lists", lambda m, t: m.fit([[1, 2], [3, 4]]), ("a list", "DataFrame")),
    Call("covariates as an array", lambda m, t: m.fit(t, _array(t)), ("2-D array", "DataFrame")),
    Call("covariates too short", lambda m, t: m.fit(_array(t), t.iloc[:-1]), ("21 rows", "20 rows")),
    Call("1-D features", lambda m, t: m.fit(_array(t)[:, 0], t), ("1-D array", "n×V")),
    Call("3-D features", lambda m, t: m.fit(_array(t)[None], t), ("3-D array", "n×V")),
    Call("array of objects", lambda m, t: m.fit(_array(t).astype(object), t), ("object", "real numbers")),
    Call("array of complex numbers", lambda m, t: m.fit(_array(t) + 0j, t), ("complex128",)),
    Call("array of another width", lambda m, t: m.fit(_array(t)[:, :3], t), ("4 names", "3 columns")),
    Call(
        "feature table in another order",
        lambda m, t: m.fit(t[FEATURES].iloc[::-1], t),
        ("different indexes", "same order"),
    ),
    Call("feature table too short", lambda m, t: m.fit(t[FEATURES].iloc[:5], t), ("5 rows", "21 rows")),
    Call("mask too short", lambda m, t: m.fit(t, fit_mask=[True] * 3), ("fit_mask", "21 booleans", "(3,)")),
    Call("mask of numbers", lambda m, t: m.fit(t, fit_mask=np.arange(21)), ("fit_mask", "booleans", "int64")),
    Call(
        "mask of another index",
        lambda m, t: m.fit(t, fit_mask=(t["age"] > 30).iloc[::-1]),
        ("fit_mask", "index"),
    ),
    Call(
        "mask empties a site",
        lambda m, t: m.fit(t, fit_mask=(t["site"] != "Oslo")),
        ("fit_mask", "Oslo", "include"),
    ),
    Call(
        "parameter misspelled",
        lambda m, t: m.set_params(mean_onyl=True),
        ("mean_onyl", "did you mean 'mean_only'"),
    ),
    Call("set_output to polars", lambda m, t: m.set_output(transform="polars"), ("polars", "'pandas'")),
]


@pytest.mark.parametrize("case", CALLS, ids=[case.name for case in CALLS])
def test_refused_calls(case: Call) -> None:
    model = pcg.ComBat("~ age", batch="site", features=FEATURES)
    with pytest.raises(pcg.PcgError) as caught:
        case.call(model, study())
    for words in case.says:
        assert words in str(caught.value)


NEW_ROWS = [
    ("unseen site", put("site", "Bonn"), ("Bonn", "Lyon, Oslo, Turin", "on_unseen='estimate'")),
    ("site in another spelling", put("site", "oslo"), ("oslo", "did you mean 'Oslo'")),
    ("site missing", put("site", None), ("'site'", "missing")),
    ("feature column gone", lambda t: t.drop(columns="vol"), ("vol", "missing from the table")),
    (
        "feature column renamed",
        lambda t: t.rename(columns={"thick": "thik"}),
        ("thick", "did you mean 'thik'"),
    ),
    ("covariate column gone", lambda t: t.drop(columns="age"), ("age", "not a column")),
    ("batch column gone", lambda t: t.drop(columns="site"), ("'site'", "not in the table")),
    ("new level of a factor", put("dx", "FTD"), ("dx", "'FTD'", "AD")),
    ("covariate became text", lambda t: t.assign(age=t["age"].astype(str)), ("age", "text", "number")),
    ("covariate missing", put("age", np.nan), ("'age'", "missing")),
    ("feature missing", put("area", np.nan), ("'area' (1)", "missing='omit'")),
    ("feature infinite", put("area", np.inf), ("'area' (1)", "infinite")),
    ("feature became text", put("area", "bad"), ("'area'", "'bad'")),
    ("duplicate ids", put("subject", "s07"), ("s07", "2 rows")),
    ("no rows", lambda t: t.iloc[:0], ("no rows",)),
    ("array with too few columns", lambda t: (_array(t)[:, :2], t), ("2 columns", "4")),
    (
        "feature table with a column more",
        lambda t: (t[[*FEATURES, "age"]].assign(new=1.0), t),
        ("new", "not fitted"),
    ),
]


@pytest.mark.parametrize(("name", "change", "says"), NEW_ROWS, ids=[case[0] for case in NEW_ROWS])
def test_new_rows_refused(name: str, change: Callable[[pd.DataFrame], Any], says: tuple[str, ...]) -> None:
    features = None if "feature table" in name else FEATURES
    table = study()
    model = pcg.ComBat("~ age + dx", batch="site", features=features, id="subject")
    if features is None:
        model.fit(table[FEATURES], table)
    else:
        model.fit(table)
    given = change(table.copy())
    with pytest.raises(DataError) as caught:
        model.transform(*given) if isinstance(given, tuple) else model.transform(given)
    for words in says:
        assert words in str(caught.value)


@pytest.mark.parametrize("call", ["fit", "audit", "diagnose"])
def test_a_batch_that_was_not_named_is_said_to_be_the_default(call: str) -> None:
    table = study()
    calls: dict[str, Callable[[], object]] = {
        "fit": lambda: pcg.ComBat("~ age", features=FEATURES).fit(table),
        "audit": lambda: pcg.audit(table, "~ age", features=FEATURES),
        "diagnose": lambda: pcg.diagnose(table, table, formula="~ age", batch="batch", features=FEATURES),
    }
    words = r"batch column 'batch' is not in the table \(no batch= was given\?\), which has: "
    with pytest.raises(DataError, match=words):
        calls[call]()
    with pytest.raises(DataError, match="batch column 'centre' is not in the table, which has: "):
        pcg.ComBat("~ age", "centre", features=FEATURES).fit(table)


def test_a_table_in_the_formula_s_place_is_not_printed() -> None:
    table = study()
    for swapped in (lambda: pcg.audit("~ age", table, batch="site"), lambda: pcg.ComBat(table, "site").fit(table)):
        with pytest.raises(OptionError, match=r"^formula is a DataFrame: give the formula as text$"):
            swapped()
    with pytest.raises(OptionError, match=r"^batch=None: give the column's name as text$"):
        pcg.ComBat("~ age", None).fit(table)  # type: ignore[arg-type]
