"""The mean model of a formula: batch intercepts and common, partly penalised coefficients, all features in one pass.

A linear model and a GAM are the same object, columns and quadratic penalties, so one class fits both: without smooths
there is nothing to penalise, and least squares is what is left.

Missing cells are handled per pattern: features observed on the same rows share a design factor, so a table with few
patterns (a mask per region, a failed scan) costs no more than a complete one. The basis is learned on all rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.cells import check_cells
from pycombat_gam.design import Design
from pycombat_gam.formula import parse_formula
from pycombat_gam.mean.check import check_design, check_measured, check_observed, check_squares
from pycombat_gam.mean.fit import MeanFit, Smoothing
from pycombat_gam.penalized.problem import Method
from pycombat_gam.penalized.solve import pooled_factor, solve, solve_penalised
from pycombat_gam.penalized.sufficient import (
    DesignFactor,
    Statistics,
    accumulate,
    factor_design,
    last_digit,
)
from pycombat_gam.smooth.part import SmoothingParameters
from pycombat_gam.types import FloatArray, IntArray

SMALLEST_SD = 1e-152
"""Below it, squares leave the range in which double precision keeps its digits."""


def rounding_unit(Y: np.ndarray) -> float:
    """Relative size of a residual's rounding: some operations in double precision, and one of the type of Y."""
    return max(16 * float(np.finfo(np.float64).eps), last_digit(Y))


class AdditiveMean:
    """A formula's parametric terms, smooths and random effects.

    Parameters
    ----------
    formula : one-sided R formula; the batch is no part of it, its columns are added and hold the intercept.
    criterion : what chooses the smoothing parameters: ``"REML"``, ``"ML"`` or ``"GCV"``.
    """

    def __init__(self, formula: str, criterion: Method = "REML") -> None:
        self.formula = formula
        self.criterion = criterion

    def describe(self) -> str:
        """Say in one line what is fitted."""
        parsed = parse_formula(self.formula)
        if not parsed.smooths and not parsed.random:
            return f"linear model {self.formula}, least squares (QR), batch intercepts"
        return (
            f"additive model {self.formula}, penalised least squares, smoothing by {self.criterion}, batch intercepts"
        )

    def fit(
        self,
        table: pd.DataFrame,
        Y: np.ndarray,
        batch: IntArray,
        *,
        features: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
        omit_missing: bool = False,
    ) -> MeanFit:
        """Fit all features.

        Parameters
        ----------
        table : (n rows) covariates; Y : (n, V) features of any real dtype; batch : (n,) codes.
        features, labels : names of the V features and B batches, for messages; numbered if not given.
        omit_missing : fit each feature on its observed cells; otherwise a missing cell is an error.

        Raises
        ------
        DesignError
            Confounded, collinear or constant terms; a saturated design.
        DataError
            Missing cells (unless `omit_missing`), infinite cells, a feature without values in a batch.
        """
        features = features if features is not None else [f"feature {k}" for k in range(Y.shape[1])]
        labels = labels if labels is not None else [f"batch {b}" for b in range(int(batch.max()) + 1)]
        design = Design.learn(self.formula, table, absorb_intercept=True)
        X = design.on(table)
        factor = factor_design(X, batch, len(labels))
        check_design(design, X, factor)
        complete = accumulate(Y, factor)
        broken = ~(np.isfinite(complete.y_mean).all(axis=0) & np.isfinite(complete.residual_ss).all(axis=0))
        groups: list[tuple[IntArray, Statistics]] = [
            (np.flatnonzero(~broken), complete.select(np.flatnonzero(~broken)))
        ]
        if broken.any():
            columns = np.flatnonzero(broken)
            missing = check_cells(Y, columns, features, omit_missing=omit_missing)
            check_measured(missing == Y.shape[0], columns, features)
            for rows, members in missing_patterns(Y, columns):
                partial = factor_design(X, batch, len(labels), rows)
                check_observed(partial, [features[k] for k in members], labels)
                check_design(design, X, partial, [features[k] for k in members])
                groups.append((members, accumulate(Y[:, members], partial)))
                check_squares(groups[-1][1], [features[k] for k in members])
        return _assemble(design, X, factor, groups, Y, self.criterion)

    def predict(self, fit: MeanFit, table: pd.DataFrame) -> FloatArray:
        """Evaluate the covariate part Xβ on new rows, shape (n, V): add an intercept or grand mean to it."""
        return fit.design.on(table) @ fit.coefficients


