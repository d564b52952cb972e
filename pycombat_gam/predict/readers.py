"""Readers beside a model: which clinicians' points lie below its ROC curve at sites never seen.

A reader is known by sensitivity and specificity (Esteva et al. 2017, Nature 542:115, Figure 3). Scores of models
without different sites are on different scales, so no score is pooled: each site has a ROC curve, and the curves are
averaged vertically, sensitivity at fixed specificity, all sites with the same weight (Fawcett 2006, Pattern Recognit.
Lett. 27:861, Algorithm 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pycombat_gam.errors import DataError, OptionError
from pycombat_gam.predict.measures.proportions import mean_share, wilson
from pycombat_gam.tables.arguments import check_level
from pycombat_gam.types import BoolArray, FloatArray
from pycombat_gam.words import count, listing, percent, rows_named

COLUMNS = ("reader", "sensitivity", "specificity")
GRID = np.arange(101) / 100
"""Specificities at which curves are averaged."""


@dataclass(frozen=True, eq=False)
class Readers:
    """A model and readers; intervals are at `level`.

    Attributes
    ----------
    by_site : DataFrame
        Sensitivity and specificity of the model above the threshold at each site, with Wilson's intervals.
    roc : DataFrame
        Points of each site's ROC curve: ``site``, ``threshold``, ``sensitivity``, ``specificity``.
    curve : DataFrame
        Sensitivity by specificity, the mean over sites, with Student's interval over sites.
    readers : DataFrame
        Each reader with the model's mean sensitivity at the reader's specificity (``model``, ``lower``, ``upper``) and
        whether the reader's point lies below the curve (``below``). A point on the curve does not.
    share, lower, upper : float
        Share of readers below the curve. The ends are the shares below the lower and the upper ends of the curve's
        interval at each reader's specificity (pointwise): they account for the sites, not for how well each reader is
        known, and are NaN for one site. In 200 simulated studies each of 5, 10 and 20 sites, 95 % intervals held the
        share below the mean curve of all sites in 98, 96 and 98 %.
    sites : int
        Sites with a curve, which need rows with and without the event.
    level : float
    """

    by_site: pd.DataFrame
    roc: pd.DataFrame
    curve: pd.DataFrame
    readers: pd.DataFrame
    share: float
    lower: float
    upper: float
    sites: int
    level: float

    def __str__(self) -> str:
        n = len(self.readers)
        interval = (
            ""
            if np.isnan(self.lower)
            else f" ({percent(self.level)} interval over sites {percent(self.lower)} to {percent(self.upper)})"
        )
        return (
            f"{int(self.readers['below'].sum())} of {count(n, 'reader')} ({percent(self.share)}) below the model's ROC "
            f"curve, the mean of the curves of {count(self.sites, 'site')} left out{interval}"
        )

    def __repr__(self) -> str:
        return str(self)


def readers(
    events: BoolArray,
    score: FloatArray,
    site: np.ndarray,
    table: pd.DataFrame,
    *,
    threshold: float = 0.5,
    level: float = 0.95,
) -> Readers:
    """Compare readers with a model at sites left out.

    Parameters
    ----------
    events : bool array of shape (n,)
        Whether a row has the event, such as a malignant lesion.
    score : array of shape (n,)
        Probability of the event from a model without the row's site; higher for events.
    site : array of shape (n,)
        Labels of sites.
    table : DataFrame
        A row for each reader: ``reader``, ``sensitivity`` and ``specificity``, between 0 and 1.
    threshold : float
        The model calls rows with this score or more events, in `by_site`.
    level : float
        Of all intervals.

    Raises
    ------
    DataError
        For a column or value that is missing or out of range, a reader twice, and no site with both classes.
    OptionError
        For a threshold that is no number.
    """
    level = check_level(level)
    if isinstance(threshold, bool) or not isinstance(threshold, int | float | np.number) or np.isnan(threshold):
        raise OptionError(f"threshold={threshold!r}: give a number, such as 0.5")
    names, sensitivity, specificity = _checked(table)
    if not len(events) == len(score) == len(site):
        raise DataError(f"{len(events)} events, {len(score)} scores and {len(site)} sites: give one of each for a row")
    if np.isnan(score).any():
        raise DataError(f"{count(int(np.isnan(score).sum()), 'score')} missing: give a score for every row")
    by_site, points, on_grid, at_readers = [], [], [], []
    for label in dict.fromkeys(site):
        here = site == label
        by_site.append({"site": label, **_operating(events[here], score[here] >= threshold, level)})
        if events[here].all() or not events[here].any():
            continue
        roc = _roc(events[here], score[here])
        points.append(roc.assign(site=label)[["site", *roc.columns]])
        on_grid.append(_sensitivity(roc, GRID))
        at_readers.append(_sensitivity(roc, specificity))
    if not points:
        raise DataError("no site has rows with and without the event: there is no ROC curve to compare readers with")
    mean, lower, upper = mean_share(np.array(on_grid), level)
    curve = pd.DataFrame({"specificity": GRID, "sensitivity": mean, "lower": lower, "upper": upper})
    mean, lower, upper = mean_share(np.array(at_readers), level)
    # Means of equal numbers differ by rounding; a reader on the curve is not below it.
    below, surely, perhaps = (sensitivity < end - 1e-12 for end in (mean, lower, upper))
    compared = pd.DataFrame(
        {
            "reader": names,
            "sensitivity": sensitivity,
            "specificity": specificity,
            "model": mean,
            "lower": lower,
            "upper": upper,
            "below": below,
        }
    )
    several = len(points) > 1
    return Readers(
        pd.DataFrame(by_site),
        pd.concat(points, ignore_index=True),
        curve,
        compared,
        float(below.mean()),
        float(surely.mean()) if several else np.nan,
        float(perhaps.mean()) if several else np.nan,
        len(points),
        level,
    )


def _checked(table: object) -> tuple[list[str], FloatArray, FloatArray]:
    """Return names, sensitivities and specificities of readers."""
    if not isinstance(table, pd.DataFrame):
        raise DataError(f"the readers are a {type(table).__name__}; give a DataFrame with columns {listing(COLUMNS)}")
    if absent := [name for name in COLUMNS if name not in table]:
        raise DataError(f"the readers' table lacks {listing(absent)}; it needs columns {listing(COLUMNS)}")
    if not len(table):
        raise DataError("the readers' table has no rows")
    for name in COLUMNS[1:]:
        if not pd.api.types.is_numeric_dtype(table[name].dtype) or pd.api.types.is_bool_dtype(table[name].dtype):
            raise DataError(f"column '{name}' of the readers' table is not numeric: give shares between 0 and 1")
        wrong = ~table[name].between(0, 1).to_numpy()
        if wrong.any():
            raise DataError(
                f"column '{name}' of the readers' table is missing or not between 0 and 1 in "
                f"{rows_named(table.index[wrong])}: give shares"
            )
    if table["reader"].isna().any():
        raise DataError(f"'reader' is missing in {rows_named(table.index[table['reader'].isna()])}: name every reader")
    repeated = table["reader"].duplicated()
    if repeated.any():
        raise DataError(f"readers twice in the table: {listing(table.loc[repeated, 'reader'].unique())}; give each one")
    shares = (table[name].to_numpy(dtype=np.float64) for name in COLUMNS[1:])
    return [str(name) for name in table["reader"]], *shares  # type: ignore[return-value]  # two columns, two arrays


def _operating(events: BoolArray, called: BoolArray, level: float) -> dict[str, float]:
    """Sensitivity and specificity of calls, with Wilson's intervals; NaN where a class is absent."""
    row: dict[str, float] = {"n_events": int(events.sum()), "n_others": int((~events).sum())}
    for name, right in (("sensitivity", called[events]), ("specificity", ~called[~events])):
        row[name] = float(right.mean()) if right.size else np.nan
        row[f"{name}_lower"], row[f"{name}_upper"] = wilson(float(right.sum()), right.size, level)
    return row


def _roc(events: BoolArray, score: FloatArray) -> pd.DataFrame:
    """Points of the empirical ROC curve, from calling no row an event to calling all."""
    levels, at = np.unique(-score, return_inverse=True)
    called_events = np.cumsum(np.bincount(at, events))
    others = np.bincount(at, ~events)
    left_others = others.sum() - np.cumsum(others)
    return pd.DataFrame(
        {
            "threshold": np.concatenate([[np.inf], -levels]),
            "sensitivity": np.concatenate([[0.0], called_events / called_events[-1]]),
            "specificity": np.concatenate([[1.0], left_others / others.sum()]),
        }
    )


def _sensitivity(roc: pd.DataFrame, specificity: FloatArray) -> FloatArray:
    """Sensitivity at specificities: the highest where the curve is vertical, between points of ties on a line."""
    on_curve = np.interp(-specificity, -roc["specificity"].to_numpy(), roc["sensitivity"].to_numpy())
    return np.asarray(on_curve, dtype=np.float64)
