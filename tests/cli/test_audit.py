"""`pycombat-gam audit`: what Python prints, and an exit status that a script can go by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.planted import FORMULA, clean
from typer.testing import CliRunner

import pycombat_gam as pcg
from pycombat_gam.cli import app


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    clean().to_csv(tmp_path / "data.csv", index=False)
    return tmp_path / "data.csv"


def test_a_clean_table(data: Path) -> None:
    result = run(data, "--batch", "site", "--formula", FORMULA, "--id", "subject", "--features", "^f")
    assert result.exit_code == 0
    assert "Nothing found." in result.stdout
    expected = pcg.audit(clean(), FORMULA, batch="site", id=["subject"], features="^f")
    assert result.stdout == f"{expected}\n"


def test_a_caution_is_no_failure(tmp_path: Path) -> None:
    table = clean()
    table[table["site"] != "Oslo"].to_csv(tmp_path / "most.csv", index=False)
    table.assign(c=1.0).to_csv(tmp_path / "constant.csv", index=False)
    result = run(tmp_path / "constant.csv", "--batch", "site", "--id", "subject")
    assert result.exit_code == 0
    assert "'c' (always 1)" in result.stdout


def test_a_problem_exits_with_1(tmp_path: Path) -> None:
    table = clean()
    table["dx"] = np.where(table["site"] == "Lyon", "patient", "control")
    table.to_csv(tmp_path / "data.csv", index=False)
    result = run(tmp_path / "data.csv", "--batch", "site", "--formula", "~ age + dx", "--id", "subject")
    assert result.exit_code == 1
    assert "'dx' is confounded with site: all 40 rows with 'patient' are at 'Lyon'" in result.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--batch", "centre"], "centre"),
        (["--batch", "site", "--formula", "~ agee"], "did you mean 'age'"),
        (["--batch", "site", "--formula", "age"], "no '~'"),
        (["--batch", "site", "--features", "^nothing$"], "matches no column"),
    ],
    ids=["batch", "variable", "formula", "features"],
)
def test_bad_input_exits_with_2_and_one_line(data: Path, options: list[str], words: str) -> None:
    result = run(data, *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_no_file(tmp_path: Path) -> None:
    assert run(tmp_path / "none.csv", "--batch", "site").exit_code == 2
