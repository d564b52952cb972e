"""Summary tables of the stored cases whose default fit stopped short in R: refitted there to a tight gradient."""

from __future__ import annotations

import io
import re

import numpy as np
import pandas as pd
import pytest
from helpers.gam_cases import CS_BY_ROUNDING, RANK_DEFECT, GamCase, gam_cases, has_arrived
from helpers.reference import ROOT, needs_reference

from r_bridge.session import call

pytestmark = [needs_reference, pytest.mark.live_r]
APART = (*CS_BY_ROUNDING, *RANK_DEFECT, "abide_T1_combatgam_design")
CASES = [c for c in gam_cases() if c.case.ok and not c.unsupported and not has_arrived(c) and c.name not in APART]


def tight_summary(case: GamCase) -> dict[str, pd.DataFrame]:
    """R's tables of the same call with `tight` control."""
    suffix = case.case.about["tight"]["call_suffix"]
    fit = re.sub(r"\)$", f", {suffix})", case.call)
    factors = "; ".join(
        f"dat${name} <- factor(dat${name})" for name in case.case.about.get("factor_levels") or {} if name != "batch"
    )
    text = call(
        f"""function() {{
        library(mgcv, warn.conflicts = FALSE, quietly = TRUE)
        dat <- read.csv(gzfile("{ROOT}/{case.case.about["input"]}"))
        {factors or "NULL"}
        dat$batch <- dat$site
        b <- suppressWarnings({fit})
        s <- summary(b)
        out <- function(x) {{
            x <- as.data.frame(x)
            x[] <- lapply(x, function(column) sprintf("%.17g", column))
            paste(capture.output(write.csv(x)), collapse = "\n")
        }}
        paste(out(s$s.table), out(s$p.table), out(cbind(aic = AIC(b), df = attr(logLik(b), "df"))), sep = "@")
        }}"""
    )
    parts = str(text[0]).split("@")
    return {
        name: pd.read_csv(io.StringIO(part), index_col=0)
        for name, part in zip(("smooth", "parametric", "criteria"), parts, strict=True)
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_tables(case: GamCase) -> None:
    theirs, fit = tight_summary(case), case.fit()
    summary = fit.summary()
    assert list(summary.smooth.index) == list(theirs["smooth"].index)
    # A smooth shrunk to nothing has no digits to compare: its edf is what is left of the search on both sides.
    alive = theirs["smooth"]["edf"] > 1e-3
    for name in ("edf", "Ref.df", "F"):
        if name == "F" and "t2(" in case.call:
            continue  # see test_gam.py: mgcv mixes two parametrisations
        np.testing.assert_allclose(summary.smooth[name][alive], theirs["smooth"][name][alive], rtol=1e-3)
    p, r = summary.smooth["p-value"][alive], theirs["smooth"]["p-value"][alive]
    assert ((np.abs(p - r) < 1e-6) | (np.abs(p - r) < 1e-3 * r)).all()
    # As in test_gam.py: R and ours at the ends of two searches.
    np.testing.assert_allclose(summary.parametric["Std. Error"], theirs["parametric"]["Std. Error"], rtol=1e-4)
    if "t2(" not in case.call:
        assert abs(fit.aic - theirs["criteria"]["aic"].iloc[0]) < 1e-2
