"""What a fit leaves, and what an ensemble says."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from pycombat_gam.flow.outliers import Reference
from pycombat_gam.flow.scm import StructuralModel
from pycombat_gam.types import JsonDict


@dataclass(frozen=True, eq=False)
class Interval:
    """Harmonized values with their uncertainty, each a DataFrame (n × V) of the features.

    Attributes
    ----------
    mean : over the members; sd : their standard deviation.
    lower, upper : of the interval at `level`: mean ± t √(1 + 1/M) sd, t of Student's with M − 1 degrees of freedom.
    """

    mean: pd.DataFrame
    sd: pd.DataFrame
    lower: pd.DataFrame
    upper: pd.DataFrame
    level: float


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a fit leaves: the model, what was odd, how it was trained, what log-probabilities are usual."""

    model: StructuralModel
    notes: tuple[str, ...]
    profile: JsonDict
    history: pd.DataFrame
    choice: pd.DataFrame | None
    reference: Reference
