"""Cases of several rows: one answer each, the same weight each, ranked classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from pycombat_gam.errors import DataError, OptionError, PcgError, PcgWarning
from pycombat_gam.predict.learners import Ridge, argument_of_weights
from pycombat_gam.predict.ranking import top_k, top_k_by_site
from pycombat_gam.predict.ridge import Axes, chosen_penalty, ridge, ridge_logistic
from tests.helpers.lesions import lesions

COARSE = {f"l{i:02d}": "abc"[i // 4] for i in range(12)}
OPTIONS: dict[str, Any] = {"batch": "site", "features": "^f", "case": "patient", "level": 0.75}


def photographed(seed: int = 0, sizes: tuple[int, ...] = (30, 25, 35, 30, 28)) -> pd.DataFrame:
    """Patients with one to six photographs, which differ; three diagnoses; age of the patient."""
    rng = np.random.default_rng([seed, 1])
    patients = lesions(list(sizes), seed)
    patients = patients.assign(
        dx=patients["dx"].map(COARSE),
        patient=[f"p{i:03d}" for i in range(len(patients))],
        age=rng.uniform(20, 80, len(patients)).round(),
    )
    table = patients.loc[patients.index.repeat(rng.integers(1, 7, len(patients)))].reset_index(drop=True)
    names = [f"f{j}" for j in range(8)]
    table[names] += 0.7 * rng.normal(size=(len(table), 8))
    return table


TABLE = photographed()
NEW = photographed(seed=3, sizes=(20, 15)).assign(
    site=lambda t: "new" + t["site"], patient=lambda t: "n" + t["patient"]
)


@pytest.fixture(scope="module")
def model() -> pcg.Predictor:
    return pcg.Predictor("dx ~ age", **OPTIONS).fit(TABLE)


def test_a_case_gets_one_answer_from_the_mean_of_its_rows(model: pcg.Predictor) -> None:
    answers = model.predict(NEW)
    assert answers.index.name == "patient"
    assert answers.index.tolist() == NEW["patient"].unique().tolist()
    assert set(NEW["patient"].value_counts()) == {1, 2, 3, 4, 5, 6}
    single = NEW.assign(patient=[f"row{i}" for i in range(len(NEW))])
    mean = model.predict(single)[["p_a", "p_b", "p_c"]].groupby(NEW["patient"].to_numpy(), sort=False).mean()
    # Means of at most six probabilities, in another order.
    assert np.abs(answers[["p_a", "p_b", "p_c"]].to_numpy() - mean.to_numpy()).max() <= 1e-14


def test_classes_are_ranked_and_a_set_of_several_is_undecided(model: pcg.Predictor) -> None:
    answers = model.predict(NEW)
    P = answers[["p_a", "p_b", "p_c"]].to_numpy()
    order = np.argsort(-P, axis=1, kind="stable")
    assert answers["ranked"].tolist() == [tuple("abc"[c] for c in row) for row in order]
    sizes = answers["set"].map(len)
    assert (answers["size"] == sizes).all()
    assert set(sizes) > {1}
    expected = [members[0] if len(members) == 1 else "undecided" for members in answers["set"]]
    assert answers["answer"].tolist() == expected


def test_the_truth_of_cases_is_held_by_sets_and_ranked_high(model: pcg.Predictor) -> None:
    answers = model.predict(NEW)
    truth = NEW.groupby("patient", sort=False)["dx"].first()
    assert (truth.index == answers.index).all()
    # Of 35 cases at level 0.75, guaranteed on average over sites: 0.5 is three standard errors below.
    assert np.mean([label in members for label, members in zip(truth, answers["set"], strict=True)]) > 0.5
    left_out = model.validation.left_out
    assert len(left_out) == TABLE["patient"].nunique()
    assert left_out["patient"].tolist() == TABLE["patient"].unique().tolist()


def test_rows_of_a_case_may_stand_anywhere(model: pcg.Predictor) -> None:
    other = pcg.Predictor("dx ~ age", **OPTIONS).fit(TABLE.sample(frac=1, random_state=2))
    answers = model.predict(NEW)
    again = other.predict(NEW.sample(frac=1, random_state=3)).loc[answers.index]
    # Sums in another order, through Newton steps that stop at gradients of 1e-10 per row.
    assert np.abs(answers.filter(like="p_") - again.filter(like="p_")).max(axis=None) <= 1e-7
    assert (answers["set"] == again["set"]).all()


def test_each_case_counts_once_whatever_its_number_of_rows(model: pcg.Predictor) -> None:
    one = TABLE.drop_duplicates("patient")
    copies = one.loc[one.index.repeat(1 + np.arange(len(one)) % 6)]
    a = pcg.Predictor("dx ~ age", **OPTIONS).fit(one).predict(NEW)
    b = pcg.Predictor("dx ~ age", **OPTIONS).fit(copies).predict(NEW)
    # The same sums, rounded otherwise; Newton's steps stop at gradients of 1e-10 per case.
    assert np.abs(a.filter(like="p_") - b.filter(like="p_")).max(axis=None) <= 1e-7
    assert (a["set"] == b["set"]).all()


def test_each_case_counts_once_for_estimators_that_take_weights() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    one = TABLE.drop_duplicates("patient")
    copies = one.loc[one.index.repeat(1 + np.arange(len(one)) % 6)]
    steps = make_pipeline(FunctionTransformer(), LogisticRegression(tol=1e-10, max_iter=2000))
    assert argument_of_weights(steps) == "logisticregression__sample_weight"
    a, b = (pcg.Predictor("dx ~ 1", estimator=steps, **OPTIONS).fit(table).predict(NEW) for table in (one, copies))
    # lbfgs stops at gradients of 1e-10; the penalty's curvature is 1.
    assert np.abs(a.filter(like="p_") - b.filter(like="p_")).max(axis=None) <= 1e-6
    with pytest.warns(
        PcgWarning, match=r"KNeighborsClassifier takes no sample_weight: a case of 6 rows counts 6 times"
    ):
        pcg.Predictor("dx ~ 1", estimator=KNeighborsClassifier(), **OPTIONS).fit(copies)


@pytest.mark.parametrize("p", [5, 80])
def test_weighted_ridge_is_the_ridge_of_repeated_rows(p: int) -> None:
    """Whole weights: as many rows."""
    rng = np.random.default_rng(p)
    X, sites, w = rng.normal(size=(60, p)), np.arange(60) % 6, rng.integers(1, 5, 60)
    y = X[:, 0] + rng.normal(size=60)
    labels = (np.digitize(y, [-0.5, 0.5])).astype(float)
    often = np.repeat(np.arange(60), w)
    a, b = Axes.of(X, w.astype(float)), Axes.of(X[often])
    # 1e-9: eigenvectors of matrices that agree to 1e-13, with eigenvalues down to 1e-3 of the largest.
    assert np.allclose(chosen_penalty(a, y[:, None], sites), chosen_penalty(b, y[often, None], sites[often]), rtol=1e-9)
    for left, right in zip(ridge(a, y, 7.0), ridge(b, y[often], 7.0), strict=True):
        assert np.abs(left - right).max() <= 1e-9
    Y = (labels[:, None] == np.arange(3)).astype(float)
    for part in (Y, Y[:, :2] + Y[:, 2:] * [0, 1]):
        for left, right in zip(ridge_logistic(a, part, 7.0), ridge_logistic(b, part[often], 7.0), strict=True):
            # Newton's steps stop at gradients of 1e-10 per row.
            assert np.abs(left - right).max() <= 1e-7
    fits = [
        Ridge(3).fit(X, ["x"] * p, labels, sites, w.astype(float)),
        Ridge(3).fit(X[often], ["x"] * p, labels[often], sites[often]),
    ]
    # As above.
    assert np.abs(fits[0].predict(X, []) - fits[1].predict(X, [])).max() <= 1e-7


def test_the_penalty_loses_least_when_weighted_sites_are_left_out() -> None:
    """The closed form of the residuals against a fit without each site."""
    from pycombat_gam.predict.ridge import _loss_left_out

    rng = np.random.default_rng(3)
    X, y, sites, w = rng.normal(size=(40, 6)), rng.normal(size=40), np.arange(40) % 5, rng.uniform(0.2, 1, 40)
    axes, penalty = Axes.of(X, w), 3.0
    n, S, root = w.sum(), axes.scores, np.sqrt(w)[:, None]
    losses = []
    for k in range(5):
        out = sites == k
        A = np.hstack([np.ones((40, 1)), S])
        K = np.diag([0.0] + [penalty] * S.shape[1])
        inside = ~out
        b = np.linalg.solve((A[inside].T * w[inside]) @ A[inside] + K, A[inside].T @ (w[inside] * y[inside]))
        losses.append(np.average((y[out] - A[out] @ b) ** 2, weights=w[out]))
    order = np.argsort(sites, kind="stable")
    inverse = 1 / (axes.d + penalty)
    centred = root * (y - w @ y / n)[:, None]
    rooted = root * S
    E = centred - rooted @ (inverse[:, None] * (rooted.T @ centred))
    by_site = [slice(8 * k, 8 * k + 8) for k in range(5)]
    loss = _loss_left_out((rooted * np.sqrt(inverse))[order], E[order], root[order], by_site)
    # Two solutions of one linear system, well conditioned.
    assert abs(loss - np.mean(losses)) <= 1e-10


BAD: list[tuple[str, str, type[PcgError]]] = [
    ("two sites", "1 case of column 'patient' at more than one site: p000 (s00, s01)", DataError),
    ("two outcomes", "1 case of column 'patient' with more than one outcome: p000", DataError),
    ("missing case", "case column 'patient' has missing values in 1 row (index 0)", DataError),
    ("missing metadata", "age", DataError),
]


def spoiled(trouble: str) -> pd.DataFrame:
    table = TABLE.assign(patient=TABLE["patient"].astype(object), age=TABLE["age"])
    assert (table["patient"] == "p000").sum() > 1
    if trouble == "two sites":
        table.loc[0, "site"] = "s01"
    elif trouble == "two outcomes":
        table.loc[0, "dx"] = {"a": "b", "b": "c", "c": "a"}[table.loc[0, "dx"]]
    elif trouble == "missing case":
        table.loc[0, "patient"] = None
    else:
        table.loc[[0, 7], "age"] = np.nan
    return table


@pytest.mark.parametrize(("trouble", "words", "kind"), BAD)
def test_bad_cases_are_refused(trouble: str, words: str, kind: type[PcgError], model: pcg.Predictor) -> None:
    table = spoiled(trouble)
    with pytest.raises(kind) as caught:
        pcg.Predictor("dx ~ age", **OPTIONS).fit(table)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    if trouble == "two outcomes":
        model.predict(table)
        with pytest.raises(kind):
            model.predict(NEW, labelled=table)
        return
    with pytest.raises(kind) as caught:
        model.predict(table)
    assert "\n" not in str(caught.value)


def test_missing_metadata_needs_an_estimator_that_takes_it() -> None:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table = spoiled("missing metadata")
    estimator = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler(), LogisticRegression())
    model = pcg.Predictor("dx ~ age", estimator=estimator, **OPTIONS).fit(table)
    new = NEW.assign(age=NEW["age"].where(NEW["patient"] != "np000"))
    assert new["age"].isna().any()
    assert not model.predict(new).filter(like="p_").isna().any(axis=None)


def test_case_is_a_column_name() -> None:
    with pytest.raises(OptionError, match="case="):
        pcg.Predictor("dx ~ age", **{**OPTIONS, "case": ["patient"]}).fit(TABLE)
    with pytest.raises(DataError, match="case"):
        pcg.Predictor("dx ~ age", **{**OPTIONS, "case": "pateint"}).fit(TABLE)


def test_cases_have_numbers_too() -> None:
    model = pcg.Predictor("age ~ 1", **OPTIONS).fit(TABLE)
    answers = model.predict(NEW)
    assert answers.columns.tolist() == ["fit", "lower", "upper", "calibration"]
    assert len(answers) == NEW["patient"].nunique()


def test_labelled_cases_calibrate(model: pcg.Predictor) -> None:
    known = NEW[NEW["site"] == "news00"]
    patients = known["patient"].unique()
    labelled, new = known[known["patient"].isin(patients[:12])], known[known["patient"].isin(patients[12:])]
    with pytest.warns(PcgWarning, match="too few rows labelled"):  # per class three cases are needed
        answers = model.predict(new, labelled=labelled)
    assert answers.index.tolist() == patients[12:].tolist()
    assert (answers["calibration"] == "labelled rows").all()


def test_top_k_agrees_with_the_ranks() -> None:
    rng = np.random.default_rng(0)
    P = rng.integers(0, 4, (200, 6)) / 10  # many ties
    y = rng.integers(0, 6, 200).astype(float)
    order = np.argsort(-P, axis=1, kind="stable")
    for k in range(1, 7):
        assert np.array_equal(top_k(P, y, k), (order[:, :k] == y[:, None]).any(axis=1))
    assert top_k(P, y, 6).all()
    for k in (0, 7, 1.5, True):
        with pytest.raises(OptionError, match="k="):
            top_k(P, y, k)  # type: ignore[arg-type]  # wrong on purpose


def test_top_k_by_site_has_intervals(model: pcg.Predictor) -> None:
    from scipy.stats import binomtest, ttest_1samp

    evidence, labels = model.fitted.evidence, model.fitted.levels.labels
    table = top_k_by_site(evidence.left_out, evidence.y, evidence.site, labels, ks=(1, 2))
    assert table.columns.tolist() == ["site", "k", "n", "accuracy", "lower", "upper"]
    assert len(table) == 2 * (len(labels) + 1)
    for k in (1, 2):
        part = table[table["k"] == k].set_index("site")
        right = top_k(evidence.left_out, evidence.y, k)
        for j, label in enumerate(labels):
            here = right[evidence.site == j]
            wilson = binomtest(int(here.sum()), here.size).proportion_ci(method="wilson")
            # The same closed form.
            assert np.allclose(part.loc[label, ["lower", "upper"]].astype(float), wilson, rtol=0, atol=1e-12)
            assert part.loc[label, "accuracy"] == here.mean()
        shares = part["accuracy"].iloc[:-1]
        student = ttest_1samp(shares, 0).confidence_interval()
        mean = part.loc["mean of sites"]
        # Student's interval, here within 0 and 1 where it is not cut.
        assert np.allclose([mean["lower"], mean["upper"]], np.clip(student, 0, 1), rtol=0, atol=1e-12)
    by_k = table.pivot(index="site", columns="k", values="accuracy")
    assert (by_k[1] <= by_k[2]).all()
