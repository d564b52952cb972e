"""The functions a formula may call, by exact name, with R's argument names; nothing else is callable.

An argument is either *data* (an expression over columns) or an *option* (a literal). The split tells which
names in a call are columns, so `Formula.variables` needs no table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from pycombat_gam.errors import FormulaError, did_you_mean, listing
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
    children,
    deparse,
)

Literal: TypeAlias = "float | int | str | bool | list[Literal] | dict[str, Literal] | None"


@dataclass(frozen=True)
class Function:
    """One allowed function: names of its data arguments, then of its options, in R's positional order."""

    data: tuple[str, ...]
    options: tuple[str, ...] = ()
    required: int = 1
    variadic: bool = False


_X = Function(("x",))
ELEMENTWISE = (
    *("log2", "log10", "log1p", "exp", "expm1", "sqrt", "abs", "sin", "cos", "tan"),
    *("floor", "ceiling", "sign"),
    *("np.log", "np.log2", "np.log10", "np.log1p", "np.exp", "np.sqrt", "np.abs"),
)
"""Functions of one number."""
FUNCTIONS: dict[str, Function] = {
    **dict.fromkeys(ELEMENTWISE, _X),
    "log": Function(("x", "base")),
    "round": Function(("x",), ("digits",)),
    "pmin": Function((), variadic=True, required=1),
    "pmax": Function((), variadic=True, required=1),
    "I": _X,
    "as.numeric": _X,
    "factor": Function(("x",), ("levels",)),
    "as.factor": _X,
    "ordered": Function(("x",), ("levels",)),
    "relevel": Function(("x",), ("ref",)),
    "C": Function(("object",), ("contr", "base")),
    "poly": Function(("x",), ("degree", "raw")),
    "scale": Function(("x",), ("center", "scale")),
    "center": _X,
    "bs": Function(("x",), ("df", "knots", "degree", "intercept", "Boundary.knots")),
    "ns": Function(("x",), ("df", "knots", "intercept", "Boundary.knots")),
    "cr": Function(("x",), ("df", "knots", "constraints")),
}
"""Every function that a parametric term may call."""

SMOOTHS: dict[str, tuple[str, ...]] = {
    "s": ("k", "fx", "bs", "m", "by", "xt", "id", "sp", "pc", "knots"),
    "te": ("k", "bs", "m", "d", "by", "fx", "np", "xt", "id", "sp", "pc", "knots"),
    "ti": ("k", "bs", "m", "d", "by", "fx", "np", "xt", "id", "sp", "mc", "pc", "knots"),
    "t2": ("k", "bs", "m", "d", "by", "xt", "id", "sp", "full", "ord", "pc", "knots"),
}
"""mgcv's smooth constructors with their options."""

ALIASES = {
    "spline": ("s", "ns", "bs"),
    "splines": ("s", "ns", "bs"),
    "smooth": ("s",),
    "lo": ("s",),
    "loess": ("s",),
    "lowess": ("s",),
    "rcs": ("ns", "s"),
    "pspline": ("s",),
}
"""What other packages (gam, survival, rms) and habit call a curve, and what it is here."""

CONTRASTS = {
    "contr.treatment": "contr.treatment",
    "contr.sum": "contr.sum",
    "contr.helmert": "contr.helmert",
    "contr.poly": "contr.poly",
    "Treatment": "contr.treatment",
    "Sum": "contr.sum",
    "Helmert": "contr.helmert",
    "Poly": "contr.poly",
}
"""What ``C(x, …)`` takes, in R's and in patsy's spelling, and what it means."""
ARITHMETIC = ("+", "-", "*", "/", "^", "%%", "%/%")
COMPARISONS = ("<", ">", "<=", ">=", "==", "!=")
LOGICAL = ("&", "|", "!")


@dataclass(frozen=True)
class Bound:
    """A call whose arguments have found their names."""

    name: str
    data: dict[str, Node]
    options: dict[str, Node]


def bind(call: Call) -> Bound:
    """Match a call's arguments to the function's, as R does (named first, then by position).

    Raises
    ------
    FormulaError
        For a function that is not allowed, an unknown, superfluous or missing argument.
    """
    function = FUNCTIONS.get(call.name)
    if function is None:
        raise _not_allowed(call.name)
    if function.variadic:
        if call.kwargs or not call.args:
            raise FormulaError(f"{deparse(call)}: {call.name}() takes one or more unnamed expressions")
        return Bound(call.name, {str(i): node for i, node in enumerate(call.args)}, {})
    formal = (*function.data, *function.options)
    given: dict[str, Node] = {}
    for name, node in call.kwargs:
        if name not in formal:
            hint = did_you_mean(name, formal)
            raise FormulaError(
                f"{deparse(call)}: {call.name}() has no argument '{name}'{hint}; allowed are {listing(formal)}"
            )
        given[name] = node
    free = [name for name in formal if name not in given]
    if len(call.args) > len(free):
        raise FormulaError(f"{deparse(call)}: {call.name}() takes at most {len(formal)} arguments ({listing(formal)})")
    given.update(zip(free, call.args, strict=False))
    missing = [name for name in function.data[: function.required] if name not in given]
    if missing:
        raise FormulaError(f"{deparse(call)}: {call.name}() needs an expression, for example {call.name}(age)")
    data = {name: given[name] for name in function.data if name in given}
    return Bound(call.name, data, {name: given[name] for name in function.options if name in given})


def _either(names: tuple[str, ...]) -> str:
    *others, last = map(repr, names)
    return f"{', '.join(others)} or {last}" if others else last


