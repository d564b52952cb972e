"""The reference outputs of the R packages: one way to find and read them.

They lie beside the checkout (`../shared/reference`) and are never part of it. Where they are absent, on a user's
machine, the tests that need them skip with that reason.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pycombat_gam.tables.files import EXACT_FLOATS

ROOT = Path(__file__).resolve().parents[3] / "shared" / "reference"
needs_reference = pytest.mark.skipif(not ROOT.is_dir(), reason=f"no reference outputs at {ROOT}")


@dataclass(frozen=True, eq=False)
class Case:
    """One call of an R function: its input, and what it gave."""

    set: str
    name: str
    about: dict[str, Any]

    @property
    def ok(self) -> bool:
        return self.about["status"] == "ok"

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.about.get("options") or {})

    @property
    def features(self) -> list[str]:
        value = self.about["features"]
        if isinstance(value, str) and value.startswith("ALL"):
            known = {"subject", "site", "age", "sex", "dx", "scanner", "pheno", "batch", "outcome", "cancer"}
            return [name for name in read_csv(self.about["input"]).columns if name not in known]
        return [value] if isinstance(value, str) else list(value)

    @property
    def batch(self) -> str:
        return str(self.about["batch_column"])

    @property
    def formula(self) -> str:
        """The covariates of the R call as a one-sided formula (`cbind(…)` and `model.matrix(…)` alike)."""
        text = self.about.get("formula") or ""
        if "formula = y" in self.about.get("call", ""):
            text = re.search(r"formula = y (~[^,)]*)", self.about["call"]).group(1)  # type: ignore[union-attr]
        both = re.fullmatch(r"cbind\(model\.matrix\((~.*?)\), (\w+)\)", text)
        if both:
            text = f"{both[1]} + {both[2]}"
        elif "~" in text:
            text = text[text.index("~") :]
            depth = 0
            for at, char in enumerate(text):
                depth += (char == "(") - (char == ")")
                if depth < 0 or (char == "," and depth == 0):
                    text = text[:at]
                    break
        elif text.startswith("cbind("):
            text = "~ " + " + ".join(f"I({part.strip()})" for part in text[6:-1].split(","))
        return text.split(" in training")[0] or "~ 1"

    def input(self) -> pd.DataFrame:
        """The input table, filtered as the case says, in the order of the file."""
        table = read_csv(self.about["input"])
        for column, allowed in (self.about.get("row_filter") or {}).items():
            table = table[table[column].isin([allowed] if isinstance(allowed, str) else allowed)]
        return table.reset_index(drop=True)

    def rows(self, which: str) -> pd.DataFrame:
        """The subjects named in `train_subjects` or `test_subjects`, in that order."""
        table = read_csv(self.about["input"])
        return table.iloc[pd.Index(table["subject"]).get_indexer(self.about[which])].reset_index(drop=True)

    def output(self, name: str) -> pd.DataFrame:
        """An output table, indexed by its first column."""
        table = read_csv(f"{self.set}/{self.name}/{name}.csv.gz")
        return table.set_index(table.columns[0])

    def has(self, name: str) -> bool:
        return f"{name}.csv.gz" in self.about.get("outputs", [])


@cache
def read_csv(path: str) -> pd.DataFrame:
    """Read a reference table with every digit; ids and labels stay as R printed them."""
    table = pd.read_csv(ROOT / path, **EXACT_FLOATS, low_memory=False)
    first = table.columns[0]
    table = table.copy()  # one block, not one per column
    return table.astype({first: str}) if not np.issubdtype(np.asarray(table[first]).dtype, np.floating) else table


def cases(set_name: str, pattern: str = "") -> list[Case]:
    """All cases of a set whose name matches, in order."""
    found = []
    for path in sorted((ROOT / set_name).glob("*/case.json")):
        if re.search(pattern, path.parent.name):
            found.append(Case(set_name, path.parent.name, json.loads(path.read_text())))
    return found
