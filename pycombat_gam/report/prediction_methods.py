"""The methods of a prediction for a paper's supplement, with references; and how to repeat it."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pandas as pd

from pycombat_gam.account.papers import (
    BARBER,
    DELONG,
    DUCHI,
    DUNN,
    HARTUNG,
    LEE,
    PAULE,
    TRIPOD_AI,
    TRIPOD_CLUSTER,
    VICKERS,
    Reference,
    bibtex,
)
from pycombat_gam.predict.predictor import Predictor
from pycombat_gam.report.cells import visible_lines
from pycombat_gam.report.methods import computations, software
from pycombat_gam.report.parts import Code, Part, References, Section, Sentences
from pycombat_gam.report.reproduce import REPORTING, command_code, constructor, data_file, version_table
from pycombat_gam.words import count, joined, listing, percent

FEW = 12
"""Features that are named."""


def methods(model: Predictor) -> Section:
    """Write what was done, as in a paper's supplement, with references."""
    used = references(model)
    return Section(
        "methods",
        "Methods",
        (
            Sentences(methods_text(model), id="methods-text", lead="Prediction, for a paper's supplement"),
            Sentences(sets_text(model), id="sets-text", lead="Sets, and what they guarantee"),
            Sentences(evaluation_text(model), id="evaluation-text", lead="Evaluation at sites left out"),
            References(tuple(paper.text for paper in used)),
            Code("bibtex", "BibTeX", bibtex(used), "bibtex"),
        ),
    )


def methods_text(model: Predictor) -> str:
    """Say in a paragraph what predicts what."""
    fitted = model.fitted
    layout, outcome, K = fitted.layout, fitted.outcome, len(fitted.levels)
    unit = "row" if layout.case is None else "case"
    covariates = list(layout.question.right.variables)
    names = f" ({listing(layout.features, FEW)})" if layout.features else ""
    predictors = joined(
        [*covariates, *([f"{count(len(layout.features), 'feature')}{names}"] if layout.features else [])]
    )
    kind = {"classes": f"one of {outcome.n_classes} classes", "number": "a number", "survival": "the time of an event"}
    sentences = [
        f"The outcome {outcome.name}, {kind[outcome.kind]}, was predicted from {predictors}.",
        f"There were {count(len(fitted.units), unit)} at {count(K, 'site')} (column '{layout.batch}').",
        _learner(model),
        "Missing cells were left to the estimator." if layout.missing else "Missing cells were not allowed.",
    ]
    harmonizer = fitted.full.harmonizer
    if harmonizer is None:
        sentences.append("Features entered as measured; no site effect was removed.")
    else:
        sentences += [
            f"Inside every fold, effects of site on the features were removed with {harmonizer.account().method}.",
            f"Its formula was {harmonizer.formula}; it never saw the outcome.",
            "A site left out was harmonized as a new one, from its own rows.",
        ]
    if model.taxonomy is not None:
        sentences.append("Classes are leaves of a taxonomy: a node's probability is the sum of its children's.")
    if layout.case is not None:
        sentences.append(f"Probabilities were averaged over the rows of a case (column '{layout.case}').")
    return " ".join([*sentences, computations(software(_packages(model)))])


def _learner(model: Predictor) -> str:
    if model.estimator is not None:
        return f"Estimator: {model.estimator!r} (scikit-learn), on columns of numbers, covariates first."
    kind = model.fitted.outcome.kind
    what = {"classes": "Ridge logistic regression", "number": "Ridge regression"}.get(
        kind, "Ridge logistic regression of discrete hazards"
    )
    return f"{what} of standardized columns was used, with the penalty under which sites left out lost least."


