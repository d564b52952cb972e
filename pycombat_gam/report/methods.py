"""The paragraph of methods that a paper's supplement needs: what was done, sentence by sentence, as it was done."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pycombat_gam.batch.levels import canonical
from pycombat_gam.combat import ComBat
from pycombat_gam.errors import count
from pycombat_gam.formula import Formula, parse_formula
from pycombat_gam.report.flow_methods import flow_sentences
from pycombat_gam.report.parts import joined
from pycombat_gam.report.references import (
    BEER,
    BENJAMINI,
    FORTIN_2017,
    FORTIN_2018,
    JOHNSON,
    POMPONIO,
    WANG,
    WOOD,
)
from pycombat_gam.types import JsonDict

if TYPE_CHECKING:
    from pycombat_gam.diagnose import Diagnosis
    from pycombat_gam.flow.harmonizer import FlowSCM

PACKAGES = ("numpy", "scipy", "pandas")
CRITERIA = {
    "REML": "restricted maximum likelihood (REML)",
    "ML": "maximum likelihood (ML)",
    "GCV": "generalized cross-validation (GCV)",
}


def methods_text(model: ComBat | FlowSCM, *, to: str | None = None) -> str:
    """Say in a paragraph how the table was harmonized.

    Parameters
    ----------
    model : fitted.
    to : of a flow, the site that rows were taken to; None for the average over sites.
    """
    formula = parse_formula(model.formula)
    profile: JsonDict = model.summary().profile
    sentences = [_what(model, formula, profile), _kept(formula)]
    if isinstance(model, ComBat):
        sentences += [_mean(model, formula), _scale(model), _effects(model), _target(model)]
        sentences += _missing(model, profile)
    else:
        sentences += flow_sentences(model, formula, to)
    untouched = _untouched(model)
    if untouched:
        sentences.append(f"{count(untouched, 'feature')} without residual variance passed through untouched.")
    sentences.append(_computed(model))
    return " ".join(sentences)


def diagnosis_text(diagnosis: Diagnosis) -> str:
    """Say in a paragraph how the harmonization was checked."""
    table = diagnosis.table
    by_aspect = {aspect: list(dict.fromkeys(rows["measure"])) for aspect, rows in table.groupby("aspect", sort=False)}

    def of(*aspects: str) -> str:
        return joined([str(measure) for aspect in aspects for measure in by_aspect.get(aspect, [])])

    sentences = []
    if "location" in by_aspect or "scale" in by_aspect:
        sentences.append(
            f"Differences between sites were tested feature by feature ({of('location', 'scale')}); p-values were "
            f"adjusted for the number of features by the false discovery rate ({BENJAMINI.cited}) and held against "
            f"{diagnosis.level:g}."
        )
    if "covariance" in by_aspect or "distribution" in by_aspect:
        sentences.append(
            f"All features at once were compared by {of('covariance', 'distribution')}, with "
            f"{count(diagnosis.permutations, 'permutation')} where a null distribution was needed "
            f"(seed {diagnosis.seed})."
        )
    if "site prediction" in by_aspect:
        sentences.append(
            f"How well the site of a row is told from its features was measured by cross-validated balanced accuracy "
            f"({of('site prediction')})."
        )
    if "association" in by_aspect:
        sentences.append("Associations with each covariate are partial R² within sites, before and after.")
    if "covariate prediction" in by_aspect:
        sentences.append("Covariates were predicted from the features of sites left out of the training.")
    if (table["state"] == "held out").any():
        sentences.append(
            "Figures called held out are of rows harmonized by models that did not see them (5 folds); those called "
            "after are of the rows that estimated the site effects."
        )
    return " ".join(sentences)


def versions(model: ComBat | FlowSCM, extra: Sequence[str] = ()) -> dict[str, str]:
    """Return the versions of what computed, by name."""
    names = [*PACKAGES, *(() if isinstance(model, ComBat) else ("torch", "zuko")), *extra]
    return {
        "pycombat_gam": version("pycombat-gam"),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def _what(model: ComBat | FlowSCM, formula: Formula, profile: JsonDict) -> str:
    rows = count(profile["rows"], "row")
    size = f"{count(profile['features'], 'feature')} of {rows} at {count(len(profile['batches']), 'site')}"
    chosen = ""
    if profile["rows"] != profile["rows_given"]:
        chosen = (
            f" Site effects and mean model were estimated from {profile['rows']:,} of the {profile['rows_given']:,} "
            "rows (fit_mask), and all rows were adjusted."
        )
        rows = count(profile["rows_given"], "row")
        size = f"{count(profile['features'], 'feature')} of {rows} at {count(len(profile['batches']), 'site')}"
    return f"Effects of site (column '{model.batch}') on {size} were removed with {_name(model, formula)}.{chosen}"


def _name(model: ComBat | FlowSCM, formula: Formula) -> str:
    if not isinstance(model, ComBat):
        return (
            f"counterfactuals of a structural causal model whose mechanism of the features is a normalizing flow "
            f"({WANG.cited})"
        )
    base = f"{JOHNSON.cited}; {FORTIN_2017.cited}, {FORTIN_2018.fields['year']}"
    name = f"ComBat-GAM ({POMPONIO.cited}), the extension to smooth effects of" if formula.smooths else ""
    if formula.random:
        name = f"{name} longitudinal ComBat with random effects (after {BEER.cited}), an extension of".strip()
    return f"{name} ComBat ({base})".strip()


def _kept(formula: Formula) -> str:
    if not formula.variables:
        return (
            "No covariate was kept: with the formula ~ 1 all differences between sites count as effects of site, those "
            "in who was measured there included."
        )
    kept = joined(formula.variables)
    return f"The effects of {kept} were modelled together with those of site, and kept (formula {formula})."


def _mean(model: ComBat, formula: Formula) -> str:
    if model.mean_model is not None:
        return f"The mean model was fitted by {type(model.mean_model).__name__}: {model.summary().mean_model}."
    if not (formula.smooths or formula.random):
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


def _scale(model: ComBat) -> str:
    if model.ref_batch is not None:
        return f"Features were standardized by their residual variance at the reference site '{_reference(model)}'."
    return "Features were standardized by their residual variance pooled over sites."


def _effects(model: ComBat) -> str:
    moved = "Only the location of each site was" if model.mean_only else "Location and scale of each site were"
    if not model.eb:
        return f"{moved} estimated, for each feature by itself, without empirical Bayes."
    if model.prior == "nonparametric":
        kind = "a nonparametric prior (the estimates of the other features)"
    elif model.mean_only:
        kind = "a parametric prior (normal)"
    else:
        kind = "parametric priors (normal for location, inverse gamma for the variance)"
    return f"{moved} estimated and shrunk by empirical Bayes over features, with {kind}."


def _target(model: ComBat) -> str:
    if model.ref_batch is not None:
        return f"All other sites were brought to the reference site '{_reference(model)}', whose rows were not changed."
    what = "location" if model.mean_only else "location and scale"
    return f"No site served as reference: all were brought to the common {what}, sites weighted by their rows."


def _missing(model: ComBat, profile: JsonDict) -> list[str]:
    if profile["missing_cells"]:
        return [
            f"{count(profile['missing_cells'], 'feature cell')} {'was' if profile['missing_cells'] == 1 else 'were'} "
            "missing: each feature was fitted on its observed cells, and missing cells stayed missing."
        ]
    return ["No feature cell was missing."] if model.missing == "omit" else ["All feature cells were observed."]


def _untouched(model: Any) -> int:
    features = getattr(model.summary(), "features", None)
    return 0 if features is None else int((features["handling"] == "untouched").sum())


def _reference(model: ComBat) -> str:
    return canonical(model.ref_batch)


def _computed(model: ComBat | FlowSCM) -> str:
    found = versions(model)
    ours, python = found.pop("pycombat_gam"), found.pop("python")
    with_ = joined([f"{name} {number}" for name, number in found.items()])
    return f"Computations: pycombat_gam {ours}, Python {python}, {with_}."
