"""Features with the covariates' part taken off: one joint fit of sites and covariates for every pattern of cells.

The fit is that of `pycombat_gam.mean.AdditiveMean`, so a site is compared with others at equal covariates. A feature
with missing cells is fitted on its observed rows, where sites without any value drop out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pycombat_gam.diagnose.study import Study
from pycombat_gam.mean.additive import AdditiveMean
from pycombat_gam.mean.fit import MeanFit
from pycombat_gam.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Adjusted:
    """k features that are observed on the same n rows.

    Attributes
    ----------
    features : (k,) which of the study's; rows : (n,) which of its rows.
    codes : (n,) sites, numbered anew where some have no row; sites : (B,) which of the study's they are.
    fit : sites and covariates together; X : (n, p) its design.
    level : (n, k) the features less the covariates' part, sites and all; residual : (n, k) less the sites' too.
    """

    features: IntArray
    rows: IntArray
    codes: IntArray
    sites: IntArray
    fit: MeanFit
    X: FloatArray
    level: FloatArray
    residual: FloatArray

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
        level = values - (X - fit.center) @ fit.coefficients
        n = np.bincount(codes)
        means = np.add.reduceat(level[np.argsort(codes, kind="stable")], np.cumsum(n) - n, axis=0) / n[:, None]
        yield Adjusted(features, rows, codes.astype(np.intp), sites, fit, X, level, level - means[codes])


def without_sites(study: Study, Y: FloatArray) -> FloatArray:
    """Return complete features less what the covariates explain if there were no sites, (n, V).

    With random effects these are fitted beside the sites: without, they would take the sites' part.
    """
    if study.formula.random or any(s.option("bs") == "re" for s in study.formula.smooths):
        (both,) = adjusted(study, Y)
        return np.asarray(both.level - both.level.mean(axis=0))
    one = np.zeros(Y.shape[0], dtype=np.intp)
    fit = AdditiveMean().fit(study.table, Y, one, formula=study.formula, labels=["all sites"])
    return np.asarray(Y - fit.design.on(study.table) @ fit.coefficients - fit.intercepts[0])
