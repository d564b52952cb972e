"""Designs: columns, new rows, saved state, and what is refused."""

from __future__ import annotations

import copy
import json

import numpy as np
import pandas as pd
import patsy
import pytest

from pycombat_gam.design.design import Design
from pycombat_gam.errors import DataError, DesignError, FormulaError, ModelFileError, NotYetError, PcgError


@pytest.fixture
def table():
    rng = np.random.default_rng(3)
    n = 30
    return pd.DataFrame(
        {
            "age": rng.uniform(20, 60, n),
            "icv": rng.normal(1500, 100, n),
            "sex": ["F", "M"] * 15,
            "dx": ["TC", "Autism", "ADHD"] * 10,
            "scan": [1, 2, 10] * 10,
            "dose": [0.5, 2.0, 100000.0] * 10,
            "smoker": [True, False, False] * 10,
            "stage": pd.Categorical(["mid", "lo", "hi"] * 10, ["lo", "mid", "hi", "never"], ordered=True),
            "5th-Ventricle": rng.normal(size=n),
        },
        index=[f"sub-{i}" for i in range(n)],
    )


EVERYTHING = (
    "~ age*sex + poly(icv, 3) + bs(age, df=5) + ns(icv, df=3):dx + cr(age, df=4) + scale(icv) + center(age) - 1 "
    "+ factor(scan) + C(dx, contr.sum) + C(sex, Treatment('M')) + C(dx, contr.treatment, base=2) + smoker "
    "+ stage + relevel(factor(dx), ref='TC') + I(poly(age, 2)) + `5th-Ventricle` + log(scale(icv) + 10) "
    "+ (age > 30)"
)


def test_columns_slices_and_values(table):
    design = Design.learn("~ age + sex:dx + dx - 1", table, absorb_intercept=False)
    assert design.columns == (
        "age",
        "dxADHD",
        "dxAutism",
        "dxTC",
        "sexM:dxADHD",
        "sexM:dxAutism",
        "sexM:dxTC",
    )
    assert design.term_slices == {"age": slice(0, 1), "dx": slice(1, 4), "sex:dx": slice(4, 7)}
    matrix = design.on(table)
    assert matrix.dtype == np.float64 and matrix.flags.c_contiguous and matrix.shape == (30, 7)
    np.testing.assert_array_equal(matrix[:, 0], table["age"])
    np.testing.assert_array_equal(matrix[:, 6], (table["sex"] == "M") & (table["dx"] == "TC"))


def test_absorbed_intercept(table):
    for text in ("~ age + sex", "~ age + sex - 1", "~ 0 + age + sex"):
        design = Design.learn(text, table, absorb_intercept=True)
        assert design.columns == ("age", "sexM")
    empty = Design.learn("~ 1", table, absorb_intercept=True)
    assert empty.on(table).shape == (30, 0) and empty.columns == ()
    assert Design.learn("~ 1", table, absorb_intercept=False).on(table).tolist() == [[1.0]] * 30


def test_levels(table):
    design = Design.learn("~ stage + smoker + factor(scan) + factor(dose)", table, absorb_intercept=True)
    assert design.columns == (
        *("stagemid", "stagehi", "smokerTRUE", "factor(scan)2", "factor(scan)10"),
        *("factor(dose)2", "factor(dose)1e+05"),
    )


def test_any_rows_give_the_same_columns(table):
    design = Design.learn(EVERYTHING, table, absorb_intercept=True)
    whole = design.on(table)
    for rows in ([4], [0, 3, 6], list(range(29, -1, -1))):
        # Products in blocks of another size: rounding.
        np.testing.assert_allclose(design.on(table.iloc[rows]), whole[rows], rtol=1e-14, atol=1e-14)
    assert design.on(table.iloc[:0]).shape == (0, len(design.columns))


def test_json_round_trip_is_exact(table):
    for absorb in (True, False):
        design = Design.learn(EVERYTHING, table, absorb_intercept=absorb)
        again = Design.from_dict(json.loads(json.dumps(design.to_dict(), allow_nan=False)))
        assert again.columns == design.columns and again.term_slices == design.term_slices
        assert again.formula == design.formula and again.to_dict() == design.to_dict()
        wide = table.assign(age=table["age"] * 2, icv=table["icv"] * 1.5)
        for rows in (table, wide, table.iloc[[7]]):
            np.testing.assert_array_equal(again.on(rows), design.on(rows))


