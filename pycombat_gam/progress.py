"""A progress bar for what takes longer than two seconds: on a terminal's stderr, and nothing in a pipe.

Bars that start while another one runs are shown below it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from pycombat_gam.types import Advance

PATIENCE = 2.0
"""Seconds that something may take before a bar appears."""

T = TypeVar("T")

_running: ContextVar[Progress | None] = ContextVar("running", default=None)


class _Rate(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.3g}/s", style="progress.data.speed")


@contextmanager
def bars(console: Console | None = None) -> Iterator[Progress]:
    """Open the display that all bars running at the same time share; outside a terminal it shows nothing.

    Parameters
    ----------
    console : where to draw; None: stderr. If it is not a terminal, nothing is shown.
    """
    running = _running.get()
    if running is not None:
        yield running
        return
    console = console or Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), _Rate())
    note = TextColumn("{task.fields[note]}", markup=False)
    silent = not console.is_terminal
    with Progress(*columns, TimeRemainingColumn(), note, console=console, transient=True, disable=silent) as progress:
        token = _running.set(progress)
        try:
            yield progress
        finally:
            _running.reset(token)


@contextmanager
def progress_bar(what: str, total: int, console: Console | None = None) -> Iterator[Advance]:
    """Show how far a loop is, with its rate and the time left, as soon as it has taken two seconds.

    Parameters
    ----------
    what : what is being done, a few words.
    total : steps in all.
    console : where to draw; None: stderr. If it is not a terminal, nothing is shown.

    Returns
    -------
    callable
        To be called with the steps done since the last call (1 if left out), and a note to show beside the bar.
    """
    started, done = time.monotonic(), 0
    with ExitStack() as stack:
        progress: Progress | None = None
        task = None

        def advance(steps: int = 1, note: str = "") -> None:
            nonlocal progress, task, done
            done += steps
            if progress is None and time.monotonic() - started >= PATIENCE and done < total:
                progress = stack.enter_context(bars(console))
            if progress is not None and task is None:
                task = progress.add_task(what, total=total, completed=done, note=note)
            elif progress is not None and task is not None:
                progress.update(task, completed=done, note=note)

        try:
            yield advance
        finally:
            if progress is not None and task is not None:
                progress.refresh()
                progress.remove_task(task)


def tracked(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yield items, showing a bar as `progress_bar` does."""
    with progress_bar(what, total) as advance:
        for item in items:
            yield item
            advance()
