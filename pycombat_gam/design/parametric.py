"""The parametric part of a design: what its terms learned, as plain data, and its columns on any table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from pycombat_gam.formula.contrasts import FactorSpec, TermSpec, code_terms, model_matrix
from pycombat_gam.formula.formula import Term
from pycombat_gam.formula.nodes import Node, deparse
from pycombat_gam.formula.variables import Variables
from pycombat_gam.saving.reader import Reader
from pycombat_gam.types import FloatArray, JsonDict


@dataclass(frozen=True, eq=False)
class Parametric:
    """Parametric terms with what they learned.

    Attributes
    ----------
    terms : tuple of Term
        In R's order.
    variables : Variables
        Their different factors, in order of appearance.
    codings : tuple of TermSpec
        One for each term.
    """

    terms: tuple[Term, ...]
    variables: Variables
    codings: tuple[TermSpec, ...]

    @classmethod
    def learn(cls, terms: Sequence[Term], table: pd.DataFrame, *, intercept: bool) -> Parametric:
        """Learn from a table of n rows; see `Design.learn` for what is raised."""
        return cls._coded(terms, Variables.learn(_factors(terms), table), intercept=intercept)

    @classmethod
    def _coded(cls, terms: Sequence[Term], variables: Variables, *, intercept: bool) -> Parametric:
        specs = variables.specs
        number = {spec.label: i for i, spec in enumerate(specs)}
        numbered = [tuple(number[deparse(node)] for node in term.factors) for term in terms]
        codings = code_terms(numbered, [spec.categorical for spec in specs], intercept=intercept)
        return cls(tuple(terms), variables, tuple(codings))

    @property
    def specs(self) -> tuple[FactorSpec, ...]:
        """The factors' levels or columns."""
        return self.variables.specs

    def on(self, table: pd.DataFrame) -> FloatArray:
        """Columns on a table of n rows, (n, p)."""
        return model_matrix(self.variables.on(table), self.specs, self.codings, len(table))

    def labels(self) -> list[list[str]]:
        """R's column labels, a list for each term."""
        return [coding.labels(self.specs) for coding in self.codings]

    def to_dict(self) -> JsonDict:
        """Plain data for `read`."""
        return self.variables.to_dict()

    @classmethod
    def read(cls, saved: Reader, terms: Sequence[Term], *, intercept: bool) -> Parametric:
        """Rebuild from plain data, every piece of it checked; see `Variables.read`."""
        return cls._coded(terms, Variables.read(saved, _factors(terms)), intercept=intercept)


def _factors(terms: Sequence[Term]) -> list[Node]:
    return [node for term in terms for node in term.factors]
