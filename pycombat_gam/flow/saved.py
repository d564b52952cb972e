"""The plain-data form of a fitted flow: JSON, and all numbers in arrays. Reading checks everything."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd
import torch

from pycombat_gam.batch.levels import BatchLevels
from pycombat_gam.combat.profile import check_profile
from pycombat_gam.design.design import Design
from pycombat_gam.flow.arguments import Recipe, check_arguments, plain_arguments
from pycombat_gam.flow.fitted import Fitted
from pycombat_gam.flow.mechanisms.conditional import ConditionalFlow
from pycombat_gam.flow.mechanisms.rebuild import mechanism_from
from pycombat_gam.flow.mechanisms.structured import StructuredFlow
from pycombat_gam.flow.model.frame import Frame
from pycombat_gam.flow.model.outliers import POINTS, Reference
from pycombat_gam.flow.model.scm import StructuralModel
from pycombat_gam.flow.nodes.causes import Causes
from pycombat_gam.flow.nodes.covariates import CovariateMechanism, covariate_from_dict
from pycombat_gam.flow.nodes.graph import Graph
from pycombat_gam.flow.nodes.support import Support
from pycombat_gam.flow.training.checkpoint import COLUMNS
from pycombat_gam.formula import Formula
from pycombat_gam.saving.container import NEWEST, VERSION, Container
from pycombat_gam.saving.reader import Reader
from pycombat_gam.types import JsonDict

KIND = "flow"
CHOICE = ("log_prob", "behind_by", "standard_error")
HISTORY = tuple(name for name in COLUMNS if name != "seconds")
"""Without the time that training took: equal models are equal files."""


def to_container(fitted: Fitted, params: JsonDict) -> Container:
    """Return a fitted flow as plain data; `params` are the constructor's arguments."""
    model, frame = fitted.model, fitted.model.frame
    choice = fitted.choice if fitted.choice is not None else pd.DataFrame(columns=list(CHOICE))
    arrays = {
        "features": np.array(frame.features, dtype=np.str_),
        "modelled": frame.modelled,
        "center": frame.center,
        "spread": frame.spread,
        "location": frame.location,
        "scale": frame.scale,
        "idle": frame.idle,
        "shares": model.shares,
        "reference": fitted.reference.quantiles,
        "choice": choice.to_numpy(dtype=np.float64),
        "history": fitted.history[list(HISTORY)].to_numpy(dtype=np.float64),
    }
    support = fitted.support
    if support.ranges is not None and support.together is not None:
        arrays |= {"ranges": support.ranges, "together": support.together}
    for place, mechanism in enumerate((model.features, *model.members)):
        arrays |= {
            f"{place}/{name}": np.atleast_1d(value.cpu().numpy()) for name, value in mechanism.state_dict().items()
        }
    assert isinstance(model.features, StructuredFlow | ConditionalFlow)
    plain: JsonDict = {
        "params": params,
        "design": frame.design.to_dict(),
        "graph": model.graph.to_dict(),
        "causes": {name: model.causes[name].to_dict() for name in model.graph.nodes},
        "covariates": {name: model.covariates[name].to_dict() for name in model.graph.nodes},
        "batch": {"column": model.levels.column, "labels": list(model.levels.labels)},
        "mechanism": model.features.config(),
        "members": len(model.members),
        "stages": fitted.history["stage"].tolist(),
        "variants": list(choice.index),
        "notes": list(fitted.notes),
        "profile": fitted.profile,
    }
    return Container(KIND, plain, arrays, NEWEST if "ranges" in arrays else VERSION)


def from_container(container: Container, known: Collection[str]) -> tuple[JsonDict, Fitted]:
    """Rebuild the constructor's arguments, of known names, and the fit from plain data.

    Raises
    ------
    ModelFileError
        If anything is missing, has another shape or type, or is not finite where it must be.
    """
    saved, arrays = Reader(container.model, "the saved flow"), Reader(container.arrays, "the saved flow")
    with saved.guard():
        params, fitted = _rebuild(container, saved, arrays, known)
    return params, fitted


