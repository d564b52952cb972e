"""A design: a formula's columns, and all that is needed to build the same columns on new rows.

In ComBat the batch columns hold the intercept (`absorb_intercept=True`): ``-1`` and ``+0`` then change
nothing, factors keep their contrasts, and no intercept column is returned. Ordered categoricals get
treatment contrasts, unlike R's polynomial ones; write ``C(x, contr.poly)`` for those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.linalg import block_diag

from pycombat_gam.design.parametric import Parametric
from pycombat_gam.design.penalties import SmoothingParameters
from pycombat_gam.design.smooths import SmoothPart, null_space, smooth_terms
from pycombat_gam.errors import FormulaError
from pycombat_gam.formula import Formula, parse_formula
from pycombat_gam.formula.variables import Variables
from pycombat_gam.saving.reader import Reader
from pycombat_gam.smooth.assemble import Smooth
from pycombat_gam.types import FloatArray, JsonDict
from pycombat_gam.words import count, listing

INTERCEPT = "(Intercept)"


@dataclass(frozen=True, eq=False, repr=False)
class Design:
    """A formula with what its terms learned from a table.

    Attributes
    ----------
    formula : Formula
        What was asked for.
    columns : tuple of str
        R's column labels, p of them.
    term_slices : dict of str to slice
        Each term's columns, by R's term label.
    absorb_intercept : bool
        Whether the intercept is left to the batch columns.
    parametric : Parametric
        What the parametric terms learned.
    smooth : SmoothPart
        What smooths and random effects learned; their columns follow the parametric ones.
    offsets : Variables
        What the offsets learned; they have no columns, see `offset`.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"age": [20.0, 30, 40, 50], "sex": ["F", "M", "M", "F"]})
    >>> design = Design.learn("~ age + sex", table, absorb_intercept=True)
    >>> design.columns
    ('age', 'sexM')
    >>> design.on(pd.DataFrame({"sex": ["M"], "age": [35]}))
    array([[35.,  1.]])
    """

    formula: Formula
    columns: tuple[str, ...]
    term_slices: dict[str, slice]
    absorb_intercept: bool
    parametric: Parametric
    smooth: SmoothPart
    offsets: Variables

    @classmethod
    def learn(
        cls,
        formula: str | Formula,
        table: pd.DataFrame,
        *,
        absorb_intercept: bool,
        knots: Mapping[str, FloatArray] | None = None,
        select: bool = False,
    ) -> Design:
        """Learn a design from a table.

        Parameters
        ----------
        formula : str or Formula
            An R formula; one-sided where `absorb_intercept`.
        table : DataFrame, shape (n, any)
            Holds the columns that the formula uses; others are not touched.
        absorb_intercept : bool
            True for ComBat, where the batch columns hold the intercept.
        knots : mapping of str to ndarray, optional
            Knots by variable, for the smooths that take them.
        select : bool
            Give every smooth a penalty on its null space, so that it can shrink to zero (mgcv's `select`).

        Returns
        -------
        Design

        Raises
        ------
        FormulaError
            If the formula is wrong in itself.
        DataError
            If a column is absent, or holds missing, infinite or unusable cells.
        DesignError
            If a factor has one level, or a transform or smooth asks for more than the column holds.
        NotYetError
            For correlated random effects and bases that are not here.

        Notes
        -----
        Follows R's `model.frame` and `model.matrix`, and mgcv's `gam.setup`.
        """
        parsed = parse_formula(formula) if isinstance(formula, str) else formula
        if not isinstance(parsed, Formula):
            raise FormulaError(f"the formula is a {type(formula).__name__}; give it as text, for example '~ age + sex'")
        check_supported(parsed, absorb_intercept=absorb_intercept)
        intercept = parsed.intercept or absorb_intercept
        parametric = Parametric.learn(parsed.parametric, table, intercept=intercept)
        smooth = SmoothPart.learn(parsed, table, intercept=intercept, knots=knots or {}, select=select)
        offsets = check_offsets(Variables.learn(parsed.offsets, table))
        return cls.of(parsed, parametric, smooth, offsets, absorb_intercept=absorb_intercept)

    @classmethod
    def of(
        cls,
        formula: Formula,
        parametric: Parametric,
        smooth: SmoothPart,
        offsets: Variables,
        *,
        absorb_intercept: bool,
    ) -> Design:
        """Put parts that have learned together."""
        columns: list[str] = []
        slices: dict[str, slice] = {}
        if formula.intercept and not absorb_intercept:
            columns.append(INTERCEPT)
            slices[INTERCEPT] = slice(0, 1)
        for term, labels in zip(formula.parametric, parametric.labels(), strict=True):
            slices[term.label] = slice(len(columns), len(columns) + len(labels))
            columns += labels
        for smooth_term in smooth.smooths:
            slices[smooth_term.label] = slice(len(columns), len(columns) + smooth_term.df)
            columns += [f"{smooth_term.label}.{i + 1}" for i in range(smooth_term.df)]
        return cls(formula, tuple(columns), slices, absorb_intercept, parametric, smooth, offsets)

    @property
    def smooth_slices(self) -> list[slice]:
        """The columns of each smooth."""
        return [self.term_slices[smooth.label] for smooth in self.smooth.smooths]

    @property
    def random_effects(self) -> list[tuple[Smooth, slice]]:
        """The random effects, curves of groups among them, and the columns of each."""
        pairs = zip(self.smooth.smooths, self.smooth_slices, strict=True)
        return [(smooth, columns) for smooth, columns in pairs if smooth.random]

    def smoothing_parameters(self, sp: Sequence[float] | None = None) -> SmoothingParameters:
        """Return the smoothing parameters, and the penalties that each one drives; `sp` fixes them, negative: free."""
        return SmoothingParameters.of(self.smooth.smooths, self.smooth_slices, sp)

    def on(self, table: pd.DataFrame) -> FloatArray:
        """Build the design's columns on a table: the one it was learned from, or any other.

        Parameters
        ----------
        table : DataFrame, shape (n, any)
            New rows; which levels are present there changes nothing.

        Returns
        -------
        ndarray, shape (n, p)
            float64, C-contiguous.

        Raises
        ------
        DataError
            If a column is absent, holds missing or infinite cells, a new level, or another kind of values
            than in the fit.

        Notes
        -----
        Follows R's `model.matrix` on terms with `predvars` (`makepredictcall`).
        """
        intercept = [np.ones((len(table), 1))] if INTERCEPT in self.term_slices else []
        return np.ascontiguousarray(np.hstack([*intercept, self.parametric.on(table), *self.smooth.on(table)]))

    def offset(self, table: pd.DataFrame) -> FloatArray:
        """Sum the formula's offsets on a table, (n,): the part of the mean whose coefficient is one.

        Notes
        -----
        R's `model.offset`.
        """
        total = np.zeros(len(table))
        for value in self.offsets.on(table):
            total += np.asarray(value)
        return total

    def less_offset(self, Y: np.ndarray, table: pd.DataFrame) -> np.ndarray:
        """Take the offset off the features of a table, (n, V): the same array where the formula has none."""
        return Y - self.offset(table)[:, None] if self.formula.offsets else Y

    def unpenalised(self) -> Unpenalised:
        """Return the part of the columns' span that no penalty touches: it has to be of full rank."""
        names: list[str] = []
        slices: dict[str, slice] = {}
        maps: list[FloatArray] = []
        of_smooth = {smooth.label: smooth for smooth in self.smooth.smooths}
        for label, columns in self.term_slices.items():
            smooth = of_smooth.get(label)
            held = np.eye(columns.stop - columns.start) if smooth is None else null_space(smooth)
            slices[label] = slice(len(names), len(names) + held.shape[1])
            names += (
                self.columns[columns]
                if smooth is None
                else [f"{label} (unpenalised {i + 1})" for i in range(held.shape[1])]
            )
            maps.append(held)
        basis = np.asarray(block_diag(*maps)) if maps else np.zeros((0, 0))
        return Unpenalised(tuple(names), slices, basis.reshape(len(self.columns), len(names)))

    def to_dict(self) -> JsonDict:
        """Return the design as plain data, for JSON."""
        return {
            "formula": str(self.formula),
            "absorb_intercept": self.absorb_intercept,
            "columns": list(self.columns),
            **self.parametric.to_dict(),
            "smooth": self.smooth.to_dict(),
            **({"offset": self.offsets.to_dict()} if self.formula.offsets else {}),
        }

    @classmethod
    def from_dict(cls, data: JsonDict) -> Design:
        """Rebuild a design from `to_dict`'s plain data; the formula is parsed again and every number checked.

        Raises
        ------
        FormulaError
            If the formula's text is not one that may be used.
        ModelFileError
            If anything else is missing, of the wrong kind, or at odds with the formula.
        """
        saved = Reader(data, "the saved design").exactly(
            "formula", "absorb_intercept", "columns", "factors", "states", "smooth", optional=("offset",)
        )
        formula, absorb = parse_formula(saved.text("formula")), saved.flag("absorb_intercept")
        check_supported(formula, absorb_intercept=absorb)
        parametric = Parametric.read(saved, formula.parametric, intercept=formula.intercept or absorb)
        smooth = SmoothPart.read(saved.child("smooth", "the saved smooths"), formula)
        saved.require(saved.has("offset") == bool(formula.offsets), "hold an offset where its formula has one, only")
        offsets = Variables((), (), {})
        if formula.offsets:
            offsets = check_offsets(Variables.read(saved.child("offset").exactly("factors", "states"), formula.offsets))
        design = cls.of(formula, parametric, smooth, offsets, absorb_intercept=absorb)
        saved.require(saved.texts("columns") == design.columns, "have the columns of its formula")
        return design

    def __repr__(self) -> str:
        absorbed = "; the intercept is in the batch columns" if self.absorb_intercept else ""
        rows = [("term", "kind", "columns", "levels")]
        for label in self.term_slices:
            described = ("intercept", "1", "") if label == INTERCEPT else self._describe(label)
            rows.append((label, *described))
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [
            f"  {row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}".rstrip() for row in rows
        ]
        p = len(self.columns)
        return "\n".join([f"Design {self.formula}: {p} column{'' if p == 1 else 's'}{absorbed}", *lines])

    def _describe(self, label: str) -> tuple[str, str, str]:
        columns = self.term_slices[label]
        if label not in (parametric := [term.label for term in self.formula.parametric]):
            smooth = next(smooth for smooth in self.smooth.smooths if smooth.label == label)
            kind = "random effect" if smooth.random else "smooth"
            return kind, str(columns.stop - columns.start), count(len(smooth.penalties), "penalty", "penalties")
        position = parametric.index(label)
        specs = [self.parametric.specs[i] for i in self.parametric.codings[position].factors]
        kind = " x ".join("factor" if spec.categorical else "numeric" for spec in specs)
        levels = " x ".join(listing(spec.levels, 6) for spec in specs if spec.categorical)
        return kind, str(columns.stop - columns.start), levels


class Unpenalised(NamedTuple):
    """The unpenalised part of a design: p₀ combinations of its p columns.

    Attributes
    ----------
    columns : their labels; term_slices : which of them each term has.
    basis : (p, p₀) the combinations.
    """

    columns: tuple[str, ...]
    term_slices: dict[str, slice]
    basis: FloatArray


def check_offsets(offsets: Variables) -> Variables:
    """Stop for an offset that is not one number per row."""
    for spec in offsets.specs:
        if spec.categorical or spec.columns != 1:
            raise FormulaError(f"offset({spec.label}) is not one number per row; give a numeric expression")
    return offsets


def check_supported(formula: Formula, *, absorb_intercept: bool) -> None:
    """Stop for what a design cannot hold: a response where the formula is one-sided, correlated random effects."""
    if formula.response is not None and absorb_intercept:
        raise FormulaError(
            f"the formula '{formula}' has a response on its left; here it is one-sided, since the features are "
            f"the responses: write '{formula.right}'"
        )
    for _ in smooth_terms(formula):
        pass
