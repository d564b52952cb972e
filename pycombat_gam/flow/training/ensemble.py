r"""Ensemble members trained together: how much harmonized values vary with other rows, or another start.

The members' parameters are stacked, and one `torch.func.vmap` evaluates all of them on the same rows, each with its own
weights. By bootstrap the weights are random within sites (`bootstrap_weights`; Efron & Tibshirani 1993, ch. 6, on the
stratified bootstrap); by seed all rows count once and the networks start elsewhere.

Weights perturb the likelihood's score only, so maximum a posteriori members would all be shrunk the same way and differ
by less than their error. With a prior, each member's penalty gets a random linear term, a pull, with the covariance of
the prior's own score. With normal likelihood and prior the members are then draws from the posterior (perturb and
maximise: Papandreou & Yuille 2010, NeurIPS 23; Bardsley et al. 2014, SIAM J. Sci. Comput. 36:A1895).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from pycombat_gam.flow.mechanisms.mechanism import FeatureMechanism, Parents
from pycombat_gam.flow.training.rows import sites_in_order
from pycombat_gam.types import FloatArray, IntArray

SEPARATOR = "|"
"""Replaces the dot in names of stacked parameters, where torch does not allow it."""


class Ensemble(FeatureMechanism):
    """M mechanisms of one shape as one; `train.train` takes it, with weights (n, M).

    pulls : each member's `draw_pull`; empty for unchanged penalties.
    """

    def __init__(self, members: Sequence[FeatureMechanism], pulls: Sequence[tuple[Tensor, ...]] = ()) -> None:
        super().__init__()
        self._pulls = len(pulls[0]) if pulls else 0
        for j in range(self._pulls):
            self.register_buffer(f"pull{SEPARATOR}{j}", torch.stack([pull[j] for pull in pulls]))
        self.full_batch = members[0].full_batch
        parameters, buffers = stack_module_state(list(members))
        self.stacked = nn.ParameterDict({_flat(name): nn.Parameter(value) for name, value in parameters.items()})
        for name, value in buffers.items():
            self.register_buffer(_flat(name), value)
        self._buffer_names = tuple(buffers)
        # In a tuple, outside the module's tree: only its shape is used, never its parameters.
        self._one = (copy.deepcopy(members[0]),)

    def _state(self) -> dict[str, Tensor]:
        state = {name.replace(SEPARATOR, "."): value for name, value in self.stacked.items()}
        return state | {name: getattr(self, _flat(name)) for name in self._buffer_names}

    def _each(self, method: str, *rows: Any, dims: tuple[int | None, ...]) -> Any:
        """Call a method of every member; the results are stacked in front."""
        call = _Call(self._one[0], method)

        def call_member(state: dict[str, Tensor], *arguments: Any) -> Any:
            return functional_call(call, {f"mechanism.{name}": value for name, value in state.items()}, arguments)

        return vmap(call_member, in_dims=(0, *dims), randomness="error")(self._state(), *rows)

    def abduct(self, x: Tensor, parents: Parents) -> tuple[Tensor, Tensor]:
        """Return every member's noise (M, n, V) and log-determinants (M, n)."""
        noise, log_det = self._each("abduct", x, parents.design, parents.site, dims=(None, None, None))
        return noise, log_det

    def predict(self, noise: Tensor, parents: Parents) -> Tensor:
        """Return every member's values (M, n, V) of its own noise (M, n, V)."""
        values: Tensor = self._each("predict", noise, parents.design, parents.site, dims=(0, None, None))
        return values

    def base_log_prob(self, noise: Tensor) -> Tensor:
        """Return the members' log-densities (M, n) of their own noise (M, n, V)."""
        density: Tensor = self._each("base_log_prob", noise, dims=(0,))
        return density

    def log_prob(self, x: Tensor, parents: Parents) -> Tensor:
        """Return the members' mean log-probability, (n,)."""
        each: Tensor = self._each("log_prob", x, parents.design, parents.site, dims=(None, None, None))
        return each.mean(0)

    def draw(self, rows: int, rng: np.random.Generator) -> Tensor:
        """Draw noise of the first member, (rows, V)."""
        return self._one[0].draw(rows, rng)

    def reorder_sites(self, place: IntArray) -> None:
        """Reorder the sites of every member; see `FeatureMechanism`."""
        raise NotImplementedError("reorder the members after members()")

    def loss(self, x: Tensor, parents: Parents, weight: Tensor) -> Tensor:
        """Return the sum of the members' losses; weight : (n, M)."""
        each: Tensor = self._each("loss", x, parents.design, parents.site, weight, dims=(None, None, None, 1))
        return each.sum()

    def penalty(self) -> Tensor:
        """Return the sum of the members' penalties."""
        each: Tensor = self._each("penalty", dims=())
        if self._pulls:
            pulls = [getattr(self, f"pull{SEPARATOR}{j}") for j in range(self._pulls)]
            each = each + self._each("pulled", *pulls, dims=(0,) * len(pulls))
        return each.sum()

    @torch.no_grad()
    def members(self) -> tuple[FeatureMechanism, ...]:
        """Return the members as separate mechanisms."""
        state = self._state()
        count = len(next(iter(state.values())))
        apart = []
        for j in range(count):
            member = copy.deepcopy(self._one[0])
            # Masks and orders are not in the state: each member has them already.
            member.load_state_dict({name: state[name][j] for name in member.state_dict()})
            apart.append(member)
        return tuple(apart)


class _Call(nn.Module):
    """A method of a mechanism as a module's forward, with the parents unpacked, as `functional_call` needs it."""

    def __init__(self, mechanism: FeatureMechanism, method: str) -> None:
        super().__init__()
        self.mechanism, self.method = mechanism, method

    def forward(self, *arguments: Tensor) -> Any:
        method = getattr(self.mechanism, self.method)
        if len(arguments) < 3:
            return method(*arguments)
        x, design, site, *rest = arguments
        return method(x, Parents(design, site), *rest)


def _flat(name: str) -> str:
    return name.replace(".", SEPARATOR)


def bootstrap_weights(site: IntArray, order: IntArray, df: FloatArray, members: int, seed: int) -> FloatArray:
    """Return weights of the Bayesian bootstrap within each site, (n, M), whatever the order of rows.

    The weights of a site of n rows are n times a Dirichlet draw (Rubin 1981, Ann. Statist. 9:130). Resampling with
    replacement would give a site of three rows one row three times, and no variance, in one member of nine.

    A flat Dirichlet gives a site's mean the variance rss / (n (n + 1)). Residuals of a fit are smaller than the noise,
    E rss = df σ², so this is short of σ²/n. With concentration (df − 1) / n the variance is rss / (n df): unbiased.

    Parameters
    ----------
    site : (n,) codes; order : (n,) canonical order of the rows.
    df : (B,) degrees of freedom that the fit leaves each site; below 2 they count as 2, for weights need a positive
        concentration.
    """
    rng = np.random.default_rng(seed)
    weights = np.zeros((len(site), members))
    for code in sites_in_order(site, order):
        rows = order[site[order] == code]
        concentration = (max(float(df[code]), 2.0) - 1.0) / len(rows)
        weights[rows] = len(rows) * rng.dirichlet(np.full(len(rows), concentration), size=members).T
    return weights
