"""What is predicted: the left side of the formula. Classes, a number, or the time of an event.

Text, categories and logicals are classes, and so is ``factor(x)``; a column of numbers is a number, unless it holds
0 and 1 only, which are then two classes. ``Surv(time, event)`` is the time to an event, right-censored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from pycombat_gam.errors import DataError, DesignError, FormulaError
from pycombat_gam.formula import Formula, parse_formula
from pycombat_gam.formula.columns import Columns
from pycombat_gam.formula.evaluate import Evaluator
from pycombat_gam.formula.functions import variables
from pycombat_gam.formula.nodes import Binary, Call, Name, Node, deparse
from pycombat_gam.formula.parse import parse
from pycombat_gam.types import BoolArray, FloatArray
from pycombat_gam.words import count, listing, rows_named

Label: TypeAlias = "str | bool | int | float"
Kind: TypeAlias = Literal["classes", "number", "survival"]
FACTORS = ("factor", "as.factor")


@dataclass(frozen=True)
class Question:
    """A formula of prediction, taken apart.

    Attributes
    ----------
    response : the left side; right : the right side as a formula of its own.
    columns : the columns that the response uses.
    survival : whether it is ``Surv(time, event)``.
    """

    response: Node
    right: Formula
    columns: tuple[str, ...]
    survival: bool

    @property
    def name(self) -> str:
        """The response as text."""
        return deparse(self.response)


def read_question(text: object) -> Question:
    """Take a formula apart.

    >>> question = read_question("Surv(time, dead) ~ age + sex")
    >>> question.columns, str(question.right), question.survival
    (('time', 'dead'), '~age + sex', True)
    """
    if not isinstance(text, str):
        raise FormulaError(f"the formula is a {type(text).__name__}; give it as text, such as 'dx ~ age + sex'")
    tree = parse(text)
    if not isinstance(tree, Binary) or tree.op != "~":
        example = f"{text} ~ 1" if isinstance(tree, Name) else f"dx {text}"
        raise FormulaError(f"the formula '{text}' names no outcome: write it before the '~', such as '{example}'")
    right = parse_formula(f"~ {deparse(tree.right)}")
    left = tree.left
    survival = isinstance(left, Call) and left.name == "Surv"
    if survival:
        assert isinstance(left, Call)
        if len(left.args) != 2 or left.kwargs or not all(isinstance(arg, Name) for arg in left.args):
            raise FormulaError(f"{deparse(left)}: give two columns, Surv(time, event)")
        columns = tuple(arg.name for arg in left.args if isinstance(arg, Name))
    else:
        # The left side alone, so that it is checked as other responses are.
        response = parse_formula(f"{deparse(left)} ~ 1").response
        assert response is not None
        if isinstance(response, Call) and response.name == "cbind":
            raise FormulaError(f"{deparse(response)}: give one outcome; a model has one")
        columns = tuple(dict.fromkeys(variables(response)))
    if repeated := [name for name in columns if name in right.variables]:
        raise FormulaError(f"{listing(repeated)} is the outcome and among the predictors: leave it out on the right")
    if right.random or any(smooth.random for smooth in right.smooths):
        raise FormulaError("random effects cannot be predicted at a new site: leave them out of the formula")
    if right.offsets:
        raise FormulaError("offset() has no place in a prediction formula: leave it out")
    return Question(left, right, columns, survival)


@dataclass(frozen=True)
class Outcome:
    """What a model predicts.

    Attributes
    ----------
    name : as the formula writes it; kind : of outcome.
    classes : labels of the classes, in order; the last of two is the event.
    numbered : whether the classes are the numbers 0 and 1 of a column that was not called a factor.
    horizons : times at which the risk of an event is asked for.
    """

    name: str
    kind: Kind
    classes: tuple[Label, ...] = ()
    numbered: bool = False
    horizons: tuple[float, ...] = ()

    @property
    def n_classes(self) -> int:
        """How many classes; 0 for a number or a time."""
        return len(self.classes)

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes as text."""
        return tuple(map(str, self.classes))


def missing_outcomes(question: Question, table: pd.DataFrame) -> BoolArray:
    """Return which rows lack the outcome, (n,)."""
    columns = Columns(table)
    absent = np.zeros(len(table), dtype=np.bool_)
    for name in question.columns:
        absent |= np.asarray(columns.series(name).isna(), dtype=np.bool_)
    return absent


def check_outcomes(question: Question, table: pd.DataFrame, who: str) -> None:
    """Stop for missing outcomes; `who` needs known ones."""
    absent = missing_outcomes(question, table)
    if absent.any():
        raise DataError(
            f"the outcome '{question.name}' is missing in {rows_named(table.index[absent])}: {who} known outcomes; "
            "leave these rows out"
        )


