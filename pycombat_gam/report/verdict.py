"""The verdict in words: was there a site effect, is it gone, is the biology still there. Numbers from `summary`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from pycombat_gam.report.cells import is_missing, number_text, p_text
from pycombat_gam.report.parts import Sentences, joined

if TYPE_CHECKING:
    from pycombat_gam.diagnose import Diagnosis

BEFORE, AFTER, HELD_OUT = "before", "after", "held out"
FEATURE_BY_FEATURE = ("location", "scale")
OF_ALL_FEATURES = ("covariance", "distribution")
SITE = (*FEATURE_BY_FEATURE, *OF_ALL_FEATURES, "site prediction")
BIOLOGY = ("association", "covariate prediction")


def verdict(diagnosis: Diagnosis) -> tuple[Sentences, ...]:
    """Return what the diagnosis comes to: before, after, biology."""
    summary = diagnosis.summary
    site = summary[summary["aspect"].isin(SITE)]
    return tuple(
        part
        for part in (_before(diagnosis, site), _after(diagnosis, site), _biology(summary))
        if part is not None
    )


def site_differences(diagnosis: Diagnosis, state: str) -> dict[str, bool]:
    """Tell for each measure of the sites whether it finds a difference between them in a state.

    A test of every feature finds one if more features than the level are significant after adjustment, a test of all
    features at once if its p-value is below the level, a prediction if its interval lies above chance.
    """
    rows = diagnosis.table[diagnosis.table["state"] == state]
    found: dict[str, bool] = {}
    for (aspect, measure), part in rows.groupby(["aspect", "measure"], sort=False):
        name = str(measure)
        if aspect in FEATURE_BY_FEATURE and part["p_adjusted"].notna().any():
            found[name] = bool((part["p_adjusted"] < diagnosis.level).mean() > diagnosis.level)
        elif aspect in OF_ALL_FEATURES and part["p"].notna().any():
            found[name] = bool(part["p"].min() < diagnosis.level)
        elif aspect == "site prediction" and part["lower"].notna().any():
            found[name] = bool((part["lower"] > part["chance"]).any())
    return found


def _before(diagnosis: Diagnosis, site: pd.DataFrame) -> Sentences | None:
    found = site_differences(diagnosis, BEFORE)
    if not found:
        return None
    numbers = _numbers(site, BEFORE)
    if any(found.values()):
        silent = [name for name, there in found.items() if not there]
        but = f" No difference by {joined(silent)}." if silent else ""
        return Sentences(f"{numbers}.{but}", lead="Before harmonization the sites differed.")
    return Sentences(f"{numbers}.", lead="No difference between sites was found before harmonization.")


def _after(diagnosis: Diagnosis, site: pd.DataFrame) -> Sentences | None:
    found = site_differences(diagnosis, AFTER)
    if not found:
        return None
    unseen = site_differences(diagnosis, HELD_OUT)
    left = [name for name, there in found.items() if there]
    held = [name for name, there in unseen.items() if there]
    if left:
        lead, tone = f"After harmonization a difference between sites is left, by {joined(left)}.", "bad"
    elif held:
        lead = (
            "After harmonization no difference between sites is left in the rows that the model was fitted to, but "
            f"there is one in rows it did not see, by {joined(held)}."
        )
        tone = "bad"
    else:
        lead, tone = "After harmonization no difference between sites was found.", "good"
    text = f"On the rows that estimated the site effects: {_numbers(site, AFTER)}."
    if unseen:
        text += f" Held out, on rows harmonized by models that did not see them: {_numbers(site, HELD_OUT)}."
    else:
        text += " They are the rows that estimated the site effects, so this is the most favourable view."
    return Sentences(text, lead=lead, tone=tone)


def _biology(summary: pd.DataFrame) -> Sentences | None:
    rows = summary[summary["aspect"].isin(BIOLOGY)]
    if not len(rows):
        return Sentences("The formula names no covariate, so none was looked at.", lead="Biology.")
    clauses = []
    for _, row in rows.iterrows():
        subject = "" if is_missing(row["covariate"]) or not row["covariate"] else f"{row['covariate']}: "
        states = [f"{_number(row, BEFORE)} before", f"{_number(row, AFTER)} after"]
        if HELD_OUT in row.index and not is_missing(row[HELD_OUT]):
            states.append(f"{_number(row, HELD_OUT)} held out")
        clauses.append(f"{subject}{row['quantity']} ({row['measure']}) {', '.join(states)}")
    return Sentences(f"{'; '.join(clauses)}.", lead="Associations with the covariates, before and after.")


def _numbers(rows: pd.DataFrame, state: str) -> str:
    """Write a state's numbers, measure by measure."""
    if state not in rows.columns:
        return "not measured"
    clauses = [
        f"{row['quantity']} ({row['measure']}) {_number(row, state)}"
        for _, row in rows.iterrows()
        if not is_missing(row[state])
    ]
    return "; ".join(clauses) if clauses else "not measured"


def _number(row: pd.Series, state: str) -> str:
    value = row[state]
    if is_missing(value):
        return "not measured"
    if str(row["quantity"]).startswith("share"):
        return f"{100 * float(value):.3g} %"
    return p_text(float(value)) if str(row["quantity"]) in ("p", "p-value") else number_text(float(value))
