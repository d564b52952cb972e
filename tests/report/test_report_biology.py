"""The verdict on the biology: what became of associations and predictions, for numbers that are set."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.report_cases import State, told
from helpers.verdict_cases import HALF, QUIET, leads, of, p, predicted, strength
from scipy.stats import wilcoxon

from pycombat_gam.report.verdict_biology import changes

AGE = ("association", "age")
LIKELY = predicted(0.62, 0.67)["before"]
one_lost = np.full(10, 1e-5)
UNCLEAR = "Associations with age did not clearly change (median change of partial R² {})."
one_lost[0] = 0.3
BIOLOGY: dict[str, tuple[dict[tuple[str, str], dict[str, State]], str, str]] = {
    "none": ({AGE: strength(0.001)}, "No association with age was found, before or after harmonization.", "plain"),
    "kept": ({AGE: strength(0.2)}, "The associations with age were found before harmonization and are kept.", "good"),
    # A tenth of the features loses significance, but all partial R² rise.
    "one feature crosses": (
        {AGE: strength(0.2, 0.215, after=one_lost)},
        "The associations with age were found before harmonization and are kept.",
        "good",
    ),
    "a little weaker": (
        {AGE: strength(0.2, 0.19)}, "The associations with age were found before harmonization and are kept.", "good"
    ),
    "weaker": ({AGE: strength(0.2, 0.15)}, "Harmonization weakened the associations with age.", "bad"),
    # About as many features gain as lose.
    "no direction": (
        {AGE: strength([0.1] * 5 + [0.3] * 6 + [0.1] * 2, [0.3] * 5 + [0.1] * 6 + [0.24] * 2)},
        "The associations with age were found before harmonization and are kept.",
        "good",
    ),
    "stronger": ({AGE: strength(0.2, 0.3)}, "Harmonization strengthened the associations with age.", "good"),
    "lost": (
        {AGE: strength(0.2, 0.002)}, "Associations with age were found before harmonization, but not after.", "bad"
    ),
    # 0.04 and 0.06 are the same evidence: significance on one side only is no change.
    "at the level": ({AGE: strength(0.02, 0.0199, before=0.04, after=0.06)}, UNCLEAR.format("−0.5 %"), "plain"),
    "at the level, the other way": (
        {AGE: strength(0.0199, 0.02, before=0.06, after=0.04)}, UNCLEAR.format("+0.5 %"), "plain"
    ),
    # A partial R² of 0.045 has the interval 0.000 to 0.163 with 85 degrees of freedom: 0.027, 40 % less, is inside.
    "at the level, one feature": (
        {AGE: strength(0.05, 0.03, n=1, before=0.04, after=0.11)}, UNCLEAR.format("−40.0 %"), "plain"
    ),
    "lost, one feature": (
        {AGE: strength(0.3, 0.002, n=1)}, "Associations with age were found before harmonization, but not after.", "bad"
    ),
    "new, one feature": (
        {AGE: strength(0.002, 0.3, n=1)}, "Associations with age were found only after harmonization.", "plain"
    ),
    # Found before only, and all features lose a third: weaker, yet no feature's interval excludes what it is after.
    "weaker to below the level": (
        {AGE: strength(0.05, 0.033, before=0.04, after=0.11)},
        "Harmonization weakened the associations with age.",
        "bad",
    ),
    # Single features at 0.02 and 0.03, adjusted; with the two terms that are left 0.04 and 0.06.
    "Holm crosses the level after": (
        {
            ("association", "dx"): strength(0.05, 0.0495, before=0.02, after=0.03),
            AGE: strength(0.2), ("association", "sex"): strength(0.001),
        },
        "The associations with age were found before harmonization and are kept. Associations with dx did not clearly "
        "change (100 % of features before, 100 % after). No association with sex was found, before or after "
        "harmonization.",
        "plain",
    ),
    "Holm crosses the level before": (
        {
            ("association", "dx"): strength(0.0495, 0.05, before=[0.02] * 5 + [0.9] * 5, after=[0.002] * 4 + [0.9] * 6),
            AGE: strength(0.2), ("association", "sex"): strength(0.001),
        },
        "The associations with age were found before harmonization and are kept. Associations with dx did not clearly "
        "change (50 % of features before, 40 % after). No association with sex was found, before or after "
        "harmonization.",
        "plain",
    ),
    # Single features are still significant, so what changed beyond an interval is weaker, not lost.
    "weaker to the limit": (
        {
            ("association", "dx"): strength(0.3, 0.05, after=0.03),
            AGE: strength(0.2), ("association", "sex"): strength(0.001),
        },
        "Harmonization weakened the associations with dx. The associations with age were found before harmonization "
        "and are kept. No association with sex was found, before or after harmonization.",
        "bad",
    ),
    # The median of all rises from 0.11 to 0.2, but eight of nine fall, by 30 % in the median.
    "medians against the features": (
        {AGE: strength([0.1] * 4 + [0.11] + [0.3] * 4, [0.07] * 4 + [0.2] + [0.2] * 4)},
        "Harmonization weakened the associations with age.",
        "bad",
    ),
    # Single features at 0.03, adjusted; with three terms 0.09.
    "near the limit": (
        {
            ("association", "icv"): strength(0.05, before=0.03, after=0.03),
            AGE: strength(0.001), ("association", "sex"): strength(0.001),
        },
        "Associations with icv are near the limit of significance: single features reach it, but not after adjustment "
        "for the number of terms. No association with age or sex was found, before or after harmonization.",
        "plain",
    ),
    "not tested": (
        {AGE: strength(0.2, before=np.nan, after=np.nan), ("association", "sex"): strength(0.2)},
        "The associations with sex were found before harmonization and are kept. Associations with age were not "
        "tested; the notes say why.",
        "plain",
    ),
    "not tested after": (
        {AGE: strength(0.2, after=np.nan)},
        "Associations with age were not tested after harmonization, so what became of them is not known.",
        "plain",
    ),
    "none, but predicted": (
        {
            AGE: strength(0.001), ("association", "dx"): strength(0.001),
            ("covariate prediction", "age"): predicted(0.62, 0.67),
            ("covariate prediction", "dx"): predicted(0.52, 0.5),
        },
        "No association with dx was found, before or after harmonization. No association of a single feature with age "
        "was found, before or after harmonization. All features together predict age better than chance, but this is "
        "not adjusted for the other terms.",
        "plain",
    ),
    "new": ({AGE: strength(0.002, 0.2)}, "Associations with age were found only after harmonization.", "plain"),
    "three features weaker": (
        {AGE: strength(0.2, 0.15, n=3)}, "Harmonization weakened the associations with age.", "bad"
    ),
    "three features, one of them not": (
        {AGE: strength([0.2, 0.21, 0.22], [0.1, 0.1, 0.23])},
        "The associations with age were found before harmonization and are kept.",
        "good",
    ),
    "several terms": (
        {
            AGE: strength(0.2, 0.1), ("association", "sex"): strength(0.2), ("association", "dx"): strength(0.3),
            ("association", "site age"): strength(0.001), ("association", "icv"): strength(0.001),
        },
        "Harmonization weakened the associations with age. The associations with sex and dx were found before "
        "harmonization and are kept. No association with site age or icv was found, before or after harmonization.",
        "bad",
    ),
    "worse prediction": (
        {AGE: strength(0.2), ("covariate prediction", "age"): predicted(0.8, 0.7)},
        "Harmonization weakened the prediction of age. The associations with age were found before harmonization and "
        "are kept.",
        "bad",
    ),
    "worse prediction of a number": (
        {AGE: strength(0.2), ("covariate prediction", "age"): predicted(6, 8, measure="mean absolute error")},
        "Harmonization weakened the prediction of age. The associations with age were found before harmonization and "
        "are kept.",
        "bad",
    ),
    "worse held out only": (
        {AGE: strength(0.2), ("covariate prediction", "age"): predicted(0.8, 0.8, 0.5)},
        "The associations with age were found before harmonization and are kept.",
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


def test_the_criterion_is_named_and_has_its_numbers() -> None:
    rng = np.random.default_rng(2)
    before = rng.uniform(0.1, 0.3, 12)
    after = before * rng.uniform(0.6, 1.1, 12)
    tests = QUIET | {AGE: strength([*before, 0.002], [*after, 0.001])}
    (change,) = changes(told(tests))
    # The thirteenth feature is significant in neither state.
    assert change.features == 12
    assert (change.before, change.after) == (np.median(before), np.median(after))
    expected = wilcoxon(after, before).pvalue
    # The same formula by hand: rounding.
    assert change.p == pytest.approx(expected, rel=1e-12)
    relative = np.median(after / before - 1)
    assert change.relative == pytest.approx(relative, rel=1e-12)
    text = of(tests)[-1].text
    assert "by the features significant before or after, and by no others" in text
    assert (
        f"age {np.median(before):.3f} and {np.median(after):.3f} (median change −{-100 * relative:.1f} %, 12 of 13 "
        f"features, signed-rank p = {expected:.3f})" in text
    )
    every = [np.median([*values, last]) for values, last in ((before, 0.002), (after, 0.001))]
    assert f"The median over all features, before and after: age {every[0]:.3f} and {every[1]:.3f}." in text
    assert "two-sided Wilcoxon signed-rank test" in text
    assert "median change exceeds 10 %" in text
    assert text.count("a rule for reading, not a test of a hypothesis") == 1
    assert "Lost or new" not in text


def test_the_median_change_is_that_of_the_features_not_of_the_medians() -> None:
    """Six of nine fall by 5 %, yet the median of all rises from 0.11 to 0.2."""
    before = np.array([0.1] * 4 + [0.11] + [0.3] * 4)
    after = np.array([0.095] * 4 + [0.2] + [0.285] * 2 + [0.31] * 2)
    tests = {AGE: strength(before, after)}
    (change,) = changes(told(tests))
    assert (change.before, change.after) == (0.11, 0.2)
    # A ratio: rounding.
    assert change.relative == pytest.approx(-0.05, abs=1e-12)
    assert change.kind == "kept"
    assert "age 0.110 and 0.200 (median change −5.0 %, 9 of 9 features" in of(QUIET | tests)[-1].text


def test_lost_and_new_are_explained_where_something_is_called_so() -> None:
    lost, unclear = strength(0.2, 0.002), strength(0.02, 0.0199, before=0.04, after=0.06)
    for association, explained in ((lost, True), (unclear, False)):
        text = of(QUIET | {AGE: association})[-1].text
        assert ("Lost or new means" in text) == explained
        assert "Significance in one state only is no evidence of a change." in text


def test_held_out_predictions_in_words() -> None:
    tests = QUIET | {
        ("covariate prediction", "age"): predicted(9.5, 6.0, 13.0, measure="mean absolute error"),
        ("covariate prediction", "sex"): predicted(0.7, 0.72, 0.71),
        ("covariate prediction", "dx"): predicted(0.52, 0.7, 0.8),
    }
    text = of(tests)[-1].text
    assert (
        "Predicted at sites left out, before, after and held out: age by mean absolute error 9.50, 6.00 and 13.0 "
        in text
    )
    assert "(chance 10.0; not clearly better than chance before; better than chance after; worse than chance "
    assert "worse than chance held out; held out worse than before)" in text
    assert (
        "sex by AUC 0.700, 0.720 and 0.710 (chance 0.500; better than chance before, after and held out; held out "
        "not clearly different from before)" in text
    )
    assert "held out better than before)" in text
    assert "fitted without the site and without the covariate" in text
    assert "does not count as weakened" in text
    assert "used these covariates, so what is found after it is partly by construction" in text
    assert "rely on those held out" in text
    tests = QUIET | {("covariate prediction", "sex"): predicted(0.7, 0.72)}
    assert "eld out" not in of(tests)[-1].text


def test_before_alone() -> None:
    one = strength(0.2)
    assert leads({("location", "ANOVA"): p(HALF), AGE: {"before": one["before"]}}) == [
        "Before harmonization the sites differed, by mean.", "There are associations with age."
    ]  # fmt: skip
    none = strength(0.001)
    assert leads({("location", "ANOVA"): p(HALF), AGE: {"before": none["before"]}})[-1] == (
        "No association with age was found."
    )
    assert leads({AGE: {"before": none["before"]}, ("covariate prediction", "age"): {"before": LIKELY}})[-1] == (
        "No association of a single feature with age was found. All features together predict age better than chance, "
        "but this is not adjusted for the other terms."
    )
    untested = strength(0.2, before=np.nan)["before"]
    assert leads({AGE: {"before": untested}, ("association", "sex"): {"before": one["before"]}})[-1] == (
        "There are associations with sex. Associations with age were not tested; the notes say why."
    )


def test_an_untested_term_is_said_to_be_untested_beside_its_share() -> None:
    part = np.array([1e-6] * 5 + [np.nan] * 5)
    tests = {AGE: strength(0.2, before=np.nan, after=part), ("association", "sex"): strength(0.2)}
    text = of(QUIET | tests)[-1].text
    assert "before and after: age not tested and 100 % (5 not tested); sex 100 % and 100 %." in text


def test_what_is_lost_is_measured_by_the_interval_of_one_estimate() -> None:
    """At 85 degrees of freedom artanh R moves by 1.96/√84 = 0.2139: from 0.16 (R = 0.4) to R = 0.2066, R² = 0.0427."""
    edge = np.tanh(np.arctanh(0.4) - 1.959964 / np.sqrt(84)) ** 2
    for after, kind in ((edge - 1e-6, "lost"), (edge + 1e-6, "unclear")):
        (change,) = changes(
            told({AGE: {"before": {"value": [0.16], "p": [1e-4]}, "after": {"value": [after], "p": [0.06]}}})
        )
        assert change.kind == kind
