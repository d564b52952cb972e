"""The fit of a predictor, and its frozen state."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.batch.levels import BatchLevels, canonical
from pycombat_gam.errors import DataError, DesignError, OptionError
from pycombat_gam.formula import parse_formula
from pycombat_gam.predict.arguments import check_arguments, check_harmonizer
from pycombat_gam.predict.bags import calibrated_in_bags
from pycombat_gam.predict.fold import Fold, Recipe
from pycombat_gam.predict.horizons import Hazards, check_follow_up, check_horizons, risk_columns
from pycombat_gam.predict.learners import FittedLearner, Learner, argument_of_weights, learner_of
from pycombat_gam.predict.left_out import Evidence, leave_out
from pycombat_gam.predict.node_scores import NodeScores
from pycombat_gam.predict.nodes import FittedNodes, Nodes
from pycombat_gam.predict.outcome import Outcome, learn_outcome
from pycombat_gam.predict.ranking import MEAN
from pycombat_gam.predict.rows import Layout, Rows, outcome_of_units
from pycombat_gam.predict.scores import ClassScores, NumberScores, Scores
from pycombat_gam.predict.taxonomy import as_taxonomy, tree_of
from pycombat_gam.study.harmonizer import Harmonizer
from pycombat_gam.tables.intake import find_column
from pycombat_gam.types import FloatArray, IntArray
from pycombat_gam.words import count, listing

FEW_NUMBERS = 5
"""So few different whole numbers may be codes of classes."""
ANSWERED = ("set", "size", "answer", "node", "ranked", "fit", "lower", "upper", "calibration")
"""Columns of answers."""
FEWEST_SITES = 3
"""A site left out, one that calibrates, one that trains."""


@dataclass(frozen=True, eq=False)
class FittedPredictor:
    """Everything that survives the rows: K sites, U units.

    Attributes
    ----------
    layout : the columns used; outcome : what is predicted; levels : the sites.
    full, without : the fits to all sites, and without each.
    evidence : predictions of units at sites left out; raw : the same from raw features, where a harmonizer is inside.
    bags : scores (U,) of the truth by size of bag, where a harmonizer is inside.
    units : (U rows) site and ids, or the index, of every unit.
    site_rows : (K,) rows of each site; notes : what was out of the ordinary.
    """

    layout: Layout
    outcome: Outcome
    levels: BatchLevels
    full: Fold
    without: tuple[Fold, ...]
    evidence: Evidence
    raw: Evidence | None
    bags: dict[int, FloatArray]
    units: pd.DataFrame
    site_rows: IntArray
    notes: tuple[str, ...]

    @property
    def fewest(self) -> int:
        """Rows of the smallest site."""
        return int(self.site_rows.min())

    def bag_for(self, n: int, site: int | None) -> int | None:
        """Return the size of the bags that n rows are harmonized in; None: all of them together.

        Parameters
        ----------
        site : code of the site, None for a new one.
        """
        calibrated_from = int(self.site_rows.max() if site is None else self.site_rows[site])
        fits = [m for m in self.bags if m <= n]
        return max(fits) if fits and n < calibrated_from else None

    def scores(self, *, per_class: bool) -> Scores | None:
        """Return the scores of the outcome."""
        return scores_of(self.outcome, self.layout, self.full.learner, per_class=per_class)

    def predictions_left_out(self) -> pd.DataFrame:
        """Return the predictions of every unit without its site, and what was observed."""
        y = self.evidence.y
        scores = self.scores(per_class=False)
        if scores is None:
            risks = risk_columns(self.outcome.horizons, self.evidence.left_out)
            return pd.DataFrame({"time": y[:, 0], "event": y[:, 1] == 1, **risks})
        observed = np.array(self.outcome.classes, dtype=object)[y.astype(np.intp)] if self.outcome.classes else y
        return pd.DataFrame({"observed": observed, **scores.predictions(self.evidence.left_out)})

    def risks(self, rows: Rows) -> pd.DataFrame:
        """Return risk_<horizon> of every row: at a site of the fit by the model without it, as sets are."""
        P = np.full((len(rows), len(self.outcome.horizons)), np.nan)
        K = len(self.levels)
        for k in np.unique(np.minimum(rows.codes, K)):
            here = rows.codes == k if k < K else rows.codes >= K
            part = rows.take(here)
            P[here] = (self.without[k] if k < K else self.full).predict(part, part.codes)
        return pd.DataFrame(risk_columns(self.outcome.horizons, P), index=rows.index)

    def few_rows(self, rows: Rows) -> list[str]:
        """Name the sites that are harmonized from fewer rows than any site of the fit."""
        sizes = np.bincount(rows.codes)
        if self.full.harmonizer is None:
            return []
        return [
            f"site '{rows.labels[k]}' has {count(int(sizes[k]), 'row')}, fewer than any site of the fit "
            f"({self.fewest}): it is harmonized from them, and its risks may be less exact than `validation` says"
            for k in np.flatnonzero((sizes > 0) & (sizes < self.fewest))
        ]


def scores_of(outcome: Outcome, layout: Layout, learner: Learner | FittedLearner, *, per_class: bool) -> Scores | None:
    """Return the scores of an outcome; a time has none."""
    if isinstance(learner, Nodes | FittedNodes):
        return NodeScores(learner.tree, learner.shown, per_class, ranked=layout.case is not None)
    if outcome.kind == "classes":
        return ClassScores(outcome.classes, per_class, ranked=layout.case is not None)
    return NumberScores() if outcome.kind == "number" else None


def fit_predictor(params: dict[str, Any], table: pd.DataFrame) -> FittedPredictor:
    """Fit to a table; `params` are the constructor's arguments."""
    question, _ = check_arguments(params)
    harmonizer = check_harmonizer(params["harmonizer"], question, params["batch"])
    covariates = () if harmonizer is None else parse_formula(harmonizer.formula).variables
    layout = Layout(question, params["batch"], params["id"], params["case"], tuple(covariates))
    layout, notes = layout.choose(table, params["features"])
    _check_features(harmonizer, layout, table)
    outcome, y = learn_outcome(question, table)
    if question.survival:
        outcome = replace(outcome, horizons=check_horizons(params["horizons"]))
    learner = _learner(params, outcome, y, table.index)
    layout = replace(layout, missing=learner.missing)
    _check_enough_sites(find_column(table, layout.batch, "batch"), harmonizer, question.survival)
    rows, levels = layout.read(table, None)
    _check_names(layout, outcome, levels)
    of_units = outcome_of_units(rows, y, layout.case)
    _check_classes(outcome, of_units, rows, levels, learner)
    if question.survival:
        check_follow_up(outcome.horizons, y, rows.codes, levels.labels, outcome.name)
    scores = scores_of(outcome, layout, learner, per_class=params["per_class"])
    recipe = Recipe(harmonizer, layout.batch, question.right, layout.features, learner)
    full, without, evidence = leave_out(recipe, rows, y, of_units, scores, what="leaving out sites")
    raw, bags = None, {}
    if harmonizer is not None:
        plain = replace(recipe, harmonizer=None)
        raw = leave_out(plain, rows, y, of_units, scores, what="leaving out sites, raw features")[2]
        if scores is not None and not harmonizer.one_new_site:
            bags = calibrated_in_bags(without, rows, of_units, scores, params["seed"])
    site_rows = np.bincount(rows.codes, minlength=len(levels)).astype(np.intp)
    notes += [*_number_notes(outcome, y), *_notes(outcome, full, _unweighted(params["estimator"], rows))]
    return FittedPredictor(
        layout,
        outcome,
        levels,
        full,
        without,
        evidence,
        raw,
        bags,
        _units(table, rows, layout),
        site_rows,
        tuple(notes),
    )


