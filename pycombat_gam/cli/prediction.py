"""The commands of prediction: train, and predict with a saved model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pycombat_gam.cli.models import check_free, load_predictor, put
from pycombat_gam.cli.shell import Features, Force, WithReport, chosen_features, plainly, progress
from pycombat_gam.errors import DataError, OptionError
from pycombat_gam.words import count

if TYPE_CHECKING:
    import pandas as pd

    from pycombat_gam.cli.run import Writer
    from pycombat_gam.predict.predictor import Predictor

TABLES = {
    "overall": "measures over sites",
    "by_site": "measures by site",
    "calibration": "calibration",
    "sets": "sets over sites",
    "coverage": "sets by site",
    "net_benefit": "net benefit",
    "comparison": "raw beside it",
    "left_out": "rows left out",
}
"""Tables of the validation that a run writes, those that are not empty, and what each is."""
NAMES = {"model.pcg": "model", "summary.txt": "summary", **{f"{name}.csv": what for name, what in TABLES.items()}}
BETWEEN = "|"
"""Between the classes of a set in a text file."""


def train(
    data: Annotated[Path, typer.Argument(help="CSV, TSV or Parquet table: a row per subject, visit or image.")],
    outcome: Annotated[str, typer.Option(help="Outcome and covariates, such as 'dx ~ age + sex', in R's notation.")],
    batch: Annotated[str, typer.Option(help="Column of site labels.")],
    out: Annotated[Path, typer.Option(help="Folder for model, tables, summary and report.")],
    ids: Annotated[
        list[str] | None, typer.Option("--id", help="Column that identifies rows; repeat for several.")
    ] = None,
    features: Features = None,
    harmonize: Annotated[
        str | None, typer.Option(help="Harmonize features inside every fold by ComBat: its formula, without outcome.")
    ] = None,
    level: Annotated[float, typer.Option(help="How often sets hold the truth.")] = 0.9,
    per_class: Annotated[
        bool, typer.Option("--per-class/--no-per-class", help="Let the level hold whichever class is the true one.")
    ] = True,
    sites: Annotated[
        float | None, typer.Option(help="Share of new sites at which the level holds; else on average over them.")
    ] = None,
    guarantee: Annotated[
        bool, typer.Option("--guarantee/--no-guarantee", help="Guaranteed sets, or narrower estimated ones.")
    ] = True,
    case: Annotated[str | None, typer.Option(help="Column of cases: several rows get one answer.")] = None,
    taxonomy: Annotated[
        Path | None, typer.Option(help="Tree of classes: a CSV, TSV or Parquet table with columns child and parent.")
    ] = None,
    max_size: Annotated[
        int | None, typer.Option(help="With --taxonomy: split a node while it has more cases than this.")
    ] = None,
    horizons: Annotated[
        list[float] | None, typer.Option(help="Of 'Surv(time, event) ~ …': a time at which risk is given; repeat.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bags in which few rows are harmonized.")] = 0,
    with_report: WithReport = True,
    force: Force = False,
) -> None:
    """Train a predictor, and judge it at every site as if that site were new.

    Every site is left out in turn. The summary says first what is guaranteed at a new site.
    """
    with plainly():
        from pycombat_gam.cli.evidence import reported_prediction, say_report
        from pycombat_gam.cli.run import (
            REPORTING,
            RUN,
            check_place,
            model_writer,
            say_left,
            say_where,
            text_writer,
            write_run,
        )
        from pycombat_gam.combat.estimator import ComBat
        from pycombat_gam.predict.predictor import Predictor
        from pycombat_gam.report import FILES
        from pycombat_gam.tables.files import read_table, table_writer

        if max_size is not None and taxonomy is None:
            raise OptionError("--max-size is of the tree that --taxonomy names: give it")
        check_place(out, [*NAMES, RUN, *FILES], force=force)
        source = read_table(data, [batch, *(ids or []), *([] if case is None else [case])])
        model = Predictor(
            outcome,
            batch,
            id=ids or None,
            features=_features(features, source.table, outcome, batch, ids, case),
            harmonizer=None if harmonize is None else ComBat(harmonize, batch),
            level=level,
            per_class=per_class,
            sites=sites,
            guarantee=guarantee,
            case=case,
            taxonomy=None if taxonomy is None else _tree(taxonomy, max_size),
            horizons=tuple(horizons) if horizons else None,
            seed=seed,
        ).fit(source.table)
        validation = model.validation
        tables = {name: getattr(validation, name) for name in TABLES}
        files: dict[str, Writer] = {"model.pcg": model_writer(model), "summary.txt": text_writer(str(validation))}
        files |= {f"{name}.csv": table_writer(_flat(part), ".csv") for name, part in tables.items() if len(part)}
        report = reported_prediction(model, source) if with_report else {}
        run = {"command": ["train", *sys.argv[2:]], "input": {"file": str(data), "sha256": source.sha256}}
        write_run(out, {**files, **report}, run, force=force, seeds={"seed": seed}, packages=REPORTING)
        units = "row" if case is None else "case"
        progress.print(
            f"Trained on {count(len(model.fitted.units), units)} at {count(len(model.fitted.levels), 'site')}, each "
            "left out in turn.",
            markup=False,
        )
        written = {name: what for name, what in NAMES.items() if name in files}
        say_where(out, written | say_report(report) | {RUN: "run record"})
        say_left(out, [name for name in (*NAMES, *FILES) if name not in {*files, *report}])
        typer.echo(str(validation))


def predict(
    model: Annotated[Path, typer.Argument(help="Model file that train wrote (.pcg).")],
    data: Annotated[Path, typer.Argument(help="New rows, in the same columns; the outcome is not looked at.")],
    out: Annotated[Path, typer.Option(help="File for the answers, a row for each row or case.")],
    labelled: Annotated[
        Path | None, typer.Option(help="Rows with outcomes at sites of the new rows: they calibrate the sets there.")
    ] = None,
    level: Annotated[
        float | None, typer.Option(help="How often sets hold the truth.", show_default="the model's")
    ] = None,
    sites: Annotated[
        float | None, typer.Option(help="Share of new sites at which the level holds.", show_default="the model's")
    ] = None,
    guarantee: Annotated[
        bool | None,
        typer.Option("--guarantee/--no-guarantee", help="Guaranteed or estimated sets.", show_default="the model's"),
    ] = None,
    force: Force = False,
) -> None:
    """Predict new rows with a saved predictor.

    Rows are named by the model's ids or cases; without any, `row` is the line in the file. In a text file the classes
    of a set stand between bars, as in control|patient; in Parquet they are a list.
    """
    with plainly():
        from pycombat_gam.tables.files import PARQUET, read_table, suffix_of, table_writer

        fitted = load_predictor(model, "predict")
        suffix = suffix_of(out)
        check_free(out, force=force)
        layout = fitted.fitted.layout
        texts = [layout.batch, *layout.ids, *([] if layout.case is None else [layout.case])]
        options = {"level": level, "sites": sites, "guarantee": guarantee}
        fitted.set_params(**{name: value for name, value in options.items() if value is not None})
        rows = read_table(data, texts).table
        known = None if labelled is None else read_table(labelled, texts).table
        answers = _named(fitted, rows, fitted.predict(rows, known))
        put(out, table_writer(_listed(answers) if suffix == PARQUET else _flat(answers), suffix), force=force)
        progress.print(f"answers: {out}", markup=False)


def _features(
    patterns: list[str] | None, table: pd.DataFrame, outcome: str, batch: str, ids: list[str] | None, case: str | None
) -> str | list[str] | None:
    """Return what --features asks for; several patterns leave out the outcome's columns as well."""
    if not patterns or len(patterns) == 1:
        return patterns[0] if patterns else None
    from pycombat_gam.predict.outcome import read_question

    question = read_question(outcome)
    reserved = [*(ids or []), *question.columns, *([] if case is None else [case])]
    return chosen_features(patterns, table, formula=str(question.right), batch=batch, ids=reserved)


