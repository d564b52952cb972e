"""The command line: demo, harmonize, apply, summary. Progress on stderr; exit 2 and one line on bad input."""

from __future__ import annotations

import json
import platform
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Annotated, BinaryIO

import pandas as pd
import typer
from rich.console import Console

from pycombat_gam import datasets
from pycombat_gam.atomic import sweep, write_file, write_files
from pycombat_gam.combat import ComBat
from pycombat_gam.container import write_stream
from pycombat_gam.errors import OutputError, PcgError, PcgWarning, count, listing
from pycombat_gam.io import PARQUET, file_sha256, read_table, suffix_of, table_writer, verbatim
from pycombat_gam.saved import load
from pycombat_gam.types import JsonDict

app = typer.Typer(
    name="pycombat-gam",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
progress = Console(stderr=True, highlight=False, soft_wrap=True)


class Prior(str, Enum):
    """Priors of the empirical Bayes step."""

    parametric = "parametric"
    nonparametric = "nonparametric"


class Missing(str, Enum):
    """What to do with missing feature cells."""

    error = "error"
    omit = "omit"


class SmoothingBy(str, Enum):
    """What sets the smoothing parameters."""

    REML = "REML"
    ML = "ML"
    GCV = "GCV"


class Unseen(str, Enum):
    """What to do with sites that were not in the fit."""

    error = "error"
    estimate = "estimate"


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


Force = Annotated[bool, typer.Option("--force", help="Overwrite files of an earlier run.")]


@contextmanager
def plainly() -> Iterator[None]:
    """Turn our errors into one line and exit 2, our warnings into lines on stderr."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default", PcgWarning)
            yield
    except PcgError as error:
        progress.print(f"Error: {_in_options(' '.join(str(error).split()))}", markup=False, style="red")
        raise typer.Exit(2) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        progress.print(f"Error: '{error.filename}': {error.strerror or error}", markup=False, style="red")
        raise typer.Exit(2) from None
    finally:
        for item in caught:
            if issubclass(item.category, PcgWarning):
                progress.print(f"Note: {_in_options(str(item.message))}", markup=False, style="yellow")


_OPTIONS = {
    "missing='omit'": "--missing omit",
    "on_unseen='estimate'": "--on-unseen estimate",
    "eb=False": "--no-eb",
    "id=['subject', 'visit']": "--id subject --id visit",
    "id=…": "--id",
    "features=…": "--features",
    "force=True": "--force",
    "read_csv: decimal=','": "decimal points",
}
"""What messages say to Python's users, as options of the command line."""


def _in_options(message: str) -> str:
    for argument, option in _OPTIONS.items():
        message = message.replace(argument, option)
    return message.replace("ref_batch '", "--ref '", 1) if message.startswith("ref_batch '") else message


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("pycombat-gam-demo"),
    force: Force = False,
) -> None:
    """Harmonize the packaged 8-site example and say where the results are."""
    with plainly():
        table = datasets.load_multisite()
        model = ComBat(DEMO_FORMULA, batch="site", features=DEMO_FEATURES, id="subject")
        with progress.status("harmonizing the packaged example"):
            harmonized = model.fit_transform(table)
        files = _outputs(model, harmonized, ".csv")
        run: JsonDict = {"command": ["demo"], "input": "packaged example"}
        _write(out, files, run, force=force)
        progress.print(f"{count(len(table), 'subject')} at {table['site'].nunique()} sites, harmonized.")
        _say_where(out, files)


DEMO_FORMULA = "~ age + I(age^2) + sex + dx"
DEMO_FEATURES = "_thickness$"


@app.command()
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
        _check_place(out, [*_names(suffix)], force=force)
        with progress.status(f"reading {data}"):
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
        with progress.status("harmonizing"):
            harmonized = verbatim(source, model.fit_transform(source.table), model.get_feature_names_out().tolist())
        files = _outputs(model, harmonized, suffix)
        run = {"command": ["harmonize", *sys.argv[2:]], "input": {"file": str(data), "sha256": source.sha256}}
        _write(out, files, run, force=force)
        names = model.get_feature_names_out().tolist()
        sites = len(model.estimates.gamma_star)
        progress.print(
            f"Harmonized {count(len(names), 'feature')} ({listing(names, 6)}) of {count(len(harmonized), 'row')} at "
            f"{count(sites, 'site')}.",
            markup=False,
        )
        _say_where(out, files)


