"""The functions that our formulas may call, as R's: those with another name or package in R, and those R lacks.

R's own model matrix is made of the translated text, so its columns are named after that; `our_names` turns the names
back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from pycombat_gam.errors import OptionError
from pycombat_gam.formula import Formula
from pycombat_gam.formula.formula import RandomTerm, SmoothTerm, Term
from pycombat_gam.formula.functions import CONTRASTS, FUNCTIONS, bind
from pycombat_gam.formula.nodes import (
    Binary,
    Call,
    Constant,
    Name,
    Node,
    Number,
    Paren,
    String,
    Unary,
    deparse,
    level_text,
    walk,
)

NOT_IN_R = {
    "cr": "it is patsy's; write ns(age, df = 4) for a natural spline, or s(age, bs = 'cr', fx = TRUE) for mgcv's basis",
}
"""Functions of ours that R does not have, and what to write instead."""
NUMBERS = ("as.numeric", "as.double", "as.integer")
"""Functions that read text as numbers; of a factor, which text is in R, they would give codes."""


def check_translatable(formula: Formula) -> None:
    """Raise `OptionError` for a function that R does not have, by its name and before R is started."""
    for node in nodes_of(formula):
        for part in walk(node):
            if isinstance(part, Call) and part.name in NOT_IN_R:
                raise OptionError(f"R has no function for {deparse(part)}: {NOT_IN_R[part.name]}")


def nodes_of(formula: Formula) -> Iterator[Node]:
    """Yield every expression of a formula, its response among them."""
    if formula.response is not None:
        yield formula.response
    for term in formula.parametric:
        yield from term.factors
    for smooth in formula.smooths:
        yield from smooth.args
        if smooth.by is not None:
            yield smooth.by
    for random in formula.random:
        for term in (*random.slopes, random.group):
            yield from term.factors
    yield from formula.offsets


def translated(formula: Formula) -> Formula:
    """Return the formula with R's functions in place of ours; its text stays.

    Raises
    ------
    OptionError
        For a function that R does not have.
    """
    check_translatable(formula)
    return replace(
        formula,
        response=None if formula.response is None else translate(formula.response),
        parametric=tuple(_term(term) for term in formula.parametric),
        smooths=tuple(_smooth(smooth) for smooth in formula.smooths),
        random=tuple(
            RandomTerm(term.intercept, tuple(map(_term, term.slopes)), _term(term.group), term.bar)
            for term in formula.random
        ),
        offsets=tuple(translate(node) for node in formula.offsets),
    )


def translate(node: Node) -> Node:
    """Return an expression with R's functions in place of ours.

    >>> from pycombat_gam.formula.parse import parse
    >>> deparse(translate(parse("ns(np.log(age), df=4)"))), deparse(translate(parse("center(age)")))
    ('splines::ns(log(age), df = 4)', 'scale(age, scale = FALSE)')
    """
    if isinstance(node, Binary) and node.op == "|":
        # lme4 takes a bar for a random effect wherever it stands.
        neither = Binary("&", *(Unary("!", Paren(translate(side))) for side in (node.left, node.right)))
        return Unary("!", Paren(neither))
    if isinstance(node, Binary):
        return Binary(node.op, translate(node.left), translate(node.right))
    if isinstance(node, Unary):
        return Unary(node.op, translate(node.operand))
    if isinstance(node, Paren):
        return Paren(translate(node.inner))
    if not isinstance(node, Call) or node.name not in FUNCTIONS:
        return node
    call = Call(
        node.name.removeprefix("np."),
        tuple(map(translate, node.args)),
        tuple((name, translate(value)) for name, value in node.kwargs),
        node.package,
    )
    if node.name in ("ns", "bs"):
        return replace(call, package="splines")
    if node.name == "center":
        return Call("scale", call.args or (call.kwargs[0][1],), (("scale", Constant("FALSE")),))
    if node.name == "as.character":
        return _as_factor(call)
    if node.name == "ifelse":
        texts = [value.value for value in list(bind(node).data.values())[1:] if isinstance(value, String)]
        return _labelled(call, texts) if texts else call
    if node.name == "relevel":
        return _with_factor(call, "x")
    return _contrast(call) if node.name == "C" else call


def our_names(names: Iterable[object], formula: Formula) -> list[str]:
    """Turn R's names of columns and terms into ours: they are made of the translated text.

    mgcv writes main effects first, and with them the factors of an interaction in another order than `model.matrix`
    has; here they come in ours.

    >>> from pycombat_gam.formula import parse_formula
    >>> our_names(["sexM:splines::ns(age, df = 2)1", "log1p(log(age))"], parse_formula("~ ns(age, df=2):sex + sex"))
    ['ns(age, df = 2)1:sexM', 'log1p(log(age))']
    """
    swaps = {theirs: ours for ours, theirs in _labels(formula)}
    orders = {frozenset(labels): labels for labels in ([*map(deparse, t.factors)] for t in formula.parametric)}
    return [_in_order(_swapped([str(name)], swaps)[0], orders) for name in names]


def _in_order(name: str, orders: dict[frozenset[str], list[str]]) -> str:
    """Put the parts of an interaction's name into the order of its term."""
    if ":" not in name:
        return name
    longest_first = sorted({label for labels in orders.values() for label in labels}, key=len, reverse=True)
    starts = re.compile(f"(?:^|(?<=:))(?:{'|'.join(map(re.escape, longest_first)) or '(?!)'})")
    parts_at = [(match.start(), match.group()) for match in starts.finditer(name)]
    order = orders.get(frozenset(label for _, label in parts_at))
    if order is None or len(order) != len(parts_at) or parts_at[0][0] != 0:
        return name
    ends = [start - 1 for start, _ in parts_at[1:]] + [len(name)]
    parts = {label: name[start:end] for (start, label), end in zip(parts_at, ends, strict=True)}
    return ":".join(parts[label] for label in order)


