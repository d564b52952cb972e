"""Check every link of the built site and of Markdown files: ``python vignettes/check_links.py build/site README.md``.

What a page links to on this disk must be there, its anchors too. What it loads (images, scripts, style sheets) must be
on this disk, so that the site works offline. An address elsewhere must be https and well formed; whether it answers,
`make linkcheck` asks where there is internet.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("img", "src"), ("script", "src"), ("link", "href"), ("source", "src"), ("iframe", "src"), ("video", "src")}


@dataclass
class Page(HTMLParser):
    """The anchors of a page, what it links to and what it loads."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value or "")
            elif (tag, name) in LOADED:
                self.loads.append(value or "")
            elif tag in ("a", "area") and name == "href":
                self.links.append(value or "")


def slug(heading: str) -> str:
    """GitHub's anchor of a heading."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


@cache
def read(path: Path) -> Page:
    """Read a page of HTML or Markdown."""
    text, page = path.read_text(encoding="utf-8"), Page()
    if path.suffix == ".html":
        page.feed(text)
    else:
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
        page.anchors = {slug(heading) for heading in re.findall(r"^#+ (.*)$", prose, flags=re.MULTILINE)}
        prose = re.sub(r"(?<!\[)`[^`\n]*`", "", prose)
        page.links = re.findall(r"(?<!!)\[[^]]*\]\(([^)\s]+)\)", prose)
        page.loads = re.findall(r"!\[[^]]*\]\(([^)\s]+)\)", prose)
    return page


def problems(path: Path) -> Iterator[str]:
    """Say what is wrong with each link of a page."""
    page = read(path)
    for target in page.loads:
        if urlsplit(target).scheme not in ("", "data") or target.startswith("//"):
            yield f"loads {target} from elsewhere"
        elif not target.startswith("data:") and not target:
            yield "loads nothing: an empty address"
    for target in [*page.links, *page.loads]:
        parts = urlsplit(target)
        if parts.scheme in ("data", "mailto"):
            continue
        if parts.scheme or parts.netloc:
            if parts.scheme != "https" or "." not in parts.netloc or re.search(r"\s", target):
                yield f"{target} is no https address"
            continue
        there = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
        if not there.exists():
            yield f"{target} is not there"
        elif parts.fragment and there.suffix in (".html", ".md") and unquote(parts.fragment) not in read(there).anchors:
            yield f"{target}: the page is there, the anchor is not"


def main(places: list[str]) -> int:
    """Check pages, and all pages of folders; print what is wrong and return how much."""
    pages: list[Path] = []
    for place in map(Path, places):
        pages += sorted(place.resolve().rglob("*.html")) if place.is_dir() else [place.resolve()]
    found = [f"{page}: {problem}" for page in pages for problem in dict.fromkeys(problems(page))]
    links = sum(len(read(page).links) + len(read(page).loads) for page in pages)
    print(*found, sep="\n", end="\n" if found else "")
    print(f"{len(pages)} pages, {links} links, {len(found)} wrong")
    return len(found)


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1) if len(sys.argv) > 1 else "which pages? build/site README.md, say")
