"""Bad and awkward input, case by case: what is refused names the culprit and the way out; the rest has right numbers.

Each entry of `REFUSED` is one way to spoil the small study below, and the words its message must hold. Each test under
"Handled" is a table that R stops at or answers with NaN, with the numbers that the equations give.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from textbook import textbook_combat

import pycombat_gam as pcg
from pycombat_gam.errors import DataError, DesignError, FormulaError, NotFittedError, NotYetError, OptionError

SITES = {"Lyon": 8, "Oslo": 7, "Turin": 6}
FEATURES = ["thick", "area", "vol", "depth"]
EXACT = 1e-11
"""Two independent double-precision computations of the same equations, in units of the feature's sd."""


def study(seed: int = 0) -> pd.DataFrame:
    """21 subjects at 3 sites: subject, site, age, sex, dx and four features."""
    rng = np.random.default_rng(seed)
    site = np.repeat(list(SITES), list(SITES.values()))
    n = site.size
    table = pd.DataFrame(
        {
            "subject": [f"s{i:02d}" for i in range(n)],
            "site": site,
            "age": np.round(rng.uniform(20, 80, n), 1),
            "sex": np.resize(["F", "M"], n),
            "dx": np.resize(["HC", "HC", "MCI", "AD"], n),
        }
    )
    shift = table["site"].map({"Lyon": 0.0, "Oslo": 1.0, "Turin": -1.0}).to_numpy()
    for k, name in enumerate(FEATURES):
        table[name] = 5 + k + 0.02 * table["age"] + shift * (1 + k) + rng.normal(size=n) * (1 + 0.3 * k)
    return table


def put(column: str, value: object, row: int = 3) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Change one cell."""

    def change(table: pd.DataFrame) -> pd.DataFrame:
        if not isinstance(value, float):
            table[column] = table[column].astype(object)
        table.loc[row, column] = value
        return table

    return change


def assign(**columns: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Replace or add whole columns."""
    return lambda table: table.assign(**columns)


def same(table: pd.DataFrame) -> pd.DataFrame:
    return table


def in_site(table: pd.DataFrame, column: str, site: str, value: object) -> pd.DataFrame:
    table.loc[table["site"] == site, column] = value
    return table


class Refused(NamedTuple):
    name: str
    change: Callable[[pd.DataFrame], pd.DataFrame]
    options: dict[str, Any]
    error: type[Exception]
    says: tuple[str, ...]


def only(table: pd.DataFrame, *sites: str) -> pd.DataFrame:
    return table[table["site"].isin(sites)]


