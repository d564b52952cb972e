"""Our columns beside R's `model.matrix`: labels and values, on the rows learned from and on new rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pycombat_gam.design.design import Design

pytestmark = pytest.mark.live_r

TOLERANCE = 1e-10


def study(n: int, seed: int, *, wide: bool = False) -> pd.DataFrame:
    """A small study; `wide` reaches outside the range of the other."""
    rng = np.random.default_rng(seed)
    spread = 1.4 if wide else 1.0
    return pd.DataFrame(
        {
            "age": 50 + 40 * spread * rng.uniform(-1, 1, n),
            "icv": rng.normal(1500, 120, n),
            "sex": rng.choice(["F", "M"], n),
            "dx": rng.choice(["Autism", "TC", "adhd", "Öther"], n),
            "scan": rng.choice([1, 2, 10], n),
            "dose": rng.choice([0.5, 2.5, 100000.0], n),
            "smoker": rng.choice([True, False], n),
            "5th-Ventricle": rng.normal(3, 1, n),
            "vol.left_1": rng.normal(0, 1, n),
        }
    )


TABLE = study(80, 1)
NEW = study(40, 2, wide=True)

FORMULAS = [
    "~ age + I(age^2) + sex*dx + factor(scan) + poly(age, 2) + log(icv)",
    "~ 1",
    "~ age - 1",
    "~ 0 + sex",
    "~ sex + dx + 0",
    "~ age + sex - 1",
    "~ bs(age, df=5)",
    "~ bs(age, knots=c(30, 60), degree=2, intercept=TRUE) - 1",
    "~ bs(age)",
    "~ bs(age, df=6, Boundary.knots=c(0, 110))",
    "~ ns(age, df=4)",
    "~ ns(age, df=1) + sex",
    "~ ns(age, knots=c(40, 60), intercept=T) - 1",
    "~ ns(age, df=3, Boundary.knots=c(25, 75)):sex",
    "~ scale(icv)",
    "~ scale(icv, scale=FALSE) + scale(age, center=FALSE)",
    "~ scale(age, center=40, scale=10)",
    "~ C(dx, contr.sum)",
    "~ C(dx, contr.helmert)*sex",
    "~ C(dx, contr.poly)",
    "~ C(dx, contr.treatment, base=2)",
    "~ C(dx, contr.sum):sex - 1",
    "~ sex/age",
    "~ (sex + dx + age)^2",
    "~ sex:dx",
    "~ sex:age",
    "~ age:sex - 1",
    "~ 0 + age + age:sex",
    "~ sex:dx + sex:smoker",
    "~ dx + sex:smoker",
    "~ sex:smoker:dx + sex",
    "~ dx + sex:dx - 1",
    "~ age + smoker*sex - sex",
    "~ sex %in% dx",
    "~ (age + sex)/dx",
    "~ dx:scan + sex + age:dx",
    "~ poly(age, 3)*sex",
    "~ poly(icv, 5)",
    "~ poly(age, degree=2, raw=TRUE)",
    "~ poly(age, 1) + poly(icv, 2):poly(age, 2)",
    "~ factor(dose) + factor(scan):smoker",
    "~ `5th-Ventricle`*sex + vol.left_1 + log(abs(`5th-Ventricle`) + 1)",
    "~ relevel(factor(sex), ref='M') + smoker",
    '~ I(age > 40) + I(scan == 2):age + I(sex == "M")',
    "~ age > 40",
    "~ I(age %% 7) + I(age %/% 7) + I(-age^2) + I((icv - 1000)/100)",
    "~ log(icv, base=2) + log(icv, 10) + log2(icv) + log10(icv) + log1p(icv) + sqrt(icv) + exp(age/100)",
    "~ sin(2*pi*age/12) + cos(age) + tan(age/1000) + expm1(age/100) + abs(vol.left_1) + sign(vol.left_1)",
    "~ floor(age) + ceiling(icv) + round(age/10, 1) + pmin(age, 50) + pmax(age, scan, 3)",
    "~ factor(scan, levels=c(10, 2, 1))",
    "~ as.numeric(smoker) + as.factor(scan)",
    "~ age*sex*dx - age:sex:dx",
    "~ I(1e-3*age) + I(100000*age) + I(0.1*age + 1L)",
    "~ splines::ns(age, df = 4)*sex + stats::poly(icv, 2) + base::log(icv)",
    "~ splines::bs(age, knots = c(30, 60))",
    "~ cut(age, c(-50, 30, 60, 200))*sex",
    "~ cut(age, breaks = c(-Inf, 25.5, 50, Inf), right = FALSE)",
    "~ cut(age, c(-10, 0, 40, 60, 150), include.lowest = TRUE, labels = c('a', 'b', 'c', 'd')) - 1",
    "~ cut(scan, c(1, 2, 10), include.lowest = TRUE):age",
    "~ cut(scan, c(1, 2, 10, 11), right = FALSE, include.lowest = TRUE)",
    "~ cut(icv, c(0, 1499.51, 1499.52, 1499.5201, 9000), dig.lab = 2)",
    "~ cut(age, c(-100, 50, 200), labels = FALSE) + cut(icv, c(0, 1500, 1e4), dig.lab = 5, ordered_result = TRUE)",
    "~ ifelse(age > 40, age - 40, 0) + ifelse(sex == 'M' & age > 50, 'old man', 'Other')",
    "~ ifelse(smoker, 1, -1)*dx + ifelse(age > 1e9, 1, sqrt(abs(age)))",
    "~ interaction(sex, scan)",
    "~ interaction(dx, smoker, sex, sep = '_') + age",
    "~ interaction(sex, dx, lex.order = TRUE, drop = TRUE):age",
    "~ interaction(factor(scan, levels = c(10, 2, 1)), smoker) - 1",
    "~ as.integer(age) + as.integer(smoker) + as.double(scan) + trunc(age/7)",
    "~ as.ordered(scan)*sex + as.character(scan) + as.character(dx):age",
    "~ factor(scan, levels = c(2, 1, 10), labels = c('two', 'one', 'ten')) + ordered(dose, labels = c('a', 'b', 'c'))",
    "~ factor(smoker, labels = c('no', 'yes'))*age + relevel(dx, ref = 2) + relevel(dx, 'TC'):age",
    "~ I(dx %in% c('TC', 'adhd')) + I(scan %in% c(1, 10)) + I(!(sex %in% 'F'))",
    "~ I(sex == 'M' | age > 40) + I(dx != 'TC' & !smoker) + I(factor(scan) == 2) + I(age <= icv/30)",
    "~ (sex + dx + age)^2 - sex:dx - age:dx",
    "~ 0 + age + sex:dx - age",
    "~ round(icv/7, 2) + round(age, -1) + round(I(scan*0.05), 1) + pmin(age, scan) + I(age %% 7 - age %/% 7)",
    "~ offset(age) + sex + offset(log(icv))",
]
SUMMARIES = [
    "~ I((age - mean(age))^2) + I(age/sd(age)) + log(icv/median(icv))",
    "~ I((age - min(age))/(max(age) - min(age)))*sex + I(icv/var(icv)) + ifelse(age > mean(age), 1, 0)",
    "~ base::scale(icv) + age",
    "~ cut(age, 3) + cut(icv, breaks = 4, include.lowest = TRUE, dig.lab = 4)",
]
"""What R computes again from new rows, for it knows no state of these; here the fit's numbers are kept."""


