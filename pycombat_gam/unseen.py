r"""Sites that were not in the fit: location and scale estimated against the frozen mean model and pooled variance.

With z = (Y − f)/σ̂ on the new site's rows, f and σ̂ from the fit: γ̂ = mean(z), δ̂ = var(z) (n − 1), priors over the
new site's own features, shrunk as at fit. The outputs for known sites don't change.
(ComBatFamily 0.2.1, `predict.comfam` on a new batch; it always shrinks, we follow the fit's `eb`.)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pycombat_gam.batch.adjust import Adjustment
from pycombat_gam.batch.location_scale import BatchEffects
from pycombat_gam.batch.prior import shrink
from pycombat_gam.errors import DataError, count, listing
from pycombat_gam.penalized.sufficient import blocks
from pycombat_gam.result import FittedComBat
from pycombat_gam.types import BoolArray, FloatArray, IntArray


def estimate_unseen(
    fit: FittedComBat,
    by: Adjustment,
    Y: np.ndarray,
    X: FloatArray,
    codes: IntArray,
    unseen: tuple[str, ...],
    prior: str,
    mean_only: bool,
) -> tuple[Adjustment, list[str]]:
    """Extend an adjustment by the sites `unseen`, whose codes follow those of the known ones.

    Parameters
    ----------
    fit : the frozen model; by : its adjustment.
    Y : (n, V) features; X : (n, p) design; codes : (n,) batch of each row.

    Returns
    -------
    by : with rows for the new sites; notes : what was estimated, and from how many rows.
    """
    touched = ~fit.scale.degenerate
    shifts, scales, notes = [by.shift], [by.inverse_scale], []
    for i, label in enumerate(unseen):
        rows = np.flatnonzero(codes == len(fit.levels) + i)
        gamma, delta, n_observed, constant = _residual_moments(fit, by, Y, X, rows)
        location_only = constant | (n_observed < 2)
        observed = touched & (n_observed > 0)
        delta = np.where(location_only | ~touched | mean_only, 1.0, delta)
        gamma = np.where(observed, gamma, 0.0)
        shrunken = shrink(
            BatchEffects(gamma[None], delta[None], location_only[None]),
            n_observed[None],
            np.array([rows.size]),
            observed,
            [label],
            prior=prior,
            mean_only=mean_only,
            reference=None,
        )
        shifts.append(fit.scale.sd * shrunken.gamma)
        scales.append(1.0 / np.sqrt(shrunken.delta))
        note = f"batch '{label}' was not in the fit: estimated from its {count(rows.size, 'row')}"
        only = location_only & observed
        if only.any() and not mean_only:
            some = "all features" if rows.size == 1 else listing(np.array(fit.features, dtype=object)[only])
            note += f", location only for {some}"
        notes.append(note)
    return replace(by, shift=np.concatenate(shifts), inverse_scale=np.concatenate(scales)), notes


def _residual_moments(
    fit: FittedComBat, by: Adjustment, Y: np.ndarray, X: FloatArray, rows: IntArray
) -> tuple[FloatArray, FloatArray, IntArray, BoolArray]:
    """Mean, variance, count and constancy of the standardized residuals of one site, each (V,)."""
    V = Y.shape[1]
    gamma, delta = np.zeros(V), np.ones(V)
    n_observed, constant = np.zeros(V, dtype=np.intp), np.zeros(V, dtype=bool)
    centred = X[rows] - by.center
    for columns, raw in blocks(Y, rows):
        seen = ~np.isnan(raw)
        if np.isinf(raw).any():
            bad = [fit.features[columns.start + k] for k in np.flatnonzero(np.isinf(raw).any(axis=0))]
            raise DataError(f"infinite values in {listing(bad)}: correct them or set them to missing")
        n = seen.sum(axis=0)
        z = (raw - by.mean[columns] - centred @ by.coefficients[:, columns]) / fit.scale.sd[columns]
        mean = np.where(seen, z, 0.0).sum(axis=0) / np.maximum(n, 1)
        deviation = np.where(seen, z - mean, 0.0)
        mean_left = deviation.sum(axis=0) / np.maximum(n, 1)
        gamma[columns] = mean + mean_left
        ss = (deviation**2).sum(axis=0) - n * mean_left**2
        delta[columns] = ss / np.maximum(n - 1, 1)
        n_observed[columns] = n
        low, high = np.where(seen, raw, np.inf).min(axis=0), np.where(seen, raw, -np.inf).max(axis=0)
        constant[columns] = (low == high) & (n > 0)
    return gamma, delta, n_observed, constant
