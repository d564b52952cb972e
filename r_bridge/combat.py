"""R's ComBat packages, in our argument names and our layout of estimates.

Every function takes a wide table and returns a `Harmonized`: the table as R harmonized it, and `Estimates` as
`pycombat_gam.ComBat` has them. What a package does not give is absent there: a table of NaN.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from pycombat_gam.combat.estimates import Estimates
from pycombat_gam.errors import OptionError
from pycombat_gam.formula import Formula, parse_formula
from pycombat_gam.formula.nodes import deparse
from pycombat_gam.tables.intake import FeatureChoice, put_back
from r_bridge import session, sources
from r_bridge.formula import to_r
from r_bridge.functions import translate
from r_bridge.mgcv import METHODS
from r_bridge.study import Study

PRIORS = ("gamma_bar", "t2", "a_prior", "b_prior")

Prior = Literal["parametric", "nonparametric"]


@dataclass(frozen=True, eq=False)
class Harmonized:
    """What one of R's ComBat packages returned.

    Attributes
    ----------
    table : DataFrame or array
        The table given, its features replaced.
    estimates : Estimates
        In our layout; NaN (or no rows) where the package gives none.
    package : str
        The R package, with its version.
    output : str
        What R wrote to the console.
    warnings : tuple of str
        R's warnings, each once.
    n_pc : int or None
        Number of principal components that ``covfam`` harmonized; None for the others.
    """

    table: pd.DataFrame
    estimates: Estimates
    package: str
    output: str
    warnings: tuple[str, ...]
    n_pc: int | None = None

    def __repr__(self) -> str:
        V = self.estimates.gamma_star.shape[1]
        return f"Harmonized by R's {self.package}: {len(self.table)} rows, {V} features, {len(self.warnings)} warnings"


def sva_combat(
    table: pd.DataFrame,
    formula: str = "~ 1",
    batch: str = "batch",
    *,
    features: FeatureChoice = None,
    id: str | Sequence[str] | None = None,
    ref_batch: object = None,
    prior: Prior = "parametric",
    mean_only: bool = False,
) -> Harmonized:
    """Harmonize with ``sva::ComBat``; the arguments are those of `pycombat_gam.ComBat`.

    Missing cells are NaN to R, which fits each feature on its observed cells. The package returns no estimates; they
    are read from the function as it ends.

    Raises
    ------
    OptionError
        For a formula with smooths or random effects, which the package doesn't have.
    RMissingError, RError
        Without R or sva; if R stops.
    """
    study = Study.read(table, formula, batch, features=features, id=id)
    _linear(study, "sva::ComBat")
    return _run(study, "sva", "sva_combat", _options(study, ref_batch, prior, mean_only))


def neurocombat(
    table: pd.DataFrame,
    formula: str = "~ 1",
    batch: str = "batch",
    *,
    features: FeatureChoice = None,
    id: str | Sequence[str] | None = None,
    ref_batch: object = None,
    eb: bool = True,
    prior: Prior = "parametric",
    mean_only: bool = False,
) -> Harmonized:
    """Harmonize with ``neuroCombat::neuroCombat``; the arguments are those of `pycombat_gam.ComBat`.

    Raises
    ------
    OptionError
        For a formula with smooths or random effects, which the package doesn't have.
    RMissingError, RError
        Without R or neuroCombat; if R stops.
    """
    study = Study.read(table, formula, batch, features=features, id=id)
    _linear(study, "neuroCombat")
    return _run(study, "neuroCombat", "neurocombat", _options(study, ref_batch, prior if eb else "none", mean_only))


def comfam(
    table: pd.DataFrame,
    formula: str = "~ 1",
    batch: str = "batch",
    *,
    which: Literal["combat", "combat_gam", "covfam", "combatls", "long_combat"] | None = None,
    features: FeatureChoice = None,
    id: str | Sequence[str] | None = None,
    ref_batch: object = None,
    eb: bool = True,
    smoothing: str = "REML",
    sigma_formula: str = "~ 1",
    robust: bool = False,
    percent_var: float = 0.95,
    n_pc: int | None = None,
) -> Harmonized:
    """Harmonize with ComBatFamily: ``combat``, ``combat_gam``, ``covfam`` (CovBat), ``combatls`` or ``long_combat``.

    Parameters
    ----------
    which : {"combat", "combat_gam", "covfam", "combatls", "long_combat"}, optional
        By default ``combat_gam`` if the formula has smooths, ``long_combat`` if it has random effects and no smooths,
        else ``combat``.
    smoothing : str
        mgcv's ``method``, for smooths.
    sigma_formula : str
        Formula of the scale, for ``combatls``.
    robust : bool
        ComBatFamily's ``robust.LS``.
    percent_var : float
        Share of the variance that the principal components of ``covfam`` explain.
    n_pc : int, optional
        Number of principal components of ``covfam``, in place of `percent_var`.

    Raises
    ------
    OptionError
        For smooths or random effects that the chosen function doesn't have.
    RMissingError, RError
        Without R or ComBatFamily (``combatls``: or gamlss); if R stops.

    Notes
    -----
    gamlss, which fits ``combatls``, has no ``s()``: its P-spline is ``pb()``. ``s(age)`` is sent as ``pb(age)``, and
    ``pb(age)`` may be written itself; options of a smooth are refused there.
    """
    if which == "combatls":
        formula, sigma_formula = _with_smooths(formula), _with_smooths(sigma_formula)
    sigma = parse_formula(sigma_formula)
    study = Study.read(table, formula, batch, features=features, id=id, beside=[sigma] if which == "combatls" else [])
    smooth, random = bool(study.formula.smooths), bool(study.formula.random)
    chosen = which or ("combat_gam" if smooth else "long_combat" if random else "combat")
    allowed = {"combat": (), "combat_gam": ("s", "r"), "covfam": ("s",), "combatls": ("s",), "long_combat": ("r",)}
    if (smooth and "s" not in allowed[chosen]) or (random and "r" not in allowed[chosen]):
        raise OptionError(f"ComBatFamily's {chosen} cannot fit '{formula}': leave smooths and random effects out")
    if chosen == "long_combat" and not random:
        raise OptionError(f"ComBatFamily's long_combat needs a random effect, like '~ age + (1|{id or 'subject'})'")
    _no_offset(study, "ComBatFamily")
    more: dict[str, Any] = {"robust.LS": robust} if chosen in ("combat", "combat_gam") else {}
    if smooth and chosen in ("combat_gam", "covfam"):
        more["method"] = METHODS[smoothing]
    if chosen == "covfam":
        more |= {"gam": smooth, "percent.var": percent_var, "n.pc": n_pc}
    sent = to_r(study.sent, engine="lme4" if chosen == "long_combat" else "mgcv")
    if chosen == "combatls":
        session.require("gamlss")
        sent = _for_gamlss(study.sent)
        more["sigma.formula"] = _for_gamlss(study.names.formula(sigma))
    options = _options(study, ref_batch, "parametric" if eb else "none", mean_only=False)
    criterion = smoothing.removesuffix(".Cp")
    fixed = to_r(replace(study.sent, smooths=(), random=()))
    return _run(
        study, "ComBatFamily", "comfam", options,
        criterion=criterion, formula=sent, fixed=fixed, which=chosen, more=more,
    )  # fmt: skip


def _with_smooths(formula: str) -> str:
    """Read gamlss's ``pb()`` as a smooth."""
    return re.sub(r"(?<![\w.`])pb\s*\(", "s(", formula)


