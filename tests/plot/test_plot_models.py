"""Pictures of a fitted ComBat, against statsmodels, our `gam`, scipy and the estimates themselves."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from helpers.pictures import agg, by_row, legend, new_axes, points, titles
from helpers.study import FEATURES, SITES, in_site, study
from matplotlib.collections import PathCollection
from scipy import stats

import pycombat_gam as pcg
from pycombat_gam import plot
from pycombat_gam.errors import DataError, OptionError
from pycombat_gam.plot.priors import bandwidth


@pytest.fixture(autouse=True)
def without_a_screen() -> Iterator[None]:
    with agg():
        yield


@cache
def packaged() -> pd.DataFrame:
    return pcg.datasets.load_multisite()


@cache
def names() -> list[str]:
    return [name for name in packaged() if name.endswith("_thickness")]


def new(formula: str = "~ s(age) + sex", **options: Any) -> pcg.ComBat:
    return pcg.ComBat(formula, batch="site", id="subject", features=names(), **options)


@cache
def smooth() -> pcg.ComBat:
    return new().fit(packaged())


def small(formula: str = "~ age + sex", **options: Any) -> pcg.ComBat:
    return pcg.ComBat(formula, batch="site", id="subject", features=FEATURES, **options)


def fitted_line(ax: Any) -> tuple[np.ndarray, np.ndarray]:
    return ax.lines[-1].get_xdata(), ax.lines[-1].get_ydata()


def band(ax: Any) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper edge of a filled band over 200 values of x."""
    (edge,) = [one for one in ax.collections if not isinstance(one, PathCollection)]
    corners = edge.get_paths()[0].vertices
    frame = pd.DataFrame(corners, columns=["x", "y"]).groupby("x")["y"]
    return frame.min().to_numpy(), frame.max().to_numpy()


# Curves


def test_a_linear_curve_and_its_interval_are_those_of_least_squares() -> None:
    table = study()
    ax = plot.curve(small().fit(table), table, "vol", level=0.9)
    fit = smf.ols("vol ~ 0 + C(site) + age + C(sex)", table).fit()
    x, y = fitted_line(ax)
    share = [SITES[site] / len(table) for site in SITES]
    male = 0.0  # women are the commoner level
    rows = np.column_stack([np.tile(share, (len(x), 1)), np.full(len(x), male), x])
    expected = fit.t_test(rows[:, [list(fit.params.index).index(n) for n in fit.params.index]])
    np.testing.assert_allclose(y, expected.effect, rtol=1e-10)
    low, high = band(ax)
    np.testing.assert_allclose(np.column_stack([low, high]), expected.conf_int(alpha=0.1), rtol=1e-8)
    assert x[0] == table["age"].min() and x[-1] == table["age"].max()
    # Points: residuals and the site's own level stay, the effect of sex is that of women.
    level = fit.params.iloc[:3].to_numpy()[table["site"].map({s: i for i, s in enumerate(SITES)})]
    rows_y = level + fit.params["age"] * table["age"] + fit.resid
    np.testing.assert_allclose(by_row(points(ax)), by_row(np.column_stack([table["age"], rows_y])), rtol=1e-10)
    assert titles(ax) == "Expected value at the average site | at sex = F"
    assert legend(ax) == ["fitted", "90 % interval", *SITES]


def test_a_smooth_curve_and_its_interval_are_those_of_gam() -> None:
    table, feature = packaged(), names()[3]
    ax = plot.curve(smooth(), table, feature)
    x, y = fitted_line(ax)
    fit = pcg.gam(f"{feature} ~ s(age) + sex + site", table)
    share = table["site"].value_counts(normalize=True)
    grid = pd.DataFrame({"age": x, "sex": table["sex"].mode()[0]})
    rows = sum(w * fit.predict(grid.assign(site=site), type="lpmatrix").to_numpy() for site, w in share.items())
    # REML's minimum is found twice, by two searches: smoothing parameters agree to about 1e-5.
    np.testing.assert_allclose(y, rows @ fit.coef.to_numpy(), rtol=1e-5)
    se = np.sqrt(np.einsum("ij,jk,ik->i", rows, fit.vcov.to_numpy(), rows))
    half = stats.t.ppf(0.975, len(table) - fit.edf.sum()) * se
    low, high = band(ax)
    # An error moves with the smoothing parameters at first order.
    np.testing.assert_allclose((high - low) / 2, half, rtol=1e-3)
    assert ax.get_xlabel() == "age" and ax.get_ylabel() == feature


