"""Formula algebra, R's way: `parse_formula` turns a formula into terms, smooths and random effects.

A term is a set of factors; a set is kept as bits of an int, one bit per factor in order of appearance, as R's
`terms.formula` does, so that ``~ c:a + a + b:c`` gives the labels R gives. Smooths (``s te ti t2``) and bars
(``(1|g)``) are lifted out wherever they stand as a summand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pycombat_gam.errors import FormulaError
from pycombat_gam.formula.formula import Formula, RandomTerm, SmoothTerm, Term
from pycombat_gam.formula.functions import MEMBER, SMOOTHS, check_expression, variables
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
    spine,
    walk,
)
from pycombat_gam.formula.parse import parse, quoted
from pycombat_gam.formula.summands import check_height, read_offset, read_smooth, smooth_interaction

MAX_TERMS = 2_000
_ALGEBRA = frozenset(("+", "-", "*", "/", ":", "^", "%in%"))


def parse_formula(text: str) -> Formula:
    """Parse an R formula.

    Parameters
    ----------
    text : str
        ``"~ age + sex"`` or ``"y ~ s(age) + (1|site)"``.

    Returns
    -------
    Formula

    Raises
    ------
    FormulaError
        If it is not a formula, uses a function or operator that is not allowed, or expands to too many terms.

    Notes
    -----
    Follows R's `terms.formula`, mgcv's `interpret.gam` and lme4's `findbars`.

    Examples
    --------
    >>> f = parse_formula("~ sex*dx + I(age^2) + s(icv, k=5) + (1|site) - dx")
    >>> [term.label for term in f.parametric], f.smooths[0].label, f.random[0].label
    (['sex', 'I(age^2)', 'sex:dx'], 's(icv)', '1 | site')
    >>> f.variables
    ('sex', 'dx', 'age', 'icv', 'site')
    """
    tree = parse(text)
    if isinstance(tree, Unary) and tree.op == "~":
        response, right = None, tree.operand
    elif isinstance(tree, Binary) and tree.op == "~":
        response, right = tree.left, tree.right
    else:
        raise FormulaError(f"{quoted(text)} is not a formula: it has no '~'; write {quoted('~ ' + text)}")
    if any(
        isinstance(node, (Unary, Binary)) and node.op == "~"
        for side in (response, right)
        if side
        for node in walk(side)
    ):
        raise FormulaError(f"the formula {quoted(text)} has more than one '~'; keep one")
    if response is not None:
        _check_response(response)
    algebra = _Algebra()
    side = algebra.expand(right)
    parametric = algebra.ordered(side.terms)
    smooths, random = tuple(side.smooths.values()), tuple(side.random.values())
    offsets = tuple(side.offsets.values())
    used = _used(response, parametric, smooths, random)
    used |= {name for node in offsets for name in variables(node)}
    shown = [name for name in _appearance(tree) if name in used]
    return Formula(
        response,
        side.intercept is not False,
        parametric,
        smooths,
        random,
        tuple(dict.fromkeys(shown)),
        deparse(tree),
        tuple(_idle_powers(right)),
        offsets,
    )


def _idle_powers(node: Node) -> Iterator[str]:
    """Find powers of a single term, which the algebra reads as the term itself."""
    if isinstance(node, Paren):
        yield from _idle_powers(node.inner)
    elif isinstance(node, Unary):
        yield from _idle_powers(node.operand)
    elif isinstance(node, Binary) and node.op in _ALGEBRA:
        if node.op == "^" and isinstance(node.left, (Name, Call)):
            yield deparse(node)
        yield from _idle_powers(node.left)
        yield from _idle_powers(node.right)


def _check_response(node: Node) -> None:
    check_height(node)
    if isinstance(node, Call) and node.name == "cbind":
        if not node.args or node.kwargs:
            raise FormulaError(f"the response {deparse(node)} is empty; write cbind(a, b) with unnamed columns")
        for argument in node.args:
            check_expression(argument)
        return
    check_expression(node)
    if not any(True for _ in variables(node)):
        raise FormulaError(f"the response {deparse(node)} names no column; write for example 'y ~ age'")


def _columns(node: Node) -> Iterator[str]:
    """Columns of an expression or a response."""
    if isinstance(node, Call) and node.name == "cbind":
        for argument in node.args:
            yield from variables(argument)
    else:
        yield from variables(node)


def _used(
    response: Node | None,
    parametric: tuple[Term, ...],
    smooths: tuple[SmoothTerm, ...],
    random: tuple[RandomTerm, ...],
) -> set[str]:
    nodes = [] if response is None else [response]
    groups = [*parametric, *(t for r in random for t in (*r.slopes, r.group))]
    nodes += [factor for term in groups for factor in term.factors]
    nodes += [node for smooth in smooths for node in (*smooth.args, *([smooth.by] if smooth.by else []))]
    return {name for node in nodes for name in _columns(node)}


def _appearance(tree: Node) -> Iterator[str]:
    return (node.name for node in walk(tree) if isinstance(node, (Name, Constant)))


@dataclass
class _Side:
    """What an algebraic expression stands for: terms (bits), an intercept, and what was lifted out."""

    terms: list[int] = field(default_factory=list)
    intercept: bool | None = None
    smooths: dict[str, SmoothTerm] = field(default_factory=dict)
    random: dict[str, RandomTerm] = field(default_factory=dict)
    offsets: dict[str, Node] = field(default_factory=dict)

    @property
    def lifted(self) -> list[str]:
        return [*self.smooths, *self.random, *self.offsets]


class _Algebra:
    """Expands operators over terms; remembers the factors in order of appearance, one bit each."""

    def __init__(self) -> None:
        self.factors: dict[str, Node] = {}
        self.bits: dict[str, int] = {}

    def ordered(self, terms: list[int]) -> tuple[Term, ...]:
        factors = list(self.factors.values())
        by_order = sorted(terms, key=int.bit_count)
        return tuple(Term(tuple(f for i, f in enumerate(factors) if bits >> i & 1)) for bits in by_order)

    def expand(self, node: Node) -> _Side:
        """Expand a sum; the chain of summands costs no recursion."""
        first, rest = spine(node)
        start = 0
        while start < len(rest) and not all(op in ("+", "-") for op, _ in rest[start:]):
            start += 1
        head = first
        for op, right in rest[:start]:
            head = Binary(op, head, right)
        side = _Side()
        self.accumulate(side, head, plus=True)
        for op, right in rest[start:]:
            self.accumulate(side, right, plus=op == "+")
        return side

    def accumulate(self, side: _Side, node: Node, *, plus: bool) -> None:
        """Add a summand, or take it away."""
        while isinstance(node, Unary) and node.op in ("+", "-"):
            plus, node = plus == (node.op == "+"), node.operand
        if isinstance(node, Number):
            if node.value not in (0, 1):
                raise FormulaError(
                    f"the number {deparse(node)} is not a term; only 0 and 1 are (no intercept, intercept)"
                )
            side.intercept = (node.value == 1) == plus
            return
        part = self.operand(node)
        if part.intercept is not None:
            side.intercept = part.intercept == plus
        if plus:
            side.terms = _checked(dict.fromkeys([*side.terms, *part.terms]))
            side.smooths |= part.smooths
            side.random |= part.random
            side.offsets |= part.offsets
        elif part.offsets:
            raise FormulaError(f"'- {next(iter(part.offsets))}': an offset cannot be taken away; leave it out")
        else:
            gone = set(part.terms)
            side.terms = [bits for bits in side.terms if bits not in gone]
            side.smooths = {k: v for k, v in side.smooths.items() if k not in part.smooths}
            side.random = {k: v for k, v in side.random.items() if k not in part.random}

    def operand(self, node: Node) -> _Side:
        """Expand anything but a number."""
        if isinstance(node, Paren):
            inner = node.inner
            if isinstance(inner, Binary) and inner.op in ("|", "||"):
                terms = self.bar(inner)
                return _Side(random={term.label: term for term in terms})
            return self.expand(inner)
        if isinstance(node, Call) and node.name in SMOOTHS:
            smooth = read_smooth(node)
            return _Side(smooths={deparse(smooth.call): smooth})
        if isinstance(node, Call) and node.name == "offset":
            return _Side(offsets={deparse(node): read_offset(node)})
        if isinstance(node, Binary) and node.op in ("|", "||"):
            raise FormulaError(f"the random effect {deparse(node)} stands without parentheses; write it as (1 | group)")
        if isinstance(node, Binary) and node.op in _ALGEBRA:
            return self.expand(node) if node.op in ("+", "-") else self.product(node)
        return _Side(terms=[self.factor(node)])

    def product(self, node: Binary) -> _Side:
        """Expand ``* / : ^ %in%``."""
        left = self.product_operand(node.left, node)
        if node.op == "^":
            return _Side(terms=_power(left.terms, node), intercept=left.intercept)
        right = self.product_operand(node.right, node)
        both = left.intercept if right.intercept is None else right.intercept
        crossed = _cross(left.terms, right.terms)
        if node.op == ":":
            return _Side(terms=crossed, intercept=both)
        if node.op == "*":
            return _Side(terms=_checked(dict.fromkeys([*left.terms, *right.terms, *crossed])), intercept=both)
        if node.op == "%in%":
            return _Side(terms=_cross(left.terms, [_union(right.terms)]), intercept=both)
        nested = _cross([_union(left.terms)], right.terms)
        return _Side(terms=_checked(dict.fromkeys([*left.terms, *nested])), intercept=both)

    def product_operand(self, node: Node, whole: Binary) -> _Side:
        if isinstance(node, Number) and node.value in (0, 1):
            return _Side(intercept=node.value == 1)
        if isinstance(node, Number):
            raise FormulaError(f"{deparse(whole)}: a number is not a term; write I({deparse(whole)}) for arithmetic")
        if isinstance(node, Unary) and node.op in ("+", "-"):
            raise FormulaError(
                f"{deparse(whole)}: a sign inside an interaction means nothing; write I({deparse(node)}) for arithmetic"
            )
        if whole.op == MEMBER and isinstance(node, Call) and node.name == "c":
            raise FormulaError(f"{deparse(whole)}: among terms %in% nests factors; write I({deparse(whole)})")
        side = self.operand(node)
        if side.offsets:
            raise FormulaError(f"{deparse(whole)}: an offset cannot be part of an interaction; add it as a summand")
        if side.random:
            raise FormulaError(
                f"{deparse(whole)}: a random effect cannot be part of an interaction; add it as a summand, "
                f"'+ ({next(iter(side.random))})'"
            )
        if side.smooths:
            raise smooth_interaction(whole, next(iter(side.smooths.values())))
        return side

    def factor(self, node: Node) -> int:
        """Give a factor its bit."""
        node = Name("pi") if node == Constant("pi") else node
        if isinstance(node, Name) and node.name in (".", "..."):
            raise FormulaError(f"'{node.name}' is not allowed as a term; name the columns, as in '~ age + sex'")
        if isinstance(node, (String, Constant)):
            raise FormulaError(
                f"{deparse(node)} is not a term; name a column"
                + (f", for example {node.value} without the quotes" if isinstance(node, String) else "")
            )
        check_height(node)
        check_expression(node)
        if not any(True for _ in variables(node)):
            raise FormulaError(f"the term {deparse(node)} names no column; give one that does or remove it")
        label = deparse(node)
        if label not in self.bits:
            self.bits[label] = 1 << len(self.bits)
            self.factors[label] = node
        return self.bits[label]

    def bar(self, node: Binary) -> list[RandomTerm]:
        """Read ``x | g``; ``g/h`` stands for ``g`` and ``g:h``."""
        effects, groups = _Algebra(), _Algebra()
        left, right = effects.expand(node.left), groups.expand(node.right)
        for side in (left, right):
            if side.lifted:
                raise FormulaError(
                    f"({deparse(node)}): {side.lifted[0]} cannot stand inside a random effect; only columns can"
                )
        if not right.terms:
            raise FormulaError(f"({deparse(node)}) names no group; write for example (1 | site)")
        if not left.terms and left.intercept is False:
            raise FormulaError(f"({deparse(node)}) has no effect; write (1 | group) or (0 + x | group)")
        slopes = effects.ordered(left.terms)
        return [
            RandomTerm(left.intercept is not False, slopes, group, node.op) for group in groups.ordered(right.terms)
        ]


def _checked(terms: dict[int, None]) -> list[int]:
    if len(terms) > MAX_TERMS:
        raise FormulaError(f"the formula expands to more than {MAX_TERMS:,} terms; write it with fewer")
    return list(terms)


def _cross(left: list[int], right: list[int]) -> list[int]:
    if len(left) * len(right) > 50 * MAX_TERMS:
        raise FormulaError(f"the formula expands to more than {MAX_TERMS:,} terms; write it with fewer")
    return _checked(dict.fromkeys(a | b for a in left for b in right))


def _union(terms: list[int]) -> int:
    bits = 0
    for term in terms:
        bits |= term
    return bits


def _power(terms: list[int], node: Binary) -> list[int]:
    exponent = node.right.inner if isinstance(node.right, Paren) else node.right
    if not isinstance(exponent, Number) or not exponent.value.is_integer() or exponent.value < 1:
        raise FormulaError(
            f"{deparse(node)}: in a formula ^ crosses terms and needs a whole number from 1; "
            f"write I({deparse(node)}) for arithmetic"
        )
    result = terms
    for _ in range(min(int(exponent.value), 1000) - 1):
        grown = _cross(result, terms)
        if set(grown) == set(result):
            break
        result = grown
    return result
