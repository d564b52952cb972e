r"""The structural causal model: all mechanisms together, on coded values.

All noises are independent, so log p(row) is a sum over nodes. A counterfactual (Pearl 2009, ch. 7) is abduction of each
node's noise, the action, and prediction in the order of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pycombat_gam.batch.levels import BatchLevels
from pycombat_gam.flow.device import threads_for
from pycombat_gam.flow.mechanisms.mechanism import FeatureMechanism, Parents
from pycombat_gam.flow.model.frame import Frame
from pycombat_gam.flow.nodes.causes import Causes
from pycombat_gam.flow.nodes.covariates import CovariateMechanism, DiscreteMechanism, fit_covariate
from pycombat_gam.flow.nodes.graph import Graph
from pycombat_gam.tables.intake import find_column
from pycombat_gam.types import FloatArray, IntArray

BLOCK = 2**22
"""Feature values in a block of rows."""

Coded = Mapping[str, FloatArray | IntArray]


@dataclass(frozen=True, eq=False)
class StructuralModel:
    """Mechanisms of B sites, covariates and V features.

    Attributes
    ----------
    graph : nodes and their causes; causes, covariates : for each node, the columns of its causes and its mechanism.
    levels : the sites; shares : (B,) share of each among the rows of the fit.
    frame : scales of the features; features : their mechanism; members : those of an ensemble, or none.
    """

    graph: Graph
    causes: Mapping[str, Causes]
    covariates: Mapping[str, CovariateMechanism]
    levels: BatchLevels
    shares: FloatArray
    frame: Frame
    features: FeatureMechanism
    members: tuple[FeatureMechanism, ...]
    device: torch.device

    # Coding

    def code(self, table: pd.DataFrame, site: IntArray, *, lenient: bool = False) -> dict[str, FloatArray | IntArray]:
        """Return the nodes' values on a table, coded; site : (n,) codes; `lenient`: see `Graph.encode`."""
        coded: dict[str, FloatArray | IntArray] = {
            name: self.graph.encode(name, find_column(table, name, "formula"), lenient=lenient)
            for name in self.graph.nodes
            if name != self.graph.batch
        }
        return coded | {self.graph.batch: site}

    def decode(self, coded: Coded, index: pd.Index) -> pd.DataFrame:
        """Return coded values as columns."""
        return pd.DataFrame({name: self.graph.decode(name, coded[name]) for name in self.graph.nodes}, index=index)

    # Covariates

    def abduct_covariates(self, coded: Coded) -> dict[str, FloatArray]:
        """Return each node's noise, (n,)."""
        return {name: _plain(self.covariates[name].abduct(*self._of(name, coded))[0]) for name in self.graph.nodes}

    def log_prob_covariates(self, coded: Coded) -> dict[str, FloatArray]:
        """Return each node's log-probability given its causes, (n,)."""
        return {name: _plain(self.covariates[name].log_prob(*self._of(name, coded))) for name in self.graph.nodes}

    def predict_covariates(self, noise: Mapping[str, FloatArray], action: Coded) -> dict[str, FloatArray | IntArray]:
        """Return the nodes' values of a noise under an action, causes first."""
        coded: dict[str, FloatArray | IntArray] = {}
        for name in self.graph.nodes:
            coded[name] = action[name] if name in action else self._predicted(name, noise[name], coded)
        return coded

    def act(self, coded: Coded, action: Coded) -> dict[str, FloatArray | IntArray]:
        """Return what the nodes would have been under an action; nodes that it does not reach stay as observed."""
        noise = self.abduct_covariates(coded)
        changed = {**coded, **action}
        for name in self.graph.descendants(list(action)):
            changed[name] = self._predicted(name, noise[name], changed)
        return changed

    def draw_covariates(self, rows: int, action: Coded, seed: int) -> dict[str, FloatArray | IntArray]:
        """Draw the nodes' values under an action."""
        generator = torch.Generator().manual_seed(seed)
        noise = {name: _plain(self.covariates[name].draw(rows, generator)) for name in self.graph.nodes}
        return self.predict_covariates(noise, action)

    def _of(self, name: str, coded: Coded) -> tuple[Tensor, Tensor]:
        values = np.array(coded[name], dtype=np.float64)
        return torch.from_numpy(values), self.causes[name].on(coded, len(values))

    def _predicted(self, name: str, noise: FloatArray, coded: Coded) -> FloatArray | IntArray:
        tensor = torch.from_numpy(np.array(noise, dtype=np.float64))
        values: FloatArray | IntArray = _plain(
            self.covariates[name].predict(tensor, self.causes[name].on(coded, len(noise)))
        )
        return values

    # Features

    def parents(self, table: pd.DataFrame, site: IntArray) -> Parents:
        """Return the features' parents; table : the formula's columns."""
        return self.frame.parents(table, site, self.device)

    def abduct(self, Y: np.ndarray, parents: Parents) -> FloatArray:
        """Return the features' noise (n, V); a feature that is not modelled is its own noise."""
        noise = np.array(Y, dtype=np.float64)
        for rows, x, block in self._blocks(Y, parents):
            noise[rows, self.frame.modelled] = _plain(self.features.abduct(x, block)[0])
        return noise

    def predict(self, noise: FloatArray, parents: Parents) -> FloatArray:
        """Return the features (n, V) of a noise (n, V)."""
        out = np.array(noise)
        with torch.no_grad(), threads_for(noise.size):
            for rows in self._rows(len(noise)):
                eps = torch.as_tensor(noise[rows][:, self.frame.modelled], device=self.device)
                out[rows] = self.frame.restored(self.features.predict(eps, parents.rows(rows)), noise[rows])
        return out

    def log_prob(self, Y: np.ndarray, parents: Parents) -> FloatArray:
        """Return log p(features | parents) in the features' own units, (n,)."""
        out = np.empty(len(Y))
        unit = float(np.log(self.frame.scale).sum())
        for rows, x, block in self._blocks(Y, parents):
            out[rows] = _plain(self.features.log_prob(x, block)) - unit
        return out

    def counterfactual(
        self, Y: np.ndarray, parents: Parents, action: Parents, mechanism: FeatureMechanism | None = None
    ) -> FloatArray:
        """Return the features (n, V) under other parents."""
        chosen = mechanism or self.features
        return self._moved(Y, parents, lambda x, block, rows: chosen.counterfactual(x, block, action.rows(rows)))

    def average(self, Y: np.ndarray, parents: Parents, mechanism: FeatureMechanism | None = None) -> FloatArray:
        """Return the features' average over do(site = s), sites weighted by their shares, (n, V)."""
        chosen, weights = mechanism or self.features, torch.from_numpy(self.shares)
        return self._moved(Y, parents, lambda x, block, rows: chosen.average(x, block, block, weights))

    def harmonized(
        self, Y: np.ndarray, parents: Parents, to: int | None, mechanism: FeatureMechanism | None = None
    ) -> FloatArray:
        """Return the features (n, V) under do(site = to), or averaged over sites (None); a site's rows stay there."""
        if to is None:
            return self.average(Y, parents, mechanism)
        out = self.counterfactual(Y, parents, parents.at(to), mechanism)
        at_target = _plain(parents.site == to)
        out[at_target] = Y[at_target]
        return out

    def _moved(self, Y: np.ndarray, parents: Parents, move: Callable[[Tensor, Parents, slice], Tensor]) -> FloatArray:
        out = np.empty(Y.shape)
        for rows, x, block in self._blocks(Y, parents):
            out[rows] = self.frame.restored(move(x, block, rows), Y[rows])
        return out

    def _blocks(self, Y: np.ndarray, parents: Parents) -> Iterator[tuple[slice, Tensor, Parents]]:
        """Yield blocks of rows, without gradients."""
        with torch.no_grad(), threads_for(Y.size):
            for rows in self._rows(len(Y)):
                yield rows, self.frame.standardized(Y[rows], self.device), parents.rows(rows)

    def _rows(self, n: int) -> Iterator[slice]:
        height = max(1, BLOCK // max(len(self.frame.location), 1))
        for top in range(0, n, height):
            yield slice(top, min(top + height, n))

    def with_site(self, label: str, rows: int, n: int, features: FeatureMechanism) -> StructuralModel:
        """Return the model with one more site, of `rows` rows beside the n of the fit.

        Its probability is its share of all rows. It has no weight in averages over sites, which stay as they were.
        """
        levels = BatchLevels(self.levels.column, (*self.levels.labels, label))
        batch = self.graph.batch
        site = self.covariates[batch]
        assert isinstance(site, DiscreteMechanism)
        more = torch.tensor([np.log(rows / n)], dtype=torch.float64)
        wider = DiscreteMechanism(torch.cat([site.intercept, more]), torch.nn.functional.pad(site.weights, (0, 1)))
        return replace(
            self,
            graph=replace(self.graph, levels={**self.graph.levels, batch: levels.labels}),
            covariates={**self.covariates, batch: wider},
            levels=levels,
            shares=np.append(self.shares, 0.0),
            features=features,
            members=(),
        )


def learn_covariates(
    graph: Graph, table: pd.DataFrame, site: IntArray
) -> tuple[dict[str, Causes], dict[str, CovariateMechanism]]:
    """Fit the mechanisms of covariates and site to a table of n rows."""
    coded: dict[str, FloatArray | IntArray] = {
        name: site if name == graph.batch else graph.encode(name, find_column(table, name, "formula"))
        for name in graph.nodes
    }
    causes = {name: Causes.learn(graph, name, coded) for name in graph.nodes}
    mechanisms = {
        name: fit_covariate(
            graph.kinds[name],
            coded[name],
            causes[name].on(coded, len(site)),
            name=name,
            levels=graph.levels.get(name, ()),
        )
        for name in graph.nodes
    }
    return causes, mechanisms


def _plain(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()
