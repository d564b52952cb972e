"""The causal graph of the formula's covariates and the site, with causes before effects.

By default no covariate has a cause, as in Wang, Chaudhari & Davatzikos (2021, arXiv:2106.06845, fig. 1); edges add
causes. The features are one block, a child of every node, and not in the list of nodes.

Numeric values are coded as they are, levels by their position.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pycombat_gam.batch.levels import BatchLevels
from pycombat_gam.errors import DataError, DesignError, OptionError
from pycombat_gam.flow.nodes.action import code_labels, code_numbers, per_row
from pycombat_gam.flow.nodes.kinds import KINDS, Kind, Level, discrete_levels, plain_dtype, read_levels
from pycombat_gam.formula.columns import Columns, Groups, code_levels, label_of
from pycombat_gam.saving.reader import Reader
from pycombat_gam.types import FloatArray, IntArray, JsonDict
from pycombat_gam.words import did_you_mean, listing

FEATURES = "features"
"""Name of the block of features, beside the nodes."""


@dataclass(frozen=True)
class Graph:
    """A directed acyclic graph over covariates and site.

    Attributes
    ----------
    nodes : tuple of str
        Causes before effects; among nodes that are ready the formula's order, the site last.
    parents : dict of str to tuple of str
        Each node's causes, in the order of `nodes`; none for a root.
    kinds : dict of str
        ``"numeric"``, ``"binary"`` or ``"categorical"``.
    batch : str
        The node of the site; always categorical, whatever the number of sites.
    levels : dict of str to tuple
        Levels of the binary and categorical nodes, in R's order; those of the site are texts, as in ComBat.
    dtypes : dict of str to str
        Of each discrete node with numbers for levels, the column's type; `decode` gives it back.

    Examples
    --------
    >>> table = pd.DataFrame({"site": ["a", "b", "b", "a"], "icv": [1.5, 1.4, 1.7, 1.6], "sex": ["F", "M", "M", "F"]})
    >>> graph = Graph.learn(["icv", "sex"], "site", table, {"icv": ["sex"]})
    >>> graph.nodes, graph.parents["icv"], graph.kinds["sex"], graph.levels["sex"]
    (('sex', 'icv', 'site'), ('sex',), 'binary', ('F', 'M'))
    >>> graph.check_do({"sex": "M"}, 3)
    {'sex': array([1, 1, 1])}
    """

    nodes: tuple[str, ...]
    parents: dict[str, tuple[str, ...]]
    kinds: dict[str, Kind]
    batch: str
    levels: dict[str, tuple[Level, ...]]
    dtypes: dict[str, str]

    @classmethod
    def learn(
        cls,
        variables: Sequence[str],
        batch: str,
        table: pd.DataFrame,
        edges: Mapping[str, Sequence[str]] | None = None,
        *,
        factors: Collection[str] = (),
        features: Collection[str] = (),
        ids: Collection[str] = (),
    ) -> Graph:
        """Learn kinds and levels from a table of n rows, and order the nodes.

        Parameters
        ----------
        variables : columns that the formula uses.
        batch : the site column.
        table : DataFrame, shape (n, any)
        edges : causes of each effect besides the features, such as ``{"icv": ["age", "sex"]}``.
        factors : columns of numbers that the formula takes for factors; see `formula.roles.factor_columns`.
        features, ids : columns that cannot be nodes.

        Raises
        ------
        OptionError
            If the edges are malformed, name an unknown node, a feature or an id, or point from a node to itself.
        DesignError
            If the edges form a cycle, or a node has only one value.
        DataError
            If a node's column is absent, or has missing, infinite or unusable cells.
        """
        names = tuple(dict.fromkeys([*(name for name in variables if name != batch), batch]))
        for name in names:
            if name == FEATURES:
                raise DesignError(
                    f"a covariate cannot be called '{FEATURES}', the name of the features' block: rename it"
                )
            if name in ids or name in features:
                what = "identifies rows" if name in ids else "is a feature, and so an effect of every node"
                raise DesignError(f"'{name}' cannot be a node of the graph: it {what}; take it out of the formula")
        causes = _check_edges(edges or {}, names, set(features), set(ids))
        order = _order(names, causes)
        columns = Columns(table)
        kinds: dict[str, Kind] = {}
        levels: dict[str, tuple[Level, ...]] = {}
        dtypes: dict[str, str] = {}
        for name in order:
            if name == batch:
                kinds[name], levels[name] = "categorical", BatchLevels.learn(columns.series(name), name).labels
                continue
            discrete = discrete_levels(columns, name, forced=name in factors)
            if discrete is None:
                kinds[name] = "numeric"
                continue
            kinds[name], levels[name] = ("binary" if len(discrete) == 2 else "categorical"), discrete
            if not isinstance(discrete[0], str):
                dtypes[name] = plain_dtype(columns.series(name).dtype)
        parents = {name: tuple(node for node in order if node in causes.get(name, ())) for name in order}
        return cls(order, parents, kinds, batch, levels, dtypes)

    def descendants(self, names: Collection[str]) -> tuple[str, ...]:
        """Return the nodes that an action on some nodes may move, in order.

        A node acted on does not follow the others. The features, which any action moves, are not a node.
        """
        moved = set(names)
        for node in self.nodes:
            if moved & set(self.parents[node]):
                moved.add(node)
        return tuple(node for node in self.nodes if node in moved and node not in names)

    def encode(self, name: str, column: pd.Series[Any], *, lenient: bool = False) -> FloatArray | IntArray:
        """Return a column (n,) as float64 if the node is numeric, else as codes of its levels.

        If `lenient`, a level that was not in the fit is −1.

        Raises
        ------
        DataError
            If cells are missing or infinite, a level is unknown, or a number was expected and text is there.
        """
        if name == self.batch:
            codes, unseen = BatchLevels(name, self._texts(name)).codes(column)
            if unseen:
                raise DataError(
                    f"batch column '{name}' has a site that the fit did not see: {listing(map(repr, unseen), 4)}; "
                    f"known are {listing(self._texts(name), 30)}{BatchLevels(name, self._texts(name)).meant(unseen[0])}"
                )
            return codes
        columns = Columns(pd.DataFrame({name: column}))
        if self.kinds[name] != "numeric":
            groups, where = columns.groups(name), f"column '{name}'"
            return code_levels(groups, self._texts(name), where, columns, lenient=lenient).codes
        values = columns.column(name)
        if isinstance(values, Groups):
            raise DataError(f"column '{name}' held numbers in the fit and now {listing(map(repr, values.values), 3)}")
        return np.array(values, dtype=np.float64)  # a copy: pandas' own array cannot be written to

    def decode(self, name: str, values: FloatArray | IntArray) -> np.ndarray:
        """Return the column (n,) that `encode` codes: numbers as float64, levels in the type of the fit's column."""
        if self.kinds[name] == "numeric":
            return np.asarray(values, dtype=np.float64)
        return np.array(self.levels[name], dtype=self.dtypes.get(name, "object"))[np.asarray(values, dtype=np.intp)]

    def check_do(
        self, do: Mapping[str, object], n: int, index: pd.Index[Any] | None = None
    ) -> dict[str, FloatArray | IntArray]:
        """Check an action on n rows and code it.

        Parameters
        ----------
        do : a value for all rows, or one for each (list, array, Series), by node.
        n : number of rows.
        index : of the table; a Series must have the same.

        Returns
        -------
        dict of str to ndarray (n,), coded as `encode` does, in the order of `nodes`.

        Raises
        ------
        OptionError
            If a node or level is unknown, a number is not finite, or there is not one value for each row.
        """
        if not isinstance(do, Mapping):
            raise OptionError(f"do={do!r} is not allowed: give values by node, such as {{'{self.batch}': …}}")
        for name in do:
            if name not in self.nodes:
                raise OptionError(
                    f"do: {name!r} is no node; allowed are {listing(self.nodes, 20)}"
                    f"{did_you_mean(str(name), self.nodes)}"
                )
        coded: dict[str, FloatArray | IntArray] = {}
        for name in self.nodes:
            if name in do:
                column = per_row(name, do[name], n, index)
                numeric, batch = self.kinds[name] == "numeric", name == self.batch
                coded[name] = (
                    code_numbers(name, column) if numeric else code_labels(name, column, self._texts(name), batch=batch)
                )
        return coded

    def to_dict(self) -> JsonDict:
        """Plain data for `from_dict`."""
        return {
            "batch": self.batch,
            "nodes": [
                {
                    "name": name,
                    "kind": self.kinds[name],
                    "parents": list(self.parents[name]),
                    **({"levels": list(self.levels[name])} if name in self.levels else {}),
                    **({"dtype": self.dtypes[name]} if name in self.dtypes else {}),
                }
                for name in self.nodes
            ],
        }

    @classmethod
    def from_dict(cls, data: object) -> Graph:
        """Rebuild from plain data, with all of it checked.

        Raises
        ------
        ModelFileError
            If anything is missing, superfluous or of the wrong kind, or there is a cycle.
        """
        saved = Reader(data, "the saved graph").exactly("batch", "nodes")
        batch = saved.text("batch")
        parents: dict[str, tuple[str, ...]] = {}
        kinds: dict[str, Kind] = {}
        levels: dict[str, tuple[Level, ...]] = {}
        dtypes: dict[str, str] = {}
        for node in saved.children("nodes"):
            name, kind, causes = node.text("name"), node.choice("kind", KINDS), node.texts("parents")
            saved.require(name not in kinds, "name each node once")
            # Parents come before their children, so there is no cycle.
            before = tuple(earlier for earlier in kinds if earlier in causes)
            node.require(causes == before, "have causes among the nodes before it, in their order")
            kinds[name], parents[name] = kind, causes
            if kind != "numeric":
                levels[name], dtype = read_levels(node, kind, is_batch=name == batch)
                dtypes |= {} if dtype is None else {name: dtype}
            held = {"levels": name in levels, "dtype": name in dtypes}
            node.exactly("name", "kind", "parents", *(key for key, there in held.items() if there))
        saved.require(kinds.get(batch) == "categorical", "have a categorical node for its batch")
        return cls(tuple(kinds), parents, kinds, batch, levels, dtypes)

    def _texts(self, name: str) -> tuple[str, ...]:
        return tuple(label_of(level) for level in self.levels[name])


