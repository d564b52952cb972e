"""The tests of terms in `crosscheck`: ours are those of `ComBat.test`, R's those of lm, gls, mgcv and lme4."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.r_alone import rerun

import pycombat_gam as pcg
from r_bridge import Agreement, crosscheck

pytestmark = pytest.mark.live_r
COLUMNS = ("estimate", "se", "statistic", "residual df", "p")
IN_TABLE = dict(zip(COLUMNS, ("estimate", "se", "statistic", "df_residual", "p"), strict=True))
FEW = ["lh_insula_thickness", "rh_insula_thickness", "lh_lingual_thickness"]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Three features, one with missing cells; a factor of three levels."""
    table = pcg.datasets.load_multisite()[["subject", "site", "age", "sex", "dx", "icv", *FEW]]
    rng = np.random.default_rng(4)
    table["scanner"] = rng.choice(["a", "b", "c"], len(table))
    table[FEW[2]] = table[FEW[2]].mask(rng.uniform(size=len(table)) < 0.1)
    return table


def checked(formula: str, table: pd.DataFrame, **options: object) -> Agreement:
    options = {"batch": "site", "features": FEW, "missing": "omit", **options}
    return crosscheck(formula, table, **options)  # type: ignore[arg-type]


def rows_of(agreement: Agreement, name: str) -> dict[str, np.ndarray]:
    """Our values by column, terms × features."""
    return {
        column: row.quantity.values
        for row in agreement.rows
        for column in COLUMNS
        if row.quantity.name == f"{name} {column}"
    }


@pytest.mark.parametrize("formula", ["~ poly(icv, 2) + age * dx + scanner", "~ s(age, k=5) + scanner + dx"])
def test_ours_are_those_of_test(formula: str, table: pd.DataFrame) -> None:
    agreement = checked(formula, table, engines=["mgcv"] if "s(" in formula else ["stats", "nlme"])
    assert agreement.verdict == "agrees", str(agreement)
    effects = pcg.ComBat(formula, batch="site", features=FEW, missing="omit").fit(table).test(
        weights=None, variance="pooled"
    )  # fmt: skip
    terms = agreement.sent["terms"]
    assert sorted(terms) == sorted(effects.table["term"].unique())
    by_cell = effects.table.set_index(["term", "feature"])
    ours = rows_of(agreement, "test")
    assert set(ours) == set(COLUMNS)
    for column, values in ours.items():
        wide = by_cell[IN_TABLE[column]].unstack().loc[terms, FEW].to_numpy(dtype=float)
        np.testing.assert_allclose(values, wide, rtol=1e-12)
    found = agreement.table.set_index(["engine", "quantity"])
    where = {place for place in found["site"] if place in terms}
    assert where, "the page names the term of the largest difference"
    if "s(" not in formula:
        weighted = rows_of(agreement, "weighted test")
        assert set(weighted) == set(COLUMNS)
        # Other weights, other estimates; both are compared.
        assert np.nanmax(np.abs(weighted["estimate"] / ours["estimate"] - 1)) > 1e-3


def test_each_changed_number_is_found_by_r_alone(table: pd.DataFrame, tmp_path: Path) -> None:
    agreement = checked("~ age + scanner + sex", table, engines=["stats", "nlme"])
    agreement.write(tmp_path / "page.html")
    folder = tmp_path / "page"
    assert rerun(folder) == (0, "agrees")
    recorded = pd.read_csv(folder / "agreement.csv")
    assert recorded["quantity"].tolist() == [f"{which} {c}" for which in ("test", "weighted test") for c in COLUMNS]
    for half in (recorded[::2], recorded[1::2]):
        kept = {folder / name: (folder / name).read_text() for name in half["file"]}
        for _, row in half.iterrows():
            numbers = pd.read_csv(folder / row["file"]).astype(float)
            unit = pd.read_csv(folder / row["unit_file"]).to_numpy()
            # The last term and feature.
            numbers.iloc[2, 2] += 3 * row["tolerance"] * np.broadcast_to(unit, numbers.shape)[2, 2]
            numbers.to_csv(folder / row["file"], index=False)
        named = ", ".join(half["engine"] + " " + half["quantity"])
        assert rerun(folder) == (1, f"differs in {named}")
        for place, text in kept.items():
            place.write_text(text)


@pytest.mark.filterwarnings("ignore:.*:pycombat_gam.errors.PcgWarning")
def test_what_r_has_no_test_of_is_not_compared(table: pd.DataFrame) -> None:
    """Nothing to test; an offset for gls; random effects by ML, or beside smooths."""
    nothing = checked("~ 1", table)
    assert nothing.agrees and nothing.left_out["stats"] == nothing.left_out["nlme"] == "has no term to test"
    offset = checked("~ sex + offset(age / 100)", table)
    assert offset.agrees and offset.left_out["nlme"] == "has no offset()"
    assert "test p" in set(offset.table["quantity"])
    people = table.assign(person=np.random.default_rng(9).integers(0, 120, len(table)))
    for formula, options in [("~ age + (1 | person)", {"smoothing": "ML"}), ("~ s(age, k=5) + (1 | person)", {})]:
        agreement = checked(formula, people, **options)
        assert agreement.agrees, str(agreement)
        assert not agreement.table["quantity"].str.contains("test").any()


@pytest.mark.filterwarnings("ignore:.*:pycombat_gam.errors.PcgWarning")
def test_random_effects_have_kenward_and_rogers_degrees_of_freedom(table: pd.DataFrame, tmp_path: Path) -> None:
    people = table.assign(person=np.random.default_rng(9).integers(0, 120, len(table)))
    agreement = checked("~ age + scanner + (1 | person)", people)
    assert agreement.verdict == "agrees", str(agreement)
    found = agreement.table.set_index(["engine", "quantity"])
    # Both searches end at a gradient of 1e-6 of the score.
    assert found.loc[("lme4", "test residual df"), "largest"] < 1e-4
    assert found.loc[("lme4", "test statistic"), "largest"] < 1e-4
    agreement.write(tmp_path / "page.html")
    assert rerun(tmp_path / "page") == (0, "agrees")
