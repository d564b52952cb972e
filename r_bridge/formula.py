"""Our formulas as R code and R's as ours.

Both grammars are R's, so a formula without random effects is the same text on both sides. A bar, ``(1 | site)``, is
lme4's; mgcv spells it ``s(site, bs = "re")``, of a column that is a factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pycombat_gam.errors import OptionError
from pycombat_gam.formula import Formula, parse_formula
from pycombat_gam.formula.formula import Term
from pycombat_gam.formula.nodes import Call, Name, Node, deparse
from pycombat_gam.smooth.part import smooth_terms
from r_bridge import session

Engine = Literal["mgcv", "lme4"]


def to_r(formula: str | Formula, *, engine: Engine = "mgcv", response: str | None = None) -> str:
    """Return a formula as the R code that an engine understands.

    Parameters
    ----------
    formula : ours, or its text.
    engine : ``"mgcv"``, where a random effect becomes ``s(…, bs = "re")`` of factors (the grouping columns have to be
        factors in R's data), or ``"lme4"``, which has no smooths.
    response : R code for the left side; None keeps what the formula has.

    Raises
    ------
    FormulaError, OptionError
        If the text is no formula; for smooths in lme4.
    NotYetError
        For correlated random effects in mgcv, which has none.

    >>> to_r("~ s(age, k=5) + sex*dx + (1|site)")
    '~ sex + dx + sex:dx + s(age, k = 5) + s(site, bs = "re")'
    >>> to_r("~ age + (1|site)", engine="lme4", response="y")
    'y ~ age + (1 | site)'
    """
    parsed = parse_formula(formula) if isinstance(formula, str) else formula
    terms = [term.label for term in _as_r_names_them(parsed.parametric)]
    if engine == "mgcv":
        terms += [deparse(term.call if label is None else _bare(term.call)) for term, label in smooth_terms(parsed)]
    elif parsed.smooths:
        raise OptionError(f"lme4 has no smooths: '{parsed}' asks for {deparse(parsed.smooths[0].call)}")
    else:
        terms += [f"({term.label})" for term in parsed.random]
    left = response or (deparse(parsed.response) if parsed.response is not None else "")
    right = " + ".join(terms if parsed.intercept else ["0", *terms]) or "1"
    return f"{left} ~ {right}".strip()


def _as_r_names_them(terms: Sequence[Term]) -> list[Term]:
    """Order terms so that R names interactions as ours are named: with their variables as these first appear.

    R sorts terms by their number of variables anyway, so the model is the same.
    """
    left = list(terms)
    seen: set[Node] = set()
    ordered: list[Term] = []

    def emit(term: Term) -> None:
        left.remove(term)
        for place, factor in enumerate(term.factors):
            if factor not in seen:
                for other in [o for o in left if factor in o.factors[1:]]:
                    before = other.factors[: other.factors.index(factor)]
                    if other in left and any(f not in seen and f not in term.factors[:place] for f in before):
                        emit(other)
        seen.update(term.factors)
        ordered.append(term)

    while left:
        emit(left[0])
    return ordered


def _bare(call: Call) -> Call:
    """The smooth of a bar without our ``factor()`` around its grouping columns: they are factors already."""

    def bare(node: Node) -> Node:
        whole = isinstance(node, Call) and node.name == "factor" and isinstance(node.args[0], Name)
        return node.args[0] if whole and isinstance(node, Call) else node

    return Call(call.name, tuple(bare(node) for node in call.args), call.kwargs)


def from_r(text: str) -> Formula:
    r"""Parse R's formula, as R deparses it: random effects may be bars or ``s(…, bs = "re")``.

    Raises
    ------
    FormulaError
        If it holds what our formulas don't have.

    >>> str(from_r('y ~ s(x0, bs = "cr") +\n    x1'))
    'y ~ s(x0, bs = "cr") + x1'
    """
    return parse_formula(" ".join(text.split()))


def canonical(text: str) -> str:
    """Return a formula as R reads it and writes it again.

    >>> canonical("y~x+ s(z,k=5)")
    'y ~ x + s(z, k = 5)'
    """
    code = "function(text) paste(deparse(stats::as.formula(text), width.cutoff = 500L), collapse = ' ')"
    return str(session.call(code, text=text)[0])
