r"""Draws from the posterior of a ComBat whose parameters are all uncertain, by Gibbs sampling, features side by side.

    Y_bi ~ N(m + γ_b + x_bi'β, σ²_b),  γ_b ~ N(γ̄_b, τ²_b),  σ²_b ~ InvGamma(a_b, b_b u²),  m, log u² flat,

for each feature; β is flat, or normal with the precision that the fit's penalties are worth. A sweep draws (m, β) with
γ integrated out, γ, the scale u² twice (given σ², then given σ²/u²: Yu & Meng 2011, J Comput Graph Stat 20:531), σ²,
and the hyperparameters. The rows enter through n_b, x̄_b, R_b, ȳ_b, Z_b and s_b alone.

Hyperparameters are drawn with at most `INFORMING` features, spread evenly over all. Every block of features then takes
its sweeps given their path. With no more features than that the blocks repeat exactly the sweeps that made the path;
beyond, the path does not know the other features, which would hardly move it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from pycombat_gam.infer.hyperparameters import Hyperparameters, Sums, start, update
from pycombat_gam.infer.problem import Block, Problem, estimates
from pycombat_gam.infer.small_systems import backward, cholesky, forward
from pycombat_gam.infer.streams import Streams, generator
from pycombat_gam.progress import progress_bar
from pycombat_gam.types import Advance, FloatArray

INFORMING = 2000
"""Features that inform the hyperparameters: τ² is then known to three percent."""
HELD_BYTES = 2**26
"""Draws that may be held, so that their sweeps need not be repeated."""
HYPER, FEATURES, SOME = 0, 1, 2
"""Purposes of random numbers: hyperparameters, all features, the features that inform when those are not all."""


@dataclass(frozen=True)
class Plan:
    """How long to sample: `burn` sweeps, then every `thin`-th of the next is kept, `draws` in all."""

    draws: int
    burn: int = 150
    thin: int = 1

    @property
    def sweeps(self) -> int:
        """Number of sweeps."""
        return self.burn + self.draws * self.thin

    def kept(self, sweep: int) -> int | None:
        """Return which draw a sweep is, or None."""
        after = sweep + 1 - self.burn
        return after // self.thin - 1 if after > 0 and after % self.thin == 0 else None


@dataclass(frozen=True, eq=False)
class Draws:
    """m draws of v features, in their own units, at the design's centre.

    Attributes
    ----------
    beta : (m, p, v) coefficients; alpha : (m, B, v) level of each site; variance : (m, B, v) of each site.
    """

    beta: FloatArray
    alpha: FloatArray
    variance: FloatArray

    @classmethod
    def empty(cls, m: int, B: int, p: int, v: int) -> Draws:
        """Return room for draws."""
        return cls(np.empty((m, p, v)), np.empty((m, B, v)), np.empty((m, B, v)))


@dataclass(frozen=True, eq=False)
class Model:
    """What is sampled: a problem, whether sites have scales, and the seed."""

    problem: Problem
    scaled: bool
    seed: int
    weights: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        """Weigh sites by their rows."""
        object.__setattr__(self, "weights", self.problem.n_rows / self.problem.n_rows.sum())


class Chain:
    """A block of features on its way: σ² (B, v) is all that a sweep takes from the last."""

    def __init__(self, model: Model, span: slice, key: int) -> None:
        self.model = model
        self.block: Block = model.problem.block(span)
        self.streams = Streams(model.seed, (key,), span.start, span.stop)
        n = self.block.scale_n
        self.half = 0.5 * (n[:, :1] if (n == n[:, :1]).all() else n)
        level, rss = estimates(self.block)
        self.gamma = level - model.weights @ level
        # Half an observation of variance one keeps sites of one row away from zero.
        self.variance = (rss + 0.5) / (self.block.n + 0.5)
        self.ratio = self.variance
        if not model.scaled:
            self.variance = np.ones_like(rss)
        self.theta = self.alpha = np.zeros((0, 0))

    def sums(self) -> Sums:
        """What the hyperparameters need of these features."""
        return Sums.of(self.gamma, self.ratio)

    def sweep(self, hyper: Hyperparameters) -> None:
        """Draw all parameters of these features given the hyperparameters."""
        block, n = self.block, self.block.n
        q = block.Z.shape[1] + 1
        mean, spread = hyper.mean[:, None], hyper.spread[:, None]
        noise = self.streams.normal(q + len(n))
        inverse = 1.0 / self.variance
        of_mean = 1.0 / (self.variance / n + spread)
        L = cholesky(block.precision(of_mean, inverse))
        theta = backward(L, forward(L, block.right(of_mean * (block.y - mean), inverse)) + noise[:q])
        m, self.theta = theta[0], theta[1:]
        level = block.level(self.theta)
        rows = n * inverse
        precision = rows + 1.0 / spread
        self.gamma = (rows * (level - m) + mean / spread) / precision + noise[q:] / np.sqrt(precision)
        self.alpha = m + self.gamma
        around = block.around(self.theta) + n * (level - self.alpha) ** 2
        if self.model.scaled:
            self._scales(np.where(block.scale_n > 0, around, 0.0), hyper)
        else:
            total = self.streams.gamma(0.5 * np.broadcast_to(n, around.shape).sum(axis=0)[None])
            self.variance = np.broadcast_to(0.5 * around.sum(axis=0) / total, around.shape)

    def _scales(self, around: FloatArray, hyper: Hyperparameters) -> None:
        shape, rate, n = hyper.shape[:, None], hyper.rate[:, None], self.block.scale_n
        sizes = self.streams.gamma(np.concatenate([np.full((1, n.shape[1]), shape.sum()), 0.5 * n.sum(axis=0)[None]]))
        unit = sizes[0] / (hyper.rate @ (1.0 / self.variance))
        unit = 0.5 * (around * (unit / self.variance)).sum(axis=0) / sizes[1]
        self.variance = (rate * unit + 0.5 * around) / self.streams.gamma(shape + self.half)
        self.ratio = self.variance / unit

    def keep(self, into: Draws, at: int) -> None:
        """Write the last sweep as one draw."""
        block = self.block
        into.beta[at] = (self.model.problem.back @ self.theta) * block.sd
        into.alpha[at] = self.alpha * block.sd + block.offset
        into.variance[at] = self.variance * block.sd**2


@dataclass(frozen=True, eq=False)
class Sampler:
    """A posterior whose hyperparameters are drawn, ready to draw features.

    Attributes
    ----------
    model, plan : what and how long; path : hyperparameters of every sweep; key : purpose of the random numbers.
    informing : the features that informed the path; None: these.
    held : what drawing the path drew of these features, block by block, where memory allows to hold it.
    """

    model: Model
    plan: Plan
    path: tuple[Hyperparameters, ...]
    key: int
    informing: Sampler | None = None
    held: tuple[tuple[slice, Draws], ...] = ()

    @classmethod
    def prepare(cls, model: Model, plan: Plan, width: int | None = None) -> Sampler:
        """Draw the hyperparameters; `width` is the features of a block at most."""
        some = model.problem.spread_evenly(INFORMING)
        whole = some is model.problem
        key = FEATURES if whole else SOME
        fewer = model if whole else Model(some, model.scaled, model.seed)
        spans = list(some.spans(width))
        B, p = len(some.n_rows), len(some.back)
        little = 8 * plan.draws * (p + 2 * B) * some.size <= HELD_BYTES
        held = tuple((span, Draws.empty(plan.draws, B, p, span.stop - span.start)) for span in spans if little)
        with progress_bar("sampling hyperparameters", plan.sweeps) as advance:
            path = tuple(_path(fewer, plan, key, spans, held, advance))
        first = cls(fewer, plan, path, key, held=held)
        return first if whole else cls(model, plan, path, FEATURES, first)

    def draw(self, span: slice) -> Draws:
        """Draw a block of features."""
        chain = Chain(self.model, span, self.key)
        problem = self.model.problem
        drawn = Draws.empty(self.plan.draws, len(problem.n_rows), len(problem.back), span.stop - span.start)
        for sweep, hyper in enumerate(self.path):
            chain.sweep(hyper)
            at = self.plan.kept(sweep)
            if at is not None:
                chain.keep(drawn, at)
        return drawn

    def blocks(self, width: int | None = None) -> Iterator[tuple[slice, Draws]]:
        """Draw all features, block by block: yields (which of the problem's features, their draws).

        Blocks of a `width` of their own are drawn anew.
        """
        if self.held and width is None:
            yield from self.held
            return
        with progress_bar("drawing features", self.model.problem.size) as advance:
            for span in self.model.problem.spans(width):
                yield span, self.draw(span)
                advance(span.stop - span.start)


def _path(
    model: Model,
    plan: Plan,
    key: int,
    spans: list[slice],
    held: tuple[tuple[slice, Draws], ...],
    advance: Advance,
) -> Iterator[Hyperparameters]:
    """Yield the hyperparameters of every sweep, drawn together with their features; keep what is `held`."""
    chains = [Chain(model, span, key) for span in spans]
    source = generator(model.seed, HYPER)
    gamma, delta = (np.hstack([getattr(chain, name) for chain in chains]) for name in ("gamma", "variance"))
    hyper = start(gamma, delta, model.problem.n_observed.mean(axis=1) - 1.0, model.weights)
    for sweep in range(plan.sweeps):
        yield hyper
        at = plan.kept(sweep)
        sums = None
        for number, chain in enumerate(chains):
            chain.sweep(hyper)
            sums = chain.sums() if sums is None else sums + chain.sums()
            if at is not None and held:
                chain.keep(held[number][1], at)
        assert sums is not None
        hyper = update(hyper, sums, model.weights, source, scaled=model.scaled)
        advance()