def _learner(params: dict[str, Any], outcome: Outcome, y: FloatArray, index: pd.Index) -> Learner:
    """Return what each fold fits, for outcomes y (n,) of rows `index`."""
    survival = outcome.kind == "survival"
    learner = learner_of(params["estimator"], 2 if survival else outcome.n_classes)
    if survival:
        return Hazards(learner, outcome.horizons)
    if params["taxonomy"] is None:
        return learner
    taxonomy = as_taxonomy(params["taxonomy"])
    return Nodes(tree_of(taxonomy, outcome, y, index), taxonomy.max_size, params["estimator"])


def _check_features(harmonizer: Harmonizer | None, layout: Layout, table: pd.DataFrame) -> None:
    """The features that are harmonized are those that predict."""
    if harmonizer is None:
        return
    if not layout.features:
        raise OptionError("there is a harmonizer, but no feature to harmonize: give features, or leave it out")
    if harmonizer.features is not None:
        theirs, _ = Layout(layout.question, layout.batch, layout.id, layout.case, layout.covariates).choose(
            table, harmonizer.features
        )
        if set(theirs.features) != set(layout.features):
            raise OptionError(
                f"the harmonizer has {count(len(theirs.features), 'feature')}, the predictor "
                f"{count(len(layout.features), 'feature')}: leave features out of the harmonizer; it takes the "
                "predictor's"
            )


