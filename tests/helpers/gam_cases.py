"""The reference fits of `mgcv::gam`: which of them we can express, and how."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

import pycombat_gam as pcg
from helpers.reference import ROOT, Case, cases, read_csv

NOT_OURS = {
    "family": "another family than gaussian",
    "link": "another link than identity",
    "basis": "a basis that is not here",
    "method": "a criterion that is not here",
    "scale": "a fixed scale",
    "bam": "bam(), whose discrete and fREML fits are others",
}


@dataclass(frozen=True, eq=False)
class GamCase:
    """One `gam` call of R: what it was, and why we cannot make it, if so."""

    case: Case

    @property
    def name(self) -> str:
        return self.case.name

    @property
    def call(self) -> str:
        return str(self.case.about["call"]).split("   #")[0]

    @property
    def unsupported(self) -> str:
        about = self.case.about
        if about["method"] == "bam":
            return NOT_OURS["bam"]
        if self.case.ok and about["family"] != "gaussian":
            return NOT_OURS["family"]
        if self.case.ok and about.get("link", "identity") != "identity":
            return NOT_OURS["link"]
        if re.search(r'"(ad|gp|ds|sz|mrf|so)"', self.call):
            return NOT_OURS["basis"]
        if re.search(r'method="P-', self.call):
            return NOT_OURS["method"]
        if "scale=" in self.call:
            return NOT_OURS["scale"]
        return ""

    def as_read(self, table: pd.DataFrame) -> pd.DataFrame:
        """Give factors the levels that R had."""
        table = table.copy()
        for column, levels in (self.case.about.get("factor_levels") or {}).items():
            table[column] = pd.Categorical(table[column].astype(str), categories=[str(level) for level in levels])
        return table

    def fit(self) -> Any:
        """Make the same call of ours."""
        table = self.as_read(read_csv(self.case.about["input"]))
        if "batch" in self.call:
            table["batch"] = table["site"]
        inside = self.call[len("gam(") : -1]
        formula, _, rest = inside.partition(", data=dat")
        options: dict[str, Any] = {"method": "GCV.Cp"}
        if found := re.search(r'method="([\w.]+)"', rest):
            options["method"] = found[1]
        if "select=TRUE" in rest:
            options["select"] = True
        if found := re.search(r"gamma=([\d.]+)", rest):
            options["gamma"] = float(found[1])
        for name in ("weights", "offset"):
            if found := re.search(rf"{name}=(\w+)", rest):
                options[name] = found[1]
        if found := re.search(r"\bsp=(c\([^)]*\)|[\d.e+-]+)", rest):
            options["sp"] = [float(x) for x in re.findall(r"[-\d.e+]+", found[1].removeprefix("c"))]
        if found := re.search(r"knots=list\((\w+)=c\(([^)]*)\)\)", rest):
            options["knots"] = {found[1]: [float(x) for x in found[2].split(",")]}
        return pcg.gam(formula, table, **options)

    def table(self, name: str) -> pd.DataFrame | None:
        """An output table, indexed by its first column where that holds names."""
        for suffix in (".csv.gz", ".csv"):
            path = ROOT / "mgcv" / self.name / f"{name}{suffix}"
            if path.exists():
                return read_csv(f"mgcv/{self.name}/{name}{suffix}").copy()
        return None


def gam_cases() -> list[GamCase]:
    return [GamCase(case) for case in cases("mgcv")]


def residual_sd(case: GamCase) -> float:
    return float(np.sqrt(case.case.about["tight"]["sig2"] if "tight" in case.case.about else case.case.about["sig2"]))


CS_BY_ROUNDING = ("g1_4smooths_cs",)
"""Cases whose penalty R's LAPACK chose by rounding, and otherwise than our rule does (see `ShrunkenCubicBasis`)."""


RANK_DEFECT = ("abide_T1_combatgam_design_REML",)
"""ComBatFamily's design, of 23 columns and rank 22, by REML."""


def has_arrived(case: GamCase) -> bool:
    """Whether R's default fit agrees with its tight one, so that the tables it stores are those of the optimum."""
    about = case.case.about
    if "tight" not in about:
        return True
    edf = abs(about["tight"]["edf_total"] - about["edf_total"])
    # An edf moves as the square root of what the score has yet to gain.
    return bool(edf < 1e-5 and abs(about["tight"]["score"] - about["score"]) < 1e-7)