def test_a_factor_has_a_bar_for_each_level() -> None:
    table = study()
    ax = plot.curve(small().fit(table), table, "vol", "sex")
    fit = smf.ols("vol ~ 0 + C(site) + age + C(sex)", table).fit()
    share = [SITES[site] / len(table) for site in SITES]
    rows = [[*share, sex, table["age"].mean()] for sex in (0.0, 1.0)]
    expected = fit.t_test(np.array(rows))
    bar = ax.containers[0]
    # These: least squares by statsmodels: rounding.
    np.testing.assert_allclose(bar.lines[0].get_ydata(), expected.effect, rtol=1e-10)
    ends = np.array([segment[:, 1] for segment in bar.lines[2][0].get_segments()])
    np.testing.assert_allclose(ends, expected.conf_int(), rtol=1e-8)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["F", "M"]
    assert "at age = " in titles(ax)


def test_random_effects_are_at_zero() -> None:
    made = pcg.datasets.simulate_multisite(sites=3, subjects=60, features=3, visits=2, seed=4)
    table, features = made.table, list(made.features)
    options = {"batch": "site", "id": ["subject", "visit"], "features": features}
    fit = pcg.ComBat("~ age + (1 | subject)", **options).fit(table)
    ax = plot.curve(fit, table, features[0])
    x, y = fitted_line(ax)
    slope = fit.estimates.coefficients.loc["age", features[0]]
    # These: differences of neighbouring points lose two digits.
    np.testing.assert_allclose(np.diff(y) / np.diff(x), slope, rtol=1e-8)
    mean = fit.estimates.grand_mean.loc["grand_mean", features[0]]
    np.testing.assert_allclose(y - slope * x, mean, rtol=1e-8)


def test_smooths_by_a_factor_are_drawn_at_its_commonest_level() -> None:
    table = packaged()
    fit = new("~ sex + s(age, by=sex)").fit(table)
    ax = plot.curve(fit, table, names()[0])
    assert f"at sex = {table['sex'].mode()[0]}" in titles(ax)


@pytest.mark.parametrize("formula", ["~ sex + s(age, by=sex)", "~ sex * age", "~ sex + te(age, icv, by=sex, k=3)"])
def test_a_curve_that_depends_on_a_factor_is_over_its_own_rows(formula: str) -> None:
    """Of 150 F from 20 to 60 and 253 M from 40 to 80 no curve has points or a place outside its own ages."""
    table = packaged().sort_values("icv").reset_index(drop=True)
    women = np.arange(len(table)) % 8 < 3
    age = np.where(women, np.linspace(20, 60, len(table)), np.linspace(40, 80, len(table)))
    table = table.assign(sex=np.where(women, "F", "M"), age=age)
    fit = new(formula).fit(table)
    for shown, others, ends in (
        (table, int(women.sum()), age[~women]),
        (table[women], 0, age[women]),
    ):
        ax = plot.curve(fit, shown, names()[0], "age")
        x, _ = fitted_line(ax)
        np.testing.assert_allclose([x.min(), x.max()], [ends.min(), ends.max()])
        drawn = points(ax)
        assert sorted(drawn[:, 0]) == pytest.approx(sorted(ends))
        assert (f"{others} rows of other sex not shown" in titles(ax)) == (others > 0)


def test_the_first_smooth_is_drawn_by_default_else_the_first_number() -> None:
    table = packaged()
    assert plot.curve(new("~ icv + sex + s(age)").fit(table), table, names()[0]).get_xlabel() == "age"
    assert plot.curve(new("~ sex + icv + age").fit(table), table, names()[0]).get_xlabel() == "icv"
    assert plot.curve(new("~ sex").fit(table), table, names()[0]).get_xlabel() == "sex"
    waves = table.assign(wave=np.arange(len(table)) % 3)
    ax = plot.curve(new("~ factor(wave) + age").fit(waves), waves, names()[0])
    assert ax.get_xlabel() == "age" and "at wave = " in titles(ax)


