"""The plain-data form of a fitted mean model: its arrays, and reading that trusts nothing."""

from __future__ import annotations

import numpy as np

from pycombat_gam.design.design import Design
from pycombat_gam.mean.fit import MeanFit, Smoothing
from pycombat_gam.saving.reader import Reader


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
    if mean.batch_factor is None or mean.batch_center is None or mean.pattern is None:
        return arrays
    return {
        **arrays,
        "df": _compact(mean.df),
        "pattern": mean.pattern,
        "batch_center": mean.batch_center,
        "batch_factor": mean.batch_factor,
    }


def read_mean(arrays: Reader, design: Design, criterion: object, V: int, B: int, *, whole: bool) -> MeanFit:
    """Rebuild a mean model of V features and B batches.

    Parameters
    ----------
    design : of it; criterion : what chose its smoothing parameters.
    whole : whether the file holds each batch's design, as files from format version 2 on do.

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
    pattern = batch_center = batch_factor = None
    if whole:
        df = _spread(arrays.array("df", (B, None)), V, arrays, "df")
        pattern = arrays.array("pattern", (V,), "i")
        batch_center, batch_factor = arrays.array("batch_center", (B, p)), arrays.array("batch_factor", (B, p, p))
    return MeanFit(
        design=design,
        coefficients=arrays.array("coefficients", (p, V)),
        intercepts=arrays.array("intercepts", (B, V)),
        residual_ss=arrays.array("residual_ss", (B, V)),
        df=df,
        n_rows=n_rows,
        n_observed=n_observed,
        pattern=pattern,
        constant=arrays.array("constant", (B, V), "b"),
        rounding=arrays.array("rounding", (B, V)),
        center=arrays.array("center", (p,)),
        R=arrays.array("R", (p, p)),
        batch_center=batch_center,
        batch_factor=batch_factor,
        smoothing=_smoothing(arrays, design, criterion, V),
    )


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
