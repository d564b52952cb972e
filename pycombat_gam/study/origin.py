"""How the reported rows relate to the rows of the fit: the same, a table of which some estimated, or another table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.batch.levels import canonical
from pycombat_gam.study.harmonizer import Harmonizer
from pycombat_gam.types import JsonDict
from pycombat_gam.words import count, listing

FITTED, MASKED, OTHER = "fitted", "masked", "other"


@dataclass(frozen=True)
class Origin:
    """How the rows of a report relate to those of the fit.

    Attributes
    ----------
    kind : ``"fitted"``, the rows that estimated the site effects; ``"masked"``, the table of a fit whose `fit_mask`
        let some of the rows estimate; ``"other"``, another table.
    rows, sites : of the report; fit_rows, fit_sites : that estimated; fit_given : rows that the fit was given.
    unseen : sites that the fit does not know.
    why : what shows that it is another table; empty if it is none.
    """

    kind: str
    rows: int
    sites: int
    fit_rows: int
    fit_given: int
    fit_sites: int
    unseen: tuple[str, ...] = ()
    why: str = ""

    @classmethod
    def of(
        cls,
        model: Harmonizer,
        table: pd.DataFrame,
        X: Any,
        covariates: pd.DataFrame | None,
        fit_mask: object = None,
    ) -> Origin:
        """Compare rows with what the model kept of its fit: rows of each site, covariates, and more.

        Parameters
        ----------
        table : (n rows) covariates of the report; X, covariates : the table as it was given.
        fit_mask : the rows of it that estimated, if not all and they are known.

        Notes
        -----
        Nothing is fitted again. A ComBat keeps mean and variance of every feature at every site, less the covariates'
        part; these settle it. A flow keeps only the rows of its sites and the distributions of its covariates. Which
        rows `fit_mask` chose is not stored: if it is not given, a table that could be that of the fit counts as it.
        """
        profile = model.profile
        at_fit = dict(profile["batches"])
        here = {
            str(label): int(rows) for label, rows in table[model.batch].map(canonical).value_counts(sort=False).items()
        }
        masked = profile["rows"] != profile["rows_given"]
        if here == at_fit:
            why = _covariates_differ(profile["covariates"], table) or model.differs(X, covariates)
            kind = OTHER if why else FITTED
        elif masked and len(table) == profile["rows_given"] and _holds(here, at_fit):
            why = "" if fit_mask is None else model.differs(X, covariates, fit_mask=fit_mask)
            kind = OTHER if why else MASKED
        else:
            kind, why = OTHER, _counts_differ(here, at_fit)
        return cls(
            kind,
            rows=len(table),
            sites=len(here),
            fit_rows=int(profile["rows"]),
            fit_given=int(profile["rows_given"]),
            fit_sites=len(at_fit),
            unseen=tuple(label for label in here if label not in at_fit),
            why=why,
        )

    @property
    def chosen(self) -> str:
        """Say how many rows estimated, of how many."""
        if self.fit_rows == self.fit_given:
            return count(self.fit_rows, "row")
        return f"{self.fit_rows:,} of {count(self.fit_given, 'row')} (fit_mask)"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader has to know about it."""
        if self.kind == MASKED:
            return (
                f"{self.fit_rows:,} of these {self.rows:,} rows estimated mean model and site effects (fit_mask); "
                "the model does not store which",
            )
        if self.kind == FITTED:
            return ()
        new = (
            ""
            if not self.unseen
            else f". The effects of sites not in the fit were estimated from these rows: {listing(self.unseen)}"
        )
        return (
            f"these {self.rows:,} rows are not the table that the model was fitted to, which had {self.chosen}: "
            f"{self.why}{new}",
        )


def _holds(here: dict[str, int], at_fit: dict[str, int]) -> bool:
    return set(here) == set(at_fit) and all(here[label] >= rows for label, rows in at_fit.items())


def _counts_differ(here: dict[str, int], at_fit: dict[str, int]) -> str:
    labels = list(dict.fromkeys([*at_fit, *here]))
    apart = [
        f"site {label} has {count(here.get(label, 0), 'row')}, {at_fit.get(label, 0):,} in the fit"
        for label in labels
        if here.get(label, 0) != at_fit.get(label, 0)
    ]
    return listing(apart, 3)


def _covariates_differ(profile: JsonDict, table: pd.DataFrame) -> str:
    for name, about in profile.items():
        column = table[name]
        if "levels" in about:
            if {str(level): int(rows) for level, rows in column.astype(str).value_counts().items()} != about["levels"]:
                return f"{name} has other groups, or other numbers of rows in them"
        elif not pd.api.types.is_numeric_dtype(column.dtype):
            return f"{name} is not numeric as in the fit"
        else:
            values = column.to_numpy(dtype=np.float64)
            statistics = {"min": values.min(), "mean": values.mean(), "max": values.max()}
            reach = 1e-9 * max(abs(about["min"]), abs(about["max"]), float(np.ptp(values)))
            for what, value in statistics.items():
                if not abs(float(value) - about[what]) <= reach:
                    return f"the {what} of {name} is {float(value):.6g}, {about[what]:.6g} in the fit"
    return ""
