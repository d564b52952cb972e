"""Tables that no single check finds fault with, yet `ComBat` stops for: nothing to harmonize, priors without width."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from helpers.planted import Plant, where
from helpers.planted_cases import Case


def _each(change: Callable[[pd.DataFrame, str], pd.Series]) -> Plant:
    return lambda t: t.assign(**{f"f{k}": change(t, f"f{k}") for k in range(8)})


FITS = [
    Case(
        "one feature",
        lambda t: t.drop(columns=[f"f{k}" for k in range(1, 8)]),
        *("problem", "fit", "~age + sex + dx", ("ComBat stops", "1 usable feature", "use eb=False")),
    ),
    Case(
        "one feature, a curve",
        lambda t: t.drop(columns=[f"f{k}" for k in range(1, 8)]),
        *("problem", "fit", "~s(age)", ("ComBat stops", "1 usable feature")),
        formula="~ s(age)",
    ),
    Case(
        "one that varies",
        lambda t: t.assign(**{f"f{k}": 1.0 for k in range(1, 8)}),
        *("problem", "fit", "~age + sex + dx", ("1 usable feature",)),
        alone=False,
    ),
    Case(
        "one that varies at a site",
        _each(lambda t, name: t[name].where((t["site"] != "Oslo") | (name == "f0"), 1.0)),
        *("problem", "fit", "~age + sex + dx", ("batch 'Oslo' has 1 usable feature",)),
        alone=False,
    ),
    Case(
        "nothing varies",
        _each(lambda t, name: t[name] * 0 + 1),
        *("problem", "fit", "~age + sex + dx", ("no feature has any variance",)),
        alone=False,
    ),
    Case(
        "tiny units",
        _each(lambda t, name: t[name] * 1e-200),
        *("problem", "fit", "~age + sex + dx", ("no feature has any variance beyond rounding",)),
    ),
    Case(
        "huge units",
        where("f3", 1e200, lambda t: t.index % 2 == 0),
        *("problem", "fit", "~age + sex + dx", ("too large to square in f3",)),
        alone=False,
    ),
    Case(
        "features of covariates alone",
        _each(lambda t, name: t["age"] + int(name[1:])),
        *("problem", "fit", "~age + sex + dx", ("no feature has any variance beyond rounding",)),
        alone=False,
    ),
    Case(
        "identical columns",
        _each(lambda t, name: t["f1"]),
        *("problem", "fit", "~age + sex + dx", ("its empirical-Bayes prior has no width",)),
        alone=False,
    ),
    Case(
        "one column in several units",
        _each(lambda t, name: t["f1"] * (int(name[1:]) + 1)),
        *("problem", "fit", "~s(age) + sex", ("its empirical-Bayes prior has no width",)),
        formula="~ s(age) + sex",
    ),
    Case(
        "subject missing",
        lambda t: t.assign(person=t["subject"].where(t.index > 3)),
        *("problem", "fit", "~age + (1 | person)", ("'person' has missing values in 4 rows",)),
        formula="~ age + (1 | person)",
        alone=False,
    ),
    Case(
        "one group",
        lambda t: t.assign(person="a"),
        *("problem", "fit", "~age + (1 | person)", ("only one level ('a')",)),
        formula="~ age + (1 | person)",
        alone=False,
    ),
]
