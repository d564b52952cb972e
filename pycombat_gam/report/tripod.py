"""TRIPOD-Cluster's items beside TRIPOD+AI: what each asks, and where a report of prediction answers it.

TRIPOD-Cluster: Debray et al. 2023 (BMJ 380:e071018), 19 items, several of which ask for more than one thing. TRIPOD+AI:
Collins et al. 2024 (BMJ 385:e078378). What they ask is in our own words; their text is in the papers.
"""

from __future__ import annotations

import pandas as pd

from pycombat_gam.predict.predictor import Predictor

AUTHORS = "to be written by the authors"
UNSEEN, METHODS, REPRODUCE, NOTES, VERDICT = (
    "Prediction at unseen sites",
    "Methods",
    "How to reproduce",
    "Warnings and notes",
    "Verdict",
)
ITEMS: tuple[tuple[str, str, str], ...] = (
    ("1", "title: say that a model is developed or validated, for whom, and for which outcome", AUTHORS),
    ("2", "abstract: a structured summary", AUTHORS),
    ("3", "medical context, why the model is needed, models that exist", AUTHORS),
    ("3", "objectives: development, validation, or both", f"{METHODS} (both); the aim {AUTHORS}"),
    ("4", "who was eligible, and which data sets", AUTHORS),
    ("4", "where the data came from, and how they were collected", AUTHORS),
    ("5", "how the size of the sample was arrived at", AUTHORS),
    ("6", "the outcome: definition, how and when assessed", f"{METHODS} (column); the definition {AUTHORS}"),
    ("6", "the predictors: definition, how and when measured", f"{METHODS} (columns); the definition {AUTHORS}"),
    ("7", "how data were prepared: cleaning, harmonization, linkage, quality checks", "{harmonized}"),
    ("7", "how risk of bias was assessed in each cluster", AUTHORS),
    ("7", "validation: differences from the development data", f"{UNSEEN} (each site against the others)"),
    ("7", "how missing data were handled", "{missing}"),
    ("8", "how predictors were handled in the analysis", METHODS),
    ("8", "type of model, how it was built, penalties, method of validation", METHODS),
    ("8", "how differences between clusters in the model's parameters were handled", METHODS),
    ("8", "validation: how predictions were calculated", METHODS),
    ("8", "all measures of performance", f"{METHODS}; {UNSEEN}"),
    ("8", "how differences between clusters in performance were handled and quantified", f"{METHODS}; {UNSEEN}"),
    ("8", "any updating of the model, such as recalibration", f"none; with labelled rows of a site: {AUTHORS}"),
    ("9", "planned analyses of subgroups and sensitivity", f"{UNSEEN} (by class, raw features); others {AUTHORS}"),
    ("10", "numbers of clusters and participants, from identified to analysed", f"{UNSEEN}; the flow {AUTHORS}"),
    ("10", "characteristics overall and by cluster", f"{UNSEEN} (rows, events by site); others {AUTHORS}"),
    ("10", "validation: distributions beside those of the development data", AUTHORS),
    ("11", "results of the assessment of bias", AUTHORS),
    ("12", "what differences between clusters changed in the model's development", f"none in the software; {AUTHORS}"),
    ("12", "the final model, and how to use it for a new person", f"{REPRODUCE}; the model's file"),
    ("13", "performance with intervals, overall and for each cluster", UNSEEN),
    ("13", "differences between clusters in performance", f"{UNSEEN} (intervals for a new site, tau2)"),
    ("14", "results of updating", f"none; with labelled rows of a site: {AUTHORS}"),
    ("15", "results in subgroups and sensitivity analyses", f"{UNSEEN} (by class, raw features); others {AUTHORS}"),
    ("16", "interpretation, strengths and limitations", f"{VERDICT} (what is not guaranteed); the rest {AUTHORS}"),
    ("17", "potential use, and how far it applies to other settings", f"{VERDICT} (for whom); the rest {AUTHORS}"),
    ("18", "supplementary resources: protocol, code, data", f"{REPRODUCE} (call, versions, hash); others {AUTHORS}"),
    ("19", "funding, and the funders' role", AUTHORS),
    ("TRIPOD+AI", "fairness: performance in groups of people, and how it was addressed", AUTHORS),
    ("TRIPOD+AI", "open science: protocol, registration, sharing of data and code", AUTHORS),
    ("TRIPOD+AI", "patients and public: whether and how they were involved", AUTHORS),
)
"""Item, what it asks, where the report answers it."""


def tripod_table(model: Predictor) -> pd.DataFrame:
    """Return the items and where this report answers them."""
    inside = model.fitted.full.harmonizer is not None
    words = {
        "harmonized": f"{METHODS} ({'harmonized inside every fold' if inside else 'raw features'}); the rest {AUTHORS}",
        "missing": f"{METHODS} (left to the estimator)" if model.fitted.layout.missing else f"{METHODS} (none allowed)",
    }
    rows = [(item, asks, where.format(**words)) for item, asks, where in ITEMS]
    return pd.DataFrame(rows, columns=["item", "what it asks", "where"])
