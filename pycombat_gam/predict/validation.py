"""stub"""

from __future__ import annotations

from typing import Any


class Validation:
    def __init__(self, fitted: Any, demand: Any, scores: Any) -> None:
        self.fitted = fitted
        self.demand = demand
        self.scores = scores
