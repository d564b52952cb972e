"""`ComBat`, the estimator: what users call. It sorts out input and output; the algorithm is in `fit`."""

from __future__ import annotations

import inspect
import warnings
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pycombat_gam.batch.levels import BatchLevels
from pycombat_gam.batch.model import Batches, BatchModel
from pycombat_gam.checks.at_fit import find_problems
from pycombat_gam.checks.finding import Finding
from pycombat_gam.checks.material import Asked, gather_material
from pycombat_gam.combat import saved
from pycombat_gam.combat.arguments import AFTER_FIT, OBJECTS, check_options, plain_params, saved_params
from pycombat_gam.combat.fit import apply_combat, fit_combat
from pycombat_gam.combat.fitted import FittedComBat
from pycombat_gam.combat.inference import Inference
from pycombat_gam.combat.profile import rows_differ
from pycombat_gam.combat.uncertainty import Uncertainty
from pycombat_gam.errors import DataError, NotFittedError, OptionError, PcgError, PcgWarning
from pycombat_gam.mean.fit import MeanModel
from pycombat_gam.saving.container import Container, proven, write_container
from pycombat_gam.tables.arguments import names
from pycombat_gam.tables.intake import (
    FeatureChoice,
    Intake,
    find_column,
    intake_notes,
)
from pycombat_gam.types import BoolArray, IntArray
from pycombat_gam.words import in_one, listing

if TYPE_CHECKING:  # Python 3.10 has no typing.Self
    from typing_extensions import Self


