"""Bases beside a live mgcv where the stored cases do not go: unusual orders, given knots, samples of knots."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pycombat_gam.formula import parse_formula
from pycombat_gam.smooth.assemble import learn_smooth
from r_bridge.session import call

pytestmark = pytest.mark.live_r
GENERATOR = np.random.default_rng(5)
DATA = {
    "x": np.round(GENERATOR.gamma(2, 10, 150) + 5, 2),
    "z": np.round(GENERATOR.normal(1500, 100, 150), 1),
    "w": np.round(GENERATOR.uniform(-1, 1, 150), 3),
}
NEW = {"x": np.linspace(-40, 160, 40), "z": np.linspace(2100, 900, 40), "w": np.cos(np.arange(40.0)) * 3}
SIX = (6.0, 9.0, 14.0, 22.0, 40.0, 75.0)
FULL = (-3.0, -1.0, 1.0, 3.0, 20.0, 33.0, 50.0, 90.0, 95.0, 99.0, 104.0)
UNIQUE: list[tuple[str, dict[str, tuple[float, ...]]]] = [
    ("s(x,bs='cr',k=6)", {"x": SIX}),
    ("s(x,bs='cr',k=30)", {}),
    ("s(x,bs='cc',k=6)", {"x": (0.0, 100.0)}),
    ("s(x,bs='cc',k=12)", {}),
    ("s(x,bs='cp',k=3)", {}),
    ("s(x,bs='cp',k=9,m=c(3,2))", {}),
    ("s(x,bs='cp',k=5)", {"x": (0.0, *SIX[1:5], 90.0)}),
    ("s(x,bs='cp',k=7)", {"x": (0.0, 100.0)}),
    *((f"s(x,bs='ps',k=9,m={m})", {}) for m in ("0", "1", "3", "c(0,1)", "c(2,3)", "c(2,0)", "c(4,1)")),
    *((f"s(x,bs='cp',k=9,m={m})", {}) for m in ("1", "c(0,1)", "c(2,3)", "c(4,1)")),
    *((f"s(x,bs='bs',k=9,m={m})", {}) for m in ("1", "2", "4", "c(3,0)", "c(3,3)", "c(3,2,1,0)", "c(5,3)", "c(1,0)")),
    ("s(x,bs='ps',k=7)", {"x": FULL}),
    ("s(x,bs='bs',k=7)", {"x": FULL}),
    ("s(x,bs='bs',k=8,m=c(3,2,0))", {"x": (0.0, 5.0, 80.0, 120.0)}),
]
SIGNS = [
    *((f"s(x,bs='{bs}',k=12,m={m})", {}) for bs in ("tp", "ts") for m in (1, 2, 3, 4, 5)),
    ("s(x,k=8,m=c(1,0))", {}),
    ("s(x,z,k=20,m=c(2,0))", {}),
    *((f"s(x,w,bs='{bs}',k=30)", {}) for bs in ("tp", "ts")),
    *((f"s(x,w,bs='{bs}',k=20,m=3)", {}) for bs in ("tp", "ts")),
    *((f"s(x,z,w,bs='{bs}',k=25)", {}) for bs in ("tp", "ts")),
    *((f"s(x,bs='{bs}',k=6)", {"x": SIX}) for bs in ("tp", "ts")),
    ("s(x,k=6)", {"x": SIX[::-1]}),
    ("s(x,k=5)", {"x": SIX}),
    ("s(x,w,k=6)", {"x": SIX, "w": (0.5, -0.4, 0.1, 0.8, -0.9, -0.2)}),
    ("s(x,k=10,xt=list(max.knots=50))", {}),
    ("s(x,k=20,xt=list(max.knots=20))", {}),
    ("s(x,w,k=12,xt=list(max.knots=60,seed=7))", {}),
    ("s(x,z,w,k=25,xt=list(max.knots=100,seed=2))", {}),
]
R_CODE = """function(call, data, new, knots) {
    library(mgcv, warn.conflicts = FALSE, quietly = TRUE)
    s <- suppressWarnings(smoothCon(eval(parse(text = call)), data = as.data.frame(data), absorb.cons = FALSE,
                                    scale.penalty = FALSE, knots = if (length(knots)) knots else NULL)[[1]])
    list(X = as.numeric(s$X), P = as.numeric(PredictMat(s, as.data.frame(new))), S = as.numeric(unlist(s$S)),
         rank = s$rank, null = s$null.space.dim)
}"""


def differences(text: str, knots: dict[str, tuple[float, ...]], *, signs: bool) -> list[float]:
    """Largest differences in X, P and S, relative to their largest entries; ranks must agree."""
    at: Any = {label: np.array(values) for label, values in knots.items()}
    term = parse_formula("~" + text).smooths[0]
    basis = learn_smooth(term, DATA, ordered=(), knots=at or None, absorb=False, rescale=False)[0].basis
    r = call(R_CODE, call=text, data=DATA, new=NEW, knots=at)
    X, P = basis.on(DATA), basis.on(NEW)
    K = X.shape[1]
    X_r, P_r = (np.asarray(r[name]).reshape(K, -1).T for name in ("X", "P"))
    turn = np.sign((X * X_r).sum(axis=0)) if signs else np.ones(K)
    pairs = [(X * turn, X_r), (P * turn, P_r)]
    for S, S_r in zip(basis.penalties, np.asarray(r["S"]).reshape(-1, K, K), strict=True):
        pairs.append((S * np.outer(turn, turn), S_r))
    assert list(basis.ranks) == list(np.atleast_1d(r["rank"]))
    assert basis.null_dim == int(np.atleast_1d(r["null"])[0])
    return [float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs]


@pytest.mark.parametrize(("text", "knots"), UNIQUE)
def test_unique_bases(text: str, knots: dict[str, tuple[float, ...]]) -> None:
    # Columns of unique bases: rounding.
    assert max(differences(text, knots, signs=False)) < 1e-10


@pytest.mark.parametrize(("text", "knots"), SIGNS)
def test_bases_of_eigenvectors(text: str, knots: dict[str, tuple[float, ...]]) -> None:
    # R's Lanczos iteration stops at 1e-8 or so; ours, dense at this size, does not.
    assert max(differences(text, knots, signs=True)) < 1e-6


@pytest.mark.parametrize("variables", [("x",), ("x", "w"), ("w", "z"), ("x", "z", "w")])
def test_the_same_2000_knots(variables: tuple[str, ...]) -> None:
    """In several variables mgcv numbers points by their text, before it draws."""
    generator = np.random.default_rng(8)
    many = {
        "x": np.round(generator.normal(40, 15, 4000), 1),
        "z": np.round(generator.uniform(size=4000), 3) * 1e6,
        "w": generator.normal(size=4000) * 1e-5,
    }
    if variables == ("x",):
        many["x"] = generator.normal(size=4000)
    text = f"s({','.join(variables)},k=15)"
    basis: Any = learn_smooth(parse_formula("~" + text).smooths[0], many, ordered=(), knots=None)[0].basis
    code = """function(call, data) {
        library(mgcv, warn.conflicts = FALSE, quietly = TRUE)
        as.numeric(smoothCon(eval(parse(text = call)), data = as.data.frame(data))[[1]]$Xu)
    }"""
    points = np.asarray(call(code, call=text, data=many))
    points = points.reshape(len(variables), 2000).T
    ours, theirs = (part[np.lexsort(part.T[::-1])] for part in (basis.points, points))
    # Means that differ in the last digit.
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12 * np.abs(theirs).max())
