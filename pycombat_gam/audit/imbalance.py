r"""How far imbalance between sites makes later tests too liberal.

Two steps: harmonize with x preserved, then test x in a model without site. The second step treats the harmonized data
as independent observations and ignores that site effects were estimated (Nygaard, Rødland & Hovig 2016,
Biostatistics 17:29). For location adjustment by least squares and equal scales, the cost follows from the design
alone. With n rows, Z the B site indicators, X the p columns of the formula and ε ~ N(0, σ²I),

.. math:: y = Zγ + Xβ + ε, \qquad y^* = y - Z\hatγ + 1\bar γ = 1\bar γ + X\hatβ + e,

where γ̂, β̂ are the estimates of the one model with site and e its residuals. Since e is orthogonal to Z, hence to 1, and
to X, least squares of y* on (1, X) gives β̂ and e again. So the later estimate *is* β̂, with everything known about it:

- its variance is σ²(X'M_Z X)⁻¹, with M_Z = I − Z(Z'Z)⁻¹Z', but the later model takes it for s²(X'M_1X)⁻¹: for the r
  columns of a term, given the other columns, the true and the assumed covariance have relative eigenvalues
  λ_i = 1/(1 − ρ_i²), with ρ the partial canonical correlations of these columns with the sites. For r = 1, λ is the
  variance inflation by sites.
- e'e/σ² ~ χ²_ν with ν = n − p − B, independent of β̂, but the later model divides by ν' = n − p − 1.

Without an effect the later F is therefore distributed as (ν'/r) Σλ_i χ²₁/χ²_ν, and a test of nominal level α with
critical value F_{r,ν';1−α} has the actual level

.. math:: P\Bigl(\sum λ_i χ^2_{1,i} > \frac{r}{ν'} F_{r,ν';1-α}\; χ^2_ν\Bigr),

exactly; for r = 1 it is P(t_ν² > F ν/(λν')).

That is for unshrunk location adjustment and equal scales, ``ComBat(eb=False, mean_only=True)``; simulation agrees.
Shrinkage leaves part of a site's difference in the data, which may lower the level or raise it; scales are estimated.
Simulated with 8,000 features at 4 sites whose ages differ (141 rows, reported level 0.239; normal errors, true site
effects of standard deviation 0, 0.3 and 1 error sd):

====================  =====  =====  =====
`ComBat`              0      0.3    1
====================  =====  =====  =====
eb=False, mean_only   0.236  0.236  0.236
eb=False              0.245  0.245  0.245
default               0.129  0.191  0.235
mean_only             0.048  0.227  0.488
====================  =====  =====  =====

For one column and many rows it is nearly 2Φ(−z√(ν/(λν'))), which is a point too high at 16 rows and two too low for
three columns at 32. Smooths count with their whole basis, unpenalised.

In the table, `r2` is the share of the term between sites, and `within_share` the mean of 1 − ρ², the part of its
information that lies within sites (`infer.share`). `df_assumed` is ν', `df_true` ν, `naive_level` the actual level.
`difference` is the largest standardized difference of a `site` from the others, of a term with one variable
(`pycombat_gam.checks.overlap`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats import f as f_distribution

from pycombat_gam.additive.chisquare_mixture import ratio_tail
from pycombat_gam.checks.finding import Finding, frame, keys
from pycombat_gam.checks.material import Material
from pycombat_gam.checks.terms import Columns, Terms, associate, basis_of, centred
from pycombat_gam.types import FloatArray
from pycombat_gam.words import percent

NOMINAL = 0.05
LIBERAL = 0.075
"""Actual level of a 5 % test above which it is no longer robust (Bradley 1978, Br J Math Stat Psychol 31:144)."""

LARGE = 0.8
"""A large standardized difference (Cohen 1988, Statistical Power Analysis); smaller ones are not mentioned."""

BEYOND_CHANCE = 4.0
"""Standard errors that a difference must be from zero to be mentioned: sites and covariates are many."""

COLUMNS = (
    *("term", "df", "r2", "within_share", "df_assumed", "df_true", "naive_level"),
    *("difference", "site"),
)


def imbalance_table(material: Material, terms: Terms, overlap: pd.DataFrame) -> pd.DataFrame:
    """Find, for each term, the actual level of a later test without site if site effects are removed in full."""
    n_sites = len(material.levels)
    every = np.hstack([np.zeros((terms.codes.size, 0)), *(term.X for term in terms.terms)])
    used = int((np.bincount(terms.codes, minlength=n_sites) > 0).sum())
    p = basis_of(centred(every), every[:, :0]).shape[1]
    assumed, true = terms.codes.size - p - 1, terms.codes.size - p - used
    rows: list[tuple[object, ...]] = []
    for at, term in enumerate(terms.terms):
        others = np.hstack([every[:, :0], *(other.X for k, other in enumerate(terms.terms) if k != at)])
        alone = associate(term.X, others[:, :0], terms.codes, n_sites).squared
        given = associate(term.X, others, terms.codes, n_sites).squared
        with np.errstate(divide="ignore"):
            level = later_level(1.0 / (1.0 - given), assumed, true)
        share, within = (float(of.mean()) if of.size else np.nan for of in (alone, 1.0 - given))
        difference, site = _largest(overlap, term)
        rows.append((term.label, given.size, share, within, assumed, true, level, difference, site))
    return frame(rows, COLUMNS)


def later_level(ratios: FloatArray, assumed: int, true: int, nominal: float = NOMINAL) -> float:
    """Return the actual level of a test that takes λ for 1 and ν for ν'; NaN where nothing can be tested.

    >>> round(later_level(np.ones(1), 50, 50), 12)
    0.05
    """
    if not ratios.size or true < 1 or not np.isfinite(ratios).all():
        return float("nan")
    critical = float(f_distribution.isf(nominal, ratios.size, assumed))
    return ratio_tail(ratios.size * critical * true / assumed, ratios, true)


def _largest(overlap: pd.DataFrame, term: Columns) -> tuple[float, str]:
    """Largest difference of a site from the others in the term's variable, if it has one and any is known."""
    if len(term.variables) != 1:
        return np.nan, ""
    rows = overlap[(overlap["covariate"] == term.variables[0]) & (overlap["level"] == "")]
    rows = rows.dropna(subset=["difference"])
    if not len(rows):
        return np.nan, ""
    row = rows.iloc[int(rows["difference"].abs().argmax())]
    return float(row["difference"]), str(row["site"])


