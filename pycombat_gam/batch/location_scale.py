r"""ComBat's batch model: a location and a scale of each site and feature, shrunk over features by empirical Bayes.

The chain: standardize (ĝ, σ̂²), estimate γ̂ and δ̂ (`effects`), shrink them to γ* and δ* (`prior`), adjust.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from pycombat_gam.batch.adjust import Adjustment, adjust
from pycombat_gam.batch.effects import BatchEffects, estimate_effects
from pycombat_gam.batch.model import Batches, MeanRows, Residuals
from pycombat_gam.batch.moments import Moments
from pycombat_gam.batch.posterior import Posterior, posterior
from pycombat_gam.batch.prior import Priors, Shrunken, shrink
from pycombat_gam.batch.standardize import Standardization, standardize
from pycombat_gam.errors import DataError
from pycombat_gam.progress import progress_bar
from pycombat_gam.saving.reader import Reader
from pycombat_gam.types import BoolArray, FloatArray, IntArray
from pycombat_gam.words import count, listing


class Rules:
    """What another implementation does differently after a step of the chain; these change nothing."""

    def scale(self, scale: Standardization, moments: Moments, batches: Batches) -> Standardization:
        """Return the standardization to go on with."""
        return scale

    def informing(
        self, effects: BatchEffects, scale: Standardization, moments: Moments
    ) -> tuple[BatchEffects, BoolArray]:
        """Return the effects to shrink, and the features (V,) that take part in it."""
        return effects, ~scale.degenerate

    def shrunken(self, shrunken: Shrunken, effects: BatchEffects, moments: Moments, batches: Batches) -> Shrunken:
        """Return the effects to take off."""
        return shrunken


OURS = Rules()


@dataclass(frozen=True)
class LocationScale:
    """Location and scale of each site.

    Parameters
    ----------
    prior : ``"parametric"`` or ``"nonparametric"``; mean_only : location alone; eb : shrink at all.
    rules : what another implementation does differently.
    """

    prior: str = "parametric"
    mean_only: bool = False
    eb: bool = True
    rules: Rules = OURS

    one_row: ClassVar[str] = "location only for all features"
    """What a site of one row gets."""

    @property
    def needs(self) -> Literal["moments", "residuals"]:
        """Moments tell all."""
        return "moments"

    def fit(self, moments: Moments, batches: Batches, residuals: Residuals | None = None) -> LocationScaleFit:
        """Estimate the sites' effects.

        Parameters
        ----------
        moments : from the mean model; batches : what they are called; residuals : not looked at.

        Raises
        ------
        DataError
            Where no feature has any variance, and where priors have no width.
        """
        reference = batches.reference
        scale = self.rules.scale(standardize(moments, reference), moments, batches)
        if scale.degenerate.all():
            raise DataError("no feature has any variance beyond rounding: there is nothing to harmonize")
        naive = estimate_effects(moments, scale, mean_only=self.mean_only, reference=reference)
        effects, touched = self.rules.informing(naive, scale, moments)
        with progress_bar("shrinking site effects", effects.gamma.size) as advance:
            shrunken = shrink(
                effects, moments.n_observed, moments.n_rows, touched, batches.labels,
                prior=self.prior if self.eb else "none", mean_only=self.mean_only, reference=reference,
                advance=advance,
            )  # fmt: skip
        shrunken = self.rules.shrunken(shrunken, effects, moments, batches)
        effects = replace(effects, location_only=naive.location_only)
        notes = tuple(_sentences(moments, batches, scale, effects, self.one_row))
        return LocationScaleFit(self, batches, moments.n_rows, moments.n_observed, scale, effects, shrunken, notes)

    def from_arrays(self, reader: Reader, batches: Batches) -> LocationScaleFit:
        """Rebuild a fit; see `BatchModel`."""
        B, V = len(batches.labels), len(batches.features)
        var_pooled, degenerate = reader.array("var_pooled", (V,)), reader.array("degenerate", (V,), "b")
        reader.require((degenerate | (var_pooled > 0)).all(), "hold positive numbers as 'var_pooled'")
        n_rows, n_observed = reader.array("n_rows", (B,), "i"), reader.array("n_observed", (B, None), "i")
        return LocationScaleFit(
            self,
            batches,
            n_rows,
            np.broadcast_to(n_observed, (B, V)) if n_observed.shape[1] == 1 else n_observed,
            Standardization(reader.array("grand_mean", (V,)), var_pooled, degenerate),
            BatchEffects(
                reader.array("gamma_hat", (B, V)),
                reader.array("delta_hat", (B, V)),
                reader.array("location_only", (B, V), "b"),
            ),
            Shrunken(
                reader.array("gamma_star", (B, V)),
                reader.array("delta_star", (B, V), positive=True),
                Priors(**{item.name: reader.array(item.name, (B,), finite=False) for item in fields(Priors)}),
                reader.array("iterations", (B,), "i"),
            ),
        )


@dataclass(frozen=True, eq=False)
class LocationScaleFit:
    """Estimated locations and scales: B batches, V features.

    Attributes
    ----------
    model : what estimated them; batches : what they are called.
    n_rows : (B,) rows; n_observed : (B, V) cells.
    scale : grand mean and pooled variance; effects : γ̂, δ̂; shrunken : γ*, δ*.
    notes : what was not handled in the ordinary way; of a loaded model they are among its own notes.
    """

    model: LocationScale
    batches: Batches
    n_rows: IntArray
    n_observed: IntArray
    scale: Standardization
    effects: BatchEffects
    shrunken: Shrunken
    notes: tuple[str, ...] = ()

    @property
    def level(self) -> FloatArray:
        """Grand mean (V,)."""
        return self.scale.grand_mean

    @property
    def adjustment(self) -> Adjustment:
        """What is taken off."""
        return Adjustment(
            shift=self.scale.sd * self.shrunken.gamma,
            inverse_scale=1.0 / np.sqrt(self.shrunken.delta),
            untouched=self.scale.degenerate,
            reference=self.batches.reference,
        )

    def adjust(self, block: np.ndarray, mean: MeanRows, codes: IntArray, out: np.ndarray) -> None:
        """Write harmonized rows into `out`; see `BatchFit`."""
        with progress_bar("adjusting", block.size) as advance:
            adjust(block, mean, codes, self.adjustment, out, advance)

    def restore(self, block: np.ndarray, mean: MeanRows, codes: IntArray, out: np.ndarray) -> None:
        """Write the raw values of harmonized rows into `out`: the inverse of `adjust`, up to rounding."""
        with progress_bar("undoing the adjustment", block.size) as advance:
            adjust(block, mean, codes, self.adjustment.undone, out, advance)

    def extend(self, moments: Moments, labels: Sequence[str], residuals: Residuals | None = None) -> LocationScaleFit:
        """Return a fit that also knows further sites.

        Their effects are estimated against the frozen grand mean and pooled variance, each with priors over its own
        features, shrunk as at fit (ComBatFamily 0.2.1, `predict.comfam` on a new batch, which always shrinks).
        """
        model, parts = self.model, [self]
        for b, label in enumerate(labels):
            alone = Moments(**{name: values[b : b + 1] for name, values in vars(moments).items()})
            effects = estimate_effects(alone, self.scale, mean_only=model.mean_only, reference=None)
            # A feature without any value in these rows has nothing to adjust there, and informs no prior.
            observed = ~self.scale.degenerate & (alone.n_observed[0] > 0)
            shrunken = self.shrink_alone(effects, alone, observed, label)
            parts.append(
                replace(self, n_rows=alone.n_rows, n_observed=alone.n_observed, effects=effects, shrunken=shrunken)
            )
        levels = replace(self.batches.levels, labels=(*self.batches.labels, *labels))
        further = replace(self.batches, levels=replace(levels, labels=tuple(labels)), reference=None)
        effects = _joined([part.effects for part in parts[1:]])
        return replace(
            self,
            notes=tuple(_location_notes(moments, further, self.scale, effects, self.model.one_row)),
            batches=replace(self.batches, levels=levels),
            n_rows=np.concatenate([part.n_rows for part in parts]),
            n_observed=np.concatenate([part.n_observed for part in parts]),
            effects=_joined([part.effects for part in parts]),
            shrunken=_joined([part.shrunken for part in parts]),
        )

    def shrink_alone(self, effects: BatchEffects, moments: Moments, informing: BoolArray, label: str) -> Shrunken:
        """Shrink the effects of one further batch.

        Parameters
        ----------
        effects, moments : of the batch (1, V), called `label`; informing : (V,) features that inform its priors.
        """
        model = self.model
        return shrink(
            effects, moments.n_observed, moments.n_rows, informing, [label],
            prior=model.prior if model.eb else "none", mean_only=model.mean_only, reference=None,
        )  # fmt: skip

    def posterior(self) -> Posterior:
        """The posterior of γ and δ; see `batch.posterior`."""
        return posterior(
            self.effects, self.shrunken, self.n_observed,
            prior=self.model.prior, eb=self.model.eb, mean_only=self.model.mean_only, reference=self.batches.reference,
        )  # fmt: skip

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the estimates under their usual names, and the tables of a summary."""
        batches, by_batch = self.batches, self.batches.by_batch
        index = pd.Index(batches.labels, name=batches.levels.column)

        def one_row(name: str, values: np.ndarray) -> pd.DataFrame:
            return pd.DataFrame(values[None], index=[name], columns=pd.Index(batches.features))

        return {
            "grand_mean": one_row("grand_mean", self.scale.grand_mean),
            "var_pooled": one_row("var_pooled", self.scale.var_pooled),
            "gamma_hat": by_batch(self.effects.gamma),
            "delta_hat": by_batch(self.effects.delta),
            "gamma_star": by_batch(self.shrunken.gamma),
            "delta_star": by_batch(self.shrunken.delta),
            **{name: pd.DataFrame({name: values}, index=index) for name, values in vars(self.shrunken.priors).items()},
            "batches": self._batch_summary(),
            "features": self._feature_summary(),
        }

    def _batch_summary(self) -> pd.DataFrame:
        touched = ~self.scale.degenerate
        gamma, scale = self.shrunken.gamma[:, touched], np.sqrt(self.shrunken.delta[:, touched])
        priors = self.shrunken.priors
        return pd.DataFrame(
            {
                "location mean": gamma.mean(axis=1),
                "location min": gamma.min(axis=1),
                "location max": gamma.max(axis=1),
                "scale min": scale.min(axis=1),
                "scale max": scale.max(axis=1),
                "gamma_bar": priors.gamma_bar,
                "t2": priors.t2,
                "a": priors.a_prior,
                "b": priors.b_prior,
                "iterations": self.shrunken.iterations,
            }
        )

    def _feature_summary(self) -> pd.DataFrame:
        scale = np.sqrt(self.shrunken.delta)
        few = self.effects.location_only.sum(axis=0)
        handling = [f"location only in {count(k, 'batch', 'batches')}" if k else "adjusted" for k in few.tolist()]
        return pd.DataFrame(
            {
                "grand mean": self.scale.grand_mean,
                "pooled sd": np.sqrt(self.scale.var_pooled),
                "largest location": np.abs(self.shrunken.gamma).max(axis=0),
                "scale min": scale.min(axis=0),
                "scale max": scale.max(axis=0),
                "handling": np.where(self.scale.degenerate, "untouched", handling),
            }
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what `LocationScale.from_arrays` needs, beside the counts that the mean model keeps."""
        return {
            "grand_mean": self.scale.grand_mean,
            "var_pooled": self.scale.var_pooled,
            "degenerate": self.scale.degenerate,
            "gamma_hat": self.effects.gamma,
            "delta_hat": self.effects.delta,
            "location_only": self.effects.location_only,
            "gamma_star": self.shrunken.gamma,
            "delta_star": self.shrunken.delta,
            "iterations": self.shrunken.iterations,
            **vars(self.shrunken.priors),
        }

    def sentences(self) -> list[str]:
        """Name the features that pass through, and the batches and features that got a location only.

        Of an extended fit, those of the further batches.
        """
        return list(self.notes)


def _sentences(
    moments: Moments, batches: Batches, scale: Standardization, effects: BatchEffects, one_row: str
) -> Iterator[str]:
    names, labels, reference = np.array(batches.features, dtype=object), batches.labels, batches.reference
    # Means of equal numbers differ by rounding only.
    level = np.ptp(moments.location, axis=0) <= 4 * moments.rounding.max(axis=0)
    flat = scale.degenerate & moments.constant.all(axis=0) & level
    if flat.any():
        yield f"constant, passed through untouched: {listing(names[flat])}"
    rest = scale.degenerate & ~flat
    if rest.any():
        where = "" if reference is None else f" in the reference batch '{labels[reference]}'"
        yield f"no residual variance{where}, passed through untouched: {listing(names[rest])}"
    yield from _location_notes(moments, batches, scale, effects, one_row)


def _location_notes(
    moments: Moments, batches: Batches, scale: Standardization, effects: BatchEffects, one_row: str
) -> Iterator[str]:
    names, labels = np.array(batches.features, dtype=object), batches.labels
    alone = [label for b, label in enumerate(labels) if moments.n_rows[b] == 1]
    if alone:
        which = f"batch '{alone[0]}' has" if len(alone) == 1 else f"{len(alone)} batches have"
        others = "" if len(alone) == 1 else f" ({listing(alone)})"
        yield f"{which} one subject{others}: {one_row}"
    for b, label in enumerate(labels):
        concerned = effects.location_only[b] & ~scale.degenerate & (moments.n_observed[b] > 0)
        if b != batches.reference and moments.n_rows[b] > 1 and concerned.any():
            yield f"location only in batch '{label}' (no variance there): {listing(names[concerned])}"


def _joined(parts: Sequence[Any]) -> Any:
    """Put frozen arrays of several batches after one another."""
    first = parts[0]
    joined = {}
    for item in fields(first):
        values = [getattr(part, item.name) for part in parts]
        joined[item.name] = np.concatenate(values) if isinstance(values[0], np.ndarray) else _joined(values)
    return replace(first, **joined)
