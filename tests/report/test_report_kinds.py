"""Every kind of model and table has its report: what it lacks is said, not left blank."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.report_cases import Page, markdown_tables, packaged

import pycombat_gam as pcg
from pycombat_gam.diagnose import Diagnosis
from pycombat_gam.report import Report, report

FEATURES = "_thickness$"
FIGURES = [
    *("figure-feature", "figure-components", "figure-curve", "figure-tests-1"),
    *("figure-shrinkage", "figure-prior", "figure-effects"),
]


def study(visits: int = 1) -> pd.DataFrame:
    return pcg.datasets.simulate_multisite(sites=3, subjects=90, features=6, visits=visits, seed=5).table


def quick(model: Any, table: pd.DataFrame, **options: Any) -> Report:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        model.fit(table, **({"progress": False} if isinstance(model, pcg.FlowSCM) else {}))
        after = model.transform(table, **options)
        diagnosis = pcg.diagnose(table, after, model=model, permutations=19, held_out=False)
        return report(model, table, after, diagnosis=diagnosis)


def figures(found: Report) -> list[str]:
    return [part.id for section in found.sections for part in section.parts if part.kind == "figure"]


COMBATS: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "nothing kept": (
        {"formula": "~ 1"},
        [name for name in FIGURES if name not in ("figure-curve", "figure-tests-1")],
        "The formula names no covariate",
    ),
    "no numeric covariate": (
        {"formula": "~ sex"}, [name for name in FIGURES if name != "figure-curve"], "effects of sex were modelled"
    ),
    "no eb": (
        {"formula": "~ age", "eb": False},
        [name for name in FIGURES if name not in ("figure-shrinkage", "figure-prior")],
        "without empirical Bayes",
    ),
    "mean only": ({"formula": "~ age", "mean_only": True}, FIGURES, "Only the location"),
    "reference": ({"formula": "~ age", "ref_batch": "Bergen"}, FIGURES, "reference site 'Bergen'"),
    "features out": ({"formula": "~ age", "output": "features"}, FIGURES, "shrunk by empirical Bayes"),
}  # fmt: skip


@pytest.mark.parametrize("name", COMBATS)
def test_combat(name: str) -> None:
    options, drawn, words = COMBATS[name]
    found = quick(pcg.ComBat(batch="site", id="subject", features=FEATURES, **options), study())
    assert figures(found) == drawn
    text = found.to_html()
    assert words in " ".join(Page(text).texts)
    assert len(markdown_tables(found.to_markdown())) == len(Page(text).tables)


def test_missing_cells() -> None:
    table = study()
    table.loc[3, table.columns[table.columns.str.contains(FEATURES)][0]] = np.nan
    found = quick(pcg.ComBat("~ age", batch="site", id="subject", features=FEATURES, missing="omit"), table)
    assert "of the 5 features without missing cells" in found.to_markdown()
    assert "1 feature cell was missing" in found.to_markdown()
    assert len(found.tables["audit-missing"])


def test_traveling_subjects_are_drawn() -> None:
    table = study(visits=2)
    first = table["visit"] == 1
    table["site"] = np.where(first, table["site"], np.roll(table["site"].unique(), 1)[table["site"].factorize()[0]])
    found = quick(pcg.ComBat("~ age", batch="site", id=["subject", "visit"], features=FEATURES), table)
    assert "figure-travelers" in figures(found)


@pytest.mark.parametrize("travelling", [False, True], ids=["at one site", "travelling"])
@pytest.mark.parametrize("formula", ["~ age + (1 | subject)", "~ (1 | subject)"])
def test_random_effects(formula: str, travelling: bool) -> None:
    """Subjects seen at several sites are no independent units of any: most tests are left out."""
    table = study(visits=2)
    if travelling:
        first = table["visit"] == 1
        table["site"] = np.where(first, table["site"], np.roll(table["site"].unique(), 1)[table["site"].factorize()[0]])
    found = quick(pcg.ComBat(formula, batch="site", id=["subject", "visit"], features=FEATURES), table)
    text = " ".join(Page(found.to_html()).texts)
    leads = [part.lead for part in found.verdict]
    assert leads[0].startswith("Before harmonization the sites differed, by mean")
    assert "after harmonization" in leads[1].lower()
    assert "effects of subject were modelled" in text
    assert "andom effects of subject were modelled" in text
    assert ("The joint distribution" in found.verdict[0].text) == (not travelling)
    assert ("tests-site-prediction" in found.tables) == (not travelling)
    if "age" in formula:
        assert "finds age in 6 of 6 features" in leads[2]
    else:
        assert leads[2] == "Random effects of subject were modelled and kept, no fixed covariate."
        assert "No covariate was kept" not in text
        assert "figure-curve" not in figures(found)


@pytest.mark.parametrize("to", [None, "Bergen"])
def test_flows_say_where_rows_were_taken_to(to: str | None) -> None:
    training = {"max_epochs": 2}
    variant = {"variant": "residual"}
    model = pcg.FlowSCM(
        "~ age + sex", batch="site", id="subject", features=FEATURES, training=training, flow_options=variant
    )
    found = quick(model, study(), **({} if to is None else {"to": to}))
    assert figures(found) == ["figure-feature", "figure-components", "figure-fan", "figure-training"]
    text = " ".join(Page(found.to_html()).texts)
    assert ("would have measured at site 'Bergen'" in text) == (to is not None)
    assert ("averages of what each row" in text) == (to is None)
    assert "is not this model's transform" not in text
    assert (", to='Bergen')" in found.sections[-1].parts[0].text) == (to is not None)


@pytest.mark.parametrize(
    ("features", "missing", "why"),
    [
        (["f0", "flat"], False, "1 feature with variance within sites"),
        (["f0"], False, "1 feature without missing cells"),
        (["f0"], True, "every feature has missing cells"),
    ],
)
def test_a_report_comes_without_the_picture_of_components(features: list[str], missing: bool, why: str) -> None:
    """As with one feature: the report says why the picture is not there, and lets no warning through."""
    rng = np.random.default_rng(5)
    table = pd.DataFrame({"site": np.repeat(list("abc"), 20), "age": rng.uniform(20, 70, 60), "flat": 1.0})
    table["f0"] = rng.normal(size=60) + 0.02 * table["age"]
    if missing:
        table.loc[3, "f0"] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", pcg.PcgWarning)
        model = pcg.ComBat("~ age", "site", features=features, eb=False, missing="omit" if missing else "error")
        model.fit(table)
        after = model.transform(table)
        diagnosis = pcg.diagnose(table, after, model=model, permutations=19, held_out=False)
        found = report(model, table, after, diagnosis=diagnosis)
    text = found.to_markdown()
    assert f"**Principal components.** Not drawn: {why}" in text
    assert "figure-components" not in found.to_html() and "figure-feature" in found.to_html()


def test_untested_is_said_in_tables_and_methods() -> None:
    """Age without a p-value is no age without an association: table, verdict and methods say that it was not tested."""
    model, table, _, diagnosis = packaged()
    rows = diagnosis.table
    none = rows.assign(
        **{name: rows[name].where(rows["aspect"] != "association") for name in ("p", "p_adjusted", "value")}
    )
    found = report(model, table, diagnosis=Diagnosis(none, 0.05, 99, 1, ()))
    text = found.to_markdown()
    assert "Associations with sex, dx and s(age) were not tested; the notes say why." in text.replace("\\", "")
    assert "partial R² within sites" not in text
    assert "No association with" not in text
    shown = found.tables["tests-association"]
    assert shown.shape == (32, 1 + 3 * 2 * 2) and shown.iloc[:, 1:].isna().all(axis=None)
    assert "– means: not tested; the notes say why." in text
