"""Labels that look alike, numbers written as text: said or refused, never quietly taken for something else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.study import FEATURES, study

import pycombat_gam as pcg
from pycombat_gam.errors import DataError, DesignError
from pycombat_gam.mean.additive import AdditiveMean


def fit(table: pd.DataFrame, formula: str = "~ age", **options: object) -> pcg.ComBat:
    return pcg.ComBat(formula, batch="site", features=FEATURES, **options).fit(table)  # type: ignore[arg-type]


def test_sites_spelled_alike_are_pointed_out() -> None:
    table = study()
    table.loc[:2, "site"] = "lyon "
    with pytest.warns(pcg.PcgWarning, match=r"batches are spelled alike: 'Lyon' and 'lyon '; is each pair one site\?"):
        model = fit(table)
    assert "spelled alike" in str(model.summary())


def test_many_sites_of_one_subject_are_counted_not_listed_one_by_one() -> None:
    lonely = pd.concat([study(), study(1).iloc[:9].assign(site=[f"clinic {i}" for i in range(9)])], ignore_index=True)
    with pytest.warns(pcg.PcgWarning, match=r"9 batches have one subject \(clinic 0, .* and 1 more\)") as caught:
        fit(lonely)
    assert len(str(caught[0].message)) < 300


@pytest.mark.parametrize("codes", [["01", "02"], ["1.5", "3.0"], ["1,5", "3,0"], ["2019", "2020"]])
def test_a_few_numbers_as_text_are_codes(codes: list[str]) -> None:
    table = study()
    table["scan"] = np.resize(codes, len(table))
    assert list(fit(table, "~ scan").estimates.coefficients.index) == [f"scan{codes[1]}"]


def test_many_numbers_as_text_are_refused() -> None:
    table = study()
    with pytest.raises(DataError, match=r"'age' holds numbers as text .*make it numeric, or write factor\(age\)"):
        fit(table.assign(age=table["age"].astype(str)))
    with pytest.raises(DataError, match="'age' holds numbers with decimal commas"):
        fit(table.assign(age=table["age"].astype(str).str.replace(".", ",")))


def test_a_feature_with_decimal_commas_is_not_left_out_quietly() -> None:
    table = study().assign(width=[f"{x:.3f}".replace(".", ",") for x in study()["area"]])
    with pytest.raises(DataError, match="'width' holds numbers with decimal commas"):
        pcg.ComBat("~ age + sex + dx", batch="site", id="subject").fit(table)


def test_a_term_is_named_once_not_column_by_column() -> None:
    table = study().assign(wave=lambda t: t["site"].map({"Lyon": "a", "Oslo": "b", "Turin": "c"}))
    with pytest.raises(DesignError) as caught:
        fit(table, "~ age + wave")
    assert str(caught.value).count("wave") == 1
    assert "'wave' is confounded with batch" in str(caught.value)
    with pytest.raises(DesignError, match="'twice' is collinear: a combination of 'age' and the batches"):
        fit(table.assign(twice=2 * table["age"] + 1), "~ age + twice")


def test_the_mask_is_named_where_it_leaves_too_little() -> None:
    table = study()
    with pytest.raises(DesignError, match=r"on the \d+ rows that fit_mask chose: dx has only one level"):
        pcg.ComBat("~ dx", batch="site", features=FEATURES).fit(table, fit_mask=(table["dx"] == "HC").to_numpy())


def test_the_summary_says_how_many_rows_the_mask_chose() -> None:
    table = study()
    mask = np.arange(len(table)) % 5 > 0
    model = pcg.ComBat("~ age", batch="site", features=FEATURES).fit(table, fit_mask=mask)
    assert f"{mask.sum()} rows of 21 (fit_mask)" in str(model.summary())


def test_a_hostile_note_does_not_drive_the_terminal() -> None:
    table = study().assign(site=lambda t: t["site"].replace("Oslo", "Os\x1b[2Jlo"))
    assert "\x1b" not in str(fit(table).summary())


def test_a_categorical_of_numbers_is_a_factor_however_many() -> None:
    table = pd.concat([study(k) for k in range(6)], ignore_index=True)
    table["scan"] = pd.Categorical(np.resize([str(k) for k in range(14)], len(table)))
    assert len(fit(table, "~ scan").estimates.coefficients) == 13
    fit(table.assign(group=np.resize(["1", "2", "3", "3b", "unknown"], len(table))), "~ group")


@pytest.mark.parametrize("column", ["site", "sex"])
def test_blank_cells_are_missing(column: str) -> None:
    table = study()
    table.loc[4, column] = " "
    with pytest.raises(DataError, match=f"{column}.* (missing values in 1 row|blank cells)"):
        fit(table, "~ sex")


def test_a_new_site_spelled_like_a_known_one_is_pointed_out() -> None:
    model = fit(study(), on_unseen="estimate")
    with pytest.warns(pcg.PcgWarning, match="spelled like 'Oslo': is it one site"):
        model.transform(study().query("site == 'Oslo'").assign(site="oslo"))


def test_what_cannot_be_loaded_is_not_saved() -> None:
    model = fit(study())
    model.set_params(missing="bogus")
    with pytest.raises(pcg.PcgError, match="missing='bogus': allowed are"):
        model.to_container()


def test_another_mean_model_asks_for_another_fit() -> None:
    model = fit(study()).set_params(mean_model=AdditiveMean("ML"))
    with pytest.raises(pcg.PcgError, match="mean_model changed after the fit"):
        model.summary()
