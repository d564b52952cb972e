"""Predictions at sites left out, measured here and in R: the verdict, and the folder that R alone runs again."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.r_alone import rerun
from sklearn.ensemble import RandomForestClassifier

import pycombat_gam as pcg
from pycombat_gam.predict import site_measures, validation
from pycombat_gam.predict.measures.auc import Auc, delong
from pycombat_gam.predict.measures.kaplan_meier import kaplan_meier, observed_expected
from pycombat_gam.predict.measures.pooling import Pooled, pool_sites
from r_bridge import Agreement, crosscheck, session
from r_bridge.agreement.engines import source

pytestmark = pytest.mark.live_r
OUTCOMES = {"ill": ["yes"], "dx": ["AD", "MCI", "NC"], "score": ["all"]}
OF_CLASSES = {"pROC", "stats (glm)", "stats (mean)", "metafor"}
POOLED = {"pooled estimate", "pooled se", "pooled tau2", "pooled lower", "pooled upper", "new site lower",
          "new site upper", "sites pooled"}  # fmt: skip


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Five sites of 40 rows with site effects; nobody at site e has dx AD, and all at site d are ordered right."""
    rng = np.random.default_rng(17)
    n = 200
    site = np.repeat(list("abcde"), 40)
    X = rng.normal(size=(n, 3)) + rng.normal(0, 0.5, (5, 3)).repeat(40, axis=0)
    signal = X[:, 0] + 0.3 * rng.normal(size=n) * (site != "d")
    dx = np.where(signal + rng.normal(size=n) > 0.8, "AD", np.where(X[:, 1] > 0, "MCI", "NC"))
    dx = np.where((site == "e") & (dx == "AD"), "NC", dx)
    table = pd.DataFrame(X, columns=["x1", "x2", "x3"]).assign(site=site, age=rng.uniform(50, 80, n).round(1))
    ill = np.where(signal > np.where(site == "c", 1.2, 0.2), "yes", "no")
    return table.assign(ill=ill, dx=dx, score=30 + 2 * signal + rng.normal(size=n))


def predictor(outcome: str, harmonized: bool = False, **options: Any) -> pcg.Predictor:
    harmonizer = pcg.ComBat("~ age", batch="site") if harmonized else None
    options = {"features": ["x1", "x2", "x3"], "level": 0.8, "harmonizer": harmonizer, **options}
    return pcg.Predictor(f"{outcome} ~ age", batch="site", **options)


def checked(model: pcg.Predictor, table: pd.DataFrame, **options: Any) -> Agreement:
    with warnings.catch_warnings():
        # A class at four sites can't be guaranteed at this level.
        warnings.simplefilter("ignore", pcg.PcgWarning)
        return crosscheck(model, table, **options)


@pytest.mark.parametrize(("outcome", "harmonized"), [("ill", False), ("dx", True), ("score", True)])
def test_agrees(outcome: str, harmonized: bool, table: pd.DataFrame, tmp_path: Path) -> None:
    agreement = checked(predictor(outcome, harmonized), table)
    assert agreement.verdict == "agrees", str(agreement)
    rows = agreement.table
    engines = OF_CLASSES if outcome != "score" else {"stats (lm)", "stats (mean)", "metafor"}
    assert set(rows["engine"]) == engines and not agreement.warnings
    expected = {"calibration intercept", "se of calibration intercept", "calibration slope", "se of calibration slope"}
    expected |= {"mean absolute error", "RMSE"} if outcome == "score" else {"AUC", "AUC variance", "O/E", "accuracy"}
    assert expected | POOLED <= set(rows["quantity"])
    labels = OUTCOMES[outcome] + (["all"] if outcome != "score" else [])
    states = ["harmonized", "raw"] if harmonized else []
    shown = {f"{label}, {state}" for label in labels for state in states} or set(labels)
    assert set(agreement.study.features) == shown
    assert set(rows["feature"]) <= shown and set(rows["site"]) <= {*"abcde", *agreement.study.terms}
    agreement.write(tmp_path / "page.html")
    assert rerun(tmp_path / "page") == (0, "agrees")
    assert "200 rows predicted without their site, 5 sites" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_every_number_of_a_site_is_compared(table: pd.DataFrame) -> None:
    """Where a measure exists it is compared, and the hard sites are among them."""
    model = predictor("dx", harmonized=True)
    agreement = checked(model, table)
    ours = {row.quantity.name: row.quantity for row in agreement.rows}
    # Classes AD, MCI, NC of harmonized, then of raw features; then all classes of each.
    assert ours["AUC"].values.shape == (5, 8)
    assert np.isnan(ours["AUC"].values[4, [0, 3]]).all() and np.isfinite(ours["AUC"].values[:4, :6]).all()
    assert np.isfinite(ours["accuracy"].values[:, 6:]).all() and np.isnan(ours["accuracy"].values[:, :6]).all()
    np.testing.assert_array_equal(ours["AUC exists"].values[:, :6], np.isfinite(ours["AUC"].values[:, :6]))


