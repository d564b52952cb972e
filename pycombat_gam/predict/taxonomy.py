"""A taxonomy: the tree of classes and groups, cut down to the classes that occur, and its partition.

The partition puts diseases with few cases together, so that every class which a learner sees has enough of them (Esteva
et al. 2017, Nature 542:115, Algorithm 1): a node is split while more than `max_size` cases lie below it. A leaf cannot
be split and is kept, however many cases it has; the algorithm as printed drops it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.errors import DataError, OptionError
from pycombat_gam.predict.outcome import Label, Outcome, plain_label
from pycombat_gam.saving.reader import Reader
from pycombat_gam.types import BoolArray, FloatArray, IntArray
from pycombat_gam.words import count, did_you_mean, listing, rows_named


class Taxonomy:
    """A tree of classes and the groups that they belong to, for `Predictor`.

    Parameters
    ----------
    parents : mapping, sequence of pairs or DataFrame
        The parent of each class and of each group but the root: a mapping from child to parent, pairs (child, parent),
        or a table of these two columns. A pair may be repeated.
    max_size : int, optional
        A node is split into its children while it has more cases than this; a leaf is kept. What is not split is one
        class for the learner. It is decided in every fold from the rows of that fold. By default every class is split
        off.

    Attributes
    ----------
    parents : dict
        Parent by child, as text.
    root : str
        The node without a parent.

    Raises
    ------
    DataError
        For a missing name, a node with two parents, a cycle, several roots.
    OptionError
        For anything else than pairs, and a `max_size` that is no positive whole number.

    Notes
    -----
    Partition: Esteva et al. 2017, Nature 542:115, Algorithm 1. It splits a node of exactly `max_size` cases as well,
    and drops leaves of that size or more; here the former stays whole and the latter are kept.

    Examples
    --------
    >>> import pycombat_gam as pcg
    >>> tree = pcg.Taxonomy({"melanoma": "malignant", "carcinoma": "malignant", "malignant": "all", "nevus": "all"})
    >>> print(tree)
    all
      malignant
        melanoma
        carcinoma
      nevus
    >>> pcg.Taxonomy([("malignant", "all"), ("benign", "al")])
    Traceback (most recent call last):
    pycombat_gam.errors.DataError: the taxonomy has 2 roots, all, al: every node must lead to one; correct a misspelled parent, or give the roots a common parent
    """  # noqa: E501  (a message is one line)

    def __init__(
        self, parents: Mapping[Any, Any] | Iterable[tuple[Any, Any]] | pd.DataFrame, *, max_size: int | None = None
    ) -> None:
        whole = isinstance(max_size, int | np.integer) and not isinstance(max_size, bool)
        if max_size is not None and (not whole or max_size < 1):
            raise OptionError(
                f"max_size={max_size!r}: give the number of cases above which a node is split, such as 1000, or None"
            )
        self.parents = _one_parent_each(_pairs(parents))
        self.max_size = None if max_size is None else int(max_size)
        self.root = _only_root(self.parents)

    @property
    def children(self) -> dict[str, list[str]]:
        """Children by node, in the order in which they were given; leaves have none."""
        children: dict[str, list[str]] = {self.root: []}
        for child, parent in self.parents.items():
            children.setdefault(parent, []).append(child)
            children.setdefault(child, [])
        return children

    @property
    def nodes(self) -> tuple[str, ...]:
        """All nodes from the root, each before its children."""
        return tuple(node for node, _ in self._walk())

    @property
    def leaves(self) -> tuple[str, ...]:
        """Nodes without children."""
        children = self.children
        return tuple(node for node in self.nodes if not children[node])

    def _walk(self) -> list[tuple[str, int]]:
        """Nodes with their depths, each before its children."""
        children, walked, waiting = self.children, [], [(self.root, 0)]
        while waiting:
            node, depth = waiting.pop()
            walked.append((node, depth))
            waiting += [(child, depth + 1) for child in reversed(children[node])]
        return walked

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"parents": dict(self.parents), "max_size": self.max_size}

    @classmethod
    def from_dict(cls, data: object) -> Taxonomy:
        """Rebuild from plain data.

        Raises
        ------
        ModelFileError
            If it is no taxonomy.
        """
        saved = Reader(data, "the saved taxonomy").exactly("parents", "max_size")
        pairs = saved.child("parents")
        parents = {child: pairs.text(child) for child in pairs.names()}
        max_size = None if saved.value("max_size") is None else saved.whole("max_size", least=1)
        try:
            return cls(parents, max_size=max_size)
        except (DataError, OptionError):
            saved.refuse("be a tree with one root")

    def __str__(self) -> str:
        return "\n".join(f"{'  ' * depth}{node}" for node, depth in self._walk())

    def __repr__(self) -> str:
        size = "" if self.max_size is None else f", max_size={self.max_size}"
        return f"Taxonomy(<{count(len(self.parents) + 1, 'node')}>{size})"


def as_taxonomy(value: object) -> Taxonomy:
    """Return the taxonomy that the argument of `Predictor` means."""
    if isinstance(value, Taxonomy):
        return value
    if isinstance(value, Mapping):
        return Taxonomy(value)
    raise OptionError(
        f"taxonomy is a {type(value).__name__}: give pcg.Taxonomy(…), or a mapping such as "
        "{'melanoma': 'malignant', 'malignant': 'all', 'nevus': 'all'}"
    )


def _pairs(parents: object) -> list[tuple[str, str]]:
    """Return pairs of child and parent as text."""
    if isinstance(parents, pd.DataFrame):
        if parents.shape[1] != 2:
            raise OptionError(
                f"the taxonomy's table has {count(parents.shape[1], 'column')}: give two, the child and its parent"
            )
        absent = parents.isna().any(axis=1).to_numpy()
        if absent.any():
            raise DataError(
                f"the taxonomy's table has missing names in {rows_named(parents.index[absent])}: leave these rows out; "
                "the root is the parent that is no child"
            )
        items: list[Any] = list(parents.itertuples(index=False, name=None))
    elif isinstance(parents, Mapping):
        items = list(parents.items())
    elif isinstance(parents, Iterable) and not isinstance(parents, str):
        items = list(parents)
    else:
        raise OptionError(
            f"the taxonomy is a {type(parents).__name__}: give a mapping from child to parent, pairs (child, parent), "
            "or a table of two columns"
        )
    if not items:
        raise OptionError("the taxonomy is empty: give the parent of each class and group")
    for item in items:
        if not isinstance(item, list | tuple) or len(item) != 2:
            raise OptionError(f"the taxonomy holds {item!r}: give pairs (child, parent)")
    return [(_text(child), _text(parent)) for child, parent in items]


def _text(name: object) -> str:
    """Return a node's name as text."""
    if name is None or (isinstance(name, float) and np.isnan(name)) or name is pd.NA:
        raise DataError("the taxonomy has a missing name: leave this pair out; the root is the parent that is no child")
    label = plain_label(name)
    if not isinstance(name, str | bool | int | float | np.generic) or not str(label).strip():
        raise DataError(f"the taxonomy holds {name!r} as the name of a node: give text")
    return str(label)


