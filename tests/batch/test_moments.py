"""What a mean model leaves of every batch: degrees of freedom by their definition, and what they are good for."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg

FORMULAS = {
    "nothing": "~ 1",
    "linear": "~ age + sex",
    "one smooth": "~ s(age, k=6) + sex",
    "a random intercept": "~ age + (1 | subject)",
    "two smooths": "~ s(age, k=5) + s(icv, bs='cr', k=4) + sex",
    "a smooth by sex": "~ sex + s(age, by=sex, k=4)",
    "a tensor product": "~ te(age, icv, k=3)",
}


def table(missing: bool) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    n = 90
    frame = pd.DataFrame(
        {
            "site": np.repeat(list("ABC"), [20, 30, 40]),
            "subject": [f"p{i // 2}" for i in range(n)],
            "age": rng.uniform(10, 80, n),
            "icv": rng.normal(1500, 100, n),
            "sex": np.array(["F", "M"])[rng.integers(0, 2, n)],
        }
    )
    for k in range(5):
        frame[f"y{k}"] = np.sin(frame["age"] / (8 + 3 * k)) + rng.normal(size=n) * (0.3 + 0.2 * k)
    if missing:
        frame.loc[[3, 25, 60], "y1"] = np.nan
        frame.loc[[4, 26], ["y2", "y3"]] = np.nan
    return frame


@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing cells"])
@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
def test_degrees_of_freedom_are_those_of_the_definition(formula: str, missing: bool) -> None:
    data = table(missing)
    features = [f"y{k}" for k in range(5)]
    model = pcg.ComBat(formula, "site", features=features, missing="omit" if missing else "error").fit(data)
    mean = model.fitted.mean
    X, codes = mean.design.on(data), pd.factorize(data["site"])[0]
    for k, feature in enumerate(features):
        seen = data[feature].notna().to_numpy()
        S = np.zeros((X.shape[1], X.shape[1]))
        row = 0
        for smooth, columns in zip(mean.design.smooth.smooths, mean.design.smooth_slices, strict=True):
            for penalty in smooth.penalties:
                S[columns, columns] += min(mean.smoothing.parameters[row, k], 1e12) * penalty
                row += 1
        parts = [X[seen & (codes == b)] for b in range(3)]
        cross = [(part - part.mean(axis=0)).T @ (part - part.mean(axis=0)) for part in parts]
        total = sum(cross) + S
        size = np.sqrt(np.diag(total))
        inverse = np.linalg.inv(total / np.outer(size, size)) / np.outer(size, size) if size.size else total
        expected = [len(part) - 1 - np.trace(M @ inverse) for part, M in zip(parts, cross, strict=True)]
        # Beside others a penalty is capped at 1e10 times the data: its softest direction keeps 1e-5 of a degree.
        np.testing.assert_allclose(mean.moments.df[:, k], expected, rtol=0, atol=2e-5, err_msg=feature)
        slices = mean.design.smooth_slices
        parametric = X.shape[1] - sum(columns.stop - columns.start for columns in slices)
        edf = 3 + parametric + mean.smoothing.edf[:, k].sum()
        # The fit's edf, by another way: 1e-9 where λ is at its cap.
        assert abs(mean.moments.df[:, k].sum() - (seen.sum() - edf)) < 1e-6


@pytest.mark.parametrize("formula", ["~ age + z + s(icv, k=5)", "~ age + z + s(icv, k=5) + s(x, k=5)"])
@pytest.mark.parametrize("apart", [1e-4, 1e-8])
def test_nearly_collinear_covariates_cost_no_digits(formula: str, apart: float) -> None:
    data = table(False)
    rng = np.random.default_rng(1)
    data["z"], data["x"] = data["age"] + apart * rng.normal(size=len(data)), rng.normal(size=len(data))
    model = pcg.ComBat(formula, "site", features=[f"y{k}" for k in range(5)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)  # the two are called collinear, and fitted all the same
        mean = model.fit(data).fitted.mean
    edf = 3 + 2 + mean.smoothing.edf.sum(axis=0)
    # Two ways to one trace: the fit's edf and the sum over sites; 1e-9 where λ is at its cap.
    np.testing.assert_allclose(mean.moments.df.sum(axis=0), len(data) - edf, rtol=0, atol=1e-6)


def test_residual_squares_over_them_are_unbiased_without_penalties() -> None:
    """The mean over 4,000 features with one variance, which ComBat's divisor n − 1 underestimates."""
    rng = np.random.default_rng(0)
    n, V = 30, 4000
    data = pd.DataFrame(
        {"site": np.repeat(list("AB"), [8, 22]), **{name: rng.normal(size=n) for name in ("x", "z", "u")}}
    )
    features = pd.DataFrame(rng.normal(size=(n, V)) * 2.0, columns=[f"y{k}" for k in range(V)])
    model = pcg.ComBat("~ x + z + u", "site", eb=False).fit(features, data)
    moments = model.fitted.mean.moments
    variance = (moments.residual_ss / moments.df).mean(axis=1)
    # The mean of 4,000 χ²/df of 5.6 degrees or more has a standard error below 4·√(2/(5.6·4000)) = 0.04.
    np.testing.assert_allclose(variance, 4.0, atol=0.16)
    assert moments.residual_ss[0].mean() / 7 < 0.95 * 4.0


def test_a_site_that_was_not_in_the_fit_has_one_less_than_its_rows() -> None:
    data = table(False)
    model = pcg.ComBat("~ age", "site", features=["y0", "y1"], on_unseen="estimate").fit(data)
    seen = {}

    class Watching(type(model.fitted.batch)):
        def extend(self, moments, labels, residuals=None):
            seen["df"] = moments.df
            return super().extend(moments, labels, residuals)

    fit = model.fitted
    object.__setattr__(fit, "batch", Watching(**vars(fit.batch)))
    with pytest.warns(pcg.PcgWarning, match="was not in the fit"):
        model.transform(data.iloc[:7].assign(site="D"))
    np.testing.assert_array_equal(seen["df"], np.full((1, 2), 6.0))
