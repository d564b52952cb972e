"""Can a classifier predict the site? Logistic regression and a support vector machine, cross-validated.

Logistic regression detects shifts of location; the support vector machine's Gaussian kernel detects scale and shape
too. Both use the features less the covariates' part, so that subjects' ages do not give their site away, and weight
sites equally. Chance is 1 over the number of sites; p is one-sided for an accuracy above chance (normal). Where the
formula has random effects, the means of their groups are classified, not rows.

The covariates' part is estimated without the test rows, and without sites (`held_out`): site differences that the
covariates can explain are attributed to the covariates, so sites that differ as their ages do are hard to predict. A
fold's test rows share the error of that part, which widens the variance of the accuracy. Let A_b be the share of site b
classified correctly, K_bc the covariance of the shifts of two sites (in variances of a row), and q = φ(Φ⁻¹(1/B))²,
which no classifier of normal data exceeds. Then Var Σ A_b grows by q B/(B − 1) · (tr K − ΣK/B).

"After" lets the harmonization see the test rows: site means are then equal over all rows, so those of training and test
rows differ in opposite directions, and accuracy falls *below* chance. "Held out" is the figure to trust: harmonization
and covariates' part are estimated without the test rows. With empirical Bayes it sits a little below chance: ComBat's
prior variance includes sampling noise, so it shrinks too little. What it leaves of a site in the training rows then has
the sign of their noise, and the test rows, less that noise, lie on the other side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from pycombat_gam.diagnose.classify import balanced_accuracy, coordinates, fit_quietly
from pycombat_gam.diagnose.rows import rows
from pycombat_gam.progress import progress_bar
from pycombat_gam.study.units import Units
from pycombat_gam.types import BoolArray, FloatArray, IntArray

KINDS = ("logistic", "SVM")


@dataclass(frozen=True, eq=False)
class Folds:
    """The fold in which each unit (row, or group of rows) is tested.

    Attributes
    ----------
    units : the units to classify; fold : (u,) each unit's fold, −1 if its site has fewer units than folds.
    """

    units: Units
    fold: IntArray
    n_folds: int

    @classmethod
    def of(cls, units: Units, n_folds: int, seed: int) -> Folds:
        """Distribute the units of each site over the folds."""
        rng = np.random.default_rng(seed)
        fold = np.full(units.site.size, -1)
        start = 0
        for b, size in enumerate(units.sizes):
            if size >= n_folds:
                of_site = rng.permutation(np.flatnonzero(units.site == b))
                fold[of_site] = (np.arange(size) + start) % n_folds
                start += size
        return cls(units, fold, n_folds)

    def __iter__(self) -> Iterator[tuple[BoolArray, BoolArray]]:
        """Yield the training and test units of each fold."""
        for k in range(self.n_folds):
            yield (self.fold >= 0) & (self.fold != k), self.fold == k

    def left_out(self, sites: Sequence[str]) -> list[str]:
        """Return the sites without a unit in any fold."""
        inside = set(self.units.site[self.fold >= 0].tolist())
        return [label for b, label in enumerate(sites) if b not in inside]


@dataclass(frozen=True, eq=False)
class Seen:
    """The units' values in one fold.

    Attributes
    ----------
    values : (u, k) the features less the covariates' part; missing for units in no fold.
    error : (B, B) covariance of that part's error between rows of two sites, in variances of a row.
    """

    values: FloatArray
    error: FloatArray


def site_prediction(folds: Folds, seen: Iterable[Seen], state: str, *, level: float) -> list[dict[str, np.ndarray]]:
    """Predict each unit's site from the other folds; a row per classifier.

    Parameters
    ----------
    seen : for each fold, the values for its classifier.
    """
    site, tested = folds.units.site, folds.fold >= 0
    inside = np.unique(site[tested])
    if inside.size < 2:
        return []
    guess = {kind: np.full(site.size, -1) for kind in KINDS}
    with progress_bar(f"predicting sites {state}", folds.n_folds * len(KINDS)) as advance:
        shared = np.zeros((inside.size, inside.size))
        for fold, (train, test) in zip(seen, folds, strict=True):
            X = coordinates(fold.values)
            shared += fold.error[np.ix_(inside, inside)] / folds.n_folds
            for kind in KINDS:
                model = _classifier(kind)
                fit_quietly(model, X[train], site[train])
                guess[kind][test] = model.predict(X[test])
                advance()
    parts = []
    chance = 1.0 / inside.size
    for kind in KINDS:
        value, error = balanced_accuracy(site[tested], guess[kind][tested])
        error = float(np.sqrt(error**2 + _shared_variance(shared)))
        reach = float(norm.isf(level / 2)) * error
        z = (value - chance) / error
        parts.append(
            rows(
                aspect="site prediction", measure=kind, state=state, value=value, lower=max(0.0, value - reach),
                upper=min(1.0, value + reach), chance=chance, statistic=z, p=norm.sf(z), n=int(tested.sum()),
            )
        )  # fmt: skip
    return parts


def _shared_variance(error: FloatArray) -> float:
    """Return the largest variance of the balanced accuracy from shifts that all rows of a site share."""
    B = len(error)
    steepest = float(norm.pdf(norm.ppf(1.0 / B))) ** 2
    spread = float(np.trace(error) - error.sum() / B)
    return steepest * B / (B - 1.0) * max(spread, 0.0) / B**2


def _classifier(kind: str) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC

    if kind == "logistic":
        return LogisticRegression(class_weight="balanced", max_iter=200, tol=1e-3)
    return SVC(kernel="rbf", class_weight="balanced")
