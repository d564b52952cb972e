"""Rows under every draw of a fit: harmonized tables, intervals of harmonized values, sites that were not in the fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pycombat_gam.batch.adjust import Adjustment, adjust
from pycombat_gam.batch.location_scale import LocationScaleFit
from pycombat_gam.batch.model import MeanRows
from pycombat_gam.combat.fit import place_rows
from pycombat_gam.combat.fitted import FittedComBat
from pycombat_gam.errors import OptionError
from pycombat_gam.infer.gibbs import Plan
from pycombat_gam.infer.harmonized_draws import SiteDraws, limits, rows_by_site
from pycombat_gam.infer.hyperparameters import Hyperparameters
from pycombat_gam.infer.new_sites import NewSite, Seen
from pycombat_gam.infer.posterior import Posterior, few_notes, posterior_of
from pycombat_gam.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class PlacedRows:
    """Rows to be harmonized by every draw of a fit.

    Attributes
    ----------
    fit : of V features and B sites; batch : the same with the sites that were not in the fit, after the others.
    Y : (n, V); codes : (n,) sites; mean : the mean model on the rows, random effects of new groups included.
    notes : what was out of the ordinary.
    """

    fit: FittedComBat
    batch: LocationScaleFit
    Y: np.ndarray
    codes: IntArray
    mean: MeanRows
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls, fit: FittedComBat, Y: np.ndarray, table: pd.DataFrame, codes: IntArray, unseen: tuple[str, ...]
    ) -> PlacedRows:
        """Find what the fit says of rows; parameters as in `combat.fit.apply_combat`.

        Raises
        ------
        OptionError
            For another batch model than ComBat's own, and a fit without the statistics of its sites.
        """
        fit.location_scale("a draw")
        if fit.mean.groups is None or fit.mean.weighted is not None:
            raise OptionError(
                "draws need the statistics of every site, which this model does not hold: its mean model does not keep "
                "them, or it was saved compactly or by an earlier release; fit and save it again"
            )
        placed = place_rows(fit, Y, table, codes, unseen)
        batch = placed.batch
        assert isinstance(batch, LocationScaleFit)
        touched, eb = int((~batch.scale.degenerate).sum()), batch.model.eb
        notes = [*placed.notes, *few_notes(batch.n_rows, batch.batches, touched, eb=eb)]
        if placed.mean.rows.size or placed.mean.X.shape[1] > fit.mean.center.size:
            notes.append("random effects of groups that were not in the fit are held at their predictions")
        return cls(fit, batch, Y, codes, placed.mean, tuple(dict.fromkeys(notes)))

    @property
    def new(self) -> list[tuple[int, str]]:
        """Code and label of the sites that were not in the fit."""
        labels = self.batch.batches.labels
        return [(b, labels[b]) for b in range(len(self.fit.levels), len(labels))]

    def held(self, rows: IntArray, columns: IntArray) -> FloatArray:
        """Return what no draw changes of the mean: the offset and random effects of new groups, (k, v)."""
        mean, p = self.mean, self.fit.mean.center.size
        total = mean.X[rows, p:] @ mean.coefficients[p:, columns]
        if mean.offset is not None:
            total = total + mean.offset[rows, None]
        if mean.rows.size:
            place = np.searchsorted(mean.rows, rows).clip(0, mean.rows.size - 1)
            inside = (mean.rows[place] == rows)[:, None]
            total = total + np.where(inside, mean.effects[np.ix_(place, columns)], 0.0)
        return np.asarray(total)

    def design(self, rows: IntArray) -> FloatArray:
        """Return the fit's design on some rows less its centre, (k, p)."""
        p = self.fit.mean.center.size
        return np.asarray(self.mean.X[rows, :p] - self.mean.center[:p])

    def values(self, rows: IntArray, columns: IntArray) -> FloatArray:
        """Return features less what no draw changes, (k, v)."""
        return np.asarray(self.Y[np.ix_(rows, columns)], dtype=np.float64) - self.held(rows, columns)

    def draws(self, plan: Plan, seed: int) -> Iterator[tuple[IntArray, SiteDraws]]:
        """Draw block by block: yields (which features, their draws with the new sites after the others)."""
        posterior = posterior_of(self.fit.mean, self.fit.location_scale("a draw"), plan, seed)
        model = self.batch.model
        sites = [(b, NewSite(label, seed, not model.mean_only, model.eb)) for b, label in self.new]
        paths = self._paths(posterior, sites)
        start = 0
        for features, known in posterior.blocks():
            parts = [
                site.draw(self._seen(known, b, features), path, start)
                for (b, site), path in zip(sites, paths, strict=True)
            ]
            start += features.size
            shift = np.concatenate([known.shift, *(part[0][:, None] for part in parts)], axis=1)
            inverse_scale = np.concatenate([known.inverse_scale, *(part[1][:, None] for part in parts)], axis=1)
            yield features, replace(known, shift=shift, inverse_scale=inverse_scale)

    def _paths(self, posterior: Posterior, sites: list[tuple[int, NewSite]]) -> list[tuple[Hyperparameters, ...]]:
        """Draw the hyperparameters of new sites with the features that inform those of the fit."""
        if not sites or not self.batch.model.eb:
            return [() for _ in sites]
        first = posterior.informing
        seen: list[list[Seen]] = [[] for _ in sites]
        for features, known in first.blocks():
            for collected, (b, _) in zip(seen, sites, strict=True):
                collected.append(self._seen(known, b, features))
        return [
            site.path(Seen.joined(parts), whole=first is posterior)
            for parts, (_, site) in zip(seen, sites, strict=True)
        ]

    def _seen(self, known: SiteDraws, b: int, features: IntArray) -> Seen:
        rows = np.flatnonzero(self.codes == b)
        blind = (self.batch.effects.location_only & (self.batch.n_observed > 1))[b, features]
        return Seen.of(known, self.values(rows, features), self.design(rows), blind)


