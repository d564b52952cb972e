"""What `harmonize`, `flow` and `demo` write beside the table: the report's figures are those of the Python API."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from helpers.reference import ROOT, needs_reference
from helpers.report_cases import Page, markdown_tables
from helpers.study import FEATURES, study
from typer.testing import CliRunner

import pycombat_gam as pcg
from pycombat_gam.cli import app
from pycombat_gam.report.cells import visible

FORMULA = "~ s(age) + sex + dx"
THICKNESS = "_thickness$"


def harmonize(data: Path, out: Path, *more: str, formula: str = FORMULA, features: str = THICKNESS) -> str:
    arguments = ["harmonize", str(data), "--formula", formula, "--batch", "site", "--id", "subject"]
    result = CliRunner().invoke(app, [*arguments, "--features", features, "--out", str(out), *more])
    assert result.exit_code == 0, result.output
    return result.stderr


def check_figures(out: Path, table: pd.DataFrame, model: pcg.ComBat) -> pcg.Diagnosis:
    """Hold every table of the page and of the Markdown against audit, diagnose and estimates of the same call."""
    harmonized = model.fit_transform(table)
    audit = pcg.audit(table, model.formula, model.batch, features=model.features, id=model.id)
    diagnosis = pcg.diagnose(table, harmonized, model=model)
    expected = pcg.report(model, table, harmonized, audit=audit, diagnosis=diagnosis).tables
    page = Page((out / "report.html").read_text(encoding="utf-8"))
    markdown = markdown_tables((out / "report.md").read_text(encoding="utf-8"))
    assert len(page.tables) == len(markdown) == len(expected)
    for shown, listed, frame in zip(page.tables.values(), markdown, expected.values(), strict=True):
        assert shown.header == listed[0] == [visible(column) for column in frame.columns]
        assert len(shown.rows) == len(listed) - 1 == len(frame)
        for at, row in enumerate(shown.rows):
            assert [text for text, _ in row] == listed[at + 1]
            for column, (text, value) in enumerate(row):
                given = frame.iat[at, column]
                if value is None:
                    assert text in (visible(given), "–", "yes", "no")
                else:
                    assert math.isnan(given) if value == "" else float(value) == given, (frame.columns[column], at)
    pd.testing.assert_frame_equal(expected["summary"], diagnosis.summary)
    text = (out / "report.md").read_text(encoding="utf-8")
    for name, frame in audit.tables.items():
        if len(frame):
            pd.testing.assert_frame_equal(expected[f"audit-{name}"], frame)
    share = diagnosis.summary.loc[0]
    for state in ("before", "after"):
        assert f"{100 * share[state]:.3g} % of the features by ANOVA" in text
    return diagnosis


def test_packaged_table(tmp_path: Path) -> None:
    table = pcg.datasets.load_multisite()
    table.to_csv(tmp_path / "data.csv", index=False)
    said = harmonize(tmp_path / "data.csv", tmp_path / "out")
    assert "Audit, caution: Testing 's(age)' later without site would be too liberal" in said
    assert f"report            {tmp_path / 'out' / 'report.html'}" in said
    check_figures(tmp_path / "out", table, pcg.ComBat(FORMULA, "site", features=THICKNESS, id="subject"))
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["seeds"] == {"seed": 0}
    assert {"report.html", "report.md"} < set(record["files"])
    assert {"matplotlib", "scikit-learn", "statsmodels"} < set(record["versions"])
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert record["input"]["sha256"] in page


@needs_reference
def test_abide(tmp_path: Path) -> None:
    """All 70 thicknesses; before at least 95 % of them differ between sites, after at most 5 %, in the report too."""
    source = ROOT / "inputs" / "abide_dk.csv.gz"
    harmonize(source, tmp_path / "out")
    table = pd.read_csv(source)
    model = pcg.ComBat(FORMULA, "site", features=THICKNESS, id="subject")
    summary = check_figures(tmp_path / "out", table, model).summary
    anova = summary[(summary["measure"] == "ANOVA") & summary["quantity"].str.startswith("share")].iloc[0]
    assert anova["before"] >= 0.95
    assert anova["after"] <= 0.05
    assert (tmp_path / "out" / "report.html").stat().st_size < 5e6


def test_no_report_on_request_and_one_of_an_earlier_run_is_named(tmp_path: Path) -> None:
    study().to_csv(tmp_path / "data.csv", index=False)
    regex = f"^({'|'.join(FEATURES)})$"
    harmonize(tmp_path / "data.csv", tmp_path / "out", formula="~ age", features=regex)
    said = harmonize(tmp_path / "data.csv", tmp_path / "out", "--no-report", "--force", formula="~ age", features=regex)
    assert "report.html, report.md in" in said and "is of an earlier run" in said
    assert "Audit, caution: Site 'Lyon' has 8 subjects" in said
    assert json.loads((tmp_path / "out" / "run.json").read_text())["seeds"] == {}


@pytest.mark.parametrize("seed", [0, 5])
def test_the_seed_is_the_reports(seed: int, tmp_path: Path) -> None:
    study().to_csv(tmp_path / "data.csv", index=False)
    harmonize(
        tmp_path / "data.csv", tmp_path / "out", "--seed", str(seed), formula="~ age", features="^(thick|area|vol)$"
    )
    table = study()
    model = pcg.ComBat("~ age", "site", features="^(thick|area|vol)$", id="subject")
    found = pcg.diagnose(table, model.fit_transform(table), model=model, seed=seed)
    shown = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).tables
    values = [float(row[-3][1] or "nan") for row in shown["summary"].rows]
    assert values == pytest.approx(found.summary["before"].tolist(), nan_ok=True, rel=0, abs=0)


def test_flow_writes_a_report_too(tmp_path: Path) -> None:
    study().to_csv(tmp_path / "data.csv", index=False)
    arguments = ["flow", str(tmp_path / "data.csv"), "--batch", "site", "--id", "subject", "--formula", "~ age"]
    arguments += ["--features", "^(thick|area)$", "--variant", "residual", "--epochs", "2", "--to", "Oslo"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "Oslo" in text and "Wang" in text
    assert (tmp_path / "out" / "report.html").is_file()
