"""Features grouped by the rows they are observed on, and a fit of all groups put together as one `MeanFit`.

Missing cells are handled per pattern: features observed on the same rows share a design factor, so a table with few
patterns (a mask per region, a failed scan) costs no more than a complete one. The basis is learned on all rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.design.design import Design
from pycombat_gam.mean.check import check_design, check_measured, check_observed, check_squares
from pycombat_gam.mean.degrees import left_to_batches
from pycombat_gam.mean.fit import Group, MeanFit, Smoothing
from pycombat_gam.penalized.solve import LeastSquares, pooled_factor
from pycombat_gam.penalized.sufficient import (
    DesignFactor,
    Statistics,
    accumulate,
    factor_design,
    last_digit,
)
from pycombat_gam.tables.cells import check_cells
from pycombat_gam.types import Bar, FloatArray, IntArray

SMALLEST_SD = 1e-152
"""Below it, squares leave the range in which double precision keeps its digits."""


@dataclass(frozen=True, eq=False)
class Groups:
    """All features, ready to be fitted.

    Attributes
    ----------
    design : p columns; X : (n, p) its values; factor : X factored over all rows.
    groups : at least one, each with a feature; its statistics are of the features less the formula's offset.
    reach : (B,) size of the offset in each batch.
    """

    design: Design
    X: FloatArray
    factor: DesignFactor
    groups: tuple[Group, ...]
    reach: FloatArray


def gather(
    design: Design,
    table: pd.DataFrame,
    Y: np.ndarray,
    batch: IntArray,
    *,
    features: Sequence[str],
    labels: Sequence[str],
    omit_missing: bool,
    bar: Bar,
) -> Groups:
    """Reduce all features to sufficient statistics, checked; see `AdditiveMean.fit`.

    `bar` opens a bar for the pass over all cells, and for the features with missing ones.
    """
    X = design.on(table)
    factor = factor_design(X, batch, len(labels))
    check_design(design, X, factor)
    Y = design.less_offset(Y, table)
    reach = np.zeros(len(labels))
    np.maximum.at(reach, batch, np.abs(design.offset(table)))
    complete = _added_up(Y, factor, bar)
    broken = ~(np.isfinite(complete.y_mean).all(axis=0) & np.isfinite(complete.residual_ss).all(axis=0))
    whole = np.flatnonzero(~broken)
    groups = [Group(whole, complete.select(whole))] if whole.size else []
    if broken.any():
        columns = np.flatnonzero(broken)
        missing = check_cells(Y, columns, features, omit_missing=omit_missing)
        check_measured(missing == Y.shape[0], columns, features)
        with bar("features with missing cells", columns.size) as advance:
            for rows, members in missing_patterns(Y, columns):
                partial = factor_design(X, batch, len(labels), rows)
                check_observed(partial, [features[k] for k in members], labels)
                check_design(design, X, partial, [features[k] for k in members])
                groups.append(Group(members, _added_up(Y[:, members], partial, bar)))
                check_squares(groups[-1].statistics, [features[k] for k in members])
                advance(members.size)
    return Groups(design, X, factor, tuple(groups), reach)


def _added_up(Y: np.ndarray, factor: DesignFactor, bar: Bar) -> Statistics:
    with bar("adding up", factor.order.size * Y.shape[1]) as advance:
        return accumulate(Y, factor, advance)


def assemble(gathered: Groups, Y: np.ndarray, solutions: Sequence[LeastSquares], smoothing: Smoothing) -> MeanFit:
    """Put the groups' solutions together, features in order; `smoothing` is in order already."""
    X, groups = gathered.X, gathered.groups
    unit = rounding_unit(Y)

    def residual_ss(group: Group, solution: LeastSquares) -> FloatArray:
        """Return what is left; nothing where the columns, penalised ones too, explain a feature to its last digit.

        The search ends before λ = 0: what it leaves there is no variance.
        """
        if solution.smoothing is None:
            return solution.residual_ss
        last = (rounding(group.statistics).max(axis=0) ** 2) * group.statistics.n.sum()
        return np.where(solution.smoothing.unexplained > last, solution.residual_ss, 0.0)

    def rounding(statistics: Statistics) -> FloatArray:
        """Scale `unit` by the raw numbers of a batch and by what the covariates add to them: both round."""
        reach = np.zeros_like(statistics.y_mean)
        for row in np.moveaxis(statistics.Z, 1, 0):
            np.maximum(reach, np.abs(row), out=reach)
        reach /= np.sqrt(np.maximum(statistics.n, 1))[:, None]
        np.maximum(reach, gathered.reach[:, None], out=reach)
        return np.maximum(unit * np.maximum(np.abs(statistics.y_mean), reach, out=reach), SMALLEST_SD)

    def left(group: Group) -> FloatArray:
        df = left_to_batches(gathered.design, group.statistics, smoothing, group.members)
        return np.broadcast_to(df, group.statistics.y_mean.shape)

    return MeanFit(
        design=gathered.design,
        coefficients=in_order(groups, [solution.coefficients for solution in solutions]),
        intercepts=in_order(groups, [solution.intercepts for solution in solutions]),
        residual_ss=in_order(groups, [residual_ss(*pair) for pair in zip(groups, solutions, strict=True)]),
        df=in_order(groups, [left(group) for group in groups]),
        n_rows=gathered.factor.n,
        # Features with the same rows share their counts: the view costs no memory.
        n_observed=in_order(
            groups, [np.broadcast_to(g.statistics.n[:, None], g.statistics.y_mean.shape) for g in groups]
        ),
        constant=in_order(groups, [group.statistics.constant for group in groups]),
        rounding=in_order(groups, [rounding(group.statistics) for group in groups]),
        center=X[0] + (X - X[0]).mean(axis=0),
        R=pooled_factor(gathered.factor.R)[1],
        smoothing=smoothing,
        groups=groups,
    )


def in_order(groups: Sequence[Group], parts: Sequence[Any]) -> Any:
    """Join what was computed by group along the features, its last axis."""
    if len(parts) == 1:
        return parts[0]
    V = sum(group.members.size for group in groups)
    joined = np.empty((*parts[0].shape[:-1], V), dtype=parts[0].dtype)
    for group, part in zip(groups, parts, strict=True):
        joined[..., group.members] = part
    return joined


def rounding_unit(Y: np.ndarray) -> float:
    """Relative size of a residual's rounding: some operations in double precision, and one of the type of Y."""
    return max(16 * float(np.finfo(np.float64).eps), last_digit(Y))


def missing_patterns(Y: np.ndarray, columns: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield (observed rows, features) for every distinct pattern of missing cells among `columns`."""
    members: dict[bytes, list[int]] = {}
    for k in columns:
        members.setdefault(np.packbits(np.isnan(Y[:, k])).tobytes(), []).append(int(k))
    for group in members.values():
        yield np.flatnonzero(~np.isnan(Y[:, group[0]])), np.array(group, dtype=np.intp)
