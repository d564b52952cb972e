"""`Predictor` in use: kinds of outcomes, kinds of sets, sites of few rows, the estimator, what it prints."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.clinics import FEATURES, clinic, clinics
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as ScikitRidge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import pycombat_gam as pcg
from pycombat_gam.errors import PcgWarning
from pycombat_gam.predict.ridge import Axes, chosen_penalty, ridge_logistic


def fitted(table: pd.DataFrame, formula: str = "y ~ 1", **options: Any) -> pcg.Predictor:
    model = pcg.Predictor(formula, batch="site", **{"features": FEATURES, "level": 0.8, **options})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PcgWarning)  # what is warned of has tests of its own
        return model.fit(table)


def new_rows(kind: str = "binary", n: int = 12, seed: int = 7) -> pd.DataFrame:
    return clinic(np.random.default_rng(seed), n, kind, "new").set_index(
        pd.Index([f"p{i}" for i in range(n)], name="who")
    )


# Answers


def test_answers_of_classes_keep_the_index_and_agree_with_themselves() -> None:
    model, new = fitted(clinics("three")), new_rows("three")
    answers = model.predict(new.drop(columns="y"))
    assert answers.index.equals(new.index)
    assert answers.columns.tolist() == ["p_high", "p_low", "p_mid", "set", "size", "answer", "calibration"]
    # Probabilities are normalised by division: one rounding each.
    np.testing.assert_allclose(answers[["p_high", "p_low", "p_mid"]].sum(axis=1), 1.0, rtol=1e-14)
    for row in answers.itertuples():
        assert row.size == len(row.set) and set(row.set) <= {"high", "low", "mid"}
        assert row.answer == (row.set[0] if row.size == 1 else "undecided")
    assert set(answers["calibration"]) == {"all sites"}


def test_answers_of_numbers() -> None:
    model, new = fitted(clinics("number"), "y ~ age + sex"), new_rows("number")
    answers = model.predict(new)
    assert answers.columns.tolist() == ["fit", "lower", "upper", "calibration"]
    assert (answers["lower"] < answers["fit"]).all() and (answers["fit"] < answers["upper"]).all()


@pytest.mark.parametrize(
    ("outcome", "classes"),
    [
        (lambda y: y == "ill", (False, True)),
        (lambda y: (y == "ill").astype(int), (0, 1)),
        (lambda y: pd.Categorical(y, ["well", "ill", "never seen"]), ("well", "ill")),
        (lambda y: y, ("ill", "well")),
    ],
)
def test_classes_keep_their_labels_and_order(outcome: Any, classes: tuple[Any, ...]) -> None:
    table = clinics()
    model = fitted(table.assign(y=outcome(table["y"])))
    assert model.fitted.outcome.classes == classes
    answers = model.predict(new_rows())
    assert list(answers.columns[:2]) == [f"p_{label}" for label in classes]
    assert {label for members in answers["set"] for label in members} <= set(classes)


def test_a_factor_of_numbers_is_classes_and_plain_numbers_are_not() -> None:
    table = clinics("three").assign(y=lambda t: t["y"].map({"low": 1, "mid": 2, "high": 3}))
    assert fitted(table, "factor(y) ~ 1").fitted.outcome.classes == (1, 2, 3)
    assert fitted(table, "y ~ 1").fitted.outcome.kind == "number"
    assert fitted(table, "log(y) ~ 1").fitted.outcome.name == "log(y)"


def test_zero_and_one_are_taken_for_classes_aloud() -> None:
    table = clinics().assign(y=lambda t: (t["y"] == "ill").astype(int))
    with pytest.warns(PcgWarning, match="'y' holds 0 and 1 only: they are taken for two classes"):
        pcg.Predictor("y ~ 1", batch="site", features=FEATURES, level=0.8).fit(table)


# Sets


def test_own_rows_calibrate_a_site_of_the_fit_by_split_conformal() -> None:
    table = clinics(n=60)
    model = fitted(table, level=0.9, per_class=False)
    site = table[table["site"] == "c2"]
    answers = model.predict(clinic(np.random.default_rng(5), 40, "binary", "c2"))
    assert set(answers["calibration"]) == {"own rows"}
    left_out = model.validation.left_out
    own = left_out[left_out["site"] == "c2"]
    scores = np.sort(np.where(own["observed"] == "ill", 1 - own["p_ill"], 1 - own["p_well"]))
    q = scores[int(np.ceil(0.9 * (len(site) + 1))) - 1]
    for row in answers.itertuples():
        assert set(row.set) == {name for name in ("ill", "well") if 1 - getattr(row, f"p_{name}") <= q}


@pytest.mark.parametrize("harmonizer", [None, pcg.ComBat("~ 1", batch="site")], ids=["raw", "ComBat"])
def test_labelled_rows_calibrate_a_new_site_exactly(harmonizer: pcg.ComBat | None) -> None:
    """Over draws of one site's rows, sets hold the next row at least at the level, and hardly more often."""
    model = fitted(clinics("number", K=5), harmonizer=harmonizer)
    held = []
    for seed in range(40):
        rows = clinic(np.random.default_rng(100), 400, "number", "new", tau=2.0)
        rows = rows.sample(40, random_state=seed).reset_index(drop=True)
        answers = model.predict(rows.iloc[19:], labelled=rows.iloc[:19])
        assert set(answers["calibration"]) == {"labelled rows"}
        held.append(((rows["y"].iloc[19:] >= answers["lower"]) & (rows["y"].iloc[19:] <= answers["upper"])).mean())
    # 40 draws of coverage 0.8 with sd 0.09 each (beta(16, 4) and 21 rows): 3 standard errors are 0.06.
    assert 0.74 <= np.mean(held) <= 0.86