def _not_allowed(name: str) -> FormulaError:
    if name in SMOOTHS:
        return FormulaError(
            f"{name}() is a smooth and must be a summand of its own; move it out of the expression it stands in"
        )
    if name == "offset":
        return FormulaError("offset() is not allowed in a formula; pass the offset as an argument instead")
    names = sorted(FUNCTIONS, key=str.lower)
    meant = ALIASES.get(name.lower())
    hint = did_you_mean(name, names) if meant is None else f"; did you mean {_either(meant)}?"
    return FormulaError(
        f"the function {name}() is not allowed in a formula{hint}; allowed are "
        f"{listing(names, limit=100)} and the smooths {listing(SMOOTHS)}; compute anything "
        "else into a column first"
    )


def check_expression(node: Node) -> None:
    """Raise `FormulaError` unless an expression is made of allowed functions, operators and literals."""
    if isinstance(node, Call):
        bound = bind(node)
        for argument in bound.data.values():
            check_expression(argument)
        for name, argument in bound.options.items():
            check_option(name, argument, node)
        return
    if isinstance(node, (Binary, Unary)) and node.op not in (*ARITHMETIC, *COMPARISONS, *LOGICAL):
        raise FormulaError(
            f"the operator '{node.op}' is not allowed in {deparse(node)}; inside a function only "
            f"{' '.join((*ARITHMETIC, *COMPARISONS, *LOGICAL))} are"
        )
    for child in children(node):
        check_expression(child)


def variables(node: Node) -> Iterator[str]:
    """Yield the columns an (allowed) expression uses, in order of appearance, repeats included."""
    if isinstance(node, Name):
        yield node.name
    elif isinstance(node, Call):
        for argument in bind(node).data.values():
            yield from variables(argument)
    else:
        for child in children(node):
            yield from variables(child)


def is_contrast(node: Node) -> bool:
    """Tell whether an option names a contrast: ``contr.sum``, ``"contr.sum"``, ``Treatment("b")``."""
    name = node.value if isinstance(node, String) else getattr(node, "name", None)
    return name in CONTRASTS


def check_option(name: str, node: Node, call: Call) -> None:
    """Raise `FormulaError` unless an option is a literal or, where one is asked for, names a contrast."""
    if name == "contr":
        if not is_contrast(node):
            raise FormulaError(
                f"{deparse(call)}: {deparse(node)} is not a contrast"
                f"{did_you_mean(deparse(node), list(CONTRASTS))}; allowed are {listing(CONTRASTS)}"
            )
        if isinstance(node, Call):
            for argument in (*node.args, *(value for _, value in node.kwargs)):
                literal(argument, call)
        return
    literal(node, call)


def literal(node: Node, call: Call) -> Literal:
    """Read an option's value: a number, text, TRUE, FALSE, NULL, ``c(…)``, ``list(…)`` or ``1:3``.

    Parameters
    ----------
    node : Node
        The option.
    call : Call
        The call it belongs to, for the message.

    Returns
    -------
    Literal
        Plain data; whole numbers are ints, NA is None.
    """
    if isinstance(node, Number):
        return int(node.value) if node.value.is_integer() and abs(node.value) < 2**53 else node.value
    if isinstance(node, String):
        return node.value
    if isinstance(node, Paren):
        return literal(node.inner, call)
    if isinstance(node, Constant) and node.name in _VALUES:
        return _VALUES[node.name]
    if isinstance(node, Name) and node.name in ("T", "F"):
        return node.name == "T"
    if isinstance(node, Unary) and node.op in ("-", "+"):
        value = literal(node.operand, call)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return -value if node.op == "-" else value
    if isinstance(node, Binary) and node.op == ":":
        return _range(literal(node.left, call), literal(node.right, call), node)
    if isinstance(node, Binary) and node.op in ("*", "/", "+", "-", "^"):
        return _arithmetic(node, call)
    if isinstance(node, Call) and node.name in ("c", "list"):
        positional = [literal(argument, call) for argument in node.args]
        if not node.kwargs:
            return positional
        if not positional and node.name == "list":
            return {name: literal(value, call) for name, value in node.kwargs}
    raise FormulaError(
        f"{deparse(call)}: the option {deparse(node)} is not a literal; allowed are numbers, text in quotes, "
        "TRUE, FALSE, NULL and c(...)"
    )


_VALUES: Mapping[str, Literal] = {
    "TRUE": True,
    "FALSE": False,
    "NULL": None,
    "NA": None,
    "pi": 3.141592653589793,
}
MAX_RANGE = 10_000


def _range(first: Literal, last: Literal, node: Node) -> Literal:
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in (first, last))
    if not whole or not isinstance(first, int) or not isinstance(last, int) or abs(last - first) > MAX_RANGE:
        raise FormulaError(f"the range {deparse(node)} is not allowed; give two whole numbers, as in 1:3")
    step = 1 if last >= first else -1
    return list(range(first, last + step, step))


def _arithmetic(node: Binary, call: Call) -> Literal:
    left, right = literal(node.left, call), literal(node.right, call)
    if not isinstance(left, (int, float)) or not isinstance(right, (int, float)):
        raise FormulaError(f"{deparse(call)}: {deparse(node)} is not a number; give the option as a number")
    x, y = float(left), float(right)
    try:
        value = {"+": x + y, "-": x - y, "*": x * y}.get(node.op)
        if value is None:
            value = x / y if node.op == "/" else x**y
    except (ZeroDivisionError, OverflowError):
        value = float("nan")
    if isinstance(value, complex) or value != value or abs(value) == float("inf"):
        raise FormulaError(f"{deparse(call)}: {deparse(node)} is not a finite number; give the option as a number")
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
