"""Readers beside a model's ROC curve, which is the mean of the sites' curves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, ttest_1samp
from sklearn.metrics import roc_curve

from pycombat_gam.errors import DataError, OptionError
from pycombat_gam.predict.readers import readers

TABLE = pd.DataFrame(
    {"reader": ["A", "B", "C", "D"], "sensitivity": [0.5, 0.9, 1.0, 0.2], "specificity": [0.6, 0.9, 1.0, 1.0]}
)


def scored(seed: int = 0, K: int = 8, n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Events, scores with ties on a scale of each site's own, and sites."""
    rng = np.random.default_rng(seed)
    site = np.repeat([f"s{k}" for k in range(K)], n)
    events = rng.uniform(size=K * n) < 0.4
    score = np.round(1.4 * events + rng.normal(size=K * n) + np.repeat(3 * rng.normal(size=K), n), 1)
    return events, score, site


def test_points_are_those_of_each_sites_empirical_curve() -> None:
    events, score, site = scored()
    roc = readers(events, score, site, TABLE).roc
    for label, points in roc.groupby("site"):
        here = site == label
        fpr, tpr, thresholds = roc_curve(events[here], score[here], drop_intermediate=False)
        assert np.array_equal(points["threshold"], thresholds)
        # Counts over counts, rounded once or twice.
        assert np.allclose(points["sensitivity"], tpr, rtol=0, atol=1e-15)
        assert np.allclose(1 - points["specificity"], fpr, rtol=0, atol=1e-15)


def test_the_area_under_the_mean_curve_is_the_mean_of_areas() -> None:
    """Vertical averaging keeps areas, to the width of the grid."""
    from pycombat_gam.predict.measures.auc import delong

    events, score, site = scored()
    curve = readers(events, score, site, TABLE).curve
    area = np.trapezoid(curve["sensitivity"], curve["specificity"])
    areas = [delong(events[site == label], score[site == label]).value for label in np.unique(site)]
    # A step may lie anywhere within 0.01 of specificity.
    assert abs(area - np.mean(areas)) <= 0.01


def test_one_scale_for_all_sites_is_not_needed() -> None:
    events, score, site = scored()
    stretched = score * np.repeat(1.0 + np.arange(8), 60)
    a, b = readers(events, score, site, TABLE), readers(events, stretched, site, TABLE)
    pd.testing.assert_frame_equal(a.curve, b.curve)
    pd.testing.assert_frame_equal(a.readers, b.readers)


def test_readers_are_compared_at_their_own_specificity() -> None:
    events, score, site = scored()
    result = readers(events, score, site, TABLE)
    at = result.readers.set_index("reader")
    assert at["below"].tolist() == [True, False, False, False]
    assert result.share == 0.25
    assert result.lower <= result.share <= result.upper
    sensitivity = []
    for label in np.unique(site):
        e, s = events[site == label], score[site == label]
        # The best that calls leave at specificity 1: nobody without the event is called.
        sensitivity.append((s[e] > s[~e].max()).mean())
    student = ttest_1samp(sensitivity, 0).confidence_interval()
    # Means of eight shares, and Student's interval cut at 0 and 1.
    assert abs(at.loc["D", "model"] - np.mean(sensitivity)) <= 1e-14
    assert np.allclose(at.loc["D", ["lower", "upper"]].astype(float), np.clip(student, 0, 1), rtol=0, atol=1e-12)
    assert str(result).startswith(
        "1 of 4 readers (25 %) below the model's ROC curve, the mean of the curves of 8 sites"
    )


def test_a_vertical_step_counts_up_to_its_top() -> None:
    """Ten without the event: a specificity of 0.9 is one false alarm, though 1 − 0.9 is less than 1/10 in floats."""
    events = np.array([True] * 4 + [False] * 10)
    score = np.array([0.9, 0.8, 0.5, 0.1, 0.7, *np.linspace(0.05, 0.09, 9)])
    table = pd.DataFrame({"reader": ["R", "S"], "sensitivity": [1.0, 0.99], "specificity": [0.9, 0.9]})
    result = readers(events, score, np.array(["s"] * 14), table)
    assert result.readers["model"].tolist() == [1.0, 1.0]
    assert result.readers["below"].tolist() == [False, True]
    assert np.isnan(result.lower) and "interval" not in str(result)


