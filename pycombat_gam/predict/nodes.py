"""The learner of a taxonomy: classes are put together by the partition, probabilities are summed up the tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pycombat_gam.errors import DesignError
from pycombat_gam.predict.learners import FittedLearner, Linear, learner_of
from pycombat_gam.predict.taxonomy import Tree
from pycombat_gam.saving.reader import Reader
from pycombat_gam.types import FloatArray, IntArray
from pycombat_gam.words import count


@dataclass(frozen=True, eq=False)
class Nodes:
    """Fits an estimator to the classes of a partition, which it makes from the cases it sees."""

    tree: Tree
    max_size: int | None
    estimator: Any

    @property
    def shown(self) -> tuple[int, ...]:
        """Nodes that answers give probabilities of: all but the root."""
        return tuple(range(1, len(self.tree)))

    @property
    def missing(self) -> bool:
        """Whether the estimator takes missing cells."""
        return learner_of(self.estimator, len(self.tree.leaf)).missing

    def fit(
        self, X: FloatArray, names: Sequence[str], y: FloatArray, sites: IntArray, weights: FloatArray | None = None
    ) -> FittedNodes:
        """Fit rows; weights sum to one over the rows of a case."""
        codes = y.astype(np.intp)
        # Weights of a case, such as three times 1/3, sum to one but for rounding.
        cases = np.rint(np.bincount(codes, weights, minlength=len(self.tree.leaf))).astype(np.float64)
        merged = self.tree.partition(cases, self.max_size)
        classes, number = np.unique(merged, return_inverse=True)
        learner = learner_of(self.estimator, classes.size)
        base = learner.fit(X, names, number[codes].astype(np.float64), sites, weights)
        return FittedNodes(self.tree, merged, base)

    def check_cases(self, n: int, left: int) -> None:
        """Stop for a table that the partition leaves in one class.

        Parameters
        ----------
        n : cases of the table; left : those without its two largest sites.
        """
        if self.max_size is not None and left <= self.max_size:
            raise DesignError(
                f"max_size={self.max_size} is too large for {count(n, 'case')}: without the two largest sites "
                f"{count(left, 'case')} are left, which would stay one class; choose max_size below {left}"
            )


@dataclass(frozen=True, eq=False)
class FittedNodes:
    """A fitted learner of N nodes.

    Attributes
    ----------
    merged : (C,) the node whose cases each class was put together with.
    base : predicts the classes of the partition, which are ordered as nodes are.
    """

    tree: Tree
    merged: IntArray
    base: FittedLearner

    @property
    def shown(self) -> tuple[int, ...]:
        """Nodes that answers give probabilities of: the partition's and those above, but for the root."""
        return tuple(np.flatnonzero(self.tree.known(self.merged))[1:].tolist())

    def predict(self, X: FloatArray, names: Sequence[str]) -> FloatArray:
        """Return probabilities of nodes (n, N); NaN below the partition."""
        P = np.zeros((len(X), len(self.tree)))
        P[:, np.unique(self.merged)] = self.base.predict(X, names)
        P = self.tree.summed(P)
        P[:, ~self.tree.known(self.merged)] = np.nan
        return P

    def arrays(self) -> dict[str, np.ndarray]:
        """Return it as named arrays."""
        return {"partition": self.merged, **self.base.arrays()}

    @classmethod
    def read(cls, saved: Reader, columns: int, tree: Tree) -> FittedNodes:
        """Rebuild from named arrays."""
        C = len(tree.leaf)
        merged = saved.array("partition", (C,), "i")
        sound = bool(((merged >= 0) & (merged < len(tree))).all())
        # Each class lies below its node, and so does no class of another node.
        sound = sound and np.array_equal(tree.holds[merged], merged[:, None] == merged)
        saved.require(sound, "hold a partition of the taxonomy as 'partition'")
        return cls(tree, merged, Linear.read(saved, columns, np.unique(merged).size, classes=True))
