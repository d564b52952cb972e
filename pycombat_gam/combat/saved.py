"""The plain-data form of a fitted ComBat: JSON, and every number in arrays. Reading trusts nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pycombat_gam.batch.levels import BatchLevels
from pycombat_gam.batch.location_scale import LocationScale
from pycombat_gam.batch.model import Batches, BatchModel
from pycombat_gam.combat.fitted import FittedComBat
from pycombat_gam.combat.profile import check_profile
from pycombat_gam.design.design import Design
from pycombat_gam.errors import OptionError
from pycombat_gam.infer.engine import compacted
from pycombat_gam.mean.saved import WITH_STATISTICS, mean_arrays, read_mean
from pycombat_gam.saving.container import VERSION, Container
from pycombat_gam.saving.reader import Reader
from pycombat_gam.types import JsonDict

KIND = "combat"


def to_container(fit: FittedComBat, params: JsonDict) -> Container:
    """Return the plain-data form; `params` are the constructor arguments of the model."""
    arrays = {"features": np.array(fit.features, dtype=np.str_), **mean_arrays(fit.mean)}
    more = fit.batch.arrays()
    if taken := sorted({*arrays} & {*more}):
        raise OptionError(f"the batch model's arrays have names of the mean model's, {', '.join(taken)}: rename them")
    standard = isinstance(fit.batch.model, LocationScale)
    model: JsonDict = {
        "params": params,
        "design": fit.mean.design.to_dict(),
        "criterion": fit.mean.smoothing.criterion,
        "batch": {"column": fit.levels.column, "labels": list(fit.levels.labels)},
        "reference": fit.reference,
        **({} if standard else {"batch_model": type(fit.batch.model).__name__}),
        "notes": list(fit.notes),
        "profile": fit.profile,
        **({} if np.isnan(fit.correlation) else {"correlation": fit.correlation}),
    }
    return Container(KIND, model, {**arrays, **more}, VERSION if fit.mean.groups is None else WITH_STATISTICS)


def compact(fit: FittedComBat) -> FittedComBat:
    """Return a fit whose file is small.

    Raises
    ------
    OptionError
        For a formula with smooths or random effects: their tests fit them again.
    """
    mean = fit.mean
    if mean.groups is None or mean.weighted is not None or not mean.design.columns:
        return fit
    if mean.design.smooth.smooths:
        raise OptionError(
            f"compact=True is for formulas without smooths and random effects; this one is '{mean.design.formula}'"
        )
    return replace(fit, mean=compacted(mean, fit.correlation))


def from_container(container: Container, batch_model: BatchModel) -> FittedComBat:
    """Rebuild from plain data; shapes, types and the formula are checked.

    Parameters
    ----------
    batch_model : that made the model, as its parameters or the caller say.

    Raises
    ------
    ModelFileError
        If anything is absent, of another shape or type, or not finite where it must be.
    """
    saved = Reader(container.model, "the saved model")
    with saved.guard():
        return _rebuilt(saved, Reader(container.arrays, "the saved model"), batch_model, container.version)


def _rebuilt(saved: Reader, arrays: Reader, batch_model: BatchModel, version: int) -> FittedComBat:
    design = Design.from_dict(saved.value("design"))
    about = saved.child("batch")
    levels = BatchLevels(about.text("column"), about.texts("labels", distinct=True))
    features = tuple(arrays.array("features", (None,), "U", distinct=True).tolist())
    B = len(levels)
    reference = saved.value("reference")
    if reference is not None:
        saved.whole("reference", most=B - 1)
    mean = read_mean(arrays, design, saved.value("criterion"), len(features), B, whole=version >= WITH_STATISTICS)
    profile = check_profile(saved.value("profile"), levels.labels)
    batch = batch_model.from_arrays(arrays, Batches(levels, reference, features))
    correlation = saved.number("correlation") if saved.has("correlation") else float("nan")
    saved.require(not correlation < 0.0 and not correlation > 1.0, "have a mean squared correlation from 0 to 1")
    return FittedComBat(mean, batch, saved.texts("notes"), profile, correlation)
