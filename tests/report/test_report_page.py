"""The page as a document: names are text, nothing is loaded, headings and tables are what a screen reader needs."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from itertools import pairwise
from pathlib import Path

import pytest
from helpers.report_cases import HOSTILE_FEATURES, HOSTILE_SITES, Page, hostile, packaged
from markdown_it import MarkdownIt

import pycombat_gam as pcg
from pycombat_gam.errors import OutputError
from pycombat_gam.report import Report, report
from pycombat_gam.report.cells import visible
from pycombat_gam.report.reproduce import reproduce
from pycombat_gam.report.sections import methods
from pycombat_gam.report.study import Study

REPORTS = {"packaged": lambda: packaged()[2], "hostile": hostile}


def hash_of(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.mark.parametrize("name", REPORTS)
def test_nothing_but_our_own_script_and_data_pictures(name: str) -> None:
    text = REPORTS[name]().to_html()
    page = Page(text)
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert len(scripts) == len(styles) == 1
    policy = next(str(own["content"]) for tag, own in page.tags if tag == "meta" and "http-equiv" in own)
    assert policy.startswith("default-src 'none'")
    assert f"script-src {hash_of(scripts[0])}" in policy
    assert f"style-src {hash_of(styles[0])}" in policy
    kinds = {tag for tag, _ in page.tags}
    assert kinds <= {
        "html", "head", "meta", "title", "style", "body", "div", "header", "h1", "h2", "h3", "p", "section", "nav",
        "details", "summary", "ol", "ul", "li", "a", "main", "b", "span", "pre", "table", "thead", "tbody", "tr", "th",
        "td", "dl", "dt", "dd", "figure", "img", "figcaption", "script",
    }  # fmt: skip
    for tag, own in page.tags:
        assert not [attribute for attribute in own if attribute.startswith("on") or attribute == "style"]
        assert "src" not in own or (tag == "img" and str(own["src"]).startswith("data:image/png;base64,"))
        assert "href" not in own or str(own["href"]).startswith("#")


@pytest.mark.parametrize("name", REPORTS)
def test_structure(name: str) -> None:
    text = REPORTS[name]().to_html()
    page = Page(text)
    assert text.startswith("<!doctype html>")
    assert dict(page.tags)["html"] == {"lang": "en"}
    assert len(page.ids) == len(set(page.ids))
    for _, own in page.tags:
        if "href" in own:
            assert str(own["href"])[1:] in page.ids
        if "aria-labelledby" in own:
            assert own["aria-labelledby"] in page.ids
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))
    assert all(own.get("scope") in ("row", "col", "colgroup") for tag, own in page.tags if tag == "th")
    assert all(len(str(own.get("alt") or "")) > 20 for tag, own in page.tags if tag == "img")


def test_hostile_names_are_text_in_the_page() -> None:
    page = Page(hostile().to_html())
    cells = {text for table in page.tables.values() for row in table.rows for text, _ in row}
    for name in (*HOSTILE_FEATURES, *HOSTILE_SITES):
        assert visible(name) in cells
    assert "49" not in cells
    assert not {"\u200b", "\u202e"} & set("".join(page.texts))


def test_hostile_names_are_text_in_markdown() -> None:
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(hostile().to_markdown())
    inside = [child.type for token in tokens for child in token.children or ()]
    assert set(inside) <= {"text", "text_special", "strong_open", "strong_close", "em_open", "em_close", "softbreak"}
    assert {token.type for token in tokens} & {"html_block"} == set()
    shown = "\n".join("".join(c.content for c in token.children or ()) for token in tokens)
    for name in (*HOSTILE_FEATURES, *HOSTILE_SITES):
        assert visible(name) in shown


def test_equal_reports_are_equal_files() -> None:
    model, table, found, diagnosis = packaged()
    again = report(model, table, diagnosis=diagnosis, seed=1)
    assert again.to_html() == found.to_html()
    assert again.to_markdown() == found.to_markdown()


def test_write_is_all_or_nothing_and_overwrites_only_when_told(tmp_path: Path) -> None:
    found: Report = packaged()[2]
    folder = tmp_path / "new"
    written = found.write(folder)
    assert [path.name for path in written] == ["report.html", "report.md"]
    assert written[0].read_text(encoding="utf-8") == found.to_html()
    assert written[1].read_text(encoding="utf-8") == found.to_markdown()
    with pytest.raises(OutputError, match=r"has report\.html, report\.md already: use force=True"):
        found.write(folder)
    assert found.write(folder, force=True) == written
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.md"]


def test_how_to_reproduce(tmp_path: Path) -> None:
    model, table, found, _ = packaged()
    section = reproduce(model, seed=1)
    code = section.parts[0].text
    assert found.sections[-1].id == "reproduce"
    # The Python call is one: it makes the same model.
    scope: dict[str, object] = {"table": table}
    exec(code.split("report =")[0], scope)
    assert scope["model"].get_params() == model.get_params()  # type: ignore[attr-defined]
    file = tmp_path / "data.csv"
    file.write_bytes(b"a,b\n1,2\n")
    told = reproduce(model, command=["pycombat-gam", "harmonize", "my data.csv"], data=file)
    assert told.parts[0].text == "pycombat-gam harmonize 'my data.csv'"
    assert hashlib.sha256(b"a,b\n1,2\n").hexdigest() in told.parts[1].text
    with pytest.raises(pcg.PcgError, match="there is no such file to hash"):
        reproduce(model, data=tmp_path / "none.csv")


def test_a_table_that_the_model_did_not_make_is_said_to_be_one() -> None:
    model, table, _, _ = packaged()
    after = model.transform(table)
    names = model.get_feature_names_out().tolist()
    assert Study.of(model, table, after, None).notes == ()
    assert Study.of(model, table[names], after[names], table.drop(columns=names)).notes == ()
    (note,) = Study.of(model, table, after.assign(**{names[0]: after[names[0]] + 0.1}), None).notes
    assert "is not this model's transform of" in note


def test_what_the_fit_warned_of_is_in_the_notes() -> None:
    table = pcg.datasets.load_multisite().assign(count_thickness=lambda rows: rows["age"].round().astype(int))
    model = pcg.ComBat("~ sex", batch="site", id="subject", features="_thickness$")
    with pytest.warns(pcg.PcgWarning, match="come back as float64: count_thickness"):
        model.fit(table)
    assert "come back as float64: count_thickness" in Study.of(model, table, None, None).notes[0]


def test_sections_show_themselves_in_notebooks() -> None:
    section = methods(packaged()[0])
    assert section._repr_markdown_().startswith("## Methods")
    assert "<h2" in section.to_html()
