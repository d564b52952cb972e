"""Impossible values of covariates: codes for missing, ages nobody has, negative sizes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from pycombat_gam.checks.finding import Finding, joined, named
from pycombat_gam.checks.material import Covariate, Material
from pycombat_gam.types import BoolArray, FloatArray
from pycombat_gam.words import count

CODES = frozenset(
    sign * int(str(digit) * length) for digit in (7, 8, 9) for length in (3, 4, 5, 6) for sign in (1, -1)
) | {-9, -99, -88, -77, 99}
"""Numbers that often stand for a missing value."""

FAR = 5.0
"""Robust standard deviations from the other values beyond which such a number is taken for a code."""

LEAST = 20
"""Values needed to tell what is far."""

AGE = re.compile(r"(^|[^a-z])ages?([^a-z]|$)")
OLDEST = 115.0
"""In years. Five people have been known to be older; months, days and weeks have most of their values beyond."""

SIZE = re.compile(r"(^|[^a-z])(e?tiv|icv|tbv|volume|vol|weight|height|bmi|mass)s?([^a-z]|$)")
"""Names of covariates that cannot be negative, in small letters."""

A_FEW = 0.05
"""Up to this share, such values are errors; beyond, the covariate is in other units, centred, or a difference."""


def covariate_codes(material: Material) -> Iterator[Finding]:
    """Name numbers among a covariate that look like a code for missing."""
    for name, covariate in material.covariates.items():
        x = covariate.values[covariate.present]
        if covariate.levels or x.size < LEAST:
            continue
        odd = _codes(x)
        if odd:
            each, where = _cells(material, covariate, odd)
            verdict = f"'{name}' has a value that looks like a code for missing: {each}; make such cells missing"
            yield Finding("problem", "missing codes", name, verdict, "covariates", where)


def _codes(x: FloatArray) -> list[float]:
    """Values that are codes, and far from what the others are."""
    coded = np.isin(x, list(CODES))
    rest = x[~coded]
    if not coded.any() or rest.size < LEAST:
        return []
    q1, middle, q3 = np.quantile(rest, [0.25, 0.5, 0.75])
    # Of a covariate most of whose values are equal (0 and a few 1), the quartiles tell nothing.
    unit = (q3 - q1) / 1.349 or float(rest.std())
    beyond = (x < rest.min()) | (x > rest.max())
    return [float(code) for code in np.unique(x[coded & beyond & (np.abs(x - middle) > FAR * unit)])]


def impossible_values(material: Material) -> Iterator[Finding]:
    """Name ages that nobody has, and negative sizes."""
    for name, covariate in material.covariates.items():
        x = covariate.values[covariate.present]
        if covariate.levels or not x.size:
            continue
        codes = np.isin(x, _codes(x))
        wrong = np.zeros(x.size, dtype=bool)
        if AGE.search(name.lower()):
            wrong = (_few(x < 0) | _few(x > OLDEST)) & ~codes
        elif SIZE.search(name.lower()):
            wrong = _few(x < 0) & ~codes
        if wrong.any():
            odd = np.unique(x[wrong]).tolist()
            each, where = _cells(material, covariate, odd)
            verdict = f"'{name}' has impossible values: {each}; correct them"
            yield Finding("problem", "impossible values", name, verdict, "covariates", where)


def _few(cells: BoolArray) -> BoolArray:
    """Keep cells where they are few."""
    return np.asarray(cells & (cells.mean() <= max(A_FEW, 1 / cells.size)))


def _cells(material: Material, covariate: Covariate, values: list[float]) -> tuple[str, tuple[tuple[object, ...], ...]]:
    """Say how many rows have each value, and at which sites; name the rows of the table of covariates."""
    parts, concerned = [], set()
    for value in values:
        rows = covariate.present & (covariate.values == value)
        codes = np.unique(material.codes[rows & (material.codes >= 0)]).tolist()
        concerned |= set(codes)
        where = f" ({named(material.levels.labels[b] for b in codes)})" if codes else ""
        parts.append(f"{value:g} in {count(int(rows.sum()), 'row')}{where}")
    return joined(parts), tuple((covariate.name, "", material.levels.labels[b]) for b in sorted(concerned))
