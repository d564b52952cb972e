r"""One training loop for every mechanism of the features: it minimises minus the mean log-posterior per row.

    objective = (Σ_i w_i · −log p(x_i | pa_i) + penalty) / Σ_i w_i

It uses AdamW (Loshchilov & Hutter 2019) on minibatches of shuffled rows, with weight decay on the networks only; or, if
the mechanism is `full_batch`, L-BFGS on all rows at once, with the mechanism's `refresh` before each round. An epoch
that meets a non-finite number is undone, and the next runs at half the rate. With held-out rows, AdamW halves its rate
while their log-probability does not rise, stops after a while, and keeps the best state, the start included. Without,
the rate falls by a cosine to zero and the last state is kept.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pycombat_gam.errors import TrainingError
from pycombat_gam.flow.mechanisms.mechanism import FeatureMechanism
from pycombat_gam.flow.training.checkpoint import (
    COLUMNS,
    Progress,
    fingerprint,
    read_checkpoint,
    state_of,
    write_checkpoint,
)
from pycombat_gam.flow.training.descent import Descent, FullBatch, Minibatches, Source, Training
from pycombat_gam.flow.training.progress import Hook
from pycombat_gam.flow.training.rows import Rows, canonical_order, split
from pycombat_gam.types import IntArray, JsonDict

__all__ = ["Rows", "Training", "canonical_order", "split", "train"]


def train(
    mechanism: FeatureMechanism,
    rows: Rows,
    train_index: IntArray,
    held_out_index: IntArray,
    *,
    settings: Training,
    seed: int,
    stage: str,
    progress: Hook | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> pd.DataFrame:
    """Fit a mechanism, in place.

    Parameters
    ----------
    rows : all rows.
    train_index, held_out_index : (m,) and (h,) rows to train on and to hold out, in canonical order; h may be 0.
    settings : training settings.
    seed : seed of the shuffling.
    stage : name of this training in the history and for `progress`.
    progress : called after each epoch.
    checkpoint : file written every few epochs and at the end.
    resume : continue from the checkpoint, if there is one; the result equals that of an uninterrupted training.

    Returns
    -------
    DataFrame
        A row per epoch: stage, epoch (0 is the start), loss (objective per row, over the epoch), held_out (mean
        log-probability of a held-out row), learning_rate, seconds, rollback (whether the epoch was undone).

    Raises
    ------
    TrainingError
        If the objective stays non-finite.
    ModelFileError
        If the checkpoint is broken or belongs to another training.
    """
    if not len(train_index):
        raise TrainingError(f"there is no row to train '{stage}' on")
    mechanism.to(rows.device)
    descent = (FullBatch if mechanism.full_batch else Minibatches)(mechanism, rows, train_index, settings)
    held_out = Source(rows, held_out_index)
    identity = _identity(mechanism, rows, train_index, held_out_index, settings, seed, stage)
    if resume and checkpoint is not None and checkpoint.is_file():
        now = read_checkpoint(checkpoint, identity, mechanism, descent.optimizer)
    else:
        now = Progress(torch.Generator().manual_seed(seed), settings.learning_rate)
        if len(held_out) and not mechanism.full_batch:
            _keep_best(now, mechanism, _held_out(mechanism, held_out, settings))
            now.history.append((0.0, math.nan, now.best, now.rate, 0.0, 0.0))
    while not now.done:
        _epoch(mechanism, descent, held_out, settings, now, stage)
        now.done = now.epoch >= settings.max_epochs or descent.finished(now)
        if now.done and now.best_state:
            mechanism.load_state_dict(now.best_state)
        if checkpoint is not None and (now.done or now.epoch % settings.checkpoint_every == 0):
            write_checkpoint(checkpoint, identity, now, mechanism, descent.optimizer)
        if progress is not None:
            progress(stage, now.epoch, settings.max_epochs, now.history[-1][2])
    history = pd.DataFrame(now.history, columns=list(COLUMNS)).astype({"epoch": int, "rollback": bool})
    history.insert(0, "stage", stage)
    return history


def _epoch(
    mechanism: FeatureMechanism,
    descent: Descent,
    held_out: Source,
    settings: Training,
    now: Progress,
    stage: str,
) -> None:
    """Run an epoch, or undo it, and record it in the history."""
    began = time.perf_counter()
    good = state_of(mechanism), descent.state()
    rate = descent.rate(now)
    loss = descent.epoch(now.generator, rate)
    score = _held_out(mechanism, held_out, settings) if len(held_out) and math.isfinite(loss) else math.nan
    failed = not math.isfinite(loss) or (len(held_out) > 0 and not math.isfinite(score))
    now.epoch += 1
    if failed:
        mechanism.load_state_dict(good[0])
        descent.restore(good[1])
        now.rate /= 2
        now.rollbacks += 1
    elif not mechanism.full_batch and len(held_out):
        _keep_best(now, mechanism, score)
        if now.waited and now.waited % max(settings.patience // 3, 1) == 0:
            now.rate /= 2
    now.history.append((float(now.epoch), loss, score, rate, time.perf_counter() - began, float(failed)))
    if now.rollbacks > settings.max_rollbacks:
        raise TrainingError(
            f"training '{stage}' met a non-finite loss or gradient {now.rollbacks} times, last in epoch {now.epoch} at "
            f"learning rate {rate:.1e}; look for extreme values, or lower learning_rate"
        )


def _keep_best(now: Progress, mechanism: FeatureMechanism, score: float) -> None:
    now.waited += 1
    if score > now.best or not now.best_state:
        now.best = score if math.isfinite(score) else -math.inf
        now.best_state, now.waited = state_of(mechanism), 0


@torch.no_grad()
def _held_out(mechanism: FeatureMechanism, source: Source, settings: Training) -> float:
    """Return the weighted mean log-probability of held-out rows."""
    total = torch.zeros((), dtype=torch.float64, device=source.rows.device)
    for start in range(0, len(source), settings.batch_size):
        x, parents, weight = source.take(np.arange(start, min(start + settings.batch_size, len(source))))
        each = weight if weight.ndim == 1 else weight.sum(1)  # of an ensemble: over its members
        total = total + (each * mechanism.log_prob(x, parents)).sum()
    return float(total) / source.weight


def _identity(
    mechanism: FeatureMechanism,
    rows: Rows,
    train_index: IntArray,
    held_out_index: IntArray,
    settings: Training,
    seed: int,
    stage: str,
) -> JsonDict:
    """Return what a checkpoint must match; the first rows stand for all features."""
    x, parents, _ = rows.take(train_index[:256])
    shapes = {name: list(value.shape) for name, value in mechanism.state_dict().items()}
    facts = {"stage": stage, "seed": seed, "mechanism": [type(mechanism).__name__, shapes]}
    arrays = {"training rows": train_index, "held-out rows": held_out_index, "site": rows.site, "weight": rows.weight}
    seen = {"features": x, "design": parents.design}
    arrays |= {name: value.cpu().numpy() for name, value in seen.items()}
    return fingerprint({**facts, "settings": asdict(settings)}, arrays)
