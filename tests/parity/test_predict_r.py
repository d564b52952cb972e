"""New subjects and new sites: ComBatFamily's `predict`, and the training half of neuroCombatFromTraining."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.reference import Case, cases, needs_reference

import pycombat_gam as pcg

pytestmark = needs_reference

PREDICT = [case for case in cases("combatfamily", "^predict_(lm|nocov|single_subject_known)") if case.ok]
TRAIN = [case for case in cases("neurocombat", "^train_") if case.ok]
# 1e-9 sd is the acceptance for linear models; both sides use QR here.
TOLERANCE = 1e-9


def fit(case: Case) -> tuple[pcg.ComBat, pd.DataFrame]:
    call = case.about["call"]
    train = case.rows("train_subjects")
    model = pcg.ComBat(
        case.formula,
        batch="site",
        features=case.features,
        eb="eb=FALSE" not in call,
        ref_batch="SBL" if 'ref.batch="SBL"' in call else None,
        on_unseen="estimate",
        missing="omit",
    )
    return model, model.fit_transform(train)


def worst(ours: pd.DataFrame, theirs: pd.DataFrame, sd: pd.Series) -> float:
    features = list(sd.index)
    assert ours.shape[0] == theirs.shape[0]
    return float(np.abs((ours[features].to_numpy() - theirs[features].to_numpy()) / sd.to_numpy()).max())


@pytest.mark.parametrize("case", PREDICT, ids=lambda case: case.name)
def test_predict(case: Case) -> None:
    model, trained = fit(case)
    sd = case.rows("train_subjects")[case.features].std(ddof=1)
    if "ebfit_predict_noeb" not in case.name:
        # There R fits with eb and predicts without; our eb=False model has to agree with its prediction only.
        assert worst(trained, case.output("train_harmonized"), sd) <= TOLERANCE
    test = case.rows("test_subjects")
    test["site"] = case.about["test_batch"]
    new = sorted(set(test["site"]) - set(case.about["train_batch_levels"]))
    before = model.estimates
    if new:
        with pytest.warns(pcg.PcgWarning, match=new[0]):
            predicted = model.transform(test)
    else:
        predicted = model.transform(test)
    assert worst(predicted, case.output("harmonized"), sd) <= TOLERANCE
    for name in ("gamma_star", "delta_star", "gamma_bar"):
        pd.testing.assert_frame_equal(
            pd.DataFrame(getattr(before, name)),
            pd.DataFrame(getattr(model.estimates, name)),
            check_exact=True,
        )


@pytest.mark.parametrize("case", TRAIN, ids=lambda case: case.name)
def test_training_half(case: Case) -> None:
    """The fit agrees with R. Its application doesn't: R leaves covariates out, so it doesn't even return its own
    training output; ours does, bit for bit."""
    prior = "nonparametric" if "nonpar" in case.name else "parametric"
    formula = "~ 1" if "nomod" in case.name else "~ age + sex + dx"
    train = case.rows("train_subjects")
    model = pcg.ComBat(formula, batch="site", features=case.features, prior=prior, eb="noeb" not in case.name)
    trained = model.fit_transform(train)
    sd = train[case.features].std(ddof=1)
    assert worst(trained, case.output("train_harmonized"), sd) <= TOLERANCE
    some = train.iloc[::3]
    assert worst(model.transform(some), trained.iloc[::3], sd) <= 1e-12  # the order of summation in a product
    for name in ("gamma.star", "delta.star"):
        if case.has(name) and model.eb:
            ours, theirs = getattr(model.estimates, name.replace(".", "_")), case.output(name)
            if "V1" in theirs:  # R lost the names there
                theirs.columns = case.features
            assert np.abs(ours.to_numpy() - theirs.loc[ours.index, case.features].to_numpy()).max() <= TOLERANCE


def test_cases_are_all_here() -> None:
    assert len(PREDICT) == 8
    assert len(TRAIN) >= 6
