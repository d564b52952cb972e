"""The audit's problems that `ComBat.fit` warns of, found at the cost of a few passes over B×V.

The checks are the audit's own. Those of covariates and rows see everything. A pass over all cells would cost as much as
the fit, so those of features see only the features that the fit leaves in doubt:

- a code for missing lies far off and enlarges its site's residual sum of squares: features whose spread reaches a code;
- a rating or count has whole numbers: features whose first rows are whole;
- a site in other units has another residual standard deviation: features whose sites differ in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

import numpy as np

from pycombat_gam.checks.collinear import collinear_covariates
from pycombat_gam.checks.confounding import APART, confounded_but_for_few, confounding_tables
from pycombat_gam.checks.copies import copied_rows, find_copies
from pycombat_gam.checks.features import look_at_features
from pycombat_gam.checks.finding import Finding
from pycombat_gam.checks.material import Material
from pycombat_gam.checks.overlap import RANGE, overlap_findings, overlap_table
from pycombat_gam.checks.sites import repeat_findings, site_findings, site_table
from pycombat_gam.checks.suspicion import FEW_VALUES, feature_findings, flag_features
from pycombat_gam.checks.terms import associate, fitted_terms
from pycombat_gam.checks.units import OFF, covariate_units, unit_factors
from pycombat_gam.checks.values import CODES, covariate_codes, impossible_values
from pycombat_gam.mean.fit import MeanFit
from pycombat_gam.types import IntArray

REACH = 1.5
"""A residual is smaller than the deviation behind it, because its row pulls the fit towards itself."""
FIRST = (4, 128)
"""Rows that are looked at in all features, and then in those whose first rows look like counts."""
TOLERANT = 0.7
"""Residual standard deviations may differ by less than values do."""


def find_problems(material: Material, mean: MeanFit) -> list[Finding]:
    """Find the problems of a table that a mean model was fitted to; a fit has stopped for those that stop it."""
    who = material.subjects
    with np.errstate(over="ignore", invalid="ignore"):
        findings = chain(
            copied_rows(material, find_copies(material.intake.Y)),
            covariate_codes(material),
            impossible_values(material),
            covariate_units(material),
            collinear_covariates(material),
            _terms(material, mean),
            overlap_findings(apart := _apart(material), overlap_table(apart)),
            _features(material, mean),
        )
        problems = [finding for finding in findings if finding.severity == "problem"]
        if who is not None and who.repeated:
            sites = site_table(material, np.zeros(0, dtype=np.intp))
            problems += site_findings(material, sites[sites["rows"] > 1])
            problems += repeat_findings(material, sites)
        return [finding for finding in problems if finding.severity == "problem"]


def _terms(material: Material, mean: MeanFit) -> Iterator[Finding]:
    """Name terms that are confounded with sites but for a few rows."""
    terms, n_sites = fitted_terms(material, mean.design), len(material.levels)
    for at, term in enumerate(terms.terms):
        others = [other.X for k, other in enumerate(terms.terms) if k != at]
        rest = np.hstack([np.zeros((terms.codes.size, 0)), *others])
        squared = associate(term.X, rest, terms.codes, n_sites).squared
        if not term.smooth and squared.max(initial=0.0) > 1 - 1 / APART:
            return confounded_but_for_few(terms, confounding_tables(material, terms)[0])
    return iter(())


def _apart(material: Material) -> Material:
    """Return the material with the numeric covariates of which some site has no row in the range of another."""
    kept = {}
    for name, covariate in material.covariates.items():
        used = covariate.present & (material.codes >= 0)
        if covariate.levels or not used.any():
            continue
        order = np.argsort(material.codes[used], kind="stable")
        starts = np.unique(material.codes[used][order], return_index=True)[1]
        x = covariate.values[used][order]
        low, high = np.minimum.reduceat(x, starts), np.maximum.reduceat(x, starts)
        # A row is in the range of its own site.
        held = ((x >= low[:, None]) & (x <= high[:, None])).sum(axis=0) > 1
        if not np.logical_or.reduceat(held, starts).all():
            kept[name] = covariate
    return replace(material, covariates=kept)


def _features(material: Material, mean: MeanFit) -> list[Finding]:
    Y = material.intake.Y
    doubtful = np.unique(np.concatenate([_coded(Y, mean), _counts(Y), _other_units(material, mean)]))
    if not doubtful.size:
        return []
    names = tuple(material.intake.features[k] for k in doubtful.tolist())
    part = replace(material, intake=replace(material.intake, Y=Y[:, doubtful], features=names))
    looked = look_at_features(part)
    flag_features(looked)
    return list(feature_findings(part, looked))


def _coded(Y: np.ndarray, mean: MeanFit) -> IntArray:
    """Return the features whose smallest or largest value is a code for missing."""
    codes = np.array(sorted(CODES), dtype=np.float64)
    shift, reach = mean.center @ mean.coefficients, REACH * np.sqrt(mean.residual_ss.max(axis=0))
    low, high = (mean.intercepts.min(axis=0) + shift) - reach, (mean.intercepts.max(axis=0) + shift) + reach
    columns = np.flatnonzero(np.searchsorted(codes, low) < np.searchsorted(codes, high, side="right"))
    part = Y[:, columns]
    ends = np.stack([np.fmin.reduce(part, axis=0), np.fmax.reduce(part, axis=0)])
    return columns[np.isin(ends, codes).any(axis=0)]


def _counts(Y: np.ndarray) -> IntArray:
    """Return the features that may be ratings or counts, by their first rows."""
    columns = np.arange(Y.shape[1])
    for rows in FIRST:
        head = Y[:rows] if columns.size == Y.shape[1] else Y[:rows, columns]
        columns = columns[((head == np.floor(head)) | np.isnan(head)).all(axis=0)]
    steps = np.diff(np.sort(Y[: FIRST[-1], columns], axis=0), axis=0) > 0
    return np.asarray(columns[steps.sum(axis=0) < FEW_VALUES])


def _other_units(material: Material, mean: MeanFit) -> IntArray:
    """Return the features whose residual sds differ between sites as values in other units do."""
    low, high = np.full(mean.residual_ss.shape[1], np.inf), np.zeros(mean.residual_ss.shape[1])
    for b in np.flatnonzero(mean.n_rows >= RANGE).tolist():
        variance = mean.residual_ss[b] / (int(mean.n_rows[b]) - 1)
        np.minimum(low, variance, out=low)
        np.maximum(high, variance, out=high)
    columns = np.flatnonzero(high > (TOLERANT * OFF) ** 2 * low)
    order = np.argsort(material.codes, kind="stable")
    sites, starts = np.unique(material.codes[order], return_index=True)
    rows = np.asarray(material.intake.Y[:, columns], dtype=np.float64)[order].T
    return np.asarray(columns[(unit_factors(rows, sites, np.append(starts, order.size)) != 1).any(axis=1)])