def _for_gamlss(formula: Formula) -> str:
    """Return R code in which every smooth is a P-spline of gamlss."""
    for term in formula.smooths:
        if term.kind != "s" or len(term.args) != 1 or term.by is not None or term.options:
            raise OptionError(
                f"combatls: gamlss has no smooth like {term.kind}(…) with several variables or options in '{formula}': "
                "write s(age) or pb(age), its P-spline, without options"
            )
    smooths = [f"pb({deparse(translate(term.args[0]))})" for term in formula.smooths]
    return " + ".join([to_r(replace(formula, smooths=())), *smooths])


def longcombat(
    table: pd.DataFrame,
    formula: str = "~ 1",
    batch: str = "batch",
    *,
    id: str,
    time: str,
    features: FeatureChoice = None,
    iterations: int = 30,
    method: Literal["REML", "MSR"] = "REML",
) -> Harmonized:
    """Harmonize repeated measures with ``longCombat::longCombat``.

    Parameters
    ----------
    formula : str
        With its random effects, ``"~ age + dx*time + (1|subject)"``.
    id, time : str
        Columns of subject and time.
    iterations : int
        longCombat's ``niter``.
    method : {"REML", "MSR"}
        Estimator of the residual variance.

    Raises
    ------
    OptionError
        For smooths, or without a random effect.
    RMissingError, RError
        Without R or longCombat; if R stops.
    """
    study = Study.read(table, formula, batch, features=features, id=id, more=[id, time])
    parsed = study.formula
    if parsed.smooths or not parsed.random:
        raise OptionError(
            f"longCombat fits random effects but no smooths: give a formula like '~ age + (1|{id})', not '{formula}'"
        )
    _no_offset(study, "longCombat")
    return _run(
        study,
        "longCombat",
        "longcombat",
        None,
        formula=to_r(replace(study.sent, random=())),
        random=" + ".join(f"({term.label})" for term in study.sent.random),
        id=study.names.groups.get(id, study.names.sent[id]),
        time=study.names.sent[time],
        niter=iterations,
        method=method,
    )


