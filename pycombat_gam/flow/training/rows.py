"""The rows that a mechanism is trained on: read in parts, in an order set only by their content."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pycombat_gam.flow.mechanisms.mechanism import Parents
from pycombat_gam.types import FloatArray, IntArray

WHOLE_SITES = 4
"""Most rows of a site that stays wholly in training."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Training data of V features and n rows. The features may be a memory map: only requested rows are read.

    Attributes
    ----------
    x : (n, V) raw values, float32 or float64.
    location, scale : (V,) of the standardization (x − location) / scale, applied as rows are read.
    design : (n, p) columns of the formula, centred and scaled.
    site : (n,) codes 0..B−1.
    weight : (n,) weights of the rows in the likelihood.
    device : device of the tensors.
    """

    x: np.ndarray
    location: FloatArray
    scale: FloatArray
    design: FloatArray
    site: IntArray
    weight: FloatArray
    device: torch.device

    def __len__(self) -> int:
        return len(self.site)

    def take(self, index: IntArray) -> tuple[Tensor, Parents, Tensor]:
        """Return standardized values (m, V), parents and weights (m,) of these rows, in this order, in float64."""
        order = np.argsort(index, kind="stable")
        # Ascending, so that a memory map is read forwards.
        x = np.empty((len(index), self.x.shape[1]))
        x[order] = self.x[index[order]]
        x -= self.location
        x /= self.scale
        design = np.ascontiguousarray(self.design[index], dtype=np.float64)
        site = self.site[index].astype(np.int64)
        weight = np.ascontiguousarray(self.weight[index], dtype=np.float64)
        parents = Parents(self._tensor(design), self._tensor(site))
        return self._tensor(x), parents, self._tensor(weight)

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.device)


def canonical_order(x: np.ndarray, design: FloatArray, site: IntArray) -> IntArray:
    """Return a permutation (n,) that sorts rows by content, so that no result depends on their order.

    Rows are compared by the first feature, then the next, …, then the columns of the design, and the site last, so that
    the sites' names hardly ever matter. A column is read only while rows still tie in all columns before it.

    Parameters
    ----------
    x : (n, V) features; a memory map is read by columns as far as needed.
    design : (n, p).
    site : (n,).
    """
    order = np.arange(len(site))
    tied = np.zeros(len(site), dtype=np.intp)  # at each place, the number of the group of equal rows that it lies in
    columns = [(x, k) for k in range(x.shape[1])] + [(design, k) for k in range(design.shape[1])] + [(site, -1)]
    open_places = np.arange(len(site))
    for table, k in columns:
        rows = order[open_places]
        value = np.asarray(table[rows] if k < 0 else table[rows, k])
        sort = np.lexsort((value, tied[open_places]))
        order[open_places] = rows[sort]
        value, group = value[sort], tied[open_places]
        new = np.ones(len(value), dtype=bool)
        new[1:] = (group[1:] != group[:-1]) | (value[1:] != value[:-1])
        tied[open_places] = np.cumsum(new)
        # A place stays open if its neighbour before or after is equal so far.
        alone = new & np.append(new[1:], True)
        open_places = open_places[~alone]
        if not len(open_places):
            break
    return order


def sites_in_order(site: IntArray, order: IntArray) -> list[int]:
    """Return the codes of the sites, (B,), by their first row in canonical order, not by name."""
    return sorted(map(int, np.unique(site)), key=lambda code: int(np.flatnonzero(site[order] == code)[0]))


def split(site: IntArray, order: IntArray, held_out: float, seed: int) -> tuple[IntArray, IntArray]:
    """Hold out a share of every site's rows.

    Parameters
    ----------
    site : (n,) codes.
    order : (n,) the canonical order; both results follow it.
    held_out : share held out of each site, rounded; sites of up to 4 rows stay wholly in training.
    seed : seed of the choice of rows.

    Returns
    -------
    train_index, held_out_index : row numbers.
    """
    lot = np.empty(len(site))
    # One lot per row in canonical order, whatever the site's name.
    lot[order] = np.random.default_rng(seed).random(len(site))
    out = np.zeros(len(site), dtype=bool)
    for code in np.unique(site):
        rows = np.flatnonzero(site == code)
        if len(rows) > WHOLE_SITES:
            out[rows[np.argsort(lot[rows])[: round(held_out * len(rows))]]] = True
    return order[~out[order]], order[out[order]]
