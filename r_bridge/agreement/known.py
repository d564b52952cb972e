"""Known differences between the implementations: where one is at work, our numbers under R's rule.

A difference counts as explained only if the numbers agree once our computation uses R's rule. What such a rule cannot
give (a feature that R leaves out) is NaN, and not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pycombat_gam.combat.fitted import FittedComBat
from pycombat_gam.errors import DataError
from pycombat_gam.mean.fit import MeanFit
from pycombat_gam.penalized.problem import METHODS
from pycombat_gam.types import BoolArray, FloatArray
from pycombat_gam.words import count
from r_bridge.agreement.means import BETTER, SuperfluousColumns, beyond_a_rise, reml_variance, spliced
from r_bridge.agreement.ours import Quantity
from r_bridge.agreement.search import Blame, Search
from r_bridge.agreement.steps import LONG_ROUNDS, RRules, under
from r_bridge.study import Study

OUTSIDE = ("mean", "mean_only")
"""What a rule may set beside `RRules`: where the steps start, and what is estimated."""


@dataclass(frozen=True, eq=False)
class Known:
    """Known differences at work together: why, our quantities under R's rules, and what they say of R's search."""

    explanation: str
    quantities: dict[str, Quantity]
    blame: Blame | None


@dataclass(frozen=True, eq=False)
class Rule:
    """One rule of R's: what it is, what of `RRules` or of `under` it sets, and what it says of R's search."""

    text: str
    changes: Mapping[str, Any]
    blame: Blame | None = None


def known(
    engine: str,
    fit: FittedComBat,
    study: Study,
    theirs: Mapping[str, FloatArray],
    mean_of_r: MeanFit | None,
    search: Search,
) -> Iterator[Known]:
    """Yield the known differences that may be at work between our fit and an engine's numbers.

    One by one first, then those of the batch model together, then with each that concerns the mean.

    Parameters
    ----------
    engine : R's package, and the way it was used; theirs : what it gave, by quantity.
    fit, study : ours.
    mean_of_r : R's fitted mean in our design, from `MgcvMean`, where there is one.
    search : of the engine, which proves what a rule says of it.
    """
    means = list(_mean_rules(engine, fit, study, theirs, mean_of_r, search))
    steps = list(_batch_rules(engine, fit, study, theirs))
    together: list[Sequence[Rule]] = [steps] if len(steps) > 1 else []
    together += [[mean, *steps] for mean in means if steps]
    for rules in [*([rule] for rule in [*steps, *means]), *together]:
        changes = {name: value for rule in rules for name, value in rule.changes.items()}
        try:
            computed = under(
                fit, study, RRules(**{name: changes[name] for name in changes if name not in OUTSIDE}),
                **{name: changes[name] for name in OUTSIDE if name in changes},
            )  # fmt: skip
        except DataError:
            continue  # Under this rule the priors have no width: it cannot be what R did.
        blame = next((rule.blame for rule in rules if rule.blame is not None), None)
        yield Known(" ".join(rule.text for rule in rules), computed, blame)


def _mean_rules(
    engine: str, fit: FittedComBat, study: Study, theirs: Mapping[str, FloatArray], mean_of_r: MeanFit | None,
    search: Search,
) -> Iterator[Rule]:  # fmt: skip
    """What concerns the mean; each holds what those before it hold."""
    ours = fit.mean.smoothing
    if not ours.score.size:
        return
    if mean_of_r is not None:
        gap = theirs["score"][0] - ours.score[0]
        worse = gap > BETTER
        worse &= search.failed(ours.parameters, worse)
        if worse.any():
            yield Rule(
                f"{_ended(fit.mean, mean_of_r, 0, worse, study)}: its score is higher than at our smoothing "
                f"parameters, by R's own account, by up to {float(gap[worse].max()):.2g}. With R's curves for these "
                "features the rest agrees.",
                {"mean": spliced(fit.mean, mean_of_r, worse)},
                Blame(worse, ours.parameters),
            )
    if engine != "ComBatFamily" or "log smoothing parameters" not in theirs:
        return
    method, superfluous = METHODS[ours.criterion], int(theirs["superfluous"][0])
    best, text = fit.mean, ""
    if superfluous and method == "REML":
        best = SuperfluousColumns(method, superfluous).of(study)
        text = (
            f"ComBatFamily's design for smooths has {count(superfluous, 'column')} more than its rank (all levels of a "
            "factor beside all batches). mgcv's REML counts them, so it chooses other smoothing parameters than for "
            "the same model in full rank, which is ours. "
        )
        yield Rule(text + "With this count in our criterion the numbers agree.", {"mean": best})
    sp = np.exp(theirs["log smoothing parameters"])
    if sp.shape != best.smoothing.parameters.shape or not (np.isfinite(sp) & (sp > 0)).all():
        return
    worse = search.failed(best.smoothing.parameters, np.ones(sp.shape[1], dtype=bool))
    if worse.any():
        at = SuperfluousColumns(method, superfluous, sp).of(study)
        gap = at.smoothing.score[0] - best.smoothing.score[0]
        yield Rule(
            f"{text}ComBatFamily fits with mgcv's default tolerances. {_ended(best, at, superfluous, worse, study)}: "
            "its score is higher than at our smoothing parameters, by R's own account, by up to "
            f"{max(float(gap[worse].max()), 0.0):.2g}. At R's smoothing parameters the numbers agree.",
            {"mean": spliced(best, at, worse)},
            Blame(worse, best.smoothing.parameters),
        )


def _ended(best: MeanFit, theirs: MeanFit, superfluous: int, worse: BoolArray, study: Study) -> str:
    """Say where R's search ended for the features it blames: in another optimum, or on the way to ours."""
    local = worse & beyond_a_rise(best, theirs, superfluous, study)
    early = worse & ~local
    ends = [f"in a local optimum for {_some(local, study)}"] if local.any() else []
    ends += [f"early for {_some(early, study)}"] if early.any() else []
    return f"R's search stopped {' and '.join(ends)}"


