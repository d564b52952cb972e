"""A batch model in thirty lines: each site's median is brought to the mean of the sites' medians."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd


class MedianCentring:
    needs = "residuals"

    def fit(self, moments, batches, residuals=None):
        medians = _medians(residuals, len(batches.labels))
        return Medians(self, batches, medians, moments.n_rows / moments.n_rows.sum() @ medians)

    def from_arrays(self, reader, batches):
        B, V = len(batches.labels), len(batches.features)
        return Medians(self, batches, reader.array("medians", (B, V)), reader.array("common", (V,)))


@dataclass(frozen=True, eq=False)
class Medians:
    model: MedianCentring
    batches: object
    medians: np.ndarray
    level: np.ndarray

    def adjust(self, block, mean, codes, out):
        out[:] = block - (self.medians - self.level)[codes]

    def extend(self, moments, labels, residuals=None):
        levels = replace(self.batches.levels, labels=(*self.batches.labels, *labels))
        medians = np.vstack([self.medians, _medians(residuals, len(labels))])
        return replace(self, batches=replace(self.batches, levels=levels), medians=medians)

    def posterior(self):
        return None

    def tables(self) -> dict[str, pd.DataFrame]:
        return {"median": self.batches.by_batch(self.medians)}

    def arrays(self):
        return {"medians": self.medians, "common": self.level}

    def sentences(self):
        return []


def _medians(residuals, B):
    parts = [[np.nanmedian(block[residuals.codes == b], axis=0) for b in range(B)] for _, block in residuals.blocks()]
    return np.hstack([np.array(part) for part in parts])
