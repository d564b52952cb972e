"""Which images to read: a list or column of paths, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.errors import DataError, OptionError
from pycombat_gam.tables.remedies import kind_of
from pycombat_gam.words import count, listing, rows_named

PICTURES = (".png", ".jpg", ".jpeg")
VOLUMES = (".nii", ".nii.gz")


@dataclass(frozen=True, eq=False)
class Images:
    """Paths of images, as given and as files, all pictures or all volumes; the index of the table to make."""

    names: list[str]
    files: list[Path]
    index: pd.Index[Any]
    volumes: bool


def listed(paths: object) -> Images:
    """Return paths and their index, every file present and of a known kind.

    Raises
    ------
    OptionError
        For anything but a list, array, index or column of paths.
    DataError
        For no path, a missing one, files that do not exist, unknown suffixes, pictures mixed with volumes.
    """
    index, cells = _cells(paths)
    if not cells:
        raise DataError("paths is empty: give at least one image")
    wrong = [not isinstance(cell, str | Path) or not str(cell) for cell in cells]
    if any(wrong):
        first = cells[wrong.index(True)]
        raise DataError(
            f"paths has no path in {rows_named(index[np.array(wrong)])}, but {first!r}: drop these rows, or fill them"
        )
    files = [Path(cell) for cell in cells]
    absent = [file for file in dict.fromkeys(files) if not file.is_file()]
    if absent:
        raise DataError(
            f"{count(len(absent), 'image')} of {len(set(files))} not found, {quoted(absent)}: "
            f"relative paths start at '{Path.cwd()}'"
        )
    volumes = [file.name.lower().endswith(VOLUMES) for file in files]
    unknown = [
        file
        for file, volume in zip(files, volumes, strict=True)
        if not volume and not file.name.lower().endswith(PICTURES)
    ]
    if unknown:
        raise DataError(f"images must end in {listing([*PICTURES, *VOLUMES])}; {quoted(unknown)} does not: convert it")
    if len(set(volumes)) > 1:
        pair = files[volumes.index(False)], files[volumes.index(True)]
        raise DataError(f"paths mixes pictures and volumes, {quoted(pair)}: call embed once for each kind")
    return Images([str(cell) for cell in cells], files, index, volumes[0])


def _cells(paths: object) -> tuple[pd.Index[Any], list[Any]]:
    """Return an index and a plain list."""
    if isinstance(paths, str | Path):
        raise OptionError(f"paths is one path: give a list, paths=['{paths}']")
    if isinstance(paths, pd.DataFrame):
        raise OptionError("paths is a DataFrame: give its column of paths, such as table['path']")
    if isinstance(paths, pd.Series):
        return paths.index, paths.tolist()
    if isinstance(paths, list | tuple | pd.Index) or (isinstance(paths, np.ndarray) and paths.ndim == 1):
        return pd.RangeIndex(len(paths)), list(paths)
    raise OptionError(
        f"paths is {kind_of(paths)}: give a list or a column of paths, such as sorted(Path('images').glob('*.png'))"
    )


def quoted(files: Sequence[Path]) -> str:
    """Name the first three files."""
    return listing([f"'{file}'" for file in files], 3)
