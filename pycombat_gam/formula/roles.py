"""The part that each column plays in a formula, and the same formula without one of them."""

from __future__ import annotations

from collections.abc import Iterable

from pycombat_gam.formula.factors import FACTORS
from pycombat_gam.formula.formula import Formula, SmoothTerm
from pycombat_gam.formula.functions import variables
from pycombat_gam.formula.nodes import Call, Node, deparse, walk
from pycombat_gam.formula.terms import parse_formula


def factor_columns(formula: Formula) -> tuple[str, ...]:
    """Return the columns that a formula takes for factors, whatever they hold, and groups of random effects.

    >>> factor_columns(parse_formula("~ age + factor(wave) + s(icv, by=as.factor(dx)) + (1 | family)"))
    ('wave', 'dx', 'family')
    """
    groups = [factor for term in formula.random for factor in term.group.factors]
    nodes: list[Node] = [factor for term in formula.parametric for factor in term.factors]
    nodes += [node for smooth in formula.smooths for node in _nodes(smooth)]
    calls = [part for node in nodes for part in walk(node) if isinstance(part, Call) and part.name in FACTORS]
    return _columns([*calls, *groups])


def fixed_columns(formula: Formula) -> tuple[str, ...]:
    """Return the columns of parametric terms, of offsets, and of smooths other than random effects.

    >>> fixed_columns(parse_formula("~ sex:dx + s(age, by=group) + s(scanner, bs='re') + (1 | family)"))
    ('sex', 'dx', 'age', 'group')
    """
    nodes: list[Node] = [factor for term in formula.parametric for factor in term.factors]
    nodes += formula.offsets
    return _columns([*nodes, *(node for smooth in formula.smooths if not smooth.random for node in _nodes(smooth))])


def random_groups(formula: Formula) -> list[tuple[str, ...]]:
    """Return the columns that each random effect is of: ``(1 | g)``, ``s(g, bs="re")``, ``s(x, g, bs="fs")``.

    >>> random_groups(parse_formula("~ age + s(age, family, bs='fs') + (1 | clinic:ward)"))
    [('clinic', 'ward'), ('age', 'family')]
    """
    bars = [_columns(term.group.factors) for term in formula.random]
    return [*bars, *(_columns(smooth.args) for smooth in formula.smooths if smooth.random)]


def without(formula: Formula, column: str) -> Formula:
    """Return the formula without the terms that use a column.

    >>> print(without(parse_formula("~ age*sex + s(icv, by=sex) + (1 | site)"), "sex"))
    ~age + (1 | site)
    """
    kept = [term.label for term in formula.parametric if column not in _columns(term.factors)]
    kept += [deparse(smooth.call) for smooth in formula.smooths if column not in _columns(_nodes(smooth))]
    kept += [f"offset({deparse(node)})" for node in formula.offsets if column not in _columns([node])]
    for term in formula.random:
        if column not in _columns([*term.group.factors, *(node for slope in term.slopes for node in slope.factors)]):
            kept.append(f"({term.label})")
    return parse_formula(f"~ {' + '.join(kept) or '1'}")


def _nodes(smooth: SmoothTerm) -> list[Node]:
    return [*smooth.args, *([] if smooth.by is None else [smooth.by])]


def _columns(nodes: Iterable[Node]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for node in nodes for name in variables(node)))
