"""What a batch model is: an object that estimates site effects, and a fit that removes them and keeps the mean.

`ComBat(..., batch_model=…)` takes any such object; None is `LocationScale`, ComBat's own. A batch model says which pass
over the rows it needs: the `Moments` that the mean model leaves of every batch, or the residuals themselves too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import pandas as pd

from pycombat_gam.batch.levels import BatchLevels
from pycombat_gam.batch.moments import Moments
from pycombat_gam.penalized.sufficient import blocks
from pycombat_gam.saving.reader import Reader
from pycombat_gam.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Batches:
    """What is named in a fit: its batches, the reference among them, and its features.

    Attributes
    ----------
    levels : the batches, in order; reference : index of the reference batch, or None.
    features : (V,) names.
    """

    levels: BatchLevels
    reference: int | None
    features: tuple[str, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the batches (B,)."""
        return self.levels.labels

    def by_batch(self, values: np.ndarray) -> pd.DataFrame:
        """Return values (B, V) as a table, batches by features."""
        index = pd.Index(self.labels, name=self.levels.column)
        return pd.DataFrame(values, index=index, columns=pd.Index(self.features))


@dataclass(frozen=True, eq=False)
class MeanRows:
    """The mean model on m rows: f = level + Xβ + offset, evaluated where it is asked for.

    Attributes
    ----------
    X : (m, p) design; center : (p,) what is taken off its columns; coefficients : (p, V).
    at_center : (V,) f at `center`, without an offset; offset : (m,) the formula's, or None.
    rows, effects : (k,) rows that have more, and (k, V) what is added there: random effects of new groups.
    """

    X: FloatArray
    center: FloatArray
    coefficients: FloatArray
    at_center: FloatArray
    offset: FloatArray | None = None
    rows: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    effects: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))

    def taken_off(self, block: FloatArray, rows: IntArray, columns: slice) -> FloatArray:
        """Return values (k, v) of some rows and features less f there; missing cells stay missing."""
        left = block - self.at_center[columns] - (self.X[rows] - self.center) @ self.coefficients[:, columns]
        if self.offset is not None:
            left -= self.offset[rows, None]
        if self.rows.size:
            left -= self.more(rows, columns)
        return np.asarray(left)

    def more(self, rows: IntArray, columns: slice) -> FloatArray:
        """Return what `effects` adds to f there; zero in the other rows."""
        place = np.searchsorted(self.rows, rows).clip(0, self.rows.size - 1)
        return np.where((self.rows[place] == rows)[:, None], self.effects[place, columns], 0.0)


@dataclass(frozen=True, eq=False)
class Residuals:
    """The rows less what the covariates explain, a block of features at a time: what is left is level, site and noise.

    Attributes
    ----------
    Y : (n, V) features; mean : the covariates' part on these rows; codes : (n,) their batches.
    """

    Y: np.ndarray
    mean: MeanRows
    codes: IntArray

    def blocks(self) -> Iterator[tuple[slice, FloatArray]]:
        """Yield (columns, what is left there), (n, k); missing cells are NaN."""
        rows = np.arange(len(self.codes))
        for columns, block in blocks(self.Y, rows):
            yield columns, self.mean.taken_off(block, rows, columns)


class BatchModel(Protocol):
    """How sites differ beside the mean."""

    @property
    def needs(self) -> Literal["moments", "residuals"]:
        """Which pass over the rows it takes."""

    def fit(self, moments: Moments, batches: Batches, residuals: Residuals | None = None) -> BatchFit:
        """Estimate the sites' effects; `residuals` are given where the model needs them."""

    def from_arrays(self, reader: Reader, batches: Batches) -> BatchFit:
        """Rebuild a fit from the arrays of a file, every one of them checked."""


class BatchFit(Protocol):
    """Estimated site effects: B batches, V features."""

    @property
    def model(self) -> BatchModel:
        """What estimated it."""

    @property
    def batches(self) -> Batches:
        """What batches and features are called."""

    @property
    def level(self) -> FloatArray:
        """What harmonized features have at raw covariates of zero, (V,): the mean model is `level` + Xβ."""

    def adjust(self, block: np.ndarray, mean: MeanRows, codes: IntArray, out: np.ndarray) -> None:
        """Write harmonized rows into `out`.

        Parameters
        ----------
        block : (m, V) rows; missing cells stay missing.
        mean : the mean model on them; codes : (m,) their batches; out : (m, V) of floating point.
        """

    def extend(self, moments: Moments, labels: Sequence[str], residuals: Residuals | None = None) -> BatchFit:
        """Return a fit with further batches after the known ones, whose effects stay as they are."""

    def posterior(self) -> object:
        """The posterior of the effects, for intervals and draws."""

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return what was estimated.

        `estimates` gives every table by its name. `summary` shows those called "batches" and "features", a row for
        each; without them it describes the tables of batches × features.
        """

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what `from_arrays` needs."""

    def sentences(self) -> list[str]:
        """Say, feature by feature and site by site, what was not handled in the ordinary way."""
