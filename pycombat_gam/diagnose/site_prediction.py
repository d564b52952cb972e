"""Can a classifier still tell the sites apart? Logistic regression and a support vector machine, cross-validated.

Logistic regression sees shifts of location; the Gaussian kernel of the support vectors sees scale and shape too.
They are given the features less the covariates' part, so that a site is not known by the age of its people, and sites
have equal weight. Chance is 1 over the number of sites, and p that of an accuracy above it (normal, one-sided). Rows of one subject stay in one fold where the formula says
whose they are.

"After" lets the harmonization see the rows that the classifier is tested on: sites' means are then equal over all rows,
so that those of training and test rows differ in opposite directions, and accuracy falls *below* chance. "Held out" is
the figure to believe: harmonization and covariates' part are estimated without the rows that are tested.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from pycombat_gam.diagnose.classify import balanced_accuracy, fit_quietly
from pycombat_gam.diagnose.rows import rows
from pycombat_gam.diagnose.study import Study
from pycombat_gam.progress import progress_bar
from pycombat_gam.types import BoolArray, FloatArray, IntArray

KINDS = ("logistic", "SVM")


@dataclass(frozen=True, eq=False)
class Folds:
    """Which fold each row is tested in, (n,); −1: in none, as its site has fewer rows than there are folds."""

    fold: IntArray
    n_folds: int

    @classmethod
    def of(cls, study: Study, n_folds: int, seed: int) -> Folds:
        """Deal the rows of each site, or its subjects, to the folds."""
        rng = np.random.default_rng(seed)
        unit = study.grouping if study.grouping is not None else np.arange(study.codes.size)
        order = rng.permutation(unit.max() + 1)
        fold = np.full(study.codes.size, -1)
        start = 0
        for b in range(len(study.sites)):
            own = np.flatnonzero((study.codes == b) & (fold < 0))
            subjects, which = np.unique(order[unit[own]], return_inverse=True)
            if subjects.size >= n_folds:
                fold[own] = (which + start) % n_folds
                start += subjects.size
        return cls(fold, n_folds)

    def __iter__(self) -> Iterator[tuple[BoolArray, BoolArray]]:
        for k in range(self.n_folds):
            yield (self.fold >= 0) & (self.fold != k), self.fold == k

    def left_out(self, study: Study) -> list[str]:
        """Sites without any row in a fold."""
        inside = set(study.codes[self.fold >= 0].tolist())
        return [label for b, label in enumerate(study.sites) if b not in inside]


def site_prediction(
    study: Study, folds: Folds, seen: Iterable[FloatArray], state: str, *, level: float
) -> list[dict[str, np.ndarray]]:
    """Predict each row's site from the other folds; a row per classifier.

    Parameters
    ----------
    seen : for each fold, (n, any) coordinates of the features less the covariates' part.
    """
    inside = np.unique(study.codes[folds.fold >= 0])
    if inside.size < 2:
        return []
    guess = {kind: np.full(study.codes.size, -1) for kind in KINDS}
    tested = folds.fold >= 0
    with progress_bar(f"predicting sites {state}", folds.n_folds * len(KINDS)) as advance:
        # What is the same for all folds may go on for ever.
        for X, (train, test) in zip(seen, folds, strict=False):
            for kind in KINDS:
                model = _classifier(kind)
                fit_quietly(model, X[train], study.codes[train])
                guess[kind][test] = model.predict(X[test])
                advance()
    parts = []
    chance = 1.0 / inside.size
    for kind in KINDS:
        value, error = balanced_accuracy(study.codes[tested], guess[kind][tested])
        reach = float(norm.isf(level / 2)) * error
        z = (value - chance) / error
        parts.append(
            rows(
                aspect="site prediction", measure=kind, state=state, value=value, lower=max(0.0, value - reach),
                upper=min(1.0, value + reach), chance=chance, statistic=z, p=norm.sf(z), n=int(tested.sum()),
            )
        )  # fmt: skip
    return parts


def _classifier(kind: str) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import SVC

    if kind == "logistic":
        return LogisticRegression(class_weight="balanced", max_iter=200, tol=1e-3)
    return SVC(kernel="rbf", class_weight="balanced")
