"""The algebra of terms, smooths and bars."""

from __future__ import annotations

import pytest

from pycombat_gam.errors import FormulaError
from pycombat_gam.formula import parse_formula

# What R's attr(terms(f), "term.labels") gives.
LABELS = {
    "~ a*b - a:b": ["a", "b"],
    "~ (a+b+c)^2": ["a", "b", "c", "a:b", "a:c", "b:c"],
    "~ a/b": ["a", "a:b"],
    "~ (a+b)/c": ["a", "b", "a:b:c"],
    "~ a/(b+c)": ["a", "a:b", "a:c"],
    "~ a/b/c": ["a", "a:b", "a:b:c"],
    "~ b:a + a": ["a", "b:a"],
    "~ a %in% b": ["a:b"],
    "~ d + c:a + a + b:c": ["d", "a", "c:a", "c:b"],
    "~ a*b*c - a:b:c": ["a", "b", "c", "a:b", "a:c", "b:c"],
    "~ a^2": ["a"],
    "~ 1:a": [],
    "~ a + b - a": ["b"],
    "~ a:b + b:a": ["a:b"],
    "~ a:a": ["a"],
    "~ I(age ^2)+poly( age,2 )": ["I(age^2)", "poly(age, 2)"],
    "~ a > 1 + b": ["a > 1 + b"],
}


@pytest.mark.parametrize("text", LABELS)
def test_terms_are_r_s(text):
    assert [term.label for term in parse_formula(text).parametric] == LABELS[text]


@pytest.mark.parametrize(
    ("text", "intercept"),
    [
        ("~ a", True),
        ("~ a - 1", False),
        ("~ 0 + a", False),
        ("~ a + 0 + 1", True),
        ("~ -1 + a - 0", True),
        ("~ (a - 1)*b", False),
        ("~ a - (b + 1)", False),
        ("~ 1", True),
    ],
)
def test_intercept(text, intercept):
    assert parse_formula(text).intercept is intercept


def test_smooths_are_lifted_out():
    formula = parse_formula("y ~ sex + s(age, by=sex, bs='cr', k=c(5, 5), fx=T) + te(age, icv, d=1:2) - s(z) + s(z)")
    age, both, z = formula.smooths
    assert (age.kind, age.label, age.option("bs"), age.option("k"), age.option("fx")) == (
        "s",
        "s(age):sex",
        "cr",
        [5, 5],
        True,
    )
    assert (both.label, both.option("d"), both.option("m", "unset")) == ("te(age,icv)", [1, 2], "unset")
    assert z.label == "s(z)"
    assert formula.variables == ("y", "sex", "age", "icv", "z")
    assert [term.label for term in formula.parametric] == ["sex"]


def test_bars_are_lifted_out():
    formula = parse_formula("~ age + (1|site/scanner) + (0 + x|g) + (x||g) + (1 + x*z|a:b)")
    assert [term.label for term in formula.random] == [
        "1 | site",
        "1 | site:scanner",
        "0 + x | g",
        "x || g",
        "x + z + x:z | a:b",
    ]
    assert [term.correlated for term in formula.random] == [False, False, False, False, True]
    assert formula.variables == ("age", "site", "scanner", "x", "g", "z", "a", "b")


def test_variables_leave_out_options_and_constants():
    formula = parse_formula("cbind(log(u), v) ~ sin(2*pi*month/12) + poly(x, 2, raw=T) + C(w, Sum) + gone - gone")
    assert formula.variables == ("u", "v", "month", "x", "w")


