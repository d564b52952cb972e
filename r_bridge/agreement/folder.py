"""The folder beside a report: data, our numbers, and an R script that reaches the verdict without Python."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pandas as pd

from pycombat_gam.errors import OutputError
from pycombat_gam.saving.atomic import write_file, write_files
from pycombat_gam.types import FloatArray
from pycombat_gam.words import Setting, Worded
from r_bridge import sources

if TYPE_CHECKING:
    from r_bridge.agreement.report import Agreement

SCRIPT = ("combat", "mgcv", "lme4", "packages", "tests", "agreement", "main")
README = """# Agreement of pycombat_gam with R

    Rscript agreement.R

fits the model again in R, compares it with the numbers of pycombat_gam in this folder, and prints the table and the
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
    files = _table(agreement) | {
        "settings.csv": _settings(agreement.sent),
        "agreement.R": "\n".join(sources.text(name) for name in SCRIPT),
        "README.md": README.format(
            packages=", ".join(name for name in agreement.versions if name != "R"),
            call=agreement.call,
            verdict=agreement.verdict,
            versions=", ".join(f"{name} {version}" for name, version in agreement.versions.items()),
        ),
    }
    rows: list[dict[str, str]] = []
    for row in agreement.rows:
        stem = f"{row.engine}-{re.sub('[^A-Za-z0-9]+', '-', row.quantity.name).strip('-')}"
        stem += f"-{len(rows) + 1}"
        features = list(agreement.study.given.features)
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


def _table(agreement: Agreement) -> dict[str, str]:
    """The table that R reads: covariates, batch, features; numbers to the last bit."""
    study = agreement.study
    columns: list[tuple[str, str, str, pd.Series]] = [("batch", "batch", "batch", pd.Series(study.batch))]
    columns += [("covariate", study.names.ours(called), str(called), study.data[called]) for called in study.data]
    columns += [("feature", str(name), "", study.Y[name]) for name in study.given.features]
    kinds, levels, cells = [], [], []
    for place, (_, _, _, column) in enumerate(columns, start=1):
        if isinstance(column.dtype, pd.CategoricalDtype):
            kinds.append("ordered" if column.cat.ordered else "factor")
            levels += [(place, str(level)) for level in column.cat.categories]
            cells.append(column.astype(object).map(str, na_action="ignore"))
        elif column.dtype == bool:
            kinds.append("logical")
            cells.append(column.map({True: "TRUE", False: "FALSE"}))
        else:
            kinds.append("number")
            cells.append(column.map(_number))
    roles, names, called = ([column[part] for column in columns] for part in range(3))
    return {
        "data.csv": _csv(pd.concat(cells, axis=1).set_axis(names, axis=1)),
        "columns.csv": _csv(pd.DataFrame({"name": names, "role": roles, "type": kinds, "in_r": called})),
        "levels.csv": _csv(pd.DataFrame(levels, columns=["column", "level"])),
    }


def _csv(table: pd.DataFrame) -> str:
    """A table of texts that R reads back exactly: what its reader would change is escaped."""
    escaped = table.map(lambda cell: "\\N" if pd.isna(cell) else _escaped(str(cell)))
    return str(escaped.set_axis([_escaped(str(name)) for name in table], axis=1).to_csv(index=False))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def _settings(sent: Mapping[str, object]) -> str:
    options = sent["options"]
    assert isinstance(options, dict)
    pairs = [(name, sent[name]) for name in ("formula", "fixed", "bars", "method")]
    for name in ("smooths", "subject", "effects", "terms"):
        labels = sent[name]
        assert isinstance(labels, list)
        pairs += [(name, label) for label in labels]
    for name in ("sizes", "weights"):
        numbers = sent[name]
        assert isinstance(numbers, np.ndarray)
        pairs += [(name, _number(value)) for value in numbers]
    pairs += [("curved", str(sent["curved"]).upper())]
    pairs += [("mean_only", str(options["mean_only"]).upper()), ("prior", options["prior"])]
    pairs += [("ref", options["ref"])] if options["ref"] is not None else []
    return _csv(pd.DataFrame(pairs, columns=["name", "value"]))


def _number(value: float) -> str:
    if np.isfinite(value):
        return format(value, ".17g")
    return "NaN" if np.isnan(value) else ("Inf" if value > 0 else "-Inf")


def _numbers(values: FloatArray, features: list[str]) -> str:
    stream = io.StringIO()
    stream.write(_csv(pd.DataFrame(columns=features)))
    for row in values:
        stream.write(",".join(_number(value) for value in row.tolist()) + "\n")
    return stream.getvalue()


def _writer(text: str) -> Callable[[BinaryIO], None]:
    def put(stream: BinaryIO) -> None:
        stream.write(text.encode("utf-8"))

    return put
