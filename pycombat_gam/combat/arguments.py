"""The arguments of ComBat: what each may be, and their plain form in a saved model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pycombat_gam.batch.levels import canonical
from pycombat_gam.batch.location_scale import LocationScale
from pycombat_gam.batch.model import BatchModel
from pycombat_gam.design.design import check_supported
from pycombat_gam.errors import OptionError
from pycombat_gam.formula import Formula, parse_formula
from pycombat_gam.infer.posterior_means import PosteriorMeans
from pycombat_gam.tables.arguments import check_choices, check_seed, check_texts, names
from pycombat_gam.types import JsonDict
from pycombat_gam.words import Setting, Worded

ALLOWED = {
    "prior": ("parametric", "nonparametric", "bayes"),
    "smoothing": ("REML", "ML", "GCV"),
    "on_unseen": ("error", "estimate"),
    "missing": ("error", "omit"),
    "output": ("table", "features"),
}
AFTER_FIT = ("id", "on_unseen", "missing", "output")
"""Arguments that may be changed after the fit; the others would contradict it."""


OBJECTS = ("mean_model", "batch_model")
"""Arguments that are objects: a saved model holds what they fitted, not the objects."""


def check_options(params: Mapping[str, Any]) -> tuple[BatchModel, Formula]:
    """Validate the arguments; return the batch model that they ask for and the parsed formula.

    Raises
    ------
    OptionError
        Naming the argument, what was given and what is allowed.
    FormulaError, NotYetError
        For a formula that cannot be read or fitted.
    """
    check_choices(params, ALLOWED)
    for name in ("eb", "mean_only"):
        if not isinstance(params[name], bool | np.bool_):
            raise OptionError(f"{name}={params[name]!r}: allowed are True and False")
    check_seed(params["seed"])
    batch, text = params["batch"], params["formula"]
    check_texts(text, batch)
    names(params["id"], "id")
    if not isinstance(params["features"], str):
        names(params["features"], "features")
    model = params["mean_model"]
    if model is not None and not all(hasattr(model, method) for method in ("fit", "predict", "describe")):
        raise OptionError("mean_model must be an object with fit, predict and describe (such as r_bridge.MgcvMean())")
    formula = parse_formula(text)
    if model is None:
        check_supported(formula, absorb_intercept=True)
    if batch in formula.variables:
        raise OptionError(f"batch column '{batch}' is in the formula: ComBat adds it by itself, remove it there")
    return _batch_model(params), formula


def _batch_model(params: Mapping[str, Any]) -> BatchModel:
    """Return the batch model given, or ComBat's own."""
    if params["prior"] == "bayes" and not params["eb"]:
        raise OptionError(
            Worded(
                "eb=False shrinks nothing, and prior='bayes' is a way to shrink: leave one of them out, ",
                Setting("eb", True),
                " or ",
                Setting("prior", "parametric"),
            )
        )
    standard: BatchModel = LocationScale(params["prior"], bool(params["mean_only"]), bool(params["eb"]))
    if params["prior"] == "bayes":
        standard = PosteriorMeans(mean_only=bool(params["mean_only"]), seed=int(params["seed"]))
    model: BatchModel | None = params["batch_model"]
    if model is None:
        return standard
    if not all(hasattr(model, name) for name in ("needs", "fit", "from_arrays")):
        raise OptionError("batch_model must be an object with needs, fit and from_arrays; see batch.model.BatchModel")
    if model.needs not in ("moments", "residuals"):
        raise OptionError(f"batch_model.needs={model.needs!r}: allowed are 'moments' and 'residuals'")
    if standard != LocationScale():
        raise OptionError("batch_model takes the place of eb, prior and mean_only: leave these out")
    return model


def plain_params(params: Mapping[str, Any]) -> JsonDict:
    """Return the arguments as plain data; objects are not among them, what they fitted is."""
    plain = {name: value for name, value in params.items() if name not in OBJECTS}
    for name in ("features", "id"):
        if plain[name] is not None and not isinstance(plain[name], str):
            plain[name] = names(plain[name], name)
    for name in ("eb", "mean_only"):
        plain[name] = bool(plain[name])
    plain["seed"] = int(plain["seed"])
    if plain["ref_batch"] is not None:
        plain["ref_batch"] = canonical(plain["ref_batch"])
    return plain


def saved_params(params: Mapping[str, Any]) -> JsonDict:
    """Return the arguments for a file: plain, and without a seed that drew nothing, which older releases don't know."""
    plain = plain_params(params)
    return {name: value for name, value in plain.items() if name != "seed" or plain["prior"] == "bayes"}
