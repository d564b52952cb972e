"""What a flow tells a report: the sentences of its methods, the papers it rests on, the tables of its estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycombat_gam.account.account import Account, NamedTable
from pycombat_gam.account.papers import WANG, WOOD
from pycombat_gam.formula import Formula, parse_formula
from pycombat_gam.words import count, joined

if TYPE_CHECKING:
    from pycombat_gam.flow.results import Results

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


def account_of(model: Results, to: str | None) -> Account:
    """Tell what flow was trained, on what graph, and where rows were taken to."""
    formula = parse_formula(model.formula)
    method = (
        "counterfactuals of a structural causal model whose mechanism of the features is a normalizing flow "
        f"({WANG.cited})"
    )
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
    papers = (WANG, *([WOOD] if formula.smooths else []))
    effects = "Every site's effect on every feature: model.site_effects." if model.flow == "structured" else ""
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
