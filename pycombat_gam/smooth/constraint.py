"""Constraints that make a smooth identifiable beside an intercept, absorbed into its coordinates."""

from __future__ import annotations

import numpy as np

from pycombat_gam.types import FloatArray


def sum_to_zero(c: FloatArray) -> FloatArray:
    """Z (K, K − 1), orthonormal, with c'Z = 0: the last columns of the reflection that takes c to an axis.

    The reflection is that of a Householder QR of c, so Z is the one that R's ``qr`` gives mgcv.
    """
    u = c.astype(np.float64).copy()
    u[0] += np.copysign(np.linalg.norm(u), u[0])
    u *= np.sqrt(2.0) / np.linalg.norm(u)
    return np.asarray((np.eye(u.size) - np.outer(u, u))[:, 1:])
