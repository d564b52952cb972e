"""Our formulas as R code and R's as ours.

Both grammars are R's, so a formula without random effects is the same text on both sides, but for functions that R has
elsewhere or under another name (see `functions`). A bar, ``(1 | site)``, is lme4's; mgcv spells it
``s(site, bs = "re")``, of a column that is a factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Literal

from pycombat_gam.design.smooths import smooth_terms
from pycombat_gam.errors import OptionError
from pycombat_gam.formula import Formula, parse_formula
from pycombat_gam.formula.formula import Term
from pycombat_gam.formula.nodes import Binary, Call, Name, Node, deparse
from r_bridge import session
from r_bridge.functions import translated

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
        If the text is not a formula; for smooths in lme4; for a function that R does not have.
    NotYetError
        For correlated random effects in mgcv, which has none.

    >>> to_r("~ s(age, k=5) + sex*dx + (1|site)")
    '~ sex + dx + sex:dx + s(age, k = 5) + s(site, bs = "re")'
    >>> to_r("~ ns(age, df=4) + (1|site)", engine="lme4", response="y")
    'y ~ splines::ns(age, df = 4) + (1 | site)'
    """
    parsed = translated(parse_formula(formula) if isinstance(formula, str) else formula)
    terms = [term.label for term in _as_r_names_them(parsed.parametric)]
    if engine == "mgcv":
        terms += [deparse(term.call if label is None else _bare(term.call)) for term, label in smooth_terms(parsed)]
    elif parsed.smooths:
        raise OptionError(f"lme4 has no smooths: '{parsed}' asks for {deparse(parsed.smooths[0].call)}")
    else:
        terms += [f"({term.label})" for term in parsed.random]
    if parsed.offsets:
        # As one: of several, mgcv takes the first and drops the others without a word.
        terms.append(f"offset({deparse(reduce(lambda total, node: Binary('+', total, node), parsed.offsets))})")
    left = response or (deparse(parsed.response) if parsed.response is not None else "")
    right = " + ".join(terms if parsed.intercept else ["0", *terms]) or "1"
    return f"{left} ~ {right}".strip()


def _as_r_names_them(terms: Sequence[Term]) -> list[Term]:
    """Order terms so that R names interactions as ours are named: with their variables as these first appear.

    R sorts terms by their number of variables and keeps the order among equals, so only terms of different sizes may
    change places. What a prefix of the sizes' lists allows depends on how long each is and no more: what failed once
    is not tried again. Where no order serves (a variable that only ``- x`` once brought in), the terms stay as they
    are.
    """
    sizes = [[t for t in terms if len(t.factors) == n] for n in sorted({len(t.factors) for t in terms})]
    failed: set[tuple[int, ...]] = set()

    def follow(taken: tuple[int, ...], seen: tuple[Node, ...]) -> list[Term] | None:
        left = [term for size, n in zip(sizes, taken, strict=True) for term in size[n:]]
        if taken in failed or not all(_named_in_order(term, seen) for term in left):
            return None
        for size, of_size in enumerate(sizes):
            if taken[size] < len(of_size):
                term = of_size[taken[size]]
                after = (*seen, *(factor for factor in term.factors if factor not in seen))
                rest = follow((*taken[:size], taken[size] + 1, *taken[size + 1 :]), after)
                if rest is not None:
                    return [term, *rest]
        failed.add(taken)
        return None if left else []

    return follow((0,) * len(sizes), ()) or list(terms)


def _named_in_order(term: Term, seen: Sequence[Node]) -> bool:
    """Whether a term's variables would still come in the term's own order, were it to follow those seen."""
    places = [seen.index(factor) if factor in seen else len(seen) for factor in term.factors]
    return places == sorted(places)


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
