"""Whose rows these are: those that the model was fitted to, some of which estimated, or others."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pycombat_gam.batch.levels import canonical
from pycombat_gam.combat.estimator import ComBat
from pycombat_gam.errors import PcgError, PcgWarning
from pycombat_gam.types import JsonDict
from pycombat_gam.words import count, listing

if TYPE_CHECKING:
    from pycombat_gam.flow.estimator import FlowSCM

FITTED, MASKED, OTHER = "fitted", "masked", "other"
AGREEMENT = 1e-5
"""Site effects of the same rows agree up to this, in pooled standard deviations, in whatever order the rows come: sums
round, and smoothing parameters are found to their own precision. Those of other rows differ by about 1/√n."""


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
        model: ComBat | FlowSCM,
        table: pd.DataFrame,
        X: Any,
        covariates: pd.DataFrame | None,
        fit_mask: object = None,
    ) -> Origin:
        """Compare rows with what the model knows of its own: rows of each site, covariates, and what a refit gives.

        Parameters
        ----------
        table : (n rows) covariates of the report; X, covariates : the table as it was given.
        fit_mask : the rows of it that estimated, if not all and they are known.

        Notes
        -----
        ComBat is fitted again and its site effects are compared, which settles it. A flow is not: rows of its sites and
        distributions of its covariates have to do. What rows `fit_mask` chose the model does not store: where it is not
        given, a table that could be that of the fit counts as it.
        """
        profile: JsonDict = model.summary().profile
        own = dict(profile["batches"])
        here = {
            str(label): int(rows) for label, rows in table[model.batch].map(canonical).value_counts(sort=False).items()
        }
        masked = profile["rows"] != profile["rows_given"]
        if here == own:
            why = _covariates_differ(profile["covariates"], table)
            if not why and isinstance(model, ComBat):
                why = _estimates_differ(model, X, covariates)
            kind = OTHER if why else FITTED
        elif masked and isinstance(model, ComBat) and len(table) == profile["rows_given"] and _holds(here, own):
            why = "" if fit_mask is None else _estimates_differ(model, X, covariates, fit_mask)
            kind = OTHER if why else MASKED
        else:
            kind, why = OTHER, _counts_differ(here, own)
        return cls(
            kind,
            rows=len(table),
            sites=len(here),
            fit_rows=int(profile["rows"]),
            fit_given=int(profile["rows_given"]),
            fit_sites=len(own),
            unseen=tuple(label for label in here if label not in own),
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
        """What a reader has to know of it."""
        if self.kind == MASKED:
            return (
                f"{self.fit_rows:,} of these {self.rows:,} rows estimated mean model and site effects (fit_mask); "
                "which ones the model does not store",
            )
        if self.kind == FITTED:
            return ()
        new = (
            ""
            if not self.unseen
            else f"; the effects of sites not in the fit were estimated from these rows: {listing(self.unseen)}"
        )
        return (
            f"these {self.rows:,} rows are not the table that the model was fitted to, which had {self.chosen}: "
            f"{self.why}{new}",
        )


def _holds(here: dict[str, int], own: dict[str, int]) -> bool:
    return set(here) == set(own) and all(here[label] >= rows for label, rows in own.items())


def _counts_differ(here: dict[str, int], own: dict[str, int]) -> str:
    labels = list(dict.fromkeys([*own, *here]))
    apart = [
        f"site {label} has {count(here.get(label, 0), 'row')}, {own.get(label, 0):,} in the fit"
        for label in labels
        if here.get(label, 0) != own.get(label, 0)
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
            found = {"min": values.min(), "mean": values.mean(), "max": values.max()}
            reach = 1e-9 * max(abs(about["min"]), abs(about["max"]), float(np.ptp(values)))
            for what, value in found.items():
                if not abs(float(value) - about[what]) <= reach:
                    return f"the {what} of {name} is {float(value):.6g}, {about[what]:.6g} in the fit"
    return ""


def _estimates_differ(model: ComBat, X: Any, covariates: pd.DataFrame | None, fit_mask: object = None) -> str:
    params = {**model.get_params(), "features": model.get_feature_names_out().tolist()}
    try:
        with warnings.catch_warnings():
            # Said at the fit.
            warnings.simplefilter("ignore", PcgWarning)
            again = ComBat(**params).fit(X, covariates, fit_mask=fit_mask)
    except PcgError as error:
        return f"the model cannot be fitted to them: {error}"
    then, now = model.estimates, again.estimates
    pairs = ((then.gamma_hat, now.gamma_hat), (then.delta_hat.pow(0.5), now.delta_hat.pow(0.5)))
    for a, b in pairs:
        if not np.allclose(a, b.loc[a.index], rtol=AGREEMENT, atol=AGREEMENT, equal_nan=True):
            return "the same model fitted to these rows has other site effects"
    mean, spread = then.grand_mean.to_numpy(), np.sqrt(then.var_pooled.to_numpy())
    # A feature without variance has its rounding there.
    reach = AGREEMENT * spread + 1e-9 * np.abs(mean)
    far = (np.abs(mean - now.grand_mean.to_numpy()) > reach) | (np.abs(spread - np.sqrt(now.var_pooled)) > reach)
    return "the same model fitted to these rows has another mean or variance" if np.asarray(far).any() else ""