@pytest.fixture(scope="module")
def r():
    """R with our tables in an environment of their own, sorting by code point."""
    import rpy2.robjects as ro
    from rpy2.robjects import default_converter, pandas2ri
    from rpy2.robjects.conversion import localconverter

    ro.r('Sys.setlocale("LC_COLLATE", "C"); suppressMessages(library(splines))')
    # Ours are treatment contrasts for ordered factors too.
    ro.r('options(contrasts = c("contr.treatment", "contr.treatment"))')
    place = ro.r("new.env()")
    with localconverter(default_converter + pandas2ri.converter):
        place["table"] = ro.conversion.get_conversion().py2rpy(TABLE)
        place["new"] = ro.conversion.get_conversion().py2rpy(NEW)
    ro.r(
        """function(place) { for (name in c("table", "new")) {
             d <- place[[name]]
             d[] <- lapply(d, function(x) if (is.character(x)) factor(x) else x)  # C() refuses characters
             place[[name]] <- d } }"""
    )(place)
    call = ro.r(
        """function(place, formula, again) {
             f <- as.formula(formula); d <- place$table
             m <- model.frame(f, d); X <- model.matrix(f, m)
             t <- attr(m, "terms")
             # as predict.lm does
             frame <- function() model.frame(t, place$new, xlev = .getXlevels(t, m))
             N <- if (!again) X else suppressWarnings(model.matrix(f, frame(),
                                                contrasts.arg = attr(X, "contrasts")))
             list(X = unname(X), labels = as.character(colnames(X)), new = unname(N),
                  assign = attr(X, "assign"), terms = attr(t, "term.labels")) }"""
    )

    def matrices(formula, again=True):
        with localconverter(default_converter):
            found = call(place, formula, again)
            get = found.rx2
            X, N = (np.array(get(k)).reshape(list(get(k).dim), order="F") for k in ("X", "new"))
            return X, N, list(get("labels")), list(get("assign")), list(get("terms"))

    return matrices


