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
from helpers.followed import followed
from helpers.r_alone import rerun
from sklearn.ensemble import RandomForestClassifier

import pycombat_gam as pcg
from pycombat_gam.predict import site_measures, validation
from pycombat_gam.predict.measures.auc import Auc, delong
from pycombat_gam.predict.measures.pooling import Pooled, pool_sites
from r_bridge import Agreement, crosscheck

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


def shifted(folder: Path, rows: pd.DataFrame) -> tuple[int, str]:
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


@pytest.mark.parametrize(("outcome", "harmonized"), [("ill", False), ("dx", True), ("score", True)])
def test_agrees(outcome: str, harmonized: bool, table: pd.DataFrame) -> None:
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


@pytest.mark.parametrize("outcome", ["dx", "score"])
def test_r_alone_reaches_the_same_verdict(outcome: str, table: pd.DataFrame, tmp_path: Path) -> None:
    """With names that a reader of CSV may take for something else."""
    sites = dict(zip("abcde", ["01", "a,b", 'a "b"', "Größe ☃", "NA"], strict=True))
    classes = {"AD": "every", "MCI": "x\ny", "NC": "\\N"}
    table = table.assign(site=table["site"].map(sites), dx=table["dx"].map(classes))
    agreement = checked(predictor(outcome, harmonized=True), table)
    assert agreement.verdict == "agrees", str(agreement)
    agreement.write(tmp_path / "page.html")
    assert rerun(tmp_path / "page") == (0, "agrees")
    assert "200 rows predicted without their site, 5 sites" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "pools our numbers of each site" in (tmp_path / "page" / "README.md").read_text(encoding="utf-8")


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


def test_predictions_of_zero_and_one(table: pd.DataFrame) -> None:
    """A forest of few trees ties most rows, and is certain of some that come out otherwise."""
    model = predictor("dx", estimator=RandomForestClassifier(n_estimators=3, random_state=0))
    agreement = checked(model, table)
    assert agreement.verdict == "agrees", str(agreement)
    score, y = agreement.sent["score"], agreement.sent["Y"]
    assert (y[score == 0] == 1).any() and (y[score == 1] == 0).any()


def test_a_fitted_model_is_fitted_again_and_left_alone(table: pd.DataFrame) -> None:
    model = predictor("score").fit(table)
    left_out = model.validation.left_out
    half = table[table["site"] != "a"]
    fitted, fresh = checked(model, half), checked(predictor("score"), half)
    pd.testing.assert_frame_equal(fitted.table, fresh.table)
    pd.testing.assert_frame_equal(model.validation.left_out, left_out)
    assert len(fitted.sent["score"]) == 160 and str(fitted.call).startswith("Predictor('score ~ age'")


def test_each_changed_number_is_found_by_r_alone(table: pd.DataFrame, tmp_path: Path) -> None:
    agreement = checked(predictor("dx"), table)
    agreement.write(tmp_path / "page.html")
    folder = tmp_path / "page"
    recorded = pd.read_csv(folder / "agreement.csv")
    # Every second one, then the others: each is named when it is changed, and not when it isn't.
    for half in (recorded[::2], recorded[1::2]):
        named = ", ".join(f"{engine} {name}" for engine, name in zip(half["engine"], half["quantity"], strict=True))
        assert shifted(folder, half) == (1, f"differs in {named}")


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


def test_risks_at_horizons(tmp_path: Path) -> None:
    """One site is followed too shortly for the second horizon, and at another nobody has the event."""
    table = followed()
    short, quiet = (table["site"] == f"site {k}" for k in (1, 2))
    table["time"] = table["time"].where(~short, np.minimum(table["time"], 300))
    table["dead"] = table["dead"].where(~(short & (table["time"] == 300) | quiet), 0)
    model = pcg.Predictor("Surv(time, dead) ~ age", batch="site", features="^x", horizons=(90, 365),
                          harmonizer=pcg.ComBat("~ age", batch="site"))  # fmt: skip
    agreement = checked(model, table)
    assert agreement.verdict == "agrees", str(agreement)
    assert set(agreement.table["engine"]) == {"survival", "metafor"} and set(agreement.left_out) == {"pROC", "stats"}
    ours = {row.quantity.name: row.quantity.values for row in agreement.rows}
    assert agreement.study.features == ("90, harmonized", "365, harmonized", "90, raw", "365, raw")
    assert np.isnan(ours["observed risk"]).tolist() == [[k == 1 and j in (1, 3) for j in range(4)] for k in range(5)]
    assert (ours["observed risk"][2] == 0).all() and np.isfinite(ours["se of observed risk"][[0, 2, 3, 4]]).all()
    assert agreement.study.terms == ("AUC", "O/E", "observed risk")
    agreement.write(tmp_path / "page.html")
    # Pooling starts from our numbers of each site, so it stays.
    place = tmp_path / "page" / "data.csv"
    data = pd.read_csv(place, dtype=str, keep_default_na=False)
    data.iloc[5, -1] = repr(float(data["score 365, raw"][5]) + 1e-4)
    data.to_csv(place, index=False)
    assert rerun(tmp_path / "page") == (1, "differs in survival O/E")


def test_a_taxonomy_of_cases(table: pd.DataFrame) -> None:
    """Two rows make a case, and nodes are events; the answers of a tree need the tree, so R does not judge them."""
    pairs = table.assign(patient=np.arange(len(table)) // 2)
    pairs[["dx", "age"]] = pairs.groupby("patient")[["dx", "age"]].transform("first")
    nodes = {"AD": "impaired", "MCI": "impaired", "impaired": "everyone", "NC": "everyone"}
    cases = checked(predictor("dx", case="patient"), pairs)
    tree = checked(predictor("dx", case="patient", taxonomy=nodes), pairs)
    assert cases.verdict == tree.verdict == "agrees"
    assert len(cases.sent["score"]) == 100 and "100 cases predicted" in cases.to_html()
    assert {"AD", "MCI", "NC", "impaired", "all"} == set(tree.study.features)
    assert "accuracy" in set(cases.table["quantity"]) - set(tree.table["quantity"])
    assert "accuracy" in tree.study.terms


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
