"""Progress: nothing in a pipe, nothing in the first two seconds, then a bar with rate and time left."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from pycombat_gam import progress
from pycombat_gam.progress import progress_bar, tracked
from pycombat_gam.tables.files import read_table, table_writer


def terminal() -> tuple[Console, io.StringIO]:
    screen = io.StringIO()
    return Console(file=screen, force_terminal=True, width=140), screen


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.0)


def test_nothing_in_a_pipe(capfd: pytest.CaptureFixture[str], impatient: None) -> None:
    with progress_bar("waiting", 10) as advance, progress_bar("inside", 3) as inner:
        advance()
        inner(2, "a note")
    assert list(tracked("abc", "letters", 3)) == ["a", "b", "c"]
    assert capfd.readouterr() == ("", "")


def test_nothing_for_what_is_quick() -> None:
    console, screen = terminal()
    with progress_bar("quick", 10, console) as advance:
        advance(5)
    assert screen.getvalue() == ""


def test_a_bar_with_rate_and_time_left(impatient: None) -> None:
    console, screen = terminal()
    with progress_bar("[bold]features[/bold]", 10, console) as advance:
        for _ in range(6):
            advance(1, "held-out log p -1.5")
    shown = screen.getvalue()
    assert "[bold]features[/bold]" in shown  # what stands in a table is no markup
    assert "6/10" in shown and "held-out log p -1.5" in shown
    assert re.search(r"\d/s", shown) and re.search(r"\d+:\d\d:\d\d", shown)


def test_bars_that_run_together_share_the_screen(impatient: None) -> None:
    console, screen = terminal()
    with progress_bar("outer", 4, console) as outer:
        outer()
        with progress_bar("inner", 8, console) as inner:
            inner(3)
        outer()
    shown = screen.getvalue()
    assert "inner" in shown and "3/8" in shown and "2/4" in shown
    assert progress._running.get() is None


def test_an_error_inside_takes_the_bar_away(impatient: None) -> None:
    console, _ = terminal()
    with pytest.raises(KeyError), progress_bar("failing", 4, console) as advance:
        advance()
        raise KeyError
    assert progress._running.get() is None


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_tables_are_read_and_written_the_same_with_a_bar(
    suffix: str, tmp_path: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pycombat_gam.tables.files._CELLS_AT_ONCE", 12)
    console, screen = terminal()
    monkeypatch.setattr(progress, "Console", lambda stderr: console)
    table = pd.DataFrame(np.random.default_rng(0).standard_normal((50, 4)), columns=list("abcd"))
    path = tmp_path / f"table{suffix}"
    with path.open("wb") as stream:
        table_writer(table, suffix)(stream)
    pd.testing.assert_frame_equal(read_table(path).table.reset_index(drop=True), table)
    assert pd.read_csv(path).shape == (50, 4)
    assert "writing the table" in screen.getvalue() and f"reading table{suffix}" in screen.getvalue()


def test_a_real_terminal_shows_the_bar_and_a_pipe_does_not() -> None:
    code = (
        "import pycombat_gam.progress as p, sys; p.PATIENCE = 0\n"
        "with p.progress_bar('slow work', 3) as advance: advance()\n"
    )
    main, other = pty.openpty()
    run = {"env": {**os.environ, "TERM": "xterm", "COLUMNS": "100"}, "check": True}
    subprocess.run([sys.executable, "-c", code], stderr=other, **run)
    os.close(other)
    shown = os.read(main, 10_000).decode()
    os.close(main)
    assert "slow work" in shown and "1/3" in shown
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, **run)
    assert piped.stderr == piped.stdout == b""
