"""The commands that fit ComBat: demo and harmonize."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from pycombat_gam import datasets
from pycombat_gam.cli.run import Writer, check_place, model_writer, say_where, text_writer, write_run
from pycombat_gam.cli.shell import Force, Missing, Prior, SmoothingBy, Unseen, plainly, progress
from pycombat_gam.combat import ComBat
from pycombat_gam.errors import count, listing
from pycombat_gam.io import read_table, suffix_of, table_writer, verbatim
from pycombat_gam.types import JsonDict

DEMO_FORMULA = "~ age + I(age^2) + sex + dx"
DEMO_FEATURES = "_thickness$"


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("pycombat-gam-demo"),
    force: Force = False,
) -> None:
    """Harmonize the packaged 8-site example and say where the results are."""
    with plainly():
        table = datasets.load_multisite()
        model = ComBat(DEMO_FORMULA, batch="site", features=DEMO_FEATURES, id="subject")
        harmonized = model.fit_transform(table)
        run: JsonDict = {"command": ["demo"], "input": "packaged example"}
        write_run(out, _outputs(model, harmonized, ".csv"), run, force=force)
        progress.print(f"{count(len(table), 'subject')} at {table['site'].nunique()} sites, harmonized.")
        say_where(out, _names(".csv"))


def harmonize(
    data: Annotated[Path, typer.Argument(help="CSV, TSV or Parquet table: a row per subject or visit.")],
    batch: Annotated[str, typer.Option(help="Column of site labels.")],
    out: Annotated[Path, typer.Option(help="Folder for table, model and summary.")],
    formula: Annotated[str, typer.Option(help="What to keep, in R's notation.")] = "~ 1",
    ids: Annotated[
        list[str] | None, typer.Option("--id", help="Column that identifies rows; repeat for several.")
    ] = None,
    features: Annotated[str | None, typer.Option(help="Regular expression searched in column names.")] = None,
    ref: Annotated[str | None, typer.Option(help="Reference site; it passes through unchanged.")] = None,
    eb: Annotated[bool, typer.Option("--eb/--no-eb", help="Shrink site effects by empirical Bayes.")] = True,
    prior: Annotated[Prior, typer.Option(help="Prior of the site effects.")] = Prior.parametric,
    mean_only: Annotated[bool, typer.Option("--mean-only", help="Adjust location only.")] = False,
    smoothing: Annotated[SmoothingBy, typer.Option(help="What sets the smoothing parameters.")] = SmoothingBy.REML,
    missing: Annotated[
        Missing, typer.Option(help="Missing feature cells: stop, or fit on what is observed.")
    ] = Missing.error,
    on_unseen: Annotated[
        Unseen, typer.Option(help="Stored in the model: what apply does with new sites.")
    ] = Unseen.error,
    force: Force = False,
) -> None:
    """Fit ComBat to a table and write the harmonized table, the model and a summary."""
    with plainly():
        suffix = suffix_of(data)
        check_place(out, [*_names(suffix)], force=force)
        source = read_table(data, [batch, *(ids or [])])
        model = ComBat(
            formula,
            batch,
            features=features,
            id=ids or None,
            ref_batch=ref,
            eb=eb,
            prior=prior.value,
            mean_only=mean_only,
            smoothing=smoothing.value,
            missing=missing.value,
            on_unseen=on_unseen.value,
        )
        harmonized = verbatim(source, model.fit_transform(source.table), model.get_feature_names_out().tolist())
        run = {"command": ["harmonize", *sys.argv[2:]], "input": {"file": str(data), "sha256": source.sha256}}
        write_run(out, _outputs(model, harmonized, suffix), run, force=force)
        names = model.get_feature_names_out().tolist()
        sites = len(model.estimates.gamma_star)
        progress.print(
            f"Harmonized {count(len(names), 'feature')} ({listing(names, 6)}) of {count(len(harmonized), 'row')} at "
            f"{count(sites, 'site')}.",
            markup=False,
        )
        say_where(out, _names(suffix))


def _names(suffix: str) -> dict[str, str]:
    """File names of a run, in the order they are put in place, and what they are."""
    return {
        f"harmonized{suffix}": "harmonized table",
        "model.pcg": "model",
        "summary.txt": "summary",
        "run.json": "run record",
    }


def _outputs(model: ComBat, harmonized: pd.DataFrame, suffix: str) -> dict[str, Writer]:
    table_name, model_name, summary_name, _ = _names(suffix)
    return {
        table_name: table_writer(harmonized, suffix),
        model_name: model_writer(model.to_container),
        summary_name: text_writer(str(model.summary())),
    }
