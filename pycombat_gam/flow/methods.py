"""A flow's part of a report: methods sentences, references, and tables of estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycombat_gam.account.account import Account, NamedTable
from pycombat_gam.account.papers import WANG, WOOD
from pycombat_gam.formula import Formula, parse_formula
from pycombat_gam.words import count, joined

if TYPE_CHECKING:
    from pycombat_gam.flow.results import Results

VARIANTS = {
    "residual": "location and scale of the residuals from the covariates, as in ComBat",
    "whole": "location and scale of the whole feature, the covariates' part included",
    "residual-shape": "location, scale, skewness and tail of the residuals from the covariates",
    "whole-shape": "location, scale, skewness and tail of the whole feature, the covariates' part included",
}
FAMILIES = {
    "affine": "a conditional affine flow",
    "spline": "a conditional spline flow, feature by feature",
    "autoregressive": "a masked autoregressive flow",
    "coupling": "a coupling flow",
}
BASES = {
    "student_t": "multivariate Student t with estimated degrees of freedom",
    "normal": "multivariate normal",
}


def account_of(model: Results, to: str | None) -> Account:
    """Describe the flow, its graph, and the target of the harmonized rows."""
    formula = parse_formula(model.formula)
    method = (
        "counterfactuals of a structural causal model whose mechanism of the features is a normalizing flow "
        f"({WANG.cited})"
    )
    summary = model.summary()
    sentences = [_flow(model, summary.variant, formula), f"The noise is {BASES[model.base]}."]
    causes = {name: list(of) for name, of in (model.graph or {}).items() if of}
    if causes:
        arrows = joined([f"{name} by {joined(of)}" for name, of in causes.items()])
        sentences.append(f"In the graph, covariates have these causes: {arrows}.")
    sentences.append(_target(to))
    if model.n_members > 1:
        how = "rows resampled within sites" if model.ensemble == "bootstrap" else "other random starts"
        sentences.append(f"An ensemble of {model.n_members} models ({how}) gives the uncertainty of harmonized values.")
    longest = count(int(summary.training["epochs"].max()), "epoch")
    sentences.append(f"Each stage of training took up to {longest} (seed {model.seed}).")
    papers = (WANG, *([WOOD] if formula.smooths else []))
    effects = "The effect of each site on each feature: model.site_effects." if model.flow == "structured" else ""
    return Account(method, tuple(sentences), papers, effects)


def tables_of(model: Results) -> tuple[NamedTable, ...]:
    """Return the tables of a flow's summary."""
    summary = model.summary()
    tables = {
        "graph": ("Graph: each node and its causes", summary.graph),
        "sites": ("Sites: their maps, location in units of the pooled standard deviation", summary.sites),
        "choice": ("Variants tried: held-out log-probability of a row", summary.choice),
        "training": ("Training", summary.training),
    }
    return tuple(
        NamedTable(name, caption, frame, f"model.summary().{name}")
        for name, (caption, frame) in tables.items()
        if frame is not None
    )


def _flow(model: Results, variant: str | None, formula: Formula) -> str:
    if variant is None:
        return f"The flow is {FAMILIES[model.flow]}; networks of covariates and site set its parameters."
    asked = dict(model.flow_options or {}).get("variant", "auto")
    chosen = " (chosen by held-out log-probability)" if asked == "auto" and model.summary().choice is not None else ""
    smooth = f" Smooths are penalised, with smoothing parameters by REML ({WOOD.cited})." if formula.smooths else ""
    return (
        "The flow is structured: each site has a strictly monotone map for each feature, which changes "
        f"{VARIANTS[variant]}{chosen}. All sites share the covariates' part and the covariance.{smooth}"
    )


def _target(to: str | None) -> str:
    if to is None:
        return (
            "Harmonized values are averages of what each row would have measured at each site, weighted by the sites' "
            "numbers of rows."
        )
    return (
        f"Harmonized values are what each row would have measured at site '{to}'; rows of that site were not changed."
    )
