"""The paragraph of methods says what was done, for every combination of options; references are of what was used."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.report_cases import packaged

import pycombat_gam as pcg
from pycombat_gam.formula import Formula
from pycombat_gam.mean.additive import AdditiveMean
from pycombat_gam.report.methods import methods_text, versions
from pycombat_gam.report.sections import methods

JOHNSON, POMPONIO, WOOD, BEER, WANG = "Johnson", "Pomponio", "Wood", "Beer", "Wang, Chaudhari"


class OtherMean(AdditiveMean):
    """A mean model of the user's."""

    def describe(self, formula: Formula) -> str:
        return f"robust model {formula}, fitted elsewhere"


def table(**changes: Any) -> pd.DataFrame:
    study = pcg.datasets.simulate_multisite(sites=3, subjects=60, features=4, visits=2, seed=3)
    return study.table.assign(**changes)


FEATURES = "_thickness$"
# options, words that must be there, words that must not
CASES: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "plain": (
        {"formula": "~ age + sex"},
        [
            "effects of age and sex were modelled", "least squares with an intercept for each site",
            "pooled over sites",
            "Location and scale of each site were estimated and shrunk by empirical Bayes",
            "normal for location, inverse gamma for the variance", "No site served as reference",
            "All feature cells were observed", JOHNSON, "Fortin et al. 2017, 2018",
        ],
        [POMPONIO, WOOD, BEER, "nonparametric", "reference site", "fit_mask", "missing", "penalised"],
    ),
    "nothing kept": (
        {"formula": "~ 1"},
        ["No covariate was kept", "an intercept for each site"],
        ["were modelled together", "least squares"],
    ),
    "no eb": (
        {"formula": "~ age", "eb": False},
        [
            "Location and scale of each site were estimated, for each feature by itself, without empirical Bayes",
            "brought to the common location and scale, ",
        ],
        ["shrunk", "prior"],
    ),
    "no eb ignores the prior": (
        {"formula": "~ age", "eb": False, "prior": "nonparametric"}, ["without empirical Bayes"], ["prior", "shrunk"]
    ),
    "nonparametric": (
        {"formula": "~ age", "prior": "nonparametric"}, ["a nonparametric prior"], ["inverse gamma", "normal for"]
    ),
    "bayes": (
        {"formula": "~ age", "prior": "bayes"},
        [
            "Location and scale of each site were set to their posterior means under a hierarchical model (normal for "
            "location, inverse gamma for the variance,", "400 draws of a Gibbs sampler", "moved towards the common",
        ],
        ["empirical Bayes", "shrunk"],
    ),
    "bayes, mean only": (
        {"formula": "~ age", "prior": "bayes", "mean_only": True},
        ["Only the location of each site was set to its posterior mean under"],
        ["inverse gamma", "posterior means"],
    ),
    "mean only": (
        {"formula": "~ age", "mean_only": True},
        [
            "Only the location of each site was estimated and shrunk", "a parametric prior (normal)",
            "moved towards the common location, ",
        ],
        ["inverse gamma", "Location and scale", "location and scale"],
    ),
    "mean only, no eb": (
        {"formula": "~ age", "mean_only": True, "eb": False},
        ["Only the location of each site was estimated, for each feature by itself, without empirical Bayes"],
        ["shrunk"],
    ),
    "mean only, nonparametric": (
        {"formula": "~ age", "mean_only": True, "prior": "nonparametric"},
        ["Only the location", "a nonparametric prior"],
        ["inverse gamma"],
    ),
    "reference": (
        {"formula": "~ age", "ref_batch": "Bergen"},
        ["residual variance at the reference site 'Bergen'", "moved towards the reference site 'Bergen', whose rows"],
        ["No site served", "pooled over sites"],
    ),
    "smooth": (
        {"formula": "~ s(age) + sex"},
        ["ComBat-GAM", POMPONIO, WOOD, "smooths were chosen for each feature by restricted maximum likelihood (REML)"],
        [BEER, "random effects"],
    ),
    "smooth by ML": ({"formula": "~ s(age)", "smoothing": "ML"}, ["by maximum likelihood (ML)", WOOD], ["REML"]),
    "smooth by GCV": (
        {"formula": "~ s(age)", "smoothing": "GCV"}, ["by generalized cross-validation (GCV)", WOOD], ["REML"]
    ),
    "smoothing of nothing": ({"formula": "~ age", "smoothing": "GCV"}, ["least squares"], ["GCV", WOOD]),
    "random": (
        {"formula": "~ age + (1 | subject)"},
        [
            "random effects were chosen for each feature by restricted maximum likelihood", BEER, WOOD,
            "The effects of age, as fixed effects, and random effects of subject were modelled together with those of "
            "site, and kept",
        ],
        [POMPONIO, "ComBat-GAM", "smooths"],
    ),
    "random only": (
        {"formula": "~ (1 | subject)"},
        [
            "Random effects of subject were modelled together with the effects of site, and kept",
            "No fixed covariate was kept", BEER,
        ],
        ["The effects of subject", "No covariate was kept"],
    ),
    "random smooth": (
        {"formula": "~ age + s(subject, bs='re')"},
        ["The effects of age, as fixed effects, and random effects of subject were modelled"],
        ["effects of age and subject"],
    ),
    "smooth and random": (
        {"formula": "~ s(age) + (1 | subject)"}, ["of smooths and random effects were chosen", BEER, POMPONIO, WOOD], []
    ),
    "another mean model": (
        {"formula": "~ age", "mean_model": OtherMean()},
        ["fitted by OtherMean: robust model ~age, fitted elsewhere"],
        ["least squares", WOOD],
    ),
    "missing cells": (
        {"formula": "~ age", "missing": "omit"},
        ["2 feature cells were missing: each feature was fitted on its observed cells, and missing cells stayed"],
        ["All feature cells"],
    ),
    "no missing cell": ({"formula": "~ age", "missing": "omit"}, ["No feature cell was missing"], ["stayed missing"]),
    "controls only": (
        {"formula": "~ age"}, ["were estimated from 40 of the 120 rows (fit_mask), and all rows were adjusted"], []
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_methods_of_combat(name: str) -> None:
    options, there, absent = CASES[name]
    rows = table()
    if name == "missing cells":
        rows.iloc[[3, 9], rows.columns.str.contains(FEATURES).argmax()] = np.nan
    mask = np.arange(len(rows)) % 3 == 0 if name == "controls only" else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        model = pcg.ComBat(batch="site", id=["subject", "visit"], features=FEATURES, **options).fit(rows, fit_mask=mask)
    text = methods_text(model)
    for words in there:
        assert words in text
    for words in absent:
        assert words not in text
    features = len(model.get_feature_names_out())
    assert f"on {features} features of 120 rows at 3 sites" in text
    for package, number in versions(model).items():
        assert number in text, package
    assert not re.search(r"  |\.\.| \.|None|nan", text)
    # Every paper cited is in the list, and every one in the list is cited.
    listed = methods(model).parts[1].texts
    for author in ("Johnson", "Fortin", "Pomponio", "Beer", "Wood", "Wang", "Benjamini"):
        assert (author in text) == any(one.startswith(author) for one in listed), author


FLOWS: dict[str, tuple[dict[str, Any], str | None, list[str], list[str]]] = {
    "structured": (
        {},
        None,
        ["structured", "averages of what each row would have measured at each site", "Student t", WANG, "seed 4"],
        ["ensemble", JOHNSON, "empirical Bayes"],
    ),
    "to a site": (
        {"flow_options": {"variant": "residual"}},
        "Bergen",
        ["would have measured at site 'Bergen'", "as in ComBat"],
        ["averages", "chosen by held-out"],
    ),
    "ensemble, normal": (
        {"n_members": 2, "base": "normal", "flow_options": {"variant": "whole"}},
        None,
        ["An ensemble of 2 models (rows resampled within sites)", "multivariate normal", "scale of the whole feature"],
        ["Student t"],
    ),
    "smooth": (
        {"formula": "~ s(age) + sex", "flow_options": {"variant": "residual"}}, None, [WOOD, "by REML"], [POMPONIO]
    ),
    "affine, with causes": (
        {"flow": "affine", "graph": {"icv": ["age", "sex"]}, "formula": "~ age + sex + icv"},
        None,
        ["a conditional affine flow", "icv by age and sex"],
        ["structured:", "strictly monotone"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOWS)
def test_methods_of_flows(name: str) -> None:
    options, to, there, absent = FLOWS[name]
    rows = table().drop_duplicates("subject")
    given: dict[str, Any] = {"formula": "~ age + sex", "training": {"max_epochs": 2}, "seed": 4, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        model = pcg.FlowSCM(batch="site", id="subject", features=FEATURES, **given).fit(rows, progress=False)
    text = methods_text(model, to=to)
    for words in there:
        assert words in text
    for words in absent:
        assert words not in text
    assert versions(model)["torch"] in text


def test_the_evaluation_says_what_held_out_is() -> None:
    found = methods(packaged()[0], packaged()[3])
    text = found.parts[1].text
    assert "For the prediction of sites, held-out rows are harmonized by models fitted without them, in 5 folds" in text
    assert "each held-out site is harmonized by a model fitted without that site and without the covariate" in text
    assert "adjusted for the number of tests by Holm's method (Holm 1979)" in text
    listed = found.parts[2].texts
    for author in ("Benjamini", "Holm", "Simes"):
        assert sum(one.startswith(author) for one in listed) == 1
    assert "https://www.jstor.org/stable/4615733" in next(one for one in listed if one.startswith("Holm"))


def test_bibtex_is_of_the_papers_listed() -> None:
    model = pcg.ComBat("~ s(age)", batch="site", features=FEATURES).fit(pcg.datasets.load_multisite())
    section = methods(model)
    code = next(part for part in section.parts if part.kind == "code")
    assert code.text.count("@article{") == 5
    assert code.text.count("doi = {10.") == 5
    assert "Journal of the Royal Statistical Society" in code.text
    # Braces balance, as BibTeX needs them.
    assert code.text.count("{") == code.text.count("}")
