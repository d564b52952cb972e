"""Covariates that are linear functions of each other, in terms that all have a linear part.

A design's rank follows from its columns, and the unpenalised part of a smooth from its penalty. With unevenly spread
knots (a skewed covariate) or in a tensor product, the penalty's null space is known to a few digits only. A linear part
that another term holds too then goes unnoticed. So the covariates themselves are compared.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pycombat_gam.checks.finding import Finding, joined, keys, named
from pycombat_gam.checks.material import Material
from pycombat_gam.checks.terms import centred
from pycombat_gam.formula import Formula
from pycombat_gam.formula.formula import RANDOM_BASES
from pycombat_gam.formula.nodes import Call, Name, Node

DEPENDENT = 1e-7
"""A covariate of length one is a function of the others if less than this remains; as for the columns of a design."""
SHRUNK = ("ts", "cs", *RANDOM_BASES)
"""Bases whose linear part is penalised."""
POLYNOMIALS = ("poly", "ns", "bs", "scale")


def collinear_covariates(material: Material) -> Iterator[Finding]:
    """Name a covariate that is a linear function of others and of sites, each with a linear part in the formula."""
    carried = linear_parts(
        material.fixed, {name for name, covariate in material.covariates.items() if covariate.levels}
    )
    readable = {
        name: covariate
        for name, covariate in material.covariates.items()
        if name in carried and not covariate.levels and not covariate.trouble
    }
    rows = material.codes >= 0
    for covariate in readable.values():
        rows = rows & covariate.present
    if len(readable) < 2 or rows.sum() < 2:
        return
    X = centred(np.column_stack([covariate.values[rows] for covariate in readable.values()]), material.codes[rows])
    length = np.sqrt((X**2).sum(axis=0))
    usual = np.isfinite(length) & (length > 0)
    kept: list[int] = []
    for j in np.flatnonzero(usual).tolist():
        column, before = X[:, j] / length[j], X[:, kept] / length[kept]
        share = np.linalg.lstsq(before, column, rcond=None)[0]
        if not kept or np.linalg.norm(column - before @ share) > DEPENDENT:
            kept.append(j)
            continue
        names = list(readable)
        others = [names[k] for k, part in zip(kept, share.tolist(), strict=True) if abs(part) > 1e-6]
        terms = [term for name in (*others, names[j]) for term in carried[name]]
        verdict = (
            f"'{names[j]}' is a linear function of {named(others)} within sites, and the formula has the linear part "
            f"of each ({joined(list(dict.fromkeys(terms)))}): their effects cannot be separated; keep one of them"
        )
        yield Finding("problem", "design", names[j], verdict, "confounding", keys(carried[names[j]]))


def linear_parts(formula: Formula, factors: set[str]) -> dict[str, list[str]]:
    """Return, by covariate, the terms whose unpenalised part contains it untransformed.

    >>> from pycombat_gam.formula import parse_formula
    >>> linear_parts(parse_formula("~ age + sex:icv + s(bmi) + te(age, iq) + ti(age, dose)"), {"sex"})
    {'age': ['age', 'te(age,iq)'], 'icv': ['sex:icv'], 'bmi': ['s(bmi)'], 'iq': ['te(age,iq)']}
    """
    carried: dict[str, list[str]] = {}
    for term in formula.parametric:
        numbers = [node for node in term.factors if not (isinstance(node, Name) and node.name in factors)]
        name = _held(numbers[0]) if len(numbers) == 1 else ""
        if name:
            carried.setdefault(name, []).append(term.label)
    for smooth in formula.smooths:
        bases = smooth.option("bs")
        shrunk = any(basis in SHRUNK for basis in (bases if isinstance(bases, list) else [bases]))
        by_factor = smooth.by is None or (isinstance(smooth.by, Name) and smooth.by.name in factors)
        if shrunk or not by_factor or (smooth.kind == "ti" and len(smooth.args) > 1):
            continue
        for node in smooth.args:
            if isinstance(node, Name):
                carried.setdefault(node.name, []).append(smooth.label)
    return carried


def _held(node: Node) -> str:
    """Return the column that a factor of a parametric term contains untransformed, or nothing."""
    if isinstance(node, Call) and node.name in POLYNOMIALS and node.args:
        node = node.args[0]
    return node.name if isinstance(node, Name) else ""
