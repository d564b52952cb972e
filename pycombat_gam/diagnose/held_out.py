"""Rows harmonized by models that did not see them: by fold to predict sites, by site to predict covariates."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from pycombat_gam.batch.levels import canonical
from pycombat_gam.diagnose.adjusted import CovariatesAlone
from pycombat_gam.diagnose.site_prediction import Folds, Seen
from pycombat_gam.diagnose.study import Study
from pycombat_gam.errors import PcgWarning
from pycombat_gam.formula.roles import without
from pycombat_gam.progress import progress_bar
from pycombat_gam.study.harmonizer import Harmonizer
from pycombat_gam.study.states import BEFORE
from pycombat_gam.types import BoolArray, FloatArray, IntArray


def as_given(study: Study, Y: FloatArray, folds: Folds) -> Iterator[Seen]:
    """Subtract the covariates' part of the features, estimated for each fold without its rows.

    Parameters
    ----------
    Y : (n, k) of one state, without missing cells.
    """
    for train, test in folds:
        yield _seen(study, Y, folds, train, test)


def by_fold(study: Study, model: Harmonizer, folds: Folds, columns: IntArray, mask: BoolArray | None) -> Iterator[Seen]:
    """Harmonize all rows by a model fitted without a fold, and subtract the covariates' part, fitted likewise.

    Parameters
    ----------
    columns : (k,) the features to return, without missing cells.
    mask : (n,) rows that may estimate; None for all.
    """
    with progress_bar("harmonizing without each fold", folds.n_folds) as advance:
        for train, test in folds:
            rows, use = folds.units.rows(train), folds.units.rows(train | test)
            fitted = _fit(study, model, rows if mask is None else rows & mask)
            values = np.full((study.codes.size, columns.size), np.nan)
            values[use] = _apply(study, fitted, use)[:, columns]
            yield _seen(study, values, folds, train, test)
            advance()


def _seen(study: Study, values: FloatArray, folds: Folds, train: BoolArray, test: BoolArray) -> Seen:
    """Return units less the covariates' part fitted to the training rows, and the error that its test rows share.

    Sites are not in this fit. With sites in it, the coefficients would carry the error of a site's rows into the means
    of its training and test rows alike; without them, residuals of training rows are independent of that error.
    """
    rows, use = folds.units.rows(train), folds.units.rows(train | test)
    alone = CovariatesAlone.of(study, values, rows)
    free = np.full(values.shape, np.nan)
    free[use] = alone.off(study.table[use], values[use])
    units = folds.units.mean(free)
    error = alone.shared_error(study.table[use], study.codes[use], len(study.sites), units[train].var(axis=0))
    return Seen(units, error)


def by_site(
    study: Study, model: Harmonizer, columns: IntArray, target: str, mask: BoolArray | None
) -> Iterator[FloatArray]:
    """Harmonize all rows by a model fitted without one site, whose effects are then estimated from its own rows.

    No model here knows the covariate `target`: its terms are left out of the formula. Neither the fit to the other
    sites nor the site's estimate has seen what is to be predicted.

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
            # Without its rows the reference site is unknown: the other sites are then brought to their mean.
            left_out = model.ref_batch is not None and canonical(model.ref_batch) == study.sites[b]
            changed: dict[str, Any] = {"formula": formula, **({"ref_batch": None} if left_out else {})}
            fitted = _fit(study, model, others if mask is None else others & mask, **changed)
            values = np.empty((study.codes.size, columns.size))
            values[others] = _apply(study, fitted, others)[:, columns]
            values[~others] = _apply(study, fitted, ~others, new_site=True)[:, columns]
            yield values
            advance()


def _fit(study: Study, model: Harmonizer, rows: BoolArray, **changed: Any) -> Harmonizer:
    unfitted = model.unfitted(**{"features": list(study.features), **changed})
    with warnings.catch_warnings():
        # The original fit has already warned about this table.
        warnings.simplefilter("ignore", PcgWarning)
        fitted: Harmonizer = unfitted.fit(study.states[BEFORE][rows], study.table[rows])
    return fitted


def _apply(study: Study, fitted: Harmonizer, rows: BoolArray, *, new_site: bool = False) -> FloatArray:
    Y, table = study.states[BEFORE][rows], study.table[rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PcgWarning)
        knows = fitted.with_site(Y, table) if new_site else fitted
        return np.asarray(knows.transform(Y, table), dtype=np.float64)
