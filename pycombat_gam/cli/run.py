"""The files of a run: places checked before the work, all written or none half, `run.json` last."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO, TypeAlias

from pycombat_gam.cli.shell import progress
from pycombat_gam.errors import OutputError
from pycombat_gam.saving.atomic import write_files
from pycombat_gam.saving.container import Saved, proven, write_stream
from pycombat_gam.tables.files import file_sha256
from pycombat_gam.types import JsonDict
from pycombat_gam.words import listing

Writer: TypeAlias = Callable[[BinaryIO], None]

RUN = "run.json"
PACKAGES = ("pycombat-gam", "numpy", "pandas", "scipy")
REPORTING = ("matplotlib", "scikit-learn", "statsmodels")
"""Packages whose versions matter to a report besides those that always do."""


def check_place(out: Path, names: Collection[str], *, force: bool) -> None:
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


def write_run(
    out: Path,
    files: Mapping[str, Writer],
    run: JsonDict,
    *,
    force: bool,
    seeds: Mapping[str, int] | None = None,
    packages: Sequence[str] = (),
) -> None:
    """Write a run's files, all or none of them half, and `run.json` last.

    Parameters
    ----------
    files : what writes each, by name.
    run : what was asked for; versions, seeds and hashes are added.
    packages : whose versions matter besides those that always do.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create folder '{out}': {error.strerror}") from error
    hashes: dict[str, str] = {}
    record = {
        **run,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in (*PACKAGES, *packages)},
        },
        "seeds": dict(seeds or {}),
        "files": hashes,
    }
    writers = {name: _hashing(write, name, hashes) for name, write in files.items()}
    writers[RUN] = lambda stream: _put(stream, (json.dumps(record, indent=2) + "\n").encode())
    # Once more: another run may have written there since.
    write_files(out, writers, check=lambda: check_place(out, writers, force=force))


def text_writer(text: str) -> Writer:
    """Return a function that writes a text to a binary stream."""
    return lambda stream: _put(stream, f"{text}\n".encode())


def model_writer(model: Saved) -> Writer:
    """Return a function that writes a model to a binary stream."""
    return lambda stream: write_stream(stream, proven(model))


def say_where(out: Path, names: Mapping[str, str]) -> None:
    """Print where each file of a run is, and what it is."""
    for name, what in names.items():
        progress.print(f"  {what:<17} {out / name}", markup=False)


def say_left(out: Path, names: Sequence[str]) -> None:
    """Say that files of an earlier run, which this one did not write, are still there."""
    left = [name for name in names if (out / name).exists()]
    if left:
        progress.print(f"Note: {listing(left)} in '{out}' is of an earlier run", markup=False, style="yellow")


def _hashing(write: Writer, name: str, hashes: dict[str, str]) -> Writer:
    """Wrap a writer so that the hash of what it wrote is kept."""

    def write_and_hash(stream: BinaryIO) -> None:
        write(stream)
        stream.flush()
        hashes[name] = file_sha256(Path(stream.name))

    return write_and_hash


def _put(stream: BinaryIO, content: bytes) -> None:
    stream.write(content)
