"""The report in a real browser: Debian's Chromium, headless, without a network."""

from __future__ import annotations

import csv
import io
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.report_cases import HOSTILE_FEATURES, HOSTILE_SITES, hostile, packaged
from playwright.sync_api import Browser, Page, sync_playwright

from pycombat_gam.report.cells import visible

ARTIFACTS = Path(__file__).resolve().parents[1] / "_artifacts"
WIDTHS = {"desktop": 1280, "phone": 375}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    place = shutil.which("chromium") or shutil.which("chromium-browser")
    assert place, "Chromium is missing: run `make chromium`, or install Debian's package chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=place, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    return {
        name: found.write(folder / name)[0] for name, found in (("packaged", packaged()[2]), ("hostile", hostile()))
    }


class Opened:
    """A page that is open, and all it said and asked for."""

    def __init__(self, browser: Browser, file: Path, **options: Any) -> None:
        self.context = browser.new_context(reduced_motion="reduce", **options)
        self.context.set_offline(True)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page: Page = self.context.new_page()
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())

    def __enter__(self) -> Page:
        return self.page

    def __exit__(self, *_: object) -> None:
        self.context.close()
        assert self.said == []
        own = [url for url in self.asked if not url.startswith(("data:image/png", "blob:"))]
        assert len(own) == 1
        assert own[0].startswith("file:")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["packaged", "hostile"])
def test_it_loads_fits_and_is_photographed(
    browser: Browser, files: dict[str, Path], name: str, width: str, scheme: Any
) -> None:
    with Opened(browser, files[name], viewport={"width": WIDTHS[width], "height": 900}, color_scheme=scheme) as page:
        assert page.title() == "Harmonization report"
        assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[width]
        for image in page.locator("img").all():
            assert image.evaluate("image => image.complete && image.naturalWidth > 200")
        assert _worst_contrast(page) >= 4.5
        ARTIFACTS.mkdir(exist_ok=True)
        page.screenshot(path=ARTIFACTS / f"report-{name}-{width}-{scheme}.png", full_page=True, caret="initial")


@pytest.mark.parametrize("width", WIDTHS)
def test_the_table_of_contents_works(browser: Browser, files: dict[str, Path], width: str) -> None:
    with Opened(browser, files["packaged"], viewport={"width": WIDTHS[width], "height": 800}) as page:
        details = page.locator("nav details")
        assert (details.get_attribute("open") is not None) == (width == "desktop")
        links = page.locator("nav a")
        assert links.count() == 10
        for at in range(links.count()):
            if details.get_attribute("open") is None:
                details.locator("summary").click()
            link = links.nth(at)
            title = link.inner_text()
            link.click()
            place = (link.get_attribute("href") or "")[1:]
            heading = page.locator(f"[id='{place}'] h2")
            assert heading.inner_text() == title
            page.wait_for_function(
                "id => { const y = document.getElementById(id).getBoundingClientRect().top; const end = "
                "scrollY + innerHeight >= document.documentElement.scrollHeight - 2; "
                "return (Math.abs(y) < 120) || (end && y < innerHeight); }",
                arg=place,
            )
            assert heading.is_visible()


def _column(page: Page, table: str, at: int) -> list[float | str | None]:
    found: list[Any] = page.evaluate(
        "([id, at]) => Array.from(document.getElementById(id).querySelectorAll('tbody tr'), row => "
        "row.cells[at].dataset.value ?? 'text:' + row.cells[at].textContent)",
        [table, at],
    )
    return [value[5:] if value.startswith("text:") else None if value == "" else float(value) for value in found]


def test_tables_sort_by_their_headers(browser: Browser, files: dict[str, Path]) -> None:
    with Opened(browser, files["packaged"]) as page:
        for table, name, frame in (
            ("tests-location", "ANOVA, adjusted p before", packaged()[2].tables["tests-location"]),
            ("summary", "held out", packaged()[2].tables["summary"]),
            ("tests-scale", "feature", packaged()[2].tables["tests-scale"]),
        ):
            at = list(frame.columns).index(name)
            head = page.locator(f"#{table} thead tr").last.locator("th").nth(at)
            values = [None if isinstance(v, float) and math.isnan(v) else v for v in frame[name]]
            present = [value for value in values if value is not None]
            assert head.get_attribute("aria-sort") == "none"
            head.locator("button").click()
            assert head.get_attribute("aria-sort") == "ascending"
            assert _column(page, table, at) == sorted(present) + [None] * (len(values) - len(present))
            # By the keyboard, too.
            head.locator("button").focus()
            page.keyboard.press("Enter")
            assert head.get_attribute("aria-sort") == "descending"
            assert _column(page, table, at) == sorted(present, reverse=True) + [None] * (len(values) - len(present))
            assert page.locator(f"#{table} [aria-sort=ascending]").count() == 0
        # Scientific notation counts as the number it is, and equal cells keep their order.
        assert any(0 < value < 1e-4 for value in packaged()[2].tables["tests-location"]["ANOVA, adjusted p before"])
        head = page.locator("#summary thead th").nth(0)
        head.locator("button").click()
        order = page.evaluate(
            "() => Array.from(document.querySelectorAll('#summary tbody tr'), row => row.cells[3].textContent)"
        )
        frame = (
            packaged()[2].tables["summary"].sort_values("held out", ascending=False, kind="stable", na_position="last")
        )
        assert order == frame.sort_values("aspect", kind="stable")["quantity"].tolist()


