"""Every function that a formula may call, through every bridge to R: it agrees there, or is refused by name."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
import r_bridge
from pycombat_gam.formula import parse_formula
from pycombat_gam.formula.functions import FUNCTIONS, SMOOTHS
from r_bridge.errors import RWarning
from r_bridge.functions import NOT_IN_R

pytestmark = pytest.mark.live_r

EXAMPLES: dict[str, tuple[str, ...]] = {
    **{name: (f"{name}(icv/1500)",) for name in ("exp", "expm1", "sqrt", "abs", "sin", "cos", "tan")},
    **{name: (f"{name}(icv)",) for name in ("log", "log2", "log10", "log1p")},
    **{f"np.{name}": (f"np.{name}(icv/1500)",) for name in ("log", "log2", "log10", "log1p", "exp", "sqrt", "abs")},
    **{name: (f"{name}(age/9)",) for name in ("floor", "ceiling", "trunc")},
    **{name: (f"I(age - {name}(age))", f"{name}(icv):I(age/{name}(age))") for name in ("mean", "median", "min", "max")},
    "sd": ("I(age/sd(age))",),
    "var": ("I(age/var(age, na.rm = TRUE))",),
    "sign": ("sign(age - 40)",),
    "round": ("round(icv/7, 1)", "round(age, -1)"),
    "pmin": ("pmin(age, 40)", "pmin(age, dose*10)"),
    "pmax": ("pmax(age, 30, dose)",),
    "I": ("I(age^2)", "I(sex == 'M' | age > 40)", "I(dx %in% c('adhd', 'TC'))", "I(age*dose)", "I(text == 2)"),
    "ifelse": ("ifelse(age > 40, age - 40, 0)", "ifelse(age > 40, 'old', 'Young')"),
    "as.numeric": ("as.numeric(text)", "as.numeric(smoker)", "as.numeric(dose)"),
    "as.double": ("as.double(text)",),
    "as.integer": ("as.integer(age/5)", "as.integer(text)"),
    "as.character": ("as.character(dose)", "as.character(dx)", "as.character(dx):age"),
    "factor": ("factor(dose)", "factor(text)", "factor(dose, levels = c(2.5, 0.5, 10), labels = c('c', 'a', 'b'))"),
    "as.factor": ("as.factor(dose)*sex",),
    "ordered": ("ordered(dose)", "ordered(dx, levels = c('TC', 'adhd', 'Autism'))"),
    "as.ordered": ("as.ordered(dose)",),
    "relevel": ("relevel(dx, ref = 'TC')", "relevel(factor(dose), ref = 2)"),
    "interaction": ("interaction(sex, dx)", "interaction(dose, smoker, sep = ':', lex.order = TRUE)"),
    "cut": ("cut(age, c(-Inf, 30, 45, Inf))", "cut(age, 3)", "cut(age, c(0, 40, 99), labels = FALSE)"),
    "C": (
        "C(dx, contr.sum)",
        "C(dx, Helmert)",
        "C(dose, contr.treatment, base = 2)",
        "C(dx, Treatment('TC'))",
        "C(dose, Treatment(2.5))",
        "C(dx, 'Poly'):age",
    ),
    "poly": ("poly(age, 2)", "stats::poly(age, 3, raw = TRUE)"),
    "scale": ("scale(icv)", "scale(icv, center = 1500, scale = FALSE)"),
    "center": ("center(age)", "I(center(age)^2)", "center(x = age):sex"),
    "bs": ("bs(age, df = 5)", "splines::bs(age, knots = 40, Boundary.knots = c(0, 99))"),
    "ns": ("ns(age, df = 3)", "splines::ns(age, df = 2)*sex", "ns(np.log(age), 3)"),
    "cr": ("cr(age, df = 3)", "I(cr(age, df = 1))"),
}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(11)
    n = 120
    made = pd.DataFrame(
        {
            "site": np.repeat(["A", "B", "C"], n // 3),
            "age": rng.uniform(20, 60, n),
            "icv": rng.normal(1500, 120, n),
            "sex": rng.choice(["F", "M"], n),
            "dx": rng.choice(["Autism", "TC", "adhd"], n),
            "dose": rng.choice([0.5, 2.5, 10.0], n),
            "smoker": rng.choice([True, False], n),
            "text": rng.choice(["01", "2", "10.5"], n),
            "family": rng.choice(list("pqrstuvw"), n),
        }
    )
    for k in range(3):
        made[f"f{k}"] = rng.normal(3, 1, n) + made["age"] / 40 * (made["sex"] == "M") + (made["site"] == "B")
    return made


FEATURES = ["f0", "f1", "f2"]
CASES = [(name, text) for name in FUNCTIONS for text in EXAMPLES.get(name, ())]


def test_no_function_is_forgotten() -> None:
    assert set(EXAMPLES) == set(FUNCTIONS)
    for name, text in CASES:
        assert f"{name}(" in text


@pytest.mark.parametrize(("name", "text"), [case for case in CASES if case[0] not in NOT_IN_R])
def test_r_runs_it_and_agrees(name: str, text: str, table: pd.DataFrame) -> None:
    arguments = {"batch": "site", "features": FEATURES, "id": "family"}
    columns = set(parse_formula(f"~ {text}").variables)
    table = table[[*columns, "site", "family", *FEATURES]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RWarning)  # "boundary (singular) fit" of lmer
        agreement = r_bridge.crosscheck(f"~ {text}", table, engines=["mgcv", "sva"], **{**arguments, "id": None})
        assert agreement.verdict == "agrees", str(agreement)
        assert {"coefficients", "harmonized"} <= set(agreement.table["quantity"])
        ours = pcg.gam(f"f0 ~ {text} + s(family, bs = 're')", table)
        theirs = r_bridge.gam(f"f0 ~ {text} + s(family, bs = 're')", table, tight=True)
        mixed = r_bridge.lmer(f"f0 ~ {text} + (1 | family)", table)
        by_sva = r_bridge.sva_combat(table, f"~ {text}", "site", features=FEATURES)
    assert list(theirs.coef.index) == list(ours.coef.index)
    # In units of what a column moves: the smallest columns have coefficients of 1e4.
    size = ours.predict(type="lpmatrix").abs().max()
    unit = np.sqrt(ours.scale)
    assert ((theirs.coef - ours.coef).abs() * size).max() < 1e-5 * unit * max(
        1.0, np.linalg.cond(ours.vcov) ** 0.5 / 1e4
    )
    assert (theirs.fitted - ours.fitted).abs().max() < 1e-6 * unit
    assert list(theirs.predict(type="terms").columns) == list(ours.predict(type="terms").columns)
    parametric = [column for column in ours.coef.index if not column.startswith("s(family)")]
    assert list(mixed.coef.index) == parametric
    fitted = pcg.ComBat(f"~ {text}", "site", features=FEATURES).fit(table)
    assert list(by_sva.estimates.coefficients.index) == list(fitted.estimates.coefficients.index) == parametric[1:]


@pytest.mark.parametrize(("name", "text"), [case for case in CASES if case[0] in NOT_IN_R])
def test_what_r_has_not_is_refused_by_name(
    name: str, text: str, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_r(*arguments: object, **more: object) -> None:
        raise AssertionError("R was asked")

    monkeypatch.setattr("r_bridge.session.run", no_r)
    monkeypatch.setattr("r_bridge.session.call", no_r)
    monkeypatch.setattr("r_bridge.session.require", no_r)
    asked = {
        "crosscheck": lambda: r_bridge.crosscheck(f"~ {text}", table, batch="site", features=FEATURES),
        "gam": lambda: r_bridge.gam(f"f0 ~ {text}", table),
        "lmer": lambda: r_bridge.lmer(f"f0 ~ {text} + (1 | family)", table),
        "sva": lambda: r_bridge.sva_combat(table, f"~ {text}", "site", features=FEATURES),
        "neuroCombat": lambda: r_bridge.neurocombat(table, f"~ {text}", "site", features=FEATURES),
        "ComBatFamily": lambda: r_bridge.comfam(table, f"~ {text}", "site", features=FEATURES),
        "longCombat": lambda: r_bridge.longcombat(
            table, f"~ {text} + (1 | family)", "site", id="family", time="dose", features=FEATURES
        ),
        "MgcvMean": lambda: pcg.ComBat(f"~ {text}", "site", features=FEATURES, mean_model=r_bridge.MgcvMean()).fit(
            table
        ),
    }
    for call in asked.values():
        with pytest.raises(pcg.PcgError, match=rf"R has no function for {name}\("):
            call()


@pytest.mark.parametrize("kind", SMOOTHS)
def test_translated_inside_smooths(kind: str, table: pd.DataFrame) -> None:
    variables = "np.log(age)" if kind == "s" else "np.log(age), center(icv)"
    formula = f"f0 ~ {kind}({variables}, k = 4) + ns(icv, df = 2):sex"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RWarning)
        theirs = r_bridge.gam(formula, table, tight=True)
    ours = pcg.gam(formula, table)
    assert list(theirs.coef.index) == list(ours.coef.index)
    assert list(theirs.summary().smooth.index) == list(ours.summary().smooth.index)
    # The search for smoothing parameters; 1e-8 measured.
    assert (theirs.fitted - ours.fitted).abs().max() < 1e-6 * np.sqrt(ours.scale)


def test_text_that_as_numeric_reads_is_one_thing_in_r(table: pd.DataFrame) -> None:
    with pytest.raises(pcg.PcgError, match=r"column .text. is text and stands both in as\.numeric"):
        r_bridge.gam("f0 ~ as.numeric(text) + factor(text)", table)
