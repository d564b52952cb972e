r"""Adjustment: Y* = (Y − f − g)/d + f, in one pass.

With f = m + (X − x̄)β, site location g = σ̂γ*, site scale d = √δ*, and s = 1/d:

    Y* = Y·s + (X − x̄)·β(1 − s) + m(1 − s) − σ̂γ*s,

so a batch costs one small matrix product and one fused multiply-add; f and the standardized data are never formed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pycombat_gam.penalized.sufficient import block_width, gather, group_rows
from pycombat_gam.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Adjustment:
    """Everything the adjustment needs, V features.

    Attributes
    ----------
    center : (p,) column means of the design at fit.
    coefficients : (p, V); mean : (V,) the mean model at `center`, grand mean included.
    shift : (B, V) σ̂γ*; inverse_scale : (B, V) 1/√δ*.
    untouched : (V,) features that pass through.
    reference : index of the batch that passes through, or None.
    """

    center: FloatArray
    coefficients: FloatArray
    mean: FloatArray
    shift: FloatArray
    inverse_scale: FloatArray
    untouched: BoolArray
    reference: int | None


def adjust(Y: np.ndarray, X: FloatArray, codes: IntArray, by: Adjustment, out: np.ndarray) -> None:
    """Write the harmonized values of Y into `out`.

    Parameters
    ----------
    Y : (n, V) raw features, any real dtype; missing cells stay missing.
    X : (n, p) design on the same rows; codes : (n,) batch of each row.
    by : the fitted adjustment.
    out : (n, V) float array; float32 is written as float32 and computed in float64.
    """
    n, V = Y.shape
    order, bounds = group_rows(codes, by.shift.shape[0])
    # [X − x̄, 1] times [β(1 − s); m(1 − s) − σ̂γ*s]
    augmented = np.empty((n, X.shape[1] + 1))
    augmented[:, :-1] = X[order] - by.center
    augmented[:, -1] = 1.0
    groups = [
        (b, slice(int(start), int(stop)))
        for b, (start, stop) in enumerate(pairwise(bounds))
        if stop > start and b != by.reference
    ]
    width = block_width(n)
    work = np.empty((n, min(width, V)))
    shift = np.empty((n, min(width, V)))
    for left in range(0, V, width):
        columns = slice(left, min(left + width, V))
        block, moved = work[:, : columns.stop - left], shift[:, : columns.stop - left]
        gather(Y, order, columns, block)
        beta, mean = by.coefficients[:, columns], by.mean[columns]
        for b, group in groups:
            s = by.inverse_scale[b, columns]
            map_b = np.vstack([beta * (1.0 - s), mean * (1.0 - s) - by.shift[b, columns] * s])
            np.matmul(augmented[group], map_b, out=moved[group])
            block[group] *= s
            block[group] += moved[group]
        out[order, columns] = block
    if by.untouched.any():
        kept = np.flatnonzero(by.untouched)
        out[:, kept] = Y[:, kept]
