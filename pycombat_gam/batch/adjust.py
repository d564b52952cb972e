r"""Adjustment: Y* = (Y − f − g)/d + f, in one pass.

With f = m + (X − x̄)β, site location g = σ̂γ*, site scale d = √δ*, and s = 1/d:

    Y* = Y·s + (X − x̄)·β(1 − s) + m(1 − s) − σ̂γ*s,

so a batch costs one small matrix product and one fused multiply-add; f and the standardized data are never formed. An
offset o joins f: (X − x̄, o) times (β(1 − s), 1 − s).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.linalg.blas import dgemm

from pycombat_gam.batch.model import MeanRows
from pycombat_gam.penalized.sufficient import blocks, group_rows
from pycombat_gam.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Adjustment:
    """Site effects on V features, ready to be removed.

    Attributes
    ----------
    shift : (B, V) σ̂γ*; inverse_scale : (B, V) 1/√δ*.
    untouched : (V,) features that pass through.
    reference : index of the batch that passes through, or None.
    """

    shift: FloatArray
    inverse_scale: FloatArray
    untouched: BoolArray
    reference: int | None

    @property
    def undone(self) -> Adjustment:
        """What takes harmonized values back to raw ones: Y = (Y* − f)d + f + g."""
        return replace(self, shift=-self.shift * self.inverse_scale, inverse_scale=1.0 / self.inverse_scale)


def adjust(
    Y: np.ndarray,
    mean: MeanRows,
    codes: IntArray,
    by: Adjustment,
    out: np.ndarray,
    advance: Callable[[int], object] = lambda cells: None,
) -> None:
    """Write the harmonized values of Y into `out`.

    Parameters
    ----------
    Y : (n, V) raw features, any real dtype; missing cells stay missing.
    mean : the mean model on the same rows; codes : (n,) batch of each row.
    by : the effects to remove.
    out : (n, V) float array; float32 is written as float32 and computed in float64.
    advance : called with the number of cells done.
    """
    order, bounds = group_rows(codes, by.shift.shape[0])
    # [X − x̄, o, 1] times [β(1 − s); 1 − s; m(1 − s) − σ̂γ*s]
    offset = [] if mean.offset is None else [mean.offset]
    augmented = np.column_stack([mean.X - mean.center, *offset, np.ones(len(mean.X))])
    parts = (
        (b, order[start:stop], columns, block)
        for b, (start, stop) in enumerate(pairwise(bounds))
        for columns, block in blocks(Y, order[start:stop])
    )
    for b, rows, columns, block in parts:
        advance(block.size)
        if b == by.reference:
            out[rows, columns] = block
            continue
        s = by.inverse_scale[b, columns]
        rest = 1.0 - s
        held = [mean.coefficients[:, columns] * rest, *([rest] * len(offset))]
        moved = np.vstack([*held, mean.at_center[columns] * rest - by.shift[b, columns] * s])
        block *= s
        if mean.rows.size:
            block += mean.more(rows, columns) * rest
        # block + augmented[rows] @ moved, without another array: BLAS takes row-major arrays as their transposes.
        out[rows, columns] = dgemm(1.0, moved.T, augmented[rows].T, 1.0, block.T, overwrite_c=True).T
    if by.untouched.any():
        kept = np.flatnonzero(by.untouched)
        out[:, kept] = Y[:, kept]
