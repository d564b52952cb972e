"""What empirical Bayes knows of γ and δ: its means are the estimates, and eb=False has flat priors."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.study import FEATURES, study

import pycombat_gam as pcg
from pycombat_gam.errors import NotYetError


def posterior_of(**options):
    fit = pcg.ComBat("~ age", "site", features=FEATURES, **options).fit(study()).fitted.batch
    return fit, fit.posterior()


def test_means_are_the_estimates() -> None:
    fit, known = posterior_of()
    np.testing.assert_array_equal(known.gamma, fit.shrunken.gamma)
    # The iteration stops at relative changes of 1e-4, after δ* was taken from this γ*.
    np.testing.assert_allclose(known.delta_rate / (known.delta_shape - 1.0), fit.shrunken.delta, rtol=1e-12)
    n, t2 = fit.n_observed, fit.shrunken.priors.t2[:, None]
    precision = n / fit.shrunken.delta + 1.0 / t2
    np.testing.assert_allclose(known.gamma_variance, 1.0 / precision, rtol=1e-12)


def test_flat_priors() -> None:
    fit, known = posterior_of(eb=False)
    np.testing.assert_allclose(known.gamma_variance, fit.effects.delta / fit.n_observed, rtol=1e-12)
    np.testing.assert_allclose(known.delta_rate / known.delta_shape, fit.effects.delta, rtol=1e-12)


def test_what_is_fixed_has_no_posterior() -> None:
    fit, known = posterior_of(mean_only=True, ref_batch=study()["site"].iloc[0])
    reference = fit.batches.reference
    assert np.isnan(known.delta_shape).all() and np.isnan(known.delta_rate).all()
    assert (known.gamma_variance[reference] == 0).all()
    others = np.delete(known.gamma_variance, reference, axis=0)
    t2 = np.delete(fit.shrunken.priors.t2, reference)[:, None]
    np.testing.assert_allclose(others, np.broadcast_to(t2 / (t2 + 1.0), others.shape), rtol=1e-12)


def test_a_nonparametric_prior_says_that_it_has_none() -> None:
    with pytest.raises(NotYetError, match="use prior='parametric'"):
        posterior_of(prior="nonparametric")
