"""The figures of a prediction's report: what happened at sites left out."""

from __future__ import annotations

from typing import Any

from pycombat_gam import plot
from pycombat_gam.predict.predictor import Predictor
from pycombat_gam.report.figures import draw
from pycombat_gam.report.parts import Figure, slug
from pycombat_gam.report.prediction_verdict import MOST
from pycombat_gam.words import count

FOREST = (
    "{measure} at each site left out with its 95 % interval, rows and events in brackets. The diamond is the mean over "
    "sites by random effects, the thin line the interval for a new site.{beside}"
)


def forest_figures(model: Predictor) -> list[Figure]:
    """Draw the first measure by site, for each class or horizon."""
    measure = str(model.validation.by_site["measure"].iloc[0])
    return [_forest(model, measure, choice) for choice in choices(model)]


def coverage_figures(model: Predictor) -> list[Figure]:
    """Draw the coverage of sets by site and class; none where there are no sets."""
    if not len(model.validation.coverage):
        return []
    K = len(model.fitted.levels)
    slots = 2 * max(1, min(model.fitted.outcome.n_classes, 8))
    height = min(max(2.9, 1.7 + max(0.2, 0.09 * slots) * K), 9.0)
    return [
        draw(
            "figure-coverage",
            lambda ax: plot.coverage(model, ax=ax),
            "How often sets held the truth at each site left out, by class: guaranteed (filled) and estimated (open). "
            "Larger points stand for more rows; the dashed line is the level asked for.",
            f"Points of coverage at each of {count(K, 'site')} beside a line at the level.",
            size=(6.6, height),
        )
    ]


def calibration_figures(model: Predictor) -> list[Figure]:
    """Draw calibration at each site, and observed over expected events (or mean errors) as a forest."""
    figures: list[Figure] = []
    ratio = "mean error" if model.fitted.outcome.kind == "number" else "O/E"
    for choice in choices(model):
        figures.append(
            draw(
                f"figure-calibration{_suffix(choice)}",
                lambda ax, choice=choice: plot.calibration(model, ax=ax, **choice),  # type: ignore[misc]  # bound at once
                "What happened against what was predicted, a line or point for each site left out. On the dashed "
                "diagonal predictions are right.",
                f"Lines of observed against predicted outcomes for {count(len(model.fitted.levels), 'site')}.",
                size=(5.2, 4.6),
            )
        )
        figures.append(_forest(model, ratio, choice))
    return figures


def decision_figures(model: Predictor) -> list[Figure]:
    """Draw decision curves; none of numbers."""
    if not len(model.validation.net_benefit):
        return []
    return [
        draw(
            f"figure-decisions{_suffix(choice)}",
            lambda ax, choice=choice: plot.decision_curve(model, ax=ax, **choice),  # type: ignore[misc]  # bound at once
            "Net benefit of acting above a threshold of the probability: mean over sites left out, with their range, "
            "beside treating all and none.",
            "Curves of net benefit over thresholds, of the model, of treating all and of treating none.",
            size=(6.0, 3.8),
        )
        for choice in choices(model)
    ]


def choices(model: Predictor) -> list[dict[str, Any]]:
    """Return what the pictures of one class or horizon are asked for, at most so many of them."""
    table = model.validation.by_site
    if model.fitted.outcome.kind == "number":
        return [{}]
    which, argument = ("horizon", "horizon") if "horizon" in table else ("class", "class_")
    names = list(dict.fromkeys(table.loc[table["measure"] == table["measure"].iloc[0], which]))
    return [{argument: name} for name in names[:MOST]]


def _forest(model: Predictor, measure: str, choice: dict[str, Any]) -> Figure:
    K = len(model.fitted.levels)
    beside = "" if model.fitted.raw is None else " Raw features are in grey below harmonized ones."
    return draw(
        f"figure-{slug(measure)}{_suffix(choice)}",
        lambda ax: plot.site_forest(model, measure, ax=ax, **choice),
        FOREST.format(measure=f"{measure[0].upper()}{measure[1:]}", beside=beside),
        f"A forest plot of {measure} at {count(K, 'site')}, with its mean over sites.",
        size=(6.6, min(max(2.9, 1.8 + 0.2 * (K + 2)), 9.0)),
    )


def _suffix(choice: dict[str, Any]) -> str:
    return "".join(f"-{slug(str(value)) or 'class'}" for value in choice.values())
