"""Killing a run at any moment: every output file is the old one or the new one, whole, and a later run tidies up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from helpers.study import study

import pycombat_gam as pcg

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL and fork are POSIX")

HARNESS = """
import json, os, signal, sys, tempfile, time, zipfile
import pandas, scipy.linalg
from pycombat_gam.cli import app, evidence, run

DEADLY = {
    "mkstemp": (tempfile, "mkstemp"),
    "table": (pandas.DataFrame, "to_csv"),
    "model": (zipfile.ZipFile, "writestr"),
    "fchmod": (os, "fchmod"),
    "fsync": (os, "fsync"),
    "rename": (os, "replace"),
}


def arm(where, call):
    owner, name = DEADLY[where]
    real, calls = getattr(owner, name), 0

    def deadly(*given, **named):
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given, **named)

    setattr(owner, name, deadly)


for line in sys.stdin:
    job = json.loads(line)
    started = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        sys.stdout = sys.stderr = open(os.devnull, "w")
        if job.get("where"):
            arm(job["where"], job["call"])
        app(job["arguments"])
        os._exit(3)
    if job.get("delay") is not None:
        time.sleep(job["delay"])
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    seconds = time.perf_counter() - started
    print(json.dumps({"status": os.waitstatus_to_exitcode(status), "seconds": seconds}), flush=True)
