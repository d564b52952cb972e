"""What audit, diagnosis, pictures, report and command line ask of a fitted model of any kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeGuard

import numpy as np

from pycombat_gam.account.account import Account, NamedTable
from pycombat_gam.combat.estimates import Estimates
from pycombat_gam.combat.estimator import ComBat
from pycombat_gam.infer.effects import Effects
from pycombat_gam.saving.container import Container
from pycombat_gam.tables.intake import FeatureChoice
from pycombat_gam.types import JsonDict

if TYPE_CHECKING:  # Python 3.10 has no typing.Self
    from typing_extensions import Self


class FitSummary(Protocol):
    """The summary of a fit: `str()` prints it."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was out of the ordinary."""


class Harmonizer(Protocol):
    """A harmonizer of tables; `ComBat` and `FlowSCM` are such.

    Attributes
    ----------
    kind : in one word, as its file says it.
    packages : the software that computes, whose versions matter.
    cheap_to_refit : whether it is fitted again many times by default.
    one_new_site : whether `with_site` takes the rows of one new site at a time.
    """

    kind: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    cheap_to_refit: ClassVar[bool]
    one_new_site: ClassVar[bool]
    formula: str
    batch: str
    features: FeatureChoice
    id: str | list[str] | tuple[str, ...] | None
    ref_batch: object

    @property
    def profile(self) -> JsonDict:
        """Summary of the table that was fitted."""

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites that the model knows, in order."""

    @property
    def targets(self) -> tuple[str, ...]:
        """The sites that `transform` can take rows to by its argument `to`; empty for a model without it."""

    @property
    def pictures(self) -> tuple[str, ...]:
        """Functions of `pycombat_gam.plot` that draw it."""

    @property
    def undone(self) -> bool:
        """Whether it shifts and scales each site's rows only: a test of the harmonized table then undoes it."""

    @property
    def untouched(self) -> int:
        """How many features pass through unchanged."""

    @property
    def shrunken(self) -> tuple[str, ...]:
        """Which site effects were shrunk over features: ``"location"``, ``"scale"``, both or none."""

    @property
    def site_estimates(self) -> Estimates | None:
        """Site effects before and after shrinkage; None for a model without."""

    def __sklearn_is_fitted__(self) -> bool: ...

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments."""

    def set_params(self, **params: Any) -> Self:
        """Set constructor arguments by name."""

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Return the names of the features."""

    @property
    def fit(self) -> Any:
        """Fit to a table; what else it takes differs, such as `fit_mask`."""

    @property
    def transform(self) -> Any:
        """Harmonize rows; what else it takes differs, such as `to`."""

    def summary(self) -> FitSummary:
        """Summarize the fit."""

    def to_container(self) -> Container:
        """Return the fitted model as plain data."""

    @classmethod
    def from_container(cls, container: Container) -> Self:
        """Rebuild a saved model."""

    def account(self, *, to: str | None = None, elsewhere: bool = False) -> Account:
        """Tell what was done.

        Parameters
        ----------
        to : the site that rows were taken to, of `targets`.
        elsewhere : whether the fit was to another table than the one reported on.
        """

    def tables(self) -> tuple[NamedTable, ...]:
        """Return what was estimated of sites and features."""

    def tested(self) -> Effects | None:
        """Test every term of the formula in the rows of the fit, sites accounted for; None where that cannot be."""

    def differs(self, X: Any, covariates: object = None, *, fit_mask: object = None) -> str:
        """Say what shows that rows, alike in sites and covariates, are not those of the fit; empty if nothing does."""

    def unfitted(self, **changed: Any) -> Self:
        """Return an unfitted model with other arguments, one that will take rows of new sites if its kind can."""

    def fit_part(self, X: Any, covariates: object = None) -> Any:
        """Fit to a part of a table that was fitted whole, and harmonize it: no audit, nothing that only tests need."""

    def with_site(self, X: Any, covariates: object = None) -> Self:
        """Return a model that also harmonizes rows of a site that was not in the fit."""

    def starting_point(self) -> ComBat:
        """Return the unfitted ComBat that stops for what this model stops for."""


def is_harmonizer(model: object) -> TypeGuard[Harmonizer]:
    """Tell whether an object is a model of this package's kind: it says which kind it is."""
    return not isinstance(model, type) and isinstance(getattr(model, "kind", None), str)