REFUSED = {
    "~ .": "'.' is not allowed as a term",
    "~ 2*age": "write I(2 * age) for arithmetic",
    "~ age + 3": "the number 3 is not a term",
    "~ age^b": "needs a whole number from 1; write I(age^b)",
    "~ age^0": "needs a whole number from 1",
    "~ age^1.5": "needs a whole number from 1",
    "~ 'age'": "for example age without the quotes",
    "~ TRUE": "TRUE is not a term",
    "~ -a:b": "a sign inside an interaction means nothing",
    "~ I(3)": "the term I(3) names no column",
    "~ s(x):sex": "a smooth cannot be part of an interaction; write s(x, by = sex)",
    "~ s(x)*sex": "write sex + s(x, by = sex)",
    "~ log(s(x))": "s() is a smooth and must be a summand of its own",
    "~ s(x, kk=3)": "s() has no argument 'kk'; did you mean 'k'?",
    "~ s()": "names no column",
    "~ s(x, 10)": "give options by name, as in s(age, k=5)",
    "~ s(x, k=n)": "the option n is not a literal",
    "~ te(x, .)": "'.' is not allowed",
    "~ a + 1|g": "stands without parentheses",
    "~ a:(1|g)": "a random effect cannot be part of an interaction",
    "~ (s(x)|g)": "cannot stand inside a random effect",
    "~ (1|1)": "names no group",
    "~ (0|g)": "has no effect",
    "~ spline(age)": "the function spline() is not allowed in a formula; did you mean 's', 'ns' or 'bs'?",
    "~ lo(age)": "the function lo() is not allowed in a formula; did you mean 's'?",
    "~ loess(age) + b": "the function loess() is not allowed in a formula; did you mean 's'?",
    "~ ploy(age, 2)": "the function ploy() is not allowed in a formula; did you mean 'poly'?",
    "~ poly(age, degre=2)": "poly() has no argument 'degre'; did you mean 'degree'?",
    "~ poly(age, k)": "the option k is not a literal",
    "~ poly(age, 2, TRUE, 4)": "poly() takes at most 3 arguments (x, degree, raw)",
    "~ log()": "log() needs an expression",
    "~ pmin(a = b)": "takes one or more unnamed expressions",
    "~ C(sex, contr.foo)": "contr.foo is not a contrast",
    "~ log(offset(a))": "offset() is not allowed here: it is a summand of its own",
    "~ offset(a):b": "an offset cannot be part of an interaction; add it as a summand",
    "~ (a + offset(b))^2": "an offset cannot be part of an interaction",
    "~ b - offset(a)": "an offset cannot be taken away; leave it out",
    "~ (1 | offset(g))": "cannot stand inside a random effect",
    "~ stats::offset(a)": "R takes this for a covariate; write offset() without its package",
    "~ offset(a, b)": "offset() takes one expression",
    "~ offset(3)": "names no column",
    "~ stats::ns(a)": "stats::ns() is not allowed in a formula; write ns() or splines::ns()",
    "~ base::center(a)": "base::center() is not allowed in a formula; write center()",
    "~ stats::s(a)": "stats::s() is not allowed in a formula; write s() or mgcv::s()",
    "~ os::system('a')": "the function system() is not allowed",
    "~ is.na(a)": "is.na() is not allowed here: covariates have no missing cells here",
    "~ a %in% c('b')": 'among terms %in% nests factors; write I(a %in% c("b"))',
    "~ I(a %in% b)": "the option b is not a literal",
    "~ I(a %in% c(1, 'b'))": "the right side must be numbers or texts",
    "~ ifelse(a > 1, 2)": "ifelse() needs an expression, for example ifelse(age > 40, 1, 0)",
    "~ cut(a, quantile(a))": "the option quantile(a) is not a literal",
    "~ cut(a, knots = 3)": "cut() has no argument 'knots'",
    "~ interaction(a, b, sop = 3)": "takes one or more unnamed expressions and the options drop, sep, lex.order",
    "~ min(a, b)": "the option b is not a literal",
    "~ scale(a, Inf)": "the option Inf is not a literal",
    "~ I(a:b)": "the operator ':' is not allowed in a:b",
    "~ bs(x, knots=1:1000000000)": "the range 1:1e+09 is not allowed",
    "~ poly(x, 10^1000)": "is not a finite number",
    "cbind() ~ a": "the response cbind() is empty",
    "3 ~ a": "the response 3 names no column",
}


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text):
    with pytest.raises(FormulaError) as caught:
        parse_formula(text)
    assert REFUSED[text] in str(caught.value)
    assert "\n" not in str(caught.value)


HOSTILE = [
    "__import__('os').system('touch {file}')",
    "__import__('os')",
    "os.system('touch {file}')",
    "eval('1')",
    "exec('1')",
    "open('{file}', 'w')",
    "np.load('{file}')",
    "np.save('{file}', a)",
    "a.__class__.__mro__(a)",
    "getattr(a, 'b')",
    "I(__import__('os'))",
    "log(open('{file}', 'w'))",
    "poly(a, open('{file}', 'w'))",
    "C(a, open('{file}', 'w'))",
    "C(a, Treatment(open('{file}', 'w')))",
    "s(a, k=open('{file}', 'w'))",
    "s(open('{file}', 'w'))",
    "(1|open('{file}', 'w'))",
    "Q('a')",
    "system('touch {file}')",
    "`open`('{file}', 'w')",
    "np.log.__call__(a)",
    "(function(x) x)(a)",
    "[x for x in a]",
    "a if b else c",
    "lambda x: 0",
]


@pytest.mark.parametrize("expression", HOSTILE)
def test_nothing_in_a_hostile_formula_runs(expression, tmp_path):
    file = tmp_path / "ran"
    for side in ("~ {}", "{} ~ a"):
        with pytest.raises(FormulaError) as caught:
            parse_formula(side.format(expression.replace("{file}", str(file))))
        assert "\n" not in str(caught.value)
    assert not file.exists()


def test_three_hundred_covariates_are_fine():
    text = "~ " + " + ".join(f"v{i}" for i in range(300))
    assert len(parse_formula(text).parametric) == 300
    assert len(parse_formula(f"~ ({text[2:]}):sex").parametric) == 300
