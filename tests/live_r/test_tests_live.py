"""`ComBat.test` and `.contrast` beside R: `lm` with site as a factor, `nlme::gls`, limma's site weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import polygamma

import pycombat_gam as pcg
from pycombat_gam.infer.contrast import pooled_variance, site_variances
from pycombat_gam.infer.engine import Engine
from pycombat_gam.infer.one_step import OneStep
from pycombat_gam.types import FloatArray
from r_bridge import session

pytestmark = pytest.mark.live_r
FORMULA = "~ age * dx + sex + scanner + poly(icv, 2)"
ROUNDING = 1e-9
"""Both solve one least-squares problem in double precision; icv is of the order of 1e6."""

LM = """
function(data, features, formula) {
  held <- options(contrasts = c("contr.treatment", "contr.treatment"))
  on.exit(options(held))
  wanted <- attr(terms(as.formula(formula)), "term.labels")
  single <- several <- list()
  for (feature in features) {
    data$y <- data[[feature]]
    full <- lm(as.formula(paste("y", formula, "+ site")), data)
    X <- model.matrix(full)
    label <- c("(Intercept)", attr(terms(full), "term.labels"))[attr(X, "assign") + 1]
    single[[feature]] <- unname(coef(summary(full))[label %in% wanted, ])
    # The reduced model drops the term's columns, as drop1() does where no other term contains it.
    several[[feature]] <- t(sapply(wanted, function(term) {
      reduced <- lm(data$y[!is.na(data$y)] ~ X[, label != term] - 1)
      table <- anova(reduced, lm(data$y[!is.na(data$y)] ~ X - 1))
      c(table$F[2], table$Df[2], table$Res.Df[2], table[["Pr(>F)"]][2])
    }))
  }
  list(columns = colnames(X)[label %in% wanted], terms = wanted, single = unname(single),
       several = lapply(unname(several), unname))
}
"""


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """The packaged study with a factor of three levels, and holes in a third of its features."""
    table = pcg.datasets.load_multisite()
    rng = np.random.default_rng(16)
    table["scanner"] = rng.choice(["a", "b", "c"], len(table), p=[0.5, 0.3, 0.2])
    names = features(table)
    for name in names[::3]:
        table[name] = table[name].mask(rng.uniform(size=len(table)) < 0.1)
    return table


def features(table: pd.DataFrame) -> list[str]:
    return [name for name in table if name.endswith("_thickness")]


def fitted(formula: str, table: pd.DataFrame, **options: Any) -> pcg.ComBat:
    options = {"batch": "site", "id": "subject", "features": features(table), "missing": "omit", **options}
    return pcg.ComBat(formula, **options).fit(table)


def beside(rows: pd.DataFrame, names: list[str], columns: list[str]) -> FloatArray:
    """The rows of one term, in the order of the features."""
    return rows.set_index("feature").loc[names, columns].to_numpy(dtype=float)


def test_pooled_tests_are_those_of_lm(table: pd.DataFrame) -> None:
    names = features(table)
    used = table[["site", "age", "dx", "sex", "scanner", "icv", *names]]
    r = session.call(LM, data=used, features=names, formula=FORMULA)
    model = fitted(FORMULA, table)
    single = np.array(r["single"], dtype=float)
    assert single.shape == (len(names), len(r["columns"]), 4)
    for j, column in enumerate(r["columns"]):
        tests = model.contrast({str(column): 1.0}, weights=None, variance="pooled").table
        ours = beside(tests, names, ["estimate", "se", "statistic", "p"])
        size = np.abs(single[:, j])
        # t may be near 0, and carries the error of estimate/se.
        size[:, 2] = np.maximum(size[:, 2], 1.0)
        assert (np.abs(ours - single[:, j]) <= ROUNDING * size * [1, 1, 1, 10]).all(), column
    several = np.array(r["several"], dtype=float)
    tests = model.test(weights=None, variance="pooled").table
    for j, term in enumerate(r["terms"]):
        rows = tests[tests["term"] == term]
        ours = beside(rows, names, ["statistic", "df", "df_residual", "p"])
        assert not np.isnan(ours).any()
        if (several[:, j, 1] == 1).all():
            ours[:, 0] **= 2
        np.testing.assert_array_equal(ours[:, 1:3], several[:, j, 1:3])
        # p of an F of 100 loses the digits that its exponent has.
        np.testing.assert_allclose(ours[:, [0, 3]], several[:, j][:, [0, 3]], rtol=20 * ROUNDING, atol=ROUNDING)


GLS = """
function(data, features, formula, ratio) {
  held <- options(contrasts = c("contr.treatment", "contr.treatment"))
  on.exit(options(held))
  data$site <- factor(data$site)
  # sd of each site relative to the first, fixed.
  ratio <- sqrt(ratio / ratio[1])[-1]
  names(ratio) <- levels(data$site)[-1]
  lapply(features, function(feature) {
    data$y <- data[[feature]]
    fit <- nlme::gls(as.formula(paste("y", formula, "+ site")), data, weights = nlme::varIdent(form = ~1 | site,
                     fixed = ratio), na.action = na.omit)
    own <- !grepl("^(site|\\\\(Intercept)", names(coef(fit)))
    unname(summary(fit)$tTable[own, ])
  })
}
"""


def columns_one_by_one(engine: Engine, weights: FloatArray, *, by_site: bool) -> FloatArray:
    """Estimate, se, statistic, residual degrees of freedom and p of every column, (5, V, p), the weights known."""
    mean = engine.mean
    p, V = mean.coefficients.shape
    out = np.empty((5, V, p))
    for group in engine.groups:
        step = OneStep.of(group.statistics, weights)
        for j in range(p):
            tested = (site_variances if by_site else pooled_variance)(step, np.eye(p)[j : j + 1], 1.0)
            out[:, group.members, j] = [
                tested.estimate, tested.se, tested.statistic, tested.df_residual, tested.p
            ]  # fmt: skip
    return out


@pytest.mark.parametrize("estimated", [True, False])
def test_given_the_variances_tests_are_those_of_gls(table: pd.DataFrame, *, estimated: bool) -> None:
    """With our weights, and with such as no data give."""
    names = features(table)
    # Without poly(): gls takes rows out before it finds its columns, lm and we after.
    formula = "~ age * dx + sex + scanner + icv"
    model = fitted(formula, table)
    fit = model.fitted
    engine = Engine(fit.mean, fit.correlation, by_site=False, weighted=True)
    weights = engine.weights if estimated else 1.0 / np.geomspace(0.3, 6.0, len(fit.levels.labels))
    used = table[["site", "age", "dx", "sex", "scanner", "icv", *names]]
    theirs = np.array(session.call(GLS, data=used, features=names, formula=formula, ratio=1.0 / weights))
    ours = columns_one_by_one(engine, weights, by_site=False)
    scale = np.abs(theirs[:, :, 1])
    # 1e-6 is promised: gls solves by QR of the scaled rows, as we do.
    assert (np.abs(ours[0] - theirs[:, :, 0]) <= 1e-8 * scale).all()
    np.testing.assert_allclose(ours[1], theirs[:, :, 1], rtol=1e-8)
    np.testing.assert_allclose(ours[4], theirs[:, :, 3], rtol=1e-6, atol=1e-9)
    if estimated:
        # The tests add what the weights' own error adds, the same to every feature with the same rows.
        for j, column in enumerate(fit.mean.design.columns):
            tests = model.contrast({column: 1.0}, variance="pooled").table
            se = beside(tests, names, ["se"])[:, 0]
            raised = engine.contrast("", np.eye(len(fit.mean.design.columns))[j : j + 1]).raised
            assert (raised >= 1.0).all() and (raised < 1.1).all()
            np.testing.assert_allclose(se, theirs[:, j, 1] * np.sqrt(raised), rtol=1e-8)


SITE_VARIANCES = """
function(data, feature, formula, weights) {
  held <- options(contrasts = c("contr.treatment", "contr.treatment"))
  on.exit(options(held))
  data$y <- data[[feature]]
  data <- data[!is.na(data$y), ]
  data$site <- factor(data$site)
  data$w <- weights[data$site]
  fit <- lm(as.formula(paste("y", formula, "+ site")), data, weights = w)
  X <- model.matrix(fit)
  left <- diag(nrow(X)) - (X * sqrt(data$w)) %*% solve(crossprod(X * sqrt(data$w)), t(X * sqrt(data$w)))
  d <- tapply(diag(left), data$site, sum)
  s2 <- tapply(residuals(fit)^2, data$site, sum) / d
  P <- vcov(fit) / sigma(fit)^2
  # Half the covariance of two sites' weighted residual sums of squares, where the weights hold.
  A <- rowsum(t(rowsum(left^2, data$site)), data$site)
  own <- !grepl("^(site|\\\\(Intercept)", names(coef(fit)))
  t(sapply(which(own), function(j) {
    k <- rowsum((data$w * X %*% P[, j])^2, data$site)[, 1]
    v <- sum(k * s2)
    q <- as.numeric(k * s2 / d)
    df <- v^2 / drop(q %*% A %*% q)
    c(coef(fit)[j], sqrt(v), coef(fit)[j] / sqrt(v), df, 2 * pt(-abs(coef(fit)[j] / sqrt(v)), df))
  }))
}
"""


def test_site_variances_are_what_r_computes_with_n_by_n_matrices(table: pd.DataFrame) -> None:
    """Sums of squared residuals over leverages, Satterthwaite's df from the n × n residual maker."""
    formula = "~ age * dx + sex + scanner"
    model = fitted(formula, table)
    fit = model.fitted
    engine = Engine(fit.mean, fit.correlation, by_site=True, weighted=True)
    ours = columns_one_by_one(engine, engine.weights, by_site=True)
    for k, name in list(enumerate(fit.features))[::5]:
        used = table[["site", "age", "dx", "sex", "scanner", name]]
        theirs = np.asarray(
            session.call(SITE_VARIANCES, data=used, feature=name, formula=formula, weights=engine.weights)
        )
        # Rounding, of a product of n × n matrices.
        np.testing.assert_allclose(ours[:, k].T, theirs, rtol=1e-8, atol=1e-12)


