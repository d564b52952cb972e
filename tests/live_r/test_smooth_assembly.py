"""What `gam(fit=FALSE)` of a live mgcv sets up for a formula, beside ours: labels, columns, penalties, ranks, drops.

Where eigenvectors make the columns arbitrary, R's are expressed in ours by a map T, and the penalties, columns on new
rows (outside the range too) must follow it.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from pycombat_gam.design.smooths import SmoothPart
from pycombat_gam.formula import parse_formula
from pycombat_gam.smooth.assemble import Smooth
from r_bridge.session import call

pytestmark = pytest.mark.live_r
FORMULAS = (
    # side conditions
    "s(x) + s(z) + ti(x,z)",
    "s(x) + te(x,z)",
    "s(x) + s(z) + s(x,z)",
    "s(x) + s(x, by=v)",
    "te(x,z) + te(x,w) + te(z,w)",
    "s(x,z, k=12) + s(x,w, k=12)",
    "s(x, by=f) + s(x)",
    "s(x, by=of) + s(x) + te(x,z, by=of, k=4)",
    "s(x, by=v) + s(x) + te(x,z) + te(x,z, by=v)",
    "ti(x) + ti(z) + ti(x,z) + ti(x,w)",
    "s(x) + s(z, bs='re') + te(x,z)",
    "s(x, fx=TRUE, k=4) + te(x,z, fx=TRUE, k=4)",
    # te
    "te(x)",
    "te(x,z, bs=c('ps','cp'), m=list(c(2,2),c(2,1)), k=c(6,7))",
    "te(x,z, bs='ps', m=c(2,1))",
    "te(x,z, bs='tp', m=2)",
    "te(x,z, bs='bs', m=list(c(3,2),c(2,1)))",
    "te(x,z, bs='cc', k=5, np=FALSE)",
    "te(x,z, by=v)",
    "te(x,z, by=f, k=4)",
    "te(x,z, by=one, k=4)",
    "te(x,z,w, d=c(2,1), k=c(10,4))",
    "te(x,z,w, d=c(2,1), bs='cr', k=c(8,4))",
    "te(x,z,w, d=c(2,1), bs=c('cr','ps'), k=c(8,5))",
    "te(x,z,w, d=c(2,1), bs=c('tp','cr'), k=c(8,4), m=list(c(2,0),NA))",
    "te(x,z, bs='tp', m=list(c(2,0),2), k=4)",
    "te(x,z, bs=c('cr','ps'), m=2, k=6)",
    "te(x,f, bs=c('cr','re'), k=4)",
    "te(x,z, bs=c('cr','re'), k=4)",
    "te(x,f,h, d=c(1,2), bs=c('cr','re'), k=4)",
    "s(x) + te(x,f, bs=c('cr','re'), k=4)",
    # ti
    "ti(x)",
    "ti(x, pc=5)",
    "ti(x,z, mc=c(1,0))",
    "ti(x,z, mc=c(0,0))",
    "ti(x,z, mc=c(0,1), by=v)",
    "ti(x,z,w, d=c(2,1), k=c(8,4))",
    "ti(x,z, bs=c('tp','ps'), k=c(4,5))",
    "ti(x,z, by=f, k=4)",
    "ti(x,z, np=FALSE, bs='ps', k=5)",
    "ti(x,z, bs='tp', m=list(c(2,0),2), k=4)",
    "ti(x) + ti(x,f, bs=c('cr','re'), k=4)",
    # t2 that no constraint touches (the others below)
    "t2(x,z, by=v)",
    "t2(x,z, ord=c(1,2), k=4)",
    "t2(x,z, ord=2, k=4)",
    "t2(x,z, bs='ts', k=5)",
    "t2(x,f, bs=c('cr','re'), k=4, full=TRUE)",
    # by, pc, id
    "s(x, pc=5)",
    "s(x, by=f, pc=3)",
    "s(x, by=v, pc=3)",
    "s(x, by=one)",
    "s(x, by=of, bs='cr')",
    "s(x, id=1) + s(w, id=1)",
    "s(x, id=1, k=5) + s(w, id='1')",
    "s(x, bs='cr', id=1) + s(w, id=1, bs='cr')",
    "s(x, bs='ps', k=5, m=c(2,1), id=1) + s(w, by=v, id=1)",
    "te(x,z, id=2, k=4) + te(w,v, id=2, k=4)",
    # random effects
    "s(f,h, bs='re')",
    "s(f,x,h, bs='re')",
    "s(x,z, bs='re', by=h) + s(w, bs='re')",
    "s(f, bs='re', by=v)",
    "s(x,f, bs='fs', k=6, xt=list(bs='cr'))",
    "s(x,f, bs='fs', k=6, xt='ps')",
    "s(x,f, bs='fs', k=6, m=1)",
)
SELECTED = (
    "s(x) + te(x,z)",
    "te(x,z) + s(w, bs='cc')",
    "s(x, by=f, bs='cr')",
    "te(x,z, bs='tp', k=4)",
    "s(x, bs='bs', m=c(3,2,1))",
    "t2(x,z, ord=2, k=4)",
    "s(x,z, k=12) + s(w, m=1)",
)
FITS = (
    ("s(x) + s(z) + t2(x,z, k=4)", False),
    ("t2(x,z, k=4)", False),
    ("t2(x,z, k=4)", True),
    ("t2(x,z, k=4, full=TRUE)", False),
    ("t2(x,z,w, d=c(2,1), k=c(6,4))", False),
    ("te(x,z) + te(x,w)", False),
    ("te(x,f, bs=c('cr','re'), k=4)", False),
    ("ti(x) + ti(x,f, bs=c('cr','re'), k=4)", False),
    ("s(x, by=v, pc=3)", False),
    ("s(x, id=1, k=5) + s(w, id=1)", False),
)
"""t2 is here: mgcv sets it up in one parametrisation and predicts in another, so that only fits can be compared."""
TABLES = """
  D <- read.csv(text = text, stringsAsFactors = TRUE)
  N <- read.csv(text = new, stringsAsFactors = TRUE)
  for (v in names(D)) if (is.factor(D[[v]])) N[[v]] <- factor(as.character(N[[v]]), levels(D[[v]]))
  D$of <- ordered(D$of)
  N$of <- ordered(N$of, levels(D$of))
