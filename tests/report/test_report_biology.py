"""The verdict on the biology: what is found, and what became of effects and predictions, for numbers that are set."""

from __future__ import annotations

import re

import numpy as np
import pytest
from helpers.report_cases import State, told
from helpers.verdict_cases import HALF, QUIET, changed, leads, of, p, predicted, strength

from pycombat_gam.report.verdict_biology import TermFound, terms_found

AGE, CHANGE = ("association", "age"), ("effect change", "age")
LIKELY = predicted(0.62, 0.67)["before"]
FINDS = "With sites accounted for, the test finds age in 10 of 10 features."
UNKNOWN = "By how much harmonization changes the effects of age was not estimated."
KEPT = "Harmonization keeps the effects of age, to within 10 %."
UNCLEAR = "Whether harmonization keeps the effects of age is not clear."
some_after = np.array([1e-5] * 4 + [0.3] * 6)
BIOLOGY: dict[str, tuple[dict[tuple[str, str], dict[str, State]], str, str]] = {
    "none": ({AGE: strength(0.001)}, "No association with age was found.", "plain"),
    "kept": ({AGE: strength(0.2), CHANGE: changed(0.98, 0.93, 1.03)}, f"{FINDS} {KEPT}", "good"),
    "change not estimated": ({AGE: strength(0.2)}, f"{FINDS} {UNKNOWN}", "plain"),
    # The table after is tested itself: two counts, and nothing follows from their difference.
    "two tests": (
        {AGE: strength(0.2, after=some_after), CHANGE: changed(0.98, 0.93, 1.03)},
        "With sites accounted for, the test finds age in 10 of 10 features before and 4 of 10 features after. " + KEPT,
        "good",
    ),
    "found after only": (
        {AGE: strength(0.001, 0.2)},
        "With sites accounted for, the test finds age in 0 of 10 features before and 10 of 10 features after. "
        + UNKNOWN,
        "plain",
    ),
    "smaller": (
        {AGE: strength(0.2), CHANGE: changed(0.85, 0.79, 0.91)},
        "In the harmonized table without site, effects of age are 0.850 times those before (95 % interval 0.790 to "
        f"0.910). {FINDS}",
        "bad",
    ),
    "larger": (
        {AGE: strength(0.2), CHANGE: changed(1.3, 1.2, 1.4)},
        "In the harmonized table without site, effects of age are 1.30 times those before (95 % interval 1.20 to "
        f"1.40). {FINDS}",
        "plain",
    ),
    # Beyond 10 %, but the interval holds no change.
    "smaller, not surely": (
        {AGE: strength(0.2), CHANGE: changed(0.85, 0.68, 1.02)}, f"{FINDS} {UNCLEAR}", "plain"
    ),
    # Surely smaller, not surely by 10 %.
    "a little smaller": (
        {AGE: strength(0.2), CHANGE: changed(0.92, 0.88, 0.96)},
        f"{FINDS} Effects of age are smaller after harmonization; whether by more than 10 % is not clear.",
        "plain",
    ),
    "a little larger": (
        {AGE: strength(0.2), CHANGE: changed(1.08, 1.02, 1.14)},
        f"{FINDS} Effects of age are larger after harmonization; whether by more than 10 % is not clear.",
        "plain",
    ),
    "no change, not surely": ({AGE: strength(0.2), CHANGE: changed(1.0, 0.8, 1.2)}, f"{FINDS} {UNCLEAR}", "plain"),
    "not tested": (
        {AGE: strength(0.2, before=np.nan, after=np.nan), ("association", "sex"): strength(0.2)},
        f"{FINDS.replace('age', 'sex')} {UNKNOWN.replace('age', 'sex')} Associations with age were not tested; the "
        "notes say why.",
        "plain",
    ),
    "not tested after": (
        {AGE: strength(0.2, after=np.nan)},
        f"With sites accounted for, the test finds age in 10 of 10 features before. {UNKNOWN} Associations with age "
        "were not tested after harmonization.",
        "plain",
    ),
    "none, but predicted": (
        {
            AGE: strength(0.001), ("association", "dx"): strength(0.001),
            ("covariate prediction", "age"): predicted(0.62, 0.67),
            ("covariate prediction", "dx"): predicted(0.52, 0.5),
        },
        "No association with dx was found. No association of a single feature with age was found. All features "
        "together predict age better than chance, not adjusted for the other terms.",
        "plain",
    ),
    "several terms": (
        {
            AGE: strength(0.2), ("association", "sex"): strength(0.2), ("association", "dx"): strength(0.3),
            ("association", "icv"): strength(0.2), ("association", "site age"): strength(0.001),
            ("effect change", "age"): changed(0.7, 0.6, 0.8), ("effect change", "sex"): changed(1, 0.99, 1.01),
            ("effect change", "dx"): changed(1, 0.95, 1.05), ("effect change", "icv"): changed(1, 0.5, 1.5),
        },
        "In the harmonized table without site, effects of age are 0.700 times those before (95 % interval 0.600 to "
        "0.800). With sites accounted for, the test finds age in 10 of 10 features, sex in 10 of 10 features and dx in "
        "10 of 10 features. It finds icv in 10 of 10 features. Harmonization keeps the effects of sex and dx, to "
        f"within 10 %. {UNCLEAR.replace('age', 'icv')} No association with site age was found.",
        "bad",
    ),
    "worse prediction": (
        {
            AGE: strength(0.2), CHANGE: changed(1, 0.95, 1.05),
            ("covariate prediction", "age"): predicted(0.8, 0.6),
        },
        f"Harmonization weakened the prediction of age. {FINDS} {KEPT}",
        "bad",
    ),
    "worse prediction of a number": (
        {
            AGE: strength(0.2), CHANGE: changed(1, 0.95, 1.05),
            ("covariate prediction", "age"): predicted(6, 12, measure="mean absolute error"),
        },
        f"Harmonization weakened the prediction of age. {FINDS} {KEPT}",
        "bad",
    ),
    "worse held out only": (
        {
            AGE: strength(0.2), CHANGE: changed(1, 0.95, 1.05),
            ("covariate prediction", "age"): predicted(0.8, 0.8, 0.5),
        },
        f"{FINDS} {KEPT}",
        "good",
    ),
    "predictions alone": (
        {("covariate prediction", "dx"): predicted(0.8, 0.8)},
        "The prediction of dx at sites left out did not clearly worsen.",
        "plain",
    ),
    "predictions alone, by chance": (
        {("covariate prediction", "dx"): predicted(0.54, 0.54)},
        "Nothing is predicted clearly better than chance at sites left out, before or after harmonization.",
        "plain",
    ),
    # Better than chance only after, but within the interval of the prediction before.
    "a prediction crosses its limit": (
        {("covariate prediction", "dx"): predicted(0.54, 0.56)},
        "At sites left out dx is predicted better than chance after harmonization, not clearly better than before.",
        "plain",
    ),
    "a prediction only after": (
        {("covariate prediction", "dx"): predicted(0.54, 0.7)},
        "At sites left out dx is predicted better than chance only after harmonization.",
        "plain",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BIOLOGY)
def test_leads_of_the_biology(name: str) -> None:
    tests, lead, tone = BIOLOGY[name]
    found = of(QUIET | tests)[-1]
    assert (found.lead, found.tone) == (lead, tone)


@pytest.mark.parametrize("name", BIOLOGY)
def test_no_sentence_is_long(name: str) -> None:
    found = of(QUIET | BIOLOGY[name][0])[-1]
    for sentence in re.split(r"(?<=\.)\s", f"{found.lead} {found.text}"):
        # As long as people read: a limit of the house.
        assert len(sentence.split()) <= 30, sentence


def test_a_change_is_called_by_its_interval() -> None:
    def word(*numbers: float) -> str:
        return TermFound("age", {}, {}, {}, *numbers).change

    assert word(1.0, 0.9, 1.1) == "kept"
    assert word(1.0, 0.9 - 1e-9, 1.1) == word(1.0, 0.9, 1.1 + 1e-9) == "unclear"
    assert word(0.9 - 1e-9, 0.7, 1.0 - 1e-9) == "smaller"
    assert word(0.9 + 1e-9, 0.7, 1.0 - 1e-9) == word(0.9 - 1e-9, 0.7, 1.0) == "unclear"
    assert word(1.1 + 1e-9, 1.0 + 1e-9, 1.4) == "larger"
    assert word(np.nan, np.nan, np.nan) == ""


def test_counts_and_changes_are_the_tables() -> None:
    part = np.array([1e-6] * 5 + [np.nan] * 5)
    tests = {AGE: strength(0.2, before=part, after=part), CHANGE: changed(0.97, 0.9, 1.04)}
    (term,) = terms_found(told(tests))
    assert term.found == term.tested == term.untested == {"before": 5, "after": 5}
    lead = of(QUIET | tests)[-1].lead
    assert lead.startswith("With sites accounted for, the test finds age in 5 of 5 features (5 not tested).")
    assert (term.ratio, term.lower, term.upper) == (0.97, 0.9, 1.04)
    assert of(QUIET | tests)[-1].text == (
        "Effects after harmonization, without site, as multiples of those before (95 % intervals): age 0.970 (0.900 to "
        "1.04)."
    )


def test_what_is_by_construction_is_said_so() -> None:
    """The test of a ComBat's table undoes the harmonization, so it is not; another test, and predictions, are."""
    same, other = strength(0.2), strength(0.2, after=some_after)
    ahead = {("covariate prediction", "age"): predicted(0.7, 0.72)}
    words = "The harmonization used these covariates, so {} after it are partly by construction."
    cases = (
        (same, {}, ""),
        (same, ahead, "predictions"),
        (other, {}, "tests"),
        (other, ahead, "tests and predictions"),
    )
    for association, more, what in cases:
        text = of(QUIET | {AGE: association} | more)[-1].text
        assert text.count("by construction") == bool(what)
        assert not what or words.format(what) in text


def test_held_out_predictions_in_words() -> None:
    tests = QUIET | {
        ("covariate prediction", "age"): predicted(9.5, 6.0, 13.0, measure="mean absolute error"),
        ("covariate prediction", "sex"): predicted(0.7, 0.72, 0.71),
        ("covariate prediction", "dx"): predicted(0.52, 0.7, 0.8),
    }
    text = of(tests)[-1].text
    assert (
        "At sites left out, age is predicted with mean absolute error 9.50 before, 6.00 after and 13.0 held out. "
        "Chance is 10.0: not clearly better than chance before; better than chance after; worse than chance held out. "
        "Held out it is worse than before, which does not count as weakened; the section on biology says why." in text
    )
    assert (
        "At sites left out, sex is predicted with AUC 0.700 before, 0.720 after and 0.710 held out. Chance is 0.500: "
        "better than chance before, after and held out. At sites" in text
    )
    assert "Held out it is better than before." in text
    assert text.count("does not count as weakened") == 1
    assert "rely on those held out" in text
    tests = QUIET | {("covariate prediction", "sex"): predicted(0.7, 0.72)}
    assert "eld out" not in of(tests)[-1].text


def test_before_alone() -> None:
    one = strength(0.2)
    assert leads({("location", "ANOVA"): p(HALF), AGE: {"before": one["before"]}}) == [
        "Before harmonization the sites differed, by mean.", FINDS
    ]  # fmt: skip
    none = strength(0.001)
    assert leads({("location", "ANOVA"): p(HALF), AGE: {"before": none["before"]}})[-1] == (
        "No association with age was found."
    )
    assert leads({AGE: {"before": none["before"]}, ("covariate prediction", "age"): {"before": LIKELY}})[-1] == (
        "No association of a single feature with age was found. All features together predict age better than chance, "
        "not adjusted for the other terms."
    )
    untested = strength(0.2, before=np.nan)["before"]
    assert leads({AGE: {"before": untested}, ("association", "sex"): {"before": one["before"]}})[-1] == (
        f"{FINDS.replace('age', 'sex')} Associations with age were not tested; the notes say why."
    )
