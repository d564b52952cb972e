"""The troubles that the audit knows, each planted in a table, with the finding that it must give."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from helpers.planted import FORMULA, Plant, at, both, columns, draw, few_at, first, patients_elsewhere, where


@dataclass(frozen=True)
class Case:
    """A table and the finding it must give.

    `says`: parts of the verdict; `numbers`: the value that the column of the row it rests on has, for those that are
    counted here; `alone`: nothing else may be found that is a problem or caution.
    """

    name: str
    plant: Plant
    severity: str
    check: str
    subject: str
    says: tuple[str, ...]
    numbers: dict[str, object] = field(default_factory=dict)
    formula: str = FORMULA
    id: str | list[str] | None = "subject"
    alone: bool = True
    features: str | None = None


def _ages(table: pd.DataFrame) -> pd.DataFrame:
    old = table["site"] == "Oslo"
    return table.assign(age=table["age"].where(~old, 60 + (table["age"] - 20) / 3))


def _split_fields(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(tesla=np.where(table["site"].isin(["Oslo", "Lyon"]), 1.5, 3.0))


def _visits(table: pd.DataFrame, people: object) -> pd.DataFrame:
    return table.assign(subject=people, visit=np.arange(len(table)))


PAIRS = np.repeat([f"p{i}" for i in range(80)], 2)
TRAVELERS = np.tile([f"p{i}" for i in range(40)], 4)

DESIGN = [
    Case(
        "confounded diagnosis",
        lambda t: t.assign(dx=np.where(t["site"] == "Lyon", "patient", "control")),
        *("problem", "confounding", "dx", ("confounded with site", "all 40 rows with 'patient' are at 'Lyon'")),
        {"r2": 1.0, "estimable": False, "correlation": 1.0, "gvif": np.inf, "site": "Lyon"},
    ),
    Case(
        "confounded level",
        both(where("dx", "HC", lambda t: t["dx"] == "AD"), where("dx", "AD", at("Lyon"))),
        *("problem", "confounding", "dx", ("confounded with site", "all 40 rows with 'AD' are at 'Lyon'")),
        {"estimable": False, "gvif": np.inf},
        alone=False,
    ),
    Case(
        "field strength",
        _split_fields,
        *("problem", "confounding", "tesla", ("one value in each site", "1.5 at 'Lyon', 'Oslo'", "3 at 'Ghent'")),
        {"r2": 1.0, "estimable": False},
        formula="~ age + tesla",
    ),
    Case(
        "nearly confounded",
        lambda t: t.assign(score=10 * t["site"].isin(["Oslo", "Lyon"]) + draw().uniform(0, 4, len(t))),
        *("caution", "confounding", "score", ("nearly confounded", "{worst:.3g}", "{percent:r2}")),
        {"estimable": True},
        formula="~ age + score",
    ),
    Case(
        "estimated at one site",
        lambda t: t.assign(
            dose=np.where(t["site"] == "Oslo", draw().normal(0, 5, len(t)), draw(2).normal(0, 0.3, len(t)))
        ),
        *("caution", "confounding", "dose", ("almost entirely from 'Oslo'", "{percent:information}", "40 of 160 rows")),
        {"rows": 40},
        formula="~ sex + dose",
        alone=False,
    ),
    Case("constant covariate", columns(age=50.0), "problem", "design", "age", ("is constant",), {"estimable": False}),
    Case(
        "collinear covariates",
        lambda t: t.assign(months=12 * t["age"]),
        *("problem", "design", "months", ("collinear: a combination of 'age'",), {"estimable": False}),
        formula="~ age + months + sex",
    ),
    Case(
        "collinear with sites",
        lambda t: t.assign(score=t["age"] + 5.0 * (t["site"] == "Lyon")),
        *("problem", "confounding", "score", ("collinear: a combination of 'age' and the sites",)),
        {"estimable": False},
        formula="~ age + score",
    ),
    Case(
        "scanners nested in sites",
        lambda t: t.assign(scanner=t["site"] + np.resize(["A", "B"], 160)),
        *("problem", "confounding", "scanner", ("each of its 8 levels is at one site only",), {"estimable": False}),
        formula="~ age + scanner",
    ),
    Case(
        "too large",
        lambda t: t.assign(age=t["age"] * 1e200),
        *("problem", "design", "age", ("too large or too small to square in 'age'",)),
    ),
    Case("one level", columns(sex="M"), "problem", "design", "sex", ("one level, 'M' (160 rows)",)),
    Case(
        "too many knots",
        lambda t: t.assign(age=t["age"].round(-1)),
        *("problem", "design", "~s(age) + sex", ("cannot be built", "age has 7 distinct values")),
        formula="~ s(age) + sex",
    ),
    Case("text among ages", where("age", "old", first(3)), "problem", "design", "age", ("'old' in 3 rows",)),
    Case(
        "saturated",
        lambda t: t.groupby("site").head(2),
        *("problem", "design", "~age + sex + dx", ("8 rows for 4 batches and 4 covariate columns",)),
        alone=False,
    ),
    Case(
        "site without women",
        where("sex", "M", at("Oslo")),
        *("caution", "levels", "sex", ("no 'F' at 'Oslo' (0 of 40 rows)",), {"n": 0, "site": "Oslo", "level": "F"}),
        alone=False,
    ),
    Case(
        "level at one site",
        patients_elsewhere(0),
        *("caution", "levels", "dx", ("all {n} rows with 'AD' are at 'Lyon'", "no other site"), {"level": "AD"}),
        alone=False,
    ),
    Case(
        "level nearly at one site",
        patients_elsewhere(1),
        *("caution", "levels", "dx", ("{n} of ", "rows with 'AD' are at 'Lyon'", "hardly any"), {"level": "AD"}),
        alone=False,
    ),
    Case(
        "ages apart",
        lambda t: t.assign(age=t["age"] + 100.0 * (t["site"] == "Oslo")),
        *("problem", "overlap", "age", ("no row of 'Oslo' (40 rows,",), {"outside": 40, "share_outside": 1.0}),
        alone=False,
    ),
    Case(
        "ages partly apart",
        lambda t: t.assign(age=t["age"] + 15.0 * (t["site"] == "Oslo")),
        *("caution", "overlap", "age", ("{percent:share_outside} of 'Oslo' ({outside} of 40 rows)",), {"site": "Oslo"}),
        alone=False,
    ),
    Case(
        "imbalanced ages",
        _ages,
        *("caution", "imbalance", "age", ("{percent:naive_level}", "'{site}' is farthest", "{percent:r2} of 'age'")),
        {"site": "Oslo", "df": 1, "df_assumed": 155, "df_true": 152},
    ),
    Case(
        "small old site",
        both(_ages, few_at("Oslo", 11)),
        *("note", "imbalance", "age", ("'Oslo' {difference:.2g}",), {"site": "Oslo", "n": 11}),
    ),
]

ROWS = [
    Case(
        "three subjects",
        few_at("Oslo", 3),
        *("caution", "site size", "Oslo", ("'Oslo' has 3 subjects", "2 degrees of freedom", "0.52 to 6.28")),
        {"subjects": 3, "scale_df": 2},
    ),
    Case("one subject", few_at("Oslo", 1), "problem", "site size", "Oslo", ("has 1 subject:",), {"subjects": 1}),
    Case("twelve subjects", few_at("Oslo", 12), "note", "site size", "Oslo", ("'Oslo' (12)",), {"subjects": 12}),
    Case("nine subjects", few_at("Oslo", 9), "note", "prior", "Oslo", ("'Oslo' (9)", "by 5 to 20 %"), {"subjects": 9}),
    Case(
        "two small sites",
        both(few_at("Oslo", 3), few_at("Lyon", 5)),
        *("caution", "site size", "Lyon, Oslo", ("'Lyon' has 5 subjects, 'Oslo' has 3", "at least 2 degrees")),
    ),
    Case("one site", lambda t: t[t["site"] == "Oslo"], "problem", "site size", "Oslo", ("one site, 'Oslo' (40",)),
    Case(
        "look-alikes",
        where("site", "lyon ", lambda t: t.index[t["site"] == "Lyon"][:20]),
        *("caution", "site labels", "Lyon, lyon ", ("'Lyon' (20 rows), 'lyon ' (20 rows)",)),
    ),
    Case(
        "missing age",
        where("age", np.nan, first(5)),
        "problem",
        "missing",
        "age",
        ("5 rows ('Ghent' 5 of 40)",),
        {"missing": 5},
    ),
    Case(
        "infinite age",
        where("age", np.inf, first(1)),
        "problem",
        "missing",
        "age",
        ("is infinite in 1 row",),
        {"infinite": 1},
    ),
    Case(
        "missing sites",
        where("site", None, first(5)),
        "problem",
        "missing",
        "site",
        ("is missing in 5 rows",),
        {"missing": 5},
    ),
    Case(
        "age code", where("age", -999.0, first(3)), "problem", "missing codes", "age", ("-999 in 3 rows",), alone=False
    ),
    Case(
        "unknown sex",
        where("sex", "unknown", lambda t: t.index % 9 == 0),
        *("caution", "missing codes", "sex", ("'unknown' is a level of 'sex' (18 rows)",)),
    ),
    Case("duplicate ids", where("subject", "a", first(2)), "problem", "ids", "subject", ("a (2 rows)",)),
    Case("identifier", columns(number=np.arange(160)), "caution", "ids", "number", ("looks like an identifier",)),
    Case(
        "visits unheard of",
        lambda t: _visits(t, PAIRS),
        *("problem", "subjects", "subject", ("160 rows of 80 'subject'", "add (1 | subject)")),
        id=["subject", "visit"],
    ),
    Case(
        "visits",
        lambda t: _visits(t, PAIRS),
        *("note", "subjects", "subject", ("160 rows of 80 'subject', 2 rows each; 0 at several sites",)),
        formula="~ age + (1 | subject)",
        id=["subject", "visit"],
    ),
    Case(
        "traveling subjects",
        lambda t: _visits(t, TRAVELERS),
        *("note", "subjects", "subject", ("4 rows each; 40 at several sites",)),
        formula="~ age + (1 | subject)",
        id=["subject", "visit"],
    ),
    Case(
        "random effect of rows",
        lambda t: t,
        *("problem", "subjects", "subject", ("160 rows of 160 'subject': each has one row",)),
        formula="~ age + (1 | subject)",
    ),
]

FEATURES = [
    Case(
        "constant feature",
        columns(f3=2.5),
        "caution",
        "constant",
        "f3",
        ("'f3' (always 2.5)",),
        {"sd": 0.0, "min": 2.5},
    ),
    Case(
        "constant in a site",
        where("f3", 1.0, at("Oslo")),
        "caution",
        "constant",
        "f3",
        ("'f3' at 'Oslo'",),
        {"constant_sites": 1},
    ),
    Case(
        "missing cells", where("f3", np.nan, first(7)), "caution", "missing", "f3", ("'f3' (7 of 160)",), {"missing": 7}
    ),
    Case(
        "no value at a site",
        where("f3", np.nan, at("Oslo")),
        "problem",
        "missing",
        "f3",
        ("'f3' at 'Oslo' (0 of 40)",),
        {"missing": 40},
    ),
    Case(
        "one value at a site",
        where("f3", np.nan, lambda t: t.index[t["site"] == "Oslo"][1:]),
        *("caution", "missing", "f3", ("'f3' at 'Oslo' (1 of 40)",), {"missing": 39, "site": "Oslo"}),
        alone=False,
    ),
    Case("no value at all", columns(f3=np.nan), "problem", "missing", "f3", ("without any value: 'f3'",)),
    Case("infinite cell", where("f3", np.inf, first(1)), "problem", "missing", "f3", ("'f3' (1)",), {"infinite": 1}),
    Case(
        "missing code",
        where("f3", -999.0, first(2)),
        "problem",
        "missing codes",
        "f3",
        ("'f3' (-999 in 2 rows)",),
        {"at_min": 2, "min": -999.0},
    ),
    Case(
        "high code",
        where("f3", 9999.0, first(4)),
        "problem",
        "missing codes",
        "f3",
        ("'f3' (9999 in 4 rows)",),
        {"at_max": 4},
    ),
    Case(
        "negative volume",
        lambda t: t.assign(lh_volume=np.where(t.index == 7, -2.0, t["f3"] + 5)),
        *("caution", "negative values", "lh_volume", ("(1 of 160, smallest -2)",), {"negative": 1, "min": -2.0}),
    ),
    Case(
        "negative by its looks",
        lambda t: t.assign(wm=np.where(t.index == 7, -1.0, 20 + t["f3"])),
        *("caution", "negative values", "wm", ("(1 of 160, smallest -1)",), {"negative": 1}),
    ),
    Case(
        "failed thickness",
        lambda t: t.assign(lh_thickness=np.where(t.index < 3, 0.0, t["f3"] + 5)),
        *("caution", "negative values", "lh_thickness", ("'lh_thickness' (3 of 160)",), {"zeros": 3}),
    ),
    Case(
        "centred thickness",
        lambda t: t.assign(lh_thickness=t["f3"] - t["f3"].median()),
        *("note", "negative values", "lh_thickness", ("'lh_thickness' (80 of 160)",), {"negative": 80}),
    ),
    Case(
        "rating",
        columns(rating=np.resize([0, 1, 2, 2, 3], 160)),
        "problem",
        "bounded",
        "rating",
        ("(4 in 160 rows)",),
        {"distinct": 4},
    ),
    Case(
        "floor",
        lambda t: t.assign(f3=t["f3"].clip(lower=t["f3"].sort_values().iloc[31])),
        *("caution", "bounded", "f3", ("'f3' (32 of 160 are",), {"at_min": 32}),
    ),
    Case(
        "ceiling",
        lambda t: t.assign(f3=t["f3"].clip(upper=t["f3"].sort_values().iloc[-16])),
        *("caution", "bounded", "f3", ("'f3' (16 of 160 are",), {"at_max": 16}),
    ),
    Case("shares", columns(fa=draw().beta(2, 2, 160)), "note", "bounded", "fa", ("'fa' ({min:.3g} to {max:.3g})",)),
    Case(
        "heavy tails",
        columns(f3=draw(3).standard_cauchy(160)),
        "caution",
        "tails",
        "f3",
        ("'f3' ({far} values, farthest {farthest:.3g})",),
    ),
    Case("outlier", where("f3", 90.0, first(1)), "caution", "tails", "f3", ("'f3' (1 value, farthest",), {"far": 1}),
    Case(
        "duplicate",
        lambda t: t.assign(g=t["f3"]),
        "caution",
        "duplicates",
        "g",
        ("'g' = 'f3'",),
        {"duplicate_of": "f3"},
    ),
]
