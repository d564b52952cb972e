"""Laws of tests after harmonization: what has to hold whatever the table."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from helpers.unequal_sites import UnequalSites, unequal_sites

import pycombat_gam as pcg
from pycombat_gam.infer.effects import COLUMNS
from pycombat_gam.infer.engine import Engine
from pycombat_gam.mean.fit import Group
from pycombat_gam.penalized.sufficient import accumulate, factor_design, merge

FORMULA = "~ age + sex + dx"
ROUNDING = 1e-9
"""p-values come from sums of a hundred numbers; summed in another order they move by some 1e-13 of themselves."""
NUMBERS = [name for name in COLUMNS if name not in ("feature", "term")]


def fitted(study: UnequalSites, formula: str = FORMULA, **options: object) -> pcg.ComBat:
    return pcg.ComBat(formula, batch="site", features=study.features, **options).fit(study.table)  # type: ignore[arg-type]


def same(ours: pcg.Effects, theirs: pcg.Effects, rtol: float = ROUNDING, columns: list[str] = NUMBERS) -> None:
    ours_table, theirs_table = (e.table.set_index(["term", "feature"])[columns] for e in (ours, theirs))
    # An estimate of nearly zero has an absolute error, of the order of its standard error times rounding.
    pd.testing.assert_frame_equal(ours_table, theirs_table.loc[ours_table.index], rtol=rtol, atol=1e-11)


@pytest.mark.parametrize("missing", [False, True])
def test_equal_weights_and_one_variance_are_lm_with_site(missing: bool) -> None:
    study = unequal_sites(missing=missing)
    table = fitted(study, missing="omit").test(weights=None, variance="pooled").table.set_index(["feature", "term"])
    for name in study.features:
        fit = smf.ols(f"{name} ~ C(site) + age + C(sex) + C(dx)", study.table).fit()
        for term, column in (("age", "age"), ("sex", "C(sex)[T.M]")):
            row = table.loc[(name, term)]
            theirs = [fit.params[column], fit.bse[column], *fit.conf_int().loc[column], fit.tvalues[column], 1]
            # Two solvers of the same least squares, condition number about 1e3.
            np.testing.assert_allclose(row[NUMBERS[:6]].astype(float), theirs, rtol=1e-8)
            np.testing.assert_allclose([row.p, row.df_residual], [fit.pvalues[column], fit.df_resid], rtol=1e-8)
        F = fit.f_test("C(dx)[T.HC] = 0, C(dx)[T.MCI] = 0")
        row = table.loc[(name, "dx")]
        np.testing.assert_allclose([row.statistic, row.p, row.df], [F.fvalue, F.pvalue, 2], rtol=1e-8)
        assert row.n == fit.nobs


@pytest.mark.parametrize("formula", [FORMULA, "~ s(age, k=5) + dx"])
def test_a_constant_added_to_a_site_changes_nothing(formula: str) -> None:
    study = unequal_sites()
    moved = study.table.copy()
    moved.loc[moved["site"] == "s2", study.features] += 7.0
    # Smoothing parameters are found to about 1e-6 of themselves; p-values follow at about 1e-7.
    rtol = ROUNDING if formula == FORMULA else 1e-5
    same(fitted(study, formula).test(), fitted(replace(study, table=moved), formula).test(), rtol)


@pytest.mark.parametrize(
    "options",
    [{"eb": False}, {"prior": "nonparametric"}, {"mean_only": True}, {"ref_batch": "s1"}],
    ids=lambda options: next(iter(options)),
)
def test_what_harmonization_does_changes_nothing(options: dict[str, object]) -> None:
    study = unequal_sites()
    same(fitted(study).test(), fitted(study, **options).test(), rtol=0.0)


@pytest.mark.parametrize("options", [{}, {"eb": False}, {"mean_only": True}, {"ref_batch": "s1"}], ids=str)
@pytest.mark.parametrize("missing", [False, True])
def test_the_harmonized_table_tells_what_the_raw_one_tells(options: dict[str, object], missing: bool) -> None:
    study = unequal_sites(missing=missing)
    model = fitted(study, missing="omit", **options)
    harmonized = model.transform(study.table)
    for formula in (FORMULA, "~ age*dx", "~ dx"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            later = pcg.later_test(model, formula, harmonized)
        assert len(caught) == (formula != FORMULA)
        raw = pcg.later_test(model, formula, study.table, state="raw")
        # Taking values back costs some roundings of a value of size 5 for effects of size 0.1.
        same(later, raw, rtol=1e-7)
        if formula == FORMULA:
            same(later, model.test(), rtol=1e-7)


def test_the_coding_of_a_factor_changes_no_test() -> None:
    study = unequal_sites()
    plain = fitted(study).test("dx")
    summed = fitted(study, "~ age + sex + C(dx, contr.sum)").test("C(dx, contr.sum)")
    columns = ["statistic", "df", "df_residual", "p", "p_adjusted", "within_share"]
    np.testing.assert_allclose(plain.table[columns], summed.table[columns], rtol=ROUNDING)


def test_order_of_rows_and_a_saved_file_change_nothing(tmp_path: Path) -> None:
    study = unequal_sites(missing=True)
    model = fitted(study, missing="omit")
    shuffled = replace(study, table=study.table.sample(frac=1, random_state=1))
    same(model.test(), fitted(shuffled, missing="omit").test())
    path = tmp_path / "model.pcg"
    model.save(path)
    same(model.test(), pcg.load(path).test(), rtol=0.0)


def test_chunks_put_together_are_the_whole() -> None:
    study = unequal_sites()
    model = fitted(study)
    mean = model.fitted.mean
    X, codes = mean.design.on(study.table), pd.factorize(study.table["site"], sort=True)[0]
    halves = [np.flatnonzero(np.arange(codes.size) % 2 == part) for part in (0, 1)]
    parts = [accumulate(study.raw, factor_design(X, codes, 4, rows)) for rows in halves]
    (group,) = mean.groups
    again = replace(mean, groups=(Group(group.members, merge(*parts)),))
    for term in ("age", "dx"):
        whole, merged = (Engine(m, model.fitted.correlation, True, True).term(term).tested for m in (mean, again))
        np.testing.assert_allclose(whole.statistic, merged.statistic, rtol=ROUNDING)
        np.testing.assert_allclose(whole.df_residual, merged.df_residual, rtol=ROUNDING)


def test_rows_of_a_mask_are_all_that_counts() -> None:
    study = unequal_sites()
    mask = np.arange(len(study.table)) % 5 > 0
    masked = pcg.ComBat(FORMULA, batch="site", features=study.features).fit(study.table, fit_mask=mask)
    same(masked.test(), fitted(replace(study, table=study.table[mask])).test())


@pytest.mark.parametrize("missing", [False, True])
def test_a_compact_file_tests_the_same_terms(tmp_path: Path, missing: bool) -> None:
    study = unequal_sites(missing=missing)
    model = fitted(study, missing="omit")
    paths = [tmp_path / f"{name}.pcg" for name in ("whole", "compact", "again")]
    model.save(paths[0])
    model.save(paths[1], compact=True)
    small = pcg.load(paths[1])
    small.save(paths[2], compact=True)
    sizes = [path.stat().st_size for path in paths]
    assert sizes[1] == sizes[2] < sizes[0]
    for options in ({}, {"weights": None}, {"variance": "pooled"}, {"weights": None, "variance": "pooled"}):
        # The same fits, the unweighted one by its own solver.
        same(model.test(**options), small.test(**options))
    same(model.contrast({"dx[HC]": 1}), small.contrast({"dx[HC]": 1}))
    # Taking values back does not need them, nor does harmonizing.
    harmonized = small.transform(study.table)
    pd.testing.assert_frame_equal(harmonized, model.transform(study.table), check_exact=True)
    same(pcg.later_test(small, FORMULA, harmonized), model.test(), rtol=1e-7)


def test_smooths_have_no_compact_file(tmp_path: Path) -> None:
    study = unequal_sites()
    with pytest.raises(pcg.PcgError, match="compact=True is for formulas without smooths"):
        fitted(study, "~ s(age, k=5)").save(tmp_path / "model.pcg", compact=True)
