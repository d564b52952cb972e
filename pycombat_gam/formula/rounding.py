"""R's `round`: to the nearest number with that many decimals, not by rounding a scaled copy."""

from __future__ import annotations

import numpy as np

from pycombat_gam.types import FloatArray

DIGITS = 15
"""Decimal digits that a double always holds."""


def round_decimal(x: FloatArray, digits: int) -> FloatArray:
    """Round to `digits` decimals: to the nearer of two candidates, and in a tie to the even one.

    Notes
    -----
    Follows R's `round` from version 4.0.0 on (Maechler, "Rounding to decimal digits in binary", 2020).

    >>> round_decimal(np.array([0.15, 2.5, 0.285]), 1), round_decimal(np.array([15.0, 25.0]), -1)
    (array([0.1, 2.5, 0.3]), array([20., 20.]))
    """
    if digits <= 0:
        return np.asarray(np.rint(x) if digits == 0 else np.rint(x / 10.0**-digits) * 10.0**-digits)
    with np.errstate(all="ignore"):
        scale, size = 10.0 ** min(digits, 308), np.abs(x)
        below, above = np.floor(scale * size), np.ceil(scale * size)
        low, high = below / scale, above / scale
        down, up = size - low, high - size
        nearest = np.where((down < up) | ((down == up) & (np.mod(below, 2) == 0)), low, high)
        # Beyond the digits that a double holds there is nothing to round.
        full = digits + (np.frexp(size)[1] - 0.5) * np.log10(2.0) > DIGITS
    return np.asarray(np.where(full | ~np.isfinite(nearest), x, np.copysign(nearest, x)))
