"""Laws of additive models: what has to hold whatever the data, in exact arithmetic."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from pycombat_gam.smooth.bases import MARGINS
from pycombat_gam.smooth.basis import BasisOptions

BASES = ("tp", "ts", "cr", "cs", "cc", "ps", "cp", "bs")


def table(n: int = 150, seed: int = 3) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    x, z = generator.uniform(0, 10, n), generator.uniform(-2, 2, n)
    g = generator.integers(0, 4, n)
    data = pd.DataFrame({"x": x, "z": z, "g": np.array(list("abcd"))[g], "h": np.where(x + z > 5, "u", "v")})
    for k in range(5):
        bend = np.sin(x * (0.3 + 0.2 * k)) + 0.3 * z**2 + 0.2 * g
        data[f"y{k}"] = bend + generator.normal(0, 0.3, n)
    return data


def learn(name: str, x: np.ndarray, k: int = 8):
    return MARGINS[name].learn(("x",), {"x": x}, BasisOptions(k, None, {}, f"s(x, bs='{name}')"))


@pytest.mark.parametrize("name", ["cr", "cs", "cc", "ps", "cp", "bs"])
def test_partition_of_unity(name: str) -> None:
    """Splines of local support add up to one everywhere, beyond the data too (rounding of a sum of ten)."""
    basis = learn(name, table()["x"].to_numpy())
    at = np.linspace(-5, 15, 101)
    np.testing.assert_allclose(basis.on({"x": at}).sum(axis=1), 1.0, atol=1e-12)


@pytest.mark.parametrize("name", ["tp", "cr", "ps", "bs"])
def test_straight_lines_are_free(name: str) -> None:
    """A line lies in the basis and costs no penalty; fitted, it takes two degrees of freedom and leaves nothing."""
    data = table()
    basis = learn(name, data["x"].to_numpy())
    X, line = basis.on({"x": data["x"].to_numpy()}), 3.0 - 0.7 * data["x"].to_numpy()
    coefficients = np.linalg.lstsq(X, line, rcond=None)[0]
    np.testing.assert_allclose(X @ coefficients, line, atol=1e-9)
    S = basis.penalties[0]
    # λ‖S‖β² would be of order one for a curve; what is left is rounding of the solve.
    assert abs(coefficients @ S @ coefficients) < 1e-9 * np.abs(S).max() * (coefficients @ coefficients)
    data["line"] = line + 1e-6 * np.cos(40 * data["x"])
    fit = pcg.gam(f"line ~ s(x, bs='{name}', k=8)", data)
    # What the search leaves of an edf that is to vanish.
    assert abs(float(fit.edf.sum()) - 2) < 1e-3


def test_planes_and_saddles_are_free() -> None:
    data = table()
    wobble = 1e-6 * np.cos(40 * data["x"])
    data["plane"] = 1 + 2 * data["x"] - data["z"] + wobble
    data["saddle"] = data["plane"] + 0.5 * data["x"] * data["z"]
    # Both: what the search leaves of edfs that are to vanish.
    assert abs(float(pcg.gam("plane ~ s(x, z, k=20)", data).edf.sum()) - 3) < 1e-2
    assert abs(float(pcg.gam("saddle ~ te(x, z, k=4)", data).edf.sum()) - 4) < 1e-2


def test_terms_sum_to_the_prediction() -> None:
    data = table()
    fit = pcg.gam("y0 ~ h + s(x) + te(x, z, k=4) + (1|g)", data)
    terms = fit.predict(data, type="terms")
    # Here and below: rounding of a sum of some terms of size one.
    np.testing.assert_allclose(terms.sum(axis=1) + terms.attrs["constant"], fit.predict(data), atol=1e-10)
    X = fit.predict(data, type="lpmatrix")
    np.testing.assert_allclose(X @ fit.coef, fit.fitted, atol=1e-10)
    gone = fit.predict(data, exclude=["s(x)", "te(x,z)", "(1 | g)"])
    # As above.
    np.testing.assert_allclose(gone, terms["h"] + terms.attrs["constant"], atol=1e-10)


@pytest.mark.parametrize("name", BASES)
def test_no_penalty_is_least_squares(name: str) -> None:
    """λ → 0: the fit is that of the same columns without a penalty."""
    data = table()
    fit = pcg.gam(f"y0 ~ s(x, bs='{name}', k=7)", data, sp=[1e-12])
    X = fit.predict(data, type="lpmatrix").to_numpy()
    plain = X @ np.linalg.lstsq(X, data["y0"], rcond=None)[0]
    # The bias of a penalty of 1e-12, relative to data of size one.
    np.testing.assert_allclose(fit.fitted, plain, atol=1e-7)
    fixed = pcg.gam(f"y0 ~ s(x, bs='{name}', k=7, fx=TRUE)", data)
    np.testing.assert_allclose(fixed.fitted, plain, atol=1e-9)


@pytest.mark.parametrize("name", ["tp", "cr", "ps", "bs"])
def test_full_penalty_is_a_line(name: str) -> None:
    """λ → ∞: the fit is the straight line; a penalty of 1e12 leaves less than 1e-8 of the curve."""
    data = table()
    fit = pcg.gam(f"y0 ~ s(x, bs='{name}', k=8)", data, sp=[1e12])
    line = np.polyval(np.polyfit(data["x"], data["y0"], 1), data["x"])
    # Less than 1e-8 of the curve, times its size.
    np.testing.assert_allclose(fit.fitted, line, atol=1e-6)
    assert abs(float(fit.edf.sum()) - 2) < 1e-6


@pytest.mark.parametrize("name", BASES)
def test_units_of_x_do_not_matter(name: str) -> None:
    data = table()
    data["days"] = 365.25 * data["x"] - 40
    ours, other = (pcg.gam(f"y1 ~ s({v}, bs='{name}')", data) for v in ("x", "days"))
    # Smoothing parameters are found to 1e-6 or better, and the fit is flat around them.
    np.testing.assert_allclose(ours.fitted, other.fitted, atol=1e-8)
    assert abs(ours.score - other.score) < 1e-8 * abs(ours.score)


def test_units_of_y_scale_the_fit() -> None:
    data = table()
    data["far"] = 1000 * data["y1"] + 1e6
    ours, other = pcg.gam("y1 ~ s(x) + h", data), pcg.gam("far ~ s(x) + h", data)
    # These: the search's last step, on a scale a thousand times larger and summed with 1e6.
    np.testing.assert_allclose(other.fitted, 1000 * ours.fitted + 1e6, atol=1e-5)
    np.testing.assert_allclose(other.edf, ours.edf, atol=1e-7)


def test_order_of_rows_does_not_matter() -> None:
    data = table()
    mixed = data.sample(frac=1, random_state=1)
    for formula in ("y2 ~ s(x) + s(z, bs='cr')", "y2 ~ te(x, z, k=4)", "y2 ~ s(x, by=h) + h + (1|g)"):
        ours, other = pcg.gam(formula, data), pcg.gam(formula, mixed)
        # The search's last step from sums in another order.
        np.testing.assert_allclose(other.fitted.loc[data.index], ours.fitted, atol=1e-9)


def test_names_of_levels_do_not_matter() -> None:
    data = table()
    named = data.assign(
        g=data["g"].map({"a": "zebra", "b": "yak", "c": "x-ray", "d": "whale"}), h=data["h"].map({"u": "1", "v": "0"})
    )
    for formula in ("y3 ~ s(x, by=h) + h + (1|g)", "y3 ~ s(x, g, bs='fs', k=5)"):
        ours, other = pcg.gam(formula, data), pcg.gam(formula, named)
        # Factors in another order give other columns: two searches.
        np.testing.assert_allclose(other.fitted, ours.fitted, atol=1e-7)


@pytest.mark.parametrize("formula", ["~ s(x) + h", "~ s(x) + s(z)", "~ te(x, z, k=4) + (1|g)"])
@pytest.mark.parametrize("method", ["REML", "ML", "GCV"])
def test_responses_do_not_see_each_other(formula: str, method: str) -> None:
    data = table()
    names = [f"y{k}" for k in range(5)]
    together = pcg.gam(formula, data, responses=names, method=method)
    for some in (names[:1], names[3:]):
        apart = pcg.gam(formula, data, responses=some, method=method)
        for name in some:
            # 1e-10 sd is what the search's last step leaves; blocked products round differently.
            np.testing.assert_allclose(together[name].fitted, apart[name].fitted, atol=1e-10)
            np.testing.assert_allclose(together[name].coef, pcg.gam(f"{name} {formula}", data, method=method).coef)


def test_weights_are_repeated_rows() -> None:
    data = table(60)
    w = np.random.default_rng(0).integers(1, 4, 60)
    at = [float(v) for v in data["x"].quantile(np.linspace(0, 1, 8))]
    weighted = pcg.gam("y0 ~ s(x, bs='cr', k=8, pc=5)", data, weights=w, sp=[2.0], knots={"x": at})
    rows = data.loc[np.repeat(data.index, w)].reset_index(drop=True)
    repeated = pcg.gam("y0 ~ s(x, bs='cr', k=8, pc=5)", rows, sp=[2.0], knots={"x": at})
    # The penalty's scale is taken from the columns' largest row sum, which repetition does not change.
    np.testing.assert_allclose(weighted.coef, repeated.coef, atol=1e-9)


def test_an_offset_is_subtracted() -> None:
    data = table()
    data["less"] = data["y0"] - data["z"]
    ours, other = pcg.gam("y0 ~ s(x)", data, offset="z"), pcg.gam("less ~ s(x)", data)
    # The same numbers enter: rounding.
    np.testing.assert_allclose(ours.fitted - data["z"], other.fitted, atol=1e-10)
    assert abs(ours.score - other.score) < 1e-9


def test_a_cycle_closes() -> None:
    data = table()
    for name in ("cc", "cp"):
        fit = pcg.gam(f"y0 ~ s(x, bs='{name}')", data, knots={"x": [0, 10]})
        ends = fit.predict(pd.DataFrame({"x": [0.0, 10.0, 1e-6, 10 + 1e-6]}))
        # A cycle closes but for rounding of its ends.
        assert abs(ends[0] - ends[1]) < 1e-10
        assert abs((ends[2] - ends[0]) - (ends[3] - ends[1])) < 1e-10


def test_the_same_call_gives_the_same_bits() -> None:
    data = table(400)
    first, second = (pcg.gam("y0 ~ s(x) + s(z) + te(x, z, k=4)", data) for _ in range(2))
    assert (first.coef == second.coef).all()
    assert first.score == second.score


def test_bars_are_random_effects() -> None:
    data = table()
    bars, smooths = pcg.gam("y0 ~ z + (1 + z || g)", data), pcg.gam("y0 ~ z + s(g, bs='re') + s(g, z, bs='re')", data)
    assert [s.label for s in bars.design.smooth.smooths] == ["(1 | g)", "(0 + z | g)"]
    # The same columns: rounding.
    np.testing.assert_allclose(bars.fitted, smooths.fitted, atol=1e-10)


def test_combat_with_a_smooth_keeps_its_laws() -> None:
    """Fit and transform equal fit_transform; a saved model answers the same; the linear model is the limit."""
    study = pcg.datasets.packaged_study()
    model = pcg.ComBat("~ s(age) + sex", batch="site", id="subject", features="_thickness$")
    both = model.fit_transform(study.table)
    pd.testing.assert_frame_equal(both, model.fit(study.table).transform(study.table))
    stiff = pcg.ComBat("~ s(age, sp=1e12) + sex", batch="site", id="subject", features="_thickness$")
    line = pcg.ComBat("~ age + sex", batch="site", id="subject", features="_thickness$")
    features = [name for name in study.table if name.endswith("_thickness")]
    gap = stiff.fit_transform(study.table)[features] - line.fit_transform(study.table)[features]
    # A penalty of 1e12 leaves 1e-8 of the curve, as above.
    assert float(np.abs(gap).to_numpy().max()) < 1e-8
