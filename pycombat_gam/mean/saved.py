"""The plain-data form of a fitted mean model: its arrays, and reading that trusts nothing.

Of the sufficient statistics, rows of R_b and Z_b below min(n_b, p) are zero and left out: a file never holds more of
them than the table has cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pycombat_gam.design.design import Design
from pycombat_gam.mean.fit import Group, MeanFit, Smoothing, Weighted
from pycombat_gam.penalized.sufficient import Statistics
from pycombat_gam.saving.reader import Reader
from pycombat_gam.types import BoolArray, IntArray

WITH_STATISTICS = 2
"""The format version from which a file holds degrees of freedom and sufficient statistics of every batch."""


def mean_arrays(mean: MeanFit) -> dict[str, np.ndarray]:
    """Return the arrays of a mean model; its design is plain data of its own."""
    arrays = {
        "coefficients": mean.coefficients,
        "intercepts": mean.intercepts,
        "residual_ss": mean.residual_ss,
        "n_rows": mean.n_rows,
        "n_observed": _compact(mean.n_observed),
        "constant": mean.constant,
        "rounding": mean.rounding,
        "center": mean.center,
        "R": mean.R,
        "smoothing_parameters": mean.smoothing.parameters,
        "edf": mean.smoothing.edf,
        "score": mean.smoothing.score,
    }
    if mean.groups is None:
        return arrays
    weighted = {} if mean.weighted is None else {f"weighted_{name}": part for name, part in vars(mean.weighted).items()}
    return {**arrays, "df": _compact(mean.df), **group_arrays(mean.groups), **weighted}


def read_mean(arrays: Reader, design: Design, criterion: object, V: int, B: int, *, whole: bool) -> MeanFit:
    """Rebuild a mean model of V features and B batches.

    Parameters
    ----------
    design : of it; criterion : what chose its smoothing parameters.
    whole : whether the file holds the statistics of every batch.

    Raises
    ------
    ModelFileError
        If anything is absent, of another shape or type, or not finite where it must be.
    """
    p = len(design.columns)
    n_rows = arrays.array("n_rows", (B,), "i", positive=True)
    n_observed = _spread(arrays.array("n_observed", (B, None), "i", positive=True), V, arrays, "n_observed")
    arrays.require((n_observed <= n_rows[:, None]).all(), "have no more cells than rows")
    df = np.broadcast_to(np.nan, (B, V))
    if whole:
        df = _spread(arrays.array("df", (B, None)), V, arrays, "df")
    constant = arrays.array("constant", (B, V), "b")
    return MeanFit(
        design=design,
        coefficients=arrays.array("coefficients", (p, V)),
        intercepts=arrays.array("intercepts", (B, V)),
        residual_ss=arrays.array("residual_ss", (B, V)),
        df=df,
        n_rows=n_rows,
        n_observed=n_observed,
        constant=constant,
        rounding=arrays.array("rounding", (B, V)),
        center=arrays.array("center", (p,)),
        R=arrays.array("R", (p, p)),
        smoothing=_smoothing(arrays, design, criterion, V),
        groups=read_groups(arrays, n_observed, constant, p) if whole else None,
        weighted=_weighted(arrays, p, B, V) if whole and not arrays.has("projected") else None,
    )


def group_arrays(groups: Sequence[Group]) -> dict[str, np.ndarray]:
    """Return the sufficient statistics of all features, features in order; the design's part of a compact model."""
    B, p = groups[0].statistics.x_mean.shape
    V = sum(group.members.size for group in groups)
    kept = [_kept_rows(group.statistics.n, p) for group in groups]
    pattern = np.empty(V, dtype=np.intp)
    for number, group in enumerate(groups):
        pattern[group.members] = number
    design = {
        "pattern": pattern,
        "batch_center": np.array([group.statistics.x_mean for group in groups]),
        "batch_factor": np.concatenate([group.statistics.R[rows] for group, rows in zip(groups, kept, strict=True)]),
    }
    if all(group.statistics.y_mean.shape[1] == 0 for group in groups):
        return design
    y_mean, s = np.empty((B, V)), np.empty((B, V))
    Z = np.zeros((max(int(rows.sum()) for rows in kept), V))
    for group, rows in zip(groups, kept, strict=True):
        statistics, members = group.statistics, group.members
        y_mean[:, members], s[:, members] = statistics.y_mean, statistics.residual_ss
        Z[: int(rows.sum()), members] = statistics.Z[rows]
    return {**design, "batch_mean": y_mean, "projected": Z, "unexplained_ss": s}