"""
OURS = ["harmonized.csv", "model.pcg", "summary.txt", "effects.csv", "run.json"]
KILLED = -9
Files = dict[str, bytes]


class Harness:
    """A process that has imported everything and forks a run for each job, so that moments are cheap."""

    def __init__(self, folder: Path) -> None:
        (folder / "harness.py").write_text(HARNESS)
        # Enough rows and features that writing takes a while; wide enough for several buffers.
        tables = [study(seed).assign(subject=lambda t, s=seed: f"r{s}" + t["subject"]) for seed in range(25)]
        pd.concat(tables).to_csv(folder / "data.csv", index=False)
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, str(folder / "harness.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )

    def run(self, formula: str, out: Path, *, report: bool = False, **job: object) -> tuple[int, float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        common = ["harmonize", str(self.folder / "data.csv"), "--batch", "site", "--id", "subject"]
        arguments = [
            *common,
            "--formula",
            formula,
            "--features",
            "^(thick|area|vol|depth)$",
            "--force",
            *([] if report else ["--no-report"]),
            "--out",
            str(out),
        ]
        self.process.stdin.write(json.dumps({"arguments": arguments, **job}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["status"], answer["seconds"]

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=20)


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    harness = Harness(tmp_path_factory.mktemp("harness"))
    yield harness
    harness.close()


@pytest.fixture(scope="module")
def old(harness: Harness) -> Files:
    return outcome(harness, "~ sex")


@pytest.fixture(scope="module")
def new(harness: Harness) -> Files:
    return outcome(harness, "~ age + sex")


def outcome(harness: Harness, formula: str) -> Files:
    """What an undisturbed run writes."""
    out = harness.folder / f"whole{len(formula)}"
    assert harness.run(formula, out)[0] == 0
    return {name: (out / name).read_bytes() for name in OURS}


def prepare(out: Path, old: Files) -> None:
    """Put an earlier run and files of others into the folder; parts of killed runs stay where they are."""
    out.mkdir(exist_ok=True)
    for name, content in old.items():
        (out / name).write_bytes(content)
    (out / "notes.txt").write_text("mine")
    (out / ".model.pcg.backup").write_text("mine")
    (out / "harmonized.csv.tmp").write_text("mine")


def check(out: Path, old: Files, new: Files) -> int:
    """Every file whole, none of others touched, the model loads; return how many files are new."""
    now = {name: (out / name).read_bytes() for name in OURS}
    for name in OURS:
        assert now[name] in (old[name], new[name]), f"{name} is neither the old file nor the new one"
    fresh = [now[name] == new[name] for name in OURS]
    assert fresh == sorted(fresh, reverse=True), f"renamed out of order: {fresh}"
    assert {(out / n).read_text() for n in ("notes.txt", ".model.pcg.backup", "harmonized.csv.tmp")} == {"mine"}
    assert len(pd.read_csv(out / "harmonized.csv")) == 25 * 21
    pcg.load(out / "model.pcg").summary()
    for name in {path.name for path in out.iterdir()} - {*OURS, "notes.txt", ".model.pcg.backup", "harmonized.csv.tmp"}:
        assert name.startswith("."), name
        assert name.endswith(".tmp"), name
    return sum(fresh)


def tidy(harness: Harness, out: Path, new: Files) -> None:
    """A later run finishes the job and leaves no parts."""
    assert harness.run("~ age + sex", out)[0] == 0
    assert {name: (out / name).read_bytes() for name in OURS} == new
    assert {p.name for p in out.iterdir()} == {*OURS, "notes.txt", ".model.pcg.backup", "harmonized.csv.tmp"}


def test_the_two_outcomes_differ_in_every_file(old: Files, new: Files) -> None:
    assert all(old[name] != new[name] for name in OURS)


def test_killed_at_sixty_moments(harness: Harness, old: Files, new: Files, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(out, old)
    whole = min(harness.run("~ age + sex", out)[1] for _ in range(3))
    killed = 0
    for step in range(60):
        prepare(out, old)
        status, _ = harness.run("~ age + sex", out, delay=whole * 1.15 * step / 59)
        assert status in (0, KILLED)
        killed += status == KILLED
        fresh = check(out, old, new)
        assert status == KILLED or fresh == len(OURS)
    assert killed >= 20
    tidy(harness, out, new)


MOMENTS = [
    *(("mkstemp", call, 0) for call in (1, 2, 3, 4, 5)),
    ("table", 1, 0),
    *(("model", call, 0) for call in (1, 2, 3)),
    *(("fchmod", call, 0) for call in (1, 2, 3, 4, 5)),
    *(("fsync", call, 0) for call in (1, 2, 3, 4, 5)),
    *(("rename", call, call - 1) for call in (1, 2, 3, 4, 5)),
    ("fsync", 6, 5),
]


@pytest.mark.parametrize(("where", "call", "renamed"), MOMENTS, ids=[f"{w} {c}" for w, c, _ in MOMENTS])
def test_killed_while_writing(
    where: str, call: int, renamed: int, harness: Harness, old: Files, new: Files, tmp_path: Path
) -> None:
    """The process kills itself at a chosen call of the write phase: exactly so many files are new."""
    out = tmp_path / "out"
    prepare(out, old)
    status, _ = harness.run("~ age + sex", out, where=where, call=call)
    assert status == KILLED
    assert check(out, old, new) == renamed
    tidy(harness, out, new)


@pytest.mark.parametrize(("where", "call"), [("model", 2), ("fsync", 2), ("rename", 1), ("rename", 3), ("rename", 5)])
def test_killed_in_a_first_run(where: str, call: int, harness: Harness, new: Files, tmp_path: Path) -> None:
    """Without an earlier run, a file is absent or whole, and `run.json` is there only when all are."""
    out = tmp_path / "out"
    assert harness.run("~ age + sex", out, where=where, call=call)[0] == KILLED
    present = {name: (out / name).read_bytes() for name in OURS if (out / name).exists()}
    assert present == {name: new[name] for name in OURS[: call - 1 if where == "rename" else 0]}
    assert harness.run("~ age + sex", out)[0] == 0
    assert {p.name: p.read_bytes() for p in out.iterdir()} == new


@pytest.mark.parametrize("renamed", [3, 5])
def test_killed_with_a_report(renamed: int, harness: Harness, new: Files, tmp_path: Path) -> None:
    """The report's two files come after the effects; `run.json` is still the last."""
    out, order = tmp_path / "out", [*OURS[:-1], "report.html", "report.md", "run.json"]
    status, _ = harness.run("~ age + sex", out, report=True, where="rename", call=renamed + 1)
    assert status == KILLED
    assert {p.name for p in out.iterdir() if not p.name.startswith(".")} == set(order[:renamed])
    assert harness.run("~ age + sex", out, report=True)[0] == 0
    assert {p.name for p in out.iterdir()} == set(order)
    assert (out / "harmonized.csv").read_bytes() == new["harmonized.csv"]
