"""Functions that learn: their states travel as plain data, new rows change nothing, and a spoiled state is refused."""

from __future__ import annotations

import copy
import json
import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from pycombat_gam.design.design import Design
from pycombat_gam.errors import DataError, DesignError, FormulaError, ModelFileError, PcgError


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    n = 60
    return pd.DataFrame(
        {
            "age": rng.uniform(20, 60, n),
            "icv": rng.uniform(1, 2, n),
            "sex": rng.choice(["F", "M"], n),
            "dx": rng.choice(["ADHD", "TC", "X"], n),
            "scan": rng.choice([1, 2, 10], n),
            "y": rng.normal(size=n),
        },
        index=[f"sub-{i}" for i in range(n)],
    )


EVERYTHING = (
    "~ cut(age, c(-Inf, 30, Inf)) + cut(icv, 3, labels = c('low', 'mid', 'high')) + cut(age, 4, labels = FALSE) "
    "+ interaction(sex, scan, drop = TRUE) + I((age - mean(age))^2/var(age)) + ifelse(icv > median(icv), 'b', 's') "
    "+ as.character(scan):age + factor(dx, levels = c('X', 'TC', 'ADHD'), labels = c('x', 't', 'a')) "
    "+ as.ordered(scan) + relevel(dx, ref = 3) + I(scan %in% c(1, 2)) + splines::ns(age, df = 3) "
    "+ offset(scale(icv)*max(age))"
)


def test_saved_and_read_again(table: pd.DataFrame) -> None:
    design = Design.learn(EVERYTHING, table, absorb_intercept=True)
    again = Design.from_dict(json.loads(json.dumps(design.to_dict(), allow_nan=False)))
    assert again.columns == design.columns and again.to_dict() == design.to_dict()
    for rows in (table, table.iloc[[7]], table.iloc[::-5]):
        np.testing.assert_array_equal(again.on(rows), design.on(table.loc[rows.index]))
        np.testing.assert_array_equal(again.offset(rows), design.offset(table.loc[rows.index]))
    whole, offset = design.on(table), design.offset(table)
    for i in (0, 30, 59):
        # A product of one row and of many differ in the last digit.
        np.testing.assert_allclose(again.on(table.iloc[[i]])[0], whole[i], rtol=1e-14)
        assert again.offset(table.iloc[[i]])[0] == offset[i]


def test_levels_are_those_of_the_fit(table: pd.DataFrame) -> None:
    design = Design.learn(
        "~ cut(age, c(0, 30, 99)) + interaction(dx, sex) + relevel(dx, 'TC')", table, absorb_intercept=False
    )
    assert design.columns == (
        *("(Intercept)", "cut(age, c(0, 30, 99))(30,99]"),
        *(f"interaction(dx, sex){cell}" for cell in ("TC.F", "X.F", "ADHD.M", "TC.M", "X.M")),
        *('relevel(dx, "TC")ADHD', 'relevel(dx, "TC")X'),
    )


_GONE = object()
SPOILED: list[tuple[list[str], Any]] = [
    (["states", "cut(age, c(-Inf, 30, Inf))"], _GONE),
    (["states", "cut(age, c(-Inf, 30, Inf))", "open"], [True]),
    (["states", "cut(age, c(-Inf, 30, Inf))", "open"], "yes"),
    (["states", "cut(age, c(-Inf, 30, Inf))", "open"], [False, False]),
    (["states", "cut(age, c(-Inf, 30, Inf))", "breaks"], [math.inf]),
    (["states", "cut(age, c(-Inf, 30, Inf))", "breaks"], [30.0, 30.0]),
    (["states", "cut(age, c(-Inf, 30, Inf))", "breaks"], list(range(5000))),
    (["states", "cut(age, c(-Inf, 30, Inf))", "labels"], ["a", "a"]),
    (["states", "cut(age, c(-Inf, 30, Inf))", "labels"], ["a"]),
    (["states", "cut(age, c(-Inf, 30, Inf))", "labels"], []),
    (["states", "cut(age, c(-Inf, 30, Inf))", "right"], 1),
    (["states", "cut(age, c(-Inf, 30, Inf))", "more"], 1),
    (["states", "cut(age, c(-Inf, 30, Inf))"], "__import__('os')"),
    (["states", "mean(age)", "value"], math.nan),
    (["states", "mean(age)", "value"], "3"),
    (["states", "mean(age)", "value"], True),
    (["states", "mean(age)", "value"], 10**400),
    (["states", "mean(age)", "code"], "os.system"),
    (["states", "mean(age)"], _GONE),
    (["states", "interaction(sex, scan)", "levels"], ["F.1"]),
    (["states", "interaction(sex, scan)", "levels"], ["F.1", "M.2"]),
    (["states", "interaction(sex, scan)", "levels"], "F.1"),
    (["states", 'factor(dx, labels = c("a", "t", "x"))', "levels"], ["ADHD", "TC"]),
    (["factors", 'factor(dx, labels = c("a", "t", "x"))', "levels"], ["ADHD", "TC", "X"]),
    (["offset"], _GONE),
    (["offset"], {}),
    (["offset"], [1]),
    (["offset", "factors"], {}),
    (["offset", "factors", "scale(icv)"], {"columns": 2}),
    (["offset", "states", "scale(icv)", "scale"], 0),
    (["offset", "states", "more"], {}),
    (["formula"], "~ cut(age, c(-Inf, 30, Inf))"),
]


