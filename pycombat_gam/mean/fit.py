"""What a mean model is: an object that fits all features and gives plain arrays over a `Design`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from pycombat_gam.batch.model import MeanRows
from pycombat_gam.batch.moments import Moments
from pycombat_gam.design.design import Design
from pycombat_gam.design.penalties import Penalty
from pycombat_gam.formula import Formula
from pycombat_gam.penalized.sufficient import Statistics
from pycombat_gam.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Smoothing:
    """How smooth the fit is: m smoothing parameters and J smooths of V features; none of either in a linear model.

    Attributes
    ----------
    parameters : (m, V) smoothing parameters, on mgcv's scale; names : (m,) as R names them.
    edf : (J, V) effective degrees of freedom; smooths : (J,) labels.
    score : (1, V) the minimised criterion with mgcv's constants, or (0, V).
    criterion : its name, ``"REML"``, ``"ML"`` or ``"GCV"``; empty for a linear model.
    """

    parameters: FloatArray
    names: tuple[str, ...]
    edf: FloatArray
    smooths: tuple[str, ...]
    score: FloatArray
    criterion: str

    @classmethod
    def none(cls, V: int) -> Smoothing:
        """Return what a linear model has."""
        return cls(np.zeros((0, V)), (), np.zeros((0, V)), (), np.zeros((0, V)), "")


@dataclass(frozen=True, eq=False)
class Group:
    """Features observed on the same rows.

    Attributes
    ----------
    members : (k,) their positions among all features, ascending; statistics : of the rows that they are observed on,
        the formula's offset taken off. In a compact model it has the design's part only, and no feature.
    """

    members: IntArray
    statistics: Statistics


@dataclass(frozen=True, eq=False)
class Weighted:
    """The linear fit with site weights: what a compact model keeps instead of the features' statistics.

    Attributes
    ----------
    weights : (B,) of the sites; coefficients : (p, V); residual_ss : (B, V).
    """

    weights: FloatArray
    coefficients: FloatArray
    residual_ss: FloatArray


@dataclass(frozen=True, eq=False)
class MeanFit:
    """A fitted mean model: p design columns, B batches, V features.

    Attributes
    ----------
    design : the learned design, without batch columns and intercept.
    coefficients : (p, V); intercepts : (B, V) at raw covariates of zero, as R reports them.
    residual_ss : (B, V) residual sum of squares within each batch.
    df : (B, V) degrees of freedom of it; see `batch.moments`.
    n_rows : (B,) rows used; n_observed : (B, V) cells used.
    constant : (B, V) all observed raw values are equal, to the last digit.
    rounding : (B, V) a residual sd up to this is rounding of the batch's raw numbers, not variance.
    center : (p,) column means of the design over the rows used.
    R : (p, p) factor of the within-batch cross product of the design, complete rows.
    smoothing : smoothing parameters, effective degrees of freedom and scores.
    groups : the sufficient statistics of all features, a group for each pattern of missing cells: what tests, draws and
        other fits of the same rows rest on. None in a model that was saved without them.
    weighted : what a compact model has for tests; None in others.
    """

    design: Design
    coefficients: FloatArray
    intercepts: FloatArray
    residual_ss: FloatArray
    df: FloatArray
    n_rows: IntArray
    n_observed: IntArray
    constant: BoolArray
    rounding: FloatArray
    center: FloatArray
    R: FloatArray
    smoothing: Smoothing
    groups: tuple[Group, ...] | None
    weighted: Weighted | None = None

    @property
    def moments(self) -> Moments:
        """What is left of every batch."""
        return Moments(
            location=self.intercepts,
            residual_ss=self.residual_ss,
            df=self.df,
            n_observed=self.n_observed,
            n_rows=self.n_rows,
            constant=self.constant,
            rounding=self.rounding,
        )

    def rows(self, table: pd.DataFrame, level: FloatArray | None = None) -> MeanRows:
        """Return the mean model on rows: level (V,) + Xβ, the covariates' part alone where there is no level."""
        design, at_center = self.design, self.center @ self.coefficients
        return MeanRows(
            design.on(table),
            self.center,
            self.coefficients,
            at_center if level is None else level + at_center,
            design.offset(table) if design.formula.offsets else None,
        )

    @property
    def penalties(self) -> list[Penalty]:
        """Every penalty with its smoothing parameter for each feature."""
        return self.design.smoothing_parameters().weighted(self.smoothing.parameters)

    @property
    def df_residual(self) -> float:
        """Residual degrees of freedom of a feature without missing cells: n − p − B, or the median with smooths."""
        slices = self.design.smooth_slices
        parametric = self.coefficients.shape[0] - sum(columns.stop - columns.start for columns in slices)
        left = int(self.n_rows.sum() - parametric - self.n_rows.size)
        return left - float(np.median(self.smoothing.edf.sum(axis=0))) if slices else left


class MeanModel(Protocol):
    """What ComBat asks of a mean model; names are for messages."""

    def fit(
        self,
        table: pd.DataFrame,
        Y: np.ndarray,
        batch: IntArray,
        *,
        formula: Formula,
        features: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
        omit_missing: bool = False,
    ) -> MeanFit:
        """Fit all features; see `AdditiveMean.fit`."""

    def predict(self, fit: MeanFit, table: pd.DataFrame) -> FloatArray:
        """Evaluate the covariate part on new rows, (n, V)."""

    def describe(self, formula: Formula) -> str:
        """Say in one line what is fitted."""