def _check_enough_sites(sites: pd.Series, harmonizer: Harmonizer | None, survival: bool) -> None:
    """Stop for fewer sites than it takes to leave out pairs and still train."""
    inside = harmonizer is not None and not survival
    fewest = FEWEST_SITES + inside
    sizes = sites.dropna().map(canonical).value_counts().sort_index()
    if len(sizes) < fewest:
        shown = listing(f"{label} {n}" for label, n in sizes.items())
        trains = "two train a harmonizer" if inside else "one trains"
        raise DesignError(
            f"{count(len(sizes), 'site')} ({shown or 'none'}): prediction at a new site needs at least {fewest}; one "
            f"is left out, one calibrates, {trains}"
        )


def _check_classes(outcome: Outcome, y: FloatArray, rows: Rows, levels: BatchLevels, learner: Learner) -> None:
    """Stop for classes that cannot be predicted where they are."""
    if isinstance(learner, Nodes):
        learner.check_cases(len(y), int(np.sort(np.bincount(rows.unit_site))[:-2].sum()))
        if learner.max_size is not None:
            return  # the partition puts rare classes together
    for c, label in enumerate(outcome.labels):
        sites = np.unique(rows.unit_site[y == c])
        if sites.size == 1:
            n = int((y == c).sum())
            raise DesignError(
                f"class '{label}' of {outcome.name} is at one site only, {levels.labels[sites[0]]} "
                f"({count(n, 'row')}): without that site it is unknown; leave it out, or merge it with another class"
            )


def _unweighted(estimator: object, rows: Rows) -> list[str]:
    """Say that an estimator takes no weights, where cases have several rows."""
    if rows.weights is None or estimator is None or argument_of_weights(estimator) is not None:
        return []
    most = int(np.bincount(rows.unit).max())
    return [
        f"{type(estimator).__name__} takes no sample_weight: a case of {count(most, 'row')} counts {most} times in its "
        "training"
    ]


def _notes(outcome: Outcome, full: Fold, more: list[str]) -> tuple[str, ...]:
    notes = more.copy()
    if outcome.numbered:
        notes.append(f"'{outcome.name}' holds 0 and 1 only: they are taken for two classes, and 1 for the event")
    if full.harmonizer is not None:
        notes += [str(note) for note in full.harmonizer.summary().notes]
    return tuple(notes)


def _number_notes(outcome: Outcome, y: FloatArray) -> list[str]:
    """Say that an outcome of a few whole numbers is taken for a number."""
    if outcome.kind != "number":
        return []
    values = np.unique(y)
    if values.size > FEW_NUMBERS or not (values == np.floor(values)).all():
        return []
    named = listing((f"{value:g}" for value in values), FEW_NUMBERS)
    return [f"'{outcome.name}' holds {named} only and is taken for a number: factor({outcome.name}) makes them classes"]


def _check_names(layout: Layout, outcome: Outcome, levels: BatchLevels) -> None:
    """Stop for columns and sites that have the names of columns and rows of the tables that come back."""
    seen = ("time", "event") if outcome.kind == "survival" else ("observed",)
    taken = {*ANSWERED, *seen, *(f"p_{label}" for label in outcome.labels)}
    named = [*layout.ids, *([] if layout.case is None else [layout.case])]
    clash = [name for name in named if name in {*taken, *(() if name == layout.batch else ("site",))}]
    if layout.batch in taken:
        clash.append(layout.batch)
    if clash:
        raise OptionError(f"column '{clash[0]}' has the name of a column of answers or of `left_out`: rename it")
    if MEAN in levels.labels:
        raise DataError(f"a site is called '{MEAN}', as tables call the mean over sites: rename it")


def _units(table: pd.DataFrame, rows: Rows, layout: Layout) -> pd.DataFrame:
    """Name every unit: its site, and ids, case or index."""
    named: dict[str, Any] = {"site": np.array(rows.labels, dtype=object)[rows.unit_site]}
    if layout.case is not None:
        named[layout.case] = rows.index.astype(str).to_numpy()
    elif layout.ids:
        named |= {name: find_column(table, name, "id").astype(str).to_numpy() for name in layout.ids}
    else:
        named["row"] = np.array([str(label) for label in rows.index.to_flat_index()], dtype=object)
    return pd.DataFrame(named)
