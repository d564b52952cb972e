"""What a basis is: columns over some variables, quadratic penalties on their coefficients, and a memory of both.

A basis is learned once from the data and rebuilds its columns on any rows. Constraints, `by` variables and the scale
of penalties are not its business: `smooth.assemble` adds them, alike for all bases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np

from pycombat_gam.formula.columns import Factor
from pycombat_gam.types import FloatArray, JsonDict

Variable: TypeAlias = FloatArray | Factor
"""One variable of a smooth on n rows: numbers (n,), or a factor (codes (n,); −1 for a level not in the fit)."""
Values: TypeAlias = Mapping[str, Variable]
"""The variables of a formula's smooths by their label, ``"age"`` or ``"log(age)"``."""


@dataclass(frozen=True)
class BasisOptions:
    """The options of one basis.

    Attributes
    ----------
    k : basis dimension; None for mgcv's default of that basis.
    m : the basis' order argument, None (mgcv's default) or one or more numbers.
    knots : by variable label, as the user gave them; empty for none.
    xt : extra options (``bs`` for the margins of ``fs``, ``max.knots``, ``seed``).
    where : the call as written, for messages: ``"s(age, k=5)"``.
    copies : how many times its columns come, as for each level of a by-variable.
    independent : whether its columns have to be independent on the rows.
    """

    k: int | None
    m: tuple[float, ...] | None
    knots: Mapping[str, FloatArray]
    where: str
    xt: Mapping[str, object] = field(default_factory=dict)
    copies: int = 1
    independent: bool = False


class Basis(Protocol):
    """A learned basis: K columns before any constraint."""

    @property
    def variables(self) -> tuple[str, ...]:
        """Labels of the variables it reads from `Values`."""

    @property
    def penalties(self) -> tuple[FloatArray, ...]:
        """Penalty matrices, each (K, K), as mgcv builds them before any rescaling (smoothCon's raw S)."""

    @property
    def ranks(self) -> tuple[int, ...]:
        """Rank of each penalty, as mgcv states it."""

    @property
    def null_dim(self) -> int:
        """Dimension of the space that no penalty touches."""

    def on(self, values: Values) -> FloatArray:
        """Return the columns on n rows, (n, K), float64; outside the range of the fit as mgcv's Predict.matrix."""

    def to_dict(self) -> JsonDict:
        """Return what it learned as plain data, for JSON (floats survive bit for bit); `read` checks all of it."""


def symmetric(S: np.ndarray) -> FloatArray:
    """Remove the rounding that makes a penalty unsymmetric."""
    return np.asarray((S + S.T) / 2, dtype=np.float64)