def test_perfect_and_useless_models() -> None:
    events, _, site = scored()
    perfect = readers(events, events.astype(float), site, TABLE)
    assert perfect.readers["below"].tolist() == [True, True, False, True]
    assert (perfect.share, perfect.lower, perfect.upper) == (0.75, 0.75, 0.75)
    assert (perfect.by_site[["sensitivity", "specificity"]] == 1.0).all(axis=None)
    useless = readers(events, np.zeros(len(events)), site, TABLE)
    # Ties all over: a straight line.
    assert np.allclose(useless.curve["sensitivity"], 1 - useless.curve["specificity"], rtol=0, atol=1e-14)


def test_sites_have_sensitivity_and_specificity_with_wilsons_interval() -> None:
    events, score, site = scored()
    by_site = readers(events, score, site, TABLE, threshold=1.0, level=0.9).by_site.set_index("site")
    for label in np.unique(site):
        e, called = events[site == label], score[site == label] >= 1.0
        for name, right in (("sensitivity", called[e]), ("specificity", ~called[~e])):
            wilson = binomtest(int(right.sum()), right.size).proportion_ci(0.9, method="wilson")
            row = by_site.loc[label]
            assert row[name] == right.mean()
            # The same closed form.
            assert np.allclose([row[f"{name}_lower"], row[f"{name}_upper"]], wilson, rtol=0, atol=1e-12)


def test_sites_with_one_class_have_no_curve() -> None:
    events, score, site = scored(K=3)
    events[site == "s1"] = False
    result = readers(events, score, site, TABLE)
    assert result.sites == 2
    assert set(result.roc["site"]) == {"s0", "s2"}
    assert np.isnan(result.by_site.loc[1, "sensitivity"]) and result.by_site.loc[1, "specificity"] >= 0


def spoil(**columns: Any) -> pd.DataFrame:
    return TABLE.assign(**columns)


BAD: list[tuple[Any, dict[str, Any], str]] = [
    (TABLE.drop(columns="specificity"), {}, "lacks specificity"),
    (TABLE.to_dict(), {}, "is|are a dict"),
    (TABLE.iloc[:0], {}, "no rows"),
    (spoil(sensitivity=[0.5, 90, 0.5, 0.5]), {}, r"not between 0 and 1 in 1 row \(index 1\)"),
    (spoil(specificity=[0.5, np.nan, 0.5, 0.5]), {}, r"missing or not between 0 and 1 in 1 row \(index 1\)"),
    (spoil(specificity=["a", "b", "c", "d"]), {}, "not numeric"),
    (spoil(reader=["A", "B", "B", "C"]), {}, "twice in the table: B"),
    (spoil(reader=["A", "B", None, "C"]), {}, "'reader' is missing in 1 row"),
    (TABLE, {"score": np.array([0.1, np.nan, 0.3, 0.4])}, "1 score missing"),
    (TABLE, {"score": np.array([0.1, 0.3, 0.4])}, "4 events, 3 scores and 4 sites"),
    (TABLE, {"events": np.zeros(4, dtype=bool)}, "no site has rows with and without the event"),
]


@pytest.mark.parametrize(("table", "other", "words"), BAD)
def test_bad_input_is_refused(table: Any, other: dict[str, Any], words: str) -> None:
    given = {
        "events": np.array([True, False, True, False]),
        "score": np.array([0.9, 0.1, 0.8, 0.2]),
        "site": np.array(["a", "a", "b", "b"]),
    }
    with pytest.raises(DataError, match=words):
        readers(**{**given, **other}, table=table)


def test_threshold_and_level_are_numbers() -> None:
    events, score, site = scored()
    for options in ({"threshold": "0.5"}, {"threshold": np.nan}, {"level": 95}):
        with pytest.raises(OptionError):
            readers(events, score, site, TABLE, **options)  # type: ignore[arg-type]  # wrong on purpose
