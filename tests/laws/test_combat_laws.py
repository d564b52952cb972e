"""Laws that hold for every table: no reference numbers, only what must be true."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from helpers.textbook import textbook_combat
from hypothesis import given, settings
from hypothesis import strategies as st

import pycombat_gam as pcg

# A table is drawn from a seed: hypothesis shrinks sizes and options, numpy draws the numbers.
LAWS = settings(max_examples=40)
# Some of them look to the audit as if a site were in other units.
pytestmark = pytest.mark.filterwarnings("ignore:.*seems to be in other units:pycombat_gam.errors.PcgWarning")
ROUNDING = 1e-10
"""What summation in another order may change, in units of the feature's sd (the project's bound)."""


@dataclass
class Study:
    table: pd.DataFrame
    features: list[str]
    options: dict[str, object]

    def model(self, **changes: object) -> pcg.ComBat:
        return pcg.ComBat("~ age + sex", batch="site", **{"features": self.features, **self.options, **changes})  # type: ignore[arg-type]

    @property
    def sd(self) -> np.ndarray:
        return self.table[self.features].std(ddof=1).to_numpy()


@st.composite
def studies(draw: st.DrawFn, *, ref: bool | None = None, missing: bool | None = None) -> Study:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = draw(st.lists(st.integers(6, 25), min_size=2, max_size=5))
    V = draw(st.integers(3, 9))
    site = np.repeat([f"site {chr(65 + i)}" for i in range(len(sizes))], sizes)
    n = site.size
    code = np.unique(site, return_inverse=True)[1]
    age = rng.uniform(20, 80, n)
    sex = rng.choice(["F", "M"], n)
    sex[np.concatenate([np.flatnonzero(code == b)[:2] for b in range(len(sizes))])] = ["F", "M"] * len(sizes)
    offset = 10.0 ** draw(st.integers(-3, 4))
    Y = rng.normal(size=(n, V)) * rng.uniform(0.5, 2, (len(sizes), V))[code] + rng.normal(size=(len(sizes), V))[code]
    Y = offset * (3 + Y + 0.03 * age[:, None] * rng.normal(size=V))
    with_missing = draw(st.booleans()) if missing is None else missing
    if with_missing:
        holes = rng.random((n, V)) < 0.05
        for b in range(len(sizes)):
            holes[np.flatnonzero(code == b)[:3]] = False
        Y[holes] = np.nan
    features = [f"f{k}" for k in range(V)]
    table = pd.DataFrame({"site": site, "age": age, "sex": sex, **dict(zip(features, Y.T, strict=True))})
    with_ref = draw(st.booleans()) if ref is None else ref
    options = {
        "eb": draw(st.booleans()),
        "prior": draw(st.sampled_from(["parametric", "nonparametric"])),
        "mean_only": draw(st.booleans()),
        "ref_batch": "site A" if with_ref else None,
        "missing": "omit" if with_missing else "error",
    }
    return Study(table.iloc[rng.permutation(n)].reset_index(drop=True), features, options)


def close(a: pd.DataFrame, b: pd.DataFrame, study: Study) -> None:
    np.testing.assert_allclose(
        a[study.features].to_numpy() / study.sd,
        b[study.features].to_numpy() / study.sd,
        rtol=0,
        atol=ROUNDING,
    )


@LAWS
@given(studies())
def test_fit_then_transform_is_fit_transform_bit_for_bit(study: Study) -> None:
    together = study.model().fit_transform(study.table)
    apart = study.model().fit(study.table).transform(study.table)
    pd.testing.assert_frame_equal(together, apart, check_exact=True)


@LAWS
@given(studies())
def test_equals_the_textbook(study: Study) -> None:
    X = np.column_stack([study.table["age"], study.table["sex"] == "M"]).astype(float)
    Y = study.table[study.features].to_numpy()
    options = study.options
    expected, gamma, delta = textbook_combat(
        Y,
        X,
        study.table["site"].to_numpy(),
        eb=bool(options["eb"]),
        prior=str(options["prior"]),
        mean_only=bool(options["mean_only"]),
        ref=options["ref_batch"],
    )
    model = study.model()
    ours = model.fit_transform(study.table)
    # These: two ways to one least-squares problem and one fixed point: rounding.
    np.testing.assert_allclose(ours[study.features] / study.sd, expected / study.sd, rtol=0, atol=1e-9)
    np.testing.assert_allclose(model.estimates.gamma_star, gamma, rtol=0, atol=1e-9)
    np.testing.assert_allclose(model.estimates.delta_star, delta, rtol=1e-9)


@LAWS
@given(studies(), st.randoms(use_true_random=False))
def test_permuting_rows_columns_and_features_permutes_the_answer(study: Study, random: object) -> None:
    rng = np.random.default_rng(random.randint(0, 2**31))  # type: ignore[attr-defined]
    plain = study.model().fit_transform(study.table)
    rows, columns = rng.permutation(len(study.table)), rng.permutation(study.table.shape[1])
    shuffled = study.table.iloc[rows, columns]
    again = study.model(features=list(rng.permutation(study.features))).fit_transform(shuffled)
    assert list(again.columns) == list(shuffled.columns)
    assert list(again.index) == list(shuffled.index)
    close(again.loc[plain.index], plain, study)


@LAWS
@given(studies())
def test_other_labels_give_the_same_answer(study: Study) -> None:
    plain = study.model().fit_transform(study.table)
    names = {"site A": "z", "site B": "10", "site C": "2", "site D": "ümlaut", "site E": "a b"}
    renamed = study.table.assign(site=study.table["site"].map(names))
    ref = None if study.options["ref_batch"] is None else "z"
    close(study.model(ref_batch=ref).fit_transform(renamed), plain, study)
    numbers = study.table.assign(site=study.table["site"].map({name: i for i, name in enumerate(names)}))
    as_int = study.model(ref_batch=None if ref is None else 0).fit_transform(numbers)
    as_text = study.model(ref_batch=None if ref is None else "0").fit_transform(numbers.astype({"site": str}))
    close(as_int, plain, study)
    close(as_text, plain, study)


@LAWS
@given(studies(ref=True))
def test_the_reference_site_is_unchanged_bit_for_bit(study: Study) -> None:
    rows = (study.table["site"] == "site A").to_numpy()
    study.table.loc[study.table.index[rows][:1], study.features[0]] = -0.0
    harmonized = study.model().fit_transform(study.table)
    ours = np.ascontiguousarray(harmonized.loc[rows, study.features].to_numpy())
    theirs = np.ascontiguousarray(study.table.loc[rows, study.features].to_numpy())
    assert ours.tobytes() == theirs.tobytes()


@LAWS
@given(studies(), st.data())
def test_rows_transform_alone_as_in_company(study: Study, data: st.DataObject) -> None:
    model = study.model()
    whole = model.fit_transform(study.table)
    some = data.draw(st.lists(st.sampled_from(range(len(study.table))), min_size=1, max_size=5, unique=True))
    part = model.transform(study.table.iloc[some])
    np.testing.assert_allclose(
        part[study.features] / study.sd, whole.iloc[some][study.features] / study.sd, rtol=0, atol=ROUNDING
    )


@LAWS
@given(studies(missing=False), st.integers(-8, 8), st.floats(-5, 5))
def test_equivariant_under_units(study: Study, power: int, shift: float) -> None:
    """Y → 2^k·Y and Y → Y + c change nothing but the units."""
    plain = study.model().fit_transform(study.table)
    scaled = study.table.copy()
    scaled[study.features] = scaled[study.features] * 2.0**power
    np.testing.assert_allclose(
        study.model().fit_transform(scaled)[study.features] / 2.0**power / study.sd,
        plain[study.features] / study.sd,
        rtol=0,
        atol=ROUNDING,
    )
    moved = study.table.copy()
    moved[study.features] = moved[study.features] + shift * study.sd
    np.testing.assert_allclose(
        study.model().fit_transform(moved)[study.features] / study.sd - shift,
        plain[study.features] / study.sd,
        rtol=0,
        atol=ROUNDING,
    )


@LAWS
@given(studies(ref=False, missing=False))
def test_without_shrinkage_every_site_ends_with_the_same_location_and_scale(study: Study) -> None:
    """eb=False: around the fitted mean, every site has mean 0 and the pooled variance exactly."""
    model = study.model(eb=False, mean_only=False)
    out = model.fit_transform(study.table)
    X = np.column_stack([study.table["age"], study.table["sex"] == "M"]).astype(float)
    estimates = model.estimates
    left = out[study.features] - X @ estimates.coefficients.to_numpy() - estimates.grand_mean.loc["grand_mean"]
    by_site = left.groupby(study.table["site"])
    np.testing.assert_allclose(by_site.mean() / study.sd, 0.0, atol=ROUNDING)
    # Rounding of a variance of 6 to 25 rows.
    np.testing.assert_allclose(by_site.var(ddof=1) / estimates.var_pooled.loc["var_pooled"], 1.0, atol=1e-9)


@pytest.mark.parametrize("mask", ["controls", "all"])
def test_fit_mask_estimates_on_its_rows_and_adjusts_all(mask: str) -> None:
    table = pcg.datasets.load_multisite()
    features = [name for name in table if name.endswith("_thickness")]
    rows = (table["dx"] == "control").to_numpy() if mask == "controls" else np.ones(len(table), dtype=bool)
    masked = pcg.ComBat("~ age + sex", batch="site", features=features)
    out = masked.fit_transform(table, fit_mask=rows)
    alone = pcg.ComBat("~ age + sex", batch="site", features=features).fit(table[rows])
    pd.testing.assert_frame_equal(masked.estimates.gamma_star, alone.estimates.gamma_star, check_exact=True)
    pd.testing.assert_frame_equal(out, alone.transform(table), check_exact=True)


def test_known_truth_is_recovered() -> None:
    """With many subjects a site, the true locations and scales come back, and the biology with them.

    A common shift and a common factor of all sites are not identified: ComBat puts sites on their weighted mean and
    pooled sd, the simulator on zero and one. Both are divided out.
    """
    study = pcg.datasets.simulate_multisite(sites=5, subjects=4000, features=30, seed=7)
    features = list(study.features)
    model = pcg.ComBat("~ ns(age, df=6) + sex + dx + icv", batch="site", features=features)
    out = model.fit_transform(study.table)
    estimates, n = model.estimates, study.table["site"].value_counts().sort_index()
    weight = n / n.sum()
    sd = np.sqrt(estimates.var_pooled.loc["var_pooled"])

    found = estimates.gamma_star * sd
    found = (found - weight @ found) / sd
    true = study.location.loc[found.index, features]
    true = (true - weight @ true) / sd
    # The smallest site has 307 subjects: standard errors 0.057 sd (location) and 0.04 (log scale); 4 of them.
    assert np.abs(found - true).max().max() < 0.2
    ratio = np.log(np.sqrt(estimates.delta_star) / study.scale.loc[found.index, features])
    assert np.abs(ratio - ratio.mean()).max().max() < 0.15

    factor = np.sqrt(weight @ study.scale.loc[found.index, features] ** 2)
    error = (out[features] - study.truth[features] - (out[features] - study.truth[features]).mean()) / factor
    before = (study.table[features] - study.truth[features]) / factor
    rms = (error.pow(2).mean() / before.pow(2).mean()).pow(0.5)
    # What is left is those errors (0.1 sd) against site effects of at least 0.4 sd.
    assert rms.max() < 0.25
