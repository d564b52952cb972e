"""`pcg.gam` beside the stored fits of `mgcv::gam`: every gaussian-identity case, every number.

Fits are compared with R's `tight` ones, driven to a gradient of 1e-13. What R stores of its default fit only (tables,
AIC, terms) is compared where that default fit had arrived; the others' tables are compared with a fresh tight fit in
`tests/live_r/test_gam_tables.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.gam_cases import CS_BY_ROUNDING, RANK_DEFECT, GamCase, gam_cases, has_arrived, residual_sd
from helpers.reference import needs_reference

from pycombat_gam.errors import PcgError

pytestmark = needs_reference
CASES = gam_cases()
FITS = [case for case in CASES if case.case.ok and not case.unsupported]
ERRORS = [case for case in CASES if not case.case.ok]
LISTED = {
    "another family than gaussian": 16,
    "another link than identity": 1,
    "a basis that is not here": 3,
    "a criterion that is not here": 4,
    "a fixed scale": 2,
    "bam(), whose discrete and fREML fits are others": 3,
}
"""How many stored cases are not ours to make, by reason."""
ASSERTED_APART = (*CS_BY_ROUNDING, *RANK_DEFECT)
COMPARED = [case for case in FITS if case.name not in ASSERTED_APART]


def by_case(applies: Callable[[GamCase], bool] = lambda case: True) -> pytest.MarkDecorator:
    """One test for each compared case that it applies to."""
    return pytest.mark.parametrize("case", [c for c in COMPARED if applies(c)], ids=lambda case: case.name)


def has_smooth_table(case: GamCase) -> bool:
    return has_arrived(case) and case.table("s_table") is not None


def has_parametric_table(case: GamCase) -> bool:
    """With batch, R's design has a column too many (a rank defect): coefficients are not defined."""
    return has_arrived(case) and case.table("p_table") is not None and "batch" not in case.call


def has_term_table(case: GamCase) -> bool:
    """Of terms of several columns; R writes an empty table where there is none."""
    terms = case.table("pTerms_table")
    return has_parametric_table(case) and terms is not None and len(terms) > 0


def is_predicted(case: GamCase) -> bool:
    """In one case R predicted nothing, as its new rows lack a column of the model."""
    return case.table("newdata") is not None and "newdata lacks batch" not in (case.case.about["note"] or "")


def has_terms(case: GamCase) -> bool:
    return is_predicted(case) and has_arrived(case) and case.table("terms") is not None


APPLIES = (has_arrived, has_smooth_table, has_parametric_table, has_term_table, is_predicted, has_terms)


@cache
def ours(case: GamCase) -> Any:
    return case.fit()


def worst(ours: Any, theirs: Any, scale: Any = 1.0) -> float:
    difference = np.abs(np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)) / np.asarray(scale)
    return float(np.nanmax(difference)) if difference.size else 0.0


def tight(case: GamCase, name: str) -> Any:
    about = case.case.about
    return about.get("tight", {}).get(name, about[name])


def stored(case: GamCase, name: str) -> pd.DataFrame | None:
    found = case.table(f"tight_{name}")
    return case.table(name) if found is None else found


def test_cases_left_out_are_listed() -> None:
    """Also those that a test of one table leaves out: R's default fit of 16 had not arrived, one predicted nothing."""
    reasons = [case.unsupported for case in CASES if case.unsupported]
    assert {reason: reasons.count(reason) for reason in reasons} == LISTED
    assert len(FITS) + len(ERRORS) + len(reasons) == len(CASES) == 101
    applying = {kind.__name__: sum(map(kind, COMPARED)) for kind in APPLIES}
    assert applying == {
        "has_arrived": 50,
        "has_smooth_table": 49,  # one has no smooth
        "has_parametric_table": 50,
        "has_term_table": 36,
        "is_predicted": 65,
        "has_terms": 50,
    }
    # mgcv reports a t2 in another parametrisation than it fits: its F (26.2 for 77.8) and Vc are not comparable there.
    assert [case.name for case in COMPARED if "t2(" in case.call and has_arrived(case)] == []


@by_case()
def test_fitted_values(case: GamCase) -> None:
    table = stored(case, "fitted")
    assert table is not None
    # Both searches at their ends: 8e-9 measured; 2e-6 with the rank defect of ComBatFamily's design.
    assert worst(ours(case).fitted, table["fitted"], residual_sd(case)) < 1e-5


@by_case(is_predicted)
def test_predictions_and_their_errors(case: GamCase) -> None:
    table, new = stored(case, "predict"), case.table("newdata")
    assert table is not None and new is not None
    fit, se = ours(case).predict(case.as_read(new), se=True)
    # As the fitted values: 1.1e-8 and 1.1e-7 measured.
    assert worst(fit, table["link"], residual_sd(case)) < 1e-7
    assert worst(se, table["se_link"], table["se_link"]) < 1e-6


@by_case()
def test_smoothness(case: GamCase) -> None:
    fit = ours(case)
    assert fit.converged
    # 1e-5 and 1e-8 measured with ComBatFamily's rank defect, 9e-8 and 9e-11 elsewhere.
    assert abs(float(fit.edf.sum()) - tight(case, "edf_total")) < 1e-3
    assert abs(fit.scale / tight(case, "sig2") - 1) < 1e-6
    # The rule of the design: never worse than mgcv by 1e-6.
    assert fit.score <= tight(case, "score") + 1e-6


