"""What a message about a formula advises is done here to the letter, and has to work at once."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from itertools import product

import numpy as np
import pandas as pd

import pycombat_gam as pcg
from pycombat_gam.design.design import Design
from pycombat_gam.errors import PcgError

ROWS = 90
BASES = ("tp", "ts", "cr", "cs", "cc", "ps", "cp", "bs")
DISTINCT = (1, 2, 3, 4, 5, 12, 45, 90)


def table() -> pd.DataFrame:
    """Numbers u1, u2, … of so many distinct values, factors, sites and three features."""
    rng = np.random.default_rng(3)
    columns: dict[str, object] = {f"u{u}": rng.permutation(np.arange(ROWS) % u) * 1.5 + 0.25 for u in DISTINCT}
    made = pd.DataFrame(columns)
    made["age"] = rng.uniform(20, 80, ROWS).round(2)
    made["sex"] = np.resize(["F", "M"], ROWS)
    made["arm"] = rng.permutation(np.resize(["a", "b", "c"], ROWS))
    made["site"] = rng.permutation(np.resize(["A", "B", "C"], ROWS))
    for feature in ("f0", "f1", "f2"):
        made[feature] = rng.normal(size=ROWS) + 0.02 * made["age"]
    return made


TABLE = table()


def fit(formula: str, rows: pd.DataFrame = TABLE) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pcg.PcgWarning)
        pcg.ComBat(formula, batch="site", features="^f").fit(rows)


def said_of(formula: str) -> str:
    """What is said of a formula's design; empty where it can be built."""
    try:
        Design.learn(formula, TABLE, absorb_intercept=True)
    except PcgError as error:
        return str(error)
    return ""


def with_k(term: str, k: str) -> str:
    """Write another k into a term."""
    return re.sub(r"(, k=(c\([^)]*\)|[^,)]+))?\)$", f", {k})", term)


def followed(term: str, message: str) -> list[str]:
    """What the message advises to write instead."""
    if advised := re.search(r"use (k=(?:c\([^)]*\)|\d+))", message):
        return [with_k(term, advised[1])]
    if least := re.search(r"this basis needs at least (\d+)$", message):
        return [with_k(term, f"k={least[1]}")]
    if plain := re.search(r"write (.+) without s\(\)(?:, or (factor\(\w+\)) for a level each)?$", message):
        return [plain[1], *([plain[2]] if plain[2] else [])]
    if instead := re.search(r"; write (.+)$", message):
        return [instead[1]]
    assert message.endswith(("leave the term out", "leave it out")), message
    return ["1"]


def terms() -> Iterator[str]:
    ks = ("", ", k=2", ", k=6", ", k=300")
    for u, bs, k in product(DISTINCT, BASES, ks):
        yield f"s(u{u}, bs='{bs}'{k})"
    for u, by, k in product(DISTINCT, ("sex", "arm", "age"), ("", ", k=2", ", k=60")):
        yield f"s(u{u}, by={by}{k})"
    for u, bs, k in product(DISTINCT, ("tp", "cr", "ps"), ("", ", k=2", ", k=60")):
        yield f"s(u{u}, sex, bs='fs', xt='{bs}'{k})"
    for u, v, kind in product((1, 2, 3, 5), (2, 4, 90), ("s", "te", "ti", "t2")):
        yield from (f"{kind}(u{u}, u{v}{k})" for k in ("", ", k=2") if u != v)
    for u, v, bs in product((2, 3, 4), ("age", "u3"), ("c('cr','ps')", "'cc'", "c('tp','bs')")):
        yield from (f"te(u{u}, {v}, bs={bs}{k})" for k in ("", ", k=3", ", k=c(9,3)") if v != f"u{u}")
    for u in (2, 3, 12):
        yield f"te(u{u}, arm, bs=c('cr','re'))"
        yield f"te(age, u{u}, by=sex)"
        yield f"te(age, u{u}, u5)"
        yield f"s(u{u}, m=3)"
        yield f"s(u{u}, bs='ps', m=c(3, 2), k=3)"


def test_a_basis_that_is_refused_names_one_that_is_not() -> None:
    refused = {term: message for term in terms() if (message := said_of(f"~ {term}"))}
    assert len(refused) > 300
    advised: dict[str, str] = {}
    for term, message in refused.items():
        for instead in followed(term, message):
            advised.setdefault(instead, f"{term}: {message}")
    wrong = []
    for instead, origin in advised.items():
        try:
            fit(f"~ {instead}")
        except PcgError as error:
            wrong.append(f"{origin} → {instead}: {error}")
    assert not wrong, "\n".join(wrong)
