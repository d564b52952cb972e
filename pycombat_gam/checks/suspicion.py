"""Which features are suspicious, and why: one finding for each trouble, listing the features that share it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pycombat_gam.checks.features import FAR, HARDLY_ANY, LEAST, Looked
from pycombat_gam.checks.finding import Finding, joined, keys, named
from pycombat_gam.checks.material import Material
from pycombat_gam.checks.units import feature_units
from pycombat_gam.checks.values import CODES
from pycombat_gam.types import BoolArray
from pycombat_gam.words import count

POSITIVE = re.compile(r"thickness|volume|(^|[^a-z])(thick|thk|area|vol)s?([^a-z]|$)")
"""Names of what cannot be zero or negative, in small letters."""

A_FEW = 0.05
"""Up to this share of a feature named so, values of zero or below are errors; beyond, it is centred or a difference."""

TIED = 0.05
"""Share of values that are all the smallest or all the largest from which on the feature has a floor or ceiling.

Of distinct measurements one is; whole numbers such as volumes tie seldom.
"""
PILED = 3
"""A floor holds so many times as many values as the next one, were that a standard error and one more frequent: counts
tie at their ends as they do elsewhere."""

FEW_VALUES = 10
"""Up to so many distinct values, each `REPEATED` times on average, a feature is a rating or count."""
REPEATED = 5

HEAVY = 0.0075
"""Share of values beyond `FAR` robust sds, and five at least, of heavy tails; t with 10 degrees of freedom has 0.0004,
with 3 degrees 0.01."""

OUTLYING = 15.0
"""Robust standard deviations from which on a single value is named; of t with 10 degrees of freedom 2 in 10⁸ are."""

FLAGS = (
    *("constant", "site", "code", "negative", "zero", "centred"),
    *("count", "few values", "floor", "ceiling", "share", "tails", "duplicate"),
)


def flag_features(looked: Looked) -> None:
    """Add a column `flags` to the table: what is suspicious, separated by commas."""
    table = looked.table
    flags = {name: np.zeros(len(table), dtype=bool) for name in FLAGS}
    n = table["observed"].to_numpy()
    at_low = table["min"].isin(CODES).to_numpy() & table["low_isolated"].to_numpy()
    at_high = table["max"].isin(CODES).to_numpy() & table["high_isolated"].to_numpy()
    distinct = table["distinct"].to_numpy()
    varies = distinct > 1
    flags["constant"] = (n > 0) & ~varies
    flags["site"] = varies & (table["constant_sites"].to_numpy() > 0)
    flags["code"] = varies & (at_low | at_high)
    flags |= _signs(table, varies & ~at_low)
    discrete = varies & (distinct <= FEW_VALUES) & (n >= REPEATED * distinct)
    whole = table["integers"].to_numpy(dtype=bool)
    flags["count"], flags["few values"] = discrete & whole, discrete & ~whole
    smooth = varies & ~discrete & (n >= LEAST) & ~flags["site"]
    for flag, column, next_one in (("floor", "at_min", looked.next_low), ("ceiling", "at_max", looked.next_high)):
        ties = table[column].to_numpy()
        flags[flag] = smooth & (ties >= TIED * n) & (ties >= PILED * (next_one + np.sqrt(next_one) + 1))
    low, high, sd = (table[name].to_numpy() for name in ("min", "max", "sd"))
    near = (table["median"].to_numpy() < 3 * sd) | (table["median"].to_numpy() > 1 - 3 * sd)
    flags["share"] = smooth & (low >= 0) & (high <= 1) & near & ~flags["floor"] & ~flags["ceiling"]
    heavy = (table["far"] >= 5) & (table["far"] >= HEAVY * n)
    odd = heavy | (table["apart"] > 0) | (table["farthest"] > OUTLYING)
    signs = (flags["negative"] | flags["zero"]) & ((table["negative"] + table["zeros"]).to_numpy() > HARDLY_ANY * n)
    flags["tails"] = smooth & ~flags["code"] & ~signs & odd.to_numpy()
    flags["duplicate"] = (table["duplicate_of"] != "").to_numpy()
    table["flags"] = [""] * len(table)
    for name in FLAGS:
        rows = flags[name]
        table.loc[rows, "flags"] = [f"{old}, {name}" if old else name for old in table.loc[rows, "flags"]]


def _signs(table: pd.DataFrame, usable: BoolArray) -> dict[str, BoolArray]:
    """Find values of zero or below where there should be none."""
    says = np.array([POSITIVE.search(name.lower()) is not None for name in table["feature"]], dtype=bool)
    n = np.maximum(table["observed"].to_numpy(), 1)
    isolated = table["low_isolated"].to_numpy() & (table["min"].to_numpy() <= 0) & (table["median"].to_numpy() > 0)
    negative, zeros = table["negative"].to_numpy(), table["zeros"].to_numpy()
    share = (negative + zeros) / n
    odd = usable & ((says & (share <= A_FEW)) | (isolated & (share <= HARDLY_ANY)))
    return {
        "negative": odd & (negative > 0),
        "zero": odd & (negative == 0) & (zeros > 0),
        "centred": usable & says & (negative > A_FEW * n),
    }


@dataclass(frozen=True)
class Trouble:
    """What is said of the features that share one flag: how bad it is, and what each one shows of it.

    Attributes
    ----------
    flag : of the features' table; severity, check : of the finding.
    head : what these features are or have; end : what follows from it, or what to do; may be empty.
    each : says it of one feature, a row of the table.
    """

    flag: str
    severity: str
    check: str
    head: str
    each: Callable[[pd.Series], str]
    end: str = ""


def _cells(column: str) -> Callable[[pd.Series], str]:
    return lambda row: f"'{row['feature']}' ({row[column]:,} of {row['observed']:,})"


def _at_end(count_of: str, value: str) -> Callable[[pd.Series], str]:
    return lambda row: f"'{row['feature']}' ({row[count_of]:,} of {row['observed']:,} are {row[value]:g})"


def _distinct(row: pd.Series) -> str:
    return f"'{row['feature']}' ({row['distinct']:,} in {row['observed']:,} rows)"


def _code(row: pd.Series) -> str:
    at_low = row["min"] in CODES and row["low_isolated"]
    value, cells = ("min", "at_min") if at_low else ("max", "at_max")
    return f"'{row['feature']}' ({row[value]:g} in {count(row[cells], 'row')})"


CONSTANT = Trouble(
    *("constant", "caution", "constant", "constant"),
    lambda row: f"'{row['feature']}' (always {row['min']:g})",
    "nothing to harmonize, left as it is",
)
SPOILT = (
    Trouble(
        *("code", "problem", "missing codes"),
        "with a value that looks like a code for missing, far from all others",
        _code,
        "make such cells missing",
    ),
    Trouble(
        *("negative", "caution", "negative values", "with negative values where hardly any are or can be"),
        lambda row: f"'{row['feature']}' ({row['negative']:,} of {row['observed']:,}, smallest {row['min']:.4g})",
    ),
    Trouble(
        *("zero", "caution", "negative values", "with zeros where all other values are positive"),
        _cells("zeros"),
        "these look like failed measurements",
    ),
    Trouble(
        *("centred", "note", "negative values", "named like sizes yet often negative"),
        _cells("negative"),
        "centred, or differences?",
    ),
    Trouble(
        *("count", "problem", "bounded", "with few distinct values"),
        _distinct,
        "a rating or count: location and scale do not describe it",
    ),
    Trouble(
        *("few values", "caution", "bounded", "with few distinct values"),
        _distinct,
        "a rating: location and scale do not describe it",
    ),
    Trouble(
        *("floor", "caution", "bounded", "with a floor"),
        _at_end("at_min", "min"),
        "harmonized values will scatter around it",
    ),
    Trouble(
        *("ceiling", "caution", "bounded", "with a ceiling"),
        _at_end("at_max", "max"),
        "harmonized values will scatter around it",
    ),
    Trouble(
        *("share", "note", "bounded", "between 0 and 1 and within three sds of an end"),
        lambda row: f"'{row['feature']}' ({row['min']:.3g} to {row['max']:.3g})",
        "if they are shares, harmonized values may leave that range",
    ),
)
"""In the order in which they are reported."""


def feature_findings(material: Material, looked: Looked) -> Iterator[Finding]:
    """Judge the features."""
    table = looked.table.sort_values("feature", kind="stable")
    flags = table["flags"].str.split(", ")
    duplicate = Trouble(
        *("duplicate", "caution", "duplicates", "equal to another one in every cell"),
        lambda row: f"'{row['feature']}' = '{row['duplicate_of']}'",
        "each counts separately in the priors"
        if material.asked.shrunk
        else "should one of them be another measurement?",
    )
    yield from _about(CONSTANT, table, flags)
    yield from _within_sites(material, looked)
    for trouble in SPOILT:
        yield from _about(trouble, table, flags)
    yield from _far_out(table, flags)
    yield from feature_units(looked.units)
    yield from _about(duplicate, table, flags)


def _about(trouble: Trouble, table: pd.DataFrame, flags: pd.Series) -> Iterator[Finding]:
    """Report the features that have the trouble's flag, if any."""
    rows = table[[trouble.flag in raised for raised in flags]]
    if len(rows):
        shown = [trouble.each(row) for _, row in rows.head(9).iterrows()] + [""] * max(0, len(rows) - 9)
        end = f"; {trouble.end}" if trouble.end else ""
        verdict = f"{count(len(rows), 'feature')} {trouble.head}: {joined(shown)}{end}"
        yield Finding(
            trouble.severity, trouble.check, joined(list(rows["feature"])), verdict, "features", keys(rows["feature"])
        )


