"""The margins of a tensor product, learned in turn; if their dimensions are impossible, which ones would work."""

from __future__ import annotations

from math import prod

import numpy as np

from pycombat_gam.errors import DesignError, FormulaError
from pycombat_gam.formula.columns import Factor
from pycombat_gam.smooth.bases import learn_margin
from pycombat_gam.smooth.basis import Basis, BasisOptions, Values, Variable
from pycombat_gam.smooth.knots import DimensionError, DistinctError
from pycombat_gam.types import FloatArray

PLENTY = 5
"""The default number of coefficients of a margin: advice to save rows does not go below it."""


CURVE = 10
"""Distinct values that a variable needs for an s() of the default dimension."""


def learn_margins(
    names: list[str], groups: list[tuple[str, ...]], values: Values, options: list[BasisOptions]
) -> list[Basis]:
    """Learn the margins of a product.

    Parameters
    ----------
    names : of their bases; groups : the variables of each; options : what each was asked for.

    Raises
    ------
    DesignError
        If one of them has too few distinct values or coefficients: with dimensions for all of them that will do.
    """
    bases: list[Basis] = []
    wrong: dict[int, DimensionError | DistinctError] = {}
    for place, (name, group, asked) in enumerate(zip(names, groups, options, strict=True)):
        try:
            bases.append(learn_margin(name, group, values, asked))
        except (DimensionError, DistinctError) as error:
            wrong[place] = error
    if not wrong:
        return bases
    for place, refusal in wrong.items():
        if refusal.k is None:
            raise DesignError(_without(groups, place, values, options[place].where)) from refusal
    asked_for = [int(option.k or 0) for option in options]
    enough = [wrong[place].k or 0 if place in wrong else k for place, k in enumerate(asked_for)]
    n = len(_numbers(values[groups[0][0]]))
    while prod(enough) > n // (2 * options[0].copies) and max(enough) > PLENTY:
        enough[enough.index(max(enough))] -= 1
    place = next(iter(wrong))
    what, advice = " and ".join(groups[place]), _vector(enough)
    reason = (
        f"k={asked_for[place]} is too small for {what}"
        if isinstance(wrong[place], DimensionError)
        else f"k={asked_for[place]} is more than the distinct values of {what}"
    )
    kind = FormulaError if isinstance(wrong[place], DimensionError) else DesignError
    raise kind(f"{options[0].where}: {reason}; use {advice}") from wrong[place]


def _vector(ks: list[int]) -> str:
    return f"k={ks[0]}" if len(set(ks)) == 1 else f"k=c({', '.join(map(str, ks))})"


def _without(groups: list[tuple[str, ...]], place: int, values: Values, where: str) -> str:
    """Say how to rewrite a product in which one margin has too few values for any curve."""
    few, others = groups[place], [label for group in groups if group is not groups[place] for label in group]
    distinct, have = _distinct(few, values), "has" if len(few) == 1 else "have"
    names = " and ".join(few)
    if distinct == 1:
        return f"{where}: {names} {have} 1 distinct value and explains nothing; leave it out"
    # By a number, a smooth is not centred: it holds the number's own line.
    curves = len(few) == 1 and _distinct(tuple(others), values) >= CURVE ** len(others)
    smooth = f"s({', '.join(others)}"
    instead = f"{smooth}) + {smooth}, by={few[0]})" if curves else "*".join([*few, *others])
    return f"{where}: {names} {have} {distinct} distinct values, too few for a curve; write {instead}"


def _distinct(variables: tuple[str, ...], values: Values) -> int:
    return len(np.unique(np.column_stack([_numbers(values[label]) for label in variables]), axis=0))


def _numbers(variable: Variable) -> FloatArray:
    return np.asarray(variable.codes if isinstance(variable, Factor) else variable, dtype=np.float64)
