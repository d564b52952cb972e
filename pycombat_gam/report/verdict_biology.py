"""The verdict on the biology: associations that were found and kept, weakened or strengthened, or never found.

A term counts as found in a state if the smallest of its features' p-values, adjusted for the number of features (that
is, Simes' p), is below the level after Holm's adjustment for the number of terms. Where single features pass their own
adjustment and the term does not pass this one, it counts as near the limit, and never as "no association"; nor does a
term without a p-value, which is not tested.

That a term is found in one state only says nothing of a change: 0.04 and 0.06 are the same evidence. A change has to be
estimated, each feature with itself, over the features that are significant before or after (the others' partial R² is
noise; the choice treats the states alike):

- *Weaker* or *stronger* takes both a two-sided Wilcoxon signed-rank test (scipy's `wilcoxon`) below the level, which
  says that the change has a direction, and a median that moves by more than 10 %, which says that it matters. Fewer
  features than the test needs have to move all together. Features of one table are no independent sample, so this p is
  a rule for reading and no test of a hypothesis.
- *Lost* or *new* takes a term that is found in one state only, and a median change beyond the confidence interval of a
  single estimate, on Fisher's scale: artanh of the partial R has the standard error 1/√(residual df − 1), to first
  order also for several columns. Both estimates are of the same rows: where they correlate by more than a half, an
  interval of their difference is narrower still.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pycombat_gam.errors import count
from pycombat_gam.formula import Formula
from pycombat_gam.formula.functions import variables
from pycombat_gam.report.kept import fixed_covariates, random_effects
from pycombat_gam.report.parts import Sentences, joined
from pycombat_gam.report.verdict_predictions import (
    by_state,
    lead_predictions,
    predicted,
    predictions,
    worse_predictions,
)
from pycombat_gam.report.wording import equals_p, percent, three

if TYPE_CHECKING:
    from pycombat_gam.diagnose import Diagnosis

BEFORE, AFTER = "before", "after"
MATTERS = 0.1
"""Relative change of the median partial R² that counts."""
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
    p : of the signed-rank test; NaN where there are too few features.
    """

    term: str
    kind: str
    then: str
    now: str
    features: int
    before: float
    after: float
    p: float


def biology(diagnosis: Diagnosis, formula: Formula) -> Sentences:
    """Say what became of associations and predictions."""
    table = diagnosis.table
    if not (table["aspect"].isin(["association", "covariate prediction"])).any():
        return _nothing(formula)
    if AFTER not in diagnosis.states:
        texts = [*_shares(diagnosis), *predictions(diagnosis)]
        return Sentences(" ".join(texts), lead=_lead_before(diagnosis, formula))
    found = changes(diagnosis)
    worse = worse_predictions(diagnosis)
    texts = [*_shares(diagnosis), *_sizes(found), *predictions(diagnosis)]
    kinds = {change.kind for change in found}
    bad = bool(worse or kinds & {WEAKER, LOST})
    good = not bad and bool(kinds & {KEPT, STRONGER}) and kinds <= {KEPT, STRONGER, NONE}
    if NEW in kinds:
        texts.append(
            "What is found only after harmonization may be uncovered by it, or be the covariates' own trace: the model "
            "was told them (the audit's table of imbalance says by how much later tests are off)."
        )
    tone = "bad" if bad else "good" if good else "plain"
    return Sentences(" ".join(texts), lead=_lead(found, worse, diagnosis, formula), tone=tone)


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
    p_adjusted = rows.pivot(index="feature", columns="state", values="p_adjusted")
    some = (p_adjusted < level).any(axis=1) & value.notna().all(axis=1)
    pairs = value[some].to_numpy(dtype=np.float64)
    if UNTESTED in (then, now) or not len(pairs):
        kind = UNTESTED if UNTESTED in (then, now) else UNCLEAR if {then, now} != {ABSENT} else NONE
        return Change(term, kind, then, now, 0, np.nan, np.nan, np.nan)
    before, after = np.median(pairs, axis=0)
    down = bool(after < before)
    consistent, p = _moved(pairs[:, 1] - pairs[:, 0], down, level)
    moved = consistent and bool(abs(after - before) > MATTERS * before)
    df_residual = rows.groupby("feature")["df_residual"].min().reindex(value.index)[some].to_numpy(dtype=np.float64)
    kind = UNCLEAR
    if then == now == FOUND:
        kind = KEPT if not moved else WEAKER if down else STRONGER
    elif FOUND in (then, now) and down == (then == FOUND):
        if _beyond(pairs, df_residual, level):
            kind = LOST if down else NEW
        elif moved and not np.isnan(p):
            kind = WEAKER if down else STRONGER
    return Change(term, kind, then, now, len(pairs), float(before), float(after), p)


