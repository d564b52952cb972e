"""Features with the covariates' part taken off: one joint fit of sites and covariates for every pattern of cells.

The fit is that of `pycombat_gam.mean.AdditiveMean`, so a site is compared with others at equal covariates. A feature
with missing cells is fitted on its observed rows, where sites without any value drop out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pycombat_gam.design import Design
from pycombat_gam.diagnose.study import Study, Units, units_of
from pycombat_gam.mean.additive import AdditiveMean
from pycombat_gam.mean.fit import MeanFit
from pycombat_gam.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Adjusted:
    """k features that are observed on the same n rows.

    Attributes
    ----------
    features : (k,) which of the study's; rows : (n,) which of its rows.
    codes : (n,) sites, numbered anew where some have no row; sites : (B,) which of the study's they are.
    fit : sites and covariates together; X : (n, p) its design.
    level : (n, k) the features less the covariates' part, sites and all; residual : (n, k) less the sites' too.
    free : (n, k) as `level`, but random effects are left in.
    groups : (n,) rows that random effects link, or None.
    units : what is independent of each other, or None where groups of random effects have rows at several sites.
    """

    features: IntArray
    rows: IntArray
    codes: IntArray
    sites: IntArray
    fit: MeanFit
    X: FloatArray
    level: FloatArray
    residual: FloatArray
    free: FloatArray
    groups: IntArray | None
    units: Units | None

    @property
    def sizes(self) -> IntArray:
        """Rows of each site, (B,)."""
        return np.bincount(self.codes, minlength=self.sites.size)

    @property
    def modelled(self) -> np.ndarray:
        """Which features have any variance left beyond rounding, (k,)."""
        fit = self.fit
        spread = np.sqrt(fit.residual_ss.sum(axis=0) / fit.n_observed.sum(axis=0))
        return np.asarray(spread > fit.rounding.max(axis=0))


def adjusted(study: Study, Y: FloatArray) -> Iterator[Adjusted]:
    """Fit sites and covariates, pattern by pattern; features in a pattern that one site alone has are left out."""
    model = AdditiveMean()
    for rows, features in study.patterns(Y):
        sites, codes = np.unique(study.codes[rows], return_inverse=True)
        if sites.size < 2:
            continue
        table, values = study.table.iloc[rows], Y[np.ix_(rows, features)]
        labels = [study.sites[b] for b in sites]
        names = [study.features[k] for k in features]
        fit = model.fit(table, values, codes, formula=study.formula, features=names, labels=labels)
        X = fit.design.on(table)
        level = fit.design.less_offset(values, table) - (X - fit.center) @ fit.coefficients
        n = np.bincount(codes)
        means = np.add.reduceat(level[np.argsort(codes, kind="stable")], np.cumsum(n) - n, axis=0) / n[:, None]
        free, codes = level, codes.astype(np.intp)
        random = random_columns(fit.design)
        if random.any():
            free = level + (X - fit.center)[:, random] @ fit.coefficients[random]
        groups = None if study.groups is None else study.groups[rows]
        residual = level - means[codes]
        yield Adjusted(features, rows, codes, sites, fit, X, level, residual, free, groups, units_of(codes, groups))


def random_columns(design: Design) -> BoolArray:
    """Which columns of a design are random effects, (p,)."""
    found = np.zeros(len(design.columns), dtype=bool)
    for smooth, columns in zip(design.smooth.smooths, design.smooth_slices, strict=True):
        found[columns] = smooth.random or smooth.term.option("bs") == "fs"
    return found


def without_sites(study: Study, Y: FloatArray) -> FloatArray:
    """Return complete features less what the covariates explain if there were no sites, (n, V); random effects stay."""
    one = np.zeros(Y.shape[0], dtype=np.intp)
    fit = AdditiveMean().fit(study.table, Y, one, formula=study.formula, labels=["all sites"])
    fixed = ~random_columns(fit.design)
    less = fit.design.less_offset(Y, study.table)
    return np.asarray(less - fit.design.on(study.table)[:, fixed] @ fit.coefficients[fixed] - fit.intercepts[0])