def _linear(study: Study, package: str) -> None:
    if study.formula.penalised:
        raise OptionError(f"{package} fits linear models only: '{study.formula}' has smooths or random effects")
    _no_offset(study, package)


def _no_offset(study: Study, package: str) -> None:
    """Stop where a package would silently drop an offset."""
    if study.formula.offsets:
        raise OptionError(f"{package} has no offset: '{study.formula}' asks for one; subtract it from the features")


def _options(study: Study, ref_batch: object, prior: str, mean_only: bool) -> dict[str, Any]:
    if prior not in ("parametric", "nonparametric", "none"):
        raise OptionError(f"prior={prior!r}: allowed are 'parametric' and 'nonparametric'")
    return {"ref": study.reference(ref_batch), "mean_only": mean_only, "prior": prior}


def _run(
    study: Study, package: str, function: str, options: dict[str, Any] | None, *, criterion: str = "", **more: Any
) -> Harmonized:
    """Call one function of `R/packages.R`; `criterion` names the score of its smooths."""
    session.require(package)
    if options is not None:
        more = {"options": options, "formula": to_r(study.sent), **more}
    with study.names.in_errors():
        reply = session.run(
            sources.function(function, "packages"),
            **{
                "Y": study.Y.to_numpy(),
                "features": list(study.Y.columns),
                "batch": study.batch,
                "data": study.data,
                **more,
            },
        )
    features = list(study.given.features)
    value = reply.value
    harmonized = np.asarray(value["harmonized"], dtype=np.float64)
    version = session.call("function(package) as.character(utils::packageVersion(package))", package=package)[0]
    return Harmonized(
        table=pd.DataFrame(put_back(study.given, harmonized)),
        estimates=estimates_from_r(value["estimates"], features, study, criterion),
        package=f"{package} {version}",
        output=study.names.ours(reply.output),
        warnings=tuple(dict.fromkeys(map(study.names.ours, reply.warnings))),
        n_pc=None if value.get("n_pc") is None else int(value["n_pc"][0]),
    )


def estimates_from_r(reply: Mapping[str, Any], features: Sequence[str], study: Study, criterion: str = "") -> Estimates:
    """Return R's estimates in our layout: features as columns, batches as rows, NaN for what R does not give."""
    batches = pd.Index(study.levels.labels, name=study.levels.column)
    columns = pd.Index(list(features))

    def table(name: str, index: pd.Index, kept: Any = None) -> pd.DataFrame:
        values = reply.get(name) if kept is None else kept
        if values is None:
            return pd.DataFrame(np.nan, index=index, columns=columns)
        return pd.DataFrame(np.asarray(values, dtype=np.float64).reshape(len(index), len(columns)), index, columns)

    coefficients = reply.get("coefficients")
    terms = pd.Index(
        study.names.labels(coefficients.index, study.formula) if isinstance(coefficients, pd.DataFrame) else [],
        name="term",
        dtype="str",
    )
    priors = pd.DataFrame(np.asarray(reply["priors"], dtype=np.float64), index=batches, columns=list(PRIORS))
    single = {name: table(name, pd.Index([name])) for name in ("grand_mean", "var_pooled")}
    by_batch = {name: table(name, batches) for name in ("gamma_hat", "delta_hat", "gamma_star", "delta_star")}
    sp = reply.get("sp_names")
    none = pd.DataFrame(index=pd.Index([], name="smooth", dtype="str"), columns=columns, dtype=float)
    return Estimates(
        coefficients=table("coefficients", terms)
        if len(terms)
        else pd.DataFrame(index=terms, columns=columns, dtype=float),
        **single,
        **by_batch,
        **{name: priors[[name]] for name in PRIORS},
        smoothing_parameters=none
        if sp is None
        else table("sp", pd.Index(study.names.labels(sp, study.formula), name="smooth", dtype="str")),
        edf=none,
        score=none if sp is None else table("score", pd.Index([criterion], name="smooth", dtype="str")),
    )
