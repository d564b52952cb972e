"""Transforms that learn from the column: `poly`, `scale`, `center` here, the splines in `splines`.

Each is a pair: `learn` reads a column and its options and returns plain data; `apply` turns any column into
numbers with that data alone, so that training rows and new rows take the same path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from pycombat_gam.errors import DesignError, FormulaError
from pycombat_gam.formula.functions import Literal
from pycombat_gam.formula.options import flag, real, whole
from pycombat_gam.formula.splines import (
    apply_bs,
    apply_cr,
    apply_ns,
    bs_width,
    cr_width,
    learn_bs,
    learn_cr,
    learn_ns,
    ns_width,
)
from pycombat_gam.saving.reader import Reader
from pycombat_gam.types import FloatArray, JsonDict
from pycombat_gam.words import count

Options = Mapping[str, Literal]
MAX_DEGREE = 25


@dataclass(frozen=True)
class Transform:
    """How to learn a state, apply it, and check a saved one (which gives its number of columns)."""

    learn: Callable[[FloatArray, Options, str], JsonDict]
    apply: Callable[[FloatArray, JsonDict], FloatArray]
    width: Callable[[Reader], int]


def learn_poly(x: FloatArray, options: Options, expression: str) -> JsonDict:
    """Learn R's orthogonal polynomials: `alpha` and `norm2` of the three-term recurrence.

    Notes
    -----
    Follows R's `poly`, with the recurrence in place of its QR decomposition.
    """
    degree = whole(options.get("degree", 1), "degree", expression)
    unique = len(np.unique(x))
    if degree > MAX_DEGREE:
        raise FormulaError(f"{expression}: degree {degree} is too high; at most {MAX_DEGREE} is allowed")
    if degree < 1:
        raise FormulaError(f"{expression}: degree {degree} is too low; give a whole number from 1")
    if flag(options.get("raw", False), "raw", expression):
        return {"degree": degree, "raw": True}
    if degree >= unique:
        raise DesignError(
            f"{expression}: degree {degree} needs more than {count(unique, 'unique value')}; give a lower degree"
        )
    centre = float(x.mean())
    z = x - centre
    alpha, norm2 = [], [1.0, float(len(x))]
    before, current = np.zeros_like(z), np.ones_like(z)
    for i in range(degree):
        a = float(z @ current**2) / norm2[-1]
        ratio = norm2[i + 1] / norm2[i] if i else 0.0
        before, current = current, (z - a) * current - ratio * before
        alpha.append(a + centre)
        norm2.append(float(current @ current))
    if not all(np.isfinite(norm2)) or min(norm2) <= 0:
        raise DesignError(f"{expression}: the powers leave the range of numbers; scale the column first")
    return {"degree": degree, "raw": False, "alpha": alpha, "norm2": norm2}


def apply_poly(x: FloatArray, state: JsonDict) -> FloatArray:
    """Evaluate the polynomials, (n, degree)."""
    degree = state["degree"]
    if state["raw"]:
        return np.column_stack([x**power for power in range(1, degree + 1)])
    alpha, norm2 = state["alpha"], state["norm2"]
    columns = [np.ones_like(x), x - alpha[0]]
    for i in range(1, degree):
        columns.append((x - alpha[i]) * columns[i] - norm2[i + 1] / norm2[i] * columns[i - 1])
    return np.column_stack([column / np.sqrt(n2) for column, n2 in zip(columns[1:], norm2[2:], strict=True)])


def _poly_width(saved: Reader) -> int:
    degree, learned = saved.whole("degree", least=1, most=MAX_DEGREE), () if saved.flag("raw") else ("alpha", "norm2")
    saved.exactly("degree", "raw", *learned)
    if learned:
        saved.array("alpha", (degree,))
        saved.array("norm2", (degree + 2,), positive=True)
    return degree


def learn_scale(x: FloatArray, options: Options, expression: str) -> JsonDict:
    """Learn R's `scale`: mean, then sd with n-1 (the root mean square about 0 where `center=FALSE`)."""
    centre = _centre_or_scale(options, "center", expression)
    size = _centre_or_scale(options, "scale", expression)
    middle = (float(x.mean()) if centre else 0.0) if isinstance(centre, bool) else centre
    if isinstance(size, bool):
        if size and len(x) < 2:
            raise DesignError(f"{expression}: one row has no spread; remove the term or give scale = a number")
        size = float(np.sqrt(np.sum((x - middle) ** 2) / (len(x) - 1))) if size else 1.0
    if not size:
        raise DesignError(f"{expression}: the column is constant, so it cannot be scaled; remove the term")
    return {"center": middle, "scale": size}


def _centre_or_scale(options: Options, name: str, expression: str) -> bool | float:
    value = options.get(name, True)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, bool) else real(value, name, expression)


def learn_center(x: FloatArray, options: Options, expression: str) -> JsonDict:
    """Learn the mean."""
    return {"center": float(x.mean()), "scale": 1.0}


def apply_scale(x: FloatArray, state: JsonDict) -> FloatArray:
    """Centre and divide, (n,)."""
    return np.asarray((x - state["center"]) / state["scale"])


def _scale_width(saved: Reader) -> int:
    saved.exactly("center", "scale").number("center")
    saved.require(saved.number("scale") != 0, "have a scale that is not zero")
    return 1


TRANSFORMS: dict[str, Transform] = {
    "poly": Transform(learn_poly, apply_poly, _poly_width),
    "scale": Transform(learn_scale, apply_scale, _scale_width),
    "center": Transform(learn_center, apply_scale, _scale_width),
    "bs": Transform(learn_bs, apply_bs, bs_width),
    "ns": Transform(learn_ns, apply_ns, ns_width),
    "cr": Transform(learn_cr, apply_cr, cr_width),
}
"""By the name a formula calls them."""
