"""Walk an expression's tree over a table's columns. Nothing is ever given to Python's `eval`.

What an expression learns from the rows (levels, knots, …) is kept in `states`, plain data by the
expression's text. While learning, an expression that has no state yet learns it and then applies it;
afterwards it only applies it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from pycombat_gam.errors import DataError, DesignError, FormulaError
from pycombat_gam.formula.columns import Columns, Factor, Groups, as_groups, label_of, number_of
from pycombat_gam.formula.factors import FACTORS, FactorFunctions
from pycombat_gam.formula.functions import (
    ARITHMETIC,
    MEMBER,
    SUMMARIES,
    Bound,
    Literal,
    bind,
    members,
    option,
    variables,
)
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
)
from pycombat_gam.formula.rounding import round_decimal
from pycombat_gam.formula.transforms import TRANSFORMS
from pycombat_gam.types import BoolArray, FloatArray, JsonDict
from pycombat_gam.words import listing

Value: TypeAlias = "FloatArray | BoolArray | Groups | Factor | float | bool | str"
Operation: TypeAlias = Callable[..., Any]

_BINARY: dict[str, Operation] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "^": np.power,
    "%%": np.mod,
    "%/%": np.floor_divide,
    "<": np.less,
    ">": np.greater,
    "<=": np.less_equal,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
    "&": np.logical_and,
    "|": np.logical_or,
}
_ELEMENTWISE: dict[str, Operation] = {
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "exp": np.exp,
    "expm1": np.expm1,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "floor": np.floor,
    "ceiling": np.ceil,
    "trunc": np.trunc,
    "sign": np.sign,
}
_SUMMARIES: dict[str, Operation] = {
    "mean": np.mean,
    "median": np.median,
    "sd": lambda x: np.std(x, ddof=1),
    "var": lambda x: np.var(x, ddof=1),
    "min": np.min,
    "max": np.max,
}
_CONSTANTS: dict[str, float | bool] = {"TRUE": True, "FALSE": False, "pi": float(np.pi), "Inf": float("inf")}


class Evaluator(FactorFunctions):
    """Evaluates expressions over one table.

    Parameters
    ----------
    columns : Columns
        The table.
    states : dict
        Learned state by expression; grows while learning.
    learning : bool
        Whether an expression without state may learn it.
    """

    def __init__(self, columns: Columns, states: dict[str, JsonDict], *, learning: bool) -> None:
        self.columns = columns
        self.states = states
        self.learning = learning

    def evaluate(self, node: Node) -> Value:
        """Evaluate an expression that `check_expression` has passed."""
        if isinstance(node, Name):
            return self.columns.column(node.name)
        if isinstance(node, Number):
            return node.value
        if isinstance(node, String):
            return node.value
        if isinstance(node, Paren):
            return self.evaluate(node.inner)
        if isinstance(node, Constant):
            if node.name not in _CONSTANTS:
                raise FormulaError(f"{node.name} cannot be computed with; only TRUE, FALSE, pi and Inf can")
            return _CONSTANTS[node.name]
        if isinstance(node, Unary):
            return self._unary(node)
        return self._binary(node) if isinstance(node, Binary) else self._call(node, bind(node))

    def vector(self, node: Node, whole: Node) -> FloatArray | float:
        """Evaluate to numbers; logicals count 0 and 1."""
        value = self.evaluate(node)
        if isinstance(value, (Groups, Factor, str)):
            raise DataError(self._text_message(node, whole, value))
        if isinstance(value, np.ndarray):
            if value.ndim > 1:
                raise FormulaError(
                    f"{deparse(whole)}: {deparse(node)} has several columns, which cannot "
                    "be computed with; use it as a "
                    "term of its own"
                )
            return value.astype(np.float64)
        return float(value)

    def finite_vector(self, node: Node, whole: Node) -> FloatArray:
        """Evaluate to numbers (n,), all of them finite."""
        x = np.atleast_1d(np.asarray(self.vector(node, whole)))
        self.require_finite(x, node)
        return x

    def require_finite(self, values: FloatArray, node: Node) -> None:
        """Raise `DataError` at infinite or undefined values; the message shows the columns there."""
        bad = ~np.isfinite(values if values.ndim == 1 else values.sum(axis=1))
        if not bad.any():
            return
        names = list(dict.fromkeys(variables(node)))
        at = np.flatnonzero(bad)[:3]
        shown = (f"{name}: {listing(self.columns.series(name).iloc[at])}" for name in names[:3])
        raise DataError(
            f"{deparse(node)} is not finite in {self.columns.where(bad)}, where {'; '.join(shown)}; "
            "fix the cells, leave the rows out, or transform the column differently"
        )

    def _text_message(self, node: Node, whole: Node, value: Groups | Factor | str) -> str:
        what = deparse(node)
        if isinstance(value, str):
            return f"{deparse(whole)}: {what} is text where a number is needed; give a number"
        cells = value.values if isinstance(value, Groups) else value.levels
        words = [v for v in cells if not isinstance(v, str) or number_of(v) is None] or cells
        return (
            f"{deparse(whole)} needs numbers, but {what} holds text or groups "
            f"({listing(map(repr, words), 3)}); "
            "fix the cells, or use it as a factor"
        )

    def _unary(self, node: Unary) -> Value:
        value = self.vector(node.operand, node)
        if node.op == "!":
            return np.logical_not(self._defined(value, node.operand))
        return np.negative(value) if node.op == "-" else value

    def _defined(self, value: FloatArray | float, node: Node) -> FloatArray | float:
        """Stop at undefined values before a comparison calls them FALSE."""
        if isinstance(value, np.ndarray) and np.isnan(value).any():
            self.require_finite(value, node)
        return value

    def _binary(self, node: Binary) -> Value:
        if node.op == MEMBER:
            return self._member(node)
        operation = _BINARY.get(node.op)
        if operation is None:
            raise FormulaError(f"the operator '{node.op}' is not allowed in {deparse(node)}")
        if node.op in ("==", "!="):
            matched = self._text_equal(node)
            if matched is not None:
                return matched if node.op == "==" else ~matched
        left, right = self.vector(node.left, node), self.vector(node.right, node)
        with np.errstate(all="ignore"):
            if node.op in ARITHMETIC:
                result: FloatArray = operation(np.float64(left) if isinstance(left, float) else left, right)
                return result
            compared: BoolArray = operation(self._defined(left, node.left), self._defined(right, node.right))
            return compared

    def _text_equal(self, node: Binary) -> BoolArray | None:
        """Compare groups with a text, or with a number as R prints it: ``sex == "M"``, ``scanner == 2``."""
        left, right = self.evaluate(node.left), self.evaluate(node.right)
        if isinstance(left, (str, float, bool)):
            left, right = right, left
        if not isinstance(right, (str, float, bool)) or not isinstance(left, (Groups, Factor)):
            return None
        return _label_among(left, {label_of(right)})

    def _member(self, node: Binary) -> BoolArray:
        """Tell whether values are among those listed: ``dx %in% c("a", "b")``."""
        items, value = members(node), self.evaluate(node.left)
        if isinstance(value, (Groups, Factor)):
            return _label_among(value, {label_of(item) for item in items})
        numbers = [float(item) for item in items if not isinstance(item, str)]
        if not numbers:
            raise FormulaError(f"{deparse(node)}: {deparse(node.left)} is a number; list numbers on the right")
        return np.isin(self.finite_vector(node.left, node), numbers)

    def _call(self, node: Call, bound: Bound) -> Value:
        options = {key: option(key, value, node) for key, value in bound.options.items() if key != "contr"}
        first = next(iter(bound.data.values()))
        name = node.name.removeprefix("np.")
        if name == "I":
            return self.evaluate(first)
        if name in FACTORS:
            return self.make_factor(node, first, bound, options)
        if name in TRANSFORMS:
            return self._transform(node, first, options)
        if name in SUMMARIES:
            return self._summary(node, first, options)
        if name in ("as.numeric", "as.double", "as.integer"):
            number = self._as_numeric(node, first)
            return np.trunc(number) if name == "as.integer" else number
        if name == "as.character":
            return self.as_character(first)
        if name == "cut":
            return self.cut(node, first, options)
        if name == "ifelse":
            return self._ifelse(node, *bound.data.values())
        values = [self.vector(argument, node) for argument in bound.data.values()]
        with np.errstate(all="ignore"):
            if name in ("pmin", "pmax"):
                extreme = np.minimum if name == "pmin" else np.maximum
                result = values[0]
                for value in values[1:]:
                    result = extreme(result, value)
                return result
            if name == "round":
                return self._round(node, values[0], options.get("digits", 0))
            computed: FloatArray = _ELEMENTWISE[name](values[0])
            return computed / np.log(values[1]) if len(values) > 1 else computed

    def _round(self, node: Call, value: FloatArray | float, digits: Literal) -> FloatArray:
        if not isinstance(digits, int) or isinstance(digits, bool) or abs(digits) > 300:
            raise FormulaError(f"{deparse(node)}: digits must be a whole number, as in digits=1")
        return round_decimal(np.asarray(value, dtype=np.float64), digits)

    def _ifelse(self, node: Call, test: Node, yes: Node, no: Node) -> FloatArray | Groups:
        """Choose row by row between two numbers, or between two texts."""
        chosen = np.asarray(self._defined(self.vector(test, node), test)) != 0
        first, second = self.evaluate(yes), self.evaluate(no)
        if isinstance(first, str) and isinstance(second, str):
            return as_groups(np.where(np.broadcast_to(chosen, self.columns.rows), first, second).astype(object))
        if isinstance(first, (str, Groups, Factor)) or isinstance(second, (str, Groups, Factor)):
            raise FormulaError(f"{deparse(node)}: ifelse() chooses between two numbers or two texts in quotes")
        return np.where(chosen, self.vector(yes, node), self.vector(no, node))

    def _summary(self, node: Call, argument: Node, options: dict[str, Literal]) -> float:
        """Learn one number of a column, or give what was learned."""
        x, key = self.finite_vector(argument, node), deparse(node)
        if not isinstance(options.get("na.rm", False), bool):
            raise FormulaError(f"{key}: na.rm must be TRUE or FALSE")
        if self.learning and key not in self.states:
            if len(x) < 1 + (node.name in ("sd", "var")):
                raise DesignError(f"{key}: the table has too few rows; give at least two")
            value = float(_SUMMARIES[node.name](x))
            if not np.isfinite(value):
                raise DesignError(f"{key}: it leaves the range of numbers; scale the column first")
            self.states[key] = {"value": value}
        return float(self.state(key)["value"])

    def _transform(self, node: Call, argument: Node, options: dict[str, Literal]) -> FloatArray:
        x = self.finite_vector(argument, node)
        transform = TRANSFORMS[node.name]
        key = deparse(node)
        if self.learning and key not in self.states:
            if not len(x):
                raise DesignError(f"{key}: the table has no rows; give at least two")
            self.states[key] = transform.learn(x, options, key)
        with np.errstate(all="ignore"):
            return transform.apply(x, self.state(key))

    def groups(self, node: Node) -> Groups | Factor:
        """Evaluate to groups, whatever the kind of the values."""
        while isinstance(node, Paren):
            node = node.inner
        if isinstance(node, Name):
            return self.columns.groups(node.name)
        value = self.evaluate(node)
        if isinstance(value, (Groups, Factor)):
            return value
        array = np.atleast_1d(np.asarray(value))
        if array.dtype == np.float64:
            if array.ndim > 1:
                raise FormulaError(f"{deparse(node)} has several columns, which cannot be made a factor")
            self.require_finite(array, node)
        return as_groups(array)

    def _as_numeric(self, node: Call, argument: Node) -> FloatArray:
        value = self.evaluate(argument)
        if isinstance(value, Factor) or (
            isinstance(argument, Name) and self.columns.series(argument.name).dtype == "category"
        ):
            raise FormulaError(
                f"{deparse(node)}: in R this gives the numbers of the levels, not their "
                "values; convert the column first"
            )
        if isinstance(value, Groups):
            numbers = [number_of(v) if isinstance(v, str) else None for v in value.values]
            if any(number is None for number in numbers):
                raise DataError(self._text_message(argument, node, value))
            return np.array(numbers, dtype=np.float64)[value.codes]
        return np.asarray(self.vector(argument, node))


def _label_among(value: Groups | Factor, labels: set[str]) -> BoolArray:
    """Tell in which rows a group's label is one of these."""
    names = value.levels if isinstance(value, Factor) else [label_of(v) for v in value.values]
    return np.array([name in labels for name in names], dtype=np.bool_)[value.codes]
