"""`crosscheck` beside what neuroCombat and ComBatFamily really returned: what differs is recognised, and nothing else.

The packages are not installed: stand-ins give back the stored answers. `agreement.R` runs again on the same answers.
"""

from __future__ import annotations

import re
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.r_cases import key, model_for, table_for
from helpers.reference import Case, cases, needs_reference
from helpers.replay import NOTE, answer, comfam_fit, installed, neurocombat_fit

import pycombat_gam as pcg
from r_bridge import Agreement, crosscheck

pytestmark = [needs_reference, pytest.mark.live_r]
CONSTANT = "constant within a site"
DEFECT = "more than its rank"
REFERENCE = "ComBatFamily sets delta star of the reference batch"
EARLY = "default tolerances"


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("replay")
    with installed(folder):
        yield folder


def checked(case: Case, replay: Path, model: pcg.ComBat, table: pd.DataFrame) -> Agreement:
    engine = "neuroCombat" if case.set == "neurocombat" else "ComBatFamily"
    fit = neurocombat_fit if case.set == "neurocombat" else comfam_fit
    answer(replay, fit(case, case.features))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        return crosscheck(model, table, engines=[engine])


def rerun(agreement: Agreement, replay: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """What R alone says, of the same answers."""
    agreement.write(folder / "page.html")
    done = subprocess.run(
        ["Rscript", str(folder / "page" / "agreement.R")],
        capture_output=True,
        text=True,
        check=False,
        env={
            "PATH": "/usr/bin:/bin:/usr/local/bin",
            "LC_ALL": "C.UTF-8",
            "R_LIBS": str(replay / "library"),
            "PCG_ANSWER": str(replay / "answer.rds"),
        },
    )
    assert NOTE not in done.stdout + done.stderr
    return done


def explained(agreement: Agreement) -> dict[str, str]:
    """The explanation of each quantity that has one."""
    rows = agreement.table
    return dict(zip(rows["quantity"], rows["reason"].where(rows["verdict"] == "explained", ""), strict=True))


FAMILY = {
    "combat_s5_eb_cov": "",
    "combat_s5_noeb_ref_cov": REFERENCE,
    "edge_constant_within_site": CONSTANT,
    "edge_constant_within_site_noeb": CONSTANT,
    "edge_constant_feature": "no residual variance",
    "gam_s5_fixed_df": "",
    "gam_s20_age_GCV": EARLY,
    "gam_s5_ML": "",
    "gam_s5_age_REML": DEFECT,
    "gam_s5_age_cr_k5_REML": DEFECT,
    "gam_s5_age_ps_REML": DEFECT,
    "gam_s5_by_sex_REML": DEFECT,
    "gam_s20_te_REML": DEFECT,
    "gam_s20_volumes_REML": DEFECT,
    "gam_s5_age_eb_ref": REFERENCE,
}


def family_model(case: Case) -> pcg.ComBat:
    call = case.about["call"]
    formula = re.search(r"formula = y (~(?:\([^()]*\)|[^,()])*)", call)
    reference, method = re.search(r'ref\.batch="(\w+)"', call), re.search(r'method="(\w+)"', call)
    return pcg.ComBat(
        formula[1].strip() if formula else "~ 1",
        batch=case.batch,
        features=case.features,
        ref_batch=reference and reference[1],
        eb="eb=FALSE" not in call,
        smoothing=method[1] if method else "GCV",
    )


def family_table(case: Case) -> pd.DataFrame:
    table, note = case.input(), case.about.get("note") or ""
    third = case.features[2]
    if "feature 3" in note:
        table[third] = 2.5 if "inside" not in note else table[third].where(table[case.batch] != "CMU", 2.5)
    return table


@pytest.mark.parametrize("case", [c for c in cases("combatfamily") if c.name in FAMILY], ids=key)
def test_combatfamily(case: Case, replay: Path, tmp_path: Path) -> None:
    agreement = checked(case, replay, family_model(case), family_table(case))
    assert agreement.agrees, str(agreement)
    expected, found = FAMILY[case.name], explained(agreement)
    assert (expected in " ".join(found.values())) and bool(expected) == any(found.values()), found
    if expected == DEFECT:
        # Everything else follows from the mean.
        assert all(DEFECT in text for text in found.values() if text)
        assert DEFECT in found["harmonized"]
    done = rerun(agreement, replay, tmp_path)
    assert done.returncode == 0 and f"VERDICT: {agreement.verdict}" in done.stdout, done.stdout + done.stderr


NEURO = {
    "s5_par_eb_ref_mod": "",
    "edge_constant_within_site": CONSTANT,
    "edge_constant_within_site_mod": CONSTANT,
    "edge_constant_within_site_noeb": CONSTANT,
    "edge_constant_within_site_nonpar": CONSTANT,
    "edge_na_random_mod": "",
}


@pytest.mark.parametrize("case", [c for c in cases("neurocombat") if c.name in NEURO], ids=key)
def test_neurocombat(case: Case, replay: Path, tmp_path: Path) -> None:
    agreement = checked(case, replay, model_for(case), table_for(case))
    assert agreement.agrees, str(agreement)
    found = explained(agreement)
    assert NEURO[case.name] in " ".join(found.values()) and bool(NEURO[case.name]) == any(found.values()), found
    done = rerun(agreement, replay, tmp_path)
    assert done.returncode == 0 and f"VERDICT: {agreement.verdict}" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "output", "quantity"),
    [
        ("gam_s5_age_REML", "harmonized", "harmonized"),
        ("gam_s5_age_REML", "delta.hat", "delta hat"),
        ("edge_constant_within_site", "gamma.star", "gamma star"),
        ("combat_s5_noeb_ref_cov", "delta.star", "delta star"),
    ],
)
def test_a_known_difference_does_not_hide_another(
    name: str, output: str, quantity: str, replay: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one of R's numbers off by a thousandth, the quantity differs, whatever rule is at work."""
    case = next(c for c in cases("combatfamily") if c.name == name)
    stored = Case.output

    def off(self: Case, which: str) -> pd.DataFrame:
        table = stored(self, which)
        if which == output:
            table = table.copy()
            table[case.features[4]] += np.where(np.arange(len(table)) == 2, 1e-3, 0.0)
        return table

    monkeypatch.setattr(Case, "output", off)
    agreement = checked(case, replay, family_model(case), family_table(case))
    assert agreement.verdict == f"differs in ComBatFamily {quantity}", str(agreement)
