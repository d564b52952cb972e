"""A few of the cases that `random_effect_fuzz.py` draws; it runs as a program for thousands."""

from __future__ import annotations

import pytest
from helpers import random_effect_fuzz


@pytest.mark.parametrize("seed", range(12))
def test_formulas_with_random_effects_on_designs_drawn_by_chance(seed: int) -> None:
    assert not [line for line in random_effect_fuzz.check(seed) if not line.startswith("refused")]
