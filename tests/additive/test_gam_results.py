"""What a fitted additive model offers: names, shapes, tables, pictures."""

from __future__ import annotations

import json

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from pycombat_gam.errors import OptionError

mpl.use("Agg")


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    generator = np.random.default_rng(8)
    n = 300
    x, z = generator.uniform(0, 10, n), generator.uniform(-2, 2, n)
    g = np.arange(n) % 6
    frame = pd.DataFrame({"x": x, "z": z, "g": np.array(list("abcdef"))[g], "h": np.where(g % 2, "u", "v")})
    frame["y"] = np.sin(2 * x) + z + 0.3 * g + generator.normal(0, 0.3, n)
    frame["twin"] = x + generator.normal(0, 1e-3, n)
    frame["other"] = x + generator.normal(0, 0.3, n)
    frame.index = pd.Index([f"r{i}" for i in range(n)], name="row")
    return frame


@pytest.fixture(scope="module")
def fit(data: pd.DataFrame) -> pcg.GamFit:
    made = pcg.gam("y ~ h + s(x, k=12) + s(z, bs='cr', k=5) + (1|g)", data)
    assert isinstance(made, pcg.GamFit)
    return made


def test_names_and_shapes(fit: pcg.GamFit, data: pd.DataFrame) -> None:
    p = 1 + 1 + 11 + 4 + 6
    assert list(fit.coef.index[:3]) == ["(Intercept)", "hv", "s(x).1"]
    assert fit.coef.shape == fit.edf.shape == fit.edf1.shape == fit.edf2.shape == (p,)
    assert fit.vcov.shape == fit.vcov_corrected.shape == fit.vcov_frequentist.shape == (p, p)
    assert list(fit.sp.index) == ["s(x)", "s(z)", "(1 | g)"]
    assert fit.fitted.index.equals(data.index)
    assert fit.residuals.index.equals(data.index)
    assert abs(fit.df_residual + fit.edf.sum() - fit.n) < 1e-10
    # Knowing less about the smoothing parameters, one knows less about the coefficients.
    assert (np.diag(fit.vcov_corrected) >= np.diag(fit.vcov) * (1 - 1e-9)).all()
    assert fit.edf.sum() < fit.edf2.sum() <= fit.edf1.sum() + 1e-9
    assert fit["y"] is fit
    assert "s(x)" in repr(fit)
    gcv = pcg.gam("y ~ s(x)", data, method="GCV")
    assert gcv.vcov_corrected is None
    assert gcv.edf2 is None


def test_summary(fit: pcg.GamFit) -> None:
    summary = fit.summary()
    assert list(summary.parametric.columns) == ["Estimate", "Std. Error", "t value", "Pr(>|t|)"]
    assert list(summary.smooth.columns) == ["edf", "Ref.df", "F", "p-value"]
    assert list(summary.smooth.index) == ["s(x)", "s(z)", "(1 | g)"]
    # Planted effects: p far below any level.
    assert summary.smooth["p-value"].max() < 1e-6
    text = str(summary)
    for words in (
        "Parametric coefficients:",
        "Approximate significance of smooth terms:",
        "R-sq.(adj)",
        "-REML",
        "***",
    ):
        assert words in text
    assert json.loads(json.dumps(summary.to_dict()))["n"] == 300


def test_a_term_that_does_nothing_is_not_significant() -> None:
    """Over 60 noises the p-values of a smooth and of a random effect of nothing are spread as they should be."""
    generator = np.random.default_rng(0)
    n = 120
    frame = pd.DataFrame({"x": generator.uniform(size=n), "g": np.array(list("abcdefgh"))[np.arange(n) % 8]})
    noise = pd.DataFrame(generator.normal(size=(n, 60)), columns=[f"y{k}" for k in range(60)])
    fits = pcg.gam("~ s(x, k=6) + s(g, bs='re')", pd.concat([frame, noise], axis=1), responses="^y")
    p = np.array([fit.summary().smooth["p-value"] for fit in fits.values()])
    # Binomial(60, 0.05) stays at 8 or below in 99.7% of draws; the seed is fixed.
    assert ((p < 0.05).sum(axis=0) <= 8).all()