def _batch_rules(engine: str, fit: FittedComBat, study: Study, theirs: Mapping[str, FloatArray]) -> Iterator[Rule]:
    """What concerns the steps after the mean; any of these may be at work together."""
    sites = fit.location_scale("crosscheck")
    if engine == "sva" and np.isnan(study.Y.to_numpy()).any():
        yield Rule(
            "sva divides the pooled variance by n - 1 instead of n when any cell is missing.", {"by_n_minus_1": True}
        )
    if engine == "sva" and (fit.mean.n_rows == 1).any() and not sites.model.mean_only:
        yield Rule(
            "sva adjusts location only, at all sites, when a site has one subject.",
            {"mean_only": True},
        )
    if engine == "ComBatFamily" and fit.reference is not None:
        yield Rule(
            "ComBatFamily sets delta star of the reference batch to its delta hat, and we to 1; both copy its rows "
            "unchanged.",
            {"reference_shrunk": True},
        )
    if engine == "longCombat (REML)":
        yield Rule(
            "longCombat's default residual variance is REML's, (rss + λb'b)/(n - p); ours is the mean square of the "
            "residuals, its method MSR. "
            f"It iterates the shrinkage {LONG_ROUNDS} times, each delta from the previous gamma; ours stops at a "
            "relative change of 1e-4 (as neuroCombat does).",
            {"rounds": LONG_ROUNDS, "variance": reml_variance(fit.mean)},
        )
    if engine == "longCombat (MSR)":
        yield Rule(
            f"longCombat iterates the shrinkage {LONG_ROUNDS} times, each delta from the previous gamma; ours stops "
            "at a relative change of 1e-4 (as neuroCombat does).",
            {"rounds": LONG_ROUNDS},
        )
    naive = (theirs["gamma hat"], theirs["delta hat"])
    absent = np.isnan(naive[0]).all(axis=0)
    flat = sites.scale.degenerate & ~absent
    quiet = (
        (sites.effects.location_only & (fit.mean.n_rows > 1)[:, None]).any(axis=0) & ~sites.scale.degenerate & ~absent
    )
    if (odd := absent & (sites.scale.degenerate | sites.effects.location_only.any(axis=0))).any():
        yield Rule(
            f"{engine} leaves out {_some(odd, study)}, constant or constant within a site: we pass them through, or "
            "adjust their location. The other features agree.",
            {"left_out": odd},
        )
    if quiet.any():
        yield Rule(
            f"{_some(quiet, study)} are constant within a site: we adjust their location only there, and keep them out "
            "of its priors. R shrinks what is left there (rounding, or what the covariates lend) as a variance, and "
            "the priors carry it into the other features.",
            {"as_it_is": True},
        )
    if flat.any() and all(np.isfinite(estimate[:, flat]).all() for estimate in naive):
        yield Rule(
            f"{_some(flat, study)} have no residual variance: we pass them through. R divides rounding by rounding "
            "there, and the priors carry the result into the other features. These agree once R's numbers for the "
            "former are among ours.",
            {"noise": naive},
        )


def _some(which: BoolArray, study: Study) -> str:
    names = np.array(study.given.features, dtype=object)[which]
    return f"{int(which.sum())} of {which.size} features ({', '.join(names[:5])})"
