"""A mechanism of the features, rebuilt from a file that is not trusted: shapes first, memory after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pycombat_gam.errors import ModelFileError
from pycombat_gam.flow.arguments import Recipe
from pycombat_gam.flow.mechanisms.conditional import from_config
from pycombat_gam.flow.mechanisms.mechanism import FeatureMechanism
from pycombat_gam.flow.mechanisms.structured import MOST_CORRELATED, StructuredFlow


def mechanism_from(
    config: Any, arrays: Mapping[str, np.ndarray], shape: tuple[int, int, int], recipe: Recipe
) -> FeatureMechanism:
    """Rebuild a mechanism of B sites, p columns and K features.

    Parameters
    ----------
    config : what `FeatureMechanism.config` returned; arrays : its state, float64, a scalar as (1,).
    recipe : what the model's parameters say that it is.

    Raises
    ------
    ModelFileError
        If they do not fit together. Nothing is allocated that the arrays are not there for.
    """
    if not isinstance(config, dict) or tuple(config.get(name) for name in ("sites", "columns", "features")) != shape:
        raise ModelFileError("the model is refused: its flow has another shape than its design, sites and features")
    structured = "variant" in config
    named = {"base": recipe.base, **({} if structured else {"family": recipe.flow}), **recipe.options}
    other = [name for name, value in named.items() if value not in (None, "auto") and config.get(name) != value]
    if other or structured != (recipe.flow == "structured"):
        raise ModelFileError("the model is refused: its flow is not the one that its parameters name")
    if structured:
        _check_sizes(config, arrays, shape)
        mechanism: FeatureMechanism = StructuredFlow.from_config(config)
    else:
        steps = {name.split(".")[1] for name in arrays if name.startswith("steps.")}
        if config.get("transforms") != len(steps):
            raise ModelFileError("the model is refused: its flow has not the steps that it names")
        with torch.device("meta"):  # shapes without memory
            outline = from_config(config)
        _check_state(outline.state_dict(), arrays)
        mechanism = from_config(config)
    state = mechanism.state_dict()
    _check_state(state, arrays)
    if structured:
        _check_values(config, arrays)
    tensors = {name: torch.from_numpy(arrays[name]).reshape(value.shape) for name, value in state.items()}
    mechanism.load_state_dict(tensors)
    return mechanism.eval()


def _check_state(state: Mapping[str, Tensor], arrays: Mapping[str, np.ndarray]) -> None:
    if set(arrays) != set(state):
        raise ModelFileError("the model is refused: its flow's arrays are not those of its shape")
    for name, value in state.items():
        array = arrays[name]
        sound = array.shape == (tuple(value.shape) or (1,)) and array.dtype == np.float64
        if not sound or value.dtype != torch.float64 or not np.isfinite(array).all():
            raise ModelFileError(f"the model is refused: '{name}' of its flow has another shape, or is not finite")


def _check_sizes(config: Mapping[str, Any], arrays: Mapping[str, np.ndarray], shape: tuple[int, int, int]) -> None:
    """Check the arrays that bound the memory of a structured flow."""
    B, p, K = shape
    side = K if K <= MOST_CORRELATED else 0
    m = 4 if str(config["variant"]).endswith("shape") else 2
    wanted = {"start": (p, K), "first": (m, B, K), "preconditioner": (1, p, p), "whitener": (side, side)}
    for name, expected in wanted.items():
        if name not in arrays or arrays[name].shape != expected:
            raise ModelFileError(f"the model is refused: '{name}' of its flow has another shape")


def _check_values(config: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Check what the arrays of a structured flow may hold."""
    known, whitener = arrays["known"], arrays["whitener"]
    broken = {
        "known": not np.isin(known, (0.0, 1.0)).all() or config["all_known"] != bool(known.all()),
        "sizes": not (arrays["sizes"] > 0).all(),
        "width": not (arrays["width"] > 0).all(),
        "spread": not (arrays["spread"] > 0).all(),
        "whitener": bool(np.triu(whitener, 1).any()) or not (np.diagonal(whitener) > 0).all(),
        "df": not (arrays["df"] > 2).all(),
        **{name: bool(arrays[name].any()) for name in ("step", "shift", "preconditioner")},
    }
    for name, wrong in broken.items():
        if wrong:
            raise ModelFileError(f"the model is refused: '{name}' of its flow has values that are impossible")
