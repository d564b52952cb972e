"""The input of classifiers and regressions: features on one scale, at most as many as rows.

Logistic regression, support vector machines and ridge regression depend on inner products of rows alone, so a rotation
changes nothing. Where there are more features than rows, the rows' coordinates in their span replace the features.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from pycombat_gam.types import FloatArray, IntArray


def coordinates(values: FloatArray) -> FloatArray:
    """Return features divided by their standard deviation, in at most n coordinates; missing rows stay missing."""
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
    """Return the mean over groups of the share classified correctly, and its standard error.

    Groups are independent, so the variance is Σ p(1 − p)/n over the square of their number. For the variance alone,
    p = (k + ½)/(n + 1), so that a group classified all right or all wrong still has a variance.
    """
    sizes = np.bincount(truth)
    right = np.bincount(truth[truth == guess], minlength=sizes.size)[sizes > 0]
    sizes = sizes[sizes > 0]
    p = (right + 0.5) / (sizes + 1.0)
    return float((right / sizes).mean()), float(np.sqrt((p * (1.0 - p) / sizes).sum()) / sizes.size)


def fit_quietly(model: Any, values: FloatArray, target: IntArray) -> None:
    """Fit a scikit-learn classifier without its convergence warning: what is reported is how well it predicts."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(values, target)
