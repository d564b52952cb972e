"""Random effects beside lme4, longCombat and ComBatFamily's `long_combat`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import standins
from helpers.r_alone import rerun
from helpers.reference import cases, needs_reference
from helpers.replay import answer, comfam_fit
from helpers.replay import installed as replaying

import pycombat_gam as pcg
from r_bridge import Agreement, crosscheck

pytestmark = pytest.mark.live_r


@pytest.fixture(scope="module")
def visits() -> pd.DataFrame:
    """Four features, sixty subjects (whole numbers) with three visits each, at four sites."""
    rng = np.random.default_rng(2)
    subject = np.repeat(np.arange(60), 3)
    site = rng.permutation(np.repeat(list("ABCD"), 45))
    table = pd.DataFrame(
        {"subject": subject, "visit": np.tile([0, 1, 2], 60), "site": site, "age": rng.normal(size=180)}
    )
    shift = {"A": 0.0, "B": 0.5, "C": -0.4, "D": 1.0}
    for j in range(4):
        own = rng.normal(size=60)[subject] + rng.normal(0, 0.5, 60)[subject] * table["visit"]
        noise = rng.normal(size=180) * table["site"].map({"A": 1, "B": 0.7, "C": 1.3, "D": 1})
        table[f"f{j}"] = 2 + 0.3 * table["age"] + own + table["site"].map(shift) + noise
    return table


def checked(formula: str, table: pd.DataFrame, **options: object) -> Agreement:
    return crosscheck(formula, table, batch="site", id=["subject", "visit"], features="^f", **options)  # type: ignore[arg-type]


def same_in_r_alone(agreement: Agreement, folder: Path, **env: str) -> None:
    agreement.write(folder / "page.html")
    assert rerun(folder / "page", **env) == (0, agreement.verdict)


@pytest.mark.filterwarnings("ignore:.*rows of one subject are dependent:pycombat_gam.errors.PcgWarning")
@pytest.mark.parametrize(
    ("formula", "options"),
    [
        ("~ age + (1|subject)", {}),
        ("~ age + visit + (1|subject) + (0 + visit|subject)", {"smoothing": "ML"}),
        ("~ age + (1|visit)", {"ref_batch": "B", "mean_only": True}),
        ("~ visit + (1 + visit||subject)", {}),
    ],
)
def test_lme4_fits_random_effects(
    formula: str, options: dict[str, object], visits: pd.DataFrame, tmp_path: Path
) -> None:
    agreement = checked(formula, visits, **options)
    assert agreement.verdict == "agrees", str(agreement)
    assert set(agreement.table["engine"]) == {"lme4"} and "engines=['mgcv']" in agreement.left_out["mgcv"]
    found = agreement.table.set_index("quantity")
    assert {"coefficients", "fitted", "log smoothing parameters", "score", "harmonized"} <= set(found.index)
    assert ("test residual df" in found.index) == (options.get("smoothing") != "ML")
    assert ("edf" in found.index) == (formula.count("visit|") == 0 or "(1|visit)" in formula)
    # Both searches end at a gradient of 1e-6 of the score: the same criterion, to the constants.
    assert found.loc["score", "largest"] < 1e-9
    same_in_r_alone(agreement, tmp_path)


def test_lme4_and_mgcv_say_the_same_where_both_are_asked(visits: pd.DataFrame) -> None:
    agreement = checked("~ age + (1|subject)", visits, engines=["lme4", "mgcv"])
    assert agreement.verdict == "agrees" and set(agreement.table["engine"]) == {"lme4", "mgcv"}
    with pytest.raises(pcg.PcgError, match="lme4 has no smooths"):
        checked("~ s(age) + (1|subject)", visits, engines=["lme4"])
    with pytest.raises(pcg.PcgError, match="lme4 is for models with random effects"):
        checked("~ age", visits, engines=["lme4"])


def test_lme4_with_missing_cells_and_constant_features(visits: pd.DataFrame) -> None:
    holes = np.random.default_rng(3).uniform(size=(180, 4)) < 0.05
    table = visits.assign(**{f"f{j}": visits[f"f{j}"].mask(holes[:, j]) for j in range(4)})
    agreement = checked("~ age + (1|subject)", table, missing="omit")
    assert agreement.verdict == "agrees", str(agreement)
    with pytest.warns(pcg.PcgWarning, match="constant"):
        agreement = checked("~ age + (1|subject)", visits.assign(f9=1.0))
    assert "lme4 leaves out 1 of 5 features (f9)" in " ".join(agreement.explanations)


@needs_reference
def test_longcombat_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """REML, its default, has another residual variance, which is named; MSR is ours. Real numbers in between."""
    case = next(case for case in cases("longcombat") if case.name == "abide_REML")
    table = case.input()
    monkeypatch.setattr(standins, "PACKAGES", {"longCombat": standins.LONGCOMBAT_AT_WORK})
    library = standins.build(tmp_path)
    with standins.installed(library):
        agreement = crosscheck(
            "~ age0 + sex + time + (1|subid)", table, batch="batch", id=["subid", "time"], features=case.features,
            engines=["longCombat"],
        )  # fmt: skip
    assert agreement.verdict == "agrees, or differs as explained", str(agreement)
    rows = {(row.engine, row.quantity.name): row for row in agreement.rows}
    assert {engine for engine, _ in rows} == {"longCombat (REML)", "longCombat (MSR)"}
    reml, msr = rows["longCombat (REML)", "harmonized"], rows["longCombat (MSR)", "harmonized"]
    assert reml.verdict == "explained" and "(rss + λb'b)/(n - p)" in reml.explanation
    # A third of the residual variance, on 60 subjects of three visits; MSR differs by the stop of the shrinkage alone.
    assert reml.largest > 0.05 > 1e-3 > msr.largest
    assert "REML" not in msr.explanation and rows["longCombat (MSR)", "gamma hat"].verdict == "agrees"
    # Our numbers under its rules are what the real package returned; 3e-8 measured, 1e-6 of lme4's default search.
    real = case.output("harmonized")[[f"{name}.combat" for name in case.features]].to_numpy(dtype=float)
    assert reml.variant is not None
    assert (np.abs(reml.variant.values - real) / reml.variant.unit).max() < 1e-6
    same_in_r_alone(agreement, tmp_path, R_LIBS=str(library))


@needs_reference
@pytest.mark.parametrize(
    ("name", "formula", "options"),
    [
        ("long_combat_lmer_noeb", "~ age0 + sex + time + (1|subid)", {"eb": False}),
        ("long_combat_lmer_ref", "~ age0 + sex + time + (1|subid)", {"ref_batch": "A"}),
    ],
)
def test_combatfamily_has_random_effects(name: str, formula: str, options: dict[str, object], tmp_path: Path) -> None:
    case = next(case for case in cases("combatfamily") if case.name == name)
    with replaying(tmp_path):
        answer(tmp_path, comfam_fit(case, case.features))
        agreement = crosscheck(
            formula, case.input(), batch="batch", id=["subid", "time"], features=case.features,
            engines=["ComBatFamily"], **options,
        )  # fmt: skip
    assert agreement.agrees, str(agreement)
    found = agreement.table.set_index("quantity")
    # Two searches, in units of the sd.
    assert found.loc["harmonized", "verdict"] == "agrees" and found.loc["harmonized", "largest"] < 1e-6
    assert found.loc["coefficients", "verdict"] == "agrees"
