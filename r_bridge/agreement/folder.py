"""The folder beside a report: data, our numbers, and an R script that reaches the verdict without Python."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pandas as pd

from pycombat_gam.errors import OutputError
from pycombat_gam.saving.atomic import write_file, write_files
from pycombat_gam.types import FloatArray
from pycombat_gam.words import Setting, Worded
from r_bridge import sources
from r_bridge.agreement.compared import Column, spelled

if TYPE_CHECKING:
    from r_bridge.agreement.report import Agreement

SCRIPT = ("combat", "mgcv", "lme4", "packages", "tests", "prediction", "agreement", "main")
README = """# Agreement of pycombat_gam with R

    Rscript agreement.R

{task}, compares the result with the numbers of pycombat_gam in this folder, and prints the table and the
verdict. It exits with 0 if all differences are within their tolerance or explained, and with 1 otherwise. It needs
R with {packages}, and no Python.

Model: {call}
Verdict when this was written: {verdict}
{versions}

| file | what it holds |
|---|---|
| `agreement.R` | the R code of every engine, and of the comparison |
| `data.csv` | the table |
| `columns.csv`, `levels.csv` | the role and type of its columns, and what R calls them; the levels of its factors |
| `settings.csv` | formula and options, in R's names |
| `agreement.csv` | every quantity: where our numbers are, their tolerance and its reason, the differences found |
| `ours/` | our numbers, features as columns; `.unit.csv` what a difference is divided by |
| `by-their-rule/` | our numbers under R's rule, where a known difference is at work |
| `by-their-rule/*.sp.csv` | our smoothing parameters, where R's search is blamed: R's score has to be better there |

In text, `\\n`, `\\r` and `\\\\` stand for line ends and the backslash; a cell that holds `\\N` alone is missing.
"""


def write(agreement: Agreement, page: Path, *, force: bool) -> list[Path]:
    """Write page and folder; see `Agreement.write`."""
    folder = page.with_suffix("")
    if folder == page:
        raise OutputError(f"'{page}' has no ending: name the page, for example '{page}.html'")
    if not force and (taken := [place for place in (page, folder / "agreement.R") if place.exists()]):
        raise OutputError(Worded(f"'{taken[0]}' is there already: ", Setting("force", True), " replaces it"))
    if not page.parent.is_dir():
        raise OutputError(f"cannot write '{page}': the folder '{page.parent}' does not exist")
    content = contents(agreement)
    for part in sorted({(folder / name).parent for name in content}):
        part.mkdir(parents=True, exist_ok=True)
        for old in part.glob("*.csv"):
            old.unlink()
    for part in sorted({Path(name).parent for name in content}):
        texts = {Path(name).name: text for name, text in content.items() if Path(name).parent == part}
        write_files(folder / part, {name: _writer(text) for name, text in texts.items()})
    write_file(page, _writer(agreement.to_html()))
    return [page, *(folder / name for name in content)]


def contents(agreement: Agreement) -> dict[str, str]:
    """Return the folder's files, by name."""
    study = agreement.study
    features = list(study.features)
    files = _table(study.columns) | {
        "settings.csv": _csv(pd.DataFrame(study.settings, columns=["name", "value"])),
        "agreement.R": "\n".join(sources.text(name) for name in SCRIPT),
        "README.md": README.format(
            task=study.task,
            packages=", ".join(name for name in agreement.versions if name != "R"),
            call=agreement.call,
            verdict=agreement.verdict,
            versions=", ".join(f"{name} {version}" for name, version in agreement.versions.items()),
        ),
    }
    files |= {name: _numbers(values, features) for name, values in study.numbers.items()}
    rows: list[dict[str, str]] = []
    for row in agreement.rows:
        stem = f"{row.engine}-{re.sub('[^A-Za-z0-9]+', '-', row.quantity.name).strip('-')}"
        stem += f"-{len(rows) + 1}"
        files[f"ours/{stem}.csv"] = _numbers(row.quantity.values, features)
        files[f"ours/{stem}.unit.csv"] = _numbers(np.atleast_2d(row.quantity.unit), features)
        if row.blame is not None:
            files[f"by-their-rule/{stem}.sp.csv"] = _numbers(row.blame.sp, features)
        if row.variant is not None:
            files[f"by-their-rule/{stem}.csv"] = _numbers(row.variant.values, features)
        rows.append(
            {
                "engine": row.engine,
                "quantity": row.quantity.name,
                "rows": row.quantity.rows,
                "measured_in": row.quantity.measured_in,
                "tolerance": repr(row.quantity.tolerance),
                "reason": row.quantity.reason,
                "largest": repr(row.largest),
                "median": repr(row.median),
                "feature": row.feature,
                "site": row.site,
                "verdict": row.verdict,
                "explanation": row.explanation,
                "file": f"ours/{stem}.csv",
                "unit_file": f"ours/{stem}.unit.csv",
                "variant_file": f"by-their-rule/{stem}.csv" if row.variant is not None else "",
                "sp_file": f"by-their-rule/{stem}.sp.csv" if row.blame is not None else "",
                "blamed": "" if row.blame is None else " ".join(map(str, np.flatnonzero(row.blame.features) + 1)),
            }
        )
    return files | {"agreement.csv": _csv(pd.DataFrame(rows).replace("inf", "Inf"))}


def _table(columns: tuple[Column, ...]) -> dict[str, str]:
    """The table that R reads; numbers to the last bit."""
    kinds, levels, cells = [], [], []
    for place, column in enumerate(columns, start=1):
        values = column.cells
        if isinstance(values.dtype, pd.CategoricalDtype):
            kinds.append("ordered" if values.cat.ordered else "factor")
            levels += [(place, str(level)) for level in values.cat.categories]
            cells.append(values.astype(object).map(str, na_action="ignore"))
        elif values.dtype == bool:
            kinds.append("logical")
            cells.append(values.map({True: "TRUE", False: "FALSE"}))
        else:
            kinds.append("number")
            cells.append(values.map(spelled))
    names = [column.name for column in columns]
    about = {
        "name": names,
        "role": [column.role for column in columns],
        "type": kinds,
        "in_r": [column.in_r for column in columns],
    }
    return {
        "data.csv": _csv(pd.concat(cells, axis=1).set_axis(names, axis=1)),
        "columns.csv": _csv(pd.DataFrame(about)),
        "levels.csv": _csv(pd.DataFrame(levels, columns=["column", "level"])),
    }


def _csv(table: pd.DataFrame) -> str:
    """A table of texts that R reads back exactly: what its reader would change is escaped."""
    escaped = table.map(lambda cell: "\\N" if pd.isna(cell) else _escaped(str(cell)))
    return str(escaped.set_axis([_escaped(str(name)) for name in table], axis=1).to_csv(index=False))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def _numbers(values: FloatArray, features: list[str]) -> str:
    stream = io.StringIO()
    stream.write(_csv(pd.DataFrame(columns=features)))
    for row in values:
        stream.write(",".join(spelled(value) for value in row.tolist()) + "\n")
    return stream.getvalue()


def _writer(text: str) -> Callable[[BinaryIO], None]:
    def put(stream: BinaryIO) -> None:
        stream.write(text.encode("utf-8"))

    return put
