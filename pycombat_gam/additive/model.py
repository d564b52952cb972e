"""`GamFit`: the fitted additive model of one response."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.additive import check
from pycombat_gam.additive.covariance import Covariance, covariance
from pycombat_gam.additive.predict import predict
from pycombat_gam.additive.summary import GamSummary, summarize
from pycombat_gam.design.design import Design
from pycombat_gam.design.penalties import SmoothingParameters
from pycombat_gam.errors import OptionError, PcgWarning
from pycombat_gam.formula.columns import Factor
from pycombat_gam.penalized.criterion import TINY
from pycombat_gam.penalized.problem import Method, SmoothingFit
from pycombat_gam.types import FloatArray

ROUNDING = 16 * float(np.finfo(np.float64).eps)
"""Relative size of a residual's rounding: some operations in double precision."""


@dataclass(frozen=True, eq=False)
class Shared:
    """What responses observed on the same n rows have in common.

    Attributes
    ----------
    design : p columns; table : the n rows; X : (n, p).
    Q, R : (n, p), (p, p) factors of √w X.
    weights, offset : (n,); the offset is the argument's and the formula's together.
    parameters : the smoothing parameters; method, gamma : the criterion.
    """

    design: Design
    table: pd.DataFrame
    X: FloatArray
    Q: FloatArray
    R: FloatArray
    weights: FloatArray
    offset: FloatArray
    parameters: SmoothingParameters
    method: Method
    gamma: float