def _labels(formula: Formula) -> Iterator[tuple[str, str]]:
    """Yield the label of every expression and smooth, and R's label of the same."""
    for node in nodes_of(formula):
        yield deparse(node), deparse(translate(node))
    for smooth in formula.smooths:
        yield smooth.label, _smooth(smooth).label


def _swapped(names: Iterable[str], swaps: dict[str, str]) -> list[str]:
    """Replace labels where a factor of a term may begin: at the start, or after a colon."""
    longest_first = sorted(map(re.escape, swaps), key=len, reverse=True)
    pattern = re.compile(f"(?:^|(?<=:))(?:{'|'.join(longest_first) or '(?!)'})")
    return [pattern.sub(lambda match: swaps[match.group()], name) for name in names]


def read_as_numbers(formula: Formula) -> tuple[set[str], set[str]]:
    """Return the columns that stand in `as.numeric()` and the like, and those that stand elsewhere."""
    inside: set[str] = set()
    elsewhere: set[str] = set()
    for node in nodes_of(formula):
        _sort_names(node, inside, elsewhere)
    return inside, elsewhere


def _sort_names(node: Node, inside: set[str], elsewhere: set[str]) -> None:
    if isinstance(node, Name):
        elsewhere.add(node.name)
    elif isinstance(node, Call) and node.name in FUNCTIONS:
        for argument in bind(node).data.values():
            while isinstance(argument, Paren):
                argument = argument.inner
            if node.name in NUMBERS and isinstance(argument, Name):
                inside.add(argument.name)
            else:
                _sort_names(argument, inside, elsewhere)
    elif isinstance(node, Call):
        for argument in node.args:
            _sort_names(argument, inside, elsewhere)
    elif isinstance(node, Binary):
        _sort_names(node.left, inside, elsewhere)
        if node.op != "%in%":
            _sort_names(node.right, inside, elsewhere)
    elif isinstance(node, (Unary, Paren)):
        _sort_names(node.operand if isinstance(node, Unary) else node.inner, inside, elsewhere)


def _term(term: Term) -> Term:
    return Term(tuple(map(translate, term.factors)))


def _smooth(smooth: SmoothTerm) -> SmoothTerm:
    by = None if smooth.by is None else translate(smooth.by)
    return replace(smooth, args=tuple(map(translate, smooth.args)), by=by)


def _labelled(call: Call, texts: Sequence[str]) -> Call:
    """Make a factor whose levels come by code point, not in the order of R's locale."""
    levels = Call("c", tuple(String(text) for text in sorted(set(texts))))
    return Call("factor", (call,), (("levels", levels),))


def _as_factor(call: Call) -> Call:
    by_code_point = Call("sort", (Call("unique", (call,)),), (("method", String("radix")),))
    return Call("factor", (call,), (("levels", by_code_point),))


def _with_factor(call: Call, name: str) -> Call:
    """Make a factor of a plain column in the first argument: R's function takes nothing else."""

    def wrapped(node: Node) -> Node:
        return Call("factor", (node,)) if isinstance(node, Name) else node

    if any(key == name for key, _ in call.kwargs):
        return replace(call, kwargs=tuple((key, wrapped(v) if key == name else v) for key, v in call.kwargs))
    return replace(call, args=(wrapped(call.args[0]), *call.args[1:]))


def _contrast(call: Call) -> Call:
    """Spell the contrast as R does: patsy's ``Sum`` is ``contr.sum``, and ``Treatment("b")`` a matrix of its own."""
    call = _with_factor(call, "object")
    bound = bind(call)
    column, chosen = bound.data["object"], bound.options.get("contr")
    if isinstance(chosen, Call) and (chosen.args or chosen.kwargs):
        level = (*chosen.args, *(value for _, value in chosen.kwargs))[0]
        levels = Call("levels", (column,))
        label = String(level_text(level.value)) if isinstance(level, Number) else level
        chosen = Call("contr.treatment", (levels,), (("base", Call("match", (label, levels))),))
    elif chosen is not None:
        chosen = Name(CONTRASTS[chosen.value if isinstance(chosen, String) else str(getattr(chosen, "name", ""))])
    rest = tuple(("base", base) for base in [bound.options.get("base")] if base is not None)
    return replace(call, args=(column, *([] if chosen is None else [chosen])), kwargs=rest)
