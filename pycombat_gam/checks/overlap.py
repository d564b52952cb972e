"""Overlap of sites in the covariates: standardized differences, and rows outside the support that sites share.

Difference of a site from all others together:

- numbers: Cohen's d, (mean − mean of the others)/sd pooled over the two groups;
- a level of a category: (p − q)/√((p(1 − p) + q(1 − q))/2), with the shares p at the site and q at the others;
- a category as a whole (level empty): √((p − q)'S⁻¹(p − q)) with S the mean of the two multinomial covariances
  (Yang & Dalton 2012, SAS Global Forum, paper 335).

Support, for numbers: a site covers its range, from its smallest value to its largest. A row is `outside` if its value
lies in no other site's range. Sites with fewer rows than `RANGE` count together as one site that covers what they span,
because a site of one row has no range. `overlap` is the least share of the site's rows that lie in one other site's
range, and `overlap_with` that site.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from pycombat_gam.checks.distributions import level_counts
from pycombat_gam.checks.finding import Finding, frame, joined
from pycombat_gam.checks.material import Material
from pycombat_gam.checks.sites import HANDFUL
from pycombat_gam.types import FloatArray, IntArray
from pycombat_gam.words import count, percent

RANGE = HANDFUL + 1
"""Least number of rows of a site with a range of its own."""

OUTSIDE = 0.1
"""Share of a site's rows outside the others' support from which on this is a caution."""

BY_CHANCE = 0.001
"""How often chance alone may give a caution, over all sites and covariates; see `_chance`."""

COLUMNS = (
    *("covariate", "level", "site", "n", "difference", "outside", "share_outside"),
    *("overlap", "overlap_with"),
)


def overlap_table(material: Material) -> pd.DataFrame:
    """Compare each site with the others."""
    labels = material.levels.labels
    rows: list[tuple[object, ...]] = []
    for name, covariate in material.covariates.items():
        if covariate.levels:
            counts = level_counts(covariate, material.codes, len(labels))
            rows += _categories(name, covariate.levels, counts, labels)
            continue
        used = covariate.present & (material.codes >= 0)
        rows += _numbers(name, covariate.values[used], material.codes[used], labels)
    return frame(rows, COLUMNS)


def _numbers(name: str, x: FloatArray, codes: IntArray, labels: tuple[str, ...]) -> list[tuple[object, ...]]:
    parts = [np.sort(x[codes == b]) for b in range(len(labels))]
    rows: list[tuple[object, ...]] = []
    for b, (label, here) in enumerate(zip(labels, parts, strict=True)):
        others = np.sort(x[codes != b])
        if not here.size or not others.size:
            rows.append((name, "", label, here.size, np.nan, 0, np.nan, np.nan, ""))
            continue
        squares = ((here - here.mean()) ** 2).sum() + ((others - others.mean()) ** 2).sum()
        gap, df = float(here.mean() - others.mean()), here.size + others.size - 2
        difference = 0.0 if gap == 0 else gap / float(np.sqrt(squares / df)) if squares > 0 else np.sign(gap) * np.inf
        held = np.zeros(here.size, dtype=bool)
        for low, high in _ranges([part for k, part in enumerate(parts) if k != b]):
            held |= (here >= low) & (here <= high)
        outside = int((~held).sum())
        wide = [(k, part) for k, part in enumerate(parts) if k != b and part.size >= RANGE]
        shares = [(float(((here >= part[0]) & (here <= part[-1])).mean()), labels[k]) for k, part in wide]
        least, which = min(shares, default=(np.nan, ""))
        rows.append((name, "", label, here.size, difference, outside, outside / here.size, least, which))
    return rows


def _ranges(parts: list[FloatArray]) -> list[tuple[float, float]]:
    """Ranges of the sites; small ones share one."""
    ranges = [(float(part[0]), float(part[-1])) for part in parts if part.size >= RANGE]
    small = [part for part in parts if 0 < part.size < RANGE]
    if small:
        ranges.append((min(float(part[0]) for part in small), max(float(part[-1]) for part in small)))
    return ranges


def _categories(
    name: str, levels: tuple[str, ...], counts: IntArray, labels: tuple[str, ...]
) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    total = counts.sum(axis=1)
    for b, label in enumerate(labels):
        here, others = counts[:, b], total - counts[:, b]
        empty = (0, np.nan, np.nan, "")
        n = int(here.sum())
        if not n or not others.sum():
            rows += [(name, level, label, n, np.nan, *empty) for level in ("", *levels)]
            continue
        p, q = here / n, others / others.sum()
        rows.append((name, "", label, n, multilevel_difference(p, q), *empty))
        for j, level in enumerate(levels):
            spread = np.sqrt((p[j] * (1 - p[j]) + q[j] * (1 - q[j])) / 2)
            gap = float(p[j] - q[j])
            d = 0.0 if gap == 0 else gap / float(spread) if spread > 0 else float(np.sign(gap) * np.inf)
            rows.append((name, level, label, n, d, *empty))
    return rows


def multilevel_difference(p: FloatArray, q: FloatArray) -> float:
    """Standardized difference of two distributions over the same levels, whichever of them is left out."""
    kept = (p + q) > 0
    p, q = p[kept][1:], q[kept][1:]
    S = (np.diag(p) - np.outer(p, p) + np.diag(q) - np.outer(q, q)) / 2
    gap = p - q
    if not np.abs(gap).max(initial=0.0) > 0:
        return 0.0
    values, vectors = np.linalg.eigh(S)
    along = vectors.T @ gap
    flat = values <= 1e-12
    # Without any spread along it, a difference is infinitely many standard deviations.
    if (np.abs(along[flat]) > 1e-9).any():
        return float(np.inf)
    return float(np.sqrt((along[~flat] ** 2 / values[~flat]).sum()))


def overlap_findings(material: Material, overlap: pd.DataFrame) -> Iterator[Finding]:
    """Judge sites whose rows lie where no other site has any."""
    n = int((material.codes >= 0).sum())
    numeric = [
        name
        for name, covariate in material.covariates.items()
        if not covariate.levels and covariate.present.any() and not _within_constant(material, name)
    ]
    level = BY_CHANCE / max(1, len(numeric) * len(material.levels))
    for name in numeric:
        rows = overlap[(overlap["covariate"] == name) & (overlap["n"] > 0)]
        rows = rows[[_chance(k, size, n) < level for k, size in zip(rows["outside"], rows["n"], strict=True)]]
        apart = rows[rows["share_outside"] == 1]
        partly = rows[(rows["share_outside"] < 1) & (rows["share_outside"] >= OUTSIDE)]
        if len(apart):
            sizes = [_span(material, name, row["site"], row["n"]) for _, row in apart.iterrows()]
            verdict = (
                f"'{name}' does not overlap: no row of {joined(sizes)} lies within the range of another site. There "
                f"only the form of the model separates site from '{name}'"
            )
            yield _about("problem", name, verdict, apart)
        if len(partly):
            parts = [
                f"{percent(row['share_outside'])} of '{row['site']}' ({row['outside']:,} of {count(row['n'], 'row')})"
                for _, row in partly.sort_values(["share_outside", "outside"], ascending=False).iterrows()
            ]
            verdict = (
                f"'{name}' has values that only one site covers: {joined(parts)}; there its effect is estimated from "
                "that site only"
            )
            yield _about("caution", name, verdict, partly)


def _about(severity: str, name: str, verdict: str, rows: pd.DataFrame) -> Finding:
    where = tuple((name, "", site) for site in rows["site"])
    return Finding(severity, "overlap", name, verdict, "overlap", where)


def _span(material: Material, name: str, site: str, n: int) -> str:
    covariate = material.covariates[name]
    values = covariate.values[covariate.present & (material.codes == material.levels.labels.index(site))]
    return f"'{site}' ({count(n, 'row')}, {values.min():.4g} to {values.max():.4g})"


def _within_constant(material: Material, name: str) -> bool:
    """Tell whether a covariate has one value in each site: confounded; reported by `confounding`."""
    covariate = material.covariates[name]
    used = covariate.present & (material.codes >= 0)
    x, codes = covariate.values[used], material.codes[used]
    return all(np.ptp(x[codes == b]) == 0 for b in np.unique(codes))


def _chance(outside: int, size: int, n: int) -> float:
    """Bound the chance that so many rows of a site lie beyond all others, were sites drawn at random.

    The k rows at the ends, i below and k − i above, would all have to be the site's: (k + 1)·(n_b)_k/(n)_k at most.
    """
    if outside == 0:
        return 1.0
    steps = np.arange(outside)
    return float((outside + 1) * np.exp(np.log((size - steps) / (n - steps)).sum()))
