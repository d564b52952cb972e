"""Answers for new rows: predictions, and sets that are calibrated as the site of each row allows.

- A new site: all sites calibrate, and the models without each site answer together; in bags where it has few rows.
- A site of the fit: the model without it answers, calibrated by the site's own rows.
- A new site with labelled rows: the model of all sites answers, calibrated by these rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.predict.bags import predict_in_bags
from pycombat_gam.predict.calibration import Demand, thresholds, thresholds_within
from pycombat_gam.predict.fitted import FittedPredictor
from pycombat_gam.predict.fold import Fold
from pycombat_gam.predict.rows import Rows
from pycombat_gam.predict.scores import Scores
from pycombat_gam.predict.thresholds import rows_needed
from pycombat_gam.types import BoolArray, FloatArray
from pycombat_gam.words import count, listing

CALIBRATION = "calibration"
"""The column that says what calibrated a set."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Rows with known outcomes at sites of new rows: outcomes y of their units."""

    rows: Rows
    y: FloatArray


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers for U units.

    Attributes
    ----------
    table : a row for each unit; notes : what the caller should know of them.
    new : whether rows of a new site were answered without labels.
    """

    table: pd.DataFrame
    notes: tuple[str, ...]
    new: bool


def answer(
    fitted: FittedPredictor, demand: Demand, scores: Scores, rows: Rows, labelled: Labelled | None, seed: int
) -> Answers:
    """Answer every unit of the rows."""
    parts: list[tuple[BoolArray, dict[str, Any], str]] = []
    notes: list[str] = []
    K = len(fitted.levels)
    labels = np.array(rows.labels, dtype=object)
    with_labels = set() if labelled is None else set(np.array(labelled.rows.labels, dtype=object)[labelled.rows.codes])
    whole: list[int] = []
    notes += _few(fitted, rows, with_labels)
    for code in np.unique(rows.codes):
        site, here = str(labels[code]), rows.codes == code
        units = rows.unit_site == code
        if site in with_labels and labelled is not None:
            fold = fitted.without[code] if code < K else fitted.full
            columns = _by_labels(fold, demand, scores, rows.take(here), units, labelled, site, notes)
            parts.append((units, columns, "labelled rows"))
            continue
        m = fitted.bag_for(int(here.sum()), int(code) if code < K else None)
        if code < K:
            columns = _by_own_rows(fitted, demand, scores, rows.take(here), int(code), units, m, seed, notes)
            parts.append((units, columns, "own rows"))
        elif m is None:
            whole.append(int(code))
        else:
            columns = _at_new_sites(fitted, demand, scores, rows.take(here), units, m, seed)
            parts.append((units, columns, f"all sites, bags of {m}"))
    if whole:
        here, units = np.isin(rows.codes, whole), np.isin(rows.unit_site, whole)
        parts.append((units, _at_new_sites(fitted, demand, scores, rows.take(here), units, None, seed), "all sites"))
    table = pd.concat(
        [pd.DataFrame({**columns, CALIBRATION: how}, index=np.flatnonzero(units)) for units, columns, how in parts]
    ).sort_index()
    table.index = rows.index
    return Answers(table, tuple(notes), any(how.startswith("all sites") for _, _, how in parts))


def _few(fitted: FittedPredictor, rows: Rows, with_labels: set[str]) -> list[str]:
    """Say which sites are harmonized from fewer rows than any site of the fit, labelled rows aside."""
    sizes = np.bincount(rows.codes)
    small = np.flatnonzero((sizes > 0) & (sizes < fitted.fewest))
    few = [k for k in small if rows.labels[k] not in with_labels]
    if fitted.full.harmonizer is None or not few:
        return []
    named = listing([f"'{rows.labels[k]}' ({count(int(sizes[k]), 'row')})" for k in few], 5)
    what = f"{'site' if len(few) == 1 else 'sites'} {named}: fewer than any site of the fit ({fitted.fewest})"
    if fitted.bags:
        return [f"{what}; harmonized, and sets calibrated, in bags of as many rows"]
    return [f"{what}; harmonized from them, and sets may hold the truth less often than they say"]


def _predict(fold: Fold, rows: Rows, units: BoolArray, m: int | None, seed: int) -> FloatArray:
    """Predict some units, (units, C)."""
    P = fold.predict(rows, rows.codes) if m is None else predict_in_bags(fold, rows, m, seed)
    return rows.by_unit(P, rows)[units]


def _at_new_sites(
    fitted: FittedPredictor, demand: Demand, scores: Scores, rows: Rows, units: BoolArray, m: int | None, seed: int
) -> dict[str, Any]:
    evidence = fitted.evidence
    P = _predict(fitted.full, rows, units, m, seed)
    truth = scores.truth(evidence.left_out, evidence.y) if m is None else fitted.bags[m]
    q = thresholds(demand, scores, truth, evidence.y, evidence.site)
    if not demand.guarantee:
        return scores.columns(P, scores.extremes(P), q)
    extremes = np.min([scores.extremes(_predict(fold, rows, units, m, seed)) for fold in fitted.without], axis=0)
    return scores.columns(P, extremes, q)


def _by_own_rows(
    fitted: FittedPredictor,
    demand: Demand,
    scores: Scores,
    rows: Rows,
    site: int,
    units: BoolArray,
    m: int | None,
    seed: int,
    notes: list[str],
) -> dict[str, Any]:
    evidence = fitted.evidence
    own = evidence.site == site
    truth = scores.truth(evidence.left_out, evidence.y) if m is None else fitted.bags[m]
    q = thresholds_within(demand.level, scores, truth[own], evidence.y[own])
    notes += _too_few(fitted, demand, scores, evidence.y[own], q, fitted.levels.labels[site])
    P = _predict(fitted.without[site], rows, units, m, seed)
    return scores.columns(P, scores.extremes(P), q)


def _by_labels(
    fold: Fold,
    demand: Demand,
    scores: Scores,
    rows: Rows,
    units: BoolArray,
    labelled: Labelled,
    site: str,
    notes: list[str],
) -> dict[str, Any]:
    """Calibrate by labelled rows, which are harmonized together with the new ones."""
    theirs = labelled.rows
    at = np.array(theirs.labels, dtype=object)[theirs.codes] == site
    there = theirs.take(at)
    both = replace(
        rows,
        table=pd.concat([rows.table, there.table]),
        Y=np.vstack([rows.Y, there.Y]),
        codes=np.zeros(len(rows) + len(there), dtype=np.intp),
        unit=np.concatenate([rows.unit, there.unit]),
    )
    P = fold.predict(both, both.codes)
    labelled_units = np.unique(there.unit)
    known = there.by_unit(P[len(rows) :], there)[labelled_units]
    y = labelled.y[labelled_units]
    q = thresholds_within(demand.level, scores, scores.truth(known, y), y)
    notes += _too_few(None, demand, scores, y, q, site)
    new = rows.by_unit(P[: len(rows)], rows)[units]
    return scores.columns(new, scores.extremes(new), q)


def _too_few(
    fitted: FittedPredictor | None, demand: Demand, scores: Scores, y: FloatArray, q: FloatArray, site: str
) -> list[str]:
    """Say for what a site has too few rows to calibrate."""
    if np.isfinite(q).all():
        return []
    sizes = np.bincount(scores.strata(y), minlength=q.size)
    whose = "of the fit" if fitted is not None else "labelled"
    names = scores.names_of_strata()
    short = [f"{name} {sizes[s]}" if name else f"{sizes[s]}" for s, name in enumerate(names) if np.isinf(q[s])]
    return [
        f"site '{site}' has too few rows {whose} to calibrate its own sets at level {demand.level:g} "
        f"({listing(short)}; {rows_needed(demand.level)} needed{' of a class' if names[0] else ''}): "
        f"{'these classes stay in every set' if names[0] else 'its sets are unbounded'}"
    ]
