"""What sets promise, to whom, at what level, and what they do not, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pycombat_gam.predict.calibration import Demand, ceilings, held_out
from pycombat_gam.predict.fitted import FittedPredictor
from pycombat_gam.predict.node_scores import NodeScores
from pycombat_gam.predict.scores import ClassScores, Scores
from pycombat_gam.predict.thresholds import ceiling, reachable, rows_needed
from pycombat_gam.words import Setting, Worded, count, joined, percent


def impossible(fitted: FittedPredictor, demand: Demand, scores: Scores) -> list[str]:
    """Say which level cannot be guaranteed, and what can be done; empty if all can."""
    if not demand.guarantee:
        return []
    evidence = fitted.evidence
    tops = ceilings(scores, evidence.y, evidence.site)
    K = len(fitted.levels)
    if not reachable(demand.asked, ceiling(K)):
        return _no_level(fitted, demand, scores, K)
    names = scores.names_of_strata()
    short = [s for s in range(scores.n_strata) if not reachable(demand.asked, float(tops[s]))]
    if not short:
        return []
    strata = scores.strata(evidence.y)
    which = joined(
        [
            f"'{names[s]}' (at {count(np.unique(evidence.site[strata == s]).size, 'site')}, at most "
            f"{percent(float(tops[s]), '.1f')})"
            for s in short
        ]
    )
    are, stay = ("is a class", "it stays") if len(short) == 1 else ("are classes", "they stay")
    argument = "level" if demand.share is None else "sites"
    return [
        Worded(
            f"{which} {are} at too few of the {K} sites for ",
            Setting(argument, demand.asked),
            f": {stay} in every set. ",
            Setting(argument, _below(float(tops[short].min()))),
            " can be guaranteed for every class.",
        )
    ]


def _no_level(fitted: FittedPredictor, demand: Demand, scores: Scores, K: int) -> list[str]:
    top, asked = ceiling(K), demand.asked
    lower = _below(float(ceilings(scores, fitted.evidence.y, fitted.evidence.site).min()))
    classes = isinstance(scores, ClassScores | NodeScores)
    stays = "every class stays" if classes else "every interval is infinite"
    if demand.share is not None:
        return [
            Worded(
                f"{K} sites: sets cannot be guaranteed at more than {K}/{K + 1} = {percent(top, '.1f')} of new sites; "
                "at ",
                Setting("sites", asked),
                f" {stays}. ",
                Setting("sites", lower),
                " can be guaranteed.",
            )
        ]
    size = ""
    if reachable(lower, ceiling(K - 1)):
        sizes = held_out(Demand(lower, None, True), scores, fitted.evidence).size
        if np.isfinite(sizes).all():
            size = f" ({sizes.mean():.3g} classes on average)" if classes else f" (mean width {sizes.mean():.3g})"
    held = held_out(Demand(demand.level, None, False), scores, fitted.evidence)
    by_site = [held.covered[held.site == j].mean() for j in range(K)]
    each = " of each class" if scores.n_strata > 1 else ""
    return [
        Worded(
            f"{K} sites: no set can be guaranteed to hold the truth at a new site more often than {K}/{K + 1} = "
            f"{percent(top, '.1f')} of the time; at level {demand.level:g} {stays}. ",
            Setting("level", lower),
            f" is guaranteed{size}. Without guarantee, sets at {demand.level:g} held it in "
            f"{percent(float(np.mean(by_site)), '.1f')} (by site {100 * min(by_site):.0f}–"
            f"{percent(max(by_site), '.0f')}), leaving each site out. With {rows_needed(demand.level)} labelled "
            f"patients{each} of the new site it can be exact there.",
        )
    ]


def _below(top: float) -> float:
    """The largest multiple of 0.05 that does not exceed a ceiling."""
    return float(np.floor(top * 20 + 1e-9) / 20)


@dataclass(frozen=True)
class Promise:
    """What is guaranteed, and what is not.

    Attributes
    ----------
    lead : the guarantee, in one sentence; details : for whom, at what level, and what K sites can guarantee at most.
    beyond : what was asked for and cannot be; limits : what is not guaranteed, without capital and full stop.
    """

    lead: str
    details: tuple[str, ...]
    beyond: tuple[str, ...]
    limits: tuple[str, ...]


def promise(fitted: FittedPredictor, demand: Demand, scores: Scores) -> Promise:
    """Say what sets guarantee."""
    name, K = fitted.outcome.name, len(fitted.levels)
    each = ""
    if scores.n_strata > 1:
        each = ", whichever class is the true one" if demand.share is None else ", for each class by itself"
    where = "at a new site" if demand.share is None else f"at {percent(demand.share)} of new sites"
    beyond, limits = tuple(impossible(fitted, demand, scores)), tuple(_limits(fitted, demand, scores))
    details = (*_for_whom(fitted, demand), *_ceilings(fitted, demand, scores))
    hold = f"hold the true {name}"
    if not demand.guarantee:
        estimate = f"Sets are estimated to {hold} {where} in {percent(demand.level)} of patients{each}."
        return Promise("Nothing is guaranteed.", (estimate, *details), beyond, limits)
    if not reachable(demand.asked, ceiling(K)):
        stays = "every class stays in every set" if fitted.outcome.classes else "every interval is infinite"
        asked = f"level {demand.level:g}" if demand.share is None else f"{percent(demand.share)} of sites"
        return Promise(f"At {asked} nothing can be guaranteed: {stays}.", (), beyond, limits)
    lead = f"Guaranteed: {where}, sets {hold} in at least {percent(demand.level)} of patients{each}."
    return Promise(lead, details, beyond, limits)


def _for_whom(fitted: FittedPredictor, demand: Demand) -> list[str]:
    sites = count(len(fitted.levels), "site")
    texts = [f"For whom: patients at new sites that come from where the {sites} of the fit come from."]
    if fitted.bags:
        texts.append("A smaller site is harmonized in bags of rows, and so are those that calibrate.")
    elif fitted.full.harmonizer is not None:
        texts.append("They give as many rows to harmonize as the sites of the fit.")
    them = "on average over them" if demand.share is None else f"at {percent(demand.share)} of them"
    return [*texts, f"At what level: {percent(demand.level)}, {them}."]


def _ceilings(fitted: FittedPredictor, demand: Demand, scores: Scores) -> list[str]:
    """Say what so many sites can guarantee at most, K/(K + 1), for each class as well."""
    evidence, K = fitted.evidence, len(fitted.levels)
    what = "" if demand.share is None else " of new sites"
    texts = [f"{count(K, 'site')} can guarantee {K}/{K + 1} = {percent(ceiling(K), '.1f')}{what} at most."]
    tops = ceilings(scores, evidence.y, evidence.site)
    lower = [
        f"{name} {percent(float(top), '.1f')}"
        for name, top in zip(scores.names_of_strata(), tops, strict=True)
        if top < ceiling(K)
    ]
    return [*texts, *([f"Of classes that some sites lack, the most is {joined(lower)}."] if lower else [])]


def _limits(fitted: FittedPredictor, demand: Demand, scores: Scores) -> Iterator[str]:
    classes, harmonized = isinstance(scores, ClassScores | NodeScores), fitted.full.harmonizer is not None
    if demand.share is None and demand.guarantee:
        yield "that level at every new site: it holds on average over them (sites=0.9 asks for a share)"
    yield "a site unlike those of the fit, such as one with other patients or another protocol"
    within = " within a class" if scores.n_strata > 1 else ", single classes among them" if classes else ""
    yield f"subgroups of patients{within}"
    if harmonized and classes:
        yield "a site of another prevalence: harmonizing without outcomes removes part of the difference"
    elif classes and scores.n_strata == 1:
        yield "a site of another prevalence (per_class=True holds there if a class looks alike at all sites)"