REFUSED = [
    # The batch column
    Refused("batch column absent", same, {"batch": "scanner"}, DataError, ("'scanner'", "site")),
    Refused("batch column misspelled", same, {"batch": "sit"}, DataError, ("'sit'", "did you mean 'site'")),
    Refused("batch missing in a row", put("site", None), {}, DataError, ("'site'", "1 missing value", "3")),
    Refused("batch column is all missing", assign(site=None), {}, DataError, ("'site'", "21 missing values")),
    Refused("one batch only", lambda t: only(t, "Oslo"), {}, DataError, ("'site'", "'Oslo'", "at least two")),
    Refused("batch spelled 1 and '1'", assign(site=[1, "1", 2] * 7), {}, DataError, ("'site'", "two ways")),
    Refused("batch also in the formula", same, {"formula": "~ age + site"}, OptionError, ("'site'", "remove it")),
    Refused("batch inside a function", same, {"formula": "~ factor(site)"}, OptionError, ("'site'", "remove it")),
    # The reference batch
    Refused("reference misspelled", same, {"ref_batch": "oslo"}, OptionError, ("oslo", "Turin", "mean 'Oslo'")),
    Refused("reference unknown", same, {"ref_batch": "Bonn"}, OptionError, ("'Bonn'", "Lyon, Oslo, Turin")),
    Refused(
        "reference of one subject",
        lambda t: t[(t["site"] != "Turin") | (t.index == 20)],
        {"ref_batch": "Turin"},
        DataError,
        ("'Turin'", "one subject", "larger"),
    ),
    # The formula and its columns
    Refused("formula column misspelled", same, {"formula": "~ aeg"}, DataError, ("aeg", "did you mean 'age'")),
    Refused("formula column in other case", same, {"formula": "~ Age"}, DataError, ("Age", "did you mean 'age'")),
    Refused("formula column absent", same, {"formula": "~ income"}, DataError, ("income",)),
    Refused("formula unfinished", same, {"formula": "~ age +"}, FormulaError, ("~ age +",)),
    Refused("formula bracket open", same, {"formula": "~ log(age"}, FormulaError, ("log(age",)),
    Refused("formula is empty", same, {"formula": ""}, FormulaError, ("formula",)),
    Refused("formula is a number", same, {"formula": 1}, OptionError, ("formula=1", "text")),
    Refused("formula without tilde", same, {"formula": "age"}, FormulaError, ("~",)),
    Refused("formula two-sided", same, {"formula": "thick ~ age"}, FormulaError, ("one-sided", "~ age")),
    Refused("function unknown", same, {"formula": "~ lgo(age)"}, FormulaError, ("lgo()", "did you mean 'log'")),
    Refused("function is Python", same, {"formula": "~ eval('1')"}, FormulaError, ("eval", "not allowed")),
    Refused("attribute in formula", same, {"formula": "~ age.__class__"}, DataError, ("age.__class__",)),
    Refused("smooths come later", same, {"formula": "~ s(age)"}, NotYetError, ("s(age)", "ns()")),
    Refused("random effects come later", same, {"formula": "~ (1|subject)"}, NotYetError, ("subject",)),
    Refused("covariate missing", put("age", np.nan), {"formula": "~ age"}, DataError, ("'age'", "row")),
    Refused("covariate infinite", put("age", np.inf), {"formula": "~ age"}, DataError, ("'age'", "infinite")),
    Refused("covariate text among numbers", put("age", "n/a"), {"formula": "~ age"}, DataError, ("'age'", "'n/a'")),
    Refused("covariate level missing", put("sex", None), {"formula": "~ sex"}, DataError, ("'sex'", "missing")),
    Refused(
        "covariate is a date",
        assign(scan=pd.date_range("2020-01-01", periods=21)),
        {"formula": "~ scan"},
        DataError,
        ("'scan'", "date"),
    ),
    Refused(
        "log of a negative number",
        put("age", -4.0),
        {"formula": "~ log(age)"},
        DataError,
        ("log(age)", "age"),
    ),
    # The design
    Refused("covariate constant", assign(age=40.0), {"formula": "~ age"}, DesignError, ("'age'", "constant")),
    Refused("factor with one level", assign(sex="F"), {"formula": "~ sex"}, DesignError, ("sex", "one level")),
    Refused(
        "covariate confounded with site",
        lambda t: t.assign(tesla=t["site"].map({"Lyon": 1.5, "Oslo": 3.0, "Turin": 3.0})),
        {"formula": "~ age + tesla"},
        DesignError,
        ("'tesla'", "confounded with batch", "Remove"),
    ),
    Refused(
        "factor confounded with site",
        lambda t: in_site(in_site(t.assign(dx="HC"), "dx", "Oslo", "AD"), "dx", "Turin", "MCI"),
        {"formula": "~ dx"},
        DesignError,
        ("dx", "confounded"),
    ),
    Refused(
        "covariates collinear",
        lambda t: t.assign(months=12 * t["age"]),
        {"formula": "~ age + months"},
        DesignError,
        ("'months'", "collinear"),
    ),
    Refused(
        "covariate a sum of site and age",
        lambda t: t.assign(x=t["age"] + 10 * (t["site"] == "Oslo")),
        {"formula": "~ age + x"},
        DesignError,
        ("'x'", "collinear"),
    ),
    Refused("poly of too high a degree", same, {"formula": "~ poly(sexn, 2)"}, DataError, ("sexn",)),
    Refused(
        "saturated design",
        same,
        {"formula": "~ factor(subject)"},
        DesignError,
        ("saturated", "fewer terms"),
    ),
    # Feature cells
    Refused("feature missing", put("area", np.nan), {}, DataError, ("'area' (1)", "missing='omit'")),
    Refused("feature infinite", put("area", np.inf), {}, DataError, ("'area' (1)", "infinite")),
    Refused(
        "feature minus infinite, omit",
        put("area", -np.inf),
        {"missing": "omit"},
        DataError,
        ("'area'", "infinite"),
    ),
    Refused("feature holds a word", put("area", "bad"), {}, DataError, ("'area'", "'bad'")),
    Refused(
        "numbers as text",
        lambda t: t.assign(area=t["area"].astype(str)),
        {},
        DataError,
        ("'area'", "convert"),
    ),
    Refused(
        "a word, features not named",
        put("area", "bad"),
        {"features": None, "id": "subject", "formula": "~ age + sex + dx"},
        DataError,
        ("'area'", "'bad'", "1 cell"),
    ),
    Refused(
        "numbers as text, features not named",
        lambda t: t.assign(area=t["area"].astype(str)),
        {"features": None, "id": "subject", "formula": "~ age + sex + dx"},
        DataError,
        ("'area'", "numbers as text"),
    ),
    Refused("feature complex", lambda t: t.assign(area=t["area"] + 1j), {}, DataError, ("'area'", "complex")),
    Refused(
        "feature never observed",
        assign(area=np.nan),
        {"missing": "omit"},
        DataError,
        ("area", "no observed value"),
    ),
    Refused(
        "feature not observed in a site",
        lambda t: in_site(t, "area", "Oslo", np.nan),
        {"missing": "omit"},
        DataError,
        ("area", "Oslo", "remove"),
    ),
    Refused("feature too large to square", put("area", 1e200), {}, DataError, ("area", "rescale")),
    Refused(
        "design confounded among observed rows",
        lambda t: t.assign(area=t["area"].where(t["sex"] == "F")),
        {"missing": "omit", "formula": "~ sex"},
        DesignError,
        ("sexM", "area"),
    ),
    # Choosing features
    Refused("features misspelled", same, {"features": ["thik"]}, OptionError, ("'thik'", "did you mean 'thick'")),
    Refused("features list empty", same, {"features": []}, OptionError, ("empty",)),
    Refused("feature named twice", same, {"features": ["area", "vol", "area"]}, OptionError, ("area", "twice")),
    Refused("feature is the batch", same, {"features": ["area", "site"]}, OptionError, ("'site'", "batch")),
    Refused(
        "feature is in the formula",
        same,
        {"features": ["area", "vol", "age"], "formula": "~ age"},
        OptionError,
        ("'age'", "formula"),
    ),
    Refused("feature is text", same, {"features": ["area", "dx"]}, DataError, ("'dx'", "not numeric", "HC")),
    Refused("regex matches text", same, {"features": "a|dx"}, DataError, ("'dx'", "not numeric")),
    Refused("regex matches nothing", same, {"features": "^volume"}, OptionError, ("'^volume'", "vol")),
    Refused("regex broken", same, {"features": "(thick"}, OptionError, ("'(thick'", "regular expression")),
    Refused("features is a number", same, {"features": 3}, OptionError, ("features", "list")),
    Refused("features holds a number", same, {"features": ["area", 3]}, OptionError, ("'3'",)),
    Refused(
        "no numeric column left",
        lambda t: t[["subject", "site", "sex"]],
        {"features": None},
        DataError,
        ("no numeric column",),
    ),
    # Rows and columns
    Refused("duplicate ids", put("subject", "s07"), {"id": "subject"}, DataError, ("'subject'", "s07", "2 rows")),
    Refused("id missing", put("subject", None), {"id": "subject"}, DataError, ("subject", "1 missing value")),
    Refused("id column misspelled", same, {"id": "subjct"}, DataError, ("'subjct'", "did you mean 'subject'")),
    Refused(
        "duplicate pairs of ids",
        lambda t: t.assign(subject="s1", visit=[1, *range(1, 21)]),
        {"id": ["subject", "visit"]},
        DataError,
        ("s1/1", "2 rows"),
    ),
    Refused(
        "duplicated named index",
        lambda t: t.set_axis(pd.Index([0, 0, *range(1, 20)], name="scan")),
        {},
        DataError,
        ("'scan'", "0", "2 rows"),
    ),
    Refused(
        "duplicated columns",
        lambda t: pd.concat([t, t[["area"]]], axis=1),
        {},
        DataError,
        ("area", "duplicated"),
    ),
    Refused("no rows", lambda t: t.iloc[:0], {}, DataError, ("no rows",)),
    # Empirical Bayes
    Refused("one feature", same, {"features": ["area"]}, DataError, ("1 usable", "at least two", "eb=False")),
    Refused(
        "one feature varies in a site",
        lambda t: t.assign(**{f: t[f].where(t["site"] != "Oslo", 1.0) for f in FEATURES[1:]}),
        {},
        DataError,
        ("'Oslo'", "1 usable", "eb=False"),
    ),
    Refused(
        "identical features",
        lambda t: t.assign(area=t["thick"], vol=t["thick"], depth=t["thick"]),
        {},
        DataError,
        ("location", "eb=False", "identical"),
    ),
    Refused(
        "all features constant",
        assign(thick=1.0, area=2.0, vol=0.0, depth=-3.0),
        {},
        DataError,
        ("no feature has any variance",),
    ),
    # Options
    Refused("prior misspelled", same, {"prior": "non-parametric"}, OptionError, ("prior", "mean 'nonparametric'")),
    Refused("missing misspelled", same, {"missing": "drop"}, OptionError, ("missing='drop'", "'omit'")),
    Refused("on_unseen misspelled", same, {"on_unseen": "estimat"}, OptionError, ("on_unseen", "'estimate'")),
    Refused("smoothing unknown", same, {"smoothing": "AIC"}, OptionError, ("smoothing='AIC'", "REML")),
    Refused("output unknown", same, {"output": "array"}, OptionError, ("output='array'", "'features'")),
    Refused("eb is text", same, {"eb": "no"}, OptionError, ("eb='no'", "True and False")),
    Refused("mean_only is None", same, {"mean_only": None}, OptionError, ("mean_only=None", "True and False")),
    Refused("mean_model is text", same, {"mean_model": "gam"}, OptionError, ("mean_model", "fit, predict")),
    Refused("id is a number", same, {"id": 3}, OptionError, ("id", "3")),
]


