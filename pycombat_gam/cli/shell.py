"""What every command shares: where progress goes, how errors are told, options that several have."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Annotated

import typer
from rich.console import Console

from pycombat_gam.errors import PcgError, PcgWarning

progress = Console(stderr=True, highlight=False, soft_wrap=True)


class Prior(str, Enum):
    """Priors of the empirical Bayes step."""

    parametric = "parametric"
    nonparametric = "nonparametric"


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
    str | None,
    typer.Option(
        help="Regular expression searched in column names.", show_default="every numeric column not named elsewhere"
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files of an earlier run.")]


@contextmanager
def plainly() -> Iterator[None]:
    """Turn our errors into one line and exit 2, our warnings into lines on stderr."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default", PcgWarning)
            yield
    except PcgError as error:
        progress.print(f"Error: {in_options(' '.join(str(error).split()))}", markup=False, style="red")
        raise typer.Exit(2) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        progress.print(f"Error: '{error.filename}': {error.strerror or error}", markup=False, style="red")
        raise typer.Exit(2) from None
    finally:
        for item in caught:
            if issubclass(item.category, PcgWarning):
                progress.print(f"Note: {in_options(str(item.message))}", markup=False, style="yellow")


_OPTIONS = {
    " (no batch= was given?)": "",
    "missing='omit'": "--missing omit",
    "on_unseen='estimate'": "--on-unseen estimate",
    "eb=False": "--no-eb",
    "id=['subject', 'visit']": "--id subject --id visit",
    "id=…": "--id",
    "features=…": "--features",
    "force=True": "--force",
    "n_members=": "--members ",
    "flow='structured'": "--flow structured",
    "device='": "--device '",
    "train with resume=False": "leave --resume out",
    "add a site with adapt(its rows), which gives a new model": "estimate it from rows of its own with --adapt",
    "read_csv: decimal=','": "decimal points",
}
"""What messages say to Python's users, as options of the command line."""


def in_options(message: str) -> str:
    """Return a message to Python's users as one to those of the command line."""
    for argument, option in _OPTIONS.items():
        message = message.replace(argument, option)
    for argument, option in (("ref_batch", "--ref"), ("to", "--to")):
        if message.startswith(f"{argument} '"):
            return f"{option}{message[len(argument) :]}"
    return message
