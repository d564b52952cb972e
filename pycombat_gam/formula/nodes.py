"""The formula's syntax tree, and `deparse`, which prints a tree as R prints it.

The nodes are what R's parser makes of the text, parentheses included; nothing here knows what an operator
means. `deparse` follows R's `deparse()` (spaces around ``+``, none around ``/`` and ``^``, backticks only
where a name is not syntactic), because R's model-matrix labels are made of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Name:
    """A column (or, before an opening parenthesis, a function): ``age``, `` `5th-Ventricle` ``."""

    name: str


@dataclass(frozen=True)
class Number:
    """A numeric literal; R's ``1L`` is the number 1."""

    value: float


@dataclass(frozen=True)
class String:
    """A literal in single or double quotes."""

    value: str


@dataclass(frozen=True)
class Constant:
    """One of R's reserved values (`CONSTANTS`) or ``pi``."""

    name: str


@dataclass(frozen=True)
class Call:
    """A function call, ``splines::ns(age, df = 4)``; named arguments keep their order, and the package its place."""

    name: str
    args: tuple[Node, ...] = ()
    kwargs: tuple[tuple[str, Node], ...] = ()
    package: str = ""


@dataclass(frozen=True)
class Unary:
    """``-x``, ``+x``, ``!x``."""

    op: str
    operand: Node


@dataclass(frozen=True)
class Binary:
    """``left op right``."""

    op: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Paren:
    """Parentheses, which R keeps in the tree and prints back."""

    inner: Node


Node: TypeAlias = Name | Number | String | Constant | Call | Unary | Binary | Paren

CONSTANTS = ("TRUE", "FALSE", "NULL", "NA", "NaN", "Inf", "pi")
_RESERVED = frozenset(
    (
        *CONSTANTS,
        *("if", "else", "repeat", "while", "function", "for", "next", "break", "in"),
        *("NA_integer_", "NA_real_", "NA_character_", "NA_complex_"),
    )
)
_SYNTACTIC = re.compile(r"(?:[^\W\d_]|\.(?!\d))[\w.]*\Z")

