"""The verdict on the biology: associations that were found and kept, weakened or strengthened, or never found.

A term's p-value is the smallest of its features' p-values, adjusted for the number of features (that is, Simes' p). The
term counts as found in a state if this p is below the level after Holm's adjustment for the number of terms. If only
single features pass their own adjustment, it counts as near the limit, never as "no association". A term without a
p-value counts as not tested.

Significance in one state only says nothing about a change: 0.04 and 0.06 are the same evidence. A change has to be
estimated, paired by feature, over the features that are significant before or after (the others' partial R² is noise;
the choice treats the states alike):

- *Weaker* or *stronger* takes two things. A two-sided Wilcoxon signed-rank test (scipy's `wilcoxon`) below the level
  shows that the change has a direction. A median of the features' relative changes beyond 10 % in that direction shows
  that it matters. The ratio of two medians is no such change: the medians may be of different features, and move
  against most of them. With fewer features than the test needs, all have to move together. Features of one table
  are no independent sample, so this p is a rule for reading, not a test of a hypothesis.
- *Lost* or *new* takes a term that is found in one state and has not even a single significant feature in the other,
  and a median change beyond the confidence interval of a single estimate, on Fisher's scale: artanh of the partial R
  has the standard error 1/√(residual df − 1), to first order also for several columns. Both estimates are of the same
  rows: where they correlate by more than a half, an interval of their difference is narrower still.

A term that is found in one state and near the limit in the other did not clearly change, unless its features did. The
sentence on it then gives both shares of features, and never rests on a limit that one of them has crossed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

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
from pycombat_gam.report.wording import equals_p, three
from pycombat_gam.study.states import AFTER, BEFORE
from pycombat_gam.words import count, joined, percent

if TYPE_CHECKING:
    from pycombat_gam.diagnose import Diagnosis

MATTERS = 0.1
"""Median of the features' relative changes of partial R² that counts."""
SMALLEST = 6
"""Features from which a two-sided signed-rank test can have p below 0.05; fewer have to move all together."""
FOUND, LIMIT, ABSENT, UNTESTED = "found", "limit", "absent", "untested"
"""What a term is in one state: found, near the limit (single features only), not found, without a p-value."""
NONE, KEPT, WEAKER, STRONGER, LOST, NEW, UNCLEAR = "none", "kept", "weaker", "stronger", "lost", "new", "unclear"


@dataclass(frozen=True)
class Change:
    """What became of the associations with a term.

    Attributes
    ----------
    term : label; kind : one of the names above.
    then, now : what it is before and after.
    features : that are significant before or after; before, after : their median partial R².
    relative : median of their own relative changes, each feature with itself.
    p : of the signed-rank test; NaN where there are too few features.
    all_features, all_before, all_after : all that have a partial R² before and after, and its medians.
    share_before, share_after : of the features tested, those significant.
    """

    term: str
    kind: str
    then: str
    now: str
    features: int
    before: float
    after: float
    relative: float
    p: float
    all_features: int
    all_before: float
    all_after: float
    share_before: float
    share_after: float


def biology(diagnosis: Diagnosis, formula: Formula) -> Sentences:
    """Say what became of associations and predictions."""
    table = diagnosis.table
    if not (table["aspect"].isin(["association", "covariate prediction"])).any():
        return _nothing(formula)
    if AFTER not in diagnosis.states:
        texts = [*_shares(diagnosis), *predictions(diagnosis)]
        return Sentences(" ".join(texts), lead=_lead_before(diagnosis, formula))
    by_term = changes(diagnosis)
    worse = worse_predictions(diagnosis)
    texts = [*_shares(diagnosis), *_sizes(by_term), BY_CONSTRUCTION, *predictions(diagnosis)]
    kinds = {change.kind for change in by_term}
    bad = bool(worse or kinds & {WEAKER, LOST})
    good = not bad and bool(kinds & {KEPT, STRONGER}) and kinds <= {KEPT, STRONGER, NONE}
    if NEW in kinds:
        texts.append(
            "Harmonization may have uncovered what is found only after it. It may also stem from the covariates, which "
            "the model used: the audit's table of imbalance gives the actual level of later tests."
        )
    tone = "bad" if bad else "good" if good else "plain"
    return Sentences(" ".join(texts), lead=_lead(by_term, worse, diagnosis, formula), tone=tone)


