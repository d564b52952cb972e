"""What neuroCombat, ComBatFamily and longCombat really returned, handed to the adapters in the packages' own shapes.

The packages are not installed: stand-ins of their names give back the stored tables, so that the whole way is run, from
the call of the adapter to `Estimates`, and every number has to arrive under its batch and its feature.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.r_cases import NOT_FINITE, ON_PURPOSE, key, model_for, table_for
from helpers.reference import Case, cases, needs_reference
from helpers.replay import BY_BATCH, answer, comfam_fit, installed, longcombat_fit, neurocombat_fit, stored

import pycombat_gam as pcg
import r_bridge
from pycombat_gam.combat.estimates import Estimates
from pycombat_gam.design.design import Design
from r_bridge import session, sources
from r_bridge.combat import PRIORS, Harmonized, estimates_from_r
from r_bridge.study import Study

pytestmark = [needs_reference, pytest.mark.live_r]

NEURO = [case for case in cases("neurocombat", "^(?!train)") if case.ok]
# pb() is a smooth of gamlss, which our formulas don't have; the covbatpkg cases are another package's.
FAMILY = [case for case in cases("combatfamily", "^(combat_|gam_|covfam_|combatls_(?!s5_pb)|edge_)") if case.ok]
LONG = [case for case in cases("longcombat") if case.ok]


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("replay")
    with installed(folder):
        yield folder


def check(found: pd.DataFrame, expected: pd.DataFrame, name: str) -> None:
    """The same number, to the last bit, under the same names in the same order."""
    assert list(found.index.astype(str)) == list(expected.index.astype(str)), name
    assert list(found.columns) == list(expected.columns), name
    np.testing.assert_array_equal(found.to_numpy(dtype=float), expected.to_numpy(dtype=float), err_msg=name)


def check_absent(found: Estimates, *names: str) -> None:
    """NaN, or no rows, where the package gives none."""
    for name in names:
        assert getattr(found, name).isna().all(axis=None), name


def check_table(found: Harmonized, table: pd.DataFrame, values: pd.DataFrame, features: list[str]) -> None:
    """The table that was given, its features replaced by what R returned."""
    others = [name for name in table if name not in features]
    assert list(found.table.columns) == list(table.columns)
    pd.testing.assert_frame_equal(found.table[others], table[others])
    np.testing.assert_array_equal(found.table[features].to_numpy(dtype=float), values.to_numpy(dtype=float))


def replayed_neurocombat(case: Case, replay: Path) -> tuple[pcg.ComBat, pd.DataFrame, Harmonized]:
    table, model = table_for(case), model_for(case)
    answer(replay, neurocombat_fit(case, case.features))
    found = r_bridge.neurocombat(
        table,
        case.formula,
        case.batch,
        features=case.features,
        ref_batch=model.ref_batch,
        eb=model.eb,
        prior=model.prior,
        mean_only=model.mean_only,
    )
    return model, table, found


@pytest.mark.parametrize("case", NEURO, ids=key)
def test_neurocombat(case: Case, replay: Path) -> None:
    _, table, found = replayed_neurocombat(case, replay)
    features, estimates = case.features, found.estimates
    check_table(found, table, case.output("harmonized")[features], features)
    for name in BY_BATCH:
        check(getattr(estimates, name.replace(".", "_")), stored(case, name, features), name)
    labels = estimates.gamma_hat.index
    assert labels.name == case.batch
    assert list(labels) == [str(level) for level in case.about.get("batch_levels", labels)]
    scale = case.output("standardization").loc[features]
    check(estimates.grand_mean, scale[["stand.mean"]].T.set_axis(["grand_mean"]), "grand_mean")
    check(estimates.var_pooled, scale[["var.pooled"]].T.set_axis(["var_pooled"]), "var_pooled")
    beta = case.output("beta.hat")[features].iloc[len(labels) :]
    check(estimates.coefficients.set_axis(beta.index), beta, "coefficients")
    for name in PRIORS:
        if case.has("priors"):
            check(
                getattr(estimates, name), case.output("priors")[[name.replace("_", ".")]].set_axis([name], axis=1), name
            )
        else:
            check_absent(estimates, name)
    assert not len(estimates.smoothing_parameters) and not len(estimates.edf) and not len(estimates.score)


@pytest.mark.filterwarnings("ignore:'age' does not overlap:pycombat_gam.errors.PcgWarning")
@pytest.mark.parametrize(
    "case", [case for case in NEURO if key(case) not in ON_PURPOSE and key(case) not in NOT_FINITE], ids=key
)
def test_our_estimates_have_the_layout_of_neurocombats(case: Case, replay: Path) -> None:
    """Same index, same columns, same numbers: code that reads one reads the other."""
    model, table, found = replayed_neurocombat(case, replay)
    warned = case.name.startswith("edge_single_subject_site")
    with pytest.warns(pcg.PcgWarning, match="one subject") if warned else nullcontext():
        model.fit(table)
    # R solves normal equations on raw columns: with features offset by 1e6 it keeps 10 of its 16 digits at best.
    tolerance = 1e-6 if "offset_1e6" in case.name else 1e-8
    reference = str(model.ref_batch)
    for name, ours in vars(model.estimates).items():
        theirs = getattr(found.estimates, name)
        assert list(ours.columns) == list(theirs.columns), name
        assert list(ours.index) == list(theirs.index), name
        assert ours.index.name == theirs.index.name, name
        if name in ("a_prior", "b_prior") and model.mean_only:
            assert not np.isfinite(theirs.to_numpy()).any() and ours.isna().all(axis=None)
            continue
        if name in PRIORS and model.ref_batch is not None:
            # R's priors of the reference batch are moments of rounding; ours has none.
            assert ours.loc[reference].isna().all()
            ours, theirs = ours.drop(reference), theirs.drop(reference)
        size = np.maximum(np.abs(theirs.to_numpy(dtype=float)).max(axis=0, initial=1.0), 1.0)
        np.testing.assert_allclose(ours / size, theirs / size, rtol=0, atol=tolerance, err_msg=name)


def family_call(case: Case) -> tuple[str, dict[str, Any]]:
    """A formula and options of ours for the stored call."""
    call = case.about["call"]
    # Up to its comma outside of brackets.
    formula = re.search(r"y (~(?:\([^()]*\)|[^,()])*)", call)
    which = re.match(r"\w+", call)
    assert which is not None
    chosen = which[0] if which[0] != "comfam" else "combat_gam"
    reference = re.search(r'ref\.batch ?= ?"(\w+)"', call)
    options = {
        "which": chosen,
        "eb": "eb=FALSE" not in call,
        "ref_batch": reference and reference[1],
        "robust": "robust.LS=TRUE" in call,
    }
    return formula[1].strip() if formula else "~ 1", options


@pytest.mark.parametrize("case", FAMILY, ids=key)
def test_comfam(case: Case, replay: Path) -> None:
    table, (formula, options) = case.input(), family_call(case)
    absent = sorted(set(re.findall(r"\b(conf|W)\b", formula)) - set(table))
    table = pd.concat([table, pd.DataFrame({name: np.linspace(0.0, 1.0, len(table)) for name in absent})], axis=1)
    features = case.features
    answer(replay, comfam_fit(case, features))
    found = r_bridge.comfam(table, formula, case.batch, features=features, **options)
    estimates = found.estimates
    check_table(found, table, case.output("harmonized")[features], features)
    for name in BY_BATCH:
        check(getattr(estimates, name.replace(".", "_")), stored(case, name, features), name)
    variance = case.output("var.pooled").reindex(features)[["var.pooled"]].T.set_axis(["var_pooled"])
    check(estimates.var_pooled, variance, "var_pooled")
    if case.name.startswith("gam") and "fixed" not in case.name:
        about = case.output("fit_summary").loc[features]
        sp = about.filter(regex="^sp::").rename(columns=lambda name: name[4:]).T
        check(estimates.smoothing_parameters, sp, "smoothing_parameters")
        check(estimates.score, about[["score"]].T.set_axis(["REML"]), "score")
    # Its stand.mean has what the covariates add in it.
    check_absent(estimates, "grand_mean", *PRIORS)
    if not len(estimates.coefficients):
        # The answers of covfam that were stored hold no fits.
        assert formula == "~ 1" or not case.has("coefs") or case.name.startswith("covfam")
    elif case.name.startswith("combat_") and not options["robust"]:
        check_linear_coefficients(estimates.coefficients, table, formula, case.batch)


def check_linear_coefficients(found: pd.DataFrame, table: pd.DataFrame, formula: str, batch: str) -> None:
    """Least squares in our columns, whatever coding the package fitted; R's lm keeps these digits."""
    sites = pd.get_dummies(table[batch]).to_numpy(dtype=float)
    X = Design.learn(formula, table, absorb_intercept=True).on(table)
    own = np.linalg.lstsq(np.hstack([sites, X]), table[list(found.columns)].to_numpy(dtype=float), rcond=None)[0]
    own = own[sites.shape[1] :]
    # R's lm and ours on one design: rounding times its condition.
    np.testing.assert_allclose(found.to_numpy(), own, rtol=1e-8, atol=1e-9 * np.abs(own).max())


