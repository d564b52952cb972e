"""Text → tree → text, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycombat_gam.errors import FormulaError
from pycombat_gam.formula import parse_formula
from pycombat_gam.formula.nodes import (
    PRECEDENCE,
    Binary,
    Call,
    Constant,
    Name,
    Number,
    Paren,
    String,
    Unary,
    deparse,
    is_syntactic,
)
from pycombat_gam.formula.parse import parse

NAMES = st.text(min_size=1, max_size=6).filter(lambda name: "\0" not in name)
LEAVES = st.one_of(
    NAMES.map(Name),
    st.floats(0, allow_nan=False, allow_infinity=False).map(Number),
    st.text(max_size=6).filter(lambda text: "\0" not in text).map(String),
    st.sampled_from(["TRUE", "FALSE", "NULL", "NA", "pi"]).map(Constant),
)
OPERATORS = [op for op in PRECEDENCE if op != "~"]


def _grow(inner):
    return st.one_of(
        st.builds(Binary, st.sampled_from(OPERATORS), inner, inner),
        st.builds(Unary, st.sampled_from(["-", "+", "!"]), inner),
        st.builds(Paren, inner),
        st.builds(
            Call,
            NAMES,
            st.lists(inner, max_size=2).map(tuple),
            st.dictionaries(NAMES, inner, max_size=2).map(lambda d: tuple(d.items())),
            st.one_of(st.just(""), NAMES),
        ),
    )


def _plain(node):
    """Drop parentheses, which `deparse` may have to add."""
    if isinstance(node, Paren):
        return _plain(node.inner)
    if isinstance(node, Binary):
        return Binary(node.op, _plain(node.left), _plain(node.right))
    if isinstance(node, Unary):
        return Unary(node.op, _plain(node.operand))
    if isinstance(node, Call):
        return Call(
            node.name,
            tuple(map(_plain, node.args)),
            tuple((name, _plain(value)) for name, value in node.kwargs),
            node.package,
        )
    return node


@settings(max_examples=400)
@given(st.recursive(LEAVES, _grow, max_leaves=12))
def test_deparse_then_parse_gives_the_tree_back(tree):
    text = deparse(tree)
    again = parse(text)
    assert _plain(again) == _plain(tree)
    assert deparse(again) == text


SUMMANDS = st.sampled_from(
    [
        "a",
        "b",
        "c",
        "`5th-V`",
        "a:b",
        "b:a",
        "a*c",
        "(a + b + c)^2",
        "a/b",
        "b %in% a",
        "I(a^2)",
        "log(b)",
        "0",
        "1",
        "s(a)",
        "s(b, by = c, k = 5)",
        "te(a, b, k = c(5, 5))",
        "(1 | g)",
        "(0 + a | g)",
        "(a || g/h)",
        "(a - 1)*b",
        "poly(a, 2, raw = T)",
        "C(c, contr.sum)",
        "a > 3",
        "splines::ns(a, df = 3)",
        "mgcv::s(c)",
        "offset(log(`w w`))",
        "ifelse(a %in% c(1, 2), 'x', 'y')",
        "cut(a, c(-Inf, 0, Inf))",
        "interaction(b, `5th-V`, sep = '_')",
        "I((a - mean(a))^2)",
    ]
)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.sampled_from(["+", "-"]), SUMMANDS), min_size=1, max_size=6),
    st.one_of(st.just(None), st.just("cbind(log(y), `a ~ b`)"), NAMES.map(Name).map(deparse)),
)
def test_a_formula_prints_r_code_for_itself(summands, response):
    text = f"{response or ''} ~ 1 " + " ".join(
        f"+ {term}" if "offset" in term else f"{op} ({term})" if ">" in term else f"{op} {term}"
        for op, term in summands
    )
    formula = parse_formula(text)
    again = parse_formula(str(formula))
    assert again == formula
    assert again.variables == formula.variables
    assert str(again) == str(formula)
    other = parse_formula(f"z {formula.right}")
    assert (other.parametric, other.smooths, other.offsets) == (formula.parametric, formula.smooths, formula.offsets)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("I( age **2)", "I(age^2)"),
        ("poly(age,2)", "poly(age, 2)"),
        ("a+b", "a + b"),
        ("a / b", "a/b"),
        ("a : b", "a:b"),
        ("`age`", "age"),
        ("`5th-Ventricle`", "`5th-Ventricle`"),
        ("_x", "`_x`"),
        ("`if`", "`if`"),
        ("f('it\\'s')", 'f("it\'s")'),
        ("1e-3 + 100000 + 123456 + .5 + 1L", "0.001 + 1e+05 + 123456 + 0.5 + 1"),
        ("x%%2 + x %/% 2", "x%%2 + x%/%2"),
        ("-a^2 + (-a)^2", "-a^2 + (-a)^2"),
        ("größe.1 + vol_2", "größe.1 + vol_2"),
    ],
)
def test_deparse_prints_as_r_does(text, printed):
    assert deparse(parse(text)) == printed


def test_precedence_is_r_s():
    assert parse("a^b^c") == Binary("^", Name("a"), Binary("^", Name("b"), Name("c")))
    assert parse("-a^b") == Unary("-", Binary("^", Name("a"), Name("b")))
    assert parse("-a:b") == Binary(":", Unary("-", Name("a")), Name("b"))
    assert parse("a+b:c") == Binary("+", Name("a"), Binary(":", Name("b"), Name("c")))
    assert parse("!a == b") == Unary("!", Binary("==", Name("a"), Name("b")))
    assert is_syntactic(".x") and not is_syntactic(".5x") and not is_syntactic("a b")


BAD_TEXT = {
    "~": "ends where a term should follow",
    "": "ends where a term should follow",
    "~ a b": "'b' follows a complete term",
    "~ a + ": "ends where a term should follow",
    "~ (a": "a '(' is not closed; add ')'",
    "~ a)": "')' closes nothing",
    "~ a * * b": "'*' stands where a name, a number or '(' should",
    "~ x[1]": "indexing with '[' is not allowed",
    "~ d$x": "'$' is not allowed; name the column alone",
    "~ splines::bs": "'::' stands before a function that is called",
    "~ splines:::bs(x)": "'::' stands before a function that is called",
    "~ ::bs(x)": "stands where a name",
    "~ (a)::bs(x)": "'::' stands before a function that is called",
    "~ {a}": "code blocks are not allowed",
    "~ a; b": "a formula is one expression",
    "~ a # b": "comments are not allowed",
    "~ `a": "a backtick is not closed",
    "~ f('a": "a string is not closed",
    "~ a ? b": "'?' is not allowed",
    "~ ``": "a name in backticks is empty",
    "~ poly(a, degree=1, degree=2)": "the argument 'degree' of poly() is given twice",
    "~ poly(a,)": "an argument of poly() is missing after ','",
    "~ lambda x: x": "'x' follows a complete term",
    "~ a < b < c": "comparisons cannot be chained",
    "~ I(0x" + "f" * 300 + "*a)": "is too large",
    "a + b": "it has no '~'",
    "y ~ a ~ b": "more than one '~'; keep one",
    "~ a + ~ b": "more than one '~'",
    "~" + "(" * 5000 + "a" + ")" * 5000: "nested deeper than 40 levels",
    "~" + "-" * 5000 + "a": "nested deeper than 40 levels",
    "~" + "f(" * 5000: "nested deeper than 40 levels",
    "~ a" + "^2" * 5000: "nested deeper than 40 levels",
    "~ a" + ":b" * 5000: "more than 100 parts",
    "~ I(a" + "+b" * 5000 + ")": "more than 100 parts",
    "~ a" + "+b" * 5000 + " > 3": "more than 100 parts",
    "a" + "+b" * 5000 + " ~ x": "more than 100 parts",
    "~" + "a" * 60_000: "at most 50,000 are allowed",
    "~" + "+".join(f"a{i}" for i in range(2500)): "expands to more than 2,000 terms",
    "~ (" + "+".join(f"a{i}" for i in range(40)) + ")^9": "expands to more than 2,000 terms",
    "~ " + "*".join(f"a{i}" for i in range(40)): "expands to more than 2,000 terms",
}


@pytest.mark.parametrize("text", BAD_TEXT, ids=lambda text: text[:20])
def test_bad_text_is_refused_in_one_line(text):
    with pytest.raises(FormulaError) as caught:
        parse_formula(text)
    assert BAD_TEXT[text] in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("given", [None, 3, ["~ a"], b"~ a"])
def test_a_formula_is_text(given):
    with pytest.raises(FormulaError, match="give it as text"):
        parse_formula(given)


@settings(max_examples=300)
@given(st.text(alphabet="ab1~+-*/:^%|&!()<>=,.'\"`\\ sI[]${}", max_size=40))
def test_any_text_is_a_formula_or_a_formula_error(text):
    try:
        formula = parse_formula("~" + text)
    except FormulaError as error:
        assert "\n" not in str(error)
    else:
        assert parse_formula(str(formula)) == formula
