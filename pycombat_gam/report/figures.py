"""The figures of a report: which there are, what they show in words, and their pixels. `plot` draws them."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pandas as pd

from pycombat_gam import plot
from pycombat_gam.errors import DataError
from pycombat_gam.formula import parse_formula
from pycombat_gam.plot.fitted import dependent_factors
from pycombat_gam.report.parts import Figure, Sentences
from pycombat_gam.report.study import Study
from pycombat_gam.study.harmonizer import Harmonizer
from pycombat_gam.study.states import BEFORE
from pycombat_gam.tables.arguments import names
from pycombat_gam.words import count, joined

if TYPE_CHECKING:
    from pycombat_gam.diagnose import Diagnosis
    from pycombat_gam.infer.effects import Effects

DPI = 180
SHOWN = 100
"""Pixels an inch: in the file, for print; and on the page."""
FEW, MOST_TERMS = 30, 6
"""Features up to which each has its place in a forest; terms that are drawn."""
EFFECTS = {"location": "location (γ)", "scale": "scale (δ)"}


def before_after_figures(study: Study, diagnosis: Diagnosis) -> list[Figure | Sentences]:
    """Draw the feature with the largest difference between sites, and principal components, before and after."""
    differs = most_different(diagnosis)
    feature = differs or study.features[0]
    which = "the feature in which sites differ most before harmonization (smallest p)" if differs else "the first"
    sites = count(study.sites, "site")
    # Not every model has a covariates' part to take off.
    model = study.model if "features" in study.model.pictures else None
    figure = draw(
        "figure-feature",
        lambda axes: plot.features(
            study.before, study.after, feature=feature, batch=study.batch, model=model, axes=axes
        ),
        f"{feature}, {which}, by site: before (left) and after (right), on the same scale.",
        f"Two panels with the values of {feature} at each of {sites}, before and after harmonization.",
        size=(9.2, 3.9),
        panels=2,
    )
    return [figure, *_components(study, sites), *_travelers(study, feature)]


def _components(study: Study, sites: str) -> list[Figure | Sentences]:
    """Draw principal components of the features that are complete; where there are not two, say so."""
    whole = ~(study.before[list(study.features)].isna() | study.after[list(study.features)].isna()).any()
    complete = [name for name in study.features if whole[name]]
    if not complete:
        return [Sentences("Not drawn: every feature has missing cells.", lead="Principal components.")]
    which = "" if len(complete) == len(study.features) else " without missing cells"
    try:
        figure = draw(
            "figure-components",
            lambda axes: plot.components(study.before, study.after, batch=study.batch, features=complete, axes=axes),
            f"First two principal components of the {count(len(complete), 'feature')}{which}, a point for each row, "
            "coloured by site: before (left) and after (right).",
            f"Two scatter plots of principal components with the rows of {sites}, before and after harmonization.",
            size=(9.2, 4.2),
            panels=2,
        )
    except DataError as error:
        return [Sentences(f"Not drawn: {error}.", lead="Principal components.")]
    return [figure]


def biology_figures(study: Study, diagnosis: Diagnosis) -> list[Figure]:
    """Draw the curve of the first numeric covariate: for ComBat as fitted, for a flow as counterfactuals."""
    numeric = study.numeric_covariates
    if not numeric:
        return []
    covariate, feature = numeric[0], most_different(diagnosis) or study.features[0]
    if "curve" in study.model.pictures:
        factors = dependent_factors(parse_formula(study.model.formula), study.before, covariate)
        whose = (
            f" The effect depends on {joined(factors)}: the level is named above, and only its rows are shown."
            if factors
            else ""
        )
        return [
            draw(
                "figure-curve",
                lambda ax: plot.curve(study.model, study.before, feature, covariate, ax=ax),
                f"{feature} against {covariate}: the fitted effect with its 95 % interval, and partial residuals "
                f"coloured by site.{whose}",
                f"A curve of {feature} over {covariate} with a band around it and a point for each row.",
                size=(6.6, 4.0),
            )
        ]
    if "fan" not in study.model.pictures:
        return []
    some = study.before.iloc[:: max(1, len(study.before) // 12)].head(12)
    return [
        draw(
            "figure-fan",
            lambda ax: plot.fan(study.model, some, feature, covariate, ax=ax),
            f"What {count(len(some), 'row')} would measure in {feature} at other values of {covariate}, one line each: "
            "counterfactuals of the model.",
            f"Lines of {feature} over {covariate}, one for each of {count(len(some), 'row')}.",
            size=(6.6, 4.0),
        )
    ]


def shrinkage_figures(study: Study) -> list[Figure]:
    """Draw how empirical Bayes shrank the site effects; none without it."""
    model = study.model
    effects = list(model.shrunken)
    if not effects:
        return []
    site = _largest_site(model)
    both = " (left) and ".join(EFFECTS[effect] for effect in effects) + (" (right)" if len(effects) > 1 else "")
    return [
        draw(
            "figure-shrinkage",
            lambda axes: [
                plot.shrinkage(model, effect=effect, ax=ax) for effect, ax in zip(effects, _each(axes), strict=True)
            ],
            f"Site effects as estimated from each feature alone (horizontal) and after shrinkage (vertical), a point "
            f"for each feature and site, by {both}.",
            f"Scatter plots of estimated against shrunken site effects, by {joined(effects)}.",
            size=(4.6 * len(effects), 4.0),
            panels=len(effects),
        ),
        draw(
            "figure-prior",
            lambda axes: [
                plot.prior(model, site, effect=effect, ax=ax) for effect, ax in zip(effects, _each(axes), strict=True)
            ],
            f"Site {site}, the largest: distribution over features of the estimated effects, and the prior they are "
            f"shrunk with, by {both}. A prior that does not follow its data shrinks too much or too little.",
            f"Densities of estimated site effects and of their prior at site {site}, by {joined(effects)}.",
            size=(4.6 * len(effects), 3.4),
            panels=len(effects),
        ),
    ]


def effect_figures(effects: Effects | None) -> list[Figure]:
    """Draw what the tests of each term found: forests of few features, volcanoes of many; two terms a figure."""
    if effects is None:
        return []
    table = effects.table[effects.table["p"].notna()]
    V = int(table["feature"].nunique())
    kinds: dict[str, list[str]] = {}
    for term, rows in table.groupby("term", sort=False):
        kind = "forest" if V <= FEW and rows["se"].notna().all() else "volcano"
        kinds.setdefault(kind, []).append(str(term))
    drawn: list[Figure] = []
    for kind, terms in kinds.items():
        height = 1.4 + 0.2 * V if kind == "forest" else 3.8
        for pair in (terms[at : at + 2] for at in range(0, min(len(terms), MOST_TERMS), 2)):
            drawn.append(_tested(effects, kind, pair, len(drawn) + 1, height))
    return drawn


def _tested(effects: Effects, kind: str, terms: list[str], number: int, height: float) -> Figure:
    picture = plot.forest if kind == "forest" else plot.volcano
    what = {
        "forest": "effect in each feature with its interval; filled where significant at a false discovery rate of 5 %",
        "volcano": "p against the effect, a point for each feature; coloured where significant at a false discovery "
        "rate of 5 %",
    }[kind]
    return draw(
        f"figure-tests-{number}",
        lambda axes: [picture(effects, term, ax=ax) for term, ax in zip(terms, _each(axes), strict=True)],
        f"Tests of {joined(terms)}, sites accounted for: {what}.",
        f"A {kind} plot for {joined(terms, 'and for')}.",
        size=(4.6 * len(terms), height),
        panels=len(terms),
    )


def estimate_figures(study: Study) -> list[Figure]:
    """Draw ComBat's effects of all sites, or how a flow's training went."""
    model = study.model
    if "site_effects" in model.pictures:
        return [
            draw(
                "figure-effects",
                lambda ax: plot.site_effects(model, ax=ax),
                "Location of every site (rows) in every feature (columns), in units of the pooled standard deviation.",
                f"Heat map of site effects, {count(study.sites, 'site')} by {count(len(study.features), 'feature')}.",
                size=(9.2, min(2.8 + 0.24 * study.sites, 9.0)),
            )
        ]
    if "training" not in model.pictures:
        return []
    return [
        draw(
            "figure-training",
            lambda ax: plot.training(model, ax=ax),
            "Log-probability of a row by epoch of the training, held out (solid) or in training (dashed).",
            "Lines of log-probability over epochs, one for each stage of the training.",
            size=(6.6, 3.6),
        )
    ]


def draw(
    id: str,
    fill: Callable[[Any], object],
    caption: str,
    alt: str,
    *,
    size: tuple[float, float],
    panels: int = 1,
) -> Figure:
    """Draw a figure without pyplot: no window, no state.

    Parameters
    ----------
    fill : draws on the axes it is given; with several panels an array of them.
    size : in inches; panels : side by side.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Picture

    with matplotlib.rc_context(
        {"font.size": 9, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False}
    ):
        picture = Picture(figsize=size, dpi=DPI, layout="constrained")
        FigureCanvasAgg(picture)
        fill(picture.subplots(1, panels) if panels > 1 else picture.subplots())
        stream = io.BytesIO()
        # Without the name of the software: equal reports are equal files.
        picture.savefig(stream, format="png", metadata={"Software": None}, pil_kwargs={"optimize": True})
    width, height = (round(SHOWN * side) for side in size)
    return Figure(id, caption, alt, stream.getvalue(), width, height)


