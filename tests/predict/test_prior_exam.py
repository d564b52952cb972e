"""Differences from the latest earlier exam."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pycombat_gam as pcg
from pycombat_gam.errors import DataError, OptionError

EXAMS = pd.DataFrame(
    {
        "patient": ["a", "b", "a", "a", "c", "b"],
        "site": ["x", "x", "x", "y", "y", "x"],
        "day": [30, 5, 10, 20, 1, 3],
        "volume": [3.0, 7.0, 1.0, 2.5, 9.0, np.nan],
        "area": [1, 2, 3, 4, 5, 6],
    },
    index=[10, 11, 12, 12, 14, 15],
)


def by_definition(table: pd.DataFrame, ids: list[str], feature: str) -> pd.DataFrame:
    rows = []
    for i in range(len(table)):
        here = table.iloc[i]
        earlier = [
            table.iloc[j]
            for j in range(len(table))
            if all(table.iloc[j][name] == here[name] for name in ids) and table.iloc[j]["day"] < here["day"]
        ]
        if not earlier:
            rows.append((0.0, 0, 0.0))
            continue
        last = max(earlier, key=lambda row: row["day"])
        rows.append((here[feature] - last[feature], 1, float(here["day"] - last["day"])))
    return pd.DataFrame(rows, columns=[f"d_{feature}", "has_prior", "since_prior"], index=table.index)


@pytest.mark.parametrize("ids", [["patient"], ["patient", "site"]])
def test_definition(ids: list[str]) -> None:
    before = EXAMS.copy()
    out = pcg.prior_exam(EXAMS, id=ids, time="day", features=["volume", "area"])
    pd.testing.assert_frame_equal(EXAMS, before)
    pd.testing.assert_frame_equal(out[list(EXAMS)], EXAMS)
    assert list(out)[5:] == ["d_volume", "d_area", "has_prior", "since_prior"]
    for feature in ("volume", "area"):
        expected = by_definition(EXAMS, ids, feature)
        pd.testing.assert_frame_equal(out[list(expected)], expected, check_exact=True)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), min_size=1, max_size=12, unique=True))
def test_any_order(rows: list[tuple[int, int]]) -> None:
    table = pd.DataFrame(rows, columns=["patient", "day"]).assign(volume=lambda t: t.index * 1.5)
    out = pcg.prior_exam(table, id="patient", time="day", features="vol")
    expected = by_definition(table, ["patient"], "volume")
    pd.testing.assert_frame_equal(out[list(expected)], expected, check_exact=True)


def test_dates_give_days() -> None:
    dated = EXAMS.assign(day=pd.Timestamp("2020-01-01") + pd.to_timedelta(EXAMS["day"] * 12, unit="h"))
    out = pcg.prior_exam(dated, id="patient", time="day", features=["area"])
    expected = pcg.prior_exam(EXAMS, id="patient", time="day", features=["area"])
    np.testing.assert_array_equal(out["d_area"], expected["d_area"])
    np.testing.assert_array_equal(out["since_prior"], expected["since_prior"] / 2)


def test_it_predicts() -> None:
    rng = np.random.default_rng(5)
    n = 120
    exams = pd.DataFrame(
        {
            "patient": np.tile(np.arange(n // 2), 2),
            "site": np.tile(np.repeat(list("abc"), n // 6), 2),
            "day": np.repeat([0, 300], n // 2),
            "volume": rng.normal(size=n),
            "time": rng.integers(1, 900, n),
            "dead": rng.integers(0, 2, n),
        }
    )
    table = pcg.prior_exam(exams, id=["patient", "site"], time="day", features=["volume"])
    features = ["volume", "d_volume", "has_prior", "since_prior"]
    model = pcg.Predictor(
        "Surv(time, dead) ~ 1", batch="site", id=["patient", "day"], features=features, horizons=(365,)
    )
    assert np.isfinite(model.fit(table).predict(table)["risk_365"]).all()


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        ({"day": [10, 5, 10, 20, 1, 3]}, {}, DataError, r"2 rows \(index 10, 12\) share id \(patient\) and time"),
        ({"day": [1, 5, np.nan, 20, 1, 3]}, {}, DataError, r"time column 'day' has missing values in 1 row \(index 12"),
        ({"day": [1, 5, np.inf, 20, 1, 3]}, {}, DataError, r"time column 'day' is not finite in 1 row"),
        ({"day": list("abcdef")}, {}, DataError, "give numbers, or dates by pd.to_datetime"),
        ({"patient": ["a", None, "a", "a", "c", "b"]}, {}, DataError, r"patient have missing values in 1 row"),
        ({"d_volume": 0.0}, {}, DataError, "the table has columns d_volume already"),
        ({}, {"id": []}, OptionError, "tell patients apart"),
        ({}, {"id": "pateint"}, DataError, "did you mean 'patient'"),
        ({}, {"time": ["day"]}, OptionError, "give the column of the exams' times"),
        ({}, {"time": "dya"}, DataError, "time column 'dya' is not in the table"),
        ({}, {"features": []}, OptionError, "give the columns to compare"),
        ({}, {"features": ["volume", "day"]}, (DataError, OptionError), "day"),
        ({}, {"features": ["size"]}, (DataError, OptionError), "size"),
    ],
)
def test_bad_input(change: dict[str, Any], options: dict[str, Any], error: Any, message: str) -> None:
    arguments = {"id": "patient", "time": "day", "features": ["volume"], **options}
    with pytest.raises(error, match=message):
        pcg.prior_exam(EXAMS.assign(**change), **arguments)