def test_predictions(fit: pcg.GamFit, data: pd.DataFrame) -> None:
    new = data.sample(20, random_state=1)
    plain = fit.predict(new)
    assert plain.index.equals(new.index)
    # Rounding of a product of some ten columns.
    np.testing.assert_allclose(plain, fit.fitted.loc[new.index], atol=1e-10)
    value, error = fit.predict(new, se=True)
    X, V = fit.predict(new, type="lpmatrix"), fit.vcov
    # Rounding of a quadratic form.
    np.testing.assert_allclose(error, np.sqrt(np.diag(X @ V @ X.T)), rtol=1e-9)
    np.testing.assert_array_equal(value, plain)
    assert (fit.predict(new, se=True, unconditional=True).se >= error * (1 - 1e-9)).all()
    terms, errors = fit.predict(new, type="terms", se=True, exclude="s(z)")
    assert list(terms.columns) == list(errors.columns) == ["h", "s(x)", "(1 | g)"]
    np.testing.assert_array_equal(fit.predict(new, type="link"), plain)
    for options, words in (({"type": "risk"}, "type='risk'"), ({"exclude": "s(q)"}, "exclude names 's(q)'")):
        with pytest.raises(OptionError) as caught:
            fit.predict(new, **options)
        assert words in str(caught.value)


def test_many_responses(data: pd.DataFrame) -> None:
    frame = data.assign(y2=data["y"] + data["z"])
    fits = pcg.gam("~ s(x) + h", frame, responses=["y", "y2"])
    assert isinstance(fits, pcg.GamFits)
    assert list(fits) == ["y", "y2"]
    assert fits.coef.shape == (11, 2)
    assert fits.sp.shape == (1, 2)
    pd.testing.assert_series_equal(fits["y"].coef, pcg.gam("y ~ s(x) + h", frame).coef)
    pd.testing.assert_frame_equal(fits.predict(frame.head(2))[["y"]], fits["y"].predict(frame.head(2)).to_frame())
    assert list(fits.summary().columns) == ["n", "edf s(x)", "R-sq.(adj)", "deviance explained", "score", "scale"]
    pd.testing.assert_frame_equal(fits.coef, pcg.gam("cbind(y, y2) ~ s(x) + h", frame).coef)
    with pytest.raises(KeyError, match="did you mean"):
        fits["y3"]


def test_pictures(data: pd.DataFrame) -> None:
    fit = pcg.gam("y ~ h + s(x, by=h) + ti(x, z, k=4) + s(z, g, bs='fs', k=4) + s(g, bs='re') + s(z)", data)
    panels = fit.plot(residuals=True)
    assert len(panels) == len(fit.design.smooth.smooths) == 6
    for panel, smooth in zip(panels, fit.design.smooth.smooths, strict=True):
        assert smooth.label in panel.get_title()
        assert panel.has_data()
    by_level = [panel for panel, smooth in zip(panels, fit.design.smooth.smooths, strict=True) if smooth.by_level]
    assert len(by_level) == 2 and len({(panel.get_xlim(), panel.get_ylim()) for panel in by_level}) == 1
    for panel, level in zip(by_level, ["u", "v"], strict=True):
        own = data.loc[data["h"] == level, "x"]
        (curve,) = [line for line in panel.lines if len(line.get_xdata()) == 200 and line.get_linestyle() == "-"]
        np.testing.assert_allclose(curve.get_xdata()[[0, -1]], [own.min(), own.max()])
    one = fit.plot("s(z)")
    curve = one[0].lines[0]
    np.testing.assert_allclose(curve.get_xdata()[[0, -1]], [data["z"].min(), data["z"].max()])
    with pytest.raises(OptionError, match="no smooth 's"):
        fit.plot("s(q)")
    mpl.pyplot.close("all")


def test_k_check_finds_a_small_basis(data: pd.DataFrame) -> None:
    small, large = pcg.gam("y ~ s(x, k=4) + z", data).k_check(), pcg.gam("y ~ s(x, k=25) + z", data).k_check()
    assert list(small.columns) == ["k'", "edf", "k-index", "p-value"]
    assert small.loc["s(x)", "p-value"] < 0.01 < 0.05 < large.loc["s(x)", "p-value"]
    assert small.loc["s(x)", "k-index"] < 0.9
    again = pcg.gam("y ~ s(x, k=4) + z", data).k_check()
    pd.testing.assert_frame_equal(small, again)
    surface = pcg.gam("y ~ te(x, z, k=3) + s(x, z, k=12) + s(g, bs='re')", data).k_check()
    assert surface["k-index"].notna().tolist() == [True, True, False]


def test_concurvity(data: pd.DataFrame) -> None:
    table = pcg.gam("y ~ s(x) + s(other) + s(z)", data).concurvity()
    assert list(table.index) == ["worst", "observed", "estimate"]
    assert table.loc["worst", "s(x)"] > 0.9 > 0.5 > table.loc["worst", "s(z)"]
    pairs = pcg.gam("y ~ s(x) + s(other) + s(z)", data).concurvity(full=False)
    assert pairs["worst"].loc["s(x)", "s(other)"] > 0.9
    assert pairs["worst"].loc["s(x)", "s(z)"] < 0.5
