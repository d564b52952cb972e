r"""Tensor products of bases: te, ti (Wood 2006, Biometrics 62:1025–1036) and t2 (Wood, Scheipl & Faraway 2013).

Columns are all products of the margins' columns, the last margin's fastest. te and ti penalise along each margin:
S_j = I ⊗ … ⊗ S ⊗ … ⊗ I with S scaled to a largest eigenvalue of one and, unless ``np=FALSE``, in coordinates that are
function values, so that the penalty keeps its meaning in the product. t2 splits every margin into penalised and free
columns and gives each kind of product a ridge of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from operator import le
from typing import TYPE_CHECKING

import numpy as np

from pycombat_gam.errors import FormulaError
from pycombat_gam.formula.columns import Factor
from pycombat_gam.saving.reader import Reader
from pycombat_gam.smooth.basis import Basis, BasisOptions, Values, symmetric
from pycombat_gam.smooth.constraint import sum_to_zero
from pycombat_gam.smooth.knots import LARGEST
from pycombat_gam.smooth.random import check_size, is_random
from pycombat_gam.smooth.reparametrise import by_penalty
from pycombat_gam.types import FloatArray, JsonDict

if TYPE_CHECKING:
    from typing_extensions import Self

SINGULAR = float(np.finfo(float).eps) ** 0.66
"""Below this condition function values at evenly spaced points don't determine a margin's coefficients (mgcv's)."""


def row_products(left: FloatArray, right: FloatArray) -> FloatArray:
    """All products of columns of each row, (n, p·q), the right ones fastest."""
    return np.asarray((left[:, :, None] * right[:, None, :]).reshape(len(left), -1))


@dataclass(frozen=True, eq=False)
class Margin:
    """One margin: its basis, and the map (K, k) from its raw columns to those multiplied."""

    basis: Basis
    map: FloatArray

    def on(self, values: Values) -> FloatArray:
        """Columns (n, k)."""
        return self.basis.on(values) @ self.map

    def to_dict(self) -> JsonDict:
        """Plain data for `read`."""
        return {"basis": self.basis.to_dict(), "map": self.map.tolist()}

    @classmethod
    def read(cls, saved: Reader, read_basis: Callable[[Reader], Basis]) -> Self:
        """Rebuild from plain data."""
        basis = read_basis(saved.exactly("basis", "map").child("basis"))
        saved.require(len(basis.penalties) == 1, "have one penalty")
        into = saved.array("map", (basis.penalties[0].shape[0], None), within=LARGEST)
        saved.require(into.shape[1] <= into.shape[0], "have no more columns than its basis")
        return cls(basis, into)


def _variables(margins: tuple[Margin, ...]) -> tuple[str, ...]:
    return tuple(label for margin in margins for label in margin.basis.variables)


def _read_margins(saved: Reader, read_basis: Callable[[Reader], Basis]) -> tuple[Margin, ...]:
    margins = tuple(Margin.read(margin, read_basis) for margin in saved.children("margins", least=1, most=10))
    check_size(saved, [margin.map.shape[1] for margin in margins])
    return margins


def check_margins(margins: list[Basis], options: BasisOptions) -> None:
    """Stop for margins that have no place in a product."""
    seen: set[str] = set()
    for basis in margins:
        if len(basis.penalties) != 1:
            raise FormulaError(f"{options.where}: a margin may have one penalty only")
        if seen & set(basis.variables):
            raise FormulaError(f"{options.where} names a variable twice")
        seen |= set(basis.variables)


@dataclass(frozen=True, eq=False)
class TensorBasis:
    """`te` and `ti`.

    Attributes
    ----------
    margins : the margins, with their maps; free_dims : dimension of each margin's null space.
    matrices : (k_j, k_j) each margin's penalty, scaled; used : margins whose penalty is used (not fx).
    """

    margins: tuple[Margin, ...]
    matrices: tuple[FloatArray, ...]
    margin_ranks: tuple[int, ...]
    used: tuple[bool, ...]

    @classmethod
    def learn(
        cls,
        bases: list[Basis],
        values: Values,
        options: BasisOptions,
        *,
        function_values: bool,
        constrained: tuple[bool, ...],
        fixed: tuple[bool, ...],
    ) -> Self:
        """Put margins together (mgcv's `smooth.construct.tensor.smooth.spec`)."""
        check_margins(bases, options)
        margins, matrices, ranks = [], [], []
        for basis, constraint in zip(bases, constrained, strict=True):
            K = basis.penalties[0].shape[0]
            into = np.eye(K)
            rank = basis.ranks[0]
            X = basis.on(values)
            if constraint and not never_constrained(basis):
                into = sum_to_zero(X.mean(axis=0))
                rank = min(rank, K - 1)
            if function_values and _reparametrised(basis):
                into = into @ _function_values(basis, into, values)
            S = symmetric(into.T @ basis.penalties[0] @ into)
            margins.append(Margin(basis, into))
            matrices.append(S / np.linalg.eigvalsh(S)[-1])
            ranks.append(rank)
        return cls(tuple(margins), tuple(matrices), tuple(ranks), tuple(not fx for fx in fixed))

    @property
    def variables(self) -> tuple[str, ...]:
        """Of all margins."""
        return _variables(self.margins)

    @property
    def penalties(self) -> tuple[FloatArray, ...]:
        """One along each margin."""
        penalties = []
        for j, used in enumerate(self.used):
            S: FloatArray = np.ones((1, 1))
            for i, margin in enumerate(self.margins):
                S = np.asarray(np.kron(S, self.matrices[i] if i == j else np.eye(margin.map.shape[1])))
            if used:
                penalties.append(S)
        return tuple(penalties)

    @property
    def ranks(self) -> tuple[int, ...]:
        """Of each penalty."""
        sizes = [margin.map.shape[1] for margin in self.margins]
        total = int(np.prod(sizes))
        return tuple(
            total // size * rank for size, rank, used in zip(sizes, self.margin_ranks, self.used, strict=True) if used
        )

    @property
    def null_dim(self) -> int:
        """Products of the margins' null spaces."""
        sizes = [margin.map.shape[1] for margin in self.margins]
        free = [
            size - rank if used else size for size, rank, used in zip(sizes, self.margin_ranks, self.used, strict=True)
        ]
        return int(np.prod(free))

    def on(self, values: Values) -> FloatArray:
        """Columns (n, product of the k_j)."""
        X = self.margins[0].on(values)
        for margin in self.margins[1:]:
            X = row_products(X, margin.on(values))
        return X

    def to_dict(self) -> JsonDict:
        """Plain data for `read`."""
        return {
            "basis": "te",
            "margins": [margin.to_dict() for margin in self.margins],
            "ranks": list(self.margin_ranks),
            "used": list(self.used),
        }

    @classmethod
    def read(cls, saved: Reader, read_basis: Callable[[Reader], Basis]) -> Self:
        """Rebuild from plain data."""
        margins = _read_margins(saved.exactly("basis", "margins", "ranks", "used"), read_basis)
        ranks, used = saved.wholes("ranks", len(margins), least=1), saved.flags("used", len(margins))
        columns = [margin.map.shape[1] for margin in margins]
        saved.require(all(map(le, ranks, columns)), "have no rank above its margin's columns")
        matrices = [symmetric(margin.map.T @ margin.basis.penalties[0] @ margin.map) for margin in margins]
        return cls(margins, tuple(S / np.linalg.eigvalsh(S)[-1] for S in matrices), ranks, used)


def never_constrained(basis: Basis) -> bool:
    """Whether a basis, or one of its margins, is none that mgcv constrains: a random effect, or one without constants.

    A product with such a margin holds no constant either.
    """
    if isinstance(basis, TensorBasis):
        return any(never_constrained(margin.basis) for margin in basis.margins)
    return is_random(basis) or bool(getattr(basis, "dropped_null", False))


def _reparametrised(basis: Basis) -> bool:
    return len(basis.variables) == 1 and bool(getattr(basis, "reparametrise", False))


def _function_values(basis: Basis, into: FloatArray, values: Values) -> FloatArray:
    """Map (k, k) from function values at evenly spaced points to coefficients."""
    label = basis.variables[0]
    x = values[label]
    if isinstance(x, Factor):
        return np.eye(into.shape[1])
    at = basis.on({label: np.linspace(x.min(), x.max(), into.shape[1])}) @ into
    U, d, Vt = np.linalg.svd(at)
    if d[-1] < d[0] * SINGULAR:
        # As for a cycle, both of whose ends are one point: the margin stays in its own coordinates, as in mgcv.
        return np.eye(into.shape[1])
    return np.asarray((Vt.T / d) @ U.T)


@dataclass(frozen=True, eq=False)
class SplitTensorBasis:
    """`t2`: each margin split into penalised and free columns.

    Attributes
    ----------
    margins : the margins, their maps split at `margin_ranks`.
    full : whether free columns enter one by one, each with a penalty of its own in the products.
    orders : how many penalised margins a product may have; None for any.
    """

    margins: tuple[Margin, ...]
    margin_ranks: tuple[int, ...]
    full: bool
    orders: tuple[int, ...] | None

    @classmethod
    def learn(
        cls, bases: list[Basis], values: Values, options: BasisOptions, *, full: bool, orders: tuple[int, ...] | None
    ) -> Self:
        """Put margins together (mgcv's `smooth.construct.t2.smooth.spec`)."""
        check_margins(bases, options)
        margins = [Margin(b, by_penalty(b.on(values), b.penalties[0], b.ranks[0])) for b in bases]
        return cls(tuple(margins), tuple(b.ranks[0] for b in bases), full, orders)

    @property
    def variables(self) -> tuple[str, ...]:
        """Of all margins."""
        return _variables(self.margins)

    def _groups(self) -> tuple[list[list[tuple[int, ...]]], bool]:
        """Products in mgcv's order, each group as column numbers of the margins, and whether the last is free."""
        kinds: list[tuple[list[tuple[int, ...]], bool, int]] = []
        free_last = True
        for j, (margin, rank) in enumerate(zip(self.margins, self.margin_ranks, strict=True)):
            wiggly: list[tuple[int, ...]] = [(i,) for i in range(rank)]
            free: list[tuple[int, ...]] = [(i,) for i in range(rank, margin.map.shape[1])]
            free_last = free_last and bool(free)
            if j == 0:
                kinds = [(wiggly, True, 1)] + ([(free, False, 0)] if free else [])
                continue
            grown: list[tuple[list[tuple[int, ...]], bool, int]] = []
            for columns, penalised, order in kinds:
                if self.full and not penalised:
                    grown += [([c + w for w in wiggly], True, order + 1) for c in columns]
                else:
                    grown.append(([c + w for c, w in product(columns, wiggly)], True, order + 1))
            for columns, penalised, order in kinds if free else ():
                if self.full and penalised:
                    grown += [([c + f for c in columns], True, order) for f in free]
                else:
                    grown.append(([c + f for c, f in product(columns, free)], penalised, order))
            kinds = grown
        if self.orders is not None:
            kinds = [kind for kind in kinds if kind[2] in self.orders]
            free_last = free_last and 0 in self.orders
        return [columns for columns, _, _ in kinds], free_last

    @property
    def penalties(self) -> tuple[FloatArray, ...]:
        """A ridge on each group but the free one."""
        groups, free_last = self._groups()
        sizes = [len(group) for group in groups]
        starts = np.cumsum([0, *sizes])
        penalties = []
        for j in range(len(groups) - free_last):
            diagonal = np.zeros(starts[-1])
            diagonal[starts[j] : starts[j + 1]] = 1.0
            penalties.append(np.diag(diagonal))
        return tuple(penalties)

    @property
    def ranks(self) -> tuple[int, ...]:
        """Sizes of the penalised groups."""
        groups, free_last = self._groups()
        return tuple(len(group) for group in groups[: len(groups) - free_last])

    @property
    def null_dim(self) -> int:
        """Size of the free group."""
        groups, free_last = self._groups()
        return len(groups[-1]) if free_last else 0

    def on(self, values: Values) -> FloatArray:
        """Columns (n, K), group by group."""
        parts = [margin.on(values) for margin in self.margins]
        columns = np.array([at for group in self._groups()[0] for at in group])
        X = np.ones((len(parts[0]), len(columns)))
        for j, part in enumerate(parts):
            X *= part[:, columns[:, j]]
        return X

    def to_dict(self) -> JsonDict:
        """Plain data for `read`."""
        return {
            "basis": "t2",
            "margins": [margin.to_dict() for margin in self.margins],
            "full": self.full,
            "orders": None if self.orders is None else list(self.orders),
        }

    @classmethod
    def read(cls, saved: Reader, read_basis: Callable[[Reader], Basis]) -> Self:
        """Rebuild from plain data."""
        margins = _read_margins(saved.exactly("basis", "margins", "full", "orders"), read_basis)
        square = all(margin.map.shape[0] == margin.map.shape[1] for margin in margins)
        saved.require(square, "have margins with all columns of their bases")
        orders = None if saved.value("orders") is None else saved.wholes("orders")
        ranks = tuple(margin.basis.ranks[0] for margin in margins)
        basis = cls(margins, ranks, saved.flag("full"), orders)
        saved.require(orders != () and bool(basis._groups()[0]), "have columns")
        return basis
