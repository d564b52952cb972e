"""Our formulas as R code, and R's as ours: R reads what we write, we read what R writes, and both mean the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import pycombat_gam as pcg
from pycombat_gam.formula import Formula, parse_formula
from r_bridge import session
from r_bridge.formula import canonical, from_r, to_r
from r_bridge.functions import our_names, translated

pytestmark = pytest.mark.live_r

COLUMNS = ("age", "icv", "w1", "x.y", "größe", "a b", "2nd", "if")
FACTORS = ("sex", "dx", "scanner model")


def quoted(name: str) -> str:
    return name if name in ("age", "icv", "w1", "x.y", "größe", "sex", "dx") else f"`{name}`"


NUMERIC = st.sampled_from([quoted(name) for name in COLUMNS])
FACTOR = st.sampled_from([quoted(name) for name in FACTORS])
CALLS = st.one_of(
    NUMERIC.map(lambda x: f"I({x}^2)"),
    NUMERIC.map(lambda x: f"log({x})"),
    st.tuples(NUMERIC, st.integers(2, 4)).map(lambda p: f"poly({p[0]}, {p[1]})"),
    st.tuples(NUMERIC, st.integers(3, 6)).map(lambda p: f"ns({p[0]}, df = {p[1]})"),
    st.tuples(NUMERIC, st.floats(0.1, 99, allow_nan=False).map(lambda v: round(v, 3))).map(
        lambda p: f"I(({p[0]} - {p[1]}) / 10)"
    ),
    NUMERIC.map(lambda x: f"factor({x})"),
    NUMERIC.map(lambda x: f"np.sqrt({x})"),
    NUMERIC.map(lambda x: f"splines::bs({x}, degree = 2)"),
    NUMERIC.map(lambda x: f'cut({x}, breaks = c(-Inf, 0.5, Inf), labels = c("a", "b"))'),
    NUMERIC.map(lambda x: f"ifelse({x} > 3 & {x} %in% c(4, 5), {x} - mean({x}), 0)"),
    FACTOR.map(lambda x: f"C({x}, contr.sum)"),
    FACTOR.map(lambda x: f'relevel({x}, ref = "b")'),
    st.tuples(FACTOR, NUMERIC).map(lambda p: f"interaction({p[0]}, {p[1]}, drop = TRUE)"),
)
ATOMS = st.one_of(NUMERIC, FACTOR, CALLS)
PARAMETRIC = st.one_of(
    ATOMS,
    st.tuples(ATOMS, ATOMS).map(":".join),
    st.tuples(ATOMS, ATOMS).map("*".join),
    st.tuples(ATOMS, ATOMS, ATOMS).map(lambda p: f"({p[0]} + {p[1]} + {p[2]})^2"),
)
PLAIN = st.sampled_from(["age", "icv", "w1", "x.y"])
SMOOTHS = st.one_of(
    st.tuples(PLAIN, st.sampled_from(["tp", "cr", "ps", "cc"]), st.integers(5, 9)).map(
        lambda p: f's({p[0]}, bs = "{p[1]}", k = {p[2]})'
    ),
    PLAIN.map(lambda x: f"s({x})"),
    PLAIN.map(lambda x: f"s({x}, by = sex, id = 1)"),
    PLAIN.map(lambda x: f"s({x}, m = 2, fx = TRUE)"),
    PLAIN.map(lambda x: f"s({x}, sp = 0.5, k = -1)"),
    st.just("te(age, icv, k = c(4, 5))"),
    st.just('ti(age, icv, bs = c("cr", "ps"))'),
    st.just("t2(age, w1, k = 4)"),
    st.just("te(age, icv, w1, d = c(2, 1))"),
    st.just('s(sex, bs = "re")'),
    st.just('s(age, dx, bs = "fs", xt = list(bs = "cr"))'),
    st.just("s(np.log(age), k = 5)"),
)
BARS = st.sampled_from(["(1 | site)", "(1 | site:dx)", "(0 + age | site)", "(1 + age || site)"])
RESPONSES = st.sampled_from(["", "y", "log(y)", "cbind(y1, y2)", "`my y`"])


@st.composite
def formulas(draw: st.DrawFn) -> str:
    terms = draw(st.lists(PARAMETRIC, max_size=4))
    terms += draw(st.lists(SMOOTHS, max_size=2, unique=True))
    terms += draw(st.lists(BARS, max_size=1))
    text = " + ".join(terms) or "1"
    text += draw(st.sampled_from(["", " - 1", " + 0"])) if terms else ""
    return f"{draw(RESPONSES)} ~ {text}"


def parsed(text: str) -> Formula:
    return parse_formula(text)


@settings(max_examples=300)
@example("~ poly(icv, 2):age + icv*poly(icv, 2)")
@given(formulas())
def test_r_reads_what_we_write_and_we_what_r_writes(text: str) -> None:
    ours = parsed(text)
    written = to_r(ours, engine="lme4") if not ours.smooths else to_r(ours)
    back = from_r(canonical(written))
    formula = translated(ours)
    if formula.smooths and formula.random:
        # Bars are s(…, bs = "re") to mgcv: once written so, they stay so.
        assert back == from_r(canonical(to_r(back)))
        assert (back.response, back.intercept, back.parametric) == (
            formula.response, formula.intercept, formula.parametric,
        )  # fmt: skip
        assert back.smooths[: len(formula.smooths)] == formula.smooths
    else:
        assert back == formula
    # Our own text is R code too.
    assert from_r(canonical(str(ours))) == ours


@settings(max_examples=150)
@given(st.lists(PARAMETRIC, min_size=1, max_size=4), st.sampled_from(["", " - 1"]))
def test_both_expand_to_the_same_terms(terms: list[str], without: str) -> None:
    formula = parsed(f"~ {' + '.join(terms)}{without}")
    code = """function(text) {
      t <- stats::terms(stats::as.formula(text))
      list(attr(t, "term.labels"), attr(t, "intercept"))
    }"""
    for text in (to_r(formula), f"~ {' + '.join(terms)}{without}"):
        labels, intercept = session.call(code, text=text)
        ours = [term.label.replace(" ", "") for term in formula.parametric]
        found = our_names(labels, formula) if text == to_r(formula) else labels
        assert [str(label).replace(" ", "") for label in found] == ours
        assert bool(intercept[0]) == formula.intercept


@settings(max_examples=60)
@given(st.lists(SMOOTHS, min_size=1, max_size=3, unique=True), st.lists(BARS, max_size=1))
def test_mgcv_understands_smooths(smooths: list[str], bars: list[str]) -> None:
    formula = parsed(f"y ~ {' + '.join([*smooths, *bars])}")
    code = "function(text) length(mgcv::interpret.gam(stats::as.formula(text))$smooth.spec)"
    expected = len(smooths) + sum(1 + ("||" in bar) for bar in bars)
    assert session.call(code, text=to_r(formula))[0] == expected


CASES: list[tuple[str, dict[str, Any], str]] = [
    ("~ age + sex", {}, "~ age + sex"),
    ("~ age*sex - 1", {"response": "y"}, "y ~ 0 + age + sex + age:sex"),
    ("~ 1", {"response": "y"}, "y ~ 1"),
    ("~ 0", {"response": "y"}, "y ~ 0"),
    ("~ s(age) + (1|site)", {}, '~ s(age) + s(site, bs = "re")'),
    ("y ~ x + (1 + x || g)", {}, 'y ~ x + s(g, bs = "re") + s(g, x, bs = "re")'),
    ("y ~ x + (1 + x | g)", {"engine": "lme4"}, "y ~ x + (x | g)"),
    ("~ `a b` + age^2", {}, "~ `a b` + age"),
    ("~ offset(log(icv)) + x", {}, "~ x + offset(log(icv))"),
    (
        "y ~ ns(x, 3) + (0 + center(x) | g)",
        {"engine": "lme4"},
        "y ~ splines::ns(x, 3) + (0 + scale(x, scale = FALSE) | g)",
    ),
    ("np.log(y) ~ s(np.sqrt(x), by = z)", {}, "log(y) ~ s(sqrt(x), by = z)"),
    (
        '~ C(dx, Treatment("b")) + C(dx, Sum)',
        {},
        '~ C(factor(dx), contr.treatment(levels(factor(dx)), base = match("b", levels(factor(dx))))) + '
        "C(factor(dx), contr.sum)",
    ),
]


@pytest.mark.parametrize(("text", "options", "expected"), CASES)
def test_in_r_s_words(text: str, options: dict[str, Any], expected: str) -> None:
    assert to_r(text, **options) == expected


def test_what_an_engine_does_not_have() -> None:
    with pytest.raises(pcg.PcgError, match="lme4 has no smooths"):
        to_r("y ~ s(x) + (1|g)", engine="lme4")
    with pytest.raises(pcg.PcgError, match="correlated random effects"):
        to_r("y ~ (1 + x | g)")
    with pytest.raises(pcg.PcgError, match=r"R has no function for cr\(x, df = 4\): it is patsy's; write ns"):
        to_r("y ~ cr(x, df = 4)")
