"""Small R packages that stand in for neuroCombat, ComBatFamily, gamlss and longCombat, which no registry here has.

They have the real packages' names and signatures, write what they were given to the file `PCG_RECORD`, and return
numbers of the right shape and place, so that it shows where each of them ends up. Where the real ones trip over what
they are given (a covariate called ``y``, gamlss not attached), so do these. No code of theirs is here.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from r_bridge import session

RECORD = """
record <- function(...) saveRDS(list(...), Sys.getenv("PCG_RECORD"))
fill <- function(rows, columns, start) matrix(start + seq_len(rows * columns) / 1000, rows, columns)
"""
NEUROCOMBAT = """
neuroCombat <- function(dat, batch, mod = NULL, eb = TRUE, parametric = TRUE, mean.only = FALSE, ref.batch = NULL,
                        verbose = TRUE) {
  record(dat = dat, batch = batch, mod = mod, eb = eb, parametric = parametric, mean.only = mean.only,
         ref.batch = ref.batch, verbose = verbose)
  B <- nlevels(batch); V <- nrow(dat)
  list(dat.combat = dat + 1, estimates = list(
    gamma.hat = fill(B, V, 1), delta.hat = fill(B, V, 2), gamma.star = if (eb) fill(B, V, 3),
    delta.star = if (eb) fill(B, V, 4), gamma.bar = seq_len(B), t2 = 10 + seq_len(B), a.prior = 20 + seq_len(B),
    b.prior = 30 + seq_len(B), stand.mean = matrix(5 + seq_len(V), V, ncol(dat)), var.pooled = matrix(6 + seq_len(V)),
    beta.hat = fill(B + if (is.null(mod)) 0 else ncol(mod), V, 7)
  ))
}
"""
COMBATFAMILY = """
.onLoad <- function(libname, pkgname) packageStartupMessage("Registered S3 method overwritten by 'gamlss'")
answer <- function(data, bat, eb, covar = NULL, formula = NULL) {
  B <- nlevels(bat); V <- ncol(data)
  # The response is y and the batches are batch in one data.frame with the covariates: theirs of that name are lost.
  held <- if (is.null(covar)) data.frame(row.names = seq_len(nrow(data))) else covar
  held$batch <- model.matrix(~ bat - 1)
  fits <- lapply(seq_len(V), function(k) {
    held$y <- data[, k]
    plain <- if (is.null(formula)) y ~ 1 else formula
    whole <- update(plain, ~ . + batch - 1)
    if (any(startsWith(labels(terms(plain)), "s("))) mgcv::gam(whole, data = held, sp = 1) else lm(whole, held)
  })
  list(dat.combat = as.data.frame(data + 1), fits = fits, estimates = list(
    stand.mean = as.matrix(data), var.pooled = matrix(6 + seq_len(V), nrow(data), V, byrow = TRUE),
    gamma.hat = fill(B, V, 1), delta.hat = fill(B, V, 2), gamma.star = if (eb) fill(B, V, 3),
    delta.star = if (eb) fill(B, V, 4)
  ))
}
combat <- function(data, bat, covar = NULL, formula = NULL, eb = TRUE, robust.LS = FALSE, ref.batch = NULL, ...) {
  record(which = "combat", data = data, bat = bat, covar = covar, formula = deparse(formula), eb = eb,
         robust.LS = robust.LS, ref.batch = ref.batch, dots = list(...))
  answer(data, bat, eb, covar, formula)
}
combat_gam <- function(data, bat, covar = NULL, formula = NULL, eb = TRUE, robust.LS = FALSE, ref.batch = NULL, ...) {
  record(which = "combat_gam", data = data, bat = bat, covar = covar, formula = deparse(formula), eb = eb,
         robust.LS = robust.LS, ref.batch = ref.batch, dots = list(...))
  answer(data, bat, eb, covar, formula)
}
covfam <- function(data, bat, covar = NULL, model = lm, formula = NULL, score.model = NULL, score.args = NULL,
                   eb = TRUE, robust.LS = FALSE, ref.batch = NULL, percent.var = 0.95, n.pc = NULL, std.var = TRUE,
                   ...) {
  record(which = "covfam", data = data, bat = bat, covar = covar, model = identical(model, mgcv::gam),
         formula = deparse(formula), eb = eb, ref.batch = ref.batch, percent.var = percent.var, n.pc = n.pc,
         dots = list(...))
  list(dat.covbat = as.data.frame(data + 1), combat.out = answer(data, bat, eb, covar, formula), n.pc = 7L)
}
combatls <- function(data, bat, covar = NULL, formula = NULL, sigma.formula = ~ 1, eb = TRUE, ref.batch = NULL, ...) {
  record(which = "combatls", data = data, bat = bat, covar = covar, formula = deparse(formula),
         sigma.formula = deparse(sigma.formula), eb = eb, ref.batch = ref.batch, dots = list(...))
  eval(quote(NO()), globalenv())
  if (!is.null(formula)) model.matrix(delete.response(terms(formula)), covar)
  model.matrix(sigma.formula, covar)
  for (k in seq_len(ncol(data))) warning("Algorithm RS has not yet converged")
  answer(data, bat, eb, covar, formula)
}
long_combat <- function(data, bat, covar = NULL, formula = NULL, eb = TRUE, robust.LS = FALSE, ref.batch = NULL, ...) {
  record(which = "long_combat", data = data, bat = bat, covar = covar, formula = deparse(formula), eb = eb,
         robust.LS = robust.LS, ref.batch = ref.batch, dots = list(...))
  answer(data, bat, eb, covar, NULL)
}
"""
GAMLSS = """
.onLoad <- function(libname, pkgname) packageStartupMessage("a note of gamlss's")
.onAttach <- function(libname, pkgname) packageStartupMessage(" ******   GAMLSS   ****** ")
NO <- function() "NO"
pb <- function(x) x
"""
LONGCOMBAT = """
longCombat <- function(idvar, timevar, batchvar, features, formula, ranef, data, niter = 30, method = "REML",
                       verbose = TRUE) {
  record(idvar = idvar, timevar = timevar, batchvar = batchvar, features = features, formula = formula, ranef = ranef,
         data = data, niter = niter, method = method, verbose = verbose)
  B <- nlevels(data[[batchvar]]); V <- length(features)
  adjusted <- data[, features, drop = FALSE] + 1
  names(adjusted) <- paste0(features, ".combat")
  list(data_combat = data.frame(data[, c(idvar, timevar, batchvar)], adjusted, check.names = FALSE),
       gammahat = fill(B, V, 1), delta2hat = fill(B, V, 2), gammastarhat = fill(B, V, 3), delta2starhat = fill(B, V, 4))
}
"""
LONGCOMBAT_AT_WORK = """
longCombat <- function(idvar, timevar, batchvar, features, formula, ranef, data, niter = 30, method = "REML",
                       verbose = TRUE) {
  batch <- data[[batchvar]]
  n <- as.numeric(table(batch))
  parts <- lapply(features, function(name) {
    fit <- suppressMessages(lme4::lmer(
      as.formula(paste0(name, " ~ ", formula, " + ", batchvar, " + ", ranef)), data,
      control = lme4::lmerControl(optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-12))
    ))
    effect <- c(0, lme4::fixef(fit)[paste0(batchvar, levels(batch)[-1])])
    effect <- effect - sum(n * effect) / sum(n)
    sd <- if (method == "REML") sigma(fit) else sqrt(mean(resid(fit)^2))
    list(center = fitted(fit) - effect[batch], gamma = effect / sd, sd = sd, y = data[[name]])
  })
  z <- sapply(parts, function(p) (p$y - p$center) / p$sd)
  gamma <- g <- sapply(parts, function(p) p$gamma)
  delta <- apply(z, 2, function(x) tapply(x, batch, var))
  bar <- rowMeans(gamma); t2 <- apply(gamma, 1, var)
  m <- rowMeans(delta); v <- apply(delta, 1, var)
  a <- (m^2 + 2 * v) / v; b <- (m^3 + m * v) / v
  location <- function(d) (n * t2 * gamma + d * bar) / (n * t2 + d)
  scale <- function(g) {
    within <- sapply(seq_along(parts), function(k) tapply((z[, k] - g[batch, k])^2, batch, sum))
    (b + within / 2) / (n / 2 + a - 1)
  }
  g <- location(delta); d <- scale(g)
  for (round in seq_len(niter)) { new <- location(d); d <- scale(g <- new) }
  adjusted <- sapply(seq_along(parts), function(k) {
    p <- parts[[k]]
    p$sd * (z[, k] - g[batch, k]) / sqrt(d[batch, k]) + p$center
  })
  colnames(adjusted) <- paste0(features, ".combat")
  list(data_combat = data.frame(data[, c(idvar, timevar, batchvar)], adjusted, check.names = FALSE),
       gammahat = gamma, delta2hat = delta, gammastarhat = g, delta2starhat = d)
}
"""
"""longCombat from its paper's equations, for what has to follow from the data; it gives the stored outputs."""
PACKAGES = {"neuroCombat": NEUROCOMBAT, "gamlss": GAMLSS, "ComBatFamily": COMBATFAMILY, "longCombat": LONGCOMBAT}


