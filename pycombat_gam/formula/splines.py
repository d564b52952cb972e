"""Regression splines without a penalty: R's `splines::bs` and `ns`, and the natural cubic spline `cr`.

Knots, bounds and constraints are learned once as plain numbers. Beyond its bounds `bs` continues its last
polynomial, `ns` and `cr` continue in a straight line, as R's and patsy's do.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

import numpy as np
from scipy.interpolate import BSpline
from scipy.linalg import solve_banded

from pycombat_gam.errors import DesignError, FormulaError
from pycombat_gam.formula.functions import Literal
from pycombat_gam.formula.options import flag, numbers, whole
from pycombat_gam.saving.reader import Reader
from pycombat_gam.types import FloatArray, JsonDict
from pycombat_gam.words import count

Options = Mapping[str, Literal]
MAX_DF = 1000


def learn_bs(x: FloatArray, options: Options, expression: str) -> JsonDict:
    """Learn R's `bs`: interior knots at quantiles, boundary knots at the range."""
    degree = whole(options.get("degree", 3), "degree", expression)
    if not 1 <= degree <= 20:
        raise FormulaError(f"{expression}: degree {degree} is not allowed; give a whole number from 1 to 20")
    intercept = flag(options.get("intercept", False), "intercept", expression)
    state = _bounds_and_knots(x, options, expression, fewest=degree + intercept)
    return {**state, "degree": degree, "intercept": intercept}


def apply_bs(x: FloatArray, state: JsonDict) -> FloatArray:
    """Evaluate the B-splines, (n, df)."""
    basis = _bsplines(x, state["bounds"], state["knots"], state["degree"])
    return basis if state["intercept"] else basis[:, 1:]


def bs_width(saved: Reader) -> int:
    """Check a saved state and count its columns."""
    saved.exactly("bounds", "knots", "degree", "intercept")
    return _inner_knots(saved) + saved.whole("degree", least=1, most=20) + saved.flag("intercept")


def learn_ns(x: FloatArray, options: Options, expression: str) -> JsonDict:
    """Learn R's `ns`: knots as `bs`, second derivative zero at the bounds."""
    intercept = flag(options.get("intercept", False), "intercept", expression)
    state = _bounds_and_knots(x, options, expression, fewest=1 + intercept)
    return {**state, "intercept": intercept}


def apply_ns(x: FloatArray, state: JsonDict) -> FloatArray:
    """Evaluate the natural spline, (n, df), constrained by Householder reflections as R's `qr` does."""
    (low, high), knots = state["bounds"], state["knots"]
    basis = _bsplines(np.clip(x, low, high), [low, high], knots, 3)
    for end, outside in ((low, x < low), (high, x > high)):
        if outside.any():
            slope = _bsplines(np.array([end]), [low, high], knots, 3, derivative=1)
            basis[outside] += np.outer(x[outside] - end, slope[0])
    bend = _bsplines(np.array([low, high]), [low, high], knots, 3, derivative=2)
    first = 0 if state["intercept"] else 1
    q = np.linalg.qr(bend[:, first:].T, mode="complete")[0]
    return np.asarray((basis[:, first:] @ q)[:, 2:])


def ns_width(saved: Reader) -> int:
    """Check a saved state and count its columns."""
    return _inner_knots(saved.exactly("bounds", "knots", "intercept")) + 1 + saved.flag("intercept")


def learn_cr(x: FloatArray, options: Options, expression: str) -> JsonDict:
    """Learn patsy's ``cr(x, df=, constraints='center')``: knots at quantiles, and the columns' means."""
    if options.get("constraints", "center") != "center":
        raise FormulaError(f"{expression}: constraints can only be 'center'; leave it out")
    unique = np.unique(x)
    inner_option, df = options.get("knots"), options.get("df")
    if inner_option is None and df is None:
        raise FormulaError(f"{expression}: cr() needs df or knots; write for example cr(age, df=4)")
    if inner_option is None:
        size = whole(df, "df", expression)
        if not 1 <= size <= MAX_DF:
            raise FormulaError(f"{expression}: df {size} is not allowed; give a whole number from 1 to {MAX_DF}")
        inner = np.quantile(unique, np.linspace(0, 1, size + 1)[1:-1])
    else:
        inner = np.array(numbers(inner_option, "knots", expression))
        if df is not None and df != len(inner) + 1:
            raise FormulaError(f"{expression}: df and knots disagree; give one of them")
    knots = np.unique(np.concatenate([unique[[0, -1]], inner]))
    if len(unique) < len(inner) + 2 or len(knots) < len(inner) + 2:
        raise DesignError(
            f"{expression}: {count(len(inner) + 2, 'different knot')} do not fit between "
            f"{count(len(unique), 'unique value')}; give a lower df"
        )
    if knots[0] < unique[0] or knots[-1] > unique[-1]:
        raise FormulaError(f"{expression}: the knots must lie within the data ({unique[0]:g} to {unique[-1]:g})")
    means = _cubic(x, knots).mean(axis=0)
    return {"knots": knots.tolist(), "means": means.tolist()}


