"""Sentences about a flow for the paragraph of methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycombat_gam.formula import Formula
from pycombat_gam.report.parts import joined
from pycombat_gam.report.references import WOOD
from pycombat_gam.words import count

if TYPE_CHECKING:
    from pycombat_gam.flow.estimator import FlowSCM

VARIANTS = {
    "residual": "location and scale, acting on what the covariates leave of a feature, as in ComBat",
    "whole": "location and scale, acting on the whole feature, the covariates' part included",
    "residual-shape": "location, scale, skewness and tail, acting on what the covariates leave of a feature",
    "whole-shape": "location, scale, skewness and tail, acting on the whole feature, the covariates' part included",
}
FAMILIES = {
    "affine": "a conditional affine flow",
    "spline": "a conditional spline flow, feature by feature",
    "autoregressive": "a masked autoregressive flow",
    "coupling": "a coupling flow",
}
BASES = {"student_t": "a multivariate Student t, degrees of freedom estimated", "normal": "a multivariate normal"}


def flow_sentences(model: FlowSCM, formula: Formula, to: str | None) -> list[str]:
    """Say what flow was trained, on what graph, and where rows were taken to."""
    summary = model.summary()
    sentences = [_flow(model, summary.variant, formula), f"The distribution of the noise is {BASES[model.base]}."]
    causes = {name: list(of) for name, of in (model.graph or {}).items() if of}
    if causes:
        arrows = joined([f"{name} by {joined(of)}" for name, of in causes.items()])
        sentences.append(f"Among the covariates the graph has these causes: {arrows}.")
    sentences.append(_target(to))
    if model.n_members > 1:
        how = "rows drawn anew within sites" if model.ensemble == "bootstrap" else "other random starts"
        sentences.append(f"An ensemble of {model.n_members} models ({how}) tells how sure harmonized values are.")
    sentences.append(
        f"Training took up to {count(int(summary.training['epochs'].max()), 'epoch')} a stage (seed {model.seed})."
    )
    return sentences


def _flow(model: FlowSCM, variant: str | None, formula: Formula) -> str:
    if variant is None:
        return f"The flow is {FAMILIES[model.flow]}, its parameters networks of covariates and site."
    asked = dict(model.flow_options or {}).get("variant", "auto")
    chosen = " (chosen by held-out log-probability)" if asked == "auto" and model.summary().choice is not None else ""
    smooth = f", its smooths penalised, their smoothing parameters by REML ({WOOD.cited})" if formula.smooths else ""
    return (
        "The flow is structured: each site has a strictly monotone map of its own for each feature, of "
        f"{VARIANTS[variant]}{chosen}; the covariates' part{smooth} and the covariance are shared by all sites."
    )


def _target(to: str | None) -> str:
    if to is None:
        return (
            "Harmonized values are averages over what each row would have measured at every site, sites weighted by "
            "their rows."
        )
    return (
        f"Harmonized values are what each row would have measured at site '{to}'; rows of that site were not changed."
    )
