"""`Effects`: what tests of terms or contrasts give, a row for each feature and term."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from pycombat_gam.infer.engine import Engine, TermTest
from pycombat_gam.types import FloatArray, IntArray
from pycombat_gam.words import count, listing, percent, printable

COLUMNS = (
    *("feature", "term", "estimate", "se", "lower", "upper", "statistic", "df", "df_residual"),
    *("p", "p_adjusted", "within_share", "n"),
)
LITTLE = 0.1
"""A term with a smaller share of its information within sites is little more than a difference of sites."""
FALSE_DISCOVERIES = 0.05
SHOWN = 5


@dataclass(frozen=True, eq=False, repr=False)
class Effects:
    """Tests of terms in every feature, sites accounted for; prints, `table` has everything.

    Attributes
    ----------
    title : str
        What was tested.
    table : DataFrame
        A row for each term and feature: `estimate`, `se` and the interval from `lower` to `upper` of a term of one
        degree of freedom; `statistic`, t there and F elsewhere; `df` and `df_residual`, its degrees of freedom; `p`,
        two-sided, and `p_adjusted` over the features of the term (Benjamini & Hochberg 1995); `within_share`, the part
        of the term's information that lies within sites; `n`, rows used.
    level : float
        Coverage of the intervals.
    notes : tuple of str
        Weights, effective number of features, what was not tested and why.
    """

    title: str
    table: pd.DataFrame
    level: float
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [self.title, ""]
        for term, rows in self.table.groupby("term", sort=False):
            tested = int(rows["p"].notna().sum())
            discovered = int((rows["p_adjusted"] < FALSE_DISCOVERIES).sum())
            lines.append(
                f"{term}: {discovered:,} of {count(tested, 'feature')} at a false discovery rate of "
                f"{percent(FALSE_DISCOVERIES)}"
            )
            first = rows.sort_values("p", kind="stable").head(SHOWN).dropna(axis=1, how="all").drop(columns="term")
            lines += [first.to_string(index=False, float_format="{:.4g}".format), ""]
        lines += [f"- {note}" for note in self.notes]
        return printable("\n".join(lines))

    __repr__ = __str__


def effects_of(
    engine: Engine,
    tests: Sequence[TermTest],
    features: Sequence[str],
    labels: Sequence[str],
    *,
    title: str,
    level: float,
    more: Sequence[str] = (),
) -> Effects:
    """Put tests together.

    Parameters
    ----------
    features : (V,) names; labels : (B,) names of the sites.
    level : coverage of intervals; more : notes to begin with.
    """
    n, k = engine.mean.n_observed.sum(axis=0), len(tests)
    names = pd.Index(features)
    columns: dict[str, object] = {
        "feature": names.append([names] * (k - 1)),
        "term": pd.Index([test.label for test in tests]).repeat(n.size),
    }
    numbers = zip(*(_numbers(test, n, level) for test in tests), strict=True)
    columns.update(zip(COLUMNS[2:], map(np.concatenate, numbers), strict=True))
    table = pd.DataFrame(columns, copy=False)
    notes = (*more, *_notes(engine, tests, features, labels))
    return Effects(title, table, level, notes)


def _numbers(test: TermTest, n: IntArray, level: float) -> tuple[np.ndarray, ...]:
    """Return the columns of a term after its name, each (V,)."""
    tested = test.tested
    single = ~np.isnan(tested.se)
    reach = np.full(n.shape, np.nan)
    reach[single] = stdtrit(tested.df_residual[single], 0.5 + level / 2.0) * tested.se[single]
    return (
        *(tested.estimate, tested.se, tested.estimate - reach, tested.estimate + reach),
        *(tested.statistic, tested.df, tested.df_residual, tested.p, adjusted(tested.p), test.share, n),
    )


def adjusted(p: FloatArray) -> FloatArray:
    """Adjust p-values for the false discovery rate (Benjamini & Hochberg 1995); NaN stays NaN and does not count."""
    from statsmodels.stats.multitest import multipletests

    q = np.full(p.shape, np.nan)
    told = ~np.isnan(p)
    if told.any():
        q[told] = multipletests(p[told], method="fdr_bh")[1]
    return q


def _notes(engine: Engine, tests: Sequence[TermTest], features: Sequence[str], labels: Sequence[str]) -> Iterator[str]:
    used = [test for test in tests if test.weighted.any()]
    if used:
        each = [f"{label} {1.0 / w:.2g}" for label, w in zip(labels, engine.weights, strict=True)]
        yield f"sites are weighted by the inverse of their variances, which relative to the others are {listing(each)}"
        most = max(float(test.raised[test.weighted].max()) for test in used) - 1.0
        yield (
            f"the weights rest on {count(int(engine.modelled.sum()), 'feature')}, worth {engine.effective:.3g} "
            f"independent ones; their own error raises variances by up to {percent(most)}"
        )
    if engine.weighted and (equal := [test.label for test in tests if not test.weighted.all()]):
        yield (
            f"sites have equal weights in tests of {listing(equal)}: so few features do not tell the sites' variances "
            "well enough"
        )
    if engine.mean.design.random_effects and engine.by_site:
        yield "with random effects, sites have one variance within groups, up to their weights"
    for test in tests:
        share = test.share[np.isfinite(test.share)]
        if share.size and share.min() < LITTLE:
            yield little_within(test.label, float(share.min()))
    if not engine.modelled.all():
        yield f"no variance beyond rounding, not tested: {listing(np.array(features, dtype=object)[~engine.modelled])}"


def little_within(label: str, share: float) -> str:
    """Warn of a term that varies between sites nearly only."""
    return (
        f"only {percent(share, '.2g')} of the information on '{label}' lies within sites: its test has little power, "
        "and no test can tell the rest from site effects"
    )
