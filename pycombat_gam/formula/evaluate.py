"""Walk an expression's tree over a table's columns. Nothing is ever given to Python's `eval`.

What an expression learns from the rows (levels, knots, …) is kept in `states`, plain data by the
expression's text. While learning, an expression that has no state yet learns it and then applies it;
afterwards it only applies it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from pycombat_gam.errors import DataError, DesignError, FormulaError, ModelFileError, listing
from pycombat_gam.formula.columns import (
    Columns,
    Factor,
    Groups,
    as_groups,
    code_levels,
    label_of,
    learn_levels,
    number_of,
)
from pycombat_gam.formula.functions import ARITHMETIC, CONTRASTS, Bound, Literal, bind, literal, variables
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
from pycombat_gam.formula.transforms import TRANSFORMS
from pycombat_gam.types import BoolArray, FloatArray, JsonDict

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
    "sign": np.sign,
}
_CONSTANTS: dict[str, float | bool] = {"TRUE": True, "FALSE": False, "pi": float(np.pi), "Inf": float("inf")}


class Evaluator:
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
        found = value.values if isinstance(value, Groups) else value.levels
        words = [v for v in found if not isinstance(v, str) or number_of(v) is None] or found
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
        """Compare groups with a text: ``sex == "M"``."""
        left, right = self.evaluate(node.left), self.evaluate(node.right)
        if isinstance(left, str):
            left, right = right, left
        if not isinstance(right, str) or not isinstance(left, (Groups, Factor)):
            return None
        labels = left.levels if isinstance(left, Factor) else [label_of(v) for v in left.values]
        return np.array([label == right for label in labels], dtype=np.bool_)[left.codes]

    def _call(self, node: Call, bound: Bound) -> Value:
        options = {name: literal(value, node) for name, value in bound.options.items() if name not in ("contr",)}
        first = next(iter(bound.data.values()))
        name = node.name.removeprefix("np.")
        if name == "I":
            return self.evaluate(first)
        if name in ("factor", "as.factor", "ordered"):
            return self._factor(node, first, options)
        if name == "relevel":
            return self._relevel(node, first, options)
        if name == "C":
            return self._contrast(node, first, bound, options)
        if name in TRANSFORMS:
            return self._transform(node, first, options)
        if name == "as.numeric":
            return self._as_numeric(node, first)
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
        return np.asarray(np.round(value, digits))

    def _transform(self, node: Call, argument: Node, options: dict[str, Literal]) -> FloatArray:
        x = np.atleast_1d(np.asarray(self.vector(argument, node)))
        self.require_finite(x, argument)
        transform = TRANSFORMS[node.name]
        key = deparse(node)
        if self.learning and key not in self.states:
            if not len(x):
                raise DesignError(f"{key}: the table has no rows; give at least two")
            self.states[key] = transform.learn(x, options, key)
        with np.errstate(all="ignore"):
            return transform.apply(x, self._state(key))

    def _state(self, key: str) -> JsonDict:
        if key not in self.states:
            raise ModelFileError(f"the saved design has no state for {key}; fit the model again")
        return self.states[key]

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

    def _levels(self, node: Call, argument: Node, order: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Factor:
        """Learn a factor's levels, put in the order asked for, or code by those learned."""
        groups, key = self.groups(argument), deparse(node)
        contrast, base = "contr.treatment", 0
        if isinstance(groups, Factor):
            contrast, inner = groups.contrast, groups.levels
            groups = Groups(groups.codes, tuple(groups.levels))
            learned = inner
        elif self.learning and key not in self.states:
            learned = learn_levels(groups, key)
        else:
            learned = ()
        if self.learning and key not in self.states:
            self.states[key] = {"levels": list(order(learned))}
        origin = "among those named" if self.learning else "known from the fit"
        factor = code_levels(groups, tuple(self._state(key)["levels"]), key, self.columns, origin)
        return Factor(factor.codes, factor.levels, contrast, base)

    def _factor(self, node: Call, argument: Node, options: dict[str, Literal]) -> Factor:
        given = options.get("levels")
        if given is None:
            return self._levels(node, argument, lambda levels: levels)
        items = given if isinstance(given, list) else [given]
        wanted = tuple(dict.fromkeys(label_of(item) for item in items))
        if len(wanted) < 2 or any(isinstance(item, (list, dict)) or item is None for item in items):
            raise FormulaError(f'{deparse(node)}: levels must be two or more values, as in levels=c("a", "b")')
        return self._levels(node, argument, lambda levels: wanted)

    def _relevel(self, node: Call, argument: Node, options: dict[str, Literal]) -> Factor:
        if options.get("ref") is None or isinstance(options["ref"], (list, dict)):
            raise FormulaError(f'{deparse(node)}: relevel() needs a level, as in relevel(sex, ref="M")')
        ref = label_of(options["ref"])

        def order(levels: tuple[str, ...]) -> tuple[str, ...]:
            if ref not in levels:
                raise FormulaError(
                    f"{deparse(node)}: '{ref}' is not a level; the levels are {listing(map(repr, levels))}"
                )
            return (ref, *(level for level in levels if level != ref))

        return self._levels(node, argument, order)

    def _contrast(self, node: Call, argument: Node, bound: Bound, options: dict[str, Literal]) -> Factor:
        chosen = bound.options.get("contr", Name("contr.treatment"))
        name = chosen.value if isinstance(chosen, String) else getattr(chosen, "name", "")
        if name not in CONTRASTS:
            raise FormulaError(
                f"{deparse(node)}: the contrast {deparse(chosen)} is not allowed; allowed are {listing(CONTRASTS)}"
            )
        factor = self._levels(node, argument, lambda levels: levels)
        given = options.get("base")
        reference: Literal = None
        if isinstance(chosen, Call):
            extra = [*chosen.args, *(value for key, value in chosen.kwargs if key in ("reference", "base"))]
            if len(extra) != len(chosen.args) + len(chosen.kwargs) or len(extra) > 1 or name != "Treatment":
                raise FormulaError(
                    f'{deparse(node)}: only Treatment("level") takes an argument; for R\'s contrasts write base='
                )
            reference = literal(extra[0], node) if extra else None
        if (given is not None or reference is not None) and CONTRASTS[name] != "contr.treatment":
            raise FormulaError(f"{deparse(node)}: base= belongs to contr.treatment only; remove it")
        base = 0
        if reference is not None:
            if label_of(reference) not in factor.levels:
                raise FormulaError(
                    f"{deparse(node)}: '{label_of(reference)}' is not a level; the levels are "
                    f"{listing(map(repr, factor.levels))}"
                )
            base = factor.levels.index(label_of(reference))
        elif given is not None:
            if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= len(factor.levels):
                raise FormulaError(f"{deparse(node)}: base must be the number of a level, 1 to {len(factor.levels)}")
            base = given - 1
        return Factor(factor.codes, factor.levels, CONTRASTS[name], base, numbered=given is not None)

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
