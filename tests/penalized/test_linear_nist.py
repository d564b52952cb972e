"""Certified and ill-conditioned regressions through the linear mean model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from statsmodels.datasets import longley

from pycombat_gam.mean.additive import AdditiveMean

# NIST StRD, Longley: certified values (https://www.itl.nist.gov/div898/strd/lls/data/Longley.shtml).
CERTIFIED = {
    "(Intercept)": -3482258.63459582,
    "GNPDEFL": 15.0618722713733,
    "GNP": -0.358191792925910e-01,
    "UNEMP": -2.02022980381683,
    "ARMED": -1.03322686717359,
    "POP": -0.511041056535807e-01,
    "YEAR": 1829.15146461355,
}
RESIDUAL_SS = 836424.055505915


def digits(ours: float, certified: float) -> float:
    return float(-np.log10(abs(ours - certified) / abs(certified)))


def test_longley_to_eight_digits() -> None:
    """One batch column is the intercept; the fit is the plain regression."""
    data = longley.load_pandas()
    table = data.exog.rename(columns=str.upper)
    names = [name for name in CERTIFIED if name != "(Intercept)"]
    fit = AdditiveMean().fit(
        table,
        data.endog.to_numpy(dtype=float)[:, None],
        np.zeros(len(table), dtype=np.intp),
        formula="~ " + " + ".join(names),
        labels=["all"],
    )
    for j, name in enumerate(fit.design.columns):
        assert digits(fit.coefficients[j, 0], CERTIFIED[name]) >= 8, name
    assert digits(fit.intercepts[0, 0], CERTIFIED["(Intercept)"]) >= 8
    assert digits(fit.residual_ss[0, 0], RESIDUAL_SS) >= 8


@pytest.mark.parametrize("condition", [1e4, 1e6, 1e8])
def test_ill_conditioned_designs_keep_their_digits(condition: float) -> None:
    """QR loses log10(κ) digits, normal equations twice as many: at κ = 1e8 those would have none left."""
    rng = np.random.default_rng(1)
    n = 200
    codes = np.arange(n) % 3
    base = rng.normal(size=n)
    table = pd.DataFrame({"a": base, "b": base + rng.normal(size=n) / condition})
    X = table.to_numpy()
    truth = np.array([[1.0, -2.0], [0.5, 3.0]])
    Y = X @ truth + codes[:, None]
    fit = AdditiveMean().fit(table, Y, codes, formula="~ a + b")
    exact = np.abs(fit.coefficients - truth).max()
    assert exact <= 50 * condition * np.finfo(float).eps  # κ·ε, a factor for the sizes
    centred = X - np.array([X[codes == b].mean(axis=0) for b in range(3)])[codes]
    with np.errstate(all="ignore"):
        normal = np.linalg.solve(centred.T @ centred, centred.T @ Y)
    if condition >= 1e6:
        assert np.abs(normal - truth).max() > 10 * exact


def test_an_almost_exact_fit_keeps_its_residual() -> None:
    """R² = 1 − 1e-14: the residual sum of squares is summed from residuals, not subtracted."""
    rng = np.random.default_rng(2)
    n = 300
    x = rng.normal(size=n)
    codes = np.arange(n) % 2
    noise = 1e-7 * rng.normal(size=n)
    fit = AdditiveMean().fit(pd.DataFrame({"x": x}), (x + noise)[:, None], codes, formula="~ x")
    design = np.column_stack([codes == 0, codes == 1, x]).astype(float)
    expected = noise - design @ np.linalg.lstsq(design, noise, rcond=None)[0]
    assert fit.residual_ss.sum() == pytest.approx((expected**2).sum(), rel=1e-6)  # ε/1e-7 per residual: 2e-9, squared