@pytest.mark.parametrize("allowed", [True, False], ids=["clipboard", "old way"])
def test_copy_buttons_copy(browser: Browser, files: dict[str, Path], allowed: bool) -> None:
    opened = Opened(browser, files["packaged"])
    with opened as page:
        if allowed:
            opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
        else:
            page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
        for id in ("methods-text", "evaluation-text", "bibtex", "command"):
            button = page.locator(f"[data-copies={id}] button")
            button.click()
            page.wait_for_function(
                "id => document.querySelector(`[data-copies=${id}] button`).textContent === 'Copied'", arg=id
            )
            assert page.locator("#said").inner_text().startswith("Copied")
            if allowed:
                assert page.evaluate("navigator.clipboard.readText()") == page.locator(f"#{id}").text_content()


@pytest.mark.parametrize("name", ["packaged", "hostile"])
def test_csv_has_every_digit(browser: Browser, files: dict[str, Path], name: str) -> None:
    found = {"packaged": lambda: packaged()[2], "hostile": hostile}[name]()
    with Opened(browser, files[name]) as page:
        with page.expect_download() as download:
            page.locator("#tests-location .bar button").click()
        assert download.value.suggested_filename == "tests-location.csv"
        text = download.value.path().read_text(encoding="utf-8")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    frame = found.tables["tests-location"]
    assert rows[0] == list(frame.columns)
    assert [row[0] for row in rows[1:]] == [visible(feature) for feature in frame["feature"]]
    for row, given in zip(rows[1:], frame.itertuples(index=False), strict=True):
        assert [float(cell) for cell in row[1:]] == list(given[1:])


def test_it_prints(browser: Browser, files: dict[str, Path]) -> None:
    # A4 less its margins, at 96 pixels an inch.
    with Opened(browser, files["packaged"], viewport={"width": 688, "height": 1000}) as page:
        pdf = page.pdf(prefer_css_page_size=True)
        ARTIFACTS.mkdir(exist_ok=True)
        (ARTIFACTS / "report.pdf").write_bytes(pdf)
        assert pdf.startswith(b"%PDF")
        assert 8 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 60
        page.emulate_media(media="print")
        # What is folded up is unfolded for the printer, and only for it.
        folded = page.locator("details.legend:not([open])").count()
        assert folded > 10
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        assert page.locator("details:not([open])").count() == 0
        assert page.locator("dd").count() == page.locator("dd:visible").count()
        page.evaluate("window.dispatchEvent(new Event('afterprint'))")
        assert page.locator("details.legend:not([open])").count() == folded
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        assert page.locator(".bar button:visible").count() == 0
        heads = page.locator("thead th").evaluate_all("all => all.map(one => one.innerText.trim())")
        assert len(heads) > 100
        assert all(heads)
        arrows = page.locator("thead button").evaluate_all(
            "all => all.map(one => getComputedStyle(one, '::after').content)"
        )
        assert set(arrows) == {"none"}
        hidden = page.evaluate(
            "() => Array.from(document.querySelectorAll('.scroll, pre')).filter(place => "
            "['auto', 'scroll', 'hidden'].includes(getComputedStyle(place).overflowY)).length"
        )
        assert hidden == 0
        for kind in ("h1", "h2", "h3", "table", "img", "figcaption", "pre"):
            assert page.locator(kind).count() == page.locator(f"{kind}:visible").count()
        assert page.locator("tbody tr").count() == page.locator("tbody tr:visible").count()
        # No table is cut: wide ones have landscape pages.
        for chosen, width in ((".table:not(.wide)", 688), (".table.wide", 1032)):
            page.set_viewport_size({"width": width, "height": 1000})
            widths = page.locator(f"{chosen} table").evaluate_all("all => all.map(one => one.scrollWidth)")
            assert widths
            assert max(widths) <= width
            page.screenshot(path=ARTIFACTS / f"report-print-{width}.png", full_page=True, caret="initial")


def test_hostile_names_do_nothing(browser: Browser, files: dict[str, Path]) -> None:
    with Opened(browser, files["hostile"]) as page:
        page.wait_for_timeout(300)
        assert page.title() == "Harmonization report"
        assert page.locator("script").count() == 1
        assert page.locator("td img, th img, b i, td script").count() == 0
        text = page.evaluate("document.body.innerText")
        for name in (*HOSTILE_FEATURES, *HOSTILE_SITES):
            assert visible(name) in text


def _worst_contrast(page: Page) -> float:
    """The least contrast of a text with what is behind it (WCAG 2.1)."""
    found: float = page.evaluate(
        """() => {
          const rgb = color => (color.match(/[\\d.]+/g) || []).map(Number);
          const light = color => { const [r, g, b] = rgb(color).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 :
            ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
          const behind = place => { for (let at = place; at; at = at.parentElement) {
            const color = getComputedStyle(at).backgroundColor; const parts = rgb(color);
            if (parts.length < 4 || parts[3] > 0) return color; } return 'rgb(255, 255, 255)'; };
          let worst = 99;
          const all = 'h1, h2, h3, p, li, a, summary, b, span, pre, th, td, button, figcaption';
          for (const place of document.querySelectorAll(all)) {
            if (!place.innerText || !place.innerText.trim()) continue;
            const one = light(getComputedStyle(place).color), other = light(behind(place));
            worst = Math.min(worst, (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05));
          }
          return worst;
        }"""
    )
    return found
