"""The result of `diagnose`: one tidy table, and a summary that fits on a page."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from pycombat_gam.diagnose.rows import SITES, overall
from pycombat_gam.errors import OptionError
from pycombat_gam.study.states import STATES
from pycombat_gam.types import JsonDict
from pycombat_gam.words import did_you_mean, listing, printable

ASPECTS = (*SITES, "association", "effect change", "covariate prediction", "shrinkage")
_MEDIANS = {
    ("location", "ANOVA"): "median partial R2 of the site",
    ("scale", "Levene"): "median ratio of the largest to the smallest site sd",
    ("association", "partial R2"): "median partial R2",
}


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """Effects of sites and covariates on the features, before and after harmonization.

    Attributes
    ----------
    table : DataFrame
        A row per test or estimate. `aspect` and `measure` name it; `state` is ``"before"``, ``"after"`` or
        ``"held out"`` (harmonized by a model that did not see the row). `feature`, `site` and `covariate` say what was
        tested; empty means all together. `value` is the effect size or estimate, with the interval `lower` to `upper`
        and its value by `chance`. The test has `statistic`, `df`, `df_residual`, `p`, and `p_adjusted` for the number
        of features or sites tested (false discovery rate). `n` rows were used.
    level : float
        `p_adjusted` below it counts as significant; intervals have coverage 1 − level.
    permutations, seed : int
        Number of permutations, and the seed of everything random.
    notes : tuple of str
        What was left out, and why.
    """

    table: pd.DataFrame
    level: float
    permutations: int
    seed: int
    notes: tuple[str, ...]

    @property
    def states(self) -> tuple[str, ...]:
        """The states in the table, in order."""
        present = set(self.table["state"])
        return tuple(state for state in STATES if state in present)

    @cached_property
    def overall(self) -> pd.DataFrame:
        """Do sites differ at all? A p-value for each state, aspect and measure, and its adjustment for their number.

        For tests of each feature `p` is Simes' (the smallest p_adjusted); `p_adjusted` is Holm's over the measures of a
        state.
        """
        return overall(self.table)

    def of(self, aspect: str) -> pd.DataFrame:
        """Return the rows of one aspect, without empty columns."""
        known = self.table["aspect"].unique().tolist()
        if aspect not in known and aspect not in ASPECTS:
            raise OptionError(
                f"aspect={aspect!r}: allowed are {listing(map(repr, known), 12)}{did_you_mean(aspect, known)}"
            )
        some = self.table[self.table["aspect"] == aspect].reset_index(drop=True)
        empty = [name for name in some if some[name].isna().all() or (some[name].astype(object) == "").all()]
        return some.drop(columns=empty)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """A row per question, a column per state: shares of features, medians, p-values and accuracies."""
        cells: dict[tuple[str, str, str, str], dict[str, float]] = {}
        keys = ["aspect", "measure", "covariate", "state"]
        whole = self.table[(self.table["site"] == "") & (self.table["state"] != "")]
        by_feature = whole[whole["feature"] != ""]
        untested = {
            tuple(map(str, key)): int(part["p_adjusted"].isna().sum())
            for key, part in by_feature.groupby(keys, sort=False)
        }
        gaps = {key[:3] for key, rows in untested.items() if rows}
        for key, some in whole.groupby(keys, sort=False):
            aspect, measure, covariate, state = map(str, key)
            quantities = self._quantities(aspect, measure, some)
            if (aspect, measure, covariate) in gaps:
                quantities.append(("features not tested", float(untested[aspect, measure, covariate, state])))
            for quantity, value in quantities:
                cells.setdefault((aspect, measure, covariate, quantity), {})[state] = value
        index = pd.DataFrame(list(cells), columns=["aspect", "measure", "covariate", "quantity"])
        return index.join(pd.DataFrame(list(cells.values()), columns=list(self.states), dtype=float))

    def _quantities(self, aspect: str, measure: str, some: pd.DataFrame) -> list[tuple[str, float]]:
        """Reduce the rows of one test to a few named numbers."""
        if aspect in ("site prediction", "covariate prediction"):
            name = measure if aspect == "covariate prediction" else "balanced accuracy"
            return [(f"{name} (by chance {some['chance'].iloc[0]:.3g})", float(some["value"].iloc[0]))]
        if aspect == "effect change":
            return [("effects, times those before", float(some["value"].iloc[0]))]
        if (some["feature"] == "").all():
            p = f"p of {self.permutations:,} permutations"
            return [("statistic, times chance", float(some["value"].iloc[0])), (p, float(some["p"].iloc[0]))]
        tested = some["p_adjusted"].notna()
        share = float((some["p_adjusted"][tested] < self.level).mean()) if tested.any() else float("nan")
        quantities = [(f"share of features significant (FDR {100 * self.level:g} %)", share)]
        if (aspect, measure) in _MEDIANS:
            quantities.append((_MEDIANS[aspect, measure], float(some["value"].median())))
        return quantities

    def to_dict(self) -> JsonDict:
        """Return everything as plain data; a missing number is None."""
        plain = self.table.astype(object).where(self.table.notna(), None)
        return {
            "table": plain.to_dict("records"),
            "level": self.level,
            "permutations": self.permutations,
            "seed": self.seed,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        shown = self.summary.to_string(index=False, float_format="{:.3g}".format, na_rep="—", justify="left")
        lines = ["Diagnosis of site effects", "", shown]
        if self.notes:
            lines += ["", "Notes:", *(f"  - {note}" for note in self.notes)]
        return printable("\n".join(lines))

    __repr__ = __str__
