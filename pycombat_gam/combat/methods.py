"""What a ComBat tells a report: the sentences of its methods, the papers it rests on, the tables of its estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycombat_gam.account.account import Account, NamedTable
from pycombat_gam.account.papers import BEER, FORTIN_2017, FORTIN_2018, JOHNSON, POMPONIO, WOOD, Reference
from pycombat_gam.batch.levels import canonical
from pycombat_gam.formula import Formula, parse_formula
from pycombat_gam.infer.posterior_means import PLAN
from pycombat_gam.types import JsonDict
from pycombat_gam.words import count, joined

if TYPE_CHECKING:
    from pycombat_gam.combat.results import Results

CRITERIA = {
    "REML": "restricted maximum likelihood (REML)",
    "ML": "maximum likelihood (ML)",
    "GCV": "generalized cross-validation (GCV)",
}
EFFECTS = "Every site's effect on every feature: model.estimates (gamma_hat, gamma_star, delta_hat, delta_star)."


def account_of(model: Results, *, elsewhere: bool) -> Account:
    """Describe what a ComBat did; `elsewhere`: it was fitted to another table than the one reported on."""
    formula = parse_formula(model.formula)
    where = " in the table of the fit" if elsewhere else ""
    missing = _missing(model, model.profile, where)
    if model.batch_model is not None:
        name = type(model.batch_model).__name__
        sites = f"Site effects were estimated and removed by the batch model {name}."
        return Account(f"the batch model {name}", (_mean(model, formula), sites, missing), (), "")
    sentences = (_mean(model, formula), _scale(model), _effects(model), _target(model), missing)
    return Account(_name(formula), sentences, _papers(formula), EFFECTS)


def tables_of(model: Results) -> tuple[NamedTable, ...]:
    """Return the tables of a ComBat's summary that have rows, and of sites the columns that say anything."""
    summary = model.summary()
    batches = summary.batches
    used = batches.loc[:, batches.notna().any() & ~(batches.eq(0).all() & (batches.columns == "iterations"))]
    tables = (
        NamedTable(
            "sites",
            "Sites: location in units of the pooled standard deviation, scale as a ratio of standard deviations",
            used,
            "model.summary().batches",
        ),
        NamedTable(
            "smooths",
            "Smooths: effective degrees of freedom over features",
            summary.smooths,
            "model.summary().smooths",
        ),
        NamedTable("features", "Features", summary.features, "model.summary().features"),
    )
    return tuple(table for table in tables if len(table.frame))


def _name(formula: Formula) -> str:
    combat = f"ComBat ({JOHNSON.cited}; {FORTIN_2017.cited}, {FORTIN_2018.fields['year']})"
    if formula.smooths:
        random = f" with the random effects of longitudinal ComBat (after {BEER.cited})" if formula.random else ""
        return f"ComBat-GAM ({POMPONIO.cited}){random}, an extension of {combat} to smooth effects"
    if formula.random:
        return f"longitudinal ComBat with random effects (after {BEER.cited}), an extension of {combat}"
    return combat


def _papers(formula: Formula) -> tuple[Reference, ...]:
    # Without empirical Bayes the model of location and scale is the same.
    return (
        JOHNSON,
        FORTIN_2017,
        FORTIN_2018,
        *([POMPONIO] if formula.smooths else []),
        *([BEER] if formula.random else []),
        *([WOOD] if formula.penalised else []),
    )


def _mean(model: Results, formula: Formula) -> str:
    if model.mean_model is not None:
        return f"The mean model was fitted by {type(model.mean_model).__name__}: {model.summary().mean_model}."
    if not formula.penalised:
        return (
            "The mean of each feature was fitted by least squares with an intercept for each site."
            if formula.variables
            else "The mean of each feature is an intercept for each site."
        )
    terms = joined([*(["smooths"] if formula.smooths else []), *(["random effects"] if formula.random else [])])
    return (
        f"The mean of each feature was fitted by penalised least squares with an intercept for each site; the "
        f"smoothing parameters of {terms} were chosen for each feature by {CRITERIA[model.smoothing]} ({WOOD.cited})."
    )


def _scale(model: Results) -> str:
    if model.ref_batch is not None:
        return f"Features were standardized by their residual variance at the reference site '{_reference(model)}'."
    return "Features were standardized by their residual variance pooled over sites."


def _effects(model: Results) -> str:
    moved = "Only the location of each site was" if model.mean_only else "Location and scale of each site were"
    if not model.eb:
        return f"{moved} estimated, for each feature by itself, without empirical Bayes."
    if model.prior == "bayes":
        means, what = "their posterior means", "normal for location, inverse gamma for the variance"
        if model.mean_only:
            means, what = "its posterior mean", "normal for location"
        return (
            f"{moved} set to {means} under a hierarchical model ({what}, with hyperparameters drawn along with "
            f"coefficients and site effects), from {PLAN.draws} draws of a Gibbs sampler after {PLAN.burn} sweeps."
        )
    if model.prior == "nonparametric":
        kind = "a nonparametric prior (the estimates of the other features)"
    elif model.mean_only:
        kind = "a parametric prior (normal)"
    else:
        kind = "parametric priors (normal for location, inverse gamma for the variance)"
    return f"{moved} estimated and shrunk by empirical Bayes over features, with {kind}."


def _target(model: Results) -> str:
    # Shrunken effects are not removed in full.
    moved = "moved towards" if model.eb else "brought to"
    if model.ref_batch is not None:
        return f"All other sites were {moved} the reference site '{_reference(model)}', whose rows were not changed."
    what = "location" if model.mean_only else "location and scale"
    return f"No site served as reference: all were {moved} the common {what}, sites weighted by their rows."


def _missing(model: Results, profile: JsonDict, where: str) -> str:
    if profile["missing_cells"]:
        return (
            f"{count(profile['missing_cells'], 'feature cell')} {'was' if profile['missing_cells'] == 1 else 'were'} "
            f"missing{where}: each feature was fitted on its observed cells, and missing cells stayed missing."
        )
    if model.missing == "omit":
        return f"No feature cell was missing{where}."
    return f"All feature cells were observed{where}."


def _reference(model: Results) -> str:
    return canonical(model.ref_batch)
