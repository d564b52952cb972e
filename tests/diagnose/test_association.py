"""Associations are the tests of `ComBat.test`: the same before and after it, and at their level."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from pycombat_gam.diagnose.adjusted import adjusted
from pycombat_gam.diagnose.association import associations
from pycombat_gam.diagnose.study import Study
from pycombat_gam.study.states import AFTER, BEFORE

FORMULAS = ["~ age + sex + dx", "~ s(age) + sex", "~ age:dx + (1|subject)"]


@cache
def study(visits: int = 1) -> pcg.datasets.MultisiteStudy:
    return pcg.datasets.simulate_multisite(
        sites=4, subjects=120 // visits, features=8, visits=visits, location=1.0, seed=3
    )


def table_for(formula: str) -> pd.DataFrame:
    """Three diagnoses; two visits where the formula has subjects."""
    table = study(1 + ("subject" in formula)).table
    dx = np.random.default_rng(4).choice(["HC", "MCI", "AD"], table["subject"].nunique())
    return table.assign(dx=dx[table["subject"].factorize()[0]], visit=table.get("visit", 1))


def combat(formula: str, **options: object) -> pcg.ComBat:
    model = pcg.ComBat(formula, batch="site", id=["subject", "visit"], features=list(study().features), **options)
    return model.fit(table_for(formula))


def of(model: pcg.ComBat, before: pd.DataFrame, after: pd.DataFrame | None = None) -> pd.DataFrame:
    return pcg.diagnose(before, after, model=model, permutations=19, held_out=False).of("association")


def state(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    return rows[rows["state"] == name].reset_index(drop=True)


NUMBERS = ["statistic", "df", "df_residual", "p", "p_adjusted", "n"]
OPTIONS = [{}, {"eb": False}, {"mean_only": True}, {"ref_batch": "Bergen"}, {"prior": "nonparametric"}]


@pytest.mark.parametrize("formula", FORMULAS)
def test_they_are_the_models_own_tests(formula: str) -> None:
    model = combat(formula)
    effects = model.test().table
    rows = state(of(model, table_for(formula)), BEFORE)
    both = rows.merge(effects, left_on=["covariate", "feature"], right_on=["term", "feature"], suffixes=("", "_test"))
    assert len(both) == len(rows) == len(effects)
    t = np.where(both["se"].notna(), both["statistic_test"] ** 2, both["statistic_test"])
    # Rows in another order: rounding. Smoothing parameters stop within 1e-6 of the optimum of their score.
    close = {"rtol": 1e-9 if "s(" not in formula and "|" not in formula else 1e-4}
    np.testing.assert_allclose(both["statistic"], t, **close)
    for name in ("df", "df_residual", "p", "p_adjusted", "n"):
        np.testing.assert_allclose(both[name], both[f"{name}_test"], **close)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_of_a_combat_the_test_after_is_that_before(options: dict[str, object]) -> None:
    model = combat("~ age + sex + dx", **options)
    table = table_for(model.formula)
    rows = of(model, table, model.transform(table))
    before, after = state(rows, BEFORE), state(rows, AFTER)
    pd.testing.assert_frame_equal(before[NUMBERS], after[NUMBERS])
    # The size is that of each table.
    assert (before["value"] - after["value"]).abs().max() > 1e-6 or options == {"mean_only": True}


def test_another_table_is_tested_as_it_is() -> None:
    """A table that the model did not make, and tables without a model."""
    model, table = combat("~ age + sex"), table_for("~ age")
    after = model.transform(table)
    features = model.get_feature_names_out().tolist()
    changed = after.assign(**{features[0]: after[features[0]] + 0.5 * after["age"]})
    rows = of(model, table, changed)
    alone = state(of(model, changed), BEFORE)
    pd.testing.assert_frame_equal(state(rows, AFTER)[NUMBERS], alone[NUMBERS])
    arguments = {"formula": model.formula, "batch": "site", "id": ["subject", "visit"], "features": features}
    plain = pcg.diagnose(table, after, **arguments, permutations=19).of("association")
    by_state = [pcg.diagnose(t, **arguments, permutations=19).of("association") for t in (table, after)]
    for name, expected in zip((BEFORE, AFTER), by_state, strict=True):
        pd.testing.assert_frame_equal(state(plain, name)[NUMBERS], expected[NUMBERS])


def test_missing_cells_share_the_weights_of_all_features() -> None:
    table = table_for("~ age").copy()
    features = list(study().features)
    holes = np.random.default_rng(6).random((len(table), 3)) < 0.1
    table[features[:3]] = table[features[:3]].mask(holes)
    # Gone from a whole site: this feature is tested at the others.
    lacking = table.assign(**{features[3]: table[features[3]].where(table["site"] != "Bergen")})
    model = pcg.ComBat("~ age", batch="site", id=["subject", "visit"], features=features, missing="omit").fit(table)
    effects = model.test("age").table
    rows = pcg.diagnose(table, model=model, permutations=19, held_out=False).of("association")
    # Rows in another order: rounding.
    np.testing.assert_allclose(rows["p"], effects["p"], rtol=1e-9)
    assert rows["n"].tolist() == effects["n"].tolist()
    others = pcg.diagnose(lacking, formula="~ age", batch="site", features=features, permutations=19).of("association")
    without = lacking[lacking["site"] != "Bergen"]
    alone = pcg.diagnose(without, formula="~ age", batch="site", features=[features[3]], permutations=19)
    mine, expected = others[others["feature"] == features[3]], alone.of("association")
    np.testing.assert_allclose(mine["p"], expected["p"], rtol=1e-9)


DESIGNS = {
    "2 of 20 and 18 of 20": ([20, 20], [2, 18]),
    "few patients where rows are many": ([40, 12], [3, 6]),
    "six small sites": ([4, 5, 6, 7, 8, 10], [1, 3, 2, 5, 4, 8]),
}


@pytest.mark.parametrize("name", DESIGNS)
def test_levels(name: str) -> None:
    """5 ± 0.7 % of true nulls are rejected, after ComBat too; sites differ in location and, by four, in variance."""
    sizes, patients = DESIGNS[name]
    site = np.repeat(np.arange(len(sizes)), sizes)
    dx = np.concatenate([np.arange(n) < k for n, k in zip(sizes, patients, strict=True)]).astype(float)
    V, rejected = 2000, []
    rng = np.random.default_rng(sum(sizes))
    sd = np.sqrt(np.geomspace(2.0, 0.5, len(sizes)))[site, None]
    for _ in range(3):
        Y = rng.normal(size=(len(sizes), V))[site] + sd * rng.normal(size=(site.size, V))
        table = pd.DataFrame({"site": site, "dx": dx})
        with warnings.catch_warnings():
            # Of thousands of features some look odd.
            warnings.simplefilter("ignore", pcg.PcgWarning)
            model = pcg.ComBat("~ dx", batch="site").fit(Y, table)
        after = model.transform(Y, table)
        study = Study.of(Y, after, formula="~ dx", batch="site", features=None, id=None, covariates=table)
        fits = {state: list(adjusted(study, values)) for state, values in study.states.items()}
        rejected.append((associations(study, fits, model)[AFTER]["dx"].p < 0.05).mean())
    # 6,000 independent tests: a standard error of 0.28 %.
    assert abs(np.mean(rejected) - 0.05) < 0.007
