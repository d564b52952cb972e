"""The command line. Progress on stderr; exit 2 and one line on bad input."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points, version
from typing import Annotated

import typer

from pycombat_gam.cli.audit import audit
from pycombat_gam.cli.combat import demo, harmonize
from pycombat_gam.cli.flows import flow
from pycombat_gam.cli.models import apply, summary
from pycombat_gam.cli.shell import Features, Force, Missing, Prior, SmoothingBy, plainly, progress

__all__ = ["Features", "Force", "Missing", "Prior", "SmoothingBy", "app", "main", "plainly", "progress"]

STOPPED = 130
"""What a shell expects of a program that Ctrl-C ended."""

app = typer.Typer(
    name="pycombat-gam",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"pycombat-gam {version('pycombat-gam')}")
        raise typer.Exit


@app.callback()
def _start(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Harmonize data measured at many sites: remove site effects, keep the biology."""


for _command in (demo, audit, harmonize, flow, apply, summary):
    app.command()(_command)


def main() -> None:
    """Run the command line, with the commands that other packages register."""
    for entry in entry_points(group="pycombat_gam.commands"):
        app.command(entry.name)(entry.load())
    try:
        code = app(standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        code = STOPPED  # which releases of typer raise, others return
    except Exception as error:
        # Errors of usage, whose class has another name in every release of typer; all others are raised again.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        if message():
            progress.print(f"Error: {' '.join(message().split())}", markup=False, style="red")
        sys.exit(2)
    if code == STOPPED:
        progress.print("Stopped.")
    sys.exit(code or 0)