class ComBat(Inference, Uncertainty):
    r"""Harmonize features measured at several sites: remove each site's location and scale, keep covariate effects.

    Y*_ijk = (Y_ijk − f_k(X_ij) − g_ik)/d_ik + f_k(X_ij), with f linear, or additive with smooths (ComBat-GAM; Pomponio
    et al. 2020), and (g, d) shrunk by empirical Bayes (Johnson, Li & Rabinovic 2007; Fortin et al. 2017, 2018).
    Conventions are those of neuroCombat 1.0.14 in R: grand mean weighted by batch size, pooled variance with 1/n, batch
    variance with 1/(n_b − 1).

    Parameters
    ----------
    formula : str
        One-sided R formula of what to keep, such as ``"~ age + I(age^2) + sex*dx"``. Leave the batch out; its columns
        hold the intercept, so ``-1`` and ``+0`` change nothing. Smooths ``s te ti t2`` and random effects
        ``(1|subject)`` are mgcv's, and kept like other covariates.
    batch : str
        Column of site labels.
    features : list of str or str, optional
        Columns to harmonize: names, or a regular expression searched in column names. By default all numeric columns
        that formula, batch and id don't name.
    id : str or list of str, optional
        Column or columns that identify rows; never features, and duplicates are an error.
    ref_batch : label, optional
        Site to bring the others to; its rows pass through unchanged.
    eb : bool
        Shrink site effects over features (True), or use each feature's own estimates (False).
    prior : {"parametric", "nonparametric", "bayes"}
        Prior of the site effects. With ``"bayes"`` nothing is plugged in: hyperparameters, site effects and
        coefficients are drawn together, and `transform` gives posterior means. It pays at sites of few rows.
    mean_only : bool
        Adjust location only.
    smoothing : {"REML", "ML", "GCV"}
        Criterion for the smoothing parameters of each feature; a parametric formula has none.
    mean_model : MeanModel, optional
        Object that fits the formula, such as ``r_bridge.MgcvMean()``, with ``fit``, ``predict`` and ``describe``. By
        default `mean.AdditiveMean`.
    batch_model : BatchModel, optional
        Object that fits other site effects than location and scale; see `batch.model.BatchModel`. By default location
        and scale of each site, as `eb`, `prior` and `mean_only` say.
    on_unseen : {"error", "estimate"}
        What `transform` does with a site that was not in the fit: stop, or estimate its effects from the rows given,
        with a random intercept for each of its groups where the formula has one.
    missing : {"error", "omit"}
        With ``"omit"``, each feature is fitted on its observed cells, and missing cells stay missing.
    output : {"table", "features"}
        Return the table given with its features replaced, or the features only (for a pipeline).
    seed : int
        Of the draws behind ``prior="bayes"``.

    Attributes
    ----------
    estimates : Estimates
        Everything estimated, as DataFrames: `coefficients`, `grand_mean`, `var_pooled`, and the site effects before
        (`gamma_hat`, `delta_hat`) and after shrinkage (`gamma_star`, `delta_star`) on the scale of the pooled sd,
        where delta is a variance; their priors `gamma_bar`, `t2`, `a_prior`, `b_prior`; and, of smooths,
        `smoothing_parameters`, `edf` and `score`.

    Raises
    ------
    PcgError
        From `fit` and `transform`: a subclass that says what was given, what is allowed and how to fix it.

    Examples
    --------
    >>> import pycombat_gam as pcg
    >>> table = pcg.datasets.load_multisite()
    >>> model = pcg.ComBat("~ age + sex + dx", batch="site", id="subject", features="_thickness$")
    >>> harmonized = model.fit_transform(table)
    >>> harmonized.shape == table.shape
    True
    """

    def __init__(
        self,
        formula: str = "~ 1",
        batch: str = "batch",
        *,
        features: FeatureChoice = None,
        id: str | list[str] | tuple[str, ...] | None = None,
        ref_batch: object = None,
        eb: bool = True,
        prior: str = "parametric",
        mean_only: bool = False,
        smoothing: str = "REML",
        mean_model: MeanModel | None = None,
        batch_model: BatchModel | None = None,
        on_unseen: str = "error",
        missing: str = "error",
        output: str = "table",
        seed: int = 0,
    ) -> None:
        self.formula = formula
        self.batch = batch
        self.features = features
        self.id = id
        self.ref_batch = ref_batch
        self.eb = eb
        self.prior = prior
        self.mean_only = mean_only
        self.smoothing = smoothing
        self.mean_model = mean_model
        self.batch_model = batch_model
        self.on_unseen = on_unseen
        self.missing = missing
        self.output = output
        self.seed = seed

    # Fit and transform

    def fit(self, X: pd.DataFrame | np.ndarray, covariates: object = None, *, fit_mask: object = None) -> ComBat:
        """Estimate mean model and site effects.

        Parameters
        ----------
        X : DataFrame, or array of shape (n, V)
            One wide table (covariates and features), or the features only.
        covariates : DataFrame, optional
            Batch, id and formula columns, when X holds features only. A 1-D second argument beside a wide table is
            scikit-learn's ``y`` and ignored.
        fit_mask : array of bool, shape (n,), optional
            Rows to estimate from (controls only, say). All rows are checked.
        """
        self._fit(X, covariates, fit_mask)
        return self

    def _fit(self, X: pd.DataFrame | np.ndarray, covariates: object, fit_mask: object, *, part: bool = False) -> Intake:
        batch_model, formula = check_options(self.get_params())
        intake = self._intake(X, covariates, formula.variables, None)
        sites = find_column(intake.covariates, self.batch, "batch")
        levels = BatchLevels.learn(sites, self.batch)
        codes, _ = levels.codes(sites)
        rows = _mask(fit_mask, intake.covariates, codes, levels)
        for name in formula.variables:
            find_column(intake.covariates, name, "formula")
        with levels.doubted(len(codes)):
            fitted = fit_combat(
                intake.Y if rows is None else intake.Y[rows],
                intake.covariates if rows is None else intake.covariates.loc[rows],
                codes if rows is None else codes[rows],
                batches=Batches(
                    levels, None if self.ref_batch is None else levels.index(self.ref_batch), intake.features
                ),
                formula=formula,
                mean_model=self._mean_model(),
                batch_model=batch_model,
                omit_missing=self.missing == "omit",
                n_given=len(intake.covariates),
                part=part,
            )
        if rows is not None:
            # Rows outside fit_mask are adjusted too, so they are checked as well.
            self._check_cells(intake)
            fitted.mean.design.on(intake.covariates)
        problems = [] if part else [str(finding.verdict) for finding in self._problems(intake, rows, fitted)]
        fitted = replace(fitted, notes=(*fitted.notes, *problems))
        notes = [*intake_notes(intake, self.features), *fitted.notes]
        self._fitted = fitted
        self._fitted_params, self._fitted_objects = plain_params(self.get_params()), self._objects()
        if notes:
            warnings.warn(in_one(notes), PcgWarning, stacklevel=3)
        return intake

    def transform(self, X: pd.DataFrame | np.ndarray, covariates: object = None) -> Any:
        """Harmonize rows of known sites: any subset, even one row, with columns in any order.

        Returns
        -------
        DataFrame or array
            The wide table with its features replaced, or an array for an array; with ``output="features"`` the
            features only. float32 features come back float32, integers and booleans float64; other columns are not
            touched.
        """
        return self._harmonize(self._rows(X, covariates))

    def fit_transform(self, X: pd.DataFrame | np.ndarray, covariates: object = None, *, fit_mask: object = None) -> Any:
        """Fit, then harmonize the same rows; identical to ``fit(...).transform(...)``."""
        return self._harmonize(self._fit(X, covariates, fit_mask))

    def _harmonize(self, intake: Intake) -> Any:
        fitted = self.fitted
        out, notes = apply_combat(fitted, intake.Y, intake.covariates, *self._codes(intake))
        if notes:
            warnings.warn("; ".join(notes), PcgWarning, stacklevel=3)
        return self._give(intake, out)

    # As a harmonizer: see `study.harmonizer`

    def differs(self, X: pd.DataFrame | np.ndarray, covariates: object = None, *, fit_mask: object = None) -> str:
        """Say how rows with the fit's sites and covariates differ from those of the fit; empty if they do not."""
        fitted = self.fitted
        try:
            intake = self._intake(X, covariates, fitted.mean.design.formula.variables, fitted.features)
            self._check_cells(intake)
            mask = check_mask(fit_mask, intake.covariates)
            if mask is not None:
                intake = replace(intake, Y=intake.Y[mask], covariates=intake.covariates.loc[mask])
            codes, _ = fitted.levels.codes(find_column(intake.covariates, self.batch, "batch"))
            return rows_differ(fitted, intake.Y, intake.covariates, codes)
        except PcgError as error:
            return f"the model cannot be applied to them: {error}"

    def unfitted(self, **changed: Any) -> Self:
        """Return an unfitted model with other arguments, which estimates sites that are not in its fit."""
        return type(self)(**{**self.get_params(), "on_unseen": "estimate", **changed})

    def fit_part(self, X: pd.DataFrame | np.ndarray, covariates: object = None) -> Any:
        """Fit to a part of a table that was fitted whole, and harmonize it: no audit, nothing that only tests need."""
        return self._harmonize(self._fit(X, covariates, None, part=True))

    def with_site(self, X: pd.DataFrame | np.ndarray, covariates: object = None) -> Self:
        """Return a model that estimates a site that was not in the fit when it harmonizes its rows."""
        return copy(self).set_params(on_unseen="estimate")

    def starting_point(self) -> ComBat:
        """Return an unfitted ComBat with the options that decide whether a fit stops."""
        others = ("features", "mean_model", "output")
        return ComBat(**{name: value for name, value in self.get_params().items() if name not in others})

    # Files

    def save(self, path: str | Path, *, compact: bool = False) -> None:
        """Write the fitted model to a `.pcg` file: JSON and arrays, hashed; `pycombat_gam.load` reads it back.

        Parameters
        ----------
        path : str or Path
            Where to write.
        compact : bool
            Leave out the statistics of each site: of a linear formula, its terms can still be tested, but draws and
            intervals need the statistics. They take p numbers for each site and feature.
        """
        model = self
        if compact:
            model = copy(self)
            model._fitted = saved.compact(self.fitted)
        write_container(Path(path), proven(model, lambda read: self.from_container(read, self.batch_model)))

    def to_container(self) -> Container:
        """Return the fitted model as plain data: not the objects among its arguments, but what they fitted."""
        check_options(self.get_params())
        return saved.to_container(self.fitted, saved_params(self.get_params()))

    @classmethod
    def from_container(cls, container: Container, batch_model: BatchModel | None = None) -> ComBat:
        """Rebuild a saved model; see `pycombat_gam.load`."""
        params = container.model.get("params")
        known = set(inspect.signature(cls.__init__).parameters) - {"self", *OBJECTS}
        # A seed is saved where it matters, with prior='bayes'.
        if not isinstance(params, dict) or {*params, "seed"} != known:
            raise OptionError("the model is refused: its parameters are not those of ComBat")
        _check_batch_model(container.model.get("batch_model"), batch_model)
        model = cls(**params, batch_model=batch_model)
        standard, formula = check_options(model.get_params())
        fitted = saved.from_container(container, standard)
        if model.batch != fitted.levels.column or str(formula) != str(fitted.mean.design.formula):
            raise OptionError("the model is refused: its parameters and its design disagree")
        reference = None if fitted.reference is None else fitted.levels.labels[fitted.reference]
        if model.ref_batch != reference:
            raise OptionError("the model is refused: its parameters and its reference batch disagree")
        model._fitted = fitted
        model._fitted_params, model._fitted_objects = plain_params(model.get_params()), model._objects()
        return model

    # Checks

    def _problems(self, intake: Intake, rows: BoolArray | None, fitted: FittedComBat) -> list[Finding]:
        """Find what the audit calls a problem in the rows that estimate."""
        if rows is not None:
            intake = replace(intake, Y=intake.Y[rows], covariates=intake.covariates.loc[rows])
        codes, _ = fitted.levels.codes(find_column(intake.covariates, self.batch, "batch"))
        reference = None if fitted.reference is None else fitted.levels.labels[fitted.reference]
        asked = Asked(self.eb, not self.mean_only, self.missing == "omit", reference, self.prior == "bayes")
        formula, ids = fitted.mean.design.formula, names(self.id, "id")
        material = gather_material(intake, formula, fitted.levels, codes, ids, asked=asked, numbers_only=True)
        return find_problems(material, fitted.mean)

    def _features(self) -> tuple[str, ...]:
        return self.fitted.features

    def _objects(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in OBJECTS}

    @property
    def fitted(self) -> FittedComBat:
        """What the fit left.

        Raises
        ------
        NotFittedError
            Before `fit`, and where an argument that matters was changed after it.
        """
        fitted: FittedComBat | None = getattr(self, "_fitted", None)
        if fitted is None:
            raise NotFittedError("this ComBat is not fitted yet: call fit or fit_transform first")
        now = plain_params(self.get_params())
        changed = [name for name in now if name not in AFTER_FIT and now[name] != self._fitted_params[name]]
        changed += [name for name, value in self._objects().items() if value is not self._fitted_objects[name]]
        if changed:
            raise NotFittedError(f"{listing(changed)} changed after the fit: call fit again (or set it back)")
        return fitted


