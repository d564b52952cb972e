"""The verdict on the biology: what the test finds, and by how much harmonization changes the effects.

A term counts as found in a feature if its p, adjusted for the number of features, is below the level. The test accounts
for sites (`diagnose.association`). Of a table that ComBat harmonized it is the same before and after, so the verdict
gives one count; of other tables it gives both, and draws no conclusion from their difference.

What harmonization does to the effects is estimated, not read off from counts: the ratio of the effects in the
harmonized table, analysed without site, to those within sites before, with its interval (`diagnose.change`). Effects
are

- *kept* if the whole interval lies within 10 % of one, a test of equivalence;
- *smaller* or *larger* if the estimate is beyond 10 % and the interval excludes one on that side;
- *not clearly changed* otherwise. If the interval excludes one, the direction is named; how much it matters is open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pycombat_gam.formula import Formula
from pycombat_gam.formula.functions import variables
from pycombat_gam.report.kept import fixed_covariates, random_effects
from pycombat_gam.report.legend import BY_CONSTRUCTION
from pycombat_gam.report.parts import Sentences
from pycombat_gam.report.verdict_predictions import (
    by_state,
    lead_predictions,
    predicted,
    predictions,
    worse_predictions,
)
from pycombat_gam.report.wording import three
from pycombat_gam.study.states import AFTER, BEFORE
from pycombat_gam.words import count, joined, percent

if TYPE_CHECKING:
    from pycombat_gam.diagnose import Diagnosis

MATTERS = 0.1
"""Change of the effects that counts, relative to them."""
KEPT, SMALLER, LARGER, UNCLEAR = "kept", "smaller", "larger", "unclear"


@dataclass(frozen=True)
class TermFound:
    """What was found of a term.

    Attributes
    ----------
    term : label.
    found, tested, untested : features by state: with an adjusted p below the level, with one at all, without.
    ratio, lower, upper : the effects after, without site, relative to those before; NaN where that was not estimated.
    """

    term: str
    found: dict[str, int]
    tested: dict[str, int]
    untested: dict[str, int]
    ratio: float = np.nan
    lower: float = np.nan
    upper: float = np.nan

    @property
    def change(self) -> str:
        """What became of the effects, in a word; empty where it was not estimated."""
        if np.isnan(self.ratio):
            return ""
        if self.lower >= 1.0 - MATTERS and self.upper <= 1.0 + MATTERS:
            return KEPT
        if self.ratio < 1.0 - MATTERS and self.upper < 1.0:
            return SMALLER
        return LARGER if self.ratio > 1.0 + MATTERS and self.lower > 1.0 else UNCLEAR

    @property
    def direction(self) -> str:
        """On which side of one the interval lies, in a word; empty where it holds one."""
        return "smaller" if self.upper < 1.0 else "larger" if self.lower > 1.0 else ""


def biology(diagnosis: Diagnosis, formula: Formula) -> Sentences:
    """Say what is associated with the features, what became of the effects, and what can be predicted."""
    table = diagnosis.table
    if not (table["aspect"].isin(["association", "covariate prediction"])).any():
        return _nothing(formula)
    terms, worse = terms_found(diagnosis), worse_predictions(diagnosis)
    changed = {term.change for term in terms} - {""}
    texts = _ratios(terms, diagnosis.level)
    if AFTER in diagnosis.states:
        texts += _by_construction(diagnosis)
    texts += predictions(diagnosis)
    bad = bool(worse) or SMALLER in changed
    tone = "bad" if bad else "good" if changed == {KEPT} else "plain"
    return Sentences(" ".join(texts), lead=_lead(terms, worse, diagnosis, formula), tone=tone)


def terms_found(diagnosis: Diagnosis) -> list[TermFound]:
    """Count the features in which each term is found, and take its change from the table."""
    table = diagnosis.table
    changes = table[table["aspect"] == "effect change"].set_index("covariate")[["value", "lower", "upper"]]
    terms = []
    for term, part in table[table["aspect"] == "association"].groupby("covariate", sort=False):
        by_state = {str(state): rows["p_adjusted"] for state, rows in part.groupby("state", sort=False)}
        numbers = map(float, changes.loc[term]) if term in changes.index else ()
        terms.append(
            TermFound(
                str(term),
                {state: int((p < diagnosis.level).sum()) for state, p in by_state.items()},
                {state: int(p.notna().sum()) for state, p in by_state.items()},
                {state: int(p.isna().sum()) for state, p in by_state.items()},
                *numbers,
            )
        )
    return terms


def same_test(diagnosis: Diagnosis) -> bool:
    """Tell whether the tests after harmonization are those before, as they are where ComBat harmonized."""
    rows = diagnosis.table[diagnosis.table["aspect"] == "association"]
    before, after = (
        rows[rows["state"] == state].set_index(["covariate", "feature"])["p"].sort_index() for state in (BEFORE, AFTER)
    )
    return before.equals(after)


def _nothing(formula: Formula) -> Sentences:
    fixed, random = fixed_covariates(formula), random_effects(formula)
    if fixed:
        text = f"No association with {joined(fixed)} could be tested; the notes say why."
        return Sentences(text, lead="Whether the associations with the covariates are kept was not tested.")
    if random:
        text = "The formula names no fixed covariate, so what harmonization did to any was not examined."
        return Sentences(text, lead=f"{random.capitalize()} were modelled and kept, no fixed covariate.")
    text = "The formula names no covariate, so what harmonization did to any was not examined."
    return Sentences(text, lead="No covariate was kept.")


def _lead(terms: Sequence[TermFound], worse: Sequence[str], diagnosis: Diagnosis, formula: Formula) -> str:
    """Say the worst first: what became smaller, what was found, what changed how, what was not found or tested."""
    interval = f"{percent(1.0 - diagnosis.level)} interval"
    each = []
    for term in terms:
        if term.change in (SMALLER, LARGER):
            each.append(
                f"In the harmonized table without site, effects of {term.term} are {three(term.ratio)} times those "
                f"before ({interval} {three(term.lower)} to {three(term.upper)})."
            )
    if worse:
        each.append(f"Harmonization weakened the prediction of {joined(worse)}.")
    each += _counts(terms, diagnosis)
    kept = [term.term for term in terms if term.change == KEPT]
    unclear = [term.term for term in terms if term.change == UNCLEAR and not term.direction]
    unknown = [term.term for term in terms if not term.change and any(term.found.values())]
    if kept:
        each.append(f"Harmonization keeps the effects of {joined(kept)}, to within {percent(MATTERS)}.")
    for direction in ("smaller", "larger"):
        moved = [term.term for term in terms if term.change == UNCLEAR and term.direction == direction]
        if moved:
            each.append(
                f"Effects of {joined(moved)} are {direction} after harmonization; whether by more than "
                f"{percent(MATTERS)} is not clear."
            )
    if unclear:
        each.append(f"Whether harmonization keeps the effects of {joined(unclear)} is not clear.")
    if unknown and AFTER in diagnosis.states:
        each.append(f"By how much harmonization changes the effects of {joined(unknown)} was not estimated.")
    absent = [term.term for term in terms if any(term.tested.values()) and not any(term.found.values())]
    if absent:
        each += _absent(absent, diagnosis, formula)
    each += _untested(terms)
    if not terms and not worse and AFTER in diagnosis.states:
        each += lead_predictions(by_state(diagnosis))
    return " ".join(each) or "Associations were not tested."


def _counts(terms: Sequence[TermFound], diagnosis: Diagnosis) -> list[str]:
    """Say in how many features the test finds each term: one count, or one for each state where tests differ."""
    states = [BEFORE] if AFTER not in diagnosis.states or same_test(diagnosis) else [BEFORE, AFTER]
    items = []
    for term in terms:
        if any(term.found.values()):
            counts = [_count(term, state, named=len(states) > 1) for state in states if term.tested.get(state)]
            items.append(f"{term.term} in {joined(counts)}")
    return _in_sentences("With sites accounted for, the test finds {}.", "It finds {}.", items, 4 - len(states))


def _count(term: TermFound, state: str, *, named: bool) -> str:
    """Write in how many features a term is found in a state, which is named if there are several."""
    untested = f" ({term.untested[state]:,} not tested)" if term.untested[state] else ""
    when = f" {state}" if named else ""
    return f"{term.found[state]:,} of {count(term.tested[state], 'feature')}{when}{untested}"


def _in_sentences(first: str, next: str, items: Sequence[str], most: int) -> list[str]:
    """Write items in sentences of a few each, which have a place for them."""
    chunks = [items[at : at + most] for at in range(0, len(items), most)]
    return [(next if at else first).format(joined(chunk)) for at, chunk in enumerate(chunks)]


def _untested(terms: Sequence[TermFound]) -> list[str]:
    """Say which terms were not tested, or in one state only."""
    never = [term.term for term in terms if not any(term.tested.values())]
    each = [f"Associations with {joined(never)} were not tested; the notes say why."] if never else []
    for state in (BEFORE, AFTER):
        lacking = [term.term for term in terms if term.term not in never and term.tested.get(state) == 0]
        if lacking:
            each.append(f"Associations with {joined(lacking)} were not tested {state} harmonization.")
    return each


def _ratios(terms: Sequence[TermFound], level: float) -> list[str]:
    """Write the change of each term's effects with its interval."""
    items = [
        f"{term.term} {three(term.ratio)} ({three(term.lower)} to {three(term.upper)})" for term in terms if term.change
    ]
    first = (
        f"Effects after harmonization, without site, as multiples of those before ({percent(1.0 - level)} intervals)"
    )
    return _in_sentences(f"{first}: {{}}.", "Likewise {}.", items, 3)


