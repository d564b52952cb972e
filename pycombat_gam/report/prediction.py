"""The report of a prediction: the guarantee first, then how it did at sites left out, and how to repeat it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from pycombat_gam.predict.predictor import Predictor
from pycombat_gam.predict.site_measures import MEAN
from pycombat_gam.predict.validation import Validation
from pycombat_gam.progress import tracked
from pycombat_gam.report.parts import Figure, Items, Part, Section, Sentences, Table
from pycombat_gam.report.predicted_rows import Predicted, predicted_rows
from pycombat_gam.report.prediction_methods import methods, reproduce
from pycombat_gam.report.prediction_verdict import ALL, NESTED, TRADE, compared
from pycombat_gam.report.tripod import tripod_table
from pycombat_gam.words import count, joined, percent

TITLE = "Prediction report"
SHOWN_AT = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Thresholds at which the report's table has net benefit."""
LEGEND = {
    "features": "harmonized inside every fold, or raw",
    "class": "the class that counts as the event; all: of all rows",
    "n": "rows, or cases",
    "events": "of them, those with the event",
    "se": "its standard error",
    "lower": "lower end of the 95 % interval",
    "upper": "upper end of the 95 % interval",
    "new_lower": "lower end of the 95 % interval for a new site",
    "new_upper": "upper end of the 95 % interval for a new site",
    "tau2": "variance between sites, on the scale of pooling",
    "sites": "sites that have the measure",
    "scale": "scale of pooling",
    "sets": "guaranteed or estimated",
    "coverage": "share of rows whose set held the truth; over sites: their mean",
    "worst": "the smallest coverage of a site",
    "sites_at_level": "share of sites with at least the level asked for",
    "size": "mean number of classes in a set, or width",
    "difference": "harmonized less raw, the mean of differences at sites",
    "net_benefit": "of acting above the threshold, mean over sites",
    "treat_all": "of acting on all, mean over sites",
}


def sections(
    model: Predictor,
    table: pd.DataFrame,
    *,
    command: str | Sequence[str] | None = None,
    data: str | Path | None = None,
) -> tuple[Section, ...]:
    """Return the sections of a prediction's report.

    Parameters
    ----------
    table : the rows of the fit, of which nothing is predicted again, or others with outcomes.
    command : the shell command that did it; data : the file that the table was read from.
    """
    from pycombat_gam.report.prediction_figures import (
        calibration_figures,
        coverage_figures,
        decision_figures,
        forest_figures,
    )

    predicted = predicted_rows(model, table)
    draw = [
        partial(forest_figures, model),
        partial(coverage_figures, model),
        partial(calibration_figures, model),
        partial(decision_figures, model),
    ]
    forests, coverage, calibration, decisions = [each() for each in tracked(draw, "drawing the report", len(draw))]
    return (
        unseen(model, forests, coverage, calibration, decisions),
        *(() if predicted is None else (these_rows(model, predicted),)),
        tripod(model),
        methods(model),
        notes(model, predicted),
        reproduce(model, command=command, data=data, other=predicted is not None),
    )


def unseen(
    model: Predictor,
    forests: Sequence[Figure] = (),
    coverage: Sequence[Figure] = (),
    calibration: Sequence[Figure] = (),
    decisions: Sequence[Figure] = (),
) -> Section:
    """Show how prediction did at sites left out: measures, sets, calibration, decisions, harmonized beside raw."""
    validation = model.validation
    K = count(len(model.fitted.levels), "site")
    inside = "" if model.fitted.full.harmonizer is None else " It was harmonized as a new site, without outcomes."
    parts: list[Part] = [
        Sentences(f"Each of {K} was left out in turn, and predicted by models that saw none of its rows.{inside}"),
        *forests,
        _table("unseen-overall", "Measures over sites, by random effects", validation.overall, "overall"),
        _table("unseen-by-site", "Measures at each site left out", validation.by_site, "by_site"),
    ]
    if len(validation.coverage):
        parts += [
            Sentences(_sets_sentence(validation), lead="Sets."),
            *coverage,
            _table("unseen-sets", "Coverage and size of sets over sites", validation.sets, "sets"),
            _table("unseen-coverage", "Coverage and size of sets by site and class", validation.coverage, "coverage"),
        ]
    parts += [
        Sentences("Do predictions agree with what happened, at each site?", lead="Calibration."),
        *calibration,
        _table("unseen-calibration", "Calibration at each site left out", validation.calibration, "calibration"),
    ]
    if len(validation.net_benefit):
        parts += [
            Sentences("Is acting on the prediction better than acting on all patients, or none?", lead="Decisions."),
            *decisions,
            _table("unseen-benefit", "Net benefit, mean over sites", _benefit(validation), "net_benefit"),
        ]
    return Section("unseen", "Prediction at unseen sites", (*parts, *_harmonize_or_not(validation)))


