"""What every command shares: where progress goes, how errors are worded, options that several have."""

from __future__ import annotations

import errno
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pycombat_gam.errors import PcgError, PcgWarning
from pycombat_gam.words import NO_VALUE, Remedy, Setting, Worded

if TYPE_CHECKING:
    import pandas as pd

PIPE_CLOSED = 141
"""Exit status that a shell expects where the reader went away, as `head` does."""
progress = Console(stderr=True, highlight=False, soft_wrap=True)


class Prior(str, Enum):
    """Priors of the site effects."""

    parametric = "parametric"
    nonparametric = "nonparametric"
    bayes = "bayes"


class Missing(str, Enum):
    """What to do with missing feature cells."""

    error = "error"
    omit = "omit"


class SmoothingBy(str, Enum):
    """What sets the smoothing parameters."""

    REML = "REML"
    ML = "ML"
    GCV = "GCV"


class Unseen(str, Enum):
    """What to do with sites that were not in the fit."""

    error = "error"
    estimate = "estimate"


Features = Annotated[
    list[str] | None,
    typer.Option(
        help="Regular expression searched in column names; repeat for the columns of several.",
        show_default="every numeric column not named elsewhere",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files of an earlier run.")]
WithReport = Annotated[bool, typer.Option("--report/--no-report", help="Also write report.html and report.md.")]
Seed = Annotated[
    int, typer.Option(min=0, help="Of what is random: draws of --prior bayes, the report's permutations and folds.")
]


def chosen_features(
    patterns: Sequence[str] | None, table: pd.DataFrame, *, formula: str, batch: str, ids: Sequence[str] | None
) -> str | list[str] | None:
    """Return what --features asks for: a regular expression as it is, or the columns that several match, in order."""
    if not patterns or len(patterns) == 1:
        return patterns[0] if patterns else None
    from pycombat_gam.formula import parse_formula
    from pycombat_gam.tables.intake import matching

    names = [str(column) for column in table.columns]
    reserved = {batch, *(ids or []), *parse_formula(formula).variables}
    matched = {name for pattern in patterns for name in matching(pattern, names, reserved)}
    return [name for name in names if name in matched]


@contextmanager
def plainly() -> Iterator[None]:
    """Turn our errors into one line and exit 2, our warnings into lines on stderr."""
    caught: list[warnings.WarningMessage] = []
    interrupts: list[int] = []
    try:
        with warnings.catch_warnings(record=True) as caught, _noting(interrupts):
            warnings.simplefilter("default", PcgWarning)
            _reserve_memory()
            yield
    except BrokenPipeError:
        raise typer.Exit(PIPE_CLOSED) from None
    except Exception as error:  # of any kind: what has no line is raised again
        if interrupts:
            raise KeyboardInterrupt from None  # compiled code made an error of its own of it
        message = error_line(error)
        if message is None:
            raise
        say_error(message)
        raise typer.Exit(2) from None
    finally:
        for item in caught:
            if issubclass(item.category, PcgWarning):
                progress.print(f"Note: {in_options(_message(item.message))}", markup=False, style="yellow")


def error_line(error: BaseException) -> str | None:
    """Return an error's line; None for a fault of ours, ``""`` where it has been printed already."""
    if _of_memory(error):
        return "not enough memory: free some, raise the limit (ulimit -v), or give fewer features or rows at once"
    if isinstance(error, PcgError):
        return " ".join(in_options(_message(error)).split())
    usage = getattr(error, "format_message", None)
    if usage is not None:  # errors of usage, whose class has another name in every release of typer
        return " ".join(usage().split())
    if isinstance(error, OSError):
        where = "cannot write to standard output" if error.filename is None else f"'{error.filename}'"
        return f"{where}: {error.strerror or error}"
    return None


def _message(error: BaseException | str) -> str:
    """Return what an error or a warning was made with, which may know the arguments that it names."""
    message = error.args[0] if isinstance(error, BaseException) and error.args else error
    return message if isinstance(message, str) else str(error)


def say_error(message: str) -> None:
    """Print a line on stderr; where that cannot be written to, the exit status has to do."""
    with suppress(OSError):
        try:
            progress.print(f"Error: {message}", markup=False, style="red")
        except MemoryError:
            sys.stderr.write(f"Error: {message}\n")


_NO_MEMORY = re.compile(
    r"cannot allocate memory|failed to map segment|can.t start new thread|out of memory|without exception set", re.I
)
"""What libraries say instead of `MemoryError`; the last is the interpreter's, of compiled code that said nothing."""


def _of_memory(error: BaseException | None) -> bool:
    """Tell whether memory ran out, also where a library says so in its own way (of a thread, of a shared object)."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        if isinstance(error, ImportError | RuntimeError | SystemError) and _NO_MEMORY.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def _noting(interrupts: list[int]) -> Iterator[None]:
    """Note every Ctrl-C besides what it does: compiled code may drop the exception on its way."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return

    def note(number: int, frame: object) -> None:
        interrupts.append(number)
        handler(number, frame)  # type: ignore[arg-type]  # a frame, or None

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


_FOR_BLAS = 80 * 2**20
"""Bytes: a buffer of 32 MiB for each of two OpenBLAS, numpy's and scipy's, and some more."""


def _reserve_memory() -> None:
    """Let OpenBLAS take its buffers now: it takes them with its first product, and waits for ever if it gets none."""
    bytearray(_FOR_BLAS)
    import numpy as np
    from scipy.linalg import blas

    square = np.ones((64, 64))
    _ = square @ square
    blas.dgemm(1.0, square, square)


_NAMES = {"ref_batch": "--ref", "n_members": "--members"}
"""Options whose name is not that of the argument they set."""
_FREE = ("features", "device")
"""Options whose value is any text; a message has it in quotes."""
_REMEDIES = {
    "adapt": "estimate it from rows of its own with --adapt",
    "start over": "leave --resume out",
    "decimal points": "decimal points",
    "name the batch": "",
}
"""Advice that Python's users get in other words."""


def in_options(message: str) -> str:
    """Return a message to Python's users as one to those of the command line."""
    if not isinstance(message, Worded):
        return message
    return "".join(part if isinstance(part, str) else _option(part) for part in message.parts)


def _option(part: Setting | Remedy) -> str:
    """Spell what a message names or advises as the shell has it."""
    if isinstance(part, Remedy):
        return _REMEDIES[part.name]
    argument, value = part.argument, part.value
    option = _NAMES.get(argument, f"--{argument.replace('_', '-')}")
    if value is NO_VALUE or value is ... or value is True:
        return option
    if value is False:
        return f"--no-{option[2:]}"
    if isinstance(value, list):
        return " ".join(f"{option} {item}" for item in value)
    return f"{option} {value!r}" if argument in _FREE else f"{option} {value}"