def read_groups(arrays: Reader, n_observed: IntArray, constant: BoolArray, p: int) -> tuple[Group, ...]:
    """Rebuild what `group_arrays` made.

    Parameters
    ----------
    n_observed : (B, V) cells; constant : (B, V) of the mean model; p : columns of the design.
    """
    B, V = n_observed.shape
    pattern = arrays.array("pattern", (V,), "i")
    numbers = np.unique(pattern)
    G = numbers.size
    arrays.require(np.array_equal(numbers, np.arange(G)), "number its patterns of missing cells")
    x_mean, factor = arrays.array("batch_center", (G, B, p)), arrays.array("batch_factor", (None, p))
    compact = not arrays.has("projected")
    y_mean, s, Z = np.zeros((B, 0)), np.zeros((B, 0)), np.zeros((len(factor), 0))
    if not compact:
        y_mean, s = arrays.array("batch_mean", (B, V)), arrays.array("unexplained_ss", (B, V))
        Z = arrays.array("projected", (None, V))
    groups, start = [], 0
    for number in range(G):
        members = np.flatnonzero(pattern == number)
        n = n_observed[:, members[0]]
        rows = _kept_rows(n, p)
        size = int(rows.sum())
        arrays.require(
            (n_observed[:, members] == n[:, None]).all() and size <= len(Z) and start + size <= len(factor),
            "hold the statistics of each pattern of missing cells",
        )
        held = members[:0] if compact else members
        R, projected = np.zeros((B, p, p)), np.zeros((B, p, held.size))
        R[rows], projected[rows] = factor[start : start + size], Z[:size, held]
        start += size
        arrays.require((s[:, held] >= 0).all(), "hold no negative sum of squares")
        statistics = Statistics(n, x_mean[number], R, y_mean[:, held], projected, s[:, held], constant[:, held])
        groups.append(Group(members, statistics))
    return tuple(groups)


def _weighted(arrays: Reader, p: int, B: int, V: int) -> Weighted:
    weighted = Weighted(
        arrays.array("weighted_weights", (B,), positive=True),
        arrays.array("weighted_coefficients", (p, V)),
        arrays.array("weighted_residual_ss", (B, V)),
    )
    arrays.require((weighted.residual_ss >= 0).all(), "hold no negative sum of squares")
    return weighted


def _kept_rows(n: IntArray, p: int) -> BoolArray:
    """Return which rows of R_b may differ from zero, (B, p)."""
    return np.asarray(np.arange(p) < n[:, None])


def _smoothing(arrays: Reader, design: Design, criterion: object, V: int) -> Smoothing:
    smooths = design.smooth.smooths
    names = design.smoothing_parameters().names
    arrays.require(criterion in (("REML", "ML", "GCV") if smooths else ("",)), "have a known smoothing criterion")
    # A parameter that ran to infinity may be saved as such.
    parameters = arrays.array("smoothing_parameters", (len(names), V), finite=False)
    arrays.require((parameters >= 0).all(), "have no negative smoothing parameter")
    return Smoothing(
        parameters=parameters,
        names=names,
        edf=arrays.array("edf", (len(smooths), V)),
        smooths=tuple(smooth.label for smooth in smooths),
        score=arrays.array("score", (1 if smooths else 0, V), finite=False),
        criterion=str(criterion),
    )


def _compact(values: np.ndarray) -> np.ndarray:
    """Keep one column where all features have the same."""
    first = values[:, :1]
    return first if values.strides[1] == 0 or (values == first).all() else values


def _spread(values: np.ndarray, V: int, arrays: Reader, name: str) -> np.ndarray:
    arrays.require(values.shape[1] in (1, V), f"hold one column, or one for each feature, as '{name}'")
    return np.broadcast_to(values, (len(values), V))
