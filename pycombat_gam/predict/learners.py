"""What is fitted in each fold: a learner sees columns, outcomes and sites, and leaves something that predicts.

The default is ridge regression, or ridge logistic regression for classes, see `ridge`. Any estimator of scikit-learn
takes its place. Predictions are probabilities (n, C), or a number for each row (n, 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from pycombat_gam.errors import ModelFileError, OptionError
from pycombat_gam.predict.missing import takes_missing
from pycombat_gam.predict.ridge import Axes, chosen_penalty, ridge, ridge_logistic, softmax
from pycombat_gam.saving.reader import Reader
from pycombat_gam.types import FloatArray, IntArray


class FittedLearner(Protocol):
    """What a learner leaves."""

    def predict(self, X: FloatArray, names: Sequence[str]) -> FloatArray:
        """Predict rows X (n, p): probabilities (n, C), or numbers (n, 1)."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Return it as named arrays."""


class Learner(Protocol):
    """An unfitted learner; it keeps nothing of a fit."""

    @property
    def missing(self) -> bool:
        """Whether missing cells are allowed among the columns."""

    def fit(
        self, X: FloatArray, names: Sequence[str], y: FloatArray, sites: IntArray, weights: FloatArray | None = None
    ) -> FittedLearner:
        """Fit rows X (n, p) with columns `names`, outcomes y (n,) and codes of sites (n,); all weigh 1 by default."""


@dataclass(frozen=True, eq=False)
class Linear:
    """Linear predictors: intercept (q,), coefficients (p, q), and the penalty λ that was chosen.

    For classes q = C and their softmax are the probabilities; for numbers q = 1.
    """

    intercept: FloatArray
    coefficients: FloatArray
    penalty: float
    classes: bool

    def predict(self, X: FloatArray, names: Sequence[str]) -> FloatArray:
        """Predict rows."""
        eta = self.intercept + X @ self.coefficients
        return softmax(eta) if self.classes else eta

    def arrays(self) -> dict[str, np.ndarray]:
        """Return it as named arrays."""
        return {
            "intercept": self.intercept,
            "coefficients": self.coefficients,
            "penalty": np.array([self.penalty]),
        }

    @classmethod
    def read(cls, saved: Reader, columns: int, outcomes: int, *, classes: bool) -> Linear:
        """Rebuild from named arrays."""
        return cls(
            saved.array("intercept", (outcomes,), finite=False),
            saved.array("coefficients", (columns, outcomes)),
            float(saved.array("penalty", (1,), positive=True)[0]),
            classes,
        )


@dataclass(frozen=True)
class Ridge:
    """Ridge regression, or ridge logistic regression of `n_classes` classes; the penalty is chosen by sites."""

    n_classes: int = 0

    @property
    def missing(self) -> bool:
        """Never: there is no row without all its numbers."""
        return False

    def fit(
        self, X: FloatArray, names: Sequence[str], y: FloatArray, sites: IntArray, weights: FloatArray | None = None
    ) -> Linear:
        """Fit rows; a class without rows gets probability zero."""
        axes = Axes.of(X, weights)
        if not self.n_classes:
            penalty = chosen_penalty(axes, y[:, None], sites)
            return Linear(*ridge(axes, y, penalty), penalty, False)
        Y = indicators(y, self.n_classes)
        present = np.flatnonzero(Y.any(axis=0))
        intercept = np.full(self.n_classes, -np.inf)
        coefficients = np.zeros((X.shape[1], self.n_classes))
        if present.size == 1:
            intercept[present] = 0.0
            return Linear(intercept, coefficients, 1.0, True)
        # Two classes have mirrored indicators: one says all.
        penalty = chosen_penalty(axes, Y[:, present[1:]] if present.size == 2 else Y[:, present], sites)
        intercept[present], coefficients[:, present] = ridge_logistic(axes, Y[:, present], penalty)
        return Linear(intercept, coefficients, penalty, True)