def test_only_the_columns_used_are_touched(table):
    class Untouchable:
        def __getattr__(self, name):
            raise AssertionError(name)

    wide = pd.concat([table, pd.DataFrame(np.full((30, 5000), np.nan), index=table.index)], axis=1)
    wide["poison"] = pd.Series([Untouchable] * 30, index=table.index, dtype=object)
    assert Design.learn("~ age + sex", wide, absorb_intercept=True).on(wide).shape == (30, 2)


def test_cr_is_patsy_s(table):
    design = Design.learn("~ cr(age, df=5)", table, absorb_intercept=True)
    theirs = patsy.dmatrix("cr(age, df=5, constraints='center') - 1", table)
    # These: centring by other sums: rounding of numbers of size one.
    np.testing.assert_allclose(design.on(table), theirs, atol=1e-12)
    np.testing.assert_allclose(design.on(table).sum(axis=0), 0, atol=1e-12)
    new = pd.DataFrame({"age": [0.0, 20, 45, 90]})
    again = patsy.build_design_matrices([theirs.design_info], new)[0]
    # As above.
    np.testing.assert_allclose(design.on(new), again, atol=1e-12)


def test_splines_have_full_rank_and_hold_no_intercept(table):
    for text in ("bs(age, df=6)", "ns(age, df=4)", "cr(age, df=4)", "poly(age, 4)"):
        matrix = Design.learn(f"~ {text}", table, absorb_intercept=False).on(table)
        assert np.linalg.matrix_rank(matrix) == matrix.shape[1]


@pytest.mark.parametrize(
    ("column", "value", "equal_to"),
    [
        ("scan", "2", 2),
        ("scan", 2.0, 2),
        ("scan", "2.0", 2),
        ("scan", np.int8(2), 2),
        ("smoker", "TRUE", True),
        ("smoker", "False", False),
        ("smoker", 1, True),
        ("age", True, 1.0),
        ("dose", "100000", 100000.0),
        ("dose", 100000, 1e5),
    ],
)
def test_the_same_level_in_another_spelling(table, column, value, equal_to):
    design = Design.learn("~ age + factor(scan) + smoker + factor(dose)", table, absorb_intercept=True)
    row = table.iloc[[1]].drop(columns=column)
    np.testing.assert_array_equal(design.on(row.assign(**{column: value})), design.on(row.assign(**{column: equal_to})))


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "int8", "float32", "object"])
def test_numeric_types(table, dtype):
    design = Design.learn("~ scan + factor(scan)", table.astype({"scan": dtype}), absorb_intercept=True)
    np.testing.assert_array_equal(
        design.on(table), Design.learn("~ scan + factor(scan)", table, absorb_intercept=True).on(table)
    )


@pytest.mark.parametrize("dtype", ["string", "category", "object", "str"])
def test_text_types(table, dtype):
    design = Design.learn("~ sex", table.astype({"sex": dtype}), absorb_intercept=True)
    np.testing.assert_array_equal(design.on(table)[:, 0], table["sex"] == "M")


def spoil(table, **columns):
    return table.assign(**columns)


def _with(n, **cells):
    """n cells, given ones at given places."""
    values = [float(i) for i in range(1, n + 1)]
    for place, value in cells.items():
        values[int(place[1:])] = value
    return values


