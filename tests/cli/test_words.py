"""What the command line says: defaults in help, options spelled as the shell has them, what was done about cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from helpers.planted import clean
from typer.testing import CliRunner

from pycombat_gam.cli import app, flows
from r_bridge.cli import crosscheck

CELLS = "each feature was fitted on its observed cells"


def flat(text: str) -> str:
    """Words alone: help is set in boxes."""
    return " ".join(text.replace("│", " ").split())


def holed() -> pd.DataFrame:
    table = clean()
    table.loc[[3, 9, 30], "f2"] = np.nan
    return table


@pytest.mark.parametrize("command", ["audit", "harmonize", "flow"])
def test_help_names_what_features_are_by_default(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert "[default: (every numeric column not named elsewhere)]" in flat(shown.stdout)


def test_help_of_crosscheck_too() -> None:
    alone = typer.Typer()
    alone.command()(crosscheck)
    shown = CliRunner().invoke(alone, ["--help"], env={"COLUMNS": "200"})
    assert "[default: (every numeric column not named elsewhere)]" in flat(shown.stdout)


@pytest.mark.parametrize("command", ["audit", "harmonize", "flow"])
def test_help_says_what_a_problem_does_to_the_exit(command: str) -> None:
    words = flat(CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).stdout)
    if command == "audit":
        assert "with 1 if there is one; harmonize and flow report problems and go on" in words
    else:
        assert "don't stop it (exit 0); to stop at them, run audit first (exit 1)" in words


def test_missing_cells_are_told_by_what_was_done(tmp_path: Path) -> None:
    holed().to_csv(tmp_path / "data.csv", index=False)
    call = ["harmonize", str(tmp_path / "data.csv"), "--batch", "site", "--id", "subject", "--features", "^f"]
    stopped = CliRunner().invoke(app, [*call, "--out", str(tmp_path / "a")])
    assert stopped.exit_code == 2
    assert "use --missing omit (each feature" in stopped.stderr
    assert "missing='omit'" not in stopped.stderr
    done = CliRunner().invoke(app, [*call, "--out", str(tmp_path / "b"), "--missing", "omit", "--no-report"])
    assert done.exit_code == 0
    assert f"3 missing cells in 1 feature: 'f2' (3 of {len(clean())}); {CELLS}" in flat(done.stderr)
    assert "needs" not in done.stderr


def test_what_needs_omit_is_an_option_in_the_shell(tmp_path: Path) -> None:
    table = holed()
    table.loc[(table["site"] == "Lyon") & (np.arange(len(table)) > 0), "f2"] = np.nan
    lyon = table.index[table["site"] == "Lyon"]
    table.loc[lyon[0], "f2"] = 1.0
    table.to_csv(tmp_path / "data.csv", index=False)
    call = ["harmonize", str(tmp_path / "data.csv"), "--batch", "site", "--id", "subject", "--features", "^f"]
    done = CliRunner().invoke(app, [*call, "--out", str(tmp_path / "b"), "--missing", "omit", "--no-report"])
    assert done.exit_code == 0, done.stderr
    assert f"'f2' at 'Lyon' (1 of 40); {CELLS}, and no scale can be estimated there" in flat(done.stderr)


def test_a_batch_that_is_not_there_was_given_in_the_shell(tmp_path: Path) -> None:
    clean().to_csv(tmp_path / "data.csv", index=False)
    result = CliRunner().invoke(app, ["audit", str(tmp_path / "data.csv"), "--batch", "batch"])
    assert result.exit_code == 2
    assert "batch=" not in result.stderr


def test_enumerations_are_those_of_the_flow() -> None:
    from pycombat_gam.flow.arguments import FLOWS
    from pycombat_gam.flow.mechanisms.density import BASES
    from pycombat_gam.flow.mechanisms.structured import VARIANTS

    assert [one.value for one in flows.Family] == list(FLOWS)
    assert [one.value for one in flows.Variant] == ["auto", *VARIANTS]
    assert {one.value for one in flows.Base} == set(BASES)
