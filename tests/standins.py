"""Small R packages that stand in for neuroCombat, ComBatFamily and longCombat, which no registry has.

They have the real packages' names and signatures, write what they were given to the file `PCG_RECORD`, and return
numbers of the right shape and place, so that it shows where each of them ends up. No code of theirs is here.
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
answer <- function(data, bat, eb) {
  B <- nlevels(bat); V <- ncol(data)
  list(dat.combat = as.data.frame(data + 1), estimates = list(
    stand.mean = as.matrix(data), var.pooled = matrix(6 + seq_len(V), nrow(data), V, byrow = TRUE),
    gamma.hat = fill(B, V, 1), delta.hat = fill(B, V, 2), gamma.star = if (eb) fill(B, V, 3),
    delta.star = if (eb) fill(B, V, 4)
  ))
}
combat <- function(data, bat, covar = NULL, formula = NULL, eb = TRUE, robust.LS = FALSE, ref.batch = NULL, ...) {
  record(which = "combat", data = data, bat = bat, covar = covar, formula = deparse(formula), eb = eb,
         robust.LS = robust.LS, ref.batch = ref.batch, dots = list(...))
  answer(data, bat, eb)
}
combat_gam <- function(data, bat, covar = NULL, formula = NULL, eb = TRUE, robust.LS = FALSE, ref.batch = NULL, ...) {
  record(which = "combat_gam", data = data, bat = bat, covar = covar, formula = deparse(formula), eb = eb,
         robust.LS = robust.LS, ref.batch = ref.batch, dots = list(...))
  answer(data, bat, eb)
}
covfam <- function(data, bat, covar = NULL, model = lm, formula = NULL, score.model = NULL, score.args = NULL,
                   eb = TRUE, robust.LS = FALSE, ref.batch = NULL, percent.var = 0.95, n.pc = NULL, std.var = TRUE,
                   ...) {
  record(which = "covfam", data = data, bat = bat, covar = covar, model = identical(model, mgcv::gam),
         formula = deparse(formula), eb = eb, ref.batch = ref.batch, percent.var = percent.var, n.pc = n.pc,
         dots = list(...))
  answer(data, bat, eb)
}
combatls <- function(data, bat, covar = NULL, formula = NULL, sigma.formula = ~ 1, eb = TRUE, ref.batch = NULL, ...) {
  record(which = "combatls", data = data, bat = bat, covar = covar, formula = deparse(formula),
         sigma.formula = deparse(sigma.formula), eb = eb, ref.batch = ref.batch, dots = list(...))
  answer(data, bat, eb)
}
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
PACKAGES = {"neuroCombat": NEUROCOMBAT, "ComBatFamily": COMBATFAMILY, "longCombat": LONGCOMBAT}


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
        (source / "NAMESPACE").write_text('exportPattern("^[a-zA-Z]")\nimportFrom(stats, lm)\n')
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
