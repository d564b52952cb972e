"""Sites that were not in a fit with random effects: scale within groups, effects of new groups kept."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from pycombat_gam.errors import DataError

BETWEEN, V = 2.0, 24
FEATURES = [f"f{k}" for k in range(V)]
FORMULAS = ["~ age + (1|subject)", "~ s(age, k=5) + s(subject, bs='re')"]


def study(*, new_scale: float = 1.0, travelers: int = 0, visits: int = 2, seed: int = 4) -> pd.DataFrame:
    """Four sites of 60 subjects with visits, the last called new; some of whose subjects are those of site a."""
    rng = np.random.default_rng(seed)
    sites = np.repeat(["a", "b", "c", "new"], 60 * visits)
    subjects = np.repeat([f"{site}{i}" for site in ("a", "b", "c", "new") for i in range(60)], visits)
    for i in range(travelers):
        subjects[subjects == f"new{i}"] = f"a{i}"
    codes = pd.factorize(subjects)[0]
    age = rng.uniform(20, 70, sites.size)
    effects = rng.normal(0.0, BETWEEN, (codes.max() + 1, V))
    shift = pd.Series(sites).map({"a": 0.0, "b": 1.0, "c": -1.0, "new": 3.0}).to_numpy()
    scale = pd.Series(sites).map({"a": 1.0, "b": 0.8, "c": 1.2, "new": new_scale}).to_numpy()
    Y = 0.05 * age[:, None] + effects[codes] + shift[:, None] + scale[:, None] * rng.normal(size=(sites.size, V))
    visit = np.tile(np.arange(visits), 240)
    about = pd.DataFrame({"site": sites, "subject": subjects, "visit": visit, "age": age})
    return pd.concat([about, pd.DataFrame(Y, columns=FEATURES)], axis=1)


def model_of(formula: str, **options: object) -> pcg.ComBat:
    options = {"features": FEATURES, "id": ["subject", "visit", "site"], "on_unseen": "estimate", **options}
    return pcg.ComBat(formula, "site", **options)  # type: ignore[arg-type]  # of the right types, above


def quietly(model: pcg.ComBat, table: pd.DataFrame) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        return model.transform(table)


def within(table: pd.DataFrame, subject: pd.Series) -> float:
    """Sd of the features about the means of subjects, all features together."""
    away = table[FEATURES] - table[FEATURES].groupby(subject.loc[table.index]).transform("mean")
    return float(np.sqrt((away**2).to_numpy().mean()))


@pytest.mark.parametrize("travelers", [0, 20, 60])
@pytest.mark.parametrize("formula", FORMULAS, ids=["bar", "smooth"])
def test_a_new_site_is_harmonized_as_by_a_fit_that_includes_it(formula: str, travelers: int) -> None:
    table = study(travelers=travelers)
    known, new = table[table["site"] != "new"], table[table["site"] == "new"]
    model = model_of(formula)
    model.fit(known)
    found = quietly(model, new)
    whole = model_of(formula).fit_transform(table).loc[new.index]
    # The two differ in pooled variance and in the variance of subjects, each estimated with or without the site; the
    # more so where subjects travel, for residuals of a fit are smaller the fewer rows a subject has.
    np.testing.assert_allclose(found[FEATURES].std().mean(), whole[FEATURES].std().mean(), rtol=0.02)
    np.testing.assert_allclose(within(found, table["subject"]), within(whole, table["subject"]), rtol=0.07)
    # A change of the grand mean moves all rows alike; what is left is what each row is among the others.
    centred = [one[FEATURES] - one[FEATURES].mean() for one in (found, whole)]
    assert np.corrcoef(centred[0].to_numpy().ravel(), centred[1].to_numpy().ravel())[0, 1] > 0.995


def test_a_new_site_s_noise_within_subjects_is_brought_to_the_others() -> None:
    table = study(new_scale=2.5)
    known, new = table[table["site"] != "new"], table[table["site"] == "new"]
    model = model_of(FORMULAS[0])
    model.fit(known)
    found = quietly(model, new)
    others = model.transform(known)
    # Subjects' intercepts of a noisy site are predicted with the noise of the others: a few per cent are left.
    np.testing.assert_allclose(within(found, table["subject"]), within(others, table["subject"]), rtol=0.1)
    between = found[FEATURES].groupby(table.loc[new.index, "subject"]).mean().std().mean()
    assert between > 0.9 * BETWEEN


def test_intercepts_and_location_solve_the_mixed_model_equations() -> None:
    table = study(travelers=15)
    table = table.drop(index=table.index[table["site"] == "new"][[1, 4, 50]])
    known, new = table[table["site"] != "new"], table[table["site"] == "new"]
    model = model_of(FORMULAS[0], eb=False)
    model.fit(known)
    found = quietly(model, new)
    fit = model.fitted
    sd, sp = fit.batch.scale.sd, fit.mean.smoothing.parameters[0]
    (smooth,) = fit.mean.design.smooth.smooths
    groups = pd.get_dummies(new["subject"]).astype(float)
    rows_in_fit = known["subject"].value_counts().reindex(groups.columns).fillna(0.0).to_numpy()
    W = np.column_stack([np.ones(len(new)), groups])
    f = fit.batch.scale.grand_mean + fit.mean.design.on(new) @ fit.mean.coefficients
    for k in range(V):
        penalty = np.diag([0.0, *(rows_in_fit + sp[k] * smooth.penalties[0][0, 0])])
        y = new[FEATURES[k]].to_numpy()
        solved = np.linalg.solve(W.T @ W + penalty, W.T @ (y - f[:, k]))
        residual = y - f[:, k] - W @ solved
        d = np.sqrt(residual @ residual / (len(y) - 1)) / sd[k]
        expected = residual / d + f[:, k] + groups.to_numpy() @ solved[1:]
        # Rounding of a solve of the same equations.
        np.testing.assert_allclose(found[FEATURES[k]], expected, rtol=1e-9, atol=1e-9)


def test_rows_of_known_sites_and_other_new_sites_change_nothing() -> None:
    table = study()
    table.loc[table["subject"].isin([f"new{i}" for i in range(30)]), "site"] = "newer"
    known = table[table["site"].isin(["a", "b", "c"])]
    model = model_of(FORMULAS[0])
    model.fit(known)
    together = quietly(model, table)
    pd.testing.assert_frame_equal(together.loc[known.index], model.transform(known))
    for site in ("new", "newer"):
        rows = table[table["site"] == site]
        # This and the next: sums of rows in another order.
        np.testing.assert_allclose(together.loc[rows.index, FEATURES], quietly(model, rows)[FEATURES], rtol=1e-12)
    shuffled = table.sample(frac=1.0, random_state=1)
    np.testing.assert_allclose(quietly(model, shuffled).loc[table.index, FEATURES], together[FEATURES], rtol=1e-10)


def test_saved_models_and_missing_cells(tmp_path: Path) -> None:
    table = study()
    known, new = table[table["site"] != "new"], table[table["site"] == "new"].copy()
    model = model_of(FORMULAS[0], missing="omit", eb=False)
    model.fit(known)
    complete = quietly(model, new)
    new.loc[new.index[:7], "f3"] = np.nan
    found = quietly(model, new)
    assert found["f3"].isna().sum() == 7
    few = new.dropna()
    again = quietly(model_saved(model, tmp_path), few)
    # This and the next: features do not see one another but for the order of sums.
    np.testing.assert_allclose(found.loc[few.index, "f3"], again["f3"], rtol=1e-10)
    others = [name for name in FEATURES if name != "f3"]
    np.testing.assert_allclose(found[others], complete[others], rtol=1e-10)


def model_saved(model: pcg.ComBat, folder: Path) -> pcg.ComBat:
    model.save(folder / "model.pcg")
    loaded = pcg.load(folder / "model.pcg")
    assert isinstance(loaded, pcg.ComBat)
    return loaded


def test_there_is_one_note_of_what_was_done_with_new_groups() -> None:
    table = study()
    known = table[table["site"] != "new"]
    model = model_of(FORMULAS[0])
    model.fit(known)
    with pytest.warns(pcg.PcgWarning) as said:
        model.transform(table[table["site"] == "new"])
    words = " ".join(str(one.message) for one in said)
    assert "estimated from its 120 rows, with (1 | subject) for its 60 groups" in words
    assert "taken as zero" not in words
    with pytest.warns(pcg.PcgWarning, match="1 level not known from the fit in 1 row: .* is predicted there") as said:
        model.transform(known.head(3).assign(subject=["a0", "someone", "a1"]))
    assert len(said) == 1


def test_without_random_effects_nothing_is_different() -> None:
    table = study()
    known, new = table[table["site"] != "new"], table[table["site"] == "new"]
    model = model_of("~ age", eb=False)
    with pytest.warns(pcg.PcgWarning, match="rows of one subject are dependent"):
        model.fit(known)
    found = quietly(model, new)
    fit = model.fitted
    f = fit.batch.scale.grand_mean + fit.mean.design.on(new) @ fit.mean.coefficients
    residual = new[FEATURES].to_numpy() - f
    expected = f + (residual - residual.mean(axis=0)) / (residual.std(axis=0, ddof=1) / fit.batch.scale.sd)
    # Rounding beside the same equations by another route.
    np.testing.assert_allclose(found[FEATURES], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "formula",
    [
        "~ (1 + age || subject)",
        "~ age + (0 + age | subject)",
        "~ age + (1|subject) + (1|visit)",
        "~ age + s(age, subject, bs='fs', k=3)",
    ],
    ids=["slope and intercept", "slope", "two groupings", "curves"],
)
def test_other_random_effects_are_refused(formula: str) -> None:
    table = study(visits=4)[["site", "subject", "visit", "age", "f0", "f1"]]
    table = table[table["subject"].str.len() < 3 + 3 * (table["site"] == "new")]
    table["subject"] = table["subject"].astype("category")
    model = model_of(formula, features=["f0", "f1"], id=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        model.fit(table[table["site"] != "new"])
    with pytest.raises(DataError, match=r"batch new was not in the fit, and the formula has .*fit again with the site"):
        model.transform(table[table["site"] == "new"])


def test_curves_of_known_levels_are_covariates() -> None:
    table = study().assign(sex=lambda t: np.where(np.arange(len(t)) % 2, "F", "M"))
    model = model_of("~ s(age, sex, bs='fs', k=4)", features=["f0", "f1"])
    with pytest.warns(pcg.PcgWarning, match="rows of one subject are dependent"):
        model.fit(table[table["site"] != "new"])
    new = table[table["site"] == "new"]
    assert np.isfinite(quietly(model, new)[["f0", "f1"]]).all(axis=None)
    with pytest.raises(DataError, match="the formula has s\\(age,sex\\)"):
        model.transform(new.assign(sex="X"))


def test_groups_at_a_new_site_and_elsewhere_are_refused() -> None:
    table = study()
    model = model_of(FORMULAS[0])
    model.fit(table[table["site"] != "new"])
    new = table[table["site"] == "new"]
    both = new.assign(site=np.where(new["visit"] == 1, "newer", "new"))
    with pytest.raises(DataError, match=r"new0, new1, .* has rows at batch 'new', which was not in the fit, and e"):
        model.transform(both)
    with pytest.raises(DataError, match="and elsewhere"):
        model.transform(new.assign(site=np.where(new["visit"] == 1, "a", "new")))


def test_known_groups_need_a_complete_fit() -> None:
    table = study(travelers=3)
    known = table[table["site"] != "new"].copy()
    known.loc[0, "f0"] = np.nan
    model = model_of(FORMULAS[0], missing="omit")
    model.fit(known)
    with pytest.raises(DataError, match="a0, a1, a2 was, and cells of the fit are missing"):
        model.transform(table[table["site"] == "new"])
