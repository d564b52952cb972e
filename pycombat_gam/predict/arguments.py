"""The arguments of `Predictor`, checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from pycombat_gam.errors import OptionError
from pycombat_gam.formula import parse_formula
from pycombat_gam.predict.calibration import Demand
from pycombat_gam.predict.horizons import check_horizons
from pycombat_gam.predict.outcome import Question, read_question
from pycombat_gam.study.harmonizer import Harmonizer, is_harmonizer
from pycombat_gam.tables.arguments import check_level, check_seed, check_texts
from pycombat_gam.words import Setting, Worded, listing


def check_arguments(params: dict[str, Any]) -> tuple[Question, Demand]:
    """Check what does not need the table."""
    check_texts(params["formula"], params["batch"])
    check_seed(params["seed"])
    demand = check_demand(params)
    question = read_question(params["formula"])
    batch = params["batch"]
    if batch in (*question.right.variables, *question.columns):
        raise OptionError(
            f"'{batch}' is the batch: at a new site its effect is unknown, so it cannot be in the formula; leave it out"
        )
    case, taxonomy = params["case"], params["taxonomy"]
    if case is not None and not isinstance(case, str):
        raise OptionError(f"case={case!r}: give the column that says which rows are one case")
    if params["horizons"] is not None and not question.survival:
        raise OptionError(f"horizons are for Surv(time, event); the outcome is {question.name}")
    if question.survival and params["horizons"] is None:
        raise OptionError(
            f"{question.name} needs horizons, such as horizons=(365, 730): times at which risks are given"
        )
    if question.survival:
        check_horizons(params["horizons"])
        if params["sites"] is not None:
            raise OptionError(f"sites={params['sites']!r} is for sets, and {question.name} has risks: leave it out")
    if question.survival and (case is not None or taxonomy is not None):
        raise OptionError("case and taxonomy are for classes; the outcome is a time")
    return question, demand


def check_demand(params: dict[str, Any]) -> Demand:
    """Check what is asked of the sets; it may change after the fit."""
    level, share = check_level(params["level"]), params["sites"]
    if share is not None:
        wrong = isinstance(share, bool) or not isinstance(share, int | float | np.number)
        if wrong or not 0 < share < 1:
            asked = Worded(Setting("sites", share), ": give the share of new sites at which sets hold, such as 0.9; ")
            raise OptionError(Worded(asked, "leave it out for on average over sites"))
    for name in ("per_class", "guarantee"):
        if not isinstance(params[name], bool):
            raise OptionError(f"{name}={params[name]!r}: give True or False")
    return Demand(level, None if share is None else float(share), bool(params["guarantee"]))


def check_harmonizer(harmonizer: object, question: Question, batch: str) -> Harmonizer | None:
    """Return the harmonizer, unfitted, of the predictor's own batch, without the outcome and a reference site."""
    if harmonizer is None:
        return None
    if not is_harmonizer(harmonizer):
        raise OptionError(
            f"harmonizer={harmonizer!r}: give an unfitted pcg.ComBat(…) or pcg.FlowSCM(…), or None for raw features"
        )
    if harmonizer.__sklearn_is_fitted__():
        raise OptionError(
            "the harmonizer is fitted already, to rows that each fold must not see: give an unfitted one, such as "
            f"{type(harmonizer).__name__}({harmonizer.formula!r}, batch={harmonizer.batch!r})"
        )
    if harmonizer.batch != batch:
        raise OptionError(f"the harmonizer's batch is '{harmonizer.batch}', the predictor's '{batch}': give one")
    used = parse_formula(harmonizer.formula).variables
    if seen := [name for name in question.columns if name in used]:
        verb = "is" if len(seen) == 1 else "are"
        raise OptionError(
            f"{listing(seen)} {verb} what is predicted: {type(harmonizer).__name__} would see it at sites where it is "
            "unknown; leave it out"
        )
    if harmonizer.ref_batch is not None:
        raise OptionError(
            f"the harmonizer goes to ref_batch={harmonizer.ref_batch!r}, which the model without that site does not "
            "know: leave ref_batch out"
        )
    return harmonizer