def test_too_few_labelled_rows_are_said() -> None:
    model, rows = fitted(clinics(), level=0.9), new_rows(n=20)
    with pytest.warns(PcgWarning, match=r"too few rows labelled .* 9 needed of a class"):
        model.predict(rows.iloc[10:], labelled=rows.iloc[:10])


def test_a_site_of_few_rows_is_harmonized_in_bags_aloud() -> None:
    model = fitted(clinics(), harmonizer=pcg.ComBat("~ age", batch="site"))
    for n, m in ((1, 1), (4, 3), (29, 20)):
        with pytest.warns(PcgWarning, match=r"site 'new' \(.* row.*\): fewer than any site of the fit \(30\)"):
            answers = model.predict(new_rows(n=n))
        assert set(answers["calibration"]) == {f"all sites, bags of {m}"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(model.predict(new_rows(n=30))["calibration"]) == {"all sites"}


def test_bags_hold_at_a_site_of_two_rows_where_whole_sites_would_not() -> None:
    """The prototype's study (bags.py), at a size for tests; `benchmarks/prediction.py` has the whole."""
    rng = np.random.default_rng(0)
    beta = np.array([1.0, 0.6, 0.4, 0, 0, 0])

    def site(name: str, n: int) -> pd.DataFrame:
        B = rng.normal(size=(n, 6))
        X = B + 1.5 * rng.normal(size=6)
        return pd.DataFrame(X, columns=FEATURES).assign(y=B @ beta + 0.7 * rng.normal(size=n), site=name)

    table = pd.concat([site(f"s{k}", 30) for k in range(10)], ignore_index=True)
    model = fitted(table, harmonizer=pcg.ComBat("~ 1", batch="site", mean_only=True), level=0.9)
    new = pd.concat([site(f"new{k}", 2) for k in range(120)], ignore_index=True)
    bags, whole = (
        ((new["y"] >= answers["lower"]) & (new["y"] <= answers["upper"])).mean()
        for answers in (_answers(model, new), _whole(model, new))
    )
    # 120 sites of two rows that are much alike: a standard error of 0.027 at 0.9.
    assert bags >= 0.9 - 3 * 0.027
    assert whole < bags - 0.03


def _answers(model: pcg.Predictor, new: pd.DataFrame) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PcgWarning)  # the sites have few rows on purpose
        return model.predict(new)


def _whole(model: pcg.Predictor, new: pd.DataFrame) -> pd.DataFrame:
    """Answer as if the guarantee did not ask for as many rows as the sites of the fit had."""
    kept = model._fitted
    model._fitted = type(kept)(**{**vars(kept), "site_rows": np.ones(len(kept.site_rows), dtype=np.intp)})
    try:
        return _answers(model, new)
    finally:
        model._fitted = kept


# Estimators


