"""Tables from files and back: CSV, TSV (either may be gzipped), Parquet.

A text file is read twice: once as numbers, and the columns that are not harmonized once more verbatim, so that what we
don't touch is written back character by character ("007" stays "007", an empty cell stays empty).
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import io
import re
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from pycombat_gam.errors import DataError, OptionError
from pycombat_gam.progress import progress_bar, tracked
from pycombat_gam.types import Advance
from pycombat_gam.words import listing

GZIP = ".gz"
_SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
_SEPARATORS |= {f"{suffix}{GZIP}": separator for suffix, separator in _SEPARATORS.items()}
PARQUET = ".parquet"
LINE = "line"
"""Name of the index of a table from a text file, for messages: each row's line, the header being line 1."""
EXACT_FLOATS: dict[str, Any] = (
    {"float_precision": "round_trip"} if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1) else {}
)
"""What makes `read_csv` keep every digit; from pandas 3.1 it always does."""


_MISSING = ["", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-NaN", "-nan", "NULL", "null"]
"""What stands for a missing cell: pandas's list without "None", which names a group in many tables."""


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
        raise OptionError(f"'{path}': the name must end in one of {listing([*_SEPARATORS, PARQUET])}")
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
                blank = _check_rows(path, _SEPARATORS[suffix], len(header), advance)
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
            table.index = _lines(blank, len(table))
    except DataError:
        raise
    except pd.errors.ParserError as error:
        if "out of memory" in str(error):
            raise MemoryError(f"reading '{path}'") from error
        raise DataError(f"'{path}' is not a readable table: {' '.join(str(error).split())[:200]}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}' is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    # pandas and pyarrow raise many kinds for a broken file; all mean that the table cannot be read.
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
        lines = [line for line, _ in zip(stream, range(_LOOKED_AT), strict=False)]
    if not lines:
        raise DataError(f"'{path}' is empty")
    mark = re.fullmatch(r"sep=(.?)\s*", lines[0], re.IGNORECASE)
    if mark is not None:
        raise DataError(
            f"'{path}' begins with Excel's line '{lines[0].strip()}', which is not a header: delete that line"
        )
    header = next(csv.reader(lines, delimiter=separator), [])
    if not header:
        raise DataError(f"'{path}' begins with an empty line: the first line must name the columns")
    _check_separator(path, separator, lines)
    repeated = [name for name, times in Counter(header).items() if times > 1]
    if repeated:
        raise DataError(f"'{path}' has duplicated columns: {listing(map(repr, repeated))}; rename them")
    if "" in header:
        at = header.index("") + 1
        remedy = "it, or leave row names out (R: write.csv(..., row.names=FALSE))" if at == 1 else "it, or delete it"
        raise DataError(f"'{path}': column {at} has no name: name {remedy}")
    return header


_LOOKED_AT = 20
"""Lines from which the separator is judged."""
_READERS = {
    ";": ("read.csv(f, sep=';')", "sep=';'"),
    "|": ("read.csv(f, sep='|')", "sep='|'"),
    " ": ("read.table(f, header=TRUE)", "sep=r'\\s+'"),
}
"""How R and pandas read separators that no file ending stands for; `f` is the file."""
_COMMAS = ("read.csv2(f)", "sep=';', decimal=','")
_DECIMAL_COMMA = re.compile(r"(?:^|;)\s*[-+]?\d+,\d+\s*(?:;|$)")


def _check_separator(path: Path, separator: str, lines: list[str]) -> None:
    """Stop for a file that is a table only with another separator than its name says."""

    def widths(mark: str) -> set[int]:
        return {len(row) for row in csv.reader(lines, delimiter=mark, skipinitialspace=mark == " ") if row}

    with contextlib.suppress(csv.Error):
        if len(widths(separator)) == 1 and widths(separator) != {1}:
            return
        for mark in (mark for mark in (";", "\t", ",", "|", " ") if mark != separator):
            cells = widths(mark)
            # R's write.table leaves the row names' column without a name.
            if min(cells) > 1 and max(cells) - min(cells) <= (1 if mark in " \t" else 0):
                remedy = _rewritten(path, mark, lines)
                raise DataError(f"'{path}' is separated by {mark!r}, but its name says {separator!r}: {remedy}")


def _rewritten(path: Path, mark: str, lines: list[str]) -> str:
    """Say how to make a file with this separator readable."""
    if mark not in _READERS:
        packed = GZIP if path.name.lower().endswith(GZIP) else ""
        stem = Path(path.name[: len(path.name) - len(packed)]).stem
        return f"rename it to '{stem}{'.csv' if mark == ',' else '.tsv'}{packed}'"
    commas = mark == ";" and any(_DECIMAL_COMMA.search(line.strip()) for line in lines[1:])
    in_r, in_python = _COMMAS if commas else _READERS[mark]
    return (
        f"write it with ','{' and decimal points' if commas else ''}. With f='{path.name}', R: write.csv({in_r}, "
        f"'new.csv', row.names=FALSE). Python: pandas.read_csv(f, {in_python}).to_csv('new.csv', index=False)"
    )


def _check_rows(path: Path, separator: str, width: int, advance: Advance) -> list[int]:
    """Stop for rows shorter or longer than the header: pandas fills or drops cells without a word.

    Returns
    -------
    blank : numbers of the empty lines, which are not rows, counted from 1 as in a spreadsheet.
    """
    with _opened(path, advance) as stream:
        quoted = any(b'"' in chunk for chunk in iter(lambda: stream.read(2**20), b""))
    blank = []
    with _text(path, advance) as stream:
        # Splitting is only needed where a quoted cell may hold the separator or a line break.
        widths = (
            map(len, csv.reader(stream, delimiter=separator))
            if quoted
            else (line.count(separator) + 1 if line.strip("\r\n") else 0 for line in stream)
        )
        for number, cells in enumerate(widths, start=1):
            if not cells:
                blank.append(number)
            elif cells != width:
                raise DataError(f"'{path}': row {number} has {cells} cells, the header {width}")
    return blank


def _lines(blank: list[int], rows: int) -> pd.Index[int]:
    """Number rows as a spreadsheet shows them: the header is line 1, empty lines count."""
    if all(number > rows + 1 for number in blank):
        return pd.RangeIndex(2, rows + 2, name=LINE)
    numbers = sorted({*range(1, rows + len(blank) + 2)} - {*blank})[1:]
    index: pd.Index[int] = pd.Index(numbers, name=LINE)
    return index


def _need_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401  (asked for by pandas; checked here for a message that says what to install)
    except ImportError as error:
        raise OptionError("Parquet needs pyarrow: pip install 'pyarrow>=14'") from error
