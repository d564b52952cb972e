r"""Cubic regression splines whose coefficients are the values at the knots: natural (cr, cs) and cyclic (cc).

With h_i the distances of neighbouring knots, second derivatives δ at the knots follow from the values β by Bδ = Dβ, so
∫f''² = β'D'B⁻¹Dβ (Wood 2017, §5.3.1 and §5.3.2; Lancaster & Šalkauskas 1986). Outside the knots `cr` goes on as a
straight line, `cc` starts again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pycombat_gam.errors import FormulaError
from pycombat_gam.saving.reader import Reader
from pycombat_gam.smooth.basis import BasisOptions, Values, symmetric
from pycombat_gam.smooth.knots import (
    check_distinct,
    given_knots,
    numbers_of,
    quantile_knots,
    read_knots,
    single,
)
from pycombat_gam.smooth.reparametrise import split_eigenvectors
from pycombat_gam.types import FloatArray, JsonDict

if TYPE_CHECKING:  # Python 3.10 has no typing.Self
    from typing_extensions import Self

SHRINK = 0.1
"""Each null-space eigenvalue of `cs` is this share of the one above it (mgcv's value)."""


def _second_derivatives(h: FloatArray, *, cyclic: bool) -> tuple[FloatArray, FloatArray]:
    """B⁻¹D and D'B⁻¹D of knots at distances h."""
    if cyclic:
        n = h.size
        B, D = np.zeros((n, n)), np.zeros((n, n))
        for i in range(n):
            before, after = h[i - 1], h[i]
            B[i, i] += (before + after) / 3
            B[i, i - 1] += before / 6
            B[i, (i + 1) % n] += after / 6
            D[i, i] -= 1 / before + 1 / after
            D[i, i - 1] += 1 / before
            D[i, (i + 1) % n] += 1 / after
    else:
        n = h.size + 1
        B, D = np.zeros((n - 2, n - 2)), np.zeros((n - 2, n))
        for i in range(n - 2):
            B[i, i] = (h[i] + h[i + 1]) / 3
            if i + 1 < n - 2:
                B[i, i + 1] = B[i + 1, i] = h[i + 1] / 6
            D[i, i : i + 3] = 1 / h[i], -1 / h[i] - 1 / h[i + 1], 1 / h[i + 1]
    F = np.linalg.solve(B, D)
    return np.asarray(F, dtype=np.float64), symmetric(D.T @ F)


def _pieces(x: FloatArray, knots: FloatArray) -> tuple[np.ndarray, FloatArray, FloatArray, FloatArray]:
    """Interval of each x inside the knots, its width, and the distances to its ends."""
    j = np.clip(np.searchsorted(knots, x, side="right") - 1, 0, knots.size - 2)
    h = knots[j + 1] - knots[j]
    return j, h, x - knots[j], knots[j + 1] - x


@dataclass(frozen=True, eq=False)
class CubicBasis:
    """Natural cubic spline `cr`, and `cs`, whose straight lines are penalised too.

    Attributes
    ----------
    variables : the one variable; knots : (K,); S : (K, K) its penalty.
    """

    name: ClassVar[str] = "cr"
    reparametrise: ClassVar[bool] = False
    """Its coefficients are function values already, so a tensor product takes it as it is."""

    variables: tuple[str, ...]
    knots: FloatArray
    S: FloatArray

    @classmethod
    def learn(cls, variables: tuple[str, ...], values: Values, options: BasisOptions) -> Self:
        """Place the knots (mgcv's `smooth.construct.cr.smooth.spec`)."""
        label = single(variables, options, cls.name)
        x = numbers_of(values, label, options.where)
        if options.m is not None and len(options.m) > 1:
            raise FormulaError(f"{options.where}: basis '{cls.name}' has no order m; leave it out")
        unique = np.unique(x)
        k = check_distinct(options, variables, unique.size, x.size, 10, 3)
        knots = given_knots(options, label, (k,))
        knots = quantile_knots(unique, k) if knots is None else knots
        return cls._with(variables, knots)

    @classmethod
    def _with(cls, variables: tuple[str, ...], knots: FloatArray) -> Self:
        return cls(variables, knots, _second_derivatives(np.diff(knots), cyclic=False)[1])

    @property
    def penalties(self) -> tuple[FloatArray, ...]:
        """∫f''²."""
        return (self.S,)

    @property
    def ranks(self) -> tuple[int, ...]:
        """K − 2: straight lines are free."""
        return (self.knots.size - 2,)

    @property
    def null_dim(self) -> int:
        """Straight lines."""
        return 2

    def on(self, values: Values) -> FloatArray:
        """Columns (n, K); a straight line outside the knots."""
        x = numbers_of(values, self.variables[0], self.name)
        knots = self.knots
        K = knots.size
        F = np.zeros((K, K))
        F[1:-1] = _second_derivatives(np.diff(knots), cyclic=False)[0]
        inside = np.clip(x, knots[0], knots[-1])
        j, h, after, before = _pieces(inside, knots)
        rows = np.arange(x.size)
        X = (before**3 / h - before * h)[:, None] / 6 * F[j] + (after**3 / h - after * h)[:, None] / 6 * F[j + 1]
        X[rows, j] += before / h
        X[rows, j + 1] += after / h
        out = np.flatnonzero(x != inside)
        if out.size:
            low = j[out] == 0
            # Slope at the end knot: the difference quotient less what the curvature of the last piece adds.
            hi = h[out][:, None]
            slope = np.where(low[:, None], -hi / 6 * F[j[out] + 1], hi / 6 * F[j[out]])
            slope[np.arange(out.size), j[out]] -= 1 / h[out]
            slope[np.arange(out.size), j[out] + 1] += 1 / h[out]
            X[out] += (x[out] - inside[out])[:, None] * slope
        return np.asarray(X)

    def to_dict(self) -> JsonDict:
        """Plain data for `read`."""
        return _plain(self)

    @classmethod
    def read(cls, saved: Reader) -> Self:
        """Rebuild from plain data."""
        return cls._with(*read_knots(saved.exactly("basis", "variables", "knots"), 3))


@dataclass(frozen=True, eq=False)
class ShrunkenCubicBasis(CubicBasis):
    """`cs`: the two zero eigenvalues of the penalty become small positive ones.

    mgcv gives a tenth of the smallest positive eigenvalue to one straight line and a hundredth to the other. Rounding
    in its LAPACK decides which comes first, from one knot sequence to the next. Here the line that is zero at the first
    knot always gets the tenth: fits agree with mgcv's where it happened to choose so, in about half of the cases.
    """

    name: ClassVar[str] = "cs"

    @classmethod
    def _with(cls, variables: tuple[str, ...], knots: FloatArray) -> Self:
        S = _second_derivatives(np.diff(knots), cyclic=False)[1]
        values, vectors = split_eigenvectors(S, knots.size - 2)
        level, slope = vectors[:, -2], vectors[:, -1]
        S = S + SHRINK * values[-3] * (np.outer(slope, slope) + SHRINK * np.outer(level, level))
        return cls(variables, knots, symmetric(S))

    @property
    def ranks(self) -> tuple[int, ...]:
        """All of K."""
        return (self.knots.size,)

    @property
    def null_dim(self) -> int:
        """Nothing is free."""
        return 0


@dataclass(frozen=True, eq=False)
class CyclicBasis:
    """Cyclic cubic spline `cc`: value and two derivatives agree at both ends.

    Attributes
    ----------
    variables : the one variable; knots : (K + 1,), the last standing for the first; S : (K, K).
    """

    name: ClassVar[str] = "cc"
    reparametrise: ClassVar[bool] = False

    variables: tuple[str, ...]
    knots: FloatArray
    S: FloatArray

    @classmethod
    def learn(cls, variables: tuple[str, ...], values: Values, options: BasisOptions) -> Self:
        """Place the knots (mgcv's `smooth.construct.cc.smooth.spec`): two given ones are the ends of the cycle."""
        label = single(variables, options, cls.name)
        x = numbers_of(values, label, options.where)
        unique = np.unique(x)
        k = check_distinct(options, variables, unique.size, x.size, 10, 4)
        knots = given_knots(options, label, (2, k))
        if knots is None:
            knots = quantile_knots(unique, k)
        elif knots.size == 2:
            ends = knots
            inside = unique[(unique > ends[0]) & (unique < ends[1])]
            knots = quantile_knots(np.concatenate([ends[:1], inside, ends[1:]]), k)
        if x.min() < knots[0] or x.max() > knots[-1]:
            raise FormulaError(
                f"{options.where}: {label} runs from {x.min():.6g} to {x.max():.6g}, outside the cycle from "
                f"{knots[0]:.6g} to {knots[-1]:.6g}; give knots that cover it"
            )
        return cls._with(variables, knots)

    @classmethod
    def _with(cls, variables: tuple[str, ...], knots: FloatArray) -> Self:
        return cls(variables, knots, _second_derivatives(np.diff(knots), cyclic=True)[1])

    @property
    def penalties(self) -> tuple[FloatArray, ...]:
        """∫f''² over the cycle."""
        return (self.S,)

    @property
    def ranks(self) -> tuple[int, ...]:
        """K − 1: constants are free."""
        return (self.knots.size - 2,)

    @property
    def null_dim(self) -> int:
        """Constants."""
        return 1

    def on(self, values: Values) -> FloatArray:
        """Columns (n, K); x outside the cycle is brought into it."""
        x = numbers_of(values, self.variables[0], self.name)
        knots = self.knots
        start, period = knots[0], knots[-1] - knots[0]
        outside = (x < start) | (x > knots[-1])
        x = np.where(outside, start + np.mod(x - start, period), x)
        F = _second_derivatives(np.diff(knots), cyclic=True)[0]
        K = knots.size - 1
        j, h, after, before = _pieces(x, knots)
        following = (j + 1) % K
        X = (before**3 / h - before * h)[:, None] / 6 * F[j] + (after**3 / h - after * h)[:, None] / 6 * F[following]
        rows = np.arange(x.size)
        X[rows, j] += before / h
        X[rows, following] += after / h
        return np.asarray(X)

    def to_dict(self) -> JsonDict:
        """Plain data for `read`."""
        return _plain(self)

    @classmethod
    def read(cls, saved: Reader) -> Self:
        """Rebuild from plain data."""
        return cls._with(*read_knots(saved.exactly("basis", "variables", "knots"), 4))


def _plain(basis: CubicBasis | CyclicBasis) -> JsonDict:
    return {"basis": basis.name, "variables": list(basis.variables), "knots": basis.knots.tolist()}
