"""Rubin's rules against numbers of R, the forms that results come in, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from pycombat_gam.errors import DataError, OptionError

R = {
    # Q, U, dfcom: qbar, sqrt(t), df, p, fmi by the formulas of mice 3.16 (pool.scalar, barnard.rubin), in R 4.
    "few rows": (
        [1.0, 1.2, 0.9],
        [0.04, 0.05, 0.045],
        40.0,
        [1.0333333333333332, 0.2758824226207808, 7.8193056599195554, 0.0058981030326952, 0.5180528060477336],
    ),
    "many rows": (
        [1.0, 1.2, 0.9],
        [0.04, 0.05, 0.045],
        np.inf,
        [1.03333333333333321, 0.27588242262078078, 11.97002551020409022, 0.00280518539420809, 0.48774908646399440],
    ),
    "five tables": (
        [-2.1, -1.7, -2.6, -2.0, -2.2],
        [0.3, 0.28, 0.35, 0.31, 0.29],
        17.0,
        [-2.12, 0.6590902821313632, 8.7239689040932884, 0.0109807481478285, 0.4157475888085836],
    ),
}
COLUMNS = ["estimate", "se", "df", "p", "fraction_missing"]


@pytest.mark.parametrize("case", R)
def test_pool_is_mice_s(case: str) -> None:
    Q, U, df, expected = R[case]
    pooled = pcg.pool(Q, U, df)
    assert list(pooled.columns) == ["feature", *COLUMNS]
    # R prints fifteen digits.
    np.testing.assert_allclose(pooled[COLUMNS].to_numpy()[0], expected, rtol=1e-12)


def test_many_features_are_pooled_one_by_one() -> None:
    rng = np.random.default_rng(1)
    Q, U = rng.normal(size=(6, 4)), rng.uniform(0.5, 2.0, size=(6, 4))
    df = np.array([5.0, 10.0, 20.0, 1e6])
    names = ["a", "b", "c", "d"]
    together = pcg.pool(pd.DataFrame(Q, columns=names), pd.DataFrame(U, columns=names), df)
    assert together["feature"].to_list() == names
    for k in range(4):
        alone = pcg.pool(Q[:, k], U[:, k], df[k])
        np.testing.assert_array_equal(alone[COLUMNS].to_numpy()[0], together[COLUMNS].to_numpy()[k])
    as_series = pcg.pool([pd.Series(row, names) for row in Q], [pd.Series(row, names) for row in U], df)
    pd.testing.assert_frame_equal(as_series, together)
    by_table = pcg.pool(Q, U, np.tile(df, (6, 1)))
    np.testing.assert_array_equal(by_table[COLUMNS], together[COLUMNS])
    assert pcg.pool(pd.Series(Q[:, 0], name="age"), U[:, 0])["feature"].to_list() == ["age"]
    assert pcg.pool(list(Q[:, 0]), list(U[:, 0]))["feature"].to_list() == ["x0"]


def test_tables_that_agree_miss_nothing() -> None:
    pooled = pcg.pool([2.0, 2.0, 2.0], [1.0, 1.0, 1.0], 30).iloc[0]
    assert pooled["se"] == 1.0
    assert pooled["fraction_missing"] == 0.0
    # Barnard and Rubin's degrees of one complete table: (ν + 1)/(ν + 3) ν.
    assert pooled["df"] == pytest.approx(31 / 33 * 30, rel=1e-4)


def test_all_is_missing_where_one_table_would_be_certain() -> None:
    pooled = pcg.pool([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]).iloc[0]
    assert pooled["fraction_missing"] == 1.0
    assert pooled["df"] == pytest.approx(2.0)
    assert pooled["se"] == pytest.approx(np.sqrt(4 / 3))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([1.0], [1.0]), OptionError, "at least two tables"),
        (([1.0, 2.0], [1.0, 2.0, 3.0]), OptionError, "2 × 1, variances 3 × 1"),
        (([1.0, np.nan], [1.0, 1.0]), DataError, "estimates of x0 are not finite"),
        (([1.0, 2.0], [1.0, -1.0]), DataError, "variances of x0 are negative or not finite, such as -1.0"),
        (([1.0, 2.0], [1.0, 1.0], 0), OptionError, "df must be positive"),
        (([1.0, 2.0], [1.0, 1.0], [3.0, 4.0, 5.0]), OptionError, "df is of shape"),
        ((["a", "b"], [1.0, 1.0]), OptionError, "estimates must be numbers"),
        (([], []), OptionError, "estimates have"),
        (
            (pd.DataFrame({"a": [1.0, 2.0], "b": [1.0, 2.0]}), pd.DataFrame({"b": [1.0, 2.0], "a": [1.0, 2.0]})),
            OptionError,
            "estimates are of a, b, variances of b, a",
        ),
    ],
)
def test_refused(arguments: tuple[object, ...], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        pcg.pool(*arguments)
