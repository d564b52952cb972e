"""From a table to the trained mechanism of its features, which starts at ComBat's fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pycombat_gam.combat.fitted import FittedComBat
from pycombat_gam.flow.arguments import Recipe
from pycombat_gam.flow.mechanisms.conditional import ConditionalFlow, conditional
from pycombat_gam.flow.mechanisms.mechanism import FeatureMechanism
from pycombat_gam.flow.mechanisms.structured import VARIANTS, StructuredFlow, Variant
from pycombat_gam.flow.model.frame import Frame
from pycombat_gam.flow.training.choose import Choice, choose_variant
from pycombat_gam.flow.training.descent import SAMPLE, Training
from pycombat_gam.flow.training.ensemble import Ensemble, bootstrap_weights
from pycombat_gam.flow.training.progress import Hook
from pycombat_gam.flow.training.rows import sites_in_order
from pycombat_gam.flow.training.start import Start, restarted, start_of
from pycombat_gam.flow.training.train import Rows, canonical_order, split, train
from pycombat_gam.types import FloatArray, IntArray

LARGEST_WHOLE = 3e7
"""Most feature values that the structured flow trains on at once (240 MB; training needs about 20 times that)."""


@dataclass(frozen=True, eq=False)
class Learned:
    """The trained mechanism, the members of its ensemble (none, or M), the choice, the history and the notes."""

    mechanism: FeatureMechanism
    members: tuple[FeatureMechanism, ...]
    choice: Choice | None
    history: pd.DataFrame
    notes: tuple[str, ...]


def learn(
    fit: FittedComBat,
    frame: Frame,
    Y: np.ndarray,
    columns: FloatArray,
    site: IntArray,
    recipe: Recipe,
    *,
    device: torch.device,
    progress: Hook | None,
    checkpoint: Path | None,
    resume: bool,
) -> Learned:
    """Train the mechanism of the features.

    Parameters
    ----------
    fit : fitted ComBat; frame : its scales.
    Y : (n, V) features; columns : (n, p) the frame's columns of the design; site : (n,) codes.
    checkpoint : file that the training of the final mechanism can be resumed from.
    """
    recipe.check()
    x = Y if frame.modelled.all() else Y[:, frame.modelled]
    rows = Rows(x, frame.location, frame.scale, columns, site, np.ones(len(site)), device)
    order = canonical_order(x, columns, site)
    start = start_of(fit, frame)
    plan = _Plan(recipe, rows, order, start, progress)
    if recipe.flow == "structured":
        mechanism, choice, history = plan.structured(checkpoint, resume)
    else:
        choice = None
        mechanism, history = plan.conditional(checkpoint, resume)
    members, more = plan.ensemble(mechanism) if recipe.members > 1 else ((), [])
    final = [flow.frozen() if isinstance(flow, StructuredFlow) else flow for flow in (mechanism, *members)]
    notes = []
    if recipe.flow == "structured" and recipe.options.get("variant", "auto") == "auto" and choice is None:
        notes.append(
            f"too few rows to hold any out, so the variant was not chosen: '{VARIANTS[0]}' was used, as in ComBat"
        )
    if recipe.flow != "structured" and history[0]["held_out"].notna().any() and history[0]["held_out"].argmax() == 0:
        notes.append(f"flow='{recipe.flow}' never improved on its start in held-out rows: the result is ComBat's")
    return Learned(final[0], tuple(final[1:]), choice, pd.concat([*history, *more], ignore_index=True), tuple(notes))


@dataclass(frozen=True, eq=False)
class _Plan:
    """The stages of one training."""

    recipe: Recipe
    rows: Rows
    order: IntArray
    start: Start
    progress: Hook | None

    @property
    def settings(self) -> Training:
        """The training settings; minibatches take more epochs than full batches."""
        settings = self.recipe.settings()
        large = self.recipe.flow == "structured" and self.rows.x.size > LARGEST_WHOLE
        return replace(settings, max_epochs=100) if large and "max_epochs" not in self.recipe.training else settings

    def make(self, variant: Variant, sizes: FloatArray) -> StructuredFlow:
        """Return an untrained structured flow."""
        start = self.start
        flow = StructuredFlow(
            variant,
            start.coefficients,
            np.stack([start.location, start.log_scale]),
            preconditioner=start.preconditioner,
            roots=start.roots,
            smoothing=start.smoothing,
            sizes=sizes,
            base=self.recipe.base,
            known=start.known,
        )
        flow.full_batch = self.rows.x.size <= LARGEST_WHOLE
        return flow.to(self.rows.device)

    def structured(
        self, checkpoint: Path | None, resume: bool
    ) -> tuple[FeatureMechanism, Choice | None, list[pd.DataFrame]]:
        """Choose the variant, unless it was specified, and fit it to all rows."""
        settings, seed = self.settings, self.recipe.seed
        variant: Any = self.recipe.options.get("variant", "auto")
        choice = None
        if variant == "auto":
            choice = choose_variant(
                self.make, self.rows, self.order, settings=settings, seed=seed, progress=self.progress
            )
            variant = VARIANTS[0] if choice is None else choice.variant
        flow = self.make(variant, self.start.sizes)
        rest, held_out = (self.order, self.order[:0]) if flow.full_batch else self._split()
        history = train(
            flow, self.rows, rest, held_out, settings=settings, seed=seed, stage=variant, progress=self.progress,
            checkpoint=checkpoint, resume=resume,
        )  # fmt: skip
        flow.refresh(*self.rows.take(self.order[:: max(1, len(self.order) // SAMPLE)]))
        return flow, choice, [history] if choice is None else [choice.history, history]

    def conditional(self, checkpoint: Path | None, resume: bool) -> tuple[FeatureMechanism, list[pd.DataFrame]]:
        """Train a flow of the paper's family; held-out rows set when to stop."""
        rest, held_out = self._split()
        known = self._restarted(np.isin(np.arange(len(self.rows)), rest).astype(np.float64))
        flow = self._conditional(self.recipe.seed, known)
        history = train(
            flow, self.rows, rest, held_out, settings=self.settings, seed=self.recipe.seed,
            stage=self.recipe.flow, progress=self.progress, checkpoint=checkpoint, resume=resume,
        )  # fmt: skip
        # What training added to its start is kept; the start itself is replaced by ComBat's fit to all rows.
        flow.shift(*(b - a for a, b in zip(_parts(known), _parts(self.start), strict=True)))
        return flow, [history]

    def ensemble(self, mechanism: FeatureMechanism) -> tuple[tuple[FeatureMechanism, ...], list[pd.DataFrame]]:
        """Train the members together: each on resampled rows, or from another start."""
        recipe = self.recipe
        if recipe.bootstrap:
            weights = bootstrap_weights(self.rows.site, self.order, self.start.df, recipe.members, recipe.seed)
            rng = np.random.default_rng([recipe.seed, 1])
            sites = sites_in_order(self.rows.site, self.order)
            pulls = [mechanism.draw_pull(rng, sites) for _ in range(recipe.members)]
        else:
            weights, pulls = np.ones((len(self.rows), recipe.members)), []
        shifts: list[tuple[Tensor, ...]] = []
        if isinstance(mechanism, StructuredFlow):
            members = Ensemble([mechanism] * recipe.members, pulls)
        else:
            # As in `conditional`: training would never leave a start that knows the held-out rows.
            kept = np.isin(np.arange(len(self.rows)), self._split()[0]).astype(np.float64)
            starts = [(self._restarted(weight * kept), self._restarted(weight)) for weight in weights.T]
            shifts = [tuple(b - a for a, b in zip(*map(_parts, pair), strict=True)) for pair in starts]
            seeds = [recipe.seed + (0 if recipe.bootstrap else 1 + j) for j in range(recipe.members)]
            members = Ensemble(
                [self._conditional(seed, known) for seed, (known, _) in zip(seeds, starts, strict=True)], pulls
            )
        rest, held_out = (self.order, self.order[:0]) if members.full_batch else self._split()
        history = train(
            members.to(self.rows.device), replace(self.rows, weight=weights), rest, held_out,
            settings=self.settings, seed=recipe.seed, stage=f"{recipe.members} members", progress=self.progress,
        )  # fmt: skip
        apart = members.members()
        for member, shift in zip(apart, shifts, strict=False):
            assert isinstance(member, ConditionalFlow)
            member.shift(*shift)
        return apart, [history]

    def _split(self) -> tuple[IntArray, IntArray]:
        return split(self.rows.site, self.order, self.settings.held_out, self.recipe.seed)

    def _restarted(self, weight: FloatArray) -> Start:
        x, parents, _ = self.rows.take(np.arange(len(self.rows)))
        return restarted(self.start, x.cpu().numpy(), parents.design.cpu().numpy(), self.rows.site, weight)

    def _conditional(self, seed: int, start: Start) -> ConditionalFlow:
        B, V = start.location.shape
        flow = conditional(
            self.recipe.flow, features=V, columns=self.rows.design.shape[1], sites=B, seed=seed,
            base=self.recipe.base, **self.recipe.options,
        )  # fmt: skip
        flow.start(*_parts(start))
        return flow.to(self.rows.device)


def _parts(start: Start) -> tuple[Tensor, Tensor, Tensor]:
    """Return the initial values of a conditional flow."""
    parts = (start.coefficients, start.location, start.log_scale)
    coefficients, location, log_scale = (torch.from_numpy(np.ascontiguousarray(part)) for part in parts)
    return coefficients, location, log_scale
