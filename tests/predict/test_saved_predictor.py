"""Saved predictors come back bit for bit; what does not fit together is refused; code is never saved."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.clinics import FEATURES, clinic, clinics
from helpers.forgery import forge_arrays, forge_model
from sklearn.linear_model import LogisticRegression

import pycombat_gam as pcg
from pycombat_gam.errors import ModelFileError, PcgWarning

CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "classes": ("binary", "y ~ age + sex", {}),
    "three": ("three", "y ~ 1", {"per_class": False, "guarantee": False}),
    "number": ("number", "y ~ s(age, k=4)", {"sites": 0.6}),
    "formula alone": ("binary", "y ~ x0 + x1", {"features": []}),
    "ComBat": ("binary", "y ~ 1", {"harmonizer": pcg.ComBat("~ age + sex", batch="site")}),
    "ComBat-GAM": ("number", "y ~ 1", {"harmonizer": pcg.ComBat("~ s(age, k=4)", batch="site")}),
    "cases": ("three", "y ~ 1", {"case": "patient"}),
    "times": ("time", "Surv(time, dead) ~ age", {"horizons": (1.0, 2.0)}),
}


def table_of(kind: str) -> pd.DataFrame:
    table = clinics("binary" if kind == "time" else kind, K=4, n=20)
    if kind == "time":
        rng = np.random.default_rng(0)
        hazard = np.exp(0.5 * table["x0"].to_numpy() - 0.5)
        table = table.drop(columns="y").assign(time=rng.exponential(1 / hazard), dead=rng.uniform(size=80) < 0.8)
    if kind == "three":
        # Rows of one case have one outcome: cases are put together from rows that agree.
        table["patient"] = table["site"] + table["y"] + (table.groupby(["site", "y"]).cumcount() // 2).astype(str)
    return table


def fitted(name: str) -> tuple[pcg.Predictor, pd.DataFrame]:
    kind, formula, options = CASES[name]
    table = table_of(kind)
    model = pcg.Predictor(formula, batch="site", **{"features": FEATURES, "level": 0.7, **options})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PcgWarning)  # levels and sites are small on purpose
        return model.fit(table), table


@pytest.mark.parametrize("name", CASES)
def test_a_saved_predictor_is_the_same(name: str, tmp_path: Path) -> None:
    model, table = fitted(name)
    model.save(tmp_path / "model.pcg")
    again = pcg.load(tmp_path / "model.pcg")
    assert isinstance(again, pcg.Predictor)
    new = clinic(np.random.default_rng(3), 25, "number", "new").drop(columns="y").assign(patient=range(25))
    for rows in (new, table.drop(columns=["y", "time", "dead"], errors="ignore").iloc[:30]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PcgWarning)
            pd.testing.assert_frame_equal(model.predict(rows), again.predict(rows), check_exact=True)
    ours, theirs = model.validation, again.validation
    for part in ("by_site", "calibration", "overall", "net_benefit", "coverage", "sets", "comparison", "left_out"):
        pd.testing.assert_frame_equal(getattr(ours, part), getattr(theirs, part), check_exact=True)
    assert str(ours) == str(theirs)
    again.save(tmp_path / "again.pcg")
    assert (tmp_path / "again.pcg").read_bytes() == (tmp_path / "model.pcg").read_bytes()


def test_an_estimator_of_scikit_learn_is_refused_with_the_reason(tmp_path: Path) -> None:
    model = pcg.Predictor("y ~ 1", batch="site", features=FEATURES, estimator=LogisticRegression(), level=0.7)
    model.fit(clinics(K=4))
    with pytest.raises(ModelFileError, match=r"LogisticRegression cannot be saved: .* never a pickle"):
        model.save(tmp_path / "model.pcg")
    assert not (tmp_path / "model.pcg").exists()


def test_a_flow_inside_is_saved(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the flow needs torch, an extra")
    flow = pcg.FlowSCM("~ age", batch="site", flow="affine", base="normal", training={"held_out": 0.0, "max_epochs": 5})
    table = table_of("time").drop(columns=FEATURES[2:])
    model = pcg.Predictor("Surv(time, dead) ~ 1", batch="site", harmonizer=flow, horizons=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PcgWarning)  # a flow of five epochs says that it is none
        model.fit(table).save(tmp_path / "model.pcg")
        again = pcg.load(tmp_path / "model.pcg")
        assert isinstance(again, pcg.Predictor)
        new = clinic(np.random.default_rng(3), 15, "number", "new")
        pd.testing.assert_frame_equal(model.predict(new), again.predict(new), check_exact=True)


FORGERIES: dict[str, Any] = {
    "another outcome": lambda m: m["outcome"].update(name="z"),
    "one class": lambda m: m["outcome"].update(classes=["ill"]),
    "classes twice": lambda m: m["outcome"].update(classes=["ill", "ill"]),
    "classes that are no labels": lambda m: m["outcome"].update(classes=[["ill"], ["well"]]),
    "a kind that is none": lambda m: m["outcome"].update(kind="code"),
    "horizons": lambda m: m["outcome"].update(horizons=[1.0]),
    "another batch": lambda m: m["batch"].update(column="sex"),
    "a fold less": lambda m: m["folds"].pop(),
    "a fold too many": lambda m: m["folds"].append(m["folds"][0]),
    "no design": lambda m: m["folds"][1].update(design={}),
    "a level of 2": lambda m: m["params"].update(level=2),
    "a formula of code": lambda m: m["params"].update(formula="y ~ __import__('os')"),
    "no seed": lambda m: m["params"].pop("seed"),
    "an argument more": lambda m: m["params"].update(estimator="x"),
    "a harmonizer of another kind": lambda m: m["folds"][0].update(harmonizer={"kind": "x", "version": 1, "model": {}}),
    "two sites": lambda m: m["batch"].update(labels=["c0", "c1"]),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_file_is_refused(name: str, tmp_path: Path) -> None:
    model, _ = fitted("classes")
    path = tmp_path / "model.pcg"
    model.save(path)
    forge_model(path, FORGERIES[name])
    with pytest.raises(ModelFileError):
        pcg.load(path)


ARRAYS: dict[str, tuple[str, Any]] = {
    "coefficients of another shape": ("fold1.learner.coefficients", lambda a: a[:-1]),
    "coefficients that are no numbers": ("fold1.learner.coefficients", lambda a: a * np.nan),
    "no penalty": ("fold2.learner.penalty", None),
    "sites that are not there": ("evidence.site", lambda a: a + 1),
    "outcomes that are none": ("evidence.y", lambda a: a + 0.5),
    "fewer rows": ("evidence.left_out", lambda a: a[:-1]),
    "scores of fewer sites": ("evidence.pair_truth", lambda a: a[:, :-1]),
    "rows of fewer sites": ("site_rows", lambda a: a[:-1]),
    "features twice": ("features", lambda a: np.repeat(a[:1], a.size)),
    "an array more": ("extra", lambda a: a),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_forged_arrays_are_refused(name: str, tmp_path: Path) -> None:
    model, _ = fitted("classes")
    path = tmp_path / "model.pcg"
    model.save(path)
    array, change = ARRAYS[name]
    forge_arrays(path, **{array: change})
    with pytest.raises(ModelFileError):
        pcg.load(path)
