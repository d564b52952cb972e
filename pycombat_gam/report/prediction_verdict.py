"""What a predictor guarantees, to whom, at what level, and what it does not; then how it did at sites left out."""

from __future__ import annotations

import math

import pandas as pd

from pycombat_gam.predict.calibration import ceilings
from pycombat_gam.predict.guarantee import impossible, promise
from pycombat_gam.predict.predictor import Predictor
from pycombat_gam.predict.scores import Scores
from pycombat_gam.predict.thresholds import ceiling, reachable
from pycombat_gam.predict.validation import KINDS, Validation
from pycombat_gam.report.cells import number_text
from pycombat_gam.report.parts import Sentences
from pycombat_gam.report.wording import three
from pycombat_gam.words import count, joined, percent

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
    name, K = fitted.outcome.name, len(fitted.levels)
    if scores is None:
        text = f"The model gives risks of {name}, and no sets. How they did at sites left out is all that is known."
        return [Sentences(text, lead="Nothing is guaranteed.")]
    each = ", whichever class is the true one" if scores.n_strata > 1 else ""
    where = "at a new site" if demand.share is None else f"at {percent(demand.share)} of new sites"
    beyond = impossible(fitted, demand, scores)
    if not demand.guarantee:
        lead, tone = "Nothing is guaranteed.", "plain"
        texts = [f"Sets are estimated to hold the true {name} {where} in {percent(demand.level)} of patients{each}."]
    elif not reachable(demand.asked, ceiling(K)):
        stays = "every class stays in every set" if fitted.outcome.classes else "every interval is infinite"
        asked = f"level {demand.level:g}" if demand.share is None else f"{percent(demand.share)} of sites"
        lead, tone, texts = f"At {asked} nothing can be guaranteed: {stays}.", "bad", beyond
    else:
        lead = f"Guaranteed: {where}, sets hold the true {name} in at least {percent(demand.level)} of patients{each}."
        tone, texts = "plain" if beyond else "good", beyond
    texts = [*texts, *_for_whom(validation), *_ceiling(validation, scores)]
    limits = [f"{limit[0].upper()}{limit[1:]}." for limit in promise(fitted, demand, scores)[1]]
    return [Sentences(" ".join(texts), lead=lead, tone=tone), Sentences(" ".join(limits), lead="Not guaranteed:")]


def _for_whom(validation: Validation) -> list[str]:
    fitted, demand = validation.fitted, validation.demand
    sites = count(len(fitted.levels), "site")
    texts = [f"For whom: patients at new sites that come from where the {sites} of the fit come from."]
    if fitted.full.harmonizer is not None:
        texts.append(f"Such a site gives at least {count(fitted.fewest, 'row')} to harmonize.")
    level = f"At what level: {percent(demand.level)}"
    share = f"{percent(demand.share)} of them" if demand.share is not None else ""
    return [*texts, f"{level}, at {share}." if share else f"{level}, on average over them."]


def _ceiling(validation: Validation, scores: Scores) -> list[str]:
    """Say what so many sites can guarantee at most, K/(K + 1), for each class as well."""
    evidence, K = validation.fitted.evidence, len(validation.fitted.levels)
    what = "" if validation.demand.share is None else " of new sites"
    texts = [f"{count(K, 'site')} can guarantee {K}/{K + 1} = {percent(ceiling(K), '.1f')}{what} at most."]
    tops = ceilings(scores, evidence.y, evidence.site)
    lower = [
        f"{name} {percent(float(top), '.1f')}"
        for name, top in zip(scores.names_of_strata(), tops, strict=True)
        if top < ceiling(K)
    ]
    return [*texts, *([f"Of classes that some sites lack, the most is {joined(lower)}."] if lower else [])]


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