def changes(diagnosis: Diagnosis) -> list[Change]:
    """Compare each term's partial R² before and after, feature by feature."""
    table = diagnosis.table
    rows = table[table["aspect"] == "association"]
    then, now = _present(rows, BEFORE, diagnosis.level), _present(rows, AFTER, diagnosis.level)
    return [
        _change(str(term), part, then.get(str(term), UNTESTED), now.get(str(term), UNTESTED), diagnosis.level)
        for term, part in rows.groupby("covariate", sort=False)
    ]


def _change(term: str, rows: pd.DataFrame, then: str, now: str, level: float) -> Change:
    value = rows.pivot(index="feature", columns="state", values="value").reindex(columns=[BEFORE, AFTER])
    p_adjusted = rows.pivot(index="feature", columns="state", values="p_adjusted").reindex(columns=[BEFORE, AFTER])
    some = (p_adjusted < level).any(axis=1) & value.notna().all(axis=1)
    shares = [float((tested < level).mean()) for tested in (p_adjusted[name].dropna() for name in (BEFORE, AFTER))]
    whole = (*map(float, value.median()), *shares)
    both = int(value.notna().all(axis=1).sum())
    pairs = value[some].to_numpy(dtype=np.float64)
    if UNTESTED in (then, now) or not len(pairs):
        kind = UNTESTED if UNTESTED in (then, now) else UNCLEAR if {then, now} != {ABSENT} else NONE
        return Change(term, kind, then, now, 0, np.nan, np.nan, np.nan, np.nan, both, *whole)
    relative = _relative(pairs)
    down = relative < 0
    consistent, p = _moved(pairs[:, 1] - pairs[:, 0], down, level)
    moved = consistent and abs(relative) > MATTERS
    df_residual = rows.groupby("feature")["df_residual"].min().reindex(value.index)[some].to_numpy(dtype=np.float64)
    kind = UNCLEAR
    if then == now == FOUND:
        kind = KEPT if not moved else WEAKER if down else STRONGER
    elif FOUND in (then, now) and down == (then == FOUND):
        beyond = _beyond(pairs, df_residual, level)
        if beyond and ABSENT in (then, now):
            kind = LOST if down else NEW
        elif moved and (beyond or not np.isnan(p)):
            kind = WEAKER if down else STRONGER
    before, after = map(float, np.median(pairs, axis=0))
    return Change(term, kind, then, now, len(pairs), before, after, relative, p, both, *whole)


def _relative(pairs: np.ndarray) -> float:
    """Return the median of the relative changes of partial R² (k, 2); from nothing to something has no finite one."""
    before, after = pairs.T
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.where(after == before, 0.0, after / before - 1.0)
    return float(np.median(change))


def _moved(difference: np.ndarray, down: bool, level: float) -> tuple[bool, float]:
    """Tell whether features moved in one direction; p of the signed-rank test where there are enough."""
    from scipy.stats import rankdata, wilcoxon

    if not difference.any():
        return False, 1.0
    if difference.size < SMALLEST:
        return bool((difference < 0).all() if down else (difference > 0).all()), np.nan
    p = float(wilcoxon(difference).pvalue)
    signed = np.sign(difference) @ rankdata(np.abs(difference))
    # Few large changes may outweigh many small ones: then test and median have no direction in common.
    return p < level and bool((signed < 0) == down), p


def _beyond(pairs: np.ndarray, df_residual: np.ndarray, level: float) -> bool:
    """Tell whether partial R² (k, 2) moved, in the median, by more than the interval of one of them is wide."""
    from scipy.stats import norm

    # A partial R² of one has no place on Fisher's scale.
    fisher = np.arctanh(np.sqrt(np.clip(pairs, 0.0, 1.0 - 1e-12)))
    errors = (fisher[:, 1] - fisher[:, 0]) * np.sqrt(np.maximum(df_residual - 1.0, 0.0))
    return bool(abs(np.median(errors)) > norm.isf(level / 2))


