"""The mean model of a formula: batch intercepts and common, partly penalised coefficients, all features in one pass.

A linear model and a GAM are the same object, columns and quadratic penalties, so one class fits both: without smooths
there is nothing to penalise, and least squares is what is left.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pycombat_gam.design.design import Design
from pycombat_gam.design.penalties import SmoothingParameters
from pycombat_gam.formula import Formula
from pycombat_gam.mean.fit import MeanFit, Smoothing
from pycombat_gam.mean.groups import Groups, assemble, gather, in_order
from pycombat_gam.penalized.problem import Method, Penalties
from pycombat_gam.penalized.solve import LeastSquares, solve, solve_penalised
from pycombat_gam.penalized.sufficient import Statistics
from pycombat_gam.progress import progress_bar
from pycombat_gam.types import Advance, FloatArray, IntArray


class AdditiveMean:
    """A formula's parametric terms, smooths and random effects.

    Parameters
    ----------
    criterion : {"REML", "ML", "GCV"}
        Criterion that chooses the smoothing parameters.
    """

    def __init__(self, criterion: Method = "REML") -> None:
        self.criterion = criterion

    def describe(self, formula: Formula) -> str:
        """Say in one line what is fitted."""
        if not formula.penalised:
            return f"linear model {formula}, least squares (QR), batch intercepts"
        return f"additive model {formula}, penalised least squares, smoothing by {self.criterion}, batch intercepts"

    def fit(
        self,
        table: pd.DataFrame,
        Y: np.ndarray,
        batch: IntArray,
        *,
        formula: str | Formula,
        features: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
        omit_missing: bool = False,
    ) -> MeanFit:
        """Fit all features.

        Parameters
        ----------
        table : (n rows) covariates; Y : (n, V) features of any real dtype; batch : (n,) codes.
        formula : one-sided, without the batch: its columns are added and hold the intercept.
        features, labels : names of the V features and B batches, for messages; numbered if not given.
        omit_missing : fit each feature on its observed cells; otherwise a missing cell is an error.

        Raises
        ------
        DesignError
            Confounded, collinear or constant terms; a saturated design.
        DataError
            Missing cells (unless `omit_missing`), infinite cells, a feature without values in a batch.
        """
        gathered = gather(
            Design.learn(formula, table, absorb_intercept=True),
            table,
            Y,
            batch,
            features=features if features is not None else [f"feature {k}" for k in range(Y.shape[1])],
            labels=labels if labels is not None else [f"batch {b}" for b in range(int(batch.max()) + 1)],
            omit_missing=omit_missing,
            bar=progress_bar,
        )
        slices = gathered.design.smooth_slices
        parameters = gathered.design.smoothing_parameters()
        if slices:
            with progress_bar("choosing smoothing parameters", Y.shape[1]) as advance:
                solutions = [self.solve(group.statistics, parameters.penalties, advance) for group in gathered.groups]
        else:
            solutions = [solve(group.statistics) for group in gathered.groups]
        smoothing = self._smoothing(gathered, parameters, solutions) if slices else Smoothing.none(Y.shape[1])
        return assemble(gathered, Y, solutions, smoothing)

    def solve(self, statistics: Statistics, penalties: Penalties, advance: Advance | None = None) -> LeastSquares:
        """Choose smoothing parameters for features that are observed on the same rows, and fit them."""
        return solve_penalised(statistics, penalties, self.criterion, advance)

    def _smoothing(
        self, gathered: Groups, parameters: SmoothingParameters, solutions: Sequence[LeastSquares]
    ) -> Smoothing:
        fits = [solution.smoothing for solution in solutions if solution.smoothing is not None]
        edf = in_order(gathered.groups, [fit.edf for fit in fits])
        return Smoothing(
            parameters.values(in_order(gathered.groups, [fit.sp for fit in fits])),
            parameters.names,
            np.array([edf[columns].sum(axis=0) for columns in gathered.design.smooth_slices]),
            tuple(smooth.label for smooth in gathered.design.smooth.smooths),
            in_order(gathered.groups, [fit.score[None] for fit in fits]),
            self.criterion,
        )

    def predict(self, fit: MeanFit, table: pd.DataFrame) -> FloatArray:
        """Evaluate the covariate part Xβ on new rows, shape (n, V), the formula's offset included.

        Add an intercept or grand mean to it.
        """
        return fit.design.on(table) @ fit.coefficients + fit.design.offset(table)[:, None]
