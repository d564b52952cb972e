"""Sections as a page and as Markdown; in both, everything from the data is text."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pycombat_gam.report.cells import visible, visible_lines
from pycombat_gam.report.parts import Code, Section, Sentences

if TYPE_CHECKING:
    from jinja2 import Environment


class _Ready(str):
    """A text whose invisible characters show already, and, for Markdown, whose marks are escaped."""

    __slots__ = ()


def html_page(title: str, verdict: Sequence[Sentences], sections: Sequence[Section], about: str = "") -> str:
    """Return a page that needs no other file and loads none: its own policy forbids it."""
    from markupsafe import Markup

    # Markup passes through; everything else is made visible here and escaped by Jinja after that.
    environment = _environment(
        autoescape=True, finalize=lambda value: value if isinstance(value, Markup | _Ready) else visible(value)
    )
    environment.filters["lines"] = lambda text: _Ready(visible_lines(text))
    style, script = _resource("page.css"), _resource("page.js")
    return environment.from_string(_resource("page.html")).render(
        title=title,
        about=about,
        verdict=verdict,
        sections=sections,
        style=style,
        script=script,
        style_hash=Markup(_hash(style)),
        script_hash=Markup(_hash(script)),
    )


def markdown_page(title: str, verdict: Sequence[Sentences], sections: Sequence[Section], about: str = "") -> str:
    """Return Markdown as GitHub reads it, figures by their captions only."""
    environment = _environment(
        autoescape=False, finalize=lambda value: value if isinstance(value, _Ready) else escaped(visible(value))
    )
    environment.filters["fenced"] = lambda code: _Ready(_fenced(code))
    text = environment.from_string(_resource("page.md")).render(
        title=title, about=about, verdict=verdict, sections=sections
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def escaped(text: str) -> str:
    r"""Return a text that Markdown shows as it is.

    >>> print(escaped("a|b *c* <d> `e` x_y $z$"))
    a\|b \*c\* \<d\> \`e\` x\_y \$z\$
    """
    text = re.sub(r"([\\`*_\[\]<>|~$]|&(?=#?\w+;))", r"\\\1", text)
    # What begins a list, a heading or a rule at the start of a line.
    return re.sub(r"^(\d*)([-+#=.)])(?=\s|$|[-+#=])", r"\1\\\2", text)


def _fenced(code: Code) -> str:
    text = visible_lines(code.text)
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{code.language}\n{text}\n{fence}"


def _environment(**options: Any) -> Environment:
    from jinja2 import Environment, StrictUndefined

    return Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, **options)


def _resource(name: str) -> str:
    return (files("pycombat_gam.report") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
