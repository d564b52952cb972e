"""sva::ComBat, run now, beside ours: bladderbatch and the packaged table, every option, everything compared."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
from pycombat_gam.formula import parse_formula
from r_bridge import session

pytestmark = pytest.mark.live_r

BLADDER = """
function() {
  data(bladderdata, package = "bladderbatch", envir = environment())
  pheno <- Biobase::pData(bladderEset)
  list(Y = t(Biobase::exprs(bladderEset)), batch = as.character(pheno$batch), cancer = as.character(pheno$cancer))
}
"""
COMBAT = """
function(Y, batch, X, par.prior, mean.only, ref.batch) {
  out <- suppressMessages(sva::ComBat(t(Y), batch, mod = X, par.prior = par.prior, mean.only = mean.only,
                                      ref.batch = ref.batch, BPPARAM = BiocParallel::SerialParam()))
  t(out)
}
"""
OPTIONS = [
    {"prior": prior, "mean_only": mean_only, "with_ref": ref, "covariates": covariates}
    for prior, mean_only, ref, covariates in itertools.product(
        ["parametric", "nonparametric"], [False, True], [False, True], [False, True]
    )
]


def name_of(options: dict[str, object]) -> str:
    return "-".join(key if value is True else str(value) for key, value in options.items() if value is not False)


@pytest.fixture(scope="module")
def bladder() -> tuple[pd.DataFrame, pd.DataFrame]:
    session.require("sva")
    session.require("bladderbatch")
    held = session.call(BLADDER)
    Y = np.asarray(held["Y"], dtype=float)
    assert Y.shape == (57, 22283)
    covariates = pd.DataFrame({"batch": np.asarray(held["batch"]), "cancer": np.asarray(held["cancer"])})
    return pd.DataFrame(Y, columns=[f"probe {k}" for k in range(Y.shape[1])]), covariates


def compare(
    Y: pd.DataFrame, covariates: pd.DataFrame, formula: str, batch: str, ref: str | None, options: dict[str, object]
) -> None:
    model = pcg.ComBat(
        formula if options["covariates"] else "~ 1",
        batch=batch,
        prior=str(options["prior"]),
        mean_only=bool(options["mean_only"]),
        ref_batch=ref if options["with_ref"] else None,
    )
    ours = model.fit_transform(Y.to_numpy(), covariates)
    X = np.ones((len(Y), 1))
    if options["covariates"]:
        X = np.column_stack(
            [X, pd.get_dummies(covariates[list(parse_formula(formula).variables)], drop_first=True).to_numpy(float)]
        )
    theirs = session.call(
        COMBAT,
        Y=Y.to_numpy(),
        batch=covariates[batch].astype(str).tolist(),
        X=X,
        **{
            "par.prior": options["prior"] == "parametric",
            "mean.only": options["mean_only"],
            "ref.batch": ref if options["with_ref"] else None,
        },
    )
    theirs = np.asarray(theirs, dtype=float)
    assert theirs.shape == ours.shape
    # 1e-9 sd: the project's parity bound; sva solves normal equations.
    assert np.abs((ours - theirs) / Y.std(ddof=1).to_numpy()).max() <= 1e-9


@pytest.mark.parametrize("options", [o for o in OPTIONS if o["prior"] == "parametric"], ids=name_of)
def test_bladderbatch(bladder: tuple[pd.DataFrame, pd.DataFrame], options: dict[str, object]) -> None:
    """All 22,283 probes."""
    Y, covariates = bladder
    compare(Y, covariates, "~ cancer", "batch", "1", options)


@pytest.mark.parametrize("options", [o for o in OPTIONS if o["prior"] == "nonparametric"], ids=name_of)
def test_bladderbatch_nonparametric(bladder: tuple[pd.DataFrame, pd.DataFrame], options: dict[str, object]) -> None:
    """400 probes, spread over the chip: R needs a minute for 1000 and hours for all."""
    Y, covariates = bladder
    compare(Y.iloc[:, ::56], covariates, "~ cancer", "batch", "1", options)


@pytest.mark.parametrize("options", OPTIONS, ids=name_of)
def test_packaged_table(options: dict[str, object]) -> None:
    table = pcg.datasets.load_multisite()
    features = [name for name in table if name.endswith("_thickness")]
    compare(table[features], table.drop(columns=features), "~ age + sex + dx", "site", "Bergen", options)
