r"""The mechanism of a node: an invertible map from noise to a value, given the node's parents.

A mechanism x = F(ε; pa) is invertible in ε, so that log p(x | pa) = log p(F⁻¹(x; pa)) + log |det ∂F⁻¹/∂x|.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pycombat_gam.types import IntArray


@dataclass(frozen=True, eq=False)
class Parents:
    """The parents of the features, for n rows.

    Attributes
    ----------
    design : (n, p) columns of the formula, centred and scaled to unit variance over the rows of the fit.
    site : (n,) integer codes of B sites.
    """

    design: Tensor
    site: Tensor

    def __len__(self) -> int:
        return len(self.site)

    def at(self, site: int) -> Parents:
        """Return the same rows under do(site)."""
        return Parents(self.design, torch.full_like(self.site, site))

    def rows(self, index: Tensor | slice) -> Parents:
        """Return some of the rows."""
        return Parents(self.design[index], self.site[index])


class FeatureMechanism(nn.Module, ABC):
    """The mechanism of the V features, on their standardized scale.

    `train.train` fits it: minibatches by AdamW if `full_batch` is False, else all rows at once by L-BFGS.
    """

    full_batch = False

    @property
    def site_meets_covariates(self) -> bool:
        """Whether a site's map acts on the covariates' part too, and so is learned on that site's covariates."""
        return True

    @abstractmethod
    def abduct(self, x: Tensor, parents: Parents) -> tuple[Tensor, Tensor]:
        """Return the noise (n, V) of values x (n, V), and log |det ∂noise/∂x| (n,)."""

    @abstractmethod
    def predict(self, noise: Tensor, parents: Parents) -> Tensor:
        """Return the values (n, V) of a noise (n, V)."""

    @abstractmethod
    def base_log_prob(self, noise: Tensor) -> Tensor:
        """Return the log-density (n,) of a noise."""

    def log_prob(self, x: Tensor, parents: Parents) -> Tensor:
        """Return log p(x | parents), (n,)."""
        noise, log_det = self.abduct(x, parents)
        return self.base_log_prob(noise) + log_det

    def counterfactual(self, x: Tensor, parents: Parents, action: Parents) -> Tensor:
        """Return what the rows would have been under other parents, (n, V): abduction, action, prediction."""
        return self.predict(self.abduct(x, parents)[0], action)

    def average(self, x: Tensor, parents: Parents, action: Parents, weights: Tensor) -> Tensor:
        """Return Σ_s w_s x*(do(site = s)) with the other parents of `action`, (n, V); weights : (B,)."""
        noise = self.abduct(x, parents)[0]
        total = torch.zeros_like(noise)
        for site, weight in enumerate(weights.tolist()):
            total += weight * self.predict(noise, action.at(site))
        return total

    @abstractmethod
    def draw(self, rows: int, rng: np.random.Generator) -> Tensor:
        """Draw noise, (rows, V)."""

    def loss(self, x: Tensor, parents: Parents, weight: Tensor) -> Tensor:
        """Return what training minimises, a scalar: minus the weighted sum of log-probabilities of these rows."""
        return -(weight * self.log_prob(x, parents)).sum()

    def penalty(self) -> Tensor:
        """Return minus the log-prior of the parameters, on the scale of a sum over all rows."""
        return torch.zeros((), dtype=torch.float64)

    def draw_pull(self, rng: np.random.Generator, sites: Sequence[int]) -> tuple[Tensor, ...]:
        """Draw a score of the prior, for `pulled`; empty without a prior. sites : codes in drawing order."""
        return ()

    def pulled(self, *pull: Tensor) -> Tensor:
        """Return what a pull adds to the penalty, a scalar linear in the parameters."""
        return torch.zeros((), dtype=torch.float64)

    @abstractmethod
    def reorder_sites(self, place: IntArray) -> None:
        """Give site s the map that site place[s] has now, in place; place : (B,)."""

    @torch.no_grad()
    def refresh(self, x: Tensor, parents: Parents, weight: Tensor) -> None:
        """Update, before each epoch over all rows, what descent does not estimate (`full_batch` only)."""
