"""What a predictor guarantees, to whom, at what level, and what it does not; then how it did at sites left out."""

from __future__ import annotations

import math

import pandas as pd

from pycombat_gam.predict.guarantee import promise
from pycombat_gam.predict.predictor import Predictor
from pycombat_gam.predict.thresholds import ceiling, reachable
from pycombat_gam.predict.validation import KINDS, Validation
from pycombat_gam.report.cells import number_text
from pycombat_gam.report.parts import Sentences
from pycombat_gam.report.wording import three
from pycombat_gam.words import joined, percent

ALL = "all"
TRADE = "Harmonizing trades robustness to scanners for robustness to prevalence."
NESTED = "Choosing between them by these figures costs the guarantee."
MOST = 4
"""Most classes or horizons that sentences and figures show."""


def verdict(model: Predictor) -> tuple[Sentences, ...]:
    """Return the guarantee first, then what is not guaranteed, and how sets and predictions did at sites left out."""
    validation = model.validation
    parts = [*_guarantee(validation), *_held(validation), _measured(validation)]
    if len(validation.comparison):
        parts.append(Sentences(f"{compared(validation)} {NESTED}", lead=TRADE))
    return tuple(parts)


def _guarantee(validation: Validation) -> list[Sentences]:
    """Say what is guaranteed, for whom and at what level; then what is not."""
    fitted, demand, scores = validation.fitted, validation.demand, validation.scores
    if scores is None:
        text = f"The model gives risks of {fitted.outcome.name}, and no sets."
        text += " How they did at sites left out is all that is known."
        return [Sentences(text, lead="Nothing is guaranteed.")]
    promised = promise(fitted, demand, scores)
    reached = reachable(demand.asked, ceiling(len(fitted.levels)))
    tone = "plain" if promised.beyond or not demand.guarantee else "good"
    text = " ".join([*promised.beyond, *promised.details])
    limits = " ".join(f"{limit[0].upper()}{limit[1:]}." for limit in promised.limits)
    return [
        Sentences(text, lead=promised.lead, tone=tone if reached or not demand.guarantee else "bad"),
        Sentences(limits, lead="Not guaranteed:"),
    ]


def _held(validation: Validation) -> list[Sentences]:
    """Say how often sets held the truth at sites left out, of either kind."""
    sets = validation.sets
    if not len(sets):
        return []
    own = sets[(sets["features"] == sets["features"].iloc[0]) & (sets["class"] == ALL)].set_index("sets")
    first, other = (KINDS[validation.demand.guarantee], KINDS[not validation.demand.guarantee])
    row = own.loc[first]
    lead = (
        f"At sites left out in turn, {first} sets held the truth in {percent(row['coverage'], '.1f')} "
        f"(least {percent(row['worst'], '.0f')}, at {row['worst_site']})."
    )
    texts = [_size(validation, row["size"], "They")]
    by_class = sets[(sets["features"] == sets["features"].iloc[0]) & (sets["class"] != ALL) & (sets["sets"] == first)]
    if 0 < len(by_class) <= MOST:
        each = [f"{row['class']} {percent(row['coverage'], '.1f')}" for _, row in by_class.iterrows()]
        texts.append(f"By class: {joined(each)}.")
    row2 = own.loc[other]
    texts.append(f"{other.capitalize()} sets held it in {percent(row2['coverage'], '.1f')}.")
    texts.append(_size(validation, row2["size"], "Those"))
    tone = "bad" if row["coverage"] < validation.demand.level else "plain"
    return [Sentences(" ".join(texts), lead=lead, tone=tone)]


def _size(validation: Validation, size: float, which: str) -> str:
    classes = validation.fitted.outcome.n_classes
    if classes:
        return f"{which} have {three(size)} of {classes} classes on average."
    return f"{which} are unbounded." if math.isinf(size) else f"{which} are {three(size)} wide on average."


def _measured(validation: Validation) -> Sentences:
    """Say how well the outcome is predicted: at sites left out, and at a new one."""
    table = validation.overall
    table = table[table["features"] == table["features"].iloc[0]]
    first = str(table["measure"].iloc[0])
    rows = table[table["measure"] == first]
    lead = " ".join(f"{_name(row)} at sites left out is {_over_sites(row)}." for _, row in rows.head(MOST).iterrows())
    texts = [_new_site(row) for _, row in rows.head(MOST).iterrows()]
    for measure in ("O/E", "calibration slope"):
        some = table[table["measure"] == measure].head(MOST)
        texts += [f"{_name(row)} is {_over_sites(row)}." for _, row in some.iterrows()]
    return Sentences(" ".join(filter(None, texts)), lead=lead)


def compared(validation: Validation) -> str:
    """Say what harmonizing changed, paired by site."""
    table = validation.comparison
    first = str(table["measure"].iloc[0])
    rows = table[(table["measure"] == first) | table["measure"].str.startswith(("coverage", "size"))]
    if "class" in rows:
        rows = rows[(rows["class"] == ALL) | (rows["measure"] == first)]
    each = []
    for _, row in rows.head(MOST).iterrows():
        span = "" if math.isnan(row["lower"]) else f" ({_signed(row['lower'])} to {_signed(row['upper'])})"
        each.append(f"{_name(row)} {_signed(row['difference'])}{span}")
    return f"Harmonized less raw features, paired by site: {joined(each)}."


def _name(row: pd.Series) -> str:
    """Name a measure with its class and horizon."""
    text = str(row["measure"])
    text = f"{text[0].upper()}{text[1:]}" if not text.startswith(("coverage", "size")) else text
    text += f" of {row['class']}" if row.get("class", ALL) != ALL else ""
    return text + (f" by {row['horizon']:g}" if "horizon" in row and pd.notna(row["horizon"]) else "")


def _over_sites(row: pd.Series) -> str:
    if math.isnan(row["lower"]):
        return number_text(float(row["estimate"]), 3)
    return f"{three(row['estimate'])} (95 % interval {three(row['lower'])} to {three(row['upper'])})"


def _new_site(row: pd.Series) -> str:
    if math.isnan(row["new_lower"]):
        return ""
    return f"At a new site {_name(row)} lies between {three(row['new_lower'])} and {three(row['new_upper'])} (95 %)."


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−") if abs(value) < 100 else f"{'+' if value > 0 else ''}{three(value)}"
