"""Measures of risks by site and horizon."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.followed import followed

from pycombat_gam.predict.horizon_measures import (
    censored_net_benefit,
    measured_at_horizons,
    net_benefits_at_horizons,
)
from pycombat_gam.predict.left_out import Evidence
from pycombat_gam.predict.measures.auc import delong
from pycombat_gam.predict.measures.kaplan_meier import kaplan_meier
from pycombat_gam.predict.measures.net_benefit import net_benefit, treat_all
from pycombat_gam.predict.outcome import Outcome
from pycombat_gam.predict.site_measures import MEAN, THRESHOLDS, pooled_over_sites

HORIZONS = (182.0, 365.0)
OUTCOME = Outcome("Surv(time, dead)", "survival", horizons=HORIZONS)
SITES = ("a", "b", "c", "d", "e")


def evidence(table: pd.DataFrame) -> Evidence:
    y = table[["time", "dead"]].to_numpy(float)
    first = 1 / (1 + np.exp(1 - table["x0"].to_numpy() / 2))
    none = np.zeros((len(y), 0))
    return Evidence(pd.factorize(table["site"])[0], y, np.column_stack([first, 1 - (1 - first) ** 2]), none, none)


def test_without_censoring_they_are_those_of_two_classes() -> None:
    seen = evidence(followed(censored=False))
    rows = measured_at_horizons(OUTCOME, seen, SITES).set_index(["site", "horizon", "measure"])
    benefits = net_benefits_at_horizons(OUTCOME, seen, SITES).set_index(["site", "horizon"])
    for k, site in enumerate(SITES):
        at = seen.site == k
        for h, horizon in enumerate(HORIZONS):
            events, p = seen.y[at, 0] <= horizon, seen.left_out[at, h]
            auc = delong(events, p)
            share = events.mean()
            here = {measure: rows.loc[(site, horizon, measure)] for measure in ("AUC", "O/E", "observed risk")}
            assert (here["AUC"]["n"], here["AUC"]["events"]) == (40, events.sum())
            assert here["AUC"]["at_risk"] == (seen.y[at, 0] >= horizon).sum()
            # Products over up to 40 event times, rounded each.
            close = {"rel": 1e-13, "abs": 1e-13}
            assert here["AUC"]["estimate"] == pytest.approx(auc.value, **close)
            assert here["AUC"]["se"] ** 2 == pytest.approx(auc.variance, **close)
            assert here["observed risk"]["estimate"] == pytest.approx(share, **close)
            # Without censoring Greenwood's is the binomial variance.
            assert here["observed risk"]["se"] == pytest.approx(np.sqrt(share * (1 - share) / 40), **close)
            assert here["O/E"]["estimate"] == pytest.approx(share / p.mean(), **close)
            assert here["O/E"]["value"] == pytest.approx(np.log((events.sum() + 0.5) / p.sum()), **close)
            assert here["O/E"]["variance"] == pytest.approx((1 - p.mean()) / p.sum(), **close)
            assert rows.loc[(site, horizon, "predicted risk")]["estimate"] == p.mean()
            part = benefits.loc[(site, horizon)]
            np.testing.assert_array_equal(part["threshold"], THRESHOLDS)
            # Up to 40 products, times odds of at most 99.
            close = {"rtol": 0, "atol": 1e-11}
            np.testing.assert_allclose(part["net_benefit"], net_benefit(events, p, THRESHOLDS), **close)
            np.testing.assert_allclose(part["treat_all"], treat_all(events, THRESHOLDS), **close)


def test_net_benefit_by_definition() -> None:
    table = followed()
    time, event = table["time"].to_numpy(float), table["dead"].to_numpy() == 1
    risk = evidence(table).left_out[:, 1]
    thresholds = np.array([0.0, 0.3, 0.5, 0.7, 0.99])
    got = censored_net_benefit(time, event, risk, 365.0, thresholds)
    for t, value in zip(thresholds, got, strict=True):
        treated = risk >= t
        if not treated.any():
            assert value == 0
            continue
        (died,), _ = kaplan_meier(time[treated], event[treated], np.array([365.0]))
        expected = treated.mean() * (died - (1 - died) * t / (1 - t))
        assert value == pytest.approx(expected, rel=1e-13)  # the same products, in another order
    beyond = censored_net_benefit(
        np.array([5.0, 900.0]), np.array([False, False]), np.array([0.8, 0.2]), 365.0, thresholds
    )
    # Above 0.2 only the row that is lost at 5 days is treated; from 0.99 on none is.
    np.testing.assert_array_equal(np.isnan(beyond), [False, True, True, True, False])


def test_pooled_over_sites_at_each_horizon() -> None:
    rows = measured_at_horizons(OUTCOME, evidence(followed()), SITES)
    pooled = pooled_over_sites(rows).set_index(["horizon", "measure"])
    assert len(pooled) == 8 and (pooled["sites"] == 5).all()
    for measure in ("AUC", "O/E", "observed risk"):
        for h in HORIZONS:
            row = pooled.loc[(h, measure)]
            assert row["new_lower"] <= row["lower"] < row["estimate"] < row["upper"] <= row["new_upper"]


def test_small_and_odd_sites() -> None:
    """No event, all events, lost early, one row: no error, and NaN where something does not exist."""
    y = [(400.0, 0), (500.0, 0), (90.0, 1), (100.0, 1), (20.0, 0), (50.0, 1), (30.0, 0), (365.0, 1), (700.0, 1)]
    site = np.array([0, 0, 1, 1, 2, 2, 2, 3, 4])
    risk = np.linspace(0.1, 0.9, 9)
    none = np.zeros((9, 0))
    seen = Evidence(site, np.array(y), np.column_stack([risk, risk]), none, none)
    rows = measured_at_horizons(OUTCOME, seen, SITES).set_index(["measure", "horizon", "site"]).sort_index()
    observed = rows.loc[("observed risk", 365.0)]
    # In site c the last of all has the event, so that nobody is left: the risk is 1 by Kaplan–Meier.
    np.testing.assert_array_equal(observed["estimate"], [0.0, 1.0, 1.0, 1.0, 0.0])
    assert observed["se"].isna().tolist() == [False, True, True, True, False]
    assert observed[["lower", "upper"]].isna().all(axis=None)
    assert rows.loc["AUC"]["estimate"].isna().all()
    # Half an event is added: no site is left out, and none has an infinite logarithm.
    shrunk = np.array([0.5 / 2, 2.5 / 2, 1.5, 1.5, 0.5])
    expected = np.array([risk[site == k].mean() for k in range(5)])
    oe = rows.loc[("O/E", 365.0)]
    np.testing.assert_allclose(oe["value"].astype(float), np.log(shrunk / expected), rtol=1e-14)  # a few roundings
    assert np.isfinite(oe["variance"].astype(float)).all()
    benefits = net_benefits_at_horizons(OUTCOME, seen, SITES)
    mean = benefits[benefits["site"] == MEAN]
    assert mean["net_benefit"].notna().all() and mean["sites"].between(3, 5).all()


def test_nothing_of_other_sites_enters() -> None:
    table = followed()
    other = table.assign(time=table["time"].where(table["site"] == "site 1", 50.0))
    first, second = (measured_at_horizons(OUTCOME, evidence(t), SITES) for t in (table, other))
    pd.testing.assert_frame_equal(first[first["site"] == "b"], second[second["site"] == "b"], check_exact=True)
