"""A model here and in R, compared number by number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from pycombat_gam.combat.estimator import ComBat
from pycombat_gam.predict.predictor import Predictor
from r_bridge.agreement.of_combat import crosscheck_combat
from r_bridge.agreement.of_predictor import crosscheck_predictor
from r_bridge.agreement.report import Agreement


def crosscheck(
    model: ComBat | Predictor | str,
    table: pd.DataFrame,
    *,
    engines: Sequence[str] | None = None,
    **options: Any,
) -> Agreement:
    """Fit a model, let R do the same with every engine that applies, and compare them quantity by quantity.

    ComBat: mgcv fits the mean of any formula; lme4 takes its place for random effects without smooths. ComBat's further
    steps are done in R by code of this package. sva, neuroCombat and ComBatFamily are asked if they are installed and
    can fit the model, and so is longCombat for ``(1 | subject)``: with REML, its default residual variance, and with
    MSR, which is ours. An engine that stops at the data, as neuroCombat does at a constant feature, is left out with
    its message unless it was asked for by name.

    Tests of terms are those of `ComBat.test` with ``variance="pooled"``. Without site weights they stand beside R's
    ``lm`` with site as a factor, mgcv's tests, or lme4's with Kenward and Roger's degrees of freedom; with the site
    weights, taken as known, beside ``nlme::gls``. R has none of random effects by ML, or of terms beside smooths and
    random effects together.

    Predictor: R measures the predictions at sites left out, of raw and of harmonized features. pROC gives AUC and
    DeLong's variance, ``glm`` and ``lm`` calibration, survival Kaplan–Meier risks and observed over expected risks, and
    plain means the rest. metafor pools over sites by ``rma(method = "PM", test = "knha")``. It gets our numbers of each
    site, so that a difference at a site does not count twice. R neither fits the models nor makes the sets.

    Differences are in units of the residual sd for ComBat, and each has a tolerance with its reason. A known difference
    counts as explained only if the numbers agree once our computation uses R's rule. R's search is blamed only where
    R's own score is better at our smoothing parameters.

    Parameters
    ----------
    model : ComBat, Predictor or str
        A `pycombat_gam.ComBat` or `pycombat_gam.Predictor`, fitted or not (it is fitted again), or a formula with the
        arguments of ComBat as `options`: ``crosscheck("~ s(age) + sex", table, batch="site")``.
    table : DataFrame
        One wide table.
    engines : list of str, optional
        Which to ask; by default all that apply. Of ComBat ``"mgcv"``, ``"lme4"``, ``"stats"`` (lm), ``"nlme"`` (gls),
        ``"sva"``, ``"neuroCombat"``, ``"ComBatFamily"`` and ``"longCombat"``, mgcv only where lme4 does not apply. Of
        predictions ``"pROC"``, ``"stats"`` (glm, lm, means), ``"survival"`` and ``"metafor"``.
    **options
        Arguments of ComBat, if `model` is a formula.

    Returns
    -------
    Agreement
        Prints as a table; `.table` is a DataFrame; `.write(path)` leaves HTML and a folder that R alone can run.

    Raises
    ------
    OptionError
        For an engine that is unknown, does not apply, or a model with a `mean_model` of its own.
    RMissingError, RError
        Without R or a package that is needed; if R stops.

    Examples
    --------
    >>> import pycombat_gam as pcg, r_bridge
    >>> table = pcg.datasets.load_multisite()
    >>> agreement = r_bridge.crosscheck("~ age + sex", table, batch="site", id="subject", features="_thickness$")
    >>> agreement.verdict
    'agrees'
    """
    if isinstance(model, Predictor):
        return crosscheck_predictor(model, table, engines, options)
    return crosscheck_combat(model, table, engines, options)
