"""A fitted flow, and the intervals of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t

from pycombat_gam.flow.model.outliers import Reference
from pycombat_gam.flow.model.scm import StructuralModel
from pycombat_gam.flow.nodes.support import Support
from pycombat_gam.types import FloatArray, JsonDict


@dataclass(frozen=True, eq=False)
class Interval:
    """Harmonized values with their uncertainty, each a DataFrame (n × V) of the features.

    Attributes
    ----------
    mean, sd : DataFrame
        Mean over the members, and their standard deviation.
    lower, upper : DataFrame
        Ends of the interval, mean ± t √(1 + 1/M) sd, with t from Student's distribution with M − 1 degrees of freedom.
    level : float
        Coverage of the interval.
    """

    mean: pd.DataFrame
    sd: pd.DataFrame
    lower: pd.DataFrame
    upper: pd.DataFrame
    level: float

    @classmethod
    def of(cls, each: FloatArray, index: pd.Index, features: Sequence[str], level: float) -> Interval:
        """Return the intervals of M members' values (M, n, V)."""
        M = len(each)
        # Relative to the first member, so that members that agree exactly (rows of the site itself) have no spread.
        mean, sd = each[0] + (each - each[0]).mean(axis=0), (each - each[0]).std(axis=0, ddof=1)
        # The centre is a mean of M draws, with its own error.
        half = float(t.ppf(0.5 + level / 2, M - 1)) * np.sqrt(1.0 + 1.0 / M) * sd
        names = list(features)
        tables = [pd.DataFrame(values, index=index, columns=names) for values in (mean, sd, mean - half, mean + half)]
        return cls(tables[0], tables[1], tables[2], tables[3], level)


@dataclass(frozen=True, eq=False)
class Fitted:
    """The model, notes of the fit, its training, and the probabilities and covariate ranges of its rows."""

    model: StructuralModel
    notes: tuple[str, ...]
    profile: JsonDict
    history: pd.DataFrame
    choice: pd.DataFrame | None
    reference: Reference
    support: Support