def _rebuild(container: Container, saved: Reader, arrays: Reader, known: Collection[str]) -> tuple[JsonDict, Fitted]:
    params, recipe, formula = _params(saved, known)
    design, graph = Design.from_dict(saved.value("design")), Graph.from_dict(saved.value("graph"))
    same = str(formula) == str(design.formula) and design.absorb_intercept
    saved.require(same, "have the design of its parameters")
    levels = _levels(saved, params, design, graph)
    frame = _frame(arrays, design)
    causes, covariates = _nodes(saved, graph)
    B = len(levels.labels)
    members = saved.choice("members", [params["n_members"] if params["n_members"] > 1 else 0])
    mechanisms = [
        mechanism_from(
            saved.value("mechanism"),
            {name.split("/", 1)[1]: array for name, array in container.arrays.items() if name.startswith(f"{place}/")},
            (B, len(design.columns), len(frame.location)),
            recipe,
        )
        for place in range(members + 1)
    ]
    shares = arrays.array("shares", (B,))
    sound = (shares >= 0).all() and abs(float(shares.sum()) - 1.0) <= 1e-9
    arrays.require(sound, "have shares of its sites that add up to one")
    model = StructuralModel(
        graph, causes, covariates, levels, shares, frame, mechanisms[0], tuple(mechanisms[1:]), torch.device("cpu")
    )
    plain = saved.value("profile")
    profile = check_profile(plain, tuple(plain["batches"]))
    saved.require(set(profile["batches"]) <= {*levels.labels}, "have a summary of the fitted table with its batches")
    reference = arrays.array("reference", (POINTS,))
    arrays.require((np.diff(reference) >= 0).all(), "have reference log-probabilities that ascend")
    # Version 1 held no ranges of single sites.
    old = container.version == VERSION
    support = Support.of_profile(graph, profile) if old else Support.read(arrays, graph, profile)
    history, choice = _history(saved, arrays), _choice(saved, arrays)
    return params, Fitted(model, saved.texts("notes"), profile, history, choice, Reference(reference), support)


def _params(saved: Reader, known: Collection[str]) -> tuple[JsonDict, Recipe, Formula]:
    """Read the constructor's arguments, checked as in a call."""
    plain = saved.child("params", "the saved parameters")
    plain.require(set(plain.names()) == set(known), "be those of FlowSCM")
    params: JsonDict = saved.value("params")
    recipe, formula = check_arguments(params)
    plain.text("device")
    plain.require(plain_arguments(params) == params, "be plain data")
    return params, recipe, formula


def _levels(saved: Reader, params: JsonDict, design: Design, graph: Graph) -> BatchLevels:
    """Read the sites, checked against parameters, graph and formula."""
    batch = saved.child("batch").exactly("column", "labels")
    levels = BatchLevels(batch.choice("column", [graph.batch]), batch.texts("labels", distinct=True))
    batch.require(params["batch"] == levels.column, "be the batch of its parameters")
    batch.require(graph.levels[graph.batch] == levels.labels, "have the levels of its graph")
    batch.require(params["ref_batch"] in (None, *levels.labels), "have the reference among its labels")
    saved.require(set(graph.nodes) == {*design.formula.variables, levels.column}, "have the nodes of its formula")
    edges = {**dict.fromkeys(graph.nodes, ()), **(params["graph"] or {})}
    same = {node: set(causes) for node, causes in edges.items()} == {n: set(of) for n, of in graph.parents.items()}
    saved.require(same, "have the graph of its parameters")
    return levels


def _frame(arrays: Reader, design: Design) -> Frame:
    features = arrays.array("features", (None,), "U", distinct=True)
    modelled = arrays.array("modelled", features.shape, "b")
    arrays.require(modelled.any(), "model a feature")
    p, V, K = len(design.columns), features.size, int(modelled.sum())
    return Frame(
        design,
        arrays.array("center", (p,)),
        arrays.array("spread", (p,), positive=True),
        tuple(features.tolist()),
        modelled,
        arrays.array("location", (K,)),
        arrays.array("scale", (K,), positive=True),
        arrays.array("idle", (V - K,)),
    )


def _nodes(saved: Reader, graph: Graph) -> tuple[dict[str, Causes], dict[str, CovariateMechanism]]:
    """Read the causes and the mechanism of each node."""
    of_causes = saved.child("causes").exactly(*graph.nodes)
    of_covariates = saved.child("covariates").exactly(*graph.nodes)
    causes = {name: Causes.from_dict(of_causes.value(name), graph, name) for name in graph.nodes}
    covariates = {
        name: covariate_from_dict(
            of_covariates.value(name), graph.kinds[name], causes[name].columns, len(graph.levels.get(name, ()))
        )
        for name in graph.nodes
    }
    return causes, covariates


def _history(saved: Reader, arrays: Reader) -> pd.DataFrame:
    stages = saved.texts("stages")
    values = arrays.array("history", (len(stages), len(HISTORY)), finite=False)
    history = pd.DataFrame(values, columns=list(HISTORY))
    history.insert(0, "stage", list(stages))
    return history.astype({"epoch": int, "rollback": bool})


def _choice(saved: Reader, arrays: Reader) -> pd.DataFrame | None:
    variants = saved.texts("variants")
    values = arrays.array("choice", (len(variants), len(CHOICE)))
    return pd.DataFrame(values, index=list(variants), columns=list(CHOICE)) if variants else None
