"""Means under a rule of R's: features of another fit, and the mean of ComBatFamily's `combat_gam`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pycombat_gam.mean.additive import AdditiveMean
from pycombat_gam.mean.fit import MeanFit
from pycombat_gam.penalized.problem import METHODS, Method, Penalties
from pycombat_gam.penalized.smoothing import fit_at, fit_smoothing
from pycombat_gam.penalized.solve import LeastSquares, reduced, with_intercepts
from pycombat_gam.penalized.sufficient import Statistics
from pycombat_gam.types import Advance, BoolArray, FloatArray
from r_bridge.study import Study

BETTER = 1e-6
"""A score counts as lower from here."""


class SuperfluousColumns(AdditiveMean):
    """A mean whose restricted likelihood counts columns that its design has beyond its rank.

    Parameters
    ----------
    criterion : as in `AdditiveMean`; superfluous : the number of such columns, which REML takes from its degrees of
        freedom. GCV and ML do not count them.
    sp : (r, V) smoothing parameters of another search; None to search them.
    """

    def __init__(self, criterion: Method, superfluous: int, sp: FloatArray | None = None) -> None:
        super().__init__(criterion)
        self.superfluous = superfluous if criterion == "REML" else 0
        self.sp = sp

    def solve(self, statistics: Statistics, penalties: Penalties, advance: Advance | None = None) -> LeastSquares:
        """Fit by the criterion of n − superfluous rows: n enters REML as n − M alone."""
        problem = reduced(statistics)
        counted = replace(problem, n=problem.n - self.superfluous)
        if self.sp is None:
            fit = fit_smoothing(counted, penalties, method=self.criterion, advance=advance)
        else:
            fit = fit_at(counted, penalties, np.log(self.sp), method=self.criterion)
        return with_intercepts(statistics, problem, fit)

    def of(self, study: Study) -> MeanFit:
        """Fit a study's features."""
        Y = study.Y.to_numpy()
        return self.fit(
            study.given.covariates, Y, study.codes, formula=study.formula,
            features=study.given.features, labels=study.levels.labels, omit_missing=bool(np.isnan(Y).any()),
        )  # fmt: skip


def beyond_a_rise(best: MeanFit, theirs: MeanFit, superfluous: int, study: Study) -> BoolArray:
    """Find the features whose criterion rises on the straight path from R's smoothing parameters to the best.

    There R's search ended in another optimum; for the others it stopped on the way.

    Parameters
    ----------
    best, theirs : fits by one criterion; superfluous : as it counts them.
    """
    method = METHODS[best.smoothing.criterion]
    start, end = (_logs(fit.smoothing.parameters) for fit in (theirs, best))
    score = theirs.smoothing.score[0]
    rises = np.zeros(score.shape, dtype=bool)
    for share in np.linspace(0.0, 1.0, STEPS + 2)[1:-1]:
        between = SuperfluousColumns(method, superfluous, np.exp(start + share * (end - start))).of(study)
        rises |= between.smoothing.score[0] > score + 1e-9 * (1 + np.abs(score))
    return np.asarray(rises, dtype=bool)


STEPS = 15
"""Places on the way that are looked at."""


def _logs(parameters: FloatArray) -> FloatArray:
    """Logarithms within the range in which a smoothing parameter moves a fit."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.clip(np.nan_to_num(np.log(parameters), nan=0.0), -45.0, 35.0), dtype=np.float64)


def reml_variance(mean: MeanFit) -> FloatArray:
    """Return the residual variance (V,) of REML: (rss + λb'b)/(n − p), p counting batches and unpenalised columns."""
    penalised, free, row = np.zeros(mean.coefficients.shape[1]), len(mean.coefficients), 0
    for smooth, columns in zip(mean.design.smooth.smooths, mean.design.smooth_slices, strict=True):
        b = mean.coefficients[columns]
        for S in smooth.penalties:
            penalised += mean.smoothing.parameters[row] * (b * (S @ b)).sum(axis=0)
            row += 1
        free -= sum(smooth.ranks)
    n = mean.n_observed.sum(axis=0)
    return np.asarray((mean.residual_ss.sum(axis=0) + penalised) / (n - len(mean.n_observed) - free))


def spliced(ours: MeanFit, theirs: MeanFit, features: BoolArray) -> MeanFit:
    """Return our mean with R's for some features."""

    def mix(a: FloatArray, b: FloatArray) -> FloatArray:
        return np.where(features, b, a)

    smoothing = replace(
        ours.smoothing,
        parameters=mix(ours.smoothing.parameters, theirs.smoothing.parameters),
        edf=mix(ours.smoothing.edf, theirs.smoothing.edf),
        score=mix(ours.smoothing.score, theirs.smoothing.score),
    )
    return replace(
        ours,
        coefficients=mix(ours.coefficients, theirs.coefficients),
        intercepts=mix(ours.intercepts, theirs.intercepts),
        residual_ss=mix(ours.residual_ss, theirs.residual_ss),
        smoothing=smoothing,
    )
