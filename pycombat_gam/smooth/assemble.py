"""From a term of a formula to its smooths: basis, scale of the penalties, constraint, by-variable.

Follows mgcv's `smoothCon`: each penalty is divided by ‖S‖₁/‖X‖²_∞ so that smoothing parameters are of comparable size,
then the sum-to-zero constraint is absorbed, and the columns are multiplied by the by-variable.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pycombat_gam.errors import DesignError, FormulaError
from pycombat_gam.formula.columns import Factor
from pycombat_gam.formula.formula import SmoothTerm
from pycombat_gam.formula.nodes import deparse
from pycombat_gam.saving.reader import Reader
from pycombat_gam.smooth.bases import NAMES, read_basis, read_margin
from pycombat_gam.smooth.basis import Basis, Values, symmetric
from pycombat_gam.smooth.constraint import sum_to_zero
from pycombat_gam.smooth.knots import LARGEST
from pycombat_gam.smooth.options import TermOptions, build_basis, read_options
from pycombat_gam.smooth.random import RandomBasis, grouping_factors, is_random
from pycombat_gam.smooth.tensor import SplitTensorBasis, TensorBasis, never_constrained
from pycombat_gam.types import FloatArray, JsonDict

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, eq=False)
class Smooth:
    """One smooth of a design: df columns and their penalties.

    Attributes
    ----------
    label : mgcv's label; term : what was asked for.
    basis : K columns before any constraint.
    by, by_level : the by-variable, and the level of a factor one.
    Z : (K, df before `keep`) constraint map; None where there is none.
    keep : columns that side conditions left; None for all.
    penalties : (df, df) each, scaled as mgcv's; ranks : of each; null_dim : dimension that none touches.
    fixed : no penalty at all (fx=TRUE).
    id : smooths of one id share smoothing parameters; sp : those given with the term, negative: estimate.
    """

    label: str
    term: SmoothTerm
    basis: Basis
    by: str | None
    by_level: str | None
    Z: FloatArray | None
    keep: tuple[int, ...] | None
    penalties: tuple[FloatArray, ...]
    penalty_scale: tuple[float, ...]
    ranks: tuple[int, ...]
    null_dim: int
    fixed: bool
    id: str | None
    sp: tuple[float, ...] | None

    @property
    def df(self) -> int:
        """Number of columns."""
        if self.keep is not None:
            return len(self.keep)
        if self.Z is not None:
            return int(self.Z.shape[1])
        return _columns_of(self.basis)

    @property
    def variables(self) -> tuple[str, ...]:
        """What it is a smooth of."""
        return self.basis.variables

    @property
    def random(self) -> bool:
        """Whether it is a random effect, curves of groups among them: its test is that of a variance."""
        return is_random(self.basis)

    @property
    def one_variance(self) -> bool:
        """Whether all its coefficients share one variance: what mgcv's tests take as random."""
        return isinstance(self.basis, RandomBasis)

    @property
    def groups(self) -> tuple[str, ...]:
        """The variables whose levels have effects of their own, in a margin of a tensor product too."""
        bases = [self.basis]
        if isinstance(self.basis, TensorBasis | SplitTensorBasis):
            bases = [margin.basis for margin in self.basis.margins]
        return tuple(label for basis in bases for label in grouping_factors(basis))

    @property
    def random_intercept(self) -> bool:
        """Whether it is one number for each group: no slope, no curve, no by-variable."""
        return isinstance(self.basis, RandomBasis) and self.by is None and all(self.basis.levels)

    @property
    def side_constrain(self) -> bool:
        """Whether nested terms may take columns from it."""
        return not self.random

    def on(self, values: Values) -> FloatArray:
        """Columns (n, df) on the rows of `values`."""
        X = self.basis.on(values)
        if self.Z is not None:
            X = X @ self.Z
        if self.keep is not None:
            X = X[:, list(self.keep)]
        if self.by is None:
            return X
        by = values[self.by]
        if isinstance(by, Factor) != (self.by_level is not None):
            raise FormulaError(f"{self.by} was {'a factor' if self.by_level is not None else 'a number'} in the fit")
        weight = by.codes == by.levels.index(str(self.by_level)) if isinstance(by, Factor) else by
        return np.asarray(X * np.asarray(weight, dtype=np.float64)[:, None])

    def dropping(self, columns: Collection[int]) -> Smooth:
        """Drop columns, from the penalties too; an empty penalty goes with them."""
        left = [i for i in range(self.df) if i not in set(columns)]
        kept = tuple(range(self.df)) if self.keep is None else self.keep
        penalties = [S[np.ix_(left, left)] for S in self.penalties]
        ranks = [int(np.linalg.matrix_rank(S, tol=_rank_tolerance(S))) if S.any() else 0 for S in penalties]
        here = [j for j, rank in enumerate(ranks) if rank]
        total = sum((penalties[j] / np.linalg.norm(penalties[j]) for j in here), np.zeros((len(left), len(left))))
        return replace(
            self,
            keep=tuple(kept[i] for i in left),
            penalties=tuple(penalties[j] for j in here),
            penalty_scale=tuple(self.penalty_scale[j] for j in here),
            ranks=tuple(ranks[j] for j in here),
            null_dim=len(left) - int(np.linalg.matrix_rank(total, tol=_rank_tolerance(total))) if left else 0,
            sp=None if self.sp is None else tuple(self.sp[j] for j in here),
        )

    def to_dict(self) -> JsonDict:
        """Plain data for `from_dict`."""
        return {
            "label": self.label,
            "basis": self.basis.to_dict(),
            "by": self.by,
            "by_level": self.by_level,
            "Z": None if self.Z is None else self.Z.tolist(),
            "keep": None if self.keep is None else list(self.keep),
            "penalties": [S.tolist() for S in self.penalties],
            "penalty_scale": list(self.penalty_scale),
            "ranks": list(self.ranks),
            "null_dim": self.null_dim,
        }

    @classmethod
    def from_dict(cls, data: object, term: SmoothTerm) -> Self:
        """Rebuild from plain data beside the term it came from."""
        saved = Reader(data, f"the saved smooth {term.label}")
        saved.exactly(
            "label", "basis", "by", "by_level", "Z", "keep", "penalties", "penalty_scale", "ranks", "null_dim"
        )  # fmt: skip
        basis, options = _read_saved_basis(saved.child("basis")), read_options(term)
        saved.require(set(basis.variables) == {deparse(node) for node in term.args}, "be of its term's variables")
        by = saved.choice("by", [None if term.by is None else deparse(term.by)])
        level = None if saved.value("by_level") is None else saved.text("by_level")
        saved.require(level is None or by is not None, "have no level without a by-variable")
        K = _columns_of(basis)
        Z = None if saved.value("Z") is None else saved.array("Z", (K, None), within=LARGEST)
        saved.require(Z is None or Z.shape[1] < K, "have a constraint that takes columns away")
        df = K if Z is None else Z.shape[1]
        keep = None if saved.value("keep") is None else saved.wholes("keep", most=df - 1)
        saved.require(keep is None or len(set(keep)) == len(keep), "keep no column twice")
        df = df if keep is None else len(keep)
        penalties = saved.array("penalties", (None, df, df), within=LARGEST)
        saved.require((penalties == penalties.transpose(0, 2, 1)).all(), "have symmetric penalties")
        n = len(penalties)
        saved.require(options.sp is None or len(options.sp) == n, "have a penalty for each sp of its term")
        return cls(
            label=saved.text("label"),
            term=term,
            basis=basis,
            by=by,
            by_level=level,
            Z=Z,
            keep=keep,
            penalties=tuple(penalties),
            penalty_scale=tuple(saved.array("penalty_scale", (n,)).tolist()),
            ranks=saved.wholes("ranks", n, most=df),
            null_dim=saved.whole("null_dim", most=df),
            fixed=options.fixed,
            id=options.id,
            sp=options.sp,
        )


