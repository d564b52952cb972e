"""The verdict on the sites: what its leads say, for numbers that are set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.report_cases import State, told
from helpers.verdict_cases import HALF, HERE, NULL, QUIET, THREE, TWO, leads, of, p, strength
from scipy.stats import false_discovery_control

from pycombat_gam.diagnose import Diagnosis
from pycombat_gam.formula import parse_formula
from pycombat_gam.report.verdict import site_differences, verdict
from pycombat_gam.study.origin import FITTED, MASKED, OTHER, Origin

INSIDE = "In the rows of the fit no difference between sites was found after harmonization, by mean, spread"
CLEAN = f"{INSIDE} or covariance. Held-out rows were not tested."
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
        "After harmonization sites differ, by mean (of 3 of 100 features).",
    ),
    "still and newly": (
        QUIET | {("location", "ANOVA"): p(HALF, HALF), ("scale", "Levene"): p(NULL, HALF)},
        "Before harmonization the sites differed, by mean.",
        "After harmonization sites differ, by mean, and by spread, which was not found before.",
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
        f"{INSIDE}, covariance or site prediction. In held-out rows the sites differed, by site prediction.",
    ),
    "after and held out": (
        QUIET | {("location", "ANOVA"): p(HALF, THREE), ("site prediction", "SVM"): p(1e-9, 1.0, 1e-4)},
        "Before harmonization the sites differed, by mean and site prediction.",
        "After harmonization sites differ, by mean (of 3 of 100 features). In held-out rows the sites differed too, by "
        "site prediction.",
    ),
    # Only one of two classifiers, and it is named.
    "only held out, by the SVM": (
        QUIET
        | {("site prediction", "logistic"): p(1e-9, 1.0, 0.4), ("site prediction", "SVM"): p(1e-9, 1.0, 1e-4)},
        "Before harmonization the sites differed, by site prediction.",
        f"{INSIDE}, covariance or site prediction. In held-out rows the sites differed, by site prediction (SVM, not "
        "logistic).",
    ),
    "only before, by the SVM": (
        QUIET | {("site prediction", "logistic"): p(0.4, 1.0), ("site prediction", "SVM"): p(1e-9, 1.0)},
        "Before harmonization the sites differed, by site prediction (SVM, not logistic).",
        f"{INSIDE}, covariance or site prediction. Held-out rows were not tested.",
    ),
    "held out as well": (
        QUIET | {("site prediction", "SVM"): p(1e-9, 1.0, 0.3)},
        "Before harmonization the sites differed, by site prediction.",
        f"{INSIDE}, covariance or site prediction. In held-out rows only site prediction was tested, and no difference "
        "was found.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SITES)
def test_leads_of_the_sites(name: str) -> None:
    tests, before, after = SITES[name]
    found = of(tests)
    assert [found[0].lead, found[1].lead] == [before, after]
    good = after.startswith(INSIDE) and "sites differed" not in after
    assert found[1].tone == ("good" if good else "plain" if "single features" in after else "bad")
    # Aspects without a test are not differences that were not found.
    assert "Not tested: joint distribution" in found[0].text and "Not tested: joint distribution" in found[1].text


def test_single_sites_that_differ_are_named() -> None:
    """All tests together show nothing, yet two sites of three differ by their own adjustment."""
    diagnosis = told(QUIET)
    row = diagnosis.table[(diagnosis.table["aspect"] == "covariance") & (diagnosis.table["state"] == "after")].iloc[0]
    sites = [
        {**row, "site": site, "measure": "covariance", "p": p, "p_adjusted": p}
        for site, p in (("NYU", 0.04), ("UM_1", 0.03), ("OHSU", 0.6))
    ]
    table = pd.concat([diagnosis.table, pd.DataFrame(sites)], ignore_index=True)
    _, after, _ = verdict(replace(diagnosis, table=table), parse_formula("~ age"), HERE)
    assert after.lead == f"{CLEAN} Single sites differ from the others: NYU, UM_1 (by covariance)."
    assert after.tone == "plain"


def test_few_features_are_counted_and_named() -> None:
    before, after, _ = of(QUIET | {("location", "ANOVA"): p(THREE, NULL)})
    assert "the mean was found to differ in 3 % (3 of 100: f98, f99, f97) of the features by ANOVA" in before.text
    assert "the mean was found to differ in 0 % of the features by ANOVA" in after.text
    seven = np.concatenate([NULL[:93], np.full(7, 1e-8)])
    before, _, _ = of(QUIET | {("scale", "Levene"): p(seven, NULL)})
    assert (
        "The spread was found to differ in 7 % (7 of 100: f93, f94, f95, f96, f97 and 2 more) of the features"
        in before.text
    )
    # Simes: 1e-8 · 100/7; Holm over three tests.
    assert "The smallest p of these 3 tests, adjusted for their number (Holm), is <0.001." in before.text


def test_a_p_that_only_the_adjustment_undoes_has_both() -> None:
    text = of(QUIET | {("covariance", "covariance"): p(0.02, 0.5)})[0].text
    assert "The covariance was not found to differ (p = 0.020, adjusted 0.060)" in text
    # The smallest p of 99 permutations, before Holm over 8 tests.
    many = {("location", f"test {k}"): p(NULL, NULL) for k in range(7)} | {("distribution", "MMD"): p(0.01, 0.5)}
    before, after, _ = of(many)
    assert "(MMD, p = 0.010, adjusted 0.080; less than 0.010 needs more than 99 permutations)" in before.text
    assert "The joint distribution was not found to differ (MMD, p = 0.500)" in after.text


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
        "With sites accounted for, the test finds age in 10 of 10 features. By how much harmonization changes the "
        "effects of age was not estimated.",
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
    FITTED: "In the rows that estimated the site effects, agreement is partly by construction.",
    MASKED: "Of these rows, 40 estimated the site effects; in those, agreement is partly by construction.",
    OTHER: "These rows are not the table that the model was fitted to. In those that were in it, agreement is partly",
}


@pytest.mark.parametrize("kind", WHERE)
def test_rows_are_called_what_they_are(kind: str) -> None:
    origin = Origin(kind, rows=90, sites=3, fit_rows=40 if kind == MASKED else 90, fit_given=90, fit_sites=3)
    tests = QUIET | {("site prediction", "SVM"): p(0.1, 1.0, 0.3)}
    lead, text = of(tests, origin=origin)[1].lead, of(tests, origin=origin)[1].text
    assert lead.startswith("In the rows of the fit" if kind == FITTED else "In these rows")
    assert text.count("at equal covariates") == 2
    assert [one for one in WHERE if WHERE[one] in text] == [kind]
    assert ("fitted to other rows of fit_mask" in text) == (kind == MASKED)
    assert ("fitted to others of these rows" in text) == (kind == OTHER)