def _one_parent_each(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    parents: dict[str, str] = {}
    twice: dict[str, list[str]] = {}
    for child, parent in pairs:
        if parents.setdefault(child, parent) != parent:
            twice.setdefault(child, [parents[child]]).append(parent)
    if twice:
        shown = [f"{child} ({listing(dict.fromkeys(several))})" for child, several in twice.items()]
        raise DataError(
            f"the taxonomy has {count(len(twice), 'node')} with more than one parent: {listing(shown, 5)}; give each "
            "node one"
        )
    return parents


def _only_root(parents: Mapping[str, str]) -> str:
    led_to_root: set[str] = set()
    for start in parents:
        trail = [start]
        while trail[-1] in parents and trail[-1] not in led_to_root:
            above = parents[trail[-1]]
            if above in trail:
                cycle = [*trail[trail.index(above) :], above]
                raise DataError(
                    f"the taxonomy has a cycle, {' → '.join(cycle)}: a node cannot lie below itself; correct one parent"
                )
            trail.append(above)
        led_to_root.update(trail)
    roots = list(dict.fromkeys(parent for parent in parents.values() if parent not in parents))
    if len(roots) > 1:
        raise DataError(
            f"the taxonomy has {len(roots)} roots, {listing(roots)}: every node must lead to one; correct a misspelled "
            "parent, or give the roots a common parent"
        )
    return roots[0]


@dataclass(frozen=True, eq=False)
class Tree:
    """The part of a taxonomy that has classes: N nodes, C classes at leaves.

    Attributes
    ----------
    names : of the nodes; of leaves the label of their class. A node comes before its children, the root first.
    parent : (N,) nodes, −1 for the root; leaf : (C,) the node of each class; holds : (N, C) classes below a node.
    """

    names: tuple[Label, ...]
    parent: IntArray
    leaf: IntArray
    holds: BoolArray

    @classmethod
    def of(cls, taxonomy: Taxonomy, classes: Sequence[Label]) -> Tree:
        """Cut a taxonomy down to the nodes that have a class below; every class must be a leaf."""
        code = {str(label): c for c, label in enumerate(classes)}
        kept: set[str] = set()
        for name in code:
            while name not in kept:
                kept.add(name)
                name = taxonomy.parents.get(name, name)
        nodes = [node for node in taxonomy.nodes if node in kept]
        at = {node: v for v, node in enumerate(nodes)}
        parent = np.array([at[taxonomy.parents[node]] if node in taxonomy.parents else -1 for node in nodes], np.intp)
        leaf = np.array([at[name] for name in code], dtype=np.intp)
        holds = np.zeros((len(nodes), len(code)), dtype=np.bool_)
        holds[leaf, np.arange(len(code))] = True
        for v in range(len(nodes) - 1, 0, -1):
            holds[parent[v]] |= holds[v]
        names = tuple(classes[code[node]] if node in code else node for node in nodes)
        return cls(names, parent, leaf, holds)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def classes(self) -> tuple[Label, ...]:
        """Labels of the classes."""
        return tuple(self.names[v] for v in self.leaf)

    @cached_property
    def children(self) -> tuple[IntArray, ...]:
        """Children of each node."""
        return tuple(np.flatnonzero(self.parent == v) for v in range(len(self)))

    def node(self, name: object) -> int:
        """Return the number of a node."""
        texts = [str(node) for node in self.names]
        if str(name) not in texts:
            raise OptionError(
                f"node={name!r}: no node with classes has this name; allowed are {listing(texts, 12)}"
                f"{did_you_mean(str(name), texts)}"
            )
        return texts.index(str(name))

    def summed(self, values: FloatArray) -> FloatArray:
        """Add values (n, N) of nodes up towards the root, so that each node has the sum of its children."""
        total = values.T.copy()
        for v in range(len(self) - 1, 0, -1):
            total[self.parent[v]] += total[v]
        return np.ascontiguousarray(total.T)

    def partition(self, cases: FloatArray, max_size: int | None) -> IntArray:
        """Return the node (C,) whose cases each class is put together with.

        Parameters
        ----------
        cases : (C,) how many each class has.
        """
        below = self.holds @ cases
        merged = np.empty(len(self.leaf), dtype=np.intp)
        waiting = [0]
        while waiting:
            v = waiting.pop()
            # A group with one class is that class.
            if self.children[v].size and (max_size is None or below[v] > max_size or self.holds[v].sum() == 1):
                waiting += self.children[v].tolist()
            else:
                merged[self.holds[v]] = v
        return merged

    def known(self, merged: IntArray) -> BoolArray:
        """Tell which nodes have a probability (N,): those of a partition, and all above."""
        known = np.zeros(len(self), dtype=np.bool_)
        known[merged] = True
        for v in range(len(self) - 1, 0, -1):
            known[self.parent[v]] |= known[v]
        return known

    def lowest(self, held: BoolArray) -> IntArray:
        """Return the lowest node (n,) that has all of some classes (n, C) below; the root for none."""
        below = np.zeros((len(held), len(self)))
        below[:, self.leaf] = held
        below = self.summed(below)
        all_below = (below == below[:, :1]) & (below[:, :1] > 0)
        all_below[:, 0] = True
        # Nodes that have them all lie on one path, and the last of a path is the lowest.
        lowest: IntArray = len(self) - 1 - np.argmax(all_below[:, ::-1], axis=1)
        return lowest


def tree_of(taxonomy: Taxonomy, outcome: Outcome, y: FloatArray, index: pd.Index) -> Tree:
    """Return the tree of an outcome's classes, each of which must be a leaf.

    Parameters
    ----------
    y : (n,) codes of classes; index : (n,) labels of the rows.
    """
    if outcome.kind != "classes":
        raise OptionError(f"taxonomy is for classes; the outcome {outcome.name} is a {outcome.kind}: leave it out")
    texts = np.array(outcome.labels, dtype=object)
    if len(set(texts)) < len(texts):
        same = sorted({text for text in texts if (texts == text).sum() > 1})
        raise DataError(f"classes of {outcome.name} have the same name as text: {listing(same)}; rename one")
    leaves, nodes = set(taxonomy.leaves), set(taxonomy.nodes)
    inner = [text for text in texts if text in nodes - leaves]
    unknown = [text for text in texts if text not in nodes]
    rows = texts[y.astype(np.intp)]
    if unknown:
        raise DataError(
            f"'{outcome.name}' has {listing(map(repr, unknown))} in {rows_named(index[np.isin(rows, unknown)])}: no "
            f"leaf of the taxonomy has this name{did_you_mean(unknown[0], taxonomy.leaves)}; add it with its parent"
        )
    if inner:
        raise DataError(
            f"'{outcome.name}' has {listing(map(repr, inner))} in {rows_named(index[np.isin(rows, inner)])}, which has "
            f"children in the taxonomy: a case needs a leaf; add one, such as '{inner[0]}, unspecified' with parent "
            f"'{inner[0]}'"
        )
    return Tree.of(taxonomy, outcome.classes)
