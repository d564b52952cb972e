"""The variables of a formula's terms: what they learned, as plain data, and their values on any table.

A variable is a factor of a term in R's sense: a column or an expression over columns, ``age``, ``log(icv)``, ``sex``.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pycombat_gam.errors import DataError, DesignError, FormulaError, ModelFileError
from pycombat_gam.formula.columns import (
    Columns,
    Factor,
    Groups,
    as_groups,
    check_text,
    code_levels,
    label_of,
    learn_levels,
)
from pycombat_gam.formula.contrasts import FactorSpec
from pycombat_gam.formula.evaluate import Evaluator
from pycombat_gam.formula.factors import FACTORS, named_labels
from pycombat_gam.formula.functions import CONTRASTS, SUMMARIES, bind
from pycombat_gam.formula.intervals import Intervals
from pycombat_gam.formula.nodes import Call, Name, Node, Paren, deparse, walk
from pycombat_gam.formula.transforms import TRANSFORMS
from pycombat_gam.saving.reader import Reader
from pycombat_gam.types import FloatArray, JsonDict
from pycombat_gam.words import listing


@dataclass(frozen=True, eq=False)
class Variables:
    """Different variables in order of appearance, with what they learned.

    Attributes
    ----------
    nodes : tuple of Node
        The expressions.
    specs : tuple of FactorSpec
        One for each: numbers, or a factor with its levels.
    states : dict
        What transforms and factors inside expressions learned, by expression.
    """

    nodes: tuple[Node, ...]
    specs: tuple[FactorSpec, ...]
    states: dict[str, JsonDict]

    @classmethod
    def learn(cls, nodes: Sequence[Node], table: pd.DataFrame) -> Variables:
        """Learn from a table of n rows; see `Design.learn` for what is raised."""
        nodes = distinct(nodes)
        states: dict[str, JsonDict] = {}
        evaluator = Evaluator(Columns(table), states, learning=True)
        return cls(nodes, tuple(_learn_factor(node, evaluator) for node in nodes), states)

    def on(self, table: pd.DataFrame, *, lenient: Collection[str] = ()) -> list[FloatArray | Factor]:
        """Evaluate on a table of n rows, one value for each variable.

        Parameters
        ----------
        table : DataFrame, shape (n, any)
        lenient : labels of factors in which a level that was not in the fit is coded −1 instead of an error.
        """
        evaluator = Evaluator(Columns(table), self.states, learning=False)
        return [
            _code_known(node, spec, evaluator) if spec.label in lenient else _apply_factor(node, spec, evaluator)
            for node, spec in zip(self.nodes, self.specs, strict=True)
        ]

    def to_dict(self) -> JsonDict:
        """Plain data for `read`."""
        factors = {
            spec.label: {
                "levels": list(spec.levels),
                "contrast": spec.contrast,
                "base": spec.base,
                "numbered": spec.numbered,
            }
            if spec.categorical
            else {"columns": spec.columns}
            for spec in self.specs
        }
        return {"factors": factors, "states": copy.deepcopy(self.states)}

    @classmethod
    def read(cls, saved: Reader, nodes: Sequence[Node]) -> Variables:
        """Rebuild from plain data, every piece of it checked.

        Raises
        ------
        ModelFileError
            If anything is missing, superfluous, of the wrong kind or at odds with the expressions.
        """
        nodes = distinct(nodes)
        labels = tuple(deparse(node) for node in nodes)
        factors, states = saved.child("factors"), saved.child("states")
        factors.require(factors.names() == labels, "be those of the formula, in its order")
        parts = [part for node in nodes for part in walk(node) if isinstance(part, Call) and part.name in _STATEFUL]
        calls = {deparse(part): part for part in parts}
        states.exactly(*calls)
        makes = {key: _read_state(call, states.child(key, f"the saved state of {key}")) for key, call in calls.items()}
        specs = [
            _read_spec(label, factors.child(label, f"the saved factor {label}"), makes.get(deparse(_core(node))))
            for node, label in zip(nodes, labels, strict=True)
        ]
        return cls(nodes, tuple(specs), {key: copy.deepcopy(states.value(key)) for key in calls})


def distinct(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Drop expressions that came before."""
    return tuple({deparse(node): node for node in nodes}.values())


_STATEFUL = (*TRANSFORMS, *FACTORS, *SUMMARIES, "cut")


