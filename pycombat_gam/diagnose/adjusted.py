"""Features without the covariates' part: one joint fit of sites and covariates for each pattern of missing cells.

`pycombat_gam.mean.AdditiveMean` fits them, so sites are compared at equal covariates. A feature with missing cells is
fitted on its observed rows; sites without a value drop out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pycombat_gam.design.design import Design
from pycombat_gam.diagnose.study import Study
from pycombat_gam.formula.functions import variables
from pycombat_gam.mean.additive import AdditiveMean
from pycombat_gam.mean.fit import MeanFit
from pycombat_gam.mean.posterior import inverse_information, residual_variance
from pycombat_gam.study.units import Units, units_of
from pycombat_gam.types import BoolArray, FloatArray, IntArray

FEATURES_AVERAGED = 50
"""The coefficients' error is averaged over at most this many features."""


@dataclass(frozen=True, eq=False)
class Adjusted:
    """k features that are observed on the same n rows.

    Attributes
    ----------
    features : (k,) positions among the study's features; rows : (n,) positions among its rows.
    codes : (n,) sites, renumbered where some have no row; sites : (B,) their positions among the study's sites.
    fit : sites and covariates together; X : (n, p) its design.
    level : (n, k) the features less the covariates' part; residual : (n, k) less the site means too.
    free : (n, k) as `level`, but with the units' random effects left in.
    groups : (n,) rows that random effects link, or None.
    units : the independent units, or None where groups of random effects have rows at several sites.
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
        """Whether each feature has residual variance beyond rounding, (k,)."""
        fit = self.fit
        spread = np.sqrt(fit.residual_ss.sum(axis=0) / fit.n_observed.sum(axis=0))
        return np.asarray(spread > fit.rounding.max(axis=0))


def adjusted(study: Study, Y: FloatArray) -> Iterator[Adjusted]:
    """Fit sites and covariates, pattern by pattern; features observed at one site only are left out."""
    model = AdditiveMean()
    for rows, features in study.patterns(Y):
        sites, codes = np.unique(study.codes[rows], return_inverse=True)
        if sites.size < 2:
            continue
        table, values = study.table.iloc[rows], Y[np.ix_(rows, features)]
        labels = [study.sites[b] for b in sites]
        names = [study.features[k] for k in features]
        fit = model.fit(table, values, codes, formula=study.fitted, features=names, labels=labels)
        X = fit.design.on(table)
        level = fit.design.less_offset(values, table) - (X - fit.center) @ fit.coefficients
        n = np.bincount(codes)
        means = np.add.reduceat(level[np.argsort(codes, kind="stable")], np.cumsum(n) - n, axis=0) / n[:, None]
        free, codes = level, codes.astype(np.intp)
        staying = staying_columns(study, fit.design)
        if staying.any():
            free = level + (X - fit.center)[:, staying] @ fit.coefficients[staying]
        groups = None if study.groups is None else study.groups[rows]
        residual = level - means[codes]
        yield Adjusted(features, rows, codes, sites, fit, X, level, residual, free, groups, units_of(codes, groups))


def staying_columns(study: Study, design: Design) -> BoolArray:
    """Whether each column of a design is a random effect of the units, (p,): these are not covariates."""
    staying = np.zeros(len(design.columns), dtype=bool)
    for smooth, columns in design.random_effects:
        used = {name for node in smooth.term.args for name in variables(node)}
        staying[columns] = any(used.issuperset(group) for group in study.linking)
    return staying


@dataclass(frozen=True, eq=False)
class CovariatesAlone:
    """The covariates' part of k features, fitted without sites on some rows; random effects of the units stay.

    Attributes
    ----------
    fit : covariates without sites; fixed : (p,) the columns to subtract.
    """

    fit: MeanFit
    fixed: BoolArray

    @classmethod
    def of(cls, study: Study, Y: FloatArray, rows: BoolArray | None = None) -> CovariatesAlone:
        """Fit complete features (n, k), on the chosen rows or all."""
        table, values = (study.table, Y) if rows is None else (study.table[rows], Y[rows])
        together = np.zeros(len(values), dtype=np.intp)
        fit = AdditiveMean().fit(table, values, together, formula=study.fitted, labels=["all sites"])
        return cls(fit, ~staying_columns(study, fit.design))

    def off(self, table: pd.DataFrame, values: FloatArray) -> FloatArray:
        """Return features less their covariates' part, for any rows, (n, k)."""
        X = self.fit.design.on(table)[:, self.fixed]
        less = self.fit.design.less_offset(values, table)
        return np.asarray(less - X @ self.fit.coefficients[self.fixed] - self.fit.intercepts[0])

    def shared_error(self, table: pd.DataFrame, codes: IntArray, sites: int, spread: FloatArray) -> FloatArray:
        """Return the covariance of the coefficients' error between rows of two sites, (B, B), in variances of a row.

        Parameters
        ----------
        table : n rows whose covariates' part is subtracted; codes : (n,) their sites.
        spread : (k,) variance of each feature after that.
        """
        X = self.fit.design.on(table)[:, self.fixed] - self.fit.center[self.fixed]
        means = np.zeros((sites, X.shape[1]))
        np.add.at(means, codes, X)
        means /= np.maximum(np.bincount(codes, minlength=sites), 1)[:, None]
        # All features share one design, so some of them suffice.
        some = np.flatnonzero(spread > 0)
        some = some[:: max(1, some.size // FEATURES_AVERAGED)]
        if not (some.size and X.shape[1]):
            return np.zeros((sites, sites))
        inverse = inverse_information(self.fit, some)[:, self.fixed][:, :, self.fixed]
        scale = residual_variance(self.fit)[some] / spread[some]
        covariance = (inverse * scale[:, None, None]).mean(axis=0)
        return np.asarray(means @ covariance @ means.T)