def _tree(path: Path, max_size: int | None) -> Any:
    """Read a taxonomy."""
    from pycombat_gam.tables.files import read_table

    table = read_table(path, ["child", "parent"]).table
    if absent := [name for name in ("child", "parent") if name not in table]:
        raise DataError(f"'{path}' has no column {absent[0]}: a taxonomy has two, child and parent")
    from pycombat_gam.predict.taxonomy import Taxonomy

    return Taxonomy(table[["child", "parent"]], max_size=max_size)


def _named(model: Predictor, rows: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Put names before the answers: case, or ids, or the line in the file; and the site."""
    import numpy as np

    layout = model.fitted.layout
    if layout.case is not None:
        first = rows.drop_duplicates(layout.case).set_index(layout.case).loc[answers.index]
        names = {layout.case: answers.index.to_numpy(), layout.batch: first[layout.batch].to_numpy()}
    else:
        ids = {name: rows[name].to_numpy() for name in layout.ids}
        names = {**(ids or {"row": np.asarray(rows.index)}), layout.batch: rows[layout.batch].to_numpy()}
    return answers.reset_index(drop=True).assign(**names)[[*names, *answers.columns]]


def _flat(table: pd.DataFrame) -> pd.DataFrame:
    """Write tuples as text."""
    return _rewritten(table, lambda members: BETWEEN.join(map(str, members)))


def _listed(table: pd.DataFrame) -> pd.DataFrame:
    """Write tuples as lists."""
    return _rewritten(table, list)


def _rewritten(table: pd.DataFrame, write: Callable[[tuple[object, ...]], object]) -> pd.DataFrame:
    import pandas as pd

    out = table.copy()
    for name in table:
        if len(table) and isinstance(table[name].iloc[0], tuple):
            out[name] = pd.Series([write(members) for members in table[name]], index=table.index, dtype=object)
    return out
