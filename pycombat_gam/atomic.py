"""Files that are old or new, never half: written beside their place, synced, renamed."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from pycombat_gam.errors import OutputError


def write_files(folder: Path, writers: Mapping[str, Callable[[BinaryIO], None]]) -> None:
    """Write several files into a folder; their places change only when all of them are safely on disk.

    Parameters
    ----------
    folder : existing folder.
    writers : file name → function that writes its content to a binary stream; renamed in this order.

    Raises
    ------
    OutputError
        If the folder cannot be written to. Nothing of ours is left behind then.
    """
    staged: list[tuple[Path, Path]] = []
    try:
        for name, write in writers.items():
            place = folder / name
            # 0o666 less the user's umask, as open() would give; mkstemp alone would make the file private.
            handle, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=folder)
            staged.append((Path(temporary), place))
            os.close(handle)
            with Path(temporary).open("wb") as stream:
                write(stream)
                stream.flush()
                os.fchmod(stream.fileno(), 0o666 & ~_umask())
                os.fsync(stream.fileno())
        for part, place in staged:
            part.replace(place)
        _sync_folder(folder)
    except OSError as error:
        raise OutputError(f"cannot write to '{folder}': {error.strerror or error}") from error
    finally:
        for part, _ in staged:
            part.unlink(missing_ok=True)


def write_file(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write one file; see `write_files`."""
    if not path.parent.is_dir():
        raise OutputError(f"cannot write '{path}': the folder '{path.parent}' does not exist")
    if path.is_dir():
        raise OutputError(f"cannot write '{path}': it is a folder; give a file name")
    write_files(path.parent, {path.name: write})


def sweep(folder: Path, names: list[str]) -> None:
    """Remove what a killed run left half written under these names."""
    for name in names:
        for part in folder.glob(f".{glob.escape(name)}.*.tmp"):
            part.unlink(missing_ok=True)


def _umask() -> int:
    """Read the umask, which the operating system only tells by setting it."""
    current = os.umask(0o077)
    os.umask(current)
    return current


def _sync_folder(folder: Path) -> None:
    """Make the renames durable, where the platform can sync a folder."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
