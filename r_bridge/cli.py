"""Commands that `pycombat-gam` gains with R: registered through the entry points of `pyproject.toml`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pycombat_gam.cli.shell import Features, Force, Missing, Prior, SmoothingBy, chosen_features, plainly, progress
from pycombat_gam.errors import OutputError


def crosscheck(
    data: Annotated[Path, typer.Argument(help="CSV, TSV or Parquet table: a row per subject or visit.")],
    batch: Annotated[str, typer.Option(help="Column of site labels.")],
    out: Annotated[Path, typer.Option(help="HTML page to write; a folder for R alone gets its name.")],
    formula: Annotated[str, typer.Option(help="What to keep, in R's notation.")] = "~ 1",
    ids: Annotated[
        list[str] | None, typer.Option("--id", help="Column that identifies rows; repeat for several.")
    ] = None,
    features: Features = None,
    ref: Annotated[str | None, typer.Option(help="Reference site.")] = None,
    eb: Annotated[bool, typer.Option("--eb/--no-eb", help="Shrink site effects by empirical Bayes.")] = True,
    prior: Annotated[Prior, typer.Option(help="Prior of the site effects.")] = Prior.parametric,
    mean_only: Annotated[bool, typer.Option("--mean-only", help="Adjust location only.")] = False,
    smoothing: Annotated[SmoothingBy, typer.Option(help="What sets the smoothing parameters.")] = SmoothingBy.REML,
    missing: Annotated[
        Missing, typer.Option(help="Missing feature cells: stop, or fit on what is observed.")
    ] = Missing.error,
    engines: Annotated[
        list[str] | None, typer.Option("--engine", help="R package to ask; repeat for several. All, if not given.")
    ] = None,
    force: Force = False,
) -> None:
    """Fit the same model here and in R, compare number by number, and leave evidence that R alone can rerun.

    Exits with 0 where all differences are within their tolerance or explained, with 1 otherwise.
    """
    with plainly():
        from pycombat_gam.combat.estimator import ComBat
        from pycombat_gam.tables.files import read_table
        from r_bridge.agreement import crosscheck as compare

        if out.suffix.lower() not in (".html", ".htm"):
            raise OutputError(f"'{out}' is not a page: give --out a name that ends in .html")
        source = read_table(data, [batch, *(ids or [])])
        model = ComBat(
            formula,
            batch,
            features=chosen_features(features, source.table, formula=formula, batch=batch, ids=ids),
            id=ids or None,
            ref_batch=ref,
            eb=eb,
            prior=prior.value,
            mean_only=mean_only,
            smoothing=smoothing.value,
            missing=missing.value,
        )
        agreement = compare(model, source.table, engines=engines)
        out.parent.mkdir(parents=True, exist_ok=True)
        agreement.write(out, force=force)
        typer.echo(str(agreement))
        progress.print(f"  page              {out}", markup=False)
        progress.print(f"  to rerun in R     Rscript {out.with_suffix('') / 'agreement.R'}", markup=False)
    if not agreement.agrees:
        raise typer.Exit(1)


def doctor() -> None:
    """Check R, rpy2 and R's packages, and say how to get what is missing.

    Exits with 0 if R, rpy2 and mgcv are usable, with 1 otherwise.
    """
    from r_bridge.checkup import doctor as diagnose

    checkup = diagnose()
    typer.echo(str(checkup))
    raise typer.Exit(0 if checkup.usable else 1)
