r"""`later_test`: any formula on a harmonized table, tested as if sites had been in the model from the beginning.

A harmonized table is Y* = LY + const with a known L. Generalised least squares of Y* with the mean L[B Z] and the
covariance LΣL' is weighted least squares of the raw Y on [B Z], B the site indicators, for any later Z, with or without
shrinkage. So the rows are taken back to raw values, exactly, and tested by the engine of `ComBat.test`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from pycombat_gam.checks.terms import basis_of, centred
from pycombat_gam.combat.estimator import ComBat
from pycombat_gam.combat.fitted import FittedComBat
from pycombat_gam.combat.inference import chosen_terms, engine_of, told
from pycombat_gam.combat.new_groups import find_new_levels
from pycombat_gam.combat.profile import rows_differ
from pycombat_gam.design.design import Design
from pycombat_gam.errors import DataError, OptionError, PcgWarning
from pycombat_gam.formula import parse_formula
from pycombat_gam.infer.correlation import residual_correlation
from pycombat_gam.infer.effects import Effects
from pycombat_gam.infer.hc3 import RawRows
from pycombat_gam.mean.additive import AdditiveMean
from pycombat_gam.penalized.problem import METHODS
from pycombat_gam.tables.intake import Intake, find_column
from pycombat_gam.types import FloatArray, IntArray
from pycombat_gam.words import in_one, listing

STATES = ("harmonized", "raw")
SPANNED = 1e-7
"""A column of length one is in the span of others when these leave less of it: what `lm` in R calls dependent."""


def later_test(
    model: ComBat,
    formula: str,
    table: pd.DataFrame | np.ndarray,
    state: str = "harmonized",
    *,
    covariates: object = None,
    terms: str | Sequence[str] = (),
    weights: str | None = "site",
    variance: str = "site",
    level: float = 0.95,
) -> Effects:
    """Test the terms of any formula on a harmonized table, with site effects accounted for.

    Parameters
    ----------
    model : ComBat
        The fitted model that harmonized the table.
    formula : str
        What to test, one-sided, without the batch. It may have terms that the harmonization did not know, and lack
        terms that it knew.
    table : DataFrame or array of shape (n, V)
        The rows, with sites and covariates; or features only, beside `covariates`.
    state : {"harmonized", "raw"}
        Whether the features are harmonized by `model`, or raw. Both give the same tests.
    covariates : DataFrame, optional
        As in `ComBat.fit`.
    terms : str or list of str
        Terms to test; by default all, but for random effects.
    weights : {"site"} or None
        As in `ComBat.test`.
    variance : {"site", "pooled", "hc3"}
        As in `ComBat.test`; ``"hc3"`` takes variances from squared residuals of the rows, which helps where groups
        differ in variance within sites.
    level : float
        Coverage of the intervals.

    Returns
    -------
    Effects

    Raises
    ------
    DataError
        For rows that `model` did not harmonize, or that were changed since; for sites that were not in the fit.
    DesignError
        For terms that are constant within sites.
    OptionError
        For options that are not allowed.

    Notes
    -----
    A plain test on the harmonized table takes site effects for known, and shrunken data for raw ones. Its level at
    nominal 5 % ranges from 2 to 42 %; see the vignette.

    Examples
    --------
    >>> import pycombat_gam as pcg
    >>> table = pcg.datasets.load_multisite()
    >>> model = pcg.ComBat("~ age + sex + dx", batch="site", id="subject", features="_thickness$")
    >>> harmonized = model.fit_transform(table)
    >>> later = pcg.later_test(model, "~ age + sex + dx", harmonized).table
    >>> bool(abs(later.p - model.test().table.p).max() < 1e-8)
    True
    """
    if not isinstance(model, ComBat):
        raise OptionError(f"model is a {type(model).__name__}: give the fitted ComBat that harmonized the table")
    if state not in STATES:
        raise OptionError(f"state={state!r}: allowed are 'harmonized' and 'raw'")
    fitted, later = model.fitted, parse_formula(formula)
    if model.batch in later.variables:
        raise OptionError(f"batch column '{model.batch}' is in the formula: sites are accounted for already, remove it")
    known = fitted.mean.design.formula
    needed = tuple(dict.fromkeys([*later.variables, *(known.variables if state == "harmonized" else ())]))
    taken = model._intake(table, covariates, needed, fitted.features)
    model._check_cells(taken)
    codes, labels = _sites(fitted, taken, model.batch, state)
    notes = list(_precision(taken.Y, state))
    Y = _raw(fitted, taken, codes, notes) if state == "harmonized" else taken.Y
    if state == "raw":
        notes += _as_raw(fitted, taken, codes)
    used, compact = np.unique(codes, return_inverse=True)
    labels = [labels[b] for b in used]
    mean = AdditiveMean(METHODS[model.smoothing]).fit(
        taken.covariates, Y, compact, formula=later, features=fitted.features, labels=labels,
        omit_missing=model.missing == "omit",
    )  # fmt: skip
    if state == "harmonized":
        notes += _different_terms(fitted, mean.design, taken.covariates, compact)
    rows = RawRows(mean.design.on(taken.covariates), mean.design.less_offset(Y, taken.covariates), compact)
    correlation = residual_correlation(mean, Y, taken.covariates, compact)
    engine = engine_of(mean, correlation, weights, variance, level, rows)
    if notes:
        warnings.warn(in_one(notes), PcgWarning, stacklevel=2)
    chosen = chosen_terms(engine, [terms] if isinstance(terms, str) else terms)
    title = f"Tests of {later} on the {state} table of {model!r}"
    return told(engine, [engine.term(label) for label in chosen], fitted.features, labels, title, level, notes)


def _sites(fitted: FittedComBat, taken: Intake, batch: str, state: str) -> tuple[IntArray, list[str]]:
    """Return each row's site and the sites' names, those that were not in the fit last."""
    codes, unseen = fitted.levels.codes(find_column(taken.covariates, batch, "batch"))
    if unseen and state == "harmonized":
        raise DataError(
            f"batch {listing(unseen)} was not in the fit, so its harmonized rows cannot be taken back: give raw rows "
            "with state='raw'"
        )
    return codes, [*fitted.levels.labels, *unseen]


def _raw(fitted: FittedComBat, taken: Intake, codes: IntArray, notes: list[str]) -> FloatArray:
    """Take harmonized rows back to raw ones; stop where they are not the model's."""
    batch = fitted.location_scale("later_test on a harmonized table")
    if new := find_new_levels(fitted.mean, taken.covariates, np.arange(len(codes))):
        raise DataError(
            f"{listing(level.note for level in new)}: harmonized rows of such groups cannot be taken back; give raw "
            "rows with state='raw'"
        )
    Y = np.empty(taken.Y.shape)
    batch.restore(taken.Y, fitted.mean.rows(taken.covariates, batch.level), codes, Y)
    if not np.array_equal(np.bincount(codes, minlength=len(fitted.levels)), fitted.mean.n_rows):
        notes.append(
            "these are not all rows of the fit, or others: whether the model harmonized them cannot be checked"
        )
    elif differs := rows_differ(fitted, Y.astype(taken.Y.dtype, copy=False), taken.covariates, codes):
        raise DataError(
            f"the table is not what this model made of its rows ({differs}): it was harmonized by another model, or "
            "changed since; give the model's own table, or raw rows with state='raw'"
        )
    return Y


