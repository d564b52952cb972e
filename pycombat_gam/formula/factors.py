"""Functions that make factors: their levels, labels and contrasts, intervals of numbers, and crossed groups.

What they learn (levels, breaks) is plain data in `states`, as for every expression; see `evaluate`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import product

import numpy as np

from pycombat_gam.errors import DataError, DesignError, FormulaError
from pycombat_gam.formula.columns import Columns, Factor, Groups, as_groups, code_levels, label_of, learn_levels
from pycombat_gam.formula.functions import CONTRASTS, Bound, Literal, bind, literal
from pycombat_gam.formula.intervals import Intervals
from pycombat_gam.formula.nodes import Call, Name, Node, String, deparse
from pycombat_gam.formula.options import flag
from pycombat_gam.saving.reader import Reader
from pycombat_gam.types import FloatArray, JsonDict
from pycombat_gam.words import listing

FACTORS = ("factor", "as.factor", "ordered", "as.ordered", "relevel", "C", "interaction")
"""Functions that take any column for a factor; each learns its levels."""
MAX_LEVELS = 10_000


class FactorFunctions(ABC):
    """The part of an `Evaluator` that makes factors.

    Attributes
    ----------
    columns, states, learning : see `Evaluator`.
    lenient : bool
        Code a level that was not in the fit −1 instead of raising an error.
    """

    columns: Columns
    states: dict[str, JsonDict]
    learning: bool
    lenient: bool = False

    @abstractmethod
    def groups(self, node: Node) -> Groups | Factor:
        """Evaluate to groups, whatever the kind of the values."""

    @abstractmethod
    def finite_vector(self, node: Node, whole: Node) -> FloatArray:
        """Evaluate to numbers (n,), all of them finite."""

    def state(self, key: str) -> JsonDict:
        """Look up what an expression learned."""
        state: JsonDict = Reader(self.states, "the saved states").value(key)
        return state

    def make_factor(self, node: Call, argument: Node, bound: Bound, options: dict[str, Literal]) -> Factor:
        """Evaluate a call of one of `FACTORS`."""
        if node.name == "relevel":
            return self._relevel(node, argument, options)
        if node.name == "C":
            return self._contrast(node, argument, bound, options)
        if node.name == "interaction":
            return self._interaction(node, list(bound.data.values()), options)
        return self._factor(node, argument, options)

    def as_character(self, argument: Node) -> Groups:
        """Turn any column into text, (n,), whose levels come in the order of their code points."""
        groups = self.groups(argument)
        labels = groups.levels if isinstance(groups, Factor) else [label_of(value) for value in groups.values]
        return as_groups(np.array(labels, dtype=object)[groups.codes])

    def cut(self, node: Call, argument: Node, options: dict[str, Literal]) -> Factor | FloatArray:
        """Sort numbers into intervals, as R's `cut`; with ``labels = FALSE`` the intervals' numbers."""
        x, key = self.finite_vector(argument, node), deparse(node)
        if self.learning and key not in self.states:
            self.states[key] = Intervals.learn(x, options, key).to_dict()
        intervals = Intervals.read(Reader(self.state(key), f"the saved state of {key}"))
        codes = intervals.codes(x)
        if (codes < 0).any():
            raise DataError(
                f"{key} has no interval for {self.columns.where(codes < 0)} ({listing(x[codes < 0], 3)}); widen the "
                "breaks (-Inf and Inf are allowed), write include.lowest = TRUE, or leave those rows out"
            )
        return Factor(codes, intervals.labels) if intervals.labels else (codes + 1).astype(np.float64)

    def _interaction(self, node: Call, arguments: list[Node], options: dict[str, Literal]) -> Factor:
        """Cross factors; the first varies fastest, unless ``lex.order``."""
        key, sep = deparse(node), options.get("sep", ".")
        drop = flag(options.get("drop", False), "drop", key)
        lexical = flag(options.get("lex.order", False), "lex.order", key)
        if not isinstance(sep, str):
            raise FormulaError(f'{key}: sep must be text, as in sep = "."')
        parts = [self.groups(argument) for argument in arguments]
        levels = [[*p.levels] if isinstance(p, Factor) else [label_of(v) for v in p.values] for p in parts]
        unknown = np.logical_or.reduce([part.codes < 0 for part in parts])
        words = [np.array(ls, dtype=object)[part.codes] for ls, part in zip(levels, parts, strict=True)]
        cells = as_groups(np.array([sep.join(cell) for cell in zip(*words, strict=True)], dtype=object))
        if self.learning and key not in self.states:
            if np.prod([float(len(each)) for each in levels]) > MAX_LEVELS:
                raise DesignError(f"{key} has more than {MAX_LEVELS:,} levels; cross fewer factors")
            crossed = product(*levels) if lexical else (cell[::-1] for cell in product(*reversed(levels)))
            names = [sep.join(cell) for cell in crossed]
            if len(set(names)) < len(names):
                raise DesignError(f"{key}: two cells have the same label; give another sep")
            self.states[key] = {"levels": [name for name in names if not drop or name in set(cells.values)]}
        known = {level: code for code, level in enumerate(self.state(key)["levels"])}
        codes = np.array([known.get(str(cell), -1) for cell in cells.values], dtype=np.intp)[cells.codes]
        codes = np.where(unknown, -1, codes)
        if (codes < 0).any() and not self.lenient:
            new = dict.fromkeys(str(cells.values[code]) for code in cells.codes[codes < 0])
            raise DataError(
                f"{key} has levels not known from the fit: {listing(map(repr, new), 4)} in "
                f"{self.columns.where(codes < 0)}; known are {listing(map(repr, known))}; leave those rows out"
            )
        return Factor(codes, tuple(known))

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
        levels = tuple(self.state(key)["levels"])
        factor = code_levels(groups, levels, key, self.columns, origin, lenient=self.lenient)
        return Factor(factor.codes, factor.levels, contrast, base)

    def _factor(self, node: Call, argument: Node, options: dict[str, Literal]) -> Factor:
        wanted = _distinct(options.get("levels"), "levels", node)
        labels = named_labels(node)
        factor = self._levels(node, argument, lambda levels: wanted or levels)
        if not labels:
            return factor
        if len(labels) != len(factor.levels):
            raise FormulaError(
                f"{deparse(node)}: {len(labels)} labels for {len(factor.levels)} levels "
                f"({listing(map(repr, factor.levels))}); give one for each"
            )
        return Factor(factor.codes, labels, factor.contrast, factor.base)

    def _relevel(self, node: Call, argument: Node, options: dict[str, Literal]) -> Factor:
        if options.get("ref") is None or isinstance(options["ref"], (list, dict)):
            raise FormulaError(f'{deparse(node)}: relevel() needs a level, as in relevel(sex, ref="M")')
        named = options["ref"]

        def order(levels: tuple[str, ...]) -> tuple[str, ...]:
            if isinstance(named, str) and named not in levels:
                raise FormulaError(
                    f"{deparse(node)}: '{named}' is not a level; the levels are {listing(map(repr, levels))}"
                )
            if isinstance(named, str):
                first = levels.index(named)
            elif isinstance(named, int) and not isinstance(named, bool) and 1 <= named <= len(levels):
                first = named - 1  # as in R, a number counts the levels
            else:
                raise FormulaError(
                    f"{deparse(node)}: a number counts the levels, 1 to {len(levels)}; name one, as in "
                    f'ref = "{levels[0]}"'
                )
            return (levels[first], *levels[:first], *levels[first + 1 :])

        return self._levels(node, argument, order)

    def _contrast(self, node: Call, argument: Node, bound: Bound, options: dict[str, Literal]) -> Factor:
        chosen = bound.options.get("contr", Name("contr.treatment"))
        name = chosen.value if isinstance(chosen, String) else getattr(chosen, "name", "")
        if name not in CONTRASTS:
            raise FormulaError(
                f"{deparse(node)}: the contrast {deparse(chosen)} is not allowed; allowed are {listing(CONTRASTS)}"
            )
        factor = self._levels(node, argument, lambda levels: levels)
        position = options.get("base")
        reference: Literal = None
        if isinstance(chosen, Call):
            extra = [*chosen.args, *(value for key, value in chosen.kwargs if key in ("reference", "base"))]
            if len(extra) != len(chosen.args) + len(chosen.kwargs) or len(extra) > 1 or name != "Treatment":
                raise FormulaError(
                    f'{deparse(node)}: only Treatment("level") takes an argument; for R\'s contrasts write base='
                )
            reference = literal(extra[0], node) if extra else None
        if (position is not None or reference is not None) and CONTRASTS[name] != "contr.treatment":
            raise FormulaError(f"{deparse(node)}: base= belongs to contr.treatment only; remove it")
        base = 0
        if reference is not None:
            if label_of(reference) not in factor.levels:
                raise FormulaError(
                    f"{deparse(node)}: '{label_of(reference)}' is not a level; the levels are "
                    f"{listing(map(repr, factor.levels))}"
                )
            base = factor.levels.index(label_of(reference))
        elif position is not None:
            if not isinstance(position, int) or isinstance(position, bool) or not 1 <= position <= len(factor.levels):
                raise FormulaError(f"{deparse(node)}: base must be the number of a level, 1 to {len(factor.levels)}")
            base = position - 1
        return Factor(factor.codes, factor.levels, CONTRASTS[name], base, numbered=position is not None)


def named_labels(node: Call) -> tuple[str, ...]:
    """Return the labels that a call of `factor` or `ordered` gives to its levels; empty where it gives none."""
    labels = bind(node).options.get("labels")
    return () if labels is None else _distinct(literal(labels, node), "labels", node)


def _distinct(value: Literal, name: str, node: Call) -> tuple[str, ...]:
    """Read `levels` or `labels` of a factor, two or more; none where they are not given."""
    if value is None:
        return ()
    items = value if isinstance(value, list) else [value]
    wanted = tuple(dict.fromkeys(label_of(item) for item in items))
    if len(wanted) < 2 or any(isinstance(item, (list, dict)) or item is None for item in items):
        raise FormulaError(f'{deparse(node)}: {name} must be two or more values, as in {name}=c("a", "b")')
    if name == "labels" and len(wanted) < len(items):
        raise FormulaError(f"{deparse(node)}: two labels are equal; give different ones")
    return wanted
