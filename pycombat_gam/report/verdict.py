"""The verdict in words: was there a site effect, is it gone, is the biology still there. Numbers are `summary`'s.

Sites differ by an aspect if one of its tests has p below the level after Holm's adjustment for all tests of that state
(`Diagnosis.overall`): with every test at its own level, a table without any site effect would seldom pass them all.
"""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING

import pandas as pd

from pycombat_gam.formula import Formula
from pycombat_gam.report.cells import p_text
from pycombat_gam.report.parts import Sentences
from pycombat_gam.report.verdict_biology import biology
from pycombat_gam.report.wording import equals_p, three
from pycombat_gam.study.origin import FITTED, MASKED, Origin
from pycombat_gam.study.states import AFTER, BEFORE, HELD_OUT
from pycombat_gam.words import count, joined, listing, percent

if TYPE_CHECKING:
    from pycombat_gam.diagnose import Diagnosis

WORDS = {
    "location": "mean",
    "scale": "spread",
    "distribution": "joint distribution",
    "covariance": "covariance",
    "site prediction": "site prediction",
}
"""What each aspect of the sites looks at."""
FEW = 0.1
"""Share of features below which they are counted, and the first of them named."""
NAMED = 5


def verdict(diagnosis: Diagnosis, formula: Formula, origin: Origin) -> tuple[Sentences, ...]:
    """Return the verdict on the diagnosis: before, after, biology."""
    after = _after(diagnosis, origin)
    return (_before(diagnosis), *(() if after is None else (after,)), biology(diagnosis, formula))


def site_differences(diagnosis: Diagnosis, state: str) -> dict[str, bool]:
    """Tell, aspect by aspect, whether sites differ in a state; aspects that were not tested are not there."""
    rows = diagnosis.overall
    rows = rows[rows["state"] == state]
    smallest = rows.groupby("aspect", sort=False)["p_adjusted"].min()
    return {aspect: bool(smallest[aspect] < diagnosis.level) for aspect in WORDS if aspect in smallest.index}


def _before(diagnosis: Diagnosis) -> Sentences:
    differences = site_differences(diagnosis, BEFORE)
    if not differences:
        return Sentences("No test of the sites was possible; the notes say why.", lead="Site effects were not tested.")
    differ = [aspect for aspect, differs in differences.items() if differs]
    single = _single_features(diagnosis, BEFORE)
    if differ:
        lead = f"Before harmonization the sites differed, by {_ways(diagnosis, BEFORE, differ)}."
    elif single:
        lead = (
            f"Before harmonization single features differed between sites (by {joined(single)}), but all tests "
            "together show no difference."
        )
    else:
        lead = "No site effect was found before harmonization."
    numbers = _numbers(diagnosis, BEFORE, differences, "At equal covariates")
    return Sentences(" ".join([numbers, *_untested(differences)]), lead=lead)


def _untested(tested: dict[str, bool]) -> list[str]:
    """Say what was not tested: it is not the same as no difference."""
    absent = [WORDS[aspect] for aspect in WORDS if aspect not in tested]
    return [f"Not tested: {joined(absent)}; the notes say why."] if absent else []


def _single_features(diagnosis: Diagnosis, state: str) -> list[str]:
    """Name aspects in which single features differ, with their tests' own adjustment."""
    rows = diagnosis.table
    rows = rows[(rows["state"] == state) & (rows["feature"] != "") & (rows["p_adjusted"] < diagnosis.level)]
    return [words for aspect, words in WORDS.items() if (rows["aspect"] == aspect).any()]


def _single_sites(diagnosis: Diagnosis, state: str) -> list[str]:
    """Name sites that differ from the others by their tests' own adjustment, each with the aspect."""
    rows = diagnosis.table
    rows = rows[(rows["state"] == state) & (rows["site"] != "") & (rows["p_adjusted"] < diagnosis.level)]
    each = []
    for aspect, words in WORDS.items():
        names = rows.loc[rows["aspect"] == aspect, "site"].drop_duplicates().tolist()
        if names:
            each.append(f"{listing(names, NAMED)} (by {words})")
    return each


