"""Tests of terms: Wald tests of parametric ones, Wood's (2013a) test of smooths, and his (2013b) of random effects.

Wood (2013a), "On p-values for smooth components of an extended generalized additive model", Biometrika 100:221–228;
Wood (2013b), "A simple test for random effects in regression models", Biometrika 100:1005–1010.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import f as f_distribution

from pycombat_gam.additive.chisquare_mixture import ratio_tail, ratio_tails
from pycombat_gam.additive.factor import penalty_root
from pycombat_gam.types import FloatArray

EPS = float(np.finfo(float).eps)


@dataclass(frozen=True)
class WaldTest:
    """A test: its statistic, the reference degrees of freedom, and the p-value."""

    statistic: float
    df: float
    p_value: float

    @property
    def F(self) -> float:
        """The statistic per degree of freedom."""
        return self.statistic / self.df if self.df > 0 else float("nan")


def parametric_test(beta: FloatArray, V: FloatArray, df_residual: float) -> WaldTest:
    """All coefficients of a parametric term at once: β'V⁻¹β/d against F(d, n − edf) (R's `anova.gam`).

    Parameters
    ----------
    beta : (d,); V : (d, d) their covariance.
    """
    statistic = float(beta @ np.linalg.lstsq(V, beta, rcond=None)[0])
    return WaldTest(statistic, beta.size, float(f_distribution.sf(statistic / beta.size, beta.size, df_residual)))


@dataclass(frozen=True, eq=False)
class SmoothStatistic:
    """A smooth's test before its p-value.

    Attributes
    ----------
    values : the statistic; twice where the sign of a part of it is arbitrary: the p-value averages both.
    df : the reference degrees of freedom.
    weights, weight_df : of the χ² variables that make its null distribution; a single one is an F test.
    """

    values: tuple[float, ...]
    df: float
    weights: tuple[float, ...]
    weight_df: tuple[float, ...]


def smooth_test(beta: FloatArray, V: FloatArray, R: FloatArray, rank: float, df_residual: float) -> WaldTest:
    """Wood's (2013a) test of a smooth; see `smooth_statistic`."""
    if not beta.size:
        return WaldTest(float("nan"), 0, float("nan"))
    statistic = smooth_statistic(beta, V, R, rank)
    return WaldTest(statistic.values[0], statistic.df, float(smooth_p_values([statistic], np.array([df_residual]))[0]))


def smooth_p_values(tests: Sequence[SmoothStatistic], df_residual: FloatArray) -> FloatArray:
    """p-values of many tests at once, (v,): their tail probabilities are integrals that cost little together."""
    p = np.zeros(len(tests))
    plain = [i for i, test in enumerate(tests) if len(test.weights) == 1]
    mixed = [i for i, test in enumerate(tests) if len(test.weights) > 1]
    if plain:
        statistic, df = np.array([(tests[i].values[0], tests[i].weight_df[0]) for i in plain]).T
        p[plain] = f_distribution.sf(statistic / df, df, df_residual[plain])
    if mixed:
        weights = np.array([tests[i].weights for i in mixed])
        df = np.array([tests[i].weight_df for i in mixed])
        for sign in (0, 1):
            statistic = np.array([tests[i].values[sign] for i in mixed])
            p[mixed] += ratio_tails(statistic, weights, df, df_residual[mixed]) / 2.0
    return p