def _present(rows: pd.DataFrame, state: str, level: float) -> dict[str, str]:
    """Tell which terms are found in a state, near the limit or not found; terms without a p-value are not there."""
    from statsmodels.stats.multitest import multipletests

    smallest = rows[rows["state"] == state].groupby("covariate", sort=False)["p_adjusted"].min().dropna()
    if not len(smallest):
        return {}
    adjusted = multipletests(smallest, method="holm")[1]
    return {
        str(term): FOUND if by_terms < level else LIMIT if by_features < level else ABSENT
        for term, by_features, by_terms in zip(smallest.index, smallest, adjusted, strict=True)
    }


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


NEAR = "near the limit of significance: single features reach it, but not after adjustment for the number of terms"


def _lead_before(diagnosis: Diagnosis, formula: Formula) -> str:
    rows = diagnosis.table[diagnosis.table["aspect"] == "association"]
    there = _present(rows, BEFORE, diagnosis.level)
    of: dict[str, list[str]] = {}
    for term in dict.fromkeys(map(str, rows["covariate"])):
        of.setdefault(there.get(term, UNTESTED), []).append(term)
    each = []
    if FOUND in of:
        each.append(f"There are associations with {joined(of[FOUND])}.")
    if LIMIT in of:
        each.append(f"Associations with {joined(of[LIMIT])} are {NEAR}.")
    if ABSENT in of:
        each += _absent(of[ABSENT], diagnosis, formula, "was found")
    if UNTESTED in of:
        each.append(f"Associations with {joined(of[UNTESTED])} were not tested; the notes say why.")
    return " ".join(each) or "Associations were not tested."


def _lead(by_term: list[Change], worse: list[str], diagnosis: Diagnosis, formula: Formula) -> str:
    by_kind: dict[str, list[str]] = {}
    for change in by_term:
        by_kind.setdefault(change.kind, []).append(change.term)
    of = {kind: joined(terms) for kind, terms in by_kind.items()}
    each = []
    if WEAKER in of:
        each.append(f"Harmonization weakened the associations with {of[WEAKER]}.")
    if LOST in of:
        each.append(f"Associations with {of[LOST]} were found before harmonization, but not after.")
    if worse:
        each.append(f"Harmonization weakened the prediction of {joined(worse)}.")
    if KEPT in of:
        each.append(f"The associations with {of[KEPT]} were found before harmonization and are kept.")
    if STRONGER in of:
        each.append(f"Harmonization strengthened the associations with {of[STRONGER]}.")
    if NEW in of:
        each.append(f"Associations with {of[NEW]} were found only after harmonization.")
    each += _unclear([change for change in by_term if change.kind == UNCLEAR])
    if NONE in of:
        each += _absent(by_kind[NONE], diagnosis, formula, "was found, before or after harmonization")
    each += _untested([change for change in by_term if change.kind == UNTESTED])
    if not by_term and not worse:
        each += lead_predictions(by_state(diagnosis))
    return " ".join(each)


def _unclear(by_term: list[Change]) -> list[str]:
    """Say of which terms neither a change nor its absence is clear, whatever limit they are beyond on one side."""
    each = []
    for change in by_term:
        if FOUND not in (change.then, change.now):
            continue
        if LIMIT in (change.then, change.now):
            size = f"{percent(change.share_before)} of features before, {percent(change.share_after)} after"
        elif not change.features:
            size = "no feature that is significant was tested in both states"
        else:
            size = f"median change of partial R² {_signed(change.relative)}"
        each.append(f"Associations with {change.term} did not clearly change ({size}).")
    neither = [change.term for change in by_term if FOUND not in (change.then, change.now)]
    if neither:
        each.append(f"Associations with {joined(neither)} are {NEAR}.")
    return each


def _untested(by_term: list[Change]) -> list[str]:
    """Say which terms were not tested, or in one state only."""
    each = []
    never = [change.term for change in by_term if change.then == change.now == UNTESTED]
    if never:
        each.append(f"Associations with {joined(never)} were not tested; the notes say why.")
    for state, terms in (
        (BEFORE, [change.term for change in by_term if change.then == UNTESTED != change.now]),
        (AFTER, [change.term for change in by_term if change.now == UNTESTED != change.then]),
    ):
        if terms:
            each.append(
                f"Associations with {joined(terms)} were not tested {state} harmonization, so what became of them is "
                "not known."
            )
    return each


