"""Tables from files and back: CSV, TSV (either may be gzipped), Parquet.

A text file is read twice: once as numbers, and the columns that are not harmonized once more verbatim, so that what we
don't touch is written back character by character ("007" stays "007", an empty cell stays empty).
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from pycombat_gam.errors import DataError, OptionError, listing
from pycombat_gam.progress import Advance, progress_bar, tracked

GZIP = ".gz"
_SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
_SEPARATORS |= {f"{suffix}{GZIP}": separator for suffix, separator in _SEPARATORS.items()}
PARQUET = ".parquet"
EXACT_FLOATS: dict[str, Any] = (
    {"float_precision": "round_trip"} if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1) else {}
)
"""What makes `read_csv` keep every digit; from pandas 3.1 it always does."""


_MISSING = ["", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-NaN", "-nan", "NULL", "null"]
"""What stands for a missing cell: pandas's list less "None", which names a group in many a table."""


_CELLS_AT_ONCE = 2**20
"""Cells written between two looks at the clock."""


@dataclass(frozen=True, eq=False)
class TableFile:
    """A table read from a file: the values, and the path it came from."""

    path: Path
    table: pd.DataFrame

    @property
    def sha256(self) -> str:
        """Hash of the file's bytes."""
        return file_sha256(self.path)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal text."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def suffix_of(path: Path) -> str:
    """Return the format of a file by its name, or say which are known."""
    name = path.name.lower()
    suffix = Path(name.removesuffix(GZIP)).suffix + (GZIP if name.endswith(GZIP) else "")
    if suffix not in _SEPARATORS and suffix != PARQUET:
        raise OptionError(f"'{path}': the format is told by the name; known are {listing([*_SEPARATORS, PARQUET])}")
    return suffix


def read_table(path: Path, text_columns: Sequence[str] = ()) -> TableFile:
    """Read a table.

    Parameters
    ----------
    path : CSV, TSV (also ``.txt``) file, gzipped (``.csv.gz``) or not, UTF-8, with a header; or a Parquet file.
    text_columns : columns to keep as text (ids, batch labels), when present.

    Raises
    ------
    DataError
        No such file, not readable as a table, duplicated or empty column names, ragged rows.
    """
    suffix = suffix_of(path)
    if not path.is_file():
        raise DataError(f"there is no file '{path}'")
    try:
        if suffix == PARQUET:
            _need_pyarrow()
            table = pd.read_parquet(path)
        else:
            header = _header(path, _SEPARATORS[suffix])
            with progress_bar(f"reading {path.name}", 3 * path.stat().st_size) as advance:
                _check_rows(path, _SEPARATORS[suffix], len(header), advance)
                with _opened(path, advance) as stream:
                    table = pd.read_csv(
                        stream,
                        sep=_SEPARATORS[suffix],
                        encoding="utf-8-sig",
                        index_col=False,
                        **EXACT_FLOATS,
                        low_memory=False,
                        keep_default_na=False,
                        na_values=_MISSING,
                        dtype={name: str for name in text_columns if name in header},
                    )
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}' is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    # pandas and pyarrow raise many kinds for a broken file; all say that it is no readable table.
    except (ValueError, OSError, csv.Error, EOFError, zlib.error) as error:
        raise DataError(f"'{path}' is not a readable table: {' '.join(str(error).split())[:200]}") from error
    if not len(table):
        raise DataError(f"'{path}' has a header but no rows")
    return TableFile(path, table)


def verbatim(source: TableFile, harmonized: pd.DataFrame, features: Sequence[str]) -> pd.DataFrame:
    """Return the harmonized table with all other columns as they stand in the file."""
    suffix = suffix_of(source.path)
    others = [name for name in harmonized.columns if name not in set(features)]
    if suffix == PARQUET or not others:
        return harmonized
    with (
        progress_bar(f"reading {source.path.name} again", source.path.stat().st_size) as advance,
        _opened(source.path, advance) as stream,
    ):
        text = pd.read_csv(
            stream,
            sep=_SEPARATORS[suffix],
            encoding="utf-8-sig",
            index_col=False,
            usecols=others,
            dtype=str,
            keep_default_na=False,
        )
    values = harmonized.loc[:, list(features)].reset_index(drop=True)
    return pd.concat([text, values], axis=1)[list(harmonized.columns)]


