"""R's mgcv as the mean model of ComBat: R fits every feature, and what it fitted is stored in our design.

R's smooths span what ours do, so R's coefficients become ours exactly, block by block, and the fitted model transforms,
saves and loads without R. Smooths that only R has (``bs="gp"``, ``"ad"``, ``"ds"``, ``"sz"``) are kept as R's: such a
model transforms with R at hand, and saving it is an error.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.design.design import Design
from pycombat_gam.design.smooths import SmoothPart, smooth_terms
from pycombat_gam.errors import ModelFileError, NotYetError, OptionError
from pycombat_gam.formula import Formula, parse_formula
from pycombat_gam.formula.columns import Factor
from pycombat_gam.formula.nodes import deparse
from pycombat_gam.mean.fit import MeanFit, Smoothing
from pycombat_gam.mean.groups import Groups, assemble, gather
from pycombat_gam.penalized.solve import LeastSquares, by_batch, pooled_factor
from pycombat_gam.progress import progress_bar
from pycombat_gam.smooth.assemble import Smooth
from pycombat_gam.smooth.basis import Values
from pycombat_gam.types import FloatArray, IntArray, JsonDict
from pycombat_gam.words import listing
from r_bridge import session, sources
from r_bridge.errors import RError, RWarning
from r_bridge.formula import to_r
from r_bridge.functions import check_translatable
from r_bridge.names import Names
from r_bridge.study import as_factor, columns_of, with_intercept

METHODS = {"REML": "REML", "ML": "ML", "GCV": "GCV.Cp", "GCV.Cp": "GCV.Cp"}
SAME_SPAN = 1e-7
"""Largest part of R's columns, relative to their size, that ours may leave: tp is Lanczos' in R, others 1e-12."""


class MgcvMean:
    """A mean model fitted by R's ``mgcv::gam``, feature by feature, to a tight optimum.

    Pass it to ComBat: ``pcg.ComBat("~ s(age) + sex", batch="site", mean_model=MgcvMean())``.

    Parameters
    ----------
    method : {"REML", "ML", "GCV"}
        Criterion for the smoothing parameters.
    discrete : bool
        Fit with ``mgcv::bam(discrete=TRUE)`` by fast REML, which rounds covariates; needs complete features.

    Raises
    ------
    OptionError
        For another method, or one that ``bam(discrete=TRUE)`` doesn't have.

    Notes
    -----
    R: ``gam(y ~ batch + covariates, method = method)``, with treatment contrasts and the convergence tolerance of
    `R/mgcv.R`.

    Examples
    --------
    >>> import pycombat_gam as pcg, r_bridge
    >>> table = pcg.datasets.load_multisite()
    >>> model = pcg.ComBat("~ s(age) + sex", batch="site", id="subject", features="_thickness$")
    >>> by_r = pcg.ComBat(**{**model.get_params(), "mean_model": r_bridge.MgcvMean()}).fit(table)
    >>> difference = by_r.estimates.grand_mean - model.fit(table).estimates.grand_mean
    >>> bool(difference.abs().max().max() < 1e-6)
    True
    """

    def __init__(self, method: str = "REML", discrete: bool = False) -> None:
        if method not in METHODS:
            raise OptionError(f"method={method!r}: allowed are {listing(map(repr, METHODS))}")
        if discrete and method != "REML":
            raise OptionError(f"method={method!r} with discrete=True: bam has fast REML only, write method='REML'")
        self.method = method
        self.discrete = bool(discrete)

    def __repr__(self) -> str:
        return f"MgcvMean(method={self.method!r}, discrete={self.discrete})"

    def describe(self, formula: Formula) -> str:
        """Say in one line what is fitted."""
        by = f"mgcv::bam(discrete=TRUE), f{self.method}" if self.discrete else f"mgcv::gam, {self.method}"
        return f"additive model {formula}, fitted in R by {by}, batch intercepts"

    def predict(self, fit: MeanFit, table: pd.DataFrame) -> FloatArray:
        """Evaluate the covariate part Xβ on new rows, shape (n, V), the formula's offset included."""
        return fit.design.on(table) @ fit.coefficients + fit.design.offset(table)[:, None]

    def fit(
        self,
        table: pd.DataFrame,
        Y: np.ndarray,
        batch: IntArray,
        *,
        formula: str | Formula,
        features: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
        omit_missing: bool = False,
    ) -> MeanFit:
        """Fit all features in R; see `pycombat_gam.mean.additive.AdditiveMean.fit`.

        Raises
        ------
        RMissingError
            Without R or mgcv.
        RError
            If R stops.
        """
        parsed = with_intercept(parse_formula(formula) if isinstance(formula, str) else formula)
        check_translatable(parsed)
        features = features if features is not None else [f"feature {k}" for k in range(Y.shape[1])]
        labels = labels if labels is not None else [f"batch {b}" for b in range(int(batch.max()) + 1)]
        session.require("mgcv")
        names = Names.of(parsed, table)
        data = columns_of(parsed, table, names, response=False)
        try:
            design = Design.learn(parsed, table, absorb_intercept=True)
        except NotYetError:
            design = None
        if design is not None:
            # All checks before R is asked.
            gather(
                design, table, Y, batch, features=features, labels=labels, omit_missing=omit_missing, bar=progress_bar
            )
        cells = np.asarray(Y, dtype=np.float64)
        varying = np.array([np.ptp(column[~np.isnan(column)]) > 0 for column in cells.T], dtype=bool)
        with names.in_errors(), progress_bar("fitting in R", int(varying.sum())) as advance:
            fitted = session.call(
                sources.function("mgcv_mean", "mgcv"),
                data=data,
                formula=to_r(names.formula(parsed)),
                batch=as_factor(batch, labels),
                Y=cells[:, varying],
                method="fREML" if self.discrete else METHODS[self.method],
                discrete=self.discrete,
                ticking=True,
                _advance=advance,
            )
        for part in ("names", "labels", "sp_names"):
            fitted[part] = [] if fitted[part] is None else names.labels(fitted[part], parsed)
        if not fitted["converged"].all():
            stopped = [str(features[k]) for k in np.flatnonzero(varying)[~fitted["converged"]]]
            warnings.warn(
                f"R's search for smoothing parameters did not converge: {listing(stopped)}", RWarning, stacklevel=2
            )
        maps = None if design is None else _maps(design, fitted, table)
        if design is None or maps is None:
            design = _design_of_r(parsed, table, fitted, names)
            maps = [np.eye(int(size)) for size in fitted["sizes"]]
        gathered = gather(
            design, table, Y, batch, features=features, labels=labels, omit_missing=omit_missing, bar=progress_bar
        )
        coefficients = np.zeros((len(design.columns), Y.shape[1]))
        coefficients[:, varying] = _coefficients(design, maps, fitted, len(labels))
        return assemble(gathered, Y, _solutions(gathered, coefficients), self._smoothing(design, fitted, varying))

    def _smoothing(self, design: Design, fitted: dict[str, Any], varying: np.ndarray[Any, Any]) -> Smoothing:
        V = varying.size
        if not design.smooth_slices:
            return Smoothing.none(V)

        def spread(values: FloatArray, otherwise: float) -> FloatArray:
            out = np.full((values.shape[0], V), otherwise)
            out[:, varying] = values
            return out

        return Smoothing(
            parameters=spread(fitted["sp"], 0.0),
            names=tuple(fitted["sp_names"]),
            edf=spread(fitted["edf"], 0.0),
            smooths=tuple(smooth.label for smooth in design.smooth.smooths),
            score=spread(fitted["score"][None], np.nan),
            criterion="GCV" if self.method == "GCV.Cp" else self.method,
        )