def _within_sites(material: Material, looked: Looked) -> Iterator[Finding]:
    """Features without variance inside a site."""
    by_feature: dict[str, list[str]] = {}
    for feature, site in sorted(looked.constant):
        by_feature.setdefault(feature, []).append(site)
    if by_feature:
        each = joined([f"'{feature}' at {named(sites)}" for feature, sites in by_feature.items()])
        scaled = material.asked.scaled
        end = "; no scale can be estimated there" if scaled else ""
        verdict = f"{count(len(by_feature), 'feature')} constant within a site: {each}{end}"
        yield Finding(
            "caution" if scaled else "note", "constant", joined(list(by_feature)), verdict, "features", keys(by_feature)
        )


def _far_out(table: pd.DataFrame, flags: pd.Series) -> Iterator[Finding]:
    """Heavy tails and outlying values, the worst first."""
    rows = table[["tails" in raised for raised in flags]].sort_values("farthest", ascending=False, kind="stable")
    if len(rows):
        each = joined(
            [
                f"'{row['feature']}' ({count(row['far'], 'value')}, farthest {row['farthest']:.3g})"
                for _, row in rows.head(9).iterrows()
            ]
            + [""] * max(0, len(rows) - 9)
        )
        verdict = (
            f"{count(len(rows), 'feature')} with outlying values: {each}. These lie more than {FAR:g} robust standard "
            "deviations from the median of their site, as measured and (if positive) as logarithms. They distort the "
            "site's mean and scale"
        )
        features = list(rows["feature"])
        yield Finding("caution", "tails", joined(features), verdict, "features", keys(features))
