"""Checks of a mean model before it is fitted: the design's rank on the rows used, the cells observed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pycombat_gam.design.design import Design
from pycombat_gam.design.rank import check_rank
from pycombat_gam.errors import DataError
from pycombat_gam.penalized.solve import pooled_factor
from pycombat_gam.penalized.sufficient import DesignFactor, Statistics
from pycombat_gam.types import BoolArray, FloatArray, IntArray
from pycombat_gam.words import listing


def check_design(design: Design, X: FloatArray, factor: DesignFactor, features: Sequence[str] | None = None) -> None:
    """Stop, naming the terms, when the design with batch columns is rank deficient or leaves no residual.

    Parameters
    ----------
    design : p columns; X : (n, p) its values; factor : the rows to check, factored.
    features : the features concerned, when those are the rows observed for them only.
    """
    n_batches = int((factor.n > 0).sum())
    check_rank(design, X[factor.order], pooled_factor(factor.R)[1], n_batches=n_batches, features=features)


def check_measured(empty: BoolArray, columns: IntArray, features: Sequence[str]) -> None:
    """Stop for features without any value."""
    if empty.any():
        raise DataError(
            f"no observed value at all in {listing(features[k] for k in columns[empty])}: remove such columns"
        )


def check_squares(statistics: Statistics, features: Sequence[str]) -> None:
    """Stop for features whose squares overflow: nothing missing or infinite is left in them by now."""
    finite = np.isfinite(statistics.y_mean).all(axis=0) & np.isfinite(statistics.residual_ss).all(axis=0)
    if not finite.all():
        named = listing(features[k] for k in np.flatnonzero(~finite).tolist())
        raise DataError(f"values too large to square in {named}: rescale them")


def check_observed(factor: DesignFactor, features: Sequence[str], labels: Sequence[str]) -> None:
    """Stop where a batch has no observed value of the features."""
    empty = [label for label, n in zip(labels, factor.n, strict=True) if n == 0]
    if empty:
        raise DataError(
            f"no observed value of {listing(features)} in batch {listing(empty)}: its effect there cannot be "
            "estimated; remove the feature or the batch"
        )
