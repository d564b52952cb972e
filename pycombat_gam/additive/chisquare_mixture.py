r"""Tail probabilities of Σ w_jχ²_{d_j}, weights of either sign, to nearly full relative accuracy far into the tails.

With K(s) = −½ Σ d_j log(1 − 2w_js), the upper tail is an inversion integral along any path that crosses the real
axis once, between zero and the first singularity 1/(2 max w) (Daniels 1987; Rice 1980):

    P(Q > q) = (1/2πi) ∫ exp(K(s) − sq) ds/s.

The path crosses at the saddle point K'(s) = q, where the integrand is largest, and bends into the half plane where
exp(−sq) decays: s(t) = c + (±(cosh t − 1) + i sinh t)/σ. On it the integrand is analytic and falls at least
exponentially in t, so the trapezoidal rule converges geometrically. P(Q < q) is the same of −Q. mgcv's `psum.chisq`
runs Davies (1980), AS 155, to an absolute error of 2e-5 or better.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq

from pycombat_gam.types import FloatArray

_NEAREST_POLE = 0.5
"""Least distance of the path from the pole at 0, in standard deviations: nearer, the trapezoidal rule loses digits."""
_LARGEST_T = 80.0
_TOLERANCE = 1e-12


def upper_tail(q: float, weights: FloatArray, df: FloatArray | None = None) -> float:
    """P(Σ_j w_jχ²_{d_j} > q).

    Parameters
    ----------
    q : the point; weights : (k,) of any sign; df : (k,) degrees of freedom, 1 by default.
    """
    w = np.asarray(weights, dtype=float)
    d = np.ones(w.size) if df is None else np.asarray(df, dtype=float)
    kept = (w != 0) & (d > 0)
    d, w = d[kept], w[kept]
    if w.size == 0:
        return float(q < 0)
    unit = float(np.abs(w).max())
    w, q = w / unit, q / unit
    return _tail(q, w, d) if q >= float(w @ d) else 1.0 - _tail(-q, -w, d)


def _tail(q: float, w: FloatArray, d: FloatArray) -> float:
    """P(Q > q) for q at or above the mean."""
    top = float(w.max())
    if top <= 0 and q >= 0:
        return 0.0
    near = _NEAREST_POLE / np.sqrt(2.0 * float(d @ w**2))
    edge = 1.0 / (2.0 * top) if top > 0 else np.inf

    def slope(s: float) -> float:
        return float(np.sum(d * w / (1.0 - 2.0 * w * s))) - q

    centre = max(_saddle(slope, edge, near), min(near, edge / 2.0))
    spread = float(np.sqrt(np.sum(2.0 * d * (w / (1.0 - 2.0 * w * centre)) ** 2)))
    height = -0.5 * float(d @ np.log1p(-2.0 * w * centre)) - centre * q
    bend = float(np.sign(q))

    def integrand(t: FloatArray) -> FloatArray:
        s = centre + (bend * (np.cosh(t) - 1.0) + 1j * np.sinh(t)) / spread
        exponent = -0.5 * (np.log(1.0 - 2.0 * s[:, None] * w) @ d) - s * q - height
        step = (np.cosh(t) - 1j * bend * np.sinh(t)) / spread  # ds / (i dt)
        return np.asarray((np.exp(exponent) / s * step).real, dtype=float)

    return float(np.clip(np.exp(height) / np.pi * _trapezoid(integrand), 0.0, 1.0))


def _saddle(slope: Callable[[float], float], edge: float, start: float) -> float:
    """Root of K'(s) = q in [0, edge), or 0 where q is the mean."""
    if slope(0.0) >= 0:
        return 0.0
    low, high = 0.0, min(start, edge / 2.0)
    while slope(high) < 0:
        low = high
        high = high * 2.0 if edge == np.inf else (high + edge) / 2.0
        if not low < high < edge:
            return low
    return float(brentq(slope, low, high, rtol=1e-10))


def _trapezoid(f: Callable[[FloatArray], FloatArray]) -> float:
    """∫₀^∞ f for f even, analytic and falling off: halve the step until nothing changes."""
    coarse = np.arange(0.0, _LARGEST_T, 0.25)
    values = np.abs(f(coarse))
    end = float(coarse[np.flatnonzero(values > 1e-18 * values.max())[-1]]) + 0.25
    step = 0.125
    total = 0.5 * float(f(np.zeros(1))[0]) + float(f(np.arange(step, end + step, step)).sum())
    last = total * step
    for _ in range(8):
        total += float(f(np.arange(step / 2.0, end + step, step)).sum())
        step /= 2.0
        if abs(total * step - last) <= _TOLERANCE * abs(total * step):
            break
        last = total * step
    return total * step


def ratio_tail(statistic: float, weights: FloatArray, df_residual: float) -> float:
    """P(Σ_j w_jχ²_1 > statistic · χ²_k/k) with k residual degrees of freedom: the scale is estimated."""
    k = max(1.0, round(df_residual))
    return upper_tail(0.0, np.append(weights, -statistic / k), np.append(np.ones(len(weights)), k))
