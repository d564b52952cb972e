r"""A fit's sufficient statistics in the units in which they are sampled.

Each feature is shifted by its weighted mean and divided by its residual sd √φ_k. The design is centred, and its columns
are combined so that the covariates' precision, penalties at their typical weights included, is the identity: θ = Tβ,
R_b → R_bT⁻¹. Penalised columns then have the prior precision Σ_j λ_jk T⁻'S_jT⁻¹ of feature k.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from pycombat_gam.design.penalties import Penalty
from pycombat_gam.infer.small_systems import backward, cholesky, forward
from pycombat_gam.infer.streams import TILE
from pycombat_gam.mean.fit import MeanFit
from pycombat_gam.mean.posterior import AS_GOOD_AS_INFINITE, ROUNDING, residual_df
from pycombat_gam.penalized.sufficient import Statistics
from pycombat_gam.types import BoolArray, FloatArray, IntArray

BLOCK_BYTES = 2**25
"""Memory for the matrices of a block of features."""
WIDEST = 512
"""Features of a block at most: its arrays then stay in the processor's cache."""


@dataclass(frozen=True, eq=False)
class Pattern:
    """Features observed on the same rows: their statistics, and the design of B sites in new coordinates.

    Attributes
    ----------
    statistics : as the mean model keeps them.
    x : (B, p) means less the overall ones; R : (B, p, p) factors.
    """

    statistics: Statistics
    x: FloatArray
    R: FloatArray


@dataclass(frozen=True, eq=False)
class Block:
    """v neighbouring features, in units of their residual sd; q = 1 + p.

    What only depends on the rows is shared, or has the features on a last axis where their rows differ.

    Attributes
    ----------
    n : (B, 1) or (B, v) rows; scale_n : (B, v) those that tell of a site's scale.
    y : (B, v) site means; s : (B, v) sums of squares that no design explains; Z : (B, p, v).
    x : (B, p); R : (B p, p); means, cross : (q², B) products of (1, x) and of R, bordered by zeros.
    penalty : (q, q, v), or None.
    sd, offset : (v,) what features were divided by, and shifted by before.
    """

    n: FloatArray
    scale_n: FloatArray
    y: FloatArray
    s: FloatArray
    Z: FloatArray
    x: FloatArray
    R: FloatArray
    means: FloatArray
    cross: FloatArray
    penalty: FloatArray | None
    sd: FloatArray
    offset: FloatArray

    def precision(self, of_means: FloatArray, of_rows: FloatArray) -> FloatArray:
        """Return Σ_b u_b (1, x_b)'(1, x_b) + w_b M_b + penalties for weights u and w (B, v), (q, q, v)."""
        q = self.Z.shape[1] + 1
        total = (combined(of_means, self.means) + combined(of_rows, self.cross)).reshape(q, q, -1)
        return np.asarray(total if self.penalty is None else total + self.penalty)

    def scores(self, variance: FloatArray, pooled: FloatArray) -> FloatArray:
        """Return the covariance Σ_b σ²_b M_b + φS of the penalised scores for σ² (B, v) and φ (v,), (p, p, v)."""
        q = self.Z.shape[1] + 1
        total = combined(variance, self.cross).reshape(q, q, -1)[1:, 1:]
        return np.asarray(total if self.penalty is None else total + pooled * self.penalty[1:, 1:])

    def right(self, of_means: FloatArray, of_rows: FloatArray) -> FloatArray:
        """Return Σ_b u_b (1, x_b)' + w_b R_b'Z_b for u and w (B, v), (q, v)."""
        B, p, v = self.Z.shape
        first = np.concatenate([of_means.sum(axis=0)[None], combined(of_means, _last(self.x))])
        if p:
            first[1:] += combined((of_rows[:, None] * self.Z).reshape(B * p, v), _last(self.R))
        return first

    def around(self, theta: FloatArray) -> FloatArray:
        """Return the sum of squares around a site's mean, less the covariates' part, for θ (p, v): (B, v)."""
        B, p, v = self.Z.shape
        if not p:
            return self.s
        left = self.Z - applied(self.R, theta).reshape(B, p, v)
        return np.asarray(self.s + np.einsum("bpv,bpv->bv", left, left))

    def level(self, theta: FloatArray) -> FloatArray:
        """Return the sites' means less the covariates' part, (B, v)."""
        return np.asarray(self.y - applied(self.x, theta))


def combined(weights: FloatArray, matrix: FloatArray) -> FloatArray:
    """Return Σ_b matrix_rb w_bv for matrix (r, B), or (r, B, v) where features have their own."""
    if matrix.ndim == 2:
        return np.asarray(matrix @ weights)
    return np.asarray(np.einsum("rbv,bv->rv", matrix, weights))


