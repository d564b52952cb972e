"""Every function that a formula may call, through every bridge to R: it agrees there, or is refused by name."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
import r_bridge
from pycombat_gam.design.design import Design
from pycombat_gam.formula import parse_formula
from pycombat_gam.formula.functions import FUNCTIONS, SMOOTHS
from r_bridge.errors import RWarning
from r_bridge.functions import NOT_IN_R, read_as_numbers

pytestmark = pytest.mark.live_r

EXAMPLES: dict[str, tuple[str, ...]] = {
    **{name: (f"{name}(icv/1500)",) for name in ("exp", "expm1", "sqrt", "abs", "sin", "cos", "tan")},
    **{name: (f"{name}(icv)",) for name in ("log", "log2", "log10", "log1p")},
    **{f"np.{name}": (f"np.{name}(icv/1500)",) for name in ("log", "log2", "log10", "log1p", "exp", "sqrt", "abs")},
    **{name: (f"{name}(age/9)",) for name in ("floor", "ceiling", "trunc")},
    **{name: (f"I(age - {name}(age))", f"I(icv/{name}(icv)):sex") for name in ("mean", "median", "min", "max")},
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


def study() -> pd.DataFrame:
    rng = np.random.default_rng(11)
    n = 240
    made = pd.DataFrame(
        {
            "site": np.repeat(["A", "B", "C"], n // 3),
            "age": rng.uniform(20, 60, n),
            "icv": rng.uniform(700, 2200, n),
            "sex": rng.choice(["F", "M"], n),
            "dx": rng.choice(["Autism", "TC", "adhd"], n),
            "dose": rng.choice([0.5, 2.5, 10.0], n),
            "smoker": rng.choice([True, False], n),
            "text": rng.choice(["01", "2", "10.5"], n),
            "family": rng.choice(list("pqrstuvw"), n),
        }
    )
    for k in range(2):
        family = made["family"].map(dict(zip("pqrstuvw", rng.normal(0, 1, 8), strict=True)))
        made[f"f{k}"] = rng.normal(3, 1, n) + made["age"] / 40 * (made["sex"] == "M") + (made["site"] == "B") + family
    return made


FEATURES = ["f0", "f1"]
TABLE = study()
CASES = [(name, text) for name in FUNCTIONS for text in EXAMPLES.get(name, ())]


def chunks(texts: list[str], most: int = 6) -> list[str]:
    """Join examples that can stand in one model: text is not read two ways, and the columns are far from collinear.

    sva solves normal equations on raw columns: 1e-16 times the squared condition is what they lose.
    """
    formulas: list[list[str]] = []
    columns: dict[str, np.ndarray] = {}
    constant = np.full((len(TABLE), 1), 1 / np.sqrt(len(TABLE)))
    for text in texts:
        X = Design.learn(f"~ {text}", TABLE, absorb_intercept=True).on(TABLE)
        columns[text] = X / np.linalg.norm(X, axis=0)
        for chunk in formulas:
            numbers, elsewhere = read_as_numbers(parse_formula(f"~ {' + '.join([*chunk, text])}"))
            if len(chunk) == most or "text" in numbers & elsewhere:
                continue
            if np.linalg.cond(np.hstack([constant, *(columns[each] for each in (*chunk, text))])) < 300:
                chunk.append(text)
                break
        else:
            formulas.append([text])
    return [f"~ {' + '.join(chunk)}" for chunk in formulas]


FORMULAS = chunks([text for name, text in CASES if name not in NOT_IN_R])


def test_no_function_is_forgotten() -> None:
    assert set(EXAMPLES) == set(FUNCTIONS)
    for name, text in CASES:
        assert f"{name}(" in text
        assert name in NOT_IN_R or any(text in formula for formula in FORMULAS)


@pytest.mark.parametrize("formula", FORMULAS)
def test_r_runs_it_and_agrees(formula: str) -> None:
    table = TABLE[[*parse_formula(formula).variables, "site", "family", *FEATURES]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RWarning)  # "step failure": at this tolerance the last step is rounding
        agreement = r_bridge.crosscheck(formula, table.drop(columns="family"), batch="site", features=FEATURES)
        ours = pcg.gam(f"f0 {formula} + (1 | family)", table)
        theirs = r_bridge.gam(f"f0 {formula} + (1 | family)", table, tight=True)
        mixed = r_bridge.lmer(f"f0 {formula} + (1 | family)", table)
        by_sva = r_bridge.sva_combat(table, formula, "site", features=FEATURES)
    assert agreement.verdict == "agrees", str(agreement)
    assert {"mgcv", "sva"} <= set(agreement.table["engine"])
    assert {"coefficients", "harmonized"} <= set(agreement.table["quantity"])
    parametric = [column for column in ours.coef.index if not column.startswith("(1 | family)")]
    # mgcv writes main effects first, and has the columns of an interaction in another order in places.
    assert sorted(theirs.coef.index[: len(parametric)]) == sorted(parametric)
    assert list(mixed.coef.index) == parametric
    assert list(by_sva.estimates.coefficients.index) == parametric[1:]
    # Both at the optimum to a gradient of 1e-10; lme4 stops earlier, at 1e-4 of the variances' ratio.
    sd = np.sqrt(ours.scale)
    assert (theirs.fitted - ours.fitted).abs().max() < 1e-6 * sd
    assert (mixed.fitted - ours.fitted).abs().max() < 1e-3 * sd
    size = ours.predict(type="lpmatrix").abs().max()[parametric]
    # Coefficients of columns far from collinear (see `chunks`), of the two fits above.
    assert ((theirs.coef[parametric] - ours.coef[parametric]).abs() * size).max() < 1e-5 * sd
    terms = [label for label in ours.predict(type="terms").columns if "family" not in label]
    assert sorted(label for label in theirs.predict(type="terms").columns if "family" not in label) == sorted(terms)


@pytest.mark.parametrize(("name", "text"), [case for case in CASES if case[0] in NOT_IN_R])
def test_what_r_has_not_is_refused_by_name(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_r(*arguments: object, **more: object) -> None:
        raise AssertionError("R was asked")

    monkeypatch.setattr("r_bridge.session.run", no_r)
    monkeypatch.setattr("r_bridge.session.call", no_r)
    monkeypatch.setattr("r_bridge.session.require", no_r)
    asked = {
        "crosscheck": lambda: r_bridge.crosscheck(f"~ {text}", TABLE, batch="site", features=FEATURES),
        "gam": lambda: r_bridge.gam(f"f0 ~ {text}", TABLE),
        "lmer": lambda: r_bridge.lmer(f"f0 ~ {text} + (1 | family)", TABLE),
        "sva": lambda: r_bridge.sva_combat(TABLE, f"~ {text}", "site", features=FEATURES),
        "neuroCombat": lambda: r_bridge.neurocombat(TABLE, f"~ {text}", "site", features=FEATURES),
        "ComBatFamily": lambda: r_bridge.comfam(TABLE, f"~ {text}", "site", features=FEATURES),
        "longCombat": lambda: r_bridge.longcombat(
            TABLE, f"~ {text} + (1 | family)", "site", id="family", time="dose", features=FEATURES
        ),
        "MgcvMean": lambda: pcg.ComBat(f"~ {text}", "site", features=FEATURES, mean_model=r_bridge.MgcvMean()).fit(
            TABLE
        ),
    }
    for call in asked.values():
        with pytest.raises(pcg.PcgError, match=rf"R has no function for {name}\("):
            call()


@pytest.mark.parametrize("kind", SMOOTHS)
def test_translated_inside_smooths(kind: str) -> None:
    variables = "np.log(age)" if kind == "s" else "np.log(age), center(icv)"
    formula = f"f0 ~ {kind}({variables}, k = 4) + np.sqrt(dose):sex"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RWarning)
        theirs = r_bridge.gam(formula, TABLE, tight=True)
    ours = pcg.gam(formula, TABLE)
    assert list(theirs.coef.index) == list(ours.coef.index)
    assert list(theirs.summary().smooth.index) == list(ours.summary().smooth.index)
    # The search for smoothing parameters; 1e-8 measured.
    assert (theirs.fitted - ours.fitted).abs().max() < 1e-6 * np.sqrt(ours.scale)


def test_text_that_as_numeric_reads_is_one_thing_in_r() -> None:
    with pytest.raises(pcg.PcgError, match=r"column .text. is text, used both in as\.numeric"):
        r_bridge.gam("f0 ~ as.numeric(text) + factor(text)", TABLE)