def _assemble(
    design: Design,
    X: FloatArray,
    factor: DesignFactor,
    groups: list[tuple[IntArray, Statistics]],
    Y: np.ndarray,
    criterion: Method,
) -> MeanFit:
    """Solve each group of features and put the columns back in order."""
    V = Y.shape[1]
    groups = [(members, statistics) for members, statistics in groups if members.size]
    slices = design.smooth_slices
    parameters = SmoothingParameters.of(design.smooth.smooths, slices)
    smooth = bool(slices)
    solutions = [
        solve_penalised(statistics, parameters.penalties, criterion) if smooth else solve(statistics)
        for _, statistics in groups
    ]

    def in_order(parts: list[Any]) -> Any:
        """Join what was computed by group along the features."""
        if len(parts) == 1:
            return parts[0]
        joined = np.empty((*parts[0].shape[:-1], V), dtype=parts[0].dtype)
        for (members, _), part in zip(groups, parts, strict=True):
            joined[..., members] = part
        return joined

    unit = rounding_unit(Y)

    def rounding(statistics: Statistics) -> FloatArray:
        """Scale `unit` by the raw numbers of a batch and by what the covariates add to them: both round."""
        reach = np.zeros_like(statistics.y_mean)
        for row in np.moveaxis(statistics.Z, 1, 0):
            np.maximum(reach, np.abs(row), out=reach)
        reach /= np.sqrt(np.maximum(statistics.n, 1))[:, None]
        return np.maximum(unit * np.maximum(np.abs(statistics.y_mean), reach, out=reach), SMALLEST_SD)

    penalised = [solution.smoothing for solution in solutions if solution.smoothing is not None]
    edf = in_order([fit.edf for fit in penalised]) if smooth else np.zeros((0, V))
    return MeanFit(
        design=design,
        coefficients=in_order([solution.coefficients for solution in solutions]),
        intercepts=in_order([solution.intercepts for solution in solutions]),
        residual_ss=in_order([solution.residual_ss for solution in solutions]),
        n_rows=factor.n,
        # Features with the same rows share their counts: the view costs no memory.
        n_observed=in_order([np.broadcast_to(s.n[:, None], s.y_mean.shape) for _, s in groups]),
        constant=in_order([s.constant for _, s in groups]),
        rounding=in_order([rounding(s) for _, s in groups]),
        center=X[0] + (X - X[0]).mean(axis=0),
        R=pooled_factor(factor.R)[1],
        smoothing=Smoothing(
            parameters.values(in_order([fit.sp for fit in penalised])),
            parameters.names,
            np.array([edf[columns].sum(axis=0) for columns in slices]).reshape(len(slices), V),
            tuple(one.label for one in design.smooth.smooths),
            in_order([fit.score[None] for fit in penalised]),
            criterion,
        )
        if smooth
        else Smoothing.none(V),
    )


def missing_patterns(Y: np.ndarray, columns: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield (observed rows, features) for every distinct pattern of missing cells among `columns`."""
    members: dict[bytes, list[int]] = {}
    for k in columns:
        members.setdefault(np.packbits(np.isnan(Y[:, k])).tobytes(), []).append(int(k))
    for group in members.values():
        yield np.flatnonzero(~np.isnan(Y[:, group[0]])), np.array(group, dtype=np.intp)
