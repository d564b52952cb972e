"""A summary's tables are told apart by name, never by their shape."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg


@pytest.mark.parametrize("V", range(2, 9))
def test_as_many_sites_as_features_are_summarized(V: int) -> None:
    """With six sites and six features the table of features once passed for one of sites and features."""
    rng = np.random.default_rng(V)
    table = pd.DataFrame(rng.normal(size=(V * 12, V)), columns=[f"y{k}" for k in range(V)])
    table = table.assign(site=np.repeat([f"s{k}" for k in range(V)], 12))
    summary = pcg.ComBat("~ 1", batch="site").fit(table).summary()
    assert len(summary.batches) == V and len(summary.features) == V
    assert "handling" in summary.features and "handling" not in summary.batches
