"""Files that are old or new, never half: written beside their place, synced, renamed, by one run at a time."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from pycombat_gam.errors import OutputError
from pycombat_gam.progress import progress_bar

try:
    import fcntl
except ImportError:  # Windows: writes stay whole, but runs are not kept apart
    fcntl = None  # type: ignore[assignment]  # a module elsewhere; asked for before each use

LOCK = ".pycombat-gam.lock.tmp"
"""The file that the writer of a folder holds locked, and removes at its end; the lock itself ends with the process."""
PATIENCE = 600.0
"""Seconds to wait for another writer: it computed before, as we did, and has only to write."""
_POLL = 0.02
_LONG = 120
"""Bytes of the longest name that a staged file is named after: its own name is longer, and disks have a limit."""


def write_files(
    folder: Path, writers: Mapping[str, Callable[[BinaryIO], None]], *, check: Callable[[], None] | None = None
) -> None:
    """Write several files into a folder; their places change only when all of them are safely on disk.

    Where a place is a symbolic link, the file it points to is written. What a killed run left half written is removed.

    Parameters
    ----------
    folder : existing folder.
    writers : file name → function that writes its content to a binary stream; renamed in this order.
    check : called when no other run writes there, before anything is changed; what it raises ends the writing.

    Raises
    ------
    OutputError
        If the folder cannot be written to. Nothing of ours is left behind then.
    """
    staged: list[tuple[Path, Path]] = []
    try:
        places = {name: _target(folder / name) for name in writers}
        folders = sorted({Path(os.path.realpath(folder)), *(place.parent for place in places.values())})
        with ExitStack() as stack:
            for each in folders:
                stack.enter_context(_alone_in(each))
            if check is not None:
                check()
            for place in places.values():
                _sweep(place)
            try:
                for name, write in writers.items():
                    _stage(places[name], write, staged)
                for part, place in staged:
                    part.replace(place)
                for each in folders:
                    _sync_folder(each)
            finally:
                for part, _ in staged:
                    part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write to '{folder}': {error.strerror or error}") from error


def write_file(path: Path, write: Callable[[BinaryIO], None], *, check: Callable[[], None] | None = None) -> None:
    """Write one file; see `write_files`."""
    if not path.parent.is_dir():
        raise OutputError(f"cannot write '{path}': the folder '{path.parent}' does not exist")
    write_files(path.parent, {path.name: write}, check=check)


def _target(path: Path) -> Path:
    """Follow symbolic links to the file to write; stop for anything but a file, since the rename would replace it."""
    try:
        target = Path(os.path.realpath(path))
        mode = "a loop of symbolic links" if target.is_symlink() else ""
        if target.is_dir():
            mode = "a folder"
        elif target.exists() and not target.is_file():
            mode = "a device or a pipe"
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror}") from error
    if mode:
        raise OutputError(f"cannot write '{path}': it is {mode}; give a file name")
    if not target.parent.is_dir():
        raise OutputError(
            f"cannot write '{path}': it is a link into the folder '{target.parent}', which does not exist"
        )
    return target


def _stage(place: Path, write: Callable[[BinaryIO], None], staged: list[tuple[Path, Path]]) -> None:
    """Write a file beside its place, safely on disk."""
    # 0o666 less the user's umask, as open() would give; mkstemp alone would make the file private.
    handle, temporary = tempfile.mkstemp(prefix=f".{_stem(place.name)}.", suffix=".tmp", dir=place.parent)
    staged.append((Path(temporary), place))
    os.close(handle)
    with Path(temporary).open("wb") as stream:
        write(stream)
        stream.flush()
        os.fchmod(stream.fileno(), 0o666 & ~_umask())
        os.fsync(stream.fileno())


def _sweep(place: Path) -> None:
    """Remove what a killed run left half written for this place."""
    for part in place.parent.glob(f".{glob.escape(_stem(place.name))}.????????.tmp"):
        part.unlink(missing_ok=True)


def _stem(name: str) -> str:
    encoded = os.fsencode(name)
    return name if len(encoded) <= _LONG else hashlib.sha256(encoded).hexdigest()[:32]


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: one run renames at a time, and no sweep takes the parts of a live run."""
    if fcntl is None:
        yield
        return
    place = folder / LOCK
    with progress_bar(f"waiting for another run that writes to '{folder.name}'", int(PATIENCE)) as advance:
        handle, waited = _locked(place), 0.0
        while handle is None:
            if waited >= PATIENCE:
                raise OutputError(
                    f"another run is writing to '{folder}': wait until it has ended, or write to another folder"
                )
            time.sleep(_POLL)
            waited += _POLL
            advance(_POLL)
            handle = _locked(place)
    try:
        yield
    finally:
        # Removed first: who opened it meanwhile sees that it is gone, and makes a new one.
        place.unlink(missing_ok=True)
        os.close(handle)


def _locked(place: Path) -> int | None:
    """Lock a file, made if absent; None if another run holds it. Where a disk has no locks, it is taken for locked."""
    handle = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), place.stat()):
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL):
            return handle
        os.close(handle)
        raise
    os.close(handle)
    return None


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
