"""The functions a formula may call, by exact name, with R's argument names; nothing else is callable.

An argument is either *data* (an expression over columns) or an *option* (a literal). The split tells which
names in a call are columns, so `Formula.variables` needs no table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from pycombat_gam.errors import FormulaError
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
from pycombat_gam.words import did_you_mean, listing

Literal: TypeAlias = "float | int | str | bool | list[Literal] | dict[str, Literal] | None"


@dataclass(frozen=True)
class Function:
    """One allowed function: names of its data arguments, then of its options, in R's positional order.

    A variadic function takes any number of unnamed data arguments, and its options by name only.
    """

    data: tuple[str, ...]
    options: tuple[str, ...] = ()
    required: int = 1
    variadic: bool = False
    package: str = "base"


_X = Function(("x",))
_SUMMARY = Function(("x",), ("na.rm",))
_STATS_SUMMARY = Function(("x",), ("na.rm",), package="stats")
SUMMARIES = ("mean", "median", "sd", "var", "min", "max")
"""Functions that give one number for a column: learned in the fit and kept for new rows."""
ELEMENTWISE = (
    *("log2", "log10", "log1p", "exp", "expm1", "sqrt", "abs", "sin", "cos", "tan"),
    *("floor", "ceiling", "trunc", "sign"),
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
    "ifelse": Function(("test", "yes", "no"), required=3),
    **dict.fromkeys(("mean", "min", "max"), _SUMMARY),
    **dict.fromkeys(("median", "sd", "var"), _STATS_SUMMARY),
    **dict.fromkeys(("as.numeric", "as.double", "as.integer", "as.character"), _X),
    "factor": Function(("x",), ("levels", "labels")),
    "as.factor": _X,
    "ordered": Function(("x",), ("levels", "labels")),
    "as.ordered": _X,
    "relevel": Function(("x",), ("ref",), package="stats"),
    "interaction": Function((), ("drop", "sep", "lex.order"), variadic=True),
    "cut": Function(("x",), ("breaks", "labels", "include.lowest", "right", "dig.lab", "ordered_result")),
    "C": Function(("object",), ("contr", "base"), package="stats"),
    "poly": Function(("x",), ("degree", "raw"), package="stats"),
    "scale": Function(("x",), ("center", "scale")),
    "center": Function(("x",), package=""),
    "bs": Function(("x",), ("df", "knots", "degree", "intercept", "Boundary.knots"), package="splines"),
    "ns": Function(("x",), ("df", "knots", "intercept", "Boundary.knots"), package="splines"),
    "cr": Function(("x",), ("df", "knots", "constraints"), package=""),
}
"""Every function that a parametric term may call, with the R package it is from (empty: not from R)."""

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
"""Names of a curve in other packages (gam, survival, rms) and in habit, and what to write here."""

INSTEAD = {
    "is.na": "covariates have no missing cells here, so it is FALSE in every row",
    "offset": "it is a summand of its own, not part of an expression or interaction",
    "c": "it writes options only; for membership write I(x %in% c(...))",
    "quantile": "write its numbers, as in cut(age, breaks = c(20, 40, 60))",
}
"""Functions that R's users try, and why they are not allowed there."""

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
MEMBER = "%in%"


@dataclass(frozen=True)
class Bound:
    """A call with its arguments matched to names."""

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
    check_package(call, function.package)
    if function.variadic:
        unknown = [name for name, _ in call.kwargs if name not in function.options]
        if unknown or not call.args:
            rest = f" and the options {listing(function.options)}" if function.options else ""
            raise FormulaError(f"{deparse(call)}: {call.name}() takes one or more unnamed expressions{rest}")
        return Bound(call.name, {str(i): node for i, node in enumerate(call.args)}, dict(call.kwargs))
    formal = (*function.data, *function.options)
    matched: dict[str, Node] = {}
    for name, node in call.kwargs:
        if name not in formal:
            hint = did_you_mean(name, formal)
            raise FormulaError(
                f"{deparse(call)}: {call.name}() has no argument '{name}'{hint}; allowed are {listing(formal)}"
            )
        matched[name] = node
    free = [name for name in formal if name not in matched]
    if len(call.args) > len(free):
        raise FormulaError(f"{deparse(call)}: {call.name}() takes at most {len(formal)} arguments ({listing(formal)})")
    matched.update(zip(free, call.args, strict=False))
    missing = [name for name in function.data[: function.required] if name not in matched]
    if missing:
        example = "ifelse(age > 40, 1, 0)" if call.name == "ifelse" else f"{call.name}(age)"
        raise FormulaError(f"{deparse(call)}: {call.name}() needs an expression, for example {example}")
    data = {name: matched[name] for name in function.data if name in matched}
    return Bound(call.name, data, {name: matched[name] for name in function.options if name in matched})


