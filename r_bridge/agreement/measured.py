"""Our measures of predictions at sites left out, quantity by quantity, and what R needs to give the same."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.predict import scores
from pycombat_gam.predict.fitted import FittedPredictor
from pycombat_gam.predict.left_out import Evidence
from pycombat_gam.predict.measures.pooling import pool_sites
from pycombat_gam.predict.site_measures import ALL, IDEAL
from pycombat_gam.predict.validation import HARMONIZED, RAW, Validation
from pycombat_gam.types import BoolArray, FloatArray
from pycombat_gam.words import count
from r_bridge.agreement.compared import Column, Compared, spelled
from r_bridge.agreement.ours import Quantity
from r_bridge.study import as_factor

INTERCEPT, SLOPE, OE = IDEAL
OF_EVENTS = ("AUC", *IDEAL)
"""Measures of one class or node; the others are of all classes together."""
TOP = f"top-{scores.TOP} accuracy"
SAME = (1e-12, "sums over the same rows, in double precision")
COUNT = (0.5, "counted: equal or not")
LINE = (1e-7, "one least-squares problem; R does not center it, and loses digits where predictions hardly vary")
NEWTON = (1e-7, "both search: ours to 1e-9 of the coefficients, glm to a deviance steady to 1e-15 of it")
POOL = (
    1e-8,
    "τ² is a root, found to 1e-14 on both sides; R inverts a matrix of weights, and Student's t of 2 sites is 12.7",
)
NEW_SITE = (1e-5, "where τ² is nearly 0 its square root counts here: 1e-14 becomes 1e-7, times Student's t")


@dataclass(frozen=True, eq=False)
class Predicted:
    """A column of every quantity: what is predicted, from which features.

    Attributes
    ----------
    state : of the features; label : the class or node, ``"all"``, or the horizon.
    score : (n,) predictions; observed : (n,) whether it came true, or the number. None where all classes are meant.
    """

    state: str
    label: Any
    score: FloatArray | None = None
    observed: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class Measures:
    """Measures at K sites in V columns, of raw and harmonized features; columns of all classes come last."""

    fitted: FittedPredictor
    validation: Validation

    @property
    def kind(self) -> str:
        """Of the outcome."""
        return self.fitted.outcome.kind

    @cached_property
    def table(self) -> pd.DataFrame:
        """The measures by site, with what is pooled: `validation.by_site` and `.calibration` are shown from it."""
        return self.validation.measured

    @property
    def sites(self) -> tuple[str, ...]:
        """Their labels."""
        return self.fitted.levels.labels

    @property
    def by(self) -> str:
        """What tells the columns of one kind of features apart."""
        return "horizon" if self.kind == "survival" else "class"

    @cached_property
    def columns(self) -> list[Predicted]:
        """What is predicted."""
        fitted = self.fitted
        states = {RAW: fitted.evidence} if fitted.raw is None else {HARMONIZED: fitted.evidence, RAW: fitted.raw}
        columns = [column for state, evidence in states.items() for column in self._predicted(state, evidence)]
        return columns + ([Predicted(state, ALL) for state in states] if self.kind == "classes" else [])

    def _predicted(self, state: str, evidence: Evidence) -> list[Predicted]:
        P, y = evidence.left_out, evidence.y
        if self.validation.scores is None:
            return [Predicted(state, h, P[:, j]) for j, h in enumerate(self.fitted.outcome.horizons)]
        if self.kind == "number":
            return [Predicted(state, ALL, P[:, 0], y)]
        events = self.validation.scores.events(P, y)
        return [Predicted(state, event.name, event.p, event.came_true.astype(np.float64)) for event in events]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The columns in words."""
        alone = self.fitted.raw is None
        named = [f"{c.label:g}" if isinstance(c.label, float) else str(c.label) for c in self.columns]
        return tuple(
            label if alone else f"{label}, {column.state}" for label, column in zip(named, self.columns, strict=True)
        )

    def _columns_of(self, measure: str) -> list[tuple[int, str, Any]]:
        """The columns that have a measure."""
        whole = self.kind == "classes" and measure not in OF_EVENTS
        return [(j, c.state, c.label) for j, c in enumerate(self.columns) if (c.score is None) == whole]

    def _by_site(self, measure: str, what: str) -> FloatArray:
        """A measure's `estimate`, `se`, …, (K, V)."""
        out = np.full((len(self.sites), len(self.columns)), np.nan)
        values = self.table[what].to_numpy(dtype=np.float64)
        for j, state, label in self._columns_of(measure):
            at = self._places.get((state, label, measure), [])
            out[[self.sites.index(site) for site in self.table["site"].to_numpy()[at]], j] = values[at]
        return out

    @cached_property
    def _places(self) -> dict[Any, Any]:
        """The rows of the table by kind of features, class or horizon, and measure."""
        return dict(self.table.groupby(["features", self.by, "measure"], sort=False).indices)

    def quantities(self) -> dict[str, Quantity]:
        """Return everything that an engine may be compared with, by name."""
        rows = {"classes": self._of_classes, "number": self._of_numbers, "survival": self._of_times}[self.kind]()
        return {quantity.name: quantity for quantity in [*rows, *self._pooled()]}

    @property
    def plain(self) -> bool:
        """Whether the outcome is classes without a taxonomy."""
        return isinstance(self.validation.scores, scores.ClassScores)

    def _of_classes(self) -> list[Quantity]:
        auc, se_auc = self._by_site("AUC", "estimate"), self._by_site("AUC", "se")
        oe, se_oe = self._by_site(OE, "estimate"), self._by_site(OE, "se")
        units = {INTERCEPT: self._by_site(INTERCEPT, "se"), SLOPE: self._by_site(SLOPE, "se")}
        return [
            _at_sites("AUC", auc, 1.0, "probability", SAME),
            _at_sites("AUC variance", se_auc**2, 1.0, "squared probability", SAME),
            *self._existing({"AUC": auc, "AUC variance": se_auc}),
            *self._line(units, "standard error", NEWTON),
            *self._existing({name: self._by_site(name, "estimate") for name in (INTERCEPT, SLOPE)}),
            _at_sites(OE, oe, _size(oe), "share of it", SAME),
            _at_sites(f"se of {OE}", se_oe, _size(oe), "share of O/E", SAME),
            *self._of_plain_classes(),
        ]

    def _of_plain_classes(self) -> list[Quantity]:
        """Measures of all classes together; those of a taxonomy need its tree, which R does not get."""
        if not self.plain:
            return []
        brier, se_brier = self._by_site("Brier score", "estimate"), self._by_site("Brier score", "se")
        hits = [name for name in ("accuracy", TOP) if (self.table["measure"] == name).any()]
        return [
            *(_at_sites(name, self._by_site(name, "estimate"), 1.0, "share of rows", SAME) for name in hits),
            _at_sites("Brier score", brier, 1.0, "squared probability", SAME),
            _at_sites("se of Brier score", se_brier, 1.0, "squared probability", SAME),
        ]

    def _of_numbers(self) -> list[Quantity]:
        error, mean = "mean absolute error", "mean error"
        mae, rmse, r2 = (self._by_site(name, "estimate") for name in (error, "RMSE", "R²"))
        size = _size(mae)
        exist = {name: self._by_site(name, "estimate") for name in (INTERCEPT, SLOPE)}
        exist |= {f"se of {name}": self._by_site(name, "se") for name in (INTERCEPT, SLOPE)}
        return [
            *self._line(self._line_units(), "sd of the outcome there", LINE),
            *self._existing(exist),
            _at_sites(error, mae, size, "share of it", SAME),
            _at_sites(f"se of {error}", self._by_site(error, "se"), size, "mean absolute error", SAME),
            _at_sites(mean, self._by_site(mean, "estimate"), size, "mean absolute error", SAME),
            _at_sites(f"se of {mean}", self._by_site(mean, "se"), size, "mean absolute error", SAME),
            _at_sites("RMSE", rmse, _size(rmse), "share of it", SAME),
            _at_sites("R squared", r2, 1 + np.abs(1 - r2), "squared errors over squares", SAME),
        ]

    def _of_times(self) -> list[Quantity]:
        risk, oe = self._by_site("observed risk", "estimate"), self._by_site(OE, "estimate")
        parts = {"se of": "se", "lower end of": "lower", "upper end of": "upper"}
        return [
            _at_sites("observed risk", risk, 1.0, "probability", SAME),
            *(
                _at_sites(f"{part} observed risk", self._by_site("observed risk", what), 1.0, "probability", SAME)
                for part, what in parts.items()
            ),
            *self._existing({"observed risk": risk}),
            _at_sites(OE, oe, _size(oe), "share of it", SAME),
        ]

    def _line(self, units: dict[str, FloatArray], measured_in: str, tolerance: tuple[float, str]) -> list[Quantity]:
        """Intercept and slope, and their standard errors."""
        return [
            _at_sites(prefix + name, self._by_site(name, what), unit, measured_in, tolerance)
            for name, unit in units.items()
            for prefix, what in (("", "estimate"), ("se of ", "se"))
        ]

    def _line_units(self) -> dict[str, FloatArray]:
        """What 1 means for intercept and slope of numbers: both move a prediction by an sd of the outcome."""
        out = {name: np.ones((len(self.sites), len(self.columns))) for name in (INTERCEPT, SLOPE)}
        for j, column in enumerate(self.columns):
            assert column.score is not None and column.observed is not None
            for k in range(len(self.sites)):
                at = self.fitted.evidence.site == k
                y, m = column.observed[at], column.score[at]
                sd, spread = y.std() or max(float(np.abs(y).max()), 1.0), m.std() or 1.0
                out[SLOPE][k, j] = sd / spread
                out[INTERCEPT][k, j] = sd * np.hypot(1.0, m.mean() / spread)
        return out

    def _existing(self, values: dict[str, FloatArray]) -> list[Quantity]:
        """Which sites have a measure: what ours lacks is not compared, and may be wrong to lack."""
        applies = self._applies()
        return [
            _at_sites(f"{name} exists", np.where(applies, np.isfinite(value), np.nan), 1.0, "1 or 0", COUNT)
            for name, value in values.items()
        ]

    def _applies(self) -> BoolArray:
        return np.array([[column.score is not None for column in self.columns]])

    @cached_property
    def measures(self) -> dict[str, str]:
        """The measures that are pooled, and on which scale: those with a variance at some site."""
        known = self.table[np.isfinite(self.table["variance"].astype(float))]
        return dict(zip(known["measure"], known["scale"], strict=True))

    def _pooled(self) -> list[Quantity]:
        """Each number over sites, a row for each measure."""
        names = ("estimate", "lower", "upper", "new_lower", "new_upper", "tau2", "sites")
        shape = (len(self.measures), len(self.columns))
        values = {name: np.full(shape, np.nan) for name in (*names, "se", "unit")}
        overall = self.validation.overall
        for i, measure in enumerate(self.measures):
            rows = overall[overall["measure"] == measure]
            value, variance = self._by_site(measure, "value"), self._by_site(measure, "variance")
            for j, state, label in self._columns_of(measure):
                used = np.isfinite(value[:, j]) & (variance[:, j] > 0)
                if not used.any():
                    continue  # A plain mean of the sites, which metafor does not give.
                row = rows[(rows["features"] == state) & (rows[self.by] == label)].iloc[0]
                for name in names:
                    values[name][i, j] = row[name]
                values["se"][i, j] = pool_sites(value[:, j], variance[:, j]).se
                tau2 = np.nan_to_num(row["tau2"])
                values["unit"][i, j] = np.sqrt(tau2 + 1 / np.mean(1 / variance[used, j]))
        scales = np.array(list(self.measures.values()), dtype=object)[:, None]
        unit = values["unit"]

        def end(name: str) -> FloatArray:
            """What one unit on the scale of pooling is at a number as it is reported."""
            return np.where(scales == "log", unit * values[name], np.where(scales == "logit", unit / 4, unit))

        def over_sites(name: str, value: FloatArray, unit: FloatArray, tolerance: tuple[float, str]) -> Quantity:
            return Quantity(name, value, unit, "sd of a site's measure", "measures", *tolerance)

        ends = [over_sites(f"pooled {name}", values[name], end(name), POOL) for name in ("estimate", "lower", "upper")]
        new = [
            over_sites(f"new site {name}", values[f"new_{name}"], end(f"new_{name}"), NEW_SITE)
            for name in ("lower", "upper")
        ]
        sites = Quantity("sites pooled", values["sites"], np.ones_like(unit), "sites", "measures", *COUNT)
        return [
            *ends,
            over_sites("pooled se", values["se"], unit, POOL),
            over_sites("pooled tau2", values["tau2"], unit**2, POOL),
            *new,
            sites,
        ]

    def sent(self) -> dict[str, Any]:
        """Return the study as `R/prediction.R` takes it."""
        evidence = self.fitted.evidence
        scored = [column for column in self.columns if column.score is not None]
        times = evidence.y if self.kind == "survival" else np.zeros((0, 2))
        return {
            "kind": self.kind,
            "plain": self.plain,
            "batch": as_factor(evidence.site, self.sites),
            "features": list(self.labels),
            "score": _beside([column.score for column in scored]),
            "Y": _beside([column.observed for column in scored]),
            "state": [column.state for column in scored],
            "time": times[:, 0],
            "event": times[:, 1],
            "at": np.array([column.label for column in scored if self.kind == "survival"], dtype=np.float64),
            "measures": list(self.measures),
            "scales": list(self.measures.values()),
            "value": self._stacked("value"),
            "variance": self._stacked("variance"),
        }

    def _stacked(self, what: str) -> FloatArray:
        parts = [self._by_site(measure, what) for measure in self.measures]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.columns)))

    def compared(self, sent: dict[str, Any]) -> Compared:
        """Return the study as the report and the folder need it; `sent` is what R gets."""
        n = len(sent["score"])
        columns = [Column("batch", "site", "batch", pd.Series(sent["batch"]))]
        for role in ("time", "event"):
            columns += [Column(role, role, role, pd.Series(sent[role]))] if len(sent[role]) else []
        for role, name in (("outcome", "Y"), ("score", "score")):
            values = sent[name]
            columns += [
                Column(role, f"{role} {label}", "", pd.Series(values[:, j]))
                for j, label in enumerate(self.labels[: values.shape[1]])
            ]
        settings = [("kind", self.kind), ("plain", str(self.plain).upper())]
        settings += [(role, text) for role in ("features", "state", "measures", "scales") for text in sent[role]]
        settings += [("at", spelled(value)) for value in sent["at"]]
        return Compared(
            size=f"{n} {self._rows()} predicted without their site, {count(len(self.sites), 'site')}",
            task="measures again in R how well the predictions in `data.csv` do, and pools our numbers of each site",
            features=self.labels,
            batch=sent["batch"],
            terms=tuple(self.measures),
            columns=tuple(columns),
            settings=tuple(settings),
            numbers={"sites/value.csv": sent["value"], "sites/variance.csv": sent["variance"]},
        )

    def _rows(self) -> str:
        return "rows" if self.fitted.layout.case is None else "cases"


def _at_sites(
    name: str, values: FloatArray, unit: FloatArray | float, measured_in: str, tolerance: tuple[float, str]
) -> Quantity:
    unit = np.broadcast_to(np.asarray(unit, dtype=np.float64), values.shape)
    return Quantity(name, values.astype(np.float64), unit, measured_in, "sites", *tolerance)


def _beside(columns: list[FloatArray | None]) -> FloatArray:
    """Columns that exist, as a matrix."""
    there = [column for column in columns if column is not None]
    return np.column_stack(there) if there else np.zeros((0, 0))


def _size(values: FloatArray) -> FloatArray:
    """Their size, and 1 for what is 0."""
    return np.where(values == 0, 1.0, np.abs(values))
