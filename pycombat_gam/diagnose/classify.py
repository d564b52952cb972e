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
        found = np.full((known.size, inside.shape[1]), np.nan)
        found[known] = inside
        return found
    centred = values - values.mean(axis=0)
    spread = centred.std(axis=0)
    scaled = centred[:, spread > 0] / spread[spread > 0]
    if scaled.shape[1] <= scaled.shape[0]:
        return np.asarray(scaled)
    square, along = np.linalg.eigh(scaled @ scaled.T)
    return np.asarray(along * np.sqrt(np.maximum(square, 0.0)))


def balanced_accuracy(
    truth: IntArray, guess: IntArray, groups: int, *, level: float, seed: int
) -> tuple[float, float, float]:
    """Mean over groups of the share that is recognised, with the interval of independent Jeffreys posteriors."""
    sizes = np.bincount(truth, minlength=groups)
    right = np.bincount(truth[truth == guess], minlength=groups)
    tested = sizes > 0
    rng = np.random.default_rng(seed)
    drawn = rng.beta(right[tested] + 0.5, sizes[tested] - right[tested] + 0.5, size=(4000, int(tested.sum())))
    lower, upper = np.quantile(drawn.mean(axis=1), [level / 2, 1 - level / 2])
    return float((right[tested] / sizes[tested]).mean()), float(lower), float(upper)


def fit_quietly(model: Any, values: FloatArray, target: IntArray) -> None:
    """Fit a classifier of scikit-learn; one that stops early predicts as well as it does, and that is reported."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(values, target)
