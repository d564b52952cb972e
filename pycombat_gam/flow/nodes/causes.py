r"""The causes of a node as columns, on which its mechanism is conditional.

A numeric cause gives a natural cubic spline with four knots at the quantiles .05, .35, .65 and .95, three columns,
linear beyond the outer knots (Harrell, 2015, *Regression Modeling Strategies*, §2.4.5). With fewer than 50 rows, or
coinciding knots, it gives the line alone. Columns of numbers are standardized over the fit. A discrete cause gives an
indicator column for each level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pycombat_gam.flow.nodes.graph import Graph
from pycombat_gam.saving.reader import Reader
from pycombat_gam.types import FloatArray, IntArray, JsonDict

_QUANTILES = (0.05, 0.35, 0.65, 0.95)
_ROWS_FOR_A_CURVE = 50


@dataclass(frozen=True)
class Curve:
    """A numeric cause: its knots (four, or none for a line), and mean and standard deviation of each of its columns."""

    knots: tuple[float, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]

    @classmethod
    def learn(cls, x: FloatArray) -> Curve:
        """Learn from the values (n,), sorted first so that not even the last digit depends on the order of rows."""
        x = np.sort(x)
        quantiles = np.quantile(x, _QUANTILES) if len(x) >= _ROWS_FOR_A_CURVE else np.zeros(1)
        # Nearly coinciding knots would give columns that are nearly jumps.
        apart = len(quantiles) > 1 and float(np.diff(quantiles).min()) > 1e-3 * float(quantiles[-1] - quantiles[0])
        knots = tuple(quantiles.tolist()) if apart else ()
        raw = _natural(x, knots)
        return cls(knots, tuple(raw.mean(axis=0).tolist()), tuple(raw.std(axis=0).tolist()))

    @classmethod
    def read(cls, saved: Reader) -> Curve:
        """Rebuild from plain data."""
        knots = saved.exactly("knots", "mean", "sd").array("knots", (None,), ascending=True)
        saved.require(knots.size in (0, 4), "have four knots, or none")
        columns = 3 if knots.size else 1
        mean, sd = saved.array("mean", (columns,)), saved.array("sd", (columns,), positive=True)
        return cls(tuple(knots.tolist()), tuple(mean.tolist()), tuple(sd.tolist()))

    def on(self, x: FloatArray) -> FloatArray:
        """Return the columns (n, 1 or 3)."""
        columns: FloatArray = (_natural(x, self.knots) - np.array(self.mean)) / np.array(self.sd)
        return columns


@dataclass(frozen=True)
class Causes:
    """The causes of one node, coded.

    Attributes
    ----------
    codings : dict of str to Curve or int
        For each cause its curve, or its number of levels; in the order of the graph.
    """

    codings: dict[str, Curve | int]

    @classmethod
    def learn(cls, graph: Graph, node: str, coded: Mapping[str, FloatArray | IntArray]) -> Causes:
        """Learn from the nodes' values on n rows, coded as `Graph.encode` does."""
        return cls(
            {
                cause: Curve.learn(np.asarray(coded[cause], dtype=np.float64))
                if graph.kinds[cause] == "numeric"
                else len(graph.levels[cause])
                for cause in graph.parents[node]
            }
        )

    @property
    def columns(self) -> int:
        """The number of columns q; 0 for a root."""
        return sum(len(coding.mean) if isinstance(coding, Curve) else coding for coding in self.codings.values())

    def on(self, coded: Mapping[str, FloatArray | IntArray], n: int) -> Tensor:
        """Return the columns (n, q), float64."""
        parts = [
            coding.on(np.asarray(coded[cause], dtype=np.float64))
            if isinstance(coding, Curve)
            else np.eye(coding)[coded[cause]]
            for cause, coding in self.codings.items()
        ]
        return torch.from_numpy(np.hstack([np.zeros((n, 0)), *parts]))

    def to_dict(self) -> JsonDict:
        """Plain data for `from_dict`."""
        return {
            cause: {"knots": list(curve.knots), "mean": list(curve.mean), "sd": list(curve.sd)}
            for cause, curve in self.codings.items()
            if isinstance(curve, Curve)
        }

    @classmethod
    def from_dict(cls, data: object, graph: Graph, node: str) -> Causes:
        """Rebuild from plain data, every piece of it checked against the graph.

        Raises
        ------
        ModelFileError
            If anything is missing, superfluous or of the wrong kind.
        """
        numeric = [cause for cause in graph.parents[node] if graph.kinds[cause] == "numeric"]
        saved = Reader(data, f"the saved causes of '{node}'").exactly(*numeric)
        curves = {cause: Curve.read(saved.child(cause)) for cause in numeric}
        return cls({cause: curves.get(cause) or len(graph.levels[cause]) for cause in graph.parents[node]})


def _natural(x: FloatArray, knots: tuple[float, ...]) -> FloatArray:
    """Return columns of a natural cubic spline: x and, with four knots, two curves linear beyond them."""
    if not knots:
        return x[:, None]
    *inner, before, last = knots
    unit = (last - knots[0]) ** 2

    def cube(knot: float) -> FloatArray:
        return np.asarray(np.maximum(x - knot, 0.0) ** 3)

    curves = [
        (cube(t) - cube(before) * (last - t) / (last - before) + cube(last) * (before - t) / (last - before)) / unit
        for t in inner
    ]
    return np.column_stack([x, *curves])
