"""The commands that take a saved model of any kind: apply and summary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pycombat_gam.cli.shell import Force, Missing, Unseen, plainly, progress
from pycombat_gam.errors import OptionError, OutputError
from pycombat_gam.words import joined

if TYPE_CHECKING:
    from pycombat_gam.cli.run import Writer
    from pycombat_gam.combat.estimator import ComBat
    from pycombat_gam.predict.predictor import Predictor
    from pycombat_gam.study.harmonizer import Harmonizer


MODELS = {"combat": "ComBat", "flow": "flows"}
INSTEAD = {
    "combat": ("ComBat", {"to": "its reference is set when it is fitted", "adapt": "it has --on-unseen estimate"}),
    "flow": (
        "flow",
        {"on_unseen": "it has --adapt for a new site", "missing": "it takes complete rows only"},
    ),
}
"""By kind of model: what it is called, and what it has in the place of options that are another kind's."""


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
        from pycombat_gam.tables.files import PARQUET, read_table, suffix_of, table_writer, verbatim

        fitted = load_harmonizer(model, "apply")
        chosen = {"on_unseen": on_unseen, "missing": missing, "to": to, "adapt": adapt}
        _check_kind(fitted, [name for name, value in chosen.items() if value is not None])
        suffix = suffix_of(out)
        if adapt is not None and adapt.suffix.lower() != ".pcg":
            raise OptionError(f"--adapt '{adapt}' is a model file: give a name that ends in .pcg")
        for place in (out, adapt):
            if place is not None:
                check_free(place, force=force)
        ids = [fitted.id] if isinstance(fitted.id, str) else list(fitted.id or [])
        source = read_table(data, [fitted.batch, *ids])
        options = {"on_unseen": on_unseen, "missing": missing}
        fitted.set_params(**{name: choice.value for name, choice in options.items() if choice is not None})
        if adapt is not None:
            fitted = fitted.with_site(source.table)
        harmonized = fitted.transform(source.table, **({} if to is None else {"to": to}))
        if suffix != PARQUET:
            harmonized = verbatim(source, harmonized, fitted.get_feature_names_out().tolist())
        elif suffix_of(data) != PARQUET:
            harmonized = harmonized.reset_index(drop=True)  # lines of a text file are no labels to store
        if adapt is not None:
            put(adapt, model_writer(fitted), force=force)
            progress.print(f"adapted model: {adapt}", markup=False)
        put(out, table_writer(harmonized, suffix), force=force)
        progress.print(f"harmonized table: {out}", markup=False)


def summary(
    model: Annotated[Path, typer.Argument(help="Model file that harmonize, flow or train wrote (.pcg).")],
) -> None:
    """Print what a saved model holds; of a predictor, how it did at sites left out."""
    with plainly():
        from pycombat_gam.load import load
        from pycombat_gam.predict.predictor import Predictor

        fitted = load(model)
        typer.echo(str(fitted.validation if isinstance(fitted, Predictor) else fitted.summary()))


def _check_kind(fitted: Harmonizer, chosen: list[str]) -> None:
    """Refuse options that the kind of model does not have."""
    called, instead = INSTEAD[fitted.kind]
    for name in chosen:
        if name in instead:
            whose = next(other for other, (_, lacks) in INSTEAD.items() if name not in lacks)
            option = f"--{name.replace('_', '-')}"
            raise OptionError(f"{option} is for {MODELS[whose]}, and this model is a {called}: {instead[name]}")


def load_harmonizer(model: Path, command: str) -> Harmonizer:
    """Load a ComBat or a flow; stop for a predictor."""
    from pycombat_gam.load import load
    from pycombat_gam.predict.predictor import Predictor

    fitted = load(model)
    if isinstance(fitted, Predictor):
        raise OptionError(
            f"{command} is for {joined(list(MODELS.values()))}, and '{model}' is a predictor: use predict, or summary"
        )
    return fitted


def load_combat(model: Path, command: str) -> ComBat:
    """Load a ComBat; stop for another kind of model."""
    from pycombat_gam.load import load

    fitted: Any = load(model)
    kind = getattr(fitted, "kind", "")
    if kind != "combat":
        called = INSTEAD[kind][0] if kind else "predictor"
        raise OptionError(f"{command} is for {MODELS['combat']}, and '{model}' is a {called}")
    combat: ComBat = fitted
    return combat


def load_predictor(model: Path, command: str) -> Predictor:
    """Load a predictor; stop for a harmonizer."""
    from pycombat_gam.load import load
    from pycombat_gam.predict.predictor import Predictor

    fitted = load(model)
    if not isinstance(fitted, Predictor):
        called = INSTEAD[fitted.kind][0]
        raise OptionError(f"{command} is for predictors, and '{model}' is a {called}: use apply, or train a predictor")
    return fitted


def put(place: Path, write: Writer, *, force: bool) -> None:
    """Write a file, whole or not at all."""
    from pycombat_gam.saving.atomic import write_file

    write_file(place, write, check=lambda: check_free(place, force=force))


def check_free(place: Path, *, force: bool) -> None:
    """Stop where a file exists already, unless it may be overwritten."""
    if place.exists() and not force:
        raise OutputError(f"'{place}' exists already: use --force to overwrite it")
