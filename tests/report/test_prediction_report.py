"""The report of a prediction: the guarantee first and in words, every table whole, every citation listed."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.predictions import SITES, fitted, hostile, outcomes, predictor, risks, times
from helpers.report_cases import Page

import pycombat_gam as pcg
from pycombat_gam.errors import DataError, OptionError
from pycombat_gam.predict.predictor import Predictor
from pycombat_gam.report import Report
from pycombat_gam.report.parts import Sentences
from pycombat_gam.report.predicted_rows import predicted_rows
from pycombat_gam.report.prediction import these_rows, unseen
from pycombat_gam.report.prediction_figures import choices, coverage_figures, decision_figures
from pycombat_gam.report.prediction_methods import evaluation_text, methods_text, python_call, references, sets_text
from pycombat_gam.report.prediction_verdict import verdict
from pycombat_gam.report.tripod import AUTHORS, ITEMS, tripod_table

ODD = ('"><img src=x onerror=alert(1)>', "<script>", "{{ 7*7 }}", "a|b*c*", "Oslo", "$x$")


@cache
def made() -> Report:
    return pcg.report(fitted(harmonized=True), outcomes())


def words(parts: tuple[Sentences, ...]) -> str:
    return " ".join(f"{part.lead} {part.text}" for part in parts)


def sentences(text: str) -> list[str]:
    return [one for one in re.split(r"(?<=[.:?])\s+(?=[A-Z0-9])", text) if one]


def test_the_guarantee_comes_first_with_for_whom_what_level_and_what_not() -> None:
    first, second, *_ = verdict(fitted(harmonized=True))
    assert first.lead == (
        "Guaranteed: at a new site, sets hold the true dx in at least 80 % of patients, whichever class is the true "
        "one."
    )
    assert "For whom: patients at new sites that come from where the 6 sites of the fit come from." in first.text
    assert "A smaller site is harmonized in bags of rows, and so are those that calibrate." in first.text
    assert "At what level: 80 %, on average over them." in first.text
    assert "6 sites can guarantee 6/7 = 85.7 % at most." in first.text and first.tone == "good"
    assert second.lead == "Not guaranteed:"
    assert "That level at every new site" in second.text and "A site of another prevalence" in second.text


@pytest.mark.parametrize(
    ("changed", "lead", "text"),
    [
        ({"level": 0.9}, "At level 0.9 nothing can be guaranteed: every class stays in every set.", "6/7 = 85.7 %"),
        (
            {"guarantee": False},
            "Nothing is guaranteed.",
            "estimated to hold the true dx at a new site in 80 %",
        ),
        (
            {"sites": 0.8},
            "Guaranteed: at 80 % of new sites, sets hold the true dx",
            "At what level: 80 %, at 80 % of them.",
        ),
        ({"per_class": False}, "Guaranteed: at a new site, sets hold the true dx in at least 80 % of patients.", "6/7"),
    ],
)
def test_what_is_asked_for_changes_the_words(changed: dict[str, object], lead: str, text: str) -> None:
    model = predictor().fit(outcomes())
    first = verdict(model.set_params(**changed))[0]
    assert first.lead.startswith(lead) and text in first.text
    assert (first.tone == "bad") == ("level" in changed)


def test_sentences_are_short() -> None:
    for model in (fitted(harmonized=True), fitted("age ~ dx"), fitted("stage ~ age"), risks()):
        text = " ".join([words(verdict(model)), methods_text(model), sets_text(model), evaluation_text(model)])
        long = [one for one in sentences(text) if len(one.split()) > 34 and "Computations" not in one]
        # Numbers with their intervals count as words; without them the limit is 30.
        assert not [one for one in long if len(re.findall(r"[A-Za-z]{2,}", one)) > 30], long


def test_the_verdict_has_the_numbers_of_the_tables() -> None:
    model = fitted(harmonized=True)
    validation = model.validation
    text = words(verdict(model))
    sets = validation.sets.query("features == 'harmonized' and sets == 'guaranteed'").set_index("class")
    assert f"held the truth in {100 * sets.loc['all', 'coverage']:.1f} % (least" in text
    assert f"control {100 * sets.loc['control', 'coverage']:.1f} %" in text
    auc = validation.overall.query("features == 'harmonized' and measure == 'AUC'").iloc[0]
    assert f"AUC of patient at sites left out is {auc['estimate']:.3f} (95 % interval {auc['lower']:.3f}" in text
    assert f"At a new site AUC of patient lies between {auc['new_lower']:.3f}" in text
    assert "Harmonizing trades robustness to scanners for robustness to prevalence." in text
    assert f"{validation.comparison['difference'].iloc[0]:+.3f}".replace("-", "−") in text


def test_sections_and_tables_are_all_there() -> None:
    report = made()
    assert report.title == "Prediction report" and "# Prediction report" in report.to_markdown()
    assert [section.id for section in report.sections] == ["unseen", "tripod", "methods", "notes", "reproduce"]
    validation = fitted(harmonized=True).validation
    for name, table in {
        "overall": validation.overall,
        "by-site": validation.by_site,
        "sets": validation.sets,
        "coverage": validation.coverage,
        "calibration": validation.calibration,
        "comparison": validation.comparison,
    }.items():
        pd.testing.assert_frame_equal(report.tables[f"unseen-{name}"], table)
    page = Page(report.to_html())
    figures = [own["id"] for tag, own in page.tags if tag == "figure"]
    assert figures == [
        "figure-auc-patient", "figure-coverage", "figure-calibration-patient", "figure-o-e-patient",
        "figure-decisions-patient",
    ]  # fmt: skip
    assert len(page.ids) == len(set(page.ids))


def test_the_rows_of_the_fit_are_not_predicted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Predictor, "predict", refuse)
    assert predicted_rows(fitted(), outcomes()) is None
    with pytest.raises(AssertionError):
        predicted_rows(fitted(), outcomes().assign(subject=lambda rows: rows["subject"] + "x"))


def test_other_rows_are_predicted_and_compared() -> None:
    table = outcomes(9, 12, ("Aarhus", "Bergen", "Zadar"))
    predicted = predicted_rows(fitted(), table)
    assert predicted is not None
    section = these_rows(fitted(), predicted)
    answers = fitted().predict(table)
    held = [truth in members for truth, members in zip(table["dx"], answers["set"], strict=True)]
    by_site = pd.Series(held).groupby(table["site"]).mean()
    coverage = section.tables["rows-coverage"]
    whole = coverage[coverage["class"] == "all"].set_index("site")["coverage"]
    # Means of the same zeros and ones.
    np.testing.assert_allclose(whole[by_site.index], by_site, rtol=1e-12)
    text = section.to_markdown()
    assert "36 rows of 3 sites were predicted by the model." in text
    assert "own rows for 24 and all sites for 12" in text or "all sites for 12 and own rows for 24" in text
    assert set(section.tables["rows-by-site"]["site"]) == {"Aarhus", "Bergen", "Zadar"}
    assert "table_of_fit" in python_call(fitted(), other=True)


def test_numbers_and_times_have_reports() -> None:
    assert "unseen-benefit" not in unseen(fitted("age ~ dx")).tables
    assert "sets hold the true age" in verdict(fitted("age ~ dx"))[0].lead
    parts = verdict(risks())
    assert parts[0].lead == "Nothing is guaranteed." and "by 1.5" in words(parts) and "by 3" in words(parts)
    predicted = predicted_rows(risks(), times(7, 12))
    assert predicted is not None
    tables = unseen(risks()).tables | these_rows(risks(), predicted).tables
    assert not {"unseen-coverage", "unseen-sets", "rows-coverage"} & set(tables)
    assert set(tables["rows-by-site"]["horizon"]) == {1.5, 3.0}
    assert choices(risks()) == [{"horizon": 1.5}, {"horizon": 3.0}]
    assert coverage_figures(risks()) == []
    assert [figure.id for figure in decision_figures(risks())] == ["figure-decisions-1-5", "figure-decisions-3-0"]


def test_other_rows_of_a_taxonomy_are_compared() -> None:
    tree = pcg.Taxonomy({"early": "ill", "late": "ill", "ill": "all", "none": "all"})
    model = predictor("stage ~ age", taxonomy=tree).fit(outcomes())
    table = outcomes(9, 12, ("Zadar", "Ypres"))
    predicted = predicted_rows(model, table)
    assert predicted is not None
    answers = model.predict(table)
    held = [truth in members for truth, members in zip(table["stage"], answers["set"], strict=True)]
    whole = predicted.coverage.query("site == 'Ypres' and `class` == 'all'")["coverage"].iloc[0]
    # Means of the same zeros and ones.
    assert whole == pytest.approx(np.mean(held[12:]), rel=1e-12)
    assert {"ill", "early", "late", "none"} <= set(predicted.by_site["class"])
    assert "pcg.Taxonomy({'early': 'ill'" in python_call(model, other=False)


def test_every_citation_is_listed() -> None:
    for model in (fitted(harmonized=True), fitted("age ~ dx"), risks()):
        text = " ".join([methods_text(model), sets_text(model), evaluation_text(model)])
        listed = {paper.cited for paper in references(model)}
        years = re.findall(r"\b(?:19|20)\d\d\b", text)
        assert all(any(year in cited for cited in listed) for year in years)
        assert all(cited.split(",")[0].split(" ")[0] in text for cited in listed)
    assert "Duchi" in {paper.cited.split()[0] for paper in references(predictor(sites=0.8).fit(outcomes()))}


def test_tripod_items_are_answered_or_left_to_the_authors() -> None:
    table = tripod_table(fitted())
    assert len(table) == len(ITEMS)
    assert {int(item) for item in table["item"] if item.isdigit()} == set(range(1, 20))
    titles = {section.title for section in made().sections} | {"Verdict"}
    for where in table["where"]:
        assert AUTHORS in where or any(title in where for title in titles) or where.startswith("none"), where


def test_how_to_reproduce_is_code_that_makes_the_same_model() -> None:
    model = fitted(harmonized=True)
    scope: dict[str, object] = {"table": outcomes()}
    exec(python_call(model, other=False).split("model.fit")[0], scope)
    again = scope["model"]
    assert isinstance(again, pcg.Predictor)
    params, expected = again.get_params(), model.get_params()
    assert params.pop("harmonizer").get_params() == expected.pop("harmonizer").get_params()
    assert params == expected


def test_names_of_sites_are_text() -> None:
    page = Page(unseen(hostile(ODD)).to_html())
    cells = {text for table in page.tables.values() for row in table.rows for text, _ in row}
    assert set(ODD) <= cells
    assert not [tag for tag, _ in page.tags if tag == "img"]


def test_files_are_written(tmp_path: Path) -> None:
    assert [path.name for path in made().write(tmp_path)] == ["report.html", "report.md"]
    assert all(site in (tmp_path / "report.md").read_text() for site in SITES)


def test_wrong_calls() -> None:
    table = outcomes()
    with pytest.raises(OptionError, match="after, fit_mask is for a harmonizer"):
        pcg.report(fitted(), table, table, fit_mask=np.ones(len(table), dtype=bool))
    with pytest.raises(DataError, match=r"the outcome 'dx' is missing in 1 row \(index 4\): a report compares"):
        pcg.report(fitted(), table.assign(dx=table["dx"].where(table.index != 4)))
    with pytest.raises(DataError, match="give a pandas DataFrame"):
        pcg.report(fitted(), table.to_numpy())
