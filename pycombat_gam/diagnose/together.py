r"""Do sites differ in all features together? Covariance, energy distance and maximum mean discrepancy, by permutation.

The values are features less the covariates' part, divided by their standard deviation over all rows. Where the formula
has random effects, the means of their groups are compared and permuted.

Energy (Székely & Rizzo 2004; R: ``energy::eqdist.etest``) and MMD (Gretton et al. 2012, biased form, Gaussian kernel
with the median distance as its width) are one computation with another n×n matrix M, the distances or minus the kernel:

.. math:: T = \sum_{b<c} \frac{n_b n_c}{n_b + n_c} (2 \bar M_{bc} - \bar M_{bb} - \bar M_{cc}),

with block means over the rows of sites b and c. Both detect any difference of distributions: their population values
are zero only for equal distributions. Their null distribution comes from permuting the rows' sites.

Covariances are compared as Σ m_b ‖S_b − S‖² / ‖S‖² (Frobenius), S_b of site b and S pooled, on at most 30 principal
components. Rows have means that differ by site, so not rows are permuted but the m_b = n_b − 1 orthonormal (Helmert)
contrasts among a site's rows, whose cross product is the site's scatter. If all sites have one covariance, the
contrasts are uncorrelated with equal covariances, whatever the sites' locations and sizes: they are exchangeable.

A row for a site compares it with all others together (its covariance with the pooled one, which is the same question),
under the same permutations. p = (1 + #{T* ≥ T})/(1 + R), and the effect size is T over the mean of T*, 1 by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from pycombat_gam.diagnose.adjusted import CovariatesAlone, adjusted
from pycombat_gam.diagnose.rows import rows
from pycombat_gam.diagnose.study import Study
from pycombat_gam.progress import progress_bar
from pycombat_gam.study.units import Units, units_of
from pycombat_gam.types import FloatArray, IntArray

COMPONENTS = 30
"""Principal components on which covariances are compared: more than most sites have rows to distinguish."""
_AT_ONCE = 32


def permutation_tests(study: Study, columns: IntArray, *, permutations: int, seed: int) -> list[dict[str, np.ndarray]]:
    """Test sites on all features together, by three tests in each state; a row for all sites, and one per site.

    Parameters
    ----------
    columns : (k,) the features to use, without missing cells and not constant.
    """
    some = study.part(slice(None), columns)
    units = units_of(some.codes, some.groups)
    parts: list[dict[str, np.ndarray]] = []
    if units is None:
        return parts
    for state, Y in some.states.items():
        (part,) = adjusted(some, Y)
        values = units.mean(CovariatesAlone.of(some, Y).off(some.table, Y))
        free = units.mean(part.free)
        parts += _permute(some, units, values, free, state, permutations=permutations, seed=seed)
    return parts


def _permute(
    study: Study,
    units: Units,
    values: FloatArray,
    free: FloatArray,
    state: str,
    *,
    permutations: int,
    seed: int,
) -> list[dict[str, np.ndarray]]:
    codes, labels = units.site, np.array(study.sites, dtype=object)
    distance = _distances(values / values.std(axis=0))
    width = np.median(distance[np.triu_indices_from(distance, k=1)])
    kernel = np.exp(-0.5 * (distance / (width if width > 0 else 1.0)) ** 2)
    contrasts, whose = _contrasts(free, codes, seed)
    orders, exchanges = _orders(codes.size, permutations, seed), _orders(whose.size, permutations, seed)
    tests: dict[tuple[str, str], Callable[[], Iterator[FloatArray]]] = {
        ("distribution", "energy distance"): lambda: _discrepancies(distance, codes, labels.size, orders),
        ("distribution", "MMD"): lambda: _discrepancies(-kernel, codes, labels.size, orders),
        ("covariance", "covariance"): lambda: _covariances(contrasts, whose, labels.size, exchanges),
    }
    shown = np.array([0, *(1 + study.shown)])
    parts = []
    with progress_bar(f"permuting sites {state} harmonization", len(tests) * len(orders)) as advance:
        for (aspect, measure), test in tests.items():
            statistics = np.empty((len(orders), 1 + labels.size))
            for at, statistic in enumerate(test()):
                statistics[at] = statistic
                advance()
            # Equal sums differ in the last digits when added in another order.
            reach = statistics[0] * (1.0 - 1e-12)
            p = (1 + (statistics[1:] >= reach).sum(axis=0)) / (1 + permutations)
            if aspect == "covariance":
                # A site of one row has no covariance to compare.
                p[1:][np.bincount(whose, minlength=labels.size) == 0] = np.nan
            parts.append(
                rows(
                    aspect=aspect, measure=measure, state=state, site=np.array(["", *labels], dtype=object)[shown],
                    value=_ratio(statistics[0], statistics[1:].mean(axis=0))[shown], statistic=statistics[0, shown],
                    p=p[shown], n=np.array([codes.size, *np.bincount(codes, minlength=labels.size)])[shown],
                )
            )  # fmt: skip
    return parts


def _orders(size: int, permutations: int, seed: int) -> IntArray:
    """Return the identity and random permutations, (1 + R, size)."""
    rng = np.random.default_rng(seed)
    return np.array([np.arange(size), *(rng.permutation(size) for _ in range(permutations))])


def _ratio(observed: FloatArray, chance: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(observed / chance)


def _distances(values: FloatArray) -> FloatArray:
    """Return Euclidean distances between rows, (n, n)."""
    centred = values - values.mean(axis=0)
    gram = centred @ centred.T
    square = np.diagonal(gram)
    squared = square[:, None] + square - (gram + gram.T)
    np.fill_diagonal(squared, 0.0)
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


def _contrasts(values: FloatArray, codes: IntArray, seed: int) -> tuple[FloatArray, IntArray]:
    """Return Helmert contrasts among each site's rows, on their first principal components, and the site of each.

    The rows are shuffled first: they are sorted by value, and contrasts of neighbours would reflect that order.
    """
    rng = np.random.default_rng(seed)
    parts, sites = [], []
    for b in np.unique(codes):
        of_site = rng.permutation(values[codes == b])
        k = np.arange(1, len(of_site))[:, None]
        before = np.cumsum(of_site, axis=0)[:-1] / k
        parts.append((before - of_site[1:]) * np.sqrt(k / (k + 1.0)))
        sites.append(np.full(len(of_site) - 1, b))
    scaled = np.concatenate(parts)
    scaled = scaled / np.sqrt((scaled**2).mean(axis=0))
    if scaled.shape[1] > scaled.shape[0]:
        square, left = np.linalg.eigh(scaled @ scaled.T)
        scores = left * np.sqrt(np.maximum(square, 0.0))
    else:
        scores = scaled @ np.linalg.eigh(scaled.T @ scaled)[1]
    return np.ascontiguousarray(scores[:, ::-1][:, :COMPONENTS]), np.concatenate(sites)


def _discrepancies(M: FloatArray, codes: IntArray, B: int, orders: IntArray) -> Iterator[FloatArray]:
    """Yield T for all sites together and for each against the others, (1 + B,), for each permutation."""
    sizes = np.bincount(codes, minlength=B).astype(np.float64)
    n = sizes.sum()
    weight = np.triu(np.outer(sizes, sizes) / (sizes[:, None] + sizes), k=1)
    for left in range(0, len(orders), _AT_ONCE):
        some = orders[left : left + _AT_ONCE]
        member = np.zeros((some.shape[0], codes.size, B))
        np.put_along_axis(member, codes[some][..., None], 1.0, axis=2)
        products = (M @ member.transpose(1, 0, 2).reshape(codes.size, -1)).reshape(codes.size, -1, B)
        for indicators, product in zip(member, products.transpose(1, 0, 2), strict=True):
            sums = indicators.T @ product
            means = sums / np.outer(sizes, sizes)
            within = np.diagonal(means)
            pairs = 2 * means - within[:, None] - within
            rest = n - sizes
            across = sums.sum(axis=1) - np.diagonal(sums)
            with np.errstate(divide="ignore", invalid="ignore"):
                others = (sums.sum() - 2 * across - np.diagonal(sums)) / rest**2
                each = sizes * rest / n * (2 * across / (sizes * rest) - within - others)
            yield np.array([(weight * pairs).sum(), *each])


def _covariances(contrasts: FloatArray, codes: IntArray, B: int, orders: IntArray) -> Iterator[FloatArray]:
    """Yield the distances of the sites' covariances from the pooled one, in sum and for each site, (1 + B,)."""
    sizes = np.bincount(codes, minlength=B)
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    by_site = np.argsort(codes, kind="stable")
    pooled = contrasts.T @ contrasts / len(contrasts)
    total = np.linalg.norm(pooled) ** 2
    for order in orders:
        # Contrast order[i] takes the site of contrast i.
        moved = contrasts[np.argsort(order)][by_site]
        far = np.zeros(B)
        for b in range(B):
            of_site = moved[bounds[b] : bounds[b + 1]]
            if len(of_site):
                far[b] = len(of_site) * np.linalg.norm(of_site.T @ of_site / len(of_site) - pooled) ** 2 / total
        yield np.array([far.sum(), *far])
