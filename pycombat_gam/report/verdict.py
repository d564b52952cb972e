"""The verdict in words: was there a site effect, is it gone, is the biology still there. Numbers are `summary`'s."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from pycombat_gam.report.cells import is_missing, number_text, p_text
from pycombat_gam.report.parts import Sentences, joined

if TYPE_CHECKING:
    from pycombat_gam.diagnose import Diagnosis

BEFORE, AFTER, HELD_OUT = "before", "after", "held out"
WORDS = {
    "location": "mean",
    "scale": "spread",
    "distribution": "joint distribution",
    "covariance": "covariance",
    "site prediction": "site prediction",
}
"""What each aspect of the sites looks at."""


def verdict(diagnosis: Diagnosis) -> tuple[Sentences, ...]:
    """Return what the diagnosis comes to: before, after, biology."""
    after = _after(diagnosis)
    return (_before(diagnosis), *(() if after is None else (after,)), _biology(diagnosis))


def site_differences(diagnosis: Diagnosis, state: str) -> dict[str, bool]:
    """Tell, aspect by aspect, whether sites differ in a state.

    Means and spreads differ if more features than the level are significant after adjustment, by either test; the joint
    distribution and the covariance if a permutation test has p at most the level; site prediction tells them apart
    if the interval of its accuracy lies above chance.
    """
    table, level = diagnosis.table, diagnosis.level
    rows = table[(table["state"] == state) & (table["site"] == "")]
    found: dict[str, bool] = {}
    for (aspect, _), part in rows.groupby(["aspect", "measure"], sort=False):
        if aspect in ("location", "scale"):
            tested = part["p_adjusted"].dropna()
            differs = len(tested) > 0 and float((tested < level).mean()) > level
        elif aspect in ("distribution", "covariance"):
            differs = bool((part["p"] <= level).any())
        elif aspect == "site prediction":
            differs = bool((part["lower"] > part["chance"]).any())
        else:
            continue
        found[str(aspect)] = found.get(str(aspect), False) or differs
    return {aspect: found[aspect] for aspect in WORDS if aspect in found}


def weaker_covariates(diagnosis: Diagnosis) -> list[str]:
    """Name the covariates that harmonization weakened.

    A term is weaker if the share of features that it is significant in fell by more than the level; a covariate if it
    is predicted worse than the interval of the prediction before allows.
    """
    summary, table = diagnosis.summary, diagnosis.table
    shares = summary[(summary["aspect"] == "association") & summary["quantity"].str.startswith("share")]
    weaker = [str(row["covariate"]) for _, row in shares.iterrows() if row[BEFORE] - row[AFTER] > diagnosis.level]
    rows = table[table["aspect"] == "covariate prediction"].set_index(["covariate", "state"])
    for covariate in dict.fromkeys(name for name, _ in rows.index):
        if (covariate, AFTER) not in rows.index:
            continue
        then, now = rows.loc[(covariate, BEFORE)], rows.loc[(covariate, AFTER)]
        error = str(then["measure"]) == "mean absolute error"
        if now["value"] > then["upper"] if error else now["value"] < then["lower"]:
            weaker.append(f"prediction of {covariate}")
    return weaker


def _before(diagnosis: Diagnosis) -> Sentences:
    found = site_differences(diagnosis, BEFORE)
    lead = (
        "Before harmonization the sites differed."
        if any(found.values())
        else "No site effect was found before harmonization."
    )
    return Sentences(f"At equal covariates {_numbers(diagnosis, BEFORE, found)}.", lead=lead)


def _after(diagnosis: Diagnosis) -> Sentences | None:
    if AFTER not in diagnosis.summary:
        return None
    now, unseen = site_differences(diagnosis, AFTER), site_differences(diagnosis, HELD_OUT)
    left = [WORDS[aspect] for aspect, differs in now.items() if differs]
    held = [WORDS[aspect] for aspect, differs in unseen.items() if differs and not now.get(aspect)]
    if left:
        lead = f"After harmonization sites still differ, by {joined(left)}."
    elif held:
        lead = (
            "After harmonization the sites no longer differ in the rows of the fit, but still do in rows that "
            f"the model did not see, by {joined(held)}."
        )
    else:
        lead = "After harmonization no difference between sites was found."
    text = (
        "In the rows that estimated the site effects, where agreement is partly by construction, "
        f"{_numbers(diagnosis, AFTER, now)}."
    )
    if _below_chance(diagnosis):
        text += (
            " Accuracies below chance are a trace of the fit: its rows' sites agree better than sites of new rows do."
        )
    if unseen:
        text += f" Held out, in rows that the model did not see, {_numbers(diagnosis, HELD_OUT, unseen)}."
    else:
        text += " What harmonization does to rows that the model did not see was not measured (held_out)."
    return Sentences(text, lead=lead, tone="bad" if left or held else "good")


def _below_chance(diagnosis: Diagnosis) -> bool:
    table = diagnosis.table
    rows = table[(table["aspect"] == "site prediction") & (table["state"] == AFTER)]
    return bool((rows["upper"] < rows["chance"]).any())


def _biology(diagnosis: Diagnosis) -> Sentences:
    summary = diagnosis.summary
    associations = summary[summary["aspect"] == "association"]
    predictions = summary[summary["aspect"] == "covariate prediction"]
    if not len(associations) and not len(predictions):
        text = "The formula names no covariate, so what harmonization did to any was not looked at."
        return Sentences(text, lead="No covariate was kept.")
    sentences = []
    for start, opening in (("share", "Share of features significantly associated"), ("median", "Median partial R²")):
        rows = associations[associations["quantity"].str.startswith(start)]
        if len(rows):
            each = joined([f"{row['covariate']} {_states(row)}" for _, row in rows.iterrows()])
            sentences.append(f"{opening}{_in_order(rows)}: {each}.")
    if len(predictions):
        each = "; ".join(f"{row['covariate']} by {row['quantity']} {_states(row)}" for _, row in predictions.iterrows())
        sentences.append(f"Predicted at sites left out{_in_order(predictions)}: {each}.")
    if AFTER not in summary:
        return Sentences(" ".join(sentences), lead="Associations with the covariates.")
    weaker = weaker_covariates(diagnosis)
    if weaker:
        return Sentences(" ".join(sentences), lead=f"Harmonization weakened {joined(weaker)}.", tone="bad")
    return Sentences(" ".join(sentences), lead="The associations with the covariates are still there.", tone="good")


def _numbers(diagnosis: Diagnosis, state: str, found: dict[str, bool]) -> str:
    """Write a state's numbers in words, aspect by aspect."""
    summary = diagnosis.summary
    rows = summary[summary[state].notna()]
    features: list[str] = []
    others: list[str] = []
    for aspect, words in WORDS.items():
        part = rows[rows["aspect"] == aspect]
        shares, ps = part[part["quantity"].str.startswith("share")], part[part["quantity"].str.startswith("p ")]
        if len(shares):
            first, *more = [(_share(row[state]), row["measure"]) for _, row in shares.iterrows()]
            whose = "" if features else " of the features"
            each = [f"{first[0]}{whose} by {first[1]}", *(f"{share} by {measure}" for share, measure in more)]
            features.append(f"the {words}{'' if features else ' differed'} in {joined(each)}")
        elif len(ps):
            each = [
                _p(row[state]) if row["measure"] == aspect else f"{row['measure']}, {_p(row[state])}"
                for _, row in ps.iterrows()
            ]
            others.append(f"the {words} {'differed' if found.get(aspect) else 'did not differ'} ({'; '.join(each)})")
        elif aspect == "site prediction" and len(part):
            each = [f"{_three(row[state])} ({row['measure']})" for _, row in part.iterrows()]
            chance = diagnosis.table.loc[diagnosis.table["aspect"] == aspect, "chance"].iloc[0]
            others.append(
                f"the site of a row was told from its features with a balanced accuracy of {joined(each)}, chance "
                f"being {_three(chance)}"
            )
    if features:
        others.insert(0, f"{', '.join(features)} (false discovery rate {_share(diagnosis.level)})")
    return "; ".join(others)


def _in_order(rows: pd.DataFrame) -> str:
    """Say which states the numbers of rows are of, where there are several."""
    present = [state for state in (BEFORE, AFTER, HELD_OUT) if state in rows and rows[state].notna().any()]
    return f", {joined(present)}"


def _states(row: pd.Series) -> str:
    write = _share if str(row["quantity"]).startswith("share") else _three
    return joined(
        [write(row[state]) for state in (BEFORE, AFTER, HELD_OUT) if state in row.index and not is_missing(row[state])]
    )


def _share(value: float) -> str:
    return f"{100 * value:.3g}%"


def _three(value: float) -> str:
    return number_text(float(value), 3)


def _p(value: float) -> str:
    text = p_text(float(value))
    return f"p {text[0]} {text[1:]}" if text.startswith("<") else f"p = {text}"
