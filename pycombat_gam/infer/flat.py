r"""Independent draws of a ComBat without empirical Bayes: every feature for itself, no prior on location or scale.

    σ²_b = r_b / χ²(d_b),   β ~ N(β̂, Φ(Σ_b σ²_b M_b + φS)Φ),   α_b ~ N(ȳ_b − x̄_b'β, σ²_b/n_b),

with r_b and d_b the residual sum of squares and the degrees of freedom that the fit left to site b, Φ = (ΣM_b + S)⁻¹,
S = Σλ_jS_j, and φ the mean of σ²: β has the covariance of least squares under the sites' variances. A site that says
nothing of its scale has the pooled variance; with one variance for all sites r and d are added up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pycombat_gam.infer.gibbs import FEATURES, Draws, Model
from pycombat_gam.infer.problem import Block, applied
from pycombat_gam.infer.small_systems import backward, cholesky, forward
from pycombat_gam.infer.streams import Streams
from pycombat_gam.progress import progress_bar
from pycombat_gam.types import FloatArray

LEAST_DF = 0.5
"""A site with fewer degrees of freedom says nothing of its scale."""


@dataclass(frozen=True, eq=False)
class FlatSampler:
    """Ready to draw features.

    Attributes
    ----------
    model : what is drawn; draws : how many; df : (B, K) degrees of freedom that the fit left to each site.
    """

    model: Model
    draws: int
    df: FloatArray

    def draw(self, span: slice) -> Draws:
        """Draw a block of features."""
        problem = self.model.problem
        block = problem.block(span)
        streams = Streams(self.model.seed, (FEATURES,), span.start, span.stop)
        fitted = _Fitted.of(block, self.df[:, span], scaled=self.model.scaled)
        drawn = Draws.empty(self.draws, len(problem.n_rows), len(problem.back), span.stop - span.start)
        for at in range(self.draws):
            theta, alpha, variance = fitted.draw(streams)
            drawn.beta[at] = (problem.back @ theta) * block.sd
            drawn.alpha[at] = alpha * block.sd + block.offset
            drawn.variance[at] = variance * block.sd**2
        return drawn

    def blocks(self, width: int | None = None) -> Iterator[tuple[slice, Draws]]:
        """Draw all features, block by block: yields (which of the problem's features, their draws)."""
        with progress_bar("drawing features", self.model.problem.size) as advance:
            for span in self.model.problem.spans(width):
                yield span, self.draw(span)
                advance(span.stop - span.start)


@dataclass(frozen=True, eq=False)
class _Fitted:
    """Least squares of a block: θ̂, the Cholesky factor of ΣM + S, and the variances' r and d."""

    block: Block
    theta: FloatArray
    L: FloatArray
    rss: FloatArray
    df: FloatArray
    scaled: bool

    @classmethod
    def of(cls, block: Block, df: FloatArray, *, scaled: bool) -> _Fitted:
        none, all_rows = np.zeros_like(block.y), np.ones_like(block.y)
        L = cholesky(block.precision(none, all_rows)[1:, 1:])
        theta = backward(L, forward(L, block.right(none, all_rows)[1:]))
        informs = (df >= LEAST_DF) & (block.scale_n > 0) if scaled else np.ones(df.shape, dtype=bool)
        return cls(block, theta, L, block.around(theta), np.where(informs, df, 0.0), scaled)

    def draw(self, streams: Streams) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return θ (p, v), α (B, v) and σ² (B, v) of one draw."""
        block, (B, p, _) = self.block, self.block.Z.shape
        variance, pooled = self._variances(streams)
        noise = streams.normal(p + B)
        score = applied(cholesky(block.scores(variance, pooled)), noise[:p])
        theta = self.theta + backward(self.L, forward(self.L, score))
        alpha = block.level(theta) + np.sqrt(variance / block.n) * noise[p:]
        return theta, alpha, variance

    def _variances(self, streams: Streams) -> tuple[FloatArray, FloatArray]:
        """Return σ² (B, v), and their mean by degrees of freedom (v,)."""
        rss, df = self.rss, self.df
        known = df > 0
        total, freedom = np.where(known, rss, 0.0).sum(axis=0), df.sum(axis=0)
        if not self.scaled:
            common = 0.5 * total / streams.gamma(0.5 * freedom[None])[0]
            return np.broadcast_to(common, rss.shape), common
        variance = 0.5 * rss / streams.gamma(0.5 * np.where(known, df, 1.0))
        pooled = (df * np.where(known, variance, 0.0)).sum(axis=0) / freedom
        return np.where(known, variance, pooled), pooled