"""
SETUP = f"""function(text, new, formula, select) {{
  library(mgcv, warn.conflicts = FALSE, quietly = TRUE)
  {TABLES}
  G <- suppressWarnings(gam(as.formula(formula), data = D, select = select, fit = FALSE))
  lapply(G$smooth, function(s) list(
    label = s$label, X = G$X[, s$first.para:s$last.para, drop = FALSE], P = PredictMat(s, N),
    S = if (length(s$S)) s$S else list(), rank = as.numeric(s$rank), null = s$null.space.dim,
    scale = as.numeric(s$S.scale), gone = as.numeric(attr(s, "del.index")), side = s$side.constrain))
}}"""
FIT = f"""function(text, new, formula, select) {{
  library(mgcv, warn.conflicts = FALSE, quietly = TRUE)
  {TABLES}
  control <- gam.control(epsilon = 1e-13, mgcv.tol = 1e-14, maxit = 400,
                         newton = list(conv.tol = 1e-13, maxNstep = 5, maxSstep = 2, maxHalf = 50, use.svd = FALSE))
  b <- gam(as.formula(formula), data = D, method = "REML", select = select, control = control)
  list(fitted = as.numeric(fitted(b)), predict = as.numeric(predict(b, N)), edf = sum(b$edf), aic = AIC(b),
       score = as.numeric(b$gcv.ubre), sd = sqrt(b$sig2))
}}"""


@cache
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """120 rows, and 30 new ones that reach a tenth beyond them."""
    generator = np.random.default_rng(0)

    def rows(n: int, reach: float) -> pd.DataFrame:
        data = pd.DataFrame(
            {
                "x": generator.uniform(-10 * reach, 10 + 10 * reach, n),
                "z": generator.uniform(-2, 2, n),
                "w": generator.uniform(-1, 3, n),
                "v": generator.normal(0.3, 1, n),
                "one": np.full(n, 2.0),
            }
        )
        for name, levels, ordered in (("f", "abc", False), ("h", "uv", False), ("of", "pqr", True)):
            codes = generator.integers(0, len(levels), n)
            data[name] = pd.Categorical.from_codes(codes, list(levels), ordered=ordered)
        curve = np.sin(data["x"]) + data["x"] * data["z"] / 5 + data["w"] ** 2 / 3
        data["y"] = curve + (data["f"] == "b") * data["x"] / 4 + generator.normal(0, 0.5, n)
        return data

    return rows(120, 0.0), rows(30, 0.1)


def in_r(code: str, formula: str, select: bool) -> Any:
    data, new = tables()
    return call(
        code, text=data.to_csv(index=False), new=new.to_csv(index=False), formula=f"y ~ {formula}", select=select
    )


def entries(found: Any) -> list[Any]:
    return list(found.values()) if isinstance(found, dict) else list(found if found is not None else ())


def number(value: Any) -> float:
    return float(np.ravel(np.asarray(value, dtype=float))[0])


def tolerance(smooth: Smooth) -> float:
    """Unique bases to rounding; R's tp comes from a Lanczos run to 1e-8 of the largest eigenvalue where n > 100."""
    return 1e-7 if re.search(r"'basis': 't[ps]'", str(smooth.basis.to_dict())) else 1e-10


