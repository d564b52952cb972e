"""The command that looks at a table before it is harmonized."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pycombat_gam.cli.shell import Features, Missing, Prior, chosen_features, plainly


def audit(
    data: Annotated[Path, typer.Argument(help="CSV, TSV or Parquet table: a row per subject or visit.")],
    batch: Annotated[str, typer.Option(help="Column of site labels.")],
    formula: Annotated[str, typer.Option(help="What is to be kept, in R's notation.")] = "~ 1",
    ids: Annotated[
        list[str] | None, typer.Option("--id", help="Column that identifies rows; repeat for several.")
    ] = None,
    features: Features = None,
    ref: Annotated[str | None, typer.Option(help="Reference site; it passes through unchanged.")] = None,
    eb: Annotated[bool, typer.Option("--eb/--no-eb", help="Shrink site effects by empirical Bayes.")] = True,
    prior: Annotated[Prior, typer.Option(help="Prior of the site effects.")] = Prior.parametric,
    mean_only: Annotated[bool, typer.Option("--mean-only", help="Adjust location only.")] = False,
    missing: Annotated[
        Missing, typer.Option(help="Missing feature cells: stop, or fit on what is observed.")
    ] = Missing.error,
) -> None:
    """Look at a table before it is harmonized: sites, confounding, later tests, missing cells, suspicious features.

    Give it the options that harmonize will have.

    Exits with 0 if there is no problem, with 1 if there is one; harmonize and flow report problems and go on.
    """
    with plainly():
        from pycombat_gam.audit import audit as look
        from pycombat_gam.tables.files import read_table

        table = read_table(data, [batch, *(ids or [])]).table
        result = look(
            table,
            formula,
            batch,
            features=chosen_features(features, table, formula=formula, batch=batch, ids=ids),
            id=ids or None,
            ref_batch=ref,
            eb=eb,
            prior=prior.value,
            mean_only=mean_only,
            missing=missing.value,
        )
        typer.echo(str(result))
    if result.worst == "problem":
        raise typer.Exit(1)