def _moved(difference: np.ndarray, down: bool, level: float) -> tuple[bool, float]:
    """Tell whether features moved in one direction; p of the signed-rank test where there are enough."""
    from scipy.stats import wilcoxon

    if not difference.any():
        return False, 1.0
    if difference.size < SMALLEST:
        return bool((difference < 0).all() if down else (difference > 0).all()), np.nan
    p = float(wilcoxon(difference).pvalue)
    return p < level, p


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
        text = "The formula names no fixed covariate, so what harmonization did to any was not looked at."
        return Sentences(text, lead=f"{random.capitalize()} were modelled and kept, no fixed covariate.")
    text = "The formula names no covariate, so what harmonization did to any was not looked at."
    return Sentences(text, lead="No covariate was kept.")


NEAR = "near the limit of significance: single features reach it, but not with the number of terms taken into account"


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


def _lead(found: list[Change], worse: list[str], diagnosis: Diagnosis, formula: Formula) -> str:
    by_kind: dict[str, list[str]] = {}
    for change in found:
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
    each += _unclear([change for change in found if change.kind == UNCLEAR])
    if NONE in of:
        each += _absent(by_kind[NONE], diagnosis, formula, "was found, before or after harmonization")
    each += _untested([change for change in found if change.kind == UNTESTED])
    if not found and not worse:
        each += lead_predictions(by_state(diagnosis))
    return " ".join(each)


def _unclear(found: list[Change]) -> list[str]:
    """Say of which terms neither a change nor its absence is clear."""
    each = []
    for state, terms in (
        (BEFORE, [change.term for change in found if change.then == FOUND]),
        (AFTER, [change.term for change in found if change.now == FOUND]),
    ):
        if terms:
            each.append(
                f"The associations with {joined(terms)} did not clearly change; with the number of terms taken into "
                f"account, they are significant only {state} harmonization."
            )
    neither = [change.term for change in found if FOUND not in (change.then, change.now)]
    if neither:
        each.append(f"Associations with {joined(neither)} are {NEAR}.")
    return each


def _untested(found: list[Change]) -> list[str]:
    """Say which terms were not tested, or in one state only."""
    each = []
    never = [change.term for change in found if change.then == change.now == UNTESTED]
    if never:
        each.append(f"Associations with {joined(never)} were not tested; the notes say why.")
    for state, terms in (
        (BEFORE, [change.term for change in found if change.then == UNTESTED != change.now]),
        (AFTER, [change.term for change in found if change.now == UNTESTED != change.then]),
    ):
        if terms:
            each.append(
                f"Associations with {joined(terms)} were not tested {state} harmonization, so what became of them is "
                "not known."
            )
    return each


def _absent(terms: list[str], diagnosis: Diagnosis, formula: Formula, found: str) -> list[str]:
    """Say of which terms nothing was found; a covariate that all features together predict is another matter."""
    together = predicted(diagnosis)
    by_all = [term for term in terms if _columns_of(formula, term) & together]
    nowhere = [term for term in terms if term not in by_all]
    each = [f"No association with {joined(nowhere, 'or')} {found}."] if nowhere else []
    if by_all:
        each.append(
            f"No association of a single feature with {joined(by_all, 'or')} {found}, but all features together "
            "predict it better than chance."
        )
    return each


def _columns_of(formula: Formula, term: str) -> set[str]:
    """Return the column that a term is of, if it is of one: a prediction says nothing of an interaction."""
    nodes = {one.label: one.factors for one in formula.parametric} | {
        one.label: one.args for one in formula.smooths if one.by is None
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


def _sizes(found: list[Change]) -> list[str]:
    """Write what a term was called weaker, stronger or kept by."""
    each = []
    for one in found:
        if one.features:
            change = f"{100 * (one.after / one.before - 1):+.0f}%, ".replace("-", "−") if one.before > 0 else ""
            test = "" if np.isnan(one.p) else f", signed-rank {equals_p(one.p)}"
            of = count(one.features, "feature")
            each.append(f"{one.term} {three(one.before)} and {three(one.after)} ({change}{of}{test})")
    if not each:
        return []
    texts = [
        f"Median partial R² of the features significant before or after, before and after: {'; '.join(each)}. Weaker "
        "or stronger means: the features changed in one direction (two-sided Wilcoxon signed-rank test, each feature "
        f"with itself), and their median by more than {percent(MATTERS)}."
    ]
    if any(change.kind in (LOST, NEW, UNCLEAR) for change in found):
        texts.append(
            "Lost or new means: significant in one state only, and a median change beyond the confidence interval of "
            "one estimate. Significance in one state only is no evidence of a change."
        )
    return texts
