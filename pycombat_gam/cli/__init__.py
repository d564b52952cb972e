"""The command line. Progress on stderr; exit 2 and one line on bad input.

Whatever takes long to import is imported by the command that needs it, when errors already end in one line.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pycombat_gam.cli.commands import app
    from pycombat_gam.cli.shell import (
        Features,
        Force,
        Missing,
        Prior,
        SmoothingBy,
        chosen_features,
        plainly,
        progress,
    )

__all__ = [
    "Features",
    "Force",
    "Missing",
    "Prior",
    "SmoothingBy",
    "app",
    "chosen_features",
    "main",
    "plainly",
    "progress",
]

STOPPED = 130
"""What a shell expects of a program that Ctrl-C ended."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from pycombat_gam.cli import commands, shell

    return getattr(commands if name == "app" else shell, name)


def main() -> None:
    """Run the command line, with the commands that other packages register."""
    try:
        code = _run()
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        code = STOPPED
    except BrokenPipeError:
        from pycombat_gam.cli.shell import PIPE_CLOSED

        code = PIPE_CLOSED
    except Exception as error:  # of any kind: what has no line is raised again
        if not _tell(error):
            raise
        code = 2
    if code == STOPPED:
        with contextlib.suppress(OSError):
            sys.stderr.write("Stopped.\n")
    elif code:
        _give_up_stdout()
    sys.exit(code)


def _run() -> int:
    """Run the command that the arguments name; return the exit status."""
    from importlib.metadata import entry_points, version

    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"pycombat-gam {version('pycombat-gam')}\n")
        return 0
    from pycombat_gam.cli.commands import Once, app

    for entry in entry_points(group="pycombat_gam.commands"):
        app.command(entry.name, cls=Once)(entry.load())
    try:
        code = app(standalone_mode=False)
    except RuntimeError as error:
        # typer.Abort, which some releases of typer raise for Ctrl-C where others return its status.
        if type(error).__name__ != "Abort":
            raise
        return STOPPED
    return int(code or 0)


def _tell(error: Exception) -> bool:
    """Print an error in one line, if it has one."""
    try:
        from pycombat_gam.cli.shell import error_line, say_error

        message = error_line(error)
        if message:
            say_error(message)
    except MemoryError:
        os.write(2, b"Error: not enough memory\n")
        return True
    return message is not None


def _give_up_stdout() -> None:
    """Drop what standard output did not take, so that Python does not complain of it once more at exit."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
