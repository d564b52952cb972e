"""The verdict on the biology: associations that were found and kept, weakened or strengthened, or never found.

A term counts as found in a state if the smallest of its features' p-values, adjusted for the number of features (that
is, Simes' p), is below the level after Holm's adjustment for the number of terms.

Weaker or stronger is a matter of pairs, each feature with itself: a share of significant features can fall when one
feature crosses the level while all others gain. Over the features that are significant before or after (the others'
partial R² is noise) it takes both a one-sided Wilcoxon signed-rank test (scipy's `wilcoxon`) below the level, which
says that the change has a direction, and a median that moves by more than 10 %, which says that it matters. Features of
one table are no independent sample, so this p is a rule for reading and no test of a hypothesis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pycombat_gam.errors import count
from pycombat_gam.formula import Formula
from pycombat_gam.report.kept import fixed_covariates, random_effects
from pycombat_gam.report.legend import UNKNOWN_SITE
from pycombat_gam.report.parts import Sentences, joined
from pycombat_gam.report.wording import equals_p, percent, three

if TYPE_CHECKING:
    from pycombat_gam.diagnose import Diagnosis

BEFORE, AFTER, HELD_OUT = "before", "after", "held out"
MATTERS = 0.1
"""Relative change of the median partial R² that counts."""
SMALLEST = 5
"""Features from which a signed-rank test can have p below 0.05; fewer have to move all together."""
NONE, KEPT, WEAKER, STRONGER, LOST, NEW = "none", "kept", "weaker", "stronger", "lost", "new"


@dataclass(frozen=True)
class Change:
    """What became of the associations with a term.

    Attributes
    ----------
    term : label; kind : one of the names above.
    features : that are significant before or after; before, after : their median partial R².
    p : of the signed-rank test in the direction of the median; NaN where there are too few features.
    moved : whether the change is one.
    """

    term: str
    kind: str
    features: int
    before: float
    after: float
    p: float
    moved: bool


def biology(diagnosis: Diagnosis, formula: Formula) -> Sentences:
    """Say what became of associations and predictions."""
    table = diagnosis.table
    tested = (table["aspect"].isin(["association", "covariate prediction"])).any()
    if not tested:
        return _nothing(formula)
    terms = list(dict.fromkeys(table.loc[table["aspect"] == "association", "covariate"]))
    if AFTER not in diagnosis.states:
        texts = [*_shares(diagnosis), *_predictions(diagnosis)]
        return Sentences(" ".join(texts), lead=_found_before(diagnosis, terms))
    found = changes(diagnosis)
    worse = worse_predictions(diagnosis)
    texts = [*_shares(diagnosis), *_sizes(found), *_predictions(diagnosis)]
    kinds = {change.kind for change in found}
    bad = bool(worse or any(one.kind == WEAKER or (one.kind == LOST and one.moved) for one in found))
    good = not bad and bool(kinds & {KEPT, STRONGER}) and not kinds & {NEW, LOST}
    if NEW in kinds:
        texts.append(
            "What is found only after harmonization may be uncovered by it, or be the covariates' own trace: the model "
            "was told them (the audit's table of imbalance says by how much later tests are off)."
        )
    tone = "bad" if bad else "good" if good else "plain"
    return Sentences(" ".join(texts), lead=_lead(found, worse, diagnosis), tone=tone)


def changes(diagnosis: Diagnosis) -> list[Change]:
    """Compare each term's partial R² before and after, feature by feature."""
    table = diagnosis.table
    rows = table[table["aspect"] == "association"]
    then, now = _present(rows, BEFORE, diagnosis.level), _present(rows, AFTER, diagnosis.level)
    return [
        _change(str(term), part, then.get(str(term), False), now.get(str(term), False), diagnosis.level)
        for term, part in rows.groupby("covariate", sort=False)
    ]


def worse_predictions(diagnosis: Diagnosis) -> list[str]:
    """Name the covariates that are predicted worse after than the interval of the prediction before allows.

    Only the rows' own harmonization counts: a site held out is harmonized without the covariate.
    """
    return [
        name
        for name, states in _by_state(diagnosis).items()
        if BEFORE in states and AFTER in states and _worse(states[AFTER], states[BEFORE])
    ]


def _change(term: str, rows: pd.DataFrame, then: bool, now: bool, level: float) -> Change:
    kind = KEPT if then and now else LOST if then else NEW if now else NONE
    value = rows.pivot(index="feature", columns="state", values="value").reindex(columns=[BEFORE, AFTER])
    p_adjusted = rows.pivot(index="feature", columns="state", values="p_adjusted")
    some = (p_adjusted < level).any(axis=1) & value.notna().all(axis=1)
    pairs = value[some].to_numpy(dtype=np.float64)
    if kind == NONE or not len(pairs):
        return Change(term, kind, 0, np.nan, np.nan, np.nan, False)
    before, after = np.median(pairs, axis=0)
    consistent, p = _moved(pairs[:, 1] - pairs[:, 0], bool(after < before), level)
    moved = consistent and bool(abs(after - before) > MATTERS * before)
    if kind == KEPT and moved:
        kind = WEAKER if after < before else STRONGER
    return Change(term, kind, len(pairs), float(before), float(after), p, moved)


def _moved(difference: np.ndarray, down: bool, level: float) -> tuple[bool, float]:
    """Tell whether features moved in one direction; p of the signed-rank test where there are enough."""
    from scipy.stats import wilcoxon

    if not difference.any():
        return False, 1.0
    if difference.size < SMALLEST:
        return bool((difference < 0).all() if down else (difference > 0).all()), np.nan
    p = float(wilcoxon(difference, alternative="less" if down else "greater").pvalue)
    return p < level, p


