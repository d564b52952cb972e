"""`diagnose`: was there a site effect, is it gone, and is the biology still there?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.diagnose.adjusted import Adjusted, adjusted
from pycombat_gam.diagnose.association import association_rows, associations
from pycombat_gam.diagnose.change import changes
from pycombat_gam.diagnose.classify import coordinates
from pycombat_gam.diagnose.diagnosis import Diagnosis
from pycombat_gam.diagnose.held_out import as_given, by_fold, by_site
from pycombat_gam.diagnose.leave_site_out import covariate_prediction
from pycombat_gam.diagnose.location import anova, kruskal
from pycombat_gam.diagnose.rows import false_discovery, tidy
from pycombat_gam.diagnose.scale import scale_tests
from pycombat_gam.diagnose.shrinkage import shrinkage
from pycombat_gam.diagnose.site_prediction import Folds, site_prediction
from pycombat_gam.diagnose.study import Study
from pycombat_gam.diagnose.together import permutation_tests
from pycombat_gam.errors import NotFittedError, OptionError, PcgError
from pycombat_gam.formula.roles import random_groups
from pycombat_gam.progress import progress_bar
from pycombat_gam.study.harmonizer import Harmonizer, is_harmonizer
from pycombat_gam.study.states import BEFORE, HELD_OUT
from pycombat_gam.study.units import grouping_columns, units_of
from pycombat_gam.tables.intake import FeatureChoice
from pycombat_gam.types import BoolArray, FloatArray, IntArray
from pycombat_gam.words import count, listing

MOST_ROWS = 2000
"""Most rows used in permutations and predictions: their cost grows with the square of the rows."""
FOLDS = 5

Parts = list[dict[str, np.ndarray]]


def diagnose(
    before: pd.DataFrame | np.ndarray,
    after: pd.DataFrame | np.ndarray | None = None,
    *,
    model: Harmonizer | None = None,
    formula: str | None = None,
    batch: str | None = None,
    features: FeatureChoice = None,
    id: str | list[str] | tuple[str, ...] | None = None,
    covariates: pd.DataFrame | None = None,
    held_out: bool | None = None,
    fit_mask: object = None,
    permutations: int = 999,
    level: float = 0.05,
    seed: int = 0,
) -> Diagnosis:
    """Test for site effects and for the biology, before and after harmonization.

    Sites are compared at equal covariates throughout: differences that the formula explains are not attributed to
    sites.

    Parameters
    ----------
    before : DataFrame or ndarray
        The measured values: one wide DataFrame, or features only (n×V) with `covariates` beside them.
    after : DataFrame, ndarray or None
        The same rows, harmonized. None looks for site effects only.
    model : ComBat, FlowSCM or None
        The fitted model that harmonized them. It supplies formula, batch, features and id, adds the sites' shrinkage,
        and is refitted for what is "held out".
    formula, batch, features, id
        As in `ComBat`, where there is no model. By default formula is ``"~ 1"`` and batch is ``"batch"``.
    covariates : DataFrame or None
        Batch, id and formula columns, when `before` and `after` hold features only.
    held_out : bool or None
        Also predict sites and covariates in rows that the model did not see. This needs `model`, and refits it for each
        of 5 folds and each site. None: yes for ComBat, no for a flow.
    fit_mask : array of bool, shape (n,), or None
        The rows that the model was fitted to, if not all; held-out fits use these rows too.
    permutations : int
        Random permutations of the rows for the null distribution of the tests on all features together.
    level : float
        Significance level after adjustment for the number of tests; intervals have coverage 1 − level.
    seed : int
        Seed of permutations, folds and resampling.

    Returns
    -------
    Diagnosis

    Raises
    ------
    DataError
        If the tables don't hold the same rows, a column is missing, or a cell is infinite.
    DesignError
        If covariates are confounded with sites.
    OptionError
        If arguments exclude each other.

    Notes
    -----
    Location: analysis of variance with the formula's terms, Kruskal-Wallis. Scale: Levene (Brown-Forsythe) and
    Fligner-Killeen. All features together: covariance, energy distance, MMD, with permutations. Site prediction:
    logistic regression and a support vector machine with a Gaussian kernel, cross-validated. Biology: every term in
    every feature, what harmonization changes of the effects, and each covariate predicted leaving a site out. The
    modules of `pycombat_gam.diagnose` have the equations and sources.

    Location and scale *after* harmonization are tested on the rows that estimated the site effects: without shrinkage
    the sites' locations agree by construction. "Held out" shows what the harmonization does to other rows; with
    empirical Bayes, site prediction sits a little below chance there, for ComBat shrinks too little.

    Associations are tested as `ComBat.test` does. Where a ComBat harmonized, "after" is the test before: least squares
    of the harmonized table under its true covariance gives it. Only the effect's size, the partial R², is each table's
    own. "Effect change" compares what a later model without site finds in the harmonized table with the effects before.

    Examples
    --------
    >>> import pycombat_gam as pcg
    >>> table = pcg.datasets.load_multisite()
    >>> model = pcg.ComBat("~ age + sex + dx", batch="site", id="subject", features="_thickness$").fit(table)
    >>> diagnosis = pcg.diagnose(table, model.transform(table), model=model, held_out=False, permutations=99)
    >>> diagnosis.summary.loc[0, ["before", "after"]].astype(float).round(2).to_list()
    [1.0, 0.0]
    """
    from threadpoolctl import threadpool_limits

    chosen = _choices(model, formula, batch, features, id)
    _check(permutations, level, seed, held_out, model)
    study = Study.of(before, after, **chosen, covariates=covariates)
    # The computations are small: threads would wait for each other longer than they compute.
    with threadpool_limits(limits=1):
        return _diagnosed(study, model, held_out, fit_mask, permutations=permutations, level=level, seed=seed)


def _diagnosed(
    study: Study,
    model: Harmonizer | None,
    held_out: bool | None,
    fit_mask: object,
    *,
    permutations: int,
    level: float,
    seed: int,
) -> Diagnosis:
    """Run all tests and predictions of a study."""
    notes: list[str] = []
    parts: Parts = []
    whole, flat = np.ones(len(study.features), dtype=bool), np.zeros(len(study.features), dtype=bool)
    fits = {state: _tracked(study, Y, state) for state, Y in study.states.items()}
    for state, Y in study.states.items():
        whole &= ~np.isnan(Y).any(axis=0)
        for part in fits[state]:
            names = np.array(study.features, dtype=object)[part.features]
            parts += [anova(part, names, state), *kruskal(part, names, state), *scale_tests(part, names, state)]
            flat[part.features] |= ~part.modelled
            if state == BEFORE:
                notes += _notes(study, part, names)
    tests = associations(study, fits, model)
    parts += [*association_rows(study, fits, tests), *changes(study, fits, tests, level)]
    notes += _untested(parts, flat, study.features)
    notes += _random_notes(study)
    some, columns = _complete(study, whole, ~flat, notes)
    if columns.size:
        some = _sample(some, seed, notes)
        mask = _mask(fit_mask, study, some)
        wanted = held_out if held_out is not None else model is not None and model.cheap_to_refit
        again = model if wanted else None
        if again is not None and mask is None and _fitted_to_part(again):
            again = None
            notes.append("the model was fitted to some of the rows only: give fit_mask to hold rows out of its fit")
        parts += permutation_tests(some, columns, permutations=permutations, seed=seed)
        parts += _predictions(some, columns, again, mask, notes, level=level, seed=seed)
    if model is not None and (estimates := model.site_estimates) is not None:
        parts += shrinkage(estimates, _sizes(study, estimates.gamma_hat.index.to_list()))
    return Diagnosis(
        false_discovery(tidy(parts, study.features)), level, permutations, seed, tuple(dict.fromkeys(notes))
    )


def _choices(
    model: Harmonizer | None, formula: str | None, batch: str | None, features: FeatureChoice, id: Any
) -> dict[str, Any]:
    if model is None:
        return {"formula": formula or "~ 1", "batch": batch or "batch", "features": features, "id": id}
    arguments = {"formula": formula, "batch": batch, "features": features, "id": id}
    twice = [name for name, value in arguments.items() if value is not None]
    if twice:
        raise OptionError(f"model already gives {listing(twice)}: leave out the model or these arguments")
    if not is_harmonizer(model):
        raise OptionError(f"model is a {type(model).__name__}: give a fitted ComBat or FlowSCM, or None")
    if not model.__sklearn_is_fitted__():
        raise NotFittedError("the model is not fitted: fit it first, or give formula and batch instead")
    names = model.get_feature_names_out().tolist()
    return {"formula": model.formula, "batch": model.batch, "features": names, "id": model.id}


def _check(permutations: int, level: float, seed: int, held_out: bool | None, model: object) -> None:
    if isinstance(permutations, bool) or not isinstance(permutations, int | np.integer) or permutations < 19:
        raise OptionError(f"permutations={permutations!r}: give a whole number from 19 on, such as 999")
    if not 0 < level < 1:
        raise OptionError(f"level={level!r}: give a number between 0 and 1, such as 0.05")
    if (1 + permutations) * level < 1:
        raise OptionError(
            f"permutations={permutations}: the smallest possible p-value is {1 / (1 + permutations):.3g}, above "
            f"level={level:g}; give at least {math.ceil(1 / level) - 1}"
        )
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise OptionError(f"seed={seed!r}: give a whole number from 0 on")
    if held_out and model is None:
        raise OptionError("held_out=True refits the model: give it with model=…")


def _tracked(study: Study, Y: FloatArray, state: str) -> list[Adjusted]:
    """Fit all patterns of missing cells, with a progress bar."""
    done = []
    with progress_bar(f"fitting covariates and sites {state}", Y.shape[1]) as advance:
        for part in adjusted(study, Y):
            done.append(part)
            advance(part.features.size)
    return done


def _notes(study: Study, part: Adjusted, names: np.ndarray) -> list[str]:
    notes = []
    flat = names[~part.modelled].tolist()
    if flat:
        notes.append(f"no variance beyond rounding, not tested: {listing(flat)}")
    single = [study.sites[b] for b in part.sites[part.sizes == 1]]
    if single:
        where = "" if part.rows.size == study.codes.size else f" for {listing(names, 3)}"
        notes.append(
            f"sites of one row have no scale and were left out of the tests of scale{where}: {listing(single)}"
        )
    return notes


def _untested(parts: Parts, flat: BoolArray, features: tuple[str, ...]) -> list[str]:
    """Name the tests that gave no p-value for a feature with variance."""
    noted = set(np.array(features, dtype=object)[flat])
    without: dict[str, dict[str, None]] = {}
    for part in parts:
        for k in np.flatnonzero(np.isnan(part["p"])):
            # A row of all features together, such as a change of effects, is no test of one.
            if part["feature"][k] not in {*noted, ""}:
                what = part["covariate"][k] or part["measure"][k]
                without.setdefault(f"{what} {part['state'][k]}", {})[str(part["feature"][k])] = None
    return [f"no p-value for {what}, in {listing(names, 5)}" for what, names in without.items()]


def _random_notes(study: Study) -> list[str]:
    """Say how random effects enter the tests, or that they are missing."""
    notes = []
    groups = [grouping_columns(study.formula, study.table, columns) for columns in random_groups(study.formula)]
    others = [":".join(columns) for columns in dict.fromkeys(groups) if columns and columns not in study.linking]
    if others:
        notes.append(
            f"{listing(others)}: rows, not these groups, count as independent. The groups hold many rows of several "
            "sites or all rows of a site; their effects were removed with those of the covariates"
        )
    if study.groups is None:
        first = study.ids[0] if study.ids else None
        if first is not None and (twice := int(study.table[first].astype(str).duplicated(keep=False).sum())):
            notes.append(
                f"'{first}' repeats in {count(twice, 'row')} and the formula has no random effect of it. All tests "
                f"assume independent rows, so their p-values are too small: add (1|{first})"
            )
        return notes
    named = listing([":".join(columns) for columns in study.linking])
    if units_of(study.codes, study.groups) is None:
        notes.append(
            f"{named} has rows at several sites. Tests of ranks and scales, permutations and site prediction need "
            "groups within one site, and were left out"
        )
    else:
        notes.append(f"ranks, scales, permutations and site prediction use the means of {named}, not rows")
    return notes


def _complete(study: Study, whole: BoolArray, varies: BoolArray, notes: list[str]) -> tuple[Study, IntArray]:
    """Choose the complete cells for permutations and predictions: complete features, or complete rows.

    The choice is whichever keeps more cells; rows are dropped only if every site keeps some.
    """
    columns = np.flatnonzero(whole & varies)
    if whole.all():
        return study, columns
    every = np.flatnonzero(varies)
    rows = ~np.any([np.isnan(Y[:, every]).any(axis=1) for Y in study.states.values()], axis=0)
    keeps = np.unique(study.codes[rows]).size == len(study.sites)
    if keeps and rows.sum() * every.size > rows.size * columns.size:
        notes.append(
            f"permutations and predictions used the {rows.sum():,} of {count(rows.size, 'row')} without missing cells"
        )
        return study.part(rows, np.arange(len(study.features))), every
    left = np.array(study.features, dtype=object)[~whole].tolist()
    notes.append(
        f"permutations and predictions left out {count(len(left), 'feature')} of {len(study.features):,}, with missing "
        f"cells: {listing(left)}"
    )
    return study, columns


def _sample(study: Study, seed: int, notes: list[str]) -> Study:
    """Draw rows at random, each site by its share, if permutations and predictions would get too many."""
    n = study.codes.size
    if n <= MOST_ROWS:
        return study
    rng = np.random.default_rng(seed)
    groups = np.arange(n) if study.groups is None else study.groups
    chosen = np.zeros(n, dtype=bool)
    for b in range(len(study.sites)):
        of_site = np.unique(groups[study.codes == b])
        take = min(of_site.size, max(FOLDS, round(MOST_ROWS * of_site.size / n)))
        chosen |= (study.codes == b) & np.isin(groups, rng.permutation(of_site)[:take])
    notes.append(
        f"permutations and predictions used {chosen.sum():,} of {n:,} rows, drawn at random in proportion from each "
        "site"
    )
    return study.part(chosen, np.arange(len(study.features)))


def _mask(fit_mask: object, study: Study, some: Study) -> BoolArray | None:
    """Return which of the chosen rows estimate."""
    if fit_mask is None:
        return None
    mask = np.asarray(fit_mask)
    if mask.dtype != np.bool_ or mask.shape != (study.codes.size,):
        raise OptionError(f"fit_mask must hold {study.codes.size:,} booleans, one for each row")
    return np.asarray(mask[some.order])


def _fitted_to_part(model: Harmonizer) -> bool:
    """Tell whether the model was fitted to some of its rows only."""
    profile = model.profile
    return bool(profile["rows"] != profile["rows_given"])


def _predictions(
    study: Study,
    columns: IntArray,
    model: Harmonizer | None,
    mask: BoolArray | None,
    notes: list[str],
    *,
    level: float,
    seed: int,
) -> Parts:
    parts: Parts = []
    some = study.part(slice(None), columns)
    units = units_of(study.codes, study.groups)
    folds = None if units is None else Folds.of(units, FOLDS, seed)
    if folds is not None and (small := folds.left_out(study.sites)):
        notes.append(f"sites with fewer than {FOLDS} rows were not predicted: {listing(small)}")
    several = len(study.sites) > 2 and bool(study.covariates)
    for state, Y in some.states.items():
        if folds is not None:
            try:
                parts += site_prediction(folds, as_given(some, Y, folds), state, level=level)
            except PcgError as error:
                notes.append(f"sites were not predicted {state} harmonization: without the rows of a fold, {error}")
        if several:
            alike = dict.fromkeys(study.covariates, [coordinates(Y)] * len(study.sites))
            rows = covariate_prediction(some, alike.__getitem__, state, level=level, seed=seed)
            parts += rows
            predicted = {str(row["covariate"][0]) for row in rows}
            if left := [name for name in study.covariates if name not in predicted]:
                notes.append(
                    f"not predicted {state} harmonization: {listing(left)}; a site left out, or the others, hold one "
                    "group only"
                )
    if len(study.sites) == 2 and study.covariates:
        notes.append("covariates were not predicted at left-out sites: two sites are too few")
    if model is None:
        return parts
    if folds is not None:
        try:
            parts += site_prediction(folds, by_fold(study, model, folds, columns, mask), HELD_OUT, level=level)
        except PcgError as error:
            notes.append(f"sites were not predicted with rows held out: without some rows, {error}")
    if several:

        def unknown(name: str) -> list[FloatArray]:
            return [coordinates(values) for values in by_site(study, model, columns, name, mask)]

        try:
            parts += covariate_prediction(some, unknown, HELD_OUT, level=level, seed=seed)
        except PcgError as error:
            notes.append(f"covariates were not predicted with sites held out: without some site, {error}")
    return parts


def _sizes(study: Study, labels: list[str]) -> np.ndarray:
    counts = dict(zip(study.sites, np.bincount(study.codes, minlength=len(study.sites)), strict=True))
    return np.array([counts.get(label, 0) for label in labels], dtype=np.float64)