PRECEDENCE = {
    "~": 5,
    "||": 10,
    "|": 10,
    "&&": 20,
    "&": 20,
    **dict.fromkeys(("<", ">", "<=", ">=", "==", "!="), 40),
    "+": 50,
    "-": 50,
    "*": 60,
    "/": 60,
    **dict.fromkeys(("%%", "%/%", "%in%"), 70),
    ":": 80,
    "^": 100,
}
"""How strongly R's binary operators bind (`?Syntax` in R)."""
UNARY_PRECEDENCE = {"~": 5, "!": 30, "-": 90, "+": 90}
_CLOSE = frozenset(("/", "^", ":", "%%", "%/%"))
_NAME_ESCAPES = {"\\": "\\\\", "`": "\\`", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def is_syntactic(name: str) -> bool:
    """Tell whether R takes the name without backticks (`make.names` leaves it alone).

    >>> is_syntactic("age.years"), is_syntactic("5th-Ventricle"), is_syntactic("_x")
    (True, False, False)
    """
    return name not in _RESERVED and _SYNTACTIC.match(name) is not None


def number_text(value: float) -> str:
    """Print a number as R does: 15 significant digits, the shorter of fixed and scientific notation.

    A number that 15 digits don't reproduce is printed with as many as it needs.

    >>> number_text(1.0), number_text(0.001), number_text(100000.0), number_text(123456.0)
    ('1', '0.001', '1e+05', '123456')
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    digits = next((d for d in range(1, 16) if float(f"{value:.{d - 1}e}") == value), 0)
    digits = digits or next(d for d in (16, 17) if float(f"{value:.{d - 1}e}") == value)
    return _shorter_notation(value, digits)


def level_text(value: float) -> str:
    """Print a number as R's `as.character` does for a factor level: at most 15 significant digits.

    >>> level_text(0.1 + 0.2), level_text(2.5), level_text(1e5)
    ('0.3', '2.5', '1e+05')
    """
    return number_text(float(f"{value:.14e}"))


def _shorter_notation(value: float, digits: int) -> str:
    scientific = f"{value:.{digits - 1}e}"
    exponent = int(scientific.split("e")[1])
    fixed = f"{value:.{max(digits - 1 - exponent, 0)}f}"
    return fixed if len(fixed) <= len(scientific) else scientific


def name_text(name: str) -> str:
    """Print a name, in backticks where R needs them.

    >>> name_text("age"), name_text("5th-Ventricle")
    ('age', '`5th-Ventricle`')
    """
    if is_syntactic(name):
        return name
    return "`" + "".join(_NAME_ESCAPES.get(c, c) for c in name) + "`"


def spine(node: Node) -> tuple[Node, list[tuple[str, Node]]]:
    """Unwind a left-leaning chain ``a + b - c`` into its first operand and (operator, operand) pairs.

    A formula with a thousand summands is a tree a thousand deep; code that loops over the spine needs no
    recursion for it.
    """
    rest: list[tuple[str, Node]] = []
    while isinstance(node, Binary):
        rest.append((node.op, node.right))
        node = node.left
    return node, rest[::-1]


def walk(node: Node) -> Iterator[Node]:
    """Yield the node and everything below it, left to right."""
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(reversed(children(current)))


def height(node: Node) -> int:
    """Count the levels of a tree, without recursion."""
    levels, current = 0, [node]
    while current:
        levels += 1
        current = [child for parent in current for child in children(parent)]
    return levels


def children(node: Node) -> list[Node]:
    """List a node's direct operands and arguments, left to right."""
    if isinstance(node, Binary):
        return [node.left, node.right]
    if isinstance(node, Unary):
        return [node.operand]
    if isinstance(node, Paren):
        return [node.inner]
    if isinstance(node, Call):
        return [*node.args, *(value for _, value in node.kwargs)]
    return []


def deparse(node: Node) -> str:
    """Print a tree as R's `deparse` does; parsing the text gives the tree back.

    >>> from pycombat_gam.formula.parse import parse
    >>> deparse(parse("I( age **2)+poly(age,degree=2)"))
    'I(age^2) + poly(age, degree = 2)'
    """
    if isinstance(node, Binary):
        return _deparse_chain(node)
    if isinstance(node, Unary):
        return node.op + _operand(node.operand, _strength(node), right=True)
    if isinstance(node, Paren):
        return f"({deparse(node.inner)})"
    if isinstance(node, Call):
        package = f"{name_text(node.package)}::" if node.package else ""
        return f"{package}{name_text(node.name)}({', '.join(_arguments(node))})"
    if isinstance(node, Number):
        return number_text(node.value)
    if isinstance(node, String):
        return '"' + "".join(_ESCAPES.get(c, c) for c in node.value) + '"'
    return node.name if isinstance(node, Constant) else name_text(node.name)


def _arguments(call: Call) -> Iterator[str]:
    yield from (deparse(argument) for argument in call.args)
    yield from (f"{name_text(name)} = {deparse(value)}" for name, value in call.kwargs)


def _deparse_chain(node: Binary) -> str:
    first, rest = spine(node)
    text, previous = deparse(first), _strength(first)
    for op, operand in rest:
        strength = PRECEDENCE[op]
        loose = previous < strength or (previous == strength and op in _NOT_LEFT)
        shown = f"({text})" if loose else text
        blank = "" if op in _CLOSE else " "
        text = f"{shown}{blank}{op}{blank}{_operand(operand, strength, right=op != '^')}"
        previous = strength
    return text


_NOT_LEFT = frozenset(("^", "<", ">", "<=", ">=", "==", "!="))


def _operand(node: Node, strength: int, *, right: bool) -> str:
    """Print an operand on the right-hand side; parenthesise what binds less than its operator."""
    inner = _strength(node)
    chained = isinstance(node, Binary) and inner == strength and right
    prefix = isinstance(node, Unary) and inner >= min(strength, 90)
    loose = (inner < strength or chained) and not prefix
    return f"({deparse(node)})" if loose else deparse(node)


def _strength(node: Node) -> int:
    if isinstance(node, Binary):
        return PRECEDENCE[node.op]
    return UNARY_PRECEDENCE[node.op] if isinstance(node, Unary) else 1000  # binds by itself
