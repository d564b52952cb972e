r"""The precision of a mean model's coefficients, batches included, for many features at once.

With X the design less its batch means, S the penalties and H_k = X'X + Σ λ_jk S_j, the covariance of feature k's
coefficients is φ_k H_k⁻¹ (mgcv's Bayesian `Vp`; of a linear model the usual one), φ = rss/(n − edf). A batch's level
α_b = ȳ_b − x̄_b'β has covariance φ (diag(1/n_b) + x̄ H⁻¹ x̄').
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from pycombat_gam.design.penalties import Penalty
from pycombat_gam.mean.fit import MeanFit
from pycombat_gam.types import FloatArray, IntArray

AS_GOOD_AS_INFINITE = 1e10
"""A penalty this many times the data is practically infinite, yet an inverse in double precision loses no digit."""
ROUNDING = 1e-12
"""What is left of a column, relative to it, after a projection onto columns that hold it: a few thousand roundings."""


def inverse_information(fit: MeanFit, features: IntArray) -> FloatArray:
    """Return H⁻¹ of features that are observed on all rows, (k, p, p); (1, p, p) where nothing is penalised.

    Parameters
    ----------
    fit : V features; features : (k,) which of them.
    """
    k = features.size if fit.design.smooth.smooths else 1
    penalties = [penalty.of(features) for penalty in fit.penalties]
    return penalised_inverse(fit.R.T @ fit.R, fit.n_rows.sum() * fit.center**2, penalties, k)


def penalised_inverse(information: FloatArray, whole: FloatArray, penalties: Sequence[Penalty], k: int) -> FloatArray:
    """Return (M + S_k)⁻¹ of every feature, (k, p, p).

    Parameters
    ----------
    information : (p, p) M, batches taken out; whole : (p,) squares of the columns that they took.
    penalties : with their weights for the k features.
    """
    total = np.repeat(information[None], k, axis=0)
    for _, same_term in groupby(penalties, key=lambda penalty: penalty.term):
        of_term = list(same_term)
        columns = of_term[0].columns
        size = float(np.trace(information[columns, columns]))
        before = float(whole[columns].sum())
        held = size <= ROUNDING**2 * before
        if held:
            # The batches hold such columns, and the data say nothing more of them: their coefficients are zero.
            total[:, columns, :] = 0.0
            total[:, :, columns] = 0.0
        for _, _, S, weights in of_term:
            most = AS_GOOD_AS_INFINITE * (max(before, 1.0) if held else size / np.trace(S))
            weight = most if held else np.minimum(weights, most)[:, None, None]
            total[:, columns, columns] += weight * S
    scale = 1.0 / np.sqrt(np.diagonal(total, axis1=1, axis2=2))
    inverse = np.linalg.inv(total * scale[:, :, None] * scale[:, None, :])
    return np.asarray(inverse * scale[:, :, None] * scale[:, None, :])


def residual_df(fit: MeanFit) -> FloatArray:
    """Return n − edf of every feature, batches counted, (V,)."""
    slices = fit.design.smooth_slices
    parametric = fit.coefficients.shape[0] - sum(columns.stop - columns.start for columns in slices)
    observed = fit.n_observed.sum(axis=0)
    return np.asarray(observed - parametric - fit.n_rows.size - fit.smoothing.edf.sum(axis=0), dtype=np.float64)


def residual_variance(fit: MeanFit) -> FloatArray:
    """Return φ of every feature, (V,)."""
    return np.asarray(fit.residual_ss.sum(axis=0) / residual_df(fit))
