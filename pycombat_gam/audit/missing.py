"""Missing and infinite cells, by column and site."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from pycombat_gam.checks.finding import Finding, joined, keys, named
from pycombat_gam.checks.material import Material
from pycombat_gam.tables.cells import suspicious_features
from pycombat_gam.types import BoolArray
from pycombat_gam.words import Setting, Worded, count, rows_named

_WIDTH = 256
NEEDED, DONE = Worded("needs ", Setting("missing", "omit")), "each feature was fitted on its observed cells"

COLUMNS = ("column", "role", "site", "missing", "infinite", "rows", "share")


def missing_table(material: Material) -> pd.DataFrame:
    """Count missing and infinite cells; only columns and sites that have any are listed."""
    labels = np.array([*material.levels.labels, ""], dtype=object)
    order = np.argsort(material.codes, kind="stable")
    codes = material.codes[order]
    present, starts = np.unique(codes, return_index=True)
    sizes = np.diff([*starts, codes.size])
    parts: list[pd.DataFrame] = []

    def add(names: Sequence[str], role: str, missing: BoolArray, infinite: BoolArray) -> None:
        """Take (n, k) cells."""
        by_site = [np.add.reduceat(cells[order], starts, axis=0, dtype=np.intp).T for cells in (missing, infinite)]
        column, at = np.nonzero(by_site[0] + by_site[1])
        parts.append(
            pd.DataFrame(
                {
                    "column": np.array(names, dtype=object)[column],
                    "role": role,
                    "site": labels[present[at]],
                    "missing": by_site[0][column, at],
                    "infinite": by_site[1][column, at],
                    "rows": sizes[at],
                }
            )
        )

    none = np.zeros((codes.size, 1), dtype=bool)
    add([material.batch], "site", (material.codes < 0)[:, None], none)
    for name, covariate in material.covariates.items():
        add([name], "covariate", covariate.missing[:, None], covariate.infinite[:, None])
    Y, features = material.intake.Y, material.intake.features
    columns = suspicious_features(Y)
    for left in range(0, columns.size, _WIDTH):
        some = columns[left : left + _WIDTH]
        block = np.asarray(Y[:, some], dtype=np.float64)
        add([features[k] for k in some], "feature", np.isnan(block), np.isinf(block))
    table = pd.concat(parts, ignore_index=True)
    table["share"] = (table["missing"] + table["infinite"]) / table["rows"]
    return table[list(COLUMNS)]


def missing_findings(material: Material, missing: pd.DataFrame) -> Iterator[Finding]:
    """Judge what is missing where."""
    index = material.intake.covariates.index
    if (material.codes < 0).any():
        lost = rows_named(index[material.codes < 0])
        verdict = f"'{material.batch}' is missing in {lost}: they are left out here, and ComBat stops"
        yield Finding("problem", "missing", material.batch, verdict, "missing", keys([material.batch]), stops=True)
    for name, covariate in material.covariates.items():
        for cells, what in ((covariate.missing, "missing"), (covariate.infinite, "infinite")):
            if cells.any():
                rows = missing[(missing["column"] == name) & (missing["role"] == "covariate") & (missing[what] > 0)]
                each = joined([f"'{row['site']}' {row[what]:,} of {row['rows']:,}" for _, row in rows.iterrows()])
                verdict = f"'{name}' is {what} in {count(int(cells.sum()), 'row')} ({each}): ComBat stops"
                where = tuple((name, site) for site in rows["site"])
                yield Finding("problem", "missing", name, verdict, "missing", where, stops=True)
    omit = DONE if material.asked.omit else NEEDED
    scale = ", and no scale can be estimated there" if material.asked.scaled else ""
    yield from _features(missing[missing["role"] == "feature"], len(material.intake.covariates), omit, scale)


def _features(missing: pd.DataFrame, n: int, omit: str, scale: str) -> Iterator[Finding]:
    if not len(missing):
        return
    by_name = missing.groupby("column", sort=True)[["missing", "infinite"]].sum()
    infinite = by_name[by_name["infinite"] > 0]
    if len(infinite):
        each = joined([f"'{name}' ({k:,})" for name, k in infinite["infinite"].items()])
        verdict = f"Infinite cells in {count(len(infinite), 'feature')}: {each}; ComBat stops"
        where = keys(infinite.index)
        yield Finding("problem", "missing", joined(list(infinite.index)), verdict, "missing", where, stops=True)
    whole = by_name.index[by_name["missing"] == n]
    if len(whole):
        verdict = f"{count(len(whole), 'feature')} without any value: {named(whole)}; ComBat stops"
        yield Finding("problem", "missing", joined(list(whole)), verdict, "missing", keys(whole), stops=True)
    nowhere = missing[
        (missing["missing"] == missing["rows"]) & ~missing["column"].isin(whole) & (missing["site"] != "")
    ]
    if len(nowhere):
        pairs = nowhere.sort_values(["column", "site"])
        each = joined([f"'{row['column']}' at '{row['site']}' (0 of {row['rows']:,})" for _, row in pairs.iterrows()])
        verdict = f"No value of a feature at a site: {each}; its site effect cannot be estimated, and ComBat stops"
        where = tuple(zip(pairs["column"], pairs["site"], strict=True))
        names = joined(sorted(set(pairs["column"])))
        yield Finding("problem", "missing", names, verdict, "missing", where, stops=True)
    lone = missing[(missing["missing"] == missing["rows"] - 1) & (missing["rows"] > 1) & (missing["site"] != "")]
    if len(lone):
        pairs = lone.sort_values(["column", "site"])
        each = joined([f"'{row['column']}' at '{row['site']}' (1 of {row['rows']:,})" for _, row in pairs.iterrows()])
        verdict = Worded(f"Only one value of a feature at a site: {each}; ", omit, scale)
        where = tuple(zip(pairs["column"], pairs["site"], strict=True))
        yield Finding("caution", "missing", joined(sorted(set(pairs["column"]))), verdict, "missing", where)
    some = by_name[by_name["missing"] > 0].drop(index=sorted({*whole, *nowhere["column"], *lone["column"]}))
    if len(some):
        cells = int(some["missing"].sum())
        most = some["missing"].sort_values(ascending=False, kind="stable")
        each = joined([f"'{name}' ({k:,} of {n:,})" for name, k in most.items()])
        verdict = Worded(f"{count(cells, 'missing cell')} in {count(len(some), 'feature')}: {each}; ", omit)
        yield Finding("caution", "missing", joined(list(some.index)), verdict, "missing", keys(some.index))
