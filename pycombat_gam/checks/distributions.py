"""Distributions of covariates by site, and levels that sites lack."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from pycombat_gam.checks.finding import Finding, frame, joined, named
from pycombat_gam.checks.material import Covariate, Material
from pycombat_gam.checks.sites import HANDFUL
from pycombat_gam.types import IntArray
from pycombat_gam.words import count, percent

BY_CHANCE = 0.01
"""A site that lacks a level is a caution if chance would bring that about less often than this, else a note."""

WORDS = frozenset({"na", "n/a", "nan", "null", "missing", "unknown", "?"})
"""Levels that stand for a missing value; "none" names a group in many a table."""

MOST = 0.9
"""A level counts as confined to one site if that site holds at least this share, and under half of the other rows."""

COLUMNS = (
    *("covariate", "level", "site", "n", "share", "missing"),
    *("mean", "sd", "min", "q1", "median", "q3", "max"),
)


def covariate_table(material: Material) -> pd.DataFrame:
    """Describe covariates by site: numbers by moments and quantiles, categories by a row for each level."""
    rows: list[tuple[object, ...]] = []
    for name, covariate in material.covariates.items():
        for b, label in enumerate(material.levels.labels):
            here = material.codes == b
            values = np.sort(covariate.values[here & covariate.present])
            missing = int((here & ~covariate.present).sum())
            if covariate.levels:
                counts = np.bincount(values.astype(np.intp), minlength=len(covariate.levels))
                share = counts / values.size if values.size else np.full(counts.size, np.nan)
                rows += [
                    (name, level, label, int(k), float(part), missing, *[np.nan] * 7)
                    for level, k, part in zip(covariate.levels, counts, share, strict=True)
                ]
            elif values.size:
                sd = float(values.std(ddof=1)) if values.size > 1 else np.nan
                quantiles = np.quantile(values, [0, 0.25, 0.5, 0.75, 1]).tolist()
                rows.append((name, "", label, values.size, np.nan, missing, float(values.mean()), sd, *quantiles))
            else:
                rows.append((name, "", label, 0, np.nan, missing, *[np.nan] * 7))
    return frame(rows, COLUMNS)


def level_counts(covariate: Covariate, codes: IntArray, n_sites: int) -> IntArray:
    """Rows of each level at each site, (levels, sites)."""
    used = covariate.present & (codes >= 0)
    table = np.zeros((len(covariate.levels), n_sites), dtype=np.intp)
    np.add.at(table, (covariate.values[used].astype(np.intp), codes[used]), 1)
    return table


def split_levels(counts: IntArray) -> list[int]:
    """Levels that are all or nothing at every site: their effect is a difference between sites."""
    total = counts.sum(axis=0)
    whole = ((counts == 0) | (counts == total)).all(axis=1)
    return np.flatnonzero(whole & (counts.sum(axis=1) > 0) & (counts.sum(axis=1) < total.sum())).tolist()


def nested(counts: IntArray) -> bool:
    """Tell whether each level is at one site only."""
    return bool(((counts > 0).sum(axis=1) <= 1).all())


def level_findings(material: Material) -> Iterator[Finding]:
    """Judge which levels are where; levels confounded with sites, or nested in them, are reported by `confounding`."""
    labels = material.levels.labels
    for name, covariate in material.covariates.items():
        if not covariate.levels:
            continue
        yield from _words(name, covariate)
        counts = level_counts(covariate, material.codes, len(labels))
        if (counts.sum(axis=0) > 0).sum() < 2 or len(covariate.levels) < 2 or nested(counts):
            continue
        judged = [j for j in range(len(covariate.levels)) if j not in split_levels(counts)]
        single = [j for j in judged if _at_one_site(counts, j)]
        if single:
            yield _single(name, covariate, counts, labels, single)
        yield from _lacking(name, covariate, counts, labels, [j for j in judged if j not in single])


def _words(name: str, covariate: Covariate) -> Iterator[Finding]:
    words = [level for level in covariate.levels if level.strip().casefold() in WORDS]
    if words:
        rows = sum(int(covariate.indicator(level).sum()) for level in words)
        verdict = (
            f"{named(words)} is a level of '{name}' ({count(rows, 'row')}): if it stands for a missing value, make "
            "such cells missing"
        )
        where = tuple((name, level) for level in words)
        yield Finding("caution", "missing codes", name, verdict, "covariates", where)


def _at_one_site(counts: IntArray, j: int) -> bool:
    """Tell whether a level is at one site only, or nearly so, among three or more sites."""
    total, top = counts[j].sum(), counts[j].argmax()
    rest, others = counts[:, top].sum() - counts[j, top], counts.sum() - total
    several = (counts.sum(axis=0) > 0).sum() >= 3
    return bool(several and total >= 2 and counts[j, top] >= MOST * total and 2 * rest < others)


def _single(name: str, covariate: Covariate, counts: IntArray, labels: tuple[str, ...], judged: list[int]) -> Finding:
    parts, where = [], []
    for j in judged:
        total, top = int(counts[j].sum()), int(counts[j].argmax())
        here = int(counts[j, top])
        how = f"all {total:,}" if here == total else f"{here:,} of {total:,}"
        parts.append(f"{how} rows with '{covariate.levels[j]}' are at '{labels[top]}'")
        where.append((name, covariate.levels[j], labels[top]))
    verdict = (
        f"'{name}' rests on one site: {joined(parts)}; the effect of that level is estimated there, and "
        f"{'no' if all(counts[j].max() == counts[j].sum() for j in judged) else 'hardly any'} other site can confirm it"
    )
    return Finding("caution", "levels", name, verdict, "covariates", tuple(where))


def _lacking(
    name: str, covariate: Covariate, counts: IntArray, labels: tuple[str, ...], judged: list[int]
) -> Iterator[Finding]:
    sizes = counts.sum(axis=0)
    parts, where, least = [], [], 1.0
    for j in judged:
        having = counts[j] > 0
        lacking = np.flatnonzero(~having & (sizes > 0)).tolist()
        share = float(counts[j].sum() / sizes[having].sum())
        chance = {b: (1 - share) ** int(sizes[b]) for b in lacking}
        # A level is easily absent from a handful of rows; `sites` reports that they are few.
        lacking = [b for b in lacking if sizes[b] > HANDFUL or chance[b] < BY_CHANCE]
        if not lacking:
            continue
        least = min([least, *(chance[b] for b in lacking)])
        each = joined([f"'{labels[b]}' (0 of {count(int(sizes[b]), 'row')})" for b in lacking])
        parts.append(f"no '{covariate.levels[j]}' at {each}, {percent(share)} at the other sites")
        where += [(name, covariate.levels[j], labels[b]) for b in lacking]
    if parts:
        verdict = (
            f"'{name}': {joined(parts)}; the site effect there relies on the effect of '{name}' at the other sites"
        )
        yield Finding("caution" if least < BY_CHANCE else "note", "levels", name, verdict, "covariates", tuple(where))
