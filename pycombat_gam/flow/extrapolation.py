"""Warnings about extrapolation beyond the rows of the fit, once per query.

A feature's curve is extrapolated where a covariate leaves the range of the fit. A site's map is extrapolated where that
site had no similar row. A map of residuals is the same for all covariates, as ComBat's is, so rows harmonized by it
extrapolate no map. A counterfactual that names a site or a covariate claims more: what a person *would have been*
there. It is checked whatever the map, and the note says whether it rests on extrapolation or on an assumption.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from pycombat_gam.errors import PcgWarning
from pycombat_gam.flow.fitted import Fitted
from pycombat_gam.flow.model.scm import Coded
from pycombat_gam.flow.nodes.support import ROUNDING
from pycombat_gam.types import BoolArray, FloatArray, IntArray

EXTRAPOLATED = "the site's effect is extrapolated there"
ASSUMED = "the model assumes the same site effect there"


def of_rows(fitted: Fitted, table: pd.DataFrame, site: IntArray) -> list[str]:
    """Say where rows lie outside the range of the fit; site : (n,) their own sites."""
    model = fitted.model
    coded = model.code(table, site, lenient=True)
    notes = fitted.support.outside(model.graph, coded)
    if model.features.site_meets_covariates:
        notes += _at_sites(fitted, coded, site, EXTRAPOLATED)
    return notes


def of_harmonized(fitted: Fitted, table: pd.DataFrame, site: IntArray, to: int | None) -> list[str]:
    """Say where rows lie outside the range of the fit, or go to a site (None: all) that had no similar rows."""
    model = fitted.model
    coded = model.code(table, site, lenient=True)
    notes = fitted.support.outside(model.graph, coded)
    if not model.features.site_meets_covariates:
        return notes
    targets = np.flatnonzero(model.shares > 0) if to is None else np.array([to])
    places = [site, *(np.full(len(site), target) for target in targets)]
    # A row at its own site counts once.
    kept = [np.ones(len(site), dtype=bool), *(site != target for target in targets)]
    everywhere = {name: np.concatenate([values[rows] for rows in kept]) for name, values in coded.items()}
    at = np.concatenate([place[rows] for place, rows in zip(places, kept, strict=True)])
    return notes + _at_sites(fitted, everywhere, at, EXTRAPOLATED)


def of_action(fitted: Fitted, changed: Coded, moved: Collection[str], before: Coded | None = None) -> list[str]:
    """Say where the nodes that an action moves leave the range of the fit.

    Parameters
    ----------
    changed : the nodes' values under the action; moved : the nodes that it may move.
    before : their values without it; rows that it does not change are not checked.
    """
    if not moved:
        return []
    model, support = fitted.model, fitted.support
    rows = np.ones(len(changed[model.graph.batch]), dtype=bool)
    if before is not None:
        rows = np.logical_or.reduce([_differs(changed[name], before[name]) for name in moved])
    coded: dict[str, FloatArray | IntArray] = {name: values[rows] for name, values in changed.items()}
    site = np.asarray(coded[model.graph.batch], dtype=np.intp)
    ending = EXTRAPOLATED if model.features.site_meets_covariates else ASSUMED
    notes = support.outside(model.graph, coded, moved)
    notes += _at_sites(fitted, coded, site, ending, None if model.graph.batch in moved else moved)
    if notes and notes != support.unknown():
        notes[0] = f"under this action {notes[0]}"
    return notes


def _at_sites(
    fitted: Fitted, coded: Coded, site: IntArray, ending: str, names: Collection[str] | None = None
) -> list[str]:
    """Return the notes of `Support.at_sites` with their meaning, or that the model file cannot tell."""
    beyond = fitted.support.at_sites(fitted.model.graph, coded, site, names)
    return [f"{'; '.join(beyond)}: {ending}"] if beyond else fitted.support.unknown()


def warn_of(notes: Sequence[str]) -> None:
    """Give all notes in one warning, at the line that called the query."""
    if notes:
        warnings.warn("; ".join(notes), PcgWarning, stacklevel=3)


def _differs(now: FloatArray | IntArray, before: FloatArray | IntArray) -> BoolArray:
    return np.asarray(np.abs(now - before) > ROUNDING * np.abs(before))
