"""Features that are computed from a covariate: age in months, a score's square, a diagnosis as a number.

Such a feature is a function of the covariate, whether or not the formula holds that covariate. Rows with one value of
the covariate then agree in the feature. In the covariate's order, values of the feature (or their ranks, where the
covariate is skewed) change little from one to the next. Von Neumann's ratio measures that (1941, Ann Math Stat 12:367):
the sum of squared steps over twice the sum of squares is 1 on average for independent values.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from pycombat_gam.checks.finding import Finding, joined, keys
from pycombat_gam.checks.material import Material
from pycombat_gam.checks.subjects import is_number
from pycombat_gam.types import BoolArray, FloatArray, IntArray
from pycombat_gam.words import count

UNEXPLAINED = 1e-3
"""Share of a feature's sum of squares among rows with one value of the covariate."""
ROUGH = 0.01
"""Largest ratio of von Neumann's; a smooth function of 160 evenly spread values has about 2e-4."""
SOME, ROUGH_SOME = 64, 0.1
"""Rows that are looked at first, and the ratio there."""
LEAST = 20
"""Rows per value of a covariate of few values; numbers with fewer rows per value are compared in their order."""


def derived_features(material: Material) -> Iterator[Finding]:
    """Name features that are functions of a covariate or of another column beside the features."""
    Y, names = material.intake.Y, material.intake.features
    complete = np.flatnonzero(np.isfinite(np.ones(len(Y), Y.dtype) @ Y))
    made: dict[str, str] = {}
    for column, place in _columns(material):
        rows = np.flatnonzero(place >= 0)
        few = place.max(initial=-1) + 1 <= rows.size // LEAST
        if rows.size < LEAST or place.max(initial=-1) < 1:
            continue
        columns = complete
        for some in (rows[np.argsort(place[rows], kind="stable")][_spread(rows.size)], rows):
            if few and some is not rows:
                continue
            limit = ROUGH if some is rows else ROUGH_SOME
            part = np.asarray(Y[np.ix_(some, columns)], dtype=np.float64)
            columns = columns[_function_of(part, place[some], limit, few=few)]
        made |= {names[k]: column for k in columns.tolist() if names[k] not in made}
    if made:
        each = joined([f"'{name}' by '{made[name]}'" for name in sorted(made)])
        verdict = f"{count(len(made), 'feature')} determined by another column: {each}; leave such features out"
        yield Finding("caution", "derived", joined(sorted(made)), verdict, "features", keys(sorted(made)))


def _columns(material: Material) -> Iterator[tuple[str, IntArray]]:
    """Yield the columns that features may be made of, as places in their order; −1 where missing."""
    table = material.intake.covariates
    subject = () if material.subjects is None else material.subjects.columns
    kept = {material.batch, *material.ids, *subject, *material.intake.features}
    names = [str(name) for name in table.columns]
    first = [name for name in material.covariates if name in names]
    for name in dict.fromkeys([*first, *names]):
        if name in kept:
            continue
        column = table.iloc[:, names.index(name)]
        codes, values = pd.factorize(column, sort=is_number(column))
        if is_number(column) or len(values) * LEAST <= len(table):
            yield name, np.asarray(codes, dtype=np.intp)


def _spread(n: int) -> IntArray:
    return np.unique(np.linspace(0, n - 1, min(n, SOME)).astype(np.intp))


def _function_of(Y: FloatArray, place: IntArray, limit: float, *, few: bool) -> BoolArray:
    """Tell which columns of (n, k) are functions of what orders the rows by `place`."""
    groups, where, sizes = np.unique(place, return_inverse=True, return_counts=True)
    total = ((Y - Y.mean(axis=0)) ** 2).sum(axis=0)
    means = np.zeros((groups.size, Y.shape[1]))
    np.add.at(means, where, Y)
    means /= sizes[:, None]
    within = ((Y - means[where]) ** 2).sum(axis=0)
    # Rounding of a constant is no variance.
    alike = (within <= UNEXPLAINED * total) & (total > 1e-20 * (Y**2).sum(axis=0))
    if few:
        return np.asarray(alike)
    rough = np.fmin(_von_neumann(means), _von_neumann(np.asarray(rankdata(means, axis=0))))
    return np.asarray(alike & (rough <= limit))


def _von_neumann(means: FloatArray) -> FloatArray:
    steps = (np.diff(means, axis=0) ** 2).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(steps / (2 * ((means - means.mean(axis=0)) ** 2).sum(axis=0)))
