"""`audit`: look at a table before it is harmonized, one check after the other."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pandas as pd

from pycombat_gam.audit.confounding import INFLATED, confounding_findings, confounding_tables, nearly
from pycombat_gam.audit.distributions import covariate_table, level_findings
from pycombat_gam.audit.features import look_at_features
from pycombat_gam.audit.finding import SEVERITIES, Finding, frame, row_text
from pycombat_gam.audit.imbalance import imbalance_findings, imbalance_table
from pycombat_gam.audit.material import sort_out
from pycombat_gam.audit.missing import missing_findings, missing_table
from pycombat_gam.audit.overlap import overlap_findings, overlap_table
from pycombat_gam.audit.result import Audit
from pycombat_gam.audit.sites import site_findings, site_table, subject_findings
from pycombat_gam.audit.suspicion import covariate_codes, feature_findings, flag_features
from pycombat_gam.audit.terms import learn_terms
from pycombat_gam.audit.trial import trial_findings
from pycombat_gam.combat import ComBat
from pycombat_gam.tables import FeatureChoice


def audit(
    table: pd.DataFrame | np.ndarray,
    formula: str = "~ 1",
    batch: str = "batch",
    *,
    covariates: object = None,
    features: FeatureChoice = None,
    id: str | list[str] | tuple[str, ...] | None = None,
) -> Audit:
    """Look at a table before it is harmonized: sites, covariates, confounding, missing cells, features.

    What `ComBat` would stop for is told as a problem, with everything else that can be said; missing cells, which it
    omits if asked to, as a caution.

    Parameters
    ----------
    table : one wide DataFrame, or features only (n×V array or DataFrame) beside `covariates`.
    formula, batch, features, id : as `ComBat` takes them. Rows with one value of a random effect's group are of one
        subject; without random effects, rows with one value of the id column that repeats.
    covariates : DataFrame with batch, id and formula columns, when `table` holds features only.

    Returns
    -------
    Audit

    Raises
    ------
    PcgError
        For a call that cannot be read: no such column, a wrong formula or option, features that are no numbers.

    Examples
    --------
    >>> import pycombat_gam as pcg
    >>> found = pcg.audit(pcg.datasets.load_multisite(), "~ age + sex + dx", batch="site", id="subject")
    >>> found.worst
    'caution'
    >>> found.imbalance[["covariate", "variance_ratio", "level"]].round(2)
      covariate  variance_ratio  level
    0       age            1.65   0.13
    1       sex            1.03   0.06
    2        dx            1.12   0.07
    """
    with np.errstate(over="ignore", invalid="ignore"):  # of numbers too large to square, which a finding names
        return _audit(table, formula, batch, covariates, features, id)


def _audit(
    table: pd.DataFrame | np.ndarray,
    formula: str,
    batch: str,
    covariates: object,
    features: FeatureChoice,
    id: str | list[str] | tuple[str, ...] | None,
) -> Audit:
    material = sort_out(table, formula, batch, covariates, features, id)
    sites = site_table(material)
    terms = learn_terms(material)
    distribution, overlap = covariate_table(material), overlap_table(material)
    confounding, canonical, carriers = confounding_tables(material, terms)
    imbalance = imbalance_table(material, terms, overlap)
    missing = missing_table(material)
    looked = look_at_features(material)
    flag_features(looked)
    levels = list(level_findings(material))
    smooth = {term.label for term in terms.terms if term.smooth}
    told = {
        name
        for _, row in confounding.iterrows()
        if not row["estimable"] or nearly(row, row["term"] in smooth) > INFLATED
        for name in row["variables"].split(", ")
    }
    found = [
        *site_findings(material, sites),
        *subject_findings(material, sites),
        *missing_findings(material, missing),
        *covariate_codes(material),
        *confounding_findings(material, terms, confounding, carriers, imbalance, {one.subject for one in levels}),
        *levels,
        *overlap_findings(material, overlap),
        *imbalance_findings(material, terms, imbalance, overlap, told),
        *feature_findings(material, looked),
    ]
    found += trial_findings(material, looked, found)
    tables = {
        "sites": sites,
        "covariates": distribution,
        "overlap": overlap,
        "confounding": confounding,
        "canonical": canonical,
        "carriers": carriers,
        "imbalance": imbalance,
        "missing": missing,
        "features": looked.table,
    }
    ordered = tuple(chain.from_iterable([one for one in found if one.severity == level] for level in SEVERITIES))
    call = repr(ComBat(formula, batch, features=features, id=id)).replace("ComBat", "audit", 1)
    shape = (len(material.given.covariates), len(material.given.features))
    return Audit(call, shape, ordered, _listed(ordered), **tables)


def _listed(found: tuple[Finding, ...]) -> pd.DataFrame:
    """Make the table of findings."""
    rows = [(one.severity, one.check, one.subject, one.verdict, one.table, row_text(one.where)) for one in found]
    return frame(rows, ("severity", "check", "subject", "verdict", "table", "row"))
