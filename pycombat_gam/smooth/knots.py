"""Where knots stand, and the checks that every basis of one variable shares."""

from __future__ import annotations

import numpy as np

from pycombat_gam.errors import DesignError, FormulaError
from pycombat_gam.formula.columns import Factor
from pycombat_gam.saving.reader import Reader
from pycombat_gam.smooth.basis import BasisOptions, Values
from pycombat_gam.types import FloatArray

LARGEST = 1e30
"""Saved numbers of a basis are smaller: the powers and products of larger ones overflow, and no fit has them."""


def numbers_of(values: Values, label: str, where: str) -> FloatArray:
    """Return a variable that must be numeric."""
    value = values[label]
    if isinstance(value, Factor):
        raise FormulaError(
            f"{where}: {label} is a factor, and a smooth needs numbers; write s({label}, bs='re') for a random "
            f"effect, or by={label} for a curve per level"
        )
    return value


def single(variables: tuple[str, ...], options: BasisOptions, name: str) -> str:
    """Return the one variable of a basis that takes one."""
    if len(variables) != 1:
        raise FormulaError(
            f"{options.where}: basis '{name}' takes one variable, not {len(variables)}; use bs='tp' or te()"
        )
    return variables[0]


class DimensionError(FormulaError):
    """A basis was asked for fewer coefficients than it needs: `k` are enough."""

    def __init__(self, where: str, asked: int, k: int) -> None:
        super().__init__(f"{where}: k={asked} is too small; this basis needs at least {k}")
        self.k = k


class DistinctError(DesignError):
    """A basis was asked for more coefficients than its variables have distinct values: `k` are possible, or None."""

    def __init__(self, message: str, k: int | None) -> None:
        super().__init__(message)
        self.k = k


def dimension(options: BasisOptions, default: int, least: int) -> int:
    """Basis dimension k, at least what the basis needs."""
    k = default if options.k is None else options.k
    if k < least:
        raise DimensionError(options.where, k, least)
    return k


def check_distinct(
    options: BasisOptions, variables: tuple[str, ...], distinct: int, n: int, default: int, least: int
) -> int:
    """Return the basis dimension k; the variables must have as many distinct values on their n rows.

    Advice in a message has to work: no k does if there are fewer values than the basis needs, and a k of all values is
    too many if half the rows would be used up.
    """
    names, have = " and ".join(variables), "has" if len(variables) == 1 else "have"
    values = f"{distinct} distinct value{'' if distinct == 1 else 's'}"
    if distinct == 1:
        raise DistinctError(f"{options.where}: {names} {have} {values} and explains nothing; leave the term out", None)
    if distinct < least:
        plain = " + ".join(variables)
        factors = f", or factor({names}) for a level each" if len(variables) == 1 else ""
        raise DistinctError(
            f"{options.where}: {names} {have} {values}, and this basis needs at least {least}; write {plain} without "
            f"s(){factors}",
            None,
        )
    k = dimension(options, default, least)
    if distinct < k:
        most = max(least, min(distinct, n // (2 * options.copies)))
        advice = f"k={most}" if most == least else f"k={most} or fewer (at least {least})"
        rows = f" for {n} rows" if most < distinct else ""
        raise DistinctError(f"{options.where} asks for k={k}, but {names} {have} {values}; use {advice}{rows}", most)
    return k


def quantile_knots(unique: FloatArray, k: int) -> FloatArray:
    """K knots evenly spread over the distinct values by rank (mgcv's `place.knots`)."""
    return np.asarray(np.interp(np.linspace(0, unique.size - 1, k), np.arange(unique.size), unique))


def given_knots(options: BasisOptions, label: str, allowed: tuple[int, ...]) -> FloatArray | None:
    """Knots that the user gave for a variable, sorted; their number must be one of `allowed`."""
    if label not in options.knots:
        return None
    knots = np.sort(np.asarray(options.knots[label], dtype=np.float64))
    if knots.size not in allowed:
        needed = " or ".join(map(str, allowed))
        raise FormulaError(f"{options.where}: {knots.size} knots given for {label}; give {needed}")
    if not np.isfinite(knots).all() or (np.diff(knots) <= 0).any():
        raise FormulaError(f"{options.where}: the knots of {label} must be different finite numbers")
    return knots


def orders(options: BasisOptions, default: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Whole numbers of the basis' order argument m; a single one stands for the default's length."""
    if options.m is None:
        return default
    if not all(float(value).is_integer() and 0 <= value <= 10 for value in options.m) or len(options.m) > most:
        raise FormulaError(f"{options.where}: m={list(options.m)} must be at most {most} whole numbers from 0 to 10")
    return tuple(int(value) for value in options.m)


def read_knots(saved: Reader, least: int) -> tuple[tuple[str, ...], FloatArray]:
    """Read the variable and the knots of a basis that takes one variable."""
    variables = saved.texts("variables", least=1)
    saved.require(len(variables) == 1, "be of one variable")
    return variables, saved.array("knots", (None,), least=least, within=LARGEST, ascending=True)
