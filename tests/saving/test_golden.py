"""Models saved by every released format still load, and still give the numbers they gave."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import pycombat_gam as pcg
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
    assert {f"combat-{VERSION}", f"flow-{VERSION}", f"flow-{NEWEST}"} <= {path.stem for path in MODELS}
