"""What a classifier or a regression is given: features on one scale, no more of them than there are rows.

Logistic regression, support vectors and ridge regression see rows through inner products alone, so a rotation changes
nothing: where there are more features than rows, the rows' coordinates in their own span take the features' place.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from pycombat_gam.types import FloatArray, IntArray


def coordinates(values: FloatArray) -> FloatArray:
    """Return features divided by their standard deviation, rotated into at most n coordinates; missing rows stay so."""
    known = ~np.isnan(values).any(axis=1)
    if not known.all():
        inside = coordinates(values[known])
        full = np.full((known.size, inside.shape[1]), np.nan)
        full[known] = inside
        return full
    centred = values - values.mean(axis=0)
    spread = centred.std(axis=0)
    scaled = centred[:, spread > 0] / spread[spread > 0]
    if scaled.shape[1] <= scaled.shape[0]:
        return np.asarray(scaled)
    square, along = np.linalg.eigh(scaled @ scaled.T)
    return np.asarray(along * np.sqrt(np.maximum(square, 0.0)))


def balanced_accuracy(truth: IntArray, guess: IntArray) -> tuple[float, float]:
    """Mean over groups of the share that is recognised, and its standard error.

    Groups are independent, so the variance is Σ p(1 − p)/n over the square of their number; p, in the variance only, is
    drawn a little towards ½ (k + ½ of n + 1), so that a group that is all right or all wrong is not taken for certain.
    """
    sizes = np.bincount(truth)
    right = np.bincount(truth[truth == guess], minlength=sizes.size)[sizes > 0]
    sizes = sizes[sizes > 0]
    p = (right + 0.5) / (sizes + 1.0)
    return float((right / sizes).mean()), float(np.sqrt((p * (1.0 - p) / sizes).sum()) / sizes.size)


def fit_quietly(model: Any, values: FloatArray, target: IntArray) -> None:
    """Fit a classifier of scikit-learn; one that stops early predicts as well as it does, and that is reported."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(values, target)