@by_case()
def test_score_is_theirs(case: GamCase) -> None:
    """Not lower either: R's tight fit is at the optimum."""
    lower = tight(case, "score") - ours(case).score
    assert lower < 1e-8  # 7e-10 measured: a gradient of 1e-13, and rounding of scores of about 1e3


@by_case(has_smooth_table)
def test_smooth_table(case: GamCase) -> None:
    theirs = case.table("s_table")
    assert theirs is not None
    table = ours(case).summary().smooth
    assert list(table.index) == list(theirs["term"])
    # A default fit that has arrived to 1e-7 in its score is 1e-5 off in edf and F (7e-6 measured) and in p.
    for name in ("edf", "Ref.df", "F"):
        assert worst(table[name], theirs[name], np.abs(theirs[name])) < 1e-3
    p, r = table["p-value"].to_numpy(), theirs["p-value"].to_numpy(dtype=float)
    # As above: 1e-6 absolute or 1e-3 of p.
    close = (np.abs(p - r) < 1e-6) | (np.abs(p - r) < 1e-3 * r)
    assert close.all()


@by_case(has_parametric_table)
def test_parametric_tables(case: GamCase) -> None:
    theirs = case.table("p_table")
    assert theirs is not None
    summary = ours(case).summary()
    assert list(summary.parametric.index) == list(theirs.iloc[:, 0])
    # As above: 1.6e-5 measured in an estimate near zero, 6e-7 in a p-value.
    for name in ("Estimate", "Std. Error", "t value"):
        assert worst(summary.parametric[name], theirs[name], np.abs(theirs[name])) < 1e-4
    assert worst(summary.parametric["Pr(>|t|)"], theirs["Pr(>|t|)"]) < 1e-6


@by_case(has_term_table)
def test_term_tables(case: GamCase) -> None:
    terms, table = case.table("pTerms_table"), ours(case).summary().terms
    assert terms is not None
    assert list(table.index) == list(terms["term"])
    # As above: 2.5e-6 measured in F, 6e-7 in p.
    assert worst(table["F"], terms["F"], np.abs(terms["F"])) < 1e-3
    assert worst(table["p-value"], terms["p-value"]) < 1e-6


@by_case(has_arrived)
def test_criteria(case: GamCase) -> None:
    fit, about = ours(case), case.case.about
    # Of second order in the default fit's distance from the optimum: 7e-8 measured.
    assert abs(fit.deviance_explained - about["dev.expl"]) < 1e-6
    assert abs(fit.r_squared - about["r.sq"]) < 1e-6
    assert abs(fit.loglik - about["logLik"]) < 1e-6 * abs(about["logLik"])
    # edf2 moves with the fit at first order: a default fit that has arrived to 1e-6 has edf2 to about 1e-3.
    assert abs(fit.loglik_df - about["logLik_df"]) < 1e-3
    assert abs(fit.aic - about["AIC"]) < 2e-3
    assert abs(fit.bic - about["BIC"]) < 1e-2


@by_case(is_predicted)
def test_terms_add_up(case: GamCase) -> None:
    new, fit = case.table("newdata"), ours(case)
    terms = fit.predict(case.as_read(new), type="terms")
    total = terms.sum(axis=1) + terms.attrs["constant"]
    # Rounding of a sum of a few terms.
    assert worst(total, fit.predict(case.as_read(new)), residual_sd(case)) < 1e-10


@by_case(has_terms)
def test_terms_are_theirs(case: GamCase) -> None:
    new, theirs = case.table("newdata"), case.table("terms")
    assert theirs is not None
    terms = ours(case).predict(case.as_read(new), type="terms")
    both = terms.columns.intersection(theirs.columns)
    assert len(both)
    # A default fit that has arrived to 1e-7 in its score: 2.6e-5 measured.
    for name in both:
        assert worst(terms[name], theirs[name], residual_sd(case)) < 1e-3


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: case.name)
def test_where_r_stops_so_do_we(case: GamCase) -> None:
    with pytest.raises(PcgError) as caught:
        case.fit()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", CS_BY_ROUNDING)
def test_cs_penalty_by_rounding(name: str) -> None:
    """mgcv's cs gives a tenth to one null vector and a hundredth to the other as its LAPACK rounds; ours by a rule."""
    case = next(case for case in FITS if case.name == name)
    table = stored(case, "fitted")
    assert table is not None
    # 8e-5 measured: the penalties differ on straight lines only, and little.
    assert 1e-5 < worst(ours(case).fitted, table["fitted"], residual_sd(case)) < 2e-4


@pytest.mark.parametrize("name", RANK_DEFECT)
def test_rank_defect_of_combatfamily(name: str) -> None:
    """R's design has a column too many; its REML then counts a null space too large, its GCV does not care."""
    case = next(case for case in FITS if case.name == name)
    table = stored(case, "fitted")
    assert table is not None
    # R's own full-rank fit differs by as much: 2.5e-5 in units of T1, that is 2.0e-4 sd, and 1.163 in the score.
    assert 1e-4 < worst(ours(case).fitted, table["fitted"], residual_sd(case)) < 3e-4
    assert abs(ours(case).score - tight(case, "score") + 1.163) < 1e-3  # its digits
