r"""Radial functions of thin plate splines, and sums of them over many points.

η(r) is r^q for odd q = 2m − d, and r^q log r for even d (Duchon 1977; Wood 2017, p. 216). In one variable a sum
Σ_i w_i|x − p_i|^q over N sorted points is a polynomial in x between neighbours, whose coefficients are running sums of
w_ip_i^j: all n values cost O(n + N) instead of O(nN), in extended precision where the machine has it.
"""

from __future__ import annotations

from math import comb, factorial, gamma, pi

import numpy as np
from numpy.typing import NDArray

from pycombat_gam.types import FloatArray, IntArray

BLOCK_BYTES = 2**24


def constant(m: int, d: int) -> float:
    """Factor of the radial function of order m in d variables."""
    if d % 2:
        return float(gamma(d / 2 - m) / (2 ** (2 * m) * pi ** (d / 2) * factorial(m - 1)))
    sign = -1 if (m + 1 + d // 2) % 2 else 1
    return float(sign / (2 ** (2 * m - 1) * pi ** (d / 2) * factorial(m - 1) * factorial(m - d // 2)))


def radial(distance2: FloatArray, m: int, d: int) -> FloatArray:
    """η of squared distances."""
    whole = distance2 ** ((2 * m - d) // 2)
    if d % 2:
        return np.asarray(constant(m, d) * whole * np.sqrt(distance2))
    return np.asarray(constant(m, d) * whole * 0.5 * np.log(np.where(distance2 > 0, distance2, 1.0)))


def distances2(x: FloatArray, points: FloatArray) -> FloatArray:
    """Squared distances (n, N), without the cancellation of the expanded square."""
    total = np.zeros((len(x), len(points)))
    for a, b in zip(x.T, points.T, strict=True):
        total += (a[:, None] - b) ** 2
    return total


class RadialSums:
    """Sums Σ_i η(‖x − p_i‖) w_i over the same N points for many x and w.

    Parameters
    ----------
    points : (N, d); m : order of the spline.
    """

    def __init__(self, points: FloatArray, m: int) -> None:
        self.points = points
        self.m = m
        self.d = points.shape[1]
        if self.d == 1:
            self.order = np.argsort(points[:, 0], kind="stable")
            # In units of the range, powers stay near one.
            self.unit = float(np.abs(points).max()) or 1.0
            self.powers = self._powers(points[self.order, 0])

    def at(self, x: FloatArray, weights: FloatArray) -> FloatArray:
        """Sums (n, k) at x (n, d) with weights (N, k)."""
        if self.d == 1:
            below = np.searchsorted(self.points[self.order, 0], x[:, 0], side="right")
            return self._on_a_line(self._powers(x[:, 0]), below, weights)
        sums = np.empty((len(x), weights.shape[1]))
        step = max(1, BLOCK_BYTES // (8 * len(self.points)))
        for start in range(0, len(x), step):
            block = slice(start, start + step)
            sums[block] = radial(distances2(x[block], self.points), self.m, self.d) @ weights
        return sums

    def between_points(self, weights: FloatArray) -> FloatArray:
        """Sums (N,) at the points themselves with weights (N,), on a line: one product with the matrix of η."""
        q = 2 * self.m - 1
        running = np.cumsum(self.powers * weights[self.order], axis=1)
        signed = (2 * running - running[:, -1:]) * self.powers[::-1]
        signs = np.array([comb(q, j) * (-1) ** j for j in range(q + 1)], dtype=np.longdouble)
        sums = np.empty(weights.size)
        sums[self.order] = constant(self.m, 1) * self.unit**q * (signs @ signed)
        return sums

    def _powers(self, x: FloatArray) -> NDArray[np.longdouble]:
        """Powers 0 … q of x (n,), one below the other (q + 1, n)."""
        powers = np.ones((2 * self.m, x.size), dtype=np.longdouble)
        np.multiply.accumulate(np.broadcast_to(x / self.unit, (2 * self.m - 1, x.size)), axis=0, out=powers[1:])
        return powers

    def _on_a_line(self, powers: NDArray[np.longdouble], below: IntArray, weights: FloatArray) -> FloatArray:
        q = 2 * self.m - 1
        w = weights[self.order]
        total = np.zeros((below.size, w.shape[1]), dtype=np.longdouble)
        running = np.zeros((w.shape[0] + 1, w.shape[1]), dtype=np.longdouble)
        for j in range(q + 1):
            np.cumsum(w * self.powers[j][:, None], axis=0, out=running[1:])
            # q is odd: |x − p|^q is (x − p)^q below x and −(x − p)^q above.
            signed = 2 * running[below] - running[-1]
            signed *= (comb(q, j) * (-1) ** j * powers[q - j])[:, None]
            total += signed
        return np.asarray(constant(self.m, 1) * self.unit**q * total, dtype=np.float64)
