"""A flow's harmonization, diagnosed like any other."""

from __future__ import annotations

import pytest

import pycombat_gam as pcg


@pytest.mark.filterwarnings("ignore:age is outside the range:pycombat_gam.errors.PcgWarning")
def test_diagnose_takes_a_flow() -> None:
    study = pcg.datasets.simulate_multisite(sites=3, subjects=150, features=4, location=1.0, seed=6)
    features = list(study.features)
    scm = pcg.FlowSCM("~ age + sex", batch="site", id="subject", features=features, seed=0)
    scm.fit(study.table, progress=False)
    harmonized = scm.transform(study.table)
    found = pcg.diagnose(study.table, harmonized, model=scm, permutations=19)
    assert found.states == ("before", "after")  # held out only on request: training again costs minutes
    anova = found.of("location").query("measure == 'ANOVA'").groupby("state")["p_adjusted"]
    assert (anova.max()["before"] < 0.05) and (anova.min()["after"] > 0.05)
    assert found.of("shrinkage").empty


def test_held_out_rows_of_a_flow() -> None:
    study = pcg.datasets.simulate_multisite(sites=3, subjects=120, features=3, location=1.0, seed=6)
    scm = pcg.FlowSCM("~ age", batch="site", id="subject", features=list(study.features), seed=0)
    scm.set_params(flow_options={"variant": "residual"}, training={"max_epochs": 30})
    scm.fit(study.table, progress=False)
    found = pcg.diagnose(study.table, scm.transform(study.table), model=scm, held_out=True, permutations=19)
    predicted = found.of("site prediction").set_index(["measure", "state"])
    assert predicted.loc[("logistic", "held out"), "value"] < predicted.loc[("logistic", "before"), "value"]
    assert ("age", "held out") in found.of("covariate prediction").set_index(["covariate", "state"]).index
