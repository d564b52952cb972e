"""The smooth part of a design: all smooths and random effects of a formula, learned together.

Random effects are smooths: ``(1|g)`` is ``s(factor(g), bs="re")``, ``(0+x|g)`` adds x to it, and ``(1+x||g)`` is both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pycombat_gam.design.side import side_conditions
from pycombat_gam.errors import FormulaError, ModelFileError, NotYetError, OptionError
from pycombat_gam.formula import Formula
from pycombat_gam.formula.columns import Factor
from pycombat_gam.formula.formula import RandomTerm, SmoothTerm, Term
from pycombat_gam.formula.nodes import Call, Name, Node, String, deparse
from pycombat_gam.formula.variables import Variables
from pycombat_gam.penalized.whiten import NULL
from pycombat_gam.saving.reader import Reader
from pycombat_gam.smooth.assemble import Smooth, add_null_penalty, check_id, learn_smooth
from pycombat_gam.smooth.options import linked
from pycombat_gam.types import FloatArray, JsonDict
from pycombat_gam.words import count, listing


@dataclass(frozen=True, eq=False)
class SmoothPart:
    """Smooths with what they learned.

    Attributes
    ----------
    variables : Variables
        The expressions that smooths are of, and by-variables.
    lenient : tuple of str
        Factors used by random effects only: a level that was not in the fit has effect zero.
    smooths : tuple of Smooth
        In mgcv's order, one for each level of a factor by-variable; random effects of bars come last.
    ranges : dict of str to (float, float)
        Smallest and largest value of each numeric variable in the fit.
    """

    variables: Variables
    lenient: tuple[str, ...]
    smooths: tuple[Smooth, ...]
    ranges: dict[str, tuple[float, float]]

    @classmethod
    def learn(
        cls,
        formula: Formula,
        table: pd.DataFrame,
        *,
        intercept: bool,
        knots: Mapping[str, FloatArray],
        select: bool,
    ) -> SmoothPart:
        """Learn from a table of n rows; `intercept`: the model has one, or columns that hold it."""
        part = cls.around(formula, table)
        terms = list(smooth_terms(formula))
        values = part.values(table)
        unknown = set(knots) - set(values)
        if unknown:
            raise OptionError(
                f"knots are given for {listing(map(repr, sorted(unknown)))}; the smooths are of {listing(values)}"
            )
        nodes = [node for term, _ in terms for node in _nodes(term)]
        ordered = [deparse(node) for node in nodes if _is_ordered(node, table)]
        smooths: list[Smooth] = []
        for term, label in terms:
            learned = learn_smooth(term, values, ordered=ordered, knots=knots, stacked=_stacked(term, terms, values))
            smooths += learned if label is None else [replace(learned[0], label=label)]
        smooths = [replace(s, label=label) for s, label in zip(smooths, _distinct_labels(smooths), strict=True)]
        if select:
            smooths = [add_null_penalty(smooth) for smooth in smooths]
        check_id(smooths)
        smooths = side_conditions(smooths, values, intercept=intercept)
        return replace(part, smooths=tuple(smooths))

    @classmethod
    def around(cls, formula: Formula, table: pd.DataFrame) -> SmoothPart:
        """Learn the variables of all smooths and random effects, and no smooth."""
        terms = list(smooth_terms(formula))
        variables = Variables.learn([node for term, _ in terms for node in _nodes(term)], table)
        for spec in variables.specs:
            if not spec.categorical and spec.columns != 1:
                raise FormulaError(f"a smooth of {spec.label} is not possible: it has {spec.columns} columns; name one")
        ranges = {
            label: (float(value.min()), float(value.max()))
            for label, value in _values(variables, variables.on(table)).items()
            if not isinstance(value, Factor)
        }
        return cls(variables, _lenient(terms), (), ranges)

    def values(self, table: pd.DataFrame) -> dict[str, FloatArray | Factor]:
        """Evaluate the variables on a table of n rows."""
        return _values(self.variables, self.variables.on(table, lenient=self.lenient))

    def on(self, table: pd.DataFrame) -> list[FloatArray]:
        """Columns on a table of n rows, one array (n, df) for each smooth."""
        if not self.smooths:
            return []
        values = self.values(table)
        return [smooth.on(values) for smooth in self.smooths]

    def outside(self, table: pd.DataFrame) -> list[str]:
        """Say how many rows lie outside the range of the fit, by variable."""
        notes = []
        for label, value in self.values(table).items() if self.ranges else ():
            if isinstance(value, Factor):
                continue
            low, high = self.ranges[label]
            rows = int(((value < low) | (value > high)).sum())
            if rows:
                notes.append(
                    f"{label} is outside the range of the fit ({low:.6g} to {high:.6g}) in {count(rows, 'row')}: "
                    "extrapolated"
                )
        return notes

    def unknown(self, table: pd.DataFrame) -> list[str]:
        """Say which random effects are zero in which rows, because their level was not in the fit."""
        notes = []
        for label, value in self.values(table).items() if self.lenient else ():
            rows = int((value.codes < 0).sum()) if isinstance(value, Factor) else 0
            if rows:
                notes.append(
                    f"{label} has levels not known from the fit in {count(rows, 'row')}: "
                    "the random effect is taken as zero there"
                )
        return notes

    def to_dict(self) -> JsonDict:
        """Plain data for `read`."""
        return {
            **self.variables.to_dict(),
            "smooths": [smooth.to_dict() for smooth in self.smooths],
            "ranges": {label: list(ends) for label, ends in self.ranges.items()},
        }

    @classmethod
    def read(cls, saved: Reader, formula: Formula) -> SmoothPart:
        """Rebuild from plain data, every piece of it checked.

        Raises
        ------
        ModelFileError
            If anything is missing, superfluous, of the wrong kind or at odds with the formula.
        """
        saved.exactly("factors", "states", "smooths", "ranges")
        terms = list(smooth_terms(formula))
        variables = Variables.read(saved, [node for term, _ in terms for node in _nodes(term)])
        ranges = _read_ranges(saved.child("ranges", "the saved ranges of smooths' variables"), variables)
        probe: dict[str, FloatArray | Factor] = {
            spec.label: Factor(np.zeros(1, dtype=np.intp), spec.levels)
            if spec.categorical
            else np.array(ranges[spec.label][:1])
            for spec in variables.specs
        }
        with saved.guard(), np.errstate(all="ignore"):
            smooths = tuple(_rebuilt(saved, terms, {spec.label: spec.levels for spec in variables.specs}))
            saved.require(
                all(smooth.on(probe).shape == (1, smooth.df) for smooth in smooths), "have as many columns as they say"
            )
        return cls(variables, _lenient(terms), smooths, ranges)


def smooth_terms(formula: Formula) -> Iterator[tuple[SmoothTerm, str | None]]:
    """Yield the smooths of a formula, then its random effects as smooths, each with the label it gets (None: mgcv's).

    Raises
    ------
    NotYetError
        For correlated random effects.
    """
    for smooth in linked(formula.smooths):
        yield smooth, None
    bars: set[str] = set()
    for random in formula.random:
        if random.correlated:
            raise NotYetError(
                f"({random.label}) asks for correlated random effects, which this version cannot fit; write "
                f"({random.label.replace('|', '||')}) for uncorrelated ones"
            )
        for term, label in _bars(random):
            # As a term of R's formulas counts once: (age || g) + (visit || g) have one intercept.
            if label not in bars:
                bars.add(label)
                yield term, label


def _bars(random: RandomTerm) -> Iterator[tuple[SmoothTerm, str]]:
    """Split ``(1 + x || g)`` into its uncorrelated parts."""
    grouping = tuple(Call("factor", (node,)) if isinstance(node, Name) else node for node in random.group.factors)
    parts: list[Term | None] = [None] if random.intercept else []
    for part in [*parts, *random.slopes]:
        slope = () if part is None else part.factors
        left = "1" if part is None else f"0 + {part.label}"
        yield (
            SmoothTerm("s", (*grouping, *slope), None, (("bs", String("re")),)),
            f"({left} | {random.group.label})",
        )


def _nodes(term: SmoothTerm) -> list[Node]:
    return [*term.args, *([term.by] if term.by is not None else [])]


def _stacked(
    term: SmoothTerm, terms: Sequence[tuple[SmoothTerm, str | None]], values: Mapping[str, FloatArray | Factor]
) -> dict[str, FloatArray | Factor] | None:
    """Values of all terms that share an id, one below the other: they share the basis that these give."""
    label = term.option("id")
    family = [other for other, _ in terms if label is not None and other.option("id") == label]
    if len({tuple(map(deparse, other.args)) for other in family}) < 2:
        return None
    columns: dict[str, FloatArray | Factor] = {}
    for place, node in enumerate(term.args):
        parts = [values[deparse(other.args[place])] for other in family if len(other.args) == len(term.args)]
        if len(parts) < len(family) or not all(isinstance(part, np.ndarray) for part in parts):
            raise FormulaError(f"smooths of id={label} must be of as many numbers each; {term.label} is not")
        columns[deparse(node)] = np.concatenate([np.asarray(part) for part in parts])
    return columns


def _is_ordered(node: Node, table: pd.DataFrame) -> bool:
    if isinstance(node, Name):
        dtype = table[node.name].dtype
        return isinstance(dtype, pd.CategoricalDtype) and bool(dtype.ordered)
    return isinstance(node, Call) and node.name == "ordered"


def _values(variables: Variables, values: Sequence[FloatArray | Factor]) -> dict[str, FloatArray | Factor]:
    return {
        spec.label: value if isinstance(value, Factor) else np.asarray(value, dtype=np.float64).reshape(-1)
        for spec, value in zip(variables.specs, values, strict=True)
    }


def _lenient(terms: Sequence[tuple[SmoothTerm, str | None]]) -> tuple[str, ...]:
    """Labels that stand in random effects and nowhere else."""
    random: dict[str, None] = {}
    other: set[str] = set()
    for term, _ in terms:
        labels = {deparse(node): None for node in term.args}
        if term.random:
            random |= labels
        else:
            other |= set(labels)
        if term.by is not None:
            other.add(deparse(term.by))
    return tuple(label for label in random if label not in other)


def _distinct_labels(smooths: Sequence[Smooth]) -> list[str]:
    """Number labels that come again, as of ``s(x) + s(x, bs='re')``."""
    seen: dict[str, int] = {}
    labels = []
    for smooth in smooths:
        seen[smooth.label] = seen.get(smooth.label, 0) + 1
        labels.append(smooth.label if seen[smooth.label] == 1 else f"{smooth.label}[{seen[smooth.label]}]")
    return labels


def _read_ranges(saved: Reader, variables: Variables) -> dict[str, tuple[float, float]]:
    saved.require(
        saved.names() == tuple(spec.label for spec in variables.specs if not spec.categorical),
        "be those of the formula's numbers, in its order",
    )
    ranges = {}
    for label in saved.names():
        low, high = saved.array(label, (2,)).tolist()
        saved.require(low <= high, "start at the lower end")
        ranges[label] = (low, high)
    return ranges


def _rebuilt(
    saved: Reader, terms: Sequence[tuple[SmoothTerm, str | None]], levels: Mapping[str, tuple[str, ...]]
) -> Iterator[Smooth]:
    """Rebuild saved smooths beside the terms they came from."""
    items, position = saved.value("smooths"), 0
    saved.require(isinstance(items, list), "hold a list of smooths")
    for term, label in terms:
        by = () if term.by is None else levels[deparse(term.by)]
        curves = 0
        while position < len(items) and curves < max(1, len(by)):
            try:
                smooth = Smooth.from_dict(items[position], term)
            except ModelFileError:
                if curves and by:  # an ordered factor's first level has no curve of its own
                    break
                raise
            yield smooth if label is None else replace(smooth, label=label)
            position, curves = position + 1, curves + 1
        saved.require(curves >= max(1, len(by) - 1), f"hold {term.label}")
    saved.require(position == len(items), "hold no smooth that the formula does not")


def null_space(smooth: Smooth) -> FloatArray:
    """Basis of the coefficients that no penalty touches, (df, M_j); all of them for a smooth without penalties."""
    if not smooth.penalties:
        return np.eye(smooth.df)
    total = np.zeros((smooth.df, smooth.df))
    for S in smooth.penalties:
        total += S / np.linalg.norm(S)
    values, vectors = np.linalg.eigh(total)
    return np.asarray(vectors[:, values <= values[-1] * NULL], dtype=np.float64)
