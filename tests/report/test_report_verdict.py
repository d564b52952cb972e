"""The verdict's leads: what is said of sites and of the biology, for numbers that are set."""

from __future__ import annotations

import numpy as np
import pytest
from report_cases import State, told
from scipy.stats import false_discovery_control, wilcoxon

from pycombat_gam.diagnose import Diagnosis
from pycombat_gam.formula import parse_formula
from pycombat_gam.report.origin import FITTED, MASKED, OTHER, Origin
from pycombat_gam.report.parts import Sentences
from pycombat_gam.report.verdict import site_differences, verdict
from pycombat_gam.report.verdict_biology import changes

NULL = np.linspace(0.01, 1.0, 100)
"""p-values of 100 features without any effect: the smallest, adjusted, is 1."""
THREE = np.concatenate([NULL[:97], [1e-7, 1e-9, 1e-8]])
TWO = np.concatenate([NULL[:98], [4e-4, 4e-4]])
HALF = np.concatenate([NULL[:50], np.full(50, 1e-6)])
HERE = Origin(FITTED, rows=90, sites=3, fit_rows=90, fit_given=90, fit_sites=3)


def of(
    tests: dict[tuple[str, str], dict[str, State]], formula: str = "~ age", origin: Origin = HERE
) -> list[Sentences]:
    return list(verdict(told(tests), parse_formula(formula), origin))


def leads(tests: dict[tuple[str, str], dict[str, State]], formula: str = "~ age") -> list[str]:
    return [part.lead for part in of(tests, formula)]


def p(before: object, after: object = None, held_out: object = None) -> dict[str, State]:
    return {
        state: {"p": value}
        for state, value in (("before", before), ("after", after), ("held out", held_out))
        if value is not None
    }