def _as_raw(fitted: FittedComBat, taken: Intake, codes: IntArray) -> Iterator[str]:
    """Warn where rows given as raw have the fit's sites and covariates, yet other features."""
    known = fitted.mean.design.formula.variables
    same_rows = np.array_equal(np.bincount(codes, minlength=len(fitted.levels)), fitted.mean.n_rows)
    if same_rows and set(known) <= set(map(str, taken.covariates.columns)):
        differs = rows_differ(fitted, taken.Y, taken.covariates, codes)
        if differs:
            yield f"these raw rows are not those of the fit ({differs}); if they are harmonized, say state='harmonized'"


def _precision(Y: np.ndarray, state: str) -> Iterator[str]:
    if Y.dtype == np.float32 and state == "harmonized":
        yield "the features are float32: taken back to raw values they have seven digits, and so have the tests"


def _different_terms(fitted: FittedComBat, later: Design, table: pd.DataFrame, codes: IntArray) -> Iterator[str]:
    """Name later terms that the harmonization did not know, and terms of it that the later formula lacks."""
    harmonized = fitted.mean.design
    theirs, ours = (_within_sites(design, table, codes) for design in (harmonized, later))
    if unknown := _outside(ours, theirs):
        yield (
            f"the harmonization did not know {listing(unknown)}: plain tests of this table underestimate such effects; "
            "this test does not"
        )
    if omitted := _outside(theirs, ours):
        yield f"the harmonization kept {listing(omitted)}, which this formula lacks: it compares people within sites"


def _within_sites(design: Design, table: pd.DataFrame, codes: IntArray) -> dict[str, FloatArray]:
    """Return each term's columns less their site means; random effects are left out."""
    X = centred(design.on(table), codes)
    random = {smooth.label for smooth, _ in design.random_effects}
    return {label: X[:, columns] for label, columns in design.term_slices.items() if label not in random}


def _outside(terms: dict[str, FloatArray], others: dict[str, FloatArray]) -> list[str]:
    """Return the terms with columns outside the span of the others."""
    rows = len(next(iter({**terms, **others}.values()), np.zeros((0, 0))))
    basis = basis_of(np.hstack([np.zeros((rows, 0)), *others.values()]), np.zeros((rows, 0)))
    outside = []
    for label, X in terms.items():
        size = np.sqrt((X**2).sum(axis=0))
        X = X[:, size > 0] / size[size > 0]
        left = X - basis @ (basis.T @ X)
        if (np.sqrt((left**2).sum(axis=0)) > SPANNED).any():
            outside.append(label)
    return outside
