"""Stored estimates of the real packages, through the adapters' layout: each number in the cell where ours has it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from r_cases import NOT_FINITE, ON_PURPOSE, all_cases, key, model_for, table_for
from reference import Case, needs_reference

from r_bridge import session, sources
from r_bridge.combat import estimates_from_r

pytestmark = [needs_reference, pytest.mark.live_r]
BY_BATCH = ("gamma.hat", "delta.hat", "gamma.star", "delta.star")


def stored() -> list[Case]:
    return [
        case
        for case in all_cases()
        if case.set in ("neurocombat", "combatfamily")
        and key(case) not in ON_PURPOSE
        and key(case) not in NOT_FINITE
        and "edge" not in case.name
    ]


@pytest.mark.filterwarnings("ignore::pycombat_gam.errors.PcgWarning")
@pytest.mark.parametrize("case", stored(), ids=key)
def test_layout(case: Case) -> None:
    model = model_for(case).fit(table_for(case))
    fit, ours = model._check_fitted(), model.estimates
    tables = {name: case.output(name) for name in BY_BATCH if case.has(name)}
    assert "gamma.hat" in tables
    found = {name.replace(".", "_"): table.to_numpy(float) for name, table in tables.items()}
    if case.has("standardization"):
        standard = case.output("standardization")
        found |= {"grand_mean": standard["stand.mean"].to_numpy(), "var_pooled": standard["var.pooled"].to_numpy()}
    features = list(tables["gamma.hat"].columns)
    batch = pd.Categorical(list(fit.levels.labels), categories=list(fit.levels.labels))
    in_r = session.call(sources.function("layout", "packages"), found=found, batch=batch, features=features)
    theirs = estimates_from_r(in_r, features, fit.levels)
    assert [str(label) for label in tables["gamma.hat"].index] == list(fit.levels.labels)
    for name in found:
        left, right = getattr(theirs, name), getattr(ours, name)
        assert left.index.equals(right.index) and left.columns.equals(right.columns), name
        if fit.reference is not None and name.startswith(("gamma", "delta")):
            # R leaves the reference's own estimates; ours are 0 and 1 by definition.
            left, right = (one.drop(index=fit.levels.labels[fit.reference]) for one in (left, right))
        # 17 digits stored; one least-squares problem on both sides.
        np.testing.assert_allclose(left, right, rtol=1e-8, atol=1e-9, err_msg=name)
