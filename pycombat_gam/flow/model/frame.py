"""The scales of the feature mechanism: design columns and features, standardized and restored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pycombat_gam.design.design import Design
from pycombat_gam.flow.mechanisms.mechanism import Parents
from pycombat_gam.types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Frame:
    """The scales of a fit with p design columns and V features, some of which may not be modelled.

    Attributes
    ----------
    design : the learned design, without batch columns and intercept.
    center, spread : (p,) mean and standard deviation of its columns over the rows of the fit.
    features : (V,) names; modelled : (V,) whether they have variance; the others pass through.
    location, scale : (modelled,) grand mean and pooled sd of each modelled feature.
    idle : (V − modelled,) grand mean of the others.
    """

    design: Design
    center: FloatArray
    spread: FloatArray
    features: tuple[str, ...]
    modelled: BoolArray
    location: FloatArray
    scale: FloatArray
    idle: FloatArray

    def columns(self, table: pd.DataFrame) -> FloatArray:
        """Return the standardized columns of the design, (n, p)."""
        return (self.design.on(table) - self.center) / self.spread

    def parents(self, table: pd.DataFrame, site: IntArray, device: torch.device) -> Parents:
        """Return the parents of the features."""
        return Parents(torch.as_tensor(self.columns(table), device=device), torch.as_tensor(site, device=device))

    def standardized(self, Y: np.ndarray, device: torch.device) -> Tensor:
        """Return the modelled features of Y (n, V) on their standardized scale."""
        values = np.asarray(Y, dtype=np.float64)
        if not self.modelled.all():
            values = values[:, self.modelled]
        return torch.as_tensor((values - self.location) / self.scale, device=device)

    def restored(self, x: Tensor, Y: np.ndarray) -> FloatArray:
        """Return the values of standardized features (n, modelled); the others are those of Y."""
        values: FloatArray = x.cpu().numpy() * self.scale + self.location
        if self.modelled.all():
            return values
        out = np.array(Y, dtype=np.float64)
        out[:, self.modelled] = values
        return out
