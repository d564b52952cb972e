"""`Predictor` against what would mislead: names that clash, rows that calibrate themselves, sites without events."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.clinics import FEATURES, clinic, clinics

import pycombat_gam as pcg
from pycombat_gam.errors import PcgWarning


def fitted(table: pd.DataFrame, formula: str = "y ~ 1", **options: Any) -> pcg.Predictor:
    model = pcg.Predictor(formula, batch="site", **{"features": FEATURES, "level": 0.8, **options})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PcgWarning)  # levels and sites are small on purpose
        return model.fit(table)


def new_rows(n: int = 12) -> pd.DataFrame:
    return clinic(np.random.default_rng(7), n, "binary", "new").assign(who=[f"p{i}" for i in range(n)])


def test_an_identifier_among_the_features_is_said() -> None:
    table = clinics().assign(number=lambda t: np.arange(len(t)))
    with pytest.warns(PcgWarning, match="number looks like an identifier but is treated as a feature"):
        pcg.Predictor("y ~ sex", batch="site", level=0.8).fit(table)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = pcg.Predictor("y ~ sex", batch="site", id="number", level=0.8).fit(table)
    assert model.fitted.layout.features == (*FEATURES, "age")


@pytest.mark.parametrize(("n", "known"), [(11, False), (12, True)])
def test_a_site_between_the_smallest_and_the_largest_of_the_fit_is_calibrated_in_bags(n: int, known: bool) -> None:
    """Sites of 8 to 60 rows: whole sites would calibrate sets that are too narrow for a site of n rows."""
    rng = np.random.default_rng(2)
    beta = np.array([1.0, 0.6, 0.4, 0, 0, 0])

    def site(name: str, rows: int, shift: np.ndarray) -> pd.DataFrame:
        B = rng.normal(size=(rows, 6))
        return pd.DataFrame(B + shift, columns=FEATURES).assign(y=B @ beta + 0.7 * rng.normal(size=rows), site=name)

    def shifted() -> np.ndarray:
        return 2.0 * rng.normal(size=6)

    own = shifted()
    sizes = [8, *[60] * 9]
    table = pd.concat([site(f"s{k}", rows, own if k == 1 else shifted()) for k, rows in enumerate(sizes)])
    model = fitted(table.reset_index(drop=True), harmonizer=pcg.ComBat("~ 1", batch="site", mean_only=True), level=0.9)
    assert model.fitted.bag_for(n, 1 if known else None) == 10
    held = []
    for k in range(40):
        new = site("s1" if known else f"n{k}", n, own if known else shifted())
        answers = model.predict(new)
        held.append(((new["y"] >= answers["lower"]) & (new["y"] <= answers["upper"])).mean())
    # 40 sites: three standard errors of their mean.
    assert np.mean(held) >= 0.9 - 3 * np.std(held) / np.sqrt(40)


def test_pooled_calibration_counts_sites_without_events() -> None:
    """Where probabilities are right, pooled O/E is 1 and the intercept 0, though many sites have no event."""
    from pycombat_gam.predict.left_out import Evidence
    from pycombat_gam.predict.outcome import Outcome
    from pycombat_gam.predict.scores import ClassScores
    from pycombat_gam.predict.site_measures import measured_by_site, pooled_over_sites

    rng = np.random.default_rng(0)
    K, n = 300, 40
    p = rng.beta(1, 19, K * n)
    y = (rng.uniform(size=K * n) < p).astype(float)
    site = np.repeat(np.arange(K), n)
    nothing = np.zeros((K * n, 0))
    evidence = Evidence(site, y, np.column_stack([1 - p, p]), nothing, nothing)
    assert (pd.Series(y).groupby(site).sum() == 0).mean() > 0.1
    outcome = Outcome("y", "classes", ("no", "yes"))
    labels = tuple(f"s{k}" for k in range(K))
    pooled = pooled_over_sites(measured_by_site(outcome, ClassScores(outcome.classes, True), evidence, labels))
    pooled = pooled.set_index("measure")
    # About two events a site: the half event leaves a bias below 0.1, where leaving sites out had 0.3.
    assert abs(np.log(pooled.loc["O/E", "estimate"])) < 0.1
    assert abs(pooled.loc["calibration intercept", "estimate"]) < 0.1
    assert (pooled.loc[["O/E", "calibration intercept"], "sites"] == K).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "set"}, "column 'set' has the name of a column of answers"),
        ({"batch": "size"}, "column 'size' has the name of a column of answers"),
        ({"id": "p_ill"}, "column 'p_ill' has the name"),
    ],
)
def test_columns_that_answers_would_hide_are_refused(change: dict[str, str], message: str) -> None:
    table = clinics()
    table[next(iter(change.values()))] = table["site"] if "batch" in change else np.arange(len(table)).astype(str)
    model = pcg.Predictor("y ~ 1", features=FEATURES, level=0.8, **{"batch": "site", **change})  # type: ignore[arg-type]  # of texts only
    with pytest.raises(pcg.PcgError, match=message):
        model.fit(table)


def test_labels_of_tables_are_refused_as_classes_and_sites() -> None:
    table = clinics()
    with pytest.raises(pcg.PcgError, match="a class of y is called 'all'"):
        fitted(table.assign(y=table["y"].replace("ill", "all")))
    with pytest.raises(pcg.PcgError, match="a site is called 'mean of sites'"):
        fitted(table.assign(site=table["site"].replace("c0", "mean of sites")))


def test_codes_of_classes_are_told_from_numbers_aloud() -> None:
    table = clinics().assign(y=lambda t: (t["y"] == "ill") + 1)
    with pytest.warns(
        PcgWarning, match=r"'y' holds 1, 2 only and is taken for a number: factor\(y\) makes them classes"
    ):
        pcg.Predictor("y ~ 1", batch="site", features=FEATURES, level=0.8).fit(table)


def test_rows_asked_about_cannot_calibrate_their_own_sets() -> None:
    table = clinics().assign(who=lambda t: "w" + t.index.astype(str))
    model = fitted(table, id="who")
    rows = new_rows(n=30).reset_index()
    with pytest.raises(pcg.PcgError, match="labelled has p5, asked about as well"):
        model.predict(rows.iloc[:6], labelled=rows.iloc[5:])


def test_a_harmonizer_changed_after_the_fit_is_noticed() -> None:
    model = fitted(clinics(K=4), harmonizer=pcg.ComBat("~ age", batch="site"))
    model.harmonizer.set_params(formula="~ sex")  # type: ignore[union-attr]  # there is one
    with pytest.raises(pcg.PcgError, match="arguments of the harmonizer changed after the fit"):
        model.predict(new_rows())


def test_sets_that_one_site_less_cannot_guarantee_are_said_to_be_full() -> None:
    text = str(fitted(clinics(K=6), level=0.85).validation)
    assert "At sites left out, 5 sites calibrate, which guarantee 83.3 % at most." in text
    assert "what they held says nothing" not in str(fitted(clinics(K=6), level=0.8).validation)


def test_ids_that_say_when_or_which_row_are_ids() -> None:
    table = clinics().assign(row=lambda t: t.index.astype(str), time=1.0)
    left_out = fitted(table, id=["row", "time"]).validation.left_out
    assert left_out.columns.tolist() == ["site", "row", "time", "observed", "p_ill", "p_well"]
