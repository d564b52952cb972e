"""Tests of what a ComBat was fitted with: `ComBat.test` and `ComBat.contrast`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from pycombat_gam.combat.results import Results
from pycombat_gam.errors import OptionError, PcgWarning
from pycombat_gam.infer.columns import contrast_row
from pycombat_gam.infer.effects import LITTLE, Effects, effects_of, little_within
from pycombat_gam.infer.engine import Engine, TermTest
from pycombat_gam.infer.hc3 import RawRows
from pycombat_gam.mean.fit import MeanFit
from pycombat_gam.tables.arguments import check_level
from pycombat_gam.words import did_you_mean, in_one, listing


class Inference(Results):
    """Tests after harmonization, from the statistics that the fit kept."""

    def test(self, *terms: str, weights: str | None = "site", variance: str = "site", level: float = 0.95) -> Effects:
        """Test terms of the formula in every feature, with site effects accounted for.

        One weighted fit of the raw features on site intercepts and the formula. It keeps its level, whatever
        harmonization did: least squares of the harmonized table under its true covariance is this fit.

        Parameters
        ----------
        terms : str
            Labels of terms, such as ``"dx"`` or ``"s(age)"``. By default all, but for random effects.
        weights : {"site"} or None
            Weigh each site by the inverse of its variance relative to the others, or all alike.
        variance : {"site", "pooled"}
            Each feature has a variance at each site, or one at all sites up to the weights. ``weights=None,
            variance="pooled"`` is R's ``lm`` with site as a factor.
        level : float
            Coverage of the intervals.

        Returns
        -------
        Effects

        Raises
        ------
        NotFittedError
            Before `fit`.
        OptionError
            For an unknown term or option, and for a model that was saved without the statistics of its sites.

        Notes
        -----
        The variance of a site is taken to be the same for all of its rows. Where groups differ in variance within a
        site, such as patients and controls, the level may be off; ``variance="hc3"`` of `pycombat_gam.later_test` mends
        some of that.

        Examples
        --------
        >>> import pycombat_gam as pcg
        >>> model = pcg.ComBat("~ age + sex + dx", batch="site", id="subject", features="_thickness$")
        >>> effects = model.fit(pcg.datasets.load_multisite()).test("dx")
        >>> effects.table.feature[effects.table.p.idxmin()]
        'lh_precentral_thickness'
        """
        engine = engine_of(self.fitted.mean, self.fitted.correlation, weights, variance, level)
        chosen = chosen_terms(engine, terms)
        tests = [engine.term(label) for label in chosen]
        fitted = self.fitted
        return told(engine, tests, fitted.features, fitted.levels.labels, f"Tests of {self!r}", level)

    def tested(self) -> Effects | None:
        """Test every term, as any harmonizer is asked to (`study.harmonizer`); None where nothing can be tested."""
        mean = self.fitted.mean
        if mean.groups is None or not Engine(mean, 0.0, by_site=True, weighted=True).terms:
            return None
        with warnings.catch_warnings():
            # What it warns of is among the notes.
            warnings.simplefilter("ignore", PcgWarning)
            return self.test()

    def contrast(
        self,
        contrast: Mapping[str, float] | Sequence[Mapping[str, float]],
        *,
        weights: str | None = "site",
        variance: str = "site",
        level: float = 0.95,
    ) -> Effects:
        """Test a linear combination of coefficients in every feature, or several at once.

        Parameters
        ----------
        contrast : dict of str to float, or list of such
            A weight for each coefficient, by R's name (``"dxASD"``) or with the level in brackets (``"dx[ASD]"``,
            ``"age:dx[ASD]"``). A list is tested together, by an F test.
        weights, variance, level : object
            As in `test`.

        Returns
        -------
        Effects

        Raises
        ------
        OptionError
            As in `test`, and for an unknown coefficient.

        Examples
        --------
        >>> import pycombat_gam as pcg
        >>> model = pcg.ComBat("~ age*dx", batch="site", id="subject", features="_thickness$")
        >>> at_60 = model.fit(pcg.datasets.load_multisite()).contrast({"dx[patient]": 1, "age:dx[patient]": 60})
        >>> at_60.table.term.unique().tolist()
        ['dx[patient] + 60*age:dx[patient]']
        """
        engine = engine_of(self.fitted.mean, self.fitted.correlation, weights, variance, level)
        several = [contrast] if isinstance(contrast, Mapping) else list(contrast)
        rows = [contrast_row(self.fitted.mean.design, each) for each in several]
        C = np.vstack(rows) if rows else np.zeros((0, 0))
        if not rows or np.linalg.matrix_rank(C) < len(C):
            raise OptionError("the contrasts are empty, or one follows from the others: give independent ones")
        label = ", ".join(_label(each) for each in several)
        fitted = self.fitted
        test = engine.contrast(label, C)
        return told(engine, [test], fitted.features, fitted.levels.labels, f"Contrast in {self!r}", level)


def engine_of(
    mean: MeanFit,
    correlation: float,
    weights: str | None,
    variance: str,
    level: float,
    rows: RawRows | None = None,
) -> Engine:
    """Check the options of a test and return what tests.

    Parameters
    ----------
    rows : of the fit, for variances from them.

    Raises
    ------
    OptionError
        For options that are not allowed, and for a model without its statistics.
    """
    if weights not in ("site", None):
        raise OptionError(f"weights={weights!r}: allowed are 'site' and None")
    if variance not in ("site", "pooled", "hc3"):
        raise OptionError(f"variance={variance!r}: allowed are 'site', 'pooled', and 'hc3' in later_test")
    if variance == "hc3" and rows is None:
        raise OptionError(
            "variance='hc3' needs the rows: use pycombat_gam.later_test(model, formula, table, variance='hc3')"
        )
    if variance == "hc3" and mean.design.smooth.smooths:
        raise OptionError(
            "variance='hc3' is for formulas without smooths and random effects: use 'site', or polynomials and splines "
            "such as ns(age, 3)"
        )
    check_level(level)
    if mean.groups is None:
        raise OptionError(
            "this model was saved without the statistics of its sites, so it cannot be tested alone: fit and save it "
            "again, or give the rows to pycombat_gam.later_test"
        )
    engine = Engine(mean, correlation, variance == "site", weights == "site", rows if variance == "hc3" else None)
    if not engine.terms:
        raise OptionError(f"the formula '{mean.design.formula}' has no term to test, beside sites and random effects")
    return engine


def chosen_terms(engine: Engine, terms: Sequence[str]) -> list[str]:
    """Return the labels of the terms asked for, or all."""
    if not terms:
        return list(engine.terms)
    spelled = {"".join(label.split()): label for label in engine.terms}
    chosen = []
    for term in terms:
        label = spelled.get("".join(term.split())) if isinstance(term, str) else None
        if label is None:
            hint = did_you_mean(str(term), engine.terms)
            raise OptionError(f"'{term}' is no term that can be tested{hint}; these are {listing(engine.terms, 20)}")
        chosen.append(label)
    return list(dict.fromkeys(chosen))


def told(
    engine: Engine,
    tests: Sequence[TermTest],
    features: Sequence[str],
    labels: Sequence[str],
    title: str,
    level: float,
    more: Sequence[str] = (),
) -> Effects:
    """Return the results, and warn of terms that hardly vary within sites; see `effects_of`."""
    effects = effects_of(engine, tests, features, labels, title=title, level=level, more=more)
    little = [
        little_within(test.label, float(np.nanmin(test.share)))
        for test in tests
        if np.isfinite(test.share).any() and np.nanmin(test.share) < LITTLE
    ]
    if little:
        warnings.warn(in_one(little), PcgWarning, stacklevel=4)
    return effects


def _label(contrast: Mapping[str, float]) -> str:
    parts = [name if weight == 1 else f"{weight:g}*{name}" for name, weight in contrast.items()]
    return " + ".join(parts)
