"""The commands that take a saved model of any kind: apply and summary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pycombat_gam.cli.shell import Force, Missing, Unseen, plainly, progress
from pycombat_gam.errors import OptionError, OutputError

if TYPE_CHECKING:
    from pycombat_gam.cli.run import Writer
    from pycombat_gam.combat.estimator import ComBat
    from pycombat_gam.flow.estimator import FlowSCM


def apply(
    model: Annotated[Path, typer.Argument(help="Model file that harmonize or flow wrote (.pcg).")],
    data: Annotated[Path, typer.Argument(help="New rows, in the same columns.")],
    out: Annotated[Path, typer.Option(help="File for the harmonized table.")],
    on_unseen: Annotated[
        Unseen | None,
        typer.Option(help="ComBat, new sites: stop, or estimate them from these rows; else as the model says."),
    ] = None,
    missing: Annotated[
        Missing | None,
        typer.Option(help="ComBat, missing feature cells: stop, or leave them missing; else as the model says."),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(help="Flow: the site to go to; else the model's reference site, or the average over sites."),
    ] = None,
    adapt: Annotated[
        Path | None,
        typer.Option(help="Flow: the rows are of one new site; write the model that knows it here (.pcg)."),
    ] = None,
    force: Force = False,
) -> None:
    """Harmonize new rows with a saved model, ComBat or flow."""
    with plainly():
        from pycombat_gam.cli.run import model_writer
        from pycombat_gam.combat.estimator import ComBat
        from pycombat_gam.load import load
        from pycombat_gam.tables.files import PARQUET, read_table, suffix_of, table_writer, verbatim

        fitted = load(model)
        chosen = {"on_unseen": on_unseen, "missing": missing, "to": to, "adapt": adapt}
        _check_kind(fitted, [name for name, value in chosen.items() if value is not None])
        suffix = suffix_of(out)
        if adapt is not None and adapt.suffix.lower() != ".pcg":
            raise OptionError(f"--adapt '{adapt}' is a model file: give a name that ends in .pcg")
        for place in (out, adapt):
            if place is not None:
                _check_free(place, force=force)
        ids = [fitted.id] if isinstance(fitted.id, str) else list(fitted.id or [])
        source = read_table(data, [fitted.batch, *ids])
        if isinstance(fitted, ComBat):
            for name, choice in (("on_unseen", on_unseen), ("missing", missing)):
                if choice is not None:
                    fitted.set_params(**{name: choice.value})
            harmonized = fitted.transform(source.table)
        else:
            fitted = fitted if adapt is None else fitted.adapt(source.table)
            harmonized = fitted.transform(source.table, to=to)
        if suffix != PARQUET:
            harmonized = verbatim(source, harmonized, fitted.get_feature_names_out().tolist())
        elif suffix_of(data) != PARQUET:
            harmonized = harmonized.reset_index(drop=True)  # lines of a text file are no labels to store
        if adapt is not None:
            _put(adapt, model_writer(fitted), force=force)
            progress.print(f"adapted model: {adapt}", markup=False)
        _put(out, table_writer(harmonized, suffix), force=force)
        progress.print(f"harmonized table: {out}", markup=False)


def summary(model: Annotated[Path, typer.Argument(help="Model file that harmonize or flow wrote (.pcg).")]) -> None:
    """Print what a saved model holds."""
    with plainly():
        from pycombat_gam.load import load

        typer.echo(str(load(model).summary()))


def _check_kind(fitted: ComBat | FlowSCM, given: list[str]) -> None:
    """Refuse options that the kind of model does not have."""
    from pycombat_gam.combat.estimator import ComBat

    combat = isinstance(fitted, ComBat)
    for name in given:
        option = f"--{name.replace('_', '-')}"
        if combat and name in ("to", "adapt"):
            instead = "its reference is set when it is fitted" if name == "to" else "it has --on-unseen estimate"
            raise OptionError(f"{option} is for flows, and this model is a ComBat: {instead}")
        if not combat and name in ("on_unseen", "missing"):
            instead = "it has --adapt for a new site" if name == "on_unseen" else "it takes complete rows only"
            raise OptionError(f"{option} is for ComBat, and this model is a flow: {instead}")


def _put(place: Path, write: Writer, *, force: bool) -> None:
    from pycombat_gam.saving.atomic import write_file

    write_file(place, write, check=lambda: _check_free(place, force=force))


def _check_free(place: Path, *, force: bool) -> None:
    if place.exists() and not force:
        raise OutputError(f"'{place}' exists already: use --force to overwrite it")