@dataclass(frozen=True, eq=False)
class Scikit:
    """An estimator of scikit-learn, cloned for each fit."""

    estimator: Any
    n_classes: int = 0

    @property
    def missing(self) -> bool:
        """Whether it takes missing cells, as a pipeline with an imputer does."""
        return takes_missing(self.estimator)

    def fit(
        self, X: FloatArray, names: Sequence[str], y: FloatArray, sites: IntArray, weights: FloatArray | None = None
    ) -> FittedScikit:
        """Fit rows; the estimator sees a table with named columns, and classes as codes from 0.

        It sees the weights if it takes any, see `argument_of_weights`.
        """
        from sklearn.base import clone

        table = pd.DataFrame(X, columns=list(names))
        target = y.astype(np.intp) if self.n_classes else y
        if self.n_classes and np.unique(target).size == 1:
            return FittedScikit(None, self.n_classes, target[:1])
        argument = None if weights is None else argument_of_weights(self.estimator)
        weighted = {} if argument is None else {argument: weights}
        fitted = clone(self.estimator).fit(table, target, **weighted)
        return FittedScikit(fitted, self.n_classes, np.asarray(getattr(fitted, "classes_", [])))


@dataclass(frozen=True, eq=False)
class FittedScikit:
    """A fitted estimator of scikit-learn; None where the rows had one class only, which `classes` then names."""

    fitted: Any
    n_classes: int
    classes: np.ndarray

    def predict(self, X: FloatArray, names: Sequence[str]) -> FloatArray:
        """Predict rows."""
        table = pd.DataFrame(X, columns=list(names))
        if not self.n_classes:
            return np.asarray(self.fitted.predict(table), dtype=np.float64).reshape(len(X), 1)
        P = np.zeros((len(X), self.n_classes))
        P[:, self.classes.astype(np.intp)] = 1.0 if self.fitted is None else self.fitted.predict_proba(table)
        return P

    def arrays(self) -> dict[str, np.ndarray]:
        """Refuse: an estimator of scikit-learn is code and data of any kind."""
        name = "the estimator" if self.fitted is None else f"the estimator {type(self.fitted).__name__}"
        raise ModelFileError(
            f"{name} cannot be saved: a .pcg file holds plain data, never a pickle; estimator=None (ridge) can be "
            "saved, and joblib keeps the whole predictor"
        )


def argument_of_weights(estimator: Any) -> str | None:
    """Return the argument of fit by which an estimator, or a pipeline's last step, takes weights; None for none."""
    from sklearn.pipeline import Pipeline
    from sklearn.utils.validation import has_fit_parameter

    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        inner = argument_of_weights(last)
        return None if inner is None else f"{name}__{inner}"
    return "sample_weight" if has_fit_parameter(estimator, "sample_weight") else None


def learner_of(estimator: object, n_classes: int) -> Learner:
    """Return the learner that an argument `estimator` asks for; `n_classes` is 0 for numbers."""
    if estimator is None:
        return Ridge(n_classes)
    if isinstance(estimator, type) or not hasattr(estimator, "fit"):
        shown = estimator.__name__ if isinstance(estimator, type) else repr(estimator)
        raise OptionError(
            f"estimator={shown}: give an estimator of scikit-learn, such as "
            "make_pipeline(StandardScaler(), LogisticRegression()), or None for ridge"
        )
    needed = "predict_proba" if n_classes else "predict"
    if not hasattr(estimator, needed):
        how = "; CalibratedClassifierCV makes probabilities of a classifier's decisions" if n_classes else ""
        raise OptionError(f"estimator={estimator!r} has no {needed}, which the outcome needs{how}")
    from sklearn.base import is_regressor

    if n_classes and is_regressor(estimator):
        raise OptionError(f"estimator={estimator!r} is a regressor, and probabilities are needed: give a classifier")
    return Scikit(estimator, n_classes)


def indicators(y: FloatArray, n_classes: int) -> FloatArray:
    """Return indicators (n, C) of codes (n,)."""
    Y: FloatArray = (y[:, None] == np.arange(n_classes)).astype(np.float64)
    return Y
