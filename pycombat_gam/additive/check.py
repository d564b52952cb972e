"""Checks of a fitted model's smooths: is the basis large enough, and can terms replace one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from pycombat_gam.formula.columns import Factor
from pycombat_gam.smooth.assemble import Smooth
from pycombat_gam.types import FloatArray

REPEATS = 400
SUBSAMPLE = 5000
NEIGHBOURS = 3
DEPENDENT = 1e-10
"""Directions of columns below this share of the largest are rounding."""


def k_index(residuals: FloatArray, at: FloatArray, generator: np.random.Generator) -> tuple[float, float]:
    """Residual variance of neighbours over residual variance, and how often chance makes it smaller.

    Below 1 with a small p-value, neighbouring residuals are alike: the basis may be too small (R's `k.check`).

    Parameters
    ----------
    residuals : (n,); at : (n, d) where the smooth sees the rows, scaled so that distances mean something.
    """
    n = residuals.size
    if n > SUBSAMPLE:
        chosen = generator.choice(n, SUBSAMPLE, replace=False)
        residuals, at = residuals[chosen], at[chosen]
        n = SUBSAMPLE
    if at.shape[1] == 1:
        order = np.argsort(at[:, 0], kind="stable")
        pairs = np.column_stack([order[:-1], order[1:]])
    else:
        nearest = cKDTree(at).query(at, k=NEIGHBOURS + 1)[1]
        points = np.arange(n)
        # A point with a twin may not be its own nearest neighbour.
        rows = [[j for j in row if j != i][:NEIGHBOURS] for i, row in enumerate(np.asarray(nearest).tolist())]
        pairs = np.column_stack([np.repeat(points, NEIGHBOURS), np.concatenate(rows)])

    def variance(values: FloatArray) -> float:
        return float(((values[pairs[:, 0]] - values[pairs[:, 1]]) ** 2).mean()) / 2.0

    observed = variance(residuals)
    shuffled = [variance(generator.permutation(residuals)) for _ in range(REPEATS)]
    return observed / float((residuals**2).mean()), float((np.array(shuffled) < observed).mean())


def concurvity(X: FloatArray, blocks: Sequence[tuple[str, slice]], beta: FloatArray) -> pd.DataFrame:
    """How much of each term the rest of the model could explain, 0 to 1: worst case, as estimated, by its columns.

    Parameters
    ----------
    X : (n, p) or any factor of it; blocks : terms and their columns; beta : (p,).

    Notes
    -----
    R's `concurvity(full=TRUE)`; see `pairwise_concurvity` for the terms two by two.
    """
    table = {}
    for label, columns in blocks:
        rest = np.ones(X.shape[1], dtype=bool)
        rest[columns] = False
        table[label] = _measures(X[:, rest], X[:, columns], beta[columns])
    return pd.DataFrame(table, index=list(MEASURES))


MEASURES = ("worst", "observed", "estimate")


def pairwise_concurvity(
    X: FloatArray, blocks: Sequence[tuple[str, slice]], beta: FloatArray
) -> dict[str, pd.DataFrame]:
    """How much of the column term the row term alone could explain: a table for each measure."""
    labels = [label for label, _ in blocks]
    tables = {name: pd.DataFrame(np.eye(len(labels)) * 0 + 1.0, index=labels, columns=labels) for name in MEASURES}
    for by, other in blocks:
        for label, columns in blocks:
            if label != by:
                for name, value in zip(MEASURES, _measures(X[:, other], X[:, columns], beta[columns]), strict=True):
                    tables[name].loc[by, label] = value
    return tables


def _measures(rest: FloatArray, term: FloatArray, beta: FloatArray) -> tuple[float, float, float]:
    """Split a term's columns into what the rest spans and what it does not."""
    if not term.shape[1]:
        return float("nan"), float("nan"), float("nan")
    U, size, _ = np.linalg.svd(rest, full_matrices=False)
    shared = U[:, size > DEPENDENT * size.max(initial=0.0)].T @ term
    whole = np.linalg.qr(term)[1]
    # Columns of random effects repeat one another: a pseudo-inverse.
    turned = shared @ np.linalg.pinv(whole, rcond=DEPENDENT)
    worst = float(np.linalg.svd(turned, compute_uv=False).max(initial=0.0) ** 2)
    effect = float(((whole @ beta) ** 2).sum())
    observed = float(((shared @ beta) ** 2).sum()) / effect if effect > 0 else float("nan")
    return min(worst, 1.0), observed, float((shared**2).sum() / (term**2).sum())


def scaled_positions(smooth: Smooth, values: Mapping[str, FloatArray | Factor], beta: FloatArray) -> FloatArray:
    """Where a smooth sees the rows (n, d); for tensor products, in units of the effect along each variable."""
    at = np.column_stack([np.asarray(values[label], dtype=np.float64) for label in smooth.variables])
    if smooth.term.kind == "s" or at.shape[1] == 1:
        return at
    plain = replace(smooth, by=None, by_level=None)
    here = {label: at[:, i] for i, label in enumerate(smooth.variables)}
    effect = plain.on(here) @ beta
    for i, label in enumerate(smooth.variables):
        step = float(np.ptp(at[:, i])) / 1000
        moved = plain.on({**here, label: at[:, i] + step}) @ beta
        slope = float(np.abs(moved - effect).mean()) / step
        shifted = at[:, i] - at[:, i].min()
        at[:, i] = slope * shifted / shifted.max()
    return at
