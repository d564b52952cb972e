"""The report's "Effects after harmonization": the model's own tests, beside what a test without site would do."""

from __future__ import annotations

import re

import pandas as pd
from helpers.report_cases import packaged

import pycombat_gam as pcg
from pycombat_gam.infer.effects import COLUMNS, Effects
from pycombat_gam.report.effects import effects_section
from pycombat_gam.report.figures import effect_figures
from pycombat_gam.report.parts import MOST_ROWS, Section, Table


def section() -> Section:
    (one,) = [section for section in packaged()[2].sections if section.id == "effects"]
    return one


def texts(one: Section) -> str:
    return " ".join(getattr(part, "text", "") for part in one.parts)


def test_the_table_is_that_of_the_models_tests() -> None:
    model, _, _, _ = packaged()
    (shown,) = section().tables.values()
    assert set(shown.columns) == set(COLUMNS)
    expected = model.test().table
    keys = ["term", "feature"]
    pd.testing.assert_frame_equal(
        shown.sort_values(keys, ignore_index=True)[list(COLUMNS)], expected.sort_values(keys, ignore_index=True)
    )
    assert all(rows["p"].is_monotonic_increasing for _, rows in shown.groupby("term"))
    notes = [text for part in section().parts for text in getattr(part, "texts", ())]
    assert notes == list(model.test().notes)


def test_the_level_of_a_test_without_site_stands_beside_it() -> None:
    model, table, _, _ = packaged()
    audit = pcg.audit(table, model.formula, "site", id="subject", features="_thickness$")
    for _, row in audit.imbalance.iterrows():
        assert f"{row['term']} {100 * row['naive_level']:.3g} %" in texts(section())
    for sentence in re.split(r"(?<=\.)\s", texts(section())):
        # As long as people read: a limit of the house.
        assert len(sentence.split()) <= 30


def test_few_features_are_a_forest_many_a_volcano() -> None:
    effects = packaged()[0].test()
    few = effects.table["feature"].isin(effects.table["feature"].unique()[:4])
    small = Effects(effects.title, effects.table[few], effects.level, ())
    alt = [figure.alt for figure in effect_figures(small)]
    assert alt == ["A forest plot for sex and for dx.", "A volcano plot for s(age)."]
    alt = [figure.alt for figure in effect_figures(effects)]
    assert alt == ["A volcano plot for sex and for dx.", "A volcano plot for s(age)."]
    assert [part.alt for part in section().parts if part.kind == "figure"] == alt


def test_of_many_features_each_term_shows_its_smallest_p() -> None:
    effects = packaged()[0].test()
    table = pd.concat([effects.table.assign(feature=effects.table["feature"] + f"_{k}") for k in range(20)])
    (shown,) = [part for part in effects_section(Effects("", table, 0.95, ())).parts if isinstance(part, Table)]
    assert shown.frame.groupby("term").size().to_dict() == dict.fromkeys(effects.table["term"].unique(), MOST_ROWS // 3)
    assert shown.note == "The 333 smallest p of each term, of 1,920 rows; all of them: model.test().table"
    for term, rows in shown.frame.groupby("term"):
        assert rows["p"].max() == table.loc[table["term"] == term, "p"].nsmallest(MOST_ROWS // 3).max()


def test_a_model_that_cannot_be_tested_says_so() -> None:
    assert texts(effects_section(None)).startswith("Nothing was tested")
    table = pcg.datasets.load_multisite()
    model = pcg.ComBat("~ 1", batch="site", id="subject", features="_thickness$").fit(table)
    assert model.tested() is None
