"""What the features look like: one row each, computed in blocks of features.

- `far`: number of values farther than `FAR` robust standard deviations from the median of their site. The robust sd
  is 1.4826 times the median absolute distance, of all sites or of that one, whichever is larger. So sites of large
  scale do not count as heavy tails. `farthest`: the largest distance; `apart`: how many are beyond a gap. Sites with
  fewer than `RANGE` rows are left out, because their median follows single rows.
- Where hardly any value is zero or below, a distance is the smaller of two: that of the values and that of their
  logarithms. Sizes are skewed to the right, and the logarithms of symmetric values to the left. Values of zero or below
  are then left to the checks of signs. The limits were set by simulation of tables with 200 features at 20 sites of
  unequal size, about 900 rows. At most 2 in 100 tables have a feature that is named, be they normal, lognormal (sd of
  the logarithm up to 0.6), gamma (shape 1 to 9) or t with 10 degrees of freedom. A value ten times too large is named
  if the sd is up to about 0.2 of the mean, and one ten times too small if it is up to about 0.06.
- `low_isolated`, `high_isolated`: whether the smallest, or largest, value is farther than `ISOLATED` times IQR/1.349
  from the median of all. For zero it also holds if all other values exceed a twentieth of the median and not all are
  whole.
- `constant_sites`: sites of two or more values where they are all equal, if not everywhere.
- `units_site`: the site that is farthest off by a factor that other units would make, and `units_factor`.
- `duplicate_of`: the first of several equal features in alphabetical order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pycombat_gam.checks.material import Material
from pycombat_gam.checks.overlap import RANGE
from pycombat_gam.checks.units import unit_factors
from pycombat_gam.progress import progress_bar
from pycombat_gam.types import BoolArray, FloatArray, IntArray

FAR = 5.0
"""Robust standard deviations beyond which a value is far out: of normal values, 6 in 10 million are."""

ISOLATED = 6.0
"""The same, for single values among as many as there may be: of normal values, 2 in 10⁹ are."""

APART = 8.0
"""The same, for values beyond a gap: the next one has less than 1/`GAP` of the distance of the last of them."""

GAP = 3.5

HARDLY_ANY = 0.01
"""Up to this share of a feature, values of zero or below are odd ones of a feature that should have none."""

LEAST = 20
"""Values needed to speak of tails."""

_CELLS = 2**21

NUMBERS = (
    *("observed", "mean", "sd", "min", "median", "max", "distinct", "at_min", "at_max"),
    *("zeros", "negative", "integers", "far", "farthest", "apart", "low_isolated", "high_isolated", "constant_sites"),
)
NEXT = ("next_low", "next_high")


@dataclass(eq=False)
class Looked:
    """What features look like.

    Attributes
    ----------
    table : a row per feature; constant : (feature, site) pairs without variance inside the site.
    units : (feature, site, factor) where a site seems to be in other units.
    next_low, next_high : (V,) how many values are the smallest but one, or the largest but one.
    """

    table: pd.DataFrame
    constant: list[tuple[str, str]]
    units: list[tuple[str, str, float]]
    next_low: IntArray
    next_high: IntArray


def look_at_features(material: Material) -> Looked:
    """Describe every feature."""
    Y, features = material.intake.Y, material.intake.features
    V, n = len(features), Y.shape[0]
    order = np.argsort(material.codes, kind="stable")
    sites, starts = np.unique(material.codes[order], return_index=True)
    bounds = np.append(starts, n)
    labels = np.array([*material.levels.labels, ""], dtype=object)
    columns: dict[str, list[np.ndarray]] = {name: [] for name in (*NUMBERS, *NEXT)}
    pairs: list[tuple[str, str]] = []
    units: list[tuple[str, str, float]] = []
    first: dict[bytes, str] = {}
    digests: list[bytes] = []
    width = max(1, _CELLS // max(1, n))
    with progress_bar("looking at features", V) as advance:
        for left in range(0, V, width):
            right = min(V, left + width)
            rows = np.ascontiguousarray(np.asarray(Y[:, left:right], dtype=np.float64)[order].T)
            rows[~np.isfinite(rows)] = np.nan
            numbers, within = _block(rows, sites, bounds)
            for name in (*NUMBERS, *NEXT):
                columns[name].append(numbers[name])
            at, where = np.nonzero(within)
            pairs += [(features[left + k], labels[sites[b]]) for k, b in zip(at.tolist(), where.tolist(), strict=True)]
            factors = unit_factors(rows, sites, bounds)
            units += [
                (features[left + k], labels[sites[b]], float(factors[k, b]))
                for k, b in np.argwhere(factors != 1).tolist()
            ]
            rows += 0.0  # one zero, whatever its sign
            for k in range(right - left):
                digest = hashlib.blake2b(rows[k].tobytes(), digest_size=16).digest()
                digests.append(digest)
                name = features[left + k]
                first[digest] = min(name, first.get(digest, name))
            advance(right - left)
    whole = {name: np.concatenate(parts) for name, parts in columns.items()}
    table = pd.DataFrame({name: whole[name] for name in NUMBERS})
    table.insert(0, "feature", np.array(features, dtype=object))
    table["duplicate_of"] = [
        first[digest] if first[digest] != name else "" for digest, name in zip(digests, features, strict=True)
    ]
    table.loc[table["distinct"] < 2, "duplicate_of"] = ""
    farthest = {
        feature: (site, factor) for feature, site, factor in sorted(units, key=lambda unit: abs(np.log(abs(unit[2]))))
    }
    table["units_site"] = [farthest.get(name, ("", 1.0))[0] for name in features]
    table["units_factor"] = [farthest.get(name, ("", 1.0))[1] for name in features]
    return Looked(table, pairs, units, whole["next_low"], whole["next_high"])


def _block(rows: FloatArray, sites: IntArray, bounds: IntArray) -> tuple[dict[str, np.ndarray], BoolArray]:
    """Describe features, one in each row of the array, its values grouped by site; code −1 is no site."""
    k, n = rows.shape
    ordered = np.sort(rows, axis=1)
    observed = n - np.isnan(ordered).sum(axis=1)
    last, line = np.maximum(observed - 1, 0), np.arange(k)
    low, high = ordered[:, 0], ordered[line, last]
    middle = _median(ordered, observed)
    spread = (ordered[line, (3 * last) // 4] - ordered[line, last // 4]) / 1.349
    steps = np.diff(ordered, axis=1) > 0  # a comparison with NaN is false
    known = np.nan_to_num(ordered)
    mean = known.sum(axis=1) / np.maximum(observed, 1)
    squares = (np.where(np.isnan(ordered), 0.0, ordered - mean[:, None]) ** 2).sum(axis=1)
    constant = low == high
    mean = np.where(constant, low, mean)
    sd = np.where(constant, 0.0, np.sqrt(squares / np.maximum(observed - 1, 1)))
    with np.errstate(invalid="ignore"):
        low_isolated, high_isolated = middle - low > ISOLATED * spread, high - middle > ISOLATED * spread
    within = _constant_within(rows, sites, bounds) & ~constant[:, None]
    far, farthest, apart = _tails(rows, sites, bounds)
    nothing = observed == 0
    at_min, at_max = _ties(ordered, low), _ties(ordered, high)
    numbers = {
        "observed": observed,
        "mean": np.where(nothing, np.nan, mean),
        "sd": np.where(observed < 2, np.nan, sd),
        "min": low,
        "median": middle,
        "max": high,
        "distinct": np.where(nothing, 0, steps.sum(axis=1) + 1),
        "at_min": at_min,
        "at_max": at_max,
        "next_low": _ties(ordered, np.where(constant, np.nan, ordered[line, np.minimum(at_min, last)])),
        "next_high": _ties(ordered, np.where(constant, np.nan, ordered[line, np.maximum(last - at_max, 0)])),
        "zeros": (ordered == 0).sum(axis=1),
        "negative": (ordered < 0).sum(axis=1),
        "integers": (known == np.floor(known)).all(axis=1) & ~nothing,
        "far": far,
        "farthest": farthest,
        "apart": apart,
        "low_isolated": (low_isolated & (spread > 0)) | _zero_alone(ordered, middle),
        "high_isolated": high_isolated & (spread > 0),
        "constant_sites": within.sum(axis=1),
    }
    return numbers, within


def _ties(ordered: FloatArray, values: FloatArray) -> IntArray:
    """Count the values of each row that equal one."""
    return np.asarray((ordered == values[:, None]).sum(axis=1), dtype=np.intp)


def _median(ordered: FloatArray, observed: IntArray) -> FloatArray:
    """Median of each row, which is sorted with its missing cells last."""
    line = np.arange(len(ordered))
    upper, lower = np.maximum(observed, 1) // 2, (np.maximum(observed, 1) - 1) // 2
    return np.asarray((ordered[line, lower] + ordered[line, upper]) / 2)


def _zero_alone(ordered: FloatArray, middle: FloatArray) -> BoolArray:
    """Tell where zeros stand alone: measurements that are all above a twentieth of their median, but for them."""
    least = np.fmin.reduce(np.where(ordered > 0, ordered, np.nan), axis=1)
    known = np.nan_to_num(ordered)
    return np.asarray((ordered[:, 0] == 0) & (20 * least > middle) & (known != np.floor(known)).any(axis=1))


def _constant_within(rows: FloatArray, sites: IntArray, bounds: IntArray) -> BoolArray:
    """Tell, (features, sites), where two or more values of a site are all equal."""
    starts = bounds[:-1]
    low, high = np.fmin.reduceat(rows, starts, axis=1), np.fmax.reduceat(rows, starts, axis=1)
    counts = np.add.reduceat(~np.isnan(rows), starts, axis=1, dtype=np.intp)
    return np.asarray((low == high) & (counts > 1) & (sites >= 0))


def _tails(rows: FloatArray, sites: IntArray, bounds: IntArray) -> tuple[IntArray, FloatArray, IntArray]:
    """Count values far from their site's median; find the largest distance; count those apart from all others."""
    positive = np.flatnonzero((rows <= 0).sum(axis=1) <= HARDLY_ANY * (~np.isnan(rows)).sum(axis=1))
    measured = rows.copy()
    measured[positive] = np.where(rows[positive] > 0, rows[positive], np.nan)
    away = _distances(measured, sites, bounds)
    away[positive] = np.fmin(away[positive], _distances(np.log(measured[positive]), sites, bounds))
    if not away.shape[1]:
        none = np.zeros(len(rows), dtype=np.intp)
        return none, np.full(len(rows), np.nan), none
    top = -np.sort(-np.nan_to_num(away, nan=0.0, posinf=np.inf), axis=1)[:, : max(3, away.shape[1] // 100) + 1]
    gap = (top[:, :-1] > APART) & (GAP * top[:, 1:] < top[:, :-1])
    apart = np.where(gap.any(axis=1), gap.shape[1] - gap[:, ::-1].argmax(axis=1), 0)
    known = ~np.isnan(away).all(axis=1)
    return (away > FAR).sum(axis=1), np.where(known, top[:, 0], np.nan), apart


def _distances(rows: FloatArray, sites: IntArray, bounds: IntArray) -> FloatArray:
    """Distances from the site's median in robust sds, (features, rows of sites that take part); NaN where unknown."""
    parts, units = [], []
    for code, start, stop in zip(sites, bounds[:-1], bounds[1:], strict=True):
        if code < 0 or stop - start < RANGE:
            continue
        here = rows[:, start:stop]
        ordered = np.sort(here, axis=1)
        observed = here.shape[1] - np.isnan(ordered).sum(axis=1)
        middle = _median(ordered, observed)
        away = np.where((observed >= RANGE)[:, None], np.abs(here - middle[:, None]), np.nan)
        parts.append(away)
        units.append(1.4826 * _median(np.sort(away, axis=1), observed))
    if not parts:
        return np.zeros((len(rows), 0))
    distance = np.sort(np.concatenate(parts, axis=1), axis=1)
    observed = distance.shape[1] - np.isnan(distance).sum(axis=1)
    unit = 1.4826 * _median(distance, observed)
    unit = np.where((observed >= LEAST) & (unit > 0), unit, np.nan)
    for away, site_unit in zip(parts, units, strict=True):
        away /= np.maximum(unit, np.fmax(unit, site_unit))[:, None]
    return np.concatenate(parts, axis=1)