def _maps(design: Design, fitted: dict[str, Any], table: pd.DataFrame) -> list[FloatArray] | None:
    """For each smooth the matrix that takes R's coefficients to ours; None where one spans another space."""
    X = design.on(table)
    slices = design.smooth_slices
    if len(slices) != len(fitted["sizes"]):
        return None
    maps = []
    start = int(fitted["n_parametric"][0])
    for columns, size in zip(slices, fitted["sizes"].astype(int), strict=True):
        theirs = np.asarray(fitted["X"])[:, start : start + size]
        T = np.linalg.lstsq(X[:, columns], theirs, rcond=None)[0]
        if np.abs(X[:, columns] @ T - theirs).max() > SAME_SPAN * np.abs(theirs).max():
            return None
        maps.append(T)
        start += size
    return maps


def _coefficients(design: Design, maps: Sequence[FloatArray], fitted: dict[str, Any], n_batches: int) -> FloatArray:
    """R's coefficients (p, V) in the columns of our design."""
    theirs = fitted["coefficients"]
    n_parametric = int(fitted["n_parametric"][0])
    names = fitted["names"][n_batches:n_parametric]
    parametric = [j for label in _parametric(design) for j in range(*design.term_slices[label].indices(10**9))]
    ours = [design.columns[j] for j in parametric]
    if sorted(names) != sorted(ours):
        raise RError(f"R codes the parametric terms as {listing(names)}, we as {listing(ours)}: please report this")
    out = np.zeros((len(design.columns), theirs.shape[1]))
    out[parametric] = theirs[n_batches:n_parametric][[names.index(column) for column in ours]]
    start = n_parametric
    for columns, T in zip(design.smooth_slices, maps, strict=True):
        out[columns] = T @ theirs[start : start + T.shape[1]]
        start += T.shape[1]
    return out


