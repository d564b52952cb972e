"""Messages about designs, sites and tables: what each advises is done here to the letter, and has to work."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from importlib.metadata import requires
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from pycombat_gam.errors import FLOW, PcgError
from r_bridge.session import RPY2

FEATURES = ["f0", "f1", "f2"]


def table(rows: int = 80) -> pd.DataFrame:
    rng = np.random.default_rng(6)
    made = pd.DataFrame({"id": [f"s{i:03d}" for i in range(rows)]})
    made["site"] = rng.permutation(np.resize(["A", "B"], rows))
    made["age"] = rng.uniform(20, 80, rows).round(1)
    made["size"] = rng.uniform(1, 2, rows)
    made["sex"] = rng.permutation(np.resize(["F", "M"], rows))
    made["bin"] = (made["sex"] == "M").astype(int)
    made["dob"] = pd.date_range("1960-01-01", periods=rows, freq="200D").strftime("%d/%m/%Y")
    for name in FEATURES:
        made[name] = 0.02 * made["age"] + rng.normal(size=rows)
    return made


def fit(formula: str, rows: pd.DataFrame | None = None, batch: Any = "site", **options: Any) -> pcg.ComBat:
    rows = table() if rows is None else rows
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        return pcg.ComBat(formula, batch=batch, features=FEATURES, **{"id": "id", **options}).fit(rows)


def said(call: Callable[[], object]) -> str:
    with pytest.raises(PcgError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Designs


def without(formula: str, term: str) -> str:
    """A formula less one of its terms, as the message writes it."""
    left = [part for part in re.split(r" \+ ", formula) if part.replace(" ", "") != term.replace(" ", "")]
    assert len(left) < len(re.split(r" \+ ", formula)), (formula, term)
    return " + ".join(left) or "1"


class Formula(NamedTuple):
    terms: str
    drop: tuple[str, ...]
    """What the message says to drop or remove, one or the other or all of them."""
    ordered: str = ""
    """What it says to make an ordered factor instead."""


FORMULAS = [
    Formula("s(age) + s(age, by = sex)", ("s(age)",), "sex"),
    Formula("sex + s(age, by = sex) + s(age)", ("s(age)",), "sex"),
    Formula("te(age, size) + te(age, size, by = sex)", ("te(age, size)",), "sex"),
    Formula("age + s(age)", ("age",)),
    Formula("age + s(age, by = sex)", ("age",)),
    Formula("bin + s(age, by = bin)", ("bin",)),
    Formula("age + size + te(age, size)", ("age", "size")),
    Formula("dob + age", ("dob",)),
    Formula("age + I(2 * age)", ("I(2 * age)",)),
    Formula("sex + bin", ("bin",)),
]


@pytest.mark.parametrize("case", FORMULAS, ids=[case.terms for case in FORMULAS])
def test_terms_that_hold_one_another(case: Formula) -> None:
    message = said(lambda: fit(f"~ {case.terms}"))
    terms = case.terms
    for term in case.drop:
        named = re.escape(f"'{term}'")
        assert re.search(rf"([Dd]rop|[Rr]emove) {named}|{named} is .*Remove it", message), message
        terms = without(terms, term)
    fit(f"~ {terms}")
    assert bool(case.ordered) == ("an ordered factor" in message)
    if case.ordered:
        assert f"make '{case.ordered}' an ordered factor in '" in message
        levels = pd.CategoricalDtype(["F", "M"], ordered=True)
        fit(f"~ {case.terms}", table().assign(**{case.ordered: lambda t: t[case.ordered].astype(levels)}))
        fit(f"~ {case.terms.replace(f'by = {case.ordered}', f'by = ordered({case.ordered})')}")


def test_the_terms_named_are_those_of_the_formula() -> None:
    message = said(lambda: fit("~ s(age) + s(age, by = sex)"))
    assert "'s(age, by = sex)' is collinear: a combination of 's(age)' and the batches" in message
    assert "s(age):sex" not in message and "unpenalised" not in message


def test_dates_as_text_are_told_from_groups() -> None:
    message = said(lambda: fit("~ sex + dob"))
    assert "'dob' is a factor with 80 distinct values in 80 rows" in message and "dob27" not in message
    days = pd.to_datetime(table()["dob"], dayfirst=True)
    fit("~ sex + dob", table().assign(dob=(days - days.min()).dt.days))
    assert "'dob' is a factor with 80 distinct values" in said(lambda: pcg.gam("f0 ~ dob", table()))


# Sites


def coded(codes: tuple[object, ...]) -> pd.DataFrame:
    """Sites under other names."""
    return table().assign(site=lambda t: t["site"].map(dict(zip("AB", codes, strict=True))).astype(object))


@pytest.mark.parametrize(
    ("fitted", "new"),
    [
        (("001", "002"), (1, 2)),
        (("A", "B"), (" A", "b ")),
        (("Oslo", "Rome"), ("oslo", "ROME")),
        ((1, 2), ("01", "02")),
    ],
)
def test_a_new_site_spelled_like_a_known_one(fitted: tuple[object, ...], new: tuple[object, ...]) -> None:
    model, rows = fit("~ age", coded(fitted)), coded(new)
    message = said(lambda: model.transform(rows))
    assert f"'{new[0]}' is spelled like '{fitted[0]}'" in message and "estimate" not in message
    pairs = dict(re.findall(r"'([^']*)' is spelled like '([^']*)'", message))
    model.transform(rows.assign(site=rows["site"].map(lambda label: pairs[str(label)])))


def test_a_new_site_beside_one_spelled_alike() -> None:
    rows = coded((1, 7))
    message = said(lambda: fit("~ age", coded(("001", "002"))).transform(rows))
    assert "'1' is spelled like '001'" in message
    assert message.endswith("for the others, use on_unseen='estimate' to estimate it from these rows")
    model = fit("~ age", coded(("001", "002")), on_unseen="estimate")
    with pytest.warns(pcg.PcgWarning, match="batch '7' was not in the fit"):
        model.transform(rows.assign(site=rows["site"].replace({1: "001"})))


def test_one_site_as_number_and_text() -> None:
    rows = table().assign(site=lambda t: [int(i % 2) if i % 3 else str(i % 2) for i in range(len(t))])
    message = said(lambda: fit("~ age", rows))
    assert "spells one batch two ways, '0' and 0" in message or "spells one batch two ways, 1 and '1'" in message
    assert "table['site'].astype(str)" in message
    fit("~ age", rows.assign(site=rows["site"].astype(str)))
    mixed = table().assign(site=lambda t: ["1.0" if i % 4 == 1 else str(i % 2) for i in range(len(t))])
    assert "astype" not in said(lambda: fit("~ age", mixed))  # it would change nothing
    fit("~ age", mixed.assign(site=mixed["site"].replace({"1.0": "1"})))


@pytest.mark.parametrize("argument", ["ref_batch", "to"])
def test_a_site_named_otherwise(argument: str) -> None:
    message = said(lambda: pcg.batch.levels.BatchLevels("site", ("001", "Oslo")).index(1, argument))
    assert "did you mean '001'?" in message
    assert "did you mean 'Oslo'?" in said(lambda: pcg.batch.levels.BatchLevels("site", ("001", "Oslo")).index(" oslo"))


@pytest.mark.parametrize("column", ["age", "id", "dob"])
def test_a_batch_column_that_is_none(column: str) -> None:
    options: dict[str, Any] = {"id": None} if column == "id" else {}
    message = said(lambda: fit("~ sex", batch=column, **options))
    assert re.search(rf"batch column '{column}' has \d+ distinct values in 80 rows, so it does not hold sites", message)
    assert "eb=False" not in message and "confounded" not in message


# Tables


class Polars:
    """What polars' DataFrame is to a caller who knows pandas only."""

    shape = (80, 10)

    def to_pandas(self) -> pd.DataFrame:
        return table()