@pytest.mark.parametrize(("path", "value"), SPOILED)
def test_a_spoiled_state_is_refused(table: pd.DataFrame, path: list[str], value: Any) -> None:
    formula = (
        "~ cut(age, c(-Inf, 30, Inf)) + I(age - mean(age)) + interaction(sex, scan) "
        "+ factor(dx, labels = c('a', 't', 'x')) + offset(scale(icv))"
    )
    data = copy.deepcopy(Design.learn(formula, table, absorb_intercept=True).to_dict())
    place = data
    for key in path[:-1]:
        place = place[key]
    if value is _GONE:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises((FormulaError, ModelFileError)) as caught:
        Design.from_dict(data)
    assert "\n" not in str(caught.value)


def test_an_offset_that_the_formula_has_not_is_refused(table: pd.DataFrame) -> None:
    data = Design.learn("~ age", table, absorb_intercept=True).to_dict()
    with pytest.raises(ModelFileError, match="hold an offset where its formula has one"):
        Design.from_dict({**data, "offset": {"factors": {}, "states": {}}})


REFUSED: list[tuple[str, type[PcgError], str]] = [
    ("~ cut(age, c(30, 40))", DataError, "has no interval for"),
    ("~ cut(age)", FormulaError, "cut() needs breaks, as in breaks = c(20, 40, 60), or breaks = 3"),
    ("~ cut(age, 1)", FormulaError, "the number of intervals must be a whole number from 2"),
    ("~ cut(age, c(1, 1, 2))", FormulaError, "two breaks are equal"),
    ("~ cut(age, c(0, 30, 99), labels = 'a')", FormulaError, "labels must be 2 different texts"),
    ("~ cut(age, c(0, 30, 99), labels = c(1, 2))", FormulaError, "labels must be texts"),
    ("~ cut(age, c(0, 99))", DesignError, "has only one level"),
    ("~ cut(sex, 3)", DataError, "needs numbers, but sex holds text or groups"),
    ("~ mean(age)", FormulaError, "mean(age) is one number for all rows; use it in an expression"),
    ("~ I(age - mean(sex))", DataError, "needs numbers, but sex holds text"),
    ("~ ifelse(sex, 1, 2)", DataError, "needs numbers, but sex holds text"),
    ("~ ifelse(age > 30, 'a', 1)", FormulaError, "chooses between two numbers or two texts"),
    ("~ ifelse(age > 30, sex, dx)", FormulaError, "chooses between two numbers or two texts"),
    ("~ I(age %in% c('a', 'b'))", FormulaError, "age is a number; list numbers on the right"),
    ("~ relevel(dx, ref = 7)", FormulaError, 'a number counts the levels, 1 to 3; name one, as in ref = "ADHD"'),
    (
        "~ factor(dx, labels = c('a', 'b'))",
        FormulaError,
        "2 labels for 3 levels ('ADHD', 'TC', 'X'); give one for each",
    ),
    ("~ factor(dx, labels = c('a', 'a', 'b'))", FormulaError, "two labels are equal"),
    ("~ interaction(dx, sex, sep = 3)", FormulaError, 'sep must be text, as in sep = "."'),
    ("~ as.integer(dx)", DataError, "needs numbers, but dx holds text"),
    ("~ round(age, 1.5)", FormulaError, "digits must be a whole number"),
]


@pytest.mark.parametrize(("formula", "error", "message"), REFUSED)
def test_refused(table: pd.DataFrame, formula: str, error: type[PcgError], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        Design.learn(formula, table, absorb_intercept=True)


def test_new_rows(table: pd.DataFrame) -> None:
    design = Design.learn("~ cut(age, 3) + interaction(dx, scan)", table, absorb_intercept=True)
    with pytest.raises(DataError, match=r"cut\(age, 3\) has no interval for 1 row \(index sub-1\) \(99.0\); widen the"):
        design.on(table.iloc[[1]].assign(age=99.0))
    with pytest.raises(DataError, match=r"interaction\(dx, scan\) has levels not known from the fit: 'TC.3'"):
        design.on(table.iloc[[1]].assign(dx="TC", scan=3))


@pytest.mark.parametrize(
    "group", ["interaction(dx, scan)", "factor(dx, labels = c('a', 't', 'x'))", "relevel(factor(scan), '2')"]
)
def test_an_unknown_level_of_a_random_effect_is_zero(table: pd.DataFrame, group: str) -> None:
    fit = pcg.gam(f"y ~ age + (1 | {group})", table)
    new = table.iloc[[1]].assign(dx="new", scan=3)
    with pytest.warns(pcg.PcgWarning, match="the random effect is taken as zero there"):
        value = fit.predict(new)
    # A sum of two terms: rounding.
    assert value.iloc[0] == pytest.approx(fit.coef["(Intercept)"] + fit.coef["age"] * new["age"].iloc[0], rel=1e-12)
