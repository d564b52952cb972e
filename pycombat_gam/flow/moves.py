"""Rows that a query moves: to a site, or under an action, by the model or by a member of its ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from pycombat_gam.flow.fitted import Fitted
from pycombat_gam.flow.mechanisms.mechanism import FeatureMechanism, Parents
from pycombat_gam.tables.intake import Intake
from pycombat_gam.types import FloatArray


@dataclass(frozen=True, eq=False)
class ToSite:
    """n rows on their way to a site.

    Attributes
    ----------
    fitted : the fit; taken : the rows; parents : of their features, as observed.
    target : code of the site to go to; None for the average over sites.
    notes : where that extrapolates.
    """

    fitted: Fitted
    taken: Intake
    parents: Parents
    target: int | None
    notes: Sequence[str]

    def features(self, mechanism: FeatureMechanism | None = None) -> FloatArray:
        """Return the features there, (n, V)."""
        return self.fitted.model.harmonized(self.taken.Y, self.parents, self.target, mechanism)


@dataclass(frozen=True, eq=False)
class UnderAction:
    """n rows under an action.

    Attributes
    ----------
    fitted : the fit; taken : the rows.
    covariates : all columns beside the features, under the action.
    moved, effects : the columns that the action may move; those of them that it moves through the graph only.
    before, after : the features' parents as observed and under the action.
    notes : where it extrapolates.
    """

    fitted: Fitted
    taken: Intake
    covariates: pd.DataFrame
    moved: Sequence[str]
    effects: Sequence[str]
    before: Parents
    after: Parents
    notes: Sequence[str]

    def features(self, mechanism: FeatureMechanism | None = None) -> FloatArray:
        """Return the features under the action, (n, V)."""
        return self.fitted.model.counterfactual(self.taken.Y, self.before, self.after, mechanism)
