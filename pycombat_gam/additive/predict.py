"""Predictions of a fitted additive model: response, terms, model matrix, and their standard errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pycombat_gam.design.design import INTERCEPT, Design
from pycombat_gam.errors import OptionError
from pycombat_gam.types import FloatArray
from pycombat_gam.words import did_you_mean, listing

TYPES = ("response", "link", "terms", "lpmatrix")


class Prediction(NamedTuple):
    """A prediction with its standard errors, both of the same shape and index."""

    fit: Any
    se: Any


def predict(
    design: Design,
    X: FloatArray,
    index: pd.Index,
    coefficients: FloatArray,
    offset: FloatArray,
    vcov: FloatArray | None,
    *,
    type: str,
    exclude: Sequence[str] | str | None,
    name: str,
) -> Any:
    """Evaluate a fitted model on rows.

    Parameters
    ----------
    design : what X (n, p) was built from; index : (n,) labels of its rows.
    coefficients : (p,); offset : (n,), that of the formula.
    vcov : (p, p) the coefficients' covariance where standard errors are asked for, else None.
    type, exclude : see `GamFit.predict`.
    name : of the response.

    Notes
    -----
    Follows R's `predict.gam`: terms are not centred, and the intercept is not among them.
    """
    if type not in TYPES:
        raise OptionError(f"type={type!r}: allowed are {listing(map(repr, TYPES))}{did_you_mean(type, TYPES)}")
    left_out = [] if exclude is None else [exclude] if isinstance(exclude, str) else list(exclude)
    unknown = [label for label in left_out if label not in design.term_slices]
    if unknown:
        raise OptionError(
            f"exclude names {listing(map(repr, unknown))}; the terms are {listing(map(repr, design.term_slices), 30)}"
            f"{did_you_mean(str(unknown[0]), list(design.term_slices))}"
        )
    if left_out:
        X = X.copy()
        for label in left_out:
            X[:, design.term_slices[label]] = 0.0
    if type == "lpmatrix":
        if vcov is not None:
            raise OptionError("type='lpmatrix' has no standard errors: leave se out")
        matrix = pd.DataFrame(X, index=index, columns=list(design.columns))
        if design.formula.offsets:
            matrix.attrs["model.offset"] = offset.tolist()
        return matrix
    if type == "terms":
        return _terms(design, X, index, coefficients, vcov, left_out)
    fit = pd.Series(X @ coefficients + offset, index=index, name=name)
    if vcov is None:
        return fit
    return Prediction(fit, pd.Series(_standard_errors(X, vcov), index=index, name=name))


def _terms(
    design: Design,
    X: FloatArray,
    index: pd.Index,
    coefficients: FloatArray,
    vcov: FloatArray | None,
    left_out: Sequence[str],
) -> Any:
    shown = {label: s for label, s in design.term_slices.items() if label != INTERCEPT and label not in left_out}
    fit = pd.DataFrame({label: X[:, s] @ coefficients[s] for label, s in shown.items()}, index=index)
    fit.attrs["constant"] = float(coefficients[0]) if INTERCEPT in design.term_slices else 0.0
    if vcov is None:
        return fit
    errors = {label: _standard_errors(X[:, s], vcov[s, s]) for label, s in shown.items()}
    return Prediction(fit, pd.DataFrame(errors, index=index))


def _standard_errors(X: FloatArray, vcov: FloatArray) -> FloatArray:
    """Root of diag(X V Xᵀ) without forming it."""
    return np.asarray(np.sqrt(np.maximum(np.einsum("ij,ij->i", X @ vcov, X), 0.0)))