@pytest.mark.parametrize("formula", FORMULAS)
def test_columns_equal_model_matrix(r, formula):
    expected, expected_new, labels, assign, terms = r(formula)
    design = Design.learn(formula, TABLE, absorb_intercept=False)
    assert list(design.columns) == labels
    assert [term.label for term in design.formula.parametric] == terms
    for number, term in enumerate(terms, start=1):
        assert [i for i, a in enumerate(assign) if a == number] == list(
            range(*design.term_slices[term].indices(len(labels)))
        )
    scale = np.maximum(np.abs(expected).max(axis=0, initial=1e-300), 1e-300)
    np.testing.assert_allclose(design.on(TABLE) / scale, expected / scale, rtol=0, atol=TOLERANCE)
    scale = np.maximum(np.abs(expected_new).max(axis=0, initial=1e-300), scale)
    np.testing.assert_allclose(design.on(NEW) / scale, expected_new / scale, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("formula", SUMMARIES)
def test_what_is_learned_stays_for_new_rows(r, formula):
    expected, _, labels, _, _ = r(formula, again=False)
    design = Design.learn(formula, TABLE, absorb_intercept=False)
    assert list(design.columns) == labels
    scale = np.maximum(np.abs(expected).max(axis=0, initial=1e-300), 1e-300)
    np.testing.assert_allclose(design.on(TABLE) / scale, expected / scale, rtol=0, atol=TOLERANCE)
    # Row by row, and after a round trip through plain data, the columns stay what they were.
    saved = Design.from_dict(design.to_dict())
    np.testing.assert_array_equal(saved.on(TABLE.iloc[[5]]), design.on(TABLE)[[5]])
    np.testing.assert_array_equal(saved.on(TABLE.iloc[::-3]), design.on(TABLE)[::-3])


def test_rounding_is_r_s():
    import rpy2.robjects as ro

    rng = np.random.default_rng(3)
    halves = np.concatenate([np.arange(-400, 400) / 200, rng.integers(-(10**6), 10**6, 4000) / 2000])
    x = np.concatenate([halves, rng.normal(0, 1e3, 3000), rng.normal(0, 1e-7, 500), [0.15, 2.675, 1e300, 5e-324]])
    from pycombat_gam.formula.rounding import round_decimal

    for digits in (-3, -1, 0, 1, 2, 3, 5, 8, 12):
        theirs = np.array(ro.r("function(x, d) round(x, d)")(ro.FloatVector(x), digits))
        np.testing.assert_array_equal(round_decimal(x, digits), theirs)