@pytest.mark.parametrize("case", LONG, ids=key)
def test_longcombat(case: Case, replay: Path) -> None:
    call, table = case.about["call"], case.input()
    mean, random = (re.search(rf"{name}='([^']*)'", call) for name in ("formula", "ranef"))
    assert mean is not None and random is not None
    features = case.features
    if not isinstance(features[0], str):
        features = [str(name) for name in table.columns[np.array(features) - 1]]
    answer(replay, longcombat_fit(case, features))
    found = r_bridge.longcombat(
        table, f"~ {mean[1]} + {random[1]}", case.batch, id="subid", time="time", features=features
    )
    names = [f"{feature}.combat" for feature in features]
    check_table(found, table, case.output("harmonized")[names], features)
    for ours, theirs in zip(
        ("gamma_hat", "delta_hat", "gamma_star", "delta_star"),
        ("gammahat", "delta2hat", "gammastarhat", "delta2starhat"),
        strict=True,
    ):
        check(getattr(found.estimates, ours), stored(case, theirs, features), ours)
    check_absent(found.estimates, "coefficients", "grand_mean", "var_pooled", *PRIORS)


@pytest.mark.parametrize("kept", [None, [0, 2]], ids=["all features", "one that R left out"])
def test_layout_in_r_and_in_python(kept: list[int] | None) -> None:
    """Batches in the order of the levels, and NaN for the feature that the package left out."""
    features = ["f one", "f2", "f-3"]
    table = pd.DataFrame({"site": ["b", "a", "b", "a"], **{name: [1.0, 2.0, 4.0, 8.0] for name in features}})
    study = Study.read(table, "~ 1", "site", features=features)
    used = [features[k] for k in kept or range(3)]
    rng = np.random.default_rng(1)
    sent = {name: rng.normal(size=(2, len(used))) for name in ("gamma_hat", "delta_hat", "gamma_star", "delta_star")}
    row = rng.normal(size=len(used))
    back = session.call(
        "function(layout_text, found, batch, features) "
        "eval(parse(text = layout_text), new.env(parent = globalenv()))(found, batch, features)",
        layout_text=sources.function("layout", "packages"),
        found={**sent, "var_pooled": row, "t2": [1.0, 2.0], "kept": None if kept is None else np.array(kept) + 1},
        batch=pd.Categorical(["b", "a", "b", "a"]),
        features=features,
    )  # fmt: skip
    found = estimates_from_r(back, features, study)
    for name, values in sent.items():
        expected = pd.DataFrame(values, pd.Index(["a", "b"], name="site"), used).reindex(columns=features)
        check(getattr(found, name), expected, name)
    check(found.var_pooled, pd.DataFrame([row], ["var_pooled"], used).reindex(columns=features), "var_pooled")
    assert found.t2["t2"].to_dict() == {"a": 1.0, "b": 2.0}
    check_absent(found, "coefficients", "grand_mean", "gamma_bar", "a_prior", "b_prior")
    assert list(found.coefficients.columns) == features and not len(found.coefficients)
