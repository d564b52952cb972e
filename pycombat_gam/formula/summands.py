"""Summands of a formula that are not terms of columns: smooths and offsets."""

from __future__ import annotations

from pycombat_gam.errors import FormulaError
from pycombat_gam.formula.formula import SmoothTerm
from pycombat_gam.formula.functions import SMOOTHS, check_expression, check_package, literal, variables
from pycombat_gam.formula.nodes import Binary, Call, Constant, Name, Node, deparse, height
from pycombat_gam.formula.parse import MAX_HEIGHT
from pycombat_gam.words import did_you_mean, listing


def check_height(node: Node) -> None:
    """Raise `FormulaError` for an expression that is too deep."""
    if height(node) > MAX_HEIGHT:
        raise FormulaError(f"an expression in the formula joins more than {MAX_HEIGHT} parts; simplify it")


def read_offset(call: Call) -> Node:
    """Read ``offset(w)``; R knows it by this name alone and takes ``stats::offset(w)`` for a covariate."""
    if call.package:
        raise FormulaError(f"{deparse(call)}: R takes this for a covariate; write offset() without its package")
    if len(call.args) != 1 or call.kwargs:
        raise FormulaError(f"{deparse(call)}: offset() takes one expression, as in offset(log(icv))")
    (node,) = call.args
    check_height(node)
    check_expression(node)
    if not any(True for _ in variables(node)):
        raise FormulaError(f"{deparse(call)} names no column; give one that does or remove it")
    return node


def read_smooth(call: Call) -> SmoothTerm:
    """Read ``s(age, by = sex, k = 10)`` and the like."""
    check_package(call, "mgcv")
    allowed = SMOOTHS[call.name]
    if not call.args:
        raise FormulaError(f"{deparse(call)} names no column; write for example {call.name}(age)")
    for name, value in call.kwargs:
        if name not in allowed:
            hint = did_you_mean(name, allowed)
            raise FormulaError(
                f"{deparse(call)}: {call.name}() has no argument '{name}'{hint}; allowed are {listing(allowed, 20)}"
            )
        if name != "by":
            literal(value, call)
    by = dict(call.kwargs).get("by")
    by = None if by == Constant("NA") else by
    for node in (*call.args, *([by] if by is not None else [])):
        if isinstance(node, Name) and node.name in (".", "..."):
            raise FormulaError(f"{deparse(call)}: '.' is not allowed; name the columns")
        check_expression(node)
        if not any(True for _ in variables(node)):
            raise FormulaError(
                f"{deparse(call)}: {deparse(node)} names no column; give options by name, as in {call.name}(age, k=5)"
            )
    return SmoothTerm(call.name, call.args, by, tuple(pair for pair in call.kwargs if pair[0] != "by"))


def smooth_interaction(whole: Binary, smooth: SmoothTerm) -> FormulaError:
    """Say how to write an interaction with a smooth."""
    other = whole.left if isinstance(whole.right, Call) and whole.right.name == smooth.kind else whole.right
    call = SmoothTerm(smooth.kind, smooth.args, other, smooth.options).call
    main = f"{deparse(other)} + " if whole.op == "*" else ""
    return FormulaError(
        f"{deparse(whole)}: a smooth cannot be part of an interaction; write "
        f"{main}{deparse(call)} for a curve by "
        f"{deparse(other)}"
    )