def _by_construction(diagnosis: Diagnosis) -> list[str]:
    """Say what is so by construction after harmonization: predictions, and tests that do not undo it."""
    table = diagnosis.table[diagnosis.table["state"] == AFTER]
    what = [
        words
        for aspect, words in (("association", "tests"), ("covariate prediction", "predictions"))
        if (table["aspect"] == aspect).any() and not (aspect == "association" and same_test(diagnosis))
    ]
    return [BY_CONSTRUCTION.format(joined(what))] if what else []


def _absent(terms: Sequence[str], diagnosis: Diagnosis, formula: Formula) -> list[str]:
    """Say of which terms nothing was found; a covariate that all features together predict is another matter."""
    together = predicted(diagnosis)
    by_all = [term for term in terms if _columns_of(formula, term) & together]
    nowhere = [term for term in terms if term not in by_all]
    each = [f"No association with {joined(nowhere, 'or')} was found."] if nowhere else []
    if by_all:
        each += [
            f"No association of a single feature with {joined(by_all, 'or')} was found.",
            f"All features together predict {joined(by_all)} better than chance, not adjusted for the other terms.",
        ]
    return each


def _columns_of(formula: Formula, term: str) -> set[str]:
    """Return the column that a term is of, if it is of one: a prediction says nothing of an interaction."""
    nodes = {effect.label: effect.factors for effect in formula.parametric} | {
        smooth.label: smooth.args for smooth in formula.smooths if smooth.by is None
    }
    columns = {name for node in nodes.get(term, ()) for name in variables(node)}
    return columns if len(columns) == 1 else set()