def apply_cr(x: FloatArray, state: JsonDict) -> FloatArray:
    """Evaluate the spline, (n, knots - 1); its columns sum to zero over the rows it was learned from."""
    constraint = np.array(state["means"])[:, None]
    q = np.linalg.qr(constraint, mode="complete")[0]
    return np.asarray(_cubic(x, np.array(state["knots"])) @ q[:, 1:])


def cr_width(saved: Reader) -> int:
    """Check a saved state and count its columns."""
    knots = saved.exactly("knots", "means").array("knots", (None,), least=2, ascending=True)
    saved.require(saved.array("means", knots.shape).any(), "have means of which one is not zero")
    return len(knots) - 1


def _bounds_and_knots(x: FloatArray, options: Options, expression: str, fewest: int) -> JsonDict:
    bounds = options.get("Boundary.knots")
    ends = [float(x.min()), float(x.max())] if bounds is None else numbers(bounds, "Boundary.knots", expression)
    if len(ends) != 2:
        raise FormulaError(f"{expression}: Boundary.knots must be two numbers, as in Boundary.knots=c(18, 90)")
    if ends[0] >= ends[1]:
        raise DesignError(f"{expression}: the column has one unique value; remove the term")
    inner_option, df = options.get("knots"), options.get("df")
    if inner_option is not None:
        inner = numbers(inner_option, "knots", expression)
    elif df is None:
        inner = []
    else:
        size = whole(df, "df", expression)
        if not fewest <= size <= MAX_DF:
            raise FormulaError(f"{expression}: df {size} is not allowed; give a whole number from {fewest} to {MAX_DF}")
        inside = x[(x >= ends[0]) & (x <= ends[1])]
        if not len(inside):
            raise DesignError(f"{expression}: no value lies between the Boundary.knots; widen them")
        at = np.linspace(0, 1, size - fewest + 2)[1:-1]
        inner = np.quantile(inside, at).tolist()
    if inner and (inner[0] <= ends[0] or inner[-1] >= ends[1]):
        raise DesignError(
            f"{expression}: a knot falls on or beyond the boundary ({ends[0]:g} to "
            f"{ends[1]:g}), as when many values "
            "are equal; give fewer df, or knots strictly between"
        )
    if len(set(inner)) < len(inner):
        raise DesignError(f"{expression}: two knots are equal, as when many values are; give fewer df or other knots")
    return {"bounds": ends, "knots": inner}


def _inner_knots(saved: Reader) -> int:
    """Check the knots and count the inner ones."""
    low, high = saved.array("bounds", (2,), ascending=True).tolist()
    inner = saved.array("knots", (None,), ascending=True).tolist()
    saved.require(len(inner) <= MAX_DF, f"have at most {MAX_DF:,} knots")
    saved.require(all(low < knot < high for knot in inner), "have its knots between its bounds")
    saved.require(isfinite(high - low), "have bounds of a finite distance")
    return len(inner)


def _bsplines(x: FloatArray, bounds: list[float], inner: list[float], degree: int, derivative: int = 0) -> FloatArray:
    """B-splines or a derivative, (n, len(inner) + degree + 1); the end polynomials continue outside."""
    knots = np.concatenate([np.repeat(bounds[0], degree + 1), inner, np.repeat(bounds[1], degree + 1)])
    basis = BSpline(knots, np.eye(len(knots) - degree - 1), degree, extrapolate=True)
    return np.asarray(basis(x, nu=derivative))


def _cubic(x: FloatArray, knots: FloatArray) -> FloatArray:
    """Natural cubic spline by its values at the knots, (n, len(knots)); Wood (2017), table 5.1."""
    h = np.diff(knots)
    bend = np.zeros((len(knots), len(knots)))
    if len(knots) > 2:
        between = np.zeros((len(knots) - 2, len(knots)))
        rows = np.arange(len(knots) - 2)
        between[rows, rows], between[rows, rows + 2] = 1 / h[:-1], 1 / h[1:]
        between[rows, rows + 1] = -1 / h[:-1] - 1 / h[1:]
        side = h[1:-1] / 6
        banded = np.array([np.r_[0, side], (h[:-1] + h[1:]) / 3, np.r_[side, 0]])
        bend[1:-1] = solve_banded((1, 1), banded, between)
    at = np.clip(np.searchsorted(knots, x) - 1, 0, len(h) - 1)
    width, right, left = h[at], knots[at + 1] - x, x - knots[at]
    cube_right = np.where(x > knots[-1], 0.0, right**3 / (6 * width))
    cube_left = np.where(x < knots[0], 0.0, left**3 / (6 * width))
    basis = (cube_right - width * right / 6)[:, None] * bend[at]
    basis += (cube_left - width * left / 6)[:, None] * bend[at + 1]
    row = np.arange(len(x))
    basis[row, at] += right / width
    basis[row, at + 1] += left / width
    return basis
