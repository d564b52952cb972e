"""Whether `ComBat` stops for something that no other check names: a fit without smooths is tried, on few features.

Design and cells are checked as a fit does. Standardization and priors are tried without smooths and random effects:
their penalties cost time, and change nothing that a fit stops for, except where a curve explains a feature to the last
digit. If two features have a scale and unequal effects at a site, more features change neither. So `SOME` are enough
unless these fail; features of extreme size and those with most cells missing are among them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from pycombat_gam.audit.intake import Call
from pycombat_gam.checks.features import Looked
from pycombat_gam.checks.finding import Finding
from pycombat_gam.checks.material import Material, columns_of
from pycombat_gam.combat.estimator import ComBat
from pycombat_gam.design.design import Design
from pycombat_gam.errors import PcgError, PcgWarning
from pycombat_gam.mean.groups import gather
from pycombat_gam.progress import progress_bar
from pycombat_gam.types import IntArray
from pycombat_gam.words import Worded

SOME = 64
"""Features that are tried first."""

EXTREME = 1e150
"""Standard deviations beyond it have squares that may leave the range of numbers."""


def trial_findings(call: Call, looked: Looked, findings: list[Finding]) -> Iterator[Finding]:
    """Try a fit, if no finding says already that it stops or that there is nothing to harmonize."""
    if any(finding.stops for finding in findings) or len(call.material.levels) < 2:
        return
    some, V = _some(looked.table), len(call.intake.features)
    trouble = _stops(call, some)
    if trouble and some.size < V:
        trouble = _stops(call, np.arange(V))
    if trouble:
        verdict = Worded("ComBat stops: ", trouble)
        yield Finding("problem", "fit", str(call.material.formula), verdict, "features", stops=True)


def _some(table: pd.DataFrame) -> IntArray:
    size = np.nan_to_num(table["sd"].to_numpy(), nan=0.0, posinf=np.inf)
    extreme = np.flatnonzero(size > EXTREME)
    fewest = np.argsort(table["observed"].to_numpy(), kind="stable")[: SOME // 2]
    spread = np.linspace(0, len(table) - 1, min(len(table), SOME // 2)).astype(np.intp)
    return np.unique(np.concatenate([extreme, fewest, spread])).astype(np.intp)


def _stops(call: Call, chosen: IntArray) -> str:
    """Say what a fit to these features stops for; missing cells are left out, as another check asks for."""
    material, intake, formula = call.material, call.intake, call.material.formula
    features = [intake.features[k] for k in chosen.tolist()]
    Y = intake.Y[:, chosen]
    plain = replace(
        formula,
        smooths=(),
        random=(),
        variables=tuple(name for name in formula.variables if name in _parametric(material)),
    )
    try:
        if formula.penalised:
            design = Design.learn(formula, material.intake.covariates, absorb_intercept=True)
            gather(
                design,
                material.intake.covariates,
                material.intake.Y[:, chosen],
                material.codes,
                features=features,
                labels=material.levels.labels,
                omit_missing=True,
                bar=progress_bar,
            )
            design.on(intake.covariates)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PcgWarning)
            tried: dict[str, object] = {
                "formula": str(plain),
                "features": features,
                "id": None,
                "missing": "omit",
                "mean_model": None,
            }
            if call.model.prior == "bayes":
                # Draws take time and stop for nothing; what they start from is each feature by itself.
                tried |= {"prior": "parametric", "eb": False}
            ComBat(**{**call.model.get_params(), **tried}).fit(Y, intake.covariates, fit_mask=call.mask)
    except PcgError as error:
        message: str = error.args[0]
        return message
    return ""


def _parametric(material: Material) -> set[str]:
    return {name for term in material.formula.parametric for node in term.factors for name in columns_of(node)}
