r"""Standardization: grand mean and pooled variance, as neuroCombat's `getStandardizedData` (R, 1.0.14).

    grand mean     ĝ_k = Σ_b (n_b/n) α_bk            (the reference batch's α if there is one)
    pooled var     σ̂²_k = Σ_b rss_bk / n_k           (within the reference batch if there is one)

n_k counts the observed cells of a feature; the weights n_b/n count *all* rows. (sva divides by n_k − 1 as soon as any
cell of the table is missing.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pycombat_gam.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Standardization:
    """Scale of each feature, each (V,): `grand_mean`, `var_pooled`, and `degenerate`, no variance beyond rounding."""

    grand_mean: FloatArray
    var_pooled: FloatArray
    degenerate: BoolArray

    @property
    def sd(self) -> FloatArray:
        """Pooled sd, 1 for degenerate features so that it can always be divided by."""
        return np.where(self.degenerate, 1.0, np.sqrt(np.where(self.degenerate, 1.0, self.var_pooled)))


def standardize(
    intercepts: FloatArray,
    residual_ss: FloatArray,
    n_observed: IntArray,
    n_rows: IntArray,
    constant: BoolArray,
    rounding: FloatArray,
    reference: int | None,
) -> Standardization:
    """Estimate grand mean and pooled variance.

    Parameters
    ----------
    intercepts, residual_ss : (B, V) from the mean model.
    n_observed : (B, V) observed cells per batch and feature; n_rows : (B,) rows per batch.
    constant : (B, V) all observed raw values of the feature in the batch are equal.
    rounding : (B, V) a residual sd up to this is rounding.
    reference : index of the reference batch, or None.
    """
    if reference is None:
        grand_mean = (n_rows / n_rows.sum()) @ intercepts
        ss, n_cells, limit = residual_ss.sum(axis=0), n_observed.sum(axis=0), rounding.max(axis=0)
    else:
        grand_mean = intercepts[reference].copy()
        ss, n_cells, limit = residual_ss[reference], n_observed[reference], rounding[reference]
    var_pooled = ss / n_cells
    degenerate = ~(np.sqrt(var_pooled) > limit)
    if reference is not None:
        # Covariates would lend it a variance that none of its values has.
        degenerate |= constant[reference]
    return Standardization(grand_mean, np.where(degenerate, 0.0, var_pooled), degenerate)
