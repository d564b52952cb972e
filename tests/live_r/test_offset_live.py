"""Offsets beside R's: gam's fits and predictions, ComBat's mean, its crosscheck, and a family by name."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pycombat_gam as pcg
import r_bridge
from r_bridge.errors import RWarning
from r_bridge.formula import to_r
from r_bridge.session import call

pytestmark = pytest.mark.live_r

R_CODE = """function(data, new, formula, argument, method) {
  options(contrasts = c("contr.treatment", "contr.treatment"))
  tight <- mgcv::gam.control(epsilon = 1e-13, mgcv.tol = 1e-14, newton = list(
    conv.tol = 1e-13, maxNstep = 5, maxSstep = 2, maxHalf = 50, use.svd = FALSE))
  arguments <- list(as.formula(formula), data = data, method = method, control = tight)
  if (argument) arguments$offset <- quote(w)
  b <- suppressWarnings(do.call(mgcv::gam, arguments))
  s <- summary(b)
  p <- predict(b, new, se.fit = TRUE)
  terms <- predict(b, new, type = "terms")
  X <- predict(b, new, type = "lpmatrix")
  list(fitted = as.numeric(fitted(b)), predict = as.numeric(p$fit), se = as.numeric(p$se.fit),
       again = as.numeric(predict(b)), terms = unname(terms), labels = colnames(terms),
       constant = as.numeric(attr(terms, "constant")), offset = as.numeric(attr(X, "model.offset")),
       numbers = c(score = as.numeric(b$gcv.ubre), scale = b$sig2, aic = AIC(b), r_squared = s$r.sq,
                   deviance_explained = s$dev.expl, null_deviance = b$null.deviance, deviance = deviance(b)),
       parametric = as.numeric(s$p.table), names = rownames(s$p.table))
}"""

FORMULAS = (
    "y ~ s(x) + g + offset(w)",
    "y ~ x + offset(log(z)) + offset(2 * w)",
    "y ~ s(x, k = 6) + offset(ifelse(g == 'a', w, z)) + s(h, bs = 're')",
    "y ~ offset(w) + ns(x, df = 3)",
    "y ~ 0 + g + offset(I(w^2)) + s(z)",
    "y ~ offset(w)",
)


def data(seed: int, n: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    made = pd.DataFrame(
        {
            "x": rng.uniform(0, 1, n),
            "z": rng.uniform(1, 2, n),
            "w": rng.normal(0, 2, n),
            "g": pd.Categorical(rng.choice(["a", "b"], n)),
            "h": pd.Categorical(rng.choice(list("klmnop"), n)),
        }
    )
    return made.assign(y=np.sin(6 * made["x"]) + (made["g"] == "a") + made["w"] + rng.normal(0, 0.4, n))


TABLE, NEW = data(1, 200), data(2, 25)


@pytest.mark.parametrize(("method", "argument"), [("REML", False), ("GCV.Cp", True)])
@pytest.mark.parametrize("formula", FORMULAS)
def test_gam_takes_offsets_as_mgcv_does(formula: str, argument: bool, method: str) -> None:
    theirs: dict[str, Any] = dict(
        call(R_CODE, data=TABLE, new=NEW, formula=to_r(formula), argument=argument, method=method)
    )
    fit = pcg.gam(formula, TABLE, method=method, offset="w" if argument else None, family="gaussian")
    sd = np.sqrt(fit.scale)
    # Both searches end at a gradient of 1e-10; 1e-8 measured.
    np.testing.assert_allclose(fit.fitted, theirs["fitted"], rtol=0, atol=1e-6 * sd)
    value, error = fit.predict(NEW, se=True)
    np.testing.assert_allclose(value, theirs["predict"], rtol=0, atol=1e-6 * sd)
    np.testing.assert_allclose(error, theirs["se"], rtol=1e-5)
    # Without new rows mgcv gives the fitted values, which hold the argument; ours never do.
    again = fit.predict() + (TABLE["w"] if argument else 0.0)
    np.testing.assert_allclose(again, theirs["again"], rtol=0, atol=1e-6 * sd)
    terms = fit.predict(NEW, type="terms")
    assert (theirs["labels"] is None) == (len(terms.columns) == 0)
    if len(terms.columns):
        assert list(terms.columns) == [str(label).replace("splines::", "") for label in theirs["labels"]]
        # As the fitted values.
        np.testing.assert_allclose(terms, np.asarray(theirs["terms"]), rtol=0, atol=1e-6 * sd)
    np.testing.assert_allclose(fit.predict(NEW, type="lpmatrix").attrs["model.offset"], theirs["offset"], rtol=1e-12)
    numbers = theirs["numbers"]
    for name in numbers.index:
        # aic counts degrees of freedom, of which 1e-5 are open where a λ is infinite.
        assert abs(getattr(fit, name) - numbers[name]) < 1e-4 * (1 + abs(numbers[name])), name
    printed = fit.summary().parametric
    assert [str(name).replace("splines::", "") for name in np.atleast_1d(theirs["names"])] == list(printed.index)
    # Errors and p-values move with the search at first order.
    np.testing.assert_allclose(printed.to_numpy().ravel(order="F"), theirs["parametric"], rtol=1e-4, atol=1e-9)


def test_the_bridge_passes_offsets_on() -> None:
    formula = "y ~ s(x) + offset(np.log(z)) + g"
    ours = pcg.gam(formula, TABLE, offset="w", family="gaussian")
    theirs = r_bridge.gam(formula, TABLE, offset=TABLE["w"], family="gaussian", tight=True)
    sd = np.sqrt(ours.scale)
    # Both searches end at a gradient of 1e-10, as above; below lme4 twice, on the same numbers.
    assert (ours.fitted - theirs.fitted).abs().max() < 1e-6 * sd
    assert (ours.predict(NEW) - theirs.predict(NEW)).abs().max() < 1e-6 * sd
    assert ours.formula == theirs.formula
    mixed = r_bridge.lmer("y ~ x + offset(w) + (1 | h)", TABLE)
    less = r_bridge.lmer("less ~ x + (1 | h)", TABLE.assign(less=TABLE["y"] - TABLE["w"]))
    # lme4 twice, on the same numbers: where its search stops.
    np.testing.assert_allclose(mixed.coef, less.coef, rtol=1e-6)


@pytest.mark.parametrize(
    ("formula", "reference"),
    [("~ age + sex + offset(icv/1e6)", "Cork"), ("~ s(age) + offset(log(icv)/9) + offset(age/100)", None)],
)
def test_combat_s_offset_agrees_with_mgcv(formula: str, reference: str | None) -> None:
    table = pcg.datasets.load_multisite()
    arguments: dict[str, Any] = {
        "batch": "site",
        "id": "subject",
        "features": "^lh_.*_thickness$",
        "ref_batch": reference,
    }
    agreement = r_bridge.crosscheck(formula, table, **arguments)
    assert agreement.verdict == "agrees", str(agreement)
    assert set(agreement.table["engine"]) == ({"mgcv"} if "s(" in formula else {"mgcv", "stats (lm)"})
    assert agreement.left_out["sva"] == "has no offset()"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RWarning)
        by_r = pcg.ComBat(formula, **arguments, mean_model=r_bridge.MgcvMean()).fit_transform(table)
    ours = pcg.ComBat(formula, **arguments).fit_transform(table)
    features = [name for name in table.columns if name.startswith("lh_") and name.endswith("_thickness")]
    # The search for smoothing parameters on both sides.
    assert (by_r[features] - ours[features]).abs().max().max() < 1e-6 * table[features].std().min()


def test_packages_without_an_offset_say_so() -> None:
    table = pcg.datasets.load_multisite()
    for fit in (r_bridge.sva_combat, r_bridge.neurocombat, r_bridge.comfam):
        with pytest.raises(pcg.PcgError, match="has no offset: "):
            fit(table, "~ age + offset(icv)", "site", features="_thickness$", id="subject")
