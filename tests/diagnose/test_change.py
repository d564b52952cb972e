"""By how much harmonization changes effects: one where it changes none, and an interval that covers."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from pycombat_gam.diagnose.adjusted import adjusted
from pycombat_gam.diagnose.association import associations
from pycombat_gam.diagnose.change import changes
from pycombat_gam.diagnose.study import Study

V, SIZES = 60, [12, 20, 30, 40]
SITE = np.repeat(np.arange(4), SIZES)


@cache
def design() -> pd.DataFrame:
    """Sites that differ in age and diagnosis."""
    rng = np.random.default_rng(1)
    age = rng.normal(size=SITE.size) + np.linspace(-0.8, 0.8, 4)[SITE]
    dx = rng.random(SITE.size) < np.linspace(0.2, 0.8, 4)[SITE]
    return pd.DataFrame({"site": SITE, "age": age, "dx": np.where(dx, "patient", "control")})


@cache
def sites() -> tuple[np.ndarray, np.ndarray]:
    """Location and standard deviation of every site."""
    rng = np.random.default_rng(2)
    return 0.3 * rng.normal(size=(4, 1)) + 0.5 * rng.normal(size=(4, V)), np.sqrt(np.geomspace(0.6, 1.6, 4))[:, None]


def draw(seed: int) -> pd.DataFrame:
    """Features that share three factors; half of them depend on age, half on diagnosis."""
    rng = np.random.default_rng(seed)
    noise = 0.5 * rng.normal(size=(SITE.size, 3)) @ rng.normal(size=(3, V)) + rng.normal(size=(SITE.size, V))
    location, sd = sites()
    age, dx = design()["age"].to_numpy(), (design()["dx"] == "patient").to_numpy(float)
    effect = 0.6 * age[:, None] * (np.arange(V) % 2) + dx[:, None] * (np.arange(V) % 4 < 2)
    values = pd.DataFrame(effect + location[SITE] + sd[SITE] * noise, columns=[f"f{k}" for k in range(V)])
    return pd.concat([design(), values], axis=1)


def ratios(
    before: pd.DataFrame,
    after: pd.DataFrame,
    formula: str,
    model: pcg.ComBat | None = None,
    id: list[str] | None = None,
) -> pd.DataFrame:
    study = Study.of(before, after, formula=formula, batch="site", features="^f", id=id, covariates=None)
    fits = {state: list(adjusted(study, Y)) for state, Y in study.states.items()}
    rows = changes(study, fits, associations(study, fits, model), 0.05)
    columns = ("covariate", "value", "lower", "upper", "n")
    return pd.DataFrame({name: [row[name][0] for row in rows] for name in columns}).set_index("covariate")


def fitted(table: pd.DataFrame, formula: str, **options: object) -> tuple[pcg.ComBat, pd.DataFrame]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        model = pcg.ComBat(formula, batch="site", features="^f", **options).fit(table)
    return model, model.transform(table)


@pytest.mark.parametrize("formula", ["~ age + dx", "~ age*dx"])
def test_removing_locations_in_full_changes_no_effect(formula: str) -> None:
    """Least squares without site of y less its site's effects gives the estimates with site again, row for row."""
    table = draw(3)
    model, after = fitted(table, formula, eb=False, mean_only=True)
    found = ratios(table, after, formula, model)
    assert len(found) >= 2
    # Sums in another order: rounding.
    np.testing.assert_allclose(found[["value", "lower", "upper"]], 1.0, rtol=1e-9)


@pytest.mark.parametrize("formula", ["~ age + dx", "~ s(age) + dx"])
def test_effects_made_smaller_are_seen_so(formula: str) -> None:
    """A table whose rows lose a part of what the covariates explain, and one in other units."""
    table = draw(4)
    plain = fitted(table, formula, eb=False, mean_only=True)[1]
    halved = plain.copy()
    names = [f"f{k}" for k in range(V)]
    halved[names] = 0.5 * plain[names]
    found, whole = ratios(table, halved, formula), ratios(table, plain, formula)
    # A smoothing parameter is chosen for each table, and stops within 1e-6 of the optimum of its score.
    np.testing.assert_allclose(found["value"], 0.5 * whole["value"], rtol=1e-9 if "s(" not in formula else 1e-4)
    assert (found["upper"] < 0.6).all()