def _check_edges(
    edges: Mapping[str, Sequence[str]], names: tuple[str, ...], features: set[str], ids: set[str]
) -> dict[str, tuple[str, ...]]:
    if not isinstance(edges, Mapping):
        raise OptionError(f"graph={edges!r} is not allowed: give causes by effect, such as {{'icv': ['age', 'sex']}}")
    checked: dict[str, tuple[str, ...]] = {}
    for child, causes in edges.items():
        if isinstance(causes, str) or not isinstance(causes, Sequence):
            raise OptionError(f"graph: the causes of '{child}' are {causes!r}; give a list of names, such as ['age']")
        for name in (child, *causes):
            if name in names:
                continue
            if name in ids:
                raise OptionError(f"graph: '{name}' identifies rows and is neither cause nor effect; leave it out")
            if name in features:
                raise OptionError(f"graph: '{name}' is a feature, and so already an effect of every node; leave it out")
            raise OptionError(
                f"graph: {name!r} is no node; nodes are the formula's columns and the batch: {listing(names, 20)}"
                f"{did_you_mean(str(name), names)}"
            )
        if child in causes:
            raise OptionError(f"graph: '{child}' is among its own causes; leave it out there")
        if len(set(causes)) < len(causes):
            raise OptionError(f"graph: the causes of '{child}' name {_twice(causes)} twice; name each once")
        checked[child] = tuple(causes)
    return checked


def _twice(names: Sequence[str]) -> str:
    return listing(sorted({f"'{name}'" for name in names if names.count(name) > 1}))


def _order(names: tuple[str, ...], causes: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Sort causes before effects (Kahn, 1962), each time the first of `names` that is ready."""
    order: list[str] = []
    while len(order) < len(names):
        left = [name for name in names if name not in order]
        ready = [name for name in left if all(cause in order for cause in causes.get(name, ()))]
        if not ready:
            raise DesignError(f"graph: these edges form a cycle: {_cycle(left, causes)}; take one of them out")
        order.append(ready[0])
    return tuple(order)


def _cycle(left: list[str], causes: Mapping[str, Sequence[str]]) -> str:
    """Walk from effect to cause, among nodes that all have a cause left, until a node repeats."""
    trail = [left[0]]
    while trail[-1] not in trail[:-1]:
        trail.append(next(cause for cause in causes[trail[-1]] if cause in left))
    return " → ".join(reversed(trail[trail.index(trail[-1]) :]))
