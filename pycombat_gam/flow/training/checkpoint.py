"""The state of a training, and its file: a `.pcg` container, written atomically."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pycombat_gam.errors import ModelFileError
from pycombat_gam.saving.container import Container, read_container, write_container
from pycombat_gam.saving.reader import Reader
from pycombat_gam.types import JsonDict
from pycombat_gam.words import Remedy, Worded

KIND = "flow-checkpoint"
REMEDY = Worded("remove it, or ", Remedy("start over", "train with resume=False"))
COLUMNS = ("epoch", "loss", "held_out", "learning_rate", "seconds", "rollback")


@dataclass(eq=False)
class Progress:
    """The state of a training.

    Attributes
    ----------
    generator : generator that shuffles the rows.
    rate : learning rate of the coming epoch.
    epoch : epochs done.
    best, best_state : highest held-out log-probability so far, and the module's state then.
    waited : epochs since then.
    rollbacks : number of times that a state was restored.
    done : whether training is complete.
    history : (epochs, 6) rows of `COLUMNS`.
    """

    generator: torch.Generator
    rate: float
    epoch: int = 0
    best: float = -np.inf
    best_state: dict[str, Tensor] = field(default_factory=dict)
    waited: int = 0
    rollbacks: int = 0
    done: bool = False
    history: list[tuple[float, ...]] = field(default_factory=list)


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Copy a module's parameters and buffers."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def fingerprint(facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> JsonDict:
    """Return what must match for a training to continue: plain facts, and arrays by their SHA-256."""
    hashed = {
        name: hashlib.sha256(repr(a.shape).encode() + np.ascontiguousarray(a).tobytes()).hexdigest()
        for name, a in arrays.items()
    }
    plain: JsonDict = json.loads(json.dumps({**facts, **hashed}))
    return plain


def write_checkpoint(
    path: Path, identity: JsonDict, progress: Progress, module: nn.Module, optimizer: torch.optim.Optimizer | None
) -> None:
    """Write a checkpoint, atomically."""
    arrays = {f"module/{name}": _array(value) for name, value in module.state_dict().items()}
    arrays |= {f"best/{name}": _array(value) for name, value in progress.best_state.items()}
    arrays["generator"] = _array(progress.generator.get_state())
    arrays["history"] = np.array(progress.history, dtype=np.float64).reshape(-1, len(COLUMNS))
    arrays["numbers"] = np.array([progress.rate, progress.best])
    if optimizer is not None:
        for place, values in optimizer.state_dict()["state"].items():
            arrays |= {f"optimizer/{place}/{name}": _array(value) for name, value in values.items()}
    counters = {name: getattr(progress, name) for name in ("epoch", "waited", "rollbacks", "done")}
    write_container(path, Container(KIND, {"identity": identity, **counters}, arrays))


def read_checkpoint(
    path: Path, identity: JsonDict, module: nn.Module, optimizer: torch.optim.Optimizer | None
) -> Progress:
    """Restore module and optimiser from a checkpoint, and return the state of the training.

    Raises
    ------
    ModelFileError
        If the file is broken, or belongs to another training: other data, settings, seed or mechanism.
    """
    held = read_container(path)
    if held.kind != KIND:
        raise ModelFileError(f"'{path}' is a '{held.kind}', not a checkpoint of a training")
    stored = held.model.get("identity")
    if not isinstance(stored, dict) or stored != identity:
        other = [name for name in identity if not isinstance(stored, dict) or stored.get(name) != identity[name]]
        raise ModelFileError(
            Worded(
                f"the checkpoint '{path}' is of another training ({', '.join(other) or 'its description'} differ); ",
                REMEDY,
            )
        )
    saved, arrays = (Reader(part, f"the checkpoint '{path}'", REMEDY) for part in (held.model, held.arrays))
    history = arrays.array("history", (None, len(COLUMNS)), finite=False).tolist()
    rate, highest = arrays.array("numbers", (2,), finite=False).tolist()
    counters = {name: saved.whole(name) for name in ("epoch", "waited", "rollbacks")}
    done, generator = saved.flag("done"), torch.Generator()
    with arrays.guard():
        _restore(module, held.arrays, "module")
        best = _like(module, held.arrays, "best") if any(n.startswith("best/") for n in held.arrays) else {}
        if optimizer is not None:
            _restore_optimizer(optimizer, held.arrays)
        generator.set_state(torch.from_numpy(arrays.value("generator")))
    rows = [tuple(row) for row in history]
    return Progress(generator, rate, best=highest, best_state=best, done=done, history=rows, **counters)


def _array(value: Tensor | float) -> np.ndarray:
    return value.detach().cpu().numpy().copy() if isinstance(value, Tensor) else np.array(value)


def _like(module: nn.Module, arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, Tensor]:
    """Return arrays under a prefix as tensors of the shape, type and device of the module's state."""
    return {
        name: torch.from_numpy(arrays[f"{prefix}/{name}"]).reshape(value.shape).to(value)
        for name, value in module.state_dict().items()
    }


def _restore(module: nn.Module, arrays: Mapping[str, np.ndarray], prefix: str) -> None:
    module.load_state_dict(_like(module, arrays, prefix))


def _restore_optimizer(optimizer: torch.optim.Optimizer, arrays: Mapping[str, np.ndarray]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, array in arrays.items():
        if not name.startswith("optimizer/"):
            continue
        _, place, what = name.split("/")
        shape = parameters[int(place)].shape if array.size == parameters[int(place)].numel() and what != "step" else ()
        state.setdefault(int(place), {})[what] = torch.from_numpy(array).reshape(shape)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
