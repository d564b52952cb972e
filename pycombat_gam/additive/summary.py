"""The summary of an additive model: R's two tables, and what stands under them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import t as t_distribution

from pycombat_gam.additive.wald import WaldTest, parametric_test, random_effect_test, smooth_test
from pycombat_gam.design.design import INTERCEPT
from pycombat_gam.types import JsonDict

if TYPE_CHECKING:
    from pycombat_gam.additive.model import GamFit


@dataclass(frozen=True, eq=False)
class GamSummary:
    """Summary of one fitted response; `str()` prints it as R does, `to_dict()` gives plain data.

    Attributes
    ----------
    formula : str
        With the response.
    parametric : DataFrame
        A row per parametric coefficient: Estimate, Std. Error, t value, Pr(>|t|).
    terms : DataFrame
        A row per parametric term, its coefficients tested jointly: df, F, p-value (R's `pTerms.table`).
    smooth : DataFrame
        A row per smooth: edf, Ref.df, F, p-value.
    r_squared, deviance_explained : float
        Adjusted R², and the share of the deviance explained.
    method, score : str, float
        The criterion and its value.
    scale : float
        Residual variance.
    n : int
        Number of rows.
    perfect : bool
        Whether the terms explain every value, so that scale, errors and tests are rounding.
    """

    formula: str
    parametric: pd.DataFrame
    terms: pd.DataFrame
    smooth: pd.DataFrame
    r_squared: float
    deviance_explained: float
    method: str
    score: float
    scale: float
    n: int
    perfect: bool = False

    def to_dict(self) -> JsonDict:
        """Return everything as plain data (JSON-able; what is not a number is None)."""

        def plain(frame: pd.DataFrame) -> JsonDict:
            return {
                str(name): {str(k): None if not np.isfinite(v) else float(v) for k, v in row.items()}
                for name, row in zip(frame.index, frame.to_dict("records"), strict=True)
            }

        return {
            "formula": self.formula,
            "parametric": plain(self.parametric),
            "terms": plain(self.terms),
            "smooth": plain(self.smooth),
            "r_squared": self.r_squared,
            "deviance_explained": self.deviance_explained,
            "method": self.method,
            "score": self.score,
            "scale": self.scale,
            "n": self.n,
            "perfect": self.perfect,
        }

    def __str__(self) -> str:
        lines = ["Family: gaussian", "Link function: identity", "", "Formula:", self.formula]
        if len(self.parametric):
            lines += ["", "Parametric coefficients:", _printed(self.parametric)]
        if len(self.smooth):
            lines += ["", "Approximate significance of smooth terms:", _printed(self.smooth)]
        starred = pd.concat([self.parametric.iloc[:, -1:], self.smooth.iloc[:, -1:]]).to_numpy()
        if (starred < 0.1).any():
            lines += ["---", "Signif. codes:  0 '***' 0.001 '**' 0.01 '*' 0.05 '.' 0.1 ' ' 1"]
        name = {"REML": "-REML", "ML": "-ML"}.get(self.method, self.method)
        lines += [
            "",
            f"R-sq.(adj) = {self.r_squared:7.3g}   Deviance explained = {100 * self.deviance_explained:.3g}%",
            f"{name} = {self.score:.5g}  Scale est. = {self.scale:<10.5g} n = {self.n}",
        ]
        if self.perfect:
            lines += ["", "Essentially perfect fit: scale, errors and tests are rounding."]
        return "\n".join(lines)

    __repr__ = __str__


def summarize(fit: GamFit) -> GamSummary:
    """Test every term of a fit."""
    return GamSummary(
        formula=fit.formula,
        parametric=_coefficients(fit),
        terms=_terms(fit),
        smooth=_smooths(fit),
        r_squared=fit.r_squared,
        deviance_explained=fit.deviance_explained,
        method=fit.method,
        score=fit.score,
        scale=fit.scale,
        n=fit.n,
        perfect=fit.is_perfect,
    )


def _coefficients(fit: GamFit) -> pd.DataFrame:
    design = fit.design
    smooth = {i for s in design.smooth_slices for i in range(s.start, s.stop)}
    shown = [i for i in range(len(design.columns)) if i not in smooth]
    estimate = fit.coef.to_numpy()[shown]
    error = np.sqrt(np.diag(fit.vcov.to_numpy())[shown])
    with np.errstate(divide="ignore", invalid="ignore"):
        t = estimate / error
    return pd.DataFrame(
        {
            "Estimate": estimate,
            "Std. Error": error,
            "t value": t,
            "Pr(>|t|)": 2 * t_distribution.sf(abs(t), fit.df_residual),
        },
        index=[design.columns[i] for i in shown],
    )


def _terms(fit: GamFit) -> pd.DataFrame:
    smooths = {smooth.label for smooth in fit.design.smooth.smooths}
    beta, V = fit.coef.to_numpy(), fit.vcov.to_numpy()
    tests = {
        label: parametric_test(beta[s], V[s, s], fit.df_residual)
        for label, s in fit.design.term_slices.items()
        if label not in smooths and label != INTERCEPT
    }
    return _table(tests, "df", [test.df for test in tests.values()])


def _smooths(fit: GamFit) -> pd.DataFrame:
    beta, V = fit.coef.to_numpy(), fit.vcov.to_numpy()
    smooths, slices = fit.design.smooth.smooths, fit.design.smooth_slices
    shared = fit._shared
    penalties = [(columns, weight * S) for _, columns, S, weight in shared.parameters.weighted_by(fit._lambda)]
    tests = {}
    for smooth, s in zip(smooths, slices, strict=True):
        if smooth.penalties and smooth.null_dim == 0:
            others = [
                place
                for other, place in zip(smooths, slices, strict=True)
                if other is not smooth and other.one_variance
            ]
            tests[smooth.label] = random_effect_test(
                shared.R,
                penalties,
                s,
                others,
                beta=beta,
                Vp=V,
                Ve=fit.vcov_frequentist.to_numpy(),
                scale=fit.scale,
                df_residual=fit.df_residual,
            )
        else:
            rank = min(float(s.stop - s.start), float(fit.edf1.iloc[s].sum()))
            tests[smooth.label] = smooth_test(beta[s], V[s, s], shared.R[:, s], rank, fit.df_residual)
    table = _table(tests, "Ref.df", [test.df for test in tests.values()])
    table.insert(0, "edf", [float(fit.edf.iloc[s].sum()) for s in slices])
    return table


def _table(tests: dict[str, WaldTest], name: str, df: list[float]) -> pd.DataFrame:
    columns = {name: df, "F": [test.F for test in tests.values()], "p-value": [test.p_value for test in tests.values()]}
    return pd.DataFrame(columns, index=list(tests), dtype=float)


def _printed(table: pd.DataFrame) -> str:
    """Print a table of estimates with its p-values as R's `printCoefmat`."""
    p = table.iloc[:, -1]
    shown = pd.DataFrame(
        {str(name): [f"{value:.4g}" for value in table[name]] for name in table.columns[:-1]}, index=table.index
    )
    shown[str(table.columns[-1])] = [_p_value(value) for value in p]
    shown[""] = [_stars(value) for value in p]
    return str(shown.to_string())


def _p_value(p: float) -> str:
    if np.isnan(p):
        return "NA"
    return "< 2e-16" if p < 2.2e-16 else f"{p:.3g}"


def _stars(p: float) -> str:
    for limit, mark in ((0.001, "***"), (0.01, "**"), (0.05, "*"), (0.1, ".")):
        if p < limit:
            return mark
    return ""