QUIET = {
    ("location", "ANOVA"): p(NULL, NULL),
    ("scale", "Levene"): p(NULL, NULL),
    ("covariance", "covariance"): p(0.4, 0.5),
}
CLEAN = "After harmonization no difference between sites was found."
SITES: dict[str, tuple[dict[tuple[str, str], dict[str, State]], str, str]] = {
    "nothing": (QUIET, "No site effect was found before harmonization.", CLEAN),
    # Below the level alone, not among three tests: 3 · 0.02 = 0.06.
    "one unadjusted p": (
        QUIET | {("covariance", "covariance"): p(0.02, 0.02)}, "No site effect was found before harmonization.", CLEAN
    ),
    "few features": (
        QUIET | {("location", "ANOVA"): p(THREE, NULL)},
        "Before harmonization the sites differed, by mean (of 3 of 100 features).",
        CLEAN,
    ),
    "still, in few features": (
        QUIET | {("location", "ANOVA"): p(HALF, THREE)},
        "Before harmonization the sites differed, by mean.",
        "After harmonization sites still differ, by mean (of 3 of 100 features).",
    ),
    "still and newly": (
        QUIET | {("location", "ANOVA"): p(HALF, HALF), ("scale", "Levene"): p(NULL, HALF)},
        "Before harmonization the sites differed, by mean.",
        "After harmonization sites still differ, by mean, and by spread, which was not found before.",
    ),
    "another aspect": (
        QUIET | {("location", "ANOVA"): p(HALF, NULL), ("covariance", "covariance"): p(0.3, 0.001)},
        "Before harmonization the sites differed, by mean.",
        "After harmonization sites differ by covariance, which was not found before.",
    ),
    # Two features of 100 at 0.02, adjusted; with three tests 0.06.
    "single features": (
        QUIET | {("location", "ANOVA"): p(HALF, NULL), ("scale", "Levene"): p(NULL, TWO)},
        "Before harmonization the sites differed, by mean.",
        "After harmonization single features differ between sites (by spread), but all tests together show no "
        "difference.",
    ),
    "only held out": (
        QUIET | {("location", "ANOVA"): p(HALF, NULL), ("site prediction", "SVM"): p(1e-9, 1.0, 1e-4)},
        "Before harmonization the sites differed, by mean and site prediction.",
        "After harmonization no difference between sites was found in these rows, but one was in rows that the model "
        "did not see, by site prediction.",
    ),
    "held out as well": (
        QUIET | {("site prediction", "SVM"): p(1e-9, 1.0, 0.3)},
        "Before harmonization the sites differed, by site prediction.",
        CLEAN,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SITES)
def test_leads_of_the_sites(name: str) -> None:
    tests, before, after = SITES[name]
    found = of(tests)
    assert [found[0].lead, found[1].lead] == [before, after]
    assert found[1].tone == ("good" if after == CLEAN else "plain" if "single features" in after else "bad")
    # Aspects without a test are not differences that were not found.
    assert "Not tested: joint distribution" in found[0].text and "Not tested: joint distribution" in found[1].text


def test_few_features_are_counted_and_named() -> None:
    before, after, _ = of(QUIET | {("location", "ANOVA"): p(THREE, NULL)})
    assert "the mean differed in 3% (3 of 100: f98, f99, f97) of the features by ANOVA" in before.text
    assert "the mean differed in 0% of the features by ANOVA" in after.text
    seven = np.concatenate([NULL[:93], np.full(7, 1e-8)])
    before, _, _ = of(QUIET | {("scale", "Levene"): p(seven, NULL)})
    assert "the spread in 7% (7 of 100: f93, f94, f95, f96, f97 and 2 more) by Levene" in before.text
    # Simes: 1e-8 · 100/7; Holm over three tests.
    assert "smallest p of these 3 tests, adjusted for their number (Holm): <0.001" in before.text


def test_a_p_that_only_the_adjustment_undoes_has_both() -> None:
    text = of(QUIET | {("covariance", "covariance"): p(0.02, 0.5)})[0].text
    assert "the covariance was not found to differ (p = 0.020, adjusted 0.060)" in text
    # The smallest p of 99 permutations, before Holm over 8 tests.
    many = {("location", f"test {k}"): p(NULL, NULL) for k in range(7)} | {("distribution", "MMD"): p(0.01, 0.5)}
    before, after, _ = of(many)
    assert "(MMD, p = 0.010, adjusted 0.080; less than 0.010 takes more than 99 permutations)" in before.text
    assert "the joint distribution was not found to differ (MMD, p = 0.500)" in after.text


def test_nine_tests_together_keep_their_level() -> None:
    """Tables without site effects: nine independent tests at 5 % each would find something in 37 %."""
    rng = np.random.default_rng(4)
    kinds = [("location", "ANOVA"), ("location", "Kruskal-Wallis"), ("scale", "Levene"), ("scale", "Fligner-Killeen")]
    alone = [("distribution", "energy distance"), ("distribution", "MMD"), ("covariance", "covariance")]
    alone += [("site prediction", "logistic"), ("site prediction", "SVM")]
    table = told({kind: p(NULL[:20]) for kind in kinds} | {kind: p(0.5) for kind in alone}).table
    found = 0
    by_feature = (table["feature"] != "").to_numpy()
    for _ in range(40):
        drawn = table.assign(p=rng.uniform(size=len(table)))
        each = drawn.loc[by_feature, "p"].to_numpy().reshape(len(kinds), -1)
        drawn.loc[by_feature, "p_adjusted"] = false_discovery_control(each, axis=1).ravel()
        found += any(site_differences(Diagnosis(drawn, 0.05, 99, 0, ()), "before").values())
    # 2 expected; more than 6 of 40 at 5 % have probability 0.003.
    assert found <= 6


def test_what_was_not_tested_is_said() -> None:
    assert leads({("association", "age"): strength(0.2)}) == [
        "Site effects were not tested.",
        "The associations with age were found before harmonization and are kept.",
    ]
    assert leads({("location", "ANOVA"): p(NULL)}, "~ 1") == [
        "No site effect was found before harmonization.", "No covariate was kept."
    ]  # fmt: skip
    assert leads(QUIET, "~ age + (1 | subject)")[-1] == (
        "Whether the associations with the covariates are kept was not tested."
    )
    found = of(QUIET, "~ (1 | subject)")[-1]
    assert found.lead == "Random effects of subject were modelled and kept, no fixed covariate."
    assert "names no fixed covariate" in found.text


WHERE = {
    FITTED: "In the rows that estimated the site effects, where agreement is partly by construction, ",
    MASKED: "In these rows, of which 40 estimated the site effects",
    OTHER: "In these rows, which are not the table that the model was fitted to",
}


@pytest.mark.parametrize("kind", WHERE)
def test_rows_are_called_what_they_are(kind: str) -> None:
    origin = Origin(kind, rows=90, sites=3, fit_rows=40 if kind == MASKED else 90, fit_given=90, fit_sites=3)
    tests = QUIET | {("site prediction", "SVM"): p(0.1, 1.0, 0.3)}
    text = of(tests, origin=origin)[1].text
    assert [one for one in WHERE if WHERE[one] in text] == [kind]
    assert ("fitted to other rows of fit_mask" in text) == (kind == MASKED)
    assert ("fitted to others of these rows" in text) == (kind == OTHER)


# Biology


def strength(then: object, now: object = None, n: int = 10, **p: object) -> dict[str, State]:
    """An association: partial R² of n features (a number: about that), significant where it is not below 0.01."""
    states: dict[str, State] = {}
    for state, value in (("before", then), ("after", then if now is None else now)):
        R2 = np.asarray(value, dtype=float)
        if not R2.ndim:
            R2 = R2 * np.linspace(0.9, 1.1, n)
        given = p.get(state)
        states[state] = {"value": R2, "p": np.where(R2 < 0.01, 0.6, 1e-5) if given is None else given}
    return states


def predicted(before: float, after: float, held_out: float | None = None, *, measure: str = "AUC") -> dict[str, State]:
    half, chance = (0.05, 0.5) if measure == "AUC" else (1.0, 10.0)
    values = {"before": before, "after": after, **({} if held_out is None else {"held out": held_out})}
    return {
        state: {"value": value, "lower": value - half, "upper": value + half, "chance": chance}
        for state, value in values.items()
    }


AGE = ("association", "age")
LIKELY = predicted(0.62, 0.67)["before"]
one_lost = np.full(10, 1e-5)
UNCLEAR = (
    "The associations with age did not clearly change; with the number of terms taken into account, they are "
    "significant only {} harmonization."
)
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
    # The median falls by 20 %, but as many features gain as lose.
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
    "at the level": ({AGE: strength(0.02, 0.0199, before=0.04, after=0.06)}, UNCLEAR.format("before"), "plain"),
    "at the level, the other way": (
        {AGE: strength(0.0199, 0.02, before=0.06, after=0.04)}, UNCLEAR.format("after"), "plain"
    ),
    # A partial R² of 0.045 has the interval 0.000 to 0.163 with 85 degrees of freedom: 0.027, 40 % less, is inside.
    "at the level, one feature": (
        {AGE: strength(0.05, 0.03, n=1, before=0.04, after=0.11)}, UNCLEAR.format("before"), "plain"
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
    # Single features at 0.03, adjusted; with three terms 0.09.
    "near the limit": (
        {
            ("association", "icv"): strength(0.05, before=0.03, after=0.03),
            AGE: strength(0.001), ("association", "sex"): strength(0.001),
        },
        "Associations with icv are near the limit of significance: single features reach it, but not with the number "
        "of terms taken into account. No association with age or sex was found, before or after harmonization.",
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
        "was found, before or after harmonization, but all features together predict it better than chance.",
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
    assert change.p == pytest.approx(expected, rel=1e-12)
    text = of(tests)[-1].text
    assert f"age {np.median(before):.3f} and {np.median(after):.3f} (" in text
    assert f"12 features, signed-rank p = {expected:.3f}" in text
    assert "two-sided Wilcoxon signed-rank test" in text
    assert "median by more than 10%" in text


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
        "about as before)" in text
    )
    assert "held out better than before)" in text
    assert "fitted without it and without the covariate" in text
    assert "does not count as weakened" in text
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
        "No association of a single feature with age was found, but all features together predict it better than "
        "chance."
    )
    untested = strength(0.2, before=np.nan)["before"]
    assert leads({AGE: {"before": untested}, ("association", "sex"): {"before": one["before"]}})[-1] == (
        "There are associations with sex. Associations with age were not tested; the notes say why."
    )


def test_an_untested_term_is_said_to_be_untested_beside_its_share() -> None:
    part = np.array([1e-6] * 5 + [np.nan] * 5)
    tests = {AGE: strength(0.2, before=np.nan, after=part), ("association", "sex"): strength(0.2)}
    text = of(QUIET | tests)[-1].text
    assert "before and after: age not tested and 100% (5 not tested); sex 100% and 100%." in text


def test_what_is_lost_is_measured_by_the_interval_of_one_estimate() -> None:
    """At 85 degrees of freedom artanh R moves by 1.96/√84 = 0.2139: from 0.16 (R = 0.4) to R = 0.2066, R² = 0.0427."""
    edge = np.tanh(np.arctanh(0.4) - 1.959964 / np.sqrt(84)) ** 2
    for after, kind in ((edge - 1e-6, "lost"), (edge + 1e-6, "unclear")):
        (change,) = changes(
            told({AGE: {"before": {"value": [0.16], "p": [1e-4]}, "after": {"value": [after], "p": [0.06]}}})
        )
        assert change.kind == kind
