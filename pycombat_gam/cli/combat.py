"""The commands that fit ComBat: demo and harmonize."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pycombat_gam.cli.shell import (
    Features,
    Force,
    Missing,
    Prior,
    Seed,
    SmoothingBy,
    Unseen,
    WithReport,
    chosen_features,
    plainly,
    progress,
)
from pycombat_gam.words import count, listing

if TYPE_CHECKING:
    import pandas as pd

    from pycombat_gam.cli.run import Writer
    from pycombat_gam.combat.estimator import ComBat
    from pycombat_gam.types import JsonDict

DEMO_FORMULA = "~ s(age) + sex + dx"
DEMO_FEATURES = "_thickness$"
EFFECTS = "effects.csv"


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("pycombat-gam-demo"),
    force: Force = False,
) -> None:
    """Harmonize the packaged 8-site example and say where the results are."""
    with plainly():
        from pycombat_gam import datasets
        from pycombat_gam.cli.evidence import audited, reported, say_audit, say_report
        from pycombat_gam.cli.run import REPORTING, check_place, say_where, write_run
        from pycombat_gam.combat.estimator import ComBat
        from pycombat_gam.report import FILES

        table = datasets.load_multisite()
        model = ComBat(DEMO_FORMULA, batch="site", features=DEMO_FEATURES, id="subject")
        check_place(out, [*_names(".csv", model), *FILES], force=force)
        harmonized = model.fit_transform(table)
        checked = audited(model, table)
        report = reported(model, table, harmonized, checked, seed=0)
        run: JsonDict = {"command": ["demo"], "input": "packaged example"}
        files = {**_outputs(model, harmonized, ".csv"), **report}
        write_run(out, files, run, force=force, seeds={"seed": 0}, packages=REPORTING)
        say_audit(checked)
        progress.print(f"{count(len(table), 'subject')} at {table['site'].nunique()} sites, harmonized.")
        say_where(out, _names(".csv", model) | say_report(report))


def harmonize(
    data: Annotated[Path, typer.Argument(help="CSV, TSV or Parquet table: a row per subject or visit.")],
    batch: Annotated[str, typer.Option(help="Column of site labels.")],
    out: Annotated[Path, typer.Option(help="Folder for table, model, summary and report.")],
    formula: Annotated[str, typer.Option(help="What to keep, in R's notation.")] = "~ 1",
    ids: Annotated[
        list[str] | None, typer.Option("--id", help="Column that identifies rows; repeat for several.")
    ] = None,
    features: Features = None,
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
    with_report: WithReport = True,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Fit ComBat to a table and write the harmonized table, the model, a summary and a report.

    Problems that the audit finds are reported and don't stop it (exit 0); to stop at them, run audit first (exit 1).
    """
    with plainly():
        from pycombat_gam.cli.evidence import audited, reported, say_audit, say_report
        from pycombat_gam.cli.run import REPORTING, check_place, say_left, say_where, write_run
        from pycombat_gam.combat.estimator import ComBat
        from pycombat_gam.report import FILES
        from pycombat_gam.tables.files import read_table, suffix_of, verbatim

        suffix = suffix_of(data)
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
            on_unseen=on_unseen.value,
            seed=seed,
        )
        check_place(out, [*_names(suffix, model), *FILES], force=force)
        harmonized = model.fit_transform(source.table)
        checked = audited(model, source.table)
        report = reported(model, source.table, harmonized, checked, seed=seed, source=source) if with_report else {}
        names = model.get_feature_names_out().tolist()
        files = {**_outputs(model, verbatim(source, harmonized, names), suffix), **report}
        run = {"command": ["harmonize", *sys.argv[2:]], "input": {"file": str(data), "sha256": source.sha256}}
        write_run(
            out,
            files,
            run,
            force=force,
            seeds={"seed": seed} if report or prior is Prior.bayes else None,
            packages=REPORTING,
        )
        sites = len(model.estimates.gamma_star)
        say_audit(checked)
        progress.print(
            f"Harmonized {count(len(names), 'feature')} ({listing(names, 6)}) of {count(len(harmonized), 'row')} at "
            f"{count(sites, 'site')}.",
            markup=False,
        )
        say_where(out, _names(suffix, model) | say_report(report))
        say_left(out, [name for name in (EFFECTS, *FILES) if name not in files])


def _names(suffix: str, model: ComBat) -> dict[str, str]:
    """File names of a run, in the order they are put in place, and what they are."""
    from pycombat_gam.cli.run import RUN
    from pycombat_gam.formula import parse_formula

    # A formula of sites alone, or with random effects alone, has no term to test.
    formula = parse_formula(model.formula)
    tested = formula.parametric or any(not smooth.random for smooth in formula.smooths)
    return {
        f"harmonized{suffix}": "harmonized table",
        "model.pcg": "model",
        "summary.txt": "summary",
        **({EFFECTS: "tests of terms"} if tested else {}),
        RUN: "run record",
    }


def _outputs(model: ComBat, harmonized: pd.DataFrame, suffix: str) -> dict[str, Writer]:
    from pycombat_gam.cli.run import model_writer, text_writer
    from pycombat_gam.tables.files import table_writer

    table_name, model_name, summary_name, *others = _names(suffix, model)
    files = {
        table_name: table_writer(harmonized, suffix),
        model_name: model_writer(model),
        summary_name: text_writer(str(model.summary())),
    }
    if EFFECTS in others:
        files[EFFECTS] = table_writer(model.test().table, ".csv")
    return files