def these_rows(model: Predictor, predicted: Predicted) -> Section:
    """Show how prediction did at rows that are not those of the fit."""
    level = percent(model.validation.demand.level)
    texts = [f"{count(predicted.rows, 'row')} of {count(predicted.sites, 'site')} were predicted by the model."]
    coverage = predicted.coverage
    if len(coverage):
        whole = coverage[(coverage["class"] == ALL) & (coverage["n"] > 0)]
        worst = whole.iloc[int(whole["coverage"].argmin())]
        mean, least = percent(whole["coverage"].mean(), ".1f"), percent(worst["coverage"], ".0f")
        texts.append(
            f"Sets held the truth in {mean}, asked for {level} (mean of sites; least {least}, at {worst['site']})."
        )
    if predicted.how:
        how = joined([f"{name} for {n:,}" for name, n in predicted.how.items()])
        texts.append(f"Sets were calibrated by: {how}.")
    parts: list[Part] = [Sentences(" ".join(texts))]
    if len(coverage):
        parts.append(_table("rows-coverage", "Coverage of sets at these rows, by site and class", coverage))
    parts.append(_table("rows-by-site", "Measures at these rows, by site", predicted.by_site))
    if predicted.sites > 1:
        parts.append(_table("rows-overall", "Measures at these rows, over sites", predicted.overall))
    return Section("rows", "At these rows", tuple(parts))


def tripod(model: Predictor) -> Section:
    """Show which items of TRIPOD-Cluster the report answers, and which the authors must."""
    text = (
        "Prediction models of several sites are reported after TRIPOD-Cluster, together with TRIPOD+AI. The items are "
        "in our own words; submit the checklists of the papers (see methods)."
    )
    table = Table.of("tripod-items", "Items of TRIPOD-Cluster and TRIPOD+AI", tripod_table(model), where="this table")
    return Section("tripod", "TRIPOD-Cluster", (Sentences(text), table))


def notes(model: Predictor, predicted: Predicted | None = None) -> Section:
    """List everything out of the ordinary."""
    texts = [*model.fitted.notes, *(predicted.notes if predicted is not None else ())]
    part: Part = Items(tuple(dict.fromkeys(texts))) if texts else Sentences("None.")
    return Section("notes", "Warnings and notes", (part,))


def about(model: Predictor) -> str:
    """Say in a line what was predicted from what."""
    fitted = model.fitted
    unit = "row" if fitted.layout.case is None else "case"
    size = f"{count(len(fitted.units), unit)}, {count(len(fitted.levels), 'site')}"
    size += f", {count(len(fitted.layout.features), 'feature')}"
    return f"Predictor, formula {model.formula}; {size}"


def _sets_sentence(validation: Validation) -> str:
    return (
        f"At a site left out, models and thresholds of its sets knew nothing of it. Asked for was a level of "
        f"{percent(validation.demand.level)}."
    )


def _harmonize_or_not(validation: Validation) -> list[Part]:
    lead = "Harmonize or not?"
    if not len(validation.comparison):
        return [Sentences(f"Features are raw: harmonizing was not tried. {TRADE}", lead=lead)]
    text = f"{compared(validation)} {TRADE} {NESTED}"
    caption = "Harmonized beside raw features, paired by site"
    return [Sentences(text, lead=lead), _table("unseen-comparison", caption, validation.comparison, "comparison")]


def _benefit(validation: Validation) -> pd.DataFrame:
    table = validation.net_benefit
    near = table["threshold"].round(2).isin(SHOWN_AT)
    return table[(table["site"] == MEAN) & near].drop(columns="site").reset_index(drop=True)


def _table(id: str, caption: str, frame: pd.DataFrame, name: str = "") -> Table:
    """Show a table of the validation, without a column of features that has one kind only."""
    if "features" in frame and frame["features"].nunique() == 1:
        frame = frame.drop(columns="features")
    where = f"model.validation.{name}" if name else "model.predict(table)"
    return Table.of(id, caption, frame.reset_index(drop=True), where=where, legend=LEGEND)
