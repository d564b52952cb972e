"""Whether R's search stopped at the wrong place: R itself is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pycombat_gam.types import BoolArray, FloatArray
from r_bridge import session, sources
from r_bridge.errors import RError


@dataclass(frozen=True, eq=False)
class Blame:
    """What a rule says of R's search, to be proven by R's own score.

    Attributes
    ----------
    features : (V,) those whose search it blames; sp : (r, V) our smoothing parameters.
    """

    features: BoolArray
    sp: FloatArray


@dataclass(frozen=True, eq=False)
class Search:
    """An engine's search for smoothing parameters.

    Attributes
    ----------
    engine : R's package; sent : the study, as R got it; theirs : what R gave, by quantity.
    """

    engine: str
    sent: Mapping[str, Any]
    theirs: Mapping[str, FloatArray]

    def failed(self, sp: FloatArray, features: BoolArray) -> BoolArray:
        """Tell for which of these features R's own score is lower at our parameters (r, V) than at R's."""
        if sp.shape != self.theirs["log smoothing parameters"].shape or not features.any():
            return np.zeros_like(features)
        keep = ("score", "log smoothing parameters")
        try:
            reply = session.run(
                sources.function("search_failed", "combat", "mgcv", "packages", "tests", "agreement"),
                engine=self.engine,
                study=dict(self.sent),
                theirs={name: self.theirs[name] for name in keep if name in self.theirs},
                sp=sp,
                which=features,
            )
        except RError:
            # R cannot be asked at these parameters (shared by an id, say): nothing is proven.
            return np.zeros_like(features)
        return np.asarray(reply.value, dtype=bool)
