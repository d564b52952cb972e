r"""Which terms are confounded with which sites, and how much.

For the columns X of a term and the site indicators Z, with ρ₁ ≥ ρ₂ ≥ … their canonical correlations:

- `r2` = Σρ²/r is the share of the term that lies between sites (r columns; the plain R² of a single one). Unrelated
  sites would make it (B − 1)/(n − 1) on average, `r2_chance`;
- given the other terms of the formula, ρ are the partial canonical correlations (X and Z both adjusted for the other
  terms). Sites then multiply the generalised variance of the term's coefficients by Π 1/(1 − ρ²), the generalised
  variance-inflation factor (Fox & Monette 1992, JASA 87:178), `gvif`. `gvif_df` = gvif^{1/(2r)} compares terms of
  different r, as `car::vif` in R prints it, and is the factor of a standard error. `worst` = 1/(1 − ρ₁²) is the
  inflation of the combination of columns that suffers most.

None of these depends on contrasts, units or the order of levels. In `carriers`, `between` is each site's part of the
share between sites, and `information` its part of what is left within sites, from which the effect is estimated.

`deciding` is about the combination of columns that suffers most from sites: the least number of rows that hold
`DECISIVE` of its variation within sites. Where a few rows do, the term is confounded but for them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from pycombat_gam.checks.distributions import level_counts, nested, split_levels
from pycombat_gam.checks.finding import Finding, frame, joined, keys, named
from pycombat_gam.checks.material import Covariate, Material
from pycombat_gam.checks.terms import Association, Terms, associate
from pycombat_gam.types import FloatArray
from pycombat_gam.words import count, percent

INFLATED = 10.0
"""Variance inflation above which a term counts as nearly confounded (Marquardt 1970, Technometrics 12:591)."""

APART = 4.0
"""Variance inflation above which a term is confounded but for a few rows, if few decide: its standard error doubles."""
DECISIVE = 0.8
FEW = 3

CARRIED = 0.9
"""Share of the information on a term that one site may hold, unless it holds half of the rows as well."""

TERMS = (
    *("term", "variables", "df", "estimable", "why", "r2", "r2_chance", "correlation"),
    *("gvif", "gvif_df", "worst", "site", "site_share", "deciding", "deciding_rows"),
)
CANONICAL = ("term", "order", "correlation", "given_others")
CARRIERS = ("term", "site", "rows", "between", "information")


def confounding_tables(material: Material, terms: Terms) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the tables `confounding`, `canonical` and `carriers`."""
    labels = material.levels.labels
    sizes = np.bincount(terms.codes, minlength=len(labels))
    rows: list[tuple[object, ...]] = []
    canonical: list[tuple[object, ...]] = []
    carriers: list[tuple[object, ...]] = []
    chance = (int((sizes > 0).sum()) - 1) / max(1, terms.codes.size - 1)
    for at, term in enumerate(terms.terms):
        others = [other.X for k, other in enumerate(terms.terms) if k != at]
        rest = np.hstack([np.zeros((terms.codes.size, 0)), *others])
        alone = associate(term.X, rest[:, :0], terms.codes, len(labels))
        partial = associate(term.X, rest, terms.codes, len(labels))
        why = _why(material, terms, at, alone, partial)
        between = alone.between / max(alone.between.sum(), np.finfo(float).tiny)
        information = partial.within / max(partial.within.sum(), np.finfo(float).tiny)
        with np.errstate(divide="ignore"):
            inflation = 1.0 / (1.0 - partial.squared)
        r, gvif = partial.squared.size, float(np.prod(inflation))
        top = int(between.argmax()) if between.any() else 0
        rows.append(
            (
                term.label,
                ", ".join(term.variables),
                r,
                not why,
                why,
                float(alone.squared.mean()) if alone.squared.size else np.nan,
                chance,
                float(np.sqrt(alone.squared.max(initial=0.0))),
                gvif,
                gvif ** (1 / (2 * r)) if r else np.nan,
                float(inflation.max(initial=1.0)),
                labels[top],
                float(between[top]),
                *_deciding(material, terms, partial.deciding),
            )
        )
        conditional = np.append(np.sqrt(partial.squared), np.full(alone.squared.size, np.nan))
        canonical += [
            (term.label, k + 1, float(np.sqrt(alone.squared[k])), float(conditional[k]))
            for k in range(min(alone.squared.size, int((sizes > 0).sum()) - 1))
        ]
        carriers += [
            (term.label, label, int(sizes[b]), float(between[b]), float(information[b]))
            for b, label in enumerate(labels)
        ]
    return frame(rows, TERMS), frame(canonical, CANONICAL), frame(carriers, CARRIERS)


