"""The choice of the structured flow's variant, by the held-out log-probability of rows.

Each site is halved, and each half is evaluated by a fit to the other, so that each row is held out once (except at
sites too small to halve). Variants are compared by the median difference over rows: a few outlying rows would decide a
mean.
The better variant without shape is taken, unless one with shape is better by more than a standard error of the median;
it has twice as many parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from pycombat_gam.flow.mechanisms.structured import VARIANTS, StructuredFlow, Variant
from pycombat_gam.flow.training.descent import SAMPLE
from pycombat_gam.flow.training.progress import Hook
from pycombat_gam.flow.training.train import Rows, Training, split, train
from pycombat_gam.types import FloatArray, IntArray

FEWEST_ROWS = 30
"""Fewest rows of a half for a choice."""


@dataclass(frozen=True, eq=False)
class Choice:
    """The variant chosen, and why.

    Attributes
    ----------
    variant : the chosen variant.
    table : a row per variant: mean held-out log-probability of a row, the median over rows of its distance behind the
        chosen variant, and the median's standard error.
    history : history of the trainings.
    """

    variant: Variant
    table: pd.DataFrame
    history: pd.DataFrame


def choose_variant(
    make: Callable[[Variant, FloatArray], StructuredFlow],
    rows: Rows,
    order: IntArray,
    *,
    settings: Training,
    seed: int,
    progress: Hook | None,
    candidates: Sequence[Variant] = VARIANTS,
) -> Choice | None:
    """Choose among variants by two-fold cross-validation; None if too few rows can be held out.

    Parameters
    ----------
    make : builds a flow of a variant, from the sites' numbers of rows (B,).
    rows : all rows; order : (n,) their canonical order.
    """
    halves = split(rows.site, order, 0.5, seed)
    sites = int(rows.site.max()) + 1
    if min(map(len, halves)) < FEWEST_ROWS:
        return None
    scores: dict[Variant, FloatArray] = {}
    histories: list[pd.DataFrame] = []
    for variant in candidates:
        parts: list[FloatArray] = []
        for fold, (rest, held_out) in enumerate((halves, _swapped(halves, rows.site))):
            flow = make(variant, np.bincount(rows.site[rest], minlength=sites).astype(np.float64))
            histories.append(
                train(
                    flow, rows, rest, held_out,
                    settings=settings, seed=seed, stage=f"{variant}, half {fold + 1}", progress=progress,
                )
            )  # fmt: skip
            with torch.no_grad():
                flow.refresh(*rows.take(rest[:: max(1, len(rest) // SAMPLE)]))
                x, parents, _ = rows.take(held_out)
                parts.append(flow.log_prob(x, parents).cpu().numpy())
        scores[variant] = np.concatenate(parts)
    chosen = _best(scores)
    gaps = {variant: scores[chosen] - score for variant, score in scores.items()}
    table = pd.DataFrame(
        {
            "log_prob": {variant: score.mean() for variant, score in scores.items()},
            "behind_by": {variant: float(np.median(gap)) for variant, gap in gaps.items()},
            "standard_error": {variant: _standard_error(gap) for variant, gap in gaps.items()},
        }
    )
    return Choice(chosen, table, pd.concat(histories, ignore_index=True))


def _swapped(halves: tuple[IntArray, IntArray], site: IntArray) -> tuple[IntArray, IntArray]:
    """Return the halves swapped; sites that were not halved stay in training."""
    rest, held_out = halves
    whole = ~np.isin(site[rest], np.unique(site[held_out]))
    return np.concatenate([held_out, rest[whole]]), rest[~whole]


def _best(scores: dict[Variant, FloatArray]) -> Variant:
    best: dict[bool, Variant] = {}
    for variant in scores:
        shaped = variant.endswith("shape")
        if shaped not in best or np.median(scores[variant] - scores[best[shaped]]) > 0:
            best[shaped] = variant
    if len(best) == 1:
        return next(iter(best.values()))
    gain = scores[best[True]] - scores[best[False]]
    return best[bool(np.median(gain) > _standard_error(gain))]


def _standard_error(difference: FloatArray) -> float:
    """Return the standard error of a median, from the median absolute deviation (both for a normal distribution)."""
    deviation = np.median(np.abs(difference - np.median(difference)))
    return float(np.sqrt(np.pi / 2) * 1.4826 * deviation / np.sqrt(len(difference)))