def sets_text(model: Predictor) -> str:
    """Say in a paragraph how sets were made."""
    fitted, validation = model.fitted, model.validation
    demand, scores = validation.demand, validation.scores
    if scores is None:
        return "Risks were given, and no sets."
    K = len(fitted.levels)
    score = "1 − p of a class" if fitted.outcome.classes else "the distance from the prediction"
    sentences = [
        f"Every site was left out in turn, and {score} scored how strange its rows were to the model without it.",
    ]
    if demand.share is None:
        sentences.append(
            f"Thresholds are those of hierarchical conformal prediction ({LEE.cited}): every site weighs the same, and "
            "the new site counts as one more."
        )
    else:
        sentences.append(
            f"Thresholds hold at {percent(demand.share)} of sites ({DUCHI.cited}): they are order statistics over "
            "sites of the sites' own quantiles."
        )
    if model.taxonomy is not None:
        sentences.append("The answer is one node of the tree: the lowest that holds the whole set.")
    if scores.n_strata > 1:
        sentences.append("Each class has a threshold of its own, from the sites that have it.")
    if demand.guarantee:
        sentences.append(
            f"A set holds every outcome that one of the {K} models without a site finds normal enough. With one row a "
            f"site this is the jackknife-minmax ({BARBER.cited})."
        )
        sentences.append("Beside them stand estimated sets, of one model to all sites, without the site that is added")
        sentences[-1] += f" ({DUNN.cited})."
    else:
        sentences.append(
            f"Sets are estimated: one model to all sites, and thresholds without the site that is added ({DUNN.cited})."
        )
    sentences.append(
        "To judge sets at a site, every pair of sites was left out: models and thresholds had seen nothing of it."
    )
    if fitted.bags:
        sentences.append("For a new site of few rows, calibration rows are harmonized in random bags as small as it.")
    return " ".join(sentences)


def evaluation_text(model: Predictor) -> str:
    """Say in a paragraph how predictions were judged."""
    classes = model.fitted.outcome.kind != "number"
    measures = (
        f"AUC has DeLong's interval ({DELONG.cited}), on the logit scale. O/E is observed over expected events."
        if classes
        else "Errors are those of predictions at sites left out, in the unit of the outcome."
    )
    sentences = [
        "Every measure was computed at each site left out; no score was pooled over sites.",
        measures,
        f"Random effects pooled measures over sites, with the variance between sites of {PAULE.cited} and intervals of "
        f"{HARTUNG.cited}.",
        "The interval for a new site adds that variance. It is a prediction interval, of 95 % as all others.",
    ]
    if classes:
        sentences.append(f"Net benefit was averaged over sites ({VICKERS.cited}).")
    if len(model.validation.comparison):
        sentences.append("Raw features went through the same folds; differences are paired by site.")
    sentences.append(f"The report follows TRIPOD-Cluster ({TRIPOD_CLUSTER.cited}) and TRIPOD+AI ({TRIPOD_AI.cited}).")
    return " ".join(sentences)


def references(model: Predictor) -> tuple[Reference, ...]:
    """Return the papers that the text cites, by author and year."""
    text = " ".join([methods_text(model), sets_text(model), evaluation_text(model)])
    ours = (LEE, DUNN, BARBER, DUCHI, DELONG, PAULE, HARTUNG, VICKERS, TRIPOD_CLUSTER, TRIPOD_AI)
    used = [paper for paper in ours if paper.cited in text]
    harmonizer = model.fitted.full.harmonizer
    used += [] if harmonizer is None else list(harmonizer.account().papers)
    return tuple(sorted(used, key=lambda paper: (paper.fields["author"].split(",")[0], paper.fields["year"])))


def reproduce(
    model: Predictor, *, command: str | Sequence[str] | None, data: str | Path | None, other: bool
) -> Section:
    """Say how to repeat it.

    Parameters
    ----------
    command : line of the shell, or its words; None: the Python call.
    data : file that the table was read from; other : whether the rows reported on are not those of the fit.
    """
    parts: list[Part] = [command_code(command, python_call(model, other=other))]
    if data is None or other:
        outcomes = pd.DataFrame(model.fitted.evidence.y)
        held = pd.concat([model.fitted.units, outcomes], axis=1).to_csv(index=False)
        what = "the sites, ids and outcomes of the training rows"
        parts.append(Sentences(f"SHA-256 of {what}: {sha256(held.encode()).hexdigest()}."))
    if data is not None:
        parts.append(data_file(data, "Data file of these rows" if other else "Data file"))
    parts.append(Sentences(f"Seed: {model.seed}."))
    parts.append(version_table(software([*_packages(model), *REPORTING])))
    return Section("reproduce", "How to reproduce", tuple(parts))


def python_call(model: Predictor, *, other: bool) -> str:
    """Return the code that fits the same model and predicts new rows."""
    fit = "table_of_fit" if other else "table"
    lines = [
        "import pycombat_gam as pcg",
        "",
        f"model = {constructor(model)}",
        f"model.fit({fit})",
        "answers = model.predict(new)",
        "report = pcg.report(model, table)",
    ]
    return visible_lines("\n".join(lines))


def _packages(model: Predictor) -> list[str]:
    harmonizer = model.fitted.full.harmonizer
    packages = [] if harmonizer is None else list(harmonizer.packages)
    return [*packages, *(["scikit-learn"] if model.estimator is not None else [])]
