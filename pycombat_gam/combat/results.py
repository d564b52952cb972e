"""What a fitted ComBat holds and tells: estimates, summary, and what every harmonizer is asked."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
import pandas as pd

from pycombat_gam.account.account import Account, NamedTable
from pycombat_gam.batch.model import BatchModel
from pycombat_gam.combat.arguments import check_options
from pycombat_gam.combat.estimates import Estimates, estimates_of
from pycombat_gam.combat.fitted import FittedComBat
from pycombat_gam.combat.methods import account_of, tables_of
from pycombat_gam.combat.saved import KIND
from pycombat_gam.combat.summary import Summary, summarize
from pycombat_gam.errors import DataError
from pycombat_gam.mean.additive import AdditiveMean
from pycombat_gam.mean.fit import MeanModel
from pycombat_gam.penalized.problem import METHODS
from pycombat_gam.tables.cells import check_cells, suspicious_features
from pycombat_gam.tables.estimator import TableEstimator
from pycombat_gam.tables.intake import Intake, find_column
from pycombat_gam.types import IntArray, JsonDict
from pycombat_gam.words import Setting, Worded, listing


class Results(TableEstimator):
    """The results of a `ComBat`, and what makes it a harmonizer like others (`study.harmonizer`)."""

    kind: ClassVar[str] = KIND
    packages: ClassVar[tuple[str, ...]] = ()
    cheap_to_refit: ClassVar[bool] = True
    one_new_site: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = ()
    ref_batch: object
    eb: bool
    prior: str
    mean_only: bool
    smoothing: str
    mean_model: MeanModel | None
    batch_model: BatchModel | None
    missing: str
    on_unseen: str

    @property
    @abstractmethod
    def fitted(self) -> FittedComBat:
        """What the fit left."""

    @property
    def estimates(self) -> Estimates:
        """Everything estimated, as DataFrames; see `Estimates`."""
        tables: Estimates = estimates_of(self.fitted.mean, self.fitted.batch)
        return tables

    def summary(self) -> Summary:
        """Summarize the fit; prints like R, `.to_dict()` for data."""
        fitted = self.fitted
        model = self._mean_model()
        return summarize(fitted, repr(self), model.describe(fitted.mean.design.formula))

    def _mean_model(self) -> MeanModel:
        if self.mean_model is not None:
            return self.mean_model
        return AdditiveMean(METHODS[self.smoothing])

    # Rows to be harmonized

    def _rows(self, X: pd.DataFrame | np.ndarray, covariates: object) -> Intake:
        """Sort out a table of the fit's features, its cells checked."""
        fitted = self.fitted
        _, formula = check_options(self.get_params())
        intake = self._intake(X, covariates, formula.variables, fitted.features)
        self._check_cells(intake)
        return intake

    def _check_cells(self, intake: Intake) -> None:
        check_cells(intake.Y, suspicious_features(intake.Y), intake.features, omit_missing=self.missing == "omit")

    def _codes(self, intake: Intake) -> tuple[IntArray, tuple[str, ...]]:
        """Return the site of each row, and the sites that were not in the fit; an error where they are not wanted."""
        levels = self.fitted.levels
        codes, unseen = levels.codes(find_column(intake.covariates, self.batch, "batch"))
        if unseen and self.on_unseen == "error":
            estimate = Worded("use ", Setting("on_unseen", "estimate"), " to estimate it from these rows")
            raise DataError(
                Worded(
                    f"batch {listing(unseen)} was not in the fit, which knows {listing(levels.labels, 30)}: ",
                    levels.advice(unseen, estimate),
                )
            )
        return codes, unseen

    # As a harmonizer: see `study.harmonizer`

    @property
    def profile(self) -> JsonDict:
        """Summary of the table that was fitted."""
        return self.fitted.profile

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites that the model knows, in order."""
        return self.fitted.levels.labels

    @property
    def pictures(self) -> tuple[str, ...]:
        """Functions of `pycombat_gam.plot` that draw it."""
        return ("features", "curve", *(("site_effects", "shrinkage", "prior") if self.batch_model is None else ()))

    @property
    def undone(self) -> bool:
        """Whether each site's rows are shifted and scaled only; of another batch model that is not known."""
        return self.batch_model is None

    @property
    def untouched(self) -> int:
        """How many features pass through."""
        if self.batch_model is not None:
            return 0
        return int(self.fitted.location_scale("the report").scale.degenerate.sum())

    @property
    def shrunken(self) -> tuple[str, ...]:
        """Which site effects were shrunk over features."""
        if self.batch_model is not None or not self.eb:
            return ()
        return ("location",) if self.mean_only else ("location", "scale")

    @property
    def site_estimates(self) -> Estimates | None:
        """Site effects before and after shrinkage, among all estimates; None of another batch model."""
        return self.estimates if self.batch_model is None else None

    def account(self, *, to: str | None = None, elsewhere: bool = False) -> Account:
        """Describe what was done."""
        return account_of(self, elsewhere=elsewhere)

    def tables(self) -> tuple[NamedTable, ...]:
        """Return what was estimated of sites and features."""
        return tables_of(self)
