"""What the tests of the verdict share: numbers of tests, strengths of associations, predictions, and their words."""

from __future__ import annotations

import numpy as np

from helpers.report_cases import State, told
from pycombat_gam.formula import parse_formula
from pycombat_gam.report.parts import Sentences
from pycombat_gam.report.verdict import verdict
from pycombat_gam.study.origin import FITTED, Origin

NULL = np.linspace(0.01, 1.0, 100)
"""p-values of 100 features without any effect: the smallest, adjusted, is 1."""
THREE = np.concatenate([NULL[:97], [1e-7, 1e-9, 1e-8]])
TWO = np.concatenate([NULL[:98], [4e-4, 4e-4]])
HALF = np.concatenate([NULL[:50], np.full(50, 1e-6)])
HERE = Origin(FITTED, rows=90, sites=3, fit_rows=90, fit_given=90, fit_sites=3)


def of(
    tests: dict[tuple[str, str], dict[str, State]], formula: str = "~ age", origin: Origin = HERE
) -> list[Sentences]:
    return list(verdict(told(tests), parse_formula(formula), origin))


def leads(tests: dict[tuple[str, str], dict[str, State]], formula: str = "~ age") -> list[str]:
    return [part.lead for part in of(tests, formula)]


def p(before: object, after: object = None, held_out: object = None) -> dict[str, State]:
    return {
        state: {"p": value}
        for state, value in (("before", before), ("after", after), ("held out", held_out))
        if value is not None
    }


QUIET = {
    ("location", "ANOVA"): p(NULL, NULL),
    ("scale", "Levene"): p(NULL, NULL),
    ("covariance", "covariance"): p(0.4, 0.5),
}


def strength(then: object, now: object = None, n: int = 10, **p: object) -> dict[str, State]:
    """An association: partial R² of n features (a number: about that), significant where it is not below 0.01."""
    states: dict[str, State] = {}
    for state, value in (("before", then), ("after", then if now is None else now)):
        R2 = np.asarray(value, dtype=float)
        if not R2.ndim:
            R2 = R2 * np.linspace(0.9, 1.1, n)
        given = p.get(state)
        states[state] = {"value": R2, "p": np.where(R2 < 0.01, 0.6, 1e-5) if given is None else given}
    return states


def changed(ratio: float, lower: float, upper: float) -> dict[str, State]:
    """What became of a term's effects, with its interval."""
    return {"after": {"value": ratio, "lower": lower, "upper": upper, "chance": 1.0}}


def predicted(before: float, after: float, held_out: float | None = None, *, measure: str = "AUC") -> dict[str, State]:
    half, chance = (0.05, 0.5) if measure == "AUC" else (1.0, 10.0)
    values = {"before": before, "after": after, **({} if held_out is None else {"held out": held_out})}
    return {
        state: {"value": value, "lower": value - half, "upper": value + half, "chance": chance}
        for state, value in values.items()
    }