CASES = [*((formula, False) for formula in FORMULAS), *((formula, True) for formula in SELECTED)]


@pytest.mark.parametrize(("formula", "select"), CASES, ids=[f"{f}{' select' * s}" for f, s in CASES])
def test_set_up_as_in_mgcv(formula: str, select: bool) -> None:
    data, new = tables()
    part = SmoothPart.learn(parse_formula(f"y ~ {formula}"), data, intercept=True, knots={}, select=select)
    theirs = entries(in_r(SETUP, formula, select))
    assert [smooth.label for smooth in part.smooths] == [str(np.ravel(r["label"])[0]) for r in theirs]
    for smooth, X, P, r in zip(part.smooths, part.on(data), part.on(new), theirs, strict=True):
        X_r, P_r = np.asarray(r["X"], dtype=float), np.asarray(r["P"], dtype=float)
        S_r = [np.atleast_2d(np.asarray(S, dtype=float)) for S in entries(r["S"])]
        assert X.shape == X_r.shape
        close = tolerance(smooth)
        # Equal to rounding: no turn has to be found.
        unique = np.abs(X - X_r).max() < 1e-12 * np.abs(X_r).max()
        T = np.eye(X.shape[1]) if unique else np.linalg.lstsq(X, X_r, rcond=None)[0]
        assert np.abs(X @ T - X_r).max() < close * np.abs(X_r).max()
        assert np.abs(P @ T - P_r).max() < close * np.abs(P_r).max()
        assert len(smooth.penalties) == len(S_r)
        scales = np.ravel(r["scale"])[: len(S_r)]
        if "bs='fs'" in formula and (T.T @ smooth.penalties[1] @ T * S_r[1]).max() < 0.5:
            # Which straight line comes first is rounding in R; each has a penalty of its own.
            S_r, scales = [S_r[0], *S_r[:0:-1]], np.array([scales[0], *scales[:0:-1]])
        for S, other in zip(smooth.penalties, S_r, strict=True):
            assert np.abs(T.T @ S @ T - other).max() < close * np.abs(other).max()
        assert smooth.side_constrain == bool(np.ravel(r["side"])[0])
        if smooth.fixed:
            continue  # mgcv keeps the null space of the penalty that it leaves out
        assert smooth.ranks == tuple(np.ravel(r["rank"]).astype(int))
        assert smooth.null_dim == number(r["null"])
        np.testing.assert_allclose(smooth.penalty_scale, scales, rtol=close)


