"""A mechanism of the features, rebuilt from an untrusted file: shapes are checked before memory is allocated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pycombat_gam.flow.arguments import Recipe
from pycombat_gam.flow.mechanisms.conditional import from_config
from pycombat_gam.flow.mechanisms.mechanism import FeatureMechanism
from pycombat_gam.flow.mechanisms.structured import MOST_CORRELATED, SHAPE, StructuredFlow
from pycombat_gam.saving.reader import Reader


def mechanism_from(
    config: Any, arrays: Mapping[str, np.ndarray], shape: tuple[int, int, int], recipe: Recipe
) -> FeatureMechanism:
    """Rebuild a mechanism of B sites, p columns and K features.

    Parameters
    ----------
    config : what `FeatureMechanism.config` returned; arrays : its state, float64, a scalar as (1,).
    recipe : the recipe in the model's parameters.

    Raises
    ------
    ModelFileError
        If they do not match. No memory is allocated beyond what the arrays hold.
    """
    form, held = Reader(config, SHAPE), Reader(arrays, "the arrays of the saved flow")
    for name, length in zip(("sites", "columns", "features"), shape, strict=True):
        form.choice(name, [length])
    structured = form.has("variant")
    form.require(structured == (recipe.flow == "structured"), "be that of its parameters")
    named = {"base": recipe.base, **({} if structured else {"family": recipe.flow}), **recipe.options}
    for name, value in named.items():
        form.require(value in (None, "auto") or form.value(name) == value, "be that of its parameters")
    if structured:
        _check_sizes(form, held, shape)
        mechanism: FeatureMechanism = StructuredFlow.from_config(config)
    else:
        form.choice("transforms", [len({name.split(".")[1] for name in arrays if name.startswith("steps.")})])
        with torch.device("meta"):  # shapes without memory
            outline = from_config(config)
        _check_state(outline.state_dict(), held)
        mechanism = from_config(config)
    state = mechanism.state_dict()
    _check_state(state, held)
    if structured:
        _check_values(form, held)
    tensors = {name: torch.from_numpy(arrays[name]).reshape(value.shape) for name, value in state.items()}
    mechanism.load_state_dict(tensors)
    return mechanism.eval()


def _check_state(state: Mapping[str, Tensor], held: Reader) -> None:
    held.exactly(*state)
    for name, value in state.items():
        held.require(value.dtype == torch.float64, "be of float64")
        held.array(name, tuple(value.shape) or (1,))


def _check_sizes(form: Reader, held: Reader, shape: tuple[int, int, int]) -> None:
    """Check the arrays that bound the memory of a structured flow."""
    B, p, K = shape
    side = K if K <= MOST_CORRELATED else 0
    m = 4 if form.text("variant").endswith("shape") else 2
    sizes = {"start": (p, K), "first": (m, B, K), "preconditioner": (1, p, p), "whitener": (side, side)}
    for name, size in sizes.items():
        held.array(name, size)


def _check_values(form: Reader, held: Reader) -> None:
    """Check the values in the arrays of a structured flow."""
    known, whitener = held.value("known"), held.value("whitener")
    sound = {
        "known": np.isin(known, (0.0, 1.0)).all() and form.flag("all_known") == bool(known.all()),
        "whitener": not np.triu(whitener, 1).any() and (np.diagonal(whitener) > 0).all(),
        "df": (held.value("df") > 2).all(),
        **{name: (held.value(name) > 0).all() for name in ("sizes", "width", "spread")},
        **{name: not held.value(name).any() for name in ("step", "shift", "preconditioner")},
    }
    for name, possible in sound.items():
        held.require(possible, f"hold values that are possible as '{name}'")
