"""`Predictor`, the estimator: what users call. What is computed is in `fitted`, `answers` and `validation`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pycombat_gam.errors import DataError, NotFittedError, OptionError, PcgWarning
from pycombat_gam.predict import saved
from pycombat_gam.predict.answers import Labelled, answer
from pycombat_gam.predict.arguments import check_demand
from pycombat_gam.predict.calibration import Demand
from pycombat_gam.predict.fitted import FittedPredictor, fit_predictor
from pycombat_gam.predict.guarantee import impossible
from pycombat_gam.predict.outcome import check_outcomes, read_outcome
from pycombat_gam.predict.rows import Layout, Rows, outcome_of_units
from pycombat_gam.predict.scores import Scores
from pycombat_gam.predict.validation import Validation
from pycombat_gam.saving.container import Container, proven, write_container
from pycombat_gam.study.harmonizer import Harmonizer
from pycombat_gam.tables.estimator import Parametrized
from pycombat_gam.tables.intake import FeatureChoice, find_column
from pycombat_gam.words import in_one, listing

if TYPE_CHECKING:  # Python 3.10 has no typing.Self
    from typing_extensions import Self

AFTER_FIT = ("level", "per_class", "sites", "guarantee")
"""Arguments that may change after the fit: they choose among sets that it can make."""


class Predictor(Parametrized):
    r"""Predict an outcome at sites that were never seen, by sets that hold the truth as often as they say.

    Every site is left out in turn: harmonizer and estimator are fitted to the others, and the site's rows are
    harmonized as a new site, without outcomes. The scores of strangeness there calibrate the sets of new sites. A
    guaranteed set holds every outcome that one of the K models without a site finds normal enough:

        C(x) = {y : min_k s(x, y; f₋ₖ) ≤ q},    q = inf{q : Σ_k n_k⁻¹ Σ_i 1{s_ki ≤ q} ≥ level (K + 1)}

    with s = 1 − p_y or |y − m|. It holds the truth at a new site at least as often as `level` says, on average over
    sites, if sites are exchangeable. K sites can guarantee K/(K + 1) at most.

    Parameters
    ----------
    formula : str
        Outcome and covariates that predict it, such as ``"dx ~ age + sex"``; ``"dx ~ 1"`` for features alone. Text,
        categories, logicals, ``factor(x)`` and columns of 0 and 1 are classes, other columns numbers;
        ``Surv(time, event)`` is a time, and needs `horizons`.
    batch : str
        Column of site labels.
    id : str or list of str, optional
        Column or columns that identify rows.
    features : list of str or str, optional
        Columns that predict besides the formula's: names, or a regular expression searched in column names; ``[]`` for
        none. By default all numeric columns that have no other part.
    harmonizer : ComBat or FlowSCM, optional
        Unfitted; fitted anew in every fold, without outcomes. Harmonizing trades robustness to scanners for robustness
        to prevalence; `validation` shows raw features beside it.
    estimator : estimator of scikit-learn, optional
        It sees columns of numbers, covariates first, and classes as codes. By default ridge logistic regression, or
        ridge, of standardized columns, with the penalty under which sites left out lose least.
    level : float
        How often sets hold the truth.
    per_class : bool
        Calibrate each class by itself, so that the level holds whichever class is the true one.
    sites : float, optional
        Share of new sites at which the level shall hold; by default it holds on average over new sites.
    guarantee : bool
        Guaranteed sets (True), or estimated ones: narrower, and right on average only if the model is.
    case : str, optional
        Column of cases: several rows, such as images of one patient, get one answer, the mean over the rows. Each case
        counts once in training, whatever its number of rows; answers rank all classes.
    taxonomy : Taxonomy or mapping, optional
        The parent of each class and group; answers are nodes of the tree. `Taxonomy` puts rare classes together.
    horizons : tuple of float, optional
        Times at which ``Surv(time, event)`` asks for risks.
    seed : int
        Of the bags in which few rows are harmonized.

    Raises
    ------
    PcgError
        From `fit` and `predict`: a subclass that says what was given, what is allowed and how to fix it.

    Notes
    -----
    Threshold: Lee, Barber & Willett 2023; Dunn, Wasserman & Ramdas 2023; Duchi, Gupta, Jiang & Sur 2024. With one row
    at each site a guaranteed set is the jackknife-minmax of Barber, Candès, Ramdas & Tibshirani 2021.

    Examples
    --------
    >>> import pycombat_gam as pcg
    >>> table = pcg.datasets.load_multisite()
    >>> model = pcg.Predictor("sex ~ age", batch="site", id="subject", features="_thickness$", level=0.8)
    >>> answers = model.fit(table[table["site"] != "Cork"]).predict(table[table["site"] == "Cork"])
    >>> answers.columns.tolist()
    ['p_F', 'p_M', 'set', 'size', 'answer', 'calibration']
    """

    def __init__(
        self,
        formula: str,
        batch: str = "batch",
        *,
        id: str | list[str] | tuple[str, ...] | None = None,
        features: FeatureChoice = None,
        harmonizer: Harmonizer | None = None,
        estimator: Any = None,
        level: float = 0.9,
        per_class: bool = True,
        sites: float | None = None,
        guarantee: bool = True,
        case: str | None = None,
        taxonomy: Any = None,
        horizons: tuple[float, ...] | None = None,
        seed: int = 0,
    ) -> None:
        self.formula = formula
        self.batch = batch
        self.id = id
        self.features = features
        self.harmonizer = harmonizer
        self.estimator = estimator
        self.level = level
        self.per_class = per_class
        self.sites = sites
        self.guarantee = guarantee
        self.case = case
        self.taxonomy = taxonomy
        self.horizons = horizons
        self.seed = seed

    def fit(self, table: pd.DataFrame, y: object = None) -> Self:
        """Fit to all sites, without each site, and without each pair of sites.

        Parameters
        ----------
        table : DataFrame
            Wide: outcome, sites, covariates and features.
        y : object
            Scikit-learn's, and ignored: the outcome is a column of the table.
        """
        fitted = fit_predictor(self.get_params(), table)
        self._fitted = fitted
        self._fitted_params = self._settled()
        self.__dict__.pop("_validation", None)
        scores = self._scores
        messages = list(fitted.notes)
        if scores is not None:
            messages += impossible(fitted, self._demand, scores)
        if messages:
            warnings.warn(in_one(messages), PcgWarning, stacklevel=2)
        return self

    def predict(self, new: pd.DataFrame, labelled: pd.DataFrame | None = None) -> pd.DataFrame:
        """Predict new rows: of new sites, or further rows of sites of the fit.

        Parameters
        ----------
        new : DataFrame
            Columns as in the fit; the outcome is not looked at. Rows of one site are harmonized together.
        labelled : DataFrame, optional
            Rows with outcomes at sites of the new rows, which then calibrate the sets there.

        Returns
        -------
        DataFrame
            With the index of `new`, or one row for each case. Classes: ``p_<class>``, ``set`` (a tuple), ``size`` and
            ``answer``, the class where the set is one, else ``"undecided"``; cases have ``ranked``, the classes in
            order. Taxonomies: ``p_<node>`` down to the partition, NaN where a model does not split so far, ``node``,
            and in ``set`` the classes below it; ``answer`` is the node, ``"undecided"`` if it holds all. Numbers:
            ``fit``, ``lower``, ``upper``. Times: ``risk_<horizon>``. ``calibration`` says what calibrated the set:
            ``"all sites"``, with a harmonizer inside also ``"all sites, bags of <rows>"``; ``"own rows"`` of a site of
            the fit; ``"labelled rows"``.
        """
        fitted = self.fitted
        rows, _ = fitted.layout.read(new, fitted.levels)
        scores = self._scores
        if scores is None:
            if labelled is not None:
                raise OptionError("labelled rows calibrate sets, and risks have none: leave them out")
            if few := fitted.few_rows(rows):
                warnings.warn(in_one(few), PcgWarning, stacklevel=2)
            return fitted.risks(rows)
        known = None if labelled is None else self._labelled(labelled, rows, new)
        answers = answer(fitted, self._demand, scores, rows, known, int(self.seed))
        notes = list(answers.notes)
        if answers.new:
            notes += impossible(fitted, self._demand, scores)
        if notes:
            warnings.warn(in_one(notes), PcgWarning, stacklevel=2)
        return answers.table

    def _labelled(self, labelled: pd.DataFrame, new: Rows, table: pd.DataFrame) -> Labelled:
        fitted = self.fitted
        rows, _ = fitted.layout.read(labelled, fitted.levels)
        asked = {new.labels[code] for code in new.codes}
        if again := _shared(fitted.layout, new, rows, table, labelled):
            raise DataError(
                f"labelled has {listing(again, 5)}, asked about as well: a row cannot calibrate its own set; leave it "
                "out of one of them"
            )
        if others := [label for label in dict.fromkeys(rows.labels[code] for code in rows.codes) if label not in asked]:
            raise DataError(f"labelled has rows of {listing(others)}, where no new row is: leave them out")
        check_outcomes(fitted.layout.question, labelled, "labelled rows have")
        y = read_outcome(fitted.outcome, fitted.layout.question, labelled)
        return Labelled(rows, outcome_of_units(rows, y, fitted.layout.case))

    @property
    def validation(self) -> Validation:
        """How it predicts sites that were left out, as tidy tables; printed, a summary with the guarantee first."""
        fitted, demand = self.fitted, self._demand
        key = (demand, self.per_class)
        kept = self.__dict__.get("_validation")
        if kept is None or kept[0] != key:
            kept = (key, Validation(fitted, demand, self._scores))
            self._validation = kept
        validation: Validation = kept[1]
        return validation

    @property
    def fitted(self) -> FittedPredictor:
        """What the fit left.

        Raises
        ------
        NotFittedError
            Before `fit`, and where an argument that matters was changed after it.
        """
        fitted: FittedPredictor | None = getattr(self, "_fitted", None)
        if fitted is None:
            raise NotFittedError("this Predictor is not fitted yet: call fit first")
        changed = [name for name, value in self._settled().items() if _differs(value, self._fitted_params[name])]
        if changed:
            raise NotFittedError(f"{listing(changed)} changed after the fit: call fit again (or set it back)")
        return fitted

    def save(self, path: str | Path) -> None:
        """Write the fitted model to a `.pcg` file: JSON and arrays, hashed; `pycombat_gam.load` reads it back.

        The file holds every model, and the outcome, id and predictions of every training row; no features.

        Raises
        ------
        ModelFileError
            For an estimator of scikit-learn: a file holds plain data, never a pickle.
        """
        write_container(Path(path), proven(self))

    def to_container(self) -> Container:
        """Return the fitted model as plain data."""
        return saved.to_container(self.fitted, self.get_params())

    @classmethod
    def from_container(cls, container: Container) -> Self:
        """Rebuild a saved model; see `pycombat_gam.load`."""
        params, fitted = saved.from_container(container)
        model = cls(**params)
        model._fitted = fitted
        model._fitted_params = model._settled()
        return model

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_fitted")

    @property
    def _demand(self) -> Demand:
        return check_demand(self.get_params())

    @property
    def _scores(self) -> Scores | None:
        return self.fitted.scores(per_class=self.per_class)

    def _settled(self) -> dict[str, Any]:
        inside = None if self.harmonizer is None else repr(self.harmonizer.get_params())
        params = {name: value for name, value in self.get_params().items() if name not in AFTER_FIT}
        return {**params, "arguments of the harmonizer": inside}


def _shared(layout: Layout, new: Rows, labelled: Rows, table: pd.DataFrame, known: pd.DataFrame) -> list[str]:
    """Return the cases, or ids, that are in both tables; rows without either cannot be told apart."""
    if layout.case is not None:
        theirs = set(labelled.index)
        return [str(case) for case in new.index if case in theirs]
    if not layout.ids:
        return []
    ids, others = (
        list(zip(*(find_column(frame, name, "id").astype(str) for name in layout.ids), strict=True))
        for frame in (table, known)
    )
    both = set(others)
    return ["/".join(row) for row in ids if row in both]


def _differs(now: object, then: object) -> bool:
    if isinstance(now, str | int | float | tuple | list | np.ndarray):
        return repr(now) != repr(then)
    return now is not then
