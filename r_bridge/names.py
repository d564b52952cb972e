"""Covariates under names of ours: a column's name may be one that R's functions use themselves.

ComBatFamily writes ``y`` and ``batch`` into the data that it fits, mgcv's parser takes the backticks off a name,
longCombat searches terms for the batch as a regular expression. So every covariate goes to R as ``v1_``, ``v2_``, …;
what R says of these is translated back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pandas as pd

from pycombat_gam.formula import Formula
from pycombat_gam.formula.formula import RandomTerm, SmoothTerm, Term
from pycombat_gam.formula.functions import variables
from pycombat_gam.formula.nodes import Binary, Call, Name, Node, Paren, Unary, deparse, name_text
from pycombat_gam.formula.parse import parse
from r_bridge.errors import RError
from r_bridge.functions import our_names


@dataclass(frozen=True)
class Names:
    """What the columns of a formula are called in R.

    Attributes
    ----------
    sent : R's name of each column.
    groups : R's name of each column that random effects are grouped by: a factor there, though it may be a number
        elsewhere in the same formula.
    prefix : how R's names begin; no level of a factor holds such a name.
    """

    sent: Mapping[str, str]
    groups: Mapping[str, str]
    prefix: str

    @classmethod
    def of(cls, formula: Formula, table: pd.DataFrame, more: Sequence[str] = ()) -> Names:
        """Name the columns of a formula, and `more`, by their order; `table` shows which texts R may join to a name."""
        columns = list(dict.fromkeys([*formula.variables, *more]))
        texts = [str(value) for name in columns if name in table for value in _texts(table[name])]
        prefix = "v"
        while any(re.search(rf"{prefix}\d+_", text) for text in texts):
            prefix += "v"
        grouping = sorted({name for term in formula.random for node in term.group.factors for name in variables(node)})
        called = [f"{prefix}{number}_" for number in range(1, len(columns) + len(grouping) + 1)]
        return cls(
            dict(zip(columns, called, strict=False)), dict(zip(grouping, called[len(columns) :], strict=True)), prefix
        )

    def formula(self, formula: Formula) -> Formula:
        """Return a formula in R's names; its text stays, for messages."""
        return replace(
            formula,
            response=None if formula.response is None else self.node(formula.response),
            parametric=tuple(self._term(term) for term in formula.parametric),
            smooths=tuple(self._smooth(term) for term in formula.smooths),
            random=tuple(self._random(term) for term in formula.random),
            offsets=tuple(map(self.node, formula.offsets)),
            variables=(*(self.sent[name] for name in formula.variables), *self.groups.values()),
        )

    def node(self, node: Node, *, grouping: bool = False) -> Node:
        """Return an expression in R's names."""
        called = self.groups if grouping else self.sent

        def renamed(part: Node) -> Node:
            if isinstance(part, Name):
                return Name(called.get(part.name, part.name))
            if isinstance(part, Call):
                named = tuple((key, renamed(value)) for key, value in part.kwargs)
                return replace(part, args=tuple(map(renamed, part.args)), kwargs=named)
            if isinstance(part, Binary):
                return Binary(part.op, renamed(part.left), renamed(part.right))
            if isinstance(part, Unary):
                return Unary(part.op, renamed(part.operand))
            return Paren(renamed(part.inner)) if isinstance(part, Paren) else part

        return renamed(node)

    def to_r(self, expression: str) -> str:
        """Return the text of an expression in R's names."""
        return deparse(self.node(parse(expression)))

    def table(self, data: pd.DataFrame) -> pd.DataFrame:
        """Return a table's columns under R's names."""
        return data.rename(columns=dict(self.sent))

    def ours(self, text: object) -> str:
        """Return what R says, a label or a message, in the names of the formula."""
        columns = {called: name_text(name) for name, called in (*self.sent.items(), *self.groups.items())}
        pattern = rf"(?<![\w.]){self.prefix}\d+_"
        return re.sub(pattern, lambda match: columns.get(match[0], match[0]), str(text))

    def labels(self, labels: Iterable[object], formula: Formula) -> list[str]:
        """Return R's labels of the columns and terms of a formula as ours: its names, and its functions'."""
        return [self.ours(label) for label in our_names(labels, self.formula(formula))]

    @contextmanager
    def in_errors(self) -> Iterator[None]:
        """Say R's errors in the names of the formula."""
        try:
            yield
        except RError as error:
            raise RError(self.ours(error)) from error

    def _term(self, term: Term, *, grouping: bool = False) -> Term:
        return Term(tuple(self.node(factor, grouping=grouping) for factor in term.factors))

    def _smooth(self, term: SmoothTerm) -> SmoothTerm:
        return replace(
            term,
            args=tuple(map(self.node, term.args)),
            by=None if term.by is None else self.node(term.by),
        )

    def _random(self, term: RandomTerm) -> RandomTerm:
        return replace(
            term,
            slopes=tuple(self._term(slope) for slope in term.slopes),
            group=self._term(term.group, grouping=True),
        )


def _texts(column: pd.Series) -> list[object]:
    """The distinct labels of a column that is not numeric: what R joins to its name."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return list(column.cat.categories)
    return [] if pd.api.types.is_numeric_dtype(column.dtype) else list(column.dropna().unique())