def test_any_estimator_of_scikit_learn_takes_the_place_of_ridge() -> None:
    table, new = clinics("three"), new_rows("three")
    for estimator in (
        RandomForestClassifier(20, random_state=0),
        make_pipeline(StandardScaler(), LogisticRegression()),
    ):
        answers = fitted(table, "y ~ age + sex", estimator=estimator).predict(new)
        assert answers["p_low"].between(0, 1).all()
    assert np.isfinite(fitted(clinics("number"), estimator=ScikitRidge()).predict(new_rows("number"))["fit"]).all()


def test_missing_cells_go_to_an_estimator_that_imputes_inside_the_fold() -> None:
    table, new = clinics(), new_rows()
    rng = np.random.default_rng(0)
    for name in ("x0", "age"):
        table.loc[rng.uniform(size=len(table)) < 0.1, name] = np.nan
    table.loc[3, "sex"] = None
    new.loc["p3", ["x1", "age"]] = np.nan
    estimator = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())
    answers = fitted(table, "y ~ age + sex", estimator=estimator).predict(new)
    assert answers[["p_ill", "p_well"]].notna().all(axis=None)


def test_the_penalty_is_what_leaving_sites_out_says() -> None:
    """The closed form of a site's residuals equals a fit without the site, columns standardized over all rows."""
    table = clinics("number", K=7, n=12)
    X, y, sites = table[FEATURES].to_numpy(), table["y"].to_numpy(), pd.factorize(table["site"])[0]
    axes = Axes.of(X)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)

    def loss(penalty: float) -> float:
        total = 0.0
        for k in np.unique(sites):
            model = ScikitRidge(alpha=penalty).fit(Z[sites != k], y[sites != k])
            total += float(((model.predict(Z[sites == k]) - y[sites == k]) ** 2).mean())
        return total

    chosen = chosen_penalty(axes, y[:, None], sites)
    grid = len(y) * 10.0 ** np.arange(-4, 5)
    best = min(loss(penalty) for penalty in grid)
    # The parabola through three powers of ten finds a point no worse than the best of them, but for its own error.
    assert loss(chosen) <= best * (1 + 1e-3)


@pytest.mark.parametrize("kind", ["binary", "three"])
@pytest.mark.parametrize("penalty", [1e-2, 1.0, 100.0, 1e4])
def test_ridge_logistic_is_scikit_learns(kind: str, penalty: float) -> None:
    table = clinics(kind)
    X, (y, labels) = table[FEATURES].to_numpy(), pd.factorize(table["y"], sort=True)
    Y = np.eye(len(labels))[y]
    axes = Axes.of(X)
    share = Y.mean(axis=0)
    C = 1 / (penalty * float((share * (1 - share)).mean()))
    theirs = LogisticRegression(C=C, tol=1e-10, max_iter=10_000, solver="newton-cg").fit(
        (X - axes.center) / axes.scale, y
    )
    intercept, coefficients = ridge_logistic(axes, Y, penalty)
    P = np.exp(intercept + X @ coefficients)
    ours = P / P.sum(axis=1, keepdims=True)
    # scikit-learn stops at a gradient of 1e-10 a row; probabilities follow at the gradient over the penalty.
    np.testing.assert_allclose(ours, theirs.predict_proba((X - axes.center) / axes.scale), atol=1e-6)


def test_more_features_than_rows_are_the_same_in_their_dual_form() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 80))
    y = X[:, 0] + rng.normal(size=30)
    axes = Axes.of(X)
    assert axes.scores.shape[1] <= 30
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    # Rotations of the columns leave the fit as it is, to rounding.
    np.testing.assert_allclose(axes.scores @ axes.axes.T, Z, atol=1e-10)
    assert chosen_penalty(axes, y[:, None], np.repeat(np.arange(6), 5)) > 0


def test_constant_columns_are_left_alone() -> None:
    table = clinics().assign(x5=1e6)
    answers = fitted(table).predict(new_rows())
    assert answers[["p_ill", "p_well"]].notna().all(axis=None)


# Validation and print


