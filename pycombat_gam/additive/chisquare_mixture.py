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

from pycombat_gam.types import BoolArray, FloatArray

_NEAREST_POLE = 0.5
"""Least distance of the path from the pole at 0, in standard deviations: nearer, the trapezoidal rule loses digits."""
_LARGEST_T = 80.0
_TOLERANCE = 1e-12
_CELLS = 2**18
"""Complex numbers held at once."""


def upper_tails(q: FloatArray, weights: FloatArray, df: FloatArray) -> FloatArray:
    """P(Σ_j w_jχ²_{d_j} > q), for many sums.

    Parameters
    ----------
    q : (v,) points; weights : (v, k) of any sign; df : (v, k) degrees of freedom, 0 where a row has fewer terms.
    """
    w = np.where(df > 0, weights, 0.0)
    unit = np.abs(w).max(axis=1)
    some = unit > 0
    p = np.where(q < 0, 1.0, 0.0)
    w, d, q = w[some] / unit[some, None], df[some], q[some] / unit[some]
    flipped = q < (w * d).sum(axis=1)
    sign = np.where(flipped, -1.0, 1.0)
    tail = np.empty(q.size)
    step = max(1, _CELLS // (w.shape[1] * round(_LARGEST_T / 0.25)))
    for left in range(0, q.size, step):
        part = slice(left, left + step)
        tail[part] = _tails(sign[part] * q[part], sign[part, None] * w[part], d[part])
    p[some] = np.where(flipped, 1.0 - tail, tail)
    return np.asarray(p)


def _tails(q: FloatArray, w: FloatArray, d: FloatArray) -> FloatArray:
    """P(Q > q) for q at or above the mean."""
    top = w.max(axis=1)
    near = _NEAREST_POLE / np.sqrt(2.0 * (d * w**2).sum(axis=1))
    with np.errstate(divide="ignore"):
        edge = np.where(top > 0, 1.0 / (2.0 * np.maximum(top, 0.0)), np.inf)

    def slope(s: FloatArray) -> FloatArray:
        return np.asarray((d * w / (1.0 - 2.0 * w * s[:, None])).sum(axis=1) - q)

    centre = np.maximum(_saddles(slope, edge, near), np.minimum(near, edge / 2.0))
    spread = np.sqrt((2.0 * d * (w / (1.0 - 2.0 * w * centre[:, None])) ** 2).sum(axis=1))
    height = -0.5 * (d * np.log1p(-2.0 * w * centre[:, None])).sum(axis=1) - centre * q
    bend = np.sign(q)[:, None]

    def integrand(t: FloatArray) -> FloatArray:
        s = centre[:, None] + (bend * (np.cosh(t) - 1.0) + 1j * np.sinh(t)) / spread[:, None]
        exponent = -s * q[:, None] - height[:, None]
        for j in range(w.shape[1]):
            exponent -= 0.5 * d[:, j, None] * np.log(1.0 - 2.0 * s * w[:, j, None])
        step = (np.cosh(t) - 1j * bend * np.sinh(t)) / spread[:, None]  # ds / (i dt)
        return np.asarray((np.exp(exponent) / s * step).real, dtype=float)

    tail = np.clip(np.exp(height) / np.pi * _trapezoids(integrand, q.size), 0.0, 1.0)
    return np.where((top <= 0) & (q >= 0), 0.0, tail)


def _saddles(slope: Callable[[FloatArray], FloatArray], edge: FloatArray, start: FloatArray) -> FloatArray:
    """Root of K'(s) = q in [0, edge), or 0 where q is the mean; K' increases."""
    low, high = np.zeros(edge.size), np.minimum(start, edge / 2.0)
    rising: BoolArray = np.asarray(slope(low) < 0)
    high = np.where(rising, high, 0.0)
    while True:
        below = rising & (slope(high) < 0)
        if not below.any():
            break
        further = np.where(np.isinf(edge), high * 2.0, (high + np.where(np.isinf(edge), 0.0, edge)) / 2.0)
        stuck = below & ~((high < further) & (further < edge))
        low = np.where(below, high, low)
        high = np.where(below & ~stuck, further, high)
        rising &= ~stuck
    for _ in range(50):
        middle = (low + high) / 2.0
        below = slope(middle) < 0
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.asarray(low)


def _trapezoids(f: Callable[[FloatArray], FloatArray], v: int) -> FloatArray:
    """∫₀^∞ f for v functions that are even, analytic and falling off: halve the step until nothing changes."""
    coarse = np.arange(0.0, _LARGEST_T, 0.25)
    values = np.abs(f(coarse))
    reached = (values > 1e-18 * values.max(axis=1, keepdims=True)).any(axis=0)
    end = float(coarse[np.flatnonzero(reached)[-1]]) + 0.25
    step = 0.125
    total = 0.5 * f(np.zeros(1))[:, 0] + f(np.arange(step, end + step, step)).sum(axis=1)
    last = total * step
    for _ in range(8):
        total = total + f(np.arange(step / 2.0, end + step, step)).sum(axis=1)
        step /= 2.0
        if (np.abs(total * step - last) <= _TOLERANCE * np.abs(total * step)).all():
            break
        last = total * step
    return np.asarray(total * step)


def ratio_tails(statistic: FloatArray, weights: FloatArray, df: FloatArray, df_residual: FloatArray) -> FloatArray:
    """P(Σ_j w_jχ²_{d_j} > statistic · χ²_k/k) with k residual degrees of freedom, for many: the scale is estimated.

    Parameters
    ----------
    statistic, df_residual : (v,); weights, df : (v, k).
    """
    k = np.maximum(1.0, np.round(df_residual))
    against = np.column_stack([weights, -statistic / k])
    return upper_tails(np.zeros(statistic.size), against, np.column_stack([df, k]))


def ratio_tail(statistic: float, weights: FloatArray, df_residual: float) -> float:
    """P(Σ_j w_jχ²_1 > statistic · χ²_k/k): one of `ratio_tails`, each weight with one degree of freedom."""
    once = np.ones((1, weights.size))
    return float(ratio_tails(np.array([statistic]), weights[None], once, np.array([df_residual]))[0])