def learn_outcome(question: Question, table: pd.DataFrame) -> tuple[Outcome, FloatArray]:
    """Read the outcome of every row, once it is known what it is.

    Returns
    -------
    outcome, y
        y (n,) holds codes of classes or numbers; of survival (n, 2), time and event.

    Raises
    ------
    DataError
        For missing outcomes, naming rows, and times or events that are none.
    DesignError
        For one class.
    """
    check_outcomes(question, table, "a model is trained on")
    if question.survival:
        return Outcome(question.name, "survival"), _survival(question, table)
    node = question.response
    called = isinstance(node, Call) and node.name in FACTORS
    inner = node.args[0] if isinstance(node, Call) and called and len(node.args) == 1 else node
    if isinstance(inner, Name):
        series = Columns(table).series(inner.name)
        numeric = pd.api.types.is_numeric_dtype(series.dtype) and not pd.api.types.is_bool_dtype(series.dtype)
        binary = numeric and not called and set(series.unique()) <= {0, 1}
        if called or binary or not numeric:
            classes = _classes(series)
            if len(classes) < 2:
                raise DesignError(
                    f"the outcome '{question.name}' has one class, {classes[0]!r} in {count(len(series), 'row')}: "
                    "there is nothing to tell apart"
                )
            _check_labels(question.name, series, classes)
            outcome = Outcome(question.name, "classes", classes, numbered=binary)
            return outcome, code_classes(outcome, question, table)
    elif called:
        raise FormulaError(f"{question.name}: give factor() one column, such as factor(dx)")
    return Outcome(question.name, "number"), read_outcome(Outcome(question.name, "number"), question, table)


def _check_labels(name: str, series: pd.Series, classes: tuple[Label, ...]) -> None:
    """Stop for labels that tables of validation have for all rows, and for numbers kept as text."""
    if "all" in map(str, classes):
        raise DataError(f"a class of {name} is called 'all', as tables call all rows: rename it")
    if len(classes) > 20 and 2 * len(classes) > len(series):
        as_numbers = pd.to_numeric(pd.Series(list(map(str, classes))), errors="coerce")
        how = "; they are numbers kept as text: pd.to_numeric converts them" if as_numbers.notna().all() else ""
        raise DataError(
            f"the outcome {name} has {len(classes)} different labels in {count(len(series), 'row')}: classes need rows "
            f"of the same label at several sites{how}"
        )


def read_outcome(outcome: Outcome, question: Question, table: pd.DataFrame) -> FloatArray:
    """Read outcomes of rows that have them; see `learn_outcome`."""
    if outcome.kind == "survival":
        return _survival(question, table)
    if outcome.kind == "classes":
        return code_classes(outcome, question, table)
    evaluator = Evaluator(Columns(table), {}, learning=True)
    value = np.asarray(evaluator.vector(question.response, question.response), dtype=np.float64)
    if value.ndim > 1:
        raise FormulaError(f"the outcome {question.name} has several columns; give one")
    evaluator.require_finite(value, question.response)
    return value


def code_classes(outcome: Outcome, question: Question, table: pd.DataFrame) -> FloatArray:
    """Return the code of each row's class, (n,)."""
    series = Columns(table).series(question.columns[0])
    position = {label: code for code, label in enumerate(outcome.classes)}
    plain = [plain_label(label) for label in series]
    unknown = np.array([label not in position for label in plain], dtype=np.bool_)
    if unknown.any():
        others = sorted({str(label) for label, bad in zip(plain, unknown, strict=True) if bad})
        raise DataError(
            f"'{question.columns[0]}' has {listing(map(repr, others))} in {rows_named(series.index[unknown])}; the "
            f"classes of the fit are {listing(outcome.labels, 30)}"
        )
    return np.array([position[label] for label in plain], dtype=np.float64)


def _classes(series: pd.Series) -> tuple[Label, ...]:
    if isinstance(series.dtype, pd.CategoricalDtype):
        present = set(series.unique())
        return tuple(plain_label(label) for label in series.cat.categories if label in present)
    labels = [plain_label(label) for label in series.unique()]
    alike = len({isinstance(label, str) for label in labels}) == 1
    return tuple(sorted(labels) if alike else sorted(labels, key=str))


def plain_label(label: object) -> Label:
    """Return a label as plain Python: what a file of the model can hold."""
    if isinstance(label, np.generic):
        label = label.item()
    if isinstance(label, float) and label.is_integer():
        return int(label)
    return label if isinstance(label, str | bool | int | float) else str(label)


def _survival(question: Question, table: pd.DataFrame) -> FloatArray:
    columns = Columns(table)
    time, event = (columns.series(name) for name in question.columns)
    for name, series in zip(question.columns, (time, event), strict=True):
        if not pd.api.types.is_numeric_dtype(series.dtype):
            raise DataError(f"column '{name}' of {question.name} is not numeric: give the time, and 1 for an event")
    y = np.column_stack([time.to_numpy(dtype=np.float64), event.to_numpy(dtype=np.float64)])
    wrong = ~(np.isfinite(y[:, 0]) & (y[:, 0] > 0))
    if wrong.any():
        raise DataError(f"column '{question.columns[0]}' is not a positive time in {rows_named(table.index[wrong])}")
    odd = ~np.isin(y[:, 1], [0.0, 1.0])
    if odd.any():
        raise DataError(
            f"column '{question.columns[1]}' holds other values than 0 and 1 in {rows_named(table.index[odd])}: "
            "code an event as 1 or True, a censored time as 0 or False"
        )
    return y