def applied(matrix: FloatArray, theta: FloatArray) -> FloatArray:
    """Return matrix (r, p) or (r, p, v) times θ (p, v)."""
    return combined(theta, matrix)


def _last(matrix: FloatArray) -> FloatArray:
    """Transpose the first two axes."""
    return matrix.swapaxes(0, 1)


@dataclass(frozen=True, eq=False)
class Problem:
    """K features to draw, of those of a fit.

    Attributes
    ----------
    features : (K,) which of the fit's, ascending.
    patterns : the patterns of missing cells; pattern, place : (K,) the one of each feature, and where it stands there.
    back : (p, p) β = back θ; center : (p,) what is taken off the design.
    penalties : in the coordinates of θ, with weights (K,); df : (K,) residual degrees of freedom.
    blind : (B, K) sites without variance, which say nothing of their scale.
    n_rows : (B,) rows of the fit; n_observed : (B, K) cells.
    """

    features: IntArray
    patterns: tuple[Pattern, ...]
    pattern: IntArray
    place: IntArray
    back: FloatArray
    center: FloatArray
    penalties: tuple[tuple[FloatArray, FloatArray], ...]
    df: FloatArray
    blind: BoolArray
    n_rows: IntArray
    n_observed: IntArray

    @classmethod
    def of(cls, mean: MeanFit, features: IntArray, blind: BoolArray) -> Problem:
        """Bring a fit's statistics together.

        Parameters
        ----------
        mean : with `groups`; features : (K,) which to draw; blind : (B, V) sites that say nothing of a scale.
        """
        assert mean.groups is not None
        V = mean.coefficients.shape[1]
        pattern, place = np.empty(V, dtype=np.intp), np.empty(V, dtype=np.intp)
        for number, group in enumerate(mean.groups):
            pattern[group.members] = number
            place[group.members] = np.arange(group.members.size)
        penalties = _bounded(mean)
        back = _coordinates(mean.R, penalties)
        patterns = tuple(
            Pattern(s.statistics, (s.statistics.x_mean - mean.center) @ back, s.statistics.R @ back)
            for s in mean.groups
        )
        inside = tuple((back[p.columns].T @ p.matrix @ back[p.columns], p.weight[features]) for p in penalties)
        return cls(
            features,
            patterns,
            pattern[features],
            place[features],
            back,
            mean.center,
            inside,
            residual_df(mean)[features],
            blind[:, features],
            mean.n_rows,
            mean.n_observed[:, features],
        )

    @property
    def size(self) -> int:
        """K."""
        return self.features.size

    def spread_evenly(self, most: int) -> Problem:
        """Return the same for at most so many features, spread evenly; itself if it has no more."""
        if self.size <= most:
            return self
        at = np.unique(np.linspace(0, self.size - 1, most).round().astype(np.intp))
        return replace(
            self,
            features=self.features[at],
            pattern=self.pattern[at],
            place=self.place[at],
            penalties=tuple((S, weight[at]) for S, weight in self.penalties),
            df=self.df[at],
            blind=self.blind[:, at],
            n_observed=self.n_observed[:, at],
        )

    def spans(self, width: int | None = None) -> Iterator[slice]:
        """Cut the features into blocks of whole tiles; `width` features at most, or as memory and cache allow."""
        if width is None:
            q, B = len(self.back) + 1, len(self.n_rows)
            numbers = 3 * q * q + 4 * B * q + (2 * B * q * q if len(self.patterns) > 1 else 0)
            width = min(WIDEST, BLOCK_BYTES // (8 * numbers))
        step = max(width // TILE, 1) * TILE
        for left in range(0, self.size, step):
            yield slice(left, min(left + step, self.size))

    def block(self, span: slice) -> Block:
        """Return some features in their units."""
        pattern, place = self.pattern[span], self.place[span]
        numbers = np.unique(pattern)
        parts = [self.patterns[number] for number in numbers]
        at = [np.flatnonzero(pattern == number) for number in numbers]
        n_rows = self.n_rows / self.n_rows.sum()
        stacked = {name: _collected(parts, at, place, name) for name in ("y_mean", "Z", "residual_ss")}
        n, x, R = (_spread(arrays, at, len(pattern)) for arrays in zip(*map(_rows_of, parts), strict=True))
        n = n[:, None] if n.ndim == 1 else n
        B, p, v = stacked["Z"].shape
        offset = n_rows @ stacked["y_mean"]
        raw = Block(
            n=n,
            scale_n=np.where(self.blind[:, span], 0.0, n),
            y=stacked["y_mean"] - offset,
            s=stacked["residual_ss"],
            Z=stacked["Z"],
            x=x,
            R=R.reshape(B * p, *R.shape[2:]),
            **_products(x, R),
            penalty=self._penalty(span),
            sd=np.ones(v),
            offset=offset,
        )
        sd = np.sqrt(raw.around(_least_squares(raw)).sum(axis=0) / self.df[span])
        return replace(raw, y=raw.y / sd, s=raw.s / sd**2, Z=raw.Z / sd, sd=sd)

    def _penalty(self, span: slice) -> FloatArray | None:
        if not self.penalties:
            return None
        p = len(self.back)
        total = np.zeros((p + 1, p + 1, span.stop - span.start))
        for S, weight in self.penalties:
            total[1:, 1:] += S[:, :, None] * weight[span]
        return total


def estimates(block: Block) -> tuple[FloatArray, FloatArray]:
    """Return (penalised) least squares with one variance: site levels and residual sums of squares, each (B, v)."""
    theta = _least_squares(block)
    return block.level(theta), block.around(theta)


def _least_squares(block: Block) -> FloatArray:
    """Return θ (p, v) where all rows have the same variance and site levels are free."""
    none, all_rows = np.zeros_like(block.y), np.ones_like(block.y)
    P, right = block.precision(none, all_rows)[1:, 1:], block.right(none, all_rows)[1:]
    L = cholesky(P)
    return backward(L, forward(L, right))


def _rows_of(pattern: Pattern) -> tuple[FloatArray, FloatArray, FloatArray]:
    return pattern.statistics.n.astype(np.float64), pattern.x, pattern.R


def _spread(arrays: Sequence[FloatArray], at: Sequence[IntArray], v: int) -> FloatArray:
    """Return what features share, or the arrays of each on a last axis."""
    if len(arrays) == 1:
        return arrays[0]
    result = np.empty((*arrays[0].shape, v))
    for array, columns in zip(arrays, at, strict=True):
        result[..., columns] = array[..., None]
    return result


def _collected(parts: Sequence[Pattern], at: Sequence[IntArray], place: IntArray, name: str) -> FloatArray:
    """Pick an array of the statistics for some features, each from its own pattern."""
    first = getattr(parts[0].statistics, name)
    result = np.empty((*first.shape[:-1], place.size))
    for part, columns in zip(parts, at, strict=True):
        result[..., columns] = getattr(part.statistics, name)[..., place[columns]]
    return result


def _products(x: FloatArray, R: FloatArray) -> dict[str, FloatArray]:
    """Return (1, x)'(1, x) and R'R, bordered, sites on the second axis: (q², B) or (q², B, v)."""
    B, p = x.shape[:2]
    z = np.concatenate([np.ones((B, 1, *x.shape[2:])), x], axis=1)
    means = np.einsum("bi...,bj...->ijb...", z, z)
    cross = np.zeros_like(means)
    cross[1:, 1:] = np.einsum("bki...,bkj...->ijb...", R, R)
    shape = ((p + 1) ** 2, B, *x.shape[2:])
    return {"means": means.reshape(shape), "cross": cross.reshape(shape)}


def _bounded(mean: MeanFit) -> list[Penalty]:
    """Return the penalties, practically infinite ones bounded, with a weight on columns that the sites hold."""
    information, whole = mean.R.T @ mean.R, mean.n_rows.sum() * mean.center**2
    bounded = []
    for _, same_term in groupby(mean.penalties, key=lambda penalty: penalty.term):
        for penalty in same_term:
            columns = penalty.columns
            size, before = float(np.trace(information[columns, columns])), float(whole[columns].sum())
            held = size <= ROUNDING**2 * before
            most = AS_GOOD_AS_INFINITE * (max(before, 1.0) if held else size / np.trace(penalty.matrix))
            weight = np.full_like(penalty.weight, most) if held else np.minimum(penalty.weight, most)
            bounded.append(penalty._replace(weight=weight))
    return bounded


def _coordinates(R: FloatArray, penalties: Sequence[Penalty]) -> FloatArray:
    """Return T⁻¹ (p, p), with T'T the precision of the covariates under typical penalties."""
    p = len(R)
    if not p:
        return np.zeros((0, 0))
    rows = [R]
    for penalty in penalties:
        values, vectors = np.linalg.eigh(penalty.matrix)
        root = np.zeros((len(values), p))
        weight = float(np.median(penalty.weight))
        root[:, penalty.columns] = np.sqrt(np.maximum(values, 0.0) * weight)[:, None] * vectors.T
        rows.append(root)
    T: FloatArray = np.linalg.qr(np.vstack(rows))[1]
    # With a positive diagonal T is the only one: rows in another order give the same coordinates.
    T *= np.where(np.diag(T) < 0, -1.0, 1.0)[:, None]
    size = np.sqrt(np.einsum("ij,ij->j", T, T))
    return np.asarray(np.linalg.inv(T / size) / size[:, None])
