"""Our tests of every term: of `ComBat.test(weights=None, variance="pooled")`, and with site weights taken as known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pycombat_gam.infer.contrast import Tested, pooled_variance
from pycombat_gam.infer.engine import Engine
from pycombat_gam.infer.one_step import OneStep
from pycombat_gam.mean.fit import MeanFit
from pycombat_gam.types import FloatArray, IntArray

NOTHING = 1e-6
"""Below this F a smooth is shrunk to nothing: its p is 1, and R's is that of the rounding that its search left."""


class TestQuantity(NamedTuple):
    """One column of a table of tests.

    Attributes
    ----------
    name : of the quantity; values, unit : (terms, V); measured_in : the unit in words.
    """

    name: str
    values: FloatArray
    unit: FloatArray
    measured_in: str


@dataclass(frozen=True)
class Terms:
    """The terms that can be tested, those of smooths last, as R's tests have them.

    Attributes
    ----------
    labels : of all; sizes : columns of each but the smooths.
    """

    labels: tuple[str, ...]
    sizes: IntArray

    @classmethod
    def of(cls, mean: MeanFit) -> Terms:
        """Put them in order."""
        smooths = {smooth.label for smooth in mean.design.smooth.smooths}
        terms = Engine(mean, 0.0, by_site=False, weighted=False).terms
        linear = sorted((label for label in terms if label not in smooths), key=lambda label: _start(mean, label))
        curved = [label for label in mean.smoothing.smooths if label in terms]
        slices = [mean.design.term_slices[label] for label in linear]
        return cls((*linear, *curved), np.array([s.stop - s.start for s in slices], dtype=np.intp))


def _start(mean: MeanFit, label: str) -> int:
    return int(mean.design.term_slices[label].start)


def site_weights(mean: MeanFit, correlation: float) -> FloatArray:
    """Return the weights of the sites (B,) that tests have."""
    return Engine(mean, correlation, by_site=False, weighted=True).weights


def tests(mean: MeanFit, weights: FloatArray | None) -> Iterator[TestQuantity]:
    """Yield the columns of the table of tests with equal weights, and with these as if they were known.

    Parameters
    ----------
    weights : (B,), for a mean without smooths and random effects; otherwise None.
    """
    labels = Terms.of(mean).labels
    if mean.groups is None or not labels:
        return
    engine = Engine(mean, 0.0, by_site=False, weighted=False)
    yield from _columns("test", [engine.term(label).tested for label in labels])
    if weights is not None:
        yield from _columns("weighted test", [_weighted(mean, engine, label, weights) for label in labels])


def _weighted(mean: MeanFit, engine: Engine, label: str, weights: FloatArray) -> Tested:
    """Test a term with known weights; NaN where the features have no variance."""
    C = np.eye(len(mean.design.columns))[mean.design.term_slices[label]]
    out = np.full((6, engine.modelled.size), np.nan)
    for group in engine.groups:
        part = pooled_variance(OneStep.of(group.statistics, weights), C, 1.0)
        out[:, group.members] = [part.estimate, part.se, part.statistic, part.df, part.df_residual, part.p]
    out[:, ~engine.modelled] = np.nan
    return Tested(*out)


def _columns(name: str, by_term: list[Tested]) -> Iterator[TestQuantity]:
    def every(part: Callable[[Tested], FloatArray]) -> FloatArray:
        return np.array([part(tested) for tested in by_term])

    se, statistic = every(lambda tested: tested.se), every(lambda tested: tested.statistic)
    p = every(lambda tested: tested.p)
    df = every(lambda tested: tested.df_residual)
    single = ~np.isnan(se)
    if single.any():
        yield TestQuantity(f"{name} estimate", every(lambda tested: tested.estimate), se, "its standard error")
        yield TestQuantity(f"{name} se", se, se, "share of it")
    yield TestQuantity(f"{name} statistic", statistic, np.fmax(np.abs(statistic), 1.0), "share of it, or 1")
    yield TestQuantity(f"{name} residual df", df, df, "share of it")
    told = single | (statistic > NOTHING)
    yield TestQuantity(f"{name} p", np.where(told, p, np.nan), np.ones_like(p), "probability")