def smooth_statistic(beta: FloatArray, V: FloatArray, R: FloatArray, rank: float) -> SmoothStatistic:
    """Wood's (2013a) statistic of a smooth: β'R'(RVR')⁻ᵣRβ with a pseudo-inverse of fractional rank r = edf1.

    The inverse takes the ⌊r⌋ − 1 largest eigenvalues of RVR' whole, the next two through a 2×2 matrix whose trace is
    r − ⌊r⌋ + 1 (§2.2 of the paper). The sign of that block's off-diagonal is arbitrary: the p-value averages both.

    Parameters
    ----------
    beta : (d,); V : (d, d); R : (any, d) a factor of the term's columns; rank : edf1 of the term, at most d.
    """
    triangle = np.linalg.qr(R)[1]
    values, vectors = np.linalg.eigh(_even(triangle @ V @ triangle.T))
    values, vectors = values[::-1], vectors[:, ::-1]
    sign = np.sign(vectors[0])
    vectors = vectors * np.where(sign == 0, 1.0, sign)
    along = vectors.T @ (triangle @ beta)
    k = int(np.floor(rank))
    part = rank - k
    reach = int((values > values[0] * EPS**0.9).sum())
    last = k + 1 if part > 0 else k
    if reach < last:
        k = last = reach
        part, rank = 0.0, float(reach)
    if k == 0:
        statistic = float(along[0] ** 2 / values[0])
        return SmoothStatistic((statistic,), rank, (1.0,), (1.0,))
    if part == 0:
        statistic = float((along[:k] ** 2 / values[:k]).sum())
        return SmoothStatistic((statistic,), float(k), (1.0,), (float(k),))
    head = float((along[: k - 1] ** 2 / values[: k - 1]).sum())
    two = along[k - 1 : k + 1] / np.sqrt(values[k - 1 : k + 1])
    off = np.sqrt(max(0.5 * part * (1.0 - part), 0.0))
    both = [head + float(two @ np.array([[1.0, sign * off], [sign * off, part]]) @ two) for sign in (1.0, -1.0)]
    first = (part + 1.0 + np.sqrt((part + 1.0) * (1.0 - part))) / 2.0
    return SmoothStatistic((both[0], both[1]), rank, (1.0, first, part + 1.0 - first), (k - 1.0, 1.0, 1.0))


def random_effect_test(
    R: FloatArray,
    penalties: Sequence[tuple[slice, FloatArray]],
    term: slice,
    others: Sequence[slice],
    *,
    beta: FloatArray,
    Vp: FloatArray,
    Ve: FloatArray,
    scale: float,
    df_residual: float,
) -> WaldTest:
    """Wood's (2013b) test that a penalised term without a null space has variance zero.

    Parameters
    ----------
    R : (any, p) with R'R = X'WX; penalties : λ_jS_j of each block and its place; term : the coefficients tested.
    others : coefficients of the other random effects, taken as random in the distribution of the statistic.
    beta : (p,); Vp, Ve : (p, p) Bayesian and frequentist covariance; scale : φ; df_residual : n − edf.
    """
    p = beta.size
    random = np.zeros(p, dtype=bool)
    for place in others:
        random[place] = True
    total = np.zeros((p, p))
    for place, S in penalties:
        total[place, place] += S
    L = np.eye(R.shape[0])
    if random.any():
        values, vectors = np.linalg.eigh(_even(total[np.ix_(random, random)]))
        used = values > values[-1] * EPS**0.8
        spread = R[:, random] @ (vectors[:, used] / np.sqrt(values[used]))
        L = np.linalg.cholesky(np.eye(R.shape[0]) + spread @ spread.T).T
        moved = L @ R @ Vp
        Ve = moved.T @ moved / scale
    kept = ~random
    inside = np.zeros(p, dtype=bool)
    inside[term] = True
    rest = kept & ~inside
    # A root of each penalty by itself: in the root of their sum a huge λ would drown a small one.
    roots = [penalty_root(S) @ np.eye(p)[place] for place, S in penalties if not random[place].any()]
    stacked = np.vstack([(L @ R)[:, kept], *(root[:, kept] for root in roots)])
    order = np.argsort(inside[kept], kind="stable")
    d = int(inside.sum())
    triangle = np.linalg.qr(stacked[:, order])[1][int(rest.sum()) :, int(rest.sum()) :]
    statistic = float(((triangle @ beta[term]) ** 2).sum()) / scale
    weights = np.linalg.eigvalsh(_even(triangle @ Ve[term, term] @ triangle.T / scale))
    weights = np.maximum(weights, 0.0)
    rank = int((weights > weights.max(initial=0.0) * EPS**0.8).sum()) if d else 0
    if not rank or weights.max() < EPS**1.5:
        # Inside the span of the other terms there is nothing to test. The largest λ of a search leaves 1e-11 to 1e-21.
        return WaldTest(float("nan"), 0, float("nan"))
    p_value = ratio_tail(statistic, weights, df_residual)
    return WaldTest(statistic, rank, p_value)


def _even(S: np.ndarray) -> FloatArray:
    return np.asarray((S + S.T) / 2)
