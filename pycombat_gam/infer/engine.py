"""One-step tests of a mean model's terms, for all features at once, from its sufficient statistics.

Sites are accounted for in the test itself: raw features, site intercepts, site weights that all features share
(`infer.weights`), each feature's own site variances (`infer.one_step`). Least squares of a harmonized table under its
true covariance *is* this fit, so nothing that harmonization did or did not do enters it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from pycombat_gam.infer.additive import AdditiveStep, contrast_test, smooth_term_test
from pycombat_gam.infer.contrast import Tested, pooled_variance, site_variances
from pycombat_gam.infer.correlation import effective_features
from pycombat_gam.infer.hc3 import RawRows, hc3_test
from pycombat_gam.infer.kenward_roger import inflation
from pycombat_gam.infer.one_step import OneStep, SiteDesign
from pycombat_gam.infer.random_effects import mixed_test
from pycombat_gam.infer.share import within_share
from pycombat_gam.infer.weights import ROUNDS, ROUNDS_PENALISED, SiteSquares, shared_weights
from pycombat_gam.mean.fit import Group, MeanFit, Weighted
from pycombat_gam.penalized.problem import METHODS, Method
from pycombat_gam.penalized.sufficient import Statistics
from pycombat_gam.progress import progress_bar
from pycombat_gam.smooth.assemble import Smooth
from pycombat_gam.types import BoolArray, FloatArray, IntArray

MOST_INFLATION = 0.1
"""Where estimated weights would raise a variance by more than this share, equal ones are used: a rule of the design."""
ENOUGH, ENOUGH_PENALISED = 20_000, 100
"""So many features, spread evenly over all, give the site weights; in a penalised model, whose fits are dear, fewer."""


@dataclass(frozen=True, eq=False)
class TermTest:
    """A test in all V features.

    Attributes
    ----------
    label : of the term or contrast; tested : (V,) arrays.
    share : (V,) the part of its information that lies within sites.
    raised : (V,) what variances were multiplied by; weighted : (V,) whether site weights were used.
    """

    label: str
    tested: Tested
    share: FloatArray
    raised: FloatArray
    weighted: BoolArray


@dataclass(frozen=True, eq=False)
class Engine:
    """Tests of one mean model.

    Attributes
    ----------
    mean : the model, with its groups.
    correlation : mean squared residual correlation of two features.
    by_site : whether site variances are each feature's own; otherwise all sites have one, up to the weights.
    weighted : whether sites are weighted by their variances.
    rows : the rows of the fit, where variances are to come from them (HC3); otherwise None.
    """

    mean: MeanFit
    correlation: float
    by_site: bool
    weighted: bool
    rows: RawRows | None = None

    @property
    def groups(self) -> tuple[Group, ...]:
        """The features, by pattern of missing cells."""
        groups = self.mean.groups
        assert groups is not None
        return groups

    @property
    def penalised(self) -> bool:
        """Whether the design has smooths or random effects."""
        return bool(self.mean.design.smooth.smooths)

    @cached_property
    def modelled(self) -> BoolArray:
        """Whether each feature has residual variance beyond rounding, (V,)."""
        mean = self.mean
        spread = np.sqrt(mean.residual_ss.sum(axis=0) / mean.n_observed.sum(axis=0))
        return np.asarray((spread > mean.rounding.max(axis=0)) & ~mean.constant.all(axis=0))

    @cached_property
    def weights(self) -> FloatArray:
        """Site weights (B,): the reciprocal of each site's variance relative to the others."""
        B = self.mean.n_rows.size
        if not (self.weighted and self.modelled.any()):
            return np.ones(B)
        if self.mean.weighted is not None:
            return self.mean.weighted.weights
        groups = [self._some_of(group) for group in self.groups]
        mean = self.mean
        used = (mean.residual_ss > mean.n_observed * mean.rounding**2) & self.modelled

        def fitted(weights: FloatArray) -> Sequence[SiteSquares]:
            parts = []
            for statistics, members in groups:
                if not self.penalised:
                    plain = OneStep.of(statistics, weights)
                    left, df = plain.residual_ss, plain.design.df[:, None]
                elif (weights == 1.0).all():
                    left, df = mean.residual_ss[:, members], mean.df[:, members]
                else:
                    step = AdditiveStep.of(mean.design, statistics, weights, self._method)
                    left, df = step.solution.residual_ss / weights[:, None], step.site_df
                parts.append(SiteSquares(left, df, used[:, members]))
            return parts

        return shared_weights(fitted, B, ROUNDS_PENALISED if self.penalised else ROUNDS)

    def _some_of(self, group: Group) -> tuple[Statistics, IntArray]:
        """Choose features of a group, spread evenly: as many as it has of all, but one at least."""
        k = group.members.size
        most = max(1, round(self._enough * k / self.modelled.size))
        places = np.unique(np.linspace(0, k - 1, min(k, most)).astype(np.intp))
        return group.statistics.select(places), group.members[places]

    @property
    def _enough(self) -> int:
        return ENOUGH_PENALISED if self.penalised else ENOUGH

    @property
    def _method(self) -> Method:
        return METHODS[self.mean.smoothing.criterion]

    @cached_property
    def effective(self) -> float:
        """V_eff: how many independent features the weights rest on."""
        V = int(self.modelled.sum())
        return effective_features(min(V, self._enough), self.correlation)

    def term(self, label: str) -> TermTest:
        """Test a term of the formula."""
        design = self.mean.design
        columns = design.term_slices[label]
        C = np.eye(len(design.columns))[columns]
        smooth = next((smooth for smooth in design.smooth.smooths if smooth.label == label), None)
        return self._tested(label, C, smooth)

    def contrast(self, label: str, C: FloatArray) -> TermTest:
        """Test contrasts C (q, p) of parametric columns."""
        return self._tested(label, C, None)

    @property
    def terms(self) -> tuple[str, ...]:
        """The labels of all terms that can be tested: random effects are none."""
        random = {smooth.label for smooth, _ in self.mean.design.random_effects}
        return tuple(label for label in self.mean.design.term_slices if label not in random)

    def _tested(self, label: str, C: FloatArray, smooth: Smooth | None) -> TermTest:
        V = self.modelled.size
        tested = Tested(*(np.full(V, np.nan) for _ in fields(Tested)))
        share, raised, weighted = np.full(V, np.nan), np.ones(V), np.zeros(V, dtype=bool)
        for number, group in enumerate(self.groups):
            used, factor = self._trust(group.statistics, C)
            part = self._in_group(number, C, smooth, used, factor)
            for item in fields(Tested):
                getattr(tested, item.name)[group.members] = getattr(part, item.name)
            share[group.members] = self._share(group.statistics, C)
            raised[group.members], weighted[group.members] = factor, used
        for item in fields(Tested):
            getattr(tested, item.name)[~self.modelled] = np.nan
        return TermTest(label, tested, share, raised, weighted)

    def _trust(self, statistics: Statistics, C: FloatArray) -> tuple[bool, float]:
        """Decide whether site weights are used for contrasts, and what their error multiplies variances by."""
        if not self.weighted or not self.effective:
            return False, 1.0
        basis = self.mean.design.unpenalised().basis
        rows = np.linalg.svd(C @ basis, full_matrices=False)
        directions = rows.Vh[1e-8 * rows.S.max(initial=0.0) < rows.S]
        if not len(directions):
            return True, 1.0
        equal, by_weight = (
            inflation(SiteDesign.of(statistics.R @ basis, statistics.n, weights), directions) / self.effective
            for weights in (np.ones_like(self.weights), self.weights)
        )
        if not equal <= MOST_INFLATION or not np.isfinite(by_weight):
            return False, 1.0
        return True, 1.0 + max(by_weight, 0.0)

    def _share(self, statistics: Statistics, C: FloatArray) -> float:
        random = np.zeros(C.shape[1], dtype=bool)
        for _, columns in self.mean.design.random_effects:
            random[columns] = True
        left = replace(statistics, R=statistics.R[:, :, ~random], x_mean=statistics.x_mean[:, ~random])
        return within_share(left, C[:, ~random])

    def _in_group(self, number: int, C: FloatArray, smooth: Smooth | None, weighted: bool, raised: float) -> Tested:
        step = self._step(number, weighted)
        if isinstance(step, OneStep):
            if self.rows is not None:
                return hc3_test(step, C, self.rows.of(self.groups[number].members), raised)
            return (site_variances if self.by_site else pooled_variance)(step, C, raised)
        mixed = bool(self.mean.design.random_effects)
        if smooth is not None:
            columns = self.mean.design.term_slices[smooth.label]
            return smooth_term_test(step, smooth, columns, by_site=self.by_site and not mixed, raised=raised)
        if mixed:
            return mixed_test(step, C, raised=raised)
        return contrast_test(step, C, by_site=self.by_site, raised=raised)

    def _step(self, number: int, weighted: bool) -> OneStep | AdditiveStep:
        """Fit a group, with the site weights or equal ones; once."""
        if (number, weighted) not in self._steps:
            statistics = self.groups[number].statistics
            weights = self.weights if weighted else np.ones_like(self.weights)
            if not self.penalised:
                self._steps[number, weighted] = self._kept(number, weighted) or OneStep.of(statistics, weights)
            elif not weighted:
                self._steps[number, weighted] = AdditiveStep.of_fit(self.mean, self.groups[number])
            else:
                with progress_bar("fitting with site weights", self.groups[number].members.size) as advance:
                    self._steps[number, weighted] = AdditiveStep.of(
                        self.mean.design, statistics, weights, self._method, advance
                    )
        return self._steps[number, weighted]

    def _kept(self, number: int, weighted: bool) -> OneStep | None:
        """Return the fit that a compact model kept, of a group."""
        kept, group = self.mean.weighted, self.groups[number]
        if kept is None:
            return None
        statistics, members = group.statistics, group.members
        if weighted:
            design = SiteDesign.of(statistics.R, statistics.n, kept.weights)
            return OneStep(design, kept.coefficients[:, members], kept.residual_ss[:, members])
        design = SiteDesign.of(statistics.R, statistics.n, np.ones_like(kept.weights))
        return OneStep(design, self.mean.coefficients[:, members], self.mean.residual_ss[:, members])

    @cached_property
    def _steps(self) -> dict[tuple[int, bool], OneStep | AdditiveStep]:
        return {}


def compacted(mean: MeanFit, correlation: float) -> MeanFit:
    """Return a linear model with its fit by site weights in the place of the features' statistics."""
    engine = Engine(mean, correlation, by_site=True, weighted=True)
    coefficients, residual_ss = np.empty_like(mean.coefficients), np.empty_like(mean.residual_ss)
    bare = []
    for group in engine.groups:
        step = OneStep.of(group.statistics, engine.weights)
        coefficients[:, group.members], residual_ss[:, group.members] = step.coefficients, step.residual_ss
        bare.append(Group(group.members, group.statistics.select(group.members[:0])))
    return replace(mean, groups=tuple(bare), weighted=Weighted(engine.weights, coefficients, residual_ss))
