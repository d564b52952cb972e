"""Smooths of stored `gam` fits after constraint, `by`, `id` and side conditions: labels, ranks, penalties, columns."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from helpers.gam_cases import GamCase, gam_cases
from helpers.reference import ROOT, needs_reference, read_csv

from pycombat_gam.design.smooths import SmoothPart
from pycombat_gam.formula import parse_formula
from pycombat_gam.smooth.assemble import Smooth

pytestmark = needs_reference
NAMES = ("g1_s_plus_te", "g1_nested_s", "g1_ti", "abide_T1_ti", "abide_T1_by_factor_id", "g4_by_fac")
by_name = pytest.mark.parametrize("name", NAMES)
TOLERANCE = {"te": 1e-10, "ti": 1e-10, "s": 1e-7}
"""te and ti of cr are unique, to rounding; s is tp, whose eigenvectors R takes from a Lanczos run stopped at 1e-8."""


def gam_case(name: str) -> GamCase:
    return next(case for case in gam_cases() if case.name == name)


@cache
def learned(name: str) -> SmoothPart:
    case = gam_case(name)
    formula = parse_formula(case.call.removeprefix("gam(").split(", data=")[0])
    return SmoothPart.learn(
        formula, case.as_read(read_csv(case.case.about["input"])), intercept=True, knots={}, select=False
    )


def stored(name: str) -> list[dict[str, Any]]:
    return list(json.loads((ROOT / "mgcv" / name / "smooths.json").read_text()))


def kernels(X: np.ndarray, S: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a rotation of the columns, and of the penalty with them, leaves as it is."""
    return X @ X.T, X @ np.linalg.solve(S + np.eye(len(S)), X.T)


def close(ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


@by_name
def test_smooths(name: str) -> None:
    smooths, theirs = learned(name).smooths, stored(name)
    assert [s.label for s in smooths] == [r["label"] for r in theirs]
    for smooth, r in zip(smooths, theirs, strict=True):
        assert (smooth.df, smooth.ranks, smooth.null_dim) == (r["df"], tuple(r["rank"]), r["null.space.dim"])
        assert (smooth.by or "NA", smooth.by_level, smooth.side_constrain) == (
            r["by"],
            r["by.level"],
            r["side.constrain"],
        )
        tolerance = TOLERANCE[smooth.term.kind]
        np.testing.assert_allclose(smooth.penalty_scale, r["S.scale"], rtol=tolerance)


@by_name
def test_columns_and_penalties(name: str) -> None:
    new = gam_case(name).as_read(read_csv(f"mgcv/{name}/newdata.csv.gz"))
    columns = learned(name).on(new)
    lpmatrix = read_csv(f"mgcv/{name}/lpmatrix.csv.gz").iloc[:, 1:].to_numpy(float)
    for smooth, X, r in zip(learned(name).smooths, columns, stored(name), strict=True):
        X_r = lpmatrix[:, r["first.para"] - 1 : r["last.para"]]
        S_r = [np.array(S, dtype=float) for S in r["S"]]
        assert len(S_r) == len(smooth.penalties)
        tolerance = TOLERANCE[smooth.term.kind]
        if smooth.term.kind != "s":
            close(X, X_r, tolerance)
            for S, other in zip(smooth.penalties, S_r, strict=True):
                close(S, other, tolerance)
        for S, other in zip(smooth.penalties, S_r, strict=True):
            for ours, theirs in zip(kernels(X, S), kernels(X_r, other), strict=True):
                close(ours, theirs, tolerance)


def test_levels_of_one_id_share_basis_and_smoothing_parameter() -> None:
    smooths: tuple[Smooth, ...] = learned("abide_T1_by_factor_id").smooths
    assert [s.id for s in smooths] == ["1", "1"]
    for S, other in zip(smooths[0].penalties, smooths[1].penalties, strict=True):
        assert (other == S).all()
