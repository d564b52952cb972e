"""The input of pictures: tables before and after, and models of the right kind, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import pandas as pd

from pycombat_gam.batch.levels import BatchLevels
from pycombat_gam.combat.fitted import FittedComBat
from pycombat_gam.errors import DataError, OptionError
from pycombat_gam.formula import Formula
from pycombat_gam.formula.roles import factor_columns
from pycombat_gam.study.harmonizer import Harmonizer, is_harmonizer
from pycombat_gam.study.rows import check_same_rows
from pycombat_gam.study.states import AFTER, BEFORE
from pycombat_gam.tables.cells import check_cells, suspicious_features
from pycombat_gam.tables.intake import find_column
from pycombat_gam.tables.remedies import into_pandas, kind_of
from pycombat_gam.types import FloatArray, IntArray
from pycombat_gam.words import did_you_mean, listing

if TYPE_CHECKING:
    from pycombat_gam.flow.estimator import FlowSCM

EFFECTS = ("location", "scale")


class LocationScale(Harmonizer, Protocol):
    """A harmonizer of location and scale: its fit has site effects, before and after shrinkage, and priors."""

    eb: bool
    prior: str
    mean_only: bool

    @property
    def fitted(self) -> FittedComBat:
        """The fitted quantities."""


def location_scale(model: object, picture: str, what: str = "") -> LocationScale:
    """Return a fitted ComBat; refuse any other model."""
    if not (is_harmonizer(model) and model.kind == "combat"):
        raise OptionError(f"{what or picture} needs a fitted ComBat; given: {kind_of(model)}")
    return cast(LocationScale, model)


def combat_of(model: object, picture: str, what: str = "") -> FittedComBat:
    """Return the fitted quantities of a ComBat; refuse any other model."""
    return location_scale(model, picture, what).fitted


def flow_of(model: object, picture: str) -> FlowSCM:
    """Return a fitted FlowSCM; refuse any other model."""
    if not (is_harmonizer(model) and model.kind == "flow"):
        raise OptionError(f"{picture} needs a fitted FlowSCM; given: {kind_of(model)}")
    flow = cast("FlowSCM", model)
    _ = flow.fitted
    return flow


def check_effect(effect: str) -> None:
    """Check the name of an effect."""
    if effect not in EFFECTS:
        raise OptionError(f"effect={effect!r}: allowed are 'location' and 'scale'{did_you_mean(str(effect), EFFECTS)}")


def check_frame(table: object, name: str) -> pd.DataFrame:
    """Check that a table is a DataFrame with rows and distinct columns."""
    if not isinstance(table, pd.DataFrame):
        raise DataError(f"{name} is {kind_of(table)}: give {into_pandas(table, name) or 'a DataFrame'}")
    names = pd.Index(table.columns.map(str))
    if names.has_duplicates:
        raise DataError(f"{name} has duplicated columns: {listing(names[names.duplicated()].unique())}; rename them")
    if not len(table):
        raise DataError(f"{name} has no rows")
    return table


def states(before: object, after: object) -> dict[str, pd.DataFrame]:
    """Return the tables by state, after a check that they have the same rows."""
    tables = {BEFORE: check_frame(before, BEFORE)}
    if after is not None:
        tables[AFTER] = check_frame(after, AFTER)
        check_same_rows(tables[BEFORE], tables[AFTER])
    return tables


def sites_of(table: pd.DataFrame, batch: str) -> tuple[tuple[str, ...], IntArray]:
    """Return the sites' labels in order, and the rows' codes."""
    column = find_column(table, batch, "batch")
    levels = BatchLevels.learn(column, batch)
    return levels.labels, levels.codes(column)[0]


def places_of(labels: tuple[str, ...], model: Harmonizer | None = None) -> list[int]:
    """Return each label's place among a model's sites, new labels last; without a model, among the labels."""
    known = () if model is None else model.sites
    order = [*known, *(label for label in labels if label not in known)]
    return [order.index(label) for label in labels]


def numbers(table: pd.DataFrame, feature: str) -> FloatArray:
    """Return a feature's values, missing ones as NaN."""
    column = find_column(table, feature, "feature")
    if not pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_complex_dtype(column.dtype):
        raise DataError(f"feature column '{feature}' is {column.dtype}: it must hold numbers")
    values: FloatArray = column.to_numpy(dtype=np.float64, na_value=np.nan)
    matrix = values[:, None]
    check_cells(matrix, suspicious_features(matrix), [feature], omit_missing=True)
    if np.isnan(values).all():
        raise DataError(f"feature column '{feature}' has no values: all cells are missing")
    return values


def factors_of(formula: Formula, table: pd.DataFrame) -> set[str]:
    """Return the formula's columns that hold levels rather than numbers."""
    forced = set(factor_columns(formula))
    factors = set()
    for name in formula.variables:
        dtype: Any = find_column(table, name, "formula").dtype
        if name in forced or not pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype):
            factors.add(name)
    return factors


def feature_index(fitted: FittedComBat, feature: str) -> int:
    """Return a feature's position in a fit."""
    if feature not in fitted.features:
        raise OptionError(
            f"there is no feature '{feature}' in the fit, which has: {listing(fitted.features)}"
            f"{did_you_mean(str(feature), fitted.features)}"
        )
    return fitted.features.index(feature)