BAD_TABLES = [
    ("~ aeg", {}, DataError, "the formula uses aeg, which is not a column of the table; did you mean 'age'?"),
    (
        "~ `5th-ventricle`",
        {},
        DataError,
        "uses `5th-ventricle`, which is not a column of the table; did you mean",
    ),
    (
        "~ x",
        {"x": _with(30, _2=np.nan, _4=np.nan)},
        DataError,
        "missing values in 2 rows (index sub-2, sub-4)",
    ),
    ("~ x", {"x": ["a", None] * 15}, DataError, "column 'x' has missing values in 15 rows"),
    ("~ x", {"x": _with(30, _3=np.inf)}, DataError, "column 'x' is infinite in 1 row (index sub-3)"),
    ("~ x", {"x": ["a"] * 30}, DesignError, "x has only one level ('a'); remove it"),
    ("~ factor(x)", {"x": [3] * 30}, DesignError, "factor(x) has only one level ('3'); remove it"),
    ("~ x", {"x": [True] * 30}, DesignError, "x has only one level ('TRUE')"),
    ("~ age > 1", {}, DesignError, "age > 1 has only one level ('TRUE')"),
    (
        "~ log(x)",
        {"x": _with(30, _1=-1.0, _5=0.0)},
        DataError,
        "log(x) is not finite in 2 rows (index sub-1, sub-5)",
    ),
    ("~ log(x)", {"x": _with(30, _1=-1.0)}, DataError, "where x: -1.0"),
    ("~ I(log(x) > 0)", {"x": _with(30, _1=-1.0)}, DataError, "log(x) is not finite in 1 row"),
    ("~ poly(log(x), 2)", {"x": _with(30, _1=-1.0)}, DataError, "log(x) is not finite in 1 row"),
    ("~ exp(icv)", {}, DataError, "exp(icv) is not finite in 30 rows"),
    ("~ poly(scan, 3)", {}, DesignError, "poly(scan, 3): degree 3 needs more than 3 unique values"),
    ("~ poly(age, 26)", {}, FormulaError, "degree 26 is too high; at most 25"),
    ("~ poly(age, 0)", {}, FormulaError, "degree 0 is too low"),
    ("~ bs(scan, df=8)", {}, DesignError, "a knot falls on or beyond the boundary (1 to 10)"),
    ("~ bs(age, df=2)", {}, FormulaError, "df 2 is not allowed; give a whole number from 3"),
    ("~ ns(age, df=2.5)", {}, FormulaError, "df must be a whole number"),
    ("~ ns(x, df=2)", {"x": [1] * 30}, DesignError, "the column has one unique value"),
    ("~ cr(age)", {}, FormulaError, "cr() needs df or knots"),
    ("~ cr(scan, df=3)", {}, DesignError, "do not fit between 3 unique values"),
    ("~ scale(x)", {"x": [1] * 30}, DesignError, "the column is constant, so it cannot be scaled"),
    ("~ log(sex)", {}, DataError, "log(sex) needs numbers, but sex holds text or groups ('F', 'M')"),
    (
        "~ x",
        {"x": ["20", "30", "40", "n/a", "50"] * 6},
        DataError,
        "4 of its 5 distinct values are numbers and 'n/a'",
    ),
    (
        "~ x",
        {"x": [1, "a", 2] * 10},
        DataError,
        "column 'x' mixes text with numbers or logicals ('a' in 10 rows",
    ),
    ("~ x", {"x": [1j] * 30}, DataError, "column 'x' holds complex numbers"),
    ("~ x", {"x": pd.to_datetime(["2020-01-01"] * 30)}, DataError, "column 'x' is of type datetime64"),
    ("~ x", {"x": [[1]] * 30}, DataError, "column 'x' holds list objects"),
    ("~ relevel(sex, ref='X')", {}, FormulaError, "'X' is not a level; the levels are 'F', 'M'"),
    ("~ relevel(sex)", {}, FormulaError, "relevel() needs a level"),
    ("~ factor(scan, levels=c(1, 2))", {}, DataError, "has a level not among those named: '10' in 10 rows"),
    ("~ C(sex, Treatment('Q'))", {}, FormulaError, "'Q' is not a level"),
    ("~ C(sex, contr.sum, base=2)", {}, FormulaError, "base= belongs to contr.treatment only"),
    ("~ C(sex, contr.treatment, base=3)", {}, FormulaError, "base must be the number of a level, 1 to 2"),
    ("~ as.numeric(stage)", {}, FormulaError, "in R this gives the numbers of the levels"),
    (
        "~ I(poly(age, 2)*2)",
        {},
        FormulaError,
        "poly(age, 2) has several columns, which cannot be computed with",
    ),
    ("~ I(age + NULL)", {}, FormulaError, "NULL cannot be computed with"),
    ("y ~ age", {}, FormulaError, "here it is one-sided, since the features are the responses: write '~ age'"),
    (
        "~ age + s(icv, bs='gp')",
        {},
        NotYetError,
        "mgcv's basis 'gp' is not here yet",
    ),
    ("~ (age|dx)", {}, NotYetError, "write (age || dx) for uncorrelated ones"),
]


@pytest.mark.parametrize(("formula", "columns", "error", "message"), BAD_TABLES)
def test_bad_tables_are_refused(table, formula, columns, error, message):
    with pytest.raises(error) as caught:
        Design.learn(formula, spoil(table, **columns), absorb_intercept=True)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


NEW_ROWS = [
    (
        {"dx": "Bipolar"},
        "dx has a level not known from the fit: 'Bipolar' in 1 row (index sub-1); known are 'ADHD'",
    ),
    ({"scan": 3}, "factor(scan) has a level not known from the fit: '3'"),
    ({"dx": 4.0}, "dx has a level not known from the fit: '4'"),
    ({"age": "old"}, "age holds text ('old'), but was a number in the fit; give numbers"),
    ({"age": np.nan}, "column 'age' has missing values in 1 row (index sub-1)"),
    ({"smoker": "yes"}, "smoker has a level not known from the fit: 'yes'"),
    ({"icv": -1.0}, "log(icv) is not finite in 1 row (index sub-1), where icv: -1.0"),
]