def _after(diagnosis: Diagnosis, origin: Origin) -> Sentences | None:
    if AFTER not in diagnosis.states:
        return None
    then = site_differences(diagnosis, BEFORE)
    now, unseen = site_differences(diagnosis, AFTER), site_differences(diagnosis, HELD_OUT)
    if not now:
        return None
    left = [aspect for aspect, differs in now.items() if differs]
    held = [aspect for aspect, differs in unseen.items() if differs and not now.get(aspect)]
    parts = [_whose(origin), _numbers(diagnosis, AFTER, now, "There, at equal covariates,"), *_untested(now)]
    if _below_chance(diagnosis):
        parts.append(
            "Accuracies below chance are expected here: the fit saw these rows, so their sites agree more closely than "
            "those of new rows."
        )
    if unseen:
        anew = {FITTED: "", MASKED: " (fitted to other rows of fit_mask)"}.get(
            origin.kind, " (fitted to others of these rows)"
        )
        parts.append(f"Held out means: in rows that the model{anew} did not see.")
        parts.append(_numbers(diagnosis, HELD_OUT, unseen, "There, at equal covariates,"))
    else:
        parts.append("What harmonization does to rows that the model did not see was not measured (held_out).")
    single, sites = _single_features(diagnosis, AFTER), _single_sites(diagnosis, AFTER)
    tone = "bad" if left or held else "plain" if single or sites or set(then) - set(now) else "good"
    if left:
        lead = _lead_changed(diagnosis, then, left)
        if held:
            lead += f" In held-out rows the sites differed too, by {_ways(diagnosis, HELD_OUT, held)}."
    else:
        lead = _lead_alike(diagnosis, origin, now, unseen, single)
        if sites:
            lead += f" Single sites differ from the others: {joined(sites)}."
    return Sentences(" ".join(parts), lead=lead, tone=tone)


def _lead_changed(diagnosis: Diagnosis, then: dict[str, bool], left: list[str]) -> str:
    """Say by what sites differ after harmonization."""
    known, new = [aspect for aspect in left if then.get(aspect)], [aspect for aspect in left if not then.get(aspect)]
    if known:
        # Not "still": the features may be others than before.
        more = f", and by {_ways(diagnosis, AFTER, new)}, which was not found before" if new else ""
        return f"After harmonization sites differ, by {_ways(diagnosis, AFTER, known)}{more}."
    # What was found before may be gone, or nothing had been.
    return f"After harmonization sites differ by {_ways(diagnosis, AFTER, new)}, which was not found before."


def _lead_alike(
    diagnosis: Diagnosis, origin: Origin, now: dict[str, bool], unseen: dict[str, bool], single: list[str]
) -> str:
    """Say in which rows, and by which tests, no difference was found after harmonization."""
    held = [aspect for aspect, differs in unseen.items() if differs]
    if single and not held:
        return (
            f"After harmonization single features differ between sites (by {joined(single)}), but all tests together "
            "show no difference."
        )
    rows = "the rows of the fit" if origin.kind == FITTED else "these rows"
    by = joined([WORDS[aspect] for aspect in now], "or")
    inside = f"In {rows} no difference between sites was found after harmonization, by {by}."
    if held:
        return f"{inside} In held-out rows the sites differed, by {_ways(diagnosis, HELD_OUT, held)}."
    if unseen:
        only = joined([WORDS[aspect] for aspect in unseen])
        return f"{inside} In held-out rows only {only} was tested, and no difference was found."
    return f"{inside} Held-out rows were not tested."


def _whose(origin: Origin) -> str:
    if origin.kind == FITTED:
        return "In the rows that estimated the site effects, agreement is partly by construction."
    if origin.kind == MASKED:
        return (
            f"Of these rows, {origin.fit_rows:,} estimated the site effects; in those, agreement is partly by "
            "construction."
        )
    return (
        "These rows are not the table that the model was fitted to. In those that were in it, agreement is partly by "
        "construction."
    )


def _below_chance(diagnosis: Diagnosis) -> bool:
    table = diagnosis.table
    rows = table[(table["aspect"] == "site prediction") & (table["state"] == AFTER)]
    return bool((rows["upper"] < rows["chance"]).any())


def _ways(diagnosis: Diagnosis, state: str, aspects: list[str]) -> str:
    """Name aspects, with the number of features where it is small."""
    table, words = diagnosis.table, []
    for aspect in aspects:
        rows = table[(table["aspect"] == aspect) & (table["state"] == state) & (table["feature"] != "")]
        by = _that_found(diagnosis, state, aspect)
        most = max((_significant(part, diagnosis.level) for _, part in rows.groupby("measure")), key=len, default=[])
        tested = int(rows.loc[rows["p_adjusted"].notna(), "feature"].nunique())
        few = 0 < len(most) < FEW * tested
        few_of = f" (of {len(most):,} of {count(tested, 'feature')})" if few else ""
        words.append(f"{WORDS[aspect]}{few_of or by}")
    return joined(words)