@pytest.mark.filterwarnings("ignore::pycombat_gam.errors.PcgWarning")
def test_missing_cells_take_the_interval_away_and_are_counted() -> None:
    table = study()
    table.loc[[4, 11], "vol"] = np.nan
    ax = plot.curve(small(missing="omit").fit(table), table, "vol")
    assert "2 missing values not shown; no interval, as the fit has missing cells" in titles(ax)
    assert legend(ax) == ["fitted", *SITES] and len(points(ax)) == len(table) - 2


def test_a_site_that_the_fit_does_not_know_is_drawn_too() -> None:
    table = study()
    later = table.assign(site=table["site"].replace("Oslo", "Rome"))
    ax = plot.curve(small().fit(table), later, "vol")
    assert "Rome" in legend(ax) and "Oslo" not in legend(ax)


def test_many_sites_are_coloured_by_their_location() -> None:
    table = pcg.datasets.simulate_multisite(sites=12, subjects=[12] * 12, features=4, seed=2).table
    features = list(table.columns[-4:])
    fit = pcg.ComBat("~ age", batch="site", id="subject", features=features).fit(table)
    ax = plot.curve(fit, table, features[0])
    lightness = [
        one.get_facecolor()[0, :3] @ [0.2126, 0.7152, 0.0722] for one in ax.collections if len(one.get_offsets()) == 12
    ]
    gamma = fit.estimates.gamma_hat[features[0]]
    assert list(np.argsort(lightness)) == list(np.argsort(gamma)) and len(lightness) == 12
    assert legend(ax)[-1] == "rows of 12 sites"


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda m, t: plot.curve(m, t, "vol", "icv"), "covariate 'icv' is not in the formula .*: age, sex"),
        (lambda m, t: plot.curve(m, t, "vols"), "no feature 'vols' in the fit.*did you mean 'vol'"),
        (lambda m, t: plot.curve(m, t, "vol", level=95), "level=95: give a number between 0 and 1"),
        (lambda m, t: plot.curve(t, t, "vol"), "curve needs a fitted ComBat; given: a DataFrame"),
        (lambda m, t: plot.curve(small(), t, "vol"), "not fitted yet"),
        (lambda m, t: plot.curve(small("~ 1").fit(t), t, "vol"), "has no covariate, so there is no curve"),
        (lambda m, t: plot.curve(m, None, "vol"), "table is None: give a DataFrame"),
        (lambda m, t: plot.prior(m, "Rome"), "site 'Rome' is not a batch of column 'site'"),
        (lambda m, t: plot.prior(m, "Oslo", effect="scales"), "effect='scales': allowed are 'location' and 'scale'"),
        (lambda m, t: plot.training(m), "training needs a fitted FlowSCM; given: a ComBat"),
        (lambda m, t: plot.fan(m, t, "vol"), "fan needs a fitted FlowSCM; given: a ComBat"),
        (lambda m, t: plot.site_effects("m"), "site_effects needs a fitted ComBat; given: a str"),
        (lambda m, t: plot.shrinkage(None), "shrinkage needs a fitted ComBat; given: None"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_drawn_is_refused_in_words(draw: Any, message: str) -> None:
    table = study()
    with pytest.raises((OptionError, DataError, pcg.PcgError), match=message):
        draw(small().fit(table), table)


# Priors


@pytest.mark.parametrize("effect", ["location", "scale"])
def test_densities_are_those_of_scipy(effect: str) -> None:
    ax = plot.prior(smooth(), "Delft", effect=effect)
    estimates = smooth().estimates
    values = (estimates.gamma_hat if effect == "location" else estimates.delta_hat).loc["Delft"].to_numpy()
    own, prior = ax.lines[0], ax.lines[1]
    x = own.get_xdata()
    iqr = stats.iqr(values)
    bw = 0.9 * min(values.std(ddof=1), iqr / 1.34) * len(values) ** -0.2
    kernel = stats.norm.pdf((x[:, None] - values) / bw).mean(axis=1) / bw
    # A density by another sum of kernels: rounding.
    np.testing.assert_allclose(own.get_ydata(), kernel, rtol=1e-8)
    m, s2 = values.mean(), values.var(ddof=1)
    a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
    density = stats.norm.pdf(x, m, np.sqrt(s2)) if effect == "location" else stats.invgamma.pdf(x, a, scale=b)
    np.testing.assert_allclose(prior.get_ydata(), density, rtol=1e-8)
    np.testing.assert_array_equal(np.sort(ax.lines[2].get_xdata()), np.sort(values))
    # Both densities are drawn whole.
    for line in (own, prior):
        assert np.trapezoid(line.get_ydata(), x) == pytest.approx(1.0, abs=0.01)
    assert legend(ax)[0] == f"estimates of {len(names())} features" and legend(ax)[1].startswith("prior: ")


def test_bandwidth_is_that_of_r() -> None:
    """R 4.2: bw.nrd0(c(1, 2, 3, 4, 10)) and of numbers whose quartiles agree, where R takes the sd."""
    assert bandwidth(np.array([1.0, 2, 3, 4, 10])) == pytest.approx(0.9 * 2 / 1.34 * 5**-0.2, rel=1e-12)
    tied = np.array([0.0, 1, 1, 1, 1, 1, 5])
    assert bandwidth(tied) == pytest.approx(0.9 * tied.std(ddof=1) * 7**-0.2, rel=1e-12)


def test_a_prior_that_was_not_used_is_called_that() -> None:
    fit = small(prior="nonparametric").fit(study())
    ax = plot.prior(fit, "Oslo")
    assert legend(ax)[1].startswith("not used: normal") and "the estimates themselves are the prior" in titles(ax)


def one_row() -> pd.DataFrame:
    return study().iloc[:16]


@pytest.mark.filterwarnings("ignore::pycombat_gam.errors.PcgWarning")
@pytest.mark.parametrize(
    ("options", "site", "effect", "message"),
    [
        ({"eb": False}, "Oslo", "location", "fitted with eb=False, where each feature keeps its own estimates"),
        ({"ref_batch": "Oslo"}, "Oslo", "location", "it is the reference, which is not adjusted"),
        ({"mean_only": True}, "Oslo", "scale", "fitted with mean_only=True; use effect='location'"),
        ({}, "Turin", "scale", "it has one row, which has no variance"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_prior_and_why(options: Any, site: str, effect: str, message: str) -> None:
    fit = small(**options).fit(one_row())
    with pytest.raises(OptionError, match=message):
        plot.prior(fit, site, effect=effect)


@pytest.mark.filterwarnings("ignore::pycombat_gam.errors.PcgWarning")
def test_the_location_of_one_row_has_a_prior() -> None:
    fit = small().fit(one_row())
    assert plot.prior(fit, "Turin").get_title(loc="left") == "Location of Turin (1 row)"


# Site effects


@pytest.mark.parametrize("effect", ["location", "scale"])
def test_the_heat_map_holds_what_is_removed(effect: str) -> None:
    ax = plot.site_effects(smooth(), effect=effect)
    estimates = smooth().estimates
    values = estimates.gamma_star if effect == "location" else np.log2(np.sqrt(estimates.delta_star))
    means = values.mean(axis=1).sort_values(ascending=False)
    image = ax.images[0]
    # The same products: rounding.
    np.testing.assert_allclose(np.asarray(image.get_array()), values.loc[means.index].to_numpy(), rtol=1e-12)
    assert image.get_clim() == (-np.abs(values.to_numpy()).max(), np.abs(values.to_numpy()).max())
    assert [text.get_text() for text in ax.get_yticklabels()] == list(means.index)
    said = [text.get_text() for text in ax.texts if text.xycoords == ("axes fraction", "data")]
    expected = [f"{m:+.2f}".replace("-", "−") if effect == "location" else f"×{2**m:.2f}" for m in means]
    assert said == expected


def test_ratios_on_the_bar_stand_at_their_logarithms() -> None:
    ax = plot.site_effects(smooth(), effect="scale")
    (bar,) = [one for one in ax.figure.axes if one is not ax]
    ratios = np.array([float(text.get_text()) for text in bar.get_yticklabels()])
    np.testing.assert_allclose(bar.get_yticks(), np.log2(ratios), atol=1e-3)  # 0.667 stands for 2/3
    assert 1.0 in ratios and len(ratios) >= 3


def test_many_features_are_drawn_evenly_spread_and_it_is_said() -> None:
    made = pcg.datasets.simulate_multisite(sites=3, subjects=[15, 12, 10], features=900, seed=1)
    fit = pcg.ComBat("~ age", batch="site", id="subject", features=list(made.features)).fit(made.table)
    ax = plot.site_effects(fit)
    assert ax.get_xlabel() == "400 of 900 features, evenly spread, in the order of the fit"
    assert np.asarray(ax.images[0].get_array()).shape == (3, 400)
    assert "400 of 900" not in titles(ax) and not ax.get_xticklabels()
    few = plot.site_effects(small().fit(study()))
    assert [text.get_text() for text in few.get_xticklabels()] == FEATURES


# Shrinkage


@pytest.mark.parametrize("effect", ["location", "scale"])
def test_shrinkage_shows_hat_and_star(effect: str) -> None:
    ax = plot.shrinkage(smooth(), effect=effect)
    estimates = smooth().estimates
    hat, star = (
        (estimates.gamma_hat, estimates.gamma_star)
        if effect == "location"
        else (estimates.delta_hat, estimates.delta_star)
    )
    expected = np.column_stack([hat.to_numpy().ravel(), star.to_numpy().ravel()])
    np.testing.assert_array_equal(by_row(points(ax)), by_row(expected))
    assert ax.get_xlim() == ax.get_ylim()
    assert ax.get_xscale() == ("linear" if effect == "location" else "log")
    sizes = packaged()["site"].value_counts()
    assert legend(ax) == [f"{site} ({sizes[site]})" for site in sizes.sort_values(kind="stable").index]


def test_the_smallest_of_many_sites_are_named() -> None:
    table = pcg.datasets.simulate_multisite(sites=12, subjects=list(range(10, 22)), features=5, seed=2).table
    fit = pcg.ComBat("~ age", batch="site", id="subject", features=list(table.columns[-5:])).fit(table)
    ax = plot.shrinkage(fit)
    sizes = table["site"].value_counts().sort_values()
    assert legend(ax) == [*(f"{site} ({n})" for site, n in sizes.iloc[:7].items()), "5 larger sites"]


@pytest.mark.filterwarnings("ignore::pycombat_gam.errors.PcgWarning")
def test_what_was_not_shrunk_is_not_drawn() -> None:
    table = in_site(study().assign(flat=2.0), "area", "Oslo", 3.0)
    features = [*FEATURES, "flat"]
    fit = pcg.ComBat("~ age", batch="site", id="subject", features=features, ref_batch="Lyon").fit(table)
    assert len(points(plot.shrinkage(fit))) == 2 * 4  # two sites, all but the constant feature
    assert len(points(plot.shrinkage(fit, effect="scale"))) == 2 * 4 - 1  # Oslo has no variance of one of them
    assert not any(text.startswith("Lyon") for text in legend(plot.shrinkage(fit)))
    with pytest.raises(OptionError, match="eb=False, so nothing was shrunk"):
        plot.shrinkage(small(eb=False).fit(study()))
    for draw in (plot.shrinkage, plot.site_effects):
        with pytest.raises(OptionError, match="mean_only=True, so it has no scale"):
            draw(small(mean_only=True).fit(study()), effect="scale")


def test_axes_in_are_axes_out() -> None:
    fit, table = small().fit(study()), study()
    for draw in (
        lambda ax: plot.curve(fit, table, "vol", ax=ax),
        lambda ax: plot.prior(fit, "Oslo", ax=ax),
        lambda ax: plot.site_effects(fit, ax=ax),
        lambda ax: plot.shrinkage(fit, ax=ax),
    ):
        ax = new_axes()
        assert draw(ax) is ax