def _parametric(design: Design) -> list[str]:
    smooths = {smooth.label for smooth in design.smooth.smooths}
    return [label for label in design.term_slices if label not in smooths]


def _solutions(gathered: Groups, coefficients: FloatArray) -> list[LeastSquares]:
    """Batch intercepts and residual sums of squares at R's coefficients."""
    solutions = []
    for group in gathered.groups:
        beta = np.ascontiguousarray(coefficients[:, group.members])
        solutions.append(LeastSquares(beta, *by_batch(group.statistics, beta), pooled_factor(group.statistics.R)[1]))
    return solutions


@dataclass(frozen=True, eq=False)
class RBasis:
    """A smooth as R set it up, constraint and `by` included: its columns come from R.

    Attributes
    ----------
    smooth : R's object, serialised; label : mgcv's.
    variables : what it reads, by-variable included; called : the same in R's names.
    penalties, ranks, null_dim : R's; random : whether the term is a random effect.
    """

    smooth: bytes
    label: str
    variables: tuple[str, ...]
    called: tuple[str, ...]
    penalties: tuple[FloatArray, ...]
    ranks: tuple[int, ...]
    null_dim: int
    random: bool

    def on(self, values: Values) -> FloatArray:
        """Columns on n rows, by mgcv's ``PredictMat``."""
        columns = {called: _for_r(values[name]) for name, called in zip(self.variables, self.called, strict=True)}
        made = session.call(sources.function("mgcv_columns", "mgcv"), smooth=self.smooth, data=pd.DataFrame(columns))
        return np.asarray(made, dtype=np.float64)

    def to_dict(self) -> JsonDict:
        """Refuse: a saved model has to work without R."""
        raise ModelFileError(
            f"{self.label} is a smooth of R's mgcv that pycombat_gam does not have, so the model cannot be saved; "
            "use a basis of ours (tp, ts, cr, cs, cc, ps, cp, bs, re, fs), or keep the model in this session"
        )


def _for_r(value: FloatArray | Factor) -> Any:
    return as_factor(value.codes, value.levels) if isinstance(value, Factor) else value


def _design_of_r(formula: Formula, table: pd.DataFrame, fitted: dict[str, Any], names: Names) -> Design:
    """Our design of the parametric part with R's smooths in it."""
    without = Design.learn(replace(formula, smooths=(), random=()), table, absorb_intercept=True)
    terms = [term for term, _ in smooth_terms(formula)]
    part = SmoothPart.around(formula, table)
    by_label = {term.label: term for term in terms}
    smooths = []
    for i, label in enumerate(fitted["labels"]):
        term = by_label.get(label) or next(t for t in terms if label.startswith(t.label))
        S = tuple(np.atleast_2d(np.asarray(S, dtype=np.float64)) for S in fitted["penalties"][i] or ())
        read = tuple(dict.fromkeys((*term.args, *((term.by,) if term.by else ()))))
        basis = RBasis(
            smooth=fitted["smooths"][i],
            label=label,
            variables=tuple(deparse(node) for node in read),
            called=tuple(deparse(names.node(node)) for node in read),
            penalties=S or (np.zeros((int(fitted["sizes"][i]),) * 2),),
            ranks=tuple(int(rank) for rank in np.atleast_1d(fitted["ranks"][i])) if S else (0,),
            null_dim=int(fitted["null_dims"][i]),
            random=term.random,
        )
        smooths.append(
            Smooth(
                label=label, term=term, basis=basis, by=None, by_level=None, Z=None, keep=None, penalties=S,
                penalty_scale=(1.0,) * len(S), ranks=basis.ranks if S else (), null_dim=basis.null_dim, fixed=not S,
                id=None, sp=None,
            )
        )  # fmt: skip
    part = replace(part, smooths=tuple(smooths))
    return Design.of(formula, without.parametric, part, without.offsets, absorb_intercept=True)
