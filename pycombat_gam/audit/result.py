"""The result of an audit: verdicts, and the tables that they rest on."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pycombat_gam.audit.legend import COLUMNS_EXPLAINED
from pycombat_gam.checks.finding import SEVERITIES, Finding
from pycombat_gam.types import JsonDict
from pycombat_gam.words import count, printable

_PRINTED = 30
_WIDTH = 120


@dataclass(frozen=True, eq=False, repr=False)
class Audit:
    """Verdicts on a table before it is harmonized; `str()` prints them, `to_dict()` gives plain data.

    Attributes
    ----------
    call : str
        The call, with its options.
    findings : DataFrame
        A row per finding: `severity` (problem, caution, note), `check`, `subject`, `verdict` (in words), and the
        `table` and `row` that it rests on; `basis` returns these rows.
    sites : DataFrame
        Rows, subjects and visits, degrees of freedom of the scale, and the 95 % factors of a standard deviation.
    covariates : DataFrame
        Distribution of each covariate by site.
    overlap : DataFrame
        Standardized differences and common support; see `pycombat_gam.checks.overlap`.
    confounding : DataFrame
        Each term against the sites; see `pycombat_gam.checks.confounding`, also for the next two.
    canonical : DataFrame
        Canonical correlations of terms and sites, alone and given the other terms.
    carriers : DataFrame
        Which sites cause a term's confounding, and which its estimate rests on.
    imbalance : DataFrame
        For each term `within_share`, the part of its information within sites, and `naive_level`, the actual level of a
        later test without site; see `pycombat_gam.audit.imbalance`.
    missing : DataFrame
        Missing and infinite cells of columns that have any, by site; the site is empty for rows without one.
    features : DataFrame
        What each feature looks like, and `flags`; see `pycombat_gam.checks.features`.
    legend : dict of dict of str
        What each column of these tables holds, by table.
    """

    call: str
    shape: tuple[int, int]
    found: tuple[Finding, ...]
    findings: pd.DataFrame
    sites: pd.DataFrame
    covariates: pd.DataFrame
    overlap: pd.DataFrame
    confounding: pd.DataFrame
    canonical: pd.DataFrame
    carriers: pd.DataFrame
    imbalance: pd.DataFrame
    missing: pd.DataFrame
    features: pd.DataFrame

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """All tables but the findings, by name."""
        return {
            "sites": self.sites,
            "covariates": self.covariates,
            "overlap": self.overlap,
            "confounding": self.confounding,
            "canonical": self.canonical,
            "carriers": self.carriers,
            "imbalance": self.imbalance,
            "missing": self.missing,
            "features": self.features,
        }

    @property
    def legend(self) -> dict[str, dict[str, str]]:
        """What each column of each of the tables holds, in words."""
        return {
            name: {str(column): COLUMNS_EXPLAINED[name][str(column)] for column in table.columns}
            for name, table in self.tables.items()
        }

    @property
    def worst(self) -> str:
        """The gravest severity found, or ``"none"``."""
        present = set(self.findings["severity"])
        return next((severity for severity in SEVERITIES if severity in present), "none")

    def basis(self, finding: int) -> pd.DataFrame:
        """Return the rows of the table that a finding, by its position, rests on."""
        verdict = self.found[finding]
        return verdict.rows(self.tables[verdict.table])

    def to_dict(self) -> JsonDict:
        """Return everything as plain data (JSON-able; a missing number is None, an infinite one text)."""
        return {
            "call": self.call,
            "rows": self.shape[0],
            "number_of_features": self.shape[1],
            "worst": self.worst,
            "findings": _records(self.findings),
            "tables": {name: _records(table) for name, table in self.tables.items()},
        }

    def __str__(self) -> str:
        rows, features = self.shape
        lines = [
            f"Audit:  {self.call}",
            "",
            f"{count(rows, 'row')}, {count(features, 'feature')}, {count(len(self.sites), 'site')}",
        ]
        for severity in SEVERITIES:
            verdicts = self.findings.loc[self.findings["severity"] == severity, "verdict"]
            if len(verdicts):
                lines += ["", f"{severity.capitalize()}s:"]
                lines += [_wrapped(verdict) for verdict in verdicts]
        if not len(self.findings):
            lines += ["", "Nothing found."]
        for title, table in (
            ("Sites", self.sites.drop(columns=self._unused())),
            ("Terms against sites", self.confounding.drop(columns=["variables", "why", "deciding_rows"])),
            ("Later tests without site, nominal level 5 %", self.imbalance),
        ):
            if len(table):
                shown = table.head(_PRINTED).to_string(index=False, float_format="{:.3g}".format, na_rep="—")
                lines += ["", f"{title}:", shown]
                lines += [f"… and {count(len(table) - _PRINTED, 'more')}"] if len(table) > _PRINTED else []
        return printable("\n".join(lines))

    __repr__ = __str__

    def _unused(self) -> list[str]:
        """Columns of `sites` that say nothing here."""
        single = [] if (self.sites["visits"] > 1).any() else ["visits", "traveling"]
        return single + ([] if self.sites["copies"].any() else ["copies"])


def _wrapped(verdict: str) -> str:
    return textwrap.fill(verdict, _WIDTH, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False)


def _records(table: pd.DataFrame) -> list[JsonDict]:
    """Return a table row by row as plain data."""
    columns = {str(name): [_plain(value) for value in table[name].tolist()] for name in table.columns}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Inf" if value > 0 else "-Inf"
    return value
