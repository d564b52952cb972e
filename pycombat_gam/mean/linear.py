"""The linear mean model: batch intercepts and common coefficients, least squares, all features in one pass.

Missing cells are handled per pattern: features observed on the same rows share a design factor, so a table with few
patterns (a mask per region, a failed scan) costs no more than a complete one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from pycombat_gam.cells import check_cells
from pycombat_gam.design import Design
from pycombat_gam.errors import DataError, DesignError, count, listing
from pycombat_gam.penalized.solve import dependent_columns, pooled_factor, solve
from pycombat_gam.penalized.sufficient import (
    DesignFactor,
    Statistics,
    accumulate,
    factor_design,
    last_digit,
)
from pycombat_gam.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class MeanFit:
    """A fitted mean model: p design columns, B batches, V features.

    Attributes
    ----------
    design : the learned design, without batch columns and intercept.
    coefficients : (p, V); intercepts : (B, V) at raw covariates of zero, as R reports them.
    residual_ss : (B, V) residual sum of squares within each batch.
    n_rows : (B,) rows used; n_observed : (B, V) cells used.
    constant : (B, V) all observed raw values are equal, to the last digit.
    rounding : (B, V) a residual sd up to this is rounding of the batch's raw numbers, not variance.
    center : (p,) column means of the design over the rows used.
    R : (p, p) factor of the within-batch cross product of the design, complete rows.
    """

    design: Design
    coefficients: FloatArray
    intercepts: FloatArray
    residual_ss: FloatArray
    n_rows: IntArray
    n_observed: IntArray
    constant: BoolArray
    rounding: FloatArray
    center: FloatArray
    R: FloatArray

    @property
    def df_residual(self) -> int:
        """Residual degrees of freedom of a feature without missing cells: n − p − B."""
        return int(self.n_rows.sum() - self.coefficients.shape[0] - self.n_rows.size)


SMALLEST_SD = 1e-152
"""Below it, squares leave the range in which double precision keeps its digits."""
LARGEST = 1e150
"""Covariates beyond it, or below its reciprocal, leave that range too."""


def rounding_unit(Y: np.ndarray) -> float:
    """Relative size of a residual's rounding: some operations in double precision, and one of the type of Y."""
    return max(16 * float(np.finfo(np.float64).eps), last_digit(Y))


class MeanModel(Protocol):
    """What ComBat asks of a mean model; names are for messages."""

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
        """Fit all features; see `LinearMean.fit`."""

    def predict(self, fit: MeanFit, table: pd.DataFrame) -> FloatArray:
        """Evaluate the covariate part on new rows, (n, V)."""

    def describe(self) -> str:
        """Say in one line what is fitted."""


class LinearMean:
    """Least squares on the parametric part of a formula.

    Parameters
    ----------
    formula : one-sided R formula; the batch is no part of it, its columns are added and hold the intercept.
    """

    def __init__(self, formula: str) -> None:
        self.formula = formula

    def describe(self) -> str:
        """Say in one line what is fitted."""
        return f"linear model {self.formula}, least squares (QR), batch intercepts"

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
            _check_measured(missing == Y.shape[0], columns, features)
            for rows, members in missing_patterns(Y, columns):
                partial = factor_design(X, batch, len(labels), rows)
                _check_observed(partial, [features[k] for k in members], labels)
                check_design(design, X, partial, [features[k] for k in members])
                groups.append((members, accumulate(Y[:, members], partial)))
                _check_squares(groups[-1][1], [features[k] for k in members])
        return _assemble(design, X, factor, groups, Y)

    def predict(self, fit: MeanFit, table: pd.DataFrame) -> FloatArray:
        """Evaluate the covariate part Xβ on new rows, shape (n, V): add an intercept or grand mean to it."""
        return fit.design.on(table) @ fit.coefficients


def _assemble(
    design: Design, X: FloatArray, factor: DesignFactor, groups: list[tuple[IntArray, Statistics]], Y: np.ndarray
) -> MeanFit:
    """Solve each group of features and put the columns back in order."""
    V = Y.shape[1]
    groups = [(members, statistics) for members, statistics in groups if members.size]
    solutions = [solve(statistics) for _, statistics in groups]

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
    )


