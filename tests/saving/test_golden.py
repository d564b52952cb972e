"""Models saved by every released format still load, and still give the numbers they gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from pycombat_gam.penalized.solve import solve
from pycombat_gam.saving.container import NEWEST, VERSION
from pycombat_gam.tables.files import EXACT_FLOATS

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
MODELS = sorted(GOLDEN.glob("*.pcg"))


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_an_old_model_answers_as_it_did(path: Path) -> None:
    rows = pd.read_csv(path.with_name(f"{path.stem}-input.csv"), **EXACT_FLOATS)
    expected = pd.read_csv(path.with_name(f"{path.stem}-output.csv"), **EXACT_FLOATS)
    answer = pcg.load(path).transform(rows)[list(expected.columns)]
    # Sums of a dozen terms in another order, on another machine's BLAS.
    pd.testing.assert_frame_equal(answer, expected, check_exact=False, rtol=1e-12, atol=0)


def test_the_current_format_is_among_them() -> None:
    released = {f"{kind}-{version}" for kind in ("combat", "flow") for version in (VERSION, NEWEST)}
    assert released <= {path.stem for path in MODELS}


def test_a_combat_of_the_first_version_says_what_it_cannot_do() -> None:
    first, newest = (pcg.load(GOLDEN / f"combat-{version}.pcg") for version in (VERSION, NEWEST))
    (limit,) = [note for note in first.summary().notes if "format version 1" in note]
    assert "for tests and intervals, fit and save the model again" in limit
    assert not any("format version" in note for note in newest.summary().notes)
    assert first.fitted.mean.groups is None


def test_a_combat_of_the_newest_version_keeps_the_statistics_of_its_sites() -> None:
    mean = pcg.load(GOLDEN / f"combat-{NEWEST}.pcg").fitted.mean
    (group,) = mean.groups
    # R'R of the pooled factor, in another order of sums: columns of poly() and ns() are of size 1.
    pooled = sum(R.T @ R for R in group.statistics.R)
    np.testing.assert_allclose(pooled, mean.R.T @ mean.R, rtol=1e-9, atol=1e-9)
    # The same fit from them, in the same operations; sums on another machine's BLAS.
    np.testing.assert_allclose(solve(group.statistics).coefficients, mean.coefficients, rtol=1e-9)
