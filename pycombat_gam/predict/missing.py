"""Whether an estimator of scikit-learn takes missing cells.

Tags say it of single estimators. Those of a pipeline do not look at its steps (scikit-learn 1.9), so that a pipeline
with an imputer would count as one that takes none.
"""

from __future__ import annotations

from typing import Any

SKIPPED = ("passthrough", "drop", None)


def takes_missing(estimator: Any) -> bool:
    """Tell whether an estimator, a pipeline or a wrapper takes missing cells."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.compose import ColumnTransformer
    from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
    from sklearn.pipeline import FeatureUnion, Pipeline
    from sklearn.utils import get_tags

    if estimator in SKIPPED:
        return True
    if isinstance(estimator, Pipeline):
        for _, step in estimator.steps:
            if not takes_missing(step):
                return False
            if _imputes(step):
                return True
        return True
    if isinstance(estimator, ColumnTransformer):
        return all(takes_missing(part) for _, part, _ in estimator.transformers)
    if isinstance(estimator, FeatureUnion):
        return all(takes_missing(part) for _, part in estimator.transformer_list)
    if isinstance(estimator, CalibratedClassifierCV | GridSearchCV | RandomizedSearchCV):
        return estimator.estimator is not None and takes_missing(estimator.estimator)
    return bool(get_tags(estimator).input_tags.allow_nan)


def _imputes(step: Any) -> bool:
    """Tell whether no missing cell is left after a step."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import FeatureUnion, Pipeline

    if isinstance(step, Pipeline):
        return any(_imputes(inner) for _, inner in step.steps)
    if isinstance(step, ColumnTransformer):
        rest = step.remainder if step.remainder != "passthrough" else None
        parts = [part for _, part, _ in step.transformers] + [rest]
        return all(part == "drop" or (part is not None and _imputes(part)) for part in parts)
    if isinstance(step, FeatureUnion):
        return all(part == "drop" or _imputes(part) for _, part in step.transformer_list)
    return type(step).__name__.endswith("Imputer")
