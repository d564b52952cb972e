r"""Is the biology there? Each term of the formula is tested in each feature, with sites accounted for.

The test is that of `ComBat.test` (`infer.engine`): one weighted fit with site intercepts, site variances and their
degrees of freedom. Least squares of a table that ComBat harmonized, under its true covariance, *is* that fit of the
measured values. So what ComBat's table says after harmonization is the test before it, the same number by number. Any
other table is tested on its own rows: after a flow, or harmonized elsewhere.

The effect's size is that of the table at hand: the partial R² of least squares with site intercepts, q/(q + rss) with
q = β'Mβ the sum of squares of the fitted term that sites and the other terms leave (penalised as they were).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from pycombat_gam.diagnose.adjusted import Adjusted
from pycombat_gam.diagnose.location import blocks
from pycombat_gam.diagnose.rows import rows
from pycombat_gam.diagnose.study import Study
from pycombat_gam.errors import PcgError, PcgWarning
from pycombat_gam.infer.correlation import residual_correlation
from pycombat_gam.infer.engine import Engine
from pycombat_gam.mean.additive import AdditiveMean
from pycombat_gam.mean.fit import MeanFit
from pycombat_gam.mean.posterior import inverse_information
from pycombat_gam.study.agreement import agree
from pycombat_gam.study.harmonizer import Harmonizer
from pycombat_gam.study.states import AFTER, BEFORE
from pycombat_gam.types import FloatArray, IntArray

Parts = list[dict[str, np.ndarray]]


@dataclass(frozen=True, eq=False)
class TermTests:
    """The tests of a term in V features, (V,) each: `n` rows, none where a feature was not examined."""

    statistic: FloatArray
    df: FloatArray
    df_residual: FloatArray
    p: FloatArray
    n: FloatArray

    @classmethod
    def none(cls, V: int) -> TermTests:
        """Return what is yet to be filled."""
        return cls(*(np.full(V, np.nan) for _ in fields(cls)))


def associations(
    study: Study, fits: Mapping[str, Sequence[Adjusted]], model: Harmonizer | None
) -> dict[str, dict[str, TermTests]]:
    """Test every term except random effects in every feature, by state and term.

    Parameters
    ----------
    fits : the fits of each state; model : what harmonized, or None.
    """
    tests = {state: _tested(study, study.states[state], parts) for state, parts in fits.items() if state == BEFORE}
    for state in fits:
        if state not in tests:
            undone = model is not None and model.undone and transformed(study, model)
            tests[state] = tests[BEFORE] if undone else _tested(study, study.states[state], fits[state])
    return tests


def association_rows(
    study: Study, fits: Mapping[str, Sequence[Adjusted]], tests: Mapping[str, Mapping[str, TermTests]]
) -> list[dict[str, np.ndarray]]:
    """Return a row per state, term and feature: the test, and the size of the effect in that state's table."""
    names = np.array(study.features, dtype=object)
    parts = []
    for state, by_term in tests.items():
        for label, test in by_term.items():
            known = test.n > 0
            value = np.where(np.isnan(test.p), np.nan, _partial_r2(fits[state], label, names.size))
            parts.append(
                rows(
                    aspect="association", measure="partial R2", state=state, feature=names[known], covariate=label,
                    value=value[known], statistic=test.statistic[known], df=test.df[known],
                    df_residual=test.df_residual[known], p=test.p[known], n=test.n[known],
                )
            )  # fmt: skip
    return parts


def transformed(study: Study, model: Harmonizer) -> bool:
    """Tell whether the table after is what the model makes of the table before."""
    try:
        with warnings.catch_warnings():
            # Said when the table was harmonized.
            warnings.simplefilter("ignore", PcgWarning)
            made = model.transform(study.states[BEFORE], study.table)
    except PcgError:
        return False
    return agree(np.asarray(made), study.states[AFTER])


def _tested(study: Study, Y: FloatArray, parts: Sequence[Adjusted]) -> dict[str, TermTests]:
    """Test all terms in the features of one state."""
    tests: dict[str, TermTests] = {}
    for fitted in _fits(study, Y, parts):
        features, fit = fitted.features, fitted.fit
        values = Y[np.ix_(fitted.rows, features)]
        correlation = residual_correlation(fit, values, study.table.iloc[fitted.rows], fitted.codes)
        engine = Engine(fit, correlation, by_site=True, weighted=True)
        for label in engine.terms:
            test = tests.setdefault(label, TermTests.none(len(study.features)))
            result = engine.term(label).tested
            # The test of a single contrast has a t.
            test.statistic[features] = np.where(np.isnan(result.se), result.statistic, result.statistic**2)
            test.df[features], test.df_residual[features] = result.df, result.df_residual
            test.p[features], test.n[features] = result.p, fit.n_observed.sum(axis=0)
    return tests


class _Fitted(NamedTuple):
    """A fit of features whose tests share site weights; rows and codes are of all their cells."""

    features: IntArray
    rows: IntArray
    codes: IntArray
    fit: MeanFit


def _fits(study: Study, Y: FloatArray, parts: Sequence[Adjusted]) -> Iterator[_Fitted]:
    """Yield fits of all features that every site has, together, and of the others by the rows they have."""
    whole = [part for part in parts if part.sites.size == len(study.sites)]
    if len(whole) > 1:
        features = np.sort(np.concatenate([part.features for part in whole]))
        fit = AdditiveMean().fit(
            study.table,
            Y[:, features],
            study.codes,
            formula=study.fitted,
            features=[study.features[k] for k in features],
            labels=study.sites,
            omit_missing=True,
        )
        yield _Fitted(features, np.arange(study.codes.size), study.codes, fit)
    for part in parts:
        if len(whole) == 1 or part.sites.size < len(study.sites):
            yield _Fitted(part.features, part.rows, part.codes, part.fit)


def _partial_r2(parts: Sequence[Adjusted], label: str, V: int) -> FloatArray:
    """Return the partial R² of a term in all V features, NaN where it was not fitted."""
    value = np.full(V, np.nan)
    for part in parts:
        fit, design = part.fit, part.fit.design
        columns = design.term_slices[label]
        beta, rss = fit.coefficients[columns], fit.residual_ss.sum(axis=0)
        explained = np.empty(part.features.size)
        for some in blocks(part.features.size, len(design.columns) ** 2):
            left = np.linalg.inv(inverse_information(fit, some)[:, columns, columns])
            explained[some] = np.einsum("pk,kpq,qk->k", beta[:, some], left, beta[:, some], optimize=True)
        for penalty in fit.penalties:
            if penalty.columns == columns:
                explained -= penalty.weight * np.einsum("pk,pq,qk->k", beta, penalty.matrix, beta, optimize=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            value[part.features] = explained / (explained + rss)
    return value