def check_design(design: Design, X: FloatArray, factor: DesignFactor, features: Sequence[str] | None = None) -> None:
    """Stop, naming the terms, when the design with batch columns is rank deficient or leaves no residual.

    Parameters
    ----------
    design : p columns; X : (n, p) its values; factor : the rows to check, factored.
    features : the features concerned, when those are the rows observed for them only.
    """
    where = f" on the rows observed for {listing(features, 3)}" if features else ""
    X = X[factor.order]
    n, p = X.shape
    n_batches = int((factor.n > 0).sum())
    size = np.abs(X).max(axis=0)
    extreme = [design.columns[j] for j in range(p) if not 1 / LARGEST < size[j] < LARGEST and np.ptp(X[:, j]) > 0]
    if extreme:
        raise DesignError(f"values too large or too small to square in {listing(map(repr, extreme))}: rescale them")
    bad = dependent_columns(pooled_factor(factor.R)[1], size) if p else {}
    if bad:
        raise DesignError(
            f"the design cannot be estimated{where}: {'; '.join(_reasons(design, X, bad))}. Remove it from the formula"
        )
    if n - p - n_batches <= 0:
        raise DesignError(
            f"the design is saturated{where}: {count(n, 'row')} for {count(n_batches, 'batch', 'batches')} and "
            f"{count(p, 'covariate column')} leave no residual variance; use fewer terms or more rows"
        )


def _reasons(design: Design, X: FloatArray, bad: dict[int, list[int]]) -> list[str]:
    """Say why columns are dependent; a term all of whose columns are so for one reason is named as a whole."""
    term_of = {j: term for term, columns in design.term_slices.items() for j in range(columns.start, columns.stop)}
    reason = {}
    for j, others in bad.items():
        if np.ptp(X[:, j]) == 0:
            reason[j] = "constant: it tells nothing"
        elif not others:
            reason[j] = "confounded with batch: it is constant within every batch"
        else:
            names = listing(f"'{term}'" for term in dict.fromkeys(term_of[k] for k in others))
            reason[j] = f"collinear: a combination of {names} and the batches"
    said = []
    for term, columns in design.term_slices.items():
        own = [reason.get(j) for j in range(columns.start, columns.stop)]
        if own and own[0] is not None and len(set(own)) == 1:
            said.append(f"'{term}' is {own[0]}")
        else:
            said += [f"'{design.columns[j]}' is {reason[j]}" for j in range(columns.start, columns.stop) if j in reason]
    return [listing(said, 5)] if len(said) > 5 else said


def _check_measured(empty: BoolArray, columns: IntArray, features: Sequence[str]) -> None:
    """Stop for features without any value."""
    if empty.any():
        raise DataError(
            f"no observed value at all in {listing(features[k] for k in columns[empty])}: remove such columns"
        )


def _check_squares(statistics: Statistics, features: Sequence[str]) -> None:
    """Stop for features whose squares overflow: nothing missing or infinite is left in them by now."""
    finite = np.isfinite(statistics.y_mean).all(axis=0) & np.isfinite(statistics.residual_ss).all(axis=0)
    if not finite.all():
        named = listing(features[k] for k in np.flatnonzero(~finite).tolist())
        raise DataError(f"values too large to square in {named}: rescale them")


def missing_patterns(Y: np.ndarray, columns: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield (observed rows, features) for every distinct pattern of missing cells among `columns`."""
    members: dict[bytes, list[int]] = {}
    for k in columns:
        members.setdefault(np.packbits(np.isnan(Y[:, k])).tobytes(), []).append(int(k))
    for group in members.values():
        yield np.flatnonzero(~np.isnan(Y[:, group[0]])), np.array(group, dtype=np.intp)


def _check_observed(factor: DesignFactor, features: Sequence[str], labels: Sequence[str]) -> None:
    empty = [label for label, n in zip(labels, factor.n, strict=True) if n == 0]
    if empty:
        raise DataError(
            f"no observed value of {listing(features)} in batch {listing(empty)}: its effect there cannot be "
            "estimated; remove the feature or the batch"
        )