def _read_saved_basis(saved: Reader) -> Basis:
    kind = saved.choice("basis", ("te", "t2", *NAMES))
    if kind == "te":
        return TensorBasis.read(saved, read_margin)
    return SplitTensorBasis.read(saved, read_margin) if kind == "t2" else read_basis(saved)


def _columns_of(basis: Basis) -> int:
    """Count the columns K of a basis."""
    if basis.penalties:
        return int(basis.penalties[0].shape[0])
    assert isinstance(basis, TensorBasis)
    return int(np.prod([margin.map.shape[1] for margin in basis.margins]))


def learn_smooth(
    term: SmoothTerm,
    values: Values,
    *,
    ordered: Collection[str] = (),
    knots: Mapping[str, FloatArray] | None = None,
    absorb: bool = True,
    rescale: bool = True,
    stacked: Values | None = None,
) -> list[Smooth]:
    """Learn the smooths of one term: one, or one for each level of a factor by-variable.

    Parameters
    ----------
    term : SmoothTerm
    values : its variables on the n rows of the fit.
    ordered : by-variables that are ordered factors: their first level has no curve of its own.
    knots : by variable; a term's own ``knots=`` come first.
    absorb, rescale : take up the constraint, scale the penalties (R's `absorb.cons`, `scale.penalty`).
    stacked : what the basis is learned from instead, where terms of one id share it.

    Raises
    ------
    FormulaError, DesignError, NotYetError
    """
    options = read_options(term)
    learned_from = values if stacked is None else stacked
    by = None if term.by is None else deparse(term.by)
    by_value = None if by is None else values[by]
    copies = len(by_value.levels) if isinstance(by_value, Factor) else 1
    basis = build_basis(term, options, learned_from, knots or {}, copies)
    X = basis.on(learned_from)
    penalties, scales = list(basis.penalties), [1.0] * len(basis.penalties)
    if rescale:
        reach = float(np.abs(X).sum(axis=1).max()) ** 2
        for j, S in enumerate(penalties):
            size = float(np.abs(S).sum(axis=0).max()) / reach
            if size > 0:
                penalties[j], scales[j] = S / size, size
    varying = isinstance(by_value, np.ndarray) and not _is_constant(by_value)
    Z = _constraint(basis, options, X, varying=varying) if absorb else None
    null_dim = basis.null_dim
    if Z is not None:
        penalties = [symmetric(Z.T @ S @ Z) for S in penalties]
        null_dim = max(0, null_dim - 1)
    df = X.shape[1] if Z is None else Z.shape[1]
    if options.fixed:
        penalties, scales, null_dim = [], [], df
    smooth = Smooth(
        label=term.label,
        term=term,
        basis=basis,
        by=by,
        by_level=None,
        Z=Z,
        keep=None,
        penalties=tuple(penalties),
        penalty_scale=tuple(scales),
        ranks=tuple(min(rank, df) for rank in basis.ranks) if penalties else (),
        null_dim=null_dim,
        fixed=options.fixed,
        id=options.id,
        sp=options.sp,
    )
    if options.sp is not None and len(options.sp) != len(penalties):
        raise FormulaError(
            f"{options.where}: sp holds {len(options.sp)} numbers, but the smooth has {len(penalties)} penalties"
        )
    if not isinstance(by_value, Factor):
        return [smooth]
    first = 1 if by in ordered else 0
    return [replace(smooth, label=f"{term.label}{level}", by_level=level) for level in by_value.levels[first:]]


