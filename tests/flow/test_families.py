"""The paper's family where ComBat's model holds, and where it does not."""

from __future__ import annotations

import numpy as np
import pytest

import pycombat_gam as pcg
from pycombat_gam.datasets import simulate_multisite

pytestmark = pytest.mark.filterwarnings("ignore::pycombat_gam.errors.PcgWarning")


def test_affine_recovers_combat_within_sampling_error() -> None:
    """Trained to the end on all rows, so that neither early stopping nor its start at ComBat's answer holds it."""
    study = simulate_multisite(sites=3, subjects=[200] * 3, features=8, seed=61)
    names = list(study.features)
    options = {"batch": "site", "id": "subject", "features": names}
    combat = pcg.ComBat("~ age + sex", **options)
    expected = combat.fit_transform(study.table)[names]
    flow = pcg.FlowSCM(
        "~ age + sex", **options, flow="affine", base="normal", training={"held_out": 0.0, "max_epochs": 100}
    ).fit(study.table)
    found = flow.transform(study.table)[names]
    # ComBat's own answer moves by as much when its rows are drawn anew: the unit here.
    rng, moved = np.random.default_rng(0), []
    for _ in range(5):
        rows = np.concatenate([rng.choice(rows, len(rows)) for rows in study.table.groupby("site").indices.values()])
        drawn = study.table.iloc[rows].reset_index(drop=True).assign(subject=np.arange(len(rows)))
        again = pcg.ComBat("~ age + sex", **options).fit(drawn).transform(study.table)[names]
        moved.append((((again - expected) / study.spread) ** 2).to_numpy().mean())
    assert len(flow.history_) == 100 and flow.history_["loss"].iloc[-1] < flow.history_["loss"].iloc[0]
    assert np.sqrt((((found - expected) / study.spread) ** 2).to_numpy().mean()) < np.sqrt(np.mean(moved))


def test_the_spline_flow_finds_skewed_sites() -> None:
    study = simulate_multisite(sites=3, subjects=[300] * 3, features=6, skew=0.8, seed=62)
    names, to = list(study.features), "Bergen"
    options = {"batch": "site", "id": "subject", "features": names, "ref_batch": to}
    others = study.table["site"] != to

    def error(model: pcg.ComBat | pcg.FlowSCM) -> float:
        gap = (model.fit(study.table).transform(study.table)[names] - study.measured_at(to)) / study.spread
        return float(np.sqrt((gap[others] ** 2).to_numpy().mean()))

    assert error(pcg.FlowSCM("~ age + sex", **options, flow="spline")) < 0.95 * error(
        pcg.ComBat("~ age + sex", **options)
    )
