"""Bases and penalties beside `smoothCon` and `PredictMat`, before and after the constraint: every stored case."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from helpers.reference import Case, cases, needs_reference, read_csv

from pycombat_gam.errors import NotYetError, PcgError
from pycombat_gam.formula import parse_formula
from pycombat_gam.formula.columns import Factor
from pycombat_gam.smooth.assemble import Smooth, learn_smooth

pytestmark = needs_reference
CASES = cases("mgcv_raw")
NOT_HERE = ("ad", "ds2d", "ds_k10", "gp_k10", "gp_k5", "sz")
SUPPORTED = [case for case in CASES if case.ok and case.name not in NOT_HERE]
ERRORS = [case for case in CASES if not case.ok]
UNIQUE = re.compile(r"(bs|cc|cp|cr|ps)_|re_|te_(by|crps|default|np_false)|ti_|cs_")
"""Cases whose columns are unique; the others' (of eigenvectors) are defined up to sign, in groups up to rotation."""
BY_ROUNDING = {"cs_k5"}
"""cs, where R's LAPACK ordered the null space otherwise than our rule does (see `ShrunkenCubicBasis`)."""
LANCZOS = re.compile(r"t[ps]_(k10|k20|default)")
"""Thin plate bases that R computes to the tolerance of its Lanczos iteration (about 1e-8); ours to rounding."""
by_case = pytest.mark.parametrize("case", SUPPORTED, ids=lambda case: case.name)


def variables(name: str) -> dict[str, Any]:
    """The variables of an input table; `f` and `of` are factors."""
    table = read_csv(f"inputs/{name}.csv.gz")
    found: dict[str, Any] = {label: table[label].to_numpy(float) for label in ("x", "z", "v")}
    for label in ("f", "of"):
        levels = tuple(sorted(read_csv("inputs/mgcv_raw.csv.gz")[label].unique()))
        found[label] = Factor(table[label].map({level: i for i, level in enumerate(levels)}).to_numpy(), levels)
    return found


def learn(case: Case, *, constrained: bool) -> list[Smooth]:
    call = case.about["call"]
    term = parse_formula("~" + call.split(", data")[0].removeprefix("smoothCon(")).smooths[0]
    given = re.search(r"knots=list\(x = c\(([^)]*)\)", call)
    knots = {"x": np.array([float(number) for number in given[1].split(",")])} if given else None
    values = variables("mgcv_raw")
    return learn_smooth(term, values, ordered=("of",), knots=knots, absorb=constrained, rescale=constrained)


def stored(case: Case, name: str) -> np.ndarray:
    return read_csv(f"mgcv_raw/{case.name}/{name}.csv.gz").iloc[:, 1:].to_numpy(float)


def matrices(about: dict[str, Any]) -> list[np.ndarray]:
    S = about["S"]
    return [np.array(one, dtype=float) for one in (S.values() if isinstance(S, dict) else S)]


def test_cases_left_out_are_listed() -> None:
    for case in CASES:
        if case.name in NOT_HERE:
            with pytest.raises(NotYetError):
                learn(case, constrained=False)
    assert len(SUPPORTED) + len(ERRORS) + len(NOT_HERE) == len(CASES)


@pytest.mark.parametrize("constrained", [False, True], ids=["raw", "constrained"])
@by_case
def test_columns_penalties_and_predictions(case: Case, constrained: bool) -> None:
    kind = "con" if constrained else "raw"
    smooths, about = learn(case, constrained=constrained), case.about[kind]
    assert [smooth.label for smooth in smooths] == [one["label"] for one in about]
    # Unique bases agree to rounding; of eigenvectors, what the iteration that found them leaves.
    tolerance = 1e-10 if UNIQUE.match(case.name) else 1e-7 if LANCZOS.match(case.name) else 1e-9
    for i, (smooth, theirs) in enumerate(zip(smooths, about, strict=True), start=1):
        X, P = smooth.on(variables("mgcv_raw")), smooth.on(variables("mgcv_raw_new"))
        X_r, P_r = stored(case, f"X_{kind}_{i}"), stored(case, f"P_{kind}_{i}")
        turn = np.eye(X.shape[1])
        if not UNIQUE.match(case.name):
            turn = np.linalg.lstsq(X, X_r, rcond=None)[0]
        if case.name == "t2_default" and constrained:
            # R's columns are those of the fit, whose constraint is another; together with a constant they span ours.
            X, P = (np.hstack([part, np.ones((len(part), 1))]) for part in (X, P))
            with_one = np.linalg.lstsq(X, X_r, rcond=None)[0]
            assert np.abs(X @ with_one - X_r).max() < tolerance * np.abs(X_r).max()
            turn = with_one[:-1]
        else:
            assert np.abs(X @ turn - X_r).max() < tolerance * np.abs(X_r).max()
            assert np.abs(P @ turn - P_r).max() < tolerance * np.abs(P_r).max()
        assert smooth.ranks == tuple(np.atleast_1d(theirs["rank"]))
        assert smooth.null_dim == theirs["null.space.dim"]
        penalties = matrices(theirs)
        assert len(penalties) == len(smooth.penalties)
        if case.name in BY_ROUNDING:
            continue
        if case.name == "fs_cr":
            # Which straight line comes first is rounding in R; each has a penalty of its own.
            penalties = [penalties[0], *penalties[:0:-1]]
        for S, S_r in zip(smooth.penalties, penalties, strict=True):
            assert np.abs(turn.T @ S @ turn - S_r).max() < tolerance * np.abs(S_r).max()
        scales = np.atleast_1d(theirs["S.scale"])
        scales = scales[[0, 2, 1]] if case.name == "fs_cr" else scales
        np.testing.assert_allclose(smooth.penalty_scale, scales, rtol=tolerance)


@pytest.mark.parametrize("name", sorted(BY_ROUNDING))
def test_cs_penalties_agree_where_they_are_determined(name: str) -> None:
    case = next(case for case in SUPPORTED if case.name == name)
    ours, theirs = learn(case, constrained=False)[0].penalties[0], matrices(case.about["raw"][0])[0]
    # Same eigenvalues, same range; only which straight line is first differs.
    np.testing.assert_allclose(np.linalg.eigvalsh(ours), np.linalg.eigvalsh(theirs), rtol=1e-9, atol=1e-12)
    assert np.abs(ours - theirs).max() < 5e-3 * np.abs(theirs).max()


@pytest.mark.parametrize("case", [c for c in ERRORS if "f2" not in c.about["call"]], ids=lambda case: case.name)
def test_where_r_stops_so_do_we(case: Case) -> None:
    with pytest.raises(PcgError):
        learn(case, constrained=True)
