"""Nobody asks which class a model is, and whose rows a table has is told without a fit."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.study import FEATURES, study

import pycombat_gam as pcg
from pycombat_gam.errors import DataError
from pycombat_gam.study.harmonizer import is_harmonizer
from pycombat_gam.study.origin import FITTED, OTHER, Origin
from pycombat_gam.study.rows import check_same_rows

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("study", "audit", "diagnose", "plot", "report", "cli")
CLASSES = {"ComBat", "FlowSCM"}
QUESTIONS = {"isinstance", "issubclass", "type"}


def asks_for_a_class(node: ast.AST) -> bool:
    """Tell whether code asks whether something is of one of the two classes."""
    if isinstance(node, ast.Compare):
        names = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
        return bool(names & CLASSES) and "type" in names
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in QUESTIONS):
        return False
    return any(isinstance(name, ast.Name) and name.id in CLASSES for of in node.args[1:] for name in ast.walk(of))


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_asks_which_class_a_model_is(room: str) -> None:
    for path in (ROOT / "pycombat_gam" / room).rglob("*.py"):
        asked = [node for node in ast.walk(ast.parse(path.read_text())) if asks_for_a_class(node)]
        assert not asked, path


def test_what_is_a_harmonizer() -> None:
    assert is_harmonizer(pcg.ComBat())
    assert not any(map(is_harmonizer, (pcg.ComBat, study(), pd.DataFrame({"kind": ["combat"]}), None)))


def fitted(**options: Any) -> pcg.ComBat:
    return pcg.ComBat("~ age", batch="site", id="subject", features=FEATURES, **options).fit(study())


def origin(model: pcg.ComBat, table: pd.DataFrame) -> Origin:
    return Origin.of(model, table, table, None)


def test_nothing_is_fitted_to_tell_whose_rows_these_are(monkeypatch: pytest.MonkeyPatch) -> None:
    model, table = fitted(), study()
    other = table.assign(vol=np.roll(table["vol"].to_numpy(), 1))

    def stop(*_: object, **__: object) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(pcg.ComBat, "fit", stop)
    assert origin(model, table).kind == FITTED
    assert origin(model, other).kind == OTHER
    assert origin(model, other).why.startswith("vol has a different mean at site")


def test_a_change_that_keeps_every_mean_is_seen() -> None:
    """Two values of a site drawn apart: its mean stays, its variance does not."""
    table = study().assign(age=40.0)
    model = pcg.ComBat("~ 1", batch="site", id="subject", features=FEATURES).fit(table)
    first = np.flatnonzero(table["site"] == "Oslo")[:2]
    place = table.columns.get_loc("area")
    changed = table.copy()
    changed.iloc[first, place] = table.iloc[first, place].to_numpy() + np.array([7.0, -7.0])
    assert origin(model, changed).why == "area has a different variance at site Oslo than in the fit"


def test_digits_that_a_file_loses_make_no_other_table() -> None:
    """Twelve digits of a value are within 1e-5 pooled standard deviations, the agreement asked for."""
    table = study()
    table[FEATURES] = table[FEATURES].map(lambda value: float(f"{value:.12g}"))
    assert origin(fitted(), table).kind == FITTED


def test_missing_cells_elsewhere_are_other_rows() -> None:
    table = study()
    table.loc[table.index[0], "vol"] = np.nan
    model = pcg.ComBat("~ age", batch="site", id="subject", features=FEATURES, missing="omit").fit(table)
    assert origin(model, table).kind == FITTED
    assert "number of observed cells" in origin(model, study()).why


def test_a_model_of_format_1_knows_its_rows() -> None:
    """The mean and variance of every feature at every site are in the oldest files too."""
    model = pcg.load(ROOT / "tests" / "golden" / "combat-1.pcg")
    assert isinstance(model, pcg.ComBat)
    table = pcg.datasets.load_multisite()
    assert origin(model, table).kind == FITTED
    name = model.get_feature_names_out()[0]
    assert origin(model, table.assign(**{name: table[name].to_numpy()[::-1]})).kind == OTHER


def test_rows_in_another_order_are_refused_by_report_diagnosis_and_pictures() -> None:
    model, table = fitted(), study()
    after = model.transform(table).iloc[::-1]
    for look in (
        lambda: pcg.report(model, table, after),
        lambda: pcg.diagnose(table, after, model=model),
        lambda: pcg.plot.components(table, after, batch="site", features=FEATURES),
    ):
        with pytest.raises(DataError, match="before and after have different rows, in 20 rows"):
            look()
    with pytest.raises(DataError, match="before has 21 rows, after 20: give the same rows"):
        check_same_rows(table, after.iloc[1:])
    with pytest.raises(DataError, match=r"in 1 row \(index 3\)"):
        check_same_rows(table, table.assign(subject=table["subject"].where(table.index != 3, "x")), ["subject"])
    check_same_rows(table, after.assign(subject=table["subject"].to_numpy()), ["subject"], labelled=False)