def tables(rows: PlacedRows, plan: Plan, seed: int) -> Iterator[np.ndarray]:
    """Yield the harmonized features of every draw, (n, V) of the type of Y."""
    B, V, p = len(rows.batch.batches.labels), rows.Y.shape[1], rows.fit.mean.center.size
    m = plan.draws
    center = rows.fit.batch.level + rows.fit.mean.center @ rows.fit.mean.coefficients
    beta, level = np.zeros((m, p, V)), np.repeat(center[None], m, axis=0)
    shift, inverse_scale = np.zeros((m, B, V)), np.ones((m, B, V))
    for features, sites in rows.draws(plan, seed):
        beta[:, :, features], level[:, features] = sites.beta, sites.level
        shift[:, :, features], inverse_scale[:, :, features] = sites.shift, sites.inverse_scale
    batch = rows.batch
    for at in range(m):
        by = Adjustment(shift[at], inverse_scale[at], batch.scale.degenerate, batch.batches.reference)
        coefficients = np.concatenate([beta[at], rows.mean.coefficients[p:]])
        out = np.empty(rows.Y.shape, dtype=rows.Y.dtype)
        adjust(rows.Y, replace(rows.mean, coefficients=coefficients, at_center=level[at]), rows.codes, by, out)
        yield out


def intervals(
    rows: PlacedRows, value: np.ndarray, plan: Plan, seed: int, level: float
) -> tuple[FloatArray, FloatArray]:
    """Return lower and upper limits of the harmonized values, each (n, V).

    Parameters
    ----------
    value : (n, V) as `transform` gives them: what passes through has no width.
    level : of the intervals.
    """
    lower, upper = value.astype(np.float64), value.astype(np.float64)
    for features, sites in rows.draws(plan, seed):
        for b, some in rows_by_site(rows.codes):
            if b == rows.batch.batches.reference:
                continue
            ends = limits(
                sites,
                rows.values(some, features),
                rows.design(some),
                sites.shift[:, b],
                sites.inverse_scale[:, b],
                level,
            )
            ends += rows.held(some, features)
            lower[np.ix_(some, features)], upper[np.ix_(some, features)] = ends
    return lower, upper
