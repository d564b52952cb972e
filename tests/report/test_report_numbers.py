"""Every number of a report equals what the Python API returns, in the page and in Markdown."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.report_cases import Page, hostile, markdown_tables, packaged, synthetic_diagnosis

import pycombat_gam as pcg
from pycombat_gam.report import Report
from pycombat_gam.report.cells import visible
from pycombat_gam.report.legend import UNKNOWN_SITE, of_comparison
from pycombat_gam.report.page import escaped
from pycombat_gam.report.parts import MOST_ROWS, Table
from pycombat_gam.report.sections import before_and_after, biology, feature_table, notes
from pycombat_gam.report.wording import three

REPORTS = {"packaged": lambda: packaged()[2], "hostile": hostile}


def tables_of(found: Report) -> list[Table]:
    return [part for section in found.sections for part in section.parts if isinstance(part, Table)]


@pytest.mark.parametrize("name", REPORTS)
def test_every_cell_of_the_page_is_the_tables(name: str) -> None:
    found = REPORTS[name]()
    page = Page(found.to_html())
    assert list(page.tables) == [table.id for table in tables_of(found)]
    cells = 0
    for table in tables_of(found):
        shown = page.tables[table.id]
        assert shown.header == [visible(column) for column in table.frame.columns]
        assert len(shown.rows) == len(table.frame)
        for at, row in enumerate(shown.rows):
            for column, (text, value) in enumerate(row):
                given = table.frame.iat[at, column]
                if value is None:
                    assert text in (visible(given), "–", "yes", "no")
                elif value == "":
                    assert math.isnan(given)
                else:
                    assert float(value) == given, (table.id, at, column)
                cells += 1
    assert cells > 500


@pytest.mark.parametrize("name", REPORTS)
def test_markdown_has_the_same_cells(name: str) -> None:
    found = REPORTS[name]()
    page = Page(found.to_html())
    shown = markdown_tables(found.to_markdown())
    assert len(shown) == len(page.tables)
    for rows, table in zip(shown, page.tables.values(), strict=True):
        assert rows[0] == table.header
        assert rows[1:] == [[text for text, _ in row] for row in table.rows]


def test_tables_are_those_of_the_api() -> None:
    """What is shown is compared with the cells above; here with where it comes from."""
    model, _, found, diagnosis = packaged()
    pd.testing.assert_frame_equal(found.tables["summary"], diagnosis.summary)
    shown = found.tables["tests-location"].set_index("feature")
    for measure in ("ANOVA", "Kruskal-Wallis"):
        for state in ("before", "after"):
            rows = diagnosis.of("location").query("measure == @measure and state == @state").set_index("feature")
            effect = next(column for column in shown if column.startswith(measure) and column.endswith(f"² {state}"))
            np.testing.assert_array_equal(shown[effect], rows.loc[shown.index, "value"])
            np.testing.assert_array_equal(shown[f"{measure}, adjusted p {state}"], rows.loc[shown.index, "p_adjusted"])
    association = found.tables["tests-association"].set_index("feature")
    rows = diagnosis.of("association").query("covariate == 'dx' and state == 'after'").set_index("feature")
    np.testing.assert_array_equal(association["dx, partial R² after"], rows.loc[association.index, "value"])
    prediction = found.tables["tests-site-prediction"].set_index("measure")
    rows = diagnosis.of("site prediction").query("state == 'held out'").set_index("measure")
    for name in ("value", "lower", "upper"):
        np.testing.assert_array_equal(prediction[f"{name} held out"], rows.loc[prediction.index, name])
    distribution = found.tables["tests-distribution"]
    rows = diagnosis.of("distribution")
    for name in ("value", "p", "p_adjusted"):
        together = pd.concat([distribution[f"{name} before"], distribution[f"{name} after"]])
        np.testing.assert_array_equal(np.sort(together), np.sort(rows[name]))
    kept = found.tables["shrinkage-sites"].set_index("site")["location kept"]
    rows = diagnosis.of("shrinkage").query("measure == 'location kept'").set_index("site")
    np.testing.assert_array_equal(kept, rows.loc[kept.index, "value"])
    sites = found.tables["estimates-sites"].set_index("site")
    pd.testing.assert_frame_equal(sites, model.summary().batches[sites.columns], check_names=False)


def test_the_audit_is_the_audits() -> None:
    model, table, found, _ = packaged()
    audit = pcg.audit(table, model.formula, "site", id="subject", features="_thickness$")
    filled = {name: frame for name, frame in audit.tables.items() if len(frame)}
    assert len(filled) > 5
    for name, frame in filled.items():
        pd.testing.assert_frame_equal(found.tables[f"audit-{name}"], frame)
    text = " ".join(Page(found.to_html()).texts)
    for verdict in audit.findings["verdict"]:
        assert verdict in text


def test_columns_are_explained() -> None:
    model, table, found, _ = packaged()
    audit = pcg.audit(table, model.formula, "site", id="subject", features="_thickness$")
    page = Page(found.to_html())
    told = [one for one in tables_of(found) if one.legend]
    assert len([tag for tag, own in page.tags if tag == "details" and own.get("class") == "legend"]) == len(told)
    markdown = found.to_markdown()
    for one in told:
        if one.id.startswith("audit-"):
            words = audit.legend[one.id.removeprefix("audit-")]
            # Every column of the audit is explained, in the table's order.
            assert one.legend == tuple((name, words[name]) for name in one.frame.columns)
        for name, words in one.legend:
            assert name in page.texts
            assert words in page.texts
        first, words = one.legend[0]
        assert f"Columns: **{escaped(first)}** {escaped(words)}; " in markdown
    shown = {one.id: dict(one.legend) for one in told}
    assert {"ε²", "partial R²", "adjusted p", "before", "after"} <= set(shown["tests-location"])
    assert {"sd ratio", "X²/(n − 1)"} <= set(shown["tests-scale"])
    assert "statistic, times chance" in shown["summary"]
    assert any(getattr(part, "text", "") == UNKNOWN_SITE for one in found.sections for part in one.parts)
    assert "neither the row's site nor the covariate" in shown["tests-covariate-prediction"]["held out"]
    assert "partly by construction" in shown["tests-covariate-prediction"]["after"]
    assert "p is the same as before" in shown["tests-association"]["after"]
    assert "over the features in which the test finds the term" in shown["tests-effect-change"]["value"]
    assert shown["tests-site-prediction"]["held out"] == "harmonized by models that did not see the row"
    assert shown["tests-site-prediction"]["lower, upper"] == "its 95 % interval"
    assert shown["tests-site-prediction"]["p"] == "p-value, one-sided, against chance"
    assert dict(of_comparison("covariate prediction", ["lower"], [], 0.1)) == {
        "lower, upper": "its 90 % interval, resampling sites"
    }
    assert {one.id for one in tables_of(found) if one.id.startswith(("audit-", "tests-"))} <= set(shown)


def test_the_verdict_has_the_summarys_numbers() -> None:
    _, _, found, diagnosis = packaged()
    before, after, biology_ = (part.text for part in found.verdict)
    summary = diagnosis.summary.set_index(["aspect", "measure", "covariate", "quantity"])
    for aspect, measure in (("location", "ANOVA"), ("scale", "Levene"), ("scale", "Fligner-Killeen")):
        row = summary.loc[(aspect, measure, "", "share of features significant (FDR 5 %)")]
        assert f"{100 * row['before']:.3g} %" in before
        assert f"{100 * row['after']:.3g} %" in after
    accuracy = summary.xs("logistic", level="measure").iloc[0]
    assert f"{three(accuracy['before'])} (logistic)" in before
    assert f"{three(accuracy['held out'])} (logistic)" in after
    assert "Held out" in after
    assert "by construction" in after
    changes = diagnosis.of("effect change")
    assert changes["covariate"].tolist() == ["sex", "dx", "s(age)"]
    for _, row in changes.iterrows():
        assert f"{row['covariate']} {three(row['value'])} ({three(row['lower'])} to {three(row['upper'])})" in biology_
        share = summary.loc[("association", "partial R2", row["covariate"], "share of features significant (FDR 5 %)")]
        assert share["before"] == share["after"] == row["n"] / 32
        assert f"{row['covariate']} in {row['n']:.0f} of 32 features" in found.verdict[2].lead
    age = summary.xs("age", level="covariate").iloc[0]
    assert f"{age['before']:.2f} before, {age['after']:.2f} after and {age['held out']:.2f} held out" in biology_


@pytest.mark.parametrize(("V", "shown"), [(40, 40), (1000, 1000), (1500, MOST_ROWS)])
def test_many_features_show_the_smallest_p_and_say_so(V: int, shown: int) -> None:
    diagnosis = synthetic_diagnosis([f"vertex {k}" for k in range(V)], ["age"])
    for aspect, by in (("location", "measure"), ("association", "covariate")):
        (table,) = feature_table(diagnosis, aspect, by, "caption")
        assert isinstance(table, Table)
        assert len(table.frame) == shown
        assert bool(table.note) == (V > MOST_ROWS)
        rows = diagnosis.table.query("aspect == @aspect and state == 'before'")
        smallest = rows.groupby("feature")["p"].min()
        kept = set(table.frame["feature"])
        assert smallest[list(kept)].max() <= smallest.drop(list(kept)).min() if shown < V else len(kept) == shown
        if V > MOST_ROWS:
            assert f"of {V:,}" in table.note
            assert f"diagnosis.of('{aspect}')" in table.note


def test_a_page_of_a_thousand_features_is_small() -> None:
    """Everything that grows with the features, at 1,000 of them: below 5 MB with the figures of the packaged report."""
    from pycombat_gam.report.page import html_page, markdown_page

    names = [f"lh_vertex_{k}_thickness_in_a_parcel" for k in range(1000)]
    diagnosis = synthetic_diagnosis(names, ["s(age)", "sex", "dx", "icv"])
    found = packaged()[2]
    # The audit has 16 numbers a feature, most of them short, the estimates 5.
    table = pd.DataFrame(np.random.default_rng(1).normal(size=(1000, 20)), index=pd.Index(names, name="feature"))
    many = [Table.of("many", "caption", table, where="")]
    others = [section for section in found.sections if section.id not in ("before-after", "biology")]
    figures = [part for section in found.sections for part in section.parts if part.kind == "figure"]
    sections = [before_and_after(diagnosis, figures), biology(diagnosis), *others]
    sections[0] = type(sections[0])("many", "Many", (*sections[0].parts, *many))
    assert len(html_page("title", (), sections).encode()) < 5_000_000
    assert len(markdown_page("title", (), sections).encode()) < 5_000_000


def test_a_finding_on_a_whole_table_names_no_row() -> None:
    from pycombat_gam.report.sections import _finding

    one = {"severity": "note", "verdict": "Sites are compared.", "table": "sites", "row": ""}
    assert _finding(one, {}).rests_on == "table sites"
    assert _finding({**one, "row": "Oslo"}, {}).rests_on == "table sites, row Oslo"


def test_no_notes_of_the_fit_are_none_beyond_the_audits() -> None:
    model, table, _, _ = packaged()
    audit = pcg.audit(table, model.formula, "site", id="subject", features="_thickness$")
    assert len(audit.findings)
    clean = replace(audit, findings=audit.findings.iloc[:0])
    shown = {name: notes(model, audit=one).parts for name, one in (("cautions", audit), ("clean", clean), ("no", None))}
    texts = {name: getattr(part, "text", "") for name, (part,) in shown.items()}
    assert texts == {"cautions": "None beyond those of the design audit.", "clean": "None.", "no": "None."}
