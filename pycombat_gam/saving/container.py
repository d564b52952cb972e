"""The `.pcg` container: a zip of `model.json`, `arrays.npz` and a `manifest.json` that hashes both. Never a pickle.

Reading trusts nothing: entries must be exactly those three, stored without compression (so no small file unfolds into a
large one), with the sizes and SHA-256 that the manifest states; the manifest carries its own digest. Arrays are plain
numbers, booleans or text. What the values *mean* is checked by the kind of model that reads them.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from pycombat_gam.errors import ModelFileError, PcgError
from pycombat_gam.saving.atomic import write_file
from pycombat_gam.types import JsonDict

FORMAT = "pycombat_gam"
VERSION = 1
"""Of a file that every release reads."""
NEWEST = 2
"""Of a ComBat that keeps the statistics of its sites, of a flow that knows their ranges; a release that reads version 1
only says so."""
_ENTRIES = ("model.json", "arrays.npz")
_MANIFEST = "manifest.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""A fixed time, so that equal models are equal files."""


@dataclass(frozen=True, eq=False)
class Container:
    """What a model file holds: its kind, plain data and named arrays, in which version of the format."""

    kind: str
    model: JsonDict
    arrays: dict[str, np.ndarray]
    version: int = VERSION


class Saved(Protocol):
    """A fitted model of any kind."""

    def to_container(self) -> Container:
        """Return it as plain data."""

    @classmethod
    def from_container(cls, container: Container) -> Saved:
        """Rebuild it, every piece checked."""


def write_container(path: Path, container: Container) -> None:
    """Write a model file, atomically.

    Raises
    ------
    OutputError
        If the folder does not exist or cannot be written to.
    """
    write_file(path, lambda stream: write_stream(stream, container))


def proven(model: Saved, rebuild: Callable[[Container], Saved] | None = None) -> Container:
    """Return a model as plain data, once that has been shown to load again as the same model.

    Parameters
    ----------
    model : to be saved; rebuild : what loads it, `from_container` of its class if left out.

    Raises
    ------
    ModelFileError
        If its file would be refused, or hold another model.
    """
    container = model.to_container()
    try:
        read = replace(container, model=json.loads(json.dumps(container.model, allow_nan=False)))
        again = (rebuild or model.from_container)(read).to_container()
    except (PcgError, ValueError, TypeError) as error:
        raise ModelFileError(f"this model cannot be saved, because its file would not load again: {error}") from error
    if not same(again, container):
        raise ModelFileError("this model cannot be saved, because its file would hold a different model")
    return container


def same(ours: Container, theirs: Container) -> bool:
    """Tell whether two containers hold the same model, to the last bit."""
    return (
        ours.model == theirs.model
        and ours.version == theirs.version
        and set(ours.arrays) == set(theirs.arrays)
        and all(_equal(array, theirs.arrays[name]) for name, array in ours.arrays.items())
    )


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype.kind == b.dtype.kind and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def write_stream(stream: BinaryIO, container: Container) -> None:
    """Write a model to a binary stream."""
    arrays = io.BytesIO()
    _write_arrays(arrays, container.arrays)
    contents = {
        "model.json": json.dumps(container.model, allow_nan=False, ensure_ascii=False).encode(),
        "arrays.npz": arrays.getvalue(),
    }
    manifest: JsonDict = {
        "format": FORMAT,
        "version": container.version,
        "kind": container.kind,
        "entries": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in contents.items()
        },
    }
    manifest["digest"] = _digest(manifest)
    contents[_MANIFEST] = json.dumps(manifest, sort_keys=True).encode()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content)


def _write_arrays(stream: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz as `numpy.savez` does, but with a fixed time stamp."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _EPOCH), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.ascontiguousarray(array), allow_pickle=False)


def read_container(path: str | Path) -> Container:
    """Read a model file, refusing anything broken or altered.

    Raises
    ------
    ModelFileError
        Not a model file, truncated, altered, of a newer format, or with unexpected content.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"no model file at '{path}'")
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive, path)
    except ModelFileError:
        raise
    # Everything that zipfile, json and numpy raise on a broken file says the same thing to the user.
    except (zipfile.BadZipFile, OSError, ValueError, KeyError, TypeError, EOFError, RecursionError) as error:
        raise ModelFileError(
            f"'{path}' is not a readable pycombat_gam model (truncated, or another kind of file): {_one_line(error)}"
        ) from error
    except (NotImplementedError, OverflowError, MemoryError, SyntaxError) as error:
        raise ModelFileError(f"'{path}' is refused: {_one_line(error)}") from error


def _read(archive: zipfile.ZipFile, path: Path) -> Container:
    infos = {info.filename: info for info in archive.infolist()}
    if len(infos) != len(archive.infolist()) or set(infos) != {*_ENTRIES, _MANIFEST}:
        raise ModelFileError(
            f"'{path}' is refused: a model file holds {', '.join(_ENTRIES)} and {_MANIFEST}, this holds "
            f"{', '.join(sorted(infos)) or 'nothing'}"
        )
    if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in infos.values()):
        raise ModelFileError(f"'{path}' is refused: entries must be stored plainly, not compressed or encrypted")
    manifest = json.loads(archive.read(_MANIFEST))
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ModelFileError(f"'{path}' is not a pycombat_gam model: its manifest has no format '{FORMAT}'")
    version = manifest.get("version")
    if type(version) is not int or not VERSION <= version <= NEWEST:
        raise ModelFileError(
            f"'{path}' has format version {version!r}; this release reads versions {VERSION} to {NEWEST}: "
            "update pycombat_gam"
        )
    if manifest.pop("digest", None) != _digest(manifest):
        raise ModelFileError(f"'{path}' was altered: its manifest does not match its digest")
    contents: dict[str, bytes] = {}
    for name in _ENTRIES:
        stated = manifest["entries"][name]
        if infos[name].file_size != stated["bytes"]:
            raise ModelFileError(f"'{path}' was altered: {name} has another size than its manifest states")
        contents[name] = archive.read(name)
        if hashlib.sha256(contents[name]).hexdigest() != stated["sha256"]:
            raise ModelFileError(f"'{path}' was altered: {name} does not match its SHA-256")
    model = json.loads(contents["model.json"])
    json.dumps(model, allow_nan=False, ensure_ascii=False).encode()  # raises for NaN and for text that is none
    if not isinstance(model, dict) or not isinstance(manifest["kind"], str):
        raise ModelFileError(f"'{path}' is refused: model.json is not an object")
    return Container(manifest["kind"], model, _read_arrays(contents["arrays.npz"], path), version)


def _read_arrays(content: bytes, path: Path) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as inner:
        for info in inner.infolist():
            if info.compress_type != zipfile.ZIP_STORED or not info.filename.endswith(".npy"):
                raise ModelFileError(f"'{path}' is refused: '{info.filename}' is not a plain array")
            with inner.open(info) as entry:
                array: Any = np.lib.format.read_array(entry, allow_pickle=False)
            if array.dtype.kind not in "fiubU":
                raise ModelFileError(f"'{path}' is refused: '{info.filename}' has type {array.dtype}")
            arrays[info.filename.removesuffix(".npy")] = array
    return arrays


def _digest(manifest: JsonDict) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _one_line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