def _deciding(material: Material, terms: Terms, share: FloatArray) -> tuple[int, str]:
    """Count the rows that decide, and name them where they are few."""
    order = np.argsort(-share, kind="stable")
    # Equal shares add up with rounding.
    rows = int(np.searchsorted(np.cumsum(share[order]), DECISIVE - 1e-9)) + 1 if share.any() else 0
    if not 0 < rows <= FEW:
        return rows, ""
    labels, sites = material.intake.covariates.index[terms.rows], material.levels.labels
    return rows, joined(sorted(f"index {labels[row]} at '{sites[terms.codes[row]]}'" for row in order[:rows].tolist()))


def _why(material: Material, terms: Terms, at: int, alone: Association, partial: Association) -> str:
    """Say why a term cannot be estimated, naming rows and sites where the reason lies in one covariate."""
    term = terms.terms[at]
    reasons = [(what, reason) for owner, what, reason in terms.rank.dependent if owner == term.label]
    if terms.trouble:
        # Without a design there are only the variables, and what sites leave of them.
        confounded = partial.squared.max(initial=0.0) == 1.0
        reasons = [(term.label, "confounded with batch: a combination of the batches")] if confounded else []
    if not reasons:
        return ""
    seen = _seen(material.covariates[term.variables[0]], material) if len(term.variables) == 1 else ""
    if seen:
        return f"confounded with site: {seen}"
    phrases = [reason if what == term.label else f"'{what}' is {reason}" for what, reason in reasons]
    if partial.squared.size < alone.squared.size:
        # The other terms alone make up some of its columns, whatever the sites.
        phrases = [part.replace(" and the batches", "") for part in phrases]
    return joined([part.replace("batches", "sites").replace("batch", "site") for part in phrases])


def _seen(covariate: Covariate, material: Material) -> str:
    """Describe a covariate with one value in each site, or a level that is all or nothing there; else nothing."""
    labels = material.levels.labels
    if covariate.levels:
        counts = level_counts(covariate, material.codes, len(labels))
        split = split_levels(counts)
        if nested(counts) and len(split) < len(covariate.levels):
            return f"each of its {len(covariate.levels)} levels is at one site only"
        if len(split) == len(covariate.levels):
            split.remove(max(split, key=lambda j: (counts[j].sum(), covariate.levels[j])))
        parts = []
        for j in split:
            rows = int(counts[j].sum())
            places = [labels[b] for b in np.flatnonzero(counts[j]).tolist()]
            no_others = "which has no others" if len(places) == 1 else "which have no others"
            parts.append(f"all {count(rows, 'row')} with '{covariate.levels[j]}' are at {named(places)}, {no_others}")
        return "; ".join(parts)
    used = covariate.present & (material.codes >= 0)
    values = {labels[b]: covariate.values[used][material.codes[used] == b] for b in range(len(labels))}
    if not all(x.size and np.ptp(x) == 0 for x in values.values()):
        return ""
    sites: dict[float, list[str]] = {}
    for label, x in values.items():
        sites.setdefault(float(x[0]), []).append(label)
    if len(sites) < 2:
        return ""
    return "one value in each site, " + joined(
        [f"{value:g} at {named(places)}" for value, places in sorted(sites.items())]
    )


