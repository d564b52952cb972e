"""Who is independent of whom: vendors and scanners are no people, and what no data tell apart changes no test."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from pycombat_gam.diagnose.diagnose import diagnose
from pycombat_gam.diagnose.study import Study
from pycombat_gam.study.units import units_of

FEATURES = ["f0", "f1", "f2"]


def table(seed: int = 3, *, vendor_sd: float = 0.0, n: int = 160) -> pd.DataFrame:
    """Four sites, no site effect; each row of another person; vendors cross sites unevenly, each makes a shift."""
    rng = np.random.default_rng(seed)
    site = np.repeat(np.arange(4), n // 4)
    vendor = (site + rng.choice(4, n, p=[0.55, 0.15, 0.15, 0.15])) % 4
    age = rng.uniform(20, 80, n)
    values = 0.02 * age[:, None] + vendor_sd * rng.normal(size=(4, 3))[vendor] + rng.normal(size=(n, 3))
    frame = pd.DataFrame({"id": [f"p{i}" for i in range(n)], "site": [f"s{b}" for b in site], "age": age})
    return frame.assign(
        vendor=[f"v{v}" for v in vendor],
        country=np.where(site < 2, "x", "y"),
        scanner=[f"{b}{c}" for b, c in zip(site, rng.integers(2, size=n), strict=True)],
        **dict(zip(FEATURES, values.T, strict=True)),
    )


def study(formula: str, frame: pd.DataFrame, id: str | None = "id") -> Study:
    return Study.of(frame, None, formula=formula, batch="site", features=FEATURES, id=id, covariates=None)


@pytest.mark.parametrize("group", ["vendor", "country"])
@pytest.mark.parametrize("id", ["id", None])
def test_groups_of_sites_or_of_many_rows_leave_rows_independent(group: str, id: str | None) -> None:
    found = study(f"~ age + (1 | {group})", table(), id)
    assert found.linking == () and found.groups is None


def test_a_sites_own_scanners_are_what_may_be_exchanged() -> None:
    found = study("~ age + (1 | scanner)", table())
    assert found.linking == (("scanner",),)
    units = units_of(found.codes, found.groups)
    assert units is not None and units.sizes.tolist() == [2, 2, 2, 2]


def test_vendors_across_sites_leave_every_test_in_place() -> None:
    found = pcg.diagnose(
        table(), formula="~ age + (1 | vendor)", batch="site", id="id", features=FEATURES, permutations=19
    )
    assert set(found.table["aspect"]) >= {"location", "scale", "covariance", "distribution", "site prediction"}
    assert (found.of("location")["n"] == 160).all() and (found.of("scale")["n"] == 160).all()
    (note,) = [note for note in found.notes if "vendor" in note]
    assert note.startswith("vendor: rows, not these groups, count as independent")


def test_the_level_is_kept_beside_vendors_that_differ() -> None:
    """40 tables without a site effect, vendors of sd 1 crossing sites unevenly; 2 rejections of 40 are expected.

    Of Binomial(40, 0.05) more than 7 come with probability 0.001. Vendors left in the features reject nearly always.
    """
    rejected = {"Kruskal-Wallis": 0, "energy distance": 0, "ANOVA": 0}
    for seed in range(40):
        frame = table(100 + seed, vendor_sd=1.0)
        found = diagnose(
            frame, formula="~ age + (1 | vendor)", batch="site", id="id", features=["f0", "f1"], permutations=39
        ).overall.set_index("measure")["p"]
        for measure in rejected:
            rejected[measure] += found[measure] <= 0.05
    assert max(rejected.values()) <= 7, rejected


def test_a_random_effect_that_is_constant_within_sites_changes_no_test() -> None:
    """Sites hold what countries add, so its variance is zero, and all tests are those of ~ age."""
    frame = table()
    plain, beside = (
        pcg.diagnose(frame, formula=formula, batch="site", id="id", features=FEATURES, permutations=19).table
        for formula in ("~ age", "~ age + (1 | country)")
    )
    assert plain["p"].notna().sum() == beside["p"].notna().sum() > 0
    keys = ["aspect", "measure", "state", "feature", "site", "covariate"]
    pd.testing.assert_frame_equal(plain[keys], beside[keys])
    # Two ways to one solution, least squares and penalised ones.
    np.testing.assert_allclose(beside["value"], plain["value"], rtol=1e-8)
    np.testing.assert_allclose(beside["p"], plain["p"], rtol=1e-6)


def test_what_has_no_p_value_is_counted_and_named() -> None:
    frame = table().assign(f2=1.0)
    found = pcg.diagnose(frame, formula="~ age", batch="site", id="id", features=FEATURES, permutations=19)
    rows = found.summary[found.summary["quantity"] == "features not tested"]
    assert set(rows["aspect"]) == {"location", "scale", "association"} and (rows["before"] == 1).all()
    assert "no variance beyond rounding, not tested: f2" in found.notes
    whole = pcg.diagnose(table(), formula="~ age", batch="site", id="id", features=FEATURES, permutations=19)
    assert "features not tested" not in set(whole.summary["quantity"])
