"""What a report is about: a fitted model and its table before and after, as wide tables."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.batch.levels import canonical
from pycombat_gam.errors import OptionError, PcgWarning
from pycombat_gam.formula import parse_formula
from pycombat_gam.formula.roles import factor_columns
from pycombat_gam.report.kept import fixed_covariates
from pycombat_gam.study.agreement import agree
from pycombat_gam.study.harmonizer import Harmonizer, is_harmonizer
from pycombat_gam.study.origin import Origin
from pycombat_gam.study.rows import check_same_rows
from pycombat_gam.tables.arguments import names
from pycombat_gam.tables.intake import Intake, intake, intake_notes


@dataclass(frozen=True, eq=False)
class Study:
    """A fitted model and the rows it is reported on.

    Attributes
    ----------
    model : fitted.
    before, after : wide tables, features beside covariates, rows alike.
    features : names, in the order of the fit; batch : the column of sites; sites : how many.
    to : the site that `after` was taken to by `transform(…, to=…)`; None for none, or the average over sites.
    origin : how the rows relate to those of the fit.
    notes : what is odd about the rows, and what the model said while it harmonized them.
    """

    model: Harmonizer
    before: pd.DataFrame
    after: pd.DataFrame
    features: tuple[str, ...]
    batch: str
    sites: int
    to: str | None
    origin: Origin
    notes: tuple[str, ...]

    @property
    def numeric_covariates(self) -> list[str]:
        """Fixed covariates of the formula that are numbers of more than two values, in its order."""
        formula = parse_formula(self.model.formula)
        numeric_names, factors = [], factor_columns(formula)
        for name in fixed_covariates(formula):
            column = self.before[name]
            numeric = pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)
            if numeric and name not in factors and column.nunique() > 2:
                numeric_names.append(name)
        return numeric_names

    @classmethod
    def of(
        cls,
        model: Harmonizer,
        before: Any,
        after: Any,
        covariates: pd.DataFrame | None,
        fit_mask: object = None,
    ) -> Study:
        """Read the tables, and find how the harmonized one was made.

        Raises
        ------
        OptionError, DataError
            For something that is no fitted harmonizer, and tables whose rows differ.
        """
        if not is_harmonizer(model):
            raise OptionError(f"report takes a fitted ComBat or FlowSCM; given: a {type(model).__name__}")
        features = tuple(model.get_feature_names_out().tolist())
        taken = _intake(model, before, covariates, features)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", PcgWarning)
            made = _harmonized(model, before, covariates, features)
        messages = intake_notes(taken, model.features)
        messages += [str(warning.message) for warning in caught if issubclass(warning.category, PcgWarning)]
        then = made if after is None else _beside(model, after, before, covariates, features)
        labelled = taken.frame is not None and then.frame is not None
        check_same_rows(taken.covariates, then.covariates, names(model.id, "id"), labelled=labelled)
        to, notes = _default_target(model), []
        if not agree(made.Y, then.Y):
            to = _target(model, before, covariates, taken, then)
            if to is None:
                notes.append(
                    "the harmonized table given is not this model's transform of the rows before: the report describes "
                    "the table given, and the model beside it"
                )
        wide = _wide(taken, taken.Y, model.batch)
        origin = Origin.of(model, wide, before, covariates, fit_mask)
        return cls(
            model=model,
            before=wide,
            after=_wide(taken, then.Y, model.batch),
            features=features,
            batch=model.batch,
            sites=int(wide[model.batch].nunique()),
            to=to,
            origin=origin,
            notes=(*origin.notes, *notes, *dict.fromkeys(messages)),
        )


def _intake(model: Harmonizer, X: Any, covariates: pd.DataFrame | None, features: tuple[str, ...]) -> Intake:
    reserved = (model.batch, *names(model.id, "id"), *parse_formula(model.formula).variables)
    return intake(X, covariates, reserved=reserved, choice=None, fitted=features)


def _beside(
    model: Harmonizer, after: Any, before: Any, covariates: pd.DataFrame | None, features: tuple[str, ...]
) -> Intake:
    """Take in a harmonized table; features alone (``output="features"``) stand beside the covariates of `before`."""
    alone = covariates is None and isinstance(after, pd.DataFrame) and model.batch not in after.columns
    return _intake(model, after, before if alone else covariates, features)


def _harmonized(
    model: Harmonizer, before: Any, covariates: pd.DataFrame | None, features: tuple[str, ...], **to: str
) -> Intake:
    return _beside(model, model.transform(before, covariates, **to), before, covariates, features)


def _wide(taken: Intake, Y: np.ndarray, batch: str) -> pd.DataFrame:
    """Put covariates and features side by side."""
    others = taken.covariates[[name for name in taken.covariates.columns if str(name) not in set(taken.features)]]
    features = pd.DataFrame(np.asarray(Y, dtype=np.float64), index=others.index, columns=list(taken.features))
    return pd.concat([others.rename(columns=str), features], axis=1)


def _default_target(model: Harmonizer) -> str | None:
    return None if not model.targets or model.ref_batch is None else canonical(model.ref_batch)


def _target(model: Harmonizer, before: Any, covariates: pd.DataFrame | None, taken: Intake, then: Intake) -> str | None:
    """Find the site that a model took the rows to by `to`: its own rows are as they were."""
    for site in model.targets:
        at_site = taken.covariates[model.batch].astype(str) == site
        if at_site.any() and agree(taken.Y[at_site.to_numpy()], then.Y[at_site.to_numpy()]):
            made = _harmonized(model, before, covariates, taken.features, to=site)
            if agree(made.Y, then.Y):
                return site
    return None
