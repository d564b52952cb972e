"""`pcg.gam` beside the stored fits of `mgcv::gam`: every gaussian-identity case, every number.

Each case is compared with its `tight` fit, R's own driven to a gradient of 1e-13; what R stores of its default fit only
(tables, AIC) is compared where that default fit had arrived there too.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from gam_cases import GamCase, gam_cases, residual_sd
from reference import needs_reference

CASES = gam_cases()
FITS = [case for case in CASES if case.case.ok and not case.unsupported]
LISTED = {
    "another family than gaussian": 19,
    "another link than identity": 1,
    "a basis that is not here": 3,
    "a criterion that is not here": 4,
    "a fixed scale": 2,
    "bam(), whose discrete and fREML fits are others": 3,
}
"""How many stored cases are not ours to make, by reason."""
by_case = pytest.mark.parametrize("case", FITS, ids=lambda case: case.name)


@cache
def ours(case: GamCase) -> Any:
    return case.fit()


def worst(ours: Any, theirs: Any, scale: Any = 1.0) -> float:
    difference = np.abs(np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)) / scale
    return float(np.nanmax(difference)) if difference.size else 0.0


def tight(case: GamCase, name: str) -> Any:
    about = case.case.about
    return about["tight"][name] if name in about.get("tight", {}) else about[name]


@needs_reference
def test_cases_left_out_are_listed() -> None:
    reasons = [case.unsupported for case in CASES if case.unsupported]
    assert {reason: reasons.count(reason) for reason in reasons} == LISTED


@needs_reference
@by_case
def test_fitted_values(case: GamCase) -> None:
    table = case.table("tight_fitted")
    table = case.table("fitted") if table is None else table
    assert worst(ours(case).fitted, table["fitted"], residual_sd(case)) < 1e-5


@needs_reference
@by_case
def test_predictions_and_their_errors(case: GamCase) -> None:
    table, new = case.table("tight_predict"), case.table("newdata")
    table = case.table("predict") if table is None else table
    if table is None or new is None:
        pytest.fail("the case stores no prediction")
    fit, se = ours(case).predict(new, se=True)
    assert worst(fit, table["link"], residual_sd(case)) < 1e-5
    assert worst(se, table["se_link"], table["se_link"]) < 1e-4
