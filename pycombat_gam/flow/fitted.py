"""A fitted flow, and the intervals of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from scipy.stats import t

from pycombat_gam.flow.model.outliers import Reference
from pycombat_gam.flow.model.scm import StructuralModel
from pycombat_gam.flow.nodes.support import Support
from pycombat_gam.types import FloatArray, JsonDict


@dataclass(frozen=True, eq=False)
class Interval:
    """Harmonized or counterfactual values with their uncertainty, each a DataFrame (n × V) of the features.

    Attributes
    ----------
    value : DataFrame
        The values themselves, as `FlowSCM.transform` or `FlowSCM.counterfactual` returns them.
    mean, sd : DataFrame
        Mean over the members, and their standard deviation. A mean far from `value`, in sds, tells of a bias.
    lower, upper : DataFrame
        Ends of the interval, value ± t sd, with t from Student's distribution with M − 1 degrees of freedom.
    level : float
        Coverage of the interval.
    covariates : DataFrame or None
        With an action, the columns acted on and the covariates that are their effects, as `FlowSCM.counterfactual`
        returns them; members share them. None without.
    """

    value: pd.DataFrame
    mean: pd.DataFrame
    sd: pd.DataFrame
    lower: pd.DataFrame
    upper: pd.DataFrame
    level: float
    covariates: pd.DataFrame | None = None

    @classmethod
    def of(
        cls,
        value: FloatArray,
        each: FloatArray,
        index: pd.Index,
        features: Sequence[str],
        level: float,
        covariates: pd.DataFrame | None = None,
    ) -> Interval:
        """Return the intervals of values (n, V), given M members' values (M, n, V).

        Members scatter about the model's value as that does about the truth: value ± t sd. The mean of M members would
        be a centre with an error of its own, and need √(1 + 1/M) more.
        """
        # Relative to the first member, so that members that agree exactly (rows of the site itself) have no spread.
        mean, sd = each[0] + (each - each[0]).mean(axis=0), (each - each[0]).std(axis=0, ddof=1)
        half = float(t.ppf(0.5 + level / 2, len(each) - 1)) * sd
        tables = {"value": value, "mean": mean, "sd": sd, "lower": value - half, "upper": value + half}
        frames = {name: pd.DataFrame(a, index=index, columns=list(features)) for name, a in tables.items()}
        return cls(**frames, level=level, covariates=covariates)


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
