"""Contrast coding: R's rule says which factors of a term are contrasted; patsy makes the columns.

patsy sees only placeholders (``f0``, ``f1:f2``) and arrays. Its DesignInfo is rebuilt from plain data at
each call, by patsy's documented factor protocol, so no text is evaluated and nothing is pickled.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import patsy

from pycombat_gam.formula.columns import Factor
from pycombat_gam.types import FloatArray


@dataclass(frozen=True)
class FactorSpec:
    """A factor: its label, and its number of columns (numeric) or its levels and contrast (categorical)."""

    label: str
    columns: int = 1
    levels: tuple[str, ...] = ()
    contrast: str = "contr.treatment"
    base: int = 0
    numbered: bool = False

    @property
    def categorical(self) -> bool:
        """Whether it has levels."""
        return bool(self.levels)

    def suffixes(self, *, full: bool) -> list[str]:
        """What R appends to the label, one for each column."""
        if not self.categorical:
            return [""] if self.columns == 1 else [str(i + 1) for i in range(self.columns)]
        if full:
            return list(self.levels)
        if self.contrast == "contr.treatment":
            names = [str(i + 1) for i in range(len(self.levels))] if self.numbered else self.levels
            return [name for i, name in enumerate(names) if i != self.base]
        if self.contrast == "contr.poly":
            return [f"^{i}" if i > 3 else (".L", ".Q", ".C")[i - 1] for i in range(1, len(self.levels))]
        return [str(i) for i in range(1, len(self.levels))]


@dataclass(frozen=True)
class TermSpec:
    """A term as numbers of factors; each is coded in full (all levels) or by its contrast."""

    factors: tuple[int, ...]
    full: tuple[bool, ...]

    def labels(self, specs: Sequence[FactorSpec]) -> list[str]:
        """R's labels of the term's columns; the first factor varies fastest."""
        each = [
            [specs[i].label + s for s in specs[i].suffixes(full=full)]
            for i, full in zip(self.factors, self.full, strict=True)
        ]
        return [":".join(reversed(combination)) for combination in itertools.product(*reversed(each))]


def code_terms(terms: Sequence[tuple[int, ...]], categorical: Sequence[bool], *, intercept: bool) -> list[TermSpec]:
    """Decide how each factor of each term is coded.

    Parameters
    ----------
    terms : sequence of tuple of int
        Terms in R's order, as numbers of factors.
    categorical : sequence of bool
        For each factor, whether it has levels.
    intercept : bool
        Whether the design has an intercept.

    Returns
    -------
    list of TermSpec

    Notes
    -----
    Follows R's `TermCode` (src/library/stats/src/model.c): a factor is contrasted where what is left of the
    term without it is contained in an earlier term; without an intercept, the first factor met is coded in
    full.
    """
    coded = []
    for position, term in enumerate(terms):
        full = []
        for factor in term:
            margin = set(term) - {factor}
            nested = not margin or any(margin <= set(earlier) for earlier in terms[:position])
            full.append(categorical[factor] and not nested)
        coded.append(TermSpec(tuple(term), tuple(full)))
    if not intercept:
        for position, spec in enumerate(coded):
            first = next((i for i, factor in enumerate(spec.factors) if categorical[factor]), None)
            if first is not None:
                full = [*spec.full]
                full[first] = True
                coded[position] = TermSpec(spec.factors, tuple(full))
                break
    return coded


class _Placeholder:
    """A factor in patsy's protocol that only looks its values up."""

    origin = None

    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        return self._name

    def eval(self, state: object, data: Mapping[str, Any]) -> Any:
        return data[self._name]


def _matrix(spec: FactorSpec, *, full: bool) -> patsy.ContrastMatrix:
    contrasts = {
        "contr.treatment": patsy.Treatment(reference=spec.base),
        "contr.sum": patsy.Sum(),
        "contr.helmert": patsy.Helmert(),
        "contr.poly": patsy.Poly(),
    }
    levels = list(spec.levels)
    if full:
        return patsy.ContrastMatrix(np.eye(len(levels)), [""] * len(levels))
    return contrasts[spec.contrast].code_without_intercept(levels)


def model_matrix(
    values: Sequence[FloatArray | Factor], specs: Sequence[FactorSpec], terms: Sequence[TermSpec], rows: int
) -> FloatArray:
    """Code all terms' columns, (rows, p), in the order of `terms`.

    Parameters
    ----------
    values : sequence of array (rows,) or (rows, k), or Factor
        One for each factor.
    specs, terms
        What they are, and what is made of them.
    rows : int
        Number of rows.

    Notes
    -----
    Follows R's `model.matrix`, through patsy's `build_design_matrices`.
    """
    if not terms:
        return np.empty((rows, 0))
    if not rows:
        return np.empty((0, sum(len(term.labels(specs)) for term in terms)))
    factors = [_Placeholder(f"f{i}") for i in range(len(specs))]
    infos = {
        factor: patsy.FactorInfo(factor, "categorical", {}, categories=tuple(spec.levels))
        if spec.categorical
        else patsy.FactorInfo(factor, "numerical", {}, num_columns=spec.columns)
        for factor, spec in zip(factors, specs, strict=True)
    }
    codings: OrderedDict[patsy.Term, list[patsy.SubtermInfo]] = OrderedDict()
    names: list[str] = []
    for term in terms:
        used = [factors[i] for i in term.factors]
        matrices = {
            factors[i]: _matrix(specs[i], full=full)
            for i, full in zip(term.factors, term.full, strict=True)
            if specs[i].categorical
        }
        width = len(term.labels(specs))
        codings[patsy.Term(used)] = [patsy.SubtermInfo(used, matrices, width)]
        names += [f"c{len(names) + i}" for i in range(width)]
    info = patsy.DesignInfo(names, infos, codings)
    data = {f"f{i}": _categorical(value) if isinstance(value, Factor) else value for i, value in enumerate(values)}
    (matrix,) = patsy.build_design_matrices([info], data, NA_action="raise")
    return np.ascontiguousarray(matrix, dtype=np.float64)


def _categorical(factor: Factor) -> pd.Categorical[Any]:
    return pd.Categorical.from_codes(factor.codes.tolist(), dtype=pd.CategoricalDtype(list(factor.levels)))