def _learn_factor(node: Node, evaluator: Evaluator) -> FactorSpec:
    label = deparse(node)
    value = evaluator.evaluate(node)
    if isinstance(value, Factor):
        observed = len(np.unique(value.codes))
        if observed < 2:
            raise DesignError(f"{label} has only one level in the table; remove it from the formula")
        return FactorSpec(label, 0, value.levels, value.contrast, value.base, value.numbered)
    if isinstance(value, np.ndarray) and value.dtype == np.bool_:
        learn_levels(as_groups(value), label)
        return FactorSpec(label, 0, ("FALSE", "TRUE"))
    if isinstance(value, Groups):
        # A categorical says itself that it is a factor.
        if isinstance(node, Name) and not isinstance(evaluator.columns.series(node.name).dtype, pd.CategoricalDtype):
            check_text(value, node.name)
        return FactorSpec(label, 0, learn_levels(value, label))
    array = np.asarray(value, dtype=np.float64)
    if array.ndim == 0:
        raise FormulaError(f"{label} is one number for all rows; use it in an expression, as in I(age - mean(age))")
    evaluator.require_finite(array, node)
    return FactorSpec(label, 1 if array.ndim == 1 else array.shape[1])


def _apply_factor(node: Node, spec: FactorSpec, evaluator: Evaluator) -> FloatArray | Factor:
    if spec.categorical:
        groups = evaluator.groups(node)
        if isinstance(groups, Factor):
            if groups.levels != spec.levels:
                raise ModelFileError(f"the saved levels of {spec.label} disagree; fit the model again")
            return groups
        return code_levels(groups, spec.levels, spec.label, evaluator.columns)
    value = evaluator.evaluate(node)
    if isinstance(value, (Groups, Factor)):
        cells = value.values if isinstance(value, Groups) else value.levels
        raise DataError(
            f"{spec.label} holds text ({listing(map(repr, cells), 3)}), but was a number in the fit; give numbers"
        )
    array = np.asarray(value, dtype=np.float64)
    evaluator.require_finite(array, node)
    return array


def _code_known(node: Node, spec: FactorSpec, evaluator: Evaluator) -> FloatArray | Factor:
    """Code a factor by its known levels, −1 for others."""
    if not spec.categorical:
        return _apply_factor(node, spec, evaluator)
    evaluator.lenient = True
    try:
        groups = evaluator.groups(_core(node))
    finally:
        evaluator.lenient = False
    if isinstance(groups, Factor):
        return groups
    return code_levels(groups, spec.levels, spec.label, evaluator.columns, lenient=True)


def levels_in(node: Node, table: pd.DataFrame) -> Factor:
    """Code a factor of n rows by the levels of the table itself, even if there is only one."""
    core = _core(node)
    crossed = isinstance(core, Call) and core.name == "interaction"
    if isinstance(core, Call) and core.name in FACTORS and not crossed:
        core = next(iter(bind(core).data.values()))
    evaluator = Evaluator(Columns(table), {}, learning=True)
    groups = evaluator.as_character(core) if crossed else evaluator.groups(core)
    if isinstance(groups, Factor):
        return groups
    levels = tuple(dict.fromkeys(label_of(value) for value in groups.values))
    return code_levels(groups, levels, deparse(node), evaluator.columns)


def _read_state(node: Call, saved: Reader) -> int | tuple[str, ...]:
    """Check what a call learned, and return what it makes: a number of columns, or levels."""
    if node.name in TRANSFORMS:
        return TRANSFORMS[node.name].width(saved)
    if node.name in SUMMARIES:
        saved.exactly("value").number("value")
        return 1
    if node.name == "cut":
        return Intervals.read(saved).labels or 1
    levels, labels = saved.exactly("levels").texts("levels", distinct=True, least=2), named_labels(node)
    saved.require(len(labels) in (0, len(levels)), "have as many levels as labels")
    return labels or levels


def _core(node: Node) -> Node:
    """Look through `I()` and parentheses, which change nothing."""
    while isinstance(node, Paren) or (isinstance(node, Call) and node.name == "I"):
        node = node.inner if isinstance(node, Paren) else next(iter(bind(node).data.values()))
    return node


def _read_spec(label: str, saved: Reader, makes: int | tuple[str, ...] | None) -> FactorSpec:
    """Read what a variable is; `makes` is what its expression makes, where that was learned."""
    if saved.has("columns"):
        saved.require(not isinstance(makes, tuple), "have levels")
        return FactorSpec(label, saved.exactly("columns").choice("columns", [makes if isinstance(makes, int) else 1]))
    levels = saved.exactly("levels", "contrast", "base", "numbered").texts("levels", distinct=True, least=2)
    saved.require(makes in (None, levels), "have the levels that its expression makes")
    contrast, base = saved.choice("contrast", CONTRASTS.values()), saved.whole("base", most=len(levels) - 1)
    return FactorSpec(label, 0, levels, contrast, base, saved.flag("numbered"))
