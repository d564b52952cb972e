r"""Thin plate regression splines, in any number of variables (tp, ts): Wood (2003), JRSS-B 65:95–114.

With E_ij = η(‖x_i − x_j‖) over the distinct points (Duchon 1977; Wood 2017, §5.5), T the polynomials of degree below
m, and E ≈ U_kD_kU_k' its k eigenvalues of largest size, the basis is [ηU_kZ, T] with Z the null space of T'U_k, and the
penalty Z'D_kZ: of all bases of that size, the one that changes the fit and the penalty least. The polynomials are free.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import comb
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.linalg import eigh
from scipy.sparse.linalg import LinearOperator, eigsh

from pycombat_gam.errors import DesignError, FormulaError
from pycombat_gam.saving.reader import Reader
from pycombat_gam.smooth.basis import BasisOptions, Values, symmetric
from pycombat_gam.smooth.knots import LARGEST, DistinctError, check_distinct, dimension, numbers_of
from pycombat_gam.smooth.radial import RadialSums, distances2, radial
from pycombat_gam.smooth.rsample import r_sample, text_order
from pycombat_gam.types import FloatArray, JsonDict
from pycombat_gam.words import listing

if TYPE_CHECKING:  # Python 3.10 has no typing.Self
    from typing_extensions import Self

MAX_POINTS = 2000
"""More distinct points than these are represented by a random sample of so many (mgcv's `max.knots`)."""
SHRINK = 0.1
"""`ts` gives the null space this share of the smallest positive eigenvalue (mgcv's value)."""


def powers(m: int, d: int) -> list[tuple[int, ...]]:
    """Exponents of the polynomials of degree below m in d variables, counted up with the first variable fastest.

    Their order turns the wiggly columns, and so the scale of each: it is mgcv's.
    """
    return [tuple(reversed(e)) for e in product(range(m), repeat=d) if sum(e) < m]


@dataclass(frozen=True, eq=False)
class ThinPlateBasis:
    """Thin plate regression spline `tp`.

    Attributes
    ----------
    variables : d of them; shift : (d,) their means, taken off; points : (N, d) where the radial functions stand.
    order : m; weights : (N, K − M) radial coefficients of the wiggly columns.
    size, center : (K,) scale of each column, and what is taken off it where m=c(m, 0) drops the polynomials.
    S : (K, K) penalty; free : M, or 0 without the polynomials.
    """

    name: ClassVar[str] = "tp"
    reparametrise: ClassVar[bool] = True

    variables: tuple[str, ...]
    shift: FloatArray
    points: FloatArray
    order: int
    weights: FloatArray
    size: FloatArray
    center: FloatArray
    S: FloatArray
    free: int

    @classmethod
    def learn(cls, variables: tuple[str, ...], values: Values, options: BasisOptions) -> Self:
        """Truncate the spline of the distinct points (mgcv's `smooth.construct.tp.smooth.spec`)."""
        d = len(variables)
        x = np.column_stack([numbers_of(values, label, options.where) for label in variables])
        m, keep_null = _order(options, d)
        M = comb(m + d - 1, d)
        default = M + (8, 27, 100)[min(d, 3) - 1]
        shift = x.mean(axis=0, dtype=np.longdouble).astype(np.float64)
        if d > 1:
            _check_spread(x - shift, variables, options.where)
        points, chosen, k = _points(x, shift, variables, options, default, M + 1)
        if chosen and len(points) == k:
            # As many knots as coefficients leave nothing to truncate: mgcv takes the radial functions as they are.
            E, U = radial(distances2(points, points), m, d), np.eye(k)
        else:
            D, U = _largest(points, m, k)
            E = np.diag(D)
        exponents = powers(m, d)
        T = _polynomials(points, exponents)
        Z = _null_space(T.T @ U)
        wiggly = U @ Z
        S = np.zeros((k, k))
        S[: k - M, : k - M] = Z.T @ E @ Z
        K, free = (k, M) if keep_null else (k - M, 0)
        unit = cls(variables, shift, points, m, wiggly, np.ones(K), np.zeros(K), S[:K, :K], free)
        # Columns of mean square one, as mgcv scales them: it enters the scale of the penalty.
        X = unit.on(values)
        size = np.sqrt((X**2).mean(axis=0))
        center = np.zeros(K) if keep_null else X.mean(axis=0) / size
        S = symmetric(unit.S / np.outer(size, size))
        return cls(variables, shift, points, m, wiggly, size, center, cls._shrunk(S, M), free)

    @staticmethod
    def _shrunk(S: FloatArray, M: int) -> FloatArray:
        return S

    @property
    def dropped_null(self) -> bool:
        """Whether the polynomials are left out, and the columns centred instead of constrained."""
        return bool(self.center.any())

    @property
    def penalties(self) -> tuple[FloatArray, ...]:
        """The integral of squared derivatives of order m."""
        return (self.S,)

    @property
    def ranks(self) -> tuple[int, ...]:
        """K − M."""
        return (self.size.size - self.free,)

    @property
    def null_dim(self) -> int:
        """Polynomials of degree below m."""
        return self.free

    def on(self, values: Values) -> FloatArray:
        """Columns (n, K); smooth outside the data too."""
        x = np.column_stack([numbers_of(values, label, self.name) for label in self.variables]) - self.shift
        wiggly = RadialSums(self.points, self.order).at(x, self.weights)
        X = np.hstack([wiggly, _polynomials(x, powers(self.order, x.shape[1]))]) if self.free else wiggly
        return np.asarray(X / self.size - self.center)

    def to_dict(self) -> JsonDict:
        """Plain data for `read`."""
        return {
            "basis": self.name,
            "variables": list(self.variables),
            "shift": self.shift.tolist(),
            "points": self.points.tolist(),
            "order": self.order,
            "weights": self.weights.tolist(),
            "size": self.size.tolist(),
            "center": self.center.tolist(),
            "S": self.S.tolist(),
            "free": self.free,
        }

    @classmethod
    def read(cls, saved: Reader) -> Self:
        """Rebuild from plain data."""
        saved.exactly("basis", "variables", "shift", "points", "order", "weights", "size", "center", "S", "free")
        variables, order = saved.texts("variables", least=1), saved.whole("order", least=1, most=20)
        d = len(variables)
        saved.require(2 * order > d, "have an order above half the number of its variables")
        free = saved.choice("free", (0, comb(order + d - 1, d)))
        size = saved.array("size", (None,), least=1, within=LARGEST, positive=True)
        K = size.size
        weights = saved.array("weights", (None, K - free), least=1, within=LARGEST)
        return cls(
            variables,
            saved.array("shift", (d,), within=LARGEST),
            saved.array("points", (len(weights), d), within=LARGEST),
            order,
            weights,
            size,
            saved.array("center", (K,), within=LARGEST),
            saved.array("S", (K, K), within=LARGEST),
            free,
        )


@dataclass(frozen=True, eq=False)
class ShrunkenThinPlateBasis(ThinPlateBasis):
    """`ts`: the polynomials are penalised too, a little."""

    name: ClassVar[str] = "ts"

    @classmethod
    def learn(cls, variables: tuple[str, ...], values: Values, options: BasisOptions) -> Self:
        """Truncate the spline as `tp` does, with its polynomials."""
        if options.m is not None and len(options.m) > 1:
            raise FormulaError(
                f"{options.where}: bs='ts' penalises the polynomials that m=c(m, 0) drops; leave the 0 out, or use "
                "bs='tp'"
            )
        return super().learn(variables, values, options)

    @staticmethod
    def _shrunk(S: FloatArray, M: int) -> FloatArray:
        values, vectors = np.linalg.eigh(S)
        values[:M] = values[M] * SHRINK
        return symmetric((vectors * values) @ vectors.T)

    @property
    def ranks(self) -> tuple[int, ...]:
        """All of K."""
        return (self.size.size,)

    @property
    def null_dim(self) -> int:
        """Nothing is free."""
        return 0


def _check_spread(x: FloatArray, variables: tuple[str, ...], where: str) -> None:
    """Stop where points of several variables, centred, lie on a line or plane: no surface over them is determined."""
    reach = np.abs(x).max(axis=0)
    flat = np.array([np.unique(column).size == 1 for column in x.T])
    if flat.any():
        constant = variables[int(flat.argmax())]
        raise DistinctError(f"{where}: {constant} has 1 distinct value and explains nothing; leave it out", None)
    if np.linalg.matrix_rank(x / reach) < len(variables):
        raise DesignError(f"{where}: one of {listing(variables)} is a combination of the others; leave one out")


def _order(options: BasisOptions, d: int) -> tuple[int, bool]:
    """Order m of the derivatives penalised, and whether the polynomials stay."""
    m_option = options.m or (0,)
    if (
        len(m_option) > 2
        or not all(float(v).is_integer() for v in m_option)
        or (len(m_option) == 2 and m_option[1] != 0)
    ):
        raise FormulaError(f"{options.where}: m must be one whole number, or c(m, 0) to drop the polynomials")
    m = int(m_option[0])
    if (m <= 0 and len(m_option) == 1) or 2 * m <= d:
        m = (d + 1) // 2
        while 2 * m < d + 2:
            m += 1
    if m > 20:
        raise FormulaError(f"{options.where}: m={m} is more than 20")
    return m, len(m_option) == 1


def _points(
    x: FloatArray, shift: FloatArray, variables: tuple[str, ...], options: BasisOptions, default: int, least: int
) -> tuple[FloatArray, bool, int]:
    """Where the radial functions stand: the distinct points, or (True) a sample of them or the knots given; and k."""
    names = " and ".join(variables)
    if all(label in options.knots for label in variables):
        k = dimension(options, default, least)
        knots_of = [np.asarray(options.knots[label], dtype=np.float64) for label in variables]
        if len({knots.size for knots in knots_of}) != 1:
            raise FormulaError(f"{options.where}: give as many knots for each of {names}")
        points = np.unique(np.column_stack(knots_of) - shift, axis=0)
        if len(points) < max(k, knots_of[0].size):
            raise FormulaError(f"{options.where}: k={k} needs at least {k} different knots; {knots_of[0].size} given")
        if len(points) > len(x):
            raise FormulaError(f"{options.where}: {len(points)} knots are given for {len(x)} rows; give fewer")
        return points, True, k
    points = np.unique(x - shift, axis=0)
    k = check_distinct(options, variables, len(points), len(x), default, least)
    most, seed = options.xt.get("max.knots", MAX_POINTS), options.xt.get("seed", 1)
    if type(most) is not int or type(seed) is not int or most < k:
        raise FormulaError(f"{options.where}: xt's max.knots (at least k={k}) and seed must be whole numbers")
    if len(points) > most and len(variables) > 1:
        points = points[text_order(points)]
    if len(points) <= most:
        return points, False, k
    return np.unique(points[r_sample(len(points), most, seed)], axis=0), True, k


def _polynomials(x: FloatArray, exponents: list[tuple[int, ...]]) -> FloatArray:
    return np.column_stack([np.prod(x ** np.array(e), axis=1) for e in exponents])


def _largest(points: FloatArray, m: int, k: int) -> tuple[FloatArray, FloatArray]:
    """The k eigenvalues of E of largest size, in falling order, and eigenvectors whose largest entry is positive.

    Lanczos' method where few are wanted of many: E itself is only multiplied by vectors, in O(N) on a line. It starts
    from a fixed vector, so the answer is always the same.
    """
    N, d = points.shape
    if max(200, 5 * k) >= N:
        values, vectors = eigh(radial(distances2(points, points), m, d))
    else:
        matrix = None if d == 1 else radial(distances2(points, points), m, d)
        sums = RadialSums(points, m)

        def times(v: FloatArray) -> FloatArray:
            return sums.between_points(v.ravel()) if matrix is None else np.asarray(matrix @ v.ravel())

        start = np.cos(np.arange(N, dtype=np.float64) ** 2)
        values, vectors = eigsh(
            LinearOperator((N, N), matvec=times, dtype=np.float64), k=k, which="LM", v0=start, ncv=min(N, 2 * k + 10)
        )
    order = np.argsort(-np.abs(values), kind="stable")[:k]
    order = order[np.argsort(-values[order], kind="stable")]
    values, vectors = values[order], vectors[:, order]
    at = np.argmax(np.abs(vectors) > np.abs(vectors).max(axis=0) * (1 - 1e-6), axis=0)
    return values, vectors * np.sign(vectors[at, np.arange(k)])


def _null_space(A: FloatArray) -> FloatArray:
    """Orthonormal null space (k, k − M) of A (M, k), by reflections that empty its rows from the left (mgcv's)."""
    M, k = A.shape
    A = A.copy()
    Q = np.eye(k)
    for i in range(M):
        width = k - i
        u = A[i, :width].copy()
        u[-1] += np.copysign(np.linalg.norm(u), u[-1])
        u *= np.sqrt(2.0) / np.linalg.norm(u)
        A[:, :width] -= np.outer(A[:, :width] @ u, u)
        Q[:, :width] -= np.outer(Q[:, :width] @ u, u)
    return Q[:, : k - M]
