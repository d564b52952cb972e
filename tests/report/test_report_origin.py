"""Rows that are not those of the fit are not called so, and the code printed makes them all the same."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.report_cases import Page

import pycombat_gam as pcg
from pycombat_gam.report import Report, report
from pycombat_gam.report.methods import methods_text
from pycombat_gam.study.origin import FITTED, MASKED, OTHER, Origin

FEATURES = "_thickness$"


@functools.cache
def study() -> pd.DataFrame:
    return pcg.datasets.simulate_multisite(sites=3, subjects=90, features=6, visits=1, seed=5).table


@functools.cache
def model(masked: bool = False) -> pcg.ComBat:
    made = pcg.ComBat("~ age + sex" if masked else "~ s(age) + sex", batch="site", id="subject", features=FEATURES)
    return made.fit(study(), fit_mask=mask(study()) if masked else None)


def mask(table: pd.DataFrame) -> np.ndarray:
    return np.arange(len(table)) % 2 == 0


def names() -> list[str]:
    return [name for name in study() if name.endswith("_thickness")]


def origin(of: pcg.ComBat | pcg.FlowSCM, table: pd.DataFrame, fit_mask: object = None) -> Origin:
    return Origin.of(of, table, table, None, fit_mask)


def changed(column: str) -> pd.DataFrame:
    table = study().copy()
    table[column] = np.roll(table[column].to_numpy(), 1) if column in names() else table[column]
    if column == "age":
        table.loc[table.index[0], "age"] += 0.5
    return table


ROWS: dict[str, tuple[Any, str, str]] = {
    "the same": (study, FITTED, ""),
    "in another order": (lambda: study().sample(frac=1.0, random_state=1), FITTED, ""),
    "one fewer": (lambda: study().iloc[1:], OTHER, "52 rows, 53 in the fit"),
    "another age": (lambda: changed("age"), OTHER, "of age is"),
    "another sex": (lambda: study().assign(sex=study()["sex"].iloc[0]), OTHER, "sex has other groups"),
    "other values": (lambda: changed(names()[2]), OTHER, "has a different mean at site"),
    "another unit": (
        lambda: study().assign(**{name: 10 * study()[name] for name in names()}), OTHER, "has a different mean at site"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_told(name: str) -> None:
    make, kind, why = ROWS[name]
    found = origin(model(), make())
    assert found.kind == kind
    assert why in found.why
    assert bool(found.notes) == (kind == OTHER)


def test_a_model_and_a_table_from_files_are_those_they_were(tmp_path: Path) -> None:
    model().save(tmp_path / "model.pcg")
    study().to_csv(tmp_path / "table.csv", index=False)
    again = pcg.load(tmp_path / "model.pcg")
    assert isinstance(again, pcg.ComBat)
    assert origin(again, pd.read_csv(tmp_path / "table.csv")).kind == FITTED


def test_rows_that_a_mask_chose() -> None:
    table, fitted = study(), model(masked=True)
    chosen = mask(table)
    assert origin(fitted, table).kind == MASKED
    assert origin(fitted, table, chosen).kind == MASKED
    assert origin(fitted, table, ~chosen).kind == OTHER
    # By themselves they are the rows of the fit.
    assert origin(fitted, table[chosen]).kind == FITTED
    assert origin(fitted, table.iloc[1:]).kind == OTHER
    assert "the model does not store which" in origin(fitted, table).notes[0]


def test_flows_are_told_by_counts_and_covariates() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        flow = pcg.FlowSCM(
            "~ age + sex", batch="site", id="subject", features=FEATURES, training={"max_epochs": 1},
            flow_options={"variant": "residual"},
        ).fit(study(), progress=False)  # fmt: skip
    for name in ("the same", "in another order", "one fewer", "another age", "another sex"):
        make, kind, _ = ROWS[name]
        assert origin(flow, make()).kind == kind


def quick(of: pcg.ComBat, table: pd.DataFrame, fit_mask: object = None, held_out: bool = False) -> Report:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        after = of.transform(table)
        diagnosis = pcg.diagnose(table, after, model=of, permutations=19, held_out=held_out, fit_mask=fit_mask)
        return report(of, table, after, diagnosis=diagnosis, fit_mask=fit_mask)


def ran(found: Report, **given: object) -> pd.DataFrame:
    """What the code printed makes of the tables given."""
    scope = dict(given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        exec(found.sections[-1].parts[0].text.split("report =")[0], scope)
    made = scope["harmonized"]
    assert isinstance(made, pd.DataFrame)
    return made


def test_a_report_on_other_rows_says_so_everywhere() -> None:
    table = study().iloc[1:]
    found = quick(model(), table, held_out=True)
    assert found.about.endswith("89 rows, 3 sites, 6 features; fitted to another table, of 90 rows")
    after = found.verdict[1].text
    assert after.startswith("These rows are not the table that the model was fitted to.")
    assert "In the rows that estimated" not in after
    assert "fitted to others of these rows" in after
    text = " ".join(Page(found.to_html()).texts)
    assert "on 6 features of 89 rows at 3 sites" in text
    assert "The model was fitted to another table, of 90 rows at 3 sites." in text
    assert "Figures called after are of rows harmonized by a model that was fitted to another table." in text
    assert "All these models were fitted to rows of this table" in text
    assert "these 89 rows are not the table that the model was fitted to, which had 90 rows" in text
    assert "SHA-256 of what the fit saw of the table" in text
    pd.testing.assert_frame_equal(ran(found, table_of_fit=study(), table=table), model().transform(table))


def test_a_report_on_the_rows_of_the_fit_claims_them() -> None:
    found = quick(model(), study())
    assert found.about.endswith("90 rows, 3 sites, 6 features")
    assert found.verdict[1].text.startswith("In the rows that estimated the site effects")
    assert "another table" not in " ".join(Page(found.to_html()).texts)
    pd.testing.assert_frame_equal(ran(found, table=study()), model().transform(study()))


def test_a_report_with_a_mask() -> None:
    fitted, table = model(masked=True), study()
    chosen = mask(table)
    found = quick(fitted, table, chosen, held_out=True)
    text = " ".join(Page(found.to_html()).texts)
    assert found.verdict[1].text.startswith("Of these rows, 45 estimated the site effects; in those, agreement is")
    assert "estimated from 45 of the 90 rows (fit_mask), and all rows were adjusted" in text
    assert "All these models were fitted to rows of fit_mask only" in text
    assert "all rows, those that estimated the site effects among them" in text
    assert "pcg.report(model, table, harmonized, fit_mask=fit_mask, seed=0)" in text
    pd.testing.assert_frame_equal(ran(found, table=table, fit_mask=chosen), fitted.transform(table))
    some = quick(fitted, table[chosen])
    assert "on 6 features of 45 rows at 3 sites" in methods_text(fitted, origin=origin(fitted, table[chosen]))
    pd.testing.assert_frame_equal(ran(some, table=table[chosen]), fitted.transform(table[chosen]))
    fewer = quick(fitted, table.iloc[1:])
    assert "of 90 rows at 3 sites, 45 of which estimated (fit_mask)" in " ".join(Page(fewer.to_html()).texts)
    expected = fitted.transform(table.iloc[1:])
    pd.testing.assert_frame_equal(ran(fewer, table_of_fit=table, table=table.iloc[1:], fit_mask=chosen), expected)


def test_sites_that_the_fit_did_not_know() -> None:
    table = study()
    first = table["site"] == table["site"].iloc[0]
    fitted = pcg.ComBat("~ age", batch="site", id="subject", features=FEATURES, on_unseen="estimate").fit(table[~first])
    found = origin(fitted, table)
    label = str(table["site"].iloc[0])
    assert (found.kind, found.unseen) == (OTHER, (label,))
    assert f"effects of sites not in the fit were estimated from these rows: {label}" in found.notes[0]
    text = methods_text(fitted, origin=found)
    assert "The effects of 1 site not in that table were estimated from these rows." in text
