"""What the tests of the report share: tables with hostile names, a diagnosis of any size, pages taken apart."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from markdown_it import MarkdownIt

import pycombat_gam as pcg
from pycombat_gam.diagnose import Diagnosis
from pycombat_gam.diagnose.rows import false_discovery, tidy
from pycombat_gam.report import Report, report

HOSTILE_FEATURES = (
    "<script>alert(1)</script>",
    "{{ 7*7 }}",
    "$x$ and `code`",
    "a|b*c*_d_[e](f)",
    "zero\u200bwidth",
    "right\u202eleft",
    "line\nbreak",
    "</style><script>document.title='x'</script>",
    "&lt;b&gt; &amp;",
    "long" + "g" * 300,
)
HOSTILE_SITES = ('"><img src=x onerror=alert(1)>', "javascript:alert(1)", "Oslo")


@functools.cache
def packaged() -> tuple[pcg.ComBat, pd.DataFrame, Report, Diagnosis]:
    """The packaged table, harmonized, and its report."""
    table = pcg.datasets.load_multisite()
    model = pcg.ComBat("~ s(age) + sex + dx", batch="site", id="subject", features="_thickness$").fit(table)
    after = model.transform(table)
    diagnosis = pcg.diagnose(table, after, model=model, permutations=99, seed=1)
    return model, table, report(model, table, after, diagnosis=diagnosis, seed=1), diagnosis


def hostile_table() -> pd.DataFrame:
    """A small study whose names are attacks."""
    rng = np.random.default_rng(7)
    n = 90
    site = np.repeat(np.array(HOSTILE_SITES, dtype=object), n // 3)
    age = rng.uniform(20, 70, n)
    values = (
        rng.normal(size=(n, len(HOSTILE_FEATURES))) + 0.03 * age[:, None] + np.repeat([0.0, 1.0, 2.0], n // 3)[:, None]
    )
    return pd.DataFrame({"site": site, "age <i>": age, **dict(zip(HOSTILE_FEATURES, values.T, strict=True))})


@functools.cache
def hostile() -> Report:
    """Its report."""
    table = hostile_table()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        model = pcg.ComBat("~ `age <i>`", batch="site", features=list(HOSTILE_FEATURES)).fit(table)
        after = model.transform(table)
        diagnosis = pcg.diagnose(table, after, model=model, permutations=19, held_out=False)
        return report(model, table, after, diagnosis=diagnosis, command=["pycombat-gam", "harmonize", "</pre><b>.csv"])


def synthetic_diagnosis(features: list[str], covariates: list[str]) -> Diagnosis:
    """A diagnosis of any number of features, all numbers drawn."""
    rng = np.random.default_rng(len(features))
    V = len(features)
    parts = []
    kinds = [("location", "ANOVA", ""), ("location", "Kruskal-Wallis", ""), ("scale", "Levene", "")]
    kinds += [("scale", "Fligner-Killeen", ""), *(("association", "partial R2", name) for name in covariates)]
    for aspect, measure, covariate in kinds:
        for state in ("before", "after"):
            p = rng.uniform(size=V) ** 3
            parts.append(
                pd.DataFrame(
                    {
                        "aspect": aspect, "measure": measure, "state": state, "feature": features, "site": "",
                        "covariate": covariate, "value": rng.uniform(size=V), "statistic": rng.uniform(1, 9, V),
                        "df": 3.0, "df_residual": 300.0, "p": p, "p_adjusted": np.minimum(1.0, 2 * p), "n": 400.0,
                    }
                )
            )  # fmt: skip
    table = pd.concat(parts, ignore_index=True)
    for name in ("lower", "upper", "chance"):
        table[name] = np.nan
    return Diagnosis(table, 0.05, 99, 0, ())


State: TypeAlias = dict[str, Any]
"""Columns of a diagnosis' table for one test and state: numbers, or arrays over features."""


def told(tests: dict[tuple[str, str], dict[str, State]]) -> Diagnosis:
    """A diagnosis with the numbers given, by aspect and measure (or covariate) and by state; p is adjusted here."""
    parts = []
    for (aspect, name), states in tests.items():
        for state, columns in states.items():
            names, values = list(columns), np.broadcast_arrays(*map(np.atleast_1d, columns.values()))
            part = pd.DataFrame(dict(zip(names, values, strict=True)))
            by_feature = aspect in ("location", "scale", "association")
            part["feature"] = [f"f{k}" for k in range(len(part))] if by_feature else ""
            part["covariate"] = name if aspect in ("association", "effect change", "covariate prediction") else ""
            measures = {"association": "partial R2", "effect change": "ratio", "covariate prediction": ""}
            measure = measures.get(aspect, name)
            if aspect == "covariate prediction":
                measure = "AUC" if columns["chance"] == 0.5 else "mean absolute error"
            parts.append(part.assign(aspect=aspect, measure=measure, state=state, site="", n=90.0, df_residual=85.0))
    return Diagnosis(false_discovery(pd.concat([tidy([], []), *parts], ignore_index=True)), 0.05, 99, 0, ())


# Pages taken apart


@dataclass
class ShownTable:
    """A table as a page has it: names of columns, and of each cell (text, data-value or None)."""

    header: list[str] = field(default_factory=list)
    rows: list[list[tuple[str, str | None]]] = field(default_factory=list)


class Page(HTMLParser):
    """Everything of a page that tests ask about."""

    VOID = ("meta", "img", "br", "link", "input")

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: dict[str, ShownTable] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self._table = ""
        self._cell: list[str] | None = None
        self._value: str | None = None
        self._head = False
        self.feed(text)
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = dict(attrs)
        self.tags.append((tag, own))
        if "id" in own:
            self.ids.append(str(own["id"]))
        if tag not in self.VOID:
            self._open.append(tag)
        if tag == "div" and "table" in str(own.get("class", "")).split():
            self._table = str(own["id"])
            self.tables[self._table] = ShownTable()
        elif tag == "thead":
            self._head = True
        elif tag == "tr" and not self._head and self._table:
            self.tables[self._table].rows.append([])
        elif tag in ("td", "th"):
            if "data-name" in own:
                self.tables[self._table].header.append(str(own["data-name"]))
            self._cell, self._value = [], own.get("data-value")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "thead":
            self._head = False
        elif tag in ("td", "th") and self._cell is not None:
            if not self._head:
                self.tables[self._table].rows[-1].append(("".join(self._cell), self._value))
            self._cell = None

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._cell is not None:
            self._cell.append(data)


def markdown_tables(text: str) -> list[list[list[str]]]:
    """Return the tables of a Markdown text as GitHub shows them: rows of texts, the header first."""
    tokens: list[Any] = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    tables: list[list[list[str]]] = []
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type == "inline" and before is not None and before.type in ("th_open", "td_open"):
            kinds = {child.type for child in token.children}
            assert kinds <= {"text", "text_special"}, f"Markdown of its own in a cell: {token.content} {kinds}"
            tables[-1][-1].append("".join(child.content for child in token.children))
    return tables
