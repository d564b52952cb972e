"""What sets promise, to whom, at what level, and what they do not, in sentences."""

from __future__ import annotations

import numpy as np

from pycombat_gam.predict.calibration import Demand, ceilings, held_out
from pycombat_gam.predict.fitted import FittedPredictor
from pycombat_gam.predict.node_scores import NodeScores
from pycombat_gam.predict.scores import ClassScores, Scores
from pycombat_gam.predict.thresholds import ceiling, reachable, rows_needed
from pycombat_gam.words import count, joined, percent


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
    are = "is a class" if len(short) == 1 else "are classes"
    argument = "level" if demand.share is None else "sites"
    argument, stay = "level" if demand.share is None else "sites", "it stays" if len(short) == 1 else "they stay"
    return [
        f"{which} {are} at too few of the {K} sites for {argument}={demand.asked:g}: {stay} in every set. "
        f"{argument}={_below(float(tops[short].min())):g} can be guaranteed for every class."
    ]


def _no_level(fitted: FittedPredictor, demand: Demand, scores: Scores, K: int) -> list[str]:
    top = ceiling(K)
    lower = _below(top)
    classes = isinstance(scores, ClassScores | NodeScores)
    stays = "every class stays" if classes else "every interval is infinite"
    if demand.share is not None:
        return [
            f"{K} sites: sets cannot be guaranteed at more than {K}/{K + 1} = {percent(top, '.1f')} of new sites; at "
            f"sites={demand.share:g} {stays}. sites={lower:g} can be guaranteed."
        ]
    sentences = [
        f"{K} sites: no set can be guaranteed to hold the truth at a new site more often than {K}/{K + 1} = "
        f"{percent(top, '.1f')} of the time; at level {demand.level:g} {stays}."
    ]
    size = ""
    if reachable(lower, ceiling(K - 1)):
        sizes = held_out(Demand(lower, None, True), scores, fitted.evidence).size
        if np.isfinite(sizes).all():
            size = f" ({sizes.mean():.3g} classes on average)" if classes else f" (mean width {sizes.mean():.3g})"
    sentences.append(f"level={lower:g} is guaranteed{size}.")
    held = held_out(Demand(demand.level, None, False), scores, fitted.evidence)
    by_site = [held.covered[held.site == j].mean() for j in range(K)]
    sentences.append(
        f"Without guarantee, sets at {demand.level:g} held it in {percent(float(np.mean(by_site)), '.1f')} (by site "
        f"{100 * min(by_site):.0f}–{percent(max(by_site), '.0f')}), leaving each site out."
    )
    each = " of each class" if scores.n_strata > 1 else ""
    sentences.append(f"With {rows_needed(demand.level)} labelled patients{each} of the new site it can be exact there.")
    return [" ".join(sentences)]


def _below(top: float) -> float:
    """The largest multiple of 0.05 that does not exceed a ceiling."""
    return float(np.floor(top * 20 + 1e-9) / 20)


def promise(fitted: FittedPredictor, demand: Demand, scores: Scores) -> tuple[str, list[str]]:
    """Return the guarantee in one sentence, and what is not guaranteed."""
    K, harmonized = len(fitted.levels), fitted.full.harmonizer is not None
    each = ", whichever class is the true one" if scores.n_strata > 1 else ""
    like = f"new sites that come from where the {K} sites of the fit come from"
    if harmonized:
        like += f" and give at least {count(fitted.fewest, 'row')} to harmonize"
    hold, limits = f"hold the true {fitted.outcome.name}", []
    if not demand.guarantee:
        sentence = (
            f"Nothing is guaranteed. Sets are estimated to {hold} of a patient at a new site in "
            f"{percent(demand.level)} of cases{each}, on average over {like}."
        )
    elif demand.share is None:
        sentence = (
            f"Guaranteed: sets {hold} of a patient at a new site in at least {percent(demand.level)} of cases{each}, "
            f"on average over {like}."
        )
        limits.append("that level at every new site: it holds on average over them (sites=0.9 asks for a share)")
    else:
        sentence = (
            f"Guaranteed: at {percent(demand.share)} of {like}, sets {hold} in at least {percent(demand.level)} of "
            f"patients{each}."
        )
    limits.append("a site unlike those of the fit, such as one with other patients or another protocol")
    classes = isinstance(scores, ClassScores | NodeScores)
    within = " within a class" if scores.n_strata > 1 else ", single classes among them" if classes else ""
    limits.append(f"subgroups of patients{within}")
    if harmonized and classes:
        limits.append("a site of another prevalence: harmonizing without outcomes removes part of the difference")
    elif classes and scores.n_strata == 1:
        limits.append("a site of another prevalence (per_class=True holds there if a class looks alike at all sites)")
    return sentence, limits
