"""Side conditions: where a smooth's space meets another's, as te(x, z) does s(x), the shared columns are dropped.

Follows mgcv's `gam.side`: a term gives way to those before it, in order of dimension, that share a variable with it;
which columns go is read from a QR with column pivoting of what is left of them after the others (Wood 2017, §5.6.3).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import qr

from pycombat_gam.smooth.assemble import Smooth
from pycombat_gam.smooth.basis import Values
from pycombat_gam.types import FloatArray, IntArray

TOLERANCE = float(np.finfo(float).eps) ** 0.5
"""Columns smaller than this share of the others' largest are dependent (mgcv's value)."""


def side_conditions(smooths: Sequence[Smooth], values: Values, *, intercept: bool) -> list[Smooth]:
    """Drop the columns of each smooth that smooths of as many or fewer variables have already.

    te(x, z) loses columns to s(x), and te(x, w) to te(x, z), for both contain the curves of x.

    Parameters
    ----------
    smooths : in the order of the model; values : their variables on the n rows of the fit.
    intercept : whether the model has an intercept, or columns that add up to one.
    """
    names = [_names(smooth) for smooth in smooths]
    done = list(smooths)
    order = sorted(range(len(smooths)), key=lambda i: (len(names[i]), i))
    for place, i in enumerate(order):
        if not smooths[i].side_constrain:
            continue
        sharing = [j for j in order[:place] if smooths[j].side_constrain and names[j] & names[i]]
        if not sharing:
            continue
        X = done[i].on(values)
        before = np.hstack([np.ones((len(X), int(intercept))), *(done[j].on(values) for j in sharing)])
        gone = _dependent(before, X)
        if gone.size:
            done[i] = done[i].dropping(gone.tolist())
    return done


def _names(smooth: Smooth) -> frozenset[str]:
    """Its variables; by a variable they count as others."""
    return frozenset(
        label if smooth.by is None else f"{label}:{smooth.by}:{smooth.by_level}" for label in smooth.variables
    )


def _dependent(before: FloatArray, X: FloatArray) -> IntArray:
    """Columns of X that are combinations of `before` and of X's other columns."""
    Q, R, _ = qr(before, mode="full", pivoting=True) if before.shape[1] else (np.eye(len(X)), np.ones((1, 1)), None)
    left = (Q.T @ X)[before.shape[1] :]
    R2, pivot = qr(left, mode="r", pivoting=True)
    r = min(R2.shape)
    start = r
    while start > 0 and np.abs(R2[start - 1 : r, start - 1 : r]).mean() < abs(R[0, 0]) * TOLERANCE:
        start -= 1
    return np.asarray(pivot[start:r], dtype=np.intp)
