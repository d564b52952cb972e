r"""By how much does harmonization change the effects, for whoever then analyses the table without site?

Over the features in which the test finds a term, with f_k the fitted term of feature k in the rows before harmonization
(site intercepts in the fit), f*_k the same after harmonization (no site in the fit) and σ_k the standard
deviation before of what the covariates leave,

.. math:: R = \frac{\sum_k \langle f_k, f^*_k\rangle/σ_k^2}{\sum_k \langle f_k, f_k\rangle/σ_k^2}:

the slope of the effects after on those before, 1 where harmonization changes none. For one degree of freedom
f = xβ: the mean of β*/β, weighted by (β/σ)². Any term has one, smooths and several degrees of freedom too.

The features are chosen by a test of the effects before. Their errors are nearly uncorrelated with what harmonization
adds (least squares has the smallest variance, Hausman 1978), so the choice raises β and β* alike, and pulls R towards 1
only.

The interval comes from the rows. Each row's residuals enter R through both fits, in all features at once; the sums over
features of these influences are independent between rows (or the groups that random effects link), whatever the
correlation of features. A row enters the effects after by three ways: within its site, scaled as the table after shows
(d, feature by feature); through the covariates' part that harmonization kept; and through what it left of the site's
location, of which it takes the share κ of a site's estimate (slope over features of the locations after on those
before). For ComBat this is the derivative itself, up to the shrinkage of single features and the hyperparameters; for
other tables an approximation. From fewer than `FEWEST` features κ cannot be told and is 1: the interval is then too
wide, not too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from pycombat_gam.diagnose.adjusted import Adjusted, staying_columns
from pycombat_gam.diagnose.association import TermTests
from pycombat_gam.diagnose.location import blocks
from pycombat_gam.diagnose.rows import rows
from pycombat_gam.diagnose.shrinkage import slope
from pycombat_gam.diagnose.study import Study
from pycombat_gam.infer.effects import adjusted
from pycombat_gam.mean.additive import AdditiveMean
from pycombat_gam.mean.fit import MeanFit
from pycombat_gam.mean.posterior import inverse_information, residual_df
from pycombat_gam.progress import tracked
from pycombat_gam.study.states import AFTER, BEFORE
from pycombat_gam.types import FloatArray, IntArray

FEWEST = 3


def changes(
    study: Study, fits: Mapping[str, Sequence[Adjusted]], tests: Mapping[str, Mapping[str, TermTests]], level: float
) -> list[dict[str, np.ndarray]]:
    """Return a row per term that is found before harmonization: R with its interval; `n` counts the features."""
    selected = {label: np.flatnonzero(adjusted(test.p) < level) for label, test in tests.get(BEFORE, {}).items()}
    selected = {label: features for label, features in selected.items() if features.size}
    if AFTER not in fits or not selected:
        return []
    sums = {label: _Sums.none(study.codes.size) for label in selected}
    for part in tracked(fits[BEFORE], "comparing effects", len(fits[BEFORE])):
        pair = _Pair.of(study, part)
        for label, features in selected.items():
            places = np.flatnonzero(np.isin(part.features, features))
            for at in blocks(places.size, part.X.shape[1] ** 2 + part.rows.size) if places.size else ():
                pair.add(sums[label], label, places[at])
    return [
        rows(
            aspect="effect change", measure="ratio", state=AFTER, covariate=label, value=ratio, lower=lower,
            upper=upper, chance=1.0, n=selected[label].size,
        )
        for label, (ratio, lower, upper) in ((label, _interval(study, part, level)) for label, part in sums.items())
    ]  # fmt: skip


@dataclass(eq=False)
class _Sums:
    """Numerator and denominator of R, what each row (n,) adds to their errors, and rows left."""

    numerator: float
    denominator: float
    to_numerator: FloatArray
    to_denominator: FloatArray
    df: float

    @classmethod
    def none(cls, n: int) -> _Sums:
        return cls(0.0, 0.0, np.zeros(n), np.zeros(n), np.inf)


@dataclass(frozen=True, eq=False)
class _Pair:
    """k features on n rows: fitted with site intercepts before harmonization, without after.

    Attributes
    ----------
    part : before; after : of the table after.
    X : (n, p) design less its means; within : (n, p) less those of each site; site_mean : (B, p).
    residual : (n, k) what the covariates leave of the features within sites; variance : (k,) σ².
    scale : (B, k) d; kept : (B, 1) κ.
    """

    part: Adjusted
    after: MeanFit
    X: FloatArray
    within: FloatArray
    site_mean: FloatArray
    residual: FloatArray
    variance: FloatArray
    scale: FloatArray
    kept: FloatArray

    @classmethod
    def of(cls, study: Study, part: Adjusted) -> _Pair:
        """Fit the table after."""
        fit, codes, sizes = part.fit, part.codes, part.sizes[:, None]
        table, Y = study.table.iloc[part.rows], study.states[AFTER][np.ix_(part.rows, part.features)]
        together = np.zeros(codes.size, dtype=np.intp)
        after = AdditiveMean().fit(table, Y, together, formula=study.fitted, labels=["all sites"])
        X = part.X - fit.center
        site_mean = _sums(X, codes) / sizes
        level = fit.design.less_offset(Y, table) - X @ fit.coefficients
        left, estimated = _sums(level, codes) / sizes, _sums(part.level, codes) / sizes
        # What random effects of the units explain is error of the rows, like the rest.
        staying = staying_columns(study, fit.design)
        free = level + X[:, staying] @ fit.coefficients[staying]
        residual = part.free - (_sums(part.free, codes) / sizes)[codes]
        squares = _sums(residual**2, codes)
        variance = squares.sum(axis=0) / _rows_left(fit)
        along = _sums(residual * (free - (_sums(free, codes) / sizes)[codes]), codes)
        scale = np.divide(along, squares, out=np.ones_like(along), where=squares > 0)
        kept = np.ones((len(left), 1))
        varying = np.flatnonzero(part.modelled)
        if varying.size >= FEWEST:
            sd = np.sqrt(variance[varying])
            each = slope(*((of - of.mean(axis=0))[:, varying] / sd for of in (estimated, left)))
            kept[np.isfinite(each), 0] = each[np.isfinite(each)]
        return cls(part, after, X, X - site_mean[codes], site_mean, residual, variance, scale, kept)

    def add(self, sums: _Sums, label: str, places: IntArray) -> None:
        """Add some of the features to the sums of a term."""
        fit, codes = self.part.fit, self.part.codes
        columns = fit.design.term_slices[label]
        X, within, n = self.X, self.within, codes.size
        beta, then = fit.coefficients[columns, places], self.after.coefficients[columns, places]
        size = X[:, columns].T @ X[:, columns] / self.variance[places, None, None]
        before, after = (np.einsum("kcd,dk->ck", size, of) for of in (beta, then))
        H, H_after = inverse_information(fit, places), inverse_information(self.after, places)
        t = X @ _times(H_after[:, :, columns], before)
        at_site, d = _sums(t, codes), self.scale[:, places]
        left = self.kept * at_site
        pulled = X.T @ t - within.T @ (d[codes] * t) - self.site_mean.T @ left
        influence = d[codes] * (t - (at_site / self.part.sizes[:, None])[codes])
        influence += (left / self.part.sizes[:, None])[codes] - left.sum(axis=0) / n
        influence += within @ (_times(H, pulled) + _times(H[:, :, columns], after))
        residual = self.residual[:, places]
        sums.numerator += float((beta * after).sum())
        sums.denominator += float((beta * before).sum())
        sums.to_numerator[self.part.rows] += (influence * residual).sum(axis=1)
        sums.to_denominator[self.part.rows] += 2.0 * ((within @ _times(H[:, :, columns], before)) * residual).sum(
            axis=1
        )
        sums.df = min(sums.df, float(_rows_left(fit)[places].min()))


def _interval(study: Study, sums: _Sums, level: float) -> tuple[float, float, float]:
    """Return R and its interval of coverage 1 − level."""
    ratio = sums.numerator / sums.denominator
    influence = (sums.to_numerator - ratio * sums.to_denominator) / sums.denominator
    units = influence if study.groups is None else np.bincount(study.groups, weights=influence)
    df = max(sums.df - study.codes.size + units.size, 1.0)
    reach = float(np.sqrt((units**2).sum() * units.size / df) * stdtrit(df, 1.0 - level / 2.0))
    return ratio, ratio - reach, ratio + reach


def _rows_left(fit: MeanFit) -> FloatArray:
    """Return the rows less what sites and covariates take, random effects not among these, (V,)."""
    random = {smooth.label for smooth, _ in fit.design.random_effects}
    of_groups = np.array([label in random for label in fit.smoothing.smooths], dtype=bool)
    return np.asarray(residual_df(fit) + fit.smoothing.edf[of_groups].sum(axis=0))


def _sums(values: FloatArray, codes: IntArray) -> FloatArray:
    """Return the sums of the rows of each site, (B, any)."""
    sums = np.zeros((int(codes.max()) + 1, values.shape[1]))
    np.add.at(sums, codes, values)
    return sums


def _times(inverse: FloatArray, vectors: FloatArray) -> FloatArray:
    """Multiply a matrix of each feature, or of all (k or 1, p, q), by vectors (q, k)."""
    if len(inverse) == 1:
        return np.asarray(inverse[0] @ vectors)
    return np.asarray(np.einsum("kpq,qk->pk", inverse, vectors))