ARRAY_WEIGHTS = """
function(Y, data, formula) {
  design <- model.matrix(as.formula(paste(formula, "+ site")), data)
  w <- limma::arrayWeights(t(Y), design, var.group = data$site, prior.n = 1e-8, method = "reml", maxiter = 200,
                           tol = 1e-9)
  tapply(1 / w, data$site, mean)
}
"""


def test_site_weights_are_limmas() -> None:
    """The same relative variances by another estimator: limma's REML of log variances, ours the mean of logs."""
    rng = np.random.default_rng(2016)
    V, sizes, truth = 400, {"A": 12, "B": 60, "C": 25, "D": 40}, {"A": 2.5, "B": 1.0, "C": 0.25, "D": 0.6}
    site = np.repeat(list(sizes), list(sizes.values()))
    table = pd.DataFrame({"site": site, "age": rng.normal(size=len(site)), "dx": rng.choice(["a", "b"], len(site))})
    sd = np.sqrt(pd.Series(site).map(truth).to_numpy())[:, None] * np.exp(rng.normal(0, 0.5, V))
    names = [f"f{k}" for k in range(V)]
    Y = rng.normal(size=(len(site), V)) * sd
    table = pd.concat([table, pd.DataFrame(Y, columns=names)], axis=1)
    fit = pcg.ComBat("~ age + dx", batch="site", features=names).fit(table).fitted
    engine = Engine(fit.mean, fit.correlation, by_site=True, weighted=True)
    r = session.call(ARRAY_WEIGHTS, Y=Y, data=table[["site", "age", "dx"]], formula="~ age + dx")
    ours, theirs = -np.log(engine.weights), np.log(np.asarray(r, dtype=float))
    assert list(r.index) == list(fit.levels.labels)
    # Site against site: normalisations differ.
    apart = (ours - theirs) - (ours - theirs).mean()
    # REML has the variance 2/d of a log variance, the mean of logs ψ'(d/2): their difference has the excess, over V.
    d = OneStep.of(engine.groups[0].statistics, engine.weights).design.df
    excess = np.sqrt((polygamma(1, d / 2) - 2 / d) / V)
    assert (np.abs(apart) < 4 * excess).all(), (apart, excess)
    # And both tell the truth, to four standard errors.
    off = ours - np.log([truth[label] for label in fit.levels.labels])
    assert (np.abs(off - off.mean()) < 4 * np.sqrt((polygamma(1, d / 2) + (2 / d).mean()) / V)).all()
