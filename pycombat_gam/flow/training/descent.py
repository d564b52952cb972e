"""Two ways to minimise the objective of `train`: minibatches by AdamW, and all rows at once by L-BFGS."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pycombat_gam.errors import OptionError
from pycombat_gam.flow.mechanisms.mechanism import FeatureMechanism, Parents
from pycombat_gam.flow.networks.network import decayed, reduced_precision
from pycombat_gam.flow.training.checkpoint import Progress
from pycombat_gam.flow.training.rows import Rows
from pycombat_gam.types import IntArray

SAMPLE = 20_000
"""Most rows from which a mechanism trained by minibatches is refreshed."""
RESIDENT = 2**28
"""Feature values up to this many (2 GiB) stay on the device; more are read batch by batch."""


@dataclass(frozen=True)
class Training:
    """Training settings.

    Attributes
    ----------
    max_epochs : largest number of epochs.
    held_out : share of each site's rows to hold out (`split`).
    patience : epochs without a better held-out log-probability before AdamW stops; each third of them halves the rate.
    batch_size : rows of a minibatch.
    learning_rate, weight_decay, clip : settings of AdamW; only networks decay, and `clip` bounds the gradient's norm.
    iterations : L-BFGS iterations between refreshes.
    tolerance : relative change of the objective between epochs below which L-BFGS stops.
    compile : whether `torch.compile` compiles the loss.
    amp : "bf16" lets only the networks compute in bfloat16 while training; or "off".
    checkpoint_every : epochs between checkpoints.
    max_rollbacks : undone epochs before training fails.
    """

    max_epochs: int = 500
    held_out: float = 0.15
    patience: int = 30
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    clip: float = 10.0
    iterations: int = 10
    tolerance: float = 1e-7
    compile: bool = False
    amp: str = "off"
    checkpoint_every: int = 10
    max_rollbacks: int = 5

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            kind = "a number" if name not in ("compile", "amp") else "True or False" if name == "compile" else "text"
            kinds = {"a number": int | float, "True or False": bool, "text": str}[kind]
            if not isinstance(value, kinds) or (isinstance(value, bool) and name != "compile"):
                raise OptionError(f"{name} is {value!r}; give {kind}")
        for name in ("max_epochs", "patience", "batch_size", "iterations", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise OptionError(f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("weight_decay", "tolerance", "max_rollbacks"):
            if not getattr(self, name) >= 0:
                raise OptionError(f"{name} is {getattr(self, name)}; it must not be below 0")
        if not 0 <= self.held_out < 1:
            raise OptionError(f"held_out is {self.held_out}; give a share of rows, from 0 to below 1")
        if self.amp not in ("off", "bf16"):
            raise OptionError(f"amp is '{self.amp}'; allowed: off, bf16")


class Source:
    """Some of the rows, by position: on the device if they fit, otherwise read on demand."""

    def __init__(self, rows: Rows, index: IntArray) -> None:
        self.rows, self.index = rows, index
        self.weight = float(rows.weight[index].sum())
        self.held = rows.take(index) if len(index) * rows.x.shape[1] <= RESIDENT else None

    def __len__(self) -> int:
        return len(self.index)

    def take(self, places: IntArray) -> tuple[Tensor, Parents, Tensor]:
        """Return values, parents and weights of the rows at these places."""
        if self.held is None:
            return self.rows.take(self.index[places])
        x, parents, weight = self.held
        chosen = torch.from_numpy(places).to(x.device)
        return x[chosen], parents.rows(chosen), weight[chosen]

    def all(self) -> tuple[Tensor, Parents, Tensor]:
        """Return all of them."""
        return self.held or self.rows.take(self.index)


class Descent(ABC):
    """A way to minimise the objective."""

    optimizer: torch.optim.Optimizer | None = None

    def __init__(self, mechanism: FeatureMechanism, rows: Rows, index: IntArray, settings: Training) -> None:
        self.mechanism, self.settings = mechanism, settings
        self.source = Source(rows, index)
        self.parameters = [parameter for parameter in mechanism.parameters() if parameter.requires_grad]
        loss = mechanism.loss
        self.loss: Callable[[Tensor, Parents, Tensor], Tensor] = torch.compile(loss) if settings.compile else loss

    @abstractmethod
    def rate(self, now: Progress) -> float:
        """Return the learning rate of the coming epoch."""

    @abstractmethod
    def epoch(self, generator: torch.Generator, rate: float) -> float:
        """Run an epoch and return the objective per row; it is not finite if the epoch must be undone."""

    @abstractmethod
    def finished(self, now: Progress) -> bool:
        """Return whether to stop before the last epoch."""

    def state(self) -> dict[str, Any]:
        """Copy the state for `restore`."""
        return {} if self.optimizer is None else copy.deepcopy(self.optimizer.state_dict())

    def restore(self, state: dict[str, Any]) -> None:
        """Return to a copied state."""
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state)

    def arithmetic(self) -> AbstractContextManager[None]:
        """Return the precision that the networks train in."""
        return reduced_precision(self.mechanism) if self.settings.amp == "bf16" else nullcontext()


class Minibatches(Descent):
    """AdamW over shuffled minibatches of nearly equal size."""

    optimizer: torch.optim.Optimizer

    def __init__(self, mechanism: FeatureMechanism, rows: Rows, index: IntArray, settings: Training) -> None:
        super().__init__(mechanism, rows, index, settings)
        shrunk = {id(parameter) for parameter in decayed(mechanism)}
        groups = [
            {"params": [p for p in self.parameters if (id(p) in shrunk) == yes], "weight_decay": decay}
            for yes, decay in ((True, settings.weight_decay), (False, 0.0))
        ]
        self.optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=settings.learning_rate)

    def rate(self, now: Progress) -> float:
        """See `Descent`: a cosine to zero, unless held-out rows set the rate."""
        if now.best_state:
            return now.rate
        return now.rate * 0.5 * (1 + math.cos(math.pi * now.epoch / self.settings.max_epochs))

    def epoch(self, generator: torch.Generator, rate: float) -> float:
        """See `Descent`."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        rows = len(self.source)
        if type(self.mechanism).refresh is not FeatureMechanism.refresh:
            self.mechanism.refresh(*self.source.take(np.arange(0, rows, max(1, rows // SAMPLE))))
        shuffled = torch.randperm(rows, generator=generator).numpy()
        total = 0.0
        for batch in np.array_split(shuffled, math.ceil(rows / self.settings.batch_size)):
            x, parents, weight = self.source.take(batch)
            self.optimizer.zero_grad()
            with self.arithmetic():
                loss = self.loss(x, parents, weight) * (rows / len(batch))
            objective = (loss + self.mechanism.penalty()) / self.source.weight
            objective.backward()  # type: ignore[no-untyped-call]  # torch has no types here
            norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
            if not bool(torch.isfinite(objective.detach() + norm)):
                return math.nan
            self.optimizer.step()
            total += float(objective.detach()) * len(batch) / rows
        return total

    def finished(self, now: Progress) -> bool:
        """See `Descent`."""
        return bool(now.best_state) and now.waited >= self.settings.patience


class FullBatch(Descent):
    """L-BFGS over all rows, restarted after each refresh of the mechanism, which changes the objective."""

    def rate(self, now: Progress) -> float:
        """See `Descent`: 1, the step of a Newton method, halved with every rollback."""
        return 0.5**now.rollbacks

    def epoch(self, generator: torch.Generator, rate: float) -> float:
        """See `Descent`."""
        x, parents, weight = self.source.all()
        self.mechanism.refresh(x, parents, weight)
        optimizer = torch.optim.LBFGS(
            self.parameters,
            lr=rate,
            max_iter=self.settings.iterations,
            history_size=10,
            line_search_fn="strong_wolfe",
            tolerance_change=1e-12,
            tolerance_grad=1e-10,
        )

        def objective() -> Tensor:
            with self.arithmetic():
                loss = self.loss(x, parents, weight)
            return (loss + self.mechanism.penalty()) / self.source.weight

        def closure() -> float:
            optimizer.zero_grad()
            value = objective()
            value.backward()  # type: ignore[no-untyped-call]  # torch has no types here
            return float(value.detach())

        optimizer.step(closure)  # type: ignore[no-untyped-call]  # torch has no types here
        with torch.no_grad():
            return float(objective())

    def finished(self, now: Progress) -> bool:
        """See `Descent`."""
        if len(now.history) < 2 or now.history[-1][-1]:
            return False
        before, after = now.history[-2][1], now.history[-1][1]
        return abs(after - before) < self.settings.tolerance * max(abs(before), 1.0)