def test_validation_holds_tidy_tables() -> None:
    model = fitted(clinics(), harmonizer=pcg.ComBat("~ age", batch="site"))
    tables = model.validation
    assert set(tables.by_site["measure"]) == {"AUC", "accuracy", "Brier score"}
    assert set(tables.calibration["measure"]) == {"calibration intercept", "calibration slope", "O/E"}
    for table in (tables.by_site, tables.calibration, tables.overall, tables.net_benefit, tables.coverage, tables.sets):
        assert set(table["features"]) == {"harmonized", "raw"}
    assert set(tables.coverage["class"]) == {"all", "ill", "well"}
    assert len(tables.left_out) == 180 and tables.left_out.columns.tolist() == [
        "site",
        "row",
        "observed",
        "p_ill",
        "p_well",
    ]
    by_site = tables.by_site[(tables.by_site["features"] == "raw") & (tables.by_site["measure"] == "accuracy")]
    assert by_site["n"].tolist() == [30] * 6


def test_coverage_is_what_a_predictor_of_the_other_sites_reaches() -> None:
    """The nested figures of a site are those of a predictor that never had it."""
    table = clinics("three", K=6)
    for options in ({}, {"guarantee": False}, {"per_class": False}, {"sites": 0.6}):
        whole = fitted(table, level=0.7, **options)
        kind = "guaranteed" if whole.guarantee else "estimated"
        coverage = whole.validation.coverage
        coverage = coverage[(coverage["sets"] == kind) & (coverage["class"] == "all")].set_index("site")
        for site in ("c0", "c4"):
            here = table["site"] == site
            answers = fitted(table[~here], level=0.7, **options).predict(table[here])
            held = [y in members for y, members in zip(table.loc[here, "y"], answers["set"], strict=True)]
            # Both are shares of the same 30 rows; sizes are means of whole numbers.
            np.testing.assert_allclose(coverage.loc[site, ["coverage", "size"]].astype(float),
                                       [np.mean(held), answers["size"].mean()], rtol=1e-12)  # fmt: skip


def test_a_reader_of_the_print_learns_what_is_guaranteed_for_whom_and_what_is_not() -> None:
    text = str(fitted(clinics(K=9)).validation)
    for words in (
        "Guaranteed: at a new site, sets hold the true y in at least 80 % of patients, whichever class is the true",
        "For whom: patients at new sites that come from where the 9 sites of the fit come from.",
        "At what level: 80 %, on average over them.",
        "9 sites can guarantee 9/10 = 90.0 % at most.",
        "Not guaranteed:\n  - that level at every new site",
    ):
        assert words in text
    estimated = str(fitted(clinics(K=9), guarantee=False).validation)
    assert "Nothing is guaranteed." in estimated and "at least 80 %" not in estimated
    share = str(fitted(clinics(K=9), sites=0.9).validation)
    assert "Guaranteed: at 90 % of new sites, sets hold" in share and "At what level: 80 %, at 90 % of them." in share
    beyond = str(fitted(clinics(K=5), level=0.9).validation)
    assert "At level 0.9 nothing can be guaranteed: every class stays in every set." in beyond
    assert "Guaranteed" not in beyond and "level=0.8 is guaranteed" in beyond


def test_arguments_of_sets_may_change_after_the_fit_and_others_not() -> None:
    model = fitted(clinics())
    narrow = model.set_params(level=0.5, guarantee=False).predict(new_rows())["size"].mean()
    assert narrow < model.set_params(level=0.8, guarantee=True).predict(new_rows())["size"].mean()
    model.set_params(features="x")
    with pytest.raises(pcg.PcgError, match="features changed after the fit"):
        model.predict(new_rows())


def test_leaking_labels_into_the_harmonizer_is_what_the_package_refuses() -> None:
    """Labels that say nothing: within-site AUC is one half where the harmonizer is inside the fold and label-free."""
    table = clinics(K=6, n=40, seed=3)
    rng = np.random.default_rng(0)
    table["y"] = np.concatenate(
        [rng.permutation(np.repeat(["ill", "well"], [8, 32] if k % 2 else [32, 8])) for k in range(6)]
    )
    values = []
    for _ in range(4):
        shuffled = table.assign(y=table.groupby("site")["y"].transform(lambda y: rng.permutation(y.to_numpy())))
        by_site = fitted(shuffled, harmonizer=pcg.ComBat("~ age", batch="site")).validation.by_site
        values += by_site[(by_site["measure"] == "AUC") & (by_site["features"] == "harmonized")]["estimate"].tolist()
    # 24 AUCs of 8 against 32 rows have a standard error of 0.11 each: 3 standard errors of their mean are 0.07.
    assert abs(np.mean(values) - 0.5) < 0.07
