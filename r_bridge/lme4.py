"""R's ``lme4::lmer``: linear mixed models, correlated random effects included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.errors import OptionError
from pycombat_gam.formula import Formula, parse_formula
from r_bridge import session, sources
from r_bridge.formula import to_r
from r_bridge.names import Names
from r_bridge.study import columns_of


@dataclass(frozen=True, eq=False)
class LmerFit:
    """A mixed model fitted by lme4.

    Attributes
    ----------
    formula : str
        As given.
    coef : Series
        Fixed effects.
    vcov : DataFrame
        Their covariance.
    random : dict of str to DataFrame
        Modes of the random effects, levels × effects, for each grouping.
    variances : DataFrame
        Group, first and second effect (none: a variance), covariance; without the residual.
    scale : float
        Residual variance.
    fitted, residuals : Series
        Indexed as the rows used.
    loglik, aic, bic : float
        Of the (restricted) likelihood.
    singular : bool
        Whether a variance is at its bound.
    """

    formula: str
    coef: pd.Series
    vcov: pd.DataFrame
    random: Mapping[str, pd.DataFrame]
    variances: pd.DataFrame
    scale: float
    fitted: pd.Series
    residuals: pd.Series
    loglik: float
    aic: float
    bic: float
    singular: bool
    _parsed: Formula = field(repr=False)
    _names: Names = field(repr=False)
    _fit: bytes = field(repr=False)

    def predict(self, newdata: pd.DataFrame, *, population: bool = False) -> pd.Series:
        """Predict for new rows; without the random effects if `population`. A new level has effect zero."""
        fitted = session.call(
            sources.function("lmer_predict", "gam"),
            fit=self._fit,
            data=columns_of(self._parsed, newdata, self._names, response=False),
            population=population,
        )
        return pd.Series(fitted, index=newdata.index)

    def __repr__(self) -> str:
        return f"LmerFit({self.formula!r}: {len(self.fitted)} rows, residual variance {self.scale:.6g})"


def lmer(formula: str, data: pd.DataFrame, *, REML: bool = True) -> LmerFit:
    """Fit a linear mixed model by R's ``lme4::lmer``.

    Parameters
    ----------
    formula : str
        With a response and at least one random effect, ``"y ~ age + (1 + age | site)"``.
    data : DataFrame
        Rows with a missing value in a used column are left out.
    REML : bool
        Maximise the restricted likelihood (True) or the likelihood itself.

    Raises
    ------
    OptionError
        For smooths, or without response or random effect.
    RMissingError, RError
        Without R or lme4; if R stops.

    Examples
    --------
    >>> import pycombat_gam as pcg, r_bridge
    >>> fit = r_bridge.lmer("icv ~ age + sex + (1 | site)", pcg.datasets.load_multisite())
    >>> list(fit.coef.index)
    ['(Intercept)', 'age', 'sexM']
    """
    parsed = parse_formula(formula)
    if parsed.response is None or not parsed.random:
        raise OptionError(f"'{formula}': lmer needs a response and a random effect, like 'y ~ age + (1 | site)'")
    called = Names.of(parsed, data)
    text = to_r(called.formula(parsed), engine="lme4")
    session.require("lme4")
    used = columns_of(parsed, data, called, response=True)
    kept = ~used.isna().any(axis=1).to_numpy()
    with called.in_errors():
        reply = session.call(
            sources.function("lmer_fit", "gam"), data=used[kept].reset_index(drop=True), formula=text, REML=REML
        )
    index, names = data.index[kept], called.labels(reply["names"], parsed)

    def ours(labels: Any) -> list[str | None]:
        return [None if label is None else called.labels([label], parsed)[0] for label in labels]

    return LmerFit(
        formula=formula,
        coef=pd.Series(reply["coef"], index=names),
        vcov=pd.DataFrame(reply["vcov"], names, names),
        random={
            called.ours(group): pd.DataFrame(np.asarray(part["values"]), list(part["rows"]), ours(part["names"]))
            for group, part in reply["random"].items()
        },
        variances=pd.DataFrame(
            {
                "group": ours(reply["group"]),
                "first": ours(reply["first"]),
                "second": ours(reply["second"]),
                "covariance": reply["covariance"],
            }
        ).query("group != 'Residual'"),
        scale=float(reply["scale"][0]),
        fitted=pd.Series(reply["fitted"], index=index),
        residuals=pd.Series(reply["residuals"], index=index),
        loglik=float(reply["loglik"][0]),
        aic=float(reply["aic"][0]),
        bic=float(reply["bic"][0]),
        singular=bool(reply["singular"][0]),
        _parsed=parsed,
        _names=called,
        _fit=reply["fit"],
    )