@pytest.mark.parametrize(("cells", "message"), NEW_ROWS)
def test_bad_new_rows_are_refused(table, cells, message):
    design = Design.learn("~ age + dx + factor(scan) + smoker + log(icv)", table, absorb_intercept=True)
    with pytest.raises(DataError) as caught:
        design.on(table.iloc[[1]].assign(**cells))
    assert message in str(caught.value)


def test_other_refusals(table):
    design = Design.learn("~ age", table, absorb_intercept=True)
    with pytest.raises(DataError, match="give a pandas DataFrame"):
        design.on(table.to_numpy())
    with pytest.raises(DataError, match="the table has 2 columns named 'age'"):
        design.on(pd.concat([table, table[["age"]]], axis=1))
    with pytest.raises(FormulaError, match="give it as text"):
        Design.learn(3, table, absorb_intercept=True)


def _edits():
    """Ways to spoil a saved design: a path and the value put there (or removed)."""
    remove = object()
    yield remove, [], None
    for path, value in [
        (["formula"], "~ __import__('os')"),
        (["formula"], "~ age"),
        (["formula"], 3),
        (["formula"], "~ s(age)"),
        (["formula"], remove),
        (["absorb_intercept"], 1),
        (["columns"], ["a"]),
        (["columns"], None),
        (["extra"], 1),
        (["factors"], []),
        (["factors", "age"], {"columns": 2}),
        (["factors", "age"], {"columns": 10**9}),
        (["factors", "age"], {"columns": True}),
        (["factors", "age"], "x"),
        (["factors", "sex", "levels"], ["F"]),
        (["factors", "sex", "levels"], ["F", "F"]),
        (["factors", "sex", "levels"], ["F", 1]),
        (["factors", "sex", "levels"], {"F": 1}),
        (["factors", "sex", "contrast"], "os.system"),
        (["factors", "sex", "contrast"], ["contr.sum"]),
        (["factors", "sex", "base"], 7),
        (["factors", "sex", "numbered"], 1),
        (["factors", "factor(scan)", "levels"], ["1", "2", "3"]),
        (["states"], None),
        (["states", "poly(icv, 3)"], remove),
        (["states", "poly(icv, 3)", "alpha"], [1.0]),
        (["states", "poly(icv, 3)", "alpha"], [float("nan")] * 3),
        (["states", "poly(icv, 3)", "norm2"], [1.0, 1.0, 0.0, 1.0, 1.0]),
        (["states", "poly(icv, 3)", "degree"], 10**9),
        (["states", "poly(icv, 3)", "alpha"], ["1"] * 3),
        (["states", "poly(icv, 3)", "alpha"], [10**400] * 3),
        (["states", "bs(age, df = 5)", "knots"], [3.0, 1.0]),
        (["states", "bs(age, df = 5)", "bounds"], [1.0]),
        (["states", "bs(age, df = 5)", "bounds"], [1.0, 2.0, 3.0]),
        (["states", "bs(age, df = 5)", "degree"], 10**6),
        (["states", "cr(age, df = 4)", "means"], [0.0] * 5),
        (["states", "scale(icv)", "scale"], 0),
        (["states", "scale(icv)", "scale"], True),
        (["states", "factor(scan)", "levels"], []),
        (["states", "more"], {}),
    ]:
        yield remove, path, value


@pytest.mark.parametrize(("remove", "path", "value"), list(_edits()))
def test_a_spoiled_saved_design_is_refused(table, remove, path, value):
    formula = "~ age + sex + factor(scan) + poly(icv, 3) + bs(age, df=5) + cr(age, df=4) + scale(icv)"
    data = copy.deepcopy(Design.learn(formula, table, absorb_intercept=True).to_dict())
    if path:
        place = data
        for key in path[:-1]:
            place = place[key]
        if value is remove:
            del place[path[-1]]
        else:
            place[path[-1]] = value
    else:
        data = [data]
    with pytest.raises(PcgError) as caught:
        Design.from_dict(data)
    assert isinstance(caught.value, (FormulaError, ModelFileError, NotYetError))
    assert "\n" not in str(caught.value)


def test_repr_can_be_checked_by_eye(table):
    design = Design.learn("~ poly(age, 2) + dx:sex", table, absorb_intercept=False)
    assert repr(design).splitlines() == [
        "Design ~poly(age, 2) + dx:sex: 9 columns",
        "  term          kind             columns  levels",
        "  (Intercept)   intercept              1",
        "  poly(age, 2)  numeric                2",
        "  dx:sex        factor x factor        6  ADHD, Autism, TC x F, M",
    ]