def _is_constant(by: FloatArray) -> bool:
    return bool(float(by.std()) <= abs(float(by.mean())) * np.finfo(float).eps ** 0.75)


def _constraint(basis: Basis, options: TermOptions, X: FloatArray, *, varying: bool) -> FloatArray | None:
    """Constraint map (K, K − 1), or None where the smooth needs none; `varying`: times numbers, thus no constant."""
    if is_random(basis):
        return None
    if options.pc is not None:
        return sum_to_zero(basis.on({k: np.array([v]) for k, v in options.pc.items()})[0])
    if varying or never_constrained(basis) or (isinstance(basis, TensorBasis) and options.interaction):
        return None
    if isinstance(basis, SplitTensorBasis):
        return _centred(basis, X) if basis.null_dim else None
    c = X.mean(axis=0)
    return sum_to_zero(c) if np.abs(c).max() > 1e-12 * np.abs(X).max() else None


def _centred(basis: SplitTensorBasis, X: FloatArray) -> FloatArray:
    """Sum-to-zero map (K, K − 1) of a t2 in the coordinates in which mgcv fits it.

    mgcv constrains the free products alone while fitting, by Z₀, so that the penalties stay ridges, and centres all
    columns afterwards. Centred at once, X Z = X Z₀ − 1a', they describe the same curves beside an intercept, by the
    same coefficients: X `level` = 1 takes the mean a of X Z₀ off.
    """
    free = basis.null_dim
    K = X.shape[1]
    Z0 = np.zeros((K, K - 1))
    Z0[: K - free, : K - free] = np.eye(K - free)
    if free > 1:
        Z0[K - free :, K - free :] = sum_to_zero(X[:, K - free :].sum(axis=0))
    level = np.linalg.lstsq(X[:, K - free :], np.ones(len(X)), rcond=None)[0]
    Z0[K - free :] -= np.outer(level, (X @ Z0).mean(axis=0))
    return Z0


def add_null_penalty(smooth: Smooth) -> Smooth:
    """Add the penalty on the null space that lets a smooth shrink to nothing (mgcv's ``select=TRUE``)."""
    if not smooth.penalties or smooth.null_dim == 0:
        return smooth
    total = smooth.penalties[0] / np.linalg.norm(smooth.penalties[0])
    for S in smooth.penalties[1:]:
        total = total + S / np.linalg.norm(S)
    free = np.linalg.eigh(symmetric(total))[1][:, : smooth.null_dim]
    sp = smooth.sp
    return replace(
        smooth,
        penalties=(*smooth.penalties, symmetric(free @ free.T)),
        penalty_scale=(*smooth.penalty_scale, 1.0),
        ranks=(*smooth.ranks, smooth.null_dim),
        null_dim=0,
        sp=None if sp is None else (*sp, -1.0),
    )


def check_id(smooths: Collection[Smooth]) -> None:
    """Stop where smooths of one id have different numbers of penalties."""
    first_of: dict[str, Smooth] = {}
    for smooth in smooths:
        if smooth.id is None:
            continue
        first = first_of.setdefault(smooth.id, smooth)
        if len(first.penalties) != len(smooth.penalties):
            raise DesignError(
                f"{first.label} and {smooth.label} share id={smooth.id}, but have {len(first.penalties)} and "
                f"{len(smooth.penalties)} penalties: give them one basis"
            )


def _rank_tolerance(S: FloatArray) -> float:
    return float(np.abs(S).max(initial=0.0) * S.shape[0] * np.finfo(float).eps ** 0.8)
