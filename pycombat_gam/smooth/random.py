"""Random effects (re) and curves that vary by group (fs): as many coefficients as groups, shrunk to zero."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pycombat_gam.errors import DesignError, FormulaError
from pycombat_gam.formula.columns import Factor
from pycombat_gam.saving.reader import MAX_ITEMS, Reader
from pycombat_gam.smooth.basis import Basis, BasisOptions, Values
from pycombat_gam.smooth.knots import LARGEST
from pycombat_gam.smooth.reparametrise import demmler_reinsch
from pycombat_gam.types import FloatArray, JsonDict

if TYPE_CHECKING:
    from typing_extensions import Self


def indicators(factor: Factor) -> FloatArray:
    """One column per level (n, levels); a row of zeros for a level that the fit did not know."""
    X = np.zeros((factor.codes.size, len(factor.levels)))
    known = np.flatnonzero(factor.codes >= 0)
    X[known, factor.codes[known]] = 1.0
    return X


def check_size(saved: Reader, factors: Iterable[int]) -> None:
    """Refuse more coefficients, a product, than a saved penalty has rows, before any matrix of them is made."""
    saved.require(prod(factors) <= MAX_ITEMS, f"have at most {MAX_ITEMS:,} coefficients")


def is_random(basis: Basis) -> bool:
    """Whether a basis is that of a random effect; one that another package learned says so itself."""
    return isinstance(basis, RandomBasis | FactorSmoothBasis) or bool(getattr(basis, "random", False))


def grouping_factors(basis: Basis) -> tuple[str, ...]:
    """Return the variables whose levels have effects of their own; empty where the basis is not a random effect."""
    if isinstance(basis, FactorSmoothBasis):
        return (basis.factor,)
    if isinstance(basis, RandomBasis):
        return tuple(label for label, levels in zip(basis.variables, basis.levels, strict=True) if levels)
    return ()


@dataclass(frozen=True, eq=False)
class RandomBasis:
    """Random effect `re`: the product of its variables' columns, all coefficients of one variance.

    Attributes
    ----------
    variables : numbers and factors; levels : of each, empty for numbers.
    """

    name: ClassVar[str] = "re"
    reparametrise: ClassVar[bool] = False

    variables: tuple[str, ...]
    levels: tuple[int, ...]

    @classmethod
    def learn(cls, variables: tuple[str, ...], values: Values, options: BasisOptions) -> Self:
        """Count the levels (mgcv's `smooth.construct.re.smooth.spec`)."""
        counts = []
        for label in variables:
            value = values[label]
            counts.append(len(value.levels) if isinstance(value, Factor) else 0)
        return cls(variables, tuple(counts))

    @property
    def size(self) -> int:
        """Number of coefficients."""
        return int(np.prod([max(count, 1) for count in self.levels]))

    @property
    def penalties(self) -> tuple[FloatArray, ...]:
        """The identity."""
        return (np.eye(self.size),)

    @property
    def ranks(self) -> tuple[int, ...]:
        """All of them."""
        return (self.size,)

    @property
    def null_dim(self) -> int:
        """Nothing is free."""
        return 0

    def on(self, values: Values) -> FloatArray:
        """Columns (n, K); the first factor's levels vary fastest, as in R's `model.matrix`."""
        X: FloatArray | None = None
        for label, count in zip(self.variables, self.levels, strict=True):
            value = values[label]
            if isinstance(value, Factor) != bool(count):
                raise FormulaError(f"{label} was {'a factor' if count else 'a number'} in the fit")
            columns = indicators(value) if isinstance(value, Factor) else value[:, None]
            X = columns if X is None else (columns[:, :, None] * X[:, None, :]).reshape(len(columns), -1)
        assert X is not None
        return np.array(X, dtype=np.float64)

    def to_dict(self) -> JsonDict:
        """Plain data for `read`."""
        return {"basis": self.name, "variables": list(self.variables), "levels": list(self.levels)}

    @classmethod
    def read(cls, saved: Reader) -> Self:
        """Rebuild from plain data."""
        variables = saved.exactly("basis", "variables", "levels").texts("variables", least=1)
        basis = cls(variables, saved.wholes("levels", len(variables), most=MAX_ITEMS))
        check_size(saved, [max(count, 1) for count in basis.levels])
        return basis


@dataclass(frozen=True, eq=False)
class FactorSmoothBasis:
    """Factor-smooth interaction `fs`: a curve per level, alike in smoothness, each straight part shrunk too.

    Attributes
    ----------
    variables : as written; factor : which of them is the factor; levels : its levels.
    curve : basis of the numbers; P : (k, k) its coordinates, `rank` penalised columns and then free ones.
    """

    name: ClassVar[str] = "fs"

    variables: tuple[str, ...]
    factor: str
    levels: tuple[str, ...]
    curve: Basis
    P: FloatArray
    rank: int

    @classmethod
    def learn(
        cls,
        variables: tuple[str, ...],
        values: Values,
        options: BasisOptions,
        learn_curve: Callable[[str, tuple[str, ...], Values, BasisOptions], Basis],
    ) -> Self:
        """Learn the curve and its coordinates (mgcv's `smooth.construct.fs.smooth.spec`)."""
        factors = [label for label in variables if isinstance(values[label], Factor)]
        numbers = tuple(label for label in variables if label not in factors)
        if len(factors) != 1 or not numbers:
            raise FormulaError(
                f"{options.where}: bs='fs' takes numbers and one factor; given are {len(numbers)} numbers and "
                f"{len(factors)} factors (a column of codes is one as factor(…))"
            )
        grouping = values[factors[0]]
        assert isinstance(grouping, Factor)
        each = replace(options, copies=options.copies * len(grouping.levels), independent=True)
        curve = learn_curve(str(options.xt.get("bs", "tp")), numbers, values, each)
        if len(curve.penalties) != 1:
            raise FormulaError(f"{options.where}: bs='fs' needs a curve of one penalty; choose another xt=list(bs=…)")
        rank = curve.ranks[0]
        try:
            P = demmler_reinsch(curve.on(values), curve.penalties[0], rank)
        except np.linalg.LinAlgError:
            raise DesignError(
                f"{options.where}: the values of {' and '.join(numbers)} leave gaps in which its curve is not "
                "determined; leave xt out, or use a smaller k"
            ) from None
        return cls(variables, factors[0], grouping.levels, curve, P, rank)

    @property
    def penalties(self) -> tuple[FloatArray, ...]:
        """One for the wiggly columns of all levels, one for each free column of all levels."""
        k = self.P.shape[1]
        groups = [np.arange(k) < self.rank, *(np.arange(k) == i for i in range(self.rank, k))]
        # The penalised columns were scaled as a group: their common penalty is the inverse square of that scale.
        return tuple(
            np.diag(np.tile(group.astype(np.float64) * (self._wiggly if i == 0 else 1.0), len(self.levels)))
            for i, group in enumerate(groups)
        )

    @property
    def _wiggly(self) -> float:
        S = self.P.T @ self.curve.penalties[0] @ self.P
        return float(np.diag(S)[: self.rank].mean())

    @property
    def ranks(self) -> tuple[int, ...]:
        """Of each penalty."""
        n = len(self.levels)
        return (self.rank * n, *(n for _ in range(self.P.shape[1] - self.rank)))

    @property
    def null_dim(self) -> int:
        """Nothing is free."""
        return 0

    def on(self, values: Values) -> FloatArray:
        """Columns (n, k · levels), level by level."""
        grouping = values[self.factor]
        if not isinstance(grouping, Factor):
            raise FormulaError(f"{self.factor} was a factor in the fit")
        X = self.curve.on(values) @ self.P
        return np.asarray((indicators(grouping)[:, :, None] * X[:, None, :]).reshape(len(X), -1))

    def to_dict(self) -> JsonDict:
        """Plain data for `read`."""
        return {
            "basis": self.name,
            "variables": list(self.variables),
            "factor": self.factor,
            "levels": list(self.levels),
            "curve": self.curve.to_dict(),
            "P": self.P.tolist(),
            "rank": self.rank,
        }

    @classmethod
    def read(cls, saved: Reader, read_curve: Callable[[Reader], Basis]) -> Self:
        """Rebuild from plain data."""
        saved.exactly("basis", "variables", "factor", "levels", "curve", "P", "rank")
        variables, levels = saved.texts("variables", least=1), saved.texts("levels", distinct=True, least=1)
        curve = read_curve(saved.child("curve"))
        k = curve.penalties[0].shape[0]
        check_size(saved, (k, len(levels)))
        rank = saved.choice("rank", curve.ranks[:1])
        saved.require(1 <= rank <= k, "have a curve with a penalty")
        P = saved.array("P", (k, k), within=LARGEST)
        return cls(variables, saved.choice("factor", variables), levels, curve, P, rank)
