"""What `gam` refuses, and how it says so: one line, naming the culprit and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from pycombat_gam.errors import DataError, DesignError, FormulaError, NotYetError, OptionError, PcgError


def table() -> pd.DataFrame:
    generator = np.random.default_rng(5)
    n = 60
    return pd.DataFrame(
        {
            "x": generator.uniform(0, 10, n),
            "z": generator.normal(size=n),
            "few": generator.integers(0, 4, n).astype(float),
            "g": np.array(list("abc"))[np.arange(n) % 3],
            "y": generator.normal(size=n),
            "y2": generator.normal(size=n),
            "flat": np.full(n, 2.5),
        }
    )


def same(data: pd.DataFrame) -> pd.DataFrame:
    return data


def put(column: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(data: pd.DataFrame) -> pd.DataFrame:
        data.loc[3, column] = value
        return data

    return change


def one_level(data: pd.DataFrame) -> pd.DataFrame:
    return data.assign(h="u")


TWO_KNOTS = {"knots": {"x": [0, 1]}}


@dataclass(frozen=True)
class Refused:
    name: str
    formula: str
    error: type[PcgError]
    says: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    change: Callable[[pd.DataFrame], pd.DataFrame] = same


REFUSED = [
    Refused("k above the distinct values", "y ~ s(few)", DesignError, ("k=10", "few has 4 distinct", "k=4 or fewer")),
    Refused("k above them, cr", "y ~ s(few, bs='cr', k=6)", DesignError, ("k=6", "4 distinct values")),
    Refused("k too small", "y ~ s(x, bs='cr', k=2)", FormulaError, ("k=2 is too small", "at least 3")),
    Refused("k no number", "y ~ s(x, k='ten')", FormulaError, ("k must be a whole number",)),
    Refused("more columns than rows", "y ~ s(x, k=40) + s(z, k=40)", DesignError, ("saturated", "60 rows")),
    Refused("smooth of a factor", "y ~ s(g)", FormulaError, ("g is a factor", "bs='re'", "by=g")),
    Refused("tensor of a factor", "y ~ te(x, g)", FormulaError, ("g is a factor",)),
    Refused("basis misspelled", "y ~ s(x, bs='ct')", FormulaError, ("'ct'", "tp, ts, cr")),
    Refused("basis elsewhere", "y ~ s(x, bs='gp')", NotYetError, ("'gp' is not here yet", "tp, ts")),
    Refused("basis a number", "y ~ s(x, bs=1)", FormulaError, ("there is no basis 1",)),
    Refused("by absent", "y ~ s(x, by=sex)", DataError, ("sex", "not a column")),
    Refused("column absent", "y ~ s(xx)", DataError, ("xx", "not a column")),
    Refused("infinite covariate", "y ~ s(x)", DataError, ("'x'", "infinite"), change=put("x", np.inf)),
    Refused("infinite response", "y ~ s(x)", DataError, ("'y'", "infinite"), change=put("y", np.inf)),
    Refused("correlated slopes", "y ~ (x|g)", NotYetError, ("(x || g)",)),
    Refused("sp of another length", "y ~ s(x) + s(z)", OptionError, ("sp holds 1", "s(x)"), {"sp": [1.0]}),
    Refused("sp NaN", "y ~ s(x)", OptionError, ("sp",), {"sp": [np.nan]}),
    Refused("sp in the term", "y ~ te(x, z, k=3, sp=1)", FormulaError, ("sp holds 1", "2 penalties")),
    Refused("method", "y ~ s(x)", OptionError, ("'REMl'", "did you mean 'REML'"), {"method": "REMl"}),
    Refused("gamma", "y ~ s(x)", OptionError, ("gamma=0",), {"gamma": 0}),
    Refused("select", "y ~ s(x)", OptionError, ("select='yes'",), {"select": "yes"}),
    Refused("weights negative", "y ~ s(x)", DataError, ("weights are negative", "60 rows"), {"weights": -np.ones(60)}),
    Refused("weights too few", "y ~ s(x)", OptionError, ("weights", "60"), {"weights": [1.0, 2.0]}),
    Refused("weights text", "y ~ s(x)", DataError, ("'g'", "not numeric"), {"weights": "g"}),
    Refused("offset absent", "y ~ s(x)", DataError, ("off",), {"offset": "off"}),
    Refused("no response", "~ s(x)", FormulaError, ("no response", "responses=")),
    Refused("response twice", "y ~ s(x)", FormulaError, ("leave one",), {"responses": ["y2"]}),
    Refused("pattern matches nothing", "~ s(x)", OptionError, ("'^q'", "no column"), {"responses": "^q"}),
    Refused("pattern broken", "~ s(x)", OptionError, ("regular expression",), {"responses": "(("}),
    Refused("response absent", "~ s(x)", OptionError, ("'yy'", "did you mean"), {"responses": ["yy"]}),
    Refused("response text", "g ~ s(x)", PcgError, ("g",)),
    Refused("response constant", "flat ~ s(x)", DataError, ("constant", "flat")),
    Refused("one of many constant", "~ s(x)", DataError, ("constant", "flat"), {"responses": ["y", "flat"]}),
    Refused("curve beside its line", "y ~ x + s(x)", DesignError, ("'s(x)'", "collinear", "'x'")),
    Refused("curve beside its levels", "y ~ s(x) + s(x, by=g)", DesignError, ("collinear", "'s(x)'")),
    Refused("constant by", "y ~ s(x, by=flat) + s(x)", DesignError, ("s(x)",)),
    Refused(
        "factor of one level",
        "y ~ s(x, by=h) + h",
        DesignError,
        ("h has only one level",),
        change=lambda d: d.assign(h="u"),
    ),
    Refused(
        "knots of another number",
        "y ~ s(x, bs='cr', k=5)",
        FormulaError,
        ("2 knots", "give 5"),
        {"knots": {"x": [0, 1]}},
    ),
    Refused("knots that do not cover", "y ~ s(x, bs='ps')", FormulaError, ("outside",), {"knots": {"x": [3, 4]}}),
    Refused("knots of no smooth", "y ~ s(x)", OptionError, ("'q'",), {"knots": {"q": [3, 4]}}),
    Refused("m of cr-like ps", "y ~ s(x, bs='ps', m=c(1.5, 2))", FormulaError, ("m=[1.5, 2.0]",)),
    Refused("m of bs", "y ~ s(x, bs='bs', m=c(2, 3))", FormulaError, ("m=[2, 3]", "derivative orders")),
    Refused("tensor k", "y ~ te(x, z, k=c(3, 4, 5))", FormulaError, ("k holds 3", "2 margins")),
    Refused("tensor bs", "y ~ te(x, z, bs=c('cr', 'ps', 'tp'))", FormulaError, ("bs holds 3",)),
    Refused("tensor m", "y ~ te(x, z, bs='ps', m=list(c(2, 2)))", FormulaError, ("m lists 1", "2 margins")),
    Refused("tensor d", "y ~ te(x, z, d=c(2, 1))", FormulaError, ("d=[2, 1]",)),
    Refused("tensor twice", "y ~ te(x, x)", FormulaError, ("names a variable twice",)),
    Refused("fs in a tensor", "y ~ te(x, z, bs='fs')", FormulaError, ("'fs'",)),
    Refused("fs without a factor", "y ~ s(x, z, bs='fs')", FormulaError, ("one factor",)),
    Refused("cr of two", "y ~ s(x, z, bs='cr')", FormulaError, ("takes one variable", "te()")),
    Refused("pc too long", "y ~ s(x, pc=c(1, 2))", FormulaError, ("pc holds 2",)),
    Refused("ids of two bases", "y ~ s(x, id=1) + te(x, z, id=1)", PcgError, ("id=1",)),
    Refused("xt unknown", "y ~ s(x, xt=list(depth=2))", FormulaError, ("xt may hold",)),
    Refused("weights all zero", "y ~ s(x)", DataError, ("no row",), {"weights": np.zeros(60)}),
]


@pytest.mark.parametrize("case", REFUSED, ids=[case.name for case in REFUSED])
def test_refused(case: Refused) -> None:
    data = case.change(table())
    before = data.copy(deep=True)
    with pytest.raises(PcgError) as caught:
        pcg.gam(case.formula, data, **case.options)
    message = str(caught.value)
    assert isinstance(caught.value, case.error), message
    assert "\n" not in message
    for words in case.says:
        assert words in message, message
    pd.testing.assert_frame_equal(data, before)


def test_rows_with_missing_cells_are_left_out_and_counted() -> None:
    data = table()
    data.loc[[2, 7], "x"] = np.nan
    data.loc[7, "y"] = np.nan
    with pytest.warns(pcg.PcgWarning, match="2 rows of 60 left out for missing values"):
        fit = pcg.gam("y ~ s(x)", data)
    whole = pcg.gam("y ~ s(x)", data.drop([2, 7]))
    assert fit.n == 58
    np.testing.assert_array_equal(fit.coef, whole.coef)


def test_responses_keep_their_own_rows() -> None:
    data = table()
    data.loc[[2, 7], "y2"] = np.nan
    with pytest.warns(pcg.PcgWarning, match="0 to 2 rows of 60"):
        fits = pcg.gam("~ s(x)", data, responses=["y", "y2"])
    assert (fits["y"].n, fits["y2"].n) == (60, 58)
    np.testing.assert_array_equal(fits["y2"].coef, pcg.gam("y2 ~ s(x)", data.dropna()).coef)


@pytest.mark.parametrize("formula", ["y ~ s(x) + (1|g)", "y ~ s(x) + s(g, bs='re')", "y ~ s(x, g, bs='fs', k=4)"])
def test_unknown_levels_of_random_effects_are_zero(formula: str) -> None:
    data = table()
    fit = pcg.gam(formula, data)
    new = data.head(3).assign(g=["a", "new", "b"])
    with pytest.warns(pcg.PcgWarning, match="levels not known from the fit in 1 row"):
        predicted = fit.predict(new)
    last = list(fit.design.term_slices)[-1]
    # Rounding of a product of some ten columns.
    np.testing.assert_allclose(predicted.iloc[1], fit.predict(data.head(3), exclude=last).iloc[1], rtol=1e-12)
    np.testing.assert_allclose(predicted.iloc[0], fit.predict(data.head(1).assign(g="a")).iloc[0], rtol=1e-12)


@pytest.mark.filterwarnings("ignore:.*adds nothing to the other terms:pycombat_gam.errors.PcgWarning")
@pytest.mark.parametrize("formula", ["y ~ s(x) + g", "y ~ s(x, by=g) + g", "y ~ s(x) + g + (1|g)"])
def test_unknown_levels_of_fixed_factors_are_an_error(formula: str) -> None:
    data = table()
    fit = pcg.gam(formula, data)
    with pytest.raises(DataError, match="new"):
        fit.predict(data.head(2).assign(g="new"))