def _present(rows: pd.DataFrame, state: str, level: float) -> dict[str, bool]:
    """Tell in which terms any association is found."""
    from statsmodels.stats.multitest import multipletests

    smallest = rows[rows["state"] == state].groupby("covariate", sort=False)["p_adjusted"].min().dropna()
    if not len(smallest):
        return {}
    adjusted = multipletests(smallest, method="holm")[1]
    return {str(term): bool(p < level) for term, p in zip(smallest.index, adjusted, strict=True)}


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


def _found_before(diagnosis: Diagnosis, terms: list[str]) -> str:
    there = _present(diagnosis.table[diagnosis.table["aspect"] == "association"], BEFORE, diagnosis.level)
    found = [term for term in terms if there.get(term)]
    if found:
        return f"There are associations with {joined(found)}."
    return f"No association with {joined(terms, 'or')} was found." if terms else "Associations were not tested."


def _lead(found: list[Change], worse: list[str], diagnosis: Diagnosis) -> str:
    by_kind: dict[str, list[str]] = {}
    for one in found:
        by_kind.setdefault(one.kind, []).append(one.term)
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
    if NONE in of:
        each.append(f"No association with {joined(by_kind[NONE], 'or')} was found, before or after harmonization.")
    if not found and not worse:
        each += _lead_predictions(_by_state(diagnosis))
    return " ".join(each)


def _lead_predictions(found: dict[str, dict[str, pd.Series]]) -> list[str]:
    """Say what is predicted, where no association was tested and no prediction is worse."""
    before = [name for name, states in found.items() if _beats_chance(states.get(BEFORE))]
    new = [name for name, states in found.items() if name not in before and _beats_chance(states.get(AFTER))]
    each = []
    if before:
        each.append(f"The prediction of {joined(before)} at sites left out is no worse after harmonization.")
    if new:
        each.append(f"At sites left out {joined(new)} is predicted better than chance only after harmonization.")
    return each or ["Nothing is predicted clearly better than chance at sites left out, before or after harmonization."]


def _shares(diagnosis: Diagnosis) -> list[str]:
    """Write the share of features that a term is significant in, state by state."""
    summary = diagnosis.summary
    rows = summary[(summary["aspect"] == "association") & summary["quantity"].str.startswith("share")]
    states = [state for state in diagnosis.states if rows[state].notna().any()]
    if not states:
        return []
    each = [
        f"{row['covariate']} {joined([percent(row[state]) for state in states if row[state] == row[state]])}"
        for _, row in rows.iterrows()
    ]
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
    return [
        f"Median partial R² of the features significant before or after, before and after: {'; '.join(each)}. Weaker "
        "or stronger means: the features changed in one direction (one-sided Wilcoxon signed-rank test, each feature "
        f"with itself), and their median by more than {percent(MATTERS)}."
    ]


def _predictions(diagnosis: Diagnosis) -> list[str]:
    """Say in words how well covariates are predicted at sites left out, and what held out means there."""
    found = _by_state(diagnosis)
    present = {state for states in found.values() for state in states}
    each = []
    for name, states in found.items():
        values = joined([three(row["value"]) for row in states.values()])
        first = next(iter(states.values()))
        each.append(f"{name} by {first['measure']} {values} (chance {three(first['chance'])}; {_in_words(states)})")
    if not each:
        return []
    order = joined([state for state in (BEFORE, AFTER, HELD_OUT) if state in present])
    texts = [f"Predicted at sites left out, {order}: {'; '.join(each)}."]
    if HELD_OUT in present:
        texts.append(UNKNOWN_SITE)
    return texts


def _in_words(states: dict[str, pd.Series]) -> str:
    """Compare a covariate's predictions with chance, and that held out with that before."""
    by_words: dict[str, list[str]] = {}
    for state, row in states.items():
        by_words.setdefault(_against_chance(row), []).append(state)
    words = "; ".join(f"{words} {joined(which)}" for words, which in by_words.items())
    if not {BEFORE, HELD_OUT} <= set(states):
        return words
    then, unseen = states[BEFORE], states[HELD_OUT]
    beside = "worse than" if _worse(unseen, then) else "better than" if _better(unseen, then) else "about as"
    return f"{words}; held out {beside} before"


def _by_state(diagnosis: Diagnosis) -> dict[str, dict[str, pd.Series]]:
    """Return the predictions of each covariate by state."""
    rows = diagnosis.table[diagnosis.table["aspect"] == "covariate prediction"]
    return {
        str(name): {str(row["state"]): row for _, row in part.iterrows()}
        for name, part in rows.groupby("covariate", sort=False)
    }


def _is_error(row: pd.Series) -> bool:
    return str(row["measure"]) == "mean absolute error"


def _worse(row: pd.Series, than: pd.Series) -> bool:
    """Tell whether a prediction is worse than the interval of another allows."""
    return bool(row["value"] > than["upper"] if _is_error(row) else row["value"] < than["lower"])


def _better(row: pd.Series, than: pd.Series) -> bool:
    return bool(row["value"] < than["lower"] if _is_error(row) else row["value"] > than["upper"])


def _beats_chance(row: pd.Series | None) -> bool:
    if row is None:
        return False
    return bool(row["upper"] < row["chance"] if _is_error(row) else row["lower"] > row["chance"])


def _against_chance(row: pd.Series) -> str:
    if _beats_chance(row):
        return "better than chance"
    worse = row["lower"] > row["chance"] if _is_error(row) else row["upper"] < row["chance"]
    return "worse than chance" if worse else "not clearly better than chance"
