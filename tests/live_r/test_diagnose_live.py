"""`pcg.diagnose` beside live R: mgcv's anova of a gam, kruskal.test, fligner.test, p.adjust, and anova of lm."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from r_bridge.session import call

pytestmark = pytest.mark.live_r
FEATURES = [f"{side}_{region}_thickness" for side in ("lh", "rh") for region in ("precuneus", "insula", "entorhinal")]
R_CODE = """function(data, Y, formula) {
    library(mgcv, warn.conflicts = FALSE, quietly = TRUE)
    data$site <- factor(data$site); data$sex <- factor(data$sex); data$dx <- factor(data$dx)
    control <- gam.control(epsilon = 1e-12, mgcv.tol = 1e-14, newton = list(
        conv.tol = 1e-12, maxNstep = 5, maxSstep = 2, maxHalf = 50, use.svd = FALSE))
    one <- function(k) {
        data$y <- Y[, k]
        # At tolerances this tight R warns that no step lowers the score any more: it has arrived.
        b <- suppressWarnings(gam(as.formula(formula), data = data, method = "REML", control = control))
        s <- anova(b)
        smaller <- lm(y ~ age + sex + dx, data); larger <- update(smaller, . ~ . + site)
        a <- anova(smaller, larger)
        r <- residuals(larger) # kruskal: sites' levels back in, as differences from the first
        shift <- c(0, coef(larger)[grepl("^site", names(coef(larger)))])[as.integer(data$site)]
        c(gam_F = s$pTerms.table["site", "F"], gam_p = s$pTerms.table["site", "p-value"],
          lm_F = a$F[2], lm_p = a$`Pr(>F)`[2],
          kruskal = kruskal.test(r + shift, data$site)$statistic,
          kruskal_p = kruskal.test(r + shift, data$site)$p.value,
          plain = kruskal.test(data$y, data$site)$statistic,
          fligner = fligner.test(round(data$y * 2e6), data$site)$statistic,
          fligner_p = fligner.test(round(data$y * 2e6), data$site)$p.value)
    }
    found <- t(vapply(seq_len(ncol(Y)), one, numeric(9)))
    list(found = unname(found), adjusted = p.adjust(found[, 4], "BH"))
}"""
NAMES = (
    *("gam_F", "gam_p", "lm_F", "lm_p", "kruskal", "kruskal_p"),
    *("plain", "fligner", "fligner_p"),
)


@cache
def table() -> pd.DataFrame:
    return pcg.datasets.load_multisite()


@cache
def of_r() -> tuple[pd.DataFrame, np.ndarray]:
    reply: dict[str, Any] = call(
        R_CODE,
        data=table()[["site", "age", "sex", "dx"]],
        Y=table()[FEATURES].to_numpy(),
        formula="y ~ site + s(age) + sex + dx",
    )
    return pd.DataFrame(reply["found"], columns=NAMES, index=FEATURES), reply["adjusted"]


@cache
def of_ours(formula: str) -> pd.DataFrame:
    found = pcg.diagnose(table(), formula=formula, batch="site", id="subject", features=FEATURES, permutations=19)
    return found.table.set_index("feature")


def column(formula: str, measure: str, name: str) -> np.ndarray:
    rows = of_ours(formula)
    rows = rows[(rows["measure"] == measure) & (rows["covariate"] == "")]
    assert rows.index.tolist() == FEATURES
    return rows[name].to_numpy(dtype=float)


def test_sites_beside_smooths_are_mgcvs_anova() -> None:
    theirs, formula = of_r()[0], "~ s(age) + sex + dx"
    # Both searches for the smoothing parameter stop within rounding of its score, not of the parameter.
    close = {"rtol": 1e-5, "atol": 1e-9}
    np.testing.assert_allclose(column(formula, "ANOVA", "statistic"), theirs["gam_F"], **close)
    np.testing.assert_allclose(column(formula, "ANOVA", "p"), theirs["gam_p"], **close)


def test_linear_models_ranks_and_adjusted_p() -> None:
    (theirs, adjusted), formula = of_r(), "~ age + sex + dx"
    # These: the same sums in R; tails of p lose a digit.
    np.testing.assert_allclose(column(formula, "ANOVA", "statistic"), theirs["lm_F"], rtol=1e-9)
    np.testing.assert_allclose(column(formula, "ANOVA", "p"), theirs["lm_p"], rtol=1e-8)
    np.testing.assert_allclose(column(formula, "ANOVA", "p_adjusted"), adjusted, rtol=1e-8)
    # As above.
    np.testing.assert_allclose(column(formula, "Kruskal-Wallis", "statistic"), theirs["kruskal"], rtol=1e-9)
    np.testing.assert_allclose(column(formula, "Kruskal-Wallis", "p"), theirs["kruskal_p"], rtol=1e-8)


def test_without_covariates() -> None:
    theirs = of_r()[0]
    np.testing.assert_allclose(column("~ 1", "Kruskal-Wallis", "statistic"), theirs["plain"], rtol=1e-10)
    # The table has six digits: doubled and whole, R's medians are exact and ties stay ties.
    np.testing.assert_allclose(column("~ 1", "Fligner-Killeen", "statistic"), theirs["fligner"], rtol=1e-9)
    np.testing.assert_allclose(column("~ 1", "Fligner-Killeen", "p"), theirs["fligner_p"], rtol=1e-8)
