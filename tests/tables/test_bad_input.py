"""Bad input, case by case: every message names the culprit and the way out.

Each entry of `REFUSED` is one way to spoil the small study, and the words its message must hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from helpers.study import FEATURES, assign, in_site, only, put, same, study

import pycombat_gam as pcg
from pycombat_gam.errors import DataError, DesignError, FormulaError, NotFittedError, NotYetError, OptionError


class Refused(NamedTuple):
    name: str
    change: Callable[[pd.DataFrame], pd.DataFrame]
    options: dict[str, Any]
    error: type[Exception]
    says: tuple[str, ...]


REFUSED = [
    # The batch column
    Refused("batch column absent", same, {"batch": "scanner"}, DataError, ("'scanner'", "site")),
    Refused("batch column misspelled", same, {"batch": "sit"}, DataError, ("'sit'", "did you mean 'site'")),
    Refused("batch missing in a row", put("site", None), {}, DataError, ("'site'", "missing values in 1 row", "3")),
    Refused("batch column is all missing", assign(site=None), {}, DataError, ("'site'", "21 rows")),
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
    Refused("basis comes later", same, {"formula": "~ s(age, bs='gp')"}, NotYetError, ("'gp'", "tp, ts")),
    Refused("correlated slopes come later", same, {"formula": "~ (age|sex)"}, NotYetError, ("(age || sex)",)),
    Refused("smooth of a factor", same, {"formula": "~ s(sex)"}, FormulaError, ("sex is a factor", "by=sex")),
    Refused("smooth too large", same, {"formula": "~ s(age, k=500)"}, DesignError, ("k=500", "distinct values")),
    Refused("smooth beside its line", same, {"formula": "~ age + s(age)"}, DesignError, ("'s(age)' is collinear",)),
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
        lambda t: t.iloc[[0, 1, 8, 9, 15]],
        {"formula": "~ age + sex"},
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
        ("'area'", "'bad'", "1 row"),
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
        ("sex", "area"),
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
    Refused("id missing", put("subject", None), {"id": "subject"}, DataError, ("subject", "missing values in 1 row")),
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
