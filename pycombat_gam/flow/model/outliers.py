"""How unusual a row is: the rank of its log-probability among the rows of the fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pycombat_gam.types import FloatArray

POINTS = 2001


@dataclass(frozen=True, eq=False)
class Reference:
    """The fit's log-probabilities of features given parents, by quantiles: (2001,), ascending."""

    quantiles: FloatArray

    @classmethod
    def learn(cls, log_prob: FloatArray) -> Reference:
        """Keep the quantiles of log-probabilities (n,)."""
        return cls(np.quantile(log_prob, np.linspace(0.0, 1.0, POINTS)))

    def below(self, log_prob: FloatArray) -> FloatArray:
        """Return the share of the fit's rows at most as probable as each of these, (n,)."""
        share: FloatArray = np.interp(log_prob, self.quantiles, np.linspace(0.0, 1.0, POINTS), left=0.0, right=1.0)
        return share
