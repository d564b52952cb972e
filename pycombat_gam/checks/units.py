"""A site in other units: millimetres among centimetres, months among years.

Units multiply all values of a site, so location and spread are off by one factor. Sites are compared with the site of
median spread (interquartile range; the lower of two). A feature's factor is the ratio of medians. Spreads have to be
off by the same factor, up to `SAME`, because both are estimates and sites differ in scale too. Where medians are near
zero, as in centred features, the spread alone decides, and has to be off by nearly a power of ten.

Covariates differ between sites by nature: children here, old people there. Their factor has to be that of two units, up
to `NEAR`, and ages have to exceed those of people.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pycombat_gam.checks.finding import Finding, joined, keys
from pycombat_gam.checks.material import Material
from pycombat_gam.checks.overlap import RANGE
from pycombat_gam.checks.values import AGE, OLDEST
from pycombat_gam.types import BoolArray, FloatArray, IntArray

OFF = 5.0
"""Factor from which on a site may be in other units."""
SAME = 3.0
"""Spread over spread, divided by median over median."""
AWAY = 3.0
"""Robust standard deviations that the middle site's median has to be from zero to have a ratio."""
TENS = 1.5
"""A spread is off by a power of ten, up to this."""
LIKE = 1.5
"""A feature's ratio of medians is that of two units, up to this."""
NEAR = 1.3
"""A factor is that of two units, up to this."""
FACTORS = (10.0, 12.0, 52.18, 100.0, 365.25, 1e3, 1e4, 1e6, 1e9)
"""Metric units, and months, weeks and days in a year."""


def unit_factors(rows: FloatArray, sites: IntArray, bounds: IntArray) -> FloatArray:
    """Return the factor by which each site is off, (k, sites); 1 where it is not, or where that is unknown.

    Parameters
    ----------
    rows : (k, n) one feature in each, its values grouped by site, NaN where missing; code −1 is no site.
    sites : their codes; bounds : where each begins, and n.
    """
    middle = np.full((len(rows), sites.size), np.nan)
    spread = np.full_like(middle, np.nan)
    for at, (code, start, stop) in enumerate(zip(sites, bounds[:-1], bounds[1:], strict=True)):
        if code < 0 or stop - start < RANGE:
            continue
        ordered = np.sort(rows[:, start:stop], axis=1)
        known = (stop - start) - np.isnan(ordered).sum(axis=1)
        enough, last = known >= RANGE, np.maximum(known - 1, 0)
        low, centre, high = (ordered[np.arange(len(rows)), last * k // 4] for k in (1, 2, 3))
        middle[:, at] = np.where(enough, centre, np.nan)
        spread[:, at] = np.where(enough & (high > low), (high - low) / 1.349, np.nan)
    middle[np.isnan(spread)] = np.nan
    order = np.argsort(spread, axis=1)
    usual = order[np.arange(len(rows)), np.maximum((~np.isnan(spread)).sum(axis=1) - 1, 0) // 2][:, None]
    usual_middle, usual_spread = (np.take_along_axis(x, usual, axis=1) for x in (middle, spread))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio, width = middle / usual_middle, spread / usual_spread
        agree = np.abs(np.log(width / ratio)) < np.log(SAME)
        placed = np.abs(usual_middle) > AWAY * usual_spread
        by_both = placed & (np.abs(np.log(ratio)) > np.log(OFF)) & agree & _near_units(ratio)
        tens = 10.0 ** np.rint(np.log10(width))
        by_spread = ~placed & (tens != 1) & (np.abs(np.log(width / tens)) < np.log(TENS))
    return np.where(by_both, ratio, np.where(by_spread, width, 1.0))


def covariate_units(material: Material) -> Iterator[Finding]:
    """Name sites whose values of a covariate are in other units."""
    labels = material.levels.labels
    for name, covariate in material.covariates.items():
        if covariate.levels or covariate.trouble:
            continue
        used = covariate.present & (material.codes >= 0)
        order = np.argsort(material.codes[used], kind="stable")
        codes = material.codes[used][order]
        if not codes.size:
            continue
        sites, starts = np.unique(codes, return_index=True)
        x = covariate.values[used][order]
        factors = unit_factors(x[None], sites, np.append(starts, codes.size))[0]
        medians = {int(code): float(np.median(x[codes == code])) for code in sites}
        off = [
            (labels[code], factor, medians[code])
            for code, factor in zip(sites.tolist(), factors.tolist(), strict=True)
            if _of_units(factor) and not (AGE.search(name.lower()) and max(medians.values()) <= OLDEST)
        ]
        if off:
            each = joined([f"at '{site}' {_times(factor)} (median {median:.4g})" for site, factor, median in off])
            verdict = f"'{name}' seems to be in other units: {each} what it is elsewhere; convert all sites to one unit"
            where = tuple((name, "", site) for site, _, _ in off)
            yield Finding("problem", "units", name, verdict, "covariates", where)


def feature_units(units: list[tuple[str, str, float]]) -> Iterator[Finding]:
    """Judge (feature, site, factor): one finding for each site."""
    for site in dict.fromkeys(site for _, site, _ in sorted(units, key=lambda unit: unit[1])):
        factors = sorted((feature, factor) for feature, place, factor in units if place == site)
        each = joined([f"'{feature}' is {_times(factor)} what it is elsewhere" for feature, factor in factors])
        verdict = f"Site '{site}' seems to be in other units: {each}; convert all sites to one unit"
        yield Finding("problem", "units", site, verdict, "features", keys(feature for feature, _ in factors))


def _near_units(ratio: FloatArray) -> BoolArray:
    """Tell where a ratio of medians is that of two units, up to what sites differ in location."""
    size = np.abs(np.log(np.where(ratio > 0, ratio, 1.0)))
    return np.asarray(np.abs(size[..., None] - np.log(FACTORS)).min(axis=-1) < np.log(LIKE))


def _of_units(factor: float) -> bool:
    size = max(factor, 1 / factor) if factor > 0 else 1.0
    return any(1 / NEAR < size / known < NEAR for known in FACTORS)


def _times(factor: float) -> str:
    return f"about {factor:.3g} times" if factor > 1 else f"about 1/{1 / factor:.3g}"
