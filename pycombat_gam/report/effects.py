"""The section "Effects after harmonization": the tests of every term, sites accounted for, as a paper reports them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from pycombat_gam.infer.effects import Effects
from pycombat_gam.report.legend import TESTED
from pycombat_gam.report.parts import MOST_ROWS, Code, Figure, Items, Part, Section, Sentences, Table
from pycombat_gam.study.origin import OTHER, Origin
from pycombat_gam.words import count, joined, percent

if TYPE_CHECKING:
    from pycombat_gam.audit import Audit

TITLE = "Effects after harmonization"
CODE = "effects = model.test()\neffects.table"


def effects_section(
    effects: Effects | None, audit: Audit | None = None, origin: Origin | None = None, figures: Sequence[Figure] = ()
) -> Section:
    """Show what the model's own tests find.

    Parameters
    ----------
    effects : what `ComBat.test` returns; None for a model that cannot be tested.
    audit : for the level of a test that ignores sites; origin : how the reported rows relate to those of the fit.
    """
    if effects is None:
        text = "Nothing was tested: the model has no covariate, kept no statistics of its sites, or is a flow."
        return Section("effects", TITLE, (Sentences(text),))
    texts = ["Each term is tested in every feature of the rows of the fit, with sites accounted for."]
    texts.append("Harmonization changes none of these tests.")
    if origin is not None and origin.kind == OTHER:
        texts.append("The rows of this report are others.")
    texts += _ignoring_sites(audit)
    parts: list[Part] = [Sentences(" ".join(texts)), *figures, _table(effects)]
    if effects.notes:
        parts.append(Items(effects.notes))
    parts.append(Code("effects-code", "Python", CODE, "python"))
    return Section("effects", TITLE, tuple(parts))


def _ignoring_sites(audit: Audit | None) -> list[str]:
    """Say which level tests of the harmonized table have that ignore sites."""
    if audit is None:
        return []
    rows = audit.imbalance.dropna(subset=["naive_level"])
    each = [f"{row['term']} {percent(row['naive_level'])}" for _, row in rows.iterrows()]
    if not each:
        return []
    return [
        f"A test of the harmonized table that ignores site has another level than 5 %: {joined(each[:6])}.",
        *([f"The audit has the other {count(len(each) - 6, 'term')}."] if len(each) > 6 else []),
        "These are the levels where site effects are removed in full (see the audit).",
    ]


def _table(effects: Effects) -> Table:
    """Put the smallest p of each term first."""
    terms = effects.table["term"].unique().tolist()
    most = max(1, MOST_ROWS // len(terms))
    ranked = effects.table.sort_values("p", kind="stable")
    shown = pd.concat([ranked[ranked["term"] == term].head(most) for term in terms], ignore_index=True)
    front = ["term", "feature"]
    table = Table.of(
        "effects-table",
        "Tests of every term, the smallest p first",
        shown[[*front, *(name for name in shown.columns if name not in front)]],
        where="model.test().table",
        legend=TESTED,
    )
    if len(shown) < len(effects.table):
        note = f"The {most:,} smallest p of each term, of {len(effects.table):,} rows; all of them: model.test().table"
        table = replace(table, note=note)
    return table