@pytest.mark.parametrize(("formula", "select"), FITS, ids=[f"{f}{' select' * s}" for f, s in FITS])
def test_fits_as_in_mgcv(formula: str, select: bool) -> None:
    data, new = tables()
    r = in_r(FIT, formula, select)
    fit = pcg.gam(f"y ~ {formula}", data, select=select)
    sd = number(r["sd"])
    # Both optima to a gradient of about 1e-10; 2e-10 measured.
    assert np.abs(fit.fitted.to_numpy() - r["fitted"]).max() < 1e-7 * sd
    assert np.abs(fit.predict(new).to_numpy() - r["predict"]).max() < 1e-7 * sd
    assert abs(float(fit.edf.sum()) - number(r["edf"])) < 1e-6
    assert abs(fit.score - number(r["score"])) < 1e-7
    # AIC counts the uncertainty of smoothing parameters, which at infinity is what rounding leaves; 2e-5 measured.
    assert abs(fit.aic - number(r["aic"])) < 1e-4


def test_t2_by_a_factor_for_given_smoothing_parameters() -> None:
    """For given λ the fit is theirs; the searches end at different points here, so only given λ are compared."""
    data, new = tables()
    formula, sp = "f + t2(x,z, by=f, k=3)", [1.0, 10.0, 0.1, 3.0, 30.0, 0.5, 2.0, 1.0, 0.2]
    code = FIT.replace("select = select", "sp = sp").replace("formula, select", "formula, sp")
    r = call(code, text=data.to_csv(index=False), new=new.to_csv(index=False), formula=f"y ~ {formula}", sp=sp)
    fit = pcg.gam(f"y ~ {formula}", data, sp=sp)
    # Both solve one linear system.
    np.testing.assert_allclose(fit.fitted, r["fitted"], atol=1e-9)
    np.testing.assert_allclose(fit.predict(new), r["predict"], atol=1e-9)
    assert abs(fit.score - number(r["score"])) < 1e-8 * abs(fit.score)


@pytest.mark.parametrize("k", [4, 5, 7, 10])
def test_fs_of_tp_is_turned_by_rounding_in_r(k: int) -> None:
    """R's LAPACK may turn the straight part of a tp as it rounds, and each column of it is shrunk on its own.

    Ours follows a rule (see `split_eigenvectors`): same space, same wiggly columns, same sum of straight penalties.
    """
    formula = f"s(x,f, bs='fs', k={k})"
    data, new = tables()
    part = SmoothPart.learn(parse_formula(f"y ~ {formula}"), data, intercept=True, knots={}, select=False)
    (X,), (P,), (smooth,), (r,) = part.on(data), part.on(new), part.smooths, entries(in_r(SETUP, formula, False))
    X_r, P_r = np.asarray(r["X"], dtype=float), np.asarray(r["P"], dtype=float)
    T = np.linalg.lstsq(X, X_r, rcond=None)[0]
    # Eigenvectors of R's Lanczos iteration, which stops at 1e-7 or so.
    assert np.abs(X @ T - X_r).max() < 1e-7 * np.abs(X_r).max()
    assert np.abs(P @ T - P_r).max() < 1e-7 * np.abs(P_r).max()
    raw = [S * scale for S, scale in zip(smooth.penalties, smooth.penalty_scale, strict=True)]
    raw_r = [np.asarray(S, dtype=float) * c for S, c in zip(entries(r["S"]), np.ravel(r["scale"]), strict=True)]
    for ours, theirs in ((raw[0], raw_r[0]), (raw[1] + raw[2], raw_r[1] + raw_r[2])):
        # As above.
        assert np.abs(T.T @ ours @ T - theirs).max() < 1e-7 * np.abs(theirs).max()
    assert (smooth.ranks, smooth.null_dim) == (tuple(np.ravel(r["rank"]).astype(int)), 0)