def test_one_term_is_the_weighted_mean_of_ratios() -> None:
    table = draw(5)
    model, after = fitted(table, "~ age")
    found = ratios(table, after, "~ age", model).loc["age"]
    names = [f"f{k}" for k in range(V)]
    p = model.test().table["p_adjusted"].to_numpy()
    X = np.column_stack([np.eye(4)[SITE], table["age"]])
    with_site, left, *_ = np.linalg.lstsq(X, table[names].to_numpy(), rcond=None)
    without = np.linalg.lstsq(X[:, -1:] - X[:, -1:].mean(), after[names].to_numpy(), rcond=None)[0][0]
    beta, chosen = with_site[-1], p < 0.05
    weight = (beta / np.sqrt(left / (SITE.size - 5)))[chosen] ** 2
    # The same sums by another route: rounding.
    np.testing.assert_allclose(found["value"], np.average((without / beta)[chosen], weights=weight), rtol=1e-9)
    assert found["n"] == chosen.sum()


def test_rows_of_one_subject_count_together() -> None:
    """Each row twice, as two rows of one subject: the interval stays about what it was."""
    table = draw(6)
    doubled = pd.concat([table, table], ignore_index=True)
    rng = np.random.default_rng(7)
    names = [f"f{k}" for k in range(V)]
    doubled[names] += 0.05 * rng.normal(size=(len(doubled), V))
    doubled["subject"] = np.tile([f"p{k}" for k in range(len(table))], 2)
    doubled["visit"] = np.repeat([1, 2], len(table))
    # Not harmonized: all of what sites add is left.
    once, rows, subjects = (
        ratios(some, some, formula, id=id).loc["age"]
        for some, formula, id in (
            (table, "~ age", None),
            (doubled, "~ age", None),
            (doubled, "~ age + (1|subject)", ["subject", "visit"]),
        )
    )
    width = {name: of["upper"] - of["lower"] for name, of in (("once", once), ("rows", rows), ("subjects", subjects))}
    # As independent rows it is narrower by √2.
    assert 0.65 < width["rows"] / width["once"] < 0.78
    assert 0.9 < width["subjects"] / width["once"] < 1.1


def test_the_interval_covers() -> None:
    """Of 80 tables, about 95 % have an interval that holds the mean of all."""
    values = []
    for seed in range(100, 180):
        table = draw(seed)
        model, after = fitted(table, "~ age + dx")
        values.append(ratios(table, after, "~ age + dx", model))
    for term in ("age", "dx"):
        each = pd.DataFrame([found.loc[term] for found in values])
        truth = each["value"].mean()
        covered = ((each["lower"] <= truth) & (truth <= each["upper"])).mean()
        # Three standard errors of a share of 0.95 in 80.
        assert abs(covered - 0.95) < 0.073, term
        assert 0.85 < ((each["upper"] - each["lower"]) / 3.92).mean() / each["value"].std() < 1.2


def test_what_is_not_found_has_no_ratio() -> None:
    table = draw(8)
    names = [f"f{k}" for k in range(V)]
    noise = table.assign(**pd.DataFrame(np.random.default_rng(9).normal(size=(len(table), V)), columns=names))
    assert ratios(noise, fitted(noise, "~ age + dx")[1], "~ age + dx").empty


def test_a_change_of_all_features_is_no_test_that_failed() -> None:
    table = draw(5)
    model = pcg.ComBat("~ age + dx", batch="site", features="^f")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        after = model.fit_transform(table)
    diagnosis = pcg.diagnose(table, after, model=model, permutations=19, held_out=False, level=0.06)
    assert len(diagnosis.of("effect change")) == 2
    assert not [note for note in diagnosis.notes if note.startswith("no p-value")]
