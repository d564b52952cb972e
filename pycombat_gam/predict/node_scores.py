"""Scores of strangeness in a taxonomy, and the node that answers.

A model descends from the root to the likelier child. s(class) is the probability of the first node on this path that
does not hold the class, and 0 if all hold it. The classes with s ≤ q are thus those below the deepest node on the path
that is likelier than q. Several models answer together by their smallest scores, which need not make one node: the
answer is the lowest node that holds the whole set. It is never smaller than the set and holds the truth at least as
often. A set is never empty: scores are 0 at the end of a path, and no threshold is lower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pycombat_gam.errors import DataError
from pycombat_gam.predict.scores import UNDECIDED, Event
from pycombat_gam.predict.taxonomy import Tree
from pycombat_gam.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class NodeScores:
    """s = probability of the first node on the path that does not hold the class; answers are nodes.

    Predictions P (n, N) are probabilities of nodes, NaN below a model's partition.

    Attributes
    ----------
    tree : N nodes, C classes; shown : nodes whose probabilities are columns of answers.
    per_class : whether each class has its own threshold; ranked : whether answers rank the classes of the partition.
    """

    tree: Tree
    shown: tuple[int, ...]
    per_class: bool
    ranked: bool = False

    @property
    def n_strata(self) -> int:
        """How many thresholds there are."""
        return len(self.tree.leaf) if self.per_class else 1

    def strata(self, y: FloatArray) -> IntArray:
        """Return which threshold each outcome has."""
        return y.astype(np.intp) if self.per_class else np.zeros(len(y), dtype=np.intp)

    def truth(self, P: FloatArray, y: FloatArray) -> FloatArray:
        """Return the scores of the classes that came true."""
        return self.extremes(P)[np.arange(len(y)), y.astype(np.intp)]

    def extremes(self, P: FloatArray) -> FloatArray:
        """Return the score of every class, (n, C); of children equally likely, the first in the tree is taken."""
        n, N = P.shape
        P = P.T
        on_path = np.zeros((N, n), dtype=np.bool_)
        on_path[0] = True
        scores = np.zeros((N, n))
        for v, children in enumerate(self.tree.children):
            if not children.size:
                continue
            likeliest = np.where(np.isnan(P[children]), -np.inf, P[children]).argmax(axis=0)
            taken = P[children[likeliest], np.arange(n)]
            further = on_path[v] & ~np.isnan(taken)
            # Where the path ends at v, all below v have score 0; beside the path they have that of v.
            score = np.where(on_path[v], np.where(further, taken, 0.0), scores[v])
            for place, child in enumerate(children):
                on_path[child] = further & (likeliest == place)
                scores[child] = np.where(on_path[child], 0.0, score)
        return np.ascontiguousarray(scores[self.tree.leaf].T)

    def members(self, extremes: FloatArray, thresholds: FloatArray) -> BoolArray:
        """Tell which classes are normal enough, (n, C)."""
        held: BoolArray = extremes <= thresholds
        return held

    def answered(self, extremes: FloatArray, thresholds: FloatArray) -> IntArray:
        """Return the nodes (n,) that answer."""
        return self.tree.lowest(self.members(extremes, thresholds))

    def covered(self, extremes: FloatArray, thresholds: FloatArray, y: FloatArray) -> BoolArray:
        """Tell whether the answered nodes hold the classes."""
        return np.asarray(self.tree.holds[self.answered(extremes, thresholds), y.astype(np.intp)])

    def sizes(self, extremes: FloatArray, thresholds: FloatArray) -> FloatArray:
        """Return how many classes the answered nodes hold."""
        size: FloatArray = self.tree.holds.sum(axis=1).astype(np.float64)
        return size[self.answered(extremes, thresholds)]

    def columns(self, P: FloatArray, extremes: FloatArray, thresholds: FloatArray) -> dict[str, Any]:
        """Return p_<node>, set, size, node and answer."""
        node = self.answered(extremes, thresholds)
        classes, size = self.tree.classes, self.tree.holds.sum(axis=1)
        below = [tuple(classes[c] for c in np.flatnonzero(held)) for held in self.tree.holds]
        return {
            **self.predictions(P),
            "set": [below[v] for v in node],
            "size": size[node],
            "node": [self.tree.names[v] for v in node],
            "answer": [UNDECIDED if size[v] == len(classes) else self.tree.names[v] for v in node],
        }

    def predictions(self, P: FloatArray) -> dict[str, Any]:
        """Return p_<node>, NaN below a model's partition, and the partition's classes in order if answers rank them."""
        columns: dict[str, Any] = {f"p_{self.tree.names[v]}": P[:, v] for v in self.shown}
        if self.ranked:
            ends = ~np.isnan(P)
            for v, children in enumerate(self.tree.children):
                ends[:, v] &= np.isnan(P[:, children]).all(axis=1)
            order = np.argsort(np.where(ends, -P, np.inf), axis=1, kind="stable")
            columns["ranked"] = [
                tuple(self.tree.names[v] for v in row[:number])
                for row, number in zip(order, ends.sum(axis=1), strict=True)
            ]
        return columns

    def names_of_strata(self) -> tuple[str, ...]:
        """Return the classes, or one empty text."""
        return tuple(map(str, self.tree.classes)) if self.per_class else ("",)

    def events(self, P: FloatArray, y: FloatArray) -> list[Event]:
        """Return every node that has a probability in all rows, but for the root."""
        known = [v for v in self.shown if not np.isnan(P[:, v]).any()]
        return [Event(str(self.tree.names[v]), *self.event(P, y, self.tree.names[v])) for v in known]

    def hits(self, P: FloatArray, y: FloatArray) -> dict[str, BoolArray]:
        """Return whether the node at the end of the path holds the class."""
        return {"accuracy": self.truth(P, y) == 0.0}

    def event(self, P: FloatArray, y: FloatArray, node: object) -> tuple[BoolArray, FloatArray]:
        """Return whether classes lie below a node, and its probability, each (n,).

        Raises
        ------
        OptionError
            For a node that is none.
        DataError
            For a node below the partition of one of the models.
        """
        v = self.tree.node(node)
        if np.isnan(P[:, v]).any():
            raise DataError(
                f"'{node}' has no probability in every fold: with a site left out, its cases are put together with "
                "others; choose a node above it, or a smaller max_size"
            )
        return self.tree.holds[v, y.astype(np.intp)], P[:, v]
