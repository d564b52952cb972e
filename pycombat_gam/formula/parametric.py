"""The parametric part of a design: what its terms learned, as plain data, and its columns on any table."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pycombat_gam.errors import DataError, DesignError, ModelFileError, listing
from pycombat_gam.formula.columns import (
    Columns,
    Factor,
    Groups,
    as_groups,
    check_text,
    code_levels,
    learn_levels,
)
from pycombat_gam.formula.contrasts import FactorSpec, TermSpec, code_terms, model_matrix
from pycombat_gam.formula.evaluate import Evaluator
from pycombat_gam.formula.formula import Term
from pycombat_gam.formula.functions import CONTRASTS, bind
from pycombat_gam.formula.nodes import Call, Name, Node, Paren, deparse, walk
from pycombat_gam.formula.state import texts
from pycombat_gam.formula.transforms import TRANSFORMS
from pycombat_gam.types import FloatArray, JsonDict


@dataclass(frozen=True, eq=False)
class Parametric:
    """Parametric terms with what they learned.

    Attributes
    ----------
    terms : tuple of Term
        In R's order.
    specs : tuple of FactorSpec
        One for each different factor, in order of appearance in `terms`.
    codings : tuple of TermSpec
        One for each term.
    states : dict
        What transforms and factors inside expressions learned, by expression.
    """

    terms: tuple[Term, ...]
    specs: tuple[FactorSpec, ...]
    codings: tuple[TermSpec, ...]
    states: dict[str, JsonDict]

    @classmethod
    def learn(cls, terms: Sequence[Term], table: pd.DataFrame, *, intercept: bool) -> Parametric:
        """Learn from a table of n rows; see `Design.learn` for what is raised."""
        states: dict[str, JsonDict] = {}
        columns = Columns(table)
        evaluator = Evaluator(columns, states, learning=True)
        specs = [_learn_factor(node, evaluator) for node in _factors(terms)]
        return cls(tuple(terms), tuple(specs), _codings(terms, specs, intercept=intercept), states)

    def on(self, table: pd.DataFrame) -> FloatArray:
        """Columns on a table of n rows, (n, p)."""
        columns = Columns(table)
        evaluator = Evaluator(columns, self.states, learning=False)
        nodes = _factors(self.terms)
        values = [_apply_factor(node, spec, evaluator) for node, spec in zip(nodes, self.specs, strict=True)]
        return model_matrix(values, self.specs, self.codings, columns.rows)

    def labels(self) -> list[list[str]]:
        """R's column labels, a list for each term."""
        return [coding.labels(self.specs) for coding in self.codings]

    def to_dict(self) -> JsonDict:
        """Plain data for `from_dict`."""
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
    def from_dict(cls, data: JsonDict, terms: Sequence[Term], *, intercept: bool) -> Parametric:
        """Rebuild from plain data, every piece of it checked.

        Raises
        ------
        ModelFileError
            If anything is missing, superfluous, of the wrong kind or at odds with the terms.
        """
        nodes = _factors(terms)
        factors, states = data.get("factors"), data.get("states")
        if not isinstance(factors, dict) or list(factors) != [deparse(node) for node in nodes]:
            raise ModelFileError("the saved design's factors are not those of its formula; fit the model again")
        if not isinstance(states, dict):
            raise ModelFileError("the saved design has no learned states; fit the model again")
        checked: dict[str, JsonDict] = {}
        widths: dict[str, int | tuple[str, ...]] = {}
        for node in nodes:
            for part in walk(node):
                key = deparse(part)
                if isinstance(part, Call) and key not in checked and (part.name in _STATEFUL):
                    checked[key], widths[key] = _check_state(part, key, states.get(key))
        if set(checked) != set(states):
            raise ModelFileError(
                "the saved design holds states that its formula does not use: "
                f"{listing(sorted(map(str, set(states) - set(checked))), 3)}"
            )
        specs = [_check_spec(node, factors[deparse(node)], widths) for node in nodes]
        return cls(tuple(terms), tuple(specs), _codings(terms, specs, intercept=intercept), checked)


_FACTORS = ("factor", "as.factor", "ordered", "relevel", "C")
_CATEGORICAL = {"levels", "contrast", "base", "numbered"}
_STATEFUL = (*TRANSFORMS, *_FACTORS)


def _factors(terms: Sequence[Term]) -> list[Node]:
    return list({deparse(node): node for term in terms for node in term.factors}.values())


def _codings(terms: Sequence[Term], specs: Sequence[FactorSpec], *, intercept: bool) -> tuple[TermSpec, ...]:
    number = {spec.label: i for i, spec in enumerate(specs)}
    numbered = [tuple(number[deparse(node)] for node in term.factors) for term in terms]
    return tuple(code_terms(numbered, [spec.categorical for spec in specs], intercept=intercept))


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
        found = value.values if isinstance(value, Groups) else value.levels
        raise DataError(
            f"{spec.label} holds text ({listing(map(repr, found), 3)}), but was a number in the fit; give numbers"
        )
    array = np.asarray(value, dtype=np.float64)
    evaluator.require_finite(array, node)
    return array


def _check_state(node: Call, key: str, state: object) -> tuple[JsonDict, int | tuple[str, ...]]:
    try:
        if not isinstance(state, dict):
            raise ModelFileError("it is missing")
        if node.name in TRANSFORMS:
            return copy.deepcopy(state), TRANSFORMS[node.name].width(state)
        levels = tuple(texts(state["levels"]))
        if len(levels) < 2 or len(state) != 1:
            raise ModelFileError("its levels are too few")
        return {"levels": [*levels]}, levels
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ModelFileError(f"the saved state of {key} is broken ({error}); fit the model again") from None


def _core(node: Node) -> Node:
    """Look through `I()` and parentheses, which change nothing."""
    while isinstance(node, Paren) or (isinstance(node, Call) and node.name == "I"):
        node = node.inner if isinstance(node, Paren) else next(iter(bind(node).data.values()))
    return node


def _check_spec(node: Node, data: object, widths: dict[str, int | tuple[str, ...]]) -> FactorSpec:
    label = deparse(node)
    broken = ModelFileError(f"the saved factor {label} is broken; fit the model again")
    if not isinstance(data, dict):
        raise broken
    known = widths.get(deparse(_core(node)))
    if set(data) == {"columns"}:
        columns = data["columns"]
        expected = known if isinstance(known, int) else 1
        if type(columns) is not int or columns != expected or isinstance(known, tuple):
            raise broken
        return FactorSpec(label, columns)
    if set(data) != _CATEGORICAL or data["contrast"] not in list(CONTRASTS.values()):
        raise broken
    try:
        levels = tuple(texts(data["levels"]))
    except ModelFileError:
        raise broken from None
    base = data["base"]
    if (
        not isinstance(data["numbered"], bool)
        or len(levels) < 2
        or type(base) is not int
        or not 0 <= base < len(levels)
    ):
        raise broken
    if isinstance(known, int) or (isinstance(known, tuple) and known != levels):
        raise broken
    return FactorSpec(label, 0, levels, data["contrast"], base, data["numbered"])
