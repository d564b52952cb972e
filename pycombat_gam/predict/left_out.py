"""Every site left out in turn, and every pair of sites: what prediction at a new site is judged and calibrated by.

f is fitted to all sites, f₋ₖ without site k, f₋₍ⱼ,ₖ₎ without sites j and k. The scores of f₋ₖ at site k calibrate the
sets of a new site. The pairs repeat that for each known site j as if it were new: the scores of f₋₍ⱼ,ₖ₎ at k calibrate,
and the sets are those of f₋₍ⱼ,ₖ₎ at j over all k. Nothing computed without a site has seen its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from pycombat_gam.errors import DataError, PcgError
from pycombat_gam.predict.fold import Fold, Recipe
from pycombat_gam.predict.rows import Rows
from pycombat_gam.predict.scores import Scores
from pycombat_gam.progress import progress_bar
from pycombat_gam.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Evidence:
    """Predictions of U units without their site, K sites.

    Attributes
    ----------
    site : (U,) codes; y : (U,) or (U, 2) outcomes.
    left_out : (U, C) predictions of f₋ₖ at site k.
    pair_truth : (U, K) scores, at a unit's own site k, of what came true, by f₋₍ⱼ,ₖ₎; NaN for j = k.
    pair_extremes : (U, E) smallest extremes, at a unit's own site j, of f₋₍ⱼ,ₖ₎ over all k.
        Both have no columns where the outcome has no scores.
    """

    site: IntArray
    y: FloatArray
    left_out: FloatArray
    pair_truth: FloatArray
    pair_extremes: FloatArray

    @property
    def n_sites(self) -> int:
        """How many sites there are."""
        return int(self.site.max()) + 1


def leave_out(
    recipe: Recipe, rows: Rows, y: FloatArray, of_units: FloatArray, scores: Scores | None, *, what: str
) -> tuple[Fold, tuple[Fold, ...], Evidence]:
    """Fit to all sites, without each, and without each pair.

    Parameters
    ----------
    y : outcomes of the rows; of_units : outcomes of the units, (U,) or (U, 2).
    scores : of the outcome; None leaves out the pairs.
    what : is being done, for the progress bar.

    Returns
    -------
    full, without, evidence
        The fits to all sites and without each, and the predictions at sites left out.
    """
    K = int(rows.codes.max()) + 1
    pairs = list(combinations(range(K), 2)) if scores is not None else []
    without: list[Fold] = []
    left_out: FloatArray | None = None
    with progress_bar(what, 1 + K + len(pairs)) as advance:
        full = recipe.fit(rows, y, whole=True)
        advance()
        for k in range(K):
            fold, P = _fit_and_predict(recipe, rows, y, (k,))
            without.append(fold)
            left_out = np.full((len(of_units), P.shape[1]), np.nan) if left_out is None else left_out
            left_out[rows.unit_site == k] = P[rows.unit_site == k]
            advance()
        assert left_out is not None
        truth, extremes = np.zeros((len(of_units), 0)), np.zeros((len(of_units), 0))
        if scores is not None:
            truth = np.full((len(of_units), K), np.nan)
            extremes = np.full(scores.extremes(left_out).shape, np.inf)
            for pair in pairs:
                _, P = _fit_and_predict(recipe, rows, y, pair)
                for here, other in (pair, pair[::-1]):
                    at = rows.unit_site == here
                    truth[at, other] = scores.truth(P[at], of_units[at])
                    extremes[at] = np.minimum(extremes[at], scores.extremes(P[at]))
                advance()
    return full, tuple(without), Evidence(rows.unit_site, of_units, left_out, truth, extremes)


def _fit_and_predict(recipe: Recipe, rows: Rows, y: FloatArray, sites: tuple[int, ...]) -> tuple[Fold, FloatArray]:
    """Fit without sites and predict their units; the other units are NaN, (U, C)."""
    out = np.isin(rows.codes, sites)
    named = " and ".join(f"'{rows.labels[k]}'" for k in sites)
    try:
        fold = recipe.fit(rows.take(~out), y[~out])
        there = rows.take(out)
        return fold, rows.by_unit(fold.predict(there, there.codes), there)
    except PcgError as error:
        kind = type(error) if isinstance(error, DataError) else DataError
        raise kind(f"the model without {named}, which predicts there, cannot be made: {error}") from error