def table_writer(table: pd.DataFrame, suffix: str) -> Callable[[BinaryIO], None]:
    """Return a function that writes the table to a binary stream, numbers with all their digits."""
    if suffix == PARQUET:
        _need_pyarrow()
        return lambda stream: table.to_parquet(stream)

    def write(stream: BinaryIO) -> None:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
        step = max(1, _CELLS_AT_ONCE // max(table.shape[1], 1))
        for start in tracked(range(0, max(len(table), 1), step), "writing the table", -(-len(table) // step)):
            part = table.iloc[start : start + step]
            part.to_csv(text, sep=_SEPARATORS[suffix], index=False, lineterminator="\n", header=start == 0)
        text.flush()
        text.detach()

    def write_gzipped(stream: BinaryIO) -> None:
        # Without a name and a time, so that equal tables are equal files.
        with gzip.GzipFile("", "wb", fileobj=stream, mtime=0) as packed:
            write(packed)  # type: ignore[arg-type]  # it is a binary stream, typed otherwise

    return write_gzipped if suffix.endswith(GZIP) else write


class _Watched(io.RawIOBase):
    """A file that says how many bytes were read of it."""

    def __init__(self, path: Path, advance: Advance) -> None:
        self._raw = path.open("rb", buffering=0)
        self._advance = advance

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        got = self._raw.readinto(buffer)
        self._advance(got)
        return got

    def close(self) -> None:
        self._raw.close()
        super().close()


def _opened(path: Path, advance: Advance) -> BinaryIO:
    """Open a text file, unpacked if it is gzipped, as bytes."""
    packed = io.BufferedReader(_Watched(path, advance), 2**18)
    return gzip.open(packed, "rb") if path.name.lower().endswith(GZIP) else packed  # type: ignore[return-value]  # as above


def _text(path: Path, advance: Advance) -> io.TextIOWrapper:
    return io.TextIOWrapper(_opened(path, advance), encoding="utf-8-sig", newline="")


def _header(path: Path, separator: str) -> list[str]:
    """Return the column names as they stand; pandas would quietly rename duplicated ones."""
    with _text(path, lambda steps: None) as stream:
        header = next(csv.reader(stream, delimiter=separator), [])
    if not header:
        raise DataError(f"'{path}' is empty")
    other = next((mark for mark in ";\t," if len(header) == 1 and mark in header[0]), None)
    if other is not None:
        raise DataError(
            f"'{path}' is separated by {other!r}, but its name says {separator!r}: save or name it otherwise"
        )
    repeated = [name for name, times in Counter(header).items() if times > 1]
    if repeated:
        raise DataError(f"'{path}' has duplicated columns: {listing(map(repr, repeated))}; rename them")
    if "" in header:
        raise DataError(f"'{path}': column {header.index('') + 1} has no name; give it one (R: write row.names=FALSE)")
    return header


def _check_rows(path: Path, separator: str, width: int, advance: Advance) -> None:
    """Stop for rows shorter or longer than the header: pandas fills or drops cells without a word."""
    with _opened(path, advance) as stream:
        quoted = any(b'"' in chunk for chunk in iter(lambda: stream.read(2**20), b""))
    with _text(path, advance) as stream:
        # Splitting is only needed where a quoted cell may hold the separator or a line break.
        widths = (
            map(len, csv.reader(stream, delimiter=separator))
            if quoted
            else (line.count(separator) + 1 if line.strip("\r\n") else 0 for line in stream)
        )
        for number, cells in enumerate(widths, start=1):
            if cells and cells != width:
                raise DataError(f"'{path}': row {number} has {cells} cells, the header {width}")


def _need_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401  (asked for by pandas; checked here for a message that says what to install)
    except ImportError as error:
        raise OptionError("Parquet needs pyarrow: pip install 'pyarrow>=14'") from error
