"""ComBat here and in R."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.combat.arguments import check_options
from pycombat_gam.combat.estimator import ComBat
from pycombat_gam.combat.fitted import FittedComBat
from pycombat_gam.errors import DataError, OptionError
from pycombat_gam.formula import Formula
from pycombat_gam.mean.fit import MeanFit
from pycombat_gam.types import FloatArray
from pycombat_gam.words import Setting, Worded, listing
from r_bridge import session
from r_bridge.agreement.compared import Column, Compared, spelled
from r_bridge.agreement.engines import check_any, choose, compare, source, versions
from r_bridge.agreement.inference import Terms, site_weights
from r_bridge.agreement.known import known
from r_bridge.agreement.ours import quantities
from r_bridge.agreement.report import Agreement, Row
from r_bridge.agreement.search import Search
from r_bridge.errors import RError
from r_bridge.formula import to_r
from r_bridge.functions import check_translatable
from r_bridge.mgcv import METHODS, MgcvMean
from r_bridge.study import Study

ENGINES = ("mgcv", "lme4", "stats", "nlme", "sva", "neuroCombat", "ComBatFamily", "longCombat")
WAYS = {
    "longCombat": ("longCombat (REML)", "longCombat (MSR)"),
    "stats": ("stats (lm)",),
    "nlme": ("nlme (gls)",),
}
"""Engines that are asked in one of their ways or several, and what each is called."""
MEANS = ("mgcv", "lme4")
"""Engines that fit a mean only: if one stops, there is nothing to compare with."""
OF_TESTS = ("stats", "nlme")
"""Engines that test the terms of a linear formula."""


def crosscheck_combat(
    model: ComBat | str, table: pd.DataFrame, engines: Sequence[str] | None, options: dict[str, Any]
) -> Agreement:
    """Fit ComBat here and with R's engines, and compare; see `crosscheck`."""
    model = ComBat(model, **options) if isinstance(model, str) else _fresh(model, options)
    _, formula = check_options(model.get_params())
    check_translatable(formula)
    inapplicable = {engine: reason for engine in ENGINES if (reason := _why_not(engine, model))}
    installed, left_out = choose(ENGINES, inapplicable, engines, needed=("mgcv",))
    if engines is None and "lme4" in installed:
        installed.remove("mgcv")
        left_out["mgcv"] = "is slower than lme4, which fits the same model: engines=['mgcv'] includes it"
    check_any(installed, left_out)

    model.fit(table)
    fit = model.fitted
    study = Study.read(table, formula, model.batch, features=model.features, id=model.id)
    if fit.features != study.given.features:
        raise DataError("the features of the fit are not those of the table; please report this")
    ours = quantities(fit, study)
    sent = _for_r(study, fit, model)
    compared = _compared(study, sent)
    rows: list[Row] = []
    warned: list[str] = []
    took_part: list[str] = []
    for engine in installed:
        for way in WAYS.get(engine, (engine,)):
            try:
                with study.names.in_errors():
                    reply = session.run(source("run_engine"), engine=way, study=sent)
            except RError as error:
                if engines is not None or engine in MEANS:
                    raise
                left_out[way] = f"stopped: {error}"
                continue
            took_part.append(engine)
            warned += [f"{way}: {study.names.ours(message)}" for message in dict.fromkeys(reply.warnings)]
            theirs = {name: np.asarray(values, dtype=np.float64) for name, values in reply.value.items()}
            search = Search(way, sent, theirs)
            mean_of_r = _mean_of_r(engine, fit, model, study, theirs)
            differences = [] if engine in OF_TESTS else list(known(way, fit, study, theirs, mean_of_r, search))
            rows += [compare(way, ours[name], theirs[name], differences, compared) for name in ours if name in theirs]
    return Agreement(
        call=repr(model), study=compared, sent=sent, rows=tuple(rows), left_out=left_out, warnings=tuple(warned),
        versions=versions(took_part),
    )  # fmt: skip


def _fresh(model: ComBat, options: dict[str, Any]) -> ComBat:
    if options:
        raise OptionError(f"{listing(options)}: the model has its own; give options with a formula only")
    if model.mean_model is not None:
        raise OptionError("the model has a mean_model of its own: crosscheck compares pycombat_gam's with R's")
    if model.batch_model is not None:
        raise OptionError("the model has a batch_model of its own: crosscheck compares ComBat's location and scale")
    return ComBat(**model.get_params())


def _why_not(engine: str, model: ComBat) -> str:
    """Say why an engine cannot be asked about a model; empty if it can."""
    _, formula = check_options(model.get_params())
    bent = bool(formula.smooths)
    if model.prior == "bayes":
        return Worded("plugs estimates in, and draws no posterior (", Setting("prior", "bayes"), ")")
    if engine == "mgcv":
        return ""
    if engine in OF_TESTS:
        return _why_not_tests(engine, formula)
    if formula.offsets:
        return "has no offset()"
    if engine == "lme4":
        return _why_not_lme4(formula, model)
    if engine == "longCombat":
        return _why_not_long(formula, model)
    if engine == "ComBatFamily" and formula.random and not bent and model.smoothing != "REML":
        return "fits random effects without smooths by REML only"
    if engine in ("sva", "neuroCombat") and formula.random:
        return "has no random effects"
    if engine in ("sva", "neuroCombat") and bent:
        return "has no smooths"
    if engine == "sva" and not model.eb:
        return Worded("always shrinks (", Setting("eb", False), ")")
    if engine == "ComBatFamily" and (model.mean_only or (model.eb and model.prior == "nonparametric")):
        return "has neither mean_only nor a nonparametric prior"
    if engine == "ComBatFamily" and model.missing == "omit":
        return "takes no missing cells"
    return ""


