"""How a predictor does at sites that were left out: tidy tables, and a summary with the guarantee first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from pycombat_gam.errors import OptionError
from pycombat_gam.predict.calibration import Demand, Held, coverage_table, held_out
from pycombat_gam.predict.fitted import FittedPredictor
from pycombat_gam.predict.horizon_measures import measured_at_horizons, net_benefits_at_horizons
from pycombat_gam.predict.left_out import Evidence
from pycombat_gam.predict.readers import Readers, readers
from pycombat_gam.predict.scores import Scores
from pycombat_gam.predict.site_measures import (
    CONFIDENCE,
    IDEAL,
    measured_by_site,
    net_benefits,
    pooled_over_sites,
)
from pycombat_gam.predict.summary import validation_text
from pycombat_gam.types import FloatArray
from pycombat_gam.words import did_you_mean, listing

RAW, HARMONIZED = "raw", "harmonized"
KINDS = {True: "guaranteed", False: "estimated"}


@dataclass(frozen=True, eq=False)
class Validation:
    """Predictions at sites left out, judged at each site and over sites; `print` shows a summary.

    With a harmonizer every table has rows of harmonized and of raw features, in column `features`. Intervals are 95 %.

    Attributes
    ----------
    fitted : FittedPredictor
    demand : Demand
        What is asked of the sets.
    scores : Scores or None
        None for times.
    by_site : DataFrame
        AUC (DeLong), accuracy and Brier score; of numbers mean absolute error, mean error, RMSE and R²; of times AUC,
        observed and predicted risk. A row for each site, class (of times: horizon) and measure.
    calibration : DataFrame
        Intercept and slope of recalibration, and observed over expected events (O/E), likewise.
    overall : DataFrame
        Every measure pooled over sites by random effects, with an interval for a new site (`new_lower`, `new_upper`).
    net_benefit : DataFrame
        Of acting above a threshold, by site and class, and of acting on all.
    coverage : DataFrame
        How often sets held the truth, and their size, by site and class. A site's sets rest on models without it and
        on thresholds computed without it (pairs of sites left out).
    sets : DataFrame
        The same over sites: mean, worst site, share of sites at the level.
    comparison : DataFrame
        Harmonized beside raw features, paired by site; empty without a harmonizer.
    left_out : DataFrame
        Every training row (or case) predicted without its site.
    """

    fitted: FittedPredictor
    demand: Demand
    scores: Scores | None

    @property
    def _states(self) -> dict[str, Evidence]:
        """The evidence by kind of features, that of the model first."""
        fitted = self.fitted
        if fitted.raw is None:
            return {RAW: fitted.evidence}
        return {HARMONIZED: fitted.evidence, RAW: fitted.raw}

    @cached_property
    def measured(self) -> pd.DataFrame:
        """Every measure of each site, with the scale, value and variance that pooling takes."""
        outcome, scores = self.fitted.outcome, self.scores
        if scores is None:
            return self._by_state(lambda evidence: measured_at_horizons(outcome, evidence, self._sites))
        return self._by_state(lambda evidence: measured_by_site(outcome, scores, evidence, self._sites))

    def _by_state(self, table: Callable[[Evidence], pd.DataFrame]) -> pd.DataFrame:
        parts = [table(evidence).assign(features=state) for state, evidence in self._states.items()]
        joined = pd.concat(parts, ignore_index=True)
        return joined[["features", *(name for name in joined if name != "features")]]

    @property
    def _sites(self) -> tuple[str, ...]:
        return self.fitted.levels.labels

    @cached_property
    def by_site(self) -> pd.DataFrame:
        """Measures of each site."""
        return self._shown(~self.measured["measure"].isin(IDEAL))

    @cached_property
    def calibration(self) -> pd.DataFrame:
        """Calibration of each site."""
        return self._shown(self.measured["measure"].isin(IDEAL))

    def _shown(self, rows: pd.Series) -> pd.DataFrame:
        return self.measured.loc[rows].drop(columns=["scale", "value", "variance"]).reset_index(drop=True)

    @cached_property
    def overall(self) -> pd.DataFrame:
        """Measures pooled over sites."""
        return pooled_over_sites(self.measured)

    @cached_property
    def net_benefit(self) -> pd.DataFrame:
        """Net benefit at thresholds; empty for numbers."""
        outcome, scores = self.fitted.outcome, self.scores
        if scores is None:
            return self._by_state(lambda evidence: net_benefits_at_horizons(outcome, evidence, self._sites))
        return self._by_state(lambda evidence: net_benefits(scores, evidence, self._sites))

    def readers(self, table: pd.DataFrame, event: object = None, *, threshold: float = 0.5) -> Readers:
        """Compare with readers, such as clinicians: whose points lie below the ROC curve at sites left out?

        Parameters
        ----------
        table : DataFrame
            Columns ``reader``, ``sensitivity`` and ``specificity``.
        event : class or node, optional
            What readers looked for; of two classes the event by default.
        threshold : float
            Probability above which the model finds it, for its own sensitivity and specificity by site.

        Returns
        -------
        Readers
            With the mean of the sites' curves, and the share of readers below it.

        Notes
        -----
        Esteva et al. (2017, Nature 542:115), Figure 3.
        """
        evidence = self.fitted.evidence
        events = (
            {}
            if self.scores is None
            else {each.name: each for each in self.scores.events(evidence.left_out, evidence.y)}
        )
        if not events:
            raise OptionError(f"readers are compared on classes; the outcome {self.fitted.outcome.name} has none")
        name = str(event) if event is not None else next(iter(events)) if len(events) == 1 else ""
        if name not in events:
            raise OptionError(
                f"event={event!r}: allowed are {listing(map(repr, events), 12)}{did_you_mean(name, list(events))}"
            )
        sites = np.array(self._sites, dtype=object)[evidence.site]
        return readers(events[name].came_true, events[name].p, sites, table, threshold=threshold, level=CONFIDENCE)

    @cached_property
    def _held(self) -> dict[tuple[str, str], Held]:
        """Whether sets held, by features and kind of sets."""
        if self.scores is None:
            return {}
        return {
            (state, KINDS[guarantee]): held_out(
                Demand(self.demand.level, self.demand.share, guarantee), self.scores, evidence
            )
            for state, evidence in self._states.items()
            for guarantee in (True, False)
        }

    @cached_property
    def coverage(self) -> pd.DataFrame:
        """Coverage and size of sets by site and class."""
        outcome = self.fitted.outcome
        y = self.fitted.evidence.y
        group = y.astype(np.intp) if outcome.classes else np.zeros(len(y), dtype=np.intp)
        parts = [
            coverage_table(held, group, self._sites, outcome.labels).assign(features=state, sets=kind)
            for (state, kind), held in self._held.items()
        ]
        columns = ["features", "sets", "site", "class", "n", "coverage", "size"]
        return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)

    @cached_property
    def sets(self) -> pd.DataFrame:
        """Coverage and size of sets over sites."""
        rows = []
        for (state, kind, label), part in self.coverage.groupby(["features", "sets", "class"], sort=False):
            there = part[part["n"] > 0]
            worst = there.iloc[int(there["coverage"].argmin())]
            rows.append(
                {
                    "features": state,
                    "sets": kind,
                    "class": label,
                    "coverage": there["coverage"].mean(),
                    "worst": worst["coverage"],
                    "worst_site": worst["site"],
                    "sites_at_level": (there["coverage"] >= self.demand.level).mean(),
                    "size": there["size"].mean(),
                    "sites": len(there),
                }
            )
        columns = ["features", "sets", "class", "coverage", "worst", "worst_site", "sites_at_level", "size", "sites"]
        return pd.DataFrame(rows, columns=columns)

    @cached_property
    def comparison(self) -> pd.DataFrame:
        """Harmonized less raw, the mean over sites of paired differences, with Student's interval over sites."""
        which = "horizon" if self.fitted.outcome.kind == "survival" else "class"
        columns = ["measure", which, "harmonized", "raw", "difference", "lower", "upper", "sites"]
        if self.fitted.raw is None:
            return pd.DataFrame(columns=columns)
        both = pd.concat([self.measured[["features", "site", which, "measure", "estimate"]], self._sets_by_site()])
        rows = []
        for (measure, label), part in both.groupby(["measure", which], sort=False):
            wide = part.pivot(index="site", columns="features", values="estimate").astype(float)
            wide = wide.loc[np.isfinite(wide.to_numpy()).all(axis=1)]
            middle, half = _student((wide[HARMONIZED] - wide[RAW]).to_numpy())
            rows.append(
                {
                    "measure": measure,
                    which: label,
                    "harmonized": wide[HARMONIZED].mean(),
                    "raw": wide[RAW].mean(),
                    "difference": middle,
                    "lower": middle - half,
                    "upper": middle + half,
                    "sites": len(wide),
                }
            )
        return pd.DataFrame(rows, columns=columns)

    def _sets_by_site(self) -> pd.DataFrame:
        """Coverage and size of the sets asked for, in the form of the measures; empty without sets."""
        kind = KINDS[self.demand.guarantee]
        sets = self.coverage[self.coverage["sets"] == kind]
        if not len(sets):
            return pd.DataFrame()
        long = sets.melt(["features", "site", "class"], ["coverage", "size"], "measure", "estimate")
        return long.assign(measure=long["measure"] + f" of {kind} sets")

    @cached_property
    def left_out(self) -> pd.DataFrame:
        """Every training row predicted without its site."""
        fitted = self.fitted
        return pd.concat([fitted.units, fitted.predictions_left_out()], axis=1)

    def __str__(self) -> str:
        return validation_text(self)

    def __repr__(self) -> str:
        return str(self)


def _student(difference: FloatArray) -> tuple[float, float]:
    n = difference.size
    if n < 2:
        return (float(difference[0]) if n else np.nan), np.nan
    half = stdtrit(n - 1, (1 + CONFIDENCE) / 2) * difference.std(ddof=1) / np.sqrt(n)
    return float(difference.mean()), float(half)
