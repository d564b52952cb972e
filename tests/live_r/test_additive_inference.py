"""Covariances, degrees of freedom and tests of smooths beside a fresh mgcv fit, given its smoothing parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.reference import ROOT, Case, cases, needs_reference

from pycombat_gam.additive.covariance import covariance
from pycombat_gam.additive.wald import random_effect_test, smooth_test
from pycombat_gam.types import FloatArray
from r_bridge import session

pytestmark = [pytest.mark.live_r, needs_reference]

FIT = """
function(path, text, levels) {
  suppressMessages(library(mgcv))
  dat <- read.csv(path)
  for (v in names(levels)) dat[[v]] <- factor(dat[[v]], levels = levels[[v]])
  call <- parse(text = text)[[1]]
  b <- eval(call)
  call$fit <- FALSE
  G <- eval(call)
  p <- length(coef(b))
  wide <- function(S, at) { A <- matrix(0, p, p); i <- seq(at, length.out = ncol(S)); A[i, i] <- S; A }
  lambda <- if (is.null(b$full.sp)) b$sp else b$full.sp
  list(R = unname(b$R), S = lapply(seq_along(G$S), function(j) lambda[j] * wide(G$S[[j]], G$off[j])), L = G$L,
       beta = unname(coef(b)), rss = b$deviance, n = nrow(b$model), scale = b$sig2, df = b$df.residual,
       Vp = unname(b$Vp), Ve = unname(b$Ve), Vc = unname(b$Vc), edf = unname(b$edf), edf1 = unname(b$edf1),
       edf2 = unname(b$edf2), table = unname(summary(b)$s.table),
       random = sapply(b$smooth, function(s) isTRUE(s$random)),
       first = sapply(b$smooth, function(s) s$first.para), last = sapply(b$smooth, function(s) s$last.para),
       null = sapply(b$smooth, function(s) s$null.space.dim))
}
"""
NAMES = (
    "^(abide_T1_(tp_ML|cr_k6|tp_GCV.Cp|by_factor_id|sp_partial|two_smooths_select|te_k|fs)|abide_T2_bs_(cs|ts)|g6_re)$"
)
CASES = cases("mgcv", NAMES)


def fitted(case: Case) -> dict[str, Any]:
    text = case.about["call"].split("   #")[0]
    path = str(ROOT / case.about["input"])
    return dict(session.call(FIT, path=path, text=text, levels=case.about["factor_levels"] or {}))


def array(value: Any) -> FloatArray:
    return np.asarray(value, dtype=float)


def apart(ours: FloatArray, theirs: Any) -> float:
    return float(np.abs(ours - array(theirs)).max() / np.abs(array(theirs)).max())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_as_mgcv(case: Case) -> None:
    r = fitted(case)
    R, beta, penalties = array(r["R"]), array(r["beta"]), [array(S) for S in r["S"]]
    scale, df, n = float(r["scale"][0]), float(r["df"][0]), int(r["n"][0])
    L = None if r["L"] is None else array(r["L"])
    found = covariance(
        R, penalties, scale, method=case.about["fit_method"], coefficients=beta, rss=float(r["rss"][0]), n=n, L=L
    )
    for name in ("Vp", "Ve", "edf", "edf1"):
        # The same formulas at the fit of R: rounding; the stored edf is of an earlier search.
        assert apart(getattr(found, name), r[name]) <= 1e-9, name
    assert found.edf.sum() == pytest.approx(case.about["edf_total"], rel=1e-6)
    if r["Vc"] is None:
        assert found.Vc is None and found.edf2 is None
    else:
        # mgcv takes the Hessian at its optimiser's last φ, which is 1e-5 off at times; a flat direction magnifies that.
        assert apart(array(found.Vc), r["Vc"]) <= 1e-5
        assert apart(array(found.edf2), r["edf2"]) <= 1e-5
        assert float(array(found.edf2).sum()) == pytest.approx(case.about["edf2_total"], rel=1e-5)

    places = [slice(int(a) - 1, int(z)) for a, z in zip(r["first"], r["last"], strict=True)]
    for j, (place, row) in enumerate(zip(places, array(r["table"]), strict=True)):
        if r["null"][j] == 0:
            test = random_effect_test(
                R, [(slice(0, beta.size), S) for S in penalties], place,
                [other for k, other in enumerate(places) if k != j and r["random"][k]],
                beta=beta, Vp=array(r["Vp"]), Ve=array(r["Ve"]), scale=scale, df_residual=df,
            )  # fmt: skip
        else:
            rank = min(float(found.edf1[place].sum()), place.stop - place.start)
            test = smooth_test(beta[place], found.Vp[place, place], R[:, place], rank, df)
        assert (test.df, test.F) == pytest.approx((row[1], row[2]), rel=1e-6)
        # Davies' method has an error of its own of up to 2e-5 as mgcv calls it; 5e-7 is the most seen.
        assert test.p_value == pytest.approx(row[3], rel=1e-4, abs=1e-6)