def test_predictions_of_zero_and_one(table: pd.DataFrame, tmp_path: Path) -> None:
    """A forest of few trees ties most rows, and is certain of some that come out otherwise."""
    model = predictor("dx", estimator=RandomForestClassifier(n_estimators=3, random_state=0))
    agreement = checked(model, table)
    assert agreement.verdict == "agrees", str(agreement)
    score, y = agreement.sent["score"], agreement.sent["Y"]
    assert (y[score == 0] == 1).any() and (y[score == 1] == 0).any()
    agreement.write(tmp_path / "page.html")
    assert rerun(tmp_path / "page") == (0, "agrees")


def test_a_fitted_model_is_fitted_again_and_left_alone(table: pd.DataFrame) -> None:
    model = predictor("score").fit(table)
    left_out = model.validation.left_out
    half = table[table["site"] != "a"]
    fitted, fresh = checked(model, half), checked(predictor("score"), half)
    pd.testing.assert_frame_equal(fitted.table, fresh.table)
    pd.testing.assert_frame_equal(model.validation.left_out, left_out)
    assert len(fitted.sent["score"]) == 160 and str(fitted.call).startswith("Predictor('score ~ age'")


def shifted(agreement: Agreement, folder: Path, rows: pd.DataFrame) -> tuple[int, str]:
    """What R alone says once the last number of each of these quantities is off by three tolerances."""
    kept = {folder / name: (folder / name).read_text(encoding="utf-8") for name in rows["file"]}
    for _, row in rows.iterrows():
        numbers = pd.read_csv(folder / row["file"], dtype=np.float64)
        unit = pd.read_csv(folder / row["unit_file"]).to_numpy()
        cell = tuple(np.argwhere(numbers.notna().to_numpy())[-1])
        numbers.iloc[cell] += 3 * float(row["tolerance"]) * np.broadcast_to(unit, numbers.shape)[cell]
        numbers.map(lambda value: format(value, ".17g").replace("nan", "NaN")).to_csv(folder / row["file"], index=False)
    answer = rerun(folder)
    for place, text in kept.items():
        place.write_text(text, encoding="utf-8")
    return answer


@pytest.mark.parametrize("outcome", ["dx", "score"])
def test_each_changed_number_is_found_by_r_alone(outcome: str, table: pd.DataFrame, tmp_path: Path) -> None:
    agreement = checked(predictor(outcome), table)
    agreement.write(tmp_path / "page.html")
    folder = tmp_path / "page"
    recorded = pd.read_csv(folder / "agreement.csv")
    # Every second one, then the others: each is named when it is changed, and not when it isn't.
    for half in (recorded[::2], recorded[1::2]):
        named = ", ".join(f"{engine} {name}" for engine, name in zip(half["engine"], half["quantity"], strict=True))
        assert shifted(agreement, folder, half) == (1, f"differs in {named}")
    assert rerun(folder) == (0, "agrees")
    data = pd.read_csv(folder / "data.csv", dtype=str, keep_default_na=False)
    data.iloc[5, -1] = repr(float(data.iloc[5, -1]) + 1e-4)
    data.to_csv(folder / "data.csv", index=False)
    code, verdict = rerun(folder)
    # Pooling starts from our numbers of each site, so it stays.
    assert code == 1 and "stats (mean)" in verdict and "metafor" not in verdict


def off_auc(events: np.ndarray, score: np.ndarray) -> Auc:
    auc = delong(events, score)
    # 1e-11 is ten tolerances.
    return replace(auc, value=auc.value - 1e-11)


def no_auc(events: np.ndarray, score: np.ndarray) -> Auc:
    return replace(delong(events, score), value=np.nan, variance=np.nan)