def _check_batch_model(name: object, batch_model: BatchModel | None) -> None:
    """Stop where a file needs another batch model than the one it is loaded with."""
    have = None if batch_model is None else type(batch_model).__name__
    if name is not None and not isinstance(name, str):
        raise OptionError("the model is refused: the name of its batch model is not text")
    if name is not None and batch_model is None:
        raise OptionError(f"it was fitted with batch_model={name}(…): pass it, load(path, batch_model={name}(…))")
    if name != have:
        raise OptionError(f"batch_model is a {have}, but the model was fitted with {name or 'ComBat, its own'}")


def check_mask(fit_mask: object, table: pd.DataFrame) -> BoolArray | None:
    """Return which rows estimate, (n,), or None for all; stop for anything but a boolean for each row."""
    if fit_mask is None:
        return None
    if isinstance(fit_mask, pd.Series) and not fit_mask.index.equals(table.index):
        raise OptionError("fit_mask is a Series with another index than the table: align it, or give an array")
    if np.ma.is_masked(fit_mask):
        raise OptionError("fit_mask is a masked array that hides entries: fill them with True or False")
    mask = np.asarray(fit_mask)
    if mask.shape != (len(table),) or mask.dtype != np.bool_:
        raise OptionError(
            f"fit_mask must be {len(table):,} booleans, one per row; given: {mask.dtype} of shape {mask.shape}"
        )
    return mask


def _mask(fit_mask: object, table: pd.DataFrame, codes: IntArray, levels: BatchLevels) -> BoolArray | None:
    """Return the rows that estimate; every batch needs one."""
    mask = check_mask(fit_mask, table)
    if mask is None:
        return None
    empty = np.flatnonzero(np.bincount(codes[mask], minlength=len(levels)) == 0)
    if empty.size:
        raise DataError(
            f"fit_mask leaves no row of batch {listing(levels.labels[b] for b in empty)}: its effects cannot be "
            "estimated; include rows of it or remove the batch"
        )
    return mask
