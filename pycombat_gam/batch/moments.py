r"""What a mean model leaves of every batch: all that a site's location and scale need to know of the rows.

    location_bk     α̂_bk, the level of batch b at covariates of zero
    residual_ss_bk  Σ_i (y − α̂ − x'β̂)² over the rows of the batch
    df_bk           n_bk − 1 − tr(M_b (M + S_k)⁻¹), M_b = R_b'R_b, M = Σ_b M_b, S_k = Σ_j λ_jk S_j

so df is what remains of the batch's rows after its own level and its share of the covariates' degrees of freedom, and
Σ_b df_bk = n_k − edf_k. Without penalties, and if all batches share one variance, residual_ss/df is unbiased for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from pycombat_gam.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Moments:
    """What is left of B batches and V features.

    Attributes
    ----------
    location : (B, V) level of each batch, at raw covariates of zero.
    residual_ss : (B, V) residual sum of squares within each batch.
    df : (B, V) degrees of freedom of it; NaN where the mean model does not tell.
    n_observed : (B, V) cells used; n_rows : (B,) rows used.
    constant : (B, V) all observed raw values are equal, to the last digit.
    rounding : (B, V) a residual sd up to this is rounding of the batch's raw numbers, not variance.
    """

    location: FloatArray
    residual_ss: FloatArray
    df: FloatArray
    n_observed: IntArray
    n_rows: IntArray
    constant: BoolArray
    rounding: FloatArray
