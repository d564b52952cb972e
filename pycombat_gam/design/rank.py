"""The rank of a design: what prevents its estimation, and how to say so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pycombat_gam.design.design import Design, Unpenalised
from pycombat_gam.design.identified import find_unidentified
from pycombat_gam.design.remedy import as_written, many_levels, remedy
from pycombat_gam.errors import DesignError
from pycombat_gam.penalized.solve import dependent_columns
from pycombat_gam.types import FloatArray
from pycombat_gam.words import count, listing

LARGEST = 1e150
"""Covariates beyond it, or below its reciprocal, leave the range in which squares keep their digits."""


class Rank(NamedTuple):
    """What prevents the estimation of a design; all of it empty where nothing does.

    Attributes
    ----------
    extreme : columns whose squares overflow or vanish; where there are any, the rest was not looked at.
    dependent : (term, the term itself or one of its columns, reason) of what is not estimable.
    saturated : the rows and the columns they have to estimate, where no residual is left.
    unidentified : which random effects have variances that the rows cannot separate.
    """

    extreme: tuple[str, ...] = ()
    dependent: tuple[tuple[str, str, str], ...] = ()
    saturated: str = ""
    unidentified: str = ""


def check_rank(
    design: Design, X: FloatArray, R: FloatArray, *, n_batches: int, features: Sequence[str] | None = None
) -> None:
    """Stop where what no penalty touches is rank deficient, or no residual is left.

    Parameters
    ----------
    design : p columns; X : (n, p) its values; R : (p, p) R'R is their cross product, within `n_batches` batches.
    features : the features concerned, when those are the rows observed for them only.
    """
    where = f" on the rows observed for {listing(features, 3)}" if features else ""
    rank = find_rank(design, X, R, n_batches=n_batches)
    if rank.extreme:
        named = listing(map(repr, rank.extreme))
        raise DesignError(f"values too large or too small to square in {named}: rescale them")
    if rank.dependent:
        sentences = list(dict.fromkeys(f"'{what}' is {reason}" for _, what, reason in rank.dependent))
        reasons = listing(sentences, 5) if len(sentences) > 5 else "; ".join(sentences)
        advice = remedy(design, [(term, what) for term, what, _ in rank.dependent])
        raise DesignError(f"the design cannot be estimated{where}: {reasons}. {advice}")
    if rank.saturated:
        raise DesignError(f"the design is saturated{where}: {rank.saturated}; use fewer terms or more rows")
    if rank.unidentified:
        raise DesignError(f"the random effects cannot be estimated{where}: {rank.unidentified}")


def find_rank(design: Design, X: FloatArray, R: FloatArray, *, n_batches: int) -> Rank:
    """Find what `check_rank` stops for."""
    free, X_whole, R_whole = design.unpenalised(), X, R
    if design.smooth.smooths:
        X, R = X @ free.basis, R @ free.basis
    n, p = X.shape
    size = np.abs(X).max(axis=0)
    extreme = [free.columns[j] for j in range(p) if not 1 / LARGEST < size[j] < LARGEST and np.ptp(X[:, j]) > 0]
    if extreme:
        return Rank(extreme=tuple(extreme))
    bad = dependent_columns(R, size) if p else {}
    # As mgcv: curves may not have more coefficients than there are rows, however they are penalised.
    p = max(p, len(design.columns) - sum(smooth.df for smooth, _ in design.random_effects))
    saturated = ""
    if n - p - n_batches <= 0:
        held = f"{count(n_batches, 'batch', 'batches')} and " if n_batches else ""
        saturated = f"{count(n, 'row')} for {held}{count(p, 'covariate column')} leave no residual variance"
    if bad or saturated:
        reasons = _reasons(free, X, bad, as_written(design), many_levels(design, n), batches=n_batches > 0)
        return Rank(dependent=tuple(reasons), saturated=saturated)
    return Rank(unidentified=find_unidentified(design, X_whole, R_whole, n_batches))


def _reasons(
    design: Unpenalised,
    X: FloatArray,
    bad: dict[int, list[int]],
    written: Mapping[str, str],
    many: Mapping[str, str],
    *,
    batches: bool,
) -> Iterator[tuple[str, str, str]]:
    """Say why columns are dependent; a term is named as a whole if one reason holds for all its columns.

    Parameters
    ----------
    bad : the columns, and those that each is a combination of.
    written : what terms are called; many : those with too many levels, which are named as a whole, and why.
    """
    term_of = {j: term for term, columns in design.term_slices.items() for j in range(columns.start, columns.stop)}
    reason = {}
    for j, others in bad.items():
        if np.ptp(X[:, j]) == 0:
            reason[j] = "constant: it explains nothing"
        elif not others:
            reason[j] = "confounded with batch: it is constant within every batch"
        elif not many:  # nearly every column is a combination of such a factor's
            terms = list(dict.fromkeys(written[term_of[k]] for k in others))
            if written[term_of[j]] != term_of[j] and len(terms) > 1:  # its other levels
                terms = [term for term in terms if term != written[term_of[j]]]
            names = listing(f"'{term}'" for term in terms)
            reason[j] = f"collinear: a combination of {names}{' and the batches' if batches else ''}"
    for term, columns in design.term_slices.items():
        reasons = [reason.get(j) for j in range(columns.start, columns.stop)]
        if term in many:
            yield term, written[term], many[term]
        elif reasons and reasons[0] is not None and len(set(reasons)) == 1:
            yield term, written[term], reasons[0]
        elif written[term] != term:
            yield from ((term, written[term], why) for why in dict.fromkeys(filter(None, reasons)))
        else:
            yield from ((term, design.columns[j], reason[j]) for j in range(columns.start, columns.stop) if j in reason)
