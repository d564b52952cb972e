"""R's ``mgcv::gam`` with the interface of `pycombat_gam.gam`: the same arguments in, the same tables out."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from pycombat_gam.additive.gam import check_family
from pycombat_gam.additive.predict import Prediction
from pycombat_gam.additive.summary import GamSummary
from pycombat_gam.errors import DataError, OptionError, PcgWarning
from pycombat_gam.formula import Formula, parse_formula
from pycombat_gam.formula.nodes import Call, Name, deparse
from pycombat_gam.types import FloatArray
from pycombat_gam.words import count, listing
from r_bridge import session, sources
from r_bridge.formula import to_r
from r_bridge.functions import check_translatable
from r_bridge.mgcv import METHODS
from r_bridge.names import Names
from r_bridge.study import columns_of

Rows = Sequence[float] | FloatArray | pd.Series | None


class RGamFit:
    """A response fitted by R's mgcv, with what `pycombat_gam.additive.model.GamFit` has.

    Attributes
    ----------
    response, formula, method : str
        The response as written, the formula with it, and the criterion.
    n : int
        Number of rows used.
    coef, sp, edf, edf1, edf2, fitted, residuals : Series
        Labelled as R labels them.
    vcov, vcov_frequentist, vcov_corrected : DataFrame, shape (p, p)
        R's `Vp`, `Ve`, `Vc`.
    score, scale, loglik, aic, bic, deviance, null_deviance, deviance_explained, r_squared, df_residual : float
        As R computes them.
    converged : bool
        Whether R's search converged, by R's account.
    """

    def __init__(
        self, reply: Mapping[str, Any], formula: Formula, names_in_r: Names, response: str, method: str, index: pd.Index
    ) -> None:
        self._reply = reply
        self._formula = formula
        self._names = names_in_r
        self._index = index
        names = pd.Index(names_in_r.labels(reply["names"], formula))
        self.response = response
        self.formula = f"{response} {formula.right}"
        self.method = "GCV" if method == "GCV.Cp" else method
        self.n = len(index)
        self.coef = pd.Series(reply["coef"], index=names)
        self.sp = pd.Series(
            _floats(reply["sp"]), index=pd.Index(names_in_r.labels(reply["sp_names"], formula)), dtype=float
        )
        self.edf = pd.Series(reply["edf"], index=names)
        self.edf1 = pd.Series(reply["edf1"], index=names)
        self.edf2 = None if reply["edf2"] is None else pd.Series(reply["edf2"], index=names)
        self.vcov = pd.DataFrame(reply["vcov"], names, names)
        self.vcov_frequentist = pd.DataFrame(reply["vcov_frequentist"], names, names)
        corrected = reply["vcov_corrected"]
        self.vcov_corrected = None if corrected is None else pd.DataFrame(corrected, names, names)
        self.fitted = pd.Series(reply["fitted"], index=index)
        self.residuals = pd.Series(reply["residuals"], index=index)
        self.converged = bool(reply["converged"][0])
        for name in ("score", "scale", "deviance", "null_deviance", "deviance_explained", "r_squared", "loglik",
                     "loglik_df", "aic", "bic", "df_residual"):  # fmt: skip
            setattr(self, name, float(reply[name][0]))

    score: float
    scale: float
    deviance: float
    null_deviance: float
    deviance_explained: float
    r_squared: float
    loglik: float
    loglik_df: float
    aic: float
    bic: float
    df_residual: float

    def predict(
        self,
        newdata: pd.DataFrame | None = None,
        type: Literal["response", "link", "terms", "lpmatrix"] = "response",
        se: bool = False,
        *,
        exclude: Sequence[str] | str | None = None,
        unconditional: bool = False,
    ) -> Any:
        """Predict by R's ``predict.gam``; see `pycombat_gam.additive.model.GamFit.predict`."""
        if type not in ("response", "link", "terms", "lpmatrix"):
            raise OptionError(f"type={type!r}: allowed are 'response', 'link', 'terms' and 'lpmatrix'")
        index = self._index if newdata is None else newdata.index
        data = None if newdata is None else columns_of(self._formula, newdata, self._names, response=False)
        if data is not None and data.isna().to_numpy().any():
            raise DataError(f"missing cells in {listing(map(self._names.ours, data.columns[data.isna().any()]))}")
        left_out = [exclude] if isinstance(exclude, str) else exclude
        labels = self._reply["labels"]
        called = dict(zip(self._names.labels(labels, self._formula), map(str, labels), strict=True))
        reply = session.call(
            sources.function("gam_predict", "gam"),
            fit=self._reply["fit"], data=data, type=type, se=se and type != "lpmatrix",
            exclude=None if left_out is None else [called.get(label, label) for label in left_out],
            unconditional=unconditional,
        )  # fmt: skip

        def table(part: Mapping[str, Any]) -> pd.Series | pd.DataFrame:
            values = np.asarray(part["values"], dtype=np.float64)
            if "names" not in part:
                return pd.Series(values, index=index)
            made = pd.DataFrame(values, index, self._names.labels(part["names"], self._formula))
            if type == "terms":
                made.attrs["constant"] = float(reply["constant"][0]) if reply["constant"].size else 0.0
            return made

        return Prediction(table(reply["fit"]), table(reply["se"])) if reply["se"] is not None else table(reply["fit"])

    def summary(self) -> GamSummary:
        """Summarize the fit in R's tables, as ours prints them."""

        def table(name: str, columns: Sequence[str]) -> pd.DataFrame:
            part = self._reply[name]
            if not isinstance(part, pd.DataFrame):
                return pd.DataFrame(columns=list(columns), dtype=float)
            named = part.set_axis(list(columns), axis=1)
            return named.set_axis(self._names.labels(named.index, self._formula), axis=0)

        return GamSummary(
            formula=self.formula,
            parametric=table("parametric", ["Estimate", "Std. Error", "t value", "Pr(>|t|)"]),
            terms=table("terms", ["df", "F", "p-value"]),
            smooth=table("smooth", ["edf", "Ref.df", "F", "p-value"]),
            r_squared=self.r_squared,
            deviance_explained=self.deviance_explained,
            method=self.method,
            score=self.score,
            scale=self.scale,
            n=self.n,
        )

    def __repr__(self) -> str:
        return f"RGamFit({self.formula!r}: {self.n} rows, edf {self.edf.sum():.4g}, {self.method} {self.score:.6g})"


