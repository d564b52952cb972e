"""The frozen state of a fitted ComBat: a mean model and a batch model."""

from __future__ import annotations

from dataclasses import dataclass

from pycombat_gam.batch.levels import BatchLevels
from pycombat_gam.batch.location_scale import LocationScaleFit
from pycombat_gam.batch.model import BatchFit
from pycombat_gam.errors import OptionError
from pycombat_gam.mean.fit import MeanFit
from pycombat_gam.types import JsonDict


@dataclass(frozen=True, eq=False)
class FittedComBat:
    """Everything that survives the rows: B batches, p design columns, V features.

    Attributes
    ----------
    mean : the mean model; batch : the batch model.
    notes : what was out of the ordinary, one sentence each.
    profile : hash and summary of the table that was fitted.
    correlation : mean squared correlation of two features' residuals, beyond chance; NaN in a model that was saved
        without it. It says how many independent features the features are worth (`infer.correlation`).
    """

    mean: MeanFit
    batch: BatchFit
    notes: tuple[str, ...]
    profile: JsonDict
    correlation: float

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features (V,)."""
        return self.batch.batches.features

    @property
    def levels(self) -> BatchLevels:
        """The batches."""
        return self.batch.batches.levels

    @property
    def reference(self) -> int | None:
        """Index of the reference batch, or None."""
        return self.batch.batches.reference

    @property
    def limits(self) -> tuple[str, ...]:
        """What a model from an earlier release cannot do."""
        if self.mean.groups is not None:
            return ()
        return (
            "saved in format version 1, which does not hold the statistics of each site: for tests and intervals, fit "
            "and save the model again",
        )

    def location_scale(self, what: str) -> LocationScaleFit:
        """Return the batch model's fit where it is ComBat's own; `what` asks for it, for the message."""
        if not isinstance(self.batch, LocationScaleFit):
            raise OptionError(
                f"{what} needs ComBat's own batch model, a location and a scale; this model has a "
                f"{type(self.batch.model).__name__}"
            )
        return self.batch
