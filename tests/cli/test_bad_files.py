"""Bad input on the command line: exit 2, one plain line on stderr that names the file and the culprit, no traceback."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from helpers.study import study

import pycombat_gam as pcg
from pycombat_gam.cli import main

REGEX = "^(thick|area|vol|depth)$"
GOOD = ["--batch", "site", "--id", "subject", "--features", REGEX, "--formula", "~ age"]


class Outcome(NamedTuple):
    code: int
    stdout: str
    stderr: str


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Outcome]:
    """Run the program's `main` in a folder that holds good data and a good model."""
    study().to_csv(tmp_path / "data.csv", index=False)
    pcg.ComBat("~ age", batch="site", id="subject", features=REGEX).fit(study()).save(tmp_path / "model.pcg")
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["pycombat-gam", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        return Outcome(code if isinstance(code, int) else -1, *capsys.readouterr())

    return call


def one_line(outcome: Outcome, *says: str) -> None:
    assert outcome.code == 2, outcome
    assert outcome.stdout == ""
    lines = [line for line in outcome.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, outcome.stderr
    assert lines[0].startswith("Error: ")
    for words in says:
        assert words in lines[0], lines[0]
    assert not {"Traceback", "\x1b", "╭"} & set(lines[0].split())


CSV = study().to_csv(index=False)
LINES = CSV.splitlines()


def with_line(number: int, line: str) -> bytes:
    return "\n".join([*LINES[:number], line, *LINES[number + 1 :], ""]).encode()


FILES: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "empty": ("data.csv", b"", ("data.csv", "empty")),
    "blank lines only": ("data.csv", b"\n\n\n", ("data.csv",)),
    "header only": ("data.csv", f"{LINES[0]}\n".encode(), ("data.csv", "header but no rows")),
    "Latin-1": ("data.csv", CSV.replace("Lyon", "Orléans").encode("latin-1"), ("not UTF-8", "save it as UTF-8")),
    "UTF-16": ("data.csv", CSV.encode("utf-16"), ("not UTF-8",)),
    "row too short": ("data.csv", with_line(4, LINES[4].rsplit(",", 1)[0]), ("row 5 has 8 cells", "the header 9")),
    "row too long": ("data.csv", with_line(4, LINES[4] + ",7"), ("row 5 has 10 cells", "the header 9")),
    "all rows too long": ("data.csv", CSV.replace("\n", ",\n").replace(",\n", "\n", 1).encode(), ("row 2 has 10",)),
    "decimal commas": ("data.csv", with_line(4, LINES[4].replace(".", ",", 1)), ("row 5 has 10 cells",)),
    "quote left open": ("data.csv", with_line(4, '"' + LINES[4]), ("data.csv",)),
    "columns twice": ("data.csv", CSV.replace("dx", "age", 1).encode(), ("duplicated columns: 'age'", "rename")),
    "column without a name": ("data.csv", CSV.replace("subject", "", 1).encode(), ("column 1 has no name",)),
    "semicolons": ("data.csv", CSV.replace(",", ";").encode(), ("separated by ';'", "','")),
    "tabs in a .csv": ("data.csv", CSV.replace(",", "\t").encode(), ("separated by '\\t'",)),
    "a word among numbers": ("data.csv", CSV.replace(LINES[4].split(",")[6], "bad").encode(), ("'area'", "'bad'")),
    "infinity among numbers": ("data.csv", CSV.replace(LINES[4].split(",")[6], "inf").encode(), ("'area'", "infinite")),
    "empty cell": ("data.csv", CSV.replace(LINES[4].split(",")[6], "").encode(), ("'area' (1)", "--missing omit")),
    "NUL bytes": ("data.csv", b"a\x00b,c\n\x001,2\n", ("",)),
    "not a Parquet file": ("data.parquet", CSV.encode(), ("data.parquet", "not a readable table")),
    "Parquet cut off": ("data.parquet", b"PAR1" + bytes(40), ("data.parquet", "not a readable table")),
    "empty Parquet": ("data.parquet", b"", ("data.parquet", "not a readable table")),
    "a spreadsheet": ("data.xlsx", b"PK", ("data.xlsx", ".csv, .tsv, .txt, .csv.gz")),
    "no suffix": ("data", CSV.encode(), ("'data'", ".csv")),
    "compressed": ("data.csv.gz", b"\x1f\x8b", ("data.csv.gz", ".csv")),
    "duplicate ids": ("data.csv", CSV.replace("s03", "s02").encode(), ("subject", "s02", "2 rows")),
    "batch missing": ("data.csv", CSV.replace("s03,Lyon", "s03,").encode(), ("'site'", "missing values in 1 row")),
    "one batch": ("data.csv", "\n".join(LINES[:9]).encode(), ("'Lyon'", "at least two")),
}


@pytest.mark.parametrize("name", FILES)
def test_bad_tables(name: str, command: Callable[..., Outcome]) -> None:
    file, content, says = FILES[name]
    Path(file).write_bytes(content)
    one_line(command("harmonize", file, *GOOD, "--out", "out"), *says)
    assert not Path("out").exists()


def test_a_parquet_file_with_columns_twice(command: Callable[..., Outcome]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(study())
    pq.write_table(table.append_column("age", table["age"]), "data.parquet")
    one_line(command("harmonize", "data.parquet", *GOOD, "--out", "out"), "age")


ARGUMENTS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "no such file": (["harmonize", "none.csv", *GOOD, "--out", "out"], ("there is no file 'none.csv'",)),
    "a folder as data": (["harmonize", "folder.csv", *GOOD, "--out", "out"], ("folder.csv",)),
    "unknown batch": (["harmonize", "data.csv", "--batch", "scanner", "--out", "out"], ("'scanner'", "subject, site")),
    "batch misspelled": (["harmonize", "data.csv", "--batch", "sit", "--out", "out"], ("did you mean 'site'",)),
    "id misspelled": (["harmonize", "data.csv", *GOOD, "--id", "visit", "--out", "out"], ("id column 'visit'",)),
    "formula misspelled": (["harmonize", "data.csv", *GOOD[:-1], "~ aeg", "--out", "out"], ("mean 'age'",)),
    "formula unfinished": (["harmonize", "data.csv", *GOOD[:-1], "~ age +", "--out", "out"], ("~ age +",)),
    "formula runs code": (
        ["harmonize", "data.csv", *GOOD[:-1], "~ __import__('os').system('touch hacked')", "--out", "out"],
        ("__import__",),
    ),
    "basis not here": (["harmonize", "data.csv", *GOOD[:-1], "~ s(age, bs='gp')", "--out", "out"], ("'gp'",)),
    "reference unknown": (["harmonize", "data.csv", *GOOD, "--ref", "lyon", "--out", "out"], ("mean 'Lyon'",)),
    "regex broken": (
        ["harmonize", "data.csv", *GOOD, "--features", "(", "--out", "out"],
        ("regular expression",),
    ),
    "regex finds nothing": (["harmonize", "data.csv", *GOOD, "--features", "xyz", "--out", "out"], ("'xyz'", "thick")),
    "regex finds text": (["harmonize", "data.csv", *GOOD, "--features", "dx|vol", "--out", "out"], ("'dx'",)),
    "out is a file": (["harmonize", "data.csv", *GOOD, "--out", "data.csv"], ("'data.csv' is a file",)),
    "out below a file": (["harmonize", "data.csv", *GOOD, "--out", "data.csv/out"], ("data.csv/out",)),
    "out cannot be made": (["harmonize", "data.csv", *GOOD, "--out", "/proc/none/out"], ("/proc/none/out",)),
    "out is too long a name": (["harmonize", "data.csv", *GOOD, "--out", "x" * 300], ("xxx",)),
    "data is too long a name": (["harmonize", "x" * 300 + ".csv", *GOOD, "--out", "out"], ("xxx",)),
    "out has folders of our names": (
        ["harmonize", "data.csv", *GOOD, "--out", "taken", "--force"],
        ("'taken' has a folder named model.pcg",),
    ),
    "prior unknown": (["harmonize", "data.csv", *GOOD, "--prior", "flat", "--out", "out"], ("--prior", "'flat'")),
    "missing unknown": (["harmonize", "data.csv", *GOOD, "--missing", "drop", "--out", "out"], ("--missing", "'drop'")),
    "option misspelled": (["harmonize", "data.csv", *GOOD, "--frce", "--out", "out"], ("--frce",)),
    "batch forgotten": (["harmonize", "data.csv", "--out", "out"], ("--batch",)),
    "out forgotten": (["harmonize", "data.csv", "--batch", "site"], ("--out",)),
    "data forgotten": (["harmonize", "--batch", "site", "--out", "out"], ("data",)),
    "command unknown": (["harmonise", "data.csv"], ("harmonise",)),
    "argument too many": (["summary", "model.pcg", "model.pcg"], ("model.pcg",)),
    "summary of nothing": (["summary", "none.pcg"], ("no model file at 'none.pcg'",)),
    "summary of a table": (["summary", "data.csv"], ("data.csv", "not a readable pycombat_gam model")),
    "summary of a folder": (["summary", "taken"], ("taken",)),
    "apply a table": (["apply", "data.csv", "data.csv", "--out", "new.csv"], ("'data.csv'", "model")),
    "apply a broken model": (["apply", "cut.pcg", "data.csv", "--out", "new.csv"], ("'cut.pcg'", "truncated")),
    "apply to nothing": (["apply", "model.pcg", "none.csv", "--out", "new.csv"], ("there is no file 'none.csv'",)),
    "apply to an unknown site": (["apply", "model.pcg", "bonn.csv", "--out", "new.csv"], ("Bonn", "not in the fit")),
    "apply without a column": (["apply", "model.pcg", "narrow.csv", "--out", "new.csv"], ("vol", "missing")),
    "apply into no folder": (["apply", "model.pcg", "data.csv", "--out", "none/new.csv"], ("'none' does not exist",)),
    "apply onto a folder": (["apply", "model.pcg", "data.csv", "--out", "folder.csv", "--force"], ("is a folder",)),
    "apply to another format": (["apply", "model.pcg", "data.csv", "--out", "new.xlsx"], ("new.xlsx", ".parquet")),
    "demo onto a file": (["demo", "--out", "data.csv"], ("'data.csv' is a file",)),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_bad_arguments(name: str, command: Callable[..., Outcome]) -> None:
    Path("folder.csv").mkdir()
    Path("taken/model.pcg").mkdir(parents=True)
    Path("cut.pcg").write_bytes(Path("model.pcg").read_bytes()[:2000])
    study().replace("Oslo", "Bonn").to_csv("bonn.csv", index=False)
    study().drop(columns="vol").to_csv("narrow.csv", index=False)
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    arguments, says = ARGUMENTS[name]
    one_line(command(*arguments), *says)
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_no_arguments_show_the_help(command: Callable[..., Outcome]) -> None:
    outcome = command()
    assert "harmonize" in outcome.stdout + outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_folder_that_may_not_be_written(command: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, so the refusal is the system's in name only."""

    def locked(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "mkstemp", locked)
    one_line(command("harmonize", "data.csv", *GOOD, "--out", "out"), "cannot write to 'out'", "Permission denied")
    one_line(command("apply", "model.pcg", "data.csv", "--out", "new.csv"), "Permission denied")


def test_failing_after_harmonizing_leaves_nothing(
    command: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the third file: no file of the run is in place, no part is left."""

    def full(handle: int, count: list[int] = [0]) -> None:  # noqa: B006  (counts the calls)
        count[0] += 1
        if count[0] == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    one_line(command("harmonize", "data.csv", *GOOD, "--out", "out"), "cannot write to 'out'", "No space left")
    assert list(Path("out").iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["harmonize", "none.csv", "--batch", "site", "--out", "out"],
        ["harmonize", "bad.csv", "--batch", "site", "--out", "out"],
        ["summary", "bad.csv"],
    ],
    ids=["no file", "bad table", "bad model"],
)
def test_in_a_real_process(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_bytes(b"site,x\nA,1\nB\n")
    done = subprocess.run(
        [sys.executable, "-m", "pycombat_gam", *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    one_line(Outcome(done.returncode, done.stdout, done.stderr))


def test_a_summary_can_be_read_in_any_locale(tmp_path: Path) -> None:
    model = pcg.ComBat("~ age", batch="site", features=REGEX, ref_batch="Örebro")
    model.fit(study().replace("Oslo", "Örebro")).save(tmp_path / "model.pcg")
    done = subprocess.run(
        [sys.executable, "-m", "pycombat_gam", "summary", "model.pcg"],
        cwd=tmp_path,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stderr
    assert b"Turin" in done.stdout


def test_numbers_that_pandas_cannot_hold(command: Callable[..., Outcome]) -> None:
    table = study().assign(area=[str(10**30 + i) for i in range(21)])
    table.to_csv("data.csv", index=False)
    outcome = command("harmonize", "data.csv", *GOOD, "--out", "out")
    assert outcome.code in (0, 2)
    if outcome.code == 0:
        assert np.isfinite(pd.read_csv("out/harmonized.csv")["area"].astype(float)).all()


@pytest.mark.parametrize(
    "content",
    [b"", b"subject,site\n", gzip.compress(b"subject,site\n1,a\n" * 99, mtime=0)[:-20]],
    ids=["empty", "not gzipped", "cut off"],
)
def test_a_broken_gzipped_table(command: Callable[..., Outcome], tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.csv.gz").write_bytes(content)
    one_line(command("harmonize", "data.csv.gz", *GOOD, "--out", "out"), "data.csv.gz")
