"""Pictures of tables: features by site, components, travelers, against numpy, statsmodels and scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from helpers.pictures import agg, by_row, legend, new_axes, points, titles, words
from helpers.study import FEATURES, SITES, study
from sklearn.decomposition import PCA

import pycombat_gam as pcg
from pycombat_gam import plot
from pycombat_gam.errors import DataError, OptionError
from pycombat_gam.plot import pca


@pytest.fixture(autouse=True)
def without_a_screen() -> Iterator[None]:
    with agg():
        yield


@cache
def model() -> pcg.ComBat:
    return pcg.ComBat("~ age + sex", batch="site", id="subject", features=FEATURES).fit(study())


def many_sites(n: int = 12) -> pd.DataFrame:
    return pcg.datasets.simulate_multisite(sites=n, subjects=[12] * n, features=5, seed=2).table


# Features by site


def test_every_row_is_a_point_at_its_value() -> None:
    table = study()
    after = model().transform(table)
    left, right = plot.features(table, after, feature="area", batch="site")
    np.testing.assert_array_equal(np.sort(points(left)[:, 0]), np.sort(table["area"]))
    np.testing.assert_array_equal(np.sort(points(right)[:, 0]), np.sort(after["area"]))
    assert left.get_xlim() == right.get_xlim() and left.get_ylim() == right.get_ylim()
    assert (left.get_title(loc="left"), right.get_title(loc="left")) == ("before", "after")
    assert left.get_xlabel() == right.get_xlabel() == "area" and left.get_ylabel() == "site (rows)"


def test_sites_stand_in_order_of_their_median_with_quartiles() -> None:
    table = study()
    (ax,) = plot.features(table, feature="area", batch="site")
    medians = table.groupby("site")["area"].median().sort_values()
    assert [text.get_text() for text in ax.get_yticklabels()] == [f"{site} ({SITES[site]})" for site in medians.index]
    dark = [line for line in ax.lines if line.get_color() == "0.15"]
    strokes = [line for line in dark if line.get_xdata()[0] == line.get_xdata()[1]]
    np.testing.assert_allclose([line.get_xdata()[0] for line in strokes], medians)
    bars = [line.get_xdata() for line in dark if line.get_xdata()[0] != line.get_xdata()[1]]
    np.testing.assert_allclose(
        bars, [table.loc[table["site"] == s, "area"].quantile([0.25, 0.75]) for s in medians.index]
    )
    # The rows of a site lie around its place and nowhere else.
    for place, site in enumerate(medians.index):
        own = points(ax)[np.abs(points(ax)[:, 1] - place) < 0.5]
        np.testing.assert_array_equal(np.sort(own[:, 0]), np.sort(table.loc[table["site"] == site, "area"]))


def test_the_order_of_rows_changes_nothing() -> None:
    table = study()
    shuffled = table.sample(frac=1, random_state=3)
    one, other = (plot.features(each, feature="vol", batch="site")[0] for each in (table, shuffled))
    np.testing.assert_array_equal(by_row(points(one)), by_row(points(other)))


def test_values_adjusted_for_covariates_are_those_of_least_squares() -> None:
    table = study()
    (ax,) = plot.features(table, feature="depth", batch="site", model=model())
    fit = smf.ols("depth ~ 0 + C(site) + age + C(sex)", table).fit()
    male = (table["sex"] == "M").astype(float)
    part = fit.params["age"] * (table["age"] - table["age"].mean()) + fit.params["C(sex)[T.M]"] * (male - male.mean())
    # The same sums: rounding.
    np.testing.assert_allclose(np.sort(points(ax)[:, 0]), np.sort(table["depth"] - part), rtol=1e-10)
    assert ax.get_xlabel() == "depth, adjusted" and "adjusted for age, sex" in titles(ax)


def test_missing_values_are_counted() -> None:
    table = study()
    table.loc[[2, 9], "thick"] = np.nan
    (ax,) = plot.features(table, feature="thick", batch="site")
    assert len(points(ax)) == len(table) - 2 and "2 missing values not shown" in titles(ax)


def test_more_than_eight_sites_are_pale_and_named_at_their_rows() -> None:
    table = many_sites()
    (ax,) = plot.features(table, feature=table.columns[-1], batch="site")
    assert len({tuple(one.get_facecolor()[0]) for one in ax.collections}) == 1
    assert len(ax.get_yticklabels()) == 12 and ax.get_legend() is None


def test_features_only_after() -> None:
    table = study()
    axes = plot.features(table, model().transform(table)[FEATURES], feature="area", batch="site")
    assert len(axes) == 2


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda t: {"feature": "aera"}, DataError, "feature column 'aera' is not in the table.*did you mean 'area'"),
        (lambda t: {"feature": "sex"}, DataError, "feature column 'sex' is .*: it must hold numbers"),
        (lambda t: {"batch": "scanner"}, DataError, "batch column 'scanner' is not in the table"),
        (
            lambda t: {"after": t.iloc[:5]},
            DataError,
            "before has 21 rows, after 5: give the same rows in the same order",
        ),
        (lambda t: {"before": t["area"]}, DataError, "before is a Series: give a DataFrame"),
        (lambda t: {"before": t.assign(area=np.inf)}, DataError, "infinite values in 'area'"),
        (lambda t: {"before": t.assign(area=np.nan)}, DataError, "'area' has no values: all cells are missing"),
        (lambda t: {"before": t.iloc[:0]}, DataError, "before has no rows"),
        (lambda t: {"before": pd.concat([t, t], axis=1)}, DataError, "before has duplicated columns"),
        (lambda t: {"model": "age"}, OptionError, "needs a fitted ComBat; given: a str"),
        (lambda t: {"axes": new_axes(2)}, OptionError, "this picture needs 1 matplotlib axes; given: 2 objects"),
        (lambda t: {"axes": [None]}, OptionError, "this picture needs 1 matplotlib axes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_drawn_is_refused_in_words(change: Any, error: type, message: str) -> None:
    given = {"before": study(), "feature": "area", "batch": "site", **change(study())}
    with pytest.raises(error, match=message):
        plot.features(given.pop("before"), given.pop("after", None), **given)


# Components


def scaled(table: pd.DataFrame) -> np.ndarray:
    Y = table[FEATURES].to_numpy()
    within = Y - table.groupby("site")[FEATURES].transform("mean").to_numpy()
    return (Y - Y.mean(axis=0)) / np.sqrt((within**2).sum(axis=0) / (len(Y) - 3))


def test_components_are_those_of_scikit_learn() -> None:
    table = study()
    after = model().transform(table)
    left, right = plot.components(table, after, batch="site", features=FEATURES)
    reference = PCA(2).fit(scaled(table))
    signs = np.sign(reference.components_[[0, 1], np.abs(reference.components_).argmax(axis=1)])
    expected = reference.transform(scaled(table)) * signs
    # Rows first, site by site, then the three means.
    codes = table["site"].map({site: i for i, site in enumerate(SITES)}).to_numpy()
    rows = [one for one in left.collections if len(one.get_offsets()) > 1]
    for b, one in enumerate(rows):
        # Here and below: scores by another decomposition, signs aside: rounding.
        np.testing.assert_allclose(by_row(np.asarray(one.get_offsets())), by_row(expected[codes == b]), atol=1e-9)
    means = np.vstack([one.get_offsets() for one in left.collections if len(one.get_offsets()) == 1])
    np.testing.assert_allclose(means, [expected[codes == b].mean(axis=0) for b in range(3)], atol=1e-9)
    shares = 100 * reference.explained_variance_ratio_
    assert left.get_xlabel() == f"component 1 ({shares[0]:.1f} % of variance)"
    assert left.get_ylabel() == f"component 2 ({shares[1]:.1f} %)"
    assert legend(left) == list(SITES)
    # After: scaled as before, seen along the components of before.
    Y, Y2 = table[FEATURES].to_numpy(), after[FEATURES].to_numpy()
    unit = (Y - Y.mean(axis=0)) / scaled(table)
    moved = (Y2 - Y.mean(axis=0)) / unit.mean(axis=0) @ reference.components_.T * signs
    seen = np.vstack([one.get_offsets() for one in right.collections if len(one.get_offsets()) > 1])
    # As above.
    np.testing.assert_allclose(by_row(seen), by_row(moved), atol=1e-9)
    total = ((Y2 / unit.mean(axis=0)).var(axis=0)).sum()
    assert right.get_xlabel() == f"component 1 ({100 * moved[:, 0].var() / total:.1f} % of variance)"
    assert left.get_xlim() == right.get_xlim() and left.get_ylim() == right.get_ylim()
    assert "components of before" in titles(right)


@pytest.mark.parametrize(("n", "V"), [(40, 90), (90, 40)])
def test_the_first_two_alone_are_the_same(n: int, V: int, monkeypatch: pytest.MonkeyPatch) -> None:
    Z = np.random.default_rng(5).standard_normal((n, V))
    Z -= Z.mean(axis=0)
    whole = pca._loadings(Z)
    monkeypatch.setattr(pca, "DENSE", 1)
    # As above.
    np.testing.assert_allclose(pca._loadings(Z), whole, atol=1e-9)
    right = np.linalg.svd(Z, full_matrices=False)[2][:2].T
    np.testing.assert_allclose(np.abs(whole), np.abs(right), atol=1e-9)


def test_means_of_many_sites_are_named_or_counted() -> None:
    table = many_sites(30)
    (ax,) = plot.components(table, batch="site", features=list(table.columns[-5:]))
    sites = set(table["site"])
    named = [text.get_text() for text in ax.texts if text.get_text() in sites]
    assert len(named) == len(set(named)) > 5
    left = len(sites) - len(named)
    assert f"30 site means{f', {left} unnamed' if left else ''}" in titles(ax)
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text() in sites]
    overlaps = [a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert not any(overlaps)


def test_features_without_variance_are_left_out_and_counted() -> None:
    table = study().assign(flat=1.0)
    (ax,) = plot.components(table, batch="site", features=[*FEATURES, "flat"])
    assert "1 feature without variance within sites left out" in titles(ax)
    (plainly,) = plot.components(study(), batch="site", features=FEATURES)
    # As above.
    np.testing.assert_allclose(points(ax), points(plainly), atol=1e-9)


def test_components_refuse_missing_cells() -> None:
    table = study()
    table.loc[1, "vol"] = np.nan
    with pytest.raises(DataError, match=r"missing values in 'vol' \(1\): complete the table"):
        plot.components(table, batch="site", features=FEATURES)
    with pytest.raises(OptionError, match="features=None: name the features"):
        plot.components(study(), batch="site", features=None)
    with pytest.raises(DataError, match="too few for two components"):
        plot.components(study(), batch="site", features=["area"])


# Travelers


def travels(subjects: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    rows = [(f"p{i}", site) for i in range(subjects) for site in ("A", "B", "C")]
    table = pd.DataFrame(rows, columns=["who", "site"])
    return table.assign(y=rng.normal(size=len(table)))


def test_a_line_for_each_subject_across_sites() -> None:
    table = travels()
    ax = plot.travelers(table.sample(frac=1, random_state=1), subject="who", batch="site", feature="y")
    wide = table.pivot(index="who", columns="site", values="y")
    np.testing.assert_array_equal([line.get_ydata() for line in ax.lines], wide.to_numpy())
    assert [text.get_text() for text in ax.get_xticklabels()] == ["A", "B", "C"]
    assert {text.get_text() for text in ax.texts} >= set(wide.index)
    assert "4 traveling subjects, a line each" in titles(ax)


def test_visits_are_averaged_and_those_who_stayed_are_counted() -> None:
    table = pd.concat([travels(), travels().assign(y=5.0), pd.DataFrame({"who": ["q"], "site": ["A"], "y": [1.0]})])
    table = table[~((table["who"] == "p0") & (table["site"] == "B"))].reset_index(drop=True)
    table.loc[0, "y"] = np.nan
    ax = plot.travelers(table, subject="who", batch="site", feature="y")
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [0, 2])
    assert ax.lines[0].get_ydata()[0] == 5.0
    np.testing.assert_allclose(ax.lines[1].get_ydata(), (travels().query("who == 'p1'")["y"] + 5) / 2)
    assert "1 subject with values from one site not shown; 1 missing value not shown" in titles(ax)


def test_many_travelers_have_a_mean() -> None:
    ax = plot.travelers(travels(20), subject="who", batch="site", feature="y")
    assert len(ax.lines) == 20 + 2  # the mean, and its white edge
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), travels(20).groupby("site")["y"].mean())
    some = plot.travelers(travels(20).iloc[1:], subject="who", batch="site", feature="y")
    assert len(some.lines) == 20


def test_no_travelers() -> None:
    with pytest.raises(DataError, match="no subject of column 'subject' has values of 'area' from two sites"):
        plot.travelers(study(), subject="subject", batch="site", feature="area")
    with pytest.raises(DataError, match="subject column 'who' has 1 missing label"):
        table = travels().astype({"who": object})
        table.loc[0, "who"] = None
        plot.travelers(table, subject="who", batch="site", feature="y")


def test_axes_in_are_axes_out() -> None:
    known = plt.get_fignums()
    pair, one = new_axes(2), new_axes()
    assert list(plot.features(study(), study(), feature="area", batch="site", axes=pair)) == list(pair)
    assert list(plot.components(study(), batch="site", features=FEATURES, axes=one)) == [one]
    assert plot.travelers(travels(), subject="who", batch="site", feature="y", ax=(ax := new_axes())) is ax
    assert plt.get_fignums() == known
    assert words(pair[0].figure)