def _that_found(diagnosis: Diagnosis, state: str, aspect: str) -> str:
    """Name the classifiers that found a difference, where others did not."""
    rows = diagnosis.overall
    rows = rows[(rows["state"] == state) & (rows["aspect"] == aspect)]
    differs = rows["p_adjusted"] < diagnosis.level
    if aspect != "site prediction" or differs.all():
        return ""
    return f" ({joined(rows.loc[differs, 'measure'].tolist())}, not {joined(rows.loc[~differs, 'measure'].tolist())})"


def _significant(rows: pd.DataFrame, level: float) -> list[str]:
    """Return the features of a test that are significant, the smallest p first."""
    return [str(name) for name in rows[rows["p_adjusted"] < level].sort_values("p", kind="stable")["feature"]]


def _numbers(diagnosis: Diagnosis, state: str, differences: dict[str, bool], where: str) -> str:
    """Write a state's numbers in words, a sentence for each aspect; the first begins with `where`."""
    table = diagnosis.table
    rows = table[(table["state"] == state) & (table["site"] == "")]
    features: list[str] = []
    others: list[str] = []
    for aspect, words in WORDS.items():
        part = rows[rows["aspect"] == aspect]
        by_measure = {str(measure): some for measure, some in part.groupby("measure", sort=False)}
        if aspect not in differences:
            continue
        if aspect in ("location", "scale"):
            each = [
                f"{_share(some, diagnosis.level)}{'' if at else ' of the features'} by {measure}"
                for at, (measure, some) in enumerate(by_measure.items())
            ]
            features.append(f"the {words} was found to differ in {joined(each)}")
        elif aspect == "site prediction":
            each = [f"{three(some['value'].iloc[0])} ({measure})" for measure, some in by_measure.items()]
            others.append(
                f"the features predicted the site with a balanced accuracy of {joined(each)}; chance is "
                f"{three(part['chance'].iloc[0])}"
            )
        else:
            others.append(_permuted(diagnosis, state, aspect, by_measure, bool(differences.get(aspect))))
    if features:
        features[-1] += f" (false discovery rate {percent(diagnosis.level)})"
    first, *rest = [*features, *others, *([_together(diagnosis, state)] if differences else [])]
    return " ".join([f"{where} {first}.", *(f"{text[0].upper()}{text[1:]}." for text in rest)])


def _permuted(diagnosis: Diagnosis, state: str, aspect: str, by_measure: dict[str, pd.DataFrame], differs: bool) -> str:
    """Write p of the permutation tests; where only the adjustment makes it not significant, also the adjusted p."""
    all_tests = diagnosis.overall
    adjusted = all_tests[all_tests["state"] == state].set_index(["aspect", "measure"])["p_adjusted"]
    each, words = [], "differed" if differs else "was not found to differ"
    smallest = 1.0
    for measure, some in by_measure.items():
        p = float(some["p"].iloc[0])
        if isnan(p):
            each.append(f"{measure} not tested")
            continue
        smallest = min(smallest, p)
        beside = f", adjusted {p_text(float(adjusted[aspect, measure]))}" if not differs and p < diagnosis.level else ""
        each.append(f"{'' if measure == aspect else f'{measure}, '}{equals_p(p)}{beside}")
    # With few permutations no p can be small enough for many tests.
    floor = 1 / (1 + diagnosis.permutations)
    if not differs and smallest < min(1.01 * floor, diagnosis.level):
        each.append(f"less than {p_text(floor)} needs more than {diagnosis.permutations:,} permutations")
    return f"the {WORDS[aspect]} {words} ({'; '.join(each)})"


def _together(diagnosis: Diagnosis, state: str) -> str:
    rows = diagnosis.overall
    p = rows.loc[rows["state"] == state, "p_adjusted"]
    if len(p) == 1:
        return f"for any difference {equals_p(p.min())}"
    return f"the smallest p of these {len(p)} tests, adjusted for their number (Holm), is {p_text(float(p.min()))}"


def _share(rows: pd.DataFrame, level: float) -> str:
    """Write the share of features that differ; where there are few, also how many, and the first names."""
    tested = int(rows["p_adjusted"].notna().sum())
    names = _significant(rows, level)
    if not tested:
        return "none (not tested)"
    share = len(names) / tested
    if not names or share >= FEW:
        return percent(share)
    return f"{percent(share)} ({len(names):,} of {tested:,}: {listing(names, NAMED)})"
