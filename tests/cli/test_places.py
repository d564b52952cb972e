"""Where files go when the place is awkward: links, long names, another run that writes there at the same moment."""

from __future__ import annotations

import fcntl
import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.study import FEATURES, study
from typer.testing import CliRunner

import pycombat_gam as pcg
from pycombat_gam.cli import app
from pycombat_gam.cli.run import text_writer, write_run
from pycombat_gam.errors import OutputError, PcgError
from pycombat_gam.saving import atomic


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a table and a model, and the working directory."""
    monkeypatch.chdir(tmp_path)
    study().to_csv("data.csv", index=False)
    pcg.ComBat("~ age", batch="site", id="subject", features=FEATURES).fit(study()).save("model.pcg")
    return tmp_path


def apply(out: str, *options: str) -> Any:
    return CliRunner().invoke(app, ["apply", "model.pcg", "data.csv", "--out", out, *options])


def expected() -> pd.DataFrame:
    return pcg.load("model.pcg").transform(study())


def parts(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


# Symbolic links


def test_a_link_is_written_through(here: Path) -> None:
    (here / "elsewhere").mkdir()
    target = here / "elsewhere" / "target.csv"
    target.write_text("old")
    Path("link.csv").symlink_to(target)
    refused = apply("link.csv")
    assert (refused.exit_code, target.read_text()) == (2, "old")
    assert "'link.csv' exists already: use --force" in refused.stderr
    assert apply("link.csv", "--force").exit_code == 0
    assert Path("link.csv").is_symlink()
    pd.testing.assert_frame_equal(pd.read_csv(target), expected(), check_exact=True)
    assert parts(here) == parts(target.parent) == []


def test_a_dangling_link_makes_the_file_it_names(here: Path) -> None:
    Path("link.csv").symlink_to("later.csv")
    assert apply("link.csv").exit_code == 0
    assert Path("link.csv").readlink() == Path("later.csv")
    pd.testing.assert_frame_equal(pd.read_csv("later.csv"), expected(), check_exact=True)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("none/target.csv", "which does not exist"),
        ("link.csv", "loop"),
        ("folder", "a folder"),
        (os.devnull, "device"),
    ],
    ids=["into no folder", "to itself", "to a folder", "to a device"],
)
def test_a_link_that_leads_to_no_file_is_refused(target: str, says: str, here: Path) -> None:
    Path("folder").mkdir()
    Path("link.csv").symlink_to(target)
    result = apply("link.csv", "--force")
    assert result.exit_code == 2
    assert "link.csv" in result.stderr
    assert says in result.stderr
    assert Path("link.csv").readlink() == Path(target)
    assert Path(os.devnull).is_char_device()
    assert parts(here) == []


def test_links_among_the_files_of_a_run(here: Path) -> None:
    Path("models").mkdir()
    Path("out").mkdir()
    Path("out/model.pcg").symlink_to("../models/mine.pcg")
    call = ["harmonize", "data.csv", "--batch", "site", "--features", "thick", "--no-eb", "--no-report", "--out", "out"]
    assert CliRunner().invoke(app, call).exit_code == 0
    assert Path("out/model.pcg").is_symlink()
    record = json.loads(Path("out/run.json").read_text())
    for name, digest in record["files"].items():
        assert hashlib.sha256(Path("out", name).read_bytes()).hexdigest() == digest
    assert pcg.load("models/mine.pcg").get_feature_names_out().tolist() == ["thick"]
    Path("out2").symlink_to("out")
    assert CliRunner().invoke(app, [*call[:-1], "out2", "--force"]).exit_code == 0
    assert Path("out2").is_symlink()


def test_save_follows_links_too(here: Path) -> None:
    Path("link.pcg").symlink_to("model.pcg")
    before = Path("model.pcg").read_bytes()
    pcg.ComBat("~ 1", batch="site", id="subject", features=FEATURES).fit(study()).save("link.pcg")
    assert Path("link.pcg").is_symlink()
    assert Path("model.pcg").read_bytes() != before
    with pytest.raises(OutputError, match="device or a pipe"):
        pcg.load("model.pcg").save(os.devnull)


# Names


@pytest.mark.parametrize("size", [119, 120, 121, 200, 241, 242, 250, 255])
@pytest.mark.parametrize("letter", ["x", "ü", "脳"])
def test_names_as_long_as_the_disk_takes(letter: str, size: int, here: Path) -> None:
    name = letter * ((size - 4) // len(letter.encode())) + ".csv"
    assert apply(name).exit_code == 0
    pd.testing.assert_frame_equal(pd.read_csv(name), expected(), check_exact=True)
    assert parts(here) == []


def test_a_longer_name_is_named(here: Path) -> None:
    name = "x" * 252 + ".csv"
    result = apply(name)
    assert result.exit_code == 2
    assert name in result.stderr
    assert "too long" in result.stderr
    with pytest.raises(OutputError, match=f"cannot write '{name}': File name too long"):
        atomic.write_file(Path(name), text_writer("x"))


@pytest.mark.parametrize(
    "name", ["with spaces", "ünïcödé 脳", "a\nb", "tab\there", "[a-z]*?", "-n", "'quoted\"", "%s{}"]
)
def test_awkward_names(name: str, here: Path) -> None:
    Path("data.csv").rename(f"./{name}.csv")
    call = ["harmonize", "--batch", "site", "--features", "thick", "--no-eb", "--no-report", "--out", f"./{name}", "--"]
    done = CliRunner().invoke(app, [*call, f"{name}.csv"])
    assert done.exit_code == 0, done.output
    assert {path.name for path in Path(name).iterdir()} == {"harmonized.csv", "model.pcg", "summary.txt", "run.json"}
    missing = CliRunner().invoke(app, [*call[:-2], "./other", "--", f"{name}.tsv"])
    assert missing.exit_code == 2
    assert len(missing.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("place", ["-", "/dev/stdout", "out"])
def test_a_table_goes_to_a_file_with_an_ending(place: str, here: Path) -> None:
    result = apply(place)
    assert result.exit_code == 2
    assert "the name must end in one of" in result.stderr
    assert "/dev/stdin" in CliRunner().invoke(app, ["audit", "/dev/stdin", "--batch", "site"]).stderr


# Several runs


def write_thrice(folder: Path, run: int, said: Any) -> None:
    for turn in range(3):
        try:
            texts = {f"{name}.txt": text_writer(f"{name} of run {run}.{turn} " + "y" * 2000) for name in "abcd"}
            write_run(folder, texts, {"command": [run, turn]}, force=True)
        except PcgError as error:
            said.put(str(error))


def test_runs_at_the_same_time_do_not_mix(tmp_path: Path) -> None:
    spawned = multiprocessing.get_context("fork")
    for attempt in range(6):
        folder, said = tmp_path / f"out{attempt}", spawned.Queue()
        runs = [spawned.Process(target=write_thrice, args=(folder, run, said)) for run in range(3)]
        for each in runs:
            each.start()
        for each in runs:
            each.join()
        assert said.empty()
        record = json.loads((folder / "run.json").read_text())
        hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in record["files"]}
        assert hashes == record["files"]
        assert {path.name for path in folder.iterdir()} == {*hashes, "run.json"}


def hold(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock of a folder until it is killed."""
    code = f"""
import fcntl, os, sys, time
handle = os.open({str(folder / atomic.LOCK)!r}, os.O_RDWR | os.O_CREAT)
fcntl.flock(handle, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_run_waits_no_longer_than_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "PATIENCE", 0.1)
    (tmp_path / "a.txt").write_text("old")
    other = hold(tmp_path)
    try:
        with pytest.raises(OutputError, match="another run is writing to"):
            write_run(tmp_path, {"a.txt": text_writer("new")}, {}, force=True)
        assert (tmp_path / "a.txt").read_text() == "old"
    finally:
        other.kill()
        other.wait()
        assert other.stdout is not None
        other.stdout.close()
    # A kill releases the lock, though its file is still there; the next run takes it away.
    assert parts(tmp_path) == [atomic.LOCK]
    write_run(tmp_path, {"a.txt": text_writer("new")}, {}, force=True)
    assert (tmp_path / "a.txt").read_text() == "new\n"
    assert parts(tmp_path) == []


def test_a_run_that_waited_looks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs start into an empty folder; the second must not overwrite what the first wrote meanwhile."""

    def other_ran_first(place: Path) -> int | None:
        monkeypatch.setattr(atomic, "_locked", locked)
        (tmp_path / "a.txt").write_text("of the other run")
        return None

    locked: Callable[[Path], int | None] = atomic._locked
    monkeypatch.setattr(atomic, "_locked", other_ran_first)
    with pytest.raises(OutputError, match=r"has a\.txt of an earlier run"):
        write_run(tmp_path, {"a.txt": text_writer("new")}, {}, force=False)
    assert (tmp_path / "a.txt").read_text() == "of the other run"


def test_a_disk_without_locks_is_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(handle: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    write_run(tmp_path, {"a.txt": text_writer("new")}, {}, force=False)
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "run.json"}


def test_parts_of_a_killed_run_are_removed_and_nothing_else(tmp_path: Path) -> None:
    long = "x" * 250
    for name in (".a.txt.abcd1234.tmp", f".{atomic._stem(long)}.abcd1234.tmp"):
        (tmp_path / name).write_text("half")
    kept = [".a.txt.gz.abcd1234.tmp", ".a.txt.backup.tmp", "a.txt.tmp", ".b.txt.abcd1234.tmp"]
    for name in kept:
        (tmp_path / name).write_text("mine")
    atomic.write_files(tmp_path, {"a.txt": text_writer("new"), long: text_writer("new")})
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "a.txt", long}
