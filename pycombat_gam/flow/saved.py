"""The plain-data form of a fitted flow: JSON, and every number in arrays. Reading trusts nothing."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd
import torch

from pycombat_gam.batch.levels import BatchLevels
from pycombat_gam.combat.profile import check_profile
from pycombat_gam.design.design import Design
from pycombat_gam.errors import ModelFileError, PcgError
from pycombat_gam.flow.arguments import Recipe, check_arguments, plain_arguments
from pycombat_gam.flow.fitted import Fitted
from pycombat_gam.flow.mechanisms.conditional import ConditionalFlow
from pycombat_gam.flow.mechanisms.rebuild import mechanism_from
from pycombat_gam.flow.mechanisms.structured import StructuredFlow
from pycombat_gam.flow.model.frame import Frame
from pycombat_gam.flow.model.outliers import POINTS, Reference
from pycombat_gam.flow.model.scm import StructuralModel
from pycombat_gam.flow.nodes.causes import Causes
from pycombat_gam.flow.nodes.covariates import covariate_from_dict
from pycombat_gam.flow.nodes.graph import Graph
from pycombat_gam.flow.nodes.support import Support
from pycombat_gam.flow.training.checkpoint import COLUMNS
from pycombat_gam.formula import Formula
from pycombat_gam.saving.container import NEWEST, VERSION, Container
from pycombat_gam.types import JsonDict

KIND = "flow"
CHOICE = ("log_prob", "behind_by", "standard_error")
HISTORY = tuple(name for name in COLUMNS if name != "seconds")
"""How long it took is no part of a model: equal models are equal files."""


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
    """Rebuild from plain data: the constructor's arguments, of known names, and the fit.

    Raises
    ------
    ModelFileError
        If anything is absent, of another shape or type, or not finite where it must be.
    """
    try:
        return _rebuild(container, known)
    except ModelFileError:
        raise
    except PcgError as error:
        raise ModelFileError(f"the model is refused: {error}") from error
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, AssertionError, ArithmeticError) as error:
        told = " ".join(str(error).split())[:200]
        raise ModelFileError(f"the model is refused: its content is not that of a flow ({told})") from error


def _params(params: object, known: Collection[str]) -> tuple[JsonDict, Recipe, Formula]:
    """Check the constructor's arguments, as a call would."""
    if not isinstance(params, dict) or set(params) != set(known):
        raise ModelFileError("the model is refused: its parameters are not those of FlowSCM")
    recipe, formula = check_arguments(params)
    if plain_arguments(params) != params or not isinstance(params["device"], str):
        raise ModelFileError("the model is refused: its parameters are not plain data")
    return params, recipe, formula