class GamFit:
    """A fitted additive model of one response: n rows, p coefficients, m smoothing parameters, J smooths.

    Attributes
    ----------
    response : str
        Name of the response.
    coef, sp : Series
        Coefficients (p,), smoothing parameters (m,): R's `coef(fit)`, `fit$sp` (`full.sp` if some are fixed or shared).
    score, scale : float
        Minimised criterion with its constants, and estimated residual variance: R's `gcv.ubre`, `sig2`.
    edf, edf1, edf2 : Series, shape (p,)
        Effective degrees of freedom, summing to the model's; as tests of smooths use them; with smoothing uncertainty.
    vcov, vcov_frequentist, vcov_corrected : DataFrame, shape (p, p)
        R's `Vp` (Bayesian), `Ve` and `Vc`; `vcov_corrected` and `edf2` are None for GCV.
    loglik, aic, bic, deviance, null_deviance, deviance_explained, r_squared, df_residual : float
        As R's `logLik`, `AIC`, `BIC`, `summary`; `df_residual` is n − edf.
    fitted, residuals : Series, shape (n,)
        Indexed as the rows used.
    """

    def __init__(
        self, shared: Shared, response: str, written: str, y: FloatArray, solved: SmoothingFit, which: int
    ) -> None:
        self._shared, self._written, self._y = shared, written, y
        self._beta = solved.coefficients[:, which].copy()
        self._lambda = solved.sp[:, which].copy()
        self.response = response
        self.score = float(solved.score[which])
        self.scale = float(solved.scale[which])
        self.converged = bool(solved.converged[which])
        self._unexplained = float(solved.unexplained[which])

    # What was fitted

    @property
    def design(self) -> Design:
        """The columns, and what their terms learned."""
        return self._shared.design

    @property
    def formula(self) -> str:
        """The formula with this response, as R code."""
        return f"{self._written} {self.design.formula.right}"

    @property
    def method(self) -> str:
        """What chose the smoothing parameters."""
        return self._shared.method

    @property
    def n(self) -> int:
        """Rows used."""
        return self._y.size

    @cached_property
    def coef(self) -> pd.Series:
        """Coefficients (p,)."""
        return self._series(self._beta)

    @cached_property
    def sp(self) -> pd.Series:
        """Smoothing parameters (m,), on mgcv's scale."""
        parameters = self._shared.parameters
        values = parameters.values(self._lambda[:, None])[:, 0]
        return pd.Series(values, index=list(parameters.names), dtype=np.float64)

    @cached_property
    def fitted(self) -> pd.Series:
        """Fitted values (n,), the offset included."""
        shared = self._shared
        return pd.Series(shared.X @ self._beta + shared.offset, index=shared.table.index, name=self.response)

    @cached_property
    def residuals(self) -> pd.Series:
        """Response residuals (n,), unweighted."""
        return pd.Series(self._y - self.fitted.to_numpy(), index=self.fitted.index, name=self.response)

    @property
    def is_perfect(self) -> bool:
        """Whether the terms explain the response to its last digit: what is left is rounding, no variance."""
        weights = self._shared.weights
        rounding = ROUNDING * float(np.abs(self._y - self._shared.offset).max())
        return self._unexplained <= float(weights.sum()) * rounding**2

    # Uncertainty

    @cached_property
    def _penalty(self) -> list[FloatArray]:
        """λ_jS_j, each (p, p)."""
        p = self._beta.size
        matrices = []
        for _, columns, S, weight in self._shared.parameters.weighted_by(self._lambda):
            full = np.zeros((p, p))
            full[columns, columns] = weight * S
            matrices.append(full)
        return matrices

    @cached_property
    def _covariance(self) -> Covariance:
        shared = self._shared
        weighted = self.residuals.to_numpy() * np.sqrt(shared.weights)
        return covariance(
            shared.R,
            self._penalty,
            self.scale,
            method=shared.method if self._lambda.size else "GCV",
            coefficients=self._beta,
            rss=float(weighted @ weighted),
            n=self.n,
            L=shared.parameters.penalties.L,
            gamma=shared.gamma,
        )

    @property
    def vcov(self) -> pd.DataFrame:
        """Bayesian covariance of the coefficients (p, p)."""
        return self._square(self._covariance.Vp)

    @property
    def vcov_frequentist(self) -> pd.DataFrame:
        """Sampling covariance of the coefficients (p, p)."""
        return self._square(self._covariance.Ve)

    @property
    def vcov_corrected(self) -> pd.DataFrame | None:
        """Bayesian covariance with the uncertainty of the smoothing parameters (p, p)."""
        Vc = self._covariance.Vc
        return None if Vc is None else self._square(Vc)

    @property
    def edf(self) -> pd.Series:
        """Effective degrees of freedom of each coefficient (p,)."""
        return self._series(self._covariance.edf)

    @property
    def edf1(self) -> pd.Series:
        """Effective degrees of freedom, as the tests of smooths take them (p,)."""
        return self._series(self._covariance.edf1)

    @property
    def edf2(self) -> pd.Series | None:
        """Effective degrees of freedom with the uncertainty of the smoothing parameters (p,)."""
        edf2 = self._covariance.edf2
        return None if edf2 is None else self._series(edf2)

    def _series(self, values: FloatArray) -> pd.Series:
        return pd.Series(values, index=list(self.design.columns), dtype=np.float64)

    def _square(self, values: FloatArray) -> pd.DataFrame:
        names = list(self.design.columns)
        return pd.DataFrame(values, index=names, columns=names)

    # Predictions

    def predict(
        self,
        newdata: pd.DataFrame | None = None,
        type: str = "response",
        se: bool = False,
        *,
        exclude: Sequence[str] | str | None = None,
        unconditional: bool = False,
    ) -> Any:
        """Predict for new rows.

        Parameters
        ----------
        newdata : DataFrame, shape (n, any)
            Default: the rows of the fit. Outside their range as mgcv.
        type : {"response", "link", "terms", "lpmatrix"}
            The expected response (the link is the identity), the contribution of each term, or the model matrix.
        se : bool
            Give `Prediction(fit, se)`, with standard errors from `vcov`.
        exclude : list of str or str, optional
            Terms to take as zero, by their labels.
        unconditional : bool
            Standard errors from `vcov_corrected` instead.

        Returns
        -------
        Series (n,); DataFrame (n, terms), its constant in ``attrs["constant"]``; or DataFrame (n, p)

        Raises
        ------
        DataError
            If a column is absent, or holds missing cells or a level that the fit did not know. A level unknown to a
            random effect has effect zero there, with a warning.

        Notes
        -----
        Follows R's `predict.gam`. A prediction holds the formula's offset, and never the argument `offset` of the fit.
        """
        shared = self._shared
        offset = shared.design.offset(shared.table if newdata is None else newdata)
        if newdata is None:
            X, index = shared.X, shared.table.index
        else:
            X, index = shared.design.on(newdata), newdata.index
            unknown = shared.design.smooth.unknown(newdata)
            if unknown:
                warnings.warn("; ".join(unknown), PcgWarning, stacklevel=2)
        vcov = None
        if se:
            vcov = self._covariance.Vc if unconditional else self._covariance.Vp
            if vcov is None:
                raise OptionError("unconditional=True needs a fit by REML or ML: GCV has no corrected covariance")
        return predict(self.design, X, index, self._beta, offset, vcov, type=type, exclude=exclude, name=self.response)

    # Criteria

    @cached_property
    def deviance(self) -> float:
        """Weighted residual sum of squares."""
        return float(self._shared.weights @ self.residuals.to_numpy() ** 2)

    @property
    def null_deviance(self) -> float:
        """Weighted sum of squares around the weighted mean, the offset taken off.

        As mgcv without an intercept: around zero by GCV; by REML or ML around the mean, with the offset left in.
        """
        w, intercept, by_gcv = self._shared.weights, self.design.formula.intercept, self.method == "GCV"
        y = self._y - self._shared.offset if intercept or by_gcv else self._y
        return float(w @ (y - (0.0 if by_gcv and not intercept else float(w @ y / w.sum()))) ** 2)

    @property
    def deviance_explained(self) -> float:
        """1 − deviance/null deviance."""
        return 1.0 - self.deviance / self.null_deviance

    @property
    def df_residual(self) -> float:
        """Rows less effective degrees of freedom."""
        return self.n - float(self.edf.sum())

    @property
    def r_squared(self) -> float:
        """Adjusted R², as R's `summary.gam`."""
        root = np.sqrt(self._shared.weights)
        mean = float(self._shared.weights @ self._y / self._shared.weights.sum())
        left = float(np.var(root * self.residuals.to_numpy(), ddof=1))
        return 1.0 - left * (self.n - 1) / (float(np.var(root * (self._y - mean), ddof=1)) * self.df_residual)

    @property
    def loglik(self) -> float:
        """Log-likelihood at the maximum-likelihood scale."""
        per_row = float(np.log(2 * np.pi * max(self.deviance, TINY) / self.n)) + 1.0
        return -0.5 * (self.n * per_row - float(np.log(self._shared.weights).sum()))

    @property
    def loglik_df(self) -> float:
        """Degrees of freedom that AIC and BIC count: edf2 where there is one, and one for the scale."""
        edf = self.edf if self.edf2 is None else self.edf2
        return min(float(edf.sum()), float(self._beta.size)) + 1.0

    @property
    def aic(self) -> float:
        """Akaike's criterion, with the correction of Wood, Pya & Säfken (2016) for REML and ML."""
        return -2.0 * self.loglik + 2.0 * self.loglik_df

    @property
    def bic(self) -> float:
        """Schwarz's criterion."""
        return -2.0 * self.loglik + float(np.log(self.n)) * self.loglik_df

    # Reports

    def summary(self) -> GamSummary:
        """R's two tables, and what stands under them; prints as R does."""
        return summarize(self)

    def plot(
        self,
        terms: list[str] | str | None = None,
        *,
        residuals: bool = False,
        level: float = 0.95,
        points: int = 200,
        axes: Any = None,
    ) -> Any:
        """Draw the smooths with their pointwise intervals: curves, surfaces of two variables, random effects.

        Parameters
        ----------
        terms : labels of the smooths to draw; all by default.
        residuals : add partial residuals.
        level : coverage of the band.
        points : of the grid.
        axes : matplotlib axes to draw into, one for each smooth; new ones by default.

        Returns
        -------
        ndarray of Axes
        """
        from pycombat_gam.additive.plot import plot_smooths

        return plot_smooths(self, terms, residuals=residuals, level=level, points=points, axes=axes)

    def k_check(self, seed: int = 0) -> pd.DataFrame:
        """Check whether the basis dimensions are large enough: k', edf, k-index and its permutation p-value.

        Notes
        -----
        R's `k.check`; smooths of factors have no index. Surfaces are looked at in coordinates scaled by range (te, ti
        and t2: by the size of the effect along each).
        """
        generator = np.random.default_rng(seed)
        values = self.design.smooth.values(self._shared.table)
        # As mgcv, deviance residuals: weighted.
        residuals = self.residuals.to_numpy() * np.sqrt(self._shared.weights)
        rows: dict[str, list[float]] = {}
        for smooth, columns in zip(self.design.smooth.smooths, self.design.smooth_slices, strict=True):
            at = [values[label] for label in smooth.variables]
            k_index, p_value = float("nan"), float("nan")
            if not any(isinstance(value, Factor) for value in at):
                scaled = check.scaled_positions(smooth, values, self._beta[columns])
                k_index, p_value = check.k_index(residuals, scaled, generator)
            rows[smooth.label] = [columns.stop - columns.start, float(self.edf.iloc[columns].sum()), k_index, p_value]
        return pd.DataFrame(rows, index=["k'", "edf", "k-index", "p-value"], dtype=float).T

    def concurvity(self, full: bool = True) -> pd.DataFrame | dict[str, pd.DataFrame]:
        """How much of each smooth the rest of the model could say; ``full=False``: two by two (R's `concurvity`)."""
        smooths = self.design.smooth.smooths
        if not smooths:
            raise OptionError(f"the model {self.formula} has no smooth")
        slices = self.design.smooth_slices
        blocks = [(smooth.label, columns) for smooth, columns in zip(smooths, slices, strict=True)]
        first = min(columns.start for columns in slices)
        if first > 0:
            blocks.insert(0, ("para", slice(0, first)))
        X = np.linalg.qr(self._shared.X)[1]
        return check.concurvity(X, blocks, self._beta) if full else check.pairwise_concurvity(X, blocks, self._beta)

    def __getitem__(self, name: str) -> GamFit:
        if name != self.response:
            raise KeyError(f"the response is {self.response!r}, not {name!r}")
        return self

    def __repr__(self) -> str:
        smooths = self.design.smooth.smooths
        edf = [float(self.edf.iloc[s].sum()) for s in self.design.smooth_slices]
        shown = ", ".join(f"{smooth.label} {value:.3g}" for smooth, value in zip(smooths, edf, strict=True))
        return f"GamFit {self.formula}\n{self.method} score {self.score:.6g}, scale {self.scale:.5g}, n = {self.n}" + (
            f"\nedf: {shown}, total {float(self.edf.sum()):.4g}" if smooths else ""
        )
