"""The arguments of ComBat: what each may be, and their plain form in a saved model."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.batch.levels import canonical
from pycombat_gam.design import check_supported
from pycombat_gam.errors import OptionError
from pycombat_gam.formula import Formula, parse_formula
from pycombat_gam.harmonizer import BatchOptions
from pycombat_gam.types import JsonDict
from pycombat_gam.words import did_you_mean, listing

ALLOWED = {
    "prior": ("parametric", "nonparametric"),
    "smoothing": ("REML", "ML", "GCV"),
    "on_unseen": ("error", "estimate"),
    "missing": ("error", "omit"),
    "output": ("table", "features"),
}
AFTER_FIT = ("id", "on_unseen", "missing", "output")
"""Arguments that may be changed after the fit; the others would contradict it."""


def check_options(params: Mapping[str, Any]) -> tuple[BatchOptions, Formula]:
    """Validate the arguments; return the choices of the batch model and the parsed formula.

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
    prior = params["prior"] if params["eb"] else "none"
    return BatchOptions(prior, bool(params["mean_only"]), params["missing"] == "omit"), formula


def check_texts(formula: object, batch: object) -> None:
    """Stop for a formula or batch that is no text, such as a table in the formula's place."""
    if isinstance(batch, list | tuple | pd.Index) and len(batch) > 1 and all(isinstance(name, str) for name in batch):
        joined, made = "_".join(batch), " + '_' + ".join(f"table['{name}'].astype(str)" for name in batch)
        raise OptionError(
            f"batch={list(batch)}: it is one column; make one of them, table['{joined}'] = {made}, and give "
            f"batch='{joined}'"
        )
    for name, given, what in (("formula", formula, "the formula"), ("batch", batch, "the column's name")):
        if not isinstance(given, str):
            short = given is None or isinstance(given, int | float)
            shown = f"{name}={given!r}" if short else f"{name} is a {type(given).__name__}"
            raise OptionError(f"{shown}: give {what} as text")


def check_choices(params: Mapping[str, Any], allowed: Mapping[str, Sequence[str]]) -> None:
    """Stop for an argument whose value is none of those allowed."""
    for name, values in allowed.items():
        value = params[name]
        if not isinstance(value, str) or value not in values:
            hint = did_you_mean(value, values) if isinstance(value, str) else ""
            raise OptionError(f"{name}={value!r}: allowed are {listing(map(repr, values))}{hint}")


def names(given: object, argument: str) -> list[str]:
    """Return column names as a list of text; None is none."""
    if given is None:
        return []
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list | tuple | np.ndarray | pd.Index):
        shown = " ".join(reprlib.repr(given).split())
        raise OptionError(f"{argument}={shown}: give a column's name, a list of names, or None")
    for name in given:
        if not isinstance(name, str | int | np.integer):
            raise OptionError(f"{argument} holds {name!r}: give the names of columns")
    return [str(name) for name in given]


def plain_params(params: Mapping[str, Any]) -> JsonDict:
    """Return the arguments as plain data; a `mean_model` object is not among them, what it fitted is."""
    plain = {name: value for name, value in params.items() if name != "mean_model"}
    for name in ("features", "id"):
        if plain[name] is not None and not isinstance(plain[name], str):
            plain[name] = names(plain[name], name)
    for name in ("eb", "mean_only"):
        plain[name] = bool(plain[name])
    if plain["ref_batch"] is not None:
        plain["ref_batch"] = canonical(plain["ref_batch"])
    return plain