def _rebuild(container: Container, known: Collection[str]) -> tuple[JsonDict, Fitted]:
    plain, arrays = container.model, container.arrays
    params, recipe, formula = _params(plain["params"], known)
    design, graph = Design.from_dict(plain["design"]), Graph.from_dict(plain["graph"])
    if str(formula) != str(design.formula) or not design.absorb_intercept:
        raise ModelFileError("the model is refused: its parameters and its design disagree")
    labels = tuple(str(label) for label in plain["batch"]["labels"])
    levels = BatchLevels(str(plain["batch"]["column"]), labels)
    if params["batch"] != levels.column or graph.batch != levels.column:
        raise ModelFileError("the model is refused: its parameters, graph and batches disagree")
    if graph.levels[graph.batch] != labels or set(graph.nodes) != {*design.formula.variables, levels.column}:
        raise ModelFileError("the model is refused: its graph is not that of its formula and batches")
    edges = {**dict.fromkeys(graph.nodes, ()), **(params["graph"] or {})}
    if {node: set(causes) for node, causes in edges.items()} != {n: set(of) for n, of in graph.parents.items()}:
        raise ModelFileError("the model is refused: its graph is not that of its parameters")
    if params["ref_batch"] is not None and params["ref_batch"] not in labels:
        raise ModelFileError("the model is refused: its reference is none of its batches")

    def take(name: str, shape: tuple[int, ...], *, positive: bool = False, finite: bool = True) -> np.ndarray:
        array = arrays[name]
        if array.shape != shape or array.dtype != np.float64:
            raise ModelFileError(f"the model is refused: '{name}' is {array.dtype} {array.shape}, expected {shape}")
        if (finite and not np.isfinite(array).all()) or (positive and not (array > 0).all()):
            raise ModelFileError(f"the model is refused: '{name}' has values that are impossible")
        return array

    names, modelled = arrays["features"], arrays["modelled"]
    V, p, B = names.size, len(design.columns), len(labels)
    if names.dtype.kind != "U" or names.shape != (V,) or len(set(names.tolist())) < V or len(set(labels)) < B:
        raise ModelFileError("the model is refused: it names a feature or a site twice")
    if modelled.dtype != np.bool_ or modelled.shape != (V,) or not modelled.any():
        raise ModelFileError("the model is refused: it does not say which features it models")
    K = int(modelled.sum())
    frame = Frame(
        design, take("center", (p,)), take("spread", (p,), positive=True), tuple(names.tolist()), modelled,
        take("location", (K,)), take("scale", (K,), positive=True), take("idle", (V - K,)),
    )  # fmt: skip
    causes = {name: Causes.from_dict(plain["causes"][name], graph, name) for name in graph.nodes}
    covariates = {
        name: covariate_from_dict(
            plain["covariates"][name], graph.kinds[name], causes[name].columns, len(graph.levels.get(name, ()))
        )
        for name in graph.nodes
    }
    members = plain["members"]
    if type(members) is not int or members != (params["n_members"] if params["n_members"] > 1 else 0):
        raise ModelFileError("the model is refused: its members are not as many as its parameters say")
    if set(plain["causes"]) != set(graph.nodes) or set(plain["covariates"]) != set(graph.nodes):
        raise ModelFileError("the model is refused: its causes or mechanisms are not those of its graph")
    mechanisms = [
        mechanism_from(
            plain["mechanism"],
            {name.split("/", 1)[1]: array for name, array in arrays.items() if name.startswith(f"{place}/")},
            (B, p, K),
            recipe,
        )
        for place in range(members + 1)
    ]
    shares = take("shares", (B,))
    if (shares < 0).any() or abs(float(shares.sum()) - 1.0) > 1e-9:
        raise ModelFileError("the model is refused: its sites' shares are no shares")
    model = StructuralModel(
        graph, causes, covariates, levels, shares, frame, mechanisms[0], tuple(mechanisms[1:]), torch.device("cpu")
    )
    stages = [str(stage) for stage in plain["stages"]]
    history = pd.DataFrame(take("history", (len(stages), len(HISTORY)), finite=False), columns=list(HISTORY))
    history.insert(0, "stage", stages)
    variants = [str(variant) for variant in plain["variants"]]
    choice = pd.DataFrame(take("choice", (len(variants), len(CHOICE))), index=variants, columns=list(CHOICE))
    profile = check_profile(plain["profile"], tuple(plain["profile"]["batches"]))
    if not {*profile["batches"]} <= {*labels}:
        raise ModelFileError("the model is refused: its summary of the fitted table has other batches")
    reference = take("reference", (POINTS,))
    if (np.diff(reference) < 0).any():
        raise ModelFileError("the model is refused: its reference log-probabilities do not ascend")
    # Version 1 held no ranges of single sites.
    support = (
        Support.of_profile(graph, profile)
        if container.version == VERSION
        else Support.read(graph, profile, arrays["ranges"], arrays["together"])
    )
    fitted = Fitted(
        model,
        tuple(str(note) for note in plain["notes"]),
        profile,
        history.astype({"epoch": int, "rollback": bool}),
        choice if variants else None,
        Reference(reference),
        support,
    )
    return params, fitted