def gam(
    formula: str,
    data: pd.DataFrame,
    *,
    responses: Sequence[str] | str | None = None,
    method: str = "REML",
    select: bool = False,
    weights: Rows = None,
    offset: Rows = None,
    gamma: float = 1.0,
    sp: Sequence[float] | None = None,
    knots: Mapping[str, Sequence[float]] | None = None,
    family: str = "gaussian",
    tight: bool = False,
) -> Any:
    """Fit an additive model by R's ``mgcv::gam``; the arguments are those of `pycombat_gam.gam`.

    Rows with a missing value in a used column are left out and counted, as R does.

    Parameters
    ----------
    tight : bool
        Search down to a gradient of 1e-12 of the score, as comparisons need. R's default stops at 1e-6, which may
        leave a curve 1e-4 of a residual sd from its optimum.

    Returns
    -------
    RGamFit or dict of str to RGamFit
        A dict for ``cbind(a, b) ~ …`` and for `responses` (a list or a regular expression).

    Raises
    ------
    OptionError
        For a method that is not REML, ML or GCV; for a function that R does not have.
    NotYetError, OptionError
        For a family that is not Gaussian.
    RMissingError, RError
        Without R or mgcv; if R stops.

    Examples
    --------
    >>> import pycombat_gam as pcg, r_bridge
    >>> table = pcg.datasets.load_multisite()
    >>> by_r = r_bridge.gam("icv ~ s(age) + sex", table, tight=True)
    >>> bool(abs(by_r.aic - pcg.gam("icv ~ s(age) + sex", table).aic) < 1e-3)
    True
    """
    if method not in METHODS:
        raise OptionError(f"method={method!r}: allowed are {listing(map(repr, METHODS))}")
    check_family(family)
    parsed = parse_formula(formula)
    check_translatable(parsed)
    session.require("mgcv")
    many = _responses(parsed, data, responses)
    fits = {
        name: _fit(parsed, name, data, METHODS[method], select, weights, offset, gamma, sp, knots, tight)
        for name in many
    }
    single = responses is None and not (isinstance(parsed.response, Call) and parsed.response.name == "cbind")
    return fits[many[0]] if single else fits


def _responses(parsed: Formula, data: pd.DataFrame, responses: Sequence[str] | str | None) -> list[str]:
    if responses is None:
        if parsed.response is None:
            raise OptionError(f"'{parsed}' has no response: write 'y {parsed}', or give responses=")
        if isinstance(parsed.response, Call) and parsed.response.name == "cbind":
            return [deparse(node) for node in parsed.response.args]
        return [deparse(parsed.response)]
    if isinstance(responses, str):
        names = [str(name) for name in data.columns if re.search(responses, str(name))]
    else:
        names = list(responses)
    if not names:
        raise OptionError(f"responses={responses!r} matches no column of the table")
    return [deparse(Name(name)) for name in names]


def _fit(
    parsed: Formula, response: str, data: pd.DataFrame, method: str, select: bool, weights: Rows, offset: Rows,
    gamma: float, sp: Sequence[float] | None, knots: Mapping[str, Sequence[float]] | None, tight: bool,
) -> RGamFit:  # fmt: skip
    formula = parse_formula(f"{response} {parsed.right}")
    names = Names.of(formula, data)
    used = columns_of(formula, data, names, response=True)
    kept = ~used.isna().any(axis=1).to_numpy()
    if not kept.all():
        dropped = count(int((~kept).sum()), "row")
        warnings.warn(f"{dropped} with missing values left out of the fit of {response}", PcgWarning, stacklevel=4)

    def rows(values: Rows) -> list[float] | None:
        return None if values is None else np.asarray(values, dtype=np.float64)[kept].tolist()

    with names.in_errors():
        reply = session.call(
            sources.function("gam_fit", "mgcv", "gam"),
            data=used[kept].reset_index(drop=True), formula=to_r(names.formula(formula)), method=method, select=select,
            gamma=gamma, weights=rows(weights), offset=rows(offset),
            sp=None if sp is None else [float(parameter) for parameter in sp],
            knots=None if knots is None else {names.to_r(name): [float(x) for x in at] for name, at in knots.items()},
            tightly=tight,
        )  # fmt: skip
    return RGamFit(reply, formula, names, response, method, data.index[kept])


def _floats(values: Any) -> FloatArray:
    return np.zeros(0) if values is None else np.asarray(values, dtype=np.float64)
