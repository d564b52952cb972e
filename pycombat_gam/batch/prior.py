r"""Empirical-Bayes shrinkage of batch effects: γ̂, δ̂ → γ*, δ*.

Parametric (Johnson, Li & Rabinovic 2007): γ ~ N(γ̄_b, τ²_b), δ ~ InvGamma(a_b, b_b) with moments over features; then

    γ* = (n τ² γ̂ + δ* γ̄)/(n τ² + δ*),        δ* = (b + ½ Σ(z − γ*)²)/(n/2 + a − 1),

iterated, where Σ(z − γ*)² = (n − 1)δ̂ + n(γ̂ − γ*)² needs no rows. The iteration of a batch stops when
max over features of |Δγ|/γ and |Δδ|/δ is at most 1e-4. The denominator is *signed*, so a negative γ never delays the
stop: that is what R does (neuroCombat `it.sol`), and parity needs it. 0/0 counts as no change.

Non-parametric: posterior means over the other features' (γ̂_k, δ̂_k) as atoms, with weights

    log w_hk = −n_h/2 · log(2πδ̂_k) − [(n_h − 1)δ̂_h + n_h(γ̂_h − γ̂_k)²]/(2δ̂_k),   k ≠ h,

summed after subtracting the largest: finite for sites of any size, where R's product of densities underflows from about
500 subjects.

A feature of location only in a batch takes no part in that batch's priors, and gets δ* = 1 and
γ* = (n τ² γ̂ + γ̄)/(n τ² + 1). With `mean_only`, n = 1 there and everywhere (R's `postmean(…, 1, 1, …)`).
A batch with one subject is of location only throughout; its γ̄ and τ² come from its own γ̂. With `mean_only` no δ̂ is
needed, so such a batch is shrunk by whichever prior was asked for, as in R.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pycombat_gam.batch.effects import BatchEffects
from pycombat_gam.errors import DataError
from pycombat_gam.types import BoolArray, FloatArray, IntArray
from pycombat_gam.words import Setting, Worded, count

CONVERGENCE = 1e-4
MAX_ITERATIONS = 1000
_BLOCK_CELLS = 2**17


@dataclass(frozen=True, eq=False)
class Priors:
    """Hyperparameters per batch, each (B,): `gamma_bar`, `t2`, `a_prior`, `b_prior`; NaN where none is defined."""

    gamma_bar: FloatArray
    t2: FloatArray
    a_prior: FloatArray
    b_prior: FloatArray


@dataclass(frozen=True, eq=False)
class Shrunken:
    """γ* (`gamma`) and δ* (`delta`, a variance), both (B, V), the priors used and the iterations per batch (B,)."""

    gamma: FloatArray
    delta: FloatArray
    priors: Priors
    iterations: IntArray


def shrink(
    effects: BatchEffects,
    n_observed: IntArray,
    n_rows: IntArray,
    touched: BoolArray,
    labels: Sequence[str],
    *,
    prior: str,
    mean_only: bool,
    reference: int | None,
    advance: Callable[[int], object] = lambda features: None,
) -> Shrunken:
    """Shrink the effects of every batch.

    Parameters
    ----------
    effects : naive estimates, (B, V).
    n_observed : (B, V) observed cells; n_rows : (B,) rows per batch.
    touched : (V,) features that are adjusted at all; the others keep γ* = 0, δ* = 1 and inform no prior.
    labels : (B,) names of the batches, for messages.
    prior : "parametric", "nonparametric", or "none" (γ* = γ̂, δ* = δ̂).
    mean_only : location only, everywhere.
    reference : index of the reference batch (γ* = 0, δ* = 1), or None.
    advance : called with the number of features done, batch by batch.

    Raises
    ------
    DataError
        If a batch has fewer than two usable features, or usable features without spread.
    """
    n_batches = len(labels)
    gamma, delta = effects.gamma.copy(), effects.delta.copy()
    table = {name: np.full(n_batches, np.nan) for name in ("gamma_bar", "t2", "a_prior", "b_prior")}
    iterations = np.zeros(n_batches, dtype=np.intp)
    for b in range(n_batches):
        if b == reference:
            gamma[b], delta[b] = 0.0, 1.0
            continue
        if prior == "none":
            continue
        single = n_rows[b] == 1
        informs = _index(touched if single else touched & ~effects.location_only[b])
        scaled = not (mean_only or single)
        g_hat, d_hat, n = effects.gamma[b], effects.delta[b], n_observed[b].astype(float)
        moments = _moments(g_hat[informs], d_hat[informs] if scaled else None, labels[b])
        for name, value in moments.items():
            table[name][b] = value
        location = touched & effects.location_only[b] & (not (mean_only and single))
        if location.any():
            shots = 1.0 if mean_only else n[location]
            gamma[b, location] = _posterior_mean(g_hat[location], moments["gamma_bar"], shots, 1.0, moments["t2"])
            delta[b, location] = 1.0
        if single and not mean_only:
            continue
        g, d, n = g_hat[informs], d_hat[informs], n[informs]
        if prior == "nonparametric":
            gamma[b, informs], delta[b, informs] = nonparametric(g, d, n, advance)
        elif mean_only:
            gamma[b, informs] = _posterior_mean(g, moments["gamma_bar"], 1.0, 1.0, moments["t2"])
        else:
            gamma[b, informs], delta[b, informs], iterations[b] = parametric(g, d, n, moments)
            advance(g.size)
    return Shrunken(gamma, delta, Priors(**table), iterations)


def _index(chosen: BoolArray) -> IntArray | slice:
    """Return what selects the chosen features, a view where that is all of them."""
    return slice(None) if chosen.all() else np.flatnonzero(chosen)


def _moments(gamma: FloatArray, delta: FloatArray | None, label: str) -> dict[str, float]:
    """γ̄ and τ², and the inverse-gamma a and b whose mean and variance are those of δ̂ (R: `aprior`, `bprior`).

    Priors that two unequal features don't carry are refused: their variance would be zero or undefined.
    """
    if gamma.size < 2:
        raise DataError(
            Worded(
                f"batch '{label}' has {count(gamma.size, 'usable feature')} for its empirical-Bayes priors, which need "
                "at least two that vary there: use ",
                Setting("eb", False),
            )
        )
    moments = {"gamma_bar": float(gamma.mean()), "t2": float(gamma.var(ddof=1))}
    spread = {"location": (moments["gamma_bar"], moments["t2"])}
    if delta is not None:
        m, s2 = float(delta.mean()), float(delta.var(ddof=1))
        spread["scale"] = (m, s2)
    for name, (mean, variance) in spread.items():
        # Spread below 1e-10 is rounding: identical columns differ by their last digit only.
        if not np.sqrt(variance) > 1e-10 * max(abs(mean), 1e-6):
            raise DataError(
                Worded(
                    f"batch '{label}': its estimated {name} is the same for all features, so its empirical-Bayes prior "
                    "has no width (identical columns, or too few sites?): use ",
                    Setting("eb", False),
                )
            )
    if delta is not None:
        moments["a_prior"] = (2 * s2 + m**2) / s2
        moments["b_prior"] = (m * s2 + m**3) / s2
    return moments


def _posterior_mean(
    g_hat: FloatArray, g_bar: float, n: FloatArray | float, d_star: FloatArray | float, t2: float
) -> FloatArray:
    return (t2 * n * g_hat + d_star * g_bar) / (t2 * n + d_star)


def parametric(
    g_hat: FloatArray, d_hat: FloatArray, n: FloatArray, moments: dict[str, float]
) -> tuple[FloatArray, FloatArray, int]:
    """Iterate the conditional posterior means of one batch (R: `it.sol`).

    Parameters
    ----------
    g_hat, d_hat, n : (V,) naive location, naive variance, observed cells.
    moments : `gamma_bar`, `t2`, `a_prior`, `b_prior`.

    Returns
    -------
    gamma, delta : (V,) shrunken; iterations : how many were needed.

    Raises
    ------
    DataError
        If the iteration does not converge, which takes data at the limits of floating point.
    """
    g_bar, t2, a, b = (moments[name] for name in ("gamma_bar", "t2", "a_prior", "b_prior"))
    g, d = g_hat, d_hat
    within = (n - 1.0) * d_hat
    for iteration in range(1, MAX_ITERATIONS + 1):
        g_new = _posterior_mean(g_hat, g_bar, n, d, t2)
        d_new = (0.5 * (within + n * (g_hat - g_new) ** 2) + b) / (n / 2.0 + a - 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            change = np.fmax(np.abs(g_new - g) / g, np.abs(d_new - d) / d)
        g, d = g_new, d_new
        # fmax passes over the NaN of 0/0: no change.
        if not np.fmax.reduce(change) > CONVERGENCE:
            return g, d, iteration
    raise DataError(
        Worded(
            f"the empirical-Bayes iteration did not converge in {MAX_ITERATIONS} steps; use ",
            Setting("eb", False),
            " and look at the data",
        )
    )


def nonparametric(
    g_hat: FloatArray, d_hat: FloatArray, n: FloatArray, advance: Callable[[int], object] = lambda features: None
) -> tuple[FloatArray, FloatArray]:
    """Posterior means over the other features' estimates as atoms (R: `int.eprior`), in logs and in blocks.

    Parameters
    ----------
    g_hat, d_hat, n : (V,) naive location, naive variance, observed cells of one batch; V ≥ 2.
    advance : called with the number of features done.

    Returns
    -------
    gamma, delta : (V,) shrunken.
    """
    V = g_hat.size
    atoms = np.column_stack([np.ones(V), g_hat, d_hat])
    half_precision = -0.5 / d_hat
    log_norm = -0.5 * np.log(2 * np.pi * d_hat)
    totals = np.empty((V, 3))
    height = max(1, _BLOCK_CELLS // V)
    buffer = np.empty((min(height, V), V))
    for top in range(0, V, height):
        rows = slice(top, min(top + height, V))
        n_h = n[rows, None]
        work = buffer[: rows.stop - top]
        np.subtract(g_hat[rows, None], g_hat, out=work)
        np.multiply(work, work, out=work)
        work *= n_h
        work += (n_h - 1.0) * d_hat[rows, None]
        work *= half_precision
        work += n_h * log_norm
        work[np.arange(work.shape[0]), np.arange(rows.start, rows.stop)] = -np.inf
        work -= work.max(axis=1, keepdims=True)
        np.exp(work, out=work)
        totals[rows] = work @ atoms
        advance(rows.stop - rows.start)
    return totals[:, 1] / totals[:, 0], totals[:, 2] / totals[:, 0]
