"""Rows that are copies of each other: one scan twice, or one person under two ids, within a site or across sites.

Rows are compared in some features at first, then in all of them. Equal rows prove nothing where features have few
values, or are functions of each other. So a pair counts only if it is unlikely that any two rows are so close. That
chance is computed from features each of which varies given those before it (`OWN`); its square root is taken, because
features are correlated.

Almost equal rows differ by less than `CLOSE` standard deviations in every feature: numbers that went through another
format, or were rounded. A second scan of a person differs by far more.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.linalg import qr
from scipy.spatial import cKDTree

from pycombat_gam.checks.finding import Finding, joined, keys
from pycombat_gam.checks.material import Material
from pycombat_gam.types import FloatArray, IntArray
from pycombat_gam.words import count

SOME, MOST = 4, 16
"""Features that are compared at first, those with most values; and those they are chosen from, which set the chance."""
MOST_ALMOST = 512
"""Features that are compared in units of their spread, of those that are not equal to the last digit."""
OWN = 0.3
"""Share of a feature's standard deviation."""
AT_MOST = 5.0
"""Robust standard deviations at which outlying values are clipped."""
TOO_MANY = 20
"""Close pairs per row beyond which features are too coarse to tell rows apart."""
MISSING = 1e6
"""Stands for a missing cell, far from all z-scores."""

CLOSE = 0.01
BY_CHANCE = 1e-3
"""Expected number of pairs by chance, over all pairs, up to which a pair is no chance."""


def copied_rows(material: Material, copies: tuple[IntArray, IntArray]) -> Iterator[Finding]:
    """Name rows whose features are those of another row, as `find_copies` returns them."""
    first, second = copies
    if not first.size:
        return
    labels, sites = material.intake.covariates.index, material.levels.labels
    who = material.subjects

    def row(at: int) -> str:
        site = f" at '{sites[material.codes[at]]}'" if material.codes[at] >= 0 else ""
        name = "" if who is None or who.codes[at] < 0 else f" ('{_subject(material, at)}')"
        return f"index {labels[at]}{name}{site}"

    pairs = sorted(
        f"{row(earlier)} and {row(later)}" for earlier, later in zip(first.tolist(), second.tolist(), strict=True)
    )
    across = int((material.codes[first] != material.codes[second]).sum())
    rows = np.unique(np.concatenate([first, second]))
    verdict = (
        f"{count(first.size, 'pair')} of rows with the same features, {across:,} across sites: {joined(pairs)}; chance "
        "cannot explain them. Are they one scan, or one person under two ids?"
    )
    concerned = sorted({sites[code] for code in material.codes[rows].tolist() if code >= 0})
    yield Finding("problem", "copies", joined(concerned), verdict, "sites", keys(concerned))


def _subject(material: Material, at: int) -> str:
    assert material.subjects is not None
    row = material.intake.covariates.iloc[at]
    return ":".join(str(row[name]) for name in material.subjects.columns)


def find_copies(Y: np.ndarray) -> tuple[IntArray, IntArray]:
    """Return pairs of rows, the first before the second, that are equal or almost so in all features.

    Parameters
    ----------
    Y : (n, V); missing cells have to be missing in both rows.
    """
    n, V = Y.shape
    none = np.zeros(0, dtype=np.intp)
    Z, unit = _standardized(np.asarray(Y[:, _spread(V, MOST)], dtype=np.float64))
    Z = Z[:, unit > 0]
    if n < 2 or Z.shape[1] < 2:
        return none, none
    ordered = np.sort(Z, axis=0)
    distinct = (np.diff(ordered, axis=0) > 0).sum(axis=0)
    pairs = _close_pairs(Z[:, np.argsort(-distinct, kind="stable")[:SOME]])
    pairs = pairs[((Z[pairs[:, 0]] != MISSING).mean(axis=1) >= 0.5)]
    pairs = pairs[(np.abs(Z[pairs[:, 0]] - Z[pairs[:, 1]]) <= CLOSE).all(axis=1)]
    if not pairs.size or n * (n - 1) / 2 * np.sqrt(_chance(ordered[:, _own_variation(Z)])) > BY_CHANCE:
        return none, none
    kept = [pair for pair in pairs.tolist() if _equal_everywhere(Y, *pair)]
    return np.array([pair[0] for pair in kept], dtype=np.intp), np.array([pair[1] for pair in kept], dtype=np.intp)


def _spread(size: int, most: int) -> IntArray:
    """Return so many positions of `size`, far from each other."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).astype(np.intp))


def _standardized(Y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return robust z-scores, missing cells far from all others, and the units; zero for what hardly varies."""
    Y = np.where(np.isfinite(Y), Y, np.nan)
    ordered = np.sort(Y, axis=0)
    last = np.maximum(np.isfinite(Y).sum(axis=0) - 1, 0)
    low, middle, high = (ordered[last * k // 4, np.arange(Y.shape[1])] for k in (1, 2, 3))
    unit = np.nan_to_num((high - low) / 1.349)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        Z = (Y - middle) / unit
    return np.clip(np.nan_to_num(Z, nan=MISSING, posinf=MISSING, neginf=-MISSING), -MISSING, MISSING), unit


def _close_pairs(Z: FloatArray) -> IntArray:
    """Return pairs (k, 2) of rows within `CLOSE` in every column; none where there are too many for copies."""
    cells = np.floor(Z / CLOSE)
    cells = cells[np.lexsort(cells.T)]
    ends = np.flatnonzero(np.append((cells[1:] != cells[:-1]).any(axis=1), True))
    if (np.diff(ends, prepend=-1) ** 2).sum() > TOO_MANY * len(Z):
        return np.zeros((0, 2), dtype=np.intp)
    pairs = cKDTree(Z).query_pairs(CLOSE, p=np.inf, output_type="ndarray").astype(np.intp)
    return np.asarray(pairs[np.lexsort(pairs.T[::-1])])


def _own_variation(Z: FloatArray) -> IntArray:
    """Choose columns of each of which the ones before it leave at least `OWN`."""
    held = np.clip(Z, -AT_MOST, AT_MOST)
    held = held - held.mean(axis=0)
    held /= np.sqrt((held**2).sum(axis=0))
    _, R, order = qr(held, mode="economic", pivoting=True)
    return np.asarray(order[: R.shape[0]][np.abs(np.diag(R)) >= OWN], dtype=np.intp)


def _chance(ordered: FloatArray) -> float:
    """Return the chance that two rows are close in every column, (n, k) each sorted, were these independent."""
    n = len(ordered)
    chance = 1.0
    for column in ordered.T:
        ahead = np.searchsorted(column, column + CLOSE, side="right") - np.arange(n) - 1
        # At least what one pair makes, or the pairs looked for would count as proof that there is no chance.
        chance *= float(max(ahead.sum(), 1)) / (n * (n - 1) / 2)
    return chance


def _equal_everywhere(Y: np.ndarray, first: int, second: int) -> bool:
    """Tell whether two rows agree in all features, to `CLOSE` of what a feature varies by."""
    left, right = np.asarray(Y[first], dtype=np.float64), np.asarray(Y[second], dtype=np.float64)
    with np.errstate(invalid="ignore"):
        differ = np.flatnonzero(~((left == right) | (np.isnan(left) & np.isnan(right))))
    if not differ.size:
        return True
    if not np.isfinite(left[differ] - right[differ]).all():
        return False
    looked_at = differ[_spread(differ.size, MOST_ALMOST)]
    Z, unit = _standardized(np.asarray(Y[:, looked_at], dtype=np.float64))
    return bool(((unit > 0) & (np.abs(Z[first] - Z[second]) <= CLOSE)).all())