def off_interval(estimate: np.ndarray, variance: np.ndarray, level: float = 0.95) -> Pooled:
    pooled = pool_sites(estimate, variance, level)
    # Riley's degrees of freedom, one less.
    return replace(pooled, new_upper=pooled.estimate + 1.1 * (pooled.new_upper - pooled.estimate))


@pytest.mark.parametrize(
    ("function", "wrong", "verdict"),
    [
        ("delong", off_auc, "differs in pROC AUC"),
        ("delong", no_auc, "differs in pROC AUC exists, pROC AUC variance exists"),
        ("pool_sites", off_interval, "differs in metafor new site upper"),
    ],
)
def test_a_wrong_number_of_ours_is_named_once(
    function: str, wrong: Callable[..., Any], verdict: str, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_measures, function, wrong)
    assert checked(predictor("ill"), table).verdict == verdict


def test_what_is_reported_is_what_is_compared(table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables over sites are taken from the validation itself."""
    table_of = validation.pooled_over_sites

    def off(by_site: pd.DataFrame) -> pd.DataFrame:
        pooled = table_of(by_site)
        # A hundred tolerances.
        return pooled.assign(lower=pooled["lower"] - 1e-6 * (pooled["measure"] == "calibration slope"))

    monkeypatch.setattr(validation, "pooled_over_sites", off)
    agreement = checked(predictor("ill"), table)
    assert agreement.verdict == "differs in metafor pooled lower"
    row = agreement.table.set_index("quantity").loc["pooled lower"]
    assert (row["feature"], row["site"]) == ("yes", "calibration slope")


def test_kaplan_meier_by_site_and_horizon() -> None:
    """What R gives for times, beside our measures: sites without events, and followed too shortly."""
    rng = np.random.default_rng(41)
    site = rng.integers(0, 6, 150)
    time = np.minimum(np.ceil(rng.exponential(300, 150)), np.where(site == 5, 200, np.inf))
    event = (rng.random(150) < 0.6) & (site != 4) & (time != 200)
    at = np.array([90.0, 365.0])
    risk = rng.uniform(0.1, 0.9, (150, 2))
    study = {"kind": "survival", "batch": pd.Categorical.from_codes(site, list("abcdef")), "features": ["90", "365"],
             "score": risk, "time": time, "event": event.astype(float), "at": at}  # fmt: skip
    theirs = session.run(source("run_engine"), engine="survival", study=study).value
    beyond = 0
    for k in range(6):
        t, e, p = time[site == k], event[site == k], risk[site == k]
        expected, se = kaplan_meier(t, e, at)
        beyond += int(np.isnan(expected).sum())
        ratio = [observed_expected(t, e, p[:, h], at[h])[0] for h in range(2)]
        # The law's bound; products of at most 40 factors.
        np.testing.assert_allclose(theirs["observed risk"][k], expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(theirs["se of observed risk"][k], se, rtol=0, atol=1e-12)
        np.testing.assert_allclose(theirs["O/E"][k], ratio, rtol=1e-12)  # as above
        np.testing.assert_array_equal(theirs["observed risk exists"][k], np.isfinite(expected) * 1.0)
    assert beyond == 1


def test_only_engines_that_apply(table: pd.DataFrame) -> None:
    agreement = checked(predictor("score"), table, engines=["metafor"])
    assert set(agreement.table["engine"]) == {"metafor"} and set(agreement.versions) == {"R", "metafor"}
    assert set(agreement.left_out) == {"pROC", "survival"}
    with pytest.raises(pcg.errors.OptionError, match="pROC is for classes"):
        checked(predictor("score"), table, engines=["pROC"])
    with pytest.raises(pcg.errors.OptionError, match=r"engines=\['mgcv'\]: allowed are pROC, stats, survival"):
        checked(predictor("score"), table, engines=["mgcv"])
    with pytest.raises(pcg.errors.OptionError, match="batch: the model has its own"):
        checked(predictor("score"), table, batch="site")


def test_sites_and_classes_with_odd_names(table: pd.DataFrame, tmp_path: Path) -> None:
    sites = dict(zip("abcde", ["01", "a,b", 'a "b"', "Größe ☃", "NA"], strict=True))
    classes = {"AD": "all", "MCI": "x\ny", "NC": "\\N"}
    table = table.assign(site=table["site"].map(sites), dx=table["dx"].map(classes))
    agreement = checked(predictor("dx"), table)
    assert agreement.verdict == "agrees", str(agreement)
    agreement.write(tmp_path / "page.html")
    assert rerun(tmp_path / "page") == (0, "agrees")
