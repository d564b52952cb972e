"""The smoothing parameters of a design, and the engine's penalties that each one drives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pycombat_gam.errors import OptionError
from pycombat_gam.penalized.problem import Penalties, PenaltyBlock
from pycombat_gam.smooth.assemble import Smooth
from pycombat_gam.types import FloatArray, IntArray
from pycombat_gam.words import count, listing


class Penalty(NamedTuple):
    """One penalty of a design and how much it counts.

    Attributes
    ----------
    term : label of its smooth; columns : where that stands among the p.
    matrix : (df, df); weight : (V,) its smoothing parameter for every feature, or that of one.
    """

    term: str
    columns: slice
    matrix: FloatArray
    weight: FloatArray

    def of(self, features: IntArray | slice) -> Penalty:
        """Return the same with its weights for some of the features."""
        return self._replace(weight=self.weight[features])


@dataclass(frozen=True, eq=False)
class SmoothingParameters:
    """Which smoothing parameters a model has, and which of the engine's penalties each one drives.

    Attributes
    ----------
    names : one for each parameter, as R names `sp`: the smooth's label, numbered where it has several.
    penalties : what the engine takes; penalties whose parameter is fixed at zero are left out.
    row : for each parameter, the engine's penalty that carries its value; None for a parameter fixed at zero.
    terms : the smooth of each of the engine's blocks of penalties, by label.
    """

    names: tuple[str, ...]
    penalties: Penalties
    row: tuple[int | None, ...]
    terms: tuple[str, ...]

    @classmethod
    def of(
        cls, smooths: Sequence[Smooth], slices: Sequence[slice], sp: Sequence[float] | None = None
    ) -> SmoothingParameters:
        """Collect the penalties of smooths that stand at `slices`; `sp` fixes parameters, negative: estimate.

        Raises
        ------
        OptionError
            If `sp` has another length than the model has smoothing parameters, or holds NaN.
        """
        names: list[str] = []
        fixed: list[float] = []
        first: dict[str, int] = {}
        links: list[list[int]] = []
        for smooth in smooths:
            m = len(smooth.penalties)
            if smooth.id is not None and smooth.id in first:
                start = first[smooth.id]
            else:
                start = len(names)
                names += [smooth.label if m == 1 else f"{smooth.label}{j + 1}" for j in range(m)]
                fixed += list(smooth.sp) if smooth.sp is not None else [-1.0] * m
                if smooth.id is not None and m:
                    first[smooth.id] = start
            links.append(list(range(start, start + m)))
        if sp is not None:
            values = np.atleast_1d(np.asarray(sp, dtype=np.float64))
            if values.shape != (len(names),) or np.isnan(values).any():
                raise OptionError(
                    f"sp holds {values.size} numbers; this model has {count(len(names), 'smoothing parameter')}"
                    f" ({listing(names, 12)}): give one for each, negative to estimate it"
                )
            fixed = values.tolist()
        return cls._linked(tuple(names), fixed, smooths, slices, links)

    @classmethod
    def _linked(
        cls,
        names: tuple[str, ...],
        fixed: Sequence[float],
        smooths: Sequence[Smooth],
        slices: Sequence[slice],
        links: Sequence[Sequence[int]],
    ) -> SmoothingParameters:
        free = [j for j, value in enumerate(fixed) if value < 0]
        blocks, parameter, terms = [], [], []
        for smooth, columns, link in zip(smooths, slices, links, strict=True):
            used = [(S, j) for S, j in zip(smooth.penalties, link, strict=True) if fixed[j] != 0]
            if used:
                blocks.append(PenaltyBlock(columns, tuple(S for S, _ in used)))
                parameter += [j for _, j in used]
                terms.append(smooth.label)
        L = np.zeros((len(parameter), len(free)))
        offset = np.zeros(len(parameter))
        for i, j in enumerate(parameter):
            if fixed[j] < 0:
                L[i, free.index(j)] = 1.0
            else:
                offset[i] = np.log(fixed[j])
        row = tuple(parameter.index(j) if j in parameter else None for j in range(len(names)))
        return cls(names, Penalties(tuple(blocks), L, offset), row, tuple(terms))

    def values(self, sp: FloatArray) -> FloatArray:
        """Pick the parameters (one row each) from the engine's (m, V)."""
        rows = [np.zeros(sp.shape[1]) if i is None else sp[i] for i in self.row]
        return np.array(rows).reshape(len(self.names), sp.shape[1])

    def weighted(self, values: FloatArray) -> list[Penalty]:
        """Return every penalty with what it is multiplied by, from the parameters (one row each)."""
        return self.weighted_by(self.of_penalties(values))

    def weighted_by(self, sp: FloatArray) -> list[Penalty]:
        """Return every penalty with what it is multiplied by, from the engine's (m, V), or (m,) of one feature."""
        pairs = [
            (term, block.columns, S)
            for term, block in zip(self.terms, self.penalties.blocks, strict=True)
            for S in block.matrices
        ]
        return [Penalty(*pair, weight) for pair, weight in zip(pairs, sp, strict=True)]

    def of_penalties(self, values: FloatArray) -> FloatArray:
        """Return what each of the engine's penalties is multiplied by, (m, V), from the parameters: undo `values`."""
        known = {row: j for j, row in enumerate(self.row) if row is not None}
        L = self.penalties.L
        linked = [
            next(row for row in known if row == at or (L[row].any() and np.array_equal(L[row], L[at])))
            for at in range(len(L))
        ]
        return values[[known[row] for row in linked]]