def most_different(diagnosis: Diagnosis) -> str:
    """Return the feature whose sites differ most before harmonization: smallest p, then largest effect; "" for none."""
    table = diagnosis.table
    rows = table[(table["aspect"] == "location") & (table["state"] == BEFORE) & table["p"].notna()]
    if not len(rows):
        return ""
    first = rows[rows["measure"] == rows["measure"].iloc[0]]
    return str(first.sort_values(["p", "value"], ascending=[True, False], kind="stable")["feature"].iloc[0])


def _travelers(study: Study, feature: str) -> list[Figure]:
    """Draw subjects who were measured at several sites, if the table names them."""
    for column in names(study.model.id, "id"):
        places = study.before.groupby(column, observed=True)[study.batch].nunique()
        if (places > 1).sum() >= 2:
            return [_traveling(study, feature, column, places.index[places > 1])]
    return []


def _traveling(study: Study, feature: str, column: str, subjects: pd.Index) -> Figure:
    rows = study.before[study.before[column].isin(subjects)]
    return draw(
        "figure-travelers",
        lambda ax: plot.travelers(rows, subject=column, batch=study.batch, feature=feature, ax=ax),
        f"{feature} of the {count(len(subjects), 'subject')} measured at several sites, a line each: before.",
        f"Lines of {feature} across sites, one for each traveling subject.",
        size=(6.6, 3.8),
    )


def _largest_site(model: Harmonizer) -> str:
    """The site with most rows that is shrunk: not the reference."""
    rows = dict(model.profile["batches"])
    reference = None if model.ref_batch is None else str(model.ref_batch)
    return str(max((label for label in rows if label != reference), key=lambda label: rows[label]))


def _each(axes: Any) -> list[Any]:
    return list(axes) if hasattr(axes, "__len__") else [axes]
