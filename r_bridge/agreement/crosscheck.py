"""Fit the same model here and in R, and compare everything."""

from __future__ import annotations

from collections.abc import Sequence
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
from pycombat_gam.words import Setting, Worded, in_one, listing
from r_bridge import session, sources
from r_bridge.agreement.inference import Terms, site_weights
from r_bridge.agreement.known import Known, known
from r_bridge.agreement.ours import Quantity, quantities
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
FILES = ("combat", "mgcv", "lme4", "packages", "tests", "agreement")
"""The files of `R/` that an engine needs, in order."""


MEANS = ("mgcv", "lme4")
"""Engines that fit a mean only: if one stops, there is nothing to compare with."""
OF_TESTS = ("stats", "nlme")
"""Engines that test the terms of a linear formula."""


def crosscheck(
    model: ComBat | str,
    table: pd.DataFrame,
    *,
    engines: Sequence[str] | None = None,
    **options: Any,
) -> Agreement:
    """Fit a ComBat model here and with every R engine that applies, and compare them quantity by quantity.

    mgcv fits the mean of any formula; lme4 takes its place for random effects without smooths. ComBat's further steps
    are done in R by code of this package. sva, neuroCombat and ComBatFamily are asked if they are installed and can fit
    the model, and so is longCombat for ``(1 | subject)``: with REML, its default residual variance, and with MSR, which
    is ours. An engine that stops at the data, as neuroCombat does at a constant feature, is left out with its message
    unless it was asked for by name.

    Tests of terms are those of `ComBat.test` with ``variance="pooled"``. Without site weights they stand beside R's
    ``lm`` with site as a factor, mgcv's tests, or lme4's with Kenward and Roger's degrees of freedom; with the site
    weights, taken as known, beside ``nlme::gls``. R has none of random effects by ML, or of terms beside smooths and
    random effects together.

    Differences are in units of the residual sd, and each has a tolerance with its reason. A known difference counts as
    explained only if the numbers agree once our computation uses R's rule. R's search is blamed only where R's own
    score is better at our smoothing parameters.

    Parameters
    ----------
    model : ComBat or str
        A `pycombat_gam.ComBat`, fitted or not (it is fitted again), or a formula with the arguments of ComBat as
        `options`: ``crosscheck("~ s(age) + sex", table, batch="site")``.
    table : DataFrame
        One wide table.
    engines : list of str, optional
        Which of ``"mgcv"``, ``"lme4"``, ``"stats"`` (lm), ``"nlme"`` (gls), ``"sva"``, ``"neuroCombat"``,
        ``"ComBatFamily"`` and ``"longCombat"`` to ask. By default all that apply, mgcv only where lme4 does not.
    **options
        Arguments of ComBat, if `model` is a formula.

    Returns
    -------
    Agreement
        Prints as a table; `.table` is a DataFrame; `.write(path)` leaves HTML and a folder that R alone can run.

    Raises
    ------
    OptionError
        For an engine that is unknown, does not apply, or a model with a `mean_model` of its own.
    RMissingError, RError
        Without R or mgcv; if R stops.

    Examples
    --------
    >>> import pycombat_gam as pcg, r_bridge
    >>> table = pcg.datasets.load_multisite()
    >>> agreement = r_bridge.crosscheck("~ age + sex", table, batch="site", id="subject", features="_thickness$")
    >>> agreement.verdict
    'agrees'
    """
    model = ComBat(model, **options) if isinstance(model, str) else _fresh(model, options)
    _, formula = check_options(model.get_params())
    check_translatable(formula)
    left_out = {engine: reason for engine in ENGINES if (reason := _why_not(engine, model))}
    asked = [engine for engine in ENGINES if engine not in left_out] if engines is None else list(engines)
    if unknown := [engine for engine in asked if engine not in ENGINES]:
        raise OptionError(f"engines={unknown!r}: allowed are {listing(ENGINES)}")
    if engines is not None and (refused := [engine for engine in asked if engine in left_out]):
        raise OptionError(in_one(Worded(f"{engine} ", left_out[engine]) for engine in refused))
    session.require("mgcv")
    installed = [engine for engine in asked if _installed(engine)]
    left_out |= {engine: "is not installed in this R" for engine in asked if engine not in installed}
    if engines is not None:
        session.require(*asked)
    elif "lme4" in installed:
        installed.remove("mgcv")
        left_out["mgcv"] = "is slower than lme4, which fits the same model: engines=['mgcv'] includes it"
    if not installed:
        reasons = in_one(Worded(f"{engine} ", reason) for engine, reason in left_out.items())
        raise OptionError(Worded("there is no engine to compare with: ", reasons))

    model.fit(table)
    fit = model.fitted
    study = Study.read(table, formula, model.batch, features=model.features, id=model.id)
    if fit.features != study.given.features:
        raise DataError("the features of the fit are not those of the table; please report this")
    ours = quantities(fit, study)
    sent = _for_r(study, fit, model)
    rows: list[Row] = []
    warned: list[str] = []
    took_part: list[str] = []
    for engine in installed:
        for way in WAYS.get(engine, (engine,)):
            try:
                with study.names.in_errors():
                    reply = session.run(_source("run_engine"), engine=way, study=sent)
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
            rows += [
                _compare(way, ours[name], theirs[name], differences, study, sent["terms"])
                for name in ours
                if name in theirs
            ]
    return Agreement(
        call=repr(model), study=study, sent=sent, rows=tuple(rows), left_out=left_out, warnings=tuple(warned),
        versions=_versions(list(dict.fromkeys(took_part))),
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


def _installed(engine: str) -> bool:
    return bool(session.call("function(name) requireNamespace(name, quietly = TRUE)", name=engine)[0])


def _versions(engines: Sequence[str]) -> dict[str, str]:
    version = "function(x) as.character(utils::packageVersion(x))"
    code = f"function(names) c(as.character(getRversion()), vapply(names, {version}, ''))"
    versions = session.call(code, names=list(engines))
    return dict(zip(["R", *engines], map(str, np.asarray(versions)), strict=True))


def _source(function: str) -> str:
    return sources.function(function, *FILES)


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


def _compare(
    engine: str, ours: Quantity, theirs: FloatArray, differences: Sequence[Known], study: Study, terms: list[str]
) -> Row:
    """Let R compare one quantity, by the code that `agreement.R` runs again."""
    sites = {"subjects": study.batch, "sites": list(study.levels.labels), "tests": terms}.get(ours.rows)
    best: Row | None = None
    for difference in (None, *differences):
        variant = None if difference is None else difference.quantities.get(ours.name)
        if difference is not None and variant is None:
            continue
        verdict = session.call(
            _source("verdict"),
            ours=ours.values,
            theirs=theirs,
            variant=None if variant is None else variant.values,
            unit=ours.unit,
            tolerance=ours.tolerance,
            features=list(study.given.features),
            sites=sites,
        )
        row = Row(
            engine=engine,
            quantity=ours,
            largest=float(verdict["largest"][0]),
            median=float(verdict["median"][0]),
            feature=str(verdict["feature"][0]),
            site=str(verdict["site"][0] or ""),
            verdict=str(verdict["verdict"][0]),
            explanation="",
            variant=None,
            blame=None,
        )
        if difference is not None and row.verdict == "explained" and variant is not None:
            return Row(**{**vars(row), "explanation": difference.explanation, "variant": variant,
                          "blame": difference.blame})  # fmt: skip
        if best is None:
            best = row
        if best.verdict == "agrees":
            break
    if best is None:
        raise RError(f"nothing to compare for {ours.name}; please report this")
    return best
