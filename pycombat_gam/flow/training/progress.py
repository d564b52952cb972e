"""A progress bar of a training, with the held-out log-probability: on a terminal's stderr, and silent in a pipe."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

Hook: TypeAlias = Callable[[str, int, int, float], None]
"""Called after each epoch: stage, epoch, most epochs, held-out log-probability a row (NaN if nothing is held out)."""


@contextmanager
def rich_progress(console: Console | None = None) -> Iterator[Hook]:
    """Show one bar a stage for as long as the block runs; give the hook that `train` calls.

    Parameters
    ----------
    console : where to; None: stderr. If it is no terminal, nothing is shown.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield lambda stage, epoch, max_epochs, held_out: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def hook(stage: str, epoch: int, max_epochs: int, held_out: float) -> None:
            if stage not in tasks:
                for before in tasks.values():
                    bars.stop_task(before)
                tasks[stage] = bars.add_task(stage, total=max_epochs, note="")
            note = "" if math.isnan(held_out) else f"held-out log p {held_out:.3f}"
            bars.update(tasks[stage], completed=epoch, note=note)

        yield hook