def check_package(call: Call, package: str) -> None:
    """Raise `FormulaError` where a call names a package that its function is not from."""
    if call.package and call.package != package:
        raise FormulaError(
            f"{call.package}::{call.name}() is not allowed in a formula; write {call.name}()"
            + (f" or {package}::{call.name}()" if package else "")
        )


def _either(names: tuple[str, ...]) -> str:
    *others, last = map(repr, names)
    return f"{', '.join(others)} or {last}" if others else last


def _not_allowed(name: str) -> FormulaError:
    if name in SMOOTHS:
        return FormulaError(
            f"{name}() is a smooth and must be a summand of its own; move it out of the expression it stands in"
        )
    if name in INSTEAD:
        return FormulaError(f"the function {name}() is not allowed here: {INSTEAD[name]}")
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
    if isinstance(node, Binary) and node.op == MEMBER:
        check_expression(node.left)
        members(node)
        return
    if isinstance(node, (Binary, Unary)) and node.op not in (*ARITHMETIC, *COMPARISONS, *LOGICAL):
        raise FormulaError(
            f"the operator '{node.op}' is not allowed in {deparse(node)}; inside a function only "
            f"{' '.join((*ARITHMETIC, *COMPARISONS, *LOGICAL, MEMBER))} are"
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
    elif isinstance(node, Binary) and node.op == MEMBER:
        yield from variables(node.left)
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
    option(name, node, call)


def option(name: str, node: Node, call: Call) -> Literal:
    """Read an option's value; only the breaks of `cut` may be infinite."""
    return literal(node, call, infinite=name == "breaks")


def members(node: Binary) -> list[float | int | str | bool]:
    """Read the right side of ``x %in% c("a", "b")``, inside an expression."""
    values = literal(node.right, Call(MEMBER, (node.left, node.right)))
    items = values if isinstance(values, list) else [values]
    plain = [item for item in items if isinstance(item, (float, int, str))]
    if not plain or len(plain) < len(items) or len({isinstance(item, str) for item in plain}) > 1:
        raise FormulaError(f'{deparse(node)}: the right side must be numbers or texts, as in c("a", "b")')
    return plain


def literal(node: Node, call: Call, *, infinite: bool = False) -> Literal:
    """Read an option's value: a number, text, TRUE, FALSE, NULL, ``c(…)``, ``list(…)`` or ``1:3``.

    Parameters
    ----------
    node : Node
        The option.
    call : Call
        The call it belongs to, for the message.
    infinite : bool
        Whether ``Inf`` may be one.

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
        return literal(node.inner, call, infinite=infinite)
    if infinite and node == Constant("Inf"):
        return float("inf")
    if isinstance(node, Constant) and node.name in _VALUES:
        return _VALUES[node.name]
    if isinstance(node, Name) and node.name in ("T", "F"):
        return node.name == "T"
    if isinstance(node, Unary) and node.op in ("-", "+"):
        value = literal(node.operand, call, infinite=infinite)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return -value if node.op == "-" else value
    if isinstance(node, Binary) and node.op == ":":
        return _range(literal(node.left, call), literal(node.right, call), node)
    if isinstance(node, Binary) and node.op in ("*", "/", "+", "-", "^"):
        return _arithmetic(node, call)
    if isinstance(node, Call) and node.name in ("c", "list") and node.package in ("", "base"):
        positional = [literal(argument, call, infinite=infinite) for argument in node.args]
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
