"""The commands, and what all of them do with their arguments."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version as version_of
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from pycombat_gam.cli.audit import audit
from pycombat_gam.cli.combat import demo, harmonize
from pycombat_gam.cli.flows import flow
from pycombat_gam.cli.inference import interval, test
from pycombat_gam.cli.models import apply, summary
from pycombat_gam.cli.prediction import predict, train
from pycombat_gam.words import listing

app = typer.Typer(
    name="pycombat-gam",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Once(TyperCommand):
    """A command that refuses an option given twice, of which only the last would count; lists may be repeated."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments, once every option is there once."""
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        lists = [param.opts[0] for param in self.params if getattr(param, "multiple", False)]
        for param, times in Counter(param for param in order if param.param_type_name == "option").items():
            if times > 1 and not param.is_eager and not getattr(param, "multiple", False):
                rest = f"; only {listing(lists)} may be repeated" if lists else ""
                message = f"it is given {times} times: give it once{rest}"
                raise typer.BadParameter(message, ctx=ctx, param_hint=f"'{param.opts[0]}'")
        return super().parse_args(ctx, args)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"pycombat-gam {version_of('pycombat-gam')}")
        raise typer.Exit


@app.callback()
def _start(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Harmonize data measured at many sites, and predict outcomes at sites never seen."""


for _command in (demo, audit, harmonize, flow, apply, test, interval, train, predict, summary):
    app.command(cls=Once)(_command)
