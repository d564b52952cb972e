"""The result of a crosscheck: a table, a verdict, a page, a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from r_bridge.agreement.compared import Compared
from r_bridge.agreement.ours import Quantity
from r_bridge.agreement.search import Blame


@dataclass(frozen=True, eq=False)
class Row:
    """One quantity beside an engine's.

    Attributes
    ----------
    engine : R's package, and in parentheses the way it was used where there are several; quantity : ours.
    largest, median : differences in the quantity's unit; feature, site : where the largest is;
        of a test, the term stands in place of the site, and of what is pooled, the measure.
    verdict : ``"agrees"``, ``"explained"`` or ``"differs"``.
    explanation : of a known difference; variant : our numbers under R's rule; blame : what it says of R's search.
    """

    engine: str
    quantity: Quantity
    largest: float
    median: float
    feature: str
    site: str
    verdict: str
    explanation: str
    variant: Quantity | None
    blame: Blame | None


@dataclass(frozen=True, eq=False)
class Agreement:
    """Our fit beside R's.

    Attributes
    ----------
    call : str
        The model.
    study, sent : Compared, dict
        What was compared, for the folder, and as R got it.
    rows : tuple of Row
        One for each engine and quantity.
    left_out : dict of str to str
        Engines that were not asked, and why.
    warnings : tuple of str
        R's warnings.
    versions : dict of str to str
        Versions of R and its packages.
    """

    call: str
    study: Compared
    sent: Mapping[str, Any]
    rows: tuple[Row, ...]
    left_out: Mapping[str, str]
    warnings: tuple[str, ...]
    versions: Mapping[str, str]

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per engine and quantity: differences, where, tolerance, verdict, reason."""
        return pd.DataFrame(
            [
                {
                    "engine": row.engine,
                    "quantity": row.quantity.name,
                    "largest": row.largest,
                    "median": row.median,
                    "unit": row.quantity.measured_in,
                    "feature": row.feature,
                    "site": row.site,
                    "tolerance": row.quantity.tolerance,
                    "verdict": row.verdict,
                    "reason": row.explanation or row.quantity.reason,
                }
                for row in self.rows
            ]
        )

    @property
    def agrees(self) -> bool:
        """Whether every difference is within its tolerance, or explained."""
        return all(row.verdict != "differs" for row in self.rows)

    @property
    def verdict(self) -> str:
        """The verdict in words, as `agreement.R` prints it."""
        wrong = [f"{row.engine} {row.quantity.name}" for row in self.rows if row.verdict == "differs"]
        if wrong:
            return f"differs in {', '.join(wrong)}"
        explained = any(row.verdict == "explained" for row in self.rows)
        return "agrees, or differs as explained" if explained else "agrees"

    @property
    def explanations(self) -> tuple[str, ...]:
        """Why numbers differ where that is known."""
        return tuple(dict.fromkeys(row.explanation for row in self.rows if row.explanation))

    def __str__(self) -> str:
        shown = self.table.drop(columns=["reason", "unit"])
        for name in ("largest", "median", "tolerance"):
            shown[name] = [f"{value:.1e}" for value in shown[name]]
        lines = [self.call, "", shown.to_string(index=False), ""]
        lines += [f"Tolerance of {name}: {reason}" for name, reason in self._reasons().items()]
        lines += [f"Explained: {text}" for text in self.explanations]
        lines += [f"Left out: {engine} {reason}" for engine, reason in self.left_out.items()]
        lines += [f"R warned: {message}" for message in self.warnings]
        lines.append(f"Verdict: {self.verdict}  ({', '.join(f'{k} {v}' for k, v in self.versions.items())})")
        return "\n".join(lines)

    __repr__ = __str__

    def _reasons(self) -> dict[str, str]:
        """Each reason once, with what it is for."""
        by_reason: dict[str, list[str]] = {}
        for row in self.rows:
            names = by_reason.setdefault(f"{row.quantity.tolerance:g} ({row.quantity.reason})", [])
            if row.quantity.name not in names:
                names.append(row.quantity.name)
        return {", ".join(names): reason for reason, names in by_reason.items()}

    def to_html(self) -> str:
        """Return a page without any outside resource."""
        from jinja2 import Environment

        text = (files("r_bridge") / "agreement" / "page.html").read_text(encoding="utf-8")
        page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(text)
        return page.render(agreement=self, reasons=self._reasons())

    def write(self, path: str | Path, *, force: bool = False) -> list[Path]:
        """Write the page, and beside it a folder with everything that R needs to reach the same verdict.

        Parameters
        ----------
        path : str or Path
            The HTML file; the folder has its name without the ending.
        force : bool
            Replace what an earlier call wrote.

        Returns
        -------
        list of Path
            What was written.

        Raises
        ------
        OutputError
            If something of that name is there, and not `force`.
        """
        from r_bridge.agreement.folder import write

        return write(self, Path(path), force=force)
