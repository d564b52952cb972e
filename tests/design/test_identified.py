"""Random effects that the rows cannot identify: refused where nothing is left, zero where other terms have them."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from pycombat_gam.errors import DesignError
from pycombat_gam.penalized.problem import METHODS

V = 5
FEATURES = [f"f{k}" for k in range(V)]


def study(n: int = 120, seed: int = 0) -> pd.DataFrame:
    """Four sites in two countries; subjects of three rows each."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "site": np.array(list("ABCD"))[np.arange(n) // 3 % 4],
            "age": rng.uniform(20, 80, n),
            "sex": rng.choice(["F", "M"], n),
            "subject": [f"p{i // 3}" for i in range(n)],
            "visit": np.arange(n) % 3,
            "row": [f"r{i}" for i in range(n)],
        }
    )
    table["country"] = table["site"].map({"A": "u", "B": "u", "C": "v", "D": "v"})
    effect = rng.normal(0, 0.5, (n // 3, V))[np.arange(n) // 3]
    shift = table["site"].map({"A": 0.0, "B": 0.5, "C": -0.3, "D": 0.2}).to_numpy()[:, None]
    Y = 0.01 * table["age"].to_numpy()[:, None] + shift + effect + rng.normal(0, 0.4, (n, V))
    return pd.concat([table, pd.DataFrame(Y, columns=FEATURES)], axis=1)


def quietly(call, *args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        return call(*args, **options)


REFUSED = {
    "one row a level": ("age + (1 | row)", r"\(1 \| row\) has 120 levels for 120 rows"),
    "slope, one row a level": ("(0 + age | row)", r"120 columns of \(0 \+ age \| row\)"),
    "intercept and slope use up two rows each": ("age + (age || pair)", r"leave no residual variance"),
    "curves use up three rows each": ("s(age, subject, bs='fs', k=3)", r"120 columns of s\(age,subject\)"),
    "crossed": ("(1 | subject) + (1 | subject:visit)", r"\(1 \| subject:visit\) has 120 levels for 120 rows"),
    "alike": ("age + (1 | subject) + (1 | person)", r"\(1 \| subject\), \(1 \| person\) group the rows alike"),
    "alike under two spellings": (
        "s(subject, bs='re') + (1 | subject)",
        r"s\(subject\), \(1 \| subject\) group the rows alike",
    ),
}


def with_more_groups(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(
        pair=[f"q{i // 2}" for i in range(len(table))],
        person=table["subject"].map(lambda name: f"x{name[1:]}"),
    )


@pytest.mark.parametrize(("terms", "message"), REFUSED.values(), ids=list(REFUSED))
def test_variances_that_cannot_be_told_apart_are_refused(terms: str, message: str) -> None:
    table = with_more_groups(study())
    with pytest.raises(DesignError, match=message):
        pcg.gam(f"f0 ~ {terms}", table)
    with pytest.raises(DesignError, match=message):
        pcg.ComBat(f"~ {terms}", "site", features=FEATURES).fit(table)
    findings = quietly(pcg.audit, table, f"~ {terms}", "site", features=FEATURES).findings
    problems = findings.loc[findings["severity"] == "problem", "verdict"]
    assert problems.str.contains("random effects? cannot be (?:estimated|separated from the residual)").any()
    assert problems.str.contains("ComBat stops").any()


def test_only_features_with_too_few_rows_are_named() -> None:
    table = study()
    table.loc[table["visit"] > 0, "f2"] = np.nan
    with pytest.raises(DesignError, match=r"on the rows observed for f2: \(1 \| subject\) has 40 levels for 40 rows"):
        pcg.ComBat("~ age + (1 | subject)", "site", features=FEATURES, missing="omit").fit(table)


def test_few_repeated_rows_are_enough() -> None:
    """117 subjects in 120 rows: three pairs of rows tell the variances apart, however badly."""
    table = study().assign(subject=lambda t: [f"p{min(i, 117 + i % 3)}" if i > 116 else f"p{i}" for i in range(len(t))])
    table.loc[[0, 1, 2], "subject"] = ["p117", "p118", "p119"]
    assert table["subject"].nunique() == 117
    model = pcg.ComBat("~ age + (1 | subject)", "site", features=FEATURES)
    assert np.isfinite(quietly(model.fit_transform, table)[FEATURES]).all(axis=None)


IDLE = {
    "country of a fixed site": ("age + site", "(1 | country)"),
    "a factor twice": ("age + sex", "(1 | sex)"),
    "slope": ("site * age", "(0 + age | country)"),
    "as a smooth": ("age + site", "s(country, bs='re')"),
    "shrunken curve of a factor's values": ("factor(visit)", "s(visit, bs='ts', k=3)"),
    "the same, cubic": ("factor(visit)", "s(visit, bs='cs', k=3)"),
    "beside a smooth": ("s(age) + site", "(1 | country)"),
    "beside another random effect": ("site + (1 | subject)", "(1 | country)"),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("terms", "idle"), IDLE.values(), ids=list(IDLE))
def test_a_random_effect_inside_the_span_of_fixed_terms_is_zero(terms: str, idle: str, method: str) -> None:
    table = study()
    without = pcg.gam(f"f0 ~ {terms}", table, method=method)
    for order in range(3):
        shuffled = table.sample(frac=1.0, random_state=order)
        fit = quietly(pcg.gam, f"f0 ~ {terms} + {idle}", shuffled, method=method)
        # One λ: rounding. Several: the search ends where the score gains less than 1e-13 of itself, so √ of that.
        np.testing.assert_allclose(fit.predict(table), without.predict(table), atol=1e-9)
        columns = [name for name in fit.design.columns if name in without.design.columns]
        # A λ at infinity ends elsewhere among several than alone: below 1e-9 of a coefficient's variance.
        np.testing.assert_allclose(fit.vcov.loc[columns, columns], without.vcov, rtol=1e-6, atol=1e-11)
        assert abs(fit.edf.sum() - without.edf.sum()) < 1e-7
        # ML counts what is left of λ = ∞: 1e-10 a coefficient.
        np.testing.assert_allclose(fit.score, without.score, rtol=1e-9, atol=1e-9)
        assert fit.summary().smooth.loc[fit.design.smooth.smooths[-1].label, "edf"] < 1e-8


def test_it_is_said_once() -> None:
    table = study()
    with pytest.warns(pcg.PcgWarning, match=r"^\(1 \| country\) adds nothing to the other terms: its effect is zero$"):
        pcg.gam("cbind(f0, f1) ~ age + site + (1 | country)", table)
    model = pcg.ComBat("~ age + (1 | country)", "site", features=FEATURES)
    with pytest.warns(pcg.PcgWarning, match=r"\(1 \| country\) adds nothing to batch and the other terms"):
        model.fit(table)
    assert any("(1 | country) adds nothing" in note for note in model.summary().notes)


@pytest.mark.parametrize("terms", ["age + sex", "s(age) + sex"])
def test_combat_with_an_idle_random_effect_is_combat_without_it(terms: str) -> None:
    table = study()
    want = pcg.ComBat(f"~ {terms}", "site", features=FEATURES).fit_transform(table)
    for idle in ("(1 | sex)", "(1 | country)"):
        got = quietly(pcg.ComBat(f"~ {terms} + {idle}", "site", features=FEATURES).fit_transform, table)
        # One λ: rounding. Several: √ of the search's last gain, 1e-13 of the score.
        np.testing.assert_allclose(got[FEATURES], want[FEATURES], atol=1e-9)


def test_a_random_effect_that_takes_the_whole_residual_leaves_no_variance() -> None:
    """A feature that subjects bring along unchanged: nothing is left to scale, and nothing is invented."""
    table = study()
    table["f3"] = table.groupby("subject")["f3"].transform("first")
    model = pcg.ComBat("~ (1 | subject)", "site", features=FEATURES)
    with pytest.warns(pcg.PcgWarning, match="no residual variance, passed through untouched: f3"):
        harmonized = model.fit_transform(table)
    np.testing.assert_array_equal(harmonized["f3"], table["f3"])
    others = [name for name in FEATURES if name != "f3"]
    alone = pcg.ComBat("~ (1 | subject)", "site", features=others).fit_transform(table)
    # Features do not see one another: order of sums.
    np.testing.assert_allclose(harmonized[others], alone[others], rtol=1e-12)
    with pytest.warns(pcg.PcgWarning, match="essentially perfect fit of f3"):
        fit = pcg.gam("f3 ~ (1 | subject)", table)
    assert fit.is_perfect and "Essentially perfect fit" in str(fit.summary())


@pytest.mark.parametrize("formula", ["y ~ sex", "y ~ sex + age", "y ~ sex * age", "y ~ sex + s(age)"])
def test_a_perfect_fit_is_said(formula: str) -> None:
    table = study().assign(y=lambda t: np.where(t["sex"] == "M", 3.0, 2.0))
    with pytest.warns(pcg.PcgWarning, match="essentially perfect fit of y: .* are rounding"):
        fit = pcg.gam(formula, table)
    summary = fit.summary()
    assert np.isfinite([fit.score, fit.aic, fit.bic]).all() and summary.perfect
    assert "Essentially perfect fit" in str(summary)
    assert not pcg.gam("f0 ~ sex", table).is_perfect


TWICE = [
    "s(age, k=5) + s(age, k=10)",
    "s(age, bs='cr') + s(age)",
    "s(age) + s(age, bs='re')",
    "s(age) + s(age, bs='ts')",
    "s(sex, bs='re') + s(sex, subject, bs='re')",
    "s(age, bs='cc') + s(age)",
    "s(age) + s(age, by=visit)",
    "age + s(age, bs='ts')",
    "s(age) + te(age, visit, k=3)",
]


@pytest.mark.parametrize("terms", TWICE)
def test_a_variable_in_two_smooths_has_a_summary(terms: str) -> None:
    table = study()
    fit = quietly(pcg.gam, f"f0 ~ {terms}", table)
    summary = fit.summary()
    assert len(summary.smooth) == len(fit.design.smooth.smooths) and "edf" in str(summary)
    np.testing.assert_allclose(summary.smooth["edf"].sum() + len(summary.parametric), fit.edf.sum(), rtol=1e-9)
    # What has no degrees of freedom is not tested; everything else is.
    tested = summary.smooth["edf"] > 1e-8
    assert summary.smooth.loc[tested, "p-value"].between(0.0, 1.0).all()
    concurvity = fit.concurvity()
    assert (concurvity.stack().dropna().between(0.0, 1.0 + 1e-9)).all()
    fit.k_check()
