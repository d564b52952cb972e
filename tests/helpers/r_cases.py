"""The R calls in our names: which cases there are, which of them we answer differently, and why."""

from __future__ import annotations

import pandas as pd

import pycombat_gam as pcg
from helpers.reference import Case, cases

ON_PURPOSE = {
    # Where we differ from R on purpose; `test_on_purpose.py` asserts the right answer of each.
    "neurocombat/edge_constant_within_every_site": "zero pooled variance: passes through; R divides by a median",
    "neurocombat/edge_constant_within_every_site_mod": "zero pooled variance: passes through; R divides by a median",
    "neurocombat/edge_constant_within_site": "constant in CMU: location only; R sets δ̂ = 1 and lets it into the priors",
    "neurocombat/edge_constant_within_site_mod": "constant in CMU: location only; R shrinks the variance of the fit",
    "neurocombat/edge_constant_within_site_noeb": "constant in CMU: location only; R divides by rounding",
    "neurocombat/edge_constant_within_site_nonpar": "constant in CMU: location only; R lets it into the priors",
    "neurocombat/edge_saturated_design": "no residual degrees of freedom: an error",
    "sva/edge_constant_within_site_mod": "sva leaves the feature untouched everywhere; we adjust its location",
    "sva/edge_zero_within_site": "sva leaves the feature untouched everywhere; we adjust its location",
    "sva/edge_na_random": "sva divides the pooled variance by n - 1 when cells are missing",
    "sva/edge_na_random_mod": "sva divides the pooled variance by n - 1 when cells are missing",
    "sva/edge_na_random_ref.batchSBL": "sva divides the pooled variance by n - 1 when cells are missing",
    "sva/edge_single_subject_site_ref.batchCMU": "a reference batch of one subject has no variance: an error",
    "combatfamily/combat_s5_robust_noeb": "robust location and scale are not neuroCombat's ComBat",
}
NOT_FINITE = {
    # R's answer is NaN or Inf where it should not be (more than its missing input explains).
    "neurocombat/edge_single_subject_site_meanonly_ref_is_single",
    "sva/bladder_nonpar_meanonly_ref3",
    "sva/bladder_nonpar_meanonly_ref3_modcancer",
    "sva/edge_nonpar_underflow_n1200_par.priorFALSE",
}


def key(case: Case) -> str:
    return f"{case.set}/{case.name}"


def all_cases() -> list[Case]:
    found = cases("neurocombat", "^(?!train)") + cases("sva", "^(?!seq)") + cases("combatfamily", "^combat_")
    return [case for case in found if case.ok]


def model_for(case: Case) -> pcg.ComBat:
    """The call in our names."""
    options, call = case.options, case.about.get("call", "")
    mean_only = case.about.get("mean.only_effective", options.get("mean.only", False))
    reference = options.get("ref.batch")
    if case.set == "combatfamily" and 'ref.batch="' in call:
        reference = call.split('ref.batch="')[1].split('"')[0]
    return pcg.ComBat(
        case.formula,
        batch=case.batch,
        features=case.features,
        ref_batch=reference,
        eb=bool(options.get("eb", "eb=FALSE" not in call)),
        prior="parametric" if options.get("parametric", options.get("par.prior", True)) else "nonparametric",
        mean_only=bool(mean_only),
        missing="omit",
    )


def table_for(case: Case) -> pd.DataFrame:
    """The input with the batch coded as the case says (numbers, or a factor with its own order of levels)."""
    table = case.input()
    levels = case.about.get("batch_levels")
    note = case.about.get("note") or ""
    if "batch coded" in note or "same codes as character" in note:
        codes = {"CALTECH": 10, "CMU": 2, "OHSU": 33, "SBL": 4, "UCLA_2": 5}
        table[case.batch] = table[case.batch].map(codes)
        if "character" in note:
            table[case.batch] = table[case.batch].astype(str)
    elif levels and "reversed" in note:
        table[case.batch] = pd.Categorical(table[case.batch], categories=levels)
    return table
