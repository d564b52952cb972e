"""Tables with values, rows, units and terms that cannot be what they seem, each with the finding that it must give."""

from __future__ import annotations

import numpy as np
import pandas as pd

from helpers.planted import Plant, both, draw, first, where
from helpers.planted_cases import Case


def _lyon_is_sick(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(dx=np.where(table["site"] == "Lyon", "patient", "control"))


def _copied(table: pd.DataFrame, source: int, target: int, digits: int = 15) -> pd.DataFrame:
    features = [f"f{k}" for k in range(8)]
    table.loc[target, features] = table.loc[source, features].astype(float).round(digits)
    return table


def _in_other_units(factor: float, *features: str, site: str = "Oslo") -> Plant:
    def plant(table: pd.DataFrame) -> pd.DataFrame:
        for name in features:
            table[name] *= np.where(table["site"] == site, factor, 1.0)
        return table

    return plant


SUSPECT = [
    Case(
        "confounded but for one row",
        both(_lyon_is_sick, where("dx", "patient", lambda t: t.index[3:4])),
        *("problem", "confounding", "dx", ("but for 1 row (index 3 at 'Ghent')", "variance by {worst:.3g}")),
        {"estimable": True, "deciding": 1},
        alone=False,
    ),
    Case(
        "confounded but for three rows",
        both(_lyon_is_sick, where("dx", "control", lambda t: t.index[t["site"] == "Lyon"][[0, 5, 9]])),
        *("problem", "confounding", "dx", ("but for 3 rows (index 40 at 'Lyon', index 45", "variance by {worst:.3g}")),
        {"estimable": True, "deciding": 3},
        alone=False,
    ),
    Case(
        "collinear, skewed, in a tensor product",
        lambda t: t.assign(dose=draw().lognormal(0, 2, len(t))).pipe(lambda t: t.assign(more=7 * t["dose"] - 2)),
        *("problem", "design", "more", ("linear function of 'dose'", "(te(age,dose), more)"), {"term": "more"}),
        formula="~ te(age, dose) + more",
    ),
    Case(
        "collinear margins, skewed",
        lambda t: t.assign(dose=draw().lognormal(0, 2, len(t))).pipe(lambda t: t.assign(more=7 * t["dose"] - 2)),
        *("problem", "design", "more", ("linear function of 'dose'", "(te(dose,more))")),
        formula="~ te(dose, more)",
        alone=False,
    ),
    Case(
        "age of 120",
        where("age", 120.0, lambda t: t.index[t["site"] == "Oslo"][:1]),
        *("problem", "impossible values", "age", ("impossible values: {max:g} in 1 row ('Oslo')",)),
        alone=False,
    ),
    Case(
        "negative ages",
        where("age", -3.0, lambda t: t.index[t["site"] == "Ghent"][:2]),
        *("problem", "impossible values", "age", ("impossible values: {min:g} in 2 rows ('Ghent')",)),
        alone=False,
    ),
    Case(
        "negative volume of a covariate",
        lambda t: t.assign(icv=draw().normal(1500, 100, len(t))).pipe(where("icv", -1500.0, first(1))),
        *("problem", "impossible values", "icv", ("impossible values: {min:g} in 1 row ('Ghent')",)),
        formula="~ icv",
        alone=False,
    ),
    Case(
        "two codes",
        lambda t: where("age", 999.0, lambda t: t.index[-2:])(where("age", -99.0, first(3))(t)),
        *("problem", "missing codes", "age", ("-99 in 3 rows ('Ghent'), 999 in 2 rows ('Turin')",)),
        alone=False,
    ),
    Case(
        "code among a few values",
        lambda t: t.assign(smoker=np.where(t.index % 40 == 0, 99.0, t.index % 2)),
        *("problem", "missing codes", "smoker", ("99 in 4 rows",)),
        formula="~ smoker",
        alone=False,
    ),
    Case(
        "ages in months",
        lambda t: t.assign(age=t["age"] * np.where(t["site"] == "Lyon", 12, 1)),
        *("problem", "units", "age", ("at 'Lyon' about", "(median {median:.4g})"), {"site": "Lyon"}),
        alone=False,
    ),
    Case(
        "brain volume in litres",
        lambda t: t.assign(icv=draw().normal(1500, 150, len(t)) / np.where(t["site"] == "Oslo", 1000, 1)),
        *("problem", "units", "icv", ("at 'Oslo' about 1/", "(median {median:.4g})"), {"site": "Oslo"}),
        formula="~ icv",
        alone=False,
    ),
    Case(
        "one scan, two sites",
        lambda t: _copied(t, 20, 150),
        *(
            "problem",
            "copies",
            "Ghent, Turin",
            ("1 pair of rows", "1 across sites", "index 20 ('s020') at 'Ghent'"),
        ),
        {"copies": 1},
    ),
    Case(
        "one person, two ids, rounded",
        lambda t: _copied(_copied(t, 20, 22, digits=2), 5, 7),
        *(
            "problem",
            "copies",
            "Ghent",
            ("2 pairs of rows", "0 across sites", "index 5 ('s005') at 'Ghent'"),
        ),
        {"copies": 4},
    ),
    Case(
        "a feature in millimetres",
        _in_other_units(10, "f3"),
        *("problem", "units", "Oslo", ("'f3' is about {units_factor:.3g} times",), {"units_site": "Oslo"}),
    ),
    Case(
        "features a thousand times smaller",
        _in_other_units(1e-3, "f3", "f5", site="Lyon"),
        *("problem", "units", "Lyon", ("'f3' is about 1/", "'f5' is about 1/"), {"units_site": "Lyon"}),
    ),
    Case(
        "centred features in other units",
        lambda t: _in_other_units(100, "f3")(t.assign(f3=draw(5).normal(size=len(t)))),
        *("problem", "units", "Oslo", ("'f3' is about {units_factor:.3g} times",), {"units_site": "Oslo"}),
    ),
    *(
        Case(
            f"a feature made of {name}, {formula}",
            lambda t, made=made: t.assign(f3=made(t)),
            *("caution", "derived", "f3", (f"'f3' by '{name.strip()}'",)),
            formula=formula,
            features="^f",
            alone=False,
        )
        for name, made in {
            "age": lambda t: 12 * t["age"] + 3,
            "age ": lambda t: (t["age"] - 50) ** 2,
            "dx": lambda t: (t["dx"] == "AD").astype(float),
        }.items()
        for formula in ("~ age", "~ s(age)", "~ factor(dx) + sex", "~ sex", "~ 1")
    ),
]
