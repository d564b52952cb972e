"""`FlowSCM`, the estimator that users call. It handles input and output; the model is in `model.scm`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.batch.levels import BatchLevels, canonical
from pycombat_gam.batch.location_scale import LocationScale
from pycombat_gam.batch.model import Batches
from pycombat_gam.combat.fit import fit_combat
from pycombat_gam.errors import DataError, NotFittedError, OptionError, PcgWarning
from pycombat_gam.flow import saved
from pycombat_gam.flow.arguments import check_arguments, plain_arguments
from pycombat_gam.flow.device import choose_device, threads_for
from pycombat_gam.flow.extrapolation import warn_of
from pycombat_gam.flow.fitted import Fitted
from pycombat_gam.flow.model.outliers import Reference
from pycombat_gam.flow.model.scm import StructuralModel, learn_covariates
from pycombat_gam.flow.nodes.graph import Graph
from pycombat_gam.flow.nodes.support import Support
from pycombat_gam.flow.results import Results
from pycombat_gam.flow.training.adapt import adapted
from pycombat_gam.flow.training.learn import learn
from pycombat_gam.flow.training.progress import training_progress
from pycombat_gam.flow.training.rows import Rows, canonical_order, sites_in_order
from pycombat_gam.flow.training.sizes import size_notes
from pycombat_gam.flow.training.start import frame_of
from pycombat_gam.formula.roles import factor_columns
from pycombat_gam.mean.additive import AdditiveMean
from pycombat_gam.saving.container import Container, proven, write_container
from pycombat_gam.tables.arguments import names
from pycombat_gam.tables.cells import check_cells, suspicious_features
from pycombat_gam.tables.intake import FeatureChoice, find_column, intake_notes
from pycombat_gam.types import JsonDict
from pycombat_gam.words import count, in_one, listing, percent

AFTER_FIT = ("id", "output", "device")


class FlowSCM(Results):
    r"""Harmonize by counterfactuals of a structural causal model: what would this subject measure at another site?

    sex ~ Bernoulli, age = Exp∘Affine∘Spline(ε), site ~ Categorical and features = F(ε; covariates, site), all ε
    independent (Wang, Chaudhari & Davatzikos 2021, arXiv:2106.06845). Training maximises log p(F⁻¹(x; pa)) +
    log |det ∂F⁻¹/∂x|; harmonization is abduction ε = F⁻¹(x; pa), action do(site = s) and prediction x* = F(ε; pa*).

    Parameters
    ----------
    formula : str
        One-sided R formula of what the features depend on besides the site, smooths included; a plain ``age`` is
        linear. Its columns are the covariate nodes of the graph.
    batch : str
        Column of site labels.
    flow : str
        ``"structured"``: for each feature, the outermost map is the site's and strictly monotone; biology and
        covariance inside it are shared (see `flow.mechanisms.structured`). Or one of the paper's family, in which
        networks of covariates and site set every parameter and need many rows per site: ``"affine"``, ``"spline"``
        (elementwise), ``"autoregressive"``, ``"coupling"``.
    ref_batch : object
        Default target site of `transform`; its own rows pass through unchanged.
    features : list of str, str or None
        Columns to harmonize, as in `ComBat`.
    id : str or list of str
        Columns that identify rows; never features.
    graph : dict or None
        Causes of covariates, such as ``{"icv": ["age", "sex"]}``; none by default.
    base : str
        Distribution of the noise: ``"student_t"`` (multivariate, degrees of freedom estimated) or ``"normal"``.
    flow_options : dict or None
        ``variant`` of the structured flow (``"auto"``, ``"residual"``, ``"whole"``, ``"residual-shape"``,
        ``"whole-shape"``); ``hidden``, ``transforms``, ``spline`` (``"quadratic"``, ``"linear"``), ``bins`` of others.
    n_members : int
        Number of models in the ensemble, for `interval`; 1 for none.
    ensemble : str
        How members differ: ``"bootstrap"`` (rows resampled within sites) or ``"seed"`` (not the structured flow).
    training : dict or None
        Settings that differ from the defaults; see `flow.training.descent.Training`.
    seed : int
        Seed of everything random; the global generators are not touched.
    device : str
        ``"auto"`` (a CUDA GPU if there is one), ``"cpu"``, ``"cuda"``, or a numbered GPU such as ``"cuda:1"``.
    output : str
        ``"table"`` or ``"features"``, as in `ComBat`.

    Attributes
    ----------
    history_ : DataFrame
        A row per epoch of each training: stage, epoch, loss, held_out (log-probability), …

    Raises
    ------
    PcgError
        From every method: a subclass that says what was given, what is allowed and how to fix it.

    Examples
    --------
    >>> import pycombat_gam as pcg
    >>> table = pcg.datasets.load_multisite()
    >>> scm = pcg.FlowSCM("~ s(age) + sex", batch="site", id="subject", features="_thickness$")
    >>> harmonized = scm.fit(table).transform(table, to="Bergen")
    >>> at_thirty = scm.counterfactual(table, do={"site": "Bergen", "age": 30})
    """

    def __init__(
        self,
        formula: str = "~ 1",
        batch: str = "batch",
        *,
        flow: str = "structured",
        ref_batch: object = None,
        features: FeatureChoice = None,
        id: str | list[str] | tuple[str, ...] | None = None,
        graph: Mapping[str, list[str]] | None = None,
        base: str = "student_t",
        flow_options: Mapping[str, Any] | None = None,
        n_members: int = 1,
        ensemble: str = "bootstrap",
        training: Mapping[str, Any] | None = None,
        seed: int = 0,
        device: str = "auto",
        output: str = "table",
    ) -> None:
        self.formula = formula
        self.batch = batch
        self.flow = flow
        self.ref_batch = ref_batch
        self.features = features
        self.id = id
        self.graph = graph
        self.base = base
        self.flow_options = flow_options
        self.n_members = n_members
        self.ensemble = ensemble
        self.training = training
        self.seed = seed
        self.device = device
        self.output = output

    # Fit

    def fit(
        self,
        X: pd.DataFrame | np.ndarray,
        covariates: object = None,
        *,
        checkpoint: str | Path | None = None,
        resume: bool = False,
        progress: bool = True,
    ) -> FlowSCM:
        """Train the model.

        Parameters
        ----------
        X : DataFrame or ndarray
            One wide DataFrame, or features only (n×V, a memory map too) with `covariates` beside them.
        covariates : DataFrame or None
            Batch, id and formula columns, when X holds features only.
        checkpoint : path or None
            File to write every few epochs.
        resume : bool
            Continue from the checkpoint; the result equals that of an uninterrupted run.
        progress : bool
            Show a bar with the held-out log-probability on a terminal.
        """
        recipe, formula = check_arguments(self.get_params())
        taken = self._intake(X, covariates, formula.variables, None)
        table = taken.covariates
        sites = find_column(table, self.batch, "batch")
        levels = BatchLevels.learn(sites, self.batch)
        codes, _ = levels.codes(sites)
        if self.ref_batch is not None:
            levels.index(self.ref_batch)
        check_cells(taken.Y, suspicious_features(taken.Y), taken.features, omit_missing=False, may_omit=False)
        for name in formula.variables:
            find_column(table, name, "formula")
        graph = Graph.learn(
            formula.variables, self.batch, table, self.graph,
            factors=factor_columns(formula), features=taken.features, ids=names(self.id, "id"),
        )  # fmt: skip
        # Descent depends on the rounding of sums, and so on their order: rows and sites are sorted canonically first.
        order = canonical_order(taken.Y, np.zeros((len(table), 0)), codes)
        sites_by_row = sites_in_order(codes, order)
        place = np.argsort(sites_by_row)
        Y, rows, at = taken.Y[order], table.iloc[order], place[codes[order]]
        ranked = BatchLevels(self.batch, tuple(levels.labels[code] for code in sites_by_row))
        with levels.doubted(len(codes)):
            combat = fit_combat(
                Y, rows, at, batches=Batches(ranked, None, taken.features), formula=formula,
                mean_model=AdditiveMean(), batch_model=LocationScale(eb=len(taken.features) > 1), omit_missing=False,
                n_given=len(table),
            )  # fmt: skip  # a single feature shares no prior
        frame = frame_of(combat, rows)
        device = choose_device(self.device)
        with threads_for(taken.Y.size), training_progress() if progress else nullcontext() as hook:
            learned = learn(
                combat, frame, Y, frame.columns(rows), at, recipe, device=device, progress=hook,
                checkpoint=None if checkpoint is None else Path(checkpoint), resume=resume,
            )  # fmt: skip
        for mechanism in (learned.mechanism, *learned.members):
            mechanism.reorder_sites(place)
        causes, mechanisms = learn_covariates(graph, table, codes)
        sizes = combat.mean.n_rows[place]
        shares = sizes / sizes.sum()
        model = StructuralModel(
            graph, causes, mechanisms, levels, shares, frame, learned.mechanism, learned.members, device
        )  # fmt: skip
        reference = Reference.learn(model.log_prob(taken.Y, model.parents(table, codes)))
        notes = (
            *combat.notes,
            *size_notes(self.flow, levels, sizes, len(frame.scale)),
            *learned.notes,
        )
        choice = None if learned.choice is None else learned.choice.table
        support = Support.learn(graph, model.code(table, codes))
        self._fitted = Fitted(
            model, tuple(map(str, notes)), combat.profile, learned.history, choice, reference, support
        )
        self._fitted_params = self._plain()
        messages = [*intake_notes(taken, self.features), *notes]
        if messages:
            warnings.warn(in_one(messages), PcgWarning, stacklevel=2)
        return self

    def adapt(self, X: pd.DataFrame | np.ndarray, covariates: object = None) -> FlowSCM:
        """Return a new model that also knows the site of these rows, which was not in the fit.

        Only that site's map is estimated; the rest of the model stays as it was. With few rows the map is shrunk toward
        those of the other sites, and a warning says how much. The new model has no ensemble.
        """
        fitted = self.fitted
        taken = self._taken(X, covariates, fitted)
        sites = find_column(taken.covariates, self.batch, "batch")
        labels = sorted({canonical(label) for label in sites.dropna()})
        if sites.isna().any():
            raise DataError(
                f"batch column '{self.batch}' has missing labels: adapt takes rows of one site, named in each"
            )
        if len(labels) != 1 or labels[0] in fitted.model.levels.labels:
            raise DataError(
                f"adapt takes rows of one site that was not in the fit; given: {listing(labels)}; "
                f"the fit has {listing(fitted.model.levels.labels, 30)}"
            )
        if fitted.model.graph.parents[self.batch]:
            raise OptionError(
                f"adapt: in the graph '{self.batch}' has causes, whose effects on a new site cannot be estimated from "
                "its rows; fit again with these rows"
            )
        if any(self.batch in causes for causes in fitted.model.graph.parents.values()):
            raise OptionError(
                f"adapt: in the graph '{self.batch}' is a cause of covariates, and adapt does not estimate a new "
                "site's effects on them; fit again with these rows"
            )
        model, label = fitted.model, labels[0]
        modelled = model.frame.modelled
        columns = model.frame.columns(taken.covariates)
        x = taken.Y if modelled.all() else taken.Y[:, modelled]
        code = np.full(len(x), len(model.levels), dtype=np.intp)
        rows = Rows(x, model.frame.location, model.frame.scale, columns, code, np.ones(len(x)), model.device)
        recipe, _ = check_arguments(self.get_params())
        settings = replace(recipe.settings(), held_out=0.0)
        order = canonical_order(x, columns, code)
        features, share = adapted(model.features, rows, order, settings, self.seed, label)
        wider = model.with_site(label, len(x), fitted.profile["rows"], features)
        note = f"site '{label}' was added from its {count(len(x), 'row')}"
        if share.size:
            location, scale = (percent(part, ".0f") for part in share[:2])
            note += f": they carry {location} of the weight in its location and {scale} in its scale"
        new = FlowSCM(**{**self.get_params(), "n_members": 1})
        coded = model.code(taken.covariates, code, lenient=True)
        warn_of(fitted.support.outside(model.graph, coded))
        support = fitted.support.with_site(coded)
        new._fitted = replace(fitted, model=wider, notes=(*fitted.notes, note), support=support)
        new._fitted_params = new._plain()
        if not share.size or share[:2].min() < 0.9:
            warnings.warn(note, PcgWarning, stacklevel=2)
        return new

    def with_site(self, X: pd.DataFrame | np.ndarray, covariates: object = None) -> FlowSCM:
        """Return a model that also harmonizes rows of a new site; the same as `adapt`."""
        return self.adapt(X, covariates)

    # Harmonize

    def transform(self, X: pd.DataFrame | np.ndarray, covariates: object = None, *, to: object = None) -> Any:
        r"""Harmonize rows of known sites: abduction, action do(site = to), prediction.

        Parameters
        ----------
        to : object
            A site's label. None: `ref_batch`, or without one the average over sites x* = Σ_s w_s x*(do(site = s)), with
            w_s the sites' shares of the rows of the fit.

        Returns
        -------
        DataFrame or ndarray
            The input with its features replaced; covariates and site stay as they were.

        Notes
        -----
        A warning names rows outside the range of the fit, or of their target site where its map depends on covariates.
        """
        move = self._harmonized(X, covariates, to)
        taken, out = move.taken, move.features()
        warn_of(move.notes)
        return self._give(taken, out if taken.frame is not None else out.astype(taken.Y.dtype, copy=False))

    def fit_transform(
        self, X: pd.DataFrame | np.ndarray, covariates: object = None, *, to: object = None, **fit: Any
    ) -> Any:
        """Fit, then harmonize the same rows; identical to ``fit(...).transform(...)``."""
        return self.fit(X, covariates, **fit).transform(X, covariates, to=to)

    def fit_part(self, X: pd.DataFrame | np.ndarray, covariates: object = None) -> Any:
        """Fit to a part of a table that was fitted whole, and harmonize it; see `Harmonizer`."""
        return self.fit_transform(X, covariates)

    # Files

    def save(self, path: str | Path) -> None:
        """Write the fitted model to a `.pcg` file; `pycombat_gam.load` reads it back."""
        write_container(Path(path), proven(self))

    def to_container(self) -> Container:
        """Return the fitted model as plain data and arrays."""
        return saved.to_container(self.fitted, self._plain())

    @classmethod
    def from_container(cls, container: Container) -> FlowSCM:
        """Rebuild a saved model; see `pycombat_gam.load`."""
        params, fitted = saved.from_container(container, list(cls().get_params()))
        model = cls(**params)
        model._fitted = fitted
        model._fitted_params = model._plain()
        return model

    # Checks

    def _plain(self) -> JsonDict:
        return plain_arguments(self.get_params())

    @property
    def fitted(self) -> Fitted:
        """The fitted quantities.

        Raises
        ------
        NotFittedError
            Before `fit`, and after a change of an argument that the fit depends on.
        """
        fitted: Fitted | None = getattr(self, "_fitted", None)
        if fitted is None:
            raise NotFittedError("this FlowSCM is not fitted yet: call fit or fit_transform first")
        now = self._plain()
        changed = [name for name in now if name not in AFTER_FIT and now[name] != self._fitted_params[name]]
        if changed:
            raise NotFittedError(f"{listing(changed)} changed after the fit: call fit again (or set it back)")
        return fitted
