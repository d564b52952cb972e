"""The terms of a formula as columns, on the rows that have all of its variables, even where the design cannot be built.

Smooths enter with all columns of their basis, as if not penalised; effects of groups (random effects) are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pycombat_gam.checks.material import Material, columns_of, smooth_columns
from pycombat_gam.design.design import Design
from pycombat_gam.design.rank import Rank, find_rank
from pycombat_gam.errors import PcgError
from pycombat_gam.penalized.solve import pooled_factor
from pycombat_gam.penalized.sufficient import factor_design
from pycombat_gam.types import BoolArray, FloatArray, IntArray

DEPENDENT = 1e-8
"""A direction of columns of length one counts as none when the others leave less than this of it."""

NOTHING = 1e-14
"""Of a direction of length one, a sum of squares within sites that is rounding."""


@dataclass(frozen=True, eq=False)
class Columns:
    """A term's columns.

    Attributes
    ----------
    label : as R labels the term; variables : the columns of the table in it.
    X : (n, p) values; smooth : whether a penalty is left out of account.
    """

    label: str
    variables: tuple[str, ...]
    X: FloatArray
    smooth: bool = False


@dataclass(frozen=True, eq=False)
class Terms:
    """All terms on the rows that can be used.

    Attributes
    ----------
    rows : (n,) which rows of the table; codes : site of each of those rows.
    terms : in the formula's order; rank : what is not estimable.
    trouble : why the design cannot be built, if so; the terms are then the formula's variables as they stand.
    """

    rows: BoolArray
    codes: IntArray
    terms: tuple[Columns, ...]
    rank: Rank
    trouble: str


def learn_terms(material: Material) -> Terms:
    """Build the design's terms, or the formula's variables where it cannot be built."""
    readable = [covariate for covariate in material.covariates.values() if not covariate.trouble]
    rows = material.codes >= 0
    for covariate in readable:
        rows = rows & covariate.present
    codes = material.codes[rows]
    if not rows.any() or not material.covariates:
        return Terms(rows, codes, (), Rank(), "" if rows.any() else "no row has all of its variables")
    try:
        table = material.intake.covariates.loc[rows]
        design = Design.learn(material.fixed, table, absorb_intercept=True)
        X = design.on(table)
    except PcgError as error:
        return Terms(rows, codes, tuple(_variables(material, rows)), Rank(), str(error))
    factor = factor_design(X, codes, len(material.levels))
    sites = int((factor.n > 0).sum())
    rank = find_rank(design, X[factor.order], pooled_factor(factor.R)[1], n_batches=sites)
    # Squares of extreme numbers tell nothing.
    return Terms(rows, codes, () if rank.extreme else tuple(_terms(design, X)), rank, "")


def fitted_terms(material: Material, design: Design) -> Terms:
    """Return the terms of a design that was fitted to these rows: estimable, and all rows have their variables."""
    rows = np.ones(material.codes.size, dtype=bool)
    held = {term.label for term in material.fixed.parametric}
    held |= {smooth.label for smooth in design.smooth.smooths if smooth.term in material.fixed.smooths}
    terms = _terms(design, design.on(material.intake.covariates))
    return Terms(rows, material.codes, tuple(term for term in terms if term.label in held), Rank(), "")


def _terms(design: Design, X: FloatArray) -> Iterator[Columns]:
    parametric = {
        term.label: {name for node in term.factors for name in columns_of(node)} for term in design.formula.parametric
    }
    smooths = {smooth.label: set(smooth_columns(smooth.term)) for smooth in design.smooth.smooths}
    for label, columns in design.term_slices.items():
        names = parametric.get(label, smooths.get(label, set()))
        ordered = tuple(name for name in design.formula.variables if name in names)
        yield Columns(label, ordered, X[:, columns], label not in parametric)


def _variables(material: Material, rows: BoolArray) -> Iterator[Columns]:
    for name, covariate in material.covariates.items():
        x = covariate.values[rows]
        if covariate.trouble or not np.ptp(x) > 0:
            continue
        present = np.unique(x)
        X = (x[:, None] == present[1:]).astype(float) if covariate.levels else x[:, None]
        yield Columns(name, (name,), X)


def centred(X: FloatArray, codes: IntArray | None = None) -> FloatArray:
    """Take means, or site means, out of columns; what is rounding of a constant column becomes zero."""
    codes = np.zeros(len(X), dtype=np.intp) if codes is None else codes
    if not X.size:
        return X
    n = np.maximum(np.bincount(codes), 1)
    shifted = X - X[0]
    means = np.stack([np.bincount(codes, weights=column) / n for column in shifted.T], axis=1)
    left = shifted - means[codes]
    rounding = 64 * np.finfo(float).eps * np.sqrt(len(X)) * np.abs(X).max(axis=0)
    left[:, np.sqrt((left**2).sum(axis=0)) <= rounding] = 0.0
    return np.asarray(left)


def basis_of(X: FloatArray, removed: FloatArray) -> FloatArray:
    """Orthonormal basis of what `removed` leaves of columns: (n, rank)."""
    size = np.sqrt((X**2).sum(axis=0))
    X = X[:, size > 0] / size[size > 0]
    if removed.shape[1]:
        # Twice: the second projection removes what rounding left of the first.
        X = X - removed @ (removed.T @ X)
        X = X - removed @ (removed.T @ X)
    if not X.shape[1]:
        return X
    U, sizes, _ = np.linalg.svd(X, full_matrices=False)
    return np.asarray(U[:, sizes > DEPENDENT])


@dataclass(frozen=True, eq=False)
class Association:
    """How much of some columns, given others, lies between sites.

    Attributes
    ----------
    squared : (r,) squared canonical correlations with the sites, descending; r is the rank of the columns.
    between : (B,) what each site contributes to their sum; within : (B,) what it has of r minus their sum.
    deciding : (n,) share of each row in the variation within sites of the combination of columns that suffers most
        from sites; zero where there is none.
    """

    squared: FloatArray
    between: FloatArray
    within: FloatArray
    deciding: FloatArray


def associate(X: FloatArray, others: FloatArray, codes: IntArray, n_sites: int) -> Association:
    """Find the canonical correlations of columns (n, p) with sites, both freed of other columns (n, q).

    With Q an orthonormal basis of what an intercept and the others leave of X, and Q_W what sites and the others leave
    of Q, the singular values s of Q_W have s² = 1 − ρ².
    """
    none = np.zeros((len(X), 0))
    Q = basis_of(centred(X), basis_of(centred(others), none))
    if not Q.shape[1]:
        return Association(np.zeros(0), np.zeros(n_sites), np.zeros(n_sites), np.zeros(len(X)))
    held = basis_of(centred(others, codes), none)
    left = centred(Q, codes)
    left = left - held @ (held.T @ left)
    U, sizes, _ = np.linalg.svd(left, full_matrices=False)
    kept = sizes**2
    kept[kept < NOTHING] = 0.0
    deciding = U[:, -1] ** 2 * bool(kept[-1])
    squared = np.clip(1.0 - np.sort(kept), 0.0, 1.0)
    squared[squared < NOTHING] = 0.0
    inside = (left**2).sum(axis=1) * bool(kept.any())
    within = np.bincount(codes, weights=inside, minlength=n_sites).astype(np.float64)
    # What sites explain: without others, each site's mean repeated.
    between = np.bincount(codes, weights=((Q - left) ** 2).sum(axis=1), minlength=n_sites).astype(np.float64)
    return Association(squared, between, within, deciding)
