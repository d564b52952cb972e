"""Rows harmonized by models that did not see them: fold by fold for sites, site by site for covariates."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from pycombat_gam.batch.levels import canonical
from pycombat_gam.diagnose.adjusted import adjusted, random_columns
from pycombat_gam.diagnose.site_prediction import Folds
from pycombat_gam.diagnose.study import BEFORE, Study
from pycombat_gam.errors import PcgWarning
from pycombat_gam.formula.roles import without
from pycombat_gam.progress import progress_bar
from pycombat_gam.types import BoolArray, FloatArray, IntArray


def by_fold(study: Study, model: Any, folds: Folds, columns: IntArray, mask: BoolArray | None) -> Iterator[FloatArray]:
    """Harmonize all rows without those of a fold, and take off the covariates' part estimated without them too.

    Parameters
    ----------
    columns : (k,) the features to return, in which no cell is missing.
    mask : (n,) rows that may estimate; None for all.

    Yields
    ------
    (u, k) array
        For each fold, a row per unit; those in no fold are missing.
    """
    with progress_bar("harmonizing without each fold", folds.n_folds) as advance:
        for train, test in folds:
            rows, use = folds.units.rows(train), folds.units.rows(train | test)
            fitted = _fit(study, model, rows if mask is None else rows & mask)
            values = np.full((study.codes.size, columns.size), np.nan)
            values[use] = _apply(study, fitted, use)[:, columns]
            (covariates,) = adjusted(study.part(rows, columns), values[rows])
            fixed = ~random_columns(covariates.fit.design)
            X = covariates.fit.design.on(study.table[use])[:, fixed] - covariates.fit.center[fixed]
            values[use] = covariates.fit.design.less_offset(values[use], study.table[use])
            values[use] -= X @ covariates.fit.coefficients[fixed]
            yield folds.units.mean(values)
            advance()


def by_site(study: Study, model: Any, columns: IntArray, target: str, mask: BoolArray | None) -> Iterator[FloatArray]:
    """Harmonize all rows by a model fitted without those of a site, which is then estimated from its own rows.

    No model here knows the covariate `target`: its terms are left out of the formula, so that neither the others' fit
    nor the estimate of the site has seen what is to be predicted.

    Parameters
    ----------
    columns : (k,) the features to return; mask : (n,) rows that may estimate, None for all.

    Yields
    ------
    (n, k) array
        For each site.
    """
    formula = str(without(study.formula, target))
    with progress_bar(f"harmonizing without each site, {target} unknown", len(study.sites)) as advance:
        for b in range(len(study.sites)):
            others = study.codes != b
            # A reference site that is left out cannot be gone to: the sites then meet at their mean.
            gone = model.get_params()["ref_batch"] is not None and canonical(model.ref_batch) == study.sites[b]
            changed: dict[str, Any] = {"formula": formula, **({"ref_batch": None} if gone else {})}
            fitted = _fit(study, model, others if mask is None else others & mask, **changed)
            values = np.empty((study.codes.size, columns.size))
            values[others] = _apply(study, fitted, others)[:, columns]
            values[~others] = _apply(study, fitted, ~others, new_site=True)[:, columns]
            yield values
            advance()


def _adapts(model: Any) -> bool:
    """Tell whether a new site makes a new model (a flow), or is estimated when rows are harmonized (ComBat)."""
    return hasattr(model, "adapt")


def _fit(study: Study, model: Any, rows: BoolArray, **changed: Any) -> Any:
    params = {**model.get_params(), "features": list(study.features), **changed}
    if not _adapts(model):
        params["on_unseen"] = "estimate"
    again = type(model)(**params)
    with warnings.catch_warnings():
        # What is odd in the table was said when the model itself was fitted.
        warnings.simplefilter("ignore", PcgWarning)
        return again.fit(study.states[BEFORE][rows], study.table[rows])


def _apply(study: Study, fitted: Any, rows: BoolArray, *, new_site: bool = False) -> FloatArray:
    Y, table = study.states[BEFORE][rows], study.table[rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PcgWarning)
        knows = fitted.adapt(Y, table) if new_site and _adapts(fitted) else fitted
        return np.asarray(knows.transform(Y, table), dtype=np.float64)
