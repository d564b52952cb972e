"""The verdict on covariates predicted at sites left out: against chance, and before against after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from pycombat_gam.report.legend import TO_GO_BY
from pycombat_gam.report.wording import three
from pycombat_gam.study.states import AFTER, BEFORE, HELD_OUT
from pycombat_gam.words import joined

if TYPE_CHECKING:
    from pycombat_gam.diagnose import Diagnosis

WORSE = "Held out it is worse than before, which does not count as weakened; the section on biology says why."


def worse_predictions(diagnosis: Diagnosis) -> list[str]:
    """Name the covariates that are predicted worse after than before, the intervals apart.

    Only the rows' own harmonization counts: a site held out is harmonized without the covariate.
    """
    return [
        name
        for name, states in by_state(diagnosis).items()
        if BEFORE in states and AFTER in states and _worse(states[AFTER], states[BEFORE])
    ]


def lead_predictions(by_covariate: dict[str, dict[str, pd.Series]]) -> list[str]:
    """Say what is predicted, where no association was tested and no prediction is worse."""
    before = [name for name, states in by_covariate.items() if beats_chance(states.get(BEFORE))]
    after = [name for name, states in by_covariate.items() if name not in before and beats_chance(states.get(AFTER))]
    better = [
        name
        for name in after
        if BEFORE in by_covariate[name] and _better(by_covariate[name][AFTER], by_covariate[name][BEFORE])
    ]
    alike = [name for name in after if name not in better]
    each = []
    if before:
        each.append(f"The prediction of {joined(before)} at sites left out did not clearly worsen.")
    if better:
        each.append(f"At sites left out {joined(better)} is predicted better than chance only after harmonization.")
    if alike:
        each.append(
            f"At sites left out {joined(alike)} is predicted better than chance after harmonization, not clearly "
            "better than before."
        )
    return each or ["Nothing is predicted clearly better than chance at sites left out, before or after harmonization."]


def predicted(diagnosis: Diagnosis) -> set[str]:
    """Return the covariates that are predicted better than chance in any state."""
    return {name for name, states in by_state(diagnosis).items() if any(map(beats_chance, states.values()))}


def predictions(diagnosis: Diagnosis) -> list[str]:
    """Say how well covariates are predicted at sites left out, and what held out means there."""
    by_covariate = by_state(diagnosis)
    present = {state for states in by_covariate.values() for state in states}
    each = [text for name, states in by_covariate.items() for text in _in_words(name, states)]
    return [*each, *([TO_GO_BY] if HELD_OUT in present else [])]


def _in_words(name: str, states: dict[str, pd.Series]) -> list[str]:
    """Give a covariate's predictions, compare them with chance, and that held out with that before."""
    values = joined([f"{three(row['value'])} {state}" for state, row in states.items()])
    first = next(iter(states.values()))
    by_words: dict[str, list[str]] = {}
    for state, row in states.items():
        by_words.setdefault(_against_chance(row), []).append(state)
    words = "; ".join(f"{words} {joined(which)}" for words, which in by_words.items())
    each = [
        f"At sites left out, {name} is predicted with {first['measure']} {values}.",
        f"Chance is {three(first['chance'])}: {words}.",
    ]
    if {BEFORE, HELD_OUT} <= set(states):
        then, unseen = states[BEFORE], states[HELD_OUT]
        if _worse(unseen, then) or _better(unseen, then):
            each.append("Held out it is better than before." if _better(unseen, then) else WORSE)
    return each


def by_state(diagnosis: Diagnosis) -> dict[str, dict[str, pd.Series]]:
    """Return the predictions of each covariate by state."""
    rows = diagnosis.table[diagnosis.table["aspect"] == "covariate prediction"]
    return {
        str(name): {str(row["state"]): row for _, row in part.iterrows()}
        for name, part in rows.groupby("covariate", sort=False)
    }


def _is_error(row: pd.Series) -> bool:
    return str(row["measure"]) == "mean absolute error"


def _worse(row: pd.Series, than: pd.Series) -> bool:
    """Tell whether a prediction is worse than another, their intervals apart."""
    return bool(row["lower"] > than["upper"] if _is_error(row) else row["upper"] < than["lower"])


def _better(row: pd.Series, than: pd.Series) -> bool:
    return _worse(than, row)


def beats_chance(row: pd.Series | None) -> bool:
    """Tell whether the interval of a prediction lies on the better side of chance."""
    if row is None:
        return False
    return bool(row["upper"] < row["chance"] if _is_error(row) else row["lower"] > row["chance"])


def _against_chance(row: pd.Series) -> str:
    if beats_chance(row):
        return "better than chance"
    worse = row["lower"] > row["chance"] if _is_error(row) else row["upper"] < row["chance"]
    return "worse than chance" if worse else "not clearly better than chance"
