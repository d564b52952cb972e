"""What a report is made of: sections of sentences, findings, tables, figures and texts to copy.

A section is plain data; `page.html` and `page.md` say how each part looks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import ClassVar, TypeAlias

import pandas as pd

from pycombat_gam.report.cells import Cell, column_cells

MOST_ROWS = 1000
"""Rows that a table shows; the sentence under it says where the others are."""
P_VALUES = ("p", "p_adjusted")


@dataclass(frozen=True)
class Sentences:
    """A paragraph.

    Attributes
    ----------
    text : plain; id : what a copy button copies, or none.
    lead : words before it, set apart; tone : ``"good"``, ``"bad"`` or ``"plain"``, for the verdict.
    """

    kind: ClassVar[str] = "sentences"
    text: str
    id: str = ""
    lead: str = ""
    tone: str = "plain"


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    kind: ClassVar[str] = "items"
    texts: tuple[str, ...]


class References(Items):
    """A list of references."""

    kind: ClassVar[str] = "references"


@dataclass(frozen=True)
class Code:
    """A text to copy, set in a typewriter's face; `language` is what Markdown calls it."""

    kind: ClassVar[str] = "code"
    id: str
    title: str
    text: str
    language: str


@dataclass(frozen=True)
class Finding:
    """A finding of the audit, and the row that it rests on: `table` names a table of the report, or is empty."""

    severity: str
    verdict: str
    rests_on: str
    table: str


@dataclass(frozen=True)
class Findings:
    """Findings, the worst first."""

    kind: ClassVar[str] = "findings"
    findings: tuple[Finding, ...]


@dataclass(frozen=True, eq=False)
class Figure:
    """A picture.

    Attributes
    ----------
    id : of its place; caption : what it shows and how to read it; alt : what one sees, for those who don't.
    png : the file's bytes; width, height : in pixels, as shown.
    """

    kind: ClassVar[str] = "figure"
    id: str
    caption: str
    alt: str
    png: bytes
    width: int
    height: int

    @property
    def source(self) -> str:
        """The picture as a data URI."""
        from base64 import b64encode

        return f"data:image/png;base64,{b64encode(self.png).decode()}"


@dataclass(frozen=True, eq=False)
class Table:
    """A DataFrame as it is shown.

    Attributes
    ----------
    id : of its place, and the name of its CSV file.
    caption : what it shows.
    frame : its rows, labels among the columns.
    labels : how many columns, from the left, name the row.
    p_values : columns that are p-values, by position.
    short : names of the columns under their groups' headings; or none.
    groups : headings over columns, with how many each spans (an empty heading over labels); or none.
    note : what is left out, if anything.
    legend : what columns hold, by name.
    """

    kind: ClassVar[str] = "table"
    id: str
    caption: str
    frame: pd.DataFrame
    labels: int = 1
    p_values: frozenset[int] = frozenset()
    short: tuple[str, ...] = ()
    groups: tuple[tuple[str, int], ...] = ()
    note: str = ""
    legend: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(
        cls, id: str, caption: str, frame: pd.DataFrame, *, where: str, legend: Mapping[str, str] | None = None
    ) -> Table:
        """Show any DataFrame: its index becomes columns; if it only numbers the rows, texts at the left name them.

        Parameters
        ----------
        where : how the Python API gets at the table, for what is not shown.
        legend : what columns hold, by name; of those that are there it is shown.
        """
        labels = max(
            1, sum(1 for _ in takewhile(lambda at: _is_text(frame.iloc[:, at]), range(min(3, frame.shape[1]))))
        )
        if not _only_numbers_rows(frame.index):
            labels = frame.index.nlevels
            names = [str(name) if name is not None else "row" for name in frame.index.names]
            frame = frame.rename_axis(index=names).reset_index(allow_duplicates=True)
        p_values = frozenset(at for at, name in enumerate(frame.columns) if str(name) in P_VALUES)
        note = ""
        if len(frame) > MOST_ROWS:
            note = f"The first {MOST_ROWS:,} of {len(frame):,} rows; all of them: {where}"
            frame = frame.iloc[:MOST_ROWS]
        words = legend or {}
        entries = tuple((str(name), words[str(name)]) for name in frame.columns if str(name) in words)
        return cls(id, caption, frame, labels, p_values, note=note, legend=entries)

    @property
    def header(self) -> list[str]:
        """Names of the columns, as they read under the headings of `groups`."""
        return list(self.short) or self.full_header

    @property
    def full_header(self) -> list[str]:
        """Names of the columns."""
        return [str(name) for name in self.frame.columns]

    @cached_property
    def columns(self) -> list[list[Cell]]:
        """The cells, column by column."""
        return [column_cells(self.frame.iloc[:, at], p=at in self.p_values) for at in range(self.frame.shape[1])]

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers."""
        return [any(cell.value is not None for cell in cells) for cells in self.columns]

    @property
    def rows(self) -> list[tuple[Cell, ...]]:
        """The cells, row by row."""
        return list(zip(*self.columns, strict=True))


Part: TypeAlias = Sentences | Items | References | Code | Findings | Figure | Table


@dataclass(frozen=True, eq=False)
class Section:
    """A section of a report; in a notebook it shows itself.

    Attributes
    ----------
    id : of its place; title : its heading; parts : what it holds, in order.
    """

    id: str
    title: str
    parts: tuple[Part, ...]

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Its tables by name."""
        return {part.id: part.frame for part in self.parts if isinstance(part, Table)}

    def to_html(self) -> str:
        """Return it as a page of its own."""
        from pycombat_gam.report.page import html_page

        return html_page(self.title, (), (self,))

    def to_markdown(self) -> str:
        """Return it as Markdown."""
        from pycombat_gam.report.page import markdown_page

        return markdown_page("", (), (self,))

    _repr_markdown_ = to_markdown


def slug(text: str) -> str:
    """Return what a text is called as the name of a place.

    >>> slug("Site prediction: SVM")
    'site-prediction-svm'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _is_text(column: pd.Series) -> bool:
    return not pd.api.types.is_numeric_dtype(column.dtype)


def _only_numbers_rows(index: pd.Index) -> bool:
    return isinstance(index, pd.RangeIndex) and index.name is None
