"""Random numbers by tiles of features: a tile has its own generator, so blocks of any number of tiles agree.

Tiles are numbered in the order of the features: with the features in another order, other numbers meet them, and draws
agree in distribution only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pycombat_gam.types import FloatArray

TILE = 64
"""Features that share a generator: enough for a call to cost little beside its numbers."""


def generator(seed: int, *key: int) -> np.random.Generator:
    """Return the generator of one purpose: `key` names it."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


class Streams:
    """The generators of some neighbouring tiles.

    Parameters
    ----------
    seed : of everything; key : the purpose.
    start, stop : the features, counted among those that are drawn; `start` is a multiple of `TILE`.
    """

    def __init__(self, seed: int, key: Sequence[int], start: int, stop: int) -> None:
        self.size = stop - start
        edges = range(start, stop, TILE)
        self.parts = [
            (slice(edge - start, min(edge + TILE, stop) - start), generator(seed, *key, edge // TILE)) for edge in edges
        ]

    def normal(self, rows: int) -> FloatArray:
        """Draw standard normals, (rows, size)."""
        drawn = np.empty((rows, self.size))
        for columns, source in self.parts:
            drawn[:, columns] = source.standard_normal((rows, columns.stop - columns.start))
        return drawn

    def gamma(self, shape: FloatArray) -> FloatArray:
        """Draw gamma numbers of rate one, (rows, size), for shapes (rows, 1) or (rows, size)."""
        drawn = np.empty((len(shape), self.size))
        for columns, source in self.parts:
            shapes = shape if shape.shape[1] == 1 else shape[:, columns]
            drawn[:, columns] = source.standard_gamma(shapes, size=(len(shape), columns.stop - columns.start))
        return drawn
