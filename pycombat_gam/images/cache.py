"""A folder that keeps finished rows, so that a killed run goes on where it stopped.

A file holds a batch: the rows, a key for each, and the backbone's answer to a fixed test image of the same shape. A
callable has no name that can be trusted, so this answer stands for it: rows are used only by a backbone that gives it
again. A key hashes the image's bytes and all that is done to it before the backbone sees it. Files are written
atomically, hold no pickle, and carry checksums; a damaged one is not used.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pycombat_gam.errors import DataError, OptionError, OutputError
from pycombat_gam.progress import tracked
from pycombat_gam.saving.atomic import write_file
from pycombat_gam.tables.files import file_sha256
from pycombat_gam.types import FloatArray
from pycombat_gam.words import percent

RECIPE = 1
"""To be raised when reading, resizing or scaling changes: keys of older rows then match nothing."""
SAME = 1e-5
"""Answers to the test image that differ by less, relative to the largest number, come from the same backbone.
EfficientNet-Lite0 with other threads, kernels or memory layout differs by up to 1e-6, with weights rounded to half
precision by 4e-3."""


def image_keys(files: Collection[Path], shape: tuple[int, ...], mean: FloatArray, sd: FloatArray) -> dict[Path, str]:
    """Return a key for each file: equal bytes, prepared equally, have equal keys."""
    recipe = json.dumps([RECIPE, shape, mean.tolist(), sd.tolist()])
    return {
        file: hashlib.sha256(f"{_content(file)} {recipe}".encode()).hexdigest()
        for file in tracked(files, "hashing images", len(files))
    }


def made(folder: str | Path) -> Path:
    """Make the folder, unless it is there."""
    try:
        Path(folder).mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"cache='{folder}': no folder can be made there, {error.strerror or error}") from error
    return Path(folder)


def _content(file: Path) -> str:
    try:
        return file_sha256(file)
    except OSError as error:
        raise DataError(f"'{file}' cannot be read: {error.strerror or error}") from error


def probe_image(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a fixed image, values in [0, 1]: noise of every frequency, brighter along each axis."""
    noise = np.arange(1, int(np.prod(shape)) + 1, dtype=np.float64) * ((5**0.5 - 1) / 2) % 1.0
    ramp = np.ones(shape)
    for axis, length in enumerate(shape):
        ramp = ramp * np.linspace(0.5, 1.0, length).reshape(-1, *[1] * (len(shape) - 1 - axis))
    return (noise.reshape(shape) * ramp).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Cache:
    """Rows of one backbone for images of one shape.

    Attributes
    ----------
    folder : where the files are, together with those of other shapes.
    shape : (c, h, w) or (c, d, h, w).
    answer : (d,) what the backbone gave for the test image.
    """

    folder: Path
    shape: tuple[int, ...]
    answer: NDArray[Any]

    @property
    def _tag(self) -> str:
        return "x".join(map(str, self.shape))

    def read(self, wanted: Collection[str]) -> tuple[dict[str, NDArray[Any]], list[Path]]:
        """Return the rows that are there, by key, and the files that are damaged.

        Raises
        ------
        OptionError
            If another backbone filled the folder.
        """
        rows: dict[str, NDArray[Any]] = {}
        damaged: list[Path] = []
        wanted = set(wanted)
        for file in sorted(self.folder.glob(f"{self._tag}-*.npz")):
            part = _read(file)
            if part is None:
                damaged.append(file)
                continue
            keys, values, answer = part
            self._check(answer)
            rows |= {str(key): row for key, row in zip(keys, values, strict=True) if str(key) in wanted}
        return rows, damaged

    def write(self, keys: list[str], values: NDArray[Any]) -> None:
        """Keep the rows of a finished batch."""

        def save(stream: BinaryIO) -> None:
            np.savez(stream, keys=np.array(keys), rows=values, answer=self.answer)

        name = hashlib.sha256(" ".join(keys).encode()).hexdigest()[:32]
        write_file(self.folder / f"{self._tag}-{name}.npz", save)

    def _check(self, answer: NDArray[Any]) -> None:
        """Stop if another backbone gave this answer."""
        if answer.dtype != self.answer.dtype or answer.shape != self.answer.shape:
            what = f"{len(answer)} numbers of {answer.dtype} there, {len(self.answer)} of {self.answer.dtype} now"
        else:
            finite = np.isfinite(answer) & np.isfinite(self.answer)
            largest = float(np.abs(answer[finite]).max(initial=np.finfo(np.float32).tiny))
            if np.allclose(answer, self.answer, rtol=0.0, atol=SAME * largest, equal_nan=True):
                return
            gap = float(np.abs(answer - self.answer)[finite].max(initial=0.0)) / largest
            what = f"its numbers for a test image differ by up to {percent(gap)} of the largest"
        raise OptionError(
            f"cache='{self.folder}' was filled by another backbone, or in another precision ({what}): "
            "give each backbone its own folder"
        )


def _read(file: Path) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None:
    """Return keys (n,), rows (n, d) and answer (d,) of a file; None if it is damaged."""
    try:
        content = io.BytesIO(file.read_bytes())
    except OSError as error:
        raise DataError(f"'{file}' of the cache cannot be read: {error.strerror or error}") from error
    try:
        with np.load(content, allow_pickle=False) as stored:
            keys, rows, answer = stored["keys"], stored["rows"], stored["answer"]
    except Exception:  # zipfile and numpy raise a dozen kinds for damaged bytes; each means: compute the rows again
        return None
    whole = (
        keys.ndim == 1
        and keys.dtype.kind == "U"
        and answer.ndim == 1
        and answer.dtype in (np.float32, np.float64)
        and rows.dtype == answer.dtype
        and rows.shape == (len(keys), len(answer))
        and bool(np.isfinite(rows).all())
    )
    return (keys, rows, answer) if whole else None