@app.command()
def apply(
    model: Annotated[Path, typer.Argument(help="Model file that harmonize wrote (.pcg).")],
    data: Annotated[Path, typer.Argument(help="New rows, in the same columns.")],
    out: Annotated[Path, typer.Option(help="File for the harmonized table.")],
    on_unseen: Annotated[
        Unseen | None, typer.Option(help="New sites: stop, or estimate them from these rows; else as the model says.")
    ] = None,
    missing: Annotated[
        Missing | None, typer.Option(help="Missing feature cells: stop, or leave them missing; else as the model says.")
    ] = None,
    force: Force = False,
) -> None:
    """Harmonize new rows with a saved model."""
    with plainly():
        fitted = load(model)
        for name, choice in (("on_unseen", on_unseen), ("missing", missing)):
            if choice is not None:
                fitted.set_params(**{name: choice.value})
        suffix = suffix_of(out)
        if out.exists() and not force:
            raise OutputError(f"'{out}' exists already: use --force to overwrite it")
        with progress.status(f"reading {data}"):
            ids = [fitted.id] if isinstance(fitted.id, str) else list(fitted.id or [])
            source = read_table(data, [fitted.batch, *ids])
        harmonized = fitted.transform(source.table)
        if suffix != PARQUET:
            harmonized = verbatim(source, harmonized, fitted.get_feature_names_out().tolist())
        sweep(out.parent, [out.name])
        write_file(out, table_writer(harmonized, suffix))
        progress.print(f"harmonized table: {out}", markup=False)


@app.command()
def summary(model: Annotated[Path, typer.Argument(help="Model file that harmonize wrote (.pcg).")]) -> None:
    """Print what a saved model holds."""
    with plainly():
        typer.echo(str(load(model).summary()))


def _names(suffix: str) -> dict[str, str]:
    """File names of a run, in the order they are put in place, and what they are."""
    return {
        f"harmonized{suffix}": "harmonized table",
        "model.pcg": "model",
        "summary.txt": "summary",
        "run.json": "run",
    }


def _outputs(model: ComBat, harmonized: pd.DataFrame, suffix: str) -> dict[str, Callable[[BinaryIO], None]]:
    table_name, model_name, summary_name, _ = _names(suffix)
    text = f"{model.summary()}\n".encode()
    return {
        table_name: table_writer(harmonized, suffix),
        model_name: lambda stream: write_stream(stream, model.to_container()),
        summary_name: lambda stream: _put(stream, text),
    }


def _check_place(out: Path, names: list[str], *, force: bool) -> None:
    """Stop early when results could not be put in place."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"'{out}' is a file: --out must be a folder")
    present = [name for name in names if (out / name).exists()]
    folders = [name for name in present if (out / name).is_dir()]
    if folders:
        raise OutputError(f"'{out}' has a folder named {listing(folders)}: rename it, or choose another --out")
    if present and not force:
        raise OutputError(
            f"'{out}' has {listing(present)} of an earlier run: use --force to overwrite, or another --out"
        )


def _write(out: Path, files: dict[str, Callable[[BinaryIO], None]], run: JsonDict, *, force: bool) -> None:
    """Write a run's files, all or none of them half, and `run.json` last."""
    _check_place(out, [*files, "run.json"], force=force)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create folder '{out}': {error.strerror}") from error
    sweep(out, [*files, "run.json"])
    hashes: dict[str, str] = {}
    run |= {
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("pycombat-gam", "numpy", "pandas", "scipy")},
        },
        "seeds": {},
        "files": hashes,
    }
    writers = {name: _hashing(write, name, hashes) for name, write in files.items()}
    writers["run.json"] = lambda stream: _put(stream, (json.dumps(run, indent=2) + "\n").encode())
    write_files(out, writers)


def _hashing(write: Callable[[BinaryIO], None], name: str, hashes: dict[str, str]) -> Callable[[BinaryIO], None]:
    """Wrap a writer so that the hash of what it wrote is kept."""

    def write_and_hash(stream: BinaryIO) -> None:
        write(stream)
        stream.flush()
        hashes[name] = file_sha256(Path(stream.name))

    return write_and_hash


def _put(stream: BinaryIO, content: bytes) -> None:
    stream.write(content)


def _say_where(out: Path, files: dict[str, Callable[[BinaryIO], None]]) -> None:
    for name, what in zip([*files, "run.json"], ("harmonized table", "model", "summary", "run record"), strict=True):
        progress.print(f"  {what:<17} {out / name}", markup=False)


def main() -> None:
    """Run the command line, with the commands that other packages register."""
    for entry in entry_points(group="pycombat_gam.commands"):
        app.command(entry.name)(entry.load())
    try:
        code = app(standalone_mode=False)
    except Exception as error:
        # Errors of usage; their class has another name in every release of typer.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        if message():
            progress.print(f"Error: {' '.join(message().split())}", markup=False, style="red")
        sys.exit(2)
    sys.exit(code or 0)
