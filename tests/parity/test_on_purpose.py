"""Where R's answer is not copied: each case of `ON_PURPOSE` and `NOT_FINITE`, with the right answer asserted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.r_cases import NOT_FINITE, ON_PURPOSE, all_cases, key, model_for, table_for
from helpers.reference import cases, needs_reference
from helpers.textbook import textbook_combat

import pycombat_gam as pcg

pytestmark = needs_reference

ERRORS = {
    "neurocombat/edge_saturated_design": "saturated",
    "neurocombat/edge_single_subject_site_meanonly_ref_is_single": "reference batch 'CMU' has one subject",
    "sva/edge_single_subject_site_ref.batchCMU": "reference batch 'CMU' has one subject",
}
REFERENCE_OF_ONE_VALUE = {"sva/bladder_nonpar_meanonly_ref3", "sva/bladder_nonpar_meanonly_ref3_modcancer"}
LISTED = {key(case): case for case in all_cases() if key(case) in {*ON_PURPOSE, *NOT_FINITE}}


def design_of(model: pcg.ComBat, table: pd.DataFrame) -> np.ndarray:
    names = [name for name in ("age", "sex", "dx", "cancer") if name in model.formula]
    return pd.get_dummies(table[names], drop_first=True).to_numpy(dtype=float) if names else np.zeros((len(table), 0))


@pytest.mark.parametrize("name", sorted(set(LISTED) - set(ERRORS)))
def test_the_equations(name: str) -> None:
    """Ours is what the equations and the documented rules give, computed a second time without shared code."""
    case = LISTED[name]
    table, model = table_for(case), model_for(case)
    named = "edge_constant" in name or "zero_within" in name
    if named:
        with pytest.warns(pcg.PcgWarning, match="lh_caudalmiddlefrontal_thickness"):
            ours = model.fit_transform(table)
    else:
        ours = model.fit_transform(table)
    Y = table[case.features].to_numpy(dtype=float)
    expected, gamma, delta = textbook_combat(
        Y,
        design_of(model, table),
        table[case.batch].astype(str).to_numpy(),
        eb=model.eb,
        prior=model.prior,
        mean_only=model.mean_only,
        ref=None if model.ref_batch is None else str(model.ref_batch),
    )
    sd = np.nanstd(Y, axis=0, ddof=1)
    # Both are double precision; the textbook solves the design at once, we centre by batch first.
    np.testing.assert_allclose(ours[case.features].to_numpy() / sd, expected / sd, atol=1e-10, rtol=0, equal_nan=True)
    np.testing.assert_allclose(model.estimates.gamma_star.to_numpy(), gamma.to_numpy(), atol=1e-10, rtol=1e-10)
    np.testing.assert_allclose(model.estimates.delta_star.to_numpy(), delta.to_numpy(), atol=1e-10, rtol=1e-10)
    assert np.isfinite(ours[case.features].to_numpy()).sum() == np.isfinite(Y).sum()


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_refused(name: str) -> None:
    case = LISTED[name]
    table = table_for(case)
    if "saturated" in name:
        rng = np.random.default_rng(0)
        table["x"] = rng.normal(size=len(table))
    with pytest.raises(pcg.PcgError, match=ERRORS[name]):
        model_for(case).fit(table)


def test_sva_with_missing_cells_differs_by_its_divisor_only() -> None:
    """sva's pooled variance is ours times n_k/(n_k − 1): nothing else stands behind the difference."""
    for name in ("sva/edge_na_random", "sva/edge_na_random_mod"):
        case = LISTED[name]
        table, model = table_for(case), model_for(case)
        model.fit(table)
        theirs = case.output("standardization")["var.pooled"]
        n = table[case.features].notna().sum()
        ratio = model.estimates.var_pooled.loc["var_pooled"] * n / (n - 1) / theirs
        assert np.abs(ratio - 1).max() < 1e-12  # sums of squares in another order


@pytest.mark.parametrize("set_name", ["neurocombat", "sva"])
def test_errors_of_r_are_errors_or_answers_here(set_name: str) -> None:
    failed = [case for case in cases(set_name, "^(?!seq|train)") if not case.ok]
    assert len(failed) >= 10
    answered = {
        "edge_constant_feature": "constant",
        "edge_constant_features_two": "constant",
        "edge_single_subject_site": "one subject",
        "edge_single_subject_site_mod": "one subject",
        "edge_na_all_but_one_in_site": "location only",
        "edge_unused_factor_level": None,
        "edge_character_batch": None,
    }
    # Not expressible: batch and covariates are columns of the table.
    inexpressible = ("edge_batch_wrong_length", "edge_na_in_mod_dropped_row")
    for case in [case for case in failed if case.name not in inexpressible]:
        table, model = table_for(case), model_for(case)
        if "na_in_batch" in case.name:
            table.loc[2, case.batch] = None
        if "na_in_mod" in case.name:
            table.loc[4, "age"] = np.nan
        if "conf" in model.formula:
            table["conf"] = (table[case.batch] == "CMU").astype(float)
        if "bad_ref" in case.name:
            model.set_params(ref_batch="NOPE")
        if case.name in answered:
            message = answered[case.name]
            if message is None:
                out = model.fit_transform(table)
            else:
                with pytest.warns(pcg.PcgWarning, match=message):
                    out = model.fit_transform(table)
            values = out[case.features].to_numpy(dtype=float)
            assert np.array_equal(np.isnan(values), table[case.features].isna().to_numpy()), case.name
        else:
            with pytest.raises(pcg.PcgError) as caught:
                model.fit(table)
            assert len(str(caught.value)) > 40, case.name