def build(folder: Path) -> Path:
    """Build and install the stand-ins; their library."""
    library = folder / "library"
    library.mkdir()
    sources = []
    for name, code in PACKAGES.items():
        source = folder / name
        (source / "R").mkdir(parents=True)
        (source / "DESCRIPTION").write_text(
            f"Package: {name}\nVersion: 0.0.1\nTitle: Stand-In for Tests\nDescription: Records its arguments.\n"
            "Author: us\nMaintainer: us <us@example.org>\nLicense: BSD_3_clause\n"
        )
        (source / "NAMESPACE").write_text('exportPattern("^[a-zA-Z]")\nimport(stats)\n')
        (source / "R" / "code.R").write_text(RECORD + code)
        sources.append(str(source))
    command = ["R", "CMD", "INSTALL", "--no-docs", "--no-byte-compile", "--no-test-load", f"--library={library}"]
    done = subprocess.run([*command, *sources], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library


@contextmanager
def installed(library: Path) -> Iterator[None]:
    """Put the stand-ins in front of this R's libraries, and take them out again."""
    before = session.call(
        "function(library) { held <- .libPaths(); .libPaths(c(library, held)); held }", library=str(library)
    )
    try:
        yield
    finally:
        remove = (
            "function(names, held) { for (n in intersect(names, loadedNamespaces())) unloadNamespace(n); "
            ".libPaths(held) }"
        )
        session.call(remove, names=list(PACKAGES), held=list(before))


@contextmanager
def recording(place: Path) -> Iterator[dict[str, Any]]:
    """What a stand-in was given, as R describes it; filled at the end."""
    found: dict[str, Any] = {}
    os.environ["PCG_RECORD"] = str(place)
    session.call("function(place) { Sys.setenv(PCG_RECORD = place); NULL }", place=str(place))
    yield found
    found |= session.call("function(place) readRDS(place)", place=str(place))