def _absent(terms: list[str], diagnosis: Diagnosis, formula: Formula, ending: str) -> list[str]:
    """Say of which terms nothing was found; a covariate that all features together predict is another matter."""
    together = predicted(diagnosis)
    by_all = [term for term in terms if _columns_of(formula, term) & together]
    nowhere = [term for term in terms if term not in by_all]
    each = [f"No association with {joined(nowhere, 'or')} {ending}."] if nowhere else []
    if by_all:
        each.append(
            f"No association of a single feature with {joined(by_all, 'or')} {ending}. All features together predict "
            f"{joined(by_all)} better than chance, but this is not adjusted for the other terms."
        )
    return each


def _columns_of(formula: Formula, term: str) -> set[str]:
    """Return the column that a term is of, if it is of one: a prediction says nothing of an interaction."""
    nodes = {effect.label: effect.factors for effect in formula.parametric} | {
        smooth.label: smooth.args for smooth in formula.smooths if smooth.by is None
    }
    columns = {name for node in nodes.get(term, ()) for name in variables(node)}
    return columns if len(columns) == 1 else set()


def _shares(diagnosis: Diagnosis) -> list[str]:
    """Write the share of features that a term is significant in, state by state, and how many were not tested."""
    rows = diagnosis.table[diagnosis.table["aspect"] == "association"]
    states = [state for state in diagnosis.states if (rows["state"] == state).any()]
    if not states:
        return []
    each = []
    for term, part in rows.groupby("covariate", sort=False):
        shares = []
        for state in states:
            p_adjusted = part.loc[part["state"] == state, "p_adjusted"]
            tested = p_adjusted.dropna()
            untested = len(p_adjusted) - len(tested)
            share = percent((tested < diagnosis.level).mean()) if len(tested) else "not tested"
            shares.append(f"{share} ({untested:,} not tested)" if untested and len(tested) else share)
        each.append(f"{term} {joined(shares)}")
    return [f"Share of features significantly associated, {joined(states)}: {'; '.join(each)}."]


def _sizes(by_term: list[Change]) -> list[str]:
    """Write the sizes by which a term was called weaker, stronger or kept."""
    selected = [change for change in by_term if change.features]
    if not selected:
        return []
    some, every = [], []
    for change in selected:
        test = "" if np.isnan(change.p) else f", signed-rank {equals_p(change.p)}"
        some.append(
            f"{change.term} {three(change.before)} and {three(change.after)} (median change "
            f"{_signed(change.relative)}, {change.features:,} of {count(change.all_features, 'feature')}{test})"
        )
        every.append(f"{change.term} {three(change.all_before)} and {three(change.all_after)}")
    texts = [
        "Changes in the associations are judged by the features significant before or after, and by no others.",
        f"Their median partial R², before and after: {'; '.join(some)}.",
        f"The median over all features, before and after: {'; '.join(every)}.",
        "The median change is the median of the features' relative changes, not the ratio of the two medians.",
        "Weaker or stronger means: the features changed in one direction (two-sided Wilcoxon signed-rank test, "
        f"paired by feature), and their median change exceeds {percent(MATTERS)}.",
    ]
    if any(not np.isnan(change.p) for change in selected):
        texts.append(
            "Features of one table are dependent: the signed-rank p is a rule for reading, not a test of a hypothesis."
        )
    kinds = {change.kind for change in by_term}
    if kinds & {LOST, NEW}:
        texts.append(
            "Lost or new means: significant in one state only, and a median change beyond the confidence interval of "
            "one estimate."
        )
    if kinds & {LOST, NEW, UNCLEAR}:
        texts.append("Significance in one state only is no evidence of a change.")
    return texts


def _signed(relative: float) -> str:
    """Write a relative change; from nothing there is none."""
    return percent(relative, "+.1f").replace("-", "−") if np.isfinite(relative) else "from 0"
