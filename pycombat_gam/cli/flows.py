"""The command that trains a flow. torch is imported when it runs, and not before."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pycombat_gam.cli.shell import Features, Force, WithReport, chosen_features, plainly, progress
from pycombat_gam.errors import OptionError, OutputError, flow_requirements
from pycombat_gam.words import count, listing

if TYPE_CHECKING:
    import pandas as pd

    from pycombat_gam.cli.run import Writer
    from pycombat_gam.flow.estimator import FlowSCM
    from pycombat_gam.tables.files import TableFile


class Family(str, Enum):
    """Kinds of flow; `flow.recipe.FLOWS`, which needs torch."""

    structured = "structured"
    affine = "affine"
    spline = "spline"
    autoregressive = "autoregressive"
    coupling = "coupling"


class Variant(str, Enum):
    """Variants of the structured flow; `flow.structured.VARIANTS`."""

    auto = "auto"
    residual = "residual"
    whole = "whole"
    residual_shape = "residual-shape"
    whole_shape = "whole-shape"


class Base(str, Enum):
    """Distributions of the noise; `flow.density.BASES`."""

    student_t = "student_t"
    normal = "normal"


def flow(
    data: Annotated[Path, typer.Argument(help="CSV, TSV or Parquet table: a row per subject or visit.")],
    batch: Annotated[str, typer.Option(help="Column of site labels.")],
    out: Annotated[Path, typer.Option(help="Folder for table, model, summary, training and report.")],
    formula: Annotated[
        str, typer.Option(help="What the features depend on besides the site, in R's notation.")
    ] = "~ 1",
    to: Annotated[
        str | None, typer.Option(help="Site to go to; else the reference site, or the average over sites.")
    ] = None,
    family: Annotated[Family, typer.Option("--flow", help="Kind of flow.")] = Family.structured,
    variant: Annotated[
        Variant | None, typer.Option(help="Structured flow: the site's map; auto chooses by held-out probability.")
    ] = None,
    base: Annotated[Base, typer.Option(help="Distribution of the noise.")] = Base.student_t,
    ref: Annotated[str | None, typer.Option(help="Reference site, stored in the model: where apply goes too.")] = None,
    ids: Annotated[
        list[str] | None, typer.Option("--id", help="Column that identifies rows; repeat for several.")
    ] = None,
    features: Features = None,
    members: Annotated[int, typer.Option(min=1, help="Models of the ensemble, for --interval; 1 for none.")] = 1,
    interval: Annotated[
        float | None, typer.Option(help="Level of intervals for harmonized values, such as 0.95; needs --members.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu or cuda.")] = "auto",
    epochs: Annotated[int | None, typer.Option(min=1, help="Most epochs of each training.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="File that the training is written to while it runs.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint, if it is there.")] = False,
    with_report: WithReport = True,
    force: Force = False,
) -> None:
    """Train a flow on a table: what would each row measure at another site, or at the average of all?

    Problems that the audit finds are reported and don't stop it (exit 0); to stop at them, run audit first (exit 1).
    """
    with plainly():
        from pycombat_gam.cli.evidence import audited, reported, say_audit, say_report
        from pycombat_gam.cli.run import REPORTING, check_place, say_left, say_where, write_run
        from pycombat_gam.report import FILES
        from pycombat_gam.tables.files import read_table, suffix_of

        flow_requirements()
        suffix = suffix_of(data)
        _check_interval(interval, members)
        check_place(out, [*_names(suffix, interval=True), *FILES], force=force)
        _check_checkpoint(checkpoint, resume=resume, force=force)
        source = read_table(data, [batch, *(ids or [])])
        sites = _check_target(source, batch, to)
        from pycombat_gam.flow.estimator import FlowSCM

        model = FlowSCM(
            formula,
            batch,
            flow=family.value,
            ref_batch=ref,
            features=chosen_features(features, source.table, formula=formula, batch=batch, ids=ids),
            id=ids or None,
            base=base.value,
            flow_options=None if variant is None else {"variant": variant.value},
            n_members=members,
            training=None if epochs is None else {"max_epochs": epochs},
            seed=seed,
            device=device,
        )
        model.fit(source.table, checkpoint=checkpoint, resume=resume)
        checked = audited(model, source.table)
        harmonized = model.transform(source.table, to=to)
        report = reported(model, source.table, harmonized, checked, seed=seed, source=source) if with_report else {}
        files = {**_outputs(model, source, harmonized, suffix, to=to, interval=interval), **report}
        run = {"command": ["flow", *sys.argv[2:]], "input": {"file": str(data), "sha256": source.sha256}}
        write_run(out, files, run, force=force, seeds={"seed": seed}, packages=("torch", "zuko", *REPORTING))
        say_audit(checked)
        _say(model, source, sites, to)
        names = _names(suffix, interval=interval is not None) | say_report(report)
        say_where(out, names)
        say_left(out, [name for name in (*_names(suffix, interval=True), *FILES) if name not in names])


def _names(suffix: str, *, interval: bool) -> dict[str, str]:
    """File names of a run, in the order they are put in place, and what they are."""
    from pycombat_gam.cli.run import RUN

    ends = {f"interval_{end}{suffix}": f"{end} ends" for end in ("lower", "upper")}
    return {
        f"harmonized{suffix}": "harmonized table",
        **(ends if interval else {}),
        "model.pcg": "model",
        "summary.txt": "summary",
        "training.csv": "training",
        RUN: "run record",
    }


def _outputs(
    model: FlowSCM,
    source: TableFile,
    harmonized: pd.DataFrame,
    suffix: str,
    *,
    to: str | None,
    interval: float | None,
) -> dict[str, Writer]:
    """Return what writes each file but the report."""
    from pycombat_gam.cli.run import model_writer, text_writer
    from pycombat_gam.tables.files import table_writer, verbatim

    names = model.get_feature_names_out().tolist()
    tables = [harmonized]
    if interval is not None:
        band = model.interval(source.table, to=to, level=interval)
        tables += [harmonized.assign(**{name: ends[name] for name in names}) for ends in (band.lower, band.upper)]
    writers = [
        *(table_writer(verbatim(source, table, names), suffix) for table in tables),
        model_writer(model),
        text_writer(str(model.summary())),
        table_writer(model.history_.drop(columns="seconds"), ".csv"),
    ]
    return dict(zip(_names(suffix, interval=interval is not None), writers, strict=False))


def _check_interval(level: float | None, members: int) -> None:
    if level is None:
        return
    if not 0 < level < 1:
        raise OptionError(f"--interval {level:g}: give a number between 0 and 1, such as 0.95")
    if members < 2:
        raise OptionError("--interval needs an ensemble: add --members 20, say")


def _check_checkpoint(checkpoint: Path | None, *, resume: bool, force: bool) -> None:
    if checkpoint is None:
        if resume:
            raise OptionError("--resume goes on from a checkpoint: give its file with --checkpoint")
        return
    if checkpoint.is_dir() or not checkpoint.parent.is_dir():
        raise OutputError(f"--checkpoint '{checkpoint}': give a file in a folder that exists")
    if checkpoint.exists() and not (resume or force):
        raise OutputError(f"'{checkpoint}' exists already: --resume goes on from it, --force overwrites it")


def _check_target(source: TableFile, batch: str, to: str | None) -> int:
    """Stop before the training where the site to go to is not there; return how many sites there are."""
    from pycombat_gam.batch.levels import BatchLevels
    from pycombat_gam.tables.intake import find_column

    levels = BatchLevels.learn(find_column(source.table, batch, "batch"), batch)
    if to is not None:
        levels.index(to, "to")
    return len(levels)


def _say(model: FlowSCM, source: TableFile, sites: int, to: str | None) -> None:
    names = model.get_feature_names_out().tolist()
    target = model.ref_batch if to is None else to
    where = "the average over sites" if target is None else f"{target}"
    progress.print(
        f"Harmonized {count(len(names), 'feature')} ({listing(names, 6)}) of {count(len(source.table), 'row')} at "
        f"{count(sites, 'site')}, to {where}.",
        markup=False,
    )
    if to is not None and to != model.ref_batch:
        stored = "the average over sites" if model.ref_batch is None else f"{model.ref_batch}"
        progress.print(f"The model itself goes to {stored}: give apply the same --to {to}.", markup=False)
