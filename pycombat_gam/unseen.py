r"""Sites that were not in the fit: location and scale estimated against the frozen mean model and pooled variance.

With z = (Y − f)/σ̂ on the new site's rows, f and σ̂ from the fit: γ̂ = mean(z), δ̂ = var(z) (n − 1), priors over the
new site's own features, shrunk as at fit. The outputs for known sites don't change.
(ComBatFamily 0.2.1, `predict.comfam` on a new batch; it always shrinks, we follow the fit's `eb`.)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pycombat_gam.batch.adjust import Adjustment
from pycombat_gam.batch.location_scale import estimate_effects
from pycombat_gam.batch.prior import shrink
from pycombat_gam.errors import count, listing
from pycombat_gam.mean.groups import SMALLEST_SD, rounding_unit
from pycombat_gam.penalized.sufficient import blocks, is_constant, last_digit
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
    shifts, scales, notes = [by.shift], [by.inverse_scale], []
    for i, label in enumerate(unseen):
        rows = np.flatnonzero(codes == len(fit.levels) + i)
        location, residual_ss, n_observed, constant, rounding = _residual_moments(fit, by, Y, X, rows)
        effects = estimate_effects(
            fit.scale.grand_mean + location,
            residual_ss,
            n_observed,
            constant,
            rounding,
            fit.scale,
            mean_only=mean_only,
            reference=None,
        )
        # A feature without any value in these rows has nothing to adjust there, and informs no prior.
        observed = ~fit.scale.degenerate & (n_observed[0] > 0)
        shrunken = shrink(
            effects, n_observed, np.array([rows.size]), observed, [label],
            prior=prior, mean_only=mean_only, reference=None,
        )  # fmt: skip
        shifts.append(fit.scale.sd * shrunken.gamma)
        scales.append(1.0 / np.sqrt(shrunken.delta))
        known = fit.levels.spelled_like(label)
        alike = f" (spelled like '{known}': is it one site?)" if known else ""
        note = f"batch '{label}' was not in the fit{alike}: estimated from its {count(rows.size, 'row')}"
        only = effects.location_only[0] & observed
        if only.any():
            some = "all features" if rows.size == 1 else listing(np.array(fit.features, dtype=object)[only])
            note += f", location only for {some}"
        notes.append(note)
    return replace(by, shift=np.concatenate(shifts), inverse_scale=np.concatenate(scales)), notes


def _residual_moments(
    fit: FittedComBat, by: Adjustment, Y: np.ndarray, X: FloatArray, rows: IntArray
) -> tuple[FloatArray, FloatArray, IntArray, BoolArray, FloatArray]:
    """Mean, sum of squares and count of one site's residuals, constancy and rounding of its values, each (1, V)."""
    V = Y.shape[1]
    location, residual_ss, rounding = np.zeros((1, V)), np.zeros((1, V)), np.zeros((1, V))
    n_observed, constant = np.zeros((1, V), dtype=np.intp), np.zeros((1, V), dtype=bool)
    centred = X[rows] - by.center
    for columns, raw in blocks(Y, rows):
        seen = ~np.isnan(raw)
        n = seen.sum(axis=0)
        residual = np.where(seen, raw - by.mean[columns] - centred @ by.coefficients[:, columns], 0.0)
        mean = residual.sum(axis=0) / np.maximum(n, 1)
        deviation = np.where(seen, residual - mean, 0.0)
        mean_left = deviation.sum(axis=0) / np.maximum(n, 1)
        location[0, columns] = mean + mean_left
        residual_ss[0, columns] = np.maximum((deviation**2).sum(axis=0) - n * mean_left**2, 0.0)
        n_observed[0, columns] = n
        low, high = np.where(seen, raw, np.inf).min(axis=0), np.where(seen, raw, -np.inf).max(axis=0)
        constant[0, columns] = is_constant(low, high, last_digit(Y))
        reach = np.where(n > 0, np.maximum(np.abs(low), np.abs(high)), 0.0)
        rounding[0, columns] = np.maximum(rounding_unit(Y) * reach, SMALLEST_SD)
    return location, residual_ss, n_observed, constant, rounding