def imbalance_findings(
    material: Material, terms: Terms, imbalance: pd.DataFrame, overlap: pd.DataFrame, confounded: set[str]
) -> Iterator[Finding]:
    """Judge later tests of all terms, but for those with a variable in `confounded`, which `confounding` reports."""
    if len(material.levels) < 2:
        return
    differ: dict[str, None] = {}
    for term, (_, row) in zip(terms.terms, imbalance.iterrows(), strict=True):
        if confounded & set(term.variables) or np.isnan(row["naive_level"]):
            continue
        if row["naive_level"] > LIBERAL:
            yield _liberal(row, shrunk=material.asked.shrunk)
            differ.update(dict.fromkeys(term.variables))
    for name in material.covariates:
        if name not in confounded | set(differ):
            yield from _differs(name, overlap)


def _liberal(row: pd.Series, *, shrunk: bool) -> Finding:
    term = row["term"]
    condition = "where site effects are removed in full" + (" (shrinkage changes this)" if shrunk else "")
    farthest = f"; '{row['site']}' is farthest (standardized difference {row['difference']:.2g})" if row["site"] else ""
    verdict = (
        f"Testing '{term}' later without site would be too liberal: its level is {percent(row['naive_level'])} instead "
        f"of 5 % {condition}. Sites explain {percent(row['r2'])} of '{term}'{farthest}. Keep site in that model, or "
        "test with sites accounted for (ComBat.test)"
    )
    return Finding("caution", "imbalance", term, verdict, "imbalance", keys([term]))


def _differs(name: str, overlap: pd.DataFrame) -> Iterator[Finding]:
    rows = overlap[(overlap["covariate"] == name) & (overlap["level"] == "") & (overlap["n"] > 1)]
    n = rows["n"].sum()
    error = np.sqrt(1 / rows["n"] + 1 / np.maximum(n - rows["n"], 1))
    size = rows["difference"].abs()
    rows = rows[(size > LARGE) & (size > BEYOND_CHANCE * error)]
    if len(rows):
        each = ", ".join(f"'{row['site']}' {row['difference']:.2g}" for _, row in rows.iterrows())
        verdict = f"'{name}' differs strongly between sites: standardized difference from the other sites {each}"
        where = tuple((name, "", site) for site in rows["site"])
        yield Finding("note", "imbalance", name, verdict, "overlap", where)
