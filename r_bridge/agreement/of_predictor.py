"""Predictions at sites left out, measured here and in R."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.errors import OptionError
from pycombat_gam.predict.outcome import Kind
from pycombat_gam.predict.predictor import Predictor
from pycombat_gam.words import listing
from r_bridge import session
from r_bridge.agreement.engines import check_any, choose, compare, source, versions
from r_bridge.agreement.measured import Measures
from r_bridge.agreement.report import Agreement, Row

ENGINES = ("pROC", "stats", "survival", "metafor")
WAYS = {"classes": ("stats (glm)", "stats (mean)"), "number": ("stats (lm)", "stats (mean)")}
"""What stats is asked for, by kind of outcome."""


def crosscheck_predictor(
    model: Predictor, table: pd.DataFrame, engines: Sequence[str] | None, options: dict[str, Any]
) -> Agreement:
    """Measure predictions at sites left out here and with R's engines, and compare; see `crosscheck`."""
    if options:
        raise OptionError(f"{listing(options)}: the model has its own; give options with a formula of ComBat only")
    model = Predictor(**model.get_params()).fit(table)
    kind = model.fitted.outcome.kind
    inapplicable = {engine: reason for engine in ENGINES if (reason := _why_not(engine, kind))}
    installed, left_out = choose(ENGINES, inapplicable, engines)
    check_any(installed, left_out)
    measures = Measures(model.fitted, model.validation)
    ours, sent = measures.quantities(), measures.sent()
    compared = measures.compared(sent)
    rows: list[Row] = []
    warned: list[str] = []
    for engine in installed:
        for way in WAYS.get(kind, ()) if engine == "stats" else (engine,):
            reply = session.run(source("run_engine"), engine=way, study=sent)
            warned += [f"{way}: {message}" for message in dict.fromkeys(reply.warnings)]
            theirs = {name: np.asarray(values, dtype=np.float64) for name, values in reply.value.items()}
            rows += [compare(way, ours[name], theirs[name], (), compared) for name in ours if name in theirs]
    return Agreement(
        call=repr(model), study=compared, sent=sent, rows=tuple(rows), left_out=left_out, warnings=tuple(warned),
        versions=versions(installed),
    )  # fmt: skip


def _why_not(engine: str, kind: Kind) -> str:
    """Say why an engine cannot be asked about an outcome; empty if it can."""
    if engine == "pROC" and kind == "number":
        return "is for classes"
    if engine == "pROC" and kind == "survival":
        return "has no weights for censored rows"
    if engine == "stats" and kind == "survival":
        return "has no measure of censored rows"
    if engine == "survival" and kind != "survival":
        return "is for Surv(time, event)"
    return ""
