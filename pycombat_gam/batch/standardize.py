r"""Standardization: grand mean and pooled variance, as neuroCombat's `getStandardizedData` (R, 1.0.14).

    grand mean     ĝ_k = Σ_b (n_b/n) α_bk            (the reference batch's α if there is one)
    pooled var     σ̂²_k = Σ_b rss_bk / n_k           (within the reference batch if there is one)

n_k counts the observed cells of a feature; the weights n_b/n count *all* rows. (sva divides by n_k − 1 as soon as any
cell of the table is missing.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pycombat_gam.batch.moments import Moments
from pycombat_gam.types import BoolArray, FloatArray


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


def standardize(moments: Moments, reference: int | None) -> Standardization:
    """Estimate grand mean and pooled variance.

    Parameters
    ----------
    moments : from the mean model; reference : index of the reference batch, or None.
    """
    if reference is None:
        grand_mean = (moments.n_rows / moments.n_rows.sum()) @ moments.location
        ss, n_cells = moments.residual_ss.sum(axis=0), moments.n_observed.sum(axis=0)
        limit = moments.rounding.max(axis=0)
    else:
        grand_mean = moments.location[reference].copy()
        ss, n_cells = moments.residual_ss[reference], moments.n_observed[reference]
        limit = moments.rounding[reference]
    var_pooled = ss / n_cells
    degenerate = ~(np.sqrt(var_pooled) > limit)
    if reference is not None:
        # Covariates would lend it a variance that its values do not have.
        degenerate |= moments.constant[reference]
    return Standardization(grand_mean, np.where(degenerate, 0.0, var_pooled), degenerate)
