"""With equal weights a test takes the fit that the model has: nothing is searched again."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from pycombat_gam.infer.additive import AdditiveStep
from pycombat_gam.penalized.problem import METHODS


@pytest.mark.parametrize("formula", ["~ s(age, k=5) + dx", "~ dx + age + (1 | person)"])
@pytest.mark.filterwarnings("ignore:.*:pycombat_gam.errors.PcgWarning")
def test_it_is_the_fit_with_equal_weights(formula: str) -> None:
    rng = np.random.default_rng(23)
    person = rng.integers(0, 20, 90)
    table = pd.DataFrame(
        {
            "site": np.repeat(["A", "B", "C"], 30),
            "age": rng.uniform(size=90),
            "dx": rng.choice(["a", "b"], 90),
            "person": np.char.add("p", person.astype(str)),
        }
    )
    for k in range(3):
        table[f"f{k}"] = np.sin(3 * k * table["age"]) + rng.normal(size=90) + 0.7 * rng.normal(size=20)[person]
    # Two groups: f2 has missing cells.
    table.loc[[4, 50], "f2"] = np.nan
    fit = pcg.ComBat(formula, batch="site", features=["f0", "f1", "f2"], missing="omit").fit(table).fitted.mean
    assert fit.groups is not None and len(fit.groups) == 2
    for group in fit.groups:
        kept = AdditiveStep.of_fit(fit, group)
        again = AdditiveStep.of(fit.design, group.statistics, np.ones(3), METHODS[fit.smoothing.criterion])
        # One search, from the same start: only rounding of the solution itself.
        np.testing.assert_allclose(kept.smoothing.parameters, again.smoothing.parameters, rtol=1e-9)
        np.testing.assert_allclose(kept.df_residual, again.df_residual, rtol=1e-9)
        np.testing.assert_allclose(kept.phi, again.phi, rtol=1e-9)
        np.testing.assert_allclose(kept.solution.coefficients, again.solution.coefficients, rtol=1e-7, atol=1e-9)
