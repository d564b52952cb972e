"""The results of a fitted flow: training, site effects, summary, and the methods of every harmonizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from pycombat_gam.account.account import Account, NamedTable
from pycombat_gam.combat.estimator import ComBat
from pycombat_gam.errors import OptionError
from pycombat_gam.flow.mechanisms.structured import StructuredFlow
from pycombat_gam.flow.methods import account_of, tables_of
from pycombat_gam.flow.queries import Queries
from pycombat_gam.flow.saved import KIND
from pycombat_gam.flow.summary import FlowSummary, effect_tables, summarize
from pycombat_gam.types import JsonDict

if TYPE_CHECKING:  # Python 3.10 has no typing.Self
    from typing_extensions import Self


class Results(Queries):
    """The results of a `FlowSCM`, and what makes it a harmonizer like others (`study.harmonizer`)."""

    kind: ClassVar[str] = KIND
    packages: ClassVar[tuple[str, ...]] = ("torch", "zuko")
    pictures: ClassVar[tuple[str, ...]] = ("training", "fan")
    cheap_to_refit: ClassVar[bool] = False
    one_new_site: ClassVar[bool] = True
    undone: ClassVar[bool] = False
    shrunken: ClassVar[tuple[str, ...]] = ()
    site_estimates: ClassVar[None] = None
    untouched: ClassVar[int] = 0
    flow: str
    base: str
    graph: Mapping[str, list[str]] | None
    flow_options: Mapping[str, Any] | None
    n_members: int
    ensemble: str
    seed: int

    def tested(self) -> None:
        """Return no tests: what a flow makes of a table cannot be undone."""

    @property
    def history_(self) -> pd.DataFrame:
        """The training history, a row per epoch."""
        return self.fitted.history.copy()

    @property
    def site_effects(self) -> dict[str, pd.DataFrame]:
        """The parameters of the structured flow's site maps, sites × features: location, log_scale, and shape if any.

        They are on the standardized scale of `ComBat.estimates`: log_scale is half the logarithm of ComBat's delta.
        """
        model = self.fitted.model
        if not isinstance(model.features, StructuredFlow):
            raise OptionError(f"flow={self.flow!r} has no site maps: only flow='structured' has")
        return effect_tables(model)

    def summary(self) -> FlowSummary:
        """Summarize the fit; prints, `.to_dict()` for data."""
        fitted = self.fitted
        notes = (*fitted.notes, *fitted.support.unknown())
        return summarize(repr(self), fitted.model, fitted.choice, notes, fitted.profile, fitted.history)

    # As a harmonizer: see `study.harmonizer`

    @property
    def profile(self) -> JsonDict:
        """Summary of the table that was fitted."""
        return self.fitted.profile

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites that the model knows, in order."""
        return self.fitted.model.levels.labels

    @property
    def targets(self) -> tuple[str, ...]:
        """The sites that `transform` can take rows to."""
        return self.sites

    def account(self, *, to: str | None = None, elsewhere: bool = False) -> Account:
        """Describe the method for a report."""
        return account_of(self, to)

    def tables(self) -> tuple[NamedTable, ...]:
        """Return the tables of estimates."""
        return tables_of(self)

    def differs(self, X: object, covariates: object = None, *, fit_mask: object = None) -> str:
        """Return nothing: a flow keeps only the sites and covariates of its rows."""
        return ""

    def unfitted(self, **changed: Any) -> Self:
        """Return an unfitted model with other arguments."""
        return type(self)(**{**self.get_params(), **changed})

    def starting_point(self) -> ComBat:
        """Return the ComBat that training starts from, with parametric priors unless there is only one feature."""
        return ComBat(self.formula, self.batch, id=self.id, eb=len(self._features()) > 1)
