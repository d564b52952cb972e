"""How sure harmonized values are: `ComBat.draws` and `ComBat.interval`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.combat.drawn import PlacedRows, intervals, tables
from pycombat_gam.combat.results import Results
from pycombat_gam.errors import OptionError, PcgWarning
from pycombat_gam.infer.gibbs import Plan
from pycombat_gam.tables.arguments import check_level, check_seed, names
from pycombat_gam.tables.intake import Intake, find_column
from pycombat_gam.types import FloatArray
from pycombat_gam.words import count, percent

THIN = 5
"""Of consecutive sweeps every fifth makes a table: two of them are then nearly independent."""

MANY = 0.02
"""A larger share of values outside their intervals is told."""


class Uncertainty(Results):
    """Draws and intervals of harmonized values, from the statistics that the fit kept."""

    def draws(
        self, table: pd.DataFrame | np.ndarray, m: int = 20, seed: int = 0, *, covariates: object = None
    ) -> Iterator[Any]:
        """Harmonize a table m times, each time with one draw of all parameters of the fit.

        Analyse each table, then put the results together with `pycombat_gam.pool`: the pooled errors hold what is not
        known of the site effects. For tests of the formula's own terms, `test` is sharper.

        Parameters
        ----------
        table : DataFrame or array
            As in `transform`: rows of the fit, new rows, and rows of new sites with ``on_unseen="estimate"``.
        m : int
            How many tables.
        seed : int
            The same seed gives the same tables.
        covariates : DataFrame, optional
            Batch, id and formula columns, when `table` holds features only.

        Yields
        ------
        DataFrame or array
            As `transform` returns it.

        Raises
        ------
        OptionError
            For another batch model than ComBat's own, and a fit that does not hold the statistics of its sites.
        DataError
            As in `transform`.

        Notes
        -----
        Gibbs sampling of the hierarchical model, every parameter uncertain, after 150 sweeps every fifth. With
        ``eb=False`` priors are flat and draws independent. The mean of many tables is what ``prior="bayes"`` gives.
        Smoothing parameters are held at their estimates. Rows in another order change nothing; features in another
        order meet other random numbers.

        Examples
        --------
        >>> import numpy as np, pycombat_gam as pcg
        >>> table = pcg.datasets.load_multisite()
        >>> model = pcg.ComBat("~ age + sex + dx", batch="site", id="subject", features="_thickness$").fit(table)
        >>> means = [harmonized["lh_precentral_thickness"].mean() for harmonized in model.draws(table, m=5)]
        >>> pooled = pcg.pool(means, np.full(5, table["lh_precentral_thickness"].var() / len(table)))
        >>> pooled.columns.tolist()
        ['feature', 'estimate', 'se', 'df', 'p', 'fraction_missing']
        """
        _check_count(m, "m", 1)
        seed = check_seed(seed)
        intake, rows = self._placed(table, covariates)
        return (self._give(intake, out) for out in tables(rows, Plan(m, thin=THIN), seed))

    def interval(
        self,
        table: pd.DataFrame | np.ndarray,
        level: float = 0.95,
        draws: int = 400,
        seed: int = 0,
        *,
        covariates: object = None,
    ) -> pd.DataFrame:
        """Return an interval for every harmonized value: where it lies, for all that is known of the site effects.

        A value is what would have been measured if all sites were one. The interval covers it with the given
        probability; it is wide at small sites, and far from a site's mean.

        Parameters
        ----------
        table : DataFrame or array
            As in `transform`: rows of the fit, new rows, and rows of new sites with ``on_unseen="estimate"``.
        level : float
            Probability that an interval covers.
        draws : int
            Draws of the parameters; quantiles over them are the limits.
        seed : int
            The same seed gives the same intervals.
        covariates : DataFrame, optional
            Batch, id and formula columns, when `table` holds features only.

        Returns
        -------
        DataFrame
            A row for each row of the table and each feature: the `id` columns (or ``row``, the table's index),
            ``feature``, ``value`` as `transform` gives it, ``lower`` and ``upper``. What passes through (the reference
            site, features without variance) has no width, and missing cells stay missing.

        Raises
        ------
        OptionError
            As in `draws`, and for a level or number of draws that is not allowed.
        DataError
            As in `transform`.

        Examples
        --------
        >>> import pycombat_gam as pcg
        >>> table = pcg.datasets.load_multisite()
        >>> model = pcg.ComBat("~ age + sex + dx", batch="site", id="subject", features="_thickness$").fit(table)
        >>> intervals = model.interval(table.iloc[:3], draws=100)
        >>> intervals.columns.tolist()
        ['subject', 'feature', 'value', 'lower', 'upper']
        """
        check_level(level)
        _check_count(draws, "draws", int(np.ceil(2.0 / (1.0 - level))))
        seed = check_seed(seed)
        intake, rows = self._placed(table, covariates)
        value = np.empty(intake.Y.shape, dtype=intake.Y.dtype)
        rows.batch.adjust(intake.Y, rows.mean, rows.codes, value)
        lower, upper = intervals(rows, value, Plan(int(draws)), seed, float(level))
        outside = float(((value < lower) | (value > upper)).mean())
        if outside > MANY:
            warnings.warn(
                f"{percent(outside)} of the values that transform gives lie outside their intervals: its prior shrinks "
                "sites more, or less, than the intervals do; prior='bayes' gives values within them",
                PcgWarning,
                stacklevel=2,
            )
        return _long(intake, names(self.id, "id"), value, lower, upper)

    def _placed(self, table: pd.DataFrame | np.ndarray, covariates: object) -> tuple[Intake, PlacedRows]:
        intake = self._rows(table, covariates)
        rows = PlacedRows.of(self.fitted, intake.Y, intake.covariates, *self._codes(intake))
        if rows.notes:
            warnings.warn("; ".join(rows.notes), PcgWarning, stacklevel=3)
        return intake, rows


def _check_count(number: object, argument: str, least: int) -> None:
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
        raise OptionError(f"{argument}={number!r}: give a whole number, at least {count(least, 'draw')}")


def _long(intake: Intake, ids: list[str], value: np.ndarray, lower: FloatArray, upper: FloatArray) -> pd.DataFrame:
    """Return a row for each cell, features within rows."""
    n, V = value.shape
    at = np.repeat(np.arange(n), V)
    if ids:
        who = {name: find_column(intake.covariates, name, "id").iloc[at].reset_index(drop=True) for name in ids}
    else:
        index = intake.covariates.index
        labels = index.to_flat_index() if isinstance(index, pd.MultiIndex) else index
        who = {"row": pd.Series(labels.take(at).to_numpy())}
    features = np.tile(np.array(intake.features, dtype=object), n)
    numbers = {"value": value.ravel(), "lower": lower.ravel(), "upper": upper.ravel()}
    return pd.DataFrame({**who, "feature": features, **numbers})
