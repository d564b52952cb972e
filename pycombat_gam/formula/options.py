"""Checks of the options that a formula gives to a function."""

from __future__ import annotations

from pycombat_gam.errors import FormulaError


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
    plain = [float(item) for item in items if isinstance(item, (int, float)) and not isinstance(item, bool)]
    if len(plain) == len(items):
        return sorted(plain)
    raise FormulaError(f"{expression}: {name} must be numbers, as in {name}=c(20, 40)")