Polars.__module__ = "polars.dataframe.frame"
Polars.__name__ = "DataFrame"


def genes() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Features in rows, samples in columns; and the samples' covariates."""
    covariates = table().set_index("id")[["site", "age"]]
    return table().set_index("id")[FEATURES].T, covariates


def combat(**options: Any) -> pcg.ComBat:
    return pcg.ComBat("~ age", batch="site", **options)


TWO = table().assign(scanner=lambda t: np.resize(["x", "x", "y", "y"], len(t)))
LEVELS = table()[["site", "age", *FEATURES]]
LEVELS.columns = pd.MultiIndex.from_tuples([("site", ""), ("age", ""), *(("f", name) for name in FEATURES)])
SAMPLES, COVARIATES = genes()

TABLES: list[tuple[str, Callable[[], object], str, Callable[[], object]]] = [
    (
        "a polars frame",
        lambda: combat(features=FEATURES).fit(Polars()),  # type: ignore[arg-type]
        "X is a polars DataFrame and covariates is None: give X.to_pandas()",
        lambda: combat(features=FEATURES).fit(Polars().to_pandas()),
    ),
    (
        "polars covariates",
        lambda: combat().fit(table()[FEATURES].to_numpy(), Polars()),
        "give covariates.to_pandas()",
        lambda: combat().fit(table()[FEATURES].to_numpy(), Polars().to_pandas()),
    ),
    (
        "a polars frame for gam",
        lambda: pcg.gam("f0 ~ age", Polars()),  # type: ignore[arg-type]
        "the data are a polars DataFrame; give data.to_pandas()",
        lambda: pcg.gam("f0 ~ age", Polars().to_pandas()),
    ),
    (
        "a list of rows",
        lambda: combat(features=FEATURES).fit(table().to_dict("records")),  # type: ignore[arg-type]
        "give pandas.DataFrame(X)",
        lambda: combat(features=FEATURES).fit(pd.DataFrame(table().to_dict("records"))),
    ),
    (
        "genes × samples",
        lambda: combat().fit(SAMPLES, COVARIATES),
        "give X.T",
        lambda: combat().fit(SAMPLES.T, COVARIATES),
    ),
    (
        "genes × samples, otherwise ordered",
        lambda: combat().fit(SAMPLES.iloc[:, ::-1], COVARIATES),
        "give X.T.loc[covariates.index]",
        lambda: combat().fit(SAMPLES.iloc[:, ::-1].T.loc[COVARIATES.index], COVARIATES),
    ),
    (
        "genes × samples as an array",
        lambda: combat().fit(SAMPLES.to_numpy(), COVARIATES),
        "give X.T",
        lambda: combat().fit(SAMPLES.to_numpy().T, COVARIATES),
    ),
    (
        "as many genes as samples",
        lambda: combat().fit(pd.concat([SAMPLES] * 27).iloc[:80].set_axis([f"g{i}" for i in range(80)]), COVARIATES),
        "give X.T",
        lambda: combat().fit(SAMPLES.T, COVARIATES),
    ),
    (
        "a wide table on its side",
        lambda: combat(features=FEATURES).fit(table().set_index("id").T),
        "'f0' is a row: give table.T.infer_objects()",
        lambda: combat(features=FEATURES).fit(table().set_index("id").T.T.infer_objects()),
    ),
    (
        "features in another order",
        lambda: combat().fit(SAMPLES.T.iloc[::-1], COVARIATES),
        "give X.loc[covariates.index]",
        lambda: combat().fit(SAMPLES.T.iloc[::-1].loc[COVARIATES.index], COVARIATES),
    ),
    (
        "features without the index",
        lambda: combat().fit(SAMPLES.T.reset_index(drop=True), COVARIATES),
        "give X.set_axis(covariates.index)",
        lambda: combat().fit(SAMPLES.T.reset_index(drop=True).set_axis(COVARIATES.index), COVARIATES),
    ),
    (
        "features of some rows",
        lambda: combat().fit(SAMPLES.T.iloc[5:70], COVARIATES),
        "65 of them are in both: rows = X.index.intersection(covariates.index), then .loc[rows] of each",
        lambda: combat().fit(SAMPLES.T.iloc[5:70], COVARIATES.iloc[5:70]),
    ),
    (
        "the subject as index",
        lambda: combat(features=FEATURES, id="id").fit(table().set_index("id")),
        "'id' is in the index: give table.reset_index()",
        lambda: combat(features=FEATURES, id="id").fit(table().set_index("id").reset_index()),
    ),
    (
        "a covariate as index",
        lambda: combat(features=FEATURES).fit(table().set_index("age")),
        "'age' is in the index: give table.reset_index()",
        lambda: combat(features=FEATURES).fit(table().set_index("age").reset_index()),
    ),
    (
        "columns of two levels",
        lambda: combat(features="^f").fit(LEVELS),
        "the table has columns of 2 levels; give them one: "
        "table.columns = ['_'.join(map(str, names)).strip('_') for names in table.columns]",
        lambda: combat(features="^f").fit(
            LEVELS.set_axis(["_".join(map(str, names)).strip("_") for names in LEVELS.columns], axis=1)
        ),
    ),
    (
        "two batch columns",
        lambda: fit("~ age", TWO, ["site", "scanner"]),
        "combine them, table['site_scanner'] = table['site'].astype(str) + '_' + table['scanner'].astype(str), "
        "and give batch='site_scanner'",
        lambda: fit(
            "~ age",
            TWO.assign(site_scanner=TWO["site"].astype(str) + "_" + TWO["scanner"].astype(str)),
            "site_scanner",
        ),
    ),
]


@pytest.mark.filterwarnings("ignore::pycombat_gam.errors.PcgWarning")
@pytest.mark.parametrize(("wrong", "words", "right"), [case[1:] for case in TABLES], ids=[case[0] for case in TABLES])
def test_tables_of_another_kind_or_shape(wrong: Callable[[], object], words: str, right: Callable[[], object]) -> None:
    assert words in said(wrong)
    right()


def test_what_a_missing_extra_says_to_install_is_what_the_extra_installs() -> None:
    """By names that an index knows: from a clone, ``pip install 'pycombat-gam[flow]'`` finds nothing."""
    extras: dict[str, set[str]] = {}
    for requirement in requires("pycombat-gam") or []:
        if extra := re.fullmatch(r'([^;]+); extra == [\'"](\w+)[\'"]', requirement):
            extras.setdefault(extra[2], set()).add(extra[1].strip())
    assert set(re.findall(r"'([^']+)'", FLOW)) == extras["flow"]
    assert set(re.findall(r"'([^']+)'", RPY2)) == extras["r"]
    assert extras["scale"] == {"pyarrow>=14"}
