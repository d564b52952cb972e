"""What R's packages returned in the reference calls, given back by stand-ins of their names, in their own shapes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers import standins
from helpers.reference import Case
from r_bridge import session

REPLAY = "{name} <- function(...) readRDS(Sys.getenv('PCG_ANSWER'))\n"
NOTE = "a note of gamlss's, which ComBatFamily loads"
LOADING = f'.onLoad <- function(libname, pkgname) packageStartupMessage("{NOTE}")\n'
REPLAYED = {
    "neuroCombat": ["neuroCombat"],
    "ComBatFamily": ["combat", "combat_gam", "covfam", "combatls", "long_combat"],
    "longCombat": ["longCombat"],
    "gamlss": ["gamlss"],
}
SAVE = """
function(fit, place) {
  named <- function(x) {
    if (is.list(x) && identical(names(x), c("values", "rows", "columns")))
      return(structure(x$values, dimnames = list(x$rows, x$columns)))
    if (is.list(x)) lapply(x, named) else x
  }
  fit <- named(fit)
  if (!is.null(fit$smoothing)) fit$fits <- lapply(seq_along(fit$score), function(k) {
    list(sp = stats::setNames(fit$smoothing[, k], rownames(fit$smoothing)), gcv.ubre = fit$score[k])
  })
  if (!is.null(fit$coefs)) fit$fits <- lapply(seq_len(ncol(fit$coefs)), function(k) {
    c(if (k <= length(fit$fits)) fit$fits[[k]], list(coefficients = fit$coefs[, k]))
  })
  if (!is.null(fit$data_combat)) fit$data_combat <- as.data.frame(fit$data_combat)
  saveRDS(fit, place)
  Sys.setenv(PCG_ANSWER = place)
  NULL
}
"""
BY_BATCH = ("gamma.hat", "delta.hat", "gamma.star", "delta.star")


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """Stand-ins that give back what `answer` saved."""
    code = {name: LOADING + "".join(REPLAY.format(name=each) for each in names) for name, names in REPLAYED.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(standins, "PACKAGES", code)
        with standins.installed(standins.build(folder)):
            yield
        session.call("function() Sys.unsetenv('PCG_ANSWER')")


def matrix(table: pd.DataFrame | np.ndarray, rows: list[str] | None = None, columns: list[str] | None = None) -> Any:
    """A matrix of R's with the names that the package gives it."""
    if isinstance(table, pd.DataFrame):
        rows, columns = [str(label) for label in table.index], [str(label) for label in table.columns]
    return {"values": np.asarray(table, dtype=float), "rows": rows, "columns": columns}


def answer(replay: Path, fit: dict[str, Any]) -> None:
    session.call(SAVE, fit=fit, place=str(replay / "answer.rds"))


def stored(case: Case, name: str, features: list[str]) -> pd.DataFrame:
    """A stored table of batches × features, by name."""
    table = case.output(name)
    return table.set_axis(table.index.astype(str))[features]


def neurocombat_fit(case: Case, features: list[str]) -> dict[str, Any]:
    """`neuroCombat`'s list: data and standardization are features × subjects, site effects batches × features."""
    beta, scale, harmonized = (case.output(name) for name in ("beta.hat", "standardization", "harmonized"))
    priors = case.output("priors") if case.has("priors") else None
    means = np.repeat(scale.loc[features, ["stand.mean"]].to_numpy(), len(harmonized), axis=1)
    return {
        "dat.combat": matrix(harmonized[features].T),
        "estimates": {
            **{name: matrix(stored(case, name, features).to_numpy()) for name in BY_BATCH},
            **{
                name: None if priors is None else priors[name].to_numpy(dtype=float)
                for name in ("gamma.bar", "t2", "a.prior", "b.prior")
            },
            "stand.mean": matrix(means),
            "mod.mean": matrix(means * 0),
            "var.pooled": matrix(scale.loc[features, ["var.pooled"]].to_numpy(), features, None),
            "beta.hat": matrix(beta[features].to_numpy(), [str(term) for term in beta.index], features),
        },
    }


def comfam_fit(case: Case, features: list[str]) -> dict[str, Any]:
    """`comfam`'s list; `covfam` puts it into its own, beside what it made of the principal components."""
    data = case.output("harmonized")[features]
    estimates = {
        "stand.mean": matrix(case.output("stand.mean")[features]),
        "stand.sd": matrix(np.ones(data.shape)),
        "var.pooled": case.output("var.pooled")["var.pooled"].reindex(features).to_numpy(),
        **{name: matrix(stored(case, name, features)) for name in BY_BATCH},
    }
    coefs = {"coefs": matrix(case.output("coefs")[features])} if case.has("coefs") else {}
    if not case.name.startswith("covfam"):
        about = case.output("fit_summary").reindex(features)
        sp = (
            about.drop(columns="theta", errors="ignore")
            .filter(regex="^sp::")
            .select_dtypes("number")
            .rename(columns=lambda name: name[4:])
        )
        fits = {"smoothing": matrix(sp.T), "score": about["score"].to_numpy()} if sp.shape[1] else {"fits": {}}
        return {"dat.combat": matrix(data), "batch.info": {}, **fits, **coefs, "estimates": estimates}
    first = {"dat.combat": matrix(case.output("combat_step_harmonized")[features]), "estimates": estimates}
    scores = {"dat.combat": matrix(np.zeros((len(data), 3))), "estimates": {"gamma.hat": matrix(np.zeros((5, 3)))}}
    return {
        "dat.covbat": matrix(data),
        "batch.info": {},
        "combat.out": first,
        "pc.output": {},
        "n.pc": int(case.about["n.pc"]),
        "scores.combat": scores,
    }


def longcombat_fit(case: Case, features: list[str]) -> dict[str, Any]:
    """`longCombat`'s list."""
    names = {name: name.replace(".", "hat") for name in ("gammahat", "delta2hat", "gammastarhat", "delta2starhat")}
    data = case.output("harmonized")[[f"{feature}.combat" for feature in features]]
    return {
        "data_combat": matrix(data.to_numpy(dtype=float), None, list(data.columns)),
        **{name: matrix(stored(case, name, features)) for name in names},
    }