def confounding_findings(
    material: Material,
    terms: Terms,
    confounding: pd.DataFrame,
    carriers: pd.DataFrame,
    imbalance: pd.DataFrame,
    one_site: set[str],
) -> Iterator[Finding]:
    """Judge what can be estimated, and from where; `one_site`: covariates already reported as resting on one site."""
    single = [covariate for covariate in material.covariates.values() if len(covariate.levels) == 1]
    for covariate in single:
        rows = count(int(covariate.present.sum()), "row")
        name, level = covariate.name, covariate.levels[0]
        verdict = f"'{name}' has one level, '{level}' ({rows}), and ComBat stops: remove it from the formula"
        yield Finding("problem", "design", name, verdict, "covariates", keys([name]), stops=True)
    for name, covariate in material.covariates.items():
        if covariate.trouble:
            verdict = f"'{name}' cannot be used, and ComBat stops: {covariate.trouble}"
            yield Finding("problem", "design", name, verdict, "covariates", keys([name]), stops=True)
    if terms.trouble and not single and not any(covariate.trouble for covariate in material.covariates.values()):
        verdict = f"The design of '{material.fixed}' cannot be built, and ComBat stops: {terms.trouble}"
        yield Finding("problem", "design", str(material.fixed), verdict, "confounding", stops=True)
    if terms.rank.extreme:
        verdict = (
            f"Values too large or too small to square in {named(terms.rank.extreme)}, and ComBat stops: rescale them"
        )
        yield Finding("problem", "design", joined(terms.rank.extreme), verdict, "covariates", stops=True)
    if len(material.levels) > 1:
        for _, row in confounding.iterrows():
            smooth = any(term.smooth and term.label == row["term"] for term in terms.terms)
            yield from _judge(row, smooth, imbalance)
            if row["estimable"] and not terms.rank.saturated and not set(row["variables"].split(", ")) & one_site:
                yield from _carried(row["term"], carriers)
    if terms.rank.saturated:
        verdict = f"The design is saturated, and ComBat stops: {terms.rank.saturated}"
        yield Finding("problem", "design", str(material.fixed), verdict, "confounding", stops=True)


def nearly(row: pd.Series, smooth: bool) -> float:
    """Return the variance inflation that decides a term's verdict, from its row of `confounding`."""
    # Some combinations of a basis rest on few rows; a penalty shrinks just those.
    return float(row["gvif_df"] ** 2 if smooth else row["worst"])


def confounded_but_for_few(terms: Terms, confounding: pd.DataFrame) -> Iterator[Finding]:
    """Name the terms that are confounded with sites but for a few rows."""
    smooth = {term.label for term in terms.terms if term.smooth}
    for _, row in confounding.iterrows():
        if row["estimable"] and decided_by_few(row, row["term"] in smooth):
            yield _but_for_few(row)


def _but_for_few(row: pd.Series) -> Finding:
    term, rows = row["term"], row["deciding"]
    verdict = (
        f"'{term}' is confounded with site but for {count(rows, 'row')} ({row['deciding_rows']}): "
        f"only {'that row separates' if rows == 1 else 'those rows separate'} its effect from the site's, and "
        f"estimating sites multiplies its variance by {row['worst']:.3g}"
    )
    return Finding("problem", "confounding", term, verdict, "confounding", keys([term]))


def decided_by_few(row: pd.Series, smooth: bool) -> bool:
    """Tell whether a term is confounded with sites but for a few rows; for curves the penalty takes care of it."""
    return not smooth and bool(row["deciding_rows"]) and row["worst"] > APART


def _judge(row: pd.Series, smooth: bool, imbalance: pd.DataFrame) -> Iterator[Finding]:
    term, where = row["term"], keys([row["term"]])
    if not row["estimable"]:
        with_site = "confounded" in row["why"] or "sites" in row["why"]
        end = "its effect cannot be separated from the site's" if with_site else "its effect cannot be estimated"
        verdict = f"'{term}' is {row['why']}; {end}, and ComBat stops"
        check = "confounding" if with_site else "design"
        yield Finding("problem", check, term, verdict, "confounding", where, stops=True)
    elif decided_by_few(row, smooth):
        yield _but_for_few(row)
    elif INFLATED < (inflation := nearly(row, smooth)) < np.inf and imbalance["naive_level"].notna().any():
        level = imbalance.set_index("term").loc[term, "naive_level"]
        verdict = (
            f"'{term}' is nearly confounded with site: sites explain {percent(row['r2'])} of it, "
            f"{percent(row['site_share'])} of that at '{row['site']}'. Estimating sites multiplies the variance of its "
            f"effect by {inflation:.3g}. Where site effects are removed in full, a later test without site has level "
            f"{percent(level)} instead of 5 %"
        )
        yield Finding("caution", "confounding", term, verdict, "confounding", where)


def _carried(term: str, carriers: pd.DataFrame) -> Iterator[Finding]:
    shares = carriers[carriers["term"] == term]
    top = shares.iloc[int(shares["information"].argmax())]
    if top["information"] >= CARRIED and 2 * top["rows"] < shares["rows"].sum() and (shares["rows"] > 0).sum() > 2:
        verdict = (
            f"'{term}' is estimated almost entirely from '{top['site']}': {percent(top['information'])} of the "
            f"information within sites is there, in {top['rows']:,} of {shares['rows'].sum():,} rows"
        )
        yield Finding("caution", "confounding", term, verdict, "carriers", ((term, top["site"]),))
