"""What all models of tables share: scikit-learn's conventions, and how tables come in and go out."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pycombat_gam.errors import OptionError
from pycombat_gam.tables.arguments import names
from pycombat_gam.tables.ids import check_ids
from pycombat_gam.tables.intake import FeatureChoice, Intake, feature_frame, find_column, intake, put_back
from pycombat_gam.words import count, did_you_mean

if TYPE_CHECKING:  # Python 3.10 has no typing.Self
    from typing_extensions import Self


class Parametrized:
    """scikit-learn's parameters: constructor arguments are attributes of the same name."""

    formula: str
    batch: str

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            name: getattr(self, name) for name in inspect.signature(type(self).__init__).parameters if name != "self"
        }

    def set_params(self, **params: Any) -> Self:
        """Set constructor arguments by name."""
        allowed = list(self.get_params())
        for name, value in params.items():
            if name not in allowed:
                raise OptionError(f"{type(self).__name__} has no parameter '{name}'{did_you_mean(name, allowed)}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        shown = [repr(self.formula), f"batch={self.batch!r}"]
        for name, value in self.get_params().items():
            if name in ("formula", "batch"):
                continue
            default = defaults[name].default
            if value is not default and not (isinstance(value, str | bool) and value == default):
                long = isinstance(value, list | tuple) and len(value) > 4
                shown.append(f"{name}=<{count(len(value), 'name')}>" if long else f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


class TableEstimator(Parametrized, ABC):
    """A harmonizer of tables: `ComBat`, `FlowSCM`."""

    features: FeatureChoice
    id: str | list[str] | tuple[str, ...] | None
    output: str

    @abstractmethod
    def _features(self) -> tuple[str, ...]:
        """Return the names of the features of the fit."""

    def set_output(self, *, transform: str | None = None) -> Self:
        """Choose the kind of results: ``"pandas"`` makes DataFrames also of arrays, ``"default"`` keeps the kind."""
        if transform not in (None, "default", "pandas"):
            raise OptionError(f"set_output(transform={transform!r}): allowed are 'default', 'pandas' and None")
        if transform is not None:
            self._sklearn_output_config = {"transform": transform}  # the name that scikit-learn's clone carries over
        return self

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Return the names of the harmonized features, in the order of ``output="features"``."""
        return np.array(self._features(), dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_fitted")

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=["float64", "float32"]),
        )

    def _intake(
        self,
        X: pd.DataFrame | np.ndarray,
        covariates: object,
        variables: Sequence[str],
        fitted: tuple[str, ...] | None,
    ) -> Intake:
        taken = take(X, covariates, variables, fitted, batch=self.batch, id=self.id, features=self.features)
        # A covariate's name on the index means a misplaced column, not an id to search for duplicates.
        for name in {*variables} & {str(level) for level in taken.covariates.index.names}:
            find_column(taken.covariates, name, "formula")
        check_ids(taken.covariates, names(self.id, "id"))
        return taken

    def _give(self, taken: Intake, out: np.ndarray) -> Any:
        pandas = getattr(self, "_sklearn_output_config", {}).get("transform") == "pandas"
        if taken.frame is None:
            return feature_frame(taken, out) if pandas else put_back(taken, out)
        return feature_frame(taken, out) if self.output == "features" else put_back(taken, out)


def take(
    X: pd.DataFrame | np.ndarray,
    covariates: object,
    variables: Sequence[str],
    fitted: tuple[str, ...] | None,
    *,
    batch: str,
    id: str | list[str] | tuple[str, ...] | None,
    features: FeatureChoice,
) -> Intake:
    """Sort out the caller's tables; `variables` are the formula's, and ids may come twice here. See `intake`."""
    reserved = (batch, *names(id, "id"), *variables)
    choice = features if features is None or isinstance(features, str) else names(features, "features")
    taken = intake(X, covariates, reserved=reserved, choice=choice, fitted=fitted)
    find_column(taken.covariates, batch, "batch")
    return taken
