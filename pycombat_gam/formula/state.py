"""Checks of options a formula gives and of learned state that a file gives."""

from __future__ import annotations

import sys
from itertools import pairwise

from pycombat_gam.errors import FormulaError, ModelFileError

MAX_NUMBERS = 10_000


def whole(value: object, name: str, expression: str) -> int:
    """Require an option to be a whole number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise FormulaError(f"{expression}: {name} must be a whole number, as in {name}=5")


def real(value: object, name: str, expression: str) -> float:
    """Require an option to be one number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise FormulaError(f"{expression}: {name} must be TRUE, FALSE or a number")


def flag(value: object, name: str, expression: str) -> bool:
    """Require an option to be TRUE or FALSE."""
    if isinstance(value, bool):
        return value
    raise FormulaError(f"{expression}: {name} must be TRUE or FALSE")


def numbers(value: object, name: str, expression: str) -> list[float]:
    """Require an option to be one number or ``c(…)`` of numbers; they come back sorted."""
    items = value if isinstance(value, list) else [value]
    found = [float(item) for item in items if isinstance(item, (int, float)) and not isinstance(item, bool)]
    if len(found) == len(items):
        return sorted(found)
    raise FormulaError(f"{expression}: {name} must be numbers, as in {name}=c(20, 40)")


def finite(value: object) -> float:
    """Require a stored value to be one finite number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
        return float(value)
    raise ModelFileError(f"{str(value)[:40]!r} is not a finite number")


def floats(value: object) -> list[float]:
    """Require a stored value to be a list of finite numbers."""
    if not isinstance(value, list) or len(value) > MAX_NUMBERS:
        raise ModelFileError("a list of numbers is missing")
    return [finite(item) for item in value]


def positive(value: object) -> None:
    """Require stored numbers to be positive."""
    if min(floats(value), default=1.0) <= 0:
        raise ModelFileError("a number that must be positive is not")


def increasing(value: object, at_least: int) -> list[float]:
    """Require stored numbers to be strictly increasing."""
    items = floats(value)
    if len(items) < at_least or any(a >= b for a, b in pairwise(items)):
        raise ModelFileError("knots do not increase")
    return items


def texts(value: object) -> list[str]:
    """Require a stored value to be a list of different texts."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value) or len(set(value)) != len(value):
        raise ModelFileError("a list of different names is missing")
    return list(value)
