"""`audit`: look at a table before it is harmonized, one check after the other."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pandas as pd

from pycombat_gam.audit.imbalance import imbalance_findings, imbalance_table
from pycombat_gam.audit.intake import Call, sort_out
from pycombat_gam.audit.missing import missing_findings, missing_table
from pycombat_gam.audit.result import Audit
from pycombat_gam.audit.trial import trial_findings
from pycombat_gam.batch.levels import canonical
from pycombat_gam.checks.collinear import collinear_covariates
from pycombat_gam.checks.confounding import INFLATED, confounding_findings, confounding_tables, decided_by_few, nearly
from pycombat_gam.checks.copies import copied_rows, find_copies
from pycombat_gam.checks.derived import derived_features
from pycombat_gam.checks.distributions import covariate_table, level_findings
from pycombat_gam.checks.features import look_at_features
from pycombat_gam.checks.finding import SEVERITIES, Finding, frame, row_text
from pycombat_gam.checks.overlap import overlap_findings, overlap_table
from pycombat_gam.checks.sites import id_findings, prior_findings, repeat_findings, site_findings, site_table
from pycombat_gam.checks.suspicion import feature_findings, flag_features
from pycombat_gam.checks.terms import learn_terms
from pycombat_gam.checks.units import covariate_units
from pycombat_gam.checks.values import covariate_codes, impossible_values
from pycombat_gam.combat.estimator import ComBat
from pycombat_gam.study.harmonizer import Harmonizer
from pycombat_gam.tables.intake import FeatureChoice, find_column
from pycombat_gam.words import count


def audit(
    table: pd.DataFrame | np.ndarray,
    formula: str = "~ 1",
    batch: str = "batch",
    *,
    covariates: object = None,
    features: FeatureChoice = None,
    id: str | list[str] | tuple[str, ...] | None = None,
    ref_batch: object = None,
    eb: bool = True,
    prior: str = "parametric",
    mean_only: bool = False,
    smoothing: str = "REML",
    on_unseen: str = "error",
    missing: str = "error",
    fit_mask: object = None,
) -> Audit:
    """Look at a table before it is harmonized: sites, covariates, confounding, missing cells, features.

    Whatever `ComBat` with these options would stop for is a problem; the audit goes on and reports everything else too.
    Missing cells, which `ComBat` can omit, are a caution.

    Parameters
    ----------
    table : DataFrame or array of shape (n, V)
        One wide DataFrame, or features only beside `covariates`.
    formula : str
        As in `ComBat`.
    batch : str
        As in `ComBat`: the column of site labels.
    covariates : DataFrame, optional
        Batch, id and formula columns, when `table` holds features only.
    features : str or list of str, optional
        As in `ComBat`.
    id : str or list of str, optional
        As in `ComBat`. `pycombat_gam.checks.subjects` says which column identifies people.
    ref_batch, eb, prior, mean_only, smoothing, on_unseen, missing : object
        Options of the model to be fitted. None changes a table, and no verdict depends on `smoothing` or `on_unseen`.
    fit_mask : array of bool, optional
        As in `ComBat.fit`: the audit looks at the rows that estimate; the others are only tried.

    Returns
    -------
    Audit
        Verdicts, and the tables that they rest on.

    Raises
    ------
    PcgError
        For a call that cannot be read: no such column, a wrong formula or option, features that are not numeric.

    Examples
    --------
    >>> import pycombat_gam as pcg
    >>> audit = pcg.audit(pcg.datasets.load_multisite(), "~ age + sex + dx", batch="site", id="subject")
    >>> audit.worst
    'caution'
    >>> audit.imbalance[["term", "within_share", "naive_level"]].round(2)
      term  within_share  naive_level
    0  age          0.60         0.13
    1  sex          0.97         0.06
    2   dx          0.90         0.07
    """
    asked = ComBat(
        formula,
        batch,
        features=features,
        id=id,
        ref_batch=ref_batch,
        eb=eb,
        prior=prior,
        mean_only=mean_only,
        smoothing=smoothing,
        on_unseen=on_unseen,
        missing=missing,
    )
    return _looked(asked, table, covariates, fit_mask)


def audit_model(model: Harmonizer, table: pd.DataFrame) -> Audit:
    """Look at a table as `audit` does, for a fitted model's features and with the options of its starting point."""
    starting, features = model.starting_point(), model.get_feature_names_out().tolist()
    sites = {canonical(label) for label in find_column(table, model.batch, "batch").unique()}
    if starting.ref_batch is not None and canonical(starting.ref_batch) not in sites:
        # Rows of other sites than those of the fit: none of them is the reference.
        starting.set_params(ref_batch=None)
    starting.set_params(features=model.features if isinstance(model.features, str) else features)
    return _looked(starting, table, None, None)


def _looked(model: ComBat, table: pd.DataFrame | np.ndarray, covariates: object, fit_mask: object) -> Audit:
    with np.errstate(over="ignore", invalid="ignore"):  # numbers too large to square; a finding names them
        return _audit(sort_out(model, table, covariates, fit_mask))


def _audit(call: Call) -> Audit:
    material = call.material
    copies = find_copies(material.intake.Y)
    sites = site_table(material, np.unique(np.concatenate(copies)))
    terms = learn_terms(material)
    distribution, overlap = covariate_table(material), overlap_table(material)
    confounding, canonical, carriers = confounding_tables(material, terms)
    imbalance = imbalance_table(material, terms, overlap)
    missing = missing_table(material)
    looked = look_at_features(material)
    flag_features(looked)
    levels = list(level_findings(material))
    smooth = {term.label for term in terms.terms if term.smooth}
    confounded = {
        name
        for _, row in confounding.iterrows()
        if not row["estimable"]
        or nearly(row, row["term"] in smooth) > INFLATED
        or decided_by_few(row, row["term"] in smooth)
        for name in row["variables"].split(", ")
    }
    findings = [
        *site_findings(material, sites),
        *prior_findings(material, sites),
        *id_findings(material),
        *repeat_findings(material, sites),
        *copied_rows(material, copies),
        *missing_findings(material, missing),
        *covariate_codes(material),
        *impossible_values(material),
        *covariate_units(material),
        *confounding_findings(
            material, terms, confounding, carriers, imbalance, {finding.subject for finding in levels}
        ),
        *([] if terms.rank.dependent else collinear_covariates(material)),
        *levels,
        *overlap_findings(material, overlap),
        *imbalance_findings(material, terms, imbalance, overlap, confounded),
        *feature_findings(material, looked),
        *derived_features(material),
    ]
    findings += trial_findings(call, looked, findings)
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
    ordered = tuple(
        chain.from_iterable([finding for finding in findings if finding.severity == level] for level in SEVERITIES)
    )
    asked = repr(call.model).replace("ComBat", "audit", 1)
    if call.mask is not None:
        asked = f"{asked[:-1]}, fit_mask=<{call.mask.sum():,} of {count(call.mask.size, 'row')}>)"
    shape = (len(material.intake.covariates), len(material.intake.features))
    return Audit(asked, shape, ordered, _listed(ordered), **tables)


def _listed(findings: tuple[Finding, ...]) -> pd.DataFrame:
    """Make the table of findings."""
    rows = [
        (finding.severity, finding.check, finding.subject, str(finding.verdict), finding.table, row_text(finding.where))
        for finding in findings
    ]
    return frame(rows, ("severity", "check", "subject", "verdict", "table", "row"))
