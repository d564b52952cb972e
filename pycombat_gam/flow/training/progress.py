"""The progress of a training: a bar for each stage, with the held-out log-probability beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeAlias

from rich.console import Console

from pycombat_gam.progress import progress_bar
from pycombat_gam.types import Advance

Hook: TypeAlias = Callable[[str, int, int, float], None]
"""Called after each epoch: stage, epoch, max_epochs, held-out log-probability per row (NaN without held-out rows)."""


@contextmanager
def training_progress(console: Console | None = None) -> Iterator[Hook]:
    """Show a bar for each stage within the block; yield the hook that `train` calls.

    Parameters
    ----------
    console : None: stderr. Nothing is shown unless it is a terminal.
    """
    with ExitStack() as running:
        now: tuple[str, Advance] | None = None
        done = 0

        def hook(stage: str, epoch: int, max_epochs: int, held_out: float) -> None:
            nonlocal now, done
            if now is None or now[0] != stage:
                # A stage that stopped early leaves its bar unfinished.
                running.close()
                now, done = (stage, running.enter_context(progress_bar(stage, max_epochs, console))), 0
            now[1](epoch - done, "" if math.isnan(held_out) else f"held-out log p {held_out:.3f}")
            done = epoch

        yield hook
