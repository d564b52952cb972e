"""A taxonomy: its checks, the partition, scores along the likelier path, and the node that answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from pycombat_gam.errors import DataError, ModelFileError, OptionError
from pycombat_gam.predict.node_scores import NodeScores
from pycombat_gam.predict.nodes import FittedNodes, Nodes
from pycombat_gam.predict.taxonomy import Tree
from pycombat_gam.predict.thresholds import across_sites
from tests.helpers.lesions import PARENTS, site

CLASSES = tuple(f"l{i:02d}" for i in range(12))
TREE = Tree.of(pcg.Taxonomy(PARENTS), CLASSES)
SCORES = NodeScores(TREE, tuple(range(1, len(TREE))), per_class=False)


def ragged(rng: np.random.Generator, leaves: int) -> tuple[dict[str, str], tuple[str, ...]]:
    """A random tree: leaves hang at random among groups that hang at random."""
    groups = ["root"]
    parents = {}
    for g in range(leaves // 2):
        parents[f"g{g}"] = str(rng.choice(groups))
        groups.append(f"g{g}")
    return parents | {f"x{i}": str(rng.choice(groups)) for i in range(leaves)}, tuple(f"x{i}" for i in range(leaves))


def probabilities(rng: np.random.Generator, tree: Tree, n: int, cases: np.ndarray | None, max_size: int) -> np.ndarray:
    """Random probabilities of nodes, some of them tied and some zero, NaN below a partition."""
    C = len(tree.leaf)
    merged = tree.partition(np.ones(C) if cases is None else cases, None if cases is None else max_size)
    P = np.zeros((n, len(tree)))
    nodes = np.unique(merged)
    P[:, nodes] = rng.integers(0, 5, (n, nodes.size)) + 1e-3
    P /= P.sum(axis=1, keepdims=True)
    P = tree.summed(P)
    P[:, ~tree.known(merged)] = np.nan
    return P


def path(tree: Tree, p: np.ndarray) -> list[int]:
    """Descend to the likelier child, row by row."""
    nodes = [0]
    while True:
        children = [v for v in np.flatnonzero(tree.parent == nodes[-1]) if not np.isnan(p[v])]
        if not children:
            return nodes
        nodes.append(max(children, key=lambda v: p[v]))


CASES = [(1, None), (2, None), (3, 3), (4, 6), (5, 10)]


@pytest.mark.parametrize(("seed", "max_size"), CASES)
def test_scores_are_those_of_the_first_node_that_does_not_hold_the_class(seed: int, max_size: int | None) -> None:
    rng = np.random.default_rng(seed)
    parents, classes = ragged(rng, 14)
    tree = Tree.of(pcg.Taxonomy(parents), classes)
    cases = None if max_size is None else rng.integers(0, 5, 14)
    P = probabilities(rng, tree, 60, cases, max_size or 0)
    got = NodeScores(tree, (), per_class=False).extremes(P)
    for p, row in zip(P, got, strict=True):
        nodes = path(tree, p)
        for c in range(14):
            outside = [p[v] for v in nodes if not tree.holds[v, c]]
            assert row[c] == (outside[0] if outside else 0.0)
        # A set is what lies below the deepest node of the path that is likelier than q.
        for q in (0.0, 0.1, 0.3, 0.7, 1.0):
            node = [v for v in nodes if v == 0 or p[v] > q][-1]
            assert np.array_equal(row <= q, tree.holds[node])


@pytest.mark.parametrize(("seed", "max_size"), CASES)
def test_the_answer_is_the_lowest_node_that_holds_the_set_of_several_models(seed: int, max_size: int | None) -> None:
    rng = np.random.default_rng(seed)
    parents, classes = ragged(rng, 14)
    tree = Tree.of(pcg.Taxonomy(parents), classes)
    for per_class in (False, True):
        scores = NodeScores(tree, (), per_class=per_class)
        models = [
            scores.extremes(probabilities(rng, tree, 40, rng.integers(0, 5, 14) if max_size else None, max_size or 0))
            for _ in range(4)
        ]
        together = np.min(models, axis=0)
        q = rng.uniform(0, 0.6, scores.n_strata)
        held, node = scores.members(together, q), scores.answered(together, q)
        y = rng.integers(0, 14, 40).astype(float)
        rows = np.arange(40)
        assert (scores.covered(together, q, y) >= held[rows, y.astype(int)]).all()
        assert (scores.sizes(together, q) >= held.sum(axis=1)).all()
        for i in range(40):
            holding = [v for v in range(len(tree)) if not (held[i] & ~tree.holds[v]).any()]
            assert held[i].any()
            assert node[i] == min(holding, key=lambda v: (tree.holds[v].sum(), -v))
        for model in models:
            theirs = scores.answered(model, q)
            assert not (tree.holds[theirs] & ~tree.holds[node]).any()


def test_sets_are_nested_in_the_level_and_answers_climb() -> None:
    rng = np.random.default_rng(0)
    extremes = SCORES.extremes(probabilities(rng, TREE, 200, None, 0))
    before = np.zeros((200, 12), dtype=bool)
    for q in np.linspace(0, 1, 21):
        node = SCORES.answered(extremes, np.array([q]))
        assert not (before & ~TREE.holds[node]).any()
        before = TREE.holds[node]
    assert (SCORES.answered(extremes, np.array([np.inf])) == 0).all()


def test_an_empty_set_would_be_answered_by_the_root() -> None:
    assert TREE.lowest(np.zeros((1, 12), dtype=bool)).tolist() == [0]


def brute_force(taxonomy: pcg.Taxonomy, node: str, cases: dict[str, int], size: int) -> list[tuple[str, ...]]:
    """The algorithm as printed, with leaves of any size kept."""

    def below(v: str) -> list[str]:
        children = taxonomy.children[v]
        return [v] if not children else [leaf for child in children for leaf in below(child)]

    if sum(cases[leaf] for leaf in below(node)) <= size or not taxonomy.children[node]:
        return [tuple(below(node))]
    return [group for child in taxonomy.children[node] for group in brute_force(taxonomy, child, cases, size)]


@pytest.mark.parametrize("seed", range(6))
def test_the_partition_splits_nodes_with_more_cases_than_allowed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 40, 12)
    taxonomy = pcg.Taxonomy(PARENTS)
    for size in (1, 10, 30, 100, 10_000):
        merged = TREE.partition(counts.astype(float), size)
        groups = {tuple(np.array(CLASSES)[merged == v]) for v in np.unique(merged)}
        expected = brute_force(taxonomy, "all", dict(zip(CLASSES, counts.tolist(), strict=True)), size)
        assert groups == set(expected)


def test_without_a_size_every_class_is_its_own() -> None:
    assert np.array_equal(TREE.partition(np.ones(12), None), TREE.leaf)


def test_a_group_with_one_class_is_that_class() -> None:
    tree = Tree.of(pcg.Taxonomy(PARENTS), ("l00", "l04", "l05"))
    assert tree.names == ("all", "t0", "m0", "l00", "t1", "m2", "l04", "l05")
    merged = tree.partition(np.array([3.0, 2.0, 1.0]), 4)
    assert [tree.names[v] for v in merged] == ["l00", "t1", "t1"]


def test_children_sum_to_their_parent() -> None:
    rng = np.random.default_rng(1)
    X, y = site(rng, 300)
    fitted = Nodes(TREE, 40, None).fit(X, list("abcdefgh"), y.astype(float), np.arange(300) % 5)
    P = fitted.predict(X, list("abcdefgh"))
    known = TREE.known(fitted.merged)
    assert not known.all()
    assert np.array_equal(np.isnan(P), np.broadcast_to(~known, P.shape))
    for v, children in enumerate(TREE.children):
        if children.size and known[children].all():
            # Sums of at most 12 probabilities, in another order.
            assert np.abs(P[:, children].sum(axis=1) - P[:, v]).max() <= 1e-12
    # As above: the root has all of the probability.
    assert np.abs(P[:, 0] - 1.0).max() <= 1e-12


def test_guaranteed_answers_hold_the_truth_at_new_sites() -> None:
    """25 simulated studies of 10 sites with 40 rows; partitions differ from fold to fold."""
    from sklearn.naive_bayes import GaussianNB

    rng = np.random.default_rng(20)
    level, K, columns = 0.85, 10, [f"f{j}" for j in range(8)]
    learner = Nodes(TREE, 25, GaussianNB())
    held, sizes, in_set = [], [], []
    for _ in range(25):
        rows = [site(rng, 40) for _ in range(K)]
        X, y = np.concatenate([a for a, _ in rows]), np.concatenate([b for _, b in rows]).astype(float)
        where = np.repeat(np.arange(K), 40)
        X_new, y_new = site(rng, 200)
        truth, extremes = np.empty(y.size), []
        for k in range(K):
            out = where == k
            fitted = learner.fit(X[~out], columns, y[~out], where[~out])
            truth[out] = SCORES.truth(fitted.predict(X[out], columns), y[out])
            extremes.append(SCORES.extremes(fitted.predict(X_new, columns)))
        together, q = np.min(extremes, axis=0), np.array([across_sites(truth, where, level)])
        held.append(SCORES.covered(together, q, y_new.astype(float)).mean())
        in_set.append(SCORES.members(together, q)[np.arange(200), y_new].mean())
        sizes.append(SCORES.sizes(together, q).mean())
    # Three standard errors over studies: a guarantee that holds fails so in 1 of 700 draws.
    assert np.mean(held) >= level - 3 * np.std(held) / np.sqrt(25)
    assert np.mean(held) >= np.mean(in_set)
    assert np.mean(sizes) < 6


BAD: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    ({"a": "b", "b": "c", "c": "a"}, {}, DataError, "has a cycle, a → b → c → a"),
    ({"a": "a"}, {}, DataError, "has a cycle, a → a"),
    ({"x": "root", "a": "b", "b": "a"}, {}, DataError, "has a cycle, a → b → a"),
    ([("a", "g"), ("a", "h"), ("g", "r"), ("h", "r")], {}, DataError, r"1 node with more than one parent: a \(g, h\)"),
    ({"a": "g", "b": "h"}, {}, DataError, "has 2 roots, g, h"),
    ({"a": None}, {}, DataError, "missing name"),
    ({"a": float("nan")}, {}, DataError, "missing name"),
    ({"a": ""}, {}, DataError, "holds '' as the name"),
    ({"a": ["b"]}, {}, DataError, r"holds \['b'\] as the name"),
    ({}, {}, OptionError, "is empty"),
    ("a", {}, OptionError, "is a str"),
    (3, {}, OptionError, "is a int"),
    (["ab"], {}, OptionError, "holds 'ab': give pairs"),
    ([("a", "b", "c")], {}, OptionError, "give pairs"),
    (pd.DataFrame({"a": ["x"]}), {}, OptionError, "has 1 column"),
    (pd.DataFrame({"a": ["x", "y"], "b": ["r", None]}), {}, DataError, r"missing names in 1 row \(index 1\)"),
    ({"a": "r"}, {"max_size": 0}, OptionError, "max_size=0"),
    ({"a": "r"}, {"max_size": 2.5}, OptionError, "max_size=2.5"),
    ({"a": "r"}, {"max_size": True}, OptionError, "max_size=True"),
]


@pytest.mark.parametrize(("parents", "options", "kind", "words"), BAD)
def test_what_is_no_tree_is_refused(parents: Any, options: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        pcg.Taxonomy(parents, **options)
    assert "\n" not in str(caught.value)


def test_all_forms_make_the_same_tree() -> None:
    pairs = list(PARENTS.items())
    table = pd.DataFrame(pairs + pairs[:3], columns=["child", "parent"])
    trees = [pcg.Taxonomy(form) for form in (PARENTS, pairs, table, [list(pair) for pair in pairs])]
    assert len({str(tree) for tree in trees}) == 1
    assert repr(pcg.Taxonomy(PARENTS, max_size=9)) == "Taxonomy(<22 nodes>, max_size=9)"
    numbers = pcg.Taxonomy(pd.DataFrame({"child": [1.0, 2.0], "parent": ["r", "r"]}))
    assert numbers.leaves == ("1", "2")


def test_plain_data_makes_the_same_taxonomy() -> None:
    taxonomy = pcg.Taxonomy(PARENTS, max_size=7)
    again = pcg.Taxonomy.from_dict(taxonomy.to_dict())
    assert again.to_dict() == taxonomy.to_dict() and str(again) == str(taxonomy)
    broken = [{}, {"parents": {"a": "a"}, "max_size": None}, {"parents": {"a": 1}, "max_size": None}]
    for data in [*broken, {"parents": PARENTS, "max_size": -1}, {"parents": [], "max_size": None}]:
        with pytest.raises(ModelFileError):
            pcg.Taxonomy.from_dict(data)


def test_a_saved_learner_is_read_back_and_forged_ones_are_not() -> None:
    from pycombat_gam.saving.reader import Reader

    rng = np.random.default_rng(1)
    X, y = site(rng, 200)
    columns = [f"f{j}" for j in range(8)]
    fitted = Nodes(TREE, 30, None).fit(X, columns, y.astype(float), np.arange(200) % 5)
    arrays = fitted.arrays()
    again = FittedNodes.read(Reader(arrays, "the saved learner"), 8, TREE)
    assert np.array_equal(again.predict(X, columns), fitted.predict(X, columns), equal_nan=True)
    other = arrays["partition"].copy()
    other[0] = TREE.leaf[1]
    for forged in (other, arrays["partition"] + 1000, np.zeros(12, dtype=np.intp), arrays["partition"][:-1]):
        with pytest.raises(ModelFileError):
            FittedNodes.read(Reader({**arrays, "partition": forged}, "the saved learner"), 8, TREE)
