"""Predictors with a taxonomy, as users call them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from pycombat_gam.errors import DataError, DesignError, OptionError, PcgWarning
from pycombat_gam.predict.node_scores import NodeScores
from tests.helpers.lesions import PARENTS, lesions

SIZES = [40, 50, 45, 60, 40, 55]
TABLE = lesions(SIZES)
NEW = lesions([30, 20], seed=9).assign(site=lambda t: t["site"].replace({"s00": "new", "s01": "newer"}))
OPTIONS: dict[str, Any] = {"batch": "site", "features": "^f", "level": 0.8, "per_class": False}


def fitted(table: pd.DataFrame = TABLE, max_size: int | None = 50, **options: Any) -> pcg.Predictor:
    return pcg.Predictor("dx ~ 1", **{**OPTIONS, "taxonomy": pcg.Taxonomy(PARENTS, max_size=max_size), **options}).fit(
        table
    )


@pytest.fixture(scope="module")
def model() -> pcg.Predictor:
    return fitted()


def test_answers_are_nodes_with_the_classes_below(model: pcg.Predictor) -> None:
    answers = model.predict(NEW)
    leaves = {node: tuple(leaf for leaf in sorted(PARENTS) if leaf[0] == "l" and below(leaf, node)) for node in NODES}
    assert answers["set"].tolist() == [leaves[node] for node in answers["node"]]
    assert answers["size"].tolist() == [len(leaves[node]) for node in answers["node"]]
    undecided = answers["node"] == "all"
    assert (answers.loc[undecided, "answer"] == "undecided").all()
    assert (answers.loc[~undecided, "answer"] == answers.loc[~undecided, "node"]).all()
    assert answers["node"].nunique() > 5
    assert answers.columns[:4].tolist() == ["p_t0", "p_m0", "p_l00", "p_l01"]
    assert not answers.filter(like="p_").isna().any(axis=None)
    # The full model's partition puts some diagnoses together.
    assert 2 <= len(answers.filter(like="p_l").columns) < 12
    # Sums of at most 12 probabilities, in another order.
    assert np.abs(answers[["p_t0", "p_t1", "p_t2"]].sum(axis=1) - 1.0).max() <= 1e-12


NODES = ["all", *dict.fromkeys(PARENTS)]


def below(leaf: str, node: str) -> bool:
    while leaf != node and leaf in PARENTS:
        leaf = PARENTS[leaf]
    return leaf == node


def test_known_sites_are_answered_by_the_model_without_them(model: pcg.Predictor) -> None:
    known = model.predict(TABLE)
    assert known.columns.tolist() == model.predict(NEW).columns.tolist()
    assert (known["calibration"] == "own rows").all()
    both = pd.concat([TABLE.iloc[:5], NEW.iloc[:5]], ignore_index=True)
    assert model.predict(both).columns.tolist() == known.columns.tolist()
    left_out = model.validation.left_out
    assert np.array_equal(left_out["p_t0"], known["p_t0"])


def test_every_answer_is_the_root_exactly_when_the_level_exceeds_the_ceiling(model: pcg.Predictor) -> None:
    ceiling = len(SIZES) / (len(SIZES) + 1)
    sizes = []
    for level in (0.5, 0.7, 0.8, ceiling):
        sizes.append(model.set_params(level=level).predict(NEW)["size"].to_numpy())
    assert all((a <= b).all() for a, b in pairwise(sizes))
    assert (sizes[-1] < 12).any()
    with pytest.warns(PcgWarning, match="every class stays"):
        answers = model.set_params(level=ceiling + 0.01).predict(NEW)
    assert (answers["answer"] == "undecided").all() and (answers["node"] == "all").all()
    model.set_params(level=0.8)


def test_the_validation_counts_the_classes_of_the_answered_node(model: pcg.Predictor) -> None:
    coverage = model.validation.coverage
    guaranteed = coverage[(coverage["sets"] == "guaranteed") & (coverage["class"] == "all")]
    # Of 290 rows: far above 0.8 less three binomial standard errors.
    assert guaranteed["coverage"].mean() > 0.73
    assert guaranteed["size"].between(1, 12).all()


def test_changing_outcomes_of_a_site_changes_nothing_that_was_computed_without_it(model: pcg.Predictor) -> None:
    j = 3
    here = (TABLE["site"] == f"s{j:02d}").to_numpy()
    changed = TABLE.copy()
    # All but a few rows of the site get one rare class: partitions with the site change.
    changed.loc[here, "dx"] = "l09"
    other = fitted(changed)
    before, after = model.fitted, other.fitted
    assert not np.array_equal(before.full.learner.merged, after.full.learner.merged)
    a, b = before.without[j].learner, after.without[j].learner
    assert np.array_equal(a.merged, b.merged)
    for name, array in a.arrays().items():
        assert np.array_equal(array, b.arrays()[name])
    old, new = before.evidence, after.evidence
    assert np.array_equal(old.left_out[here], new.left_out[here], equal_nan=True)
    assert np.array_equal(old.pair_extremes[here], new.pair_extremes[here])
    # Scores by the models without the pair (j, k): at sites other than j their outcomes are as they were.
    assert np.array_equal(old.pair_truth[~here, j], new.pair_truth[~here, j], equal_nan=True)
    assert not np.array_equal(old.left_out[~here], new.left_out[~here], equal_nan=True)


def test_neither_row_order_nor_names_of_sites_matter(model: pcg.Predictor) -> None:
    shuffled = TABLE.sample(frac=1, random_state=1)
    shuffled["site"] = "z" + shuffled["site"].map({f"s{k:02d}": str((k * 5) % 6) for k in range(6)})
    answers, other = model.predict(NEW), fitted(shuffled).predict(NEW)
    assert answers["node"].tolist() == other["node"].tolist()
    # Sums in another order, through Newton steps that stop at gradients of 1e-10 per row.
    assert np.abs(answers.filter(like="p_") - other.filter(like="p_")).max(axis=None) <= 1e-7


def test_classes_can_have_thresholds_of_their_own() -> None:
    model = fitted(level=0.5, per_class=True)
    answers = model.predict(NEW)
    assert answers["node"].nunique() > 3
    scores = model.fitted.scores(per_class=True)
    assert scores is not None and scores.n_strata == 12


def test_a_mapping_makes_every_class_its_own(tmp_path: Path) -> None:
    model = fitted(taxonomy=PARENTS)
    answers = model.predict(NEW)
    assert len(answers.filter(like="p_").columns) == 21
    model.save(tmp_path / "lesions.pcg")
    pd.testing.assert_frame_equal(pcg.load(tmp_path / "lesions.pcg").predict(NEW), answers)


def test_a_saved_model_answers_alike(model: pcg.Predictor, tmp_path: Path) -> None:
    model.save(tmp_path / "lesions.pcg")
    again = pcg.load(tmp_path / "lesions.pcg")
    pd.testing.assert_frame_equal(again.predict(NEW), model.predict(NEW))
    pd.testing.assert_frame_equal(again.predict(TABLE), model.predict(TABLE))
    assert again.taxonomy.to_dict() == model.taxonomy.to_dict()


def test_a_rare_class_at_one_site_is_put_together_with_its_kin() -> None:
    table = TABLE[(TABLE["dx"] != "l03") | (TABLE["site"] == "s01")]
    assert (table["dx"] == "l03").any()
    with pytest.raises(DesignError, match="'l03' of dx is at one site only"):
        fitted(table, max_size=None)
    model = fitted(table)
    assert len(model.predict(NEW)) == len(NEW)
    with pytest.warns(PcgWarning, match="'l03' .at 1 site, at most 50.0 %. is a class at too few"):
        fitted(table, per_class=True, level=0.75)


def test_labels_that_are_numbers_stay_numbers() -> None:
    table = TABLE.assign(dx=pd.Categorical(TABLE["dx"].str[1:].astype(int)))
    new = NEW.assign(dx=0)
    parents = {(int(child[1:]) if child[0] == "l" else child): parent for child, parent in PARENTS.items()}
    answers = pcg.Predictor("dx ~ 1", taxonomy=parents, **OPTIONS).fit(table).predict(new)
    assert all(isinstance(node, int | str) for node in answers["answer"])
    assert any(isinstance(node, int) for node in answers["answer"])


def test_a_node_is_an_event_with_its_probability(model: pcg.Predictor) -> None:
    scores, evidence = model.fitted.scores(per_class=False), model.fitted.evidence
    assert isinstance(scores, NodeScores)
    events, p = scores.event(evidence.left_out, evidence.y, "t1")
    assert np.array_equal(events, TABLE["dx"].between("l04", "l07"))
    assert np.array_equal(p, model.validation.left_out["p_t1"])
    with pytest.raises(OptionError, match="node='t9'"):
        scores.event(evidence.left_out, evidence.y, "t9")
    hidden = [leaf for leaf in PARENTS if np.isnan(evidence.left_out[:, scores.tree.node(leaf)]).any()]
    with pytest.raises(DataError, match="no probability in every fold"):
        scores.event(evidence.left_out, evidence.y, hidden[0])


def test_an_estimator_of_scikit_learn_sees_the_classes_of_the_partition() -> None:
    from sklearn.naive_bayes import GaussianNB

    model = fitted(estimator=GaussianNB(), max_size=100)
    base = model.fitted.full.learner.base
    assert 3 <= len(base.classes) < 12
    assert len(model.predict(NEW)) == len(NEW)


BAD: list[tuple[dict[str, Any], dict[str, Any], type[Exception], str]] = [
    ({"dx": {"l03": "l3"}}, {}, DataError, r"'dx' has 'l3' in \d+ rows .*no leaf of the taxonomy.*did you mean 'l03'"),
    ({"dx": {"l03": "m1"}}, {}, DataError, r"'dx' has 'm1' in \d+ rows .*children in the taxonomy.*'m1, unspecified'"),
    ({}, {"taxonomy": "tree"}, OptionError, "taxonomy is a str"),
    ({}, {"taxonomy": [("a", "b")]}, OptionError, "taxonomy is a list"),
    ({}, {"taxonomy": {"a": "a"}}, DataError, "cycle"),
    ({}, {"taxonomy": pcg.Taxonomy(PARENTS, max_size=175)}, DesignError, "max_size=175 is too large for 290 cases"),
]


@pytest.mark.parametrize(("labels", "options", "kind", "words"), BAD)
def test_bad_input_is_refused(
    labels: dict[str, Any], options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        fitted(TABLE.replace(labels), **options)


def test_other_outcomes_have_no_taxonomy() -> None:
    with pytest.raises(OptionError, match="taxonomy is for classes; the outcome f0 is a number"):
        pcg.Predictor("f0 ~ 1", **{**OPTIONS, "features": ["f1"], "taxonomy": PARENTS}).fit(TABLE)
    with pytest.raises(OptionError, match="case and taxonomy are for classes"):
        pcg.Predictor("Surv(f0, f1) ~ 1", horizons=(1,), **{**OPTIONS, "taxonomy": PARENTS}).fit(TABLE)
