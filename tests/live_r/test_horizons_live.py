"""Risks at institutions never seen, on survival::lung; Kaplan–Meier by institution beside survfit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import pycombat_gam as pcg
import r_bridge
from pycombat_gam.predict.horizon_measures import measured_at_horizons
from pycombat_gam.predict.left_out import Evidence
from pycombat_gam.predict.measures.kaplan_meier import observed_expected
from r_bridge import session

pytestmark = pytest.mark.live_r

FEATURES = ["age", "sex", "ph.ecog", "ph.karno", "pat.karno", "wt.loss"]
HORIZONS = (182, 365)


@pytest.fixture(scope="module")
def lung() -> pd.DataFrame:
    """227 patients whose institution is known; 18 have missing cells, which are imputed inside the fold."""
    table = session.call("function() survival::lung").dropna(subset="inst")
    assert len(table) == 227 and table["inst"].nunique() == 18 and table[FEATURES].isna().any(axis=1).sum() == 18
    return table.assign(inst=table["inst"].astype(int).astype(str), dead=(table["status"] == 2).astype(int))


@pytest.fixture(scope="module")
def model(lung: pd.DataFrame) -> pcg.Predictor:
    pipe = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression(C=0.2))
    made = pcg.Predictor("Surv(time, dead) ~ 1", batch="inst", features=FEATURES, estimator=pipe, horizons=HORIZONS)
    return made.fit(lung)


def overall(evidence: Evidence) -> list[float]:
    time, dead = evidence.y[:, 0], evidence.y[:, 1] == 1
    return [observed_expected(time, dead, evidence.left_out[:, h], c)[0] for h, c in enumerate(HORIZONS)]


def by_institution(model: pcg.Predictor, evidence: Evidence) -> pd.Series:
    """O/E at 182 days of institutions with ten patients or more."""
    rows = measured_at_horizons(model.fitted.outcome, evidence, model.fitted.levels.labels)
    return rows[(rows["measure"] == "O/E") & (rows["n"] >= 10) & (rows["horizon"] == 182)]["estimate"]


def test_observed_over_expected(model: pcg.Predictor) -> None:
    evidence = model.fitted.evidence
    # Measured 1.014 and 1.009; Greenwood's standard errors of their logarithms are 0.10 and 0.06.
    assert overall(evidence) == pytest.approx([1.014, 1.009], abs=0.002)
    oe = by_institution(model, evidence)
    assert len(oe) == 9 and [oe.min(), oe.max()] == pytest.approx([0.36, 1.61], abs=0.01)  # measured 0.355, 1.611


def test_uncorrected_hazards_are_the_prototypes(model: pcg.Predictor, lung: pd.DataFrame) -> None:
    """The prototype leaves rows censored within an interval out, and corrects nothing."""
    fitted = model.fitted
    rows, _ = fitted.layout.read(lung, fitted.levels)
    risks = np.empty_like(fitted.evidence.left_out)
    for k, fold in enumerate(fitted.without):
        there = rows.take(rows.codes == k)
        plain = replace(fold, learner=replace(fold.learner, factor=np.ones(2)))
        risks[rows.codes == k] = plain.predict(there, there.codes)
    evidence = replace(fitted.evidence, left_out=risks)
    # The prototype imputes medians of all rows, not of the fold's, and prints three digits: 0.996 and 0.962.
    assert overall(evidence) == pytest.approx([0.996, 0.962], abs=0.002)
    oe = by_institution(model, evidence)
    # As printed there, two digits.
    assert [oe.min(), oe.max()] == pytest.approx([0.35, 1.58], abs=0.005)


def test_kaplan_meier_by_institution_is_survfits(model: pcg.Predictor, lung: pd.DataFrame) -> None:
    rows = measured_at_horizons(model.fitted.outcome, model.fitted.evidence, model.fitted.levels.labels)
    observed = rows[rows["measure"] == "observed risk"]
    assert len(observed) == 36
    for (site, h), row in observed.set_index(["site", "horizon"]).iterrows():
        part = lung[lung["inst"] == site]
        theirs = r_bridge.survfit(part["time"], part["dead"] == 1, [h])
        if np.isnan(row["estimate"]):
            # survfit holds the curve beyond the last follow-up; here it is unknown.
            assert part["time"].max() < h and theirs.at_risk[0] == 0
            continue
        # Products of up to 36 factors, rounded each.
        assert row["estimate"] == pytest.approx(1 - theirs.survival[0], rel=1e-12, abs=1e-12)
        assert row["at_risk"] == (part["time"] >= h).sum()
        if 0 < row["estimate"] < 1:
            assert row["se"] == pytest.approx(theirs.se[0], rel=1e-12)


def test_predictions_left_out_are_a_table(model: pcg.Predictor, lung: pd.DataFrame) -> None:
    left_out = model.fitted.predictions_left_out()
    assert list(left_out) == ["time", "event", "risk_182", "risk_365"]
    np.testing.assert_array_equal(left_out["time"], lung["time"])
    np.testing.assert_array_equal(left_out[["risk_182", "risk_365"]], model.predict(lung))
    assert (left_out["risk_182"] <= left_out["risk_365"]).all()
