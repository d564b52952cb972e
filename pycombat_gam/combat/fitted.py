"""The frozen state of a fitted ComBat: arrays with stated shapes, the tables users read, and its plain-data form."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.batch.adjust import Adjustment
from pycombat_gam.batch.levels import BatchLevels
from pycombat_gam.batch.location_scale import BatchEffects
from pycombat_gam.batch.prior import Priors, Shrunken
from pycombat_gam.batch.standardize import Standardization
from pycombat_gam.combat.profile import check_profile
from pycombat_gam.design.design import Design
from pycombat_gam.design.penalties import SmoothingParameters
from pycombat_gam.errors import ModelFileError, PcgError
from pycombat_gam.mean.fit import MeanFit, Smoothing
from pycombat_gam.saving.container import Container
from pycombat_gam.types import JsonDict

KIND = "combat"


@dataclass(frozen=True, eq=False)
class Estimates:
    """What was estimated, as DataFrames.

    Attributes
    ----------
    coefficients : design columns × features.
    grand_mean, var_pooled : one row × features.
    gamma_hat, delta_hat, gamma_star, delta_star : batches × features, on the standardized scale; delta is a variance.
    gamma_bar, t2, a_prior, b_prior : batches × one column; NaN where a batch has no such prior (the reference batch,
        `eb=False`, a batch of location only).
    smoothing_parameters, edf, score : smooths (or one row) × features; without rows for a linear model.
    """

    coefficients: pd.DataFrame
    grand_mean: pd.DataFrame
    var_pooled: pd.DataFrame
    gamma_hat: pd.DataFrame
    delta_hat: pd.DataFrame
    gamma_star: pd.DataFrame
    delta_star: pd.DataFrame
    gamma_bar: pd.DataFrame
    t2: pd.DataFrame
    a_prior: pd.DataFrame
    b_prior: pd.DataFrame
    smoothing_parameters: pd.DataFrame
    edf: pd.DataFrame
    score: pd.DataFrame

    def __repr__(self) -> str:
        lines = ["ComBat estimates"]
        for field in fields(self):
            value = getattr(self, field.name)
            lines.append(f"  {field.name:<21}{' × '.join(map(str, value.shape))}")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class FittedComBat:
    """Everything that survives the rows: B batches, p design columns, V features.

    Attributes
    ----------
    features : (V,) names; levels : the batches; reference : index of the reference batch or None.
    mean : the mean model; scale : grand mean and pooled variance; effects : γ̂, δ̂; shrunken : γ*, δ*.
    notes : what was out of the ordinary, one sentence each.
    profile : hash and summary of the table that was fitted.
    """

    features: tuple[str, ...]
    levels: BatchLevels
    reference: int | None
    mean: MeanFit
    scale: Standardization
    effects: BatchEffects
    shrunken: Shrunken
    notes: tuple[str, ...]
    profile: JsonDict

    def adjustment(self) -> Adjustment:
        """Collect what `batch.adjust` needs."""
        return Adjustment(
            center=self.mean.center,
            coefficients=self.mean.coefficients,
            mean=self.scale.grand_mean + self.mean.center @ self.mean.coefficients,
            shift=self.scale.sd * self.shrunken.gamma,
            inverse_scale=1.0 / np.sqrt(self.shrunken.delta),
            untouched=self.scale.degenerate,
            reference=self.reference,
        )

    def estimates(self) -> Estimates:
        """Return the tables that users read."""
        features = pd.Index(self.features)
        batches = pd.Index(self.levels.labels, name=self.levels.column)
        priors = self.shrunken.priors

        def by_batch(values: np.ndarray) -> pd.DataFrame:
            return pd.DataFrame(values, index=batches, columns=features)

        def one_row(name: str, values: np.ndarray) -> pd.DataFrame:
            return pd.DataFrame(values[None], index=[name], columns=features)

        def by_term(values: np.ndarray, names: tuple[str, ...]) -> pd.DataFrame:
            return pd.DataFrame(values, index=pd.Index(names, name="smooth", dtype=object), columns=features)

        smoothing = self.mean.smoothing

        return Estimates(
            coefficients=pd.DataFrame(
                self.mean.coefficients, index=pd.Index(self.mean.design.columns, name="term"), columns=features
            ),
            grand_mean=one_row("grand_mean", self.scale.grand_mean),
            var_pooled=one_row("var_pooled", self.scale.var_pooled),
            gamma_hat=by_batch(self.effects.gamma),
            delta_hat=by_batch(self.effects.delta),
            gamma_star=by_batch(self.shrunken.gamma),
            delta_star=by_batch(self.shrunken.delta),
            **{name: pd.DataFrame({name: values}, index=batches) for name, values in vars(priors).items()},
            smoothing_parameters=by_term(smoothing.parameters, smoothing.names),
            edf=by_term(smoothing.edf, smoothing.smooths),
            score=by_term(smoothing.score, (smoothing.criterion,) * len(smoothing.score)),
        )

    def to_container(self, params: JsonDict) -> Container:
        """Return the plain-data form; `params` are the constructor arguments of the model."""
        mean, priors = self.mean, self.shrunken.priors
        arrays = {
            "features": np.array(self.features, dtype=np.str_),
            "coefficients": mean.coefficients,
            "intercepts": mean.intercepts,
            "residual_ss": mean.residual_ss,
            "n_rows": mean.n_rows,
            "n_observed": _compact(mean.n_observed),
            "constant": mean.constant,
            "rounding": mean.rounding,
            "center": mean.center,
            "R": mean.R,
            "smoothing_parameters": mean.smoothing.parameters,
            "edf": mean.smoothing.edf,
            "score": mean.smoothing.score,
            "grand_mean": self.scale.grand_mean,
            "var_pooled": self.scale.var_pooled,
            "degenerate": self.scale.degenerate,
            "gamma_hat": self.effects.gamma,
            "delta_hat": self.effects.delta,
            "location_only": self.effects.location_only,
            "gamma_star": self.shrunken.gamma,
            "delta_star": self.shrunken.delta,
            "iterations": self.shrunken.iterations,
            **{field.name: getattr(priors, field.name) for field in fields(priors)},
        }
        model: JsonDict = {
            "params": params,
            "design": mean.design.to_dict(),
            "criterion": mean.smoothing.criterion,
            "batch": {"column": self.levels.column, "labels": list(self.levels.labels)},
            "reference": self.reference,
            "notes": list(self.notes),
            "profile": self.profile,
        }
        return Container(KIND, model, arrays)

    @classmethod
    def from_container(cls, container: Container) -> FittedComBat:
        """Rebuild from plain data; shapes, types and the formula are checked.

        Raises
        ------
        ModelFileError
            If anything is absent, of another shape or type, or not finite where it must be.
        """
        try:
            return _rebuild(container)
        except ModelFileError:
            raise
        except PcgError as error:
            raise ModelFileError(f"the model is refused: {error}") from error
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise ModelFileError(
                f"the model is refused: its content is not that of a ComBat model ({error})"
            ) from error


def _compact(n_observed: np.ndarray) -> np.ndarray:
    """Keep one column where all features have the same counts."""
    first = n_observed[:, :1]
    return first if n_observed.strides[1] == 0 or (n_observed == first).all() else n_observed


def _smoothing(design: Design, criterion: object, take: Any, V: int) -> Smoothing:
    """Check what is kept of the smoothing."""
    smooths = design.smooth.smooths
    names = SmoothingParameters.of(smooths, design.smooth_slices).names
    if criterion not in (("REML", "ML", "GCV") if smooths else ("",)):
        raise ModelFileError(f"the model is refused: there is no smoothing criterion {criterion!r}")
    # A parameter that ran to infinity may be saved as such.
    parameters = take("smoothing_parameters", (len(names), V), "f", finite=False)
    if not (parameters >= 0).all():
        raise ModelFileError("the model is refused: it has a negative smoothing parameter")
    return Smoothing(
        parameters=parameters,
        names=names,
        edf=take("edf", (len(smooths), V), "f"),
        smooths=tuple(one.label for one in smooths),
        score=take("score", (1 if smooths else 0, V), "f", finite=False),
        criterion=str(criterion),
    )


def _rebuild(container: Container) -> FittedComBat:
    model, arrays = container.model, container.arrays
    design = Design.from_dict(model["design"])
    labels = tuple(str(label) for label in model["batch"]["labels"])
    V, p, B = arrays["features"].size, len(design.columns), len(labels)

    def take(name: str, shape: tuple[int, ...], kinds: str, *, finite: bool = True) -> Any:
        array = arrays[name]
        if array.shape != shape or array.dtype.kind not in kinds:
            raise ModelFileError(
                f"the model is refused: '{name}' is {array.dtype} {array.shape}, expected shape {shape}"
            )
        if finite and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ModelFileError(f"the model is refused: '{name}' has values that are not finite")
        return array.astype({"f": np.float64, "i": np.intp, "b": np.bool_, "U": np.str_}[kinds], copy=False)

    n_observed = arrays["n_observed"]
    n_observed = np.broadcast_to(take("n_observed", (B, n_observed.shape[1]), "i"), (B, V))
    mean = MeanFit(
        design=design,
        coefficients=take("coefficients", (p, V), "f"),
        intercepts=take("intercepts", (B, V), "f"),
        residual_ss=take("residual_ss", (B, V), "f"),
        n_rows=take("n_rows", (B,), "i"),
        n_observed=n_observed,
        constant=take("constant", (B, V), "b"),
        rounding=take("rounding", (B, V), "f"),
        center=take("center", (p,), "f"),
        R=take("R", (p, p), "f"),
        smoothing=_smoothing(design, model["criterion"], take, V),
    )
    features = tuple(take("features", (V,), "U").tolist())
    if len(set(features)) < V or len(set(labels)) < B:
        raise ModelFileError("the model is refused: it names a feature or a batch twice")
    if (mean.n_rows < 1).any() or (n_observed < 1).any() or (n_observed > mean.n_rows[:, None]).any():
        raise ModelFileError("the model is refused: its counts of rows and cells are impossible")
    scale = Standardization(take("grand_mean", (V,), "f"), take("var_pooled", (V,), "f"), take("degenerate", (V,), "b"))
    delta_star = take("delta_star", (B, V), "f")
    if not ((delta_star > 0).all() and (scale.degenerate | (scale.var_pooled > 0)).all()):
        raise ModelFileError("the model is refused: 'delta_star' or 'var_pooled' has values that are not positive")
    reference = model["reference"]
    if reference is not None and not (type(reference) is int and 0 <= reference < B):
        raise ModelFileError(f"the model is refused: there is no batch number {reference!r}")
    return FittedComBat(
        features=features,
        levels=BatchLevels(str(model["batch"]["column"]), labels),
        reference=reference,
        mean=mean,
        scale=scale,
        effects=BatchEffects(
            take("gamma_hat", (B, V), "f"), take("delta_hat", (B, V), "f"), take("location_only", (B, V), "b")
        ),
        shrunken=Shrunken(
            take("gamma_star", (B, V), "f"),
            delta_star,
            Priors(**{field.name: take(field.name, (B,), "f", finite=False) for field in fields(Priors)}),
            take("iterations", (B,), "i"),
        ),
        notes=tuple(str(note) for note in model["notes"]),
        profile=check_profile(model["profile"], labels),
    )
