"""`pycombat-gam test` and `interval`: what Python's methods give, from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.unequal_sites import unequal_sites
from typer.testing import CliRunner

import pycombat_gam as pcg
from pycombat_gam.cli import app
from pycombat_gam.tables.files import EXACT_FLOATS


def command(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def saved(tmp_path: Path) -> tuple[pcg.ComBat, Path, Path]:
    study = unequal_sites(V=6)
    model = pcg.ComBat("~ age + sex + dx", batch="site", features="^f[0-9]$")
    model.fit_transform(study.table).to_csv(tmp_path / "harmonized.csv", index=False)
    model.save(tmp_path / "model.pcg")
    return model, tmp_path / "model.pcg", tmp_path / "harmonized.csv"


def written(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, **EXACT_FLOATS)


def test_terms_are_tested_and_written(saved: tuple[pcg.ComBat, Path, Path], tmp_path: Path) -> None:
    model, file, _ = saved
    result = command("test", file, "--terms", "dx", "--terms", "age", "--out", tmp_path / "effects.csv")
    assert result.exit_code == 0, result.output
    expected = model.test("dx", "age")
    assert result.stdout == f"{expected}\n"
    pd.testing.assert_frame_equal(
        written(tmp_path / "effects.csv"), expected.table, check_exact=True, check_dtype=False
    )
    again = command("test", file, "--out", tmp_path / "effects.csv")
    assert again.exit_code == 2 and "use --force to overwrite" in again.stderr


def test_options_reach_the_test(saved: tuple[pcg.ComBat, Path, Path], tmp_path: Path) -> None:
    model, file, _ = saved
    flags = ["--weights", "equal", "--variance", "pooled", "--level", 0.9]
    assert command("test", file, *flags, "--out", tmp_path / "effects.csv").exit_code == 0
    expected = model.test(weights=None, variance="pooled", level=0.9).table
    pd.testing.assert_frame_equal(written(tmp_path / "effects.csv"), expected, check_exact=True, check_dtype=False)


def test_a_contrast_is_read(saved: tuple[pcg.ComBat, Path, Path]) -> None:
    model, file, _ = saved
    result = command("test", file, "--contrast", "dx[HC]=1, age=-30")
    assert result.stdout == f"{model.contrast({'dx[HC]': 1.0, 'age': -30.0})}\n"


def test_rows_are_tested_by_another_formula(saved: tuple[pcg.ComBat, Path, Path], tmp_path: Path) -> None:
    model, file, table = saved
    flags = ["--data", table, "--formula", "~ age + dx", "--variance", "hc3", "--out", tmp_path / "later.csv"]
    result = command("test", file, *flags)
    assert result.exit_code == 0, result.output
    assert "the harmonization kept sex" in result.stderr
    with pytest.warns(pcg.PcgWarning):
        expected = pcg.later_test(model, "~ age + dx", written(table), variance="hc3").table
    pd.testing.assert_frame_equal(written(tmp_path / "later.csv"), expected, check_exact=True, check_dtype=False)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--terms", "dxx"], "'dxx' is no term"),
        (["--formula", "~ age"], "--formula and --state are of the rows that --data names"),
        (["--contrast", "age"], "--contrast has 'age': give weights such as"),
        (["--contrast", "age=1", "--terms", "age"], "--contrast takes the place of"),
        (["--variance", "hc3"], "needs the rows"),
        (["--out", "effects.xlsx"], "effects.xlsx"),
    ],
)
def test_what_cannot_be_answered_ends_in_one_line(
    saved: tuple[pcg.ComBat, Path, Path], flags: list[str], message: str
) -> None:
    result = command("test", saved[1], *flags)
    assert result.exit_code == 2
    assert message in result.stderr and result.stderr.count("\n") == 1


def test_harmonize_writes_the_tests_of_all_terms(tmp_path: Path) -> None:
    study = unequal_sites(V=6)
    study.table.to_csv(tmp_path / "data.csv", index=False)
    flags = ["--batch", "site", "--features", "^f[0-9]$", "--no-report"]
    result = command("harmonize", tmp_path / "data.csv", *flags, "--formula", "~ age + dx", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    expected = pcg.load(tmp_path / "out" / "model.pcg").test().table
    made = written(tmp_path / "out" / "effects.csv")
    pd.testing.assert_frame_equal(made, expected, check_exact=True, check_dtype=False)
    bare = command("harmonize", tmp_path / "data.csv", *flags, "--out", tmp_path / "bare")
    assert bare.exit_code == 0 and not (tmp_path / "bare" / "effects.csv").exists()


def test_intervals_are_written(saved: tuple[pcg.ComBat, Path, Path], tmp_path: Path) -> None:
    model, file, table = saved
    flags = ["--level", 0.9, "--draws", 60, "--seed", 3, "--out", tmp_path / "intervals.csv"]
    result = command("interval", file, table, *flags)
    assert result.exit_code == 0, result.output
    expected = model.interval(written(table), 0.9, 60, 3)
    expected["row"] += 2  # lines of the file, the first of them the header
    made = written(tmp_path / "intervals.csv")
    pd.testing.assert_frame_equal(made, expected, check_exact=True, check_dtype=False)
    assert "use --force to overwrite" in command("interval", file, table, *flags).stderr
    moved = written(table).assign(site="elsewhere")
    moved.to_csv(tmp_path / "moved.csv", index=False)
    refused = command("interval", file, tmp_path / "moved.csv", "--out", tmp_path / "new.csv")
    assert refused.exit_code == 2 and "elsewhere was not in the fit" in refused.stderr
    flags = ["--on-unseen", "estimate", "--draws", 60, "--out", tmp_path / "new.csv"]
    assert command("interval", file, tmp_path / "moved.csv", *flags).exit_code == 0
    assert len(written(tmp_path / "new.csv")) == 6 * len(moved)
