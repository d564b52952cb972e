"""Which variant of the structured flow a study asks for: the held-out log-probability of every row decides.

Every site is halved; each half is harmonized by a fit to the other, so that each row is held out once (rows of sites
too small to halve are not). Of the two variants without shape the better one is taken; with shape it has to be better
by more than a standard error of the difference, for it has twice as many parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from pycombat_gam.flow.progress import Hook
from pycombat_gam.flow.structured import VARIANTS, StructuredFlow, Variant
from pycombat_gam.flow.train import Rows, Training, split, train
from pycombat_gam.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Choice:
    """The variant chosen, and why.

    Attributes
    ----------
    variant : the one chosen.
    table : a row per variant: mean held-out log-probability of a row, its difference to the chosen one, and the
        difference's standard error.
    history : of the trainings.
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
) -> Choice:
    """Choose among variants by two-fold cross-validation.

    Parameters
    ----------
    make : builds a flow of a variant for sites of so many rows (B,).
    rows : all rows; order : (n,) their canonical order.
    """
    halves = split(rows.site, order, 0.5, seed)
    sites = int(rows.site.max()) + 1
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
                x, parents, _ = rows.take(held_out)
                parts.append(flow.log_prob(x, parents).cpu().numpy())
        scores[variant] = np.concatenate(parts)
    chosen = _best(scores)
    gaps = {variant: scores[chosen] - score for variant, score in scores.items()}
    table = pd.DataFrame(
        {
            "log_prob": {variant: score.mean() for variant, score in scores.items()},
            "behind_by": {variant: gap.mean() for variant, gap in gaps.items()},
            "standard_error": {variant: _standard_error(gap) for variant, gap in gaps.items()},
        }
    )
    return Choice(chosen, table, pd.concat(histories, ignore_index=True))


def _swapped(halves: tuple[IntArray, IntArray], site: IntArray) -> tuple[IntArray, IntArray]:
    """Return the halves the other way round; sites that were not halved stay in training."""
    rest, held_out = halves
    whole = ~np.isin(site[rest], np.unique(site[held_out]))
    return np.concatenate([held_out, rest[whole]]), rest[~whole]


def _best(scores: dict[Variant, FloatArray]) -> Variant:
    def better(one: Variant, other: Variant) -> Variant:
        return one if scores[one].mean() >= scores[other].mean() else other

    best: dict[bool, Variant] = {}
    for variant in scores:
        shaped = variant.endswith("shape")
        best[shaped] = better(best[shaped], variant) if shaped in best else variant
    if len(best) == 1:
        return next(iter(best.values()))
    gain = scores[best[True]] - scores[best[False]]
    return best[gain.mean() > _standard_error(gain)]


def _standard_error(difference: FloatArray) -> float:
    return float(difference.std(ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else 0.0