def fit_quietly(model: pcg.ComBat, *data: Any, **more: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        return model.fit_transform(*data, **more)


def test_the_case_names_are_unique_and_many() -> None:
    assert len({case.name for case in REFUSED}) == len(REFUSED) >= 50


@pytest.mark.parametrize("case", REFUSED, ids=[case.name for case in REFUSED])
def test_refused(case: Refused) -> None:
    """A subclass of PcgError, one line, naming the culprit; neither the table nor the model is touched."""
    table = case.change(study())
    before = table.copy(deep=True)
    model = pcg.ComBat(**{"formula": "~ age", "batch": "site", "features": FEATURES, **case.options})
    with pytest.raises(pcg.PcgError) as caught:
        model.fit(table)
    message = str(caught.value)
    assert isinstance(caught.value, case.error), f"{type(caught.value).__name__}: {message}"
    for words in case.says:
        assert words in message
    assert "\n" not in message
    pd.testing.assert_frame_equal(table, before)
    with pytest.raises(NotFittedError, match="fit"):
        _ = model.estimates


# Calls that are wrong in themselves


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


# Handled: right numbers, and one warning that names features and sites


def expect(table: pd.DataFrame, formula: str = "~ age", **options: Any) -> np.ndarray:
    """What the equations give, by the independent textbook."""
    X = table[["age"]].to_numpy() if "age" in formula else np.zeros((len(table), 0))
    Y = table[FEATURES].to_numpy(dtype=float)
    return textbook_combat(Y, X, table["site"].to_numpy(dtype=str), **options)[0]


def close(ours: pd.DataFrame, expected: np.ndarray, table: pd.DataFrame) -> None:
    sd = table[FEATURES].std().replace(0, 1).to_numpy()
    np.testing.assert_allclose(ours[FEATURES].to_numpy() / sd, expected / sd, rtol=0, atol=EXACT, equal_nan=True)


def constant_in(*places: tuple[str, str]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        for feature, site in places:
            in_site(table, feature, site, 4.25)
        return table

    return change


def holes(*cells: tuple[str, int]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        for feature, row in cells:
            table.loc[row, feature] = np.nan
        return table

    return change


def one_subject(table: pd.DataFrame) -> pd.DataFrame:
    return table[(table["site"] != "Turin") | (table.index == 20)]


def all_but_one_missing(table: pd.DataFrame) -> pd.DataFrame:
    table.loc[(table["site"] == "Oslo") & (table.index != 9), "vol"] = np.nan
    return table


class Handled(NamedTuple):
    name: str
    change: Callable[[pd.DataFrame], pd.DataFrame]
    options: dict[str, Any]
    warns: tuple[str, ...]


HANDLED = [
    Handled("ordinary table", same, {}, ()),
    Handled("one subject in a site", one_subject, {}, ("'Turin'", "one subject", "location only")),
    Handled("one subject in a site, no EB", one_subject, {"eb": False}, ("'Turin'", "one subject")),
    Handled("one subject in a site, mean only", one_subject, {"mean_only": True}, ()),
    Handled("one subject in a site, nonparametric", one_subject, {"prior": "nonparametric"}, ("'Turin'",)),
    Handled("one subject in a site, other reference", one_subject, {"ref_batch": "Lyon"}, ("'Turin'",)),
    Handled("constant in a site", constant_in(("area", "Oslo")), {}, ("'Oslo'", "area", "location only")),
    Handled("constant in a site, no EB", constant_in(("area", "Oslo")), {"eb": False}, ("'Oslo'", "area")),
    Handled(
        "constant in a site, nonparametric",
        constant_in(("area", "Oslo")),
        {"prior": "nonparametric"},
        ("area",),
    ),
    Handled("constant in a site, mean only", constant_in(("area", "Oslo")), {"mean_only": True}, ()),
    Handled(
        "constant in two sites",
        constant_in(("area", "Oslo"), ("vol", "Lyon")),
        {},
        ("'Oslo'", "'Lyon'", "vol"),
    ),
    Handled("constant in the other site", constant_in(("area", "Oslo")), {"ref_batch": "Lyon"}, ("'Oslo'", "area")),
    Handled("constant feature", assign(area=4.25), {}, ("constant", "area", "untouched")),
    Handled("feature of zeros", assign(area=0.0), {}, ("constant", "area", "untouched")),
    Handled("constant feature, reference", assign(area=4.25), {"ref_batch": "Oslo"}, ("area", "untouched")),
    Handled("missing cells", holes(("area", 3), ("area", 9), ("vol", 9)), {"missing": "omit"}, ()),
    Handled("missing cells, no EB", holes(("area", 3), ("vol", 9)), {"missing": "omit", "eb": False}, ()),
    Handled(
        "missing cells, reference",
        holes(("area", 3), ("vol", 9)),
        {"missing": "omit", "ref_batch": "Oslo"},
        (),
    ),
    Handled("one observed in a site", all_but_one_missing, {"missing": "omit"}, ("'Oslo'", "vol", "location only")),
    Handled("two features", lambda t: t.assign(area=1.0, vol=2.0), {}, ("area, vol", "constant")),
    Handled("huge offset", lambda t: t.assign(**{f: t[f] + 1e6 for f in FEATURES}), {}, ()),
    Handled("tiny numbers", lambda t: t.assign(**{f: t[f] * 1e-150 for f in FEATURES}), {}, ()),
]


@pytest.mark.parametrize("case", HANDLED, ids=[case.name for case in HANDLED])
def test_handled(case: Handled) -> None:
    table = case.change(study())
    model = pcg.ComBat("~ age", batch="site", features=FEATURES, **case.options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ours = model.fit_transform(table)
    assert [str(w.message) for w in caught if w.category is not pcg.PcgWarning] == []
    assert len(caught) == (1 if case.warns else 0), [str(w.message) for w in caught]
    for words in case.warns:
        assert words in str(caught[0].message)
        assert words in str(model.summary())
    theirs = {"ref" if k == "ref_batch" else k: v for k, v in case.options.items() if k != "missing"}
    if case.name == "huge offset":
        expected = expect(study(), **theirs) + 1e6
        np.testing.assert_allclose(ours[FEATURES], expected, rtol=0, atol=1e-8)  # 1e6·ε is 1e-10
    elif case.name == "tiny numbers":
        np.testing.assert_allclose(ours[FEATURES] / 1e-150, expect(study(), **theirs), rtol=1e-11)
    else:
        close(ours, expect(table, **theirs), table)
    assert np.array_equal(ours[FEATURES].isna(), table[FEATURES].isna())
    pd.testing.assert_frame_equal(fit_quietly(model, table), ours)


def test_other_sites_are_unaffected_by_a_site_of_location_only() -> None:
    """The priors of Lyon and Turin do not hear of Oslo's constant feature, beyond the shared mean and variance."""
    table = constant_in(("area", "Oslo"))(study())
    with pytest.warns(pcg.PcgWarning, match="location only in batch 'Oslo'"):
        model = pcg.ComBat("~ age", batch="site", features=FEATURES).fit(table)
    e = model.estimates
    rest = ["thick", "vol", "depth"]
    assert e.delta_star.loc["Oslo", "area"] == 1.0
    assert e.gamma_bar["Oslo"] == pytest.approx(e.gamma_hat.loc["Oslo", rest].mean(), rel=1e-12)
    assert e.t2["Oslo"] == pytest.approx(e.gamma_hat.loc["Oslo", rest].var(), rel=1e-12)
    for site in ("Lyon", "Turin"):
        assert e.gamma_bar[site] == pytest.approx(e.gamma_hat.loc[site].mean(), rel=1e-12)
        m, s2 = e.delta_hat.loc[site].mean(), e.delta_hat.loc[site].var()
        assert e.a_prior[site] == pytest.approx((2 * s2 + m**2) / s2, rel=1e-12)
    g, t2, n = e.gamma_hat.loc["Oslo", "area"], e.t2["Oslo"], 7
    assert e.gamma_star.loc["Oslo", "area"] == pytest.approx(
        (n * t2 * g + e.gamma_bar["Oslo"]) / (n * t2 + 1), rel=1e-12
    )


@pytest.mark.parametrize("options", [{}, {"ref_batch": "Oslo"}, {"eb": False}, {"mean_only": True}], ids=str)
def test_a_feature_exactly_linear_in_age_passes_untouched(options: dict[str, Any]) -> None:
    """Pooled variance zero to rounding: no residual to scale by."""
    table = study().assign(area=lambda t: 3.0 + 0.1 * t["age"])
    with pytest.warns(pcg.PcgWarning, match=r"no residual variance.*untouched: area"):
        model = pcg.ComBat("~ age", batch="site", features=FEATURES, **options).fit(table)
    out = model.transform(table)
    assert np.array_equal(out["area"], table["area"])
    assert np.isfinite(out[FEATURES].to_numpy()).all()


def test_no_variance_in_the_reference_site_passes_untouched_and_names_it() -> None:
    table = in_site(study(), "area", "Oslo", 2.5)
    with pytest.warns(pcg.PcgWarning, match=r"reference batch 'Oslo'.*untouched: area"):
        out = pcg.ComBat("~ age", batch="site", features=FEATURES, ref_batch="Oslo").fit_transform(table)
    assert np.array_equal(out["area"], table["area"])
    assert np.isfinite(out[FEATURES].to_numpy()).all()


def test_constant_within_every_site_is_no_variance() -> None:
    table = study()
    table["area"] = table["site"].map({"Lyon": 1.0, "Oslo": 2.0, "Turin": 3.0})
    with pytest.warns(pcg.PcgWarning, match="area"):
        out = pcg.ComBat("~ age", batch="site", features=FEATURES).fit_transform(table)
    assert np.array_equal(out["area"], table["area"])


def test_reference_rows_come_back_bit_for_bit() -> None:
    table = holes(("area", 10))(study())
    out = pcg.ComBat("~ age", batch="site", features=FEATURES, ref_batch="Oslo", missing="omit").fit_transform(table)
    rows = table["site"] == "Oslo"
    pd.testing.assert_frame_equal(out[rows], table[rows])


@pytest.mark.parametrize("prior", ["parametric", "nonparametric"])
def test_sites_of_thousands_stay_finite(prior: str) -> None:
    """R's product of densities underflows past 500 subjects."""
    big = pd.concat([study(seed) for seed in range(150)], ignore_index=True)
    out = pcg.ComBat("~ age", batch="site", features=FEATURES, prior=prior).fit_transform(big)
    close(out, expect(big, prior=prior), big)


def test_an_unseen_site_can_be_estimated_and_leaves_the_others_alone() -> None:
    table = study()
    model = pcg.ComBat("~ age", batch="site", features=FEATURES, on_unseen="estimate").fit(only(table, "Lyon", "Oslo"))
    known = model.transform(only(table, "Lyon", "Oslo"))
    with pytest.warns(pcg.PcgWarning, match=r"'Turin' was not in the fit.*6 rows"):
        out = model.transform(table)
    pd.testing.assert_frame_equal(out[out["site"] != "Turin"], known)
    assert np.isfinite(out[FEATURES].to_numpy()).all()
    moved = out.loc[out["site"] == "Turin", FEATURES].mean() - known[FEATURES].mean()
    raw = table.loc[table["site"] == "Turin", FEATURES].mean() - known[FEATURES].mean()
    assert (moved.abs() < raw.abs()).all()


def test_an_unseen_site_of_one_subject_gets_a_location_only() -> None:
    table = study()
    model = pcg.ComBat("~ age", batch="site", features=FEATURES, on_unseen="estimate").fit(only(table, "Lyon", "Oslo"))
    with pytest.warns(pcg.PcgWarning, match=r"'Turin'.*1 row.*location only for all features"):
        out = model.transform(table.iloc[[20]])
    assert np.isfinite(out[FEATURES].to_numpy()).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (put("area", np.nan, 20), "missing values in 'area'"),
        (put("area", np.inf, 20), "infinite values in 'area'"),
    ],
    ids=["missing", "infinite"],
)
def test_an_unseen_site_is_checked_like_any_other(change: Callable[[pd.DataFrame], pd.DataFrame], says: str) -> None:
    table = study()
    model = pcg.ComBat("~ age", batch="site", features=FEATURES, on_unseen="estimate").fit(only(table, "Lyon", "Oslo"))
    with pytest.raises(DataError, match=says):
        model.transform(change(table))


def test_an_unseen_site_without_any_value_of_a_feature_says_so() -> None:
    """NaN stays NaN under omit; other features are estimated, and the feature's absence is no silent zero."""
    table = in_site(study(), "area", "Turin", np.nan)
    model = pcg.ComBat("~ age", batch="site", features=FEATURES, on_unseen="estimate", missing="omit")
    model.fit(only(table, "Lyon", "Oslo"))
    with pytest.warns(pcg.PcgWarning, match="Turin"):
        out = model.transform(table)
    assert np.array_equal(out[FEATURES].isna(), table[FEATURES].isna())


@pytest.mark.parametrize(
    "spelling",
    [lambda s: s, lambda s: s.astype("category"), lambda s: s.map({"Lyon": 1, "Oslo": 2, "Turin": 3})],
    ids=["text", "category", "integers"],
)
def test_labels_do_not_matter(spelling: Callable[[pd.Series], pd.Series]) -> None:
    table = study()
    plain = pcg.ComBat("~ age", batch="site", features=FEATURES).fit_transform(table)
    other = table.assign(site=spelling(table["site"]))
    out = pcg.ComBat("~ age", batch="site", features=FEATURES).fit_transform(other)
    pd.testing.assert_frame_equal(out[FEATURES], plain[FEATURES])
    assert out["site"].dtype == other["site"].dtype


def test_integer_sites_of_a_fit_meet_float_and_text_sites_at_transform() -> None:
    table = study()
    coded = table.assign(site=table["site"].map({"Lyon": 1, "Oslo": 2, "Turin": 3}))
    model = pcg.ComBat("~ age", batch="site", features=FEATURES).fit(coded)
    plain = model.transform(coded)
    for dtype in (float, str):
        pd.testing.assert_frame_equal(model.transform(coded.astype({"site": dtype}))[FEATURES], plain[FEATURES])
    sites = model.estimates.gamma_star.index.tolist()
    assert sites == ["1", "2", "3"]


def test_unused_categories_are_no_sites() -> None:
    table = study()
    table["site"] = pd.Categorical(table["site"], categories=["Zurich", "Turin", "Oslo", "Lyon"])
    model = pcg.ComBat("~ age", batch="site", features=FEATURES).fit(table)
    assert model.estimates.gamma_star.index.tolist() == ["Turin", "Oslo", "Lyon"]


def test_mask_estimates_from_controls_and_adjusts_everyone() -> None:
    table = study()
    controls = table["dx"] == "HC"
    model = pcg.ComBat("~ age", batch="site", features=FEATURES)
    out = model.fit_transform(table, fit_mask=controls)
    alone = pcg.ComBat("~ age", batch="site", features=FEATURES).fit(table[controls])
    pd.testing.assert_frame_equal(alone.transform(table), out)
    changed = table.copy()
    changed.loc[~controls, FEATURES] *= 100
    model.fit(changed, fit_mask=controls.to_numpy())
    pd.testing.assert_frame_equal(model.estimates.delta_star, alone.estimates.delta_star)


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=["missing", "infinite"])
def test_rows_outside_the_mask_are_checked_too(value: float) -> None:
    table = study()
    table.loc[2, "area"] = value  # an MCI row
    with pytest.raises(DataError, match="'area'"):
        pcg.ComBat("~ age", batch="site", features=FEATURES).fit(table, fit_mask=(table["dx"] == "HC"))


def test_a_failed_fit_keeps_the_earlier_one() -> None:
    table = study()
    model = pcg.ComBat("~ age", batch="site", features=FEATURES).fit(table)
    before = model.transform(table)
    with pytest.raises(DataError):
        model.fit(put("area", np.nan)(table.copy()))
    pd.testing.assert_frame_equal(model.transform(table), before)


def test_input_is_never_changed() -> None:
    table = study().astype({"area": np.float32})
    before = table.copy(deep=True)
    model = pcg.ComBat("~ age + sex", batch="site", features=FEATURES)
    model.fit_transform(table)
    Y = np.asfortranarray(study()[FEATURES].to_numpy())
    Y_before = Y.copy()
    pcg.ComBat("~ age", batch="site").fit_transform(Y, study())
    pd.testing.assert_frame_equal(table, before)
    assert np.array_equal(Y, Y_before)


def test_strange_column_names_work() -> None:
    table = study().rename(columns={"age": "Age at scan (years)", "area": "5th-Ventricle", "vol": "ROI 3 %"})
    names = ["thick", "5th-Ventricle", "ROI 3 %", "depth"]
    out = pcg.ComBat("~ `Age at scan (years)`", batch="site", features=names).fit_transform(table)
    plain = pcg.ComBat("~ age", batch="site", features=FEATURES).fit_transform(study())
    assert np.array_equal(out[names], plain[FEATURES])


def test_numbers_as_column_names_work() -> None:
    table = study().rename(columns=dict(zip(FEATURES, [10, 11, 12, 13], strict=True)))
    out = pcg.ComBat("~ age", batch="site", features="^1").fit_transform(table)
    assert out.columns.equals(table.columns)
    plain = pcg.ComBat("~ age", batch="site", features=FEATURES).fit_transform(study())
    assert np.array_equal(out[[10, 11, 12, 13]], plain[FEATURES])