def _why_not_tests(engine: str, formula: Formula) -> str:
    if formula.smooths or formula.random:
        return "tests formulas without smooths and random effects"
    if engine == "nlme" and formula.offsets:
        return "has no offset()"
    return "" if formula.parametric else "has no term to test"


def _why_not_lme4(formula: Formula, model: ComBat) -> str:
    if not formula.random:
        return "is for models with random effects"
    if formula.smooths:
        return "has no smooths"
    return "" if model.smoothing in ("REML", "ML") else "has no GCV"


def _why_not_long(formula: Formula, model: ComBat) -> str:
    intercepts = [term for term in formula.random if term.intercept and not term.slopes]
    if len(intercepts) != 1 or intercepts != list(formula.random) or len(intercepts[0].group.factors) != 1:
        return "is for one random intercept, (1 | subject)"
    if formula.smooths:
        return "has no smooths"
    if model.mean_only or not model.eb or model.prior != "parametric" or model.ref_batch is not None:
        return "has neither mean_only, ref_batch nor another prior than the parametric"
    if model.missing == "omit":
        return "takes no missing cells"
    # lme4 has REML and ML, and longCombat takes REML.
    return "" if model.smoothing == "REML" else "fits by REML only"


def _for_r(study: Study, fit: FittedComBat, model: ComBat) -> dict[str, Any]:
    """The study as `R/agreement.R` takes it."""
    formula = study.sent
    terms = Terms.of(fit.mean)
    return {
        "Y": study.Y.to_numpy(),
        "features": list(study.given.features),
        "batch": study.batch,
        "data": study.data,
        "formula": to_r(formula),
        "fixed": to_r(replace(formula, random=(), smooths=())),
        "bars": to_r(replace(formula, smooths=()), engine="lme4"),
        "curved": bool(formula.smooths),
        "subject": [term.group.label for term in formula.random],
        "effects": [
            f"{term.group.label}.{effect}"
            for term in formula.random
            for effect in [*(["(Intercept)"] if term.intercept else []), *(slope.label for slope in term.slopes)]
        ],
        "smooths": list(fit.mean.smoothing.smooths),
        "method": METHODS[model.smoothing],
        "terms": list(terms.labels),
        "sizes": terms.sizes,
        "weights": np.ones(0) if fit.mean.design.smooth.smooths else site_weights(fit.mean, fit.correlation),
        "options": {
            "ref": study.reference(model.ref_batch),
            "mean_only": bool(model.mean_only),
            "prior": model.prior if model.eb else "none",
        },
    }


def _mean_of_r(
    engine: str, fit: FittedComBat, model: ComBat, study: Study, theirs: dict[str, FloatArray]
) -> MeanFit | None:
    """R's fitted mean in our design, where R's score shows that its curves differ."""
    ours = fit.mean.smoothing.score
    if engine != "mgcv" or not ours.size or not (np.abs(theirs["score"] - ours) > 1e-7).any():
        return None
    return MgcvMean(model.smoothing).fit(
        study.given.covariates,
        study.Y.to_numpy(),
        study.codes,
        formula=study.formula,
        features=study.given.features,
        labels=study.levels.labels,
        omit_missing=model.missing == "omit",
    )


def _compared(study: Study, sent: Mapping[str, Any]) -> Compared:
    n, V = study.Y.shape
    columns = [Column("batch", "batch", "batch", pd.Series(study.batch))]
    columns += [Column("covariate", study.names.ours(name), str(name), study.data[name]) for name in study.data]
    columns += [Column("feature", str(name), "", study.Y[name]) for name in study.given.features]
    return Compared(
        size=f"{n} rows, {V} features, {len(study.levels.labels)} sites",
        task="fits the model again in R",
        features=study.given.features,
        batch=study.batch,
        terms=tuple(sent["terms"]),
        columns=tuple(columns),
        settings=tuple(_settings(sent)),
    )


def _settings(sent: Mapping[str, Any]) -> list[tuple[str, str]]:
    options = sent["options"]
    pairs = [(name, sent[name]) for name in ("formula", "fixed", "bars", "method")]
    pairs += [(name, label) for name in ("smooths", "subject", "effects", "terms") for label in sent[name]]
    pairs += [(name, spelled(value)) for name in ("sizes", "weights") for value in sent[name]]
    pairs += [("curved", str(sent["curved"]).upper())]
    pairs += [("mean_only", str(options["mean_only"]).upper()), ("prior", options["prior"])]
    return pairs + ([("ref", options["ref"])] if options["ref"] is not None else [])
