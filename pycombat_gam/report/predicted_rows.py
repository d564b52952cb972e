"""Rows with known outcomes that are not those of the fit: predicted, and compared with what happened."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pycombat_gam.errors import DataError, PcgWarning
from pycombat_gam.predict.answers import CALIBRATION
from pycombat_gam.predict.calibration import Held, coverage_table
from pycombat_gam.predict.horizon_measures import measured_at_horizons
from pycombat_gam.predict.left_out import Evidence
from pycombat_gam.predict.node_scores import NodeScores
from pycombat_gam.predict.outcome import missing_outcomes, read_outcome
from pycombat_gam.predict.predictor import Predictor
from pycombat_gam.predict.rows import Rows, outcome_of_units
from pycombat_gam.predict.scores import Scores
from pycombat_gam.predict.site_measures import measured_by_site, pooled_over_sites
from pycombat_gam.tables.intake import find_column
from pycombat_gam.types import BoolArray, FloatArray
from pycombat_gam.words import rows_named

HELPERS = ["scale", "value", "variance"]
"""Columns that serve pooling."""


@dataclass(frozen=True, eq=False)
class Predicted:
    """Answers to rows, and what happened.

    Attributes
    ----------
    rows, sites : how many units and sites; how : units by what calibrated their sets.
    coverage : of the sets, by site and class; empty without sets.
    by_site, overall : measures.
    notes : what `predict` warned of.
    """

    rows: int
    sites: int
    how: dict[str, int]
    coverage: pd.DataFrame
    by_site: pd.DataFrame
    overall: pd.DataFrame
    notes: tuple[str, ...]


def predicted_rows(model: Predictor, table: pd.DataFrame) -> Predicted | None:
    """Predict rows and compare; None where they are the rows of the fit, which were judged without their sites.

    Raises
    ------
    DataError
        For missing outcomes, and what `predict` refuses.
    """
    fitted = model.fitted
    rows, y = _read(model, table)
    if _same(model, table, rows, y):
        return None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PcgWarning)
        answers = model.predict(table)
    notes = tuple(str(item.message) for item in caught if issubclass(item.category, PcgWarning))
    present, site = np.unique(rows.unit_site, return_inverse=True)
    labels = tuple(str(rows.labels[code]) for code in present)
    empty = np.zeros((len(y), 0))
    scores = model.validation.scores
    evidence = Evidence(site.astype(np.intp), y, _predictions(answers, scores), empty, empty)
    measured = (
        measured_at_horizons(fitted.outcome, evidence, labels)
        if scores is None
        else measured_by_site(fitted.outcome, scores, evidence, labels)
    )
    covered = _covered(model, answers, y)
    coverage = pd.DataFrame()
    if covered is not None:
        size = answers["size"] if "size" in answers else answers["upper"] - answers["lower"]
        held = Held(covered.astype(np.float64), size.to_numpy(dtype=np.float64), evidence.site)
        group = y.astype(np.intp) if fitted.outcome.classes else np.zeros(len(y), dtype=np.intp)
        coverage = coverage_table(held, group, labels, fitted.outcome.labels)
    how = answers[CALIBRATION].value_counts(sort=False).to_dict() if CALIBRATION in answers else {}
    return Predicted(
        len(y),
        len(labels),
        {str(name): int(n) for name, n in how.items()},
        coverage,
        measured.drop(columns=HELPERS),
        pooled_over_sites(measured),
        notes,
    )


def _read(model: Predictor, table: pd.DataFrame) -> tuple[Rows, FloatArray]:
    fitted = model.fitted
    question = fitted.layout.question
    if not isinstance(table, pd.DataFrame):
        raise DataError(f"the table is a {type(table).__name__}; give a pandas DataFrame")
    absent = missing_outcomes(question, table)
    if absent.any():
        raise DataError(
            f"the outcome '{question.name}' is missing in {rows_named(table.index[absent])}: a report compares "
            "predictions with outcomes; leave these rows out"
        )
    rows, _ = fitted.layout.read(table, fitted.levels)
    return rows, outcome_of_units(rows, read_outcome(fitted.outcome, question, table), fitted.layout.case)


def _same(model: Predictor, table: pd.DataFrame, rows: Rows, y: FloatArray) -> bool:
    """Tell whether rows are those of the fit: as many, with the same sites, ids and outcomes in the same order."""
    fitted = model.fitted
    if len(y) != len(fitted.units) or not np.array_equal(y, fitted.evidence.y):
        return False
    if not np.array_equal(rows.unit_site, fitted.evidence.site):
        return False
    layout = fitted.layout
    if layout.case is not None:
        return fitted.units[layout.case].tolist() == rows.index.astype(str).tolist()
    ids = [name for name in layout.ids if name in fitted.units]
    return all(fitted.units[name].tolist() == find_column(table, name, "id").astype(str).tolist() for name in ids)


def _predictions(answers: pd.DataFrame, scores: Scores | None) -> FloatArray:
    """Return the predictions that answers were made of; of a taxonomy, NaN for nodes that they do not show."""
    names = [name for name in answers if str(name) == "fit" or str(name).startswith(("p_", "risk_"))]
    values = answers[names].to_numpy(dtype=np.float64)
    if not isinstance(scores, NodeScores):
        return values
    P = np.full((len(answers), len(scores.tree.names)), np.nan)
    P[:, 0], P[:, list(scores.shown)] = 1.0, values
    return P


def _covered(model: Predictor, answers: pd.DataFrame, y: FloatArray) -> BoolArray | None:
    """Tell whether each set holds the truth; None without sets."""
    if "lower" in answers:
        inside: BoolArray = ((answers["lower"] <= y) & (y <= answers["upper"])).to_numpy()
        return inside
    if "set" not in answers:
        return None
    classes = model.fitted.outcome.classes
    return np.array([classes[int(code)] in held for code, held in zip(y, answers["set"], strict=True)], dtype=np.bool_)
