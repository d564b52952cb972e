"""Is the biology still there, and the same at all sites? Each covariate is predicted at sites left out of the training.

For each site in turn, a regression of the covariate on all features is fitted to the other sites and applied to this
one: ridge for numbers, with the penalty by leave-one-out, and logistic for groups. Numbers are scored by the mean
absolute error, beside that of the other sites' mean. Two groups or two numbers are scored by the area under the curve
of all rows together, so that a site's shift costs; more groups by balanced accuracy. Intervals resample sites.

"After", the harmonization has seen these covariates. "Held out" is what an unknown site would get. The harmonization
was fitted without the site and without the covariate (its terms are left out of the formula), and then estimated the
site's location and scale from its rows. That may be worse than before: a site's mean age is confounded with its site
effect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.diagnose.classify import fit_quietly
from pycombat_gam.diagnose.rows import rows
from pycombat_gam.diagnose.study import Study
from pycombat_gam.formula.roles import factor_columns
from pycombat_gam.progress import progress_bar
from pycombat_gam.study.units import is_number
from pycombat_gam.types import FloatArray, IntArray

RESAMPLES = 500


def covariate_prediction(
    study: Study, by_site: Callable[[str], Sequence[FloatArray]], state: str, *, level: float, seed: int
) -> list[dict[str, np.ndarray]]:
    """Predict each covariate, leaving one site out at a time; a row per covariate that can be predicted.

    Parameters
    ----------
    by_site : returns, for a covariate, the features' coordinates (n, any) for each site left out.
    """
    classes = set(factor_columns(study.formula))
    parts = []
    with progress_bar(f"predicting covariates {state}", len(study.covariates) * len(study.sites)) as advance:
        for name in study.covariates:
            column = study.table[name]
            prediction = _predict(study, by_site(name), column, name in classes or not is_number(column), advance)
            if prediction is not None:
                measure, chance, score = prediction
                value = score(np.arange(study.codes.size))
                if np.isnan(value):
                    continue
                lower, upper = _interval(study.codes, score, level, seed)
                parts.append(
                    rows(
                        aspect="covariate prediction", measure=measure, state=state, covariate=name, value=value,
                        lower=lower, upper=upper, chance=chance, n=study.codes.size,
                    )
                )  # fmt: skip
    return parts


Score = Callable[[IntArray], float]


def _predict(
    study: Study, by_site: Sequence[FloatArray], column: pd.Series, groups: bool, advance: Callable[..., None]
) -> tuple[str, float, Score] | None:
    """Return the measure, its value by chance, and a function that scores any rows."""
    codes, levels = pd.factorize(column, sort=True)
    if len(levels) < 2:
        return None
    if not groups and len(levels) > 2:
        return _regress(study, by_site, column.to_numpy(dtype=np.float64), advance)
    return _classify(study, by_site, codes.astype(np.intp), len(levels), advance)


def _regress(
    study: Study, by_site: Sequence[FloatArray], y: FloatArray, advance: Callable[..., None]
) -> tuple[str, float, Score]:
    from sklearn.linear_model import RidgeCV

    error, plain = np.empty(y.size), np.empty(y.size)
    for b, X in enumerate(by_site):
        here = study.codes == b
        model = RidgeCV(alphas=np.geomspace(1e-1, 1e5, 13)).fit(X[~here], y[~here])
        error[here] = np.abs(model.predict(X[here]) - y[here])
        plain[here] = np.abs(y[~here].mean() - y[here])
        advance()
    return "mean absolute error", float(plain.mean()), lambda at: float(error[at].mean())


def _classify(
    study: Study, by_site: Sequence[FloatArray], y: IntArray, groups: int, advance: Callable[..., None]
) -> tuple[str, float, Score] | None:
    from sklearn.linear_model import LogisticRegression

    margin, guess = np.full(y.size, np.nan), np.full(y.size, -1)
    for b, X in enumerate(by_site):
        here = study.codes == b
        if np.unique(y[~here]).size == groups:
            model: Any = LogisticRegression(class_weight="balanced", max_iter=200, tol=1e-3, C=0.01)
            fit_quietly(model, X[~here], y[~here])
            guess[here] = model.predict(X[here])
            if groups == 2:
                margin[here] = model.decision_function(X[here])
        advance()
    if (guess < 0).all():
        return None
    if groups == 2:
        return "AUC", 0.5, lambda at: _auc(y[at], margin[at])
    return "balanced accuracy", 1.0 / groups, lambda at: _recognised(y[at], guess[at])


def _auc(y: IntArray, margin: FloatArray) -> float:
    from scipy.stats import rankdata

    y, margin = y[~np.isnan(margin)], margin[~np.isnan(margin)]
    n1 = int((y == 1).sum())
    n0 = y.size - n1
    if not (n0 and n1):
        return float("nan")
    return float((rankdata(margin)[y == 1].sum() - n1 * (n1 + 1) / 2) / (n0 * n1))


def _recognised(y: IntArray, guess: IntArray) -> float:
    known = guess >= 0
    return float(np.mean([(guess[known & (y == level)] == level).mean() for level in np.unique(y[known])]))


def _interval(codes: IntArray, score: Score, level: float, seed: int) -> tuple[float, float]:
    """Return the interval of a score by resampling sites."""
    rng = np.random.default_rng(seed)
    by_site = [np.flatnonzero(codes == b) for b in np.unique(codes)]
    drawn = [
        score(np.concatenate([by_site[k] for k in rng.integers(len(by_site), size=len(by_site))]))
        for _ in range(RESAMPLES)
    ]
    # A draw of sites with one group only has no score.
    scored = np.array(drawn)[~np.isnan(drawn)]
    if not scored.size:
        return float("nan"), float("nan")
    lower, upper = np.quantile(scored, [level / 2, 1 - level / 2])
    return float(lower), float(upper)
