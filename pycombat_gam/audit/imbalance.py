r"""How far imbalance between sites makes later tests too liberal.

Two steps: harmonize with x preserved, then test x in a model without site. The second step treats the harmonized data
as independent observations and ignores that site effects were estimated (Nygaard, Rødland & Hovig 2016,
Biostatistics 17:29). For location adjustment by least squares and equal scales, the cost follows from the design
alone. With n rows, Z the B site indicators, X the p columns of the formula and ε ~ N(0, σ²I),

.. math:: y = Zγ + Xβ + ε, \qquad y^* = y - Z\hatγ + 1\bar γ = 1\bar γ + X\hatβ + e,

where γ̂, β̂ are the estimates of the one model with site and e its residuals. Since e is orthogonal to Z, hence to 1, and
to X, least squares of y* on (1, X) gives β̂ and e again. So the later estimate *is* β̂, with everything known about it:

- its variance is σ²(X'M_Z X)⁻¹, with M_Z = I − Z(Z'Z)⁻¹Z', but the later model takes it for s²(X'M_1X)⁻¹: for the r
  columns that hold a covariate, given the other columns, the true and the assumed covariance have relative eigenvalues
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

Smooths count with their whole basis, unpenalised.

In the table, `r2` is the share of the covariate's own values (or of its levels' indicators) between sites, and
`r2_given` the mean of ρ². `variance_ratio` is the mean of λ, `worst_ratio` the largest λ, `df_assumed` ν', `df_true` ν.
`difference` is the largest standardized difference of a `site` from the others (`pycombat_gam.checks.overlap`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats import f as f_distribution

from pycombat_gam.additive.chisquare_mixture import ratio_tail
from pycombat_gam.checks.finding import Finding, frame, keys
from pycombat_gam.checks.material import Covariate, Material
from pycombat_gam.checks.terms import Terms, associate, basis_of, centred
from pycombat_gam.types import FloatArray
from pycombat_gam.words import count, percent

NOMINAL = 0.05
LIBERAL = 0.075
"""Actual level of a 5 % test above which it is no longer robust (Bradley 1978, Br J Math Stat Psychol 31:144)."""

LARGE = 0.8
"""A large standardized difference (Cohen 1988, Statistical Power Analysis); smaller ones are not mentioned."""

BEYOND_CHANCE = 4.0
"""Standard errors that a difference must be from zero to be mentioned: sites and covariates are many."""

COLUMNS = (
    *("covariate", "terms", "df", "r2", "r2_given", "variance_ratio", "worst_ratio"),
    *("df_assumed", "df_true", "level", "difference", "site"),
)


def imbalance_table(material: Material, terms: Terms, overlap: pd.DataFrame) -> pd.DataFrame:
    """Find, for each covariate, the actual level of a later test without site if site effects are removed in full."""
    n_sites = len(material.levels)
    every = np.hstack([np.zeros((terms.codes.size, 0)), *(term.X for term in terms.terms)])
    used = int((np.bincount(terms.codes, minlength=n_sites) > 0).sum())
    p = basis_of(centred(every), every[:, :0]).shape[1]
    assumed, true = terms.codes.size - p - 1, terms.codes.size - p - used
    rows: list[tuple[object, ...]] = []
    for name in material.covariates:
        held = [term for term in terms.terms if name in term.variables]
        if not held:
            continue
        rest = [term.X for term in terms.terms if name not in term.variables]
        X, others = np.hstack([term.X for term in held]), np.hstack([every[:, :0], *rest])
        squared = associate(X, others, terms.codes, n_sites).squared
        with np.errstate(divide="ignore"):
            ratios = 1.0 / (1.0 - squared)
        difference, site = _largest(overlap, name)
        rows.append(
            (
                name,
                ", ".join(term.label for term in held),
                squared.size,
                _own_r2(material.covariates[name], terms),
                float(squared.mean()) if squared.size else np.nan,
                float(ratios.mean()) if squared.size else np.nan,
                float(ratios.max(initial=1.0)),
                assumed,
                true,
                later_level(ratios, assumed, true),
                difference,
                site,
            )
        )
    return frame(rows, COLUMNS)


def _own_r2(covariate: Covariate, terms: Terms) -> float:
    """Share of a covariate's own values, or of its levels' indicators, between sites."""
    x = covariate.values[terms.rows]
    X = (x[:, None] == np.unique(x)).astype(float) if covariate.levels else x[:, None]
    squared = associate(X, X[:, :0], terms.codes, int(terms.codes.max()) + 1).squared
    return float(squared.mean()) if squared.size else float("nan")


def later_level(ratios: FloatArray, assumed: int, true: int, nominal: float = NOMINAL) -> float:
    """Return the actual level of a test that takes λ for 1 and ν for ν'; NaN where nothing can be tested.

    >>> round(later_level(np.ones(1), 50, 50), 12)
    0.05
    """
    if not ratios.size or true < 1 or not np.isfinite(ratios).all():
        return float("nan")
    critical = float(f_distribution.isf(nominal, ratios.size, assumed))
    return ratio_tail(ratios.size * critical * true / assumed, ratios, true)


def _largest(overlap: pd.DataFrame, name: str) -> tuple[float, str]:
    """Largest difference of a site from the others, if any is known."""
    rows = overlap[(overlap["covariate"] == name) & (overlap["level"] == "")].dropna(subset=["difference"])
    if not len(rows):
        return np.nan, ""
    row = rows.iloc[int(rows["difference"].abs().argmax())]
    return float(row["difference"]), str(row["site"])


def imbalance_findings(
    material: Material, terms: Terms, imbalance: pd.DataFrame, overlap: pd.DataFrame, confounded: set[str]
) -> Iterator[Finding]:
    """Judge later tests of all covariates but those in `confounded`, which `confounding` reports."""
    smooth = {term.label for term in terms.terms if term.smooth}
    if len(material.levels) < 2:
        return
    for _, row in imbalance.iterrows():
        name = row["covariate"]
        if name in confounded or np.isnan(row["level"]):
            continue
        lost = row["df_assumed"] - row["df_true"]
        if row["level"] > LIBERAL:
            what = "variance" if row["df"] == 1 else "average variance"
            asked = " (its curve unpenalised)" if smooth & set(row["terms"].split(", ")) else ""
            shrunk = " (shrinkage changes this)" if material.asked.shrunk else ""
            verdict = (
                f"Testing '{name}' later without site would be too liberal: its level is {percent(row['level'])} "
                f"instead of 5 % where site effects are removed in full{shrunk}. The {what} of its effect is "
                f"{row['variance_ratio']:.3g} times what that test assumes{asked}, with {count(lost, 'degree')} of "
                f"freedom too many. Sites explain {percent(row['r2'])} of '{name}' (farthest: '{row['site']}', "
                f"standardized difference {row['difference']:.2g}). Keep site in that model"
            )
            yield Finding("caution", "imbalance", name, verdict, "imbalance", keys([name]))
        else:
            yield from _differs(name, overlap)


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
