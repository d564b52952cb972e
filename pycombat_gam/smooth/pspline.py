"""B-spline bases on evenly spaced knots: difference penalties (ps, cp) and derivative penalties (bs).

Eilers & Marx (1996), Statistical Science 11:89–121; Wood (2017), §5.3.3, and Wood (2017), "P-splines with derivative
based penalties", Statistics and Computing 27:985–989. scipy evaluates the B-splines.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.interpolate import BSpline

from pycombat_gam.errors import DesignError, FormulaError
from pycombat_gam.saving.reader import Reader
from pycombat_gam.smooth.basis import BasisOptions, Values, symmetric
from pycombat_gam.smooth.knots import (
    check_distinct,
    dimension,
    given_knots,
    numbers_of,
    orders,
    read_knots,
    single,
)
from pycombat_gam.types import FloatArray, JsonDict

if TYPE_CHECKING:  # Python 3.10 has no typing.Self
    from typing_extensions import Self

MARGIN = 0.001
"""The knots of ps and bs reach this share of the range beyond the data (mgcv's value)."""


def _b_splines(x: FloatArray, knots: FloatArray, degree: int, derivative: int = 0) -> FloatArray:
    """B-splines (n, knots − degree − 1) at x, each polynomial piece continued outside the last knots."""
    K = knots.size - degree - 1
    return np.asarray(BSpline(knots, np.eye(K), degree)(x, nu=derivative), dtype=np.float64)


def _even_knots(low: float, high: float, inner: int, degree: int) -> FloatArray:
    """`inner` knots from low to high, and `degree` more on each side at the same distance."""
    step = (high - low) / (inner - 1)
    return np.linspace(low - step * degree, high + step * degree, inner + 2 * degree)


def _ends(x: FloatArray, label: str, where: str) -> tuple[float, float]:
    low, high = float(x.min()), float(x.max())
    if not high > low:
        raise DesignError(f"{where}: {label} has 1 distinct value and explains nothing; leave the term out")
    return low, high


def _dimension(options: BasisOptions, variables: tuple[str, ...], x: FloatArray, default: int, least: int) -> int:
    """Return k; beyond the distinct values only where columns need not be independent: penalties fill gaps."""
    if not options.independent and np.ptp(x) > 0:
        return dimension(options, default, least)
    return check_distinct(options, variables, np.unique(x).size, x.size, default, least)


def _full_knots(x: FloatArray, options: BasisOptions, label: str, inner: int, degree: int) -> FloatArray:
    """Knots of an open basis: from the data's range, from two given ends, or all of them given."""
    total = inner + 2 * degree
    knots = given_knots(options, label, (2, total))
    low, high = _ends(x, label, options.where)
    if knots is None:
        margin = MARGIN * (high - low)
        return _even_knots(low - margin, high + margin, inner, degree)
    if knots.size == 2:
        low_end, high_end = float(knots[0]), float(knots[1])
        margin = MARGIN * (high_end - low_end)
        knots = _even_knots(low_end - margin, high_end + margin, inner, degree)
    inside = float(knots[degree]), float(knots[-degree - 1])
    if low < inside[0] or high > inside[1]:
        raise FormulaError(
            f"{options.where}: {label} runs from {low:.6g} to {high:.6g}, outside the inner knots from "
            f"{inside[0]:.6g} to {inside[1]:.6g}; give knots that cover it"
        )
    return knots


def _nested_knots(x: FloatArray, options: BasisOptions, label: str, inner: int, degree: int) -> FloatArray:
    """Knots from four given ones: where the penalty acts from the first to the last, evenly spread between the others.

    So the data may fill a part of the range over which a curve is to be drawn (mgcv's rule for `bs`).
    """
    knots = given_knots(options, label, (4,))
    assert knots is not None
    low, high = _ends(x, label, options.where)
    start, first, last, end = knots.tolist()
    if low < start or high > end:
        raise FormulaError(
            f"{options.where}: {label} runs from {low:.6g} to {high:.6g}, outside the knots from {start:.6g} to "
            f"{end:.6g}; give knots that cover it"
        )
    margin = np.arange(1, degree + 1) * (end - start) / (inner - 1)
    return np.concatenate([start - margin[::-1], [start], np.linspace(first, last, inner - 2), [end], end + margin])


@dataclass(frozen=True, eq=False)
class PSplineBasis:
    """P-spline `ps`: B-splines with a penalty on differences of neighbouring coefficients.

    Attributes
    ----------
    variables : the one variable; knots : (K + degree + 1,); degree : of the pieces; order : of the differences.
    """

    name: ClassVar[str] = "ps"
    reparametrise: ClassVar[bool] = True

    variables: tuple[str, ...]
    knots: FloatArray
    degree: int
    order: int

    @classmethod
    def learn(cls, variables: tuple[str, ...], values: Values, options: BasisOptions) -> Self:
        """Place the knots (mgcv's `smooth.construct.ps.smooth.spec`; m = (degree − 1, order))."""
        label = single(variables, options, cls.name)
        x = numbers_of(values, label, options.where)
        m = orders(options, (2, 2), 2)
        m = (m[0], m[0]) if len(m) == 1 else m
        degree = m[0] + 1
        k = _dimension(options, variables, x, max(10, m[0] + 2), max(degree + 1, m[1] + 1))
        return cls(variables, _full_knots(x, options, label, k - degree + 1, degree), degree, m[1])

    @property
    def size(self) -> int:
        """Number of columns."""
        return self.knots.size - self.degree - 1

    @property
    def penalties(self) -> tuple[FloatArray, ...]:
        """Squares of the differences."""
        D = np.diff(np.eye(self.size), n=self.order, axis=0)
        return (symmetric(D.T @ D),)

    @property
    def ranks(self) -> tuple[int, ...]:
        """K − order."""
        return (self.size - self.order,)

    @property
    def null_dim(self) -> int:
        """Polynomials of degree below the order."""
        return self.order

    def on(self, values: Values) -> FloatArray:
        """Columns (n, K); a straight line outside the inner knots."""
        x = numbers_of(values, self.variables[0], self.name)
        return _with_tangents(x, self.knots, self.degree)

    def to_dict(self) -> JsonDict:
        """Plain data for `read`."""
        return {
            "basis": self.name,
            "variables": list(self.variables),
            "knots": self.knots.tolist(),
            "degree": self.degree,
            "order": self.order,
        }

    @classmethod
    def read(cls, saved: Reader) -> Self:
        """Rebuild from plain data."""
        degree, order = _read_degree_and_order(saved)
        return cls(*read_knots(saved, degree + order + 2), degree, order)


def _read_degree_and_order(saved: Reader) -> tuple[int, int]:
    saved.exactly("basis", "variables", "knots", "degree", "order")
    return saved.whole("degree", least=1, most=11), saved.whole("order", most=10)


def _with_tangents(x: FloatArray, knots: FloatArray, degree: int) -> FloatArray:
    """B-splines inside the inner knots, their tangents outside."""
    low, high = knots[degree], knots[-degree - 1]
    inside = np.clip(x, low, high)
    X = _b_splines(inside, knots, degree)
    out = np.flatnonzero(x != inside)
    if out.size:
        slope = _b_splines(inside[out], knots, degree, 1)
        if degree == 1:
            # As in mgcv, whose derivative is the one from the right: broken lines end level.
            slope[x[out] > high] = 0.0
        X[out] += (x[out] - inside[out])[:, None] * slope
    return X


@dataclass(frozen=True, eq=False)
class CyclicPSplineBasis(PSplineBasis):
    """Cyclic P-spline `cp`: `knots` are K + 1, the last standing for the first."""

    name: ClassVar[str] = "cp"

    @classmethod
    def learn(cls, variables: tuple[str, ...], values: Values, options: BasisOptions) -> Self:
        """Place the knots (mgcv's `smooth.construct.cp.smooth.spec`): two given ones are the ends of the cycle."""
        label = single(variables, options, cls.name)
        x = numbers_of(values, label, options.where)
        m = orders(options, (2, 2), 2)
        m = (m[0], m[0]) if len(m) == 1 else m
        degree = m[0] + 1
        k = _dimension(options, variables, x, max(10, m[0] + 2), max(degree, m[1] + 1))
        knots = given_knots(options, label, (2, k + 1))
        low, high = _ends(x, label, options.where)
        if knots is None or knots.size == 2:
            ends = (low, high) if knots is None else (float(knots[0]), float(knots[1]))
            knots = np.linspace(*ends, k + 1)
        if low < knots[0] or high > knots[-1]:
            raise FormulaError(
                f"{options.where}: {label} runs from {low:.6g} to {high:.6g}, outside the cycle from "
                f"{knots[0]:.6g} to {knots[-1]:.6g}; give knots that cover it"
            )
        return cls(variables, knots, degree, m[1])

    @property
    def size(self) -> int:
        """Number of columns."""
        return self.knots.size - 1

    @property
    def penalties(self) -> tuple[FloatArray, ...]:
        """Squares of the differences round the cycle."""
        D = np.eye(self.size)
        for _ in range(self.order):
            D = np.roll(D, -1, axis=0) - D
        return (symmetric(D.T @ D),)

    @property
    def ranks(self) -> tuple[int, ...]:
        """K − 1, whatever the order; K for a ridge."""
        return (self.size - self.null_dim,)

    @property
    def null_dim(self) -> int:
        """Constants."""
        return 1 if self.order else 0

    def on(self, values: Values) -> FloatArray:
        """Columns (n, K); x outside the cycle is brought into it."""
        x = numbers_of(values, self.variables[0], self.name)
        knots, degree, K = self.knots, self.degree, self.size
        start, period = knots[0], knots[-1] - knots[0]
        outside = (x < start) | (x > knots[-1])
        x = np.where(outside, start + np.mod(x - start, period), x)
        around = np.concatenate([knots[-degree - 1 : -1] - period, knots])
        open_basis = np.zeros((x.size, K + degree))
        extended = np.concatenate([around, knots[1 : degree + 1] + period])
        open_basis[:] = _b_splines(x, extended, degree)
        X = open_basis[:, :K].copy()
        X[:, :degree] += open_basis[:, K:]
        return X

    @classmethod
    def read(cls, saved: Reader) -> Self:
        """Rebuild from plain data."""
        degree, order = _read_degree_and_order(saved)
        return cls(*read_knots(saved, max(order + 1, degree) + 1), degree, order)


@dataclass(frozen=True, eq=False)
class BSplineBasis:
    """B-spline `bs` with penalties on integrated squared derivatives, one for each of `orders`.

    Attributes
    ----------
    variables : the one variable; knots : (K + degree + 1,); degree : of the pieces; derivatives : orders penalised.
    """

    name: ClassVar[str] = "bs"
    reparametrise: ClassVar[bool] = True

    variables: tuple[str, ...]
    knots: FloatArray
    degree: int
    derivatives: tuple[int, ...]

    @classmethod
    def learn(cls, variables: tuple[str, ...], values: Values, options: BasisOptions) -> Self:
        """Place the knots (mgcv's `smooth.construct.bs.smooth.spec`; m = (degree, derivative orders …))."""
        label = single(variables, options, cls.name)
        x = numbers_of(values, label, options.where)
        m = orders(options, (3, 2), 5)
        m = (m[0], max(0, m[0] - 1)) if len(m) == 1 else m
        degree, derivatives = m[0], m[1:]
        if degree < 1 or max(derivatives) > degree or len(set(derivatives)) < len(derivatives):
            raise FormulaError(
                f"{options.where}: m={list(m)} must be the degree, then different derivative orders up to it"
            )
        k = _dimension(options, variables, x, max(10, degree), degree + 1)
        knots = options.knots.get(label)
        if knots is not None and knots.size == 4 < k + degree + 1:
            return cls(variables, _nested_knots(x, options, label, k - degree + 1, degree), degree, derivatives)
        return cls(variables, _full_knots(x, options, label, k - degree + 1, degree), degree, derivatives)

    @property
    def size(self) -> int:
        """Number of columns."""
        return self.knots.size - self.degree - 1

    @property
    def penalties(self) -> tuple[FloatArray, ...]:
        """Integrals over the inner knots, exact: Gauss–Legendre of as many points as the pieces' degree asks."""
        inner = self.knots[self.degree : self.knots.size - self.degree]
        nodes, weights = np.polynomial.legendre.leggauss(self.degree + 1)
        at = np.concatenate([(a + b) / 2 + (b - a) / 2 * nodes for a, b in pairwise(inner)])
        w = np.concatenate([(b - a) / 2 * weights for a, b in pairwise(inner)])
        penalties = []
        for order in self.derivatives:
            D = _b_splines(at, self.knots, self.degree, order)
            penalties.append(symmetric((D * w[:, None]).T @ D))
        return tuple(penalties)

    @property
    def ranks(self) -> tuple[int, ...]:
        """K − order of each."""
        return tuple(self.size - order for order in self.derivatives)

    @property
    def null_dim(self) -> int:
        """Polynomials below the lowest order."""
        return min(self.derivatives)

    def on(self, values: Values) -> FloatArray:
        """Columns (n, K); a straight line outside the inner knots."""
        x = numbers_of(values, self.variables[0], self.name)
        return _with_tangents(x, self.knots, self.degree)

    def to_dict(self) -> JsonDict:
        """Plain data for `read`."""
        return {
            "basis": self.name,
            "variables": list(self.variables),
            "knots": self.knots.tolist(),
            "degree": self.degree,
            "derivatives": list(self.derivatives),
        }

    @classmethod
    def read(cls, saved: Reader) -> Self:
        """Rebuild from plain data."""
        saved.exactly("basis", "variables", "knots", "degree", "derivatives")
        degree = saved.whole("degree", least=1, most=10)
        derivatives = saved.wholes("derivatives", most=degree)
        saved.require(bool(derivatives), "penalise a derivative")
        return cls(*read_knots(saved, degree + 2), degree, derivatives)
