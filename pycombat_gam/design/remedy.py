"""What to do about a design that cannot be estimated: terms as they were written, and the change that mends it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pycombat_gam.design.design import Design
from pycombat_gam.formula.formula import SmoothTerm
from pycombat_gam.formula.nodes import deparse
from pycombat_gam.smooth.assemble import Smooth
from pycombat_gam.words import listing

MANY = 0.5
"""A factor with levels for this share of the rows holds dates, ids or numbers as text, not groups."""


def as_written(design: Design) -> dict[str, str]:
    """Return how each term stands in the formula: ``s(age, by = sex)`` for the curve of a level of sex."""
    smooths = {smooth.label: smooth for smooth in design.smooth.smooths}
    return {label: _written(smooths[label]) if label in smooths else label for label in design.term_slices}


def many_levels(design: Design, n: int) -> dict[str, str]:
    """Return the terms that are factors with nearly as many levels as rows, and what to say of each."""
    reasons = {}
    for term, coding in zip(design.parametric.terms, design.parametric.codings, strict=True):
        specs = [design.parametric.variables.specs[i] for i in coding.factors]
        if len(specs) == 1 and specs[0].categorical and len(specs[0].levels) > MANY * n:
            reasons[term.label] = (
                f"a factor with {len(specs[0].levels)} distinct values in {n} rows: if they are dates or numbers, make "
                "the column numeric (a date: the days since the first)"
            )
    return reasons


def remedy(design: Design, dependent: Sequence[tuple[str, str]]) -> str:
    """Say how to mend a formula in which terms (by label, and which part of each) are combinations of others.

    Curves by the levels of a factor contain their common curve, unless the first level has none (R: an ordered factor).
    A smooth contains the straight line of its variable.
    """
    advice: dict[str, None] = {}
    written, gone = as_written(design), []
    for label in dict.fromkeys(label for label, _ in dependent):
        smooth = next((candidate for candidate in design.smooth.smooths if candidate.label == label), None)
        more = list(_of_smooth(design, smooth)) if smooth is not None else []
        advice |= dict.fromkeys(more)
        if not more:
            gone.append(label)
    if gone:
        whole = not advice and all(what == written[label] for label, what in dependent)
        named = listing(f"'{written[label]}'" for label in gone)
        advice[f"remove {('it' if len(gone) == 1 else 'them') if whole else named} from the formula"] = None
    message = "; ".join(advice)
    return message[0].upper() + message[1:]


def _of_smooth(design: Design, smooth: Smooth) -> Iterator[str]:
    term = smooth.term
    for other in design.smooth.smooths:
        common, levels = (smooth, other) if smooth.by_level is None else (other, smooth)
        if common.by is None and levels.by_level is not None and _variables(common.term) == _variables(levels.term):
            yield (
                f"drop '{_written(common)}', or make '{levels.by}' an ordered factor in '{_written(levels)}', whose "
                "first level then has no curve of its own"
            )
    # By a number, a smooth is not centred and holds the number's line; by a factor, the levels' means are left out.
    lines = {*_variables(term), *([] if smooth.by is None or smooth.by_level is not None else [smooth.by])}
    for parametric in design.formula.parametric:
        if {deparse(node) for node in parametric.factors} <= lines:
            yield f"drop '{parametric.label}': '{_written(smooth)}' contains its line"


def _variables(term: SmoothTerm) -> frozenset[str]:
    return frozenset(map(deparse, term.args))


def _written(smooth: Smooth) -> str:
    return smooth.label if smooth.random else deparse(smooth.term.call)
