"""Awkward input that is handled: one warning names features and sites, and the numbers are right.

Each entry of `HANDLED` is a table that R stops at or answers with NaN, beside what the equations give.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from helpers.study import FEATURES, assign, in_site, only, put, same, study
from helpers.textbook import textbook_combat

import pycombat_gam as pcg
from pycombat_gam.errors import DataError

EXACT = 1e-11
"""Two independent double-precision computations of the same equations, in units of the feature's sd."""


def fit_quietly(model: pcg.ComBat, *data: Any, **more: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        return model.fit_transform(*data, **more)


def expect(table: pd.DataFrame, formula: str = "~ age", **options: Any) -> np.ndarray:
    """What the equations give, by the independent textbook."""
    X = table[["age"]].to_numpy() if "age" in formula else np.zeros((len(table), 0))
    Y = table[FEATURES].to_numpy(dtype=float)
    return textbook_combat(Y, X, table["site"].to_numpy(dtype=str), **options)[0]


def close(ours: pd.DataFrame, expected: np.ndarray, table: pd.DataFrame) -> None:
    sd = table[FEATURES].std().replace(0, 1).to_numpy()
    np.testing.assert_allclose(ours[FEATURES].to_numpy() / sd, expected / sd, rtol=0, atol=EXACT, equal_nan=True)


def constant_in(*places: tuple[str, str]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        for feature, site in places:
            in_site(table, feature, site, 4.25)
        return table

    return change


def holes(*cells: tuple[str, int]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        for feature, row in cells:
            table.loc[row, feature] = np.nan
        return table

    return change


def one_subject(table: pd.DataFrame) -> pd.DataFrame:
    return table[(table["site"] != "Turin") | (table.index == 20)]


def all_but_one_missing(table: pd.DataFrame) -> pd.DataFrame:
    table.loc[(table["site"] == "Oslo") & (table.index != 9), "vol"] = np.nan
    return table


class Handled(NamedTuple):
    name: str
    change: Callable[[pd.DataFrame], pd.DataFrame]
    options: dict[str, Any]
    warns: tuple[str, ...]


HANDLED = [
    Handled("ordinary table", same, {}, ()),
    Handled("one subject in a site", one_subject, {}, ("'Turin'", "one subject", "location only")),
    Handled("one subject in a site, no EB", one_subject, {"eb": False}, ("'Turin'", "one subject")),
    Handled("one subject in a site, mean only", one_subject, {"mean_only": True}, ("'Turin'",)),
    Handled("one subject in a site, nonparametric", one_subject, {"prior": "nonparametric"}, ("'Turin'",)),
    Handled("one subject in a site, other reference", one_subject, {"ref_batch": "Lyon"}, ("'Turin'",)),
    Handled("constant in a site", constant_in(("area", "Oslo")), {}, ("'Oslo'", "area", "location only")),
    Handled("constant in a site, no EB", constant_in(("area", "Oslo")), {"eb": False}, ("'Oslo'", "area")),
    Handled(
        "constant in a site, nonparametric",
        constant_in(("area", "Oslo")),
        {"prior": "nonparametric"},
        ("area",),
    ),
    Handled("constant in a site, mean only", constant_in(("area", "Oslo")), {"mean_only": True}, ("'Oslo'",)),
    Handled(
        "constant in two sites",
        constant_in(("area", "Oslo"), ("vol", "Lyon")),
        {},
        ("'Oslo'", "'Lyon'", "vol"),
    ),
    Handled("constant in the other site", constant_in(("area", "Oslo")), {"ref_batch": "Lyon"}, ("'Oslo'", "area")),
    Handled("constant feature", assign(area=4.25), {}, ("constant", "area", "untouched")),
    Handled("feature of zeros", assign(area=0.0), {}, ("constant", "area", "untouched")),
    Handled("constant feature, reference", assign(area=4.25), {"ref_batch": "Oslo"}, ("area", "untouched")),
    Handled("missing cells", holes(("area", 3), ("area", 9), ("vol", 9)), {"missing": "omit"}, ()),
    Handled("missing cells, no EB", holes(("area", 3), ("vol", 9)), {"missing": "omit", "eb": False}, ()),
    Handled(
        "missing cells, reference",
        holes(("area", 3), ("vol", 9)),
        {"missing": "omit", "ref_batch": "Oslo"},
        (),
    ),
    Handled("one observed in a site", all_but_one_missing, {"missing": "omit"}, ("'Oslo'", "vol", "location only")),
    Handled("two features", lambda t: t.assign(area=1.0, vol=2.0), {}, ("area, vol", "constant")),
    Handled("huge offset", lambda t: t.assign(**{f: t[f] + 1e6 for f in FEATURES}), {}, ()),
    Handled("tiny numbers", lambda t: t.assign(**{f: t[f] * 1e-150 for f in FEATURES}), {}, ()),
]


@pytest.mark.parametrize("case", HANDLED, ids=[case.name for case in HANDLED])
def test_handled(case: Handled) -> None:
    table = case.change(study())
    model = pcg.ComBat("~ age", batch="site", features=FEATURES, **case.options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ours = model.fit_transform(table)
    assert [str(w.message) for w in caught if w.category is not pcg.PcgWarning] == []
    assert len(caught) == (1 if case.warns else 0), [str(w.message) for w in caught]
    for words in case.warns:
        assert words in str(caught[0].message)
        assert words in str(model.summary())
    theirs = {"ref" if k == "ref_batch" else k: v for k, v in case.options.items() if k != "missing"}
    if case.name == "huge offset":
        expected = expect(study(), **theirs) + 1e6
        np.testing.assert_allclose(ours[FEATURES], expected, rtol=0, atol=1e-8)  # 1e6·ε is 1e-10
    elif case.name == "tiny numbers":
        np.testing.assert_allclose(ours[FEATURES] / 1e-150, expect(study(), **theirs), rtol=1e-11)
    else:
        close(ours, expect(table, **theirs), table)
    assert np.array_equal(ours[FEATURES].isna(), table[FEATURES].isna())
    pd.testing.assert_frame_equal(fit_quietly(model, table), ours)


def test_other_sites_are_unaffected_by_a_site_of_location_only() -> None:
    """The priors of Lyon and Turin do not hear of Oslo's constant feature, beyond mean and variance."""
    table = constant_in(("area", "Oslo"))(study())
    with pytest.warns(pcg.PcgWarning, match="location only in batch 'Oslo'"):
        model = pcg.ComBat("~ age", batch="site", features=FEATURES).fit(table)
    e = model.estimates
    g_bar, t2, a_prior = (frame.squeeze(axis=1) for frame in (e.gamma_bar, e.t2, e.a_prior))
    rest = ["thick", "vol", "depth"]
    assert e.delta_star.loc["Oslo", "area"] == 1.0
    # Down to the last: means and variances of a few numbers: rounding.
    assert g_bar["Oslo"] == pytest.approx(e.gamma_hat.loc["Oslo", rest].mean(), rel=1e-12)
    assert t2["Oslo"] == pytest.approx(e.gamma_hat.loc["Oslo", rest].var(), rel=1e-12)
    for site in ("Lyon", "Turin"):
        assert g_bar[site] == pytest.approx(e.gamma_hat.loc[site].mean(), rel=1e-12)
        m, s2 = e.delta_hat.loc[site].mean(), e.delta_hat.loc[site].var()
        # As above.
        assert a_prior[site] == pytest.approx((2 * s2 + m**2) / s2, rel=1e-12)
    g, t2_oslo, n = e.gamma_hat.loc["Oslo", "area"], t2["Oslo"], 7
    assert e.gamma_star.loc["Oslo", "area"] == pytest.approx(
        # As above.
        (n * t2_oslo * g + g_bar["Oslo"]) / (n * t2_oslo + 1),
        rel=1e-12,
    )


@pytest.mark.parametrize("options", [{}, {"ref_batch": "Oslo"}, {"eb": False}, {"mean_only": True}], ids=str)
def test_a_feature_exactly_linear_in_age_passes_untouched(options: dict[str, Any]) -> None:
    """Pooled variance zero to rounding: no residual to scale by."""
    table = study().assign(area=lambda t: 3.0 + 0.1 * t["age"])
    with pytest.warns(pcg.PcgWarning, match=r"no residual variance.*untouched: area"):
        model = pcg.ComBat("~ age", batch="site", features=FEATURES, **options).fit(table)
    out = model.transform(table)
    assert np.array_equal(out["area"], table["area"])
    assert np.isfinite(out[FEATURES].to_numpy()).all()


def test_no_variance_in_the_reference_site_passes_untouched_and_names_it() -> None:
    table = in_site(study(), "area", "Oslo", 2.5)
    with pytest.warns(pcg.PcgWarning, match=r"reference batch 'Oslo'.*untouched: area"):
        out = pcg.ComBat("~ 1", batch="site", features=FEATURES, ref_batch="Oslo").fit_transform(table)
    assert np.array_equal(out["area"], table["area"])
    assert np.isfinite(out[FEATURES].to_numpy()).all()


def test_constant_within_every_site_is_no_variance() -> None:
    table = study()
    table["area"] = table["site"].map({"Lyon": 1.0, "Oslo": 2.0, "Turin": 3.0})
    with pytest.warns(pcg.PcgWarning, match="area"):
        out = pcg.ComBat("~ age", batch="site", features=FEATURES).fit_transform(table)
    assert np.array_equal(out["area"], table["area"])


def test_reference_rows_come_back_bit_for_bit() -> None:
    table = holes(("area", 10))(study())
    out = pcg.ComBat("~ age", batch="site", features=FEATURES, ref_batch="Oslo", missing="omit").fit_transform(table)
    rows = table["site"] == "Oslo"
    pd.testing.assert_frame_equal(out[rows], table[rows])


@pytest.mark.parametrize("prior", ["parametric", "nonparametric"])
def test_sites_of_thousands_stay_finite(prior: str) -> None:
    """R's product of densities underflows past 500 subjects."""
    big = pd.concat([study(seed) for seed in range(150)], ignore_index=True)
    out = pcg.ComBat("~ age", batch="site", features=FEATURES, prior=prior).fit_transform(big)
    close(out, expect(big, prior=prior), big)


def test_an_unseen_site_can_be_estimated_and_leaves_the_others_alone() -> None:
    table = study()
    model = pcg.ComBat("~ age", batch="site", features=FEATURES, on_unseen="estimate").fit(only(table, "Lyon", "Oslo"))
    known = model.transform(only(table, "Lyon", "Oslo"))
    with pytest.warns(pcg.PcgWarning, match=r"'Turin' was not in the fit.*6 rows"):
        out = model.transform(table)
    pd.testing.assert_frame_equal(out[out["site"] != "Turin"], known)
    assert np.isfinite(out[FEATURES].to_numpy()).all()
    moved = out.loc[out["site"] == "Turin", FEATURES].mean() - known[FEATURES].mean()
    raw = table.loc[table["site"] == "Turin", FEATURES].mean() - known[FEATURES].mean()
    assert (moved.abs() < raw.abs()).all()


def test_an_unseen_site_of_one_subject_gets_a_location_only() -> None:
    table = study()
    model = pcg.ComBat("~ age", batch="site", features=FEATURES, on_unseen="estimate").fit(only(table, "Lyon", "Oslo"))
    with pytest.warns(pcg.PcgWarning, match=r"'Turin'.*1 row.*location only for all features"):
        out = model.transform(table.iloc[[20]])
    assert np.isfinite(out[FEATURES].to_numpy()).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (put("area", np.nan, 20), "missing values in 'area'"),
        (put("area", np.inf, 20), "infinite values in 'area'"),
    ],
    ids=["missing", "infinite"],
)
def test_an_unseen_site_is_checked_like_any_other(change: Callable[[pd.DataFrame], pd.DataFrame], says: str) -> None:
    table = study()
    model = pcg.ComBat("~ age", batch="site", features=FEATURES, on_unseen="estimate").fit(only(table, "Lyon", "Oslo"))
    with pytest.raises(DataError, match=says):
        model.transform(change(table))


def test_an_unseen_site_without_any_value_of_a_feature_says_so() -> None:
    """NaN stays NaN under omit; other features are estimated, and the feature's absence is no silent zero."""
    table = in_site(study(), "area", "Turin", np.nan)
    model = pcg.ComBat("~ age", batch="site", features=FEATURES, on_unseen="estimate", missing="omit")
    model.fit(only(table, "Lyon", "Oslo"))
    with pytest.warns(pcg.PcgWarning, match="Turin"):
        out = model.transform(table)
    assert np.array_equal(out[FEATURES].isna(), table[FEATURES].isna())


@pytest.mark.parametrize(
    "spelling",
    [lambda s: s, lambda s: s.astype("category"), lambda s: s.map({"Lyon": 1, "Oslo": 2, "Turin": 3})],
    ids=["text", "category", "integers"],
)
def test_labels_do_not_matter(spelling: Callable[[pd.Series], pd.Series]) -> None:
    table = study()
    plain = pcg.ComBat("~ age", batch="site", features=FEATURES).fit_transform(table)
    other = table.assign(site=spelling(table["site"]))
    out = pcg.ComBat("~ age", batch="site", features=FEATURES).fit_transform(other)
    pd.testing.assert_frame_equal(out[FEATURES], plain[FEATURES])
    assert out["site"].dtype == other["site"].dtype


def test_integer_sites_of_a_fit_meet_float_and_text_sites_at_transform() -> None:
    table = study()
    coded = table.assign(site=table["site"].map({"Lyon": 1, "Oslo": 2, "Turin": 3}))
    model = pcg.ComBat("~ age", batch="site", features=FEATURES).fit(coded)
    plain = model.transform(coded)
    for dtype in (float, str):
        pd.testing.assert_frame_equal(model.transform(coded.astype({"site": dtype}))[FEATURES], plain[FEATURES])
    sites = model.estimates.gamma_star.index.tolist()
    assert sites == ["1", "2", "3"]


def test_unused_categories_are_no_sites() -> None:
    table = study()
    table["site"] = pd.Categorical(table["site"], categories=["Zurich", "Turin", "Oslo", "Lyon"])
    model = pcg.ComBat("~ age", batch="site", features=FEATURES).fit(table)
    assert model.estimates.gamma_star.index.tolist() == ["Turin", "Oslo", "Lyon"]


def test_mask_estimates_from_controls_and_adjusts_everyone() -> None:
    table = study()
    controls = table["dx"] == "HC"
    model = pcg.ComBat("~ age", batch="site", features=FEATURES)
    out = model.fit_transform(table, fit_mask=controls)
    alone = pcg.ComBat("~ age", batch="site", features=FEATURES).fit(table[controls])
    pd.testing.assert_frame_equal(alone.transform(table), out)
    changed = table.copy()
    changed.loc[~controls, FEATURES] *= 100
    model.fit(changed, fit_mask=controls.to_numpy())
    pd.testing.assert_frame_equal(model.estimates.delta_star, alone.estimates.delta_star)


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=["missing", "infinite"])
def test_rows_outside_the_mask_are_checked_too(value: float) -> None:
    table = study()
    table.loc[2, "area"] = value  # an MCI row
    with pytest.raises(DataError, match="'area'"):
        pcg.ComBat("~ age", batch="site", features=FEATURES).fit(table, fit_mask=(table["dx"] == "HC"))


def test_a_failed_fit_keeps_the_earlier_one() -> None:
    table = study()
    model = pcg.ComBat("~ age", batch="site", features=FEATURES).fit(table)
    before = model.transform(table)
    with pytest.raises(DataError):
        model.fit(put("area", np.nan)(table.copy()))
    pd.testing.assert_frame_equal(model.transform(table), before)


def test_input_is_never_changed() -> None:
    table = study().astype({"area": np.float32})
    before = table.copy(deep=True)
    model = pcg.ComBat("~ age + sex", batch="site", features=FEATURES)
    model.fit_transform(table)
    Y = np.asfortranarray(study()[FEATURES].to_numpy())
    Y_before = Y.copy()
    pcg.ComBat("~ age", batch="site").fit_transform(Y, study())
    pd.testing.assert_frame_equal(table, before)
    assert np.array_equal(Y, Y_before)


def test_strange_column_names_work() -> None:
    table = study().rename(columns={"age": "Age at scan (years)", "area": "5th-Ventricle", "vol": "ROI 3 %"})
    names = ["thick", "5th-Ventricle", "ROI 3 %", "depth"]
    out = pcg.ComBat("~ `Age at scan (years)`", batch="site", features=names).fit_transform(table)
    plain = pcg.ComBat("~ age", batch="site", features=FEATURES).fit_transform(study())
    assert np.array_equal(out[names], plain[FEATURES])


def test_numbers_as_column_names_work() -> None:
    table = study().rename(columns=dict(zip(FEATURES, [10, 11, 12, 13], strict=True)))
    out = pcg.ComBat("~ age", batch="site", features="^1").fit_transform(table)
    assert out.columns.equals(table.columns)
    plain = pcg.ComBat("~ age", batch="site", features=FEATURES).fit_transform(study())
    assert np.array_equal(out[[10, 11, 12, 13]], plain[FEATURES])
