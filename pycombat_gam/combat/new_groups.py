r"""Groups that were not in the fit, at sites that were: their random effects are predicted from their own rows.

A new subject of a known site has no coefficient in the fit. With r = Y − α_b − Xβ on the rows of known sites, α_b the
site's level and Xβ all that the fit knows, the effects b of new groups solve the mixed model equations (Henderson
1975)

    (Z'Z + Λ_k) b = Z'r_k,      Λ_k = σ²/σ_b² from the fit's smoothing parameters,

the same that a fit with these rows solves, but that α, β and Λ stay as they were. Groups that share no row are solved
by themselves. What they add to the mean model, Zb, is kept: Y* = (Y − f − Zb − g)/d + f + Zb.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from pycombat_gam.batch.model import MeanRows
from pycombat_gam.errors import DataError
from pycombat_gam.formula.columns import Factor
from pycombat_gam.formula.variables import levels_in
from pycombat_gam.mean.fit import MeanFit
from pycombat_gam.penalized.sufficient import blocks
from pycombat_gam.smooth.assemble import Smooth
from pycombat_gam.smooth.basis import Values
from pycombat_gam.smooth.random import FactorSmoothBasis
from pycombat_gam.types import BoolArray, FloatArray, IntArray
from pycombat_gam.words import count, listing

LARGEST = 2e12
"""Operations of one solution of crossed groups, beyond which a new fit costs less."""

RIDGE = 1e-14
"""Added to a matrix of unit diagonal that may be singular: beyond what its digits tell."""

NO_VARIANCE = 1e30
"""A practically infinite ratio of variances that still leaves room for sums."""


@dataclass(frozen=True, eq=False)
class NewLevels:
    """The levels of one random effect that the fit does not know: G of them, with c coefficients each.

    Attributes
    ----------
    label : of the random effect; columns : of the table that name the levels, for messages.
    rows : (m,) rows concerned; level : (m,) which level each has, from 0 to G − 1.
    Z : (m, c) what the coefficients of its level are multiplied by.
    ratio : (c, V) Λ of every feature.
    """

    label: str
    columns: str
    rows: IntArray
    level: IntArray
    Z: FloatArray
    ratio: FloatArray

    @property
    def size(self) -> int:
        """Number of levels."""
        return int(self.level.max()) + 1

    @property
    def note(self) -> str:
        """Say that these levels are predicted."""
        return (
            f"{self.columns} has {count(self.size, 'level')} not known from the fit in "
            f"{count(self.rows.size, 'row')}: {self.label} is predicted there from these rows"
        )


def variance_ratio(mean: MeanFit, smooth: Smooth, size: int) -> FloatArray:
    """Return Λ = σ²/σ_b² of the first `size` coefficients of a random effect, (size, V)."""
    total = np.zeros((size, mean.coefficients.shape[1]))
    for term, _, S, weight in mean.penalties:
        if term == smooth.label:
            total += np.diag(S)[:size, None] * np.minimum(weight, NO_VARIANCE)
    return total


def find_new_levels(mean: MeanFit, table: pd.DataFrame, rows: IntArray) -> list[NewLevels]:
    """Find the levels of random effects that some rows of a table have and the fit does not."""
    design = mean.design
    effects = [(smooth, columns) for smooth, columns in design.random_effects if smooth.groups]
    values = design.smooth.values(table) if effects and rows.size else {}
    levels = []
    for smooth, place in effects if values else ():
        here = {label: _on_rows(value, rows) for label, value in values.items()}
        new = np.flatnonzero(_unknown(mean, smooth, here, place))
        if new.size:
            Z = _multipliers(smooth, {label: _on_rows(value, new) for label, value in here.items()})
            level, columns = _levels(smooth, table, rows[new])
            ratio = variance_ratio(mean, smooth, Z.shape[1])
            levels.append(NewLevels(smooth.label, columns, rows[new], level, Z, ratio))
    return levels


def new_group_effects(
    fit: MeanFit, Y: np.ndarray, mean: MeanRows, codes: IntArray, new: list[NewLevels]
) -> tuple[IntArray, FloatArray]:
    """Return the rows of new groups (m,), in order, and what their effects add to the mean there, Zb (m, V).

    Parameters
    ----------
    fit : the mean model; Y : (n, V) features; mean : the mean model on these rows; codes : (n,) site of each row.
    new : from `find_new_levels`, at least one.

    Raises
    ------
    DataError
        Where crossed new groups are too many to be solved together.
    """
    rows = np.unique(np.concatenate([levels.rows for levels in new]))
    systems = Systems.of(new, rows)
    if systems.largest > 1 and Y.shape[1] * float(systems.largest) ** 3 > LARGEST:
        raise DataError(
            f"{listing(levels.label for levels in new)}: {systems.largest:,} effects of groups that were not in the "
            "fit share rows, too many to be predicted together; fit again with these rows"
        )
    # Levels of one random effect share their Λ: it is spread out a block of features at a time.
    ratio = np.vstack([levels.ratio for levels in new])
    starts = np.cumsum([0, *(len(levels.ratio) for levels in new)])
    place = [
        start + np.tile(np.arange(len(levels.ratio)), levels.size) for start, levels in zip(starts, new, strict=False)
    ]
    of_coefficient = np.concatenate(place)
    # Of known sites, whose level stands in place of the common one.
    site_level = fit.intercepts + fit.center @ fit.coefficients - mean.at_center
    effects = np.empty((rows.size, Y.shape[1]))
    for columns, raw in blocks(Y, rows):
        seen = ~np.isnan(raw)
        left = np.where(seen, mean.taken_off(raw, rows, columns) - site_level[:, columns][codes[rows]], 0.0)
        effects[:, columns] = systems.effects(left, seen, ratio[:, columns][of_coefficient])
    return rows, effects


def _on_rows(value: FloatArray | Factor, rows: IntArray) -> FloatArray | Factor:
    return Factor(value.codes[rows], value.levels) if isinstance(value, Factor) else value[rows]


def _unknown(mean: MeanFit, smooth: Smooth, values: Values, columns: slice) -> BoolArray:
    """Find the rows whose level has no row in the fit; a combination of known levels may be new too."""
    factors = [value for label in smooth.groups if isinstance(value := values[label], Factor)]
    if isinstance(smooth.basis, FactorSmoothBasis):
        grouping = values[smooth.basis.factor]
        assert isinstance(grouping, Factor)
        return np.asarray(grouping.codes < 0)
    new = np.any([factor.codes < 0 for factor in factors], axis=0)
    # The first factor's levels vary fastest.
    place = np.zeros(new.size, dtype=np.intp)
    step = 1
    for factor in factors:
        place += np.maximum(factor.codes, 0) * step
        step *= len(factor.levels)
    size = np.einsum("ij,ij->j", mean.R[:, columns], mean.R[:, columns]) + mean.center[columns] ** 2
    return np.asarray(new | (size[place] == 0))


def _levels(smooth: Smooth, table: pd.DataFrame, rows: IntArray) -> tuple[IntArray, str]:
    """Number the levels in some rows, as the table itself spells them; and name their columns."""
    factors = {
        label: levels_in(node, table)
        for node, label in zip(smooth.term.args, smooth.variables, strict=True)
        if label in smooth.groups
    }
    codes = np.column_stack([factor.codes[rows] for factor in factors.values()])
    return np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1), ":".join(factors)


def _multipliers(smooth: Smooth, values: Values) -> FloatArray:
    """What a row multiplies the coefficients of its level by, (m, c)."""
    basis = smooth.basis
    if isinstance(basis, FactorSmoothBasis):
        Z = np.asarray(basis.curve.on(values) @ basis.P)
    else:
        numbers = [value for label in basis.variables if not isinstance(value := values[label], Factor)]
        m = next(len(v.codes) if isinstance(v, Factor) else len(v) for v in values.values())
        Z = np.prod([np.ones(m), *numbers], axis=0)[:, None]
    if smooth.by is None:
        return Z
    by = values[smooth.by]
    weight = by.codes == by.levels.index(str(smooth.by_level)) if isinstance(by, Factor) else by
    return np.asarray(Z * np.asarray(weight, dtype=np.float64)[:, None])


@dataclass(frozen=True, eq=False)
class Systems:
    """The equations of all new coefficients, m rows and q coefficients, split where they share no row.

    Attributes
    ----------
    Z : (m, q) sparse.
    members : the coefficients of each system (one array for all systems of one size: (systems, size)).
    """

    Z: csr_matrix
    members: tuple[IntArray, ...]

    @classmethod
    def of(cls, new: list[NewLevels], rows: IntArray) -> Systems:
        """Collect the levels of all random effects on the union of their rows."""
        start, entries = 0, []
        for levels in new:
            c = levels.Z.shape[1]
            columns = start + levels.level[:, None] * c + np.arange(c)
            entries.append((np.repeat(np.searchsorted(rows, levels.rows), c), columns.ravel(), levels.Z.ravel()))
            start += levels.size * c
        row, column, value = (np.concatenate(parts) for parts in zip(*entries, strict=True))
        Z = csr_matrix((value, (row, column)), shape=(rows.size, start))
        # A multiplier of zero connects its row and coefficient all the same, whatever csr does with it.
        pattern = csr_matrix((np.ones(row.size), (row, column)), shape=Z.shape)
        part = connected_components(pattern.T @ pattern, directed=False)[1]
        order = np.argsort(part, kind="stable")
        together = np.split(order, np.flatnonzero(np.diff(part[order])) + 1)
        sizes = sorted({columns.size for columns in together})
        return cls(Z, tuple(np.array([c for c in together if c.size == size], dtype=np.intp) for size in sizes))

    @property
    def largest(self) -> int:
        """Coefficients of the largest system."""
        return max(int(members.shape[1]) for members in self.members)

    def effects(self, left: FloatArray, seen: BoolArray, ratio: FloatArray) -> FloatArray:
        """Zb (m, k) from residuals (m, k), zero where not seen; ratio : Λ of all coefficients (q, k)."""
        right = self.Z.T @ left
        b = np.empty_like(right)
        squares = self.Z.multiply(self.Z).T @ seen.astype(np.float64)
        for members in self.members:
            if members.shape[1] == 1:
                (single,) = members.T
                total = squares[single] + ratio[single]
                b[single] = np.divide(right[single], total, out=np.zeros_like(total), where=total > 0)
                continue
            for columns in members:
                b[columns] = _solved(self._gram(columns, seen), ratio[columns], right[columns])
        return np.asarray(self.Z @ b)

    def _gram(self, columns: IntArray, seen: BoolArray) -> FloatArray:
        """Z'Z of one system, (1, q, q), or (k, q, q) where features lack different cells."""
        part = self.Z[:, columns]
        rows = np.flatnonzero(part.getnnz(axis=1))
        Z = part[rows].toarray()
        if seen[rows].all():
            return np.asarray((Z.T @ Z)[None])
        return np.asarray(np.einsum("mi,mj,mk->kij", Z, Z, seen[rows], optimize=True))


def _solved(gram: FloatArray, ratio: FloatArray, right: FloatArray) -> FloatArray:
    """Solve (G + Λ)b = c of every feature, (q, k), each matrix scaled to a unit diagonal."""
    q = right.shape[0]
    total = gram + ratio.T[:, :, None] * np.eye(q)
    size = np.sqrt(np.einsum("kii->ki", total))
    size[size == 0] = 1.0
    scaled = total / (size[:, :, None] * size[:, None, :])
    # A coefficient that neither rows nor a variance hold stays zero.
    scaled[:, np.arange(q), np.arange(q)] += RIDGE
    return np.asarray((np.linalg.solve(scaled, (right.T / size)[:, :, None])[:, :, 0] / size).T)
