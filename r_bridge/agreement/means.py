"""Means under a rule of R's: features of another fit, and the mean of ComBatFamily's `combat_gam`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pycombat_gam.mean.additive import AdditiveMean
from pycombat_gam.mean.fit import MeanFit
from pycombat_gam.penalized.problem import Method, Penalties
from pycombat_gam.penalized.smoothing import fit_at, fit_smoothing
from pycombat_gam.penalized.solve import LeastSquares, reduced, with_intercepts
from pycombat_gam.penalized.sufficient import Statistics
from pycombat_gam.types import BoolArray, FloatArray
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

    def solve(self, statistics: Statistics, penalties: Penalties) -> LeastSquares:
        """Fit by the criterion of n − superfluous rows: n enters REML as n − M alone."""
        problem = reduced(statistics)
        counted = replace(problem, n=problem.n - self.superfluous)
        if self.sp is None:
            fit = fit_smoothing(counted, penalties, method=self.criterion)
        else:
            fit = fit_at(counted, penalties, np.log(self.sp), method=self.criterion)
        return with_intercepts(statistics, problem, fit)

    def of(self, study: Study) -> MeanFit:
        """Fit a study's features, which are complete."""
        return self.fit(
            study.given.covariates, study.Y.to_numpy(), study.codes, formula=study.formula,
            features=study.given.features, labels=study.levels.labels,
        )  # fmt: skip


def stopped_early(best: MeanFit, theirs: SuperfluousColumns, study: Study) -> tuple[MeanFit, FloatArray] | None:
    """Fit at R's smoothing parameters where they score no better than ours, by the same criterion.

    Parameters
    ----------
    best : the optimum of that criterion; theirs : at R's parameters.

    Returns
    -------
    The mean, and by how much R's score is above the best, (V,); None where R's parameters are not finite, or others.
    """
    sp = theirs.sp
    if sp is None or sp.shape != best.smoothing.parameters.shape or not (np.isfinite(sp) & (sp > 0)).all():
        return None
    at = theirs.of(study)
    gap = at.smoothing.score[0] - best.smoothing.score[0]
    return spliced(best, at, gap > -BETTER), gap


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
