"""Text files that are not quite tables of ours: each message names what is there and the way forward."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.study import FEATURES, study
from typer.testing import CliRunner

import pycombat_gam as pcg
from pycombat_gam.cli import app
from pycombat_gam.errors import DataError
from pycombat_gam.tables.files import read_table

TABLE = study()
CSV = TABLE.to_csv(index=False)


def said(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_table(path)
    return str(caught.value)


# Separators

OTHERS = {
    "read.csv2": ("a.csv", TABLE.to_csv(index=False, sep=";", decimal=","), "';'", "sep=';', decimal=','"),
    "semicolons": ("a.csv", TABLE.to_csv(index=False, sep=";"), "';'", "sep=';'"),
    "semicolons in .tsv": ("a.tsv", TABLE.to_csv(index=False, sep=";"), "';'", "sep=';'"),
    "a name with a comma": ("a.csv", CSV.replace(",", ";").replace("dx", "dx, now"), "';'", "sep=';'"),
    "bars": ("a.csv", TABLE.to_csv(index=False, sep="|"), "'|'", "sep='|'"),
    "spaces": ("a.txt", TABLE.to_csv(index=False, sep=" "), "' '", r"sep=r'\s+'"),
    "write.table": ("a.txt", TABLE.to_csv(sep=" ", index_label=False), "' '", r"sep=r'\s+'"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_separator_is_named_and_the_given_python_makes_a_table(name: str, tmp_path: Path) -> None:
    file, text, mark, options = OTHERS[name]
    message = said(tmp_path / file, text)
    assert f"is separated by {mark}, but its name says" in message
    assert f"pandas.read_csv(f, {options}).to_csv('new.csv', index=False)" in message
    assert "write.csv(" in message
    keywords = dict(re.findall(r"(\w+)=r?'([^']*)'", options))
    pd.read_csv(tmp_path / file, **keywords).to_csv(tmp_path / "new.csv", index=False)
    again = read_table(tmp_path / "new.csv").table
    np.testing.assert_array_equal(again[FEATURES], TABLE[FEATURES])


@pytest.mark.parametrize(
    ("file", "mark", "new"),
    [("a.csv", "\t", "a.tsv"), ("a.tsv", ",", "a.csv"), ("a b.txt", ",", "a b.csv")],
    ids=["tabs", "commas", "commas in .txt"],
)
def test_a_name_that_says_another_separator(file: str, mark: str, new: str, tmp_path: Path) -> None:
    message = said(tmp_path / file, TABLE.to_csv(index=False, sep=mark))
    assert message.endswith(
        f"is separated by {mark!r}, but its name says {',' if mark != ',' else chr(9)!r}: rename it to '{new}'"
    )
    (tmp_path / file).rename(tmp_path / new)
    assert read_table(tmp_path / new).table.shape == TABLE.shape


def test_marks_inside_cells_are_no_separators(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TABLE.assign(note="a; b | c\td e").to_csv(index=False))
    assert read_table(tmp_path / "a.csv").table.shape == (21, 10)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_the_first_line_of_excel(mark: str, tmp_path: Path) -> None:
    message = said(tmp_path / "a.csv", f"sep={mark}\n{CSV}")
    assert "Excel's line 'sep=" in message
    assert message.endswith("delete that line")


def test_a_column_without_a_name_is_blamed_on_row_names_only_where_they_stand(tmp_path: Path) -> None:
    assert "row.names=FALSE" in said(tmp_path / "a.csv", TABLE.to_csv())
    last = said(tmp_path / "a.csv", CSV.replace("\n", ",\n"))
    assert "column 10 has no name" in last
    assert "row.names" not in last


def test_an_empty_first_line(tmp_path: Path) -> None:
    assert "begins with an empty line" in said(tmp_path / "a.csv", f"\n{CSV}")


# Spaces around names


@pytest.mark.parametrize("options", [["--batch", "site"], ["--batch", " site", "--id", "subject"]])
def test_spaces_around_names_are_shown(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV.replace(",", ", ").replace("subject", " subject"))
    result = CliRunner().invoke(app, ["audit", str(tmp_path / "a.csv"), *options])
    assert result.exit_code == 2
    assert f"' {options[-1]}' has spaces around its name: remove them" in result.stderr
    assert "' thick'" in result.stderr


# Lines


def line_of(text: str, cell: str) -> int:
    """The line of a text without multi-line cells that holds a cell."""
    return next(number for number, line in enumerate(text.splitlines(), start=1) if cell in line)


@pytest.mark.parametrize("row", [0, 7, 20])
def test_a_cell_is_named_by_its_line(row: int, tmp_path: Path) -> None:
    spoiled = TABLE.astype({"area": object})
    spoiled.loc[row, "area"] = "OOPS"
    text = spoiled.to_csv(index=False)
    (tmp_path / "a.csv").write_text(text)
    call = ["audit", str(tmp_path / "a.csv"), "--batch", "site", "--features", "area"]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 2
    assert f"in 1 row (line {line_of(text, 'OOPS')})" in result.stderr
    assert "index" not in result.stderr


def test_empty_lines_count_and_lines_within_a_cell_do_not(tmp_path: Path) -> None:
    """As a spreadsheet shows it: a row for each record."""
    lines = TABLE.assign(note='two\nlines, "quoted"', area="7.5").to_csv(index=False).split("\n")
    lines[3:3] = ["", ""]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    index = read_table(tmp_path / "a.csv").table.index
    with (tmp_path / "a.csv").open(newline="") as stream:
        import csv

        expected = [number for number, cells in enumerate(csv.reader(stream), start=1) if cells][1:]
    assert index.tolist() == expected
    assert index.name == "line"


@pytest.mark.parametrize(
    ("spoil", "options"),
    [
        (lambda t: t.assign(site=t["site"].where(t.index != 5)), ["--batch", "site"]),
        (lambda t: t.assign(subject=t["subject"].where(t.index != 5)), ["--batch", "site", "--id", "subject"]),
        (lambda t: t.assign(age=t["age"].where(t.index != 5)), ["--batch", "site", "--formula", "~ age"]),
        (lambda t: t.assign(age=t["age"].where(t.index != 5, np.inf)), ["--batch", "site", "--formula", "~ age"]),
    ],
    ids=["batch", "id", "covariate", "infinite covariate"],
)
def test_every_message_names_lines(spoil: Any, options: list[str], tmp_path: Path) -> None:
    spoil(TABLE).to_csv(tmp_path / "a.csv", index=False)
    call = [
        "harmonize",
        str(tmp_path / "a.csv"),
        *options,
        "--features",
        "^(thick|vol)$",
        "--out",
        str(tmp_path / "out"),
    ]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 2
    assert "1 row (line 7)" in result.stderr


def test_lines_are_no_labels_of_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV)
    model = pcg.ComBat("~ age", batch="site", id="subject", features=FEATURES).fit(TABLE)
    model.save(tmp_path / "m.pcg")
    for ending in (".parquet", ".csv"):
        call = ["apply", str(tmp_path / "m.pcg"), str(tmp_path / "a.csv"), "--out", str(tmp_path / f"new{ending}")]
        assert CliRunner().invoke(app, call).exit_code == 0
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "new.parquet"), model.transform(TABLE), check_exact=True)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "new.csv"), model.transform(TABLE), check_exact=True)


def test_parquet_keeps_its_own_labels(tmp_path: Path) -> None:
    spoiled = TABLE.set_index(pd.Index([f"scan {i}" for i in range(21)], name="scan"))
    spoiled.loc["scan 4", "age"] = np.nan
    spoiled.to_parquet(tmp_path / "a.parquet")
    call = ["harmonize", str(tmp_path / "a.parquet"), "--batch", "site", "--formula", "~ age", "--out", str(tmp_path)]
    assert "1 row (scan scan 4)" in CliRunner().invoke(app, call).stderr
